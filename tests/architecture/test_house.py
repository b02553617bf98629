"""Habits of the house that no linter knows: each is a rule over text or syntax tree, and each is shown to fire."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINE_LIMIT = 450
PAGES = sorted(path for path in (ROOT / "pages").glob("*.py") if path.name != "__init__.py")
PRODUCT = sorted(
    [ROOT / "app.py", *(path for name in ("credit_core", "pages") for path in (ROOT / name).rglob("*.py"))]
)
TEXT = {".py", ".md", ".toml", ".txt", ".in", ".yaml", ".yml", ".ini", ".mako", ".csv", ""}
OURS = [path for path in ROOT.iterdir() if not path.name.startswith(".") or path.name in (".ci", ".streamlit")]
EVERY_TEXT = sorted(
    file
    for path in OURS
    for file in ([path] if path.is_file() else path.rglob("*"))
    if file.is_file() and file.suffix in TEXT and "__pycache__" not in file.parts and "node_modules" not in file.parts
)
#: Split, so that this file passes its own rules.
PLACEHOLDERS = ("TO" + "DO", "FIX" + "ME", "X" + "XX")
HOME = re.compile(r"(?<![\w.])/(?:home|Users|root)/[A-Za-z0-9_.-]+")


# ---------------------------------------------------------------------------------------------------------------- rules


def lines_over_limit(source: str) -> list[str]:
    """A file that wants splitting."""
    count = len(source.splitlines())
    return [f"{count} lines, at most {LINE_LIMIT}"] if count > LINE_LIMIT else []


def unsafe_html(source: str) -> list[str]:
    """Raw HTML handed to the browser: user text would become markup."""
    return [line for line in source.splitlines() if "unsafe_allow_html" in line or "allow_unsafe_html" in line]


def naive_instants(source: str) -> list[str]:
    """``datetime.now()`` without a zone, ``utcnow``, ``utcfromtimestamp``, ``date.today``."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        name, owner = node.func.attr, ast.unparse(node.func.value)
        of_datetime = owner.split(".")[-1] in ("datetime", "date", "dt", "Timestamp")
        zoned = bool(node.args or node.keywords)
        if name in ("utcnow", "utcfromtimestamp") or (of_datetime and name in ("now", "today") and not zoned):
            found.append(f"line {node.lineno}: {ast.unparse(node)}")
    return found


def placeholders(source: str) -> list[str]:
    """Work that was put off in a comment."""
    return [line for line in source.splitlines() if any(re.search(rf"\b{word}\b", line) for word in PLACEHOLDERS)]


def home_paths(source: str) -> list[str]:
    """A path that exists on one person's machine."""
    return [line for line in source.splitlines() if HOME.search(line)]


def guard_missing(source: str) -> list[str]:
    """The first statement after docstring and imports must call ``guard`` of pages.components.session."""
    body = ast.parse(source).body
    spelled = {
        "session.guard" if alias.name == "session" else "guard"
        for node in body
        if isinstance(node, ast.ImportFrom) and not node.level
        for alias in node.names
        if alias.asname is None
        and f"{node.module}.{alias.name}" in ("pages.components.session", "pages.components.session.guard")
    }
    is_docstring = ast.get_docstring(ast.Module(body, [])) is not None
    rest = [node for node in body[is_docstring:] if not isinstance(node, ast.Import | ast.ImportFrom)]
    first = rest[0] if rest else None
    value = first.value if isinstance(first, ast.Expr | ast.Assign | ast.AnnAssign) else None
    guarded = isinstance(value, ast.Call) and ast.unparse(value.func) in spelled
    return [] if guarded else ["does not begin with guard() of pages.components.session"]


def url_paths(source: str) -> dict[str, str]:
    """Stem of each page file that ``source`` lists by ``st.Page("pages/….py", url_path="…")`` → its address.

    The default page's is empty; a page that names none is served under its stem.
    """
    listed: dict[str, str] = {}
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not ast.unparse(node.func).endswith("Page") or not node.args:
            continue
        stem = Path(ast.literal_eval(node.args[0])).stem
        told = {k.arg: ast.literal_eval(k.value) for k in node.keywords if k.arg in ("url_path", "default")}
        listed[stem] = "" if told.get("default") else told.get("url_path", stem)
    return listed


# ------------------------------------------------------------------------------------------------------------- the tree


def test_the_product_has_no_file_that_wants_splitting() -> None:
    # A revision lists every table of the schema: it grows with the schema, and is read from top to bottom once.
    assert offences(lines_over_limit, [path for path in PRODUCT if path.parent.name != "versions"]) == {}


@pytest.mark.parametrize("rule", [naive_instants, placeholders], ids=lambda rule: rule.__name__.replace("_", " "))
def test_the_product_is_free_of(rule: Callable[[str], list[str]]) -> None:
    assert offences(rule, PRODUCT) == {}


def test_the_tests_keep_their_clocks_aware_and_nothing_put_off() -> None:
    files = sorted((ROOT / "tests").rglob("*.py"))
    assert offences(naive_instants, [f for f in files if f != Path(__file__)]) == {}
    assert offences(placeholders, files) == {}


def test_no_page_hands_html_to_the_browser() -> None:
    files = [path for path in PRODUCT if path == ROOT / "app.py" or "pages" in path.parts]
    assert offences(unsafe_html, files) == {}


def test_no_file_names_a_home_folder() -> None:
    assert offences(home_paths, EVERY_TEXT) == {}


@pytest.mark.parametrize("lock", ["requirements.txt", "requirements-dev.txt"])
def test_a_lock_pins_every_package_and_names_no_index(lock: str) -> None:
    lines = (line.split("#")[0].strip() for line in (ROOT / lock).read_text("utf-8").splitlines())
    assert [line for line in lines if line and not re.fullmatch(r"[a-z0-9.-]+==[A-Za-z0-9.+!]+", line)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_a_page_begins_with_the_guard(page: Path) -> None:
    assert guard_missing(page.read_text("utf-8")) == []


def test_app_lists_every_page_under_an_address_unlike_any_stem() -> None:
    listed = url_paths((ROOT / "app.py").read_text("utf-8"))
    assert listed
    assert sorted(listed) == [page.stem for page in PAGES]
    # Streamlit also serves pages/<stem>.py at /<stem>, without app.py: an equal address could skip the sign-in.
    assert set(listed.values()).isdisjoint(listed)
    assert len(set(listed.values())) == len(listed)


# ---------------------------------------------------------------------------------------------------------- rules fire


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (lines_over_limit, "x = 1\n" * (LINE_LIMIT + 1)),
        (unsafe_html, "st.markdown(text, unsafe_allow_html=True)"),
        (naive_instants, "datetime.now()"),
        (naive_instants, "dt.datetime.utcnow()"),
        (naive_instants, "date.today()"),
        (placeholders, f"x = 1  # {PLACEHOLDERS[0]} later"),
        (home_paths, "data = '/ho" + "me/someone/ledger.db'"),
        (guard_missing, "import streamlit as st\n\nst.title('x')\n"),
        (guard_missing, "from pages.components.session import guard\n\nst.title('x')\nguard()\n"),
        (guard_missing, "def guard(): ...\n\nguard()\n"),
        (guard_missing, "from pages.components import session\n\nsession.core()\n"),
        (guard_missing, "import session\n\nsession.guard()\n"),
        (guard_missing, "from pages.components import session\n\nif ready:\n    session.guard()\n"),
        (guard_missing, "from pages.components.session import guard\n"),
    ],
)
def test_a_rule_finds_its_offence(rule: Callable[[str], list[str]], source: str) -> None:
    assert rule(source)


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (naive_instants, "datetime.now(UTC)"),
        (naive_instants, "clock.now()"),
        (home_paths, "see https://example.com/home/page"),
        (guard_missing, '"""Doc."""\nimport x\nfrom pages.components.session import guard\n\nguard()\n'),
        (guard_missing, "from pages.components import filters, session\n\nsession.guard()\n"),
        (guard_missing, "from pages.components.session import guard\n\noperator = guard()\n"),
    ],
)
def test_a_rule_passes_what_is_right(rule: Callable[[str], list[str]], source: str) -> None:
    assert not rule(source)


def test_addresses_are_read_from_the_page_list() -> None:
    source = """
st.navigation({
    "Watch": [st.Page("pages/overview.py", default=True), st.Page("pages/users.py", title="Users", url_path="people")],
    "Tune": [st.Page("pages/lab.py")],
})
"""
    assert url_paths(source) == {"overview": "", "users": "people", "lab": "lab"}


def offences(rule: Callable[[str], list[str]], files: list[Path]) -> dict[str, list[str]]:
    """What ``rule`` finds, by file."""
    found = {str(path.relative_to(ROOT)): rule(path.read_text("utf-8")) for path in files}
    return {path: lines for path, lines in found.items() if lines}
