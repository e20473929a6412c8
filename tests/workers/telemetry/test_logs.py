"""How log lines look, ours and those of libraries, and what never gets into one."""

import contextlib
import io
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
import structlog

from workers.telemetry.logs import set_up_logs

SECRET = "pit-0a1b2c3d"
Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines() -> Lines:
    written = io.StringIO()
    with contextlib.redirect_stderr(written):
        set_up_logs(level="INFO", form="json")
    return lambda: [json.loads(line) for line in written.getvalue().splitlines()]


def test_an_event_is_one_json_object_with_its_fields_its_level_and_its_time(lines: Lines) -> None:
    structlog.get_logger("test").warning("tick_failed", error="TimeoutError")

    [line] = lines()
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "tick_failed", "level": "warning", "error": "TimeoutError"}


def test_a_librarys_line_has_the_same_form_and_cannot_forge_another_line(lines: Lines) -> None:
    logging.getLogger("library").info("said %s", 'a\n{"event": "forged"}')

    [line] = lines()
    assert line["event"] == 'said a\n{"event": "forged"}'
    assert line["level"] == "info"


def test_what_is_below_the_level_is_not_written(lines: Lines) -> None:
    structlog.get_logger("test").debug("too_much")
    logging.getLogger("library").debug("too much")

    assert lines() == []


def test_chatty_libraries_speak_from_warnings_on(lines: Lines) -> None:
    for name in ("celery.app.trace", "celery.beat", "kombu.connection", "urllib3.connectionpool"):
        logging.getLogger(name).info("chat")
        logging.getLogger(name).warning("worth reading")

    assert [line["event"] for line in lines()] == ["worth reading"] * 4


def test_an_exception_is_told_by_its_type_and_place_and_never_by_its_text(lines: Lines) -> None:
    try:
        raise ValueError(SECRET)
    except ValueError as error:
        structlog.get_logger("test").exception("attempt_raised")
        structlog.get_logger("test").error("attempt_raised", exc_info=error)
        logging.getLogger("library").exception("it broke")

    assert SECRET not in json.dumps(lines())
    for line in lines():
        assert line["exception"] == "ValueError"
        assert line["exception_at"][-1].startswith("test_logs.py:")
        assert "exc_info" not in line


@pytest.mark.parametrize("error", [ValueError(SECRET), KeyError(f"{SECRET}\n'quoted'"), ValueError("")], ids=repr)
def test_a_librarys_line_that_quotes_its_exception_tells_the_type_instead(lines: Lines, error: Exception) -> None:
    """Celery's line about a task that failed is made so."""
    try:
        raise error
    except Exception as raised:
        logging.getLogger("celery.app.trace").error(
            "Task %(name)s[%(id)s] raised unexpected: %(exc)s", {"name": "calls.fetch", "id": "1", "exc": repr(raised)},
            exc_info=True,
        )  # fmt: skip
        logging.getLogger("library").error("it broke: %s", raised, exc_info=True)

    assert SECRET not in json.dumps(lines())
    assert lines()[0]["event"] == f"Task calls.fetch[1] raised unexpected: {type(error).__name__}"


def test_a_chain_of_exceptions_quotes_no_cause(lines: Lines) -> None:
    try:
        try:
            raise KeyError(SECRET)
        except KeyError as cause:
            raise RuntimeError("outer") from cause
    except RuntimeError:
        logging.getLogger("library").exception("it broke")

    assert SECRET not in json.dumps(lines())


def test_setting_logs_up_twice_writes_each_line_once(lines: Lines) -> None:
    set_up_logs(level="INFO", form="console")
    assert len(logging.getLogger().handlers) == 1
