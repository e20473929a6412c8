"""The setup page."""

import html

from models.accounts import accounts
from models.database import Database
from models.intake import rejection_counts
from models.intake.notifications import NotificationStatus
from tests.support.rows import LOCATION, arrive, receive, store, write
from tests.webhook.ops.conftest import Pages, a_call
from webhook.rejections import Reason

OTHER = "AnotherLocation00001"
TRACE = {"bytes": 812, "content_type": "<text/evil>", "credentials": ["X-GHL-Signature"]}


def test_it_says_which_address_and_header_to_paste(ops: Pages, database: Database) -> None:
    page = ops.text("/ops/setup", Host="calls.example.com", **{"X-Forwarded-Proto": "https"})
    assert "https://calls.example.com/webhooks/leadway<" in page
    assert "X-Intake-Secret" in page
    assert '{"contactId": "{{contact.id}}"}' in html.unescape(page)
    assert "public https address" not in page
    assert "public https address" in ops.text("/ops/setup")


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
