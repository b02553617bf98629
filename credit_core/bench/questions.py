"""What each page of the dashboard asks for its first view: 28 days against the 28 before, no other filter.

Told apart by what a person sees: the first screen, and what stands below it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple

from credit_core.analytics import queries
from credit_core.analytics.filters import Filters
from credit_core.analytics.queries import (
    courses,
    economics,
    explore,
    funnel,
    gaps,
    margins,
    news,
    operations,
    risk,
    settling,
    standing,
)
from credit_core.analytics.queries.surplus import LISTED
from credit_core.analytics.sync import Facts
from credit_core.policy.config import Config
from credit_core.policy.plans import Catalog

_CARDS = {
    "overview": ("burn_rate", "active_accounts", "requests", "fresh_rate", "provider_cost"),
    "burn": ("spent", "burn_rate", "active_accounts", "requests", "provider_cost"),
    "coverage": ("coverage_miss_rate", "coverage_misses", "fresh_rate", "requests"),
    "surplus": ("run_out_share", "at_cap_share"),
    "economics": ("pack_sales", "liability"),
    "operations": ("latency_p95_ms", "failure_rate", "authorize_p95_ms", "rate_limit_hits", "late_settles"),
}


#: The period, the one compared with, or the instant at the end of either.
Of = Literal["period", "before", "end", "before end"]


class Question(NamedTuple):
    """A query, what it is asked beside facts and filters, and of which part of time."""

    query: Callable[..., Any]
    arguments: tuple[Any, ...] = ()
    of: Of = "period"

    def __call__(self, facts: Facts, chosen: Filters) -> Any:
        """Its answer."""
        looked_at = chosen.compared() if self.of.startswith("before") else chosen
        assert looked_at is not None, "the bench compares with the period before"
        return self.query(facts, looked_at.at_end() if self.of.endswith("end") else looked_at, *self.arguments)

    @property
    def name(self) -> str:
        """The query's module and name."""
        return f"{self.query.__module__}.{self.query.__qualname__}"


def _end(query: Callable[..., Any], *arguments: Any) -> Question:
    return Question(query, arguments, "end")


def _before(query: Callable[..., Any], *arguments: Any) -> Question:
    return Question(query, arguments, "before")


def _asked(query: Callable[..., Any], *arguments: Any) -> Question:
    return Question(query, arguments)


class Page(NamedTuple):
    """The distinct questions of a page, in its order: of the ``first`` screen, and ``then``."""

    first: tuple[Question, ...]
    then: tuple[Question, ...]

    @property
    def whole(self) -> tuple[Question, ...]:
        """All of them."""
        return self.first + self.then


class Terms(NamedTuple):
    """What some questions need beside filters. ``as_of``: the newest entry's instant; ``plan``: one with a price by the cycle."""

    config: Config
    catalog: Catalog
    version: int
    as_of: datetime
    plan: str


def pages(terms: Terms) -> dict[str, Page]:
    """Page → its questions."""
    config, catalog, week = terms.config, terms.catalog, terms.as_of + timedelta(days=7)
    q, before, end = _asked, _before, _end
    marks = q(queries.release_marks)
    cards = {page: (q(queries.kpis, slugs), q(courses.courses, slugs)) for page, slugs in _CARDS.items()}
    pace = q(standing.pace_by_plan), q(standing.since_release)
    spent = explore.Question("spent")
    return {
        "overview": Page(
            (
                q(queries.slos, config), end(standing.ends, week), *cards["overview"], *pace, marks, q(queries.daily_outcomes),
                before(queries.daily_outcomes),
            ),
            (
                end(news.since_yesterday), end(news.moved_most, "plan"), q(queries.top_movers, "user_id", 10),
                end(risk.running_out, week, LISTED),
            ),
        ),
        "burn": Page(
            (
                marks, *pace, q(queries.burn_forecast), q(queries.burn_by_plan_model), *cards["burn"], q(standing.pace_of_all),
                q(standing.fleet_burn), before(standing.fleet_burn), q(standing.burn_by_day), before(standing.burn_by_day),
                q(queries.breakdown, "spent", "plan"),
            ),
            (
                q(queries.unusual_days), q(queries.hours_of_week, "spent"), q(queries.top_movers, "user_id", 10),
                q(queries.burners, LISTED),
            ),
        ),
        "coverage": Page(
            (
                marks, q(queries.cells, config), *cards["coverage"], q(queries.miss_by_plan, config), q(gaps.demand_by_coverage, config),
            ),
            (
                q(gaps.pantry_effect, config), q(gaps.first_fallbacks), before(gaps.first_fallbacks),
                q(queries.misses_by_day, 6),
            ),
        ),
        "surplus": Page(
            (
                marks, end(queries.surplus_now, LISTED), end(standing.spread), Question(standing.spread_before, (), "before end"),
                q(queries.surplus_bands), before(queries.surplus_bands), *cards["surplus"], end(standing.ends),
            ),
            (
                end(queries.run_out_risk), end(queries.surplus_histogram), end(queries.surplus_by_plan), q(queries.run_outs, LISTED),
                q(queries.dry_time), q(queries.value, "pacing_efficiency"), q(settling.droop_by_plan, config, terms.version),
            ),
        ),
        "economics": Page(
            (
                marks, q(economics.accounts, catalog), before(economics.accounts, catalog), *cards["economics"],
                q(economics.by_day, catalog), q(economics.by_plan, catalog), q(economics.by_model, catalog),
            ),
            (
                q(margins.by_account, catalog), q(economics.liability, catalog), q(economics.packs, catalog),
                q(funnel.funnel), q(funnel.from_guests), q(funnel.welcome), q(funnel.cohorts),
                q(margins.at_price, catalog, terms.plan, 10.0),
            ),
        ),
        "operations": Page(
            (
                marks, q(operations.models), *cards["operations"], q(queries.daily, "latency_p95_ms", "model"), q(operations.rates_by_day),
            ),
            (q(operations.incidents_by_day), q(operations.incidents)),
        ),
        "explore": Page(
            (
                marks, q(explore.apart, spent), q(queries.kpis, ("spent",)), q(explore.course, spent, {}),
                before(explore.course, spent, {}),
            ),
            (),
        ),
    }  # fmt: skip
