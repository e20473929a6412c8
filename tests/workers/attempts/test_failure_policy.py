"""What an error means for an account: paused for the right cause, resting after outages, well again by itself."""

import pytest

from models.accounts import accounts, pauses
from models.accounts.circuit_breaker import OUTAGES_BEFORE_OPEN
from models.accounts.pauses import PauseCause
from tests.support.rows import on_sqlite, write
from tests.support.worker import RETRY_SECONDS, TOLERATED, AtWork
from workers.attempts.failure_policy import PAUSING, POLICY, ForTheAccount
from workers.dispatch_due import dispatch_due
from workers.leadway.errors import ErrorKind

DENIALS = [
    (401, "Invalid Private Integration token", ("token", "all")),
    (401, "Invalid token: access token is invalid", ("token", "all")),
    (403, "Invalid Private Integration token", ("token", "all")),
    (401, "some words that nobody knows", ("token", "all")),
    (403, "The token does not have access to this location", ("location", "all")),
    (401, "The token does not have access to this location", ("location", "all")),
    (403, "some words that nobody knows", ("location", "all")),
    (401, "The token is not authorized for this scope.", ("scope", "call")),
    (403, "The token is not authorized for this scope.", ("scope", "call")),
    (401, "version header was not found.", ("version", "all")),
]


def test_the_table_says_what_every_error_means_and_what_to_do_about_each_pause() -> None:
    assert POLICY.keys() == set(ErrorKind)
    assert PAUSING.keys() == {kind for kind, policy in POLICY.items() if policy.account is ForTheAccount.PAUSES}


@on_sqlite
@pytest.mark.parametrize(("status", "message", "pause"), DENIALS)
def test_each_denial_pauses_what_it_is_about_and_costs_no_attempt(
    at_work: AtWork, status: int, message: str, pause: tuple[str, str]
) -> None:
    call = at_work.double.place_call()
    at_work.announce(call)
    at_work.double.fault("fetch", "status", status=status, body={"message": message})
    row = at_work.fetch(call)
    assert at_work.pauses() == {pause}
    assert (row.status, row.attempts, row.failures) == ("pending", 0, 0)
    at_work.time_passes(RETRY_SECONDS + 1)
    at_work.fetch(call)
    assert len(at_work.requests("fetch")) == 1, "paused work is not claimed"


def test_401_in_no_words_at_all_pauses_nothing(at_work: AtWork) -> None:
    call = at_work.double.place_call()
    at_work.announce(call)
    at_work.double.fault("fetch", "status", status=401, body="<html>", times=1)
    assert at_work.fetch(call).failures == 0
    assert not at_work.pauses()


def test_a_missing_token_pauses_and_a_new_one_goes_on_at_once(at_work: AtWork) -> None:
    call = at_work.double.place_call()
    at_work.announce(call)
    at_work.double.revoke_token()
    at_work.fetch(call)
    assert at_work.pauses() == {("token", "all")}
    new = at_work.double.rotate_token(new="pit-new-0002")
    write(at_work.database, accounts.set_token, at_work.location_id, new, cipher=at_work.this.cipher)
    assert not at_work.pauses()
    assert at_work.fetch_when_due(call).status == "complete"


def test_a_missing_scope_holds_only_the_work_that_needs_it(at_work: AtWork) -> None:
    follow_up_id = at_work.owed()
    at_work.double.remove_scope("contacts.write")
    at_work.send(follow_up_id)
    assert at_work.pauses() == {("scope", "follow_up")}
    other = at_work.fetched(actions=["CALL_TRANSFER"])
    assert at_work.call(other).status == "complete"
    at_work.time_passes(RETRY_SECONDS + 1)
    dispatch_due()
    queued = at_work.this.redis.llen("follow_ups")
    assert queued == 0


def test_a_persons_pause_outlives_a_new_token(at_work: AtWork) -> None:
    with at_work.database.transaction() as connection:
        pauses.pause(connection, at_work.location_id, cause=PauseCause.PERSON, detail="holiday")
        accounts.set_token(connection, at_work.location_id, "pit-other", cipher=at_work.this.cipher)
    assert at_work.pauses() == {("person", "all")}


def test_after_a_few_outages_in_a_row_the_account_rests_longer_and_longer(at_work: AtWork) -> None:
    call = at_work.double.place_call()
    at_work.announce(call)
    at_work.double.fault("fetch", "status", status=503)
    rests = []
    for _ in range(OUTAGES_BEFORE_OPEN + 5):
        at_work.fetch_when_due(call)
        open_until = at_work.account().open_until
        rests.append(at_work.seconds_until(open_until) if open_until else 0.0)
    assert rests[: OUTAGES_BEFORE_OPEN - 1] == [0.0] * (OUTAGES_BEFORE_OPEN - 1)
    assert rests[OUTAGES_BEFORE_OPEN - 1] == pytest.approx(RETRY_SECONDS, abs=TOLERATED)
    assert max(rests) == pytest.approx(60, abs=TOLERATED)


def test_attempts_that_fail_at_once_make_the_rest_no_longer(at_work: AtWork) -> None:
    at_work.double.fault("fetch", "status", status=503)
    for call in at_work.double.place_calls(OUTAGES_BEFORE_OPEN + 5):
        at_work.announce(call)
        at_work.fetch(call)
    account = at_work.account()
    assert account.outages_in_a_row == OUTAGES_BEFORE_OPEN
    assert account.open_until is not None
    assert at_work.seconds_until(account.open_until) == pytest.approx(RETRY_SECONDS, abs=TOLERATED)


def test_outages_are_over_with_the_first_success(at_work: AtWork) -> None:
    call, other = at_work.double.place_call(), at_work.double.place_call()
    at_work.announce(call)
    at_work.announce(other)
    at_work.double.fault("fetch", "reset", times=OUTAGES_BEFORE_OPEN)
    for _ in range(OUTAGES_BEFORE_OPEN):
        at_work.fetch_when_due(call)
    assert at_work.account().open_until is not None
    assert at_work.fetch_when_due(other).status == "complete"
    assert (at_work.account().outages_in_a_row, at_work.account().open_until) == (0, None)
