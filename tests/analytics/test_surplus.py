"""Surplus days at each day's end and now, runway, and run-outs, against SPEC 4 and 6 in plain Python."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pandas as pd
import pytest

from credit_core.analytics import queries
from credit_core.analytics.filters import Filters, Period
from credit_core.analytics.sync import Facts
from credit_core.policy import surplus
from tests.analytics.ledgers import CREDIT, START, Ledger
from tests.analytics.plainly import quantile, spent

Copy = Callable[..., Facts]
DAY = timedelta(days=1)


def days_at(ledger: Ledger, at: datetime) -> dict[str, float]:
    """Surplus days of every running account right before ``at``."""
    found = {}
    for cycle in ledger.cycles:
        if not cycle["start_at"] < at <= cycle["end_at"]:
            continue
        rows = [r for r in ledger.entries if r["account_id"] == cycle["account_id"] and r["occurred_at"] < at]
        pauses = [r["kind"] for r in rows if r["kind"] in ("pause", "resume")]
        if not rows or (pauses and pauses[-1] == "pause"):
            continue
        balance = sum(r["d_avail_uc"] for r in rows if r["lot_kind"] in ("monthly", "rollover")) / CREDIT
        quota, length, left = (
            cycle["quota_uc"] / CREDIT,
            (cycle["end_at"] - cycle["start_at"]) / DAY,
            (cycle["end_at"] - at) / DAY,
        )
        found[cycle["account_id"]] = surplus.surplus_days(surplus.surplus(balance, quota, length, left), quota, length)
    return found


@pytest.mark.parametrize("zone", ["Asia/Kathmandu", "America/New_York"])
def test_the_bands_are_quantiles_of_the_state_before_each_reporting_midnight(
    town: Ledger, copied: Copy, zone: str
) -> None:
    facts = copied(town, reporting_zone=zone)
    filters = Filters(Period(START - DAY, START + 14 * DAY))
    newest = max(r["occurred_at"] for r in town.entries)
    frame = queries.surplus_bands(facts, filters)
    known = 0
    for row in frame.to_dict("records"):
        end = (row["day"] + pd.Timedelta(days=1)).to_pydatetime().replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
        days = list(days_at(town, end).values())
        if end > newest or not days:
            assert pd.isna(row["median"])
            continue
        known += 1
        assert row["accounts"] == len(days)
        for name, share in (("p05", 0.05), ("p25", 0.25), ("median", 0.5), ("p75", 0.75), ("p95", 0.95)):
            assert row[name] == pytest.approx(quantile(days, share), abs=1e-9)
        assert row["behind_share"] == pytest.approx(sum(d < -3 for d in days) / len(days))
        assert row["ahead_share"] == pytest.approx(sum(d > 3 for d in days) / len(days))
    assert known == 12


def test_the_state_at_midnight_is_the_one_before_closings_at_that_instant(ledger: Ledger, copied: Copy) -> None:
    ledger.account("a", "basic", days=10)
    ledger.cycle("a", 1, START + 10 * DAY, START + 20 * DAY)
    ledger.grant("a", START)
    ledger.fresh("a", "r", START + 9 * DAY, ("monthly", 150 * CREDIT))
    ledger.leg("a", "expire", START + 10 * DAY, ("a-monthly", -50 * CREDIT, 0))
    ledger.grant("a", START + 10 * DAY)
    ledger.leg("a", "library", START + 11 * DAY)
    bands = queries.surplus_bands(copied(ledger.write()), Filters(Period(START, START + 12 * DAY))).set_index("day")[
        "median"
    ]
    # Day 0 to 8: 200 credits, 20 a day. Day 9 ends with 50 and none needed; day 10 with 200 and nine days to go.
    assert bands.iloc[:9].to_list() == pytest.approx([float(day + 1) for day in range(9)])
    assert bands.iloc[9] == pytest.approx(2.5)
    assert bands.iloc[10] == pytest.approx(1.0)
    assert pd.isna(bands.iloc[11])


def test_paused_accounts_and_those_without_a_running_cycle_are_left_out(ledger: Ledger, copied: Copy) -> None:
    for name in ("paused", "resumed", "overdue", "running"):
        ledger.account(name, "basic", days=3 if name == "overdue" else 30)
        ledger.grant(name, START)
    ledger.leg("paused", "pause", START + DAY)
    ledger.leg("resumed", "pause", START + DAY)
    ledger.leg("resumed", "resume", START + 3 * DAY)
    ledger.leg("running", "library", START + 6 * DAY)
    facts = copied(ledger.write())
    bands = queries.surplus_bands(facts, Filters(Period(START, START + 6 * DAY)))
    assert bands["accounts"].to_list() == [4, 2, 2, 2, 2, 2]
    now = queries.surplus_now(facts, Filters(Period(START, START + 6 * DAY)))
    assert set(now["account_id"]) == {"resumed", "running"}


def test_bands_narrow_by_plan_region_and_user(town: Ledger, facts: Facts) -> None:
    at = START + 8 * DAY - timedelta(hours=5, minutes=45)
    days = days_at(town, at)
    for narrowed, wanted in (
        ({"plans": ("free",)}, {"a0", "a3", "a6"}),
        ({"regions": ("us",)}, {"a1", "a3", "a5", "a7"}),
        ({"users": ("u-a2", "u-a4")}, {"a2", "a4"}),
        ({"models": ("dalle-3-hd",)}, set(days)),
    ):
        filters = Filters(Period(at - DAY, at), **narrowed)
        row = queries.surplus_bands(facts, filters).iloc[0]
        assert row["accounts"] == len(wanted)
        assert row["median"] == pytest.approx(quantile([days[name] for name in wanted], 0.5))


def test_now_has_every_account_with_runway_and_next_reset(town: Ledger, facts: Facts) -> None:
    newest = max(r["occurred_at"] for r in town.entries)
    frame = queries.surplus_now(facts, Filters(Period(START, START + 40 * DAY)))
    expected = days_at(town, newest + timedelta(microseconds=1))
    assert frame["surplus_days"].is_monotonic_increasing
    assert set(frame["account_id"]) == set(expected)
    for row in frame.to_dict("records"):
        own = [r for r in town.entries if r["account_id"] == row["account_id"]]
        burned = (
            sum(spent(r) for r in own if r["occurred_at"] >= newest + timedelta(microseconds=1) - 7 * DAY) / CREDIT / 7
        )
        available = sum(r["d_avail_uc"] for r in own) / CREDIT
        account = town.accounts[row["account_id"]]
        assert row["surplus_days"] == pytest.approx(expected[row["account_id"]], abs=1e-9)
        assert row["surplus_credits"] == pytest.approx(
            row["surplus_days"] * account["quota_uc"] / CREDIT / 30, abs=1e-9
        )
        assert row["available_credits"] == pytest.approx(available)
        assert row["burn_credits_per_day"] == pytest.approx(burned)
        assert row["runway_days"] == pytest.approx(available / burned)
        assert row["next_reset_at"] == account["cycle_end_at"]
        ends = newest + timedelta(days=available / burned)
        assert (
            pd.isna(row["runs_out_at"])
            if ends >= account["cycle_end_at"]
            else abs(row["runs_out_at"] - ends) < timedelta(seconds=1)
        )
        assert (row["user_id"], row["mode"], row["plan"]) == (f"u-{row['account_id']}", "steady", account["plan"])


def test_runway_is_unknown_without_burn(ledger: Ledger, copied: Copy) -> None:
    ledger.account("a")
    ledger.grant("a", START)
    row = queries.surplus_now(copied(ledger.write()), Filters(Period(START, START + DAY))).iloc[0]
    assert row["burn_credits_per_day"] == 0.0
    assert pd.isna(row["runway_days"])
    assert pd.isna(row["runs_out_at"])


def test_plans_and_histogram_are_of_the_same_accounts(facts: Facts, whole: Filters) -> None:
    now, plans, bins = (
        query(facts, whole) for query in (queries.surplus_now, queries.surplus_by_plan, queries.surplus_histogram)
    )
    assert plans["accounts"].sum() == bins["accounts"].sum() == len(now)
    for row in plans.to_dict("records"):
        days = now.loc[now["plan"] == row["plan"], "surplus_days"]
        assert row["p25"] == pytest.approx(quantile(days.to_list(), 0.25))
        assert (row["behind"], row["ahead"]) == ((days < -3).sum(), (days > 3).sum())
        assert row["behind"] + row["on_pace"] + row["ahead"] == row["accounts"]
    for row in queries.surplus_histogram(facts, whole, width_days=2.0).to_dict("records"):
        inside = now[
            (now["plan"] == row["plan"])
            & (now["surplus_days"] >= row["from_days"])
            & (now["surplus_days"] < row["to_days"])
        ]
        assert (row["accounts"], row["to_days"] - row["from_days"]) == (len(inside), 2.0)


def test_a_run_out_lasts_from_the_first_refusal_to_the_next_grant(ledger: Ledger, copied: Copy) -> None:
    ledger.account("a", "free")
    ledger.account("b", "basic")
    for name in ("a", "b"):
        ledger.grant(name, START)
    short = {"rule": "unaffordable", "cycle_days": 30.0}
    ledger.answer("a", "r-0", START + 2 * DAY, **short)
    ledger.answer("a", "r-1", START + 3 * DAY, **short)
    ledger.grant("a", START + 5 * DAY, credits=5, kind="bonus")
    ledger.answer("a", "r-2", START + 6 * DAY, **short)
    ledger.answer("b", "r-3", START + 7 * DAY, **short)
    ledger.grant("a", START + 9 * DAY, credits=1, kind="bonus")
    ledger.leg("b", "library", START + 10 * DAY)
    facts = copied(ledger.write())
    frame = queries.run_outs(facts, Filters(Period(START, START + 8 * DAY)))
    assert frame["account_id"].to_list() == ["b", "a", "a"]
    assert frame["run_out_at"].to_list() == [START + day * DAY for day in (7, 6, 2)]
    assert frame["dry_days"].to_list() == [3.0, 3.0, 3.0]
    assert frame["dry_share"].to_list() == [0.1, 0.1, 0.1]
    assert frame["ongoing"].to_list() == [True, False, False]
    assert frame["granted_at"].fillna(START).to_list() == [START, START + 9 * DAY, START + 5 * DAY]
    assert frame["user_id"].to_list() == ["u-b", "u-a", "u-a"]
    dry = queries.dry_time(facts, Filters(Period(START, START + 8 * DAY)))
    # Two accounts asked for something and were dry for 0.2 and 0.1 of their cycles.
    assert (dry.run_outs, dry.accounts, dry.median_days) == (3, 2, 3.0)
    assert dry.share == pytest.approx(0.3 / 2)
    # One that began before the period is not of the period, though it was still going on.
    assert queries.run_outs(facts, Filters(Period(START + 3 * DAY, START + 5 * DAY))).empty
    assert len(queries.run_outs(facts, Filters(Period(START, START + 8 * DAY), plans=("basic",)))) == 1


def test_surplus_of_an_empty_ledger_is_unknown(ledger: Ledger, copied: Copy) -> None:
    facts, filters = copied(ledger), Filters(Period(START, START + 3 * DAY))
    assert queries.surplus_bands(facts, filters)["median"].isna().all()
    for query in (queries.surplus_now, queries.surplus_by_plan, queries.surplus_histogram, queries.run_outs):
        assert query(facts, filters).empty
    assert queries.dry_time(facts, filters) == (0, 0, None, None)
