"""Where the slider of a tunable goes, in what steps, and how its value is written. The exact field knows no such ends."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from functools import cache
from typing import Any

from credit_core.policy.tunables import Tunable
from pages.components import numbers

#: Stops of a slider within each factor of ten, where it goes by factors.
MANTISSAS = (1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.8, 2, 2.2, 2.5, 2.8, 3, 3.2, 3.6, 4, 4.5, 5, 5.6, 6, 6.5, 7.2, 8, 9)

#: By dotted key, or its beginning and its end: (lowest, highest, step) of the slider. No step: by factors.
_REACH: Mapping[str, tuple[float, float, float | None]] = {
    "controller.k": (0.0005, 5.0, None),
    "controller.p_at_zero": (0.01, 0.99, 0.01),
    "controller.tau0_days": (1, 60, 1),
    "controller.p_min": (0.0, 0.5, 0.01),
    "controller.p_max": (0.5, 1.0, 0.01),
    "strategies.affordable_gamma": (0.1, 3.0, 0.05),
    "strategies.reserve_rho": (0.0, 2.0, 0.05),
    "strategies.weight_*": (0, 100, 1),
    "nudges.freshness_tau": (1, 1_000, None),
    "nudges.conservation": (0.0, 1.0, 0.05),
    "nudges.*": (0.0, 2.0, 0.05),
    "hysteresis.conserve_enter_days": (-15, 0, 0.5),
    "hysteresis.conserve_leave_days": (-10, 5, 0.5),
    "hysteresis.conserve_factor": (0.0, 1.0, 0.05),
    "hysteresis.spend_enter_days": (0, 20, 0.5),
    "hysteresis.spend_leave_days": (-5, 15, 0.5),
    "hysteresis.spend_factor": (1.0, 2.0, 0.05),
    "session.idle_s": (60, 86_400, None),
    "session.max_fresh": (1, 60, 1),
    "coverage.target": (1, 100, 1),
    "coverage.stale_days": (1, 180, 1),
    "limits.anomaly_hours": (1, 168, 1),
    "limits.*": (1, 1_000, None),
    "saga.hold_ttl_s": (30, 14_400, None),
    "plans.*.cap_multiple": (1, 12, 0.5),
    "slos.authorize_p95_ms": (1, 1_000, None),
    "slos.*": (0.0, 0.5, 0.005),
}
_SHARE_STEP = 0.01


@cache
def stops(key: str, minimum: float, maximum: float, whole: bool) -> tuple[float, ...]:
    """The values that the slider of ``key`` stops at, ascending."""
    low, high, step = _reach(key, minimum, maximum)
    if step is None:
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        raw = (float(f"{mantissa}e{decade}") for decade in decades for mantissa in MANTISSAS)
        values = [low, *(value for value in raw if low < value < high), high]
    else:
        count = round((high - low) / step) + 1
        values = [round(low + place * step, 6) for place in range(count)]
    return tuple(sorted({round(value) if whole else float(value) for value in values}))


def stops_of(tunable: Tunable) -> tuple[float, ...]:
    """The stops of a number's slider, as whole numbers where the tunable is one."""
    low = 0.0 if tunable.minimum is None else tunable.minimum
    high = 1.0 if tunable.maximum is None else tunable.maximum
    return stops(tunable.key, low, high, is_whole(tunable))


def nearest(value: float, among: tuple[float, ...]) -> float:
    """The stop closest to ``value``; the lower of two that are equally close."""
    place = bisect_left(among, value)
    if place == 0:
        return among[0]
    if place == len(among):
        return among[-1]
    below, above = among[place - 1], among[place]
    return below if value - below <= above - value else above


def is_whole(tunable: Tunable) -> bool:
    """Whether the tunable is a whole number."""
    return isinstance(tunable.default, int) and not isinstance(tunable.default, bool)


def step_of(value: float, tunable: Tunable) -> float:
    """What the + and − of the exact field add: a tenth of the value's own order, or the slider's step."""
    if is_whole(tunable):
        return 1
    _, _, step = _reach(tunable.key, tunable.minimum or 0.0, 1.0 if tunable.maximum is None else tunable.maximum)
    if step is not None:
        return float(step)
    return float(10.0 ** (math.floor(math.log10(abs(value))) - 1)) if value else 0.001


def written(value: Any) -> str:
    """A tunable's value for people: 0.0277259, 14, on, stable-diffusion-xl; unknown is '–'."""
    if value is None:
        return numbers.UNKNOWN
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, int | float):
        text = f"{value:.7g}" if value == 0 or abs(value) >= 1e-4 else f"{value:.10f}".rstrip("0")
        return text.replace("-", numbers.MINUS)
    return str(value)


def _reach(key: str, minimum: float, maximum: float) -> tuple[float, float, float | None]:
    for pattern, reach in _REACH.items():
        begin, _, end = pattern.partition("*")
        if key == pattern or ("*" in pattern and key.startswith(begin) and key.endswith(end)):
            return reach
    return minimum, maximum, _SHARE_STEP if maximum - minimum <= 1.0 else (maximum - minimum) / 100.0
