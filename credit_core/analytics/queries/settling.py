"""Where the controller lets accounts settle: measured surplus beside the droop that its own formula predicts."""

from __future__ import annotations

import math
import statistics
from typing import Any, cast

import pandas as pd
from sqlalchemy import Select, case, func, select

from credit_core.analytics import measures, relations
from credit_core.analytics.filters import Filters
from credit_core.analytics.sync import Facts
from credit_core.policy import controller
from credit_core.policy.config import Config
from credit_core.units import MICRO

#: An account with fewer drawn decisions than this says nothing about where it settles.
FEWEST_DRAWN = 10
#: A loop slower than this part of a cycle never settles: the next reset comes first (FINDINGS, controller).
SLOW = 1 / 3
COLUMNS = (
    "plan", "accounts", "decisions", "demand_credits_per_day", "quota_credits_per_day", "affordable_share",
    "measured_credits", "predicted_credits", "time_constant_days", "cycle_days", "verdict",
)  # fmt: skip


def droop_by_plan(facts: Facts, filters: Filters, config: Config, version: int) -> pd.DataFrame:
    """Per plan, figures of the middle account; see COLUMNS. Accounts count from :data:`FEWEST_DRAWN` drawn decisions under ``version``.

    measured_credits: an account's mean surplus at those decisions. affordable_share p*: the part of its drawn requests
    that the quota pays for once forced fresh ones are paid, (Q/L − forced)/drawn, each in credits a day, at least p_min.
    predicted_credits: u·(logit p* − b)/k (``policy.controller.droop``); nudges and modes are not part of the formula.
    verdict: ``ample`` where the quota pays for everything (p* from p_max on; no prediction), ``empty`` or ``capped``
    where the prediction is more than a balance can hold, ``slow`` where the time constant is over a third of the cycle,
    else ``settles``. Empty where the law is another than ``logistic``, which alone has the formula.
    """
    if config.controller.strategy != "logistic":
        return pd.DataFrame(columns=list(COLUMNS))
    found = facts.frame(_accounts(filters, version))
    if not found.empty:
        found[["affordable_share", "predicted_credits", "time_constant_days"]] = [
            _settle(cast("dict[str, float]", row), config) for row in found.to_dict("records")
        ]
    rows = [_plan(str(plan), part, config) for plan, part in found.groupby("plan", sort=True)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _accounts(filters: Filters, version: int) -> Select[Any]:
    f = relations.facts.c
    drawn = measures.by_rule("controller")(f)
    forced = ~drawn & (f.outcome == "fresh")
    return (
        select(
            f.plan,
            f.account_id,
            func.sum(case((drawn, 1), else_=0)).label("decisions"),
            func.avg(case((drawn, f.surplus))).label("measured_credits"),
            func.avg(f.demand_rate).label("demand_credits_per_day"),
            (func.sum(case((drawn, f.cost_uc), else_=0)) * 1.0 / func.sum(f.cost_uc)).label("drawn_share"),
            (func.sum(case((forced, f.cost_uc), else_=0)) * 1.0 / func.sum(f.cost_uc)).label("forced_share"),
            (func.max(f.quota_uc) * 1.0 / MICRO).label("quota_credits"),
            func.max(f.cycle_days).label("cycle_days"),
        )
        .where(relations.behind(relations.facts, filters), f.config_version == version)
        .where(measures.judged(f), f.demand_rate > 0, f.cost_uc > 0)
        .group_by(f.plan, f.account_id)
        .having(func.sum(case((drawn, 1), else_=0)) >= FEWEST_DRAWN)
        .order_by(f.plan, f.account_id)
    )


def _settle(row: dict[str, float], config: Config) -> tuple[float, float, float]:
    """p*, droop and time constant of one account."""
    law = config.controller
    quota, days, demand = row["quota_credits"], row["cycle_days"], row["demand_credits_per_day"]
    unit = controller.unit_size(controller.SURPLUS_UNITS.index(law.surplus_unit), quota, days)
    intercept = (
        controller.feed_forward(quota, days, demand, law.p_min, law.p_max)
        if law.intercept == "feed_forward"
        else controller.logit(law.p_at_zero)
    )
    afforded = (quota / days / demand - row["forced_share"]) / row["drawn_share"]
    if afforded >= law.p_max:
        return min(afforded, 1.0), math.inf, math.inf
    affordable = max(afforded, law.p_min)
    return (
        affordable,
        controller.droop(law.k, intercept, affordable, unit),
        controller.time_constant_days(law.k, demand * row["drawn_share"], affordable, unit),
    )


def _plan(plan: str, part: pd.DataFrame, config: Config) -> tuple[Any, ...]:
    middle = {name: statistics.median_low(part[name]) for name in part.columns if part[name].dtype == "float64"}
    quota, days = middle["quota_credits"], middle["cycle_days"]
    predicted, constant = middle["predicted_credits"], middle["time_constant_days"]
    verdict = (
        "ample" if math.isinf(predicted)
        else "empty" if predicted < -quota
        else "capped" if predicted > config.plan(plan).cap_multiple * quota
        else "slow" if constant > SLOW * days
        else "settles"
    )  # fmt: skip
    return (
        plan, len(part), int(part["decisions"].sum()), middle["demand_credits_per_day"], quota / days,
        middle["affordable_share"], middle["measured_credits"], _known(predicted), _known(constant), days, verdict,
    )  # fmt: skip


def _known(value: float) -> float:
    """NaN where the formula has no answer."""
    return math.nan if math.isinf(value) else value
