"""How a log line looks: one JSON object, an event in the past tense with fields beside it.

Never a token, a transcript, a name or a number: fields are ids, counts, durations and words of our own.
"""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog


def set_up_logs(*, level: str, form: str) -> None:
    """Our events and every library's lines go to standard error in one form: "json" or "console"."""
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
                _only_the_place_of_an_exception,
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # Each received message with its arguments, and each tick: too much, and Flower tells it better.
    for chatty in ("celery.worker.strategy", "celery.app.trace", "celery.beat", "kombu", "urllib3", "alembic"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLevelNamesMapping()[level]))


def _only_the_place_of_an_exception(
    _logger: Any, _name: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """An exception is told by its type and place. Its text may quote a row or a document, so it is left out."""
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
    """Libraries put the exception into their line too, as Celery does for a task that failed."""
    for said in (repr(error), str(error)):
        line = line.replace(said, type(error).__name__) if said else line
    return line
