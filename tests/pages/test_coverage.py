"""Coverage: misses by cell, by plan and by day add up to the ledger's, and a cell narrows to its own."""

from __future__ import annotations

import pytest

from pages.components import numbers
from tests.pages.conftest import DEMO_ZONE, HOSTILE, NARROWED, OpenPage
from tests.pages.reading import (
    JUDGED,
    Kept,
    card,
    drawn_text,
    figure,
    figures,
    filters_of,
    last_days,
    ledger_sum,
    markdown_of,
    rows,
    sentence,
    traces,
    words,
)

MISSES = f"SUM({JUDGED} AND miss)"
ASKED = f"SUM({JUDGED} AND genre IS NOT NULL)"


@pytest.mark.parametrize(("query", "kept", "days"), NARROWED)
def test_misses_are_the_ledgers_own(
    demo_ledger: str, look_at: OpenPage, query: dict[str, str], kept: Kept, days: int
) -> None:
    span = last_days(demo_ledger, days, DEMO_ZONE)
    missed = ledger_sum(demo_ledger, MISSES, kept, *span)
    judged = ledger_sum(demo_ledger, f"SUM({JUDGED})", kept, *span)

    page = look_at(demo_ledger, "coverage", query)

    assert (filters_of(page).period.start, filters_of(page).period.end) == span
    assert card(page, "Misses") == numbers.count(missed)
    assert card(page, "Miss rate") == numbers.share(missed / judged)
    table = rows(page, "Coverage threshold and misses by plan.")
    by_plan = dict(zip(table["plan"], table["misses"], strict=True))
    assert by_plan == ledger_sum(demo_ledger, MISSES, kept, *span, by="plan")


def test_demand_on_the_map_is_every_decision_that_named_a_cell(demo_ledger: str, look_at: OpenPage) -> None:
    span = last_days(demo_ledger, 28, DEMO_ZONE)

    page = look_at(demo_ledger, "coverage", {"measure": "Demand"})

    asked = ledger_sum(demo_ledger, ASKED, {}, *span, by="genre || ' × ' || mood")
    (shown,) = traces(figure(page, "cells"), "scatter")
    hover = dict(zip([" × ".join(cell) for cell in shown["customdata"]], shown["hovertext"], strict=True))
    for cell, requests in asked.items():
        if requests:
            assert f"in {numbers.count(requests)} request" in hover[cell]


def test_misses_by_day_add_up_for_the_cells_shown(demo_ledger: str, look_at: OpenPage) -> None:
    span = last_days(demo_ledger, 90, DEMO_ZONE)

    page = look_at(demo_ledger, "coverage", {"period": "90d"})

    missed = ledger_sum(demo_ledger, MISSES, {}, *span, by="genre || ' × ' || mood")
    bars = traces(figure(page, "misses"), "bar")
    assert bars
    for bar in bars:
        assert sum(value for value in bar["y"] if value is not None) == missed[bar["name"]]


def test_a_cell_in_the_url_shows_its_own_course(demo_ledger: str, look_at: OpenPage) -> None:
    span = last_days(demo_ledger, 28, DEMO_ZONE)
    asked = ledger_sum(demo_ledger, ASKED, {}, *span, by="genre || ' × ' || mood")
    cell = max((name for name in asked if name), key=lambda name: asked[name])

    page = look_at(demo_ledger, "coverage", {"cell": cell})

    assert page.selectbox(key="cell").value == cell
    (course,) = (line for line in figure(page, "cell_demand")["data"] if line.get("name"))
    assert sum(value for value in course["y"] if value is not None) == asked[cell]


def test_the_way_back_shows_all_cells(demo_ledger: str, open_page: OpenPage) -> None:
    page = open_page(demo_ledger, "coverage")
    cell = page.selectbox(key="cell").options[1]
    page.selectbox(key="cell").select(cell).run()

    page.button(key="to_all_cells").click().run()

    assert page.selectbox(key="cell").value == "All cells"
    assert not any(button.key == "to_all_cells" for button in page.button)


def test_filling_the_queue_tells_the_share_of_misses(hostile_ledger: str, look_at: OpenPage) -> None:
    page = look_at(hostile_ledger, "coverage", {"fill": "3"})

    queue = rows(page, "pantry")
    share = queue["misses"].head(3).sum() / int(card(page, "Misses").replace(numbers.THIN, ""))
    assert page.slider(key="fill").value == 3
    assert queue["cum_miss_share"].iloc[2] == pytest.approx(share, abs=1e-12)
    assert f"The next 3 cells of the queue had **{numbers.decimal(share * 100, 1)[:1]}" in words(page)


def test_the_sentence_names_the_rate_and_the_worst_cell(hostile_ledger: str, look_at: OpenPage) -> None:
    page = look_at(hostile_ledger, "coverage")

    assert "of decisions met a gap in the library, over the target of 5" in sentence(page)
    assert "Most misses fell on" in sentence(page)


def test_hostile_names_are_shown_not_obeyed(hostile_ledger: str, look_at: OpenPage) -> None:
    page = look_at(hostile_ledger, "coverage", {"cell": f"{HOSTILE[0]} × {HOSTILE[1]}"})

    assert not page.exception
    for attack in HOSTILE[:5]:
        assert not any(attack in text for text in markdown_of(page))
        assert not any(attack in text and "<" in attack for spec in figures(page) for text in drawn_text(spec))
