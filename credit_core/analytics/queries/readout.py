"""Readout of a staged release (SPEC 7): what seven days under the candidate did, account by account, against control."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sqlalchemy import ColumnElement, Subquery, and_, func, or_, select

from credit_core.analytics import measures as m
from credit_core.analytics import relations
from credit_core.analytics.metrics import METRICS, Direction, Format
from credit_core.analytics.queries.arms import GUARDED, Window
from credit_core.analytics.queries.rewards import rewards_of
from credit_core.analytics.sync import Facts
from credit_core.policy import inference
from credit_core.policy.inference import Sample
from credit_core.units import DAY_US, to_us

#: An account enters once its window is complete; what it did in the days before exposure explains part of it.
WINDOW_DAYS, BEFORE_DAYS = 7, 28
_AFTER, _BEFORE = (0, WINDOW_DAYS), (-BEFORE_DAYS, 0)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is compared: a rate of the registry, an amount of it per account, or the mean reward."""

    slug: str
    title: str
    format: Format
    direction: Direction
    per_account: bool = False

    @property
    def scale(self) -> int:
        """Raw figures to the unit that is shown."""
        return METRICS[self.slug].scale if self.slug in METRICS else 1


def _outcome(slug: str, title: str = "", *, per_account: bool = False) -> Outcome:
    declared = METRICS[slug]
    return Outcome(slug, title or declared.title, declared.format, declared.direction, per_account)


OUTCOMES = (
    _outcome("fresh_rate"),
    _outcome("coverage_miss_rate"),
    _outcome("run_out_share"),
    _outcome("failure_rate"),
    _outcome("requests", "Requests per account", per_account=True),
    _outcome("spent", "Credits spent per account", per_account=True),
    _outcome("provider_cost", "Provider cost per account", per_account=True),
)
_MEAN = GUARDED["reward_mean"]
#: Where rewards were logged: their mean over rewarded requests, each in the days in which it was asked for.
REWARD = Outcome(_MEAN.slug, _MEAN.title, _MEAN.format, _MEAN.direction)


class Enrolment(NamedTuple):
    """Accounts of (treatment, control): exposed so far, with a complete window, and when the next window is complete."""

    exposed: tuple[int, int]
    complete: tuple[int, int]
    next_at: datetime | None


class Readout(NamedTuple):
    """Who was compared, and one row per outcome.

    ``frame``: slug, title, format, direction, treatment, control, difference, low, high (95 % sequential interval of the
    difference), lift, lift_low, lift_high, explained (share of the variance that the days before took away; missing where
    they were not used). Missing means unknown.
    """

    enrolment: Enrolment
    frame: pd.DataFrame


def readout(facts: Facts, window: Window, ended_at: datetime | None, now: datetime) -> Readout:
    """Compare the arms of a staged release by account. ``ended_at``: when the arms ceased; later windows stay incomplete."""
    exposed = _exposed(window)
    accounts = facts.frame(select(exposed)).set_index("account_id")
    last_us = to_us(now if ended_at is None else min(now, ended_at))
    complete = accounts["exposed_us"] + WINDOW_DAYS * DAY_US <= last_us
    sides = [accounts["arm"] == arm for arm in ("treatment", "control")]
    waiting = accounts.loc[~complete, "exposed_us"]
    soonest = None if waiting.empty or ended_at is not None else int(waiting.min()) + WINDOW_DAYS * DAY_US
    enrolment = Enrolment(
        (int(sides[0].sum()), int(sides[1].sum())),
        (int((sides[0] & complete).sum()), int((sides[1] & complete).sum())),
        None if soonest is None else now + timedelta(microseconds=soonest - to_us(now)),
    )
    after = _sums(facts, exposed, *_AFTER).reindex(accounts.index)
    before = _sums(facts, exposed, *_BEFORE).reindex(accounts.index)
    outcomes: tuple[Outcome, ...] = OUTCOMES
    if not (told := rewards_of(facts, accounts.index.tolist())).empty:
        after, before = (
            _with_rewards(sums, told, accounts, *days) for sums, days in ((after, _AFTER), (before, _BEFORE))
        )
        outcomes = (*OUTCOMES, REWARD)
    rows = [_compared(outcome, after, before, [side & complete for side in sides]) for outcome in outcomes]
    return Readout(enrolment, pd.DataFrame(rows))


def _exposed(window: Window) -> Subquery:
    """account_id, arm, exposed_us: the first request of each account in treatment or control."""
    f = relations.facts.c
    arms = or_(
        and_(f.arm == "treatment", f.config_version == window.treatment_version),
        and_(f.arm == "control", f.config_version == window.control_version),
    )
    kept = and_(f.id > window.after_entry_id, arms, m.requested(f))
    first = func.min(f.occurred_at).label("exposed_us")
    return select(f.account_id, f.arm, first).where(kept).group_by(f.account_id, f.arm).subquery("exposed")


def _sums(facts: Facts, exposed: Subquery, from_days: int, to_days: int) -> pd.DataFrame:
    """By account: above and below of every outcome over [exposure + from_days, exposure + to_days)."""
    f, start = relations.facts.c, exposed.c.exposed_us
    within = and_(f.occurred_at >= start + from_days * DAY_US, f.occurred_at < start + to_days * DAY_US)
    joined = relations.facts.join(exposed, f.account_id == exposed.c.account_id)
    rows = select(*relations.facts.c).select_from(joined).where(within).subquery("rows")
    parts: list[ColumnElement[Any]] = []
    for outcome in OUTCOMES:
        declared = METRICS[outcome.slug]
        parts.append(declared.numerator(rows.c).label(f"{outcome.slug}_above"))
        if declared.denominator is not None:
            parts.append(declared.denominator(rows.c).label(f"{outcome.slug}_below"))
    return facts.frame(select(rows.c.account_id, *parts).group_by(rows.c.account_id)).set_index("account_id")


def _with_rewards(
    sums: pd.DataFrame, told: pd.DataFrame, accounts: pd.DataFrame, from_days: int, to_days: int
) -> pd.DataFrame:
    """``sums`` with the rewards of requests asked for within those days, added up, and how many there were; nobody's are 0."""
    since = told["at_us"] - told["account_id"].map(accounts["exposed_us"])
    within = told[(since >= from_days * DAY_US) & (since < to_days * DAY_US)].groupby("account_id")["value"]
    added = pd.DataFrame({f"{REWARD.slug}_above": within.sum(), f"{REWARD.slug}_below": within.count()})
    return sums.join(added.reindex(sums.index).fillna(0.0))


def _compared(
    outcome: Outcome, after: pd.DataFrame, before: pd.DataFrame, sides: list[pd.Series[Any]]
) -> dict[str, Any]:
    ours, theirs = (_sample(outcome, after[side]) for side in sides)
    row: dict[str, Any] = {
        "slug": outcome.slug, "title": outcome.title, "format": outcome.format, "direction": outcome.direction,
        "treatment": _value(ours), "control": _value(theirs),
        **dict.fromkeys(("difference", "low", "high", "lift", "lift_low", "lift_high", "explained"), float("nan")),
    }  # fmt: skip
    if ours is None or theirs is None:
        return row
    found, lift = inference.difference(ours, theirs), inference.lift(ours, theirs)
    earlier = [_sample(outcome, before[side]) for side in sides]
    if found is not None and earlier[0] is not None and earlier[1] is not None:
        adjusted = inference.cuped((ours, earlier[0]), (theirs, earlier[1]))
        if adjusted is not None and 0.0 < adjusted[0].se < found.se:
            row["explained"] = 1.0 - (adjusted[0].se / found.se) ** 2
            found = adjusted[0]
    if found is not None:
        row["difference"] = found.difference
        row["low"], row["high"] = inference.sequential_interval(found)
    if lift is not None:
        row["lift"] = lift.difference
        row["lift_low"], row["lift_high"] = inference.sequential_interval(lift)
    return row


def _sample(outcome: Outcome, sums: pd.DataFrame) -> Sample | None:
    """An arm by account; None where an account's figure is unknown."""
    above = pd.to_numeric(sums[f"{outcome.slug}_above"]).astype("float64")
    there = sums["requests_above"].notna()
    if len(sums) == 0 or above[there].isna().any():
        return None
    counted = np.ones(len(sums)) if outcome.per_account else sums[f"{outcome.slug}_below"].fillna(0).to_numpy("float64")
    return Sample(above.fillna(0.0).to_numpy("float64") / outcome.scale, counted)


def _value(sample: Sample | None) -> float:
    return float("nan") if sample is None or not sample.below.sum() else sample.ratio
