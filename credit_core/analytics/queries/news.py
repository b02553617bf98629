"""What changed since yesterday: the newest 24 hours beside the 24 before, and what is more than chance."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pandas as pd

from credit_core.analytics.filters import Filters, Period
from credit_core.analytics.metrics import metric
from credit_core.analytics.queries.burn import top_movers
from credit_core.analytics.queries.series import kpis
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
    frame = kpis(facts, filters.narrowed(period=day, compare=day.before()), LOOKED_AT)
    then = kpis(facts, filters.narrowed(period=day.before(), compare=None), LOOKED_AT)
    frame["told"] = [
        _told(now, was) for now, was in zip(frame.to_dict("records"), then.to_dict("records"), strict=True)
    ]
    return frame[list(COLUMNS)]


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


def _told(now: dict[Any, Any], then: dict[Any, Any]) -> bool:
    declared = metric(now["slug"])
    a, b, change = now["value"], then["value"], now["change"]
    if not isinstance(a, float) or not isinstance(b, float) or math.isnan(a) or math.isnan(b):
        return False
    if declared.format == "share":
        return abs(a - b) > ERRORS * _error_of_shares(now, then)
    if not isinstance(change, float) or math.isnan(change) or abs(change) < LEAST:
        return declared.format == "count" and b == 0 and a > ERRORS**2
    return declared.format != "count" or abs(a - b) > ERRORS * math.sqrt(a + b)


def _error_of_shares(now: dict[Any, Any], then: dict[Any, Any]) -> float:
    parts, wholes = ([side[name] for side in (now, then)] for name in ("numerator", "denominator"))
    known = [float(number) for number in (*parts, *wholes)]
    pooled = (known[0] + known[1]) / (known[2] + known[3])
    return math.sqrt(pooled * (1 - pooled) * (1 / known[2] + 1 / known[3]))
