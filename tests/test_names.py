"""A public name means one thing: no class, constant or type is defined in two modules of the product."""

import ast
from collections import defaultdict
from collections.abc import Iterator

from tests.support.processes import ROOT

PACKAGES = ("models", "workers", "webhook")
MAY_REPEAT = {"REFRESH_SECONDS": "each page under /ops/ reloads itself in its own rhythm"}
"""Name: the reason why several modules define it."""


def test_no_public_name_is_defined_in_two_modules() -> None:
    modules: defaultdict[str, list[str]] = defaultdict(list)
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for name in set(_defined(ast.parse(path.read_text()).body)):
                modules[name].append(str(path.relative_to(ROOT)))

    assert len(modules) > 300, "the modules were found"
    repeated = {name: places for name, places in modules.items() if len(places) > 1 and name not in MAY_REPEAT}
    assert repeated == {}


def _defined(statements: list[ast.stmt]) -> Iterator[str]:
    """Names of classes, constants and types. A single capital letter is a type variable, which each module has anew."""
    for statement in statements:
        match statement:
            case ast.ClassDef(name=name):
                names = [name]
            case ast.Assign(targets=targets):
                names = [target.id for target in targets if isinstance(target, ast.Name)]
            case ast.AnnAssign(target=ast.Name(id=name)):
                names = [name]
            case ast.If(body=body, orelse=orelse):
                names = [*_defined(body), *_defined(orelse)]
            case _:
                names = []
        yield from (name for name in names if name[0].isupper() and len(name) > 1)
