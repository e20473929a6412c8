"""Every setting of the system, its default and what it means; read once, by an entry point.

A setting is a field; its annotation holds the reader of its text (`values`). Its text comes from the environment, from
`.env` in the working directory where a variable is not set, or from a file (`sources`). A dataclass and no library of
settings: the one that was here took a sixth of the time to a web process's first answer (docs/decisions/0096).
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from models.settings import sources, values
from models.settings.values import Secret, SettingsError, is_loopback

__all__ = ["NAMES", "Secret", "Settings", "SettingsError", "is_loopback", "read_settings"]

SHORTEST_SECONDS = 10.0
"""Of the settle window and the lease, unless LEADWAY_API_URL is a loopback address."""
DAY = 86_400.0
MAY_BE_IN_A_FILE = "NAME_FILE names the file"
"""Marks what is secret, or holds a password."""


@dataclass
class Settings:
    """Not frozen: tests change times under a running worker. Nothing else writes to it."""

    # Database and Redis
    database_url: Annotated[str, values.database_url, MAY_BE_IN_A_FILE] = "sqlite:///var/leadway-calls.db"
    database_pooler: Annotated[str, values.pooler] = "detect"
    """Transaction: what DATABASE_URL names is a pooler that lends a connection for one transaction."""
    database_pool_size: Annotated[int | None, values.whole(1, 1000)] = None
    """Connections of the pool of each web process and worker. None: by their threads (models/database/limits.py)."""
    reader_database_url: Annotated[str | None, values.database_url, MAY_BE_IN_A_FILE] = None
    """Where pages and commands that only read, look. None: DATABASE_URL."""
    redis_url: Annotated[str, values.redis_url, MAY_BE_IN_A_FILE] = "redis://127.0.0.1:6379/0"

    # Leadway
    leadway_api_url: Annotated[str, values.api_url] = "https://services.leadconnectorhq.com"
    leadway_api_version: Annotated[str, values.in_a_header] = "2021-07-28"
    leadway_webhook_public_keys: Annotated[tuple[str, ...] | None, values.public_keys] = None
    """PEM texts or file paths. None: the vendor's Ed25519 key; empty: no signature is accepted."""

    # The first account
    leadway_location_id: Annotated[str | None, values.location_id] = None
    leadway_api_token: Annotated[Secret | None, values.secret(values.in_a_header), MAY_BE_IN_A_FILE] = None
    leadway_intake_secret: Annotated[Secret | None, values.secret(values.intake_secret), MAY_BE_IN_A_FILE] = None
    leadway_time_zone: Annotated[str, values.time_zone] = "UTC"
    leadway_language: Annotated[str, values.language] = "en"

    # Receipts
    leadway_journal_dir: Annotated[Path | str, values.path_or_off] = Path("var/journal")
    """Where the web process writes what the database cannot take in time. Off: the sender is asked to repeat it."""
    leadway_journal_after_seconds: Annotated[float, values.seconds(0.8)] = 0.5
    """How long a receipt waits for the database before it goes into the journal."""

    # Timing
    leadway_settle_seconds: Annotated[float, values.seconds(DAY, or_none=True)] = 120.0
    leadway_lease_seconds: Annotated[float, values.seconds(DAY)] = 60.0
    leadway_retry_seconds: Annotated[float, values.seconds(DAY)] = 5.0

    # Behaviour
    leadway_requests_per_10_seconds: Annotated[int, values.whole(1, 1_000_000)] = 100
    """What Leadway allows each account; a white label may allow less."""
    leadway_rules_file: Annotated[Path | None, values.path] = None
    leadway_list_fetch: Annotated[str, values.on_or_off] = "on"
    leadway_retention_days: Annotated[int | None, values.whole(1, 36_500)] = None

    # Secrets of our own
    token_encryption_keys: Annotated[tuple[Secret, ...], values.encryption_keys, MAY_BE_IN_A_FILE] = ()
    """Fernet keys, separated by commas; the first one writes, all read. Empty: the key file under `var/`."""
    ops_password: Annotated[Secret | None, values.secret(), MAY_BE_IN_A_FILE] = None

    # Processes
    host: Annotated[str, values.host] = "127.0.0.1"
    """All addresses where the environment sets PORT, as platforms do, and nothing sets HOST."""
    port: Annotated[int, values.whole(0, 65535)] = 8000
    flower_port: Annotated[int, values.whole(1, 65535)] = 5555
    web_processes: Annotated[int, values.whole(1, 1024)] = 2
    web_threads: Annotated[int, values.whole(1, 4096)] = 16
    """For receipts, in each process."""
    web_other_threads: Annotated[int, values.whole(1, 4096)] = 2
    """For pages, metrics and probes."""
    metrics_token: Annotated[Secret | None, values.secret(values.in_a_header), MAY_BE_IN_A_FILE] = None
    """Whoever asks for metrics from another machine shows it. None: nobody may."""
    worker_threads: Annotated[int, values.whole(4, 4096)] = 32
    metrics_dir: Annotated[Path | None, values.path] = None
    failpoints_folder: Annotated[Path | None, values.path] = None
    """Where a test arms failpoints (models/failpoints.py). None, as always in production: they are off."""
    log_level: Annotated[str, values.log_level] = "INFO"
    log_format: Annotated[str, values.log_format] = "json"

    # How they were read
    chosen: frozenset[str] = field(default=frozenset(), compare=False)
    """The fields that are not left to their defaults."""
    notices: tuple[str, ...] = field(default=(), compare=False)
    """What was odd and is ignored, a sentence each. Processes log them, `doctor` shows them."""

    @property
    def journal_folder(self) -> Path | None:
        """None: there is no journal. On SQLite the inbox is a file like it, which no worker holds up."""
        is_sqlite = self.database_url.startswith("sqlite")
        return None if is_sqlite or self.leadway_journal_dir == "off" else Path(self.leadway_journal_dir)


_MARKS = {each.name.upper(): get_args(each.type)[1:] for each in fields(Settings) if get_origin(each.type) is Annotated}
NAMES = tuple(_MARKS)
"""Of every setting, as in the environment."""
_IN_FILES = tuple(name for name, marks in _MARKS.items() if MAY_BE_IN_A_FILE in marks)
_MAY_BE_EMPTY = ("LEADWAY_WEBHOOK_PUBLIC_KEYS",)
"""`NAME=` in a file of settings means its default; only of these, empty is said on purpose."""


def read_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Reads `environment` (None: that of this process) and `.env`.

    Raises SettingsError, which names each wrong setting but never shows a value.
    """
    found = sources.find(
        NAMES, os.environ if environment is None else environment, in_files=_IN_FILES, may_be_empty=_MAY_BE_EMPTY
    )
    problems, read = found.problems, dict[str, Any]()
    for name in NAMES:
        if name not in found.texts:
            continue
        try:
            read[name.lower()] = _MARKS[name][0](found.texts[name])
        except ValueError as error:
            problems.append(f"{name}: {error}")
    chosen = frozenset(read)
    if "PORT" in found.from_environment and "host" not in read:
        read["host"] = "0.0.0.0"  # noqa: S104 - a platform that sets PORT looks for us on its own network
    if read.get("database_pooler") == "transaction" and "database_url" in read:
        read["database_url"] = values.with_pooler(read["database_url"])
    settings = Settings(**read, chosen=chosen, notices=tuple(found.notices))
    problems += _broken_promises(settings)
    if problems:
        raise SettingsError("settings that cannot be used:\n  " + "\n  ".join(problems))
    return settings


def _broken_promises(settings: Settings) -> list[str]:
    """Short times and secrets are for tests, which talk to a Leadway on this machine."""
    if is_loopback(settings.leadway_api_url):
        return []
    short_times = [
        f"{name.upper()} is below {SHORTEST_SECONDS:.0f}: a note could be written twice, because Leadway may still be"
        " writing it when it is looked for. Leave it out for the default"
        for name in ("leadway_settle_seconds", "leadway_lease_seconds")
        if getattr(settings, name) < SHORTEST_SECONDS
    ]
    secrets = {
        "LEADWAY_INTAKE_SECRET": settings.leadway_intake_secret, "OPS_PASSWORD": settings.ops_password,
        "METRICS_TOKEN": settings.metrics_token,
    }  # fmt: skip
    short_secrets = [
        f"{name} {values.TOO_SHORT}"
        for name, secret in secrets.items()
        if secret is not None and len(secret.get_secret_value()) < values.SHORTEST_SECRET
    ]
    return short_times + short_secrets
