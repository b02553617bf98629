"""Every page on every ledger: it stands, it is named, and an empty ledger is told as such with what fills it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.pages.conftest import OpenPage

TITLES = {
    "overview": "Overview", "burn_rate": "Burn rate", "coverage": "Coverage", "surplus": "Surplus", "economics": "Economics",
    "operations": "Operations", "explore": "Explore", "users": "Users", "integrity": "Integrity",
}  # fmt: skip
#: How a page is opened beside its plain address.
ASKED: dict[str, dict[str, str]] = {
    "explore": {"metric": "Requests", "by": "Genre", "then": "Mood", "chart": "Heat map"},
    "users": {"user": "anybody"},
}


def each(*ways: str) -> Iterator[Any]:
    """Every page in these ways, on the worker of the page's own tests: what was opened there is not opened again."""
    for stem in TITLES:
        group = pytest.mark.xdist_group(f"pages/test_{stem}")
        for way in ways:
            query = {"plain": {}, "asked": ASKED.get(stem), "cycle": {"period": "cycle"} | ASKED.get(stem, {})}[way]
            if query is not None:
                yield pytest.param(stem, query, marks=group, id=f"{stem}-{way}")


@pytest.mark.parametrize(("stem", "query"), list(each("plain", "asked")))
def test_it_renders_on_any_ledger(any_ledger: str, look_at: OpenPage, stem: str, query: dict[str, str]) -> None:
    page = look_at(any_ledger, stem, query)

    assert not page.exception
    assert page.title[0].value == TITLES[stem]


@pytest.mark.parametrize(("stem", "query"), list(each("plain", "cycle")))
def test_an_empty_ledger_says_what_fills_it(
    empty_ledger: str, look_at: OpenPage, stem: str, query: dict[str, str]
) -> None:
    page = look_at(empty_ledger, stem, query)

    assert not page.exception
    assert "python -m credit_core demo" in page.code[0].value
    assert not page.metric
    assert not page.get("plotly_chart")
