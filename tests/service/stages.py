"""A staged release to look at: thirty users, of whom the half in treatment get what a candidate decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from credit_core import CreditCore
from credit_core.policy.rollout import Guardrail, Step
from credit_core.service import configure, staging
from credit_core.service.deployment import arm_of
from credit_core.service.rollouts import Rollout
from tests.service.scenes import FRESH_FOR_ALL, LIBRARY_FOR_ALL, StoppedClock, ask, make_live

USERS = tuple(f"u-{number:02}" for number in range(30))
HALF = (Step(0.5, 3_600.0), Step(1.0, 0.0))
#: A floor that a candidate which serves nothing fresh cannot keep.
FLOOR = Guardrail("fresh_rate", "at_least", 0.3, "itself", 5)


def bad_candidate(core: CreditCore) -> int:
    """Users on a configuration that serves them fresh, and a proposed version that serves nobody fresh."""
    make_live(core, FRESH_FOR_ALL)
    for user in USERS:
        core.add_user(user, "basic")
    return core.propose(LIBRARY_FOR_ALL | {"session.max_fresh": 1_000}, "olga", "Thrifty")


def begin(
    core: CreditCore,
    version: int,
    steps: Sequence[Step] = HALF,
    guardrails: Sequence[Guardrail] = (FLOOR,),
    **more: Any,
) -> Rollout:
    """Start a staged release of olga's, and have ``core`` notice."""
    found = staging.stage(
        core.deployment, version, **{"author": "olga", "reason": "Try it", **more}, steps=steps, guardrails=guardrails
    )
    core.config()
    return found


def everybody_asks(core: CreditCore, clock: StoppedClock, name: str = "r", **asked: Any) -> Mapping[str, str]:
    """One request of each user; returns the arm of each."""
    core.config()
    for user in USERS:
        ask(core, name, user=user, at=clock.now, **asked)
    rollout = configure.versions_and_releases(core.deployment)[2]
    return {user: arm_of(f"user:{user}", rollout) for user in USERS}


def many(arms: Mapping[str, str], arm: str) -> int:
    """How many users are in an arm."""
    return sum(its == arm for its in arms.values())
