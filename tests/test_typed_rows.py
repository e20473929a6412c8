"""What leaves a query is typed: a dataclass with the columns of its table, which mypy checks, and never a mapping."""

import ast
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from enum import StrEnum
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_type_hints

import pytest
import sqlalchemy as sa

from models.accounts.accounts import Account, accounts_table
from models.accounts.pauses import Pause, pauses_table
from models.calls.calls import Call, CallAction, call_actions_table, calls_table
from models.database import UtcDateTime
from models.follow_ups.follow_ups import FollowUp, follow_ups_table
from models.intake.notifications import StoredNotification, notifications_table
from models.intake.rejection_counts import RejectionCount, rejection_counts_table
from models.reconciling.windows import Window, reconciliations_table
from models.schema import metadata
from models.work.history import EndedAttempt, attempts_table
from tests.support.processes import ROOT

ROW_TYPES = (
    (Account, accounts_table),
    (Call, calls_table),
    (CallAction, call_actions_table),
    (EndedAttempt, attempts_table),
    (FollowUp, follow_ups_table),
    (Pause, pauses_table),
    (RejectionCount, rejection_counts_table),
    (StoredNotification, notifications_table),
    (Window, reconciliations_table),
)
PYTHON_TYPES = {
    sa.Text: str, sa.Integer: int, sa.Float: float, sa.Boolean: bool, sa.Date: date, UtcDateTime: datetime,
    sa.JSON: Mapping[str, Any],
}  # fmt: skip
JSON_BORDER = {"workers/leadway/documents.py", "workers/process/task_messages.py"}


@pytest.mark.parametrize(("row_type", "table"), ROW_TYPES)
def test_a_row_type_says_of_each_column_what_it_holds_and_whether_it_may_be_null(
    row_type: type, table: sa.Table
) -> None:
    for name, hint in get_type_hints(row_type).items():
        column = table.c[name]
        kind: Any = next(kind for of, kind in PYTHON_TYPES.items() if isinstance(column.type, of))
        told = set(get_args(hint)) if isinstance(hint, UnionType) else {hint}
        assert {_stored_as(each) for each in told} == {kind} | ({type(None)} if column.nullable else set()), name


def _stored_as(hint: Any) -> Any:
    """A state is stored as its text."""
    return str if isinstance(hint, type) and issubclass(hint, StrEnum) else hint


def test_no_row_crosses_a_module_border_as_a_mapping() -> None:
    found = {}
    for package in ("models", "workers", "webhook"):
        for path in sorted((ROOT / package).rglob("*.py")):
            name = str(path.relative_to(ROOT))
            lines = [*_untyped(path, inside_models=package == "models")]
            if lines and name not in JSON_BORDER:
                found[name] = lines
    assert found == {}


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
