"""What the accounts of each plan ask for, by their newest decisions: the λ that droop and time constant are worked out with."""

from __future__ import annotations

import pandas as pd

from credit_core import units
from credit_core.analytics import queries
from credit_core.analytics.filters import Filters
from credit_core.analytics.sync import Facts
from credit_core.policy import guardrails
from credit_core.policy.advice import Demand
from credit_core.policy.guardrails import RULES
from credit_core.policy.plans import Catalog

#: A cycle's length where nobody of a plan has asked yet.
USUAL_CYCLE_DAYS = 30.0
#: Rules that judge a request; the later halves of deferred ones are no decisions of their own.
_JUDGED = frozenset(RULES[guardrails.UNAFFORDABLE : guardrails.CONTROLLER + 1])


def recent(facts: Facts, filters: Filters, limit: int) -> pd.DataFrame:
    """The last ``limit`` decisions of rules 4 to 8 behind the filters, newest first."""
    frame: pd.DataFrame = queries.recent_decisions(facts, filters, limit=limit)
    return frame[frame["rule"].isin(_JUDGED)].reset_index(drop=True)


def demands(frame: pd.DataFrame, catalog: Catalog) -> dict[str, Demand]:
    """What the accounts of each plan of ``catalog`` ask for, from each account's newest decision in ``frame``.

    λ is the one that was logged with it (SPEC 4). An account is pressed where λ is over Q/L.
    """
    newest = frame.drop_duplicates("account_id")
    found: dict[str, Demand] = {}
    for plan, terms in catalog.plans.items():
        if terms.quota_policy != "titrated_monthly":
            continue
        rows = newest[newest["plan"] == plan]
        rates = rows["demand_rate"].astype("float64")
        rows, rates = rows[rates.notna()], rates.dropna()
        if rows.empty:
            seen = newest[newest["plan"] == plan]
            days = float(seen["cycle_days"].median()) if len(seen) else USUAL_CYCLE_DAYS
            found[plan] = Demand(plan, terms.quota_credits or 0.0, days, accounts=len(seen))
            continue
        quota = rows["quota_uc"].astype("float64") / units.MICRO
        pressed = rates > quota / rows["cycle_days"].astype("float64")
        whom = pressed if pressed.any() else pd.Series(True, index=rows.index)
        found[plan] = Demand(
            plan=plan,
            quota=float(quota[whom].median()),
            cycle_days=float(rows["cycle_days"][whom].median()),
            rate=float(rates[whom].mean()),
            mean_rate=float(rates.mean()),
            accounts=len(rows),
            pressed=int(pressed.sum()),
        )
    return found
