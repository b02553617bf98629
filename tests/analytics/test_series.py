"""Days, hours, comparisons: parts add up to the whole in any reporting zone, and a gap is not a zero."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import pytest

from credit_core.analytics import metrics, queries
from credit_core.analytics.days import reporting_days
from credit_core.analytics.filters import Filters, Period, fair
from credit_core.analytics.sync import Facts
from tests.analytics.ledgers import CREDIT, START, Ledger
from tests.analytics.plainly import PLAINLY, TO_DATE, behind, spent

Copy = Callable[..., Facts]
KATHMANDU = ZoneInfo("Asia/Kathmandu")
RAGGED = Filters(Period(START + timedelta(days=1, hours=3, minutes=7), START + timedelta(days=8, hours=17)))


def local_midnight(day: datetime, zone: ZoneInfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)


@pytest.mark.parametrize("slug", [slug for slug, declared in metrics.METRICS.items() if "day" in declared.summable])
def test_the_days_sums_equal_the_ranges_in_a_zone_of_five_hours_forty_five(facts: Facts, slug: str) -> None:
    assert facts.zone == "Asia/Kathmandu"
    daily, whole = queries.daily(facts, RAGGED, slug), queries.value(facts, RAGGED, slug)
    assert len(daily) == 8
    assert daily["numerator"].sum() == whole.numerator
    if whole.denominator is not None:
        assert daily["denominator"].sum() == whole.denominator


@pytest.mark.parametrize("slug", [slug for slug in PLAINLY if slug not in ("burn_rate", "flicker")])
def test_each_day_equals_its_plain_computation(town: Ledger, facts: Facts, slug: str) -> None:
    numerator, denominator = PLAINLY[slug]
    for row in queries.daily(facts, RAGGED, slug).to_dict("records"):
        start = local_midnight(row["day"], KATHMANDU)
        part = behind([r for r in town.entries if start <= r["occurred_at"] < start + timedelta(days=1)], RAGGED)
        expected = numerator(part)
        assert (expected is None and pd.isna(row["numerator"])) or row["numerator"] == pytest.approx(
            expected, rel=1e-12
        )
        if denominator is not None:
            assert row["denominator"] == denominator(part)


@pytest.mark.parametrize("slug", TO_DATE)
@pytest.mark.parametrize("by", [None, "plan"])
def test_what_is_open_is_told_as_of_each_days_end(town: Ledger, facts: Facts, slug: str, by: str | None) -> None:
    for row in queries.daily(facts, RAGGED, slug, by).to_dict("records"):
        end = min(local_midnight(row["day"], KATHMANDU) + timedelta(days=1), RAGGED.period.end)
        rows = [r for r in town.entries if r["occurred_at"] < end and (by is None or r["plan"] == row["plan"])]
        assert row["numerator"] == TO_DATE[slug](rows)


def test_days_of_23_and_25_hours_lose_nothing(ledger: Ledger, copied: Copy) -> None:
    ledger.account("a")
    ledger.grant("a", START)
    spring, autumn = datetime(2025, 3, 30, tzinfo=UTC), datetime(2025, 10, 26, tzinfo=UTC)
    for change in (spring, autumn):
        for hour in range(-30, 54):
            ledger.fresh("a", f"{change:%m}-{hour}", change + timedelta(hours=hour, minutes=30))
    facts = copied(ledger.write(), reporting_zone="Europe/Berlin")
    for change, hours in ((spring, 23), (autumn, 25)):
        filters = Filters(Period(change - timedelta(days=3), change + timedelta(days=4)))
        daily = queries.daily(facts, filters, "requests").set_index("day")["numerator"]
        assert daily[pd.Timestamp(change.date())] == hours
        assert daily.sum() == queries.value(facts, filters, "requests").numerator == 84


def test_a_skipped_midnight_begins_the_day_an_hour_late() -> None:
    days = reporting_days(
        Period(datetime(2025, 9, 6, 12, tzinfo=UTC), datetime(2025, 9, 8, 12, tzinfo=UTC)), "America/Santiago"
    )
    assert [(day.end_us - day.start_us) / 3.6e9 for day in days] == [24, 23, 24]


def test_a_gap_stays_a_gap_and_a_quiet_day_is_zero(ledger: Ledger, copied: Copy) -> None:
    ledger.account("a", "basic")
    ledger.account("b", "free")
    ledger.grant("a", START)
    ledger.grant("b", START)
    ledger.fresh("a", "r-0", START + timedelta(days=1))
    ledger.fresh("b", "r-1", START + timedelta(days=3))
    ledger.fresh("a", "r-2", START + timedelta(days=4))
    facts = copied(ledger.write())
    period = Period(START - timedelta(days=1), START + timedelta(days=7))
    filters = Filters(period, plans=("basic",))
    spent_daily = queries.daily(facts, filters, "spent")["value"]
    #                            before  grant  spend  gap   b only  spend  after the newest entry
    assert [None if pd.isna(v) else v for v in spent_daily] == [None, 0, 1, None, 0, 1, None, None]
    rate = queries.daily(facts, filters, "fresh_rate")
    assert [None if pd.isna(v) else v for v in rate["value"]] == [None, None, 1, None, None, 1, None, None]
    assert [None if pd.isna(v) else v for v in rate["denominator"]] == [None, 0, 1, None, 0, 1, None, None]
    held = queries.daily(facts, filters, "open_holds")["numerator"]
    assert [None if pd.isna(v) else v for v in held] == [0, 0, 0, 0, 0, 0, None, None]


def test_a_day_by_a_dimension_has_a_row_for_each_value(town: Ledger, facts: Facts) -> None:
    daily = queries.daily(facts, RAGGED, "spent", by="model")
    models = {row["model"] for row in behind(town.entries, RAGGED)}
    assert len(daily) == 8 * len(models)
    for model in models:
        part = daily[daily["model"].isna() if model is None else daily["model"] == model]
        assert part["numerator"].sum() == sum(spent(r) for r in behind(town.entries, RAGGED) if r["model"] == model)


def test_burn_rate_is_per_elapsed_day_of_what_the_ledger_covers(ledger: Ledger, copied: Copy) -> None:
    ledger.account("a")
    ledger.grant("a", START)
    for number in range(8):
        ledger.fresh("a", f"r-{number}", START + timedelta(hours=12 * number))
    facts = copied(ledger.write())
    # From START to the settle at 84 h and 20 s, however much longer the period is.
    covered = (84 * 3_600 + 20) / 86_400
    for period in (
        Period(START, START + timedelta(days=28)),
        Period(START - timedelta(days=9), START + timedelta(days=5)),
    ):
        assert queries.value(facts, Filters(period), "burn_rate").value == pytest.approx(8 / covered, rel=1e-9)
    half = Filters(Period(START + timedelta(days=1), START + timedelta(days=2)))
    assert queries.value(facts, half, "burn_rate").value == 2.0
    daily = queries.daily(facts, Filters(Period(START, START + timedelta(days=5))), "burn_rate")["value"]
    assert daily[:3].to_list() == [2.0, 2.0, 2.0]
    assert daily[3] == pytest.approx(2 / (covered - 3), rel=1e-9)
    assert pd.isna(daily[4])


def test_hours_of_the_week_are_all_168_and_add_up(town: Ledger, facts: Facts) -> None:
    filters = Filters(Period(START - timedelta(days=2), START + timedelta(days=30)))
    frame = queries.hours_of_week(facts, filters, "requests")
    assert len(frame) == 168
    assert frame["numerator"].sum() == queries.value(facts, filters, "requests").numerator
    local = Counter()
    for row in town.entries:
        if PLAINLY["requests"][0]([row]):
            at = row["occurred_at"].astimezone(KATHMANDU)
            local[at.isoweekday(), at.hour] += 1
    found = {(row["dow"], row["hour"]): row["numerator"] for row in frame.to_dict("records")}
    assert {key: count for key, count in found.items() if count} == dict(local)
    # In Kathmandu the ledger covers 1 to 13 March, Saturday to Thursday week: only Friday came once.
    twice = frame[frame["dow"] != 5]
    assert (twice["per_hour"] * 2).to_list() == twice["value"].to_list()
    once = frame[frame["dow"] == 5]
    assert once["per_hour"].to_list() == once["value"].to_list()


def test_changes_are_relative_for_amounts_and_differences_for_shares(town: Ledger, facts: Facts) -> None:
    period = Period(START + timedelta(days=6), START + timedelta(days=10))
    filters = Filters(period, period.before())
    frame = queries.kpis(facts, filters, ("spent", "fresh_rate", "at_cap_share", "active_accounts")).set_index("slug")
    now, then = (
        sum(map(spent, behind(town.entries, one))) for one in (filters, replace(filters, period=period.before()))
    )
    assert frame.loc["spent", "value"] == now / CREDIT
    assert frame.loc["spent", "before"] == then / CREDIT
    assert frame.loc["spent", "change"] == pytest.approx(now / then - 1)
    rates = [queries.value(facts, Filters(one), "fresh_rate").value for one in (period, period.before())]
    assert frame.loc["fresh_rate", "change"] == pytest.approx(rates[0] - rates[1])
    assert pd.isna(frame.loc["at_cap_share", "value"])
    assert pd.isna(frame.loc["at_cap_share", "change"])
    alone = queries.kpis(facts, Filters(period), ("spent",))
    assert pd.isna(alone.loc[0, "before"])


def test_an_unfinished_period_is_compared_over_the_same_elapsed_time(town: Ledger, facts: Facts) -> None:
    as_of = max(row["occurred_at"] for row in town.entries)
    period = Period(as_of - timedelta(days=2), as_of + timedelta(days=5))
    filters = Filters(period, period.before())
    cut = fair(filters, as_of)
    assert cut.compare == Period(period.before().start, period.before().start + timedelta(days=2))
    assert (
        queries.kpis(facts, filters, ("spent",)).loc[0, "before"]
        == queries.value(facts, Filters(cut.compare), "spent").value
    )
    finished = Filters(Period(START, START + timedelta(days=1)), Period(START - timedelta(days=1), START))
    assert fair(finished, as_of) is finished
    assert fair(Filters(period), as_of) == Filters(period)


def test_queries_of_an_empty_ledger_are_empty_and_unknown(ledger: Ledger, copied: Copy) -> None:
    facts = copied(ledger)
    filters = Filters(Period(START, START + timedelta(days=3)), Period(START - timedelta(days=3), START))
    frame: Any = queries.kpis(facts, filters, tuple(metrics.METRICS))
    assert frame.loc[frame["format"] == "share", "value"].isna().all()
    assert queries.value(facts, filters, "spent") == (0.0, 0, None)
    for slug in metrics.METRICS:
        daily = queries.daily(facts, filters, slug)
        assert len(daily) == 3
        assert daily["value"].isna().all()
    assert queries.daily(facts, filters, "spent", by="plan").empty
    assert queries.breakdown(facts, filters, "spent", "plan").empty
