"""Cells, credits at risk and the pantry queue, against SPEC 4.1 worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from statistics import median

import pandas as pd
import pytest

from credit_core.analytics import queries
from credit_core.analytics.filters import Filters, Period
from credit_core.analytics.sync import Facts
from credit_core.policy.config import Config
from credit_core.store import schema
from tests.analytics.ledgers import CREDIT, START, Ledger
from tests.analytics.plainly import behind, is_judged, spent

Copy = Callable[..., Facts]
CONFIG = Config()
TEN_DAYS = Filters(Period(START, START + timedelta(days=10)))


@pytest.fixture
def library(ledger: Ledger, copied: Copy) -> Facts:
    """Ten days in which free (threshold 0.3) and premium (0.65) accounts ask for three cells."""
    ledger.account("f", "free")
    ledger.account("p", "premium")
    ledger.grant("f", START)
    ledger.grant("p", START)
    noir, pop = {"genre": "noir", "mood": "calm"}, {"genre": "pop", "mood": "calm"}
    for number in range(4):
        ledger.answer("f", f"f-{number}", START + timedelta(days=number), **noir)
    ledger.fresh("p", "p-0", START + timedelta(days=1), ("monthly", 2 * CREDIT), rule="coverage_miss", **noir)
    failed = ledger.reserve("p", "p-1", START + timedelta(days=2), rule="coverage_miss", **noir)
    ledger.end(failed, "release", START + timedelta(days=2, seconds=9), reason="provider_error")
    ledger.fresh("p", "p-2", START + timedelta(days=3), **pop)
    ledger.answer("p", "p-3", START + timedelta(days=4), "unaffordable", miss=True, **pop)
    ledger.answer("p", "p-4", START + timedelta(days=5), "rate_limited", None, miss=None, **pop)
    ledger.answer("p", "p-5", START + timedelta(days=6))
    ledger.leg("p", "library", START + timedelta(days=10))
    held = [
        ("noir", "calm", "2025-02-08", 4), ("noir", "calm", "2025-02-09", 3), ("noir", "calm", "2025-03-01", 1),
        ("pop", "calm", "2025-03-02", 12), ("pop", "calm", "2025-03-12", 99), ("folk", "calm", "2025-03-01", 40),
    ]  # fmt: skip
    ledger.add(schema.library_days, *(dict(zip(("genre", "mood", "day", "assets"), row, strict=True)) for row in held))
    marks = [
        ("noir", "calm", START, START + timedelta(days=1)),
        ("pop", "calm", START, None),
        ("rock", "calm", START, None),
    ]
    ledger.add(
        schema.library_cells,
        *(dict(zip(("genre", "mood", "requested_at", "queued_at"), row, strict=True)) for row in marks),
    )
    return copied(ledger.write())


def test_a_cells_figures_are_those_of_spec(library: Facts) -> None:
    frame = queries.cells(library, TEN_DAYS, CONFIG)
    assert frame["genre"].to_list() == ["noir", "pop", "folk", "rock"]
    cell = frame.set_index("genre")
    noir = cell.loc["noir"]
    # As of 11 March: what was added before 9 February is stale.
    assert (noir["assets"], noir["stale_assets"], noir["staleness_share"]) == (8, 4, 0.5)
    assert (noir["coverage"], noir["health"]) == (8 / 20, 8 / 20 * 0.5)
    assert (noir["requests"], noir["misses"], noir["fresh"], noir["miss_rate"]) == (6, 2, 2, 2 / 6)
    assert noir["demand_per_day"] == pytest.approx(6 / 10, rel=1e-9)
    assert (noir["at_risk_uc"], noir["at_risk_credits"]) == (2 * CREDIT, 2.0)
    assert noir["queued_at"] == START + timedelta(days=1)
    pop = cell.loc["pop"]
    assert (pop["assets"], pop["requests"], pop["misses"], pop["at_risk_uc"]) == (12, 2, 1, 0)
    assert (cell.loc["folk", "coverage"], cell.loc["folk", "requests"]) == (1.0, 0)
    assert (cell.loc["rock", "health"], cell.loc["rock", "assets"]) == (0.0, 0)
    assert pd.isna(cell.loc["rock", "staleness_share"])
    assert pd.isna(cell.loc["folk", "miss_rate"])
    # Under-represented: under the median of the cells that anybody asked for.
    middle = median([8 / 20, 12 / 20, 0.0])
    assert cell["under_represented"].to_dict() == {name: row["coverage"] < middle for name, row in cell.iterrows()}


def test_the_library_is_told_as_of_the_instant_asked_for(library: Facts) -> None:
    later = queries.cells(library, TEN_DAYS, CONFIG, at=START + timedelta(days=40)).set_index("genre")
    assert later.loc["pop", "assets"] == 111
    assert later.loc["noir", "stale_assets"] == 8
    earlier = queries.cells(library, TEN_DAYS, CONFIG, at=START - timedelta(days=5)).set_index("genre")
    assert earlier.loc["noir", "assets"] == 7
    quick = CONFIG.model_copy(update={"coverage": CONFIG.coverage.model_copy(update={"stale_days": 5, "target": 8})})
    assert queries.cells(library, TEN_DAYS, quick).set_index("genre").loc["noir", "stale_assets"] == 8
    assert queries.cells(library, TEN_DAYS, quick).set_index("genre").loc["noir", "coverage"] == 1.0


def test_the_pantry_queue_is_ordered_by_demand_times_what_is_missing(library: Facts) -> None:
    queue = queries.pantry_queue(library, TEN_DAYS, CONFIG)
    assert queue["genre"].to_list() == ["noir", "pop"]
    # Free accounts ask for noir too, but 0.4 is over their 0.3.
    assert queue["queue_score"].to_list() == [
        pytest.approx(2 / 10 * (0.65 - 0.4)),
        pytest.approx(2 / 10 * (0.65 - 0.6)),
    ]
    assert queue["assets_needed"].to_list() == [13 - 8, 13 - 12]
    assert queue["rank"].to_list() == [1, 2]
    assert len(queries.pantry_queue(library, TEN_DAYS, CONFIG, limit=1)) == 1


def test_misses_by_plan_stand_beside_the_plans_threshold(library: Facts) -> None:
    frame = queries.miss_by_plan(library, TEN_DAYS, CONFIG).set_index("plan")
    assert frame.loc["free"].to_dict() == {
        "threshold": 0.3,
        "requests": 4,
        "misses": 0,
        "miss_rate": 0.0,
        "cells_under_threshold": 0,
    }
    assert frame.loc["premium"].to_dict() == {
        "threshold": 0.65,
        "requests": 4,
        "misses": 3,
        "miss_rate": 0.75,
        "cells_under_threshold": 2,
    }


def test_misses_by_day_are_those_of_the_worst_cells(library: Facts) -> None:
    frame = queries.misses_by_day(library, TEN_DAYS, limit=1)
    assert set(frame["genre"]) == {"noir"}
    assert len(frame) == 10
    assert frame["misses"].fillna(-1).to_list() == [0, 1, 1, 0, 0, 0, 0, -1, -1, -1]
    assert frame["requests"].sum() == 6


def test_cells_of_a_busy_ledger_add_up_to_the_metrics(town: Ledger, facts: Facts, whole: Filters) -> None:
    frame = queries.cells(facts, whole, CONFIG)
    rows = [row for row in behind(town.entries, whole) if is_judged(row) and row["genre"]]
    for name, count in (
        ("requests", len(rows)),
        ("misses", sum(bool(r["miss"]) for r in rows)),
        ("fresh", sum(r["outcome"] == "fresh" for r in rows)),
    ):
        assert frame[name].sum() == count
    forced = {(r["user_id"], r["request_id"]) for r in town.entries if r["rule"] == "coverage_miss"}
    at_risk = [r for r in behind(town.entries, whole) if r["genre"] and (r["user_id"], r["request_id"]) in forced]
    assert frame["at_risk_uc"].sum() == sum(map(spent, at_risk)) > 0
    one = queries.cells(facts, whole.narrowed(cell=("noir", "calm")), CONFIG)
    assert one[["genre", "mood"]].to_numpy().tolist() == [["noir", "calm"]]


def test_cells_of_an_empty_ledger_are_none(ledger: Ledger, copied: Copy) -> None:
    facts = copied(ledger)
    assert queries.cells(facts, TEN_DAYS, CONFIG).empty
    assert queries.pantry_queue(facts, TEN_DAYS, CONFIG).empty
    assert queries.misses_by_day(facts, TEN_DAYS).empty
    assert queries.miss_by_plan(facts, TEN_DAYS, CONFIG).empty
