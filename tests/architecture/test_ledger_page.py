"""The page that names a test for each rule of the ledger: the tests are there, and no rule stands without one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "ledger.md"
PROOFS = "## What proves each rule"
#: The one section whose rules may still be without a test.
WAITING = "Not there yet"
NONE_YET = "—"
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def named_in(path: Path) -> set[str]:
    """The test functions of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def rows_of(page: str) -> list[tuple[str, list[str]]]:
    """Section and cells of each row of the tables that name tests."""
    rows, section = [], ""
    for line in page.split(f"\n{PROOFS}\n", 1)[-1].splitlines():
        if line.startswith("### "):
            section = line.removeprefix("### ")
        elif line.startswith("|") and not line.startswith(("|---", "| rule |", "| fault |")):
            rows.append((section, [cell.strip() for cell in line.strip("|").split("|")]))
    return rows


def faults_of(page: str, root: Path = ROOT) -> list[str]:
    """What is wrong with the tables, row by row."""
    found = []
    for section, cells in rows_of(page):
        rule, test = (*cells, "", "")[:2]
        named = NAMED.fullmatch(test)
        if len(cells) != 2 or not rule:
            found.append(f"{section}: a row is not a rule and a test: {cells}")
        elif test == NONE_YET and section == WAITING:
            continue
        elif named is None:
            found.append(f"{section}: {rule}: names no test")
        elif not (root / named[1]).is_file() or named[2] not in named_in(root / named[1]):
            found.append(f"{section}: {rule}: there is no {named[1]}::{named[2]}")
    return found


def test_every_rule_names_a_test_that_is_there() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert faults_of(page) == []
    assert len(rows_of(page)) > 100
    rules = [(section, cells[0]) for section, cells in rows_of(page)]
    assert len(set(rules)) == len(rules)


@pytest.mark.parametrize(
    ("section", "row", "said"),
    [
        ("Cycles", "| a rule |  |", "names no test"),
        ("Cycles", "| a rule | — |", "names no test"),
        ("Cycles", "| a rule | somewhere |", "names no test"),
        ("Cycles", "|  | `tests/architecture/test_ledger_page.py::test_a_bad_row_is_found` |", "is not a rule"),
        ("Cycles", "| a rule | one | two |", "is not a rule"),
        ("Cycles", "| a rule | `tests/architecture/test_ledger_page.py::test_gone` |", "there is no"),
        ("Cycles", "| a rule | `tests/architecture/test_gone.py::test_a_bad_row_is_found` |", "there is no"),
        (WAITING, "| a rule |  |", "names no test"),
        (WAITING, "| a rule | `tests/architecture/test_ledger_page.py::test_gone` |", "there is no"),
    ],
)
def test_a_bad_row_is_found(section: str, row: str, said: str) -> None:
    (found,) = faults_of(f"\n{PROOFS}\n\n### {section}\n\n| rule | test |\n|---|---|\n{row}\n")
    assert said in found


def test_a_good_row_is_let_through() -> None:
    row = "| a rule | `tests/architecture/test_ledger_page.py::test_a_good_row_is_let_through` |"
    assert faults_of(f"\n{PROOFS}\n\n### Cycles\n\n{row}\n\n### {WAITING}\n\n| a rule | — |\n") == []
