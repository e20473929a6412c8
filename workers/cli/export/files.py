"""Files of rows: CSV, lines of JSON, Parquet; written under another name, and renamed when they are complete."""

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from workers.cli.export.rows import Row, Type, type_of
from workers.cli.opened import Failure

FORMATS = ("csv", "ndjson", "parquet")
UNFINISHED = ".part"


class Lines:
    """CSV or lines of JSON, into whatever takes bytes.

    CSV has a line of names first, and nothing between two commas for null: no text of these views is empty. Instants
    are ISO 8601 in UTC. What is JSON in the views is its text in every format, because its form differs row by row.
    """

    def __init__(self, write: Callable[[bytes], object], columns: Sequence[str], *, form: str) -> None:
        self._write, self._columns, self._form = write, columns, form
        if form == "csv":
            write(_csv([columns]))

    def add(self, rows: Iterable[Row]) -> None:
        if self._form == "csv":
            self._write(_csv([tuple(map(_in_csv, self._columns, row)) for row in rows]))
            return
        for row in rows:
            told = dict(zip(self._columns, map(_in_json, self._columns, row), strict=True))
            self._write(json.dumps(told, ensure_ascii=False).encode() + b"\n")

    def close(self) -> None:
        """Nothing is held back."""


class _Parquet:
    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self._arrow, parquet = _pyarrow()
        arrow = self._arrow
        types = {
            Type.TEXT: arrow.string(), Type.INTEGER: arrow.int64(), Type.NUMBER: arrow.float64(),
            Type.BOOLEAN: arrow.bool_(), Type.DAY: arrow.date32(), Type.INSTANT: arrow.timestamp("us", tz="UTC"),
            Type.JSON: arrow.string(),
        }  # fmt: skip
        self._schema = arrow.schema([(name, types[type_of(name)]) for name in columns])
        self._writer = parquet.ParquetWriter(str(path), self._schema, compression="zstd")

    def add(self, rows: Iterable[Row]) -> None:
        columns = [list(values) for values in zip(*rows, strict=True)]
        if not columns:
            return
        arrays = [
            self._arrow.array(map(_as_text, values) if type_of(field.name) is Type.JSON else values, field.type)
            for field, values in zip(self._schema, columns, strict=True)
        ]
        self._writer.write_table(self._arrow.Table.from_arrays(arrays, schema=self._schema))

    def close(self) -> None:
        self._writer.close()


def refuse_missing_library(form: str) -> None:
    """Raises Failure where Parquet is asked for and cannot be written."""
    if form == "parquet":
        _pyarrow()


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow  # here: it is large, and optional
        from pyarrow import parquet
    except ImportError:
        raise Failure("Parquet needs pyarrow: install it with `pip install 'leadway-calls[parquet]'`") from None
    return pyarrow, parquet


class ExportedFile:
    """`with ExportedFile(folder, "calls", columns, form="csv") as file: file.add(rows)`; afterwards `facts`.

    The file appears at the end of the block, if that does not fail. Only its owner may read it.
    """

    def __init__(self, folder: Path, view: str, columns: Sequence[str], *, form: str) -> None:
        """Raises OSError."""
        self._view, self._columns, self._rows = view, columns, 0
        self.path = folder / f"{view}.{form}"
        self._unfinished = self.path.with_name(self.path.name + UNFINISHED)
        self._unfinished.touch(mode=0o600)
        self._file = self._unfinished.open("wb")
        self._writer = (
            _Parquet(self._unfinished, columns) if form == "parquet" else Lines(self._file.write, columns, form=form)
        )

    def add(self, rows: Sequence[Row]) -> None:
        self._rows += len(rows)
        self._writer.add(rows)

    @property
    def facts(self) -> dict[str, Any]:
        """What the manifest tells of it."""
        with self.path.open("rb") as file:
            checksum = hashlib.file_digest(file, "sha256").hexdigest()
            return {
                "view": self._view, "file": self.path.name, "rows": self._rows, "bytes": file.tell(),
                "sha256": checksum, "columns": {name: str(type_of(name)) for name in self._columns},
            }  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._writer.close()
        self._file.close()
        if kind is None:
            self._unfinished.replace(self.path)
        else:
            self._unfinished.unlink(missing_ok=True)


def _csv(rows: Iterable[Sequence[Any]]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _in_csv(name: str, value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else _in_json(name, value)


def _in_json(name: str, value: Any) -> Any:
    if type_of(name) is Type.JSON:
        return _as_text(value)
    return value.isoformat() if isinstance(value, datetime | date) else value


def _as_text(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False)
