"""A ledger with plans of every policy: each figure is its own unit's, and what only paced accounts have is theirs alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from credit_core.analytics import metrics, queries, relations
from credit_core.analytics.filters import Filters, Period
from credit_core.analytics.queries import standing
from credit_core.analytics.queries.surplus import run_outs, surplus_bands, surplus_now
from credit_core.analytics.sync import Facts
from credit_core.policy.config import Config
from credit_core.store import schema
from tests.analytics.ledgers import CATALOG, MIXED, START, Ledger, make, mixed
from tests.analytics.plainly import PLAINLY, behind, spent

ALL = Filters(Period(START - timedelta(days=1), START + timedelta(days=13)))
UNITS = {
    "titrated": ("basic", "free", "premium"),
    "studio": ("creator_free", "creator_pro"),
    "prepaid": ("prepaid",),
    "generations": ("daily", "guest"),
}
EXACT = [slug for slug in PLAINLY if metrics.metric(slug).format != "ms"]


@pytest.fixture(scope="module")
def bazaar(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    """The busy ledger with accounts of every other policy beside."""
    return mixed(make(f"sqlite:///{tmp_path_factory.mktemp('bazaar')}/ledger.db"))


@pytest.fixture(scope="module")
def copy(bazaar: Ledger) -> Iterator[Facts]:
    """Its columnar copy."""
    facts = Facts.open(bazaar.url)
    facts.follow()
    yield facts
    facts.close()


def of(unit: str) -> Filters:
    return replace(ALL, unit=unit, within=UNITS[unit])


def test_plans_bear_the_unit_and_policy_of_the_catalogue(copy: Facts) -> None:
    found = queries.options(copy)

    assert {one.plan: (one.quota_policy, one.credit_unit) for one in found.terms} == {
        name: (CATALOG.catalog.plan(name).quota_policy, CATALOG.catalog.plan(name).credit_unit)
        for name in (*MIXED, "basic", "free", "premium")
    }
    assert found.units == tuple(sorted(UNITS))
    assert [found.paced(unit) for unit in UNITS] == [True, False, False, False]
    assert [found.charges(unit) for unit in UNITS] == [True, True, True, False]


def test_a_newer_catalogue_names_the_policy_and_a_plan_that_it_dropped_keeps_its_own(bazaar: Ledger) -> None:
    own = make(bazaar.url.replace("ledger.db", "catalogs.db"))
    facts = Facts.open(own.url)
    own.account("a", "basic")
    own.account("b", "prepaid")
    own.grant("a", START)
    own.grant("b", START, credits=5, kind="welcome")
    own.write()
    facts.follow()
    body = {"plans": {"basic": {"quota_policy": "plan_credits", "credit_unit": "studio"}}}
    own.add(schema.catalogs, {"version": 2, "body": body})

    facts.follow()

    terms = {one.plan: (one.quota_policy, one.credit_unit) for one in queries.options(facts).terms}
    assert terms == {"basic": ("plan_credits", "studio"), "prepaid": ("prepaid", "prepaid")}
    facts.close()


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("slug", EXACT)
def test_a_metric_of_one_unit_equals_its_plain_computation(bazaar: Ledger, copy: Facts, slug: str, unit: str) -> None:
    filters = of(unit)
    rows = behind(bazaar.entries, filters)
    numerator, denominator = PLAINLY[slug]
    found = queries.value(copy, filters, slug)

    assert found.numerator == numerator(rows)
    assert found.denominator == (None if denominator is None else denominator(rows))


@pytest.mark.parametrize("unit", UNITS)
def test_facts_tie_out_under_each_unit(bazaar: Ledger, copy: Facts, unit: str) -> None:
    tie = queries.tie_out(copy, of(unit))

    assert tie.exact
    assert next(line.ledger for line in tie.lines if line.name == "spent_uc") == sum(
        spent(row) for row in bazaar.entries if row["plan"] in UNITS[unit]
    )


def test_a_unit_that_no_plan_is_left_of_keeps_nothing_rather_than_all(copy: Facts) -> None:
    nothing = replace(ALL, within=())

    assert queries.value(copy, nothing, "requests").value == 0
    assert queries.tie_out(copy, nothing).lines[0].facts == 0
    assert surplus_now(copy, nothing).empty
    assert run_outs(copy, nothing).empty
    assert queries.value(copy, nothing, "at_cap_share").value is None


def test_what_is_refused_is_no_decision_of_the_law_but_a_run_out(bazaar: Ledger, copy: Facts) -> None:
    """A planted fault: were a REJECTED unaffordable judged, studio would have a fresh rate."""
    assert queries.value(copy, of("studio"), "unaffordable").value > 0
    for slug in ("fresh_rate", "coverage_miss_rate", "unaffordable_share", "session_capped_share", "flicker"):
        assert queries.value(copy, of("studio"), slug).value is None
        assert queries.value(copy, ALL, slug) == queries.value(copy, of("titrated"), slug)

    ran_out = run_outs(copy, of("prepaid"))
    first = min(
        row["occurred_at"] for row in bazaar.entries if row["plan"] == "prepaid" and row["rule"] == "unaffordable"
    )
    assert ran_out["run_out_at"].tolist() == [pd.Timestamp(first)]
    assert ran_out["dry_share"].isna().all(), "a prepaid account has no cycle"
    assert run_outs(copy, of("studio"))["dry_share"].notna().all()


def test_limit_hits_are_no_rate_limit_hits(bazaar: Ledger, copy: Facts) -> None:
    hits = sum(row["rule"] == "over_limit" for row in bazaar.entries)

    assert queries.value(copy, ALL, "limit_hits").value == hits > 0
    assert queries.value(copy, ALL, "rate_limit_hits").value == sum(r["rule"] == "rate_limited" for r in bazaar.entries)
    assert queries.value(copy, of("generations"), "rate_limit_hits").value == 0


def test_only_titrated_accounts_have_surplus_days(copy: Facts) -> None:
    assert set(surplus_now(copy, ALL)["plan"]) == set(UNITS["titrated"])
    for unit in ("studio", "prepaid", "generations"):
        assert surplus_now(copy, of(unit)).empty
        assert surplus_bands(copy, of(unit))["accounts"].isna().all()
        assert standing.spread(copy, of(unit)) == standing.NOBODY
        assert queries.value(copy, of(unit), "at_cap_share").value is None


def test_closings_of_titrated_plans_alone_can_be_at_the_cap(bazaar: Ledger) -> None:
    own = make(bazaar.url.replace("ledger.db", "closings.db"))
    for name in ("basic", "creator_pro"):
        own.account(name, name, days=5)
        own.grant(name, START)
        own.cycle(
            name, 1, START + timedelta(days=5), START + timedelta(days=35), closed_at=START + timedelta(days=35),
            kept_uc=0, cap_multiple=1.0,
        )  # fmt: skip
    own.write()
    facts = Facts.open(own.url)
    facts.follow()
    later = Filters(Period(START, START + timedelta(days=40)))

    assert queries.value(facts, later, "at_cap_share").denominator == 1
    facts.close()


@pytest.mark.parametrize("unit", UNITS)
def test_nothing_divides_by_a_quota_of_nothing(copy: Facts, unit: str) -> None:
    filters = of(unit)
    frames = [
        queries.burn_against_pace(copy, filters),
        queries.burn_by_account(copy, filters),
        standing.pace_by_plan(copy, filters),
        surplus_now(copy, filters),
        run_outs(copy, filters),
        queries.slos(copy, filters, Config()),
    ]
    for frame in frames:
        assert not np.isinf(frame.select_dtypes("number").to_numpy(dtype="float64", na_value=np.nan)).any()
    accounts = queries.burn_by_account(copy, filters)
    assert accounts.loc[accounts["plan"].isin(("prepaid", "creator_free", "daily")), "pace_credits"].isna().all()


def test_a_plan_without_a_quota_is_off_nobodys_pace(copy: Facts) -> None:
    paces = standing.pace_by_plan(copy, of("prepaid"))

    assert paces["over_share"].isna().all()
    assert standing.pace_of_all(copy, of("prepaid")).over_share is None
    assert standing.pace_of_all(copy, of("prepaid")).spent_uc > 0


def test_days_of_counting_plans_show_what_they_count(bazaar: Ledger, copy: Facts) -> None:
    frame = queries.daily_outcomes(copy, of("generations"))

    counted = [row["d_count"] for row in bazaar.entries if row["plan"] in UNITS["generations"] and row["d_count"]]
    assert frame["generations"].sum() == sum(counted)
    assert -1 in counted
    assert frame["fresh"].sum() + frame["declined"].sum() == frame["requests"].sum()


def test_the_copy_has_what_reading_needs_and_no_address() -> None:
    assert {"quota_policy", "d_count", "anomaly", "limit_name"} <= set(relations.ENTRY_COLUMNS)
    assert not {"ip_hash", "limit_count", "used_count", "resets_at", "counted_at"} & set(relations.ENTRY_COLUMNS)


def test_entries_by_plan_are_those_behind_the_filters(bazaar: Ledger, copy: Facts) -> None:
    found = queries.entries_by_plan(copy, ALL)

    assert sum(found.values()) == len(bazaar.entries)
    assert found["prepaid"] == sum(row["plan"] == "prepaid" for row in bazaar.entries)
