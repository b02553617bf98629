"""What a page costs the server: the questions each page asks, one after the other, with nothing remembered in between.

The facts are read from segments on disk, as a dashboard reads them; the same questions about burn and coverage also go to
the ledger's own tables, for the ratio.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple

from credit_core.analytics import queries
from credit_core.analytics.filters import Filters, Period
from credit_core.analytics.queries import economics, gaps, operations, settling, standing
from credit_core.analytics.sync import Facts
from credit_core.bench.measure import p50_p95
from credit_core.policy.config import Config
from credit_core.policy.plans import Catalog
from credit_core.units import from_us

DAYS = 28
Question = Callable[[Facts, Filters], Any]


class Terms(NamedTuple):
    """What some questions need beside filters."""

    config: Config
    catalog: Catalog
    version: int


def _before(question: Question) -> Question:
    def asked(facts: Facts, chosen: Filters) -> Any:
        compared = chosen.compared()
        assert compared is not None, "the bench compares with the period before"
        return question(facts, compared)

    return asked


def pages(terms: Terms) -> dict[str, tuple[Question, ...]]:
    """Page → the distinct questions that it asks for its first view: 28 days against the 28 before."""
    config, catalog = terms.config, terms.catalog
    marks: Question = queries.release_marks
    return {
        "overview": (
            marks, queries.daily_outcomes, _before(queries.daily_outcomes), partial(queries.slos, config=config),
            lambda facts, chosen: standing.running_out(facts, chosen, _last(facts) + timedelta(days=7)),
            standing.pace_by_plan, standing.since_release,
        ),
        "burn": (
            marks, standing.pace_of_all, standing.pace_by_plan, standing.since_release, standing.fleet_burn, _before(standing.fleet_burn),
            standing.burn_by_day, _before(standing.burn_by_day), queries.burn_by_plan_model, _metric(queries.kpis, ("spent",)),
            _metric(queries.breakdown, "spent", "plan"), _metric(queries.hours_of_week, "spent"), _metric(queries.value, "requests"),
            partial(queries.top_movers, by="user_id", limit=10), partial(queries.burn_by_account, limit=None),
        ),
        "coverage": (
            marks, _metric(queries.value, "coverage_miss_rate"), _metric(queries.daily, "coverage_miss_rate"),
            partial(queries.miss_by_plan, config=config), partial(queries.misses_by_day, limit=6),
            partial(queries.cells, config=config), partial(gaps.pantry_effect, config=config),
        ),
        "surplus": (
            marks, queries.surplus_now, standing.spread, _before(standing.spread), queries.surplus_bands, _before(queries.surplus_bands),
            standing.running_out, queries.surplus_histogram, queries.surplus_by_plan, queries.run_outs,
            partial(settling.droop_by_plan, config=config, version=terms.version),
        ),
        "economics": (
            marks, partial(economics.accounts, catalog=catalog), _before(partial(economics.accounts, catalog=catalog)),
            partial(economics.by_day, catalog=catalog), partial(economics.by_plan, catalog=catalog), partial(economics.by_model, catalog=catalog),
            partial(economics.liability, catalog=catalog), partial(economics.packs, catalog=catalog), _metric(queries.values, ("breakage",)),
            economics.funnel, economics.welcome, economics.cohorts,
        ),
        "operations": (
            marks, _metric(queries.values, ("latency_p95_ms", "failure_rate")), _metric(queries.daily, "latency_p95_ms", "model"),
            operations.rates_by_day, operations.incidents_by_day, operations.incidents, operations.models,
        ),
        "explore": (
            marks, _metric(queries.kpis, ("fresh_rate",)), _metric(queries.daily, "fresh_rate", "plan"),
            _metric(queries.breakdown, "fresh_rate", "plan"), _before(_metric(queries.breakdown, "fresh_rate", "plan")),
        ),
    }  # fmt: skip


def _metric(question: Callable[..., Any], *arguments: Any) -> Question:
    return lambda facts, chosen: question(facts, chosen, *arguments)


def _last(facts: Facts) -> Any:
    assert facts.extent.last_us is not None, "the bench's ledger has entries"
    return from_us(facts.extent.last_us)


def filters_of(facts: Facts) -> Filters:
    """The last 28 days of the ledger against the 28 before."""
    end = _last(facts) + timedelta(microseconds=1)
    midnight = end.replace(hour=0, minute=0, second=0, microsecond=0)
    start = midnight - timedelta(days=DAYS - 1)
    return Filters(Period(start, end), Period(start - timedelta(days=DAYS), end - timedelta(days=DAYS)))


def asked(facts: Facts, terms: Terms, times: int, chosen: Filters | None = None) -> dict[str, dict[str, float]]:
    """Per page: median and 95th percentile of the milliseconds that all its questions take."""
    chosen = chosen or filters_of(facts)
    found = {}
    for page, questions in pages(terms).items():
        taken = []
        for turn in range(times + 1):
            started = time.perf_counter()
            for question in questions:
                question(facts, chosen)
            # The first is not counted: it reads what others find in the system's cache.
            if turn:
                taken.append((time.perf_counter() - started) * 1_000)
        p50, p95 = p50_p95(taken)
        found[page] = {"p50_ms": p50, "p95_ms": p95}
    return found
