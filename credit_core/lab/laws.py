"""The laws that experiments set against each other: each a few changes to what is live (SPEC 4, Strategies)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from credit_core.errors import InvalidRequest
from credit_core.policy.config import Config, apply_changes
from credit_core.policy.controller import gain_for

#: The steep gain of the design's targets: p = 0.2 and 0.8 at 50 credits behind and ahead.
STEEP = gain_for(0.2, 0.8, 50.0).k


class Law(NamedTuple):
    """One contestant: ``changes`` (dotted key → value) against what is live. ``family`` is its strategy."""

    slug: str
    title: str
    family: str
    changes: Mapping[str, Any]


def _law(slug: str, title: str, strategy: str, **changes: Any) -> Law:
    keys = {name.replace("__", "."): value for name, value in changes.items()}
    return Law(slug, title, strategy, {"controller.strategy": strategy} | keys)


def _logistic(slug: str, title: str, k: float, **changes: Any) -> Law:
    base = {"controller__k": k, "controller__surplus_unit": "credits", "controller__p_at_zero": 0.5}
    return _law(slug, title, "logistic", **(base | {"controller__intercept": "fixed"} | changes))


def _weighted(slug: str, title: str, *weights: float) -> Law:
    names = ("surplus", "freshness", "credit", "library")
    return _law(
        slug, title, "weighted",
        **{f"strategies__weight_{name}": weight for name, weight in zip(names, weights, strict=True)},
    )  # fmt: skip


_FED = {"controller__intercept": "feed_forward", "controller__tau0_days": 14.0}
_HEADROOM = {"rho": 0.1, "requests": 2.0, "most": 0.07, "until": 0.12}
#: Whatever is asked for, as long as the balance pays for it: one of the two ends.
ALWAYS_FRESH = _law("always_fresh", "Always fresh", "reserve", strategies__reserve_rho=0.0)
LIVE = Law("live", "Live", "live", {})
LAWS: tuple[Law, ...] = (
    LIVE,
    ALWAYS_FRESH,
    _logistic("logistic", "Logistic, shipped k", 0.0025),
    _logistic("logistic_steep", "Logistic, k 0.0277", STEEP),
    _logistic("logistic_fed", "Logistic, feed-forward", 0.0025, **_FED),
    _logistic("logistic_steep_fed", "Logistic, k 0.0277, feed-forward", STEEP, **_FED),
    _law("affordable_3", "Affordable, 3 days", "affordable", controller__tau0_days=3.0),
    _law("affordable_7", "Affordable, 7 days", "affordable", controller__tau0_days=7.0),
    _law("affordable_14", "Affordable, 14 days", "affordable", controller__tau0_days=14.0),
    _law("reserve_10", "Reserve, ρ 0.1", "reserve", strategies__reserve_rho=0.1),
    _law("reserve_20", "Reserve, ρ 0.2", "reserve", strategies__reserve_rho=0.2),
    _law("reserve_30", "Reserve, ρ 0.3", "reserve", strategies__reserve_rho=0.3),
    _law("reserve_50", "Reserve, ρ 0.5", "reserve", strategies__reserve_rho=0.5),
    _law("headroom", "Headroom", "headroom", **{f"strategies__headroom_{n}": v for n, v in _HEADROOM.items()}),
    _weighted("weighted_40", "Weighted 40/30/20/10", 40.0, 30.0, 20.0, 10.0),
    _weighted("weighted_35", "Weighted 35/35/20/10", 35.0, 35.0, 20.0, 10.0),
    _law("zones", "Zones", "zones"),
    _law("novelty", "Novelty", "novelty"),
    _law("thompson", "Thompson", "thompson"),
)
#: What the design asked about: its two formulas, the floor that learns, and the far end.
DESIGN = ("always_fresh", "logistic", "logistic_steep", "logistic_fed", "weighted_40", "weighted_35", "headroom")


def chosen(slugs: Sequence[str]) -> list[Law]:
    """The laws of these slugs, in the order of :data:`LAWS`. Raises :class:`InvalidRequest` for one that there is not."""
    known = {law.slug for law in LAWS}
    unknown = [slug for slug in slugs if slug not in known]
    if unknown:
        raise InvalidRequest(f"There is no law {', '.join(map(repr, unknown))}; there are {', '.join(sorted(known))}.")
    return [law for law in LAWS if law.slug in slugs]


def configured(law: Law, live: Config) -> Config:
    """The configuration of ``law`` on top of what is live."""
    return apply_changes(live.body(), dict(law.changes)) if law.changes else live


def efficient(up: npt.NDArray[np.float64], down: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Which rows no other row beats: [row, column], more of ``up`` and less of ``down`` being better.

    A row is beaten by one that is as good everywhere and better somewhere; a row with an unknown figure is never on the line.
    """
    scores = np.concatenate([up, -down], axis=1)
    known = np.isfinite(scores).all(axis=1)
    kept: npt.NDArray[np.bool_] = known.copy()
    for place in np.flatnonzero(known).tolist():
        others = scores[known]
        as_good = (others >= scores[place]).all(axis=1)
        better = (others > scores[place]).any(axis=1)
        kept[place] = not bool((as_good & better).any())
    return kept
