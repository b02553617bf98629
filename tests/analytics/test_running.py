"""Which cycles run and where the middle one began, against a sorted list of the accounts' own first days."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta

import pytest

from credit_core.analytics.filters import Filters, Period
from credit_core.analytics.queries.running import Running, running_cycles
from credit_core.analytics.sync import Facts
from tests.analytics.ledgers import START, Ledger

Copy = Callable[..., Facts]
DAY = timedelta(days=1)
ALL = Filters(Period(START, START + 20 * DAY))


@pytest.fixture
def crowd(ledger: Ledger) -> Ledger:
    """Seven accounts with a quota, whose cycles begin 0, 1, … 6 days apart; one paused, one over, one without a quota."""
    for number in range(7):
        ledger.account(f"a{number}", ("basic", "premium")[number % 2], start=START + number * DAY)
    ledger.account("paused", start=START + 9 * DAY, paused_at=START + 10 * DAY)
    ledger.account("over", start=START - 20 * DAY, days=25)
    ledger.account("not begun", start=START + 19 * DAY)
    ledger.account("counts", "creator_free", start=START + 10 * DAY)
    ledger.leg("a0", "library", START + 18 * DAY)
    return ledger


def test_the_middle_one_of_the_running_cycles_and_those_within_a_day_of_it(crowd: Ledger, copied: Copy) -> None:
    facts = copied(crowd.write())
    assert running_cycles(facts, ALL) == Running(7, date(2025, 3, 4), 3)
    # Of an even number the earlier middle: 2, 4 and 6 March of premium, 1, 3, 5 and 7 of basic.
    assert running_cycles(facts, ALL.narrowed(plans=("basic",))) == Running(4, date(2025, 3, 3), 1)
    assert running_cycles(facts, ALL.narrowed(plans=("premium",))) == Running(3, date(2025, 3, 4), 1)
    assert running_cycles(facts, ALL.narrowed(within=("free",))) is None
    # Plans without a quota count where nobody else is there.
    assert running_cycles(facts, ALL.narrowed(plans=("creator_free",))) == Running(1, date(2025, 3, 11), 1)


def test_a_shared_month_is_one_first_day_in_every_time_zone(ledger: Ledger, copied: Copy) -> None:
    for zone, hours in (("Asia/Tokyo", -9), ("America/Los_Angeles", 8), ("UTC", 0)):
        ledger.account(zone, start=START + timedelta(hours=hours), timezone=zone)
    ledger.leg("UTC", "library", START + 18 * DAY)
    assert running_cycles(copied(ledger.write()), ALL) == Running(3, date(2025, 3, 1), 3)


def test_an_empty_ledger_has_no_running_cycle(ledger: Ledger, copied: Copy) -> None:
    assert running_cycles(copied(ledger), ALL) is None
