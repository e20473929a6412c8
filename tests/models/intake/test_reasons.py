"""The table of reasons: complete, consistent, and fit to be shown and counted."""

import re

import pytest

from models.intake import rejection_counts
from models.intake.reasons import Reason, ReceiptStatus

BY_HTTP_STATUS = {
    202: {ReceiptStatus.IGNORED, ReceiptStatus.UNRESOLVED},
    401: {ReceiptStatus.REFUSED},
    413: {ReceiptStatus.REFUSED},
    429: {ReceiptStatus.REFUSED},
}


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_status_the_sender_may_see_and_a_sentence_for_a_person(reason: Reason) -> None:
    assert reason.status in BY_HTTP_STATUS[reason.http_status]
    assert reason.sentence.endswith(".")


@pytest.mark.parametrize("reason", Reason)
def test_a_reason_is_its_own_stable_text(reason: Reason) -> None:
    assert re.fullmatch(r"[a-z0-9_]{3,40}", reason.value)
    assert str(reason) == reason.value == f"{reason}"
    assert Reason(reason.value) is reason


def test_no_answer_is_a_server_error_because_the_vendors_older_rule_never_repeats_those() -> None:
    assert all(reason.http_status < 500 for reason in Reason)


def test_only_what_could_not_be_written_down_or_looked_up_is_asked_for_again() -> None:
    assert [reason for reason in Reason if reason.http_status == 429] == [
        Reason.CANNOT_WRITE_DOWN,
        Reason.CANNOT_LOOK_UP,
    ]


def test_the_counts_know_which_reasons_refuse_nothing() -> None:
    assert {reason for reason in Reason if reason.status is ReceiptStatus.IGNORED} == rejection_counts.IGNORED
