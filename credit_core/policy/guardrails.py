"""Rules 4 to 7 of SPEC 4, which answer before the controller draws."""

from __future__ import annotations

from credit_core.policy.controller import EDGE

(
    NO_RULE, BLOCKED, RATE_LIMITED, PAUSED, UNAFFORDABLE, COVERAGE_MISS, SESSION_CAP, AT_CAP, CONTROLLER, DEFERRED,
    OVER_LIMIT, ALLOWED,
) = range(12)  # fmt: skip
#: Names by rule number. The last three are no rules of SPEC 4: the later, fresh half of a deferred request, and what the
#: counts of the other quota policies say.
RULES = (
    "",
    "blocked",
    "rate_limited",
    "paused",
    "unaffordable",
    "coverage_miss",
    "session_cap",
    "at_cap",
    "controller",
    "deferred",
    "over_limit",
    "allowed",
)


def over_session_cap(
    fresh: int, fresh_cost: float, cost: float, opening: float, max_fresh: int, max_share: float
) -> bool:
    """True from ``max_fresh`` fresh decisions on, or where fresh cost would pass max(max_share·opening, cost)."""
    return fresh >= max_fresh or fresh_cost + cost > max(max_share * opening, cost) + EDGE


def at_cap(balance: float, cap: float, share: float) -> bool:
    """A ≥ share·(c·Q)."""
    return balance >= share * cap - EDGE


def coverage(assets: float, target: float) -> float:
    """min(1, assets/target)."""
    return min(1.0, assets / target)


def health(assets: float, stale: float, target: float) -> float:
    """coverage·(1 − staleness), staleness = stale assets/assets; an empty cell has health 0."""
    if assets <= 0.0:
        return 0.0
    return coverage(assets, target) * (1.0 - stale / assets)
