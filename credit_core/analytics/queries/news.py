"""What changed since yesterday: the newest 24 hours beside the 24 before, and what is more than chance."""

from __future__ import annotations

import math
from datetime import timedelta

import pandas as pd

from credit_core.analytics.filters import Filters, Period
from credit_core.analytics.metrics import Metric, metric
from credit_core.analytics.queries.burn import top_movers
from credit_core.analytics.queries.series import Value, change, values
from credit_core.analytics.sync import Facts
from credit_core.units import from_us

DAY = timedelta(days=1)
#: What is looked at, in the order of its weight; rates need more than two standard errors, the others this much.
LOOKED_AT = (
    "spent", "requests", "active_accounts", "new_accounts", "fresh_rate", "coverage_miss_rate", "run_out_share", "failure_rate",
    "late_settles", "rate_limit_hits", "anomalies", "latency_p95_ms", "provider_cost", "packs_sold",
)  # fmt: skip
LEAST, ERRORS = 0.05, 2.0
COLUMNS = ("slug", "title", "format", "direction", "value", "before", "change", "told")


def since_yesterday(facts: Facts, filters: Filters) -> pd.DataFrame:
    """Metrics of the newest 24 hours up to the period's end, and of the 24 before.

    Columns slug, title, format, direction, value, before, change (relative; of shares the difference), told: whether it is
    more than chance. That is, for a share or a count, more than two standard errors (of a difference of two shares, or of
    two Poisson counts), and for counts, amounts and times at least 5 %. Empty where the ledger has no two days.
    """
    day = last_day(facts, filters)
    if day is None:
        return pd.DataFrame(columns=list(COLUMNS))
    now, then = (values(facts, filters.narrowed(period=part, compare=None), LOOKED_AT) for part in (day, day.before()))
    rows = []
    for slug in LOOKED_AT:
        declared, a, b = metric(slug), now[slug], then[slug]
        moved = change(declared, a.value, b.value)
        what = (slug, declared.title, declared.format, declared.direction)
        rows.append((*what, a.value, b.value, moved, _told(declared, a, b, moved)))
    frame = pd.DataFrame(rows, columns=list(COLUMNS), dtype="object")
    return frame.astype(dict.fromkeys(("value", "before", "change"), "float64") | {"told": "bool"})


def moved_most(facts: Facts, filters: Filters, by: str) -> tuple[str, float] | None:
    """The value of a dimension whose burn changed most since yesterday, and by how many credits; None where none did."""
    day = last_day(facts, filters)
    if day is None:
        return None
    found = top_movers(facts, filters.narrowed(period=day, compare=day.before()), by=by, limit=1)
    return None if found.empty else (str(found[by].iloc[0]), float(found["change_credits"].iloc[0]))


def last_day(facts: Facts, filters: Filters) -> Period | None:
    """The newest 24 hours of the period; None where the ledger does not reach as far back as the 24 before."""
    known = facts.extent
    if known.first_us is None or known.last_us is None:
        return None
    end = min(filters.period.end, from_us(known.last_us + 1))
    return Period(end - DAY, end) if from_us(known.first_us) <= end - 2 * DAY else None


def _told(declared: Metric, now: Value, then: Value, moved: float | None) -> bool:
    if now.value is None or then.value is None:
        return False
    if declared.format == "share":
        return abs(now.value - then.value) > ERRORS * _error_of_shares(now, then)
    if moved is None or abs(moved) < LEAST:
        return declared.format == "count" and then.value == 0 and now.value > ERRORS**2
    return declared.format != "count" or abs(now.value - then.value) > ERRORS * math.sqrt(now.value + then.value)


def _error_of_shares(now: Value, then: Value) -> float:
    parts = [float(side.numerator or 0) for side in (now, then)]
    wholes = [float(side.denominator or 0) for side in (now, then)]
    pooled = sum(parts) / sum(wholes)
    return math.sqrt(pooled * (1 - pooled) * (1 / wholes[0] + 1 / wholes[1]))
