"""Burn against pace: pace is Q/L for every account whose cycle runs, and a whole cycle's pace is its quota."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from credit_core.analytics import queries
from credit_core.analytics.filters import Filters, Period
from credit_core.analytics.sync import Facts
from credit_core.errors import InvalidRequest
from tests.analytics.ledgers import CREDIT, START, Ledger
from tests.analytics.plainly import behind, is_request, spent

Copy = Callable[..., Facts]


def pace_plainly(ledger: Ledger, plan: str, start: datetime, end: datetime) -> float:
    """Σ over cycles of Q times the share of the cycle within [start, end), credits."""
    total = 0.0
    for cycle in ledger.cycles:
        if cycle["plan"] == plan:
            overlap = min(end, cycle["end_at"]) - max(start, cycle["start_at"])
            total += max(0.0, overlap / (cycle["end_at"] - cycle["start_at"])) * cycle["quota_uc"] / CREDIT
    return total


@pytest.fixture
def quarter(ledger: Ledger, copied: Copy) -> tuple[Ledger, Facts]:
    """Accounts of two plans with cycles of unlike lengths and starts, in Kathmandu's days."""
    for number in range(6):
        start = START + timedelta(days=number, hours=5 * number)
        name = f"a{number}"
        ledger.account(name, ("basic", "premium")[number % 2], start=start, days=28 + number)
        ledger.cycle(name, 1, start + timedelta(days=28 + number), start + timedelta(days=60))
        ledger.grant(name, start)
        for request in range(number * 3):
            ledger.fresh(
                name, f"r-{request}", start + timedelta(hours=11 * request), ("monthly", (request + 1) * 300_001)
            )
    ledger.account("idle", "free")
    ledger.leg("idle", "library", START + timedelta(days=40))
    return ledger, copied(ledger.write(), reporting_zone="Asia/Kathmandu")


def test_each_days_burn_and_pace_equal_their_plain_computation(quarter: tuple[Ledger, Facts]) -> None:
    ledger, facts = quarter
    filters = Filters(Period(START + timedelta(days=2, hours=2), START + timedelta(days=36)))
    frame = queries.burn_against_pace(facts, filters)
    assert set(frame["plan"]) == {"basic", "premium", "free"}
    for row in frame.to_dict("records"):
        midnight = row["day"].to_pydatetime().replace(tzinfo=UTC) - timedelta(hours=5, minutes=45)
        start, end = max(midnight, filters.period.start), min(midnight + timedelta(days=1), filters.period.end)
        assert row["pace_credits"] == pytest.approx(pace_plainly(ledger, row["plan"], start, end), abs=1e-9)
        burned = sum(spent(r) for r in ledger.entries if start <= r["occurred_at"] < end and r["plan"] == row["plan"])
        assert (pd.isna(row["spent_uc"]) and burned == 0) or row["spent_uc"] == burned
    for _, part in frame.groupby("plan"):
        assert part["cum_spent_credits"].iloc[-1] == pytest.approx(part["spent_credits"].sum())
        assert part["cum_pace_credits"].iloc[-1] == pytest.approx(part["pace_credits"].sum())


def test_pace_over_a_whole_cycle_is_the_quota_and_runs_on_where_spending_stops(ledger: Ledger, copied: Copy) -> None:
    ledger.account("a", "basic")
    ledger.grant("a", START)
    ledger.fresh("a", "r", START + timedelta(days=2))
    facts = copied(ledger.write())
    frame = queries.burn_against_pace(facts, Filters(Period(START, START + timedelta(days=30))))
    assert len(frame) == 30
    assert frame["cum_pace_credits"].iloc[-1] == pytest.approx(200.0)
    assert frame["cum_spent_credits"][:4].fillna(-1).to_list() == [0.0, 0.0, 1.0, -1.0]


def test_a_paused_account_has_no_pace(ledger: Ledger, copied: Copy) -> None:
    ledger.account("a", "basic", paused_at=START + timedelta(days=10))
    ledger.grant("a", START)
    ledger.leg("a", "pause", START + timedelta(days=10))
    ledger.leg("a", "library", START + timedelta(days=29))
    facts = copied(ledger.write())
    filters = Filters(Period(START, START + timedelta(days=30)))
    assert queries.burn_against_pace(facts, filters)["pace_credits"].sum() == pytest.approx(200.0 / 3)


def test_pace_is_unknown_for_a_model_or_a_cell(facts: Facts, whole: Filters) -> None:
    for narrowed in (whole.narrowed(models=("dalle-3-hd",)), whole.narrowed(cell=("noir", "calm"))):
        assert queries.burn_against_pace(facts, narrowed)["pace_credits"].isna().all()
        assert queries.burn_by_account(facts, narrowed)["pace_ratio"].isna().all()


def test_filters_narrow_pace_as_they_narrow_burn(quarter: tuple[Ledger, Facts]) -> None:
    ledger, facts = quarter
    period = Period(START, START + timedelta(days=40))
    one = queries.burn_against_pace(facts, Filters(period, users=("u-a3",)))
    cycles = [cycle for cycle in ledger.cycles if cycle["account_id"] == "a3"]
    ledger.cycles[:] = cycles
    assert one["pace_credits"].sum() == pytest.approx(pace_plainly(ledger, "premium", period.start, period.end))


def test_burn_by_plan_and_model_is_the_ledgers(town: Ledger, facts: Facts, whole: Filters) -> None:
    expected: Counter[tuple[str, str | None]] = Counter()
    for row in behind(town.entries, whole):
        expected[row["plan"], row["model"]] += spent(row)
    frame = queries.burn_by_plan_model(facts, whole)
    found = {
        (row["plan"], None if pd.isna(row["model"]) else row["model"]): row["spent_uc"]
        for row in frame.to_dict("records")
    }
    assert found == {key: amount for key, amount in expected.items() if amount}
    assert frame["share"].sum() == pytest.approx(1.0)
    assert frame["spent_uc"].is_monotonic_decreasing


def test_top_movers_are_the_largest_changes_in_either_direction(town: Ledger, facts: Facts) -> None:
    period = Period(START + timedelta(days=6), START + timedelta(days=10))
    for by, key in (("user_id", "user_id"), ("plan", "plan"), ("region", "region")):
        change: Counter[str] = Counter()
        for row in town.entries:
            if period.start <= row["occurred_at"] < period.end:
                change[row[key]] += spent(row)
            elif period.before().start <= row["occurred_at"] < period.before().end:
                change[row[key]] -= spent(row)
        expected = sorted(
            ((abs(amount), name, amount) for name, amount in change.items() if amount),
            key=lambda one: (-one[0], one[1]),
        )
        frame = queries.top_movers(facts, Filters(period), by=by, limit=None)
        assert frame[by].to_list() == [name for _, name, _ in expected]
        assert frame["change_credits"].to_list() == [amount / CREDIT for _, _, amount in expected]
    assert len(queries.top_movers(facts, Filters(period), limit=3)) == 3
    with pytest.raises(InvalidRequest):
        queries.top_movers(facts, Filters(period), by="rule")


def test_burn_by_account_has_each_with_its_own_pace(town: Ledger, facts: Facts) -> None:
    filters = Filters(Period(START, START + timedelta(days=10)))
    rows = behind(town.entries, filters)
    frame = queries.burn_by_account(facts, filters).set_index("account_id")
    for name, row in frame.to_dict("index").items():
        own = [r for r in rows if r["account_id"] == name]
        assert row["spent_uc"] == sum(map(spent, own))
        assert row["requests"] == sum(map(is_request, own))
        assert row["last_at"] == max(r["occurred_at"] for r in own if is_request(r))
        assert row["user_id"] == f"u-{name}"
        quota = town.accounts[name]["quota_uc"] / CREDIT
        assert row["pace_credits"] == pytest.approx(quota / 30 * 10, rel=1e-9)
        assert row["pace_ratio"] == pytest.approx(row["spent_credits"] / row["pace_credits"])
    assert set(frame.index) == {r["account_id"] for r in rows if is_request(r) or spent(r)}
    some = queries.burners(facts, filters, 2)
    assert some.accounts == len(frame)
    pd.testing.assert_frame_equal(some.listed, frame.reset_index().head(2)[some.listed.columns])
    assert queries.burners(facts, filters.narrowed(users=("nobody",)), 2).accounts == 0
