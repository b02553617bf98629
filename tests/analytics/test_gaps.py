"""The pantry queue with the misses that filling it would mend."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from credit_core.analytics import queries
from credit_core.analytics.filters import Filters, Period
from credit_core.analytics.queries import gaps
from credit_core.analytics.sync import Facts
from credit_core.policy.config import Config
from credit_core.store import schema
from tests.analytics.ledgers import START, Ledger

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
