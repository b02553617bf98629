"""The shipped law over arrays: what :func:`credit_core.policy.decision.evaluate` decides, to the last bit, many at a time.

Only for configurations with the ``logistic`` strategy and a fixed intercept in credits, which is what is shipped.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from credit_core.policy.controller import CONSERVE, EDGE, MODES, SPEND, STEADY, logit, sigmoid
from credit_core.policy.decision import Law
from credit_core.store.packing import Coded, Column, Real, Same, Whole
from credit_core.units import MICRO

Flags: TypeAlias = np.ndarray[Any, np.dtype[np.bool_]]
_RULES = ("unaffordable", "coverage_miss", "at_cap", "controller")
_UNAFFORDABLE, _MISS, _AT_CAP, _CONTROLLER = range(4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request each: the account's state, the asked cell's, the request and its draw. Amounts in whole credits."""

    balance: Whole
    quota: Whole
    cycle_days: Real
    days_left: Real
    mode: Whole
    largest: Whole
    threshold: Real
    cap_multiple: Real
    coverage: Real
    health: Real
    thin: Flags
    images: Whole
    u01: Real


class Verdicts(NamedTuple):
    """Fresh or not, the mode afterwards, p, and what is logged with the decision."""

    fresh: Flags
    mode: Whole
    p: Real
    columns: dict[str, Column]


@dataclass(slots=True)
class Session:
    """What was given so far in each running session."""

    images: Whole
    fresh: Whole
    fresh_cost: Whole
    opening: Whole

    @classmethod
    def begun(cls, opening: Whole) -> Session:
        """Sessions of accounts that have ``opening`` credits."""
        images, fresh, cost = (np.zeros(len(opening), dtype=np.int64) for _ in range(3))
        return cls(images, fresh, cost, opening)

    def only(self, kept: Flags) -> Session:
        """Some of them."""
        return Session(self.images[kept], self.fresh[kept], self.fresh_cost[kept], self.opening[kept])

    def count(self, images: Whole, fresh: Flags) -> None:
        """A request of each was answered."""
        self.images += images
        self.fresh += fresh
        self.fresh_cost += np.where(fresh, images, 0)


def decide(law: Law, asked: Asked, seen: Session) -> Verdicts:
    """Rules 4, 5, 7 and 8; who would pass the session's cap does not ask."""
    x = asked
    quota, balance = x.quota.astype(np.float64), x.balance.astype(np.float64)
    surplus = balance - quota * x.days_left / x.cycle_days
    days = surplus * x.cycle_days / quota
    mode = _next_mode(x.mode, days, law)
    p0 = _each(sigmoid, law.k * surplus + logit(law.p_at_zero))
    freshness = law.freshness_lo + (law.freshness_hi - law.freshness_lo) * _each(
        math.exp, -seen.images / law.freshness_tau
    )
    credit = law.credit_lo + (law.credit_hi - law.credit_lo) * np.minimum(balance / quota, 1.0)
    library = law.library_lo + (law.library_hi - law.library_lo) * (1.0 - x.health)
    factor = np.asarray([law.conserve_factor, 1.0, law.spend_factor])[mode]
    p = np.clip(p0 * freshness * credit * library * factor, law.p_min, law.p_max)
    miss = x.coverage < x.threshold
    rule = np.select(
        [
            x.images > x.balance,
            miss | (x.thin & (x.health < law.health_floor)),
            balance >= law.at_cap_share * (x.cap_multiple * quota) - EDGE,
        ],
        [_UNAFFORDABLE, _MISS, _AT_CAP],
        _CONTROLLER,
    )
    fresh = np.isin(rule, (_MISS, _AT_CAP)) | ((rule == _CONTROLLER) & (x.u01 < p))
    ones, uc = np.ones(len(p)), x.balance * MICRO
    columns: dict[str, Column] = {
        "cycle_days": x.cycle_days, "days_left": x.days_left, "surplus": surplus, "surplus_days": days, "coverage": x.coverage,
        "health": x.health, "threshold": x.threshold, "p0": p0, "nudge_freshness": freshness, "nudge_credit_health": credit,
        "nudge_library": library, "nudge_segment": ones, "nudge_conservation": ones, "nudge_mode": factor, "p": p, "u01": x.u01,
        "quota_policy": Same("titrated_monthly"), "rule": Coded(rule, _RULES), "miss": Coded(miss.astype(np.int64), (0, 1)),
        "forced": Coded((rule != _CONTROLLER).astype(np.int64), (0, 1)), "mode": Coded(mode, MODES),
        "prior_mode": Coded(x.mode, MODES), "strategy": Same("logistic"), "available_uc": uc, "paced_uc": uc,
        "quota_uc": x.quota * MICRO, "session_images": seen.images.copy(), "session_fresh": seen.fresh.copy(),
        "session_fresh_uc": seen.fresh_cost * MICRO, "session_opening_uc": seen.opening * MICRO, "conserving": Same(0),
        "under_represented": Coded(x.thin.astype(np.int64), (0, 1)), "cell_new": Coded((seen.images == 0).astype(np.int64), (0, 1)),
        "largest_uc": x.largest * MICRO, "cost_uc": x.images * MICRO,
    }  # fmt: skip
    return Verdicts(fresh, mode, p, columns)


def _each(function: Callable[[float], float], values: Real) -> Real:
    """By Python's own: NumPy's exponential differs in the last place, and decisions are computed again exactly."""
    return np.fromiter(map(function, values.tolist()), dtype=np.float64, count=len(values))


def _next_mode(mode: Whole, days: Real, law: Law) -> Whole:
    """:func:`credit_core.policy.controller.next_mode` over arrays."""
    saving = (mode == CONSERVE) & (days < law.conserve_leave - EDGE)
    spending = (mode == SPEND) & (days > law.spend_leave + EDGE)
    stays = np.where(saving, CONSERVE, np.where(spending, SPEND, STEADY))
    return np.where(days <= law.conserve_enter + EDGE, CONSERVE, np.where(days >= law.spend_enter - EDGE, SPEND, stays))
