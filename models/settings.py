"""Every setting of the system, its default and what it means; read once, by an entry point."""

import re
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

PEM_BLOCK = re.compile(r"-----BEGIN [A-Z ]+-----.*?-----END [A-Z ]+-----", re.DOTALL)


SHORTEST_SECONDS = 10.0
SHORTEST_SECRET = 16
"""Of the settle window and the lease; of secrets in characters. Unless LEADWAY_API_URL is a loopback address."""


class SettingsError(Exception):
    """The environment does not describe a system that can start; the text says which setting and what to do."""


class Settings(BaseSettings):
    """Read from the environment, and from `.env` in the working directory where a variable is not set."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", env_ignore_empty=False)

    # Database and Redis
    database_url: str = "sqlite:///var/leadway-calls.db"
    database_pooler: Literal["detect", "transaction"] = "detect"
    """Transaction: what DATABASE_URL names is a pooler that lends a connection for one transaction."""
    database_pool_size: Annotated[int, Field(ge=1)] | None = None
    """Connections of the pool of each web process and worker. None: by their threads (models/database/limits.py)."""
    reader_database_url: str | None = None
    """Where pages and commands that only read, look. None: DATABASE_URL."""
    redis_url: str = "redis://127.0.0.1:6379/0"

    # Leadway
    leadway_api_url: str = "https://services.leadconnectorhq.com"
    leadway_api_version: str = "2021-07-28"
    leadway_webhook_public_keys: Annotated[tuple[str, ...] | None, NoDecode] = None
    """PEM texts or file paths. None: the vendor's Ed25519 key; empty: no signature is accepted."""

    # The first account
    leadway_location_id: str | None = None
    leadway_api_token: SecretStr | None = None
    leadway_intake_secret: SecretStr | None = None
    leadway_time_zone: str = "UTC"
    leadway_language: Literal["en", "es"] = "en"

    # Receipts
    leadway_journal_dir: Path | Literal["off"] = Path("var/journal")
    """Where the web process writes what the database cannot take in time. Off: the sender is asked to repeat it."""
    leadway_journal_after_seconds: Annotated[float, Field(gt=0, le=0.8)] = 0.5
    """How long a receipt waits for the database before it goes into the journal."""

    # Timing
    leadway_settle_seconds: Annotated[float, Field(ge=0)] = 120.0
    leadway_lease_seconds: Annotated[float, Field(gt=0)] = 60.0
    leadway_retry_seconds: Annotated[float, Field(gt=0)] = 5.0

    # Behaviour
    leadway_requests_per_10_seconds: Annotated[int, Field(ge=1)] = 100
    """What Leadway allows each account; a white label may allow less."""
    leadway_rules_file: Path | None = None
    leadway_list_fetch: Literal["on", "off"] = "on"
    leadway_retention_days: Annotated[int, Field(ge=1)] | None = None

    # Secrets of our own
    token_encryption_keys: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    """Fernet keys, separated by commas; the first one writes, all read. Empty: a key file under `var/` is made."""
    ops_password: SecretStr | None = None

    # Processes
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    flower_port: Annotated[int, Field(ge=1, le=65535)] = 5555
    """Flower reads its own variables; the pages only link to it."""
    web_processes: Annotated[int, Field(ge=1)] = 2
    web_threads: Annotated[int, Field(ge=1)] = 16
    """For receipts, in each process."""
    web_other_threads: Annotated[int, Field(ge=1)] = 2
    """For pages, metrics and probes."""
    metrics_token: SecretStr | None = None
    """Whoever asks for metrics from another machine shows it. None: nobody may."""
    worker_threads: Annotated[int, Field(ge=4)] = 32
    metrics_dir: Path | None = None
    failpoints_folder: Path | None = None
    """Where a test arms failpoints (models/failpoints.py). None, as always in production: they are off."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["json", "console"] = "json"

    @field_validator("database_url", "reader_database_url")
    @classmethod
    def _name_the_driver(cls, url: str | None) -> str | None:
        """Hosts hand out `postgres://…`; SQLAlchemy wants the driver's name in it."""
        return url and re.sub(r"^(postgres|postgresql)(\+psycopg2?)?://", "postgresql+psycopg://", url)

    @model_validator(mode="after")
    def _say_so_in_the_url(self) -> Self:
        """Of a pooler the URL tells everybody who connects."""
        url = self.database_url
        if self.database_pooler == "transaction" and url.startswith("postgresql") and "pgbouncer=" not in url:
            self.database_url = f"{url}{'&' if '?' in url else '?'}pgbouncer=true"
        return self

    @property
    def journal_folder(self) -> Path | None:
        """None: there is no journal. On SQLite the inbox is a file like it, which no worker holds up."""
        is_sqlite = self.database_url.startswith("sqlite")
        return None if is_sqlite or self.leadway_journal_dir == "off" else Path(self.leadway_journal_dir)

    @field_validator("leadway_journal_dir", mode="before")
    @classmethod
    def _off_is_no_folder(cls, value: object) -> object:
        return Path(value) if isinstance(value, str) and value != "off" else value

    @field_validator("leadway_api_url")
    @classmethod
    def _without_slash(cls, url: str) -> str:
        return url.rstrip("/")

    @field_validator("leadway_webhook_public_keys", mode="before")
    @classmethod
    def _split_keys(cls, value: object) -> object:
        """PEM blocks may stand one after another (line ends also as `\\n`); what is left are file paths."""
        if not isinstance(value, str):
            return value
        text = value.replace("\\n", "\n")
        paths = re.split(r"[,;\n]", PEM_BLOCK.sub("\n", text))
        return (*PEM_BLOCK.findall(text), *(path.strip() for path in paths if path.strip()))

    @field_validator("token_encryption_keys", mode="before")
    @classmethod
    def _split_secrets(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _keeps_the_promise(self) -> Self:
        """Short times and secrets are for tests, which talk to a Leadway on this machine."""
        if _is_loopback(self.leadway_api_url):
            return self
        for name in ("leadway_settle_seconds", "leadway_lease_seconds"):
            if getattr(self, name) < SHORTEST_SECONDS:
                raise ValueError(
                    f"{name.upper()} is below {SHORTEST_SECONDS:.0f}: a note could be written twice, because Leadway"
                    " may still be writing it when it is looked for. Leave it out for the default"
                )
        for name in ("leadway_intake_secret", "ops_password"):
            secret: SecretStr | None = getattr(self, name)
            if secret is not None and len(secret.get_secret_value()) < SHORTEST_SECRET:
                raise ValueError(f"{name.upper()} is shorter than {SHORTEST_SECRET} characters, so it could be guessed")
        return self

    @model_validator(mode="before")
    @classmethod
    def _empty_is_unset(cls, values: dict[str, object]) -> dict[str, object]:
        """`NAME=` in a file of settings means its default; only of the public keys, empty is said on purpose.

        Blanks and line ends around a value are nobody's intention, and in a token they would break a header.
        """
        return {
            name: value.strip() if isinstance(value, str) else value
            for name, value in values.items()
            if name == "leadway_webhook_public_keys" or not isinstance(value, str) or value.strip()
        }


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_settings(overrides: Mapping[str, object] | None = None) -> Settings:
    """Reads the environment. Raises SettingsError, which names each wrong setting but never shows a value."""
    try:
        return Settings(**(dict(overrides or {})))  # type: ignore[arg-type]  # pydantic checks the values itself
    except ValidationError as error:
        problems = (_told(each["loc"], each["msg"]) for each in error.errors())
        raise SettingsError("settings that cannot be used:\n  " + "\n  ".join(problems)) from None


def _told(location: tuple[int | str, ...], message: str) -> str:
    """`NAME: what is wrong with it`; what is about several settings names them itself."""
    return f"{'.'.join(map(str, location)).upper()}: {message}" if location else message.removeprefix("Value error, ")
