"""Where the texts of settings come from: the environment, `.env`, files of secrets; and what is odd about them."""

from pathlib import Path

import pytest

from models.settings import NAMES, SettingsError, read_settings


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def test_a_secret_may_stand_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    texts = {
        "LEADWAY_API_TOKEN": "pit-1", "LEADWAY_INTAKE_SECRET": "a-long-secret-here", "OPS_PASSWORD": "a long password",
        "METRICS_TOKEN": "a-token-of-prometheus", "TOKEN_ENCRYPTION_KEYS": "one,two",
        "DATABASE_URL": "postgres://u:p%40@h/d", "REDIS_URL": "redis://:secret@h:6379/1",
    }  # fmt: skip
    texts["OPS_PASSWORD"] += " indeed"
    for name, text in texts.items():
        (tmp_path / name).write_text(f"{text}\n")
        monkeypatch.setenv(f"{name}_FILE", str(tmp_path / name))
    from_files = read_settings()
    for name, text in texts.items():
        monkeypatch.delenv(f"{name}_FILE")
        monkeypatch.setenv(name, text)
    assert read_settings() == from_files
    assert read_settings().chosen == from_files.chosen == {name.lower() for name in texts}


@pytest.mark.parametrize(
    ("content", "also", "told"),
    [
        (None, {}, "its file cannot be read (No such file or directory)"),
        ("", {}, "its file is empty"),
        ("a-secret-that-is-long", {"OPS_PASSWORD": "another-secret-indeed"}, "are both set"),
        ("a\0secret", {}, "its file has an encoding that cannot be read"),
        ("x" * 2_000_000, {}, "its file is too large"),
    ],
)
def test_a_file_that_gives_no_secret_is_told(
    content: str | None, also: dict[str, str], told: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "given").write_text(content)
    with pytest.raises(SettingsError) as raised:
        read_settings({"OPS_PASSWORD_FILE": str(tmp_path / "given"), **also})
    assert told in str(raised.value)
    assert "OPS_PASSWORD_FILE" in str(raised.value)
    assert "secret" not in str(raised.value).replace("another-secret", "?")


def test_a_folder_for_a_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"OPS_PASSWORD_FILE: its file cannot be read \(Is a directory\)"):
        read_settings({"OPS_PASSWORD_FILE": str(tmp_path)})


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_a_file_of_settings_may_have_any_usual_encoding(encoding: str, tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(
        "# configuración\nLOG_LEVEL=info\r\nOPS_PASSWORD=contraseña-muy-larga\n".encode(encoding)
    )
    settings = read_settings({})
    assert settings.log_level == "INFO"
    assert settings.ops_password is not None
    assert settings.ops_password.get_secret_value() == "contraseña-muy-larga"
    told = (".env is not UTF-8 and was read as Latin-1: save it as UTF-8",)
    assert settings.notices == (told if encoding == "latin-1" else ())


@pytest.mark.parametrize("content", ["PORT=1\n".encode("utf-16-le"), b"\xff\xfeP", b"PORT=1\0"])
def test_an_encoding_that_cannot_be_read_is_told(content: bytes, tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(content)
    with pytest.raises(SettingsError, match=r"^\.env has an encoding that cannot be read: save it as UTF-8$"):
        read_settings({})


def test_a_folder_in_place_of_the_file_of_settings_is_told(tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()
    with pytest.raises(SettingsError, match=r"^\.env is a folder"):
        read_settings({})


def test_a_file_of_settings_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    (tmp_path / ".env").symlink_to(tmp_path / ".env")  # modes do not keep root out, a circle does
    with pytest.raises(SettingsError, match=r"^\.env cannot be read \(Too many levels of symbolic links\)"):
        read_settings({})


def test_a_line_that_is_no_assignment_is_ignored_and_told(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(
        "PORT=1\n# a remark\nhello there\n\nexport HOST=0.0.0.0\nWEB_THREADS\nLOG_LEVEL=error\n"
    )
    settings = read_settings({})
    assert (settings.port, settings.host, settings.log_level) == (1, "0.0.0.0", "ERROR")
    assert [notice.partition(" of ")[0] for notice in settings.notices] == ["line 3", "line 6"]


@pytest.mark.parametrize("name", ["FLOWER_PORT", "PORT", "HOST", "WEB_PROCESSES", "LOG_LEVEL"])
def test_a_service_link_of_kubernetes_is_ignored_and_told(name: str) -> None:
    settings = read_settings({name: "tcp://10.0.75.166:5555"})
    assert settings == read_settings({})
    assert settings.chosen == set()
    assert [notice.partition(" ")[0] for notice in settings.notices] == [name]


def test_an_address_of_the_database_is_no_service_link() -> None:
    with pytest.raises(SettingsError, match="DATABASE_URL: write sqlite"):
        read_settings({"DATABASE_URL": "tcp://10.0.75.166:5432"})


def test_names_that_are_almost_ours_are_told_with_the_nearest() -> None:
    given = {
        "LEADWAY_INTAKE_SECRETS": "LEADWAY_INTAKE_SECRET", "LEADWAY_API_TOKENS": "LEADWAY_API_TOKEN",
        "LEADWAY_SETTLE_SECOND": "LEADWAY_SETTLE_SECONDS", "DATABSE_URL": "DATABASE_URL",
        "OPS_PASWORD": "OPS_PASSWORD", "WEB_THREAD": "WEB_THREADS", "LEADWAY_API_TOKEN_FIEL": "LEADWAY_API_TOKEN_FILE",
    }  # fmt: skip
    settings = read_settings(dict.fromkeys(given, "a-secret-value"))
    wanted = [f"{name} is no setting and is ignored; did you mean {meant}?" for name, meant in sorted(given.items())]
    assert sorted(settings.notices) == wanted


def test_names_of_others_are_not_told() -> None:
    others = [
        "HOSTNAME", "PATH", "HOME", "LANG", "LOGNAME", "REDIS_TLS_URL", "PGPORT", "POSTGRES_PORT", "FLOWER_ADDRESS",
        "LEADWAY_CALLS_SERVICE_HOST", "LEADWAY_CALLS_SERVICE_PORT", "LEADWAY_CALLS_SERVICE_PORT_HTTP",
        "LEADWAY_CALLS_PORT", "LEADWAY_CALLS_PORT_80_TCP", "LEADWAY_CALLS_PORT_80_TCP_ADDR", "FLOWER_SERVICE_HOST",
    ]  # fmt: skip
    assert read_settings(dict.fromkeys(others, "x")).notices == ()
    both = read_settings({"DATABASE_URL": "postgresql://h/d", "DATABASE_URI": "postgresql://h/d"})
    assert both.notices == (), "another program's, beside ours"


def test_all_addresses_are_listened_on_where_the_environment_itself_sets_the_port(tmp_path: Path) -> None:
    assert read_settings({"PORT": "1"}).host == "0.0.0.0"
    assert read_settings({"PORT": "1", "HOST": "::1"}).host == "::1"
    assert read_settings({"PORT": "tcp://10.0.0.1:80"}).host == "127.0.0.1"
    (tmp_path / ".env").write_text("PORT=1\n")
    assert read_settings({}).host == "127.0.0.1"
    assert read_settings({"PORT": "1"}).host == "0.0.0.0"
    (tmp_path / ".env").write_text("HOST=127.0.0.2\n")
    assert read_settings({"PORT": "1"}).host == "127.0.0.2"
