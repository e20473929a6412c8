"""The form of a log line: one JSON object, an event in the past tense with fields beside it.

Fields are ids, counts, durations and constants of the code; never a token, a transcript, a name or a phone number.
"""

import logging
import sys
from collections.abc import Iterable, MutableMapping
from typing import Any

import structlog


def set_up_logs(*, level: str, form: str) -> None:
    """Sends the product's events and every library's lines to standard error. `form`: "json" or "console"."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    renderer = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                _without_exception_text,
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                renderer,
            ],
        )
    )
    logging.captureWarnings(True)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # These log each message with its arguments, each tick, each request: too much, and Flower shows it better.
    for chatty in ("celery.worker.strategy", "celery.app.trace", "celery.beat", "kombu", "urllib3", "alembic"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level]))


def tell_notices(notices: Iterable[str]) -> None:
    """What was odd about the settings, at the start of each process."""
    for notice in notices:
        structlog.get_logger(__name__).warning("setting_ignored", told=notice)


def _without_exception_text(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replaces an exception by its type and the places it passed. Its text may quote a row or a document."""
    raised = event.pop("exc_info", None)
    if raised is True:
        raised = sys.exc_info()
    if isinstance(raised, BaseException):
        raised = (type(raised), raised, raised.__traceback__)
    if isinstance(raised, tuple) and raised[0] is not None:
        kind, error, trace = raised
        places = []
        while trace is not None:
            places.append(f"{trace.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{trace.tb_lineno}")
            trace = trace.tb_next
        event["exception"] = kind.__name__
        event["exception_at"] = places[-6:]
        if not event["_from_structlog"]:
            event["event"] = _unquoted(event["event"], error)
    return event


def _unquoted(line: str, error: BaseException) -> str:
    """Takes an exception's text out of a library's own line, as Celery writes one for a task that failed."""
    for text in (repr(error), str(error)):
        line = line.replace(text, type(error).__name__) if text else line
    return line
