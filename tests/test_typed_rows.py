"""What leaves a query is typed: a dataclass with the columns of its table, which mypy checks, and never a mapping."""

import ast
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import sqlalchemy as sa

from models.accounts.accounts import Account, accounts_table
from models.accounts.pauses import Pause, pauses_table
from models.calls.calls import Call, CallAction, call_actions_table, calls_table
from models.database import UtcDateTime
from models.follow_ups.follow_ups import FollowUp, follow_ups_table
from models.intake.notifications import StoredNotification, notifications_table
from models.intake.rejection_counts import RejectionCount, rejection_counts_table
from models.schema import metadata
from models.work.history import Attempt, attempts_table
from tests.support.processes import ROOT

ROW_TYPES = (
    (Account, accounts_table),
    (Attempt, attempts_table),
    (Call, calls_table),
    (CallAction, call_actions_table),
    (FollowUp, follow_ups_table),
    (Pause, pauses_table),
    (RejectionCount, rejection_counts_table),
    (StoredNotification, notifications_table),
)
PYTHON_TYPES = {
    sa.Text: str, sa.Integer: int, sa.Float: float, sa.Boolean: bool, UtcDateTime: datetime,
    sa.JSON: Mapping[str, Any],
}  # fmt: skip
JSON_BORDER = {"workers/leadway/documents.py"}
HOLDS_MAPPINGS = {
    "models/calls/listed_calls.py", "workers/attempts/attempt.py",
    "workers/attempts/storing.py", "workers/fetch_call.py", "workers/follow_ups/wording.py",
    "workers/reconciling/close_window.py", "workers/reconciling/take_in_listed.py", "workers/send_follow_up.py",
}  # fmt: skip
"""Modules that still pass rows as mappings."""


@pytest.mark.parametrize(("row_type", "table"), ROW_TYPES)
def test_a_row_type_says_of_each_column_what_it_holds_and_whether_it_may_be_null(
    row_type: type, table: sa.Table
) -> None:
    for name, hint in get_type_hints(row_type).items():
        column = table.c[name]
        kind: Any = next(kind for of, kind in PYTHON_TYPES.items() if isinstance(column.type, of))
        assert hint == (kind | None if column.nullable else kind), name


def test_no_row_crosses_a_module_border_as_a_mapping() -> None:
    found = {}
    for package in ("models", "workers", "webhook"):
        for path in sorted((ROOT / package).rglob("*.py")):
            name = str(path.relative_to(ROOT))
            if name not in HOLDS_MAPPINGS | JSON_BORDER and (
                lines := [*_untyped(path, inside_models=package == "models")]
            ):
                found[name] = lines
    assert found == {}


def test_every_module_that_may_still_pass_mappings_does() -> None:
    typed = {name for name in HOLDS_MAPPINGS if not [*_untyped(ROOT / name, inside_models=name.startswith("models/"))]}
    assert typed == set()


def _untyped(path: Path, *, inside_models: bool) -> Iterator[str]:
    """Places where rows are mappings: SQLAlchemy's own types in what others see, a column read by its name."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if inside_models and (isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")):
            yield from (f"{path.name}:{node.lineno}" for hint in _hints(node) if _names(hint) & {"RowMapping", "Row"})
    if not inside_models:
        yield from _names(tree) & {"RowMapping", "_mapping", "mappings"}
        yield from (f"{path.name}:{line}" for line in _column_lookups(tree))


def _names(node: ast.AST) -> set[str]:
    names = (each for each in ast.walk(node) if isinstance(each, ast.Name | ast.Attribute))
    return {each.id if isinstance(each, ast.Name) else each.attr for each in names}


def _hints(node: ast.FunctionDef | ast.ClassDef) -> list[ast.expr]:
    """The annotations of a signature, or of a class's fields."""
    if isinstance(node, ast.ClassDef):
        return [each.annotation for each in node.body if isinstance(each, ast.AnnAssign)]
    arguments = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
    return [hint for hint in (node.returns, *(each.annotation for each in arguments)) if hint is not None]


def _column_lookups(tree: ast.AST) -> Iterator[int]:
    """Lines with `x["column"]`, but of a function's own `**x`."""
    options = {node.kwarg.arg for node in ast.walk(tree) if isinstance(node, ast.arguments) and node.kwarg}
    columns = {column.name for table in metadata.tables.values() for column in table.columns}
    for node in ast.walk(tree):
        match node:
            case ast.Subscript(value=ast.Name(id=name)) if name in options:
                continue
            case ast.Subscript(slice=ast.Constant(value=str(name)), lineno=line) if name in columns:
                yield line
