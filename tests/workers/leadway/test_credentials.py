"""Tokens that never expire are sent as they are; those that do are renewed in time, once for all."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from models.accounts import accounts, pauses
from models.accounts.pauses import PauseCause
from models.database import moment
from models.reconciling import schedule, windows
from models.reconciling.windows import WindowKind
from models.work import open_work
from models.work.lifecycle import Claim
from models.work.open_work import OpenWork
from tests.leadway_double.oauth import App
from tests.support.rows import claim_work, make_due, read, run_out, write
from tests.support.waiting import at_once, eventually, meanwhile
from tests.support.worker import HOUR, TOLERATED, AtWork, was_served_since
from workers.attempts.failure_policy import apply_policy
from workers.dispatch_due import dispatch_due
from workers.heal_pauses import heal_pauses, refresh_grant
from workers.leadway import credentials as credentials_module
from workers.leadway.credentials import CLAIM_SECONDS, REFRESH_BEFORE_SECONDS, Credentials
from workers.leadway.errors import ErrorKind, PermanentLeadwayError, RetryableLeadwayError
from workers.leadway.transport import open_session
from workers.process.connections import Connections, open_connections
from workers.read_page import read_to_end
from workers.reconciling.reading import PageOutcome, read_one_page


@pytest.fixture
def installed(at_work: AtWork) -> App:
    """The account's tokens come from an app's grant from now on."""
    app = at_work.double.install_app(at_work.location_id)
    _connect(at_work.this, app)
    return app


@contextmanager
def _credentials(this: Connections) -> Iterator[Credentials]:
    """As one process has them."""
    session = open_session(pool_size=4)
    url, version = this.settings.leadway_api_url, this.settings.leadway_api_version
    yield Credentials(this.database, this.cipher, session=session, url=url, version=version, worker=this.worker)
    session.close()


def _connect(this: Connections, app: App) -> None:
    write(
        this.database, credentials_module.set_grant, app.location_id, client_id=app.client_id,
        client_secret=app.client_secret, refresh_token=app.refresh_token, cipher=this.cipher,
    )  # fmt: skip


def _set_static_token(at_work: AtWork) -> None:
    token, cipher = at_work.double.token, at_work.this.cipher
    write(at_work.database, accounts.set_token, at_work.location_id, token, cipher=cipher)


def _hold(at_work: AtWork) -> Claim | None:
    """Another process refreshes."""
    key = credentials_module.work_key(at_work.location_id)
    return claim_work(at_work.database, key, worker="worker-2", isolated=True, heeds_pauses=False)


def _work(at_work: AtWork) -> OpenWork | None:
    return read(at_work.database, open_work.get, credentials_module.work_key(at_work.location_id))


def _refresh_by_task(at_work: AtWork) -> tuple[OpenWork, float]:
    """Returns the work and in how many seconds it is due then."""
    refresh_grant(at_work.location_id, "")
    work = _work(at_work)
    assert work is not None
    assert work.due_at is not None
    return work, at_work.seconds_until(work.due_at)


def _token(at_work: AtWork, credentials: Credentials, *, seconds: float = 20.0) -> str:
    return credentials.token(at_work.account(), deadline=time.monotonic() + seconds)


def _expires_in(at_work: AtWork, seconds: float) -> None:
    with at_work.database.transaction() as connection:
        connection.execute(sa.update(accounts.accounts_table).values(token_expires_at=moment(seconds)))


def _refreshed_long_ago(at_work: AtWork) -> None:
    with at_work.database.transaction() as connection:
        connection.execute(sa.update(accounts.oauth_grants_table).values(refreshed_at=moment(-3600)))


def _asks_for_tokens(at_work: AtWork) -> int:
    return len(at_work.requests("token"))


# Static tokens


def test_a_static_token_that_is_refused_pauses_the_account_and_is_never_refreshed(at_work: AtWork) -> None:
    call = at_work.double.place_call(actions=["SMS"])
    at_work.announce(call)
    at_work.double.revoke_token()
    at_work.fetch(call)
    assert at_work.pauses() == {("token", "all")}
    assert _asks_for_tokens(at_work) == 0
    assert len(at_work.requests("fetch")) == 1


def test_a_new_static_token_is_sent_with_the_next_request_without_a_restart(at_work: AtWork) -> None:
    new = at_work.double.rotate_token(new="pit-the-new-one")
    at_work.this.database.transact(
        lambda connection: accounts.set_token(connection, at_work.location_id, new, cipher=at_work.this.cipher)
    )
    call = at_work.fetched(actions=["SMS"])
    assert at_work.call(call).status == "complete"


def test_a_refusal_of_the_token_before_the_present_one_pauses_nothing(at_work: AtWork) -> None:
    """The attempt read the old token, and its refusal comes after the new one was set."""
    call = at_work.double.place_call(actions=["SMS"])
    at_work.announce(call)
    before = at_work.account()
    claim = claim_work(at_work.database, at_work.call_key(call))
    assert claim is not None
    at_work.this.database.transact(
        lambda connection: accounts.set_token(connection, at_work.location_id, "pit-new", cipher=at_work.this.cipher)
    )
    error = PermanentLeadwayError(ErrorKind.TOKEN, endpoint="get_call_log", http_status=401)
    at_work.this.database.transact(
        lambda connection: apply_policy(connection, at_work.this, claim, error, account=before)
    )
    assert at_work.pauses() == set()
    assert at_work.call(call).status == "pending"


# Grants


def test_the_first_request_of_a_grant_brings_its_first_token_and_the_next_ones_share_it(
    at_work: AtWork, installed: App
) -> None:
    for _ in range(3):
        assert at_work.call(at_work.fetched(actions=["SMS"])).status == "complete"
    assert installed.refreshes == 1
    assert {request.status for request in at_work.requests("fetch")} == {200}


def test_fifty_threads_that_meet_an_expired_token_cause_one_refresh(at_work: AtWork, installed: App) -> None:
    with _credentials(at_work.this) as credentials:
        at_work.double.fault("token", "delay", seconds=0.2)
        tokens = at_once([lambda: _token(at_work, credentials) for _ in range(50)])
    assert set(tokens) == {installed.access_token}
    assert (installed.refreshes, _asks_for_tokens(at_work)) == (1, 1)


def test_two_processes_that_meet_an_expired_token_cause_one_refresh(at_work: AtWork, installed: App) -> None:
    other = open_connections(at_work.settings, worker="worker-2")
    try:
        with _credentials(at_work.this) as one, _credentials(other) as two:
            at_work.double.fault("token", "delay", seconds=0.2)
            tokens = at_once([lambda each=each: _token(at_work, each) for each in (one, two) * 8])  # type: ignore[misc]
    finally:
        other.close()
    assert set(tokens) == {installed.access_token}
    assert _asks_for_tokens(at_work) == 1


def test_a_token_is_renewed_before_it_expires_with_the_newest_refresh_token(at_work: AtWork, installed: App) -> None:
    with _credentials(at_work.this) as credentials:
        first = _token(at_work, credentials)
        _expires_in(at_work, 30)
        second = _token(at_work, credentials)
        _expires_in(at_work, 30)
        third = _token(at_work, credentials)
    assert len({first, second, third}) == 3
    assert installed.refreshes == 3


def test_while_the_token_endpoint_fails_a_token_that_still_lives_is_used(at_work: AtWork, installed: App) -> None:
    with _credentials(at_work.this) as credentials:
        first = _token(at_work, credentials)
        at_work.double.fault("token", "status", status=503)
        _expires_in(at_work, 30)
        assert _token(at_work, credentials) == first
        _expires_in(at_work, -1)
        with pytest.raises(RetryableLeadwayError) as raised:
            _token(at_work, credentials)
        assert (raised.value.kind, raised.value.reached) == (ErrorKind.OUTAGE, False)
        at_work.double.clear_faults()
        assert _token(at_work, credentials) != first


def test_a_refusal_of_the_refresh_that_was_cut_is_an_outage_and_pauses_nothing(at_work: AtWork, installed: App) -> None:
    installed.removed = True
    at_work.double.fault("token", "truncated", times=1)
    call = at_work.fetched(actions=["SMS"])
    assert _asks_for_tokens(at_work) == 1
    assert at_work.pauses() == set()
    installed.removed = False
    assert at_work.fetch_when_due(call).status == "complete"


def test_a_refresh_whose_answer_was_lost_is_repeated_and_brings_the_same_token(at_work: AtWork, installed: App) -> None:
    at_work.double.fault("token", "do_then_reset", times=1)
    with _credentials(at_work.this) as credentials:
        with pytest.raises(RetryableLeadwayError):
            _token(at_work, credentials)
        assert _token(at_work, credentials) == installed.access_token
    assert installed.refreshes == 1


def test_a_process_that_died_while_it_refreshed_holds_nobody_up_for_long(at_work: AtWork, installed: App) -> None:
    assert _hold(at_work) is not None
    with _credentials(at_work.this) as credentials:
        with pytest.raises(RetryableLeadwayError) as raised:
            _token(at_work, credentials, seconds=0.3)
        assert raised.value.kind is ErrorKind.NO_TIME
        run_out(at_work.database, credentials_module.work_key(at_work.location_id))
        assert _token(at_work, credentials) == installed.access_token


def test_processes_that_die_while_they_refresh_make_no_grant_dead(at_work: AtWork, installed: App) -> None:
    for _ in range(6):
        assert _hold(at_work) is not None
        run_out(at_work.database, credentials_module.work_key(at_work.location_id))
    work, _ = _refresh_by_task(at_work)
    assert work.lost_leases == 0
    assert installed.refreshes == 1


# Refreshing is work


def test_a_task_fetches_a_new_grants_first_token_and_each_next_one_before_the_end(
    at_work: AtWork, installed: App
) -> None:
    for number in (1, 2, 3):
        work, due_in = _refresh_by_task(at_work)
        assert installed.refreshes == number
        expires_at = at_work.account().token_expires_at
        assert expires_at is not None
        assert at_work.seconds_until(expires_at) - due_in == pytest.approx(REFRESH_BEFORE_SECONDS, abs=TOLERATED)
        assert (work.attempts, work.failures) == (0, 0)
        refresh_grant(at_work.location_id, "")
        assert installed.refreshes == number, "it is not due"
        at_work.time_passes(due_in)
        dispatch_due()
        assert at_work.this.redis.llen("housekeeping") == 1
        at_work.this.redis.delete("housekeeping")


def test_a_token_with_a_short_life_is_renewed_at_half_of_it(at_work: AtWork) -> None:
    app = at_work.double.install_app(at_work.location_id, life_seconds=40)
    _connect(at_work.this, app)
    _, due_in = _refresh_by_task(at_work)
    assert due_in == pytest.approx(20, abs=TOLERATED)
    at_work.time_passes(21)
    _refresh_by_task(at_work)
    assert app.refreshes == 2


def test_the_task_and_requests_of_two_processes_at_once_cause_one_refresh(at_work: AtWork, installed: App) -> None:
    other = open_connections(at_work.settings, worker="worker-2")
    try:
        with _credentials(at_work.this) as one, _credentials(other) as two:
            at_work.double.fault("token", "delay", seconds=0.2)
            asks: list[Any] = [lambda each=each: _token(at_work, each) for each in (one, two) * 4]
            tokens = at_once([lambda: refresh_grant(at_work.location_id, ""), *asks])
    finally:
        other.close()
    assert set(tokens) == {None, installed.access_token}
    assert _asks_for_tokens(at_work) == 1


def test_the_tasks_lease_ends_before_a_used_refresh_token_is_forgotten(at_work: AtWork, installed: App) -> None:
    at_work.settings.leadway_lease_seconds = 60
    at_work.double.fault("token", "delay", seconds=0.5)
    with meanwhile(lambda: refresh_grant(at_work.location_id, "")):
        eventually(lambda: _asks_for_tokens(at_work))
        work = _work(at_work)
        assert work is not None
        assert work.lease_until is not None
        assert at_work.seconds_until(work.lease_until) <= CLAIM_SECONDS


def test_a_refresh_that_fails_is_tried_again_at_growing_intervals_and_a_refused_one_pauses(
    at_work: AtWork, installed: App
) -> None:
    at_work.double.fault("token", "status", status=503)
    waits = []
    for _ in range(7):
        work, due_in = _refresh_by_task(at_work)
        assert (work.status, work.last_error) == ("pending", "outage")
        waits.append(due_in)
        make_due(at_work.database, credentials_module.work_key(at_work.location_id))
    assert waits[0] <= 5
    assert waits[-1] > 60
    assert at_work.account().open_until is not None, "its circuit breaker is open"
    at_work.double.clear_faults()
    installed.removed = True
    work, _ = _refresh_by_task(at_work)
    assert work.last_error == "token"
    assert at_work.pauses() == {("token", "all")}


def test_a_grant_of_a_paused_account_is_refreshed_by_the_probe_of_its_pause_alone(
    at_work: AtWork, installed: App
) -> None:
    write(at_work.database, pauses.pause, at_work.location_id, cause=PauseCause.VERSION, detail="why")
    refresh_grant(at_work.location_id, "")
    assert _asks_for_tokens(at_work) == 0
    at_work.time_passes(31)
    heal_pauses()
    assert installed.refreshes == 1
    assert at_work.pauses() == set()


@pytest.mark.parametrize("refused", [False, True])
@pytest.mark.parametrize(("by_task", "by_grant"), [(True, True), (False, True), (False, False)])
def test_a_refresh_that_ends_after_the_grant_was_replaced_writes_nothing_and_pauses_nothing(
    at_work: AtWork, installed: App, by_task: bool, by_grant: bool, refused: bool
) -> None:
    installed.removed = refused
    at_work.double.fault("token", "delay", seconds=0.5, times=1)
    call = at_work.double.place_call(actions=["SMS"])
    at_work.announce(call)
    with meanwhile(lambda: refresh_grant(at_work.location_id, "") if by_task else at_work.fetch(call)):
        eventually(lambda: _asks_for_tokens(at_work))
        if by_grant:
            new = at_work.double.install_app(at_work.location_id, client_id="new", refresh_token="new-token")
            _connect(at_work.this, new)
        else:
            _set_static_token(at_work)
    assert at_work.pauses() == set()
    with _credentials(at_work.this) as credentials:
        assert _token(at_work, credentials) == (new.access_token if by_grant else at_work.double.token)
    assert not by_grant or new.refreshes == 1


def test_without_a_grant_there_is_nothing_to_refresh(at_work: AtWork, installed: App) -> None:
    _set_static_token(at_work)
    refresh_grant(at_work.location_id, "")
    assert _work(at_work) is None
    assert at_work.rows("oauth_grants") == []
    assert at_work.call(at_work.fetched(actions=["SMS"])).status == "complete"
    assert _asks_for_tokens(at_work) == 0


# Refusals


def test_a_revoked_access_token_is_renewed_and_the_call_is_fetched(at_work: AtWork, installed: App) -> None:
    at_work.fetched(actions=["SMS"])
    _refreshed_long_ago(at_work)
    at_work.double.revoke_token(installed.access_token)
    call = at_work.fetched(actions=["SMS"])
    assert at_work.pauses() == set()
    assert at_work.fetch_when_due(call).status == "complete"
    assert installed.refreshes == 2


def test_a_revoked_access_token_is_renewed_and_the_list_is_read(at_work: AtWork, installed: App) -> None:
    was_served_since(at_work, 5 * HOUR)
    listed = at_work.double.place_call(ago=600)
    at_work.fetched(actions=["SMS"])
    _refreshed_long_ago(at_work)
    at_work.double.revoke_token(installed.access_token)
    with at_work.database.transaction() as connection:
        now = connection.execute(sa.select(moment())).scalar_one()
        schedule.open_regular(connection, at_work.location_id, until=now)
    window = read(at_work.database, windows.get_open, at_work.location_id, WindowKind.REGULAR)
    assert window is not None
    assert read_one_page(window.key) is PageOutcome.NOT_READ
    assert at_work.pauses() == set()
    make_due(at_work.database, window.key)
    read_to_end(at_work.this, at_work.location_id, WindowKind.REGULAR)
    assert at_work.call(listed).read_from == "list"
    assert installed.refreshes == 2


def test_a_grant_that_is_refused_pauses_the_account_until_it_is_connected_again(
    at_work: AtWork, installed: App
) -> None:
    installed.removed = True
    call = at_work.fetched(actions=["SMS"])
    assert at_work.pauses() == {("token", "all")}
    [row] = at_work.rows("pauses")
    assert "accounts connect" in row["detail"]
    assert at_work.call(call).status == "pending"
    installed.removed = False
    _connect(at_work.this, installed)
    assert at_work.pauses() == set()
    assert at_work.fetch_when_due(call).status == "complete"


def test_a_pause_of_a_grant_heals_by_itself_when_it_works_again(at_work: AtWork, installed: App) -> None:
    installed.removed = True
    at_work.fetched(actions=["SMS"])
    installed.removed = False
    at_work.time_passes(60)
    heal_pauses()
    assert at_work.pauses() == set()


def test_no_secret_is_stored_as_it_is_or_told_in_an_error(at_work: AtWork, installed: App) -> None:
    [row] = at_work.rows("oauth_grants")
    stored = " ".join(map(str, row.values()))
    assert installed.client_secret not in stored
    assert installed.refresh_token not in stored
    installed.client_secret = "another one"
    with _credentials(at_work.this) as credentials, pytest.raises(PermanentLeadwayError) as raised:
        _token(at_work, credentials)
    assert raised.value.kind is ErrorKind.TOKEN
    assert "secret" not in str(raised.value)
    assert raised.value.__cause__ is None
    assert "first-refresh-token" not in repr(at_work.said)
