"""Does it work: models by latency and failures, what waits or is held now, and who met limits."""

from __future__ import annotations

from datetime import datetime
from functools import reduce

import pandas as pd
from sqlalchemy import case, func, literal, select

from credit_core.analytics import measures, relations
from credit_core.analytics.filters import Filters
from credit_core.analytics.metrics import metric
from credit_core.analytics.queries.overview import STUCK_AFTER_US
from credit_core.analytics.queries.series import breakdowns, dailies
from credit_core.analytics.sync import Facts
from credit_core.units import MICRO, to_us

#: Columns of :func:`models` → the metrics they are.
_OF_MODELS = {
    "p50_ms": "latency_p50_ms",
    "p95_ms": "latency_p95_ms",
    "failure_rate": "failure_rate",
    "partial_rate": "partial_rate",
    "refund_rate": "refund_rate",
}
#: Columns of :func:`incidents` → the metrics they count.
_INCIDENTS = {
    "rate_limited": "rate_limit_hits",
    "over_limit": "limit_hits",
    "blocked": "blocked_attempts",
    "anomalies": "anomalies",
    "failed": "failure_rate",
    "late": "late_settles",
}
#: Upper edges of a hold's age in seconds, and what the class is called.
_AGES = ((60, "under 1 min"), (300, "1 to 5 min"), (900, "5 to 15 min"))
OLDEST, STUCK = "over 15 min", "past its lifetime"
AGES = (*(name for _, name in _AGES), OLDEST, STUCK)


def models(facts: Facts, filters: Filters) -> pd.DataFrame:
    """Per model with ended reserves, the busiest first: model, ended, p50_ms, p95_ms, failure_rate, partial_rate, refund_rate."""
    # Both quantiles of the same values, which are sorted once.
    f = relations.facts.c
    quantiles = [
        metric(slug).numerator(f).label(name) for name, slug in _OF_MODELS.items() if metric(slug).format == "ms"
    ]
    kept_rows = (relations.behind(relations.facts, filters), f.latency_ms.is_not(None))
    parts = [facts.frame(select(f.model, *quantiles).where(*kept_rows).group_by(f.model))]
    rates = {name: slug for name, slug in _OF_MODELS.items() if metric(slug).format != "ms"}
    found = breakdowns(facts, filters, tuple(rates.values()), "model")
    for name, slug in rates.items():
        kept = {"value": name} | ({"denominator": "ended"} if slug == "failure_rate" else {})
        parts.append(found[slug][["model", *kept]].rename(columns=kept))
    frame = reduce(lambda left, right: left.merge(right, on="model", how="outer"), parts)
    frame = frame[frame["ended"].fillna(0) > 0].sort_values(["ended", "model"], ascending=[False, True])
    return frame[["model", "ended", *_OF_MODELS]].reset_index(drop=True)


def rates_by_day(facts: Facts, filters: Filters) -> pd.DataFrame:
    """Per reporting day and way to end badly: day, rate (failed, partial, refunded), value, numerator, denominator."""
    ways = {"failed": "failure_rate", "partial": "partial_rate", "refunded": "refund_rate"}
    found = dailies(facts, filters, tuple(ways.values()))
    return pd.concat([found[slug].assign(rate=rate) for rate, slug in ways.items()], ignore_index=True)


def incidents_by_day(facts: Facts, filters: Filters) -> pd.DataFrame:
    """Per reporting day: day, incident (rate_limited, over_limit, blocked, anomalies, late, duplicates), number.

    Of duplicates nobody knows the model, so a filter by model leaves them out.
    """
    counted = {name: slug for name, slug in _INCIDENTS.items() if metric(slug).denominator is None}
    if not filters.models:
        counted["duplicates"] = "duplicates_refused"
    found = dailies(facts, filters, tuple(counted.values()))
    parts = [found[slug].assign(incident=name) for name, slug in counted.items()]
    frame = pd.concat(parts, ignore_index=True).rename(columns={"numerator": "number"})
    return frame[["day", "incident", "number"]]


def incidents(facts: Facts, filters: Filters, limit: int | None = None) -> pd.DataFrame:
    """Users who met limits or failures, most first: user_id, plan, rate_limited, over_limit,
    blocked, anomalies, failed, late, last_at.
    """
    f = relations.facts.c
    counts = {name: metric(slug).numerator(f) for name, slug in _INCIDENTS.items()}
    total = reduce(lambda left, right: left + right, counts.values())
    statement = (
        select(
            f.user_id,
            func.max(f.plan).label("plan"),
            *(one.label(name) for name, one in counts.items()),
            func.max(f.occurred_at).label("last_at"),
        )
        .where(relations.behind(relations.facts, filters), measures.incident(f), f.user_id.is_not(None))
        .group_by(f.user_id)
        .order_by(total.desc(), f.user_id)
        .limit(limit)
    )
    return facts.frame(statement)


def deferred_queue(facts: Facts, filters: Filters, at: datetime) -> pd.DataFrame:
    """Deferred requests that wait at ``at``, the oldest first: user_id, plan, request_id, deferred_at, expires_at, age_s.

    Those past ``expires_at`` stay until the sweeper drops them, or a worker that comes too late.
    """
    d, a = relations.deferrals.c, relations.accounts.c
    statement = (
        select(
            d.user_id,
            a.plan,
            d.request_id,
            d.deferred_at,
            d.expires_at,
            ((to_us(at) - d.deferred_at) / float(MICRO)).label("age_s"),
        )
        .join_from(relations.deferrals, relations.accounts, a.account_id == d.account_id)
        .where(relations.of_accounts(relations.accounts, filters))
        .order_by(d.deferred_at, d.leg_id)
    )
    return facts.frame(statement)


def holds_by_age(facts: Facts, filters: Filters, at: datetime) -> pd.DataFrame:
    """Open holds at ``at``, one row per class of :data:`AGES` in its order: age, holds, accounts.

    A hold is past its lifetime a minute after it expired (SPEC 2, invariant 11), whatever its age.
    """
    h, a = relations.holds.c, relations.accounts.c
    age_s = (to_us(at) - h.reserved_at) / float(MICRO)
    young = [(age_s < edge, literal(name)) for edge, name in _AGES]
    age = case((h.expires_at + STUCK_AFTER_US < to_us(at), literal(STUCK)), *young, else_=literal(OLDEST)).label("age")
    statement = (
        select(age, func.count().label("holds"), func.count(h.account_id.distinct()).label("accounts"))
        .join_from(relations.holds, relations.accounts, a.account_id == h.account_id)
        .where(relations.of_accounts(relations.accounts, filters))
        .group_by(age)
    )
    found = facts.frame(statement)
    counts = pd.DataFrame({"age": list(AGES)}).merge(found, on="age", how="left")
    return counts.fillna({"holds": 0, "accounts": 0}).astype({"holds": "int64", "accounts": "int64"})
