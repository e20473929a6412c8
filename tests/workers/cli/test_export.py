"""`leadway-calls export`: files that other programs read back as the views say, all of one moment, or none."""

import csv
import hashlib
import io
import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars
import pytest
import sqlalchemy as sa

from migrations import views
from models.accounts import accounts
from models.calls.call_log import Action
from models.database import Database
from tests.support.rows import LOCATION, booked_call, call_log, dead_call, on_postgresql, on_sqlite, store, write
from tests.support.waiting import meanwhile
from tests.workers.cli.conftest import Commands
from workers.cli.export.command import VIEWS
from workers.cli.export.rows import OF_CALLS, Asked, Type, snapshot, type_of

DAY = date(2026, 3, 1)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
EVERYTHING = Asked(DAY, DAY, (), with_words=True)
TYPES = {
    "text": Type.TEXT, "integer": Type.INTEGER, "bigint": Type.INTEGER, "smallint": Type.INTEGER,
    "double precision": Type.NUMBER, "boolean": Type.BOOLEAN, "date": Type.DAY,
    "timestamp with time zone": Type.INSTANT, "jsonb": Type.JSON, "json": Type.JSON,
}  # fmt: skip


@pytest.fixture
def filled(served: Database) -> Database:
    """A day with three calls of two accounts, one call on the day after it, and one whose start is not known."""
    odd = Action(action_type="CUSTOM_ACTION", name='a "quoted", name\nof two lines', action_id="a2",
                 parameters={"ñ": [1, None, {"deep": True}], "text": "a,b"})  # fmt: skip
    fields = {"age": 41, "vegan": False, "wish": 'window; "aisle"', "nothing": None, "list": [1, 2]}
    words = {"summary": 'Sí: "mañana", a las 10', "transcript": "bot: hola\nhuman: ¿qué tal?"}
    one = call_log("one", started_at=NOON, duration_seconds=61.5, actions=(odd,), extracted_data=fields, **words)
    store(served, one)
    store(served, call_log("two", started_at=NOON + timedelta(hours=1), duration_seconds=0.0))
    write(served, accounts.add, "zz_other")
    store(served, call_log("three", started_at=NOON), location_id="zz_other")
    store(served, call_log("after", started_at=NOON + timedelta(days=1)))
    store(served, booked_call("today"))
    dead_call(served, "unknown")
    return served


def of_views(database: Database, asked: Asked = EVERYTHING) -> dict[str, list[dict[str, Any]]]:
    with snapshot(database, asked) as found:
        calls = [row for some in found.calls() for row in some]
        of_calls = {view: list(found.of_calls(view, calls)) for view in OF_CALLS}
        rows = {"calls": calls, **of_calls, "coverage": list(found.coverage())}
    return {view: [dict(zip(asked.columns(view), row, strict=True)) for row in of] for view, of in rows.items()}


@pytest.mark.parametrize("form", ["csv", "ndjson", "parquet"])
def test_duckdb_and_polars_read_back_what_the_views_hold(
    run: Commands, filled: Database, tmp_path: Path, form: str
) -> None:
    folder = tmp_path / "out"
    result = run("export", "--from", "2026-03-01", "--format", form, str(folder))
    assert result.exit_code == 0, result.output
    assert "6 files, 3 calls" in " ".join(result.output.split())
    expected = of_views(filled)
    assert [each["call_id"] for each in expected["calls"]] == ["one", "two", "three"]
    assert len(expected["call_turns"]) >= 2
    assert len(expected["call_fields"]) == 5
    for view, rows in expected.items():
        file = folder / f"{view}.{form}"
        assert by_duckdb(file, form) == by_polars(file, form) == [as_text(row) for row in rows], view
    assert not list(folder.glob("*.part"))


def as_text(row: dict[str, Any]) -> dict[str, str | None]:
    """Each value as both libraries tell it in text."""
    return {name: told(type_of(name), value) for name, value in row.items()}


def told(kind: Type, value: Any) -> str | None:
    if value is None:
        return None
    if kind is Type.JSON:
        return json.dumps(value if not isinstance(value, str) else json.loads(value), sort_keys=True)
    if kind is Type.INSTANT:
        at = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        return at.astimezone(UTC).isoformat()
    if kind is Type.NUMBER:
        return str(float(value))
    return str(value).lower() if kind is Type.BOOLEAN else str(value)


def by_duckdb(file: Path, form: str) -> list[dict[str, str | None]]:
    [columns] = [
        each["columns"] for each in json.loads((file.parent / "manifest.json").read_text())["files"]
        if each["file"] == file.name
    ]  # fmt: skip
    texts = dict.fromkeys(columns, "VARCHAR")
    asked = {
        "csv": "SELECT * FROM read_csv($file, header = true, columns = $columns, nullstr = '')",
        "ndjson": "SELECT * FROM read_json($file, format = 'newline_delimited', columns = $columns)",
        "parquet": "SELECT * FROM read_parquet($file)",
    }[form]
    values = {"file": str(file)} | ({} if form == "parquet" else {"columns": texts})
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        rows = connection.execute(asked, values).fetchall()
    return [as_text(dict(zip(columns, row, strict=True))) for row in rows]


def by_polars(file: Path, form: str) -> list[dict[str, str | None]]:
    if form == "csv":
        frame = polars.read_csv(file, infer_schema=False)
    elif form == "ndjson":
        if not file.read_bytes():
            return []
        frame = polars.read_ndjson(file, infer_schema_length=None)
    else:
        frame = polars.read_parquet(file)
    return [as_text(row) for row in frame.to_dicts()]


def test_a_manifest_tells_what_was_written_and_is_the_last_file(
    run: Commands, filled: Database, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    run("export", "--from", "2026-03-01", "--to", "2026-03-02", "--location", LOCATION, str(folder))
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["from"], manifest["to"], manifest["locations"]) == ("2026-03-01", "2026-03-02", [LOCATION])
    assert [each["view"] for each in manifest["files"]] == list(VIEWS)
    for each in manifest["files"]:
        written = (folder / each["file"]).read_bytes()
        assert (len(written), hashlib.sha256(written).hexdigest()) == (each["bytes"], each["sha256"])
        assert len(list(csv.reader(io.StringIO(written.decode())))) == each["rows"] + 1
        assert (folder / each["file"]).stat().st_mode & 0o077 == 0
    assert {each["view"]: each["rows"] for each in manifest["files"]}["calls"] == 3

    again = run("export", "--from", "2026-03-01", str(folder))
    assert again.exit_code == 1
    assert "replaces nothing" in again.output


def test_one_view_goes_to_standard_output_and_words_stay_where_they_are(run: Commands, filled: Database) -> None:
    result = run("export", "--from", "2026-03-01", "--view", "calls", "--without-words", "-")
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [each["call_id"] for each in rows] == ["one", "two", "three"]
    assert {"summary", "from_number", "to_number"}.isdisjoint(rows[0])
    assert "mañana" not in result.stdout
    lines = run("export", "--from", "2026-03-01", "--view", "call_turns", "--format", "ndjson", "-").stdout.splitlines()
    assert json.loads(lines[1])["text"] == "¿qué tal?"


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("--from", "2026-03-02", "--to", "2026-03-01", "x"), 2, "--to is before --from"),
        (("--from", "2026-03-01", "-"), 2, "one view"),
        (("--from", "2026-03-01", "--view", "calls", "--format", "parquet", "-"), 2, "csv or ndjson"),
        (("--from", "yesterday", "x"), 2, "yesterday"),
        (("--from", "2026-03-01", "--location", "nobody", "x"), 1, "nobody"),
        (("--from", "2026-03-01", "/proc/nowhere"), 1, "cannot be written to"),
    ],
)
@on_sqlite
def test_what_cannot_be_exported_is_said(
    run: Commands, served: Database, words: tuple[str, ...], status: int, said: str
) -> None:
    result = run("export", *words)
    assert (result.exit_code, said in result.output) == (status, True), result.output


def test_all_files_are_of_one_moment_and_no_writer_waits(filled: Database) -> None:
    with snapshot(filled, EVERYTHING) as found:
        assert found.number_of_calls() == 3
        with meanwhile(lambda: store(filled, call_log("later", started_at=NOON))):
            pass
        assert [row[1] for some in found.calls() for row in some] == ["one", "two", "three"]
    assert len(of_views(filled)["calls"]) == 4


def test_an_export_that_breaks_leaves_no_file_that_looks_whole(
    run: Commands, filled: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_off(*_: object) -> Any:
        raise sa.exc.OperationalError("SELECT", {}, Exception("the server went away"))

    monkeypatch.setattr("workers.cli.export.rows.Snapshot.coverage", break_off)
    result = run("export", "--from", "2026-03-01", str(tmp_path / "out"))
    assert result.exit_code == 1
    assert "the database cannot be used" in result.output
    assert list((tmp_path / "out").iterdir()) == []


@on_postgresql
def test_the_types_are_those_of_the_views(filled: Database) -> None:
    kept = sa.text("SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = :it")
    with filled.reading() as connection:
        found = connection.execute(kept, {"it": views.SCHEMA}).all()
    of_them = [each for each in found if each.table_name in VIEWS]
    assert {(each.table_name, each.column_name): TYPES[each.data_type] for each in of_them} == {
        (each.table_name, each.column_name): type_of(each.column_name) for each in of_them
    }
