"""Every metric of SPEC 6, declared once: its name, unit, expression, and the dimensions it may be summed over.

Pages, exports and the tie-out read this registry. Rates keep numerator and denominator and are never averaged. Amounts
are micro-units inside; ``scale`` of them make one of the unit that is shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import FromClause, case, select
from sqlalchemy.dialects.postgresql.base import PGDialect

from credit_core.analytics import measures as m
from credit_core.analytics import relations
from credit_core.errors import InvalidRequest
from credit_core.units import MICRO

Format = Literal["credits", "dollars", "share", "days", "count", "ms"]
Direction = Literal["up", "down", "neutral"]
#: What the expressions are over: entries; closed cycles; or decisions with their neighbour in the session.
Relation = Literal["facts", "closings", "neighbours"]
#: ``period``: the rows of the period. ``to_date``: all rows up to its end, for what is open at that instant.
Span = Literal["period", "to_date"]

_COMMON = ("plan", "region", "modality", "arm", "config_version", "genre", "mood", "user_id", "team_id", "account_id")
POSTED = (*_COMMON, "model", "kind", "lot_kind")
DECIDED = (*_COMMON, "model", "rule", "outcome", "mode")
RATED = (*_COMMON, "mode")
ENDED = (*_COMMON, "model")
CLOSED = ("plan", "region", "account_id")
NOTHING: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A declared metric: ``numerator / scale`` in ``unit``, or ``numerator / denominator`` for a rate.

    ``dimensions``: what it may be broken down by. ``summable``: dimensions, ``day`` among them, whose parts add up to
    the whole; of a rate, numerator and denominator do. ``per_day``: also divided by the period's elapsed days.
    """

    slug: str
    title: str
    unit: str
    format: Format
    direction: Direction
    definition: str
    source: str
    numerator: m.Expression
    denominator: m.Expression | None = None
    dimensions: tuple[str, ...] = RATED
    summable: tuple[str, ...] = ("day", *RATED)
    scale: int = 1
    relation: Relation = "facts"
    span: Span = "period"
    per_day: bool = False

    @property
    def zero_of_nothing(self) -> bool:
        """True where no rows mean 0; a rate or a quantile of nothing is unknown."""
        return self.denominator is None and self.format != "ms"


def _amount(slug: str, title: str, direction: Direction, definition: str, source: str, amount: m.Expression) -> Metric:
    return Metric(
        slug=slug, title=title, unit="credits", format="credits", direction=direction, definition=definition, source=source,
        numerator=m.total(amount), dimensions=POSTED, summable=("day", *POSTED), scale=MICRO,
    )  # fmt: skip


def _money(
    slug: str,
    title: str,
    direction: Direction,
    definition: str,
    source: str,
    amount: m.Expression,
    span: Span = "period",
) -> Metric:
    return Metric(
        slug=slug, title=title, unit="dollars", format="dollars", direction=direction, definition=definition, source=source,
        numerator=m.total(amount), dimensions=POSTED, summable=POSTED if span == "to_date" else ("day", *POSTED), scale=MICRO,
        span=span,
    )  # fmt: skip


def _number(
    slug: str, title: str, unit: str, direction: Direction, definition: str, source: str, condition: m.Expression,
    dimensions: tuple[str, ...] = DECIDED,
) -> Metric:  # fmt: skip
    return Metric(
        slug=slug, title=title, unit=unit, format="count", direction=direction, definition=definition, source=source,
        numerator=m.count(condition), dimensions=dimensions, summable=("day", *dimensions),
    )  # fmt: skip


def _rate(
    slug: str, title: str, direction: Direction, definition: str, source: str, part: m.Expression, whole: m.Expression,
    dimensions: tuple[str, ...] = RATED,
) -> Metric:  # fmt: skip
    return Metric(
        slug=slug, title=title, unit="share", format="share", direction=direction, definition=definition, source=source,
        numerator=part, denominator=whole, dimensions=dimensions, summable=("day", *dimensions),
    )  # fmt: skip


def _quantile(
    slug: str, title: str, definition: str, source: str, quantile: m.Expression, dimensions: tuple[str, ...]
) -> Metric:
    return Metric(
        slug=slug, title=title, unit="ms", format="ms", direction="down", definition=definition, source=source,
        numerator=quantile, dimensions=dimensions, summable=NOTHING,
    )  # fmt: skip


_CREDITS = (
    _amount("spent", "Credits spent", "neutral", "settle + import − refund", "SPEC 2, Spent", m.spent_uc),
    Metric(
        slug="burn_rate",
        title="Burn rate",
        unit="credits per day",
        format="credits",
        direction="neutral",
        definition="credits spent / elapsed days of the period",
        source="SPEC 6, burn rate",
        numerator=m.total(m.spent_uc),
        dimensions=POSTED,
        summable=POSTED,
        scale=MICRO,
        per_day=True,
    ),
    _amount(
        "granted",
        "Granted",
        "neutral",
        "credits granted, into any kind of lot",
        "SPEC 2, grant",
        m.moved_uc("grant", 1),
    ),
    _amount(
        "expired",
        "Expired",
        "down",
        "credits that expired, at a reset or with their lot",
        "SPEC 2, expire",
        m.moved_uc("expire", -1),
    ),
    _amount(
        "clamped",
        "Clamped",
        "down",
        "credits taken because they were over a cap",
        "SPEC 2, clamp",
        m.moved_uc("clamp", -1),
    ),
    Metric(
        slug="provider_cost",
        title="Provider cost",
        unit="dollars",
        format="dollars",
        direction="down",
        definition="what providers charged, for failed, partial and late generations too; unknown where no settle has a cost",
        source="SPEC 2.1, cost_usd_micro",
        numerator=m.provider_cost,
        dimensions=POSTED,
        summable=("day", *POSTED),
        scale=MICRO,
    ),
    Metric(
        slug="open_holds_credits",
        title="Credits in open holds",
        unit="credits",
        format="credits",
        direction="down",
        definition="Σ d_held up to the end of the period",
        source="SPEC 2, held",
        numerator=m.total(lambda f: f.d_held_uc),
        dimensions=POSTED,
        summable=POSTED,
        scale=MICRO,
        span="to_date",
    ),
)  # fmt: skip
_SALES = (
    _number(
        "packs_sold", "Packs sold", "packs", "up", "purchases granted", "SPEC 3, packs", m.sold, ("plan", "region", "user_id"),
    ),
    _money(
        "pack_sales", "Pack sales", "up", "packs sold, at the unit price of their lots", "SPEC 3, packs",
        m.at_price(lambda f: case((m.sold(f), f.d_avail_uc), else_=0)),
    ),
    _money(
        "lot_revenue", "Revenue of lots", "up", "credits spent, at the unit price of the lots they came from", "SPEC 6, revenue",
        m.at_price(m.spent_uc),
    ),
    _money(
        "breakage", "Breakage", "neutral", "expired and clamped credits, at the unit price of their lots", "SPEC 6, revenue",
        m.at_price(lambda f: case((f.kind.in_(("expire", "clamp")), -f.d_avail_uc), else_=0)),
    ),
    _money(
        "liability", "Outstanding liability", "neutral", "credits available and held at the end of the period, at the unit price of "
        "their lots", "SPEC 6, revenue", m.at_price(m.outstanding_uc), "to_date",
    ),
    Metric(
        slug="outstanding",
        title="Credits outstanding",
        unit="credits",
        format="credits",
        direction="neutral",
        definition="credits available and held at the end of the period",
        source="SPEC 6, outstanding liability",
        numerator=m.total(m.outstanding_uc),
        dimensions=POSTED,
        summable=POSTED,
        scale=MICRO,
        span="to_date",
    ),
)  # fmt: skip
_DECISIONS = (
    _number(
        "requests", "Requests", "requests", "neutral", "answers of authorize, and rows of recorded usage",
        "SPEC 6, requests", m.requested,
    ),
    Metric(
        slug="generations",
        title="Generations",
        unit="generations",
        format="count",
        direction="neutral",
        definition="generations of plans that count them, less those that failed",
        source="SPEC 3, daily_count, plan_credits, guest_window",
        numerator=m.total(lambda f: f.d_count),
        dimensions=ENDED,
        summable=("day", *ENDED),
    ),
    _number(
        "fresh", "Fresh", "decisions", "neutral", "requests answered with a fresh one: by rules 4–8, or allowed by counts and balance",
        "SPEC 6, fresh rate", m.served_fresh,
    ),
    _number(
        "library", "Library", "decisions", "neutral", "decisions by rules 4–8 for the library",
        "SPEC 6, fresh rate", m.judged_with("library"),
    ),
    _number(
        "declined", "Declined", "requests", "down", "refused: by rules 1–3, over a plan's count, or unaffordable where no library answers",
        "SPEC 4, rules 1–3; SPEC 3", m.declined,
    ),
    _number(
        "rate_limit_hits", "Rate-limit hits", "requests", "down", "requests refused by rule 2",
        "SPEC 6, rate-limit hits", m.by_rule("rate_limited"),
    ),
    _number(
        "limit_hits", "Limit hits", "requests", "down", "requests over the counts of their plan: by day, month or guest's window",
        "SPEC 3", m.by_rule("over_limit"),
    ),
    _number(
        "anomalies", "Anomalies", "generations", "down", "fresh ones in an hour that the user's own history does not explain",
        "SPEC 3, anomaly flag", lambda f: f.anomaly.is_(True) & (f.line == 1),
    ),
    _number(
        "coverage_misses", "Coverage misses", "decisions", "down", "decisions by rules 4–8 with miss",
        "SPEC 6, coverage-miss rate", m.missed,
    ),
    _number(
        "session_capped", "Session-capped", "decisions", "down", "decisions by rule 6",
        "SPEC 4, rule 6", m.by_rule("session_cap"),
    ),
    _number(
        "unaffordable", "Unaffordable", "decisions", "down", "decisions by rule 4, of any plan",
        "SPEC 4, rule 4", m.by_rule("unaffordable"),
    ),
    _rate(
        "fresh_rate", "Fresh rate", "neutral", "fresh / decisions by rules 4–8, at decision time", "SPEC 6, fresh rate",
        m.count(m.judged_with("fresh")), m.count(m.judged),
    ),
    _rate(
        "fresh_rate_chosen", "Fresh rate, chosen", "neutral", "fresh / decisions by rule 8 alone", "SPEC 6, fresh rate",
        m.count(m.drawn("fresh")), m.count(m.by_rule("controller")),
    ),
    _rate(
        "coverage_miss_rate", "Coverage-miss rate", "down", "decisions with miss / decisions by rules 4–8", "SPEC 6, coverage-miss rate",
        m.count(m.missed), m.count(m.judged),
    ),
    _rate(
        "session_capped_share", "Session-capped share", "down", "decisions by rule 6 / decisions by rules 4–8", "SPEC 4, rule 6",
        m.count(m.by_rule("session_cap")), m.count(m.judged),
    ),
    _rate(
        "unaffordable_share", "Unaffordable share", "down", "decisions by rule 4 / decisions by rules 4–8", "SPEC 4, rule 4",
        m.count(m.judged_by("unaffordable")), m.count(m.judged),
    ),
    _rate(
        "idle_library_share", "Library while ahead", "down",
        "library answers by rule 8 above +3 surplus days / library answers by rule 8", "SPEC 6, SLOs",
        m.count(lambda f: m.drawn("library")(f) & (f.surplus_days > 3)), m.count(m.drawn("library")),
    ),
    Metric(
        slug="flicker",
        title="Flicker",
        unit="share",
        format="share",
        direction="down",
        definition="neighbouring fresh/library decisions in one session of one user that differ / all neighbours",
        source="SPEC 6, flicker",
        numerator=m.count(lambda n: n.outcome != n.outcome_before),
        denominator=m.count(lambda n: n.outcome_before.is_not(None)),
        relation="neighbours",
    ),
)  # fmt: skip
_ENDINGS = (
    _rate(
        "failure_rate", "Failure rate", "down", "releases because the provider failed / ended reserves", "SPEC 6, failure rate",
        m.count(m.failed), m.count(m.legs(*m.ENDS)), ENDED,
    ),
    _rate(
        "partial_rate", "Partial rate", "down", "partial / ended reserves",
        "SPEC 6, partial rate", m.count(m.legs("partial")), m.count(m.legs(*m.ENDS)), ENDED,
    ),
    _rate(
        "refund_rate", "Refund rate", "down", "refunds / settles",
        "SPEC 6, refund rate", m.count(m.legs("refund")), m.count(m.legs("settle")), ENDED,
    ),
    _number(
        "late_settles", "Late settles", "settles", "down", "settles that came after their hold was swept", "SPEC 6, late settles",
        m.legs("rejected", reason="late_settle"), ENDED,
    ),
    _number(
        "swept", "Swept holds", "holds", "down", "holds that nobody ended within their lifetime",
        "SPEC 2.1, sweeper", m.legs("release", reason="swept"), ENDED,
    ),
    Metric(
        slug="open_holds",
        title="Open holds",
        unit="holds",
        format="count",
        direction="down",
        definition="reserves not ended by the end of the period",
        source="SPEC 6, open holds",
        numerator=m.open_legs,
        dimensions=ENDED,
        summable=ENDED,
        span="to_date",
    ),
    _quantile(
        "latency_p50_ms", "Latency, median", "median of the provider's latency", "SPEC 6, p50 latency",
        m.quantile("0.5", "latency_ms"), ENDED,
    ),
    _quantile(
        "latency_p95_ms", "Latency, p95", "95th percentile of the provider's latency", "SPEC 6, p95 latency",
        m.quantile("0.95", "latency_ms"), ENDED,
    ),
    _quantile(
        "authorize_p95_ms", "Authorize, p95", "95th percentile of the time inside authorize, without the commit", "SPEC 6, SLOs",
        m.quantile("0.95", "authorize_ms"), DECIDED,
    ),
)  # fmt: skip
_ACCOUNTS = (
    Metric(
        slug="active_accounts",
        title="Active accounts",
        unit="accounts",
        format="count",
        direction="up",
        definition="accounts with at least one request",
        source="SPEC 6, active accounts",
        numerator=m.accounts(m.requested),
        dimensions=DECIDED,
        summable=NOTHING,
    ),
    _number(
        "new_accounts", "New accounts", "accounts", "up", "accounts whose first entry lies in the period", "SPEC 6, new accounts",
        lambda f: f.seq == 1, ("plan", "region"),
    ),
    Metric(
        slug="run_out_share",
        title="Accounts that ran out",
        unit="share",
        format="share",
        direction="down",
        definition="accounts with a decision by rule 4, of any plan / active accounts",
        source="SPEC 6, run-out",
        numerator=m.accounts(m.by_rule("unaffordable")),
        denominator=m.accounts(m.requested),
        dimensions=("plan", "region", "arm", "config_version"),
        summable=NOTHING,
    ),
    Metric(
        slug="at_cap_share",
        title="At cap",
        unit="share",
        format="share",
        direction="down",
        definition="closings of titrated plans whose kept ≥ (c − 1)·Q / closings",
        source="SPEC 6, at-cap share",
        numerator=m.count(lambda c: c.at_cap),
        denominator=m.rows,
        dimensions=CLOSED,
        summable=("day", *CLOSED),
        relation="closings",
    ),
)  # fmt: skip

#: Every metric by slug.
METRICS: dict[str, Metric] = {
    declared.slug: declared for declared in (*_CREDITS, *_SALES, *_DECISIONS, *_ENDINGS, *_ACCOUNTS)
}


def metric(slug: str) -> Metric:
    """The metric called ``slug``, else :class:`InvalidRequest` with the slugs there are."""
    if slug not in METRICS:
        raise InvalidRequest(f"There is no metric {slug!r}. There are: {', '.join(METRICS)}.")
    return METRICS[slug]


def checked_dimension(declared: Metric, name: str) -> str:
    """``name`` where the metric may be broken down by it, else :class:`InvalidRequest`."""
    if name not in declared.dimensions:
        choices = ", ".join(declared.dimensions)
        raise InvalidRequest(f"{declared.title} cannot be broken down by {name!r}. It can by: {choices}.")
    return name


def relation_of(declared: Metric, entries: FromClause) -> FromClause:
    """What the metric's expressions are over, given the entries it looks at."""
    if declared.relation == "closings":
        return m.closings()
    return m.neighbours(entries) if declared.relation == "neighbours" else entries


def sql(slug: str) -> str:
    """The metric's expressions as SQL, for people who want to check it."""
    declared = metric(slug)
    relation = relation_of(declared, relations.facts)
    parts = [declared.numerator(relation.c).label("numerator")]
    if declared.denominator is not None:
        parts.append(declared.denominator(relation.c).label("denominator"))
    dialect = PGDialect()  # type: ignore[no-untyped-call]
    return str(select(*parts).select_from(relation).compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
