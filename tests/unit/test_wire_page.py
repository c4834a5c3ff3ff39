"""docs/wire.md and the tests of its rows say the same."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: The rows of the list of cases; the numbers between them were never given.
NUMBERS = (
    *(1, 2, 4, 5, 6, 8, 9, 10, 11, 13, 14, 15),
    *(20, 21, 22, 23, 25, 26, 27, 28, 29, 30, 32, 33),
    *(40, 41, 42, 43, 44, 45, 47, 48, 49, 50),
    *(60, 62, 63, 64, 65, 66, 67, 68, 69),
    *(80, 81, 82, 84, 85, 86, 87, 88, 89, 90, 91, 92, 93, 95),
    *(100, 101, 102, 105, 106),
)
_ROW = re.compile(r"\| A(\d+) \|[^|]*\|[^|]*\|([^|]*)\|([^|]*)\|")
_TEST = re.compile(r"test_wire_a(\d+)_\w+")


def page():
    """The rows of the page: number, names of tests, remark."""
    lines = (ROOT / "docs" / "wire.md").read_text().splitlines()
    rows = [_ROW.fullmatch(line) for line in lines if line.startswith("| A")]
    return [(int(row[1]), re.findall(r"`(\w+)`", row[2]), row[3].strip()) for row in rows]


def row_tests(folder):
    """The names of the tests of rows below a folder."""
    trees = (ast.parse(path.read_text()) for path in (ROOT / folder).rglob("test_*.py"))
    functions = (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef))
    return [node.name for node in functions if node.name.startswith("test_wire_")]


def row_of(name):
    """The number in the name of a test."""
    return int(_TEST.fullmatch(name)[1])


def test_every_row_has_its_place_on_the_page():
    """Each number of the list stands there once, in order, with a test."""
    assert [number for number, _, _ in page()] == list(NUMBERS)
    assert [number for number, named, _ in page() if not named] == []


def test_the_page_names_what_there_is():
    """Every test of the folder stands in the row of its number, others may; none is named that does not exist."""
    named = [name for _, names, _ in page() for name in names]
    assert [(number, name) for number, names, _ in page() for name in names if row_of(name) != number] == []
    assert len(set(named)) == len(named)
    assert set(row_tests("tests/e2e/wire")) <= set(named) <= set(row_tests("tests"))


def test_every_test_of_a_row_has_a_number_of_the_list():
    """No test claims a row that there is not."""
    assert {row_of(name) for name in row_tests("tests")} == set(NUMBERS)
