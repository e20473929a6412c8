"""A call log as a value: when it ended, and when it counts as settled."""

from datetime import UTC, datetime, timedelta

import pytest

from models.calls.call_log import SETTLED_AS_IT_IS_AFTER, CallLog, Source

STARTED_AT = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
WORDS = {"summary": "They talked.", "transcript": "bot: Hello\nhuman: Hi"}


def test_a_call_ends_when_it_began_if_its_length_is_not_known() -> None:
    assert CallLog("c1", Source.FETCH).ended_at is None
    assert CallLog("c1", Source.FETCH, started_at=STARTED_AT).ended_at == STARTED_AT
    log = CallLog("c1", Source.FETCH, started_at=STARTED_AT, duration_seconds=90)
    assert log.ended_at == STARTED_AT + timedelta(seconds=90)


@pytest.mark.parametrize(
    ("values", "settled"),
    [
        ({"duration_seconds": 90.0, **WORDS}, True),
        ({"duration_seconds": 90.0, **WORDS, "summary": " \n"}, False),
        ({"duration_seconds": 90.0, **WORDS, "transcript": ""}, False),
        ({"duration_seconds": 0.0}, False),
        ({}, False),
    ],
)
def test_a_call_that_lasted_is_settled_with_its_words(values: dict[str, object], settled: bool) -> None:
    assert CallLog("c1", Source.FETCH, **values).is_settled is settled  # type: ignore[arg-type]


def test_a_log_without_its_words_is_settled_as_it_is_after_a_while() -> None:
    log = CallLog("c1", Source.FETCH, duration_seconds=90)
    assert not log.is_settled_after(SETTLED_AS_IT_IS_AFTER - timedelta(seconds=1))
    assert log.is_settled_after(SETTLED_AS_IT_IS_AFTER)
    assert CallLog("c1", Source.FETCH, duration_seconds=90, **WORDS).is_settled_after(timedelta(0))
