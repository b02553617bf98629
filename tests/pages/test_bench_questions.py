"""The bench asks what the pages ask: a page that asks one thing more is measured with it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from inspect import getclosurevars
from typing import Any

import pytest

from credit_core.analytics.filters import Filters
from credit_core.bench import questions
from credit_core.policy.config import Config
from credit_core.service import catalog
from credit_core.settings import catalog_folder
from pages.components.kept import Kept
from tests.pages.conftest import OpenPage

#: By the bench's names, those of the pages' files.
FILES = {"burn": "burn_rate"}
#: What the filters in the sidebar ask, on every page alike.
FILTERS = {"credit_core.analytics.queries.overview.entries_by_plan"}
PAGES = questions.pages(
    questions.Terms(Config(), catalog.read(catalog_folder()).catalog, 1, datetime(2025, 4, 2, tzinfo=UTC), "basic")
)


@pytest.mark.parametrize("page", PAGES)
def test_the_bench_asks_what_the_page_asks(
    demo_ledger: str, open_page: OpenPage, monkeypatch: pytest.MonkeyPatch, page: str
) -> None:
    asked: set[tuple[str, Filters]] = set()
    get = Kept.get

    def noted(kept: Kept, question: Any, make: Callable[[], Any], *rest: Any) -> Any:
        if isinstance(question, tuple) and len(question) == 5:
            _, module, name, *_ = question
            asked.add((f"{module}.{name}", getclosurevars(make).nonlocals["arguments"][0]))
        return get(kept, question, make, *rest)

    monkeypatch.setattr(Kept, "get", noted)
    shown = open_page(demo_ledger, FILES.get(page, page))
    assert not shown.exception
    whole = next(filters for _, filters in asked if filters.compare is not None)
    before = whole.compared()
    assert before is not None
    times = {(one.period, one.compare): of for one, of in (
        (whole, "period"), (before, "before"), (whole.at_end(), "end"), (before.at_end(), "before end"),
    )}  # fmt: skip
    known = {(one.name, one.of) for one in PAGES[page].whole}
    assert {(name, times[one.period, one.compare]) for name, one in asked if name not in FILTERS} == known
