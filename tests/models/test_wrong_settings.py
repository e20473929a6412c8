"""Wrong settings, however wrong: each ends in one sentence that names the setting, and shows no value.

What only its user can judge (a path, a key) is refused by the entry points, which the second half starts.
"""

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies

from models.settings import NAMES, SettingsError, read_settings
from tests.support.processes import Processes, procfile

SECRET = "hunter2-is-nobodys-business"
ODD = [
    *(f"{SECRET} {SECRET}", f"{SECRET}://x", f"://{SECRET}", f"http://{SECRET}@[", f"http://[{SECRET}", f"//{SECRET}"),
    *(f"https://{SECRET}:port/", f"https://h?{SECRET}", f"{SECRET}:99999999", f"postgresql://{SECRET}:x@h:port/d"),
    *(f"redis://:{SECRET}@h:99999", f"sqlite://{SECRET}/x", f"mysql://u:{SECRET}@h/d", f"https://u:{SECRET}@h"),
    *("sqlite://", "sqlite:///:memory:", "sqlite+aiosqlite:///x.db", "postgresql+asyncpg://h/d", "unix:", "tcp:"),
    *("-1", "0", "-0", "+", "-", "1e999", "-1e999", "nan", "NaN", "inf", "-inf", "infinity", "1_0", "0x10", "١٢", "²"),
    *("1,5", "1.5.", "1 000", "9" * 20, "9" * 5000, "1e-400", "0.0", "1e", "1m", "10s", "10 s", "1/2", "ten", "--1"),
    *(
        "true",
        "none",
        "null",
        "None",
        "undefined",
        "[]",
        "{}",
        "{",
        "'",
        '"',
        "`",
        "$",
        "${",
        "%",
        "%s",
        "%(x)s",
        "%00",
    ),
    *(
        "\\",
        "\\n",
        "a\nb",
        "a\tb",
        "a\r\nX: y",
        "\x1b[31m",
        "\x7f",
        "ñ",
        "日本",
        "\udcff",
        "a\udc80b",
        "a\0b",
        "a\u2028b",
    ),
    *("\u202e", "é" * 300, "x" * 257, "x" * 100_000, "/", "//", ".", "..", "../..", "/dev/null", "/dev/null/x", "~"),
    *("-----BEGIN PUBLIC KEY-----", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", ",,,", ";", "#", "?"),
    *("https://", "https:///x", "https://h#x", "ftp://h", "http://h", "https://h\\x", "https://[::1", "HTTPS://h/%"),
    *("Europe/", "Europe", "/etc/localtime", "posixrules", "right/UTC", "localtime", "-en", "esperanto", "debugging"),
    *("10.0.0.1/8", "a b", "host name", "[", "]", "?a=b", "=", "==", "a=b", "yes please", "on off", "offf", "jsonn"),
]
FREE = {"OPS_PASSWORD", "TOKEN_ENCRYPTION_KEYS", "LEADWAY_WEBHOOK_PUBLIC_KEYS"}
PATHS = {name for name in NAMES if name.endswith(("_DIR", "_FILE", "_FOLDER"))}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", [*NAMES, "OPS_PASSWORD_FILE", "DATABASE_URL_FILE"])
def test_no_wrong_text_ends_in_a_traceback_or_is_shown(name: str) -> None:
    assert len(set(ODD)) >= 100
    told = [_told(name, text) for text in ODD]
    refused = [each for each in told if each is not None]
    for sentence in refused:
        assert sentence.startswith(f"settings that cannot be used:\n  {name}")
        assert len(sentence.splitlines()) == 2, "a head and one sentence"
        assert SECRET not in sentence
    assert len(refused) >= (2 if name in FREE | PATHS else 15)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=strategies.sampled_from(NAMES), text=strategies.text(max_size=60))
def test_no_text_at_all_ends_in_a_traceback(name: str, text: str) -> None:
    with suppress(SettingsError):
        read_settings({name: text})


def _told(name: str, text: str) -> str | None:
    try:
        read_settings({name: text})
    except SettingsError as error:
        return str(error)
    return None


WEB, WORKER, BEAT, FLOWER = (procfile()[line] for line in ("web", "worker", "beat", "flower"))
STATUS, MIGRATE = "leadway-calls status", procfile()["release"]
SMALL_ORDER = (
    "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n-----END PUBLIC KEY-----"
)


@pytest.mark.parametrize(
    ("command", "wrong", "named"),
    [
        (WEB, {"PORT": SECRET}, "PORT: write a whole number"),
        (WEB, {"TOKEN_ENCRYPTION_KEYS": SECRET}, "TOKEN_ENCRYPTION_KEYS: at least one is not a Fernet key"),
        (WEB, {"TOKEN_ENCRYPTION_KEYS": ""}, "TOKEN_ENCRYPTION_KEYS is not set"),
        (WEB, {"LEADWAY_WEBHOOK_PUBLIC_KEYS": f"/{SECRET}.pem"}, "LEADWAY_WEBHOOK_PUBLIC_KEYS: "),
        (
            WEB,
            {"LEADWAY_WEBHOOK_PUBLIC_KEYS": SMALL_ORDER},
            "LEADWAY_WEBHOOK_PUBLIC_KEYS: a webhook public key is a point",
        ),
        (WEB, {"DATABASE_URL": "sqlite:////dev/null/x/y.db"}, "the folder /dev/null/x cannot be used"),
        (WEB, {"METRICS_DIR": "/dev/null/x"}, "METRICS_DIR"),
        (WORKER, {"DATABASE_URL": f"mysql://u:{SECRET}@h/d"}, "DATABASE_URL: write sqlite"),
        (WORKER, {"TOKEN_ENCRYPTION_KEYS": ""}, "TOKEN_ENCRYPTION_KEYS is not set"),
        (WORKER, {"LEADWAY_RULES_FILE": "/dev/null/x"}, "rules"),
        (BEAT, {"DATABASE_URL": "sqlite:////dev/null/x/y.db"}, "let DATABASE_URL name a place"),
        (FLOWER, {"FLOWER_MAX_TASKS": SECRET}, "what else begins with FLOWER_"),
        (STATUS, {"REDIS_URL": f"amqp://:{SECRET}@h"}, "REDIS_URL: write redis://"),
        (STATUS, {"DATABASE_URL": "sqlite:////dev/null/x/y.db"}, "let DATABASE_URL name a place"),
        (MIGRATE, {"LEADWAY_LOCATION_ID": f"{SECRET}!"}, "LEADWAY_LOCATION_ID: write the id"),
        (MIGRATE, {"LEADWAY_LOCATION_ID": "loc1", "TOKEN_ENCRYPTION_KEYS": ""}, "TOKEN_ENCRYPTION_KEYS is not set"),
    ],
)
def test_a_process_that_cannot_start_says_why_in_a_sentence(
    command: str, wrong: dict[str, str], named: str, tmp_path: Path
) -> None:
    code, printed = _started(command, wrong, tmp_path)
    assert code not in (0, None)
    assert named in printed
    assert SECRET not in printed
    assert "Traceback" not in printed
    assert len(printed.splitlines()) <= 8, printed


@pytest.mark.parametrize(("command", "setting"), [(WEB, "METRICS_DIR"), (MIGRATE, "DATABASE_URL")])
def test_where_the_working_folder_is_read_only_the_setting_to_change_is_named(
    command: str, setting: str, tmp_path: Path
) -> None:
    (tmp_path / "var").write_text("")  # root may write into every folder, but a file is none for anybody
    code, printed = _started(command, {}, tmp_path)
    assert code not in (0, None)
    assert "the folder " in printed
    assert f"let {setting} name a place that can be written" in printed
    assert "Traceback" not in printed


def _started(command: str, wrong: dict[str, str], folder: Path) -> tuple[int, str]:
    """Exit code and output of a process whose settings can be used but for those that are wrong."""
    good = {
        "TOKEN_ENCRYPTION_KEYS": "yOOLGmZm2jPvkVC9FjV3pT0vU6T4nJX3XcD5xZ2s0bQ=",
        "REDIS_URL": "redis://127.0.0.1:1/0",
    }
    with Processes(folder, {**good, **wrong}) as processes:
        processes.run(command.split(), name="started")
        return processes.wait("started"), processes.log("started")
