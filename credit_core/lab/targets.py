"""What an operator wishes a configuration to reach, as text: points of the S-curve, or figures of a replay with bounds.

``p(-50)=0.2`` is a point; ``run_out_share<0.02`` a bound; ``fresh_rate=max`` what is to be as high as possible. Points lead
to k and p_at_zero in closed form, the others to a search (:mod:`credit_core.lab.calibrate`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from credit_core.errors import InvalidRequest
from credit_core.lab import outcomes
from credit_core.policy import controller

#: No decision changes the demand; day by day nothing is kept while searching.
_NOT_SEARCHED = ("demand_credits", "expected_credits", "behind", "ahead")
#: Figures that can be wished for, by slug.
FIGURES: Mapping[str, outcomes.Metric] = {
    metric.slug: metric for metric in outcomes.METRICS if metric.slug not in _NOT_SEARCHED
}
_POINT = re.compile(r"p\(\s*([+\-−]?[\d.]+)\s*\)\s*=\s*([\d.]+)\s*(%?)")
_BOUND = re.compile(r"([a-z_]+)\s*(<=|>=|<|>)\s*([+\-−]?[\d.]+)\s*(%?)")
_GOAL = re.compile(r"([a-z_]+)\s*=\s*(max|min)")
_HOW = "Write run_out_share<0.02, fresh_rate=max, or two points such as p(-50)=0.2 and p(50)=0.8."


class Bound(NamedTuple):
    """A figure must stay below ("<") or above (">") a value."""

    slug: str
    side: Literal["<", ">"]
    value: float

    def violation(self, figure: float) -> float:
        """How far ``figure`` is on the wrong side, as a part of the value; 0: it is met. Unknown is not met."""
        if math.isnan(figure):
            return math.inf
        over = figure - self.value if self.side == "<" else self.value - figure
        if over < 0.0 or (over == 0.0 and self.value == 0.0):
            return 0.0
        return max(over / max(abs(self.value), 1e-9), 1e-12)


class Wish(NamedTuple):
    """A figure to be as high (``up``) or as low as possible, within bounds."""

    slug: str
    up: bool
    bounds: tuple[Bound, ...] = ()

    def on_sample(self, accounts: int) -> Wish:
        """The wish for a sample of so many accounts: a bound on a share of them is to be met with a standard error to spare."""
        kept = []
        for bound in self.bounds:
            spare = 0.0
            if FIGURES[bound.slug].each and accounts > 0:
                spare = math.sqrt(max(bound.value * (1.0 - bound.value), 0.0) / accounts)
            value = bound.value - spare if bound.side == "<" else bound.value + spare
            kept.append(bound._replace(value=min(max(value, 0.0), 1.0) if spare else value))
        return self._replace(bounds=tuple(kept))

    def violation(self, figures: Mapping[str, float]) -> float:
        """Sum over the bounds; 0 where all are met."""
        return sum(bound.violation(figures[bound.slug]) for bound in self.bounds)

    def score(self, figures: Mapping[str, float]) -> float:
        """The figure wished for, higher being better; −∞ where it is unknown."""
        value = figures[self.slug]
        return -math.inf if math.isnan(value) else value if self.up else -value


class Point(NamedTuple):
    """p at a surplus of so many credits."""

    surplus: float
    p: float


def parse(texts: Sequence[str]) -> Wish | tuple[Point, Point]:
    """The targets of the command line. Raises :class:`InvalidRequest` with all faults."""
    points, bounds, goals, faults = [], [], [], []
    for text in texts:
        found = text.strip()
        if match := _POINT.fullmatch(found):
            points.append(Point(_number(match[1]), _number(match[2], match[3])))
        elif match := _BOUND.fullmatch(found):
            bounds.append(Bound(match[1], "<" if match[2][0] == "<" else ">", _number(match[3], match[4])))
        elif match := _GOAL.fullmatch(found):
            goals.append((match[1], match[2] == "max"))
        else:
            faults.append(f"{text!r} is no target.")
    unknown = [slug for slug in (*(b.slug for b in bounds), *(slug for slug, _ in goals)) if slug not in FIGURES]
    if unknown:
        faults.append(f"There is no figure {', '.join(map(repr, unknown))}; there are {', '.join(sorted(FIGURES))}.")
    if points and (bounds or goals):
        faults.append("Points of the S-curve and figures of a replay are different questions: ask one at a time.")
    if points and len(points) != 2:
        faults.append(f"The S-curve takes two points, got {len(points)}.")
    if len(goals) > 1:
        faults.append("Only one figure can be as high or as low as possible; bound the others.")
    if not faults and not points and not bounds and not goals:
        faults.append("Name at least one target.")
    if faults:
        raise InvalidRequest(" ".join([*faults, _HOW]))
    if points:
        first, second = sorted(points)
        return first, second
    slug, up = goals[0] if goals else ("fresh_rate", True)
    return Wish(slug, up, tuple(bounds))


def s_curve(points: tuple[Point, Point], unit: float = 1.0) -> dict[str, Any]:
    """The changes whose S-curve passes through both points; k per ``unit`` of credits.

    logit p = k·S/u + b at both, so k follows from their middle and b from where the middle lies.
    """
    first, second = points
    half, middle = (second.surplus - first.surplus) / 2.0, (second.surplus + first.surplus) / 2.0
    try:
        k, p_middle = controller.gain_for(first.p, second.p, half, unit)
    except ValueError:
        raise InvalidRequest(
            "The S-curve must rise: of the two points, the one with more surplus needs the higher p, both between 0 and 1."
        ) from None
    p_at_zero = controller.sigmoid(controller.logit(p_middle) - k * middle / unit)
    return {
        "controller.strategy": "logistic",
        "controller.intercept": "fixed",
        "controller.k": k,
        "controller.p_at_zero": p_at_zero,
    }


def _number(text: str, percent: str = "") -> float:
    try:
        value = float(text.replace("−", "-"))
    except ValueError:
        raise InvalidRequest(f"{text!r} is no number. {_HOW}") from None
    return value / 100.0 if percent else value
