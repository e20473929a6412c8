"""The mutations of the crash matrix keep up with the code: that is noticed here, at once, and not when they run."""

import ast

import pytest

from tests.crash.cells import QUICK, cells_named
from tests.crash.mutations import MUTATIONS, TESTS, Mutation, mutated
from tests.support.processes import ROOT


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_every_mutation_finds_its_place_once_and_leaves_code_that_can_be_read(mutation: Mutation) -> None:
    assert ast.dump(ast.parse(mutated(ROOT, mutation))) != ast.dump(ast.parse((ROOT / mutation.file).read_text()))


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_every_mutation_is_caught_by_cells_or_tests_that_every_change_has_to_pass(mutation: Mutation) -> None:
    tests = (ROOT / TESTS).read_text()
    assert mutation.cells or mutation.tests
    assert set(mutation.cells) <= set(QUICK)
    assert all(f"def {test}(" in tests for test in mutation.tests)


def test_the_quick_cells_are_cells_of_the_matrix() -> None:
    assert [cell.name for cell in cells_named(QUICK)] == list(QUICK)


def test_a_mutation_whose_text_is_gone_fails_aloud() -> None:
    gone = Mutation("gone", "models/work/lifecycle.py", "no such text", "", ())
    with pytest.raises(LookupError, match="0 times"):
        mutated(ROOT, gone)
