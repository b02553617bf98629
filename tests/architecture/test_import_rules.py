"""The import rules hold on the tree, and each can fail: a planted import breaks its contract."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DECLARED = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
CONTRACTS = [contract["name"] for contract in DECLARED]

DOWN = "Imports point down"
STREAMLIT = "Streamlit stays out of the core"
SQL = "SQLAlchemy only in store and analytics"
NUMBA = "Numba only in lab"
POLICY = "Policy is pure"
CHARTS = "Charts are functions of data frames"
PAGES = "Pages ask a service or a query, never the store"

#: contract, the module that offends, the import that offends
PLANTS = [
    (DOWN, "credit_core/errors", "import credit_core.policy"),
    (DOWN, "credit_core/policy/planted", "import credit_core.store"),
    (DOWN, "credit_core/store/planted", "import credit_core.analytics"),
    (DOWN, "credit_core/analytics/planted", "import credit_core.service"),
    (DOWN, "credit_core/service/planted", "import credit_core.importers"),
    (DOWN, "credit_core/lab/planted", "import credit_core.service"),
    (DOWN, "credit_core/service/planted", "import credit_core.lab"),
    (DOWN, "credit_core/importers/planted", "import credit_core.cli"),
    (STREAMLIT, "credit_core/service/planted", "import streamlit"),
    (STREAMLIT, "credit_core/cli", "import app"),
    (STREAMLIT, "credit_core/cli", "from pages.components import charts"),
    (SQL, "credit_core/service/planted", "from sqlalchemy import select"),
    (SQL, "credit_core/importers/planted", "import sqlalchemy.orm"),
    (NUMBA, "credit_core/policy/planted", "from numba import njit"),
    (NUMBA, "pages/overview", "import numba"),
    (POLICY, "credit_core/policy/planted", "import time"),
    (POLICY, "credit_core/policy/planted", "import sqlite3"),
    (POLICY, "credit_core/policy/planted", "from pathlib import Path"),
    (CHARTS, "pages/components/charts", "import streamlit"),
    (CHARTS, "pages/components/charts", "import credit_core.store"),
    (PAGES, "pages/overview", "from credit_core import store"),
    (PAGES, "pages/components/session", "import sqlalchemy"),
]
#: what app.py, which import-linter cannot see, must leave to the pages and the services
NOT_IN_APP = ("credit_core.store", "credit_core.policy", "credit_core.analytics", "sqlalchemy", "numba")


def test_the_tree_keeps_every_contract() -> None:
    verdicts, output = lint(ROOT)
    assert verdicts == dict.fromkeys(CONTRACTS, "KEPT"), output


def test_every_module_of_the_core_has_its_layer() -> None:
    layers = next(contract["layers"] for contract in DECLARED if contract["name"] == DOWN)
    placed = set(re.findall(r"credit_core\.(\w+)", " ".join(layers)))
    there = {path.stem for path in (ROOT / "credit_core").iterdir() if path.suffix == ".py" or any(path.glob("*.py"))}
    assert there - placed - {"__init__", "__main__"} == set()


def test_every_contract_has_a_planted_violation() -> None:
    assert {contract for contract, _, _ in PLANTS} == set(CONTRACTS)


@pytest.mark.parametrize(("contract", "module", "offence"), PLANTS, ids=[f"{m}: {o}" for _, m, o in PLANTS])
def test_a_planted_import_breaks_its_contract(contract: str, module: str, offence: str, tmp_path: Path) -> None:
    copy_tree(tmp_path)
    plant(tmp_path, module, offence)
    verdicts, output = lint(tmp_path)
    assert verdicts.get(contract) == "BROKEN", output


def test_lab_may_use_numba(tmp_path: Path) -> None:
    copy_tree(tmp_path)
    plant(tmp_path, "credit_core/lab/planted", "import numba")
    verdicts, output = lint(tmp_path)
    assert verdicts.get(NUMBA) == "KEPT", output


def test_app_only_lists_pages() -> None:
    assert forbidden_in_app((ROOT / "app.py").read_text("utf-8")) == []


@pytest.mark.parametrize(
    "offence",
    ["import sqlalchemy as sa", "from credit_core import store", "from credit_core.store.schema import entries"],
)
def test_a_planted_import_in_app_is_found(offence: str) -> None:
    assert forbidden_in_app(f"import streamlit as st\n{offence}\n")


def forbidden_in_app(source: str) -> list[str]:
    """What ``source`` imports of NOT_IN_APP."""
    imported: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            imported += [f"{node.module}.{alias.name}" for alias in node.names]
    return [name for name in imported if any(f"{name}.".startswith(f"{banned}.") for banned in NOT_IN_APP)]


def copy_tree(target: Path) -> None:
    """The linted tree, and nothing else, under ``target``."""
    for name in ("credit_core", "pages"):
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("app.py", "pyproject.toml"):
        shutil.copy(ROOT / name, target / name)
    # Rules about `lab` are tried whether or not there is one yet.
    lab = target / "credit_core" / "lab"
    lab.mkdir(exist_ok=True)
    (lab / "__init__.py").touch()


def plant(tree: Path, module: str, offence: str) -> None:
    """Append ``offence`` to ``module``, a file or a package, which is made where it is not there."""
    path = tree / module
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    with file.open("a", encoding="utf-8") as source:
        source.write(f"\n{offence}\n")


def lint(tree: Path) -> tuple[dict[str, str], str]:
    """Verdict by contract, and all that import-linter said, on the tree at ``tree``."""
    # A process of its own: modules are found by name, and this one has imported the real ones.
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as main; main()", "--no-cache"],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    output = done.stdout + done.stderr
    verdicts = dict(re.findall(r"^(.+?) (KEPT|BROKEN)(?: \(.*\))?$", output, re.MULTILINE))
    assert (done.returncode == 0) == (set(verdicts.values()) == {"KEPT"}), output
    return verdicts, output
