"""The setup page."""

import html
import re
from datetime import timedelta

import sqlalchemy as sa

from models.accounts import accounts, pauses
from models.accounts.pauses import PauseCause
from models.calls.call_log import CallLog
from models.calls.calls import Origin
from models.database import Database, now
from models.intake import rejection_counts
from models.intake.notifications import NotificationStatus
from models.intake.reasons import Reason
from models.reconciling import unresolved
from tests.support.rows import LOCATION, SECRET, announce, arrive, fetch, read, receive, store, write
from tests.webhook.ops.conftest import Pages, a_call, pages_on
from workers.attempts.failure_policy import PAUSING
from workers.leadway.errors import ErrorKind

OTHER = "AnotherLocation00001"
TRACE = {"bytes": 812, "content_type": "<text/evil>", "credentials": ["X-GHL-Signature"]}


def test_it_says_which_address_and_header_to_paste(ops: Pages, database: Database) -> None:
    page = ops.text("/ops/setup", Host="calls.example.com", **{"X-Forwarded-Proto": "https"})
    shown = codes(page)
    assert "https://calls.example.com/webhooks/leadway" in shown
    assert "https://calls.example.com/webhooks/leadway/INTAKE-SECRET" in shown
    assert "X-Intake-Secret" in shown
    assert '{"contactId": "{{contact.id}}"}' in shown
    assert "YOUR-HOST" not in page


def test_opened_on_the_machine_itself_it_shows_no_address_that_leadway_cannot_reach(
    ops: Pages, database: Database
) -> None:
    page = ops.text("/ops/setup")
    assert "https://YOUR-HOST/webhooks/leadway" in codes(page)
    assert "in place of YOUR-HOST" in page
    assert not [each for each in codes(page) if "localhost" in each or "127.0.0.1" in each]


def test_each_thing_to_paste_has_a_copy_button_that_stays_hidden_without_scripts(
    ops: Pages, database: Database
) -> None:
    buttons = re.findall(r"<code>([^<]*)</code><button type=\"button\" class=\"copy\"", ops.text("/ops/setup"))
    assert len(buttons) == 4


def test_it_renews_itself_only_while_a_test_call_is_awaited(ops: Pages, database: Database) -> None:
    assert "data-refresh" not in ops.text("/ops/setup")
    assert "data-refresh" in ops.text("/ops/setup?watch")


def test_it_says_where_the_intake_secret_is_and_how_it_is_replaced_and_never_shows_it(
    database_url: str, database: Database
) -> None:
    page = pages_on(database_url).text("/ops/setup")
    assert f"leadway-calls accounts rotate-secret {LOCATION}" in codes(page)
    from_environment = pages_on(database_url, LEADWAY_LOCATION_ID=LOCATION, LEADWAY_INTAKE_SECRET=SECRET)
    page = from_environment.text("/ops/setup")
    assert "LEADWAY_INTAKE_SECRET" in page
    assert "rotate-secret" not in page, "the environment would win at the next start"
    assert SECRET not in page


def test_after_a_test_call_it_says_which_ids_came_and_how_the_call_was_found(ops: Pages, database: Database) -> None:
    arrive(
        database, f"body:{LOCATION}:digest", dialect="unknown", authenticated_by="intake_header",
        contact_id="the-contact", status=NotificationStatus.UNRESOLVED, reason=Reason.CALL_ID_MISSING,
    )  # fmt: skip
    page = ops.text("/ops/setup")
    assert "It named the contact <code>the-contact</code>." in page
    assert "It named no call, and need not." in page
    assert "Its call is being looked for in Leadway&#39;s list" in page
    assert "It holds no call id" not in card(page), "a reason is no news where nothing is amiss"
    started_at = read(database, now) - timedelta(minutes=2)
    unannounced(database, a_call("call-1", contact_id="the-contact", started_at=started_at))
    assert write(database, unresolved.resolve, LOCATION)
    page = ops.text("/ops/setup")
    assert "It named no call, and need not." in page
    assert "Its call was found in Leadway&#39;s list, by the contact:" in page
    assert f'href="/ops/calls/{LOCATION}/call-1"' in page
    arrive(database, f"call:{LOCATION}:call-2:thin", dialect="thin", call_id="call-2")
    page = ops.text("/ops/setup")
    assert "It named no contact." in page
    assert "It named the call <code>call-2</code>." in page
    assert "Its call was found by its id:" in page


def test_it_tells_of_calls_that_only_the_list_told_of(ops: Pages, database: Database) -> None:
    assert "only Leadway&#39;s list told of" not in ops.text("/ops/setup")
    unannounced(database, a_call("call-1", started_at=read(database, now) - timedelta(hours=1)))
    assert "only Leadway&#39;s list told of: 1" in ops.text("/ops/setup")


def test_it_speaks_the_language_of_each_account_and_for_the_rest_that_of_the_settings(
    database_url: str, database: Database
) -> None:
    write(database, accounts.add, OTHER, language="es")
    page = pages_on(database_url).text("/ops/setup")
    assert '<html lang="en">' in page
    english, spanish = re.findall(r'<article class="card" lang="(\w\w)">(.*?)</article>', page, re.DOTALL)
    assert {english[0], spanish[0]} == {"en", "es"}
    by_language = dict([english, spanish])
    assert "Copy</button>" in by_language["en"]
    assert "Copiar</button>" in by_language["es"]
    assert "Nothing was refused." in page
    page = pages_on(database_url, LEADWAY_LANGUAGE="es").text("/ops/setup")
    assert '<html lang="es">' in page
    assert "No se ha rechazado nada." in page


def test_in_spanish_no_sentence_stays_english(database_url: str, database: Database) -> None:
    write(database, accounts.add, OTHER, language="en")
    for number, reason in enumerate([*Reason, "call_id_of_another_kind", "too_many_unknown_calls"]):
        with database.transaction() as connection:
            rejection_counts.count(connection, reason, number=number + 1, trace={"bytes": 7, "credentials": []})
        if reason == Reason.CALL_ID_MISSING:
            arrive(database, "body:1", dialect="workflow", status=NotificationStatus.UNRESOLVED, reason=reason)
    write(database, pauses.pause, LOCATION, cause=PauseCause.TOKEN, detail=PAUSING[ErrorKind.TOKEN][1])
    receive(database, "waits", location_id=OTHER)
    pages = []
    for language in ("en", "es"):
        with database.transaction() as connection:
            connection.execute(sa.update(accounts.accounts_table).values(language=language))
        pages.append(words_of(pages_on(database_url, LEADWAY_LANGUAGE=language).text("/ops/setup")))
    assert pages[0] & pages[1] <= {"Flower", "URL", "leadway", "-calls", "workflow", "marketplace", "Clínica"}
    assert len(pages[1]) > 60


def test_it_shows_how_the_last_notification_was_proven_and_what_became_of_its_call(
    ops: Pages, database: Database
) -> None:
    assert "No notification has come" in ops.text("/ops/setup")
    store(database, a_call("call-1"), dialect="thin", proof="intake_header")
    page = ops.text("/ops/setup")
    assert "proven by intake secret in the header" in page
    assert f'href="/ops/calls/{LOCATION}/call-1"' in page


def test_it_says_why_a_notification_was_ignored_or_left_unresolved(ops: Pages, database: Database) -> None:
    for number, reason in enumerate(
        ("location_not_served", "unresolved_merge_tag", "call_id_of_another_kind", "a_reason_of_tomorrow")
    ):
        arrive(
            database, f"key-{number}", location_id=LOCATION if number else None, dialect="workflow",
            status=NotificationStatus.IGNORED, reason=reason,
        )  # fmt: skip
    page = ops.text("/ops/setup")
    assert Reason.LOCATION_NOT_SERVED.sentence in page
    assert "A merge tag ({{…}}) stands where the call id belongs" in page
    assert "Leave it out: the call is found by its contact." in html.unescape(page)
    assert "A reason of tomorrow." in page


def test_it_tells_of_a_notification_that_no_worker_has_taken_in(ops: Pages, database: Database) -> None:
    assert "not yet taken in" not in ops.text("/ops/setup")
    receive(database, "one", call_id="call-1")
    page = ops.text("/ops/setup")
    assert "One has come and is not taken in yet." in page
    assert "1 notification received and not yet taken in" in page


def test_refusals_are_counted_by_reason_with_its_sentence_and_what_the_last_one_carried(
    ops: Pages, database: Database
) -> None:
    assert "Nothing was refused" in ops.text("/ops/setup")
    with database.transaction() as connection:
        rejection_counts.count(connection, Reason.SIGNATURE_INVALID, number=3, trace=TRACE)
        rejection_counts.count(connection, Reason.SIGNATURE_INVALID, number=4, trace=TRACE)
        rejection_counts.count(connection, "reason_of_a_newer_version", number=1, trace={})
    page = ops.text("/ops/setup")
    assert Reason.SIGNATURE_INVALID.sentence in page
    assert "<b>7</b>" in page
    assert "Reason of a newer version." in page
    assert "X-GHL-Signature · 812 bytes" in page
    assert "<text/evil>" not in page


def test_it_says_what_an_account_still_lacks(ops: Pages, database: Database) -> None:
    write(database, accounts.add, OTHER)
    page = ops.text("/ops/setup")
    assert f"leadway-calls accounts set-token {OTHER}" in page
    assert "No intake secret: only signed notifications are accepted" in page
    assert f"set-token {LOCATION}" not in page


def unannounced(database: Database, log: CallLog) -> None:
    """A call that Leadway's list told of, and no notification."""
    announce(database, log.call_id, origin=Origin.RECONCILE)
    fetch(database, log)


def card(page: str) -> str:
    return page.partition('<article class="card"')[2].partition("</article>")[0]


def codes(page: str) -> list[str]:
    return [html.unescape(each) for each in re.findall(r"<code>([^<]*)</code>", page)]


def words_of(page: str) -> set[str]:
    """Its texts, without what is code, an id, a name of a reason or has no letters."""
    page = re.sub(r"<(style|script|code|bdi|title)[^>]*>.*?</\1>", "", page, flags=re.DOTALL)
    texts = {html.unescape(each).strip() for each in re.findall(r">([^<]+)<", page)}
    reasons = {str(each) for each in Reason}
    return {each for each in texts if re.search(r"[A-Za-z]{3}", each) and each not in reasons and "_" not in each}
