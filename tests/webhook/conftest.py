"""The application on a real database and Redis, with one account, and the Leadway double that writes to it."""

import contextlib
import io
from collections.abc import Iterator

import pytest

from tests.webhook.intake import Intake
from workers.telemetry.logs import set_up_logs


@pytest.fixture
def intake(database_url: str, redis_url: str) -> Iterator[Intake]:
    with Intake(database_url, redis_url) as intake:
        yield intake


@pytest.fixture
def log_lines() -> io.StringIO:
    """What the process logs, every level, as in production: JSON, one object per line."""
    written = io.StringIO()
    with contextlib.redirect_stderr(written):
        set_up_logs(level="DEBUG", form="json")
    return written
