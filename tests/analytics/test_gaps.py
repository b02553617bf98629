"""The pantry queue with the misses that filling it would mend."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pandas as pd
import pytest

from credit_core.analytics import queries
from credit_core.analytics.filters import Filters, Period
from credit_core.analytics.queries import gaps
from credit_core.analytics.sync import Facts
from credit_core.policy.config import Config
from credit_core.store import schema
from tests.analytics.ledgers import START, Ledger
from tests.analytics.plainly import is_judged

Copy = Callable[..., Facts]
TEN_DAYS = Filters(Period(START, START + timedelta(days=10)))


@pytest.fixture
def library(ledger: Ledger, copied: Copy) -> Facts:
    """Three empty cells that missed five, three and no times, and one that missed twice and was filled since."""
    ledger.account("b", "basic")
    ledger.grant("b", START)
    number = 0
    for genre, requests, misses in (("noir", 6, 5), ("pop", 4, 3), ("folk", 1, 0), ("rock", 2, 2)):
        for place in range(requests):
            number += 1
            at = START + timedelta(hours=number)
            ledger.answer("b", f"b-{number}", at, genre=genre, mood="calm", miss=place < misses)
    ledger.add(schema.library_days, {"genre": "rock", "mood": "calm", "day": "2025-03-01", "assets": 30})
    ledger.add(schema.library_days, {"genre": "pop", "mood": "calm", "day": "2025-03-01", "assets": 4})
    return copied(ledger.write())


def test_the_queue_bears_its_misses_from_the_top(library: Facts) -> None:
    frame = gaps.pantry_effect(library, TEN_DAYS, Config())

    assert frame["genre"].to_list() == ["noir", "pop", "folk"]
    assert frame["misses"].to_list() == [5, 3, 0]
    assert frame["cum_misses"].to_list() == [5, 8, 8]
    # Two misses fell on a cell that is filled by now: of all ten, the queue can mend eight.
    assert frame["cum_miss_share"].to_list() == pytest.approx([0.5, 0.8, 0.8], rel=1e-12)
    assert frame["cum_assets_needed"].to_list() == [10, 16, 26]


def test_the_queue_itself_stays_as_it_is(library: Facts) -> None:
    plain = queries.pantry_queue(library, TEN_DAYS, Config())

    assert gaps.pantry_effect(library, TEN_DAYS, Config())[list(plain.columns)].equals(plain)


def test_without_misses_their_share_is_unknown(ledger: Ledger, copied: Copy) -> None:
    ledger.account("b", "basic")
    ledger.grant("b", START)
    ledger.answer("b", "b-1", START + timedelta(hours=1), genre="noir", mood="calm")
    frame = gaps.pantry_effect(copied(ledger.write()), TEN_DAYS, Config())

    assert frame["cum_misses"].to_list() == [0]
    assert frame["cum_miss_share"].isna().all()


def test_an_empty_ledger_has_an_empty_queue(ledger: Ledger, copied: Copy) -> None:
    assert gaps.pantry_effect(copied(ledger), TEN_DAYS, Config()).empty


def test_filling_in_steps_is_the_queue_up_to_there() -> None:
    queue = pd.DataFrame(
        {
            "cum_misses": range(1, 61),
            "cum_miss_share": [n / 60 for n in range(1, 61)],
            "cum_assets_needed": range(2, 122, 2),
            "cum_at_risk_credits": [0.5 * n for n in range(1, 61)],
        }
    )
    found = gaps.fill_steps(queue)
    assert found["cells"].to_list() == [10, 50, 60]
    assert found["cum_misses"].to_list() == [10, 50, 60]
    assert found["cum_assets_needed"].to_list() == [20, 100, 120]
    assert found["cum_at_risk_credits"].to_list() == [5.0, 25.0, 30.0]
    assert gaps.fill_steps(queue.head(7))["cells"].to_list() == [7]
    assert gaps.fill_steps(queue.head(0)).empty


def test_demand_lies_over_the_coverage_of_its_cells(town: Ledger, facts: Facts, whole: Filters) -> None:
    config = Config()
    found = gaps.demand_by_coverage(facts, whole, config)
    everything = queries.cells(facts, whole, config)
    assert found["requests"].sum() == everything["requests"].sum()
    assert found["coverage"].is_monotonic_increasing
    assert found["under_share"].iloc[-1] == 1.0
    for row in found.to_dict("records"):
        under = everything.loc[everything["coverage"] <= row["coverage"], "requests"].sum()
        assert row["under_share"] == under / everything["requests"].sum()


def test_a_first_fallback_is_the_first_of_the_users_whole_life(town: Ledger, facts: Facts, whole: Filters) -> None:
    for first in (0, 4, 8):
        period = Period(START + timedelta(days=first), START + timedelta(days=first + 4))
        library = [r for r in town.entries if r["outcome"] == "library" and is_judged(r)]
        met = {r["user_id"] for r in library if period.start <= r["occurred_at"] < period.end}
        before = {r["user_id"] for r in library if r["occurred_at"] < period.start}
        found = gaps.first_fallbacks(facts, whole.narrowed(period=period))
        assert (found.users, found.firsts) == (len(met), len(met - before))
    assert gaps.first_fallbacks(facts, whole.narrowed(plans=("nobody",))).share is None
