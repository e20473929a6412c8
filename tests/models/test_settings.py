"""Settings: read from the environment, and wrong ones told without their values."""

from pathlib import Path

import pytest

from models.settings import NAMES, SettingsError, read_settings

PEM = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----"


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def test_without_any_setting_there_are_defaults() -> None:
    settings = read_settings()
    assert settings.database_url == "sqlite:///var/leadway-calls.db"
    assert settings.leadway_api_url == "https://services.leadconnectorhq.com"
    assert settings.leadway_webhook_public_keys is None
    assert (settings.leadway_settle_seconds, settings.leadway_lease_seconds, settings.leadway_retry_seconds) == (
        120,
        60,
        5,
    )
    assert settings.token_encryption_keys == ()
    assert settings.ops_password is None


def test_an_empty_setting_means_its_default_whichever_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    before = read_settings()
    for name in set(NAMES) - {"LEADWAY_WEBHOOK_PUBLIC_KEYS"}:
        monkeypatch.setenv(name, "  ")
    assert read_settings() == before
    assert read_settings().chosen == set(), "nothing was chosen"


def test_empty_public_keys_close_the_door_for_signatures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEADWAY_WEBHOOK_PUBLIC_KEYS", "")
    assert read_settings().leadway_webhook_public_keys == ()


def test_public_keys_are_split_into_texts_and_files(monkeypatch: pytest.MonkeyPatch) -> None:
    escaped = PEM.replace("\n", "\\n")
    monkeypatch.setenv(
        "LEADWAY_WEBHOOK_PUBLIC_KEYS", f"{PEM}\n{escaped},/etc/keys/one.pem, two.pem;three.pem\nfour.pem"
    )
    assert read_settings().leadway_webhook_public_keys == (
        PEM, PEM, "/etc/keys/one.pem", "two.pem", "three.pem", "four.pem",
    )  # fmt: skip


def test_encryption_keys_are_split_at_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN_ENCRYPTION_KEYS", " first , second,, ")
    assert [key.get_secret_value() for key in read_settings().token_encryption_keys] == ["first", "second"]


def test_blanks_and_line_ends_around_a_value_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEADWAY_API_TOKEN", " token\n")
    monkeypatch.setenv("LEADWAY_LOCATION_ID", "loc-one ")
    settings = read_settings()
    assert settings.leadway_api_token is not None
    assert settings.leadway_api_token.get_secret_value() == "token"
    assert settings.leadway_location_id == "loc-one"


@pytest.mark.parametrize(
    "url",
    ["postgres://u:p@h/d", "postgresql://u:p@h/d", "postgresql+psycopg2://u:p@h/d", "postgresql+psycopg://u:p@h/d"],
)
def test_whatever_a_host_calls_postgresql_our_driver_is_named(url: str) -> None:
    assert read_settings({"database_url": url}).database_url == "postgresql+psycopg://u:p@h/d"


def test_the_api_address_has_no_slash_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEADWAY_API_URL", "http://127.0.0.1:9/")
    assert read_settings().leadway_api_url == "http://127.0.0.1:9"


def test_a_file_of_settings_is_read_and_the_environment_wins_over_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("PORT=1\nHOST=0.0.0.0\nSOMETHING_ELSE=x\nLEADWAY_RETENTION_DAYS=\n")
    monkeypatch.setenv("PORT", "2")
    settings = read_settings()
    assert (settings.port, settings.host, settings.leadway_retention_days) == (2, "0.0.0.0", None)


def test_every_wrong_setting_is_named_and_no_value_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {
        "PORT": "secret-port", "LEADWAY_LEASE_SECONDS": "-17", "LEADWAY_LANGUAGE": "secret-language",
        "LEADWAY_RETENTION_DAYS": "0", "WORKER_THREADS": "secret-number", "LOG_LEVEL": "secret-level",
        "LEADWAY_SETTLE_SECONDS": "secret-seconds", "LEADWAY_LIST_FETCH": "secret-choice",
    }  # fmt: skip
    monkeypatch.setenv("LEADWAY_API_TOKEN", "secret-token")
    for name, value in wrong.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as raised:
        read_settings()
    told = str(raised.value)
    for name in wrong:
        assert name in told
    assert "secret" not in told
    assert "17" not in told
    assert raised.value.__cause__ is None


def test_secrets_do_not_show_when_settings_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LEADWAY_API_TOKEN", "LEADWAY_INTAKE_SECRET", "TOKEN_ENCRYPTION_KEYS", "OPS_PASSWORD"):
        monkeypatch.setenv(name, "do-not-show-this")
    assert "do-not-show" not in repr(read_settings())


@pytest.mark.parametrize(
    ("name", "texts", "value"),
    [
        ("LOG_LEVEL", ["info", "Info", "INFO"], "INFO"),
        ("LOG_LEVEL", ["WARN", "warn", "warning"], "WARNING"),
        ("LOG_LEVEL", ["critical", "FATAL"], "CRITICAL"),
        ("LOG_FORMAT", ["JSON", "Json"], "json"),
        ("LOG_FORMAT", ["Console"], "console"),
        ("LEADWAY_LIST_FETCH", ["on", "ON", "true", "True", "1", "yes"], "on"),
        ("LEADWAY_LIST_FETCH", ["off", "OFF", "false", "0", "No"], "off"),
        ("LEADWAY_LANGUAGE", ["ES", "es-MX", "es_ES.UTF-8"], "es"),
        ("LEADWAY_LANGUAGE", ["EN", "en_US"], "en"),
        ("LEADWAY_JOURNAL_DIR", ["off", "OFF"], "off"),
        ("HOST", ["[::]"], "::"),
        ("LEADWAY_API_URL", ["http://[::1]:8080/", "http://[::1]:8080"], "http://[::1]:8080"),
    ],
)
def test_what_means_the_same_is_the_same(name: str, texts: list[str], value: str) -> None:
    for text in texts:
        assert getattr(read_settings({name: text}), name.lower()) == value


@pytest.mark.parametrize(
    "url", ["http://leadway.example", "http://10.0.0.1", "http://127.0.0.1.example", "http://[::2]"]
)
def test_an_api_to_which_tokens_would_go_in_the_clear_is_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="LEADWAY_API_URL: write https://, or tokens would travel in the clear"):
        read_settings({"LEADWAY_API_URL": url})


@pytest.mark.parametrize("name", ["LEADWAY_INTAKE_SECRET", "OPS_PASSWORD", "METRICS_TOKEN"])
def test_a_short_secret_is_refused_unless_the_api_is_on_this_machine(name: str) -> None:
    with pytest.raises(SettingsError, match=f"{name} is shorter than 16 characters"):
        read_settings({name: "fifteen-letters"})
    read_settings({name: "sixteen-letters-"})
    for url in ("http://127.0.0.1:9", "http://localhost:9", "http://[::1]:9"):
        read_settings({name: "short", "LEADWAY_API_URL": url})
