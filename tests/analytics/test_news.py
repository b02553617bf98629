"""What changed since yesterday: the newest 24 hours against the 24 before, and nothing that is chance."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta

import pytest

from credit_core.analytics.filters import Filters, Period
from credit_core.analytics.queries import news
from credit_core.analytics.sync import Facts
from tests.analytics.ledgers import CREDIT, START, Ledger

Copy = Callable[..., Facts]
DAY = timedelta(days=1)


def asked(ledger: Ledger, day: int, fresh: int, library: int, name: str = "a") -> None:
    for number in range(fresh):
        ledger.fresh(name, f"f-{day}-{number}-{name}", START + day * DAY + timedelta(hours=1, minutes=number))
    for number in range(library):
        ledger.answer(
            name,
            f"l-{day}-{number}-{name}",
            START + day * DAY + timedelta(hours=2, minutes=number),
            "controller",
            "library",
        )


@pytest.fixture
def three_days(ledger: Ledger, copied: Copy) -> Facts:
    """Ten fresh of twenty; then thirty of forty; the 24 hours end with the newest entry, an hour into the third day."""
    for name, plan in (("a", "premium"), ("b", "basic")):
        ledger.account(name, plan)
        ledger.grant(name, START, credits=200)
    asked(ledger, 1, 10, 10)
    asked(ledger, 2, 26, 10)
    asked(ledger, 2, 4, 0, name="b")
    ledger.leg("a", "library", START + 3 * DAY)
    return copied(ledger.write())


def test_the_newest_day_stands_beside_the_one_before(three_days: Facts) -> None:
    frame = news.since_yesterday(three_days, Filters(Period(START, START + 10 * DAY))).set_index("slug")
    assert frame.loc["spent", ["value", "before", "change"]].to_list() == [30.0, 10.0, 2.0]
    assert frame.loc["requests", ["value", "before"]].to_list() == [40.0, 20.0]
    assert frame.loc["fresh_rate", ["value", "before", "change"]].to_list() == [0.75, 0.5, 0.25]
    assert frame.loc["fresh_rate", "told"] == (2 * math.sqrt(2 / 3 * 1 / 3 * (1 / 40 + 1 / 20)) < 0.25)
    assert frame.loc["requests", "told"] == (2 * math.sqrt(60) < 20)
    assert frame.loc["spent", "told"]
    assert not frame.loc["active_accounts", "told"]  # two after one is chance
    assert not frame.loc["failure_rate", "told"]


def test_what_moved_most_is_named(three_days: Facts) -> None:
    whole = Filters(Period(START, START + 10 * DAY))
    assert news.moved_most(three_days, whole, "plan") == ("premium", 16.0)
    assert news.moved_most(three_days, whole.narrowed(plans=("basic",)), "plan") == ("basic", 4.0)


def test_a_ledger_of_less_than_two_days_has_no_yesterday(ledger: Ledger, copied: Copy) -> None:
    assert news.since_yesterday(copied(ledger), Filters(Period(START, START + DAY))).empty
    ledger.account("a")
    ledger.grant("a", START, credits=CREDIT // CREDIT)
    ledger.leg("a", "library", START + timedelta(hours=30))
    facts = copied(ledger.write())
    assert news.since_yesterday(facts, Filters(Period(START, START + 9 * DAY))).empty
    assert news.moved_most(facts, Filters(Period(START, START + 9 * DAY)), "plan") is None
