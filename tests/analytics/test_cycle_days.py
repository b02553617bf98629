"""Burn by the day of the cycle against plain sums over each account's own days."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from credit_core.analytics.filters import Filters, Period
from credit_core.analytics.queries.cycle_days import burn_by_cycle_day
from credit_core.analytics.sync import Facts
from tests.analytics.ledgers import CREDIT, START, Ledger
from tests.analytics.plainly import spent

Copy = Callable[..., Facts]
DAY = timedelta(days=1)


@pytest.fixture
def crowd(ledger: Ledger, copied: Copy) -> tuple[Ledger, Facts]:
    """Five accounts whose cycles of 10 and 12 days began at odd hours; each has a cycle before the one that runs."""
    for number in range(5):
        name, start = f"a{number}", START + timedelta(days=number, hours=7 * number)
        length = 10 + 2 * (number % 2)
        ledger.account(name, ("basic", "premium")[number % 2], start=start, days=length)
        ledger.cycle(name, 1, start + length * DAY, start + 2 * length * DAY)
        ledger.grant(name, start, credits=400)
        for request in range(30):
            at = start + timedelta(hours=15 * request + number)
            ledger.fresh(name, f"r-{number}-{request}", at, ("monthly", (request % 4 + 1) * 250_001))
    ledger.account("counts nothing", "creator_free")
    ledger.leg("counts nothing", "library", START + 18 * DAY)
    return ledger, copied(ledger.write())


def plainly(ledger: Ledger, at: object, number: int) -> tuple[list[float], list[int]]:
    """Running means, day by day, of the cycles with this number."""
    cycles = [one for one in ledger.cycles if one["cycle_no"] == number and one["quota_uc"]]
    sums, accounts, total = [], [], 0.0
    for day in range(1, 13):
        amount, lived = 0, 0
        for one in cycles:
            until = min(one["end_at"], at)
            if one["start_at"] + day * DAY > until:
                continue
            lived += 1
            first, last = one["start_at"] + (day - 1) * DAY, one["start_at"] + day * DAY
            amount += sum(
                spent(r)
                for r in ledger.entries
                if r["account_id"] == one["account_id"] and first <= r["occurred_at"] < last
            )
        if lived:
            total += amount / CREDIT / lived
        sums.append(total)
        accounts.append(lived)
    return sums, accounts


def test_each_days_mean_is_over_the_accounts_that_lived_it(crowd: tuple[Ledger, Facts]) -> None:
    ledger, facts = crowd
    at = START + 18 * DAY + timedelta(hours=3)
    frame = burn_by_cycle_day(facts, Filters(Period(START, at)))
    now, before = plainly(ledger, at, 1), plainly(ledger, at, 0)
    for place, row in enumerate(frame.to_dict("records")):
        assert row["day"] == place + 1
        assert row["accounts"] == now[1][place]
        if now[1][place]:
            assert row["spent_credits"] == pytest.approx(now[0][place])
        assert row["accounts_before"] == before[1][place]
        assert row["before_credits"] == pytest.approx(before[0][place])
    assert len(frame) == 12


def test_pace_is_the_quota_spent_evenly_and_filters_choose_whose(crowd: tuple[Ledger, Facts]) -> None:
    _, facts = crowd
    at = START + 18 * DAY
    basic = burn_by_cycle_day(facts, Filters(Period(START, at), plans=("basic",)))
    assert basic["pace_credits"].iloc[0] == pytest.approx(20.0)
    assert basic["pace_credits"].iloc[5] == pytest.approx(120.0)
    assert len(basic) == 10
    nobody = burn_by_cycle_day(facts, Filters(Period(START, at), models=("no such model",)))
    assert nobody["spent_credits"].max() == 0.0
    assert burn_by_cycle_day(facts, Filters(Period(START, at), plans=("free",))).empty
