"""Where a search for a configuration looks: each strategy's own numbers, and how much thin library cells force.

A candidate is a place in the unit cube of its family, so that it can be drawn and varied; the numbers that follow from it
are rounded to three digits, because an operator has to read them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from credit_core.errors import InvalidConfig
from credit_core.lab.laws import LAWS, LIVE
from credit_core.policy.config import Config, apply_changes, flatten

#: Standard deviation of a variation, in places, and the chance that a place varies at all.
_SPREAD, _MOVED = 0.25, 0.7


class Range(NamedTuple):
    """Values of one tunable; ``log``: evenly over orders of magnitude."""

    key: str
    low: float
    high: float
    log: bool = False

    def at(self, place: float) -> float:
        """The value at ``place`` in [0, 1], to three digits."""
        if self.log:
            value = math.exp(math.log(self.low) + place * (math.log(self.high) - math.log(self.low)))
        else:
            value = self.low + place * (self.high - self.low)
        return float(f"{value:.3g}")


class Family(NamedTuple):
    """A strategy with what is fixed in it and what is varied."""

    name: str
    fixed: Mapping[str, Any]
    ranges: tuple[Range, ...]


_TAU = Range("controller.tau0_days", 1.0, 30.0, log=True)
_STEEP = Range("controller.k", 0.005, 0.5, log=True)
FAMILIES = (
    Family(
        "logistic",
        {
            "controller.strategy": "logistic",
            "controller.intercept": "fixed",
            "controller.surplus_unit": "quota_percent",
        },
        (_STEEP, Range("controller.p_at_zero", 0.2, 0.98)),
    ),
    Family(
        "logistic_fed",
        {
            "controller.strategy": "logistic",
            "controller.intercept": "feed_forward",
            "controller.surplus_unit": "quota_percent",
        },
        (_STEEP, _TAU),
    ),
    Family("affordable", {"controller.strategy": "affordable"}, (Range("strategies.affordable_gamma", 0.5, 1.5), _TAU)),
    Family("reserve", {"controller.strategy": "reserve"}, (Range("strategies.reserve_rho", 0.05, 1.2),)),
    Family(
        "headroom",
        {"controller.strategy": "headroom"},
        (
            Range("strategies.headroom_rho", 0.0, 0.8),
            Range("strategies.headroom_requests", 0.5, 5.0),
            Range("strategies.headroom_most", 0.03, 0.6),
            Range("strategies.headroom_until", 0.0, 0.3),
        ),
    ),
    Family(
        "zones",
        {"controller.strategy": "zones"},
        (
            Range("strategies.zone_green", 0.3, 0.8),
            Range("strategies.zone_red", 0.05, 0.3),
            Range("strategies.zone_p_yellow", 0.3, 0.95),
            Range("strategies.zone_p_red", 0.0, 0.3),
        ),
    ),
)


class Candidate(NamedTuple):
    """One configuration to try. ``places`` of its family's ranges and, last, of the coverage thresholds."""

    name: str
    family: Family | None
    places: tuple[float, ...]
    changes: Mapping[str, Any]


def first(live: Config, number: int, seed: int, coverage: bool) -> list[Candidate]:
    """What is live, the laws of an experiment, the middle of each family, and random ones up to ``number``.

    ``coverage``: thresholds vary too.
    """
    rng = np.random.default_rng(seed)
    found = [Candidate(law.slug, None, (), law.changes) for law in LAWS if law.family not in ("novelty", "thompson")]
    middles = ((family, place) for place in (0.0, 1.0) for family in FAMILIES)
    found += [_at(family, (*(0.5 for _ in family.ranges), place), live, coverage) for family, place in middles]
    # A family with more numbers has more to try.
    sizes = np.array([len(family.ranges) + 1.0 for family in FAMILIES])
    while len(found) < number:
        family = FAMILIES[int(rng.choice(len(FAMILIES), p=sizes / sizes.sum()))]
        found.append(_at(family, tuple(rng.random(len(family.ranges) + 1).tolist()), live, coverage))
    return [one for one in found[: max(number, 1)] if one.name == LIVE.slug or _works(one, live)]


def near(
    parents: Sequence[Candidate], live: Config, number: int, seed: Sequence[int], reach: float, coverage: bool
) -> list[Candidate]:
    """Variations of ``parents``, best first, that came from a family; ``reach`` scales how far they go."""
    rng = np.random.default_rng([*seed, 1])
    # The first family counts twice, and one with more numbers has more to try.
    bred = [parent for parent in parents if parent.family is not None]
    shares = np.array([len(one.places) * (2.0 if one.name == bred[0].name else 1.0) for one in bred])
    found = []
    for turn in rng.choice(len(bred), number, p=shares / shares.sum()).tolist() if bred else []:
        parent = bred[turn]
        assert parent.family is not None
        steps = rng.normal(0.0, _SPREAD * reach, len(parent.places)) * (rng.random(len(parent.places)) < _MOVED)
        moved = np.clip(np.array(parent.places) + steps, 0.0, 1.0)
        found.append(_at(parent.family, tuple(moved.tolist()), live, coverage))
    return [one for one in found if _works(one, live)]


def _at(family: Family, places: tuple[float, ...], live: Config, coverage: bool) -> Candidate:
    changes = dict(family.fixed) | {
        tunable.key: tunable.at(place) for tunable, place in zip(family.ranges, places, strict=False)
    }
    if coverage:
        changes |= _thresholds(live, places[-1])
    now = flatten(live.body())
    return Candidate(
        family.name, family, places, {key: value for key, value in changes.items() if now.get(key) != value}
    )


def _thresholds(live: Config, place: float) -> dict[str, Any]:
    """What forces fresh ones where the library is thin: as live at the upper end, nothing at the lower one."""
    part = min(max(1.4 * place - 0.2, 0.0), 1.0)
    changes = {"coverage.health_floor": live.coverage.health_floor} | {
        f"plans.{plan}.coverage_threshold": tuning.coverage_threshold for plan, tuning in live.plans.items()
    }
    return {key: float(f"{value * part:.2g}") for key, value in changes.items()}


def _works(candidate: Candidate, live: Config) -> bool:
    try:
        apply_changes(live.body(), dict(candidate.changes))
    except InvalidConfig:
        return False
    return True
