"""What a configuration would do, in words, before anybody feels it: faults, and what its numbers amount to (SPEC 2.2, 4, 7).

Pure: :func:`check` turns a draft into a configuration or its faults, :func:`advise` says what that configuration amounts
to for the demand that was measured. ``block`` stands in the way of publishing, ``warn`` does not, ``note`` explains.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from credit_core.errors import InvalidConfig
from credit_core.policy import advice_laws, advice_library, controller
from credit_core.policy.advice_terms import LEVELS, Advice, Cell, Demand, Level
from credit_core.policy.advice_terms import also as _also
from credit_core.policy.advice_terms import days as _days
from credit_core.policy.advice_terms import listed as _listed
from credit_core.policy.advice_terms import number as _number
from credit_core.policy.advice_terms import share as _share
from credit_core.policy.advice_terms import signed as _signed
from credit_core.policy.advice_terms import title as _title
from credit_core.policy.config import Config, apply_changes
from credit_core.policy.tunables import tunables

__all__ = [
    "LEVELS",
    "Advice",
    "Cell",
    "Checked",
    "Demand",
    "Dynamics",
    "Level",
    "advise",
    "blocks",
    "check",
    "dynamics",
]

#: A quarter of the quota behind and ahead of pace must move p by at least this, else surplus hardly matters.
FLAT_BELOW = 0.10
#: A gap that takes longer than this part of the cycle to close is not closed within it (FINDINGS).
SLOW_SHARE = 1.0 / 3.0
#: Where p goes from 10 to 90\u202f% within this many credits, the curve is a switch.
SWITCH_CREDITS = 2.0
_DROOP = "controller.k"


class Dynamics(NamedTuple):
    """How a logistic law behaves for one plan's demand. None: the strategy, or this demand, has no such figure."""

    unit: float
    intercept: float | None = None
    width: float | None = None
    droop: float | None = None
    time_constant_days: float | None = None


class Checked(NamedTuple):
    """A draft's configuration, or its faults."""

    config: Config | None
    faults: list[Advice]


def dynamics(config: Config, demand: Demand) -> Dynamics:
    """Width, droop and time constant of the law of ``config`` for ``demand`` (FINDINGS, Controller)."""
    c = config.controller
    unit = controller.unit_size(controller.SURPLUS_UNITS.index(c.surplus_unit), demand.quota, demand.cycle_days)
    if c.strategy != "logistic":
        return Dynamics(unit)
    if c.intercept == "feed_forward" and demand.rate is not None:
        highest = min(c.p_max, 1.0 - 1e-9)
        intercept = controller.feed_forward(demand.quota, demand.cycle_days, demand.rate, c.p_min, highest)
    else:
        intercept = controller.logit(c.p_at_zero)
    affordable = demand.affordable
    droop = constant = None
    if demand.rate is not None and affordable is not None and affordable < 1.0:
        droop = controller.droop(c.k, intercept, affordable, unit)
        constant = controller.time_constant_days(c.k, demand.rate, affordable, unit)
    return Dynamics(unit, intercept, controller.width_10_90(c.k, unit), droop, constant)


def check(body: Mapping[str, Any], changes: Mapping[str, Any], models: Sequence[str] = ()) -> Checked:
    """``body`` with ``changes``, or every fault in words. ``models`` are the catalogue's; none given, none checked."""
    try:
        config = apply_changes(body, changes)
    except InvalidConfig as error:
        return Checked(None, [_fault(text) for text in error.faults])
    faults = [
        Advice("block", f"{title}: the catalogue has no model {name!r}; it has {', '.join(models)}.", key)
        for key, title, name in (
            ("routing.premium_model", "Premium model", config.routing.premium_model),
            ("routing.economy_model", "Economy model", config.routing.economy_model),
        )
        if models and name not in models
    ]
    if config.controller.intercept == "feed_forward" and config.controller.p_max == 1.0:
        words = "A feed-forward intercept needs a highest p below 100\u202f%: where the quota affords all, it would be infinite."
        faults.append(Advice("block", words, "controller.p_max"))
    return Checked(None if faults else config, faults)


def advise(
    config: Config, demands: Iterable[Demand], live: Config | None = None, library: Sequence[Cell] = ()
) -> list[Advice]:
    """What ``config`` amounts to, the gravest first. A fault that ``live`` has at least as badly warns and does not block.

    ``library``: the cells that were asked for; without any nothing is said of what the library can reach.
    """
    known = list(demands)
    found = _found(config, known, library)
    if live is not None:
        held = {advice.key for advice in _found(live, known, library) if advice.level == "block"}
        found = [_eased(advice, config, live, known, held) for advice in found]
    return sorted(found, key=lambda advice: LEVELS.index(advice.level))


def _found(config: Config, demands: list[Demand], library: Sequence[Cell]) -> list[Advice]:
    found: list[Advice] = []
    for topic in (_droop, _slow, _flat, _clipping, _probabilities, _idle, _caps, _thresholds, _routing):
        found += topic(config, demands)
    return [*found, *advice_laws.advise(config, demands), *advice_library.advise(config, library)]


def blocks(advice: Iterable[Advice]) -> bool:
    """Whether anything stands in the way of publishing."""
    return any(one.level == "block" for one in advice)


# The controller ---------------------------------------------------------------------------------------------------


def _droop(config: Config, demands: list[Demand]) -> Iterator[Advice]:
    beyond = [(demand, droop) for demand, droop in _droops(config, demands) if abs(droop) > demand.quota]
    if not beyond:
        return
    (worst, droop), *others = sorted(beyond, key=lambda pair: -abs(pair[1]) / pair[0].quota)
    also = _also([f"{_title(d.plan)} ({_signed(x)} of {_number(d.quota)})" for d, x in others])
    side, sense = ("behind", "they run dry instead") if droop < 0 else ("ahead of", "their quota goes unused instead")
    yield Advice(
        "block",
        f"{_title(worst.plan)}: accounts that ask for {_number(worst.rate)} credits a day would settle {_number(abs(droop))} "
        f"credits {side} pace, more than a whole quota of {_number(worst.quota)}, so {sense}.{also} "
        f"A steeper k, or a feed-forward intercept, mends it.",
        _DROOP,
    )


def _slow(config: Config, demands: list[Demand]) -> Iterator[Advice]:
    slow = [
        (demand, constant)
        for demand in demands
        if (constant := dynamics(config, demand).time_constant_days) is not None
        and constant > demand.cycle_days * SLOW_SHARE
    ]
    if slow:
        (worst, constant), *others = sorted(slow, key=lambda pair: -pair[1] / pair[0].cycle_days)
        also = _also([f"{_title(d.plan)} ({_days(t)})" for d, t in others])
        yield Advice(
            "warn",
            f"{_title(worst.plan)}: an account that left its pace takes {_days(constant)} to close 63\u202f% of the gap, longer than a "
            f"third of its cycle of {_days(worst.cycle_days)}.{also} A steeper k is quicker.",
            "controller.k",
        )


def _flat(config: Config, demands: list[Demand]) -> Iterator[Advice]:
    curves = [(demand, dynamics(config, demand)) for demand in demands]
    drawn = [(d, curve) for d, curve in curves if curve.intercept is not None]
    moves = [(d, _p(config, curve, -d.quota / 4.0), _p(config, curve, d.quota / 4.0)) for d, curve in drawn]
    flat = sorted((row for row in moves if row[2] - row[1] < FLAT_BELOW), key=lambda row: row[2] - row[1])
    if flat:
        (worst, behind, ahead), *others = flat
        also = _also([f"{_title(d.plan)} ({_share(b)} to {_share(a)})" for d, b, a in others])
        alike = len(flat) < len(demands) and config.controller.surplus_unit == "credits"
        hint = " Surplus in percent of quota treats small and large plans alike." if alike else ""
        quarter = _number(worst.quota / 4.0)
        yield Advice(
            "warn",
            f"{_title(worst.plan)}: the S-curve is nearly flat. From {quarter} credits behind pace to {quarter} ahead, a quarter "
            f"of the quota, p only goes from {_share(behind)} to {_share(ahead)}.{also} Being ahead or behind hardly matters.{hint}",
            "controller.k",
        )
    steep = [(demand, curve.width) for demand, curve in curves if curve.width and curve.width <= SWITCH_CREDITS]
    if steep:
        yield Advice(
            "note",
            f"{_listed(_title(d.plan) for d, _ in steep)}: p goes from 10 to 90\u202f% within {_number(steep[0][1])} credits, so the "
            "curve works as a switch: library while behind, fresh while ahead.",
            "controller.k",
        )


def _p(config: Config, curve: Dynamics, surplus: float) -> float:
    c = config.controller
    p0 = controller.base_probability(c.k, surplus, curve.unit, curve.intercept or 0.0)
    return controller.clip(p0, c.p_min, c.p_max)


def _clipping(config: Config, demands: list[Demand]) -> Iterator[Advice]:
    c = config.controller
    if not advice_laws.clipped(config):
        return
    bound = [(d, d.affordable) for d in demands if d.affordable is not None and d.affordable < 1.0]
    over = [(d, share) for d, share in bound if c.p_min > share]
    under = [(d, share) for d, share in bound if c.p_max < share]
    for hit, end, p, side, so in (
        (over, "lowest", c.p_min, "above", "accounts run out whatever the controller does"),
        (under, "highest", c.p_max, "below", "part of the quota is never used"),
    ):
        if hit:
            yield Advice(
                "warn",
                f"{_listed(_title(d.plan) for d, _ in hit)}: the {end} p of {_share(p)} is {side} the {_share(hit[0][1])} of demand "
                f"that the quota affords, so {so}.",
                "controller.p_min" if end == "lowest" else "controller.p_max",
            )


def _probabilities(config: Config, demands: list[Demand]) -> Iterator[Advice]:
    c = config.controller
    logistic = c.strategy == "logistic"
    if not advice_laws.clipped(config):
        return
    if logistic and c.intercept == "fixed" and not c.p_min <= c.p_at_zero <= c.p_max:
        end = "lowest" if c.p_at_zero < c.p_min else "highest"
        bound = c.p_min if c.p_at_zero < c.p_min else c.p_max
        yield Advice(
            "warn",
            f"p at zero surplus is {_share(c.p_at_zero)}, but the {end} p is {_share(bound)}: an account on pace gets that instead.",
            "controller.p_at_zero",
        )
    for end, key, hit in (
        ("lowest p of 0", "p_min", c.p_min == 0.0),
        ("highest p of 100\u202f%", "p_max", c.p_max == 1.0),
    ):
        if hit:
            words = (
                f"With a {end} some outcomes never happen, and what they would have led to cannot be estimated later."
            )
            yield Advice("note", words, f"controller.{key}")
    unknown = [d for d in demands if d.rate is None]
    if logistic and c.intercept == "feed_forward" and unknown:
        yield Advice(
            "note",
            f"{_listed(_title(d.plan) for d in unknown)}: no demand was measured yet, so the feed-forward intercept falls back "
            f"to p at zero surplus, {_share(c.p_at_zero)}.",
            "controller.intercept",
        )


# Rollover, coverage, routing, modes -------------------------------------------------------------------------------


def _idle(config: Config, demands: list[Demand]) -> Iterator[Advice]:
    never = []
    for name, tuning in config.plans.items():
        tends_to = math.inf if tuning.soft_decay == 0.0 else (1.0 + tuning.soft_decay) / tuning.soft_decay
        if tends_to <= tuning.cap_multiple:
            never.append((name, tends_to, tuning.cap_multiple))
    if never:
        (name, tends_to, cap), *others = never
        also = _also([f"{_title(n)} ({_number(t)} of {_number(c)})" for n, t, c in others])
        yield Advice(
            "warn",
            f"{_title(name)}: with this soft decay even an account that spends nothing tends to {_number(tends_to)} quotas, so the "
            f"rollover cap of {_number(cap)} never binds.{also}",
            f"plans.{name}.cap_multiple",
        )


def _caps(config: Config, demands: list[Demand]) -> Iterator[Advice]:
    share = config.coverage.at_cap_share
    full = [name for name, tuning in config.plans.items() if share * tuning.cap_multiple <= 1.0]
    if full:
        first = config.plans[full[0]]
        yield Advice(
            "warn",
            f"{_listed(map(_title, full))}: a full quota already counts as at the cap ({_share(share)} of "
            f"{_number(first.cap_multiple)} quotas), so every cycle starts with fresh ones that nobody draws for (rule at_cap).",
            "coverage.at_cap_share",
        )


def _thresholds(config: Config, demands: list[Demand]) -> Iterator[Advice]:
    target = config.coverage.target
    found: dict[str, list[str]] = {}
    for name, tuning in config.plans.items():
        threshold = tuning.coverage_threshold
        if threshold == 0.0:
            found.setdefault("0, so no request of theirs is a miss", []).append(name)
        elif threshold == 1.0:
            found.setdefault("100\u202f%, so every cell short of its target is a miss", []).append(name)
        elif threshold * target <= 1.0:
            words = f"met by a single asset (target {target}), so only an empty cell is a miss"
            found.setdefault(words, []).append(name)
    for words, names in found.items():
        key = f"plans.{names[0]}.coverage_threshold"
        yield Advice("note", f"{_listed(map(_title, names))}: the coverage threshold is {words}.", key)
    ranked = [
        (name, config.plans[name].coverage_threshold) for name in ("free", "basic", "premium") if name in config.plans
    ]
    for (lower, low), (higher, high) in itertools.pairwise(ranked):
        if low > high:
            yield Advice(
                "warn",
                f"{_title(lower)} has a higher coverage threshold than {_title(higher)} ({_share(low)} and {_share(high)}): a gap in "
                f"the library gives {_title(lower)} users fresh ones sooner than {_title(higher)} users.",
                f"plans.{lower}.coverage_threshold",
            )


def _routing(config: Config, demands: list[Demand]) -> Iterator[Advice]:
    c, threshold, key = config.controller, config.routing.threshold, "routing.threshold"
    if config.routing.premium_model == config.routing.economy_model:
        yield Advice(
            "note", "Premium and economy are the same model, so routing changes nothing.", "routing.premium_model"
        )
    elif not advice_laws.clipped(config):
        return
    elif threshold >= c.p_max:
        words = (
            f"No p passes {_share(threshold)} when the highest p is {_share(c.p_max)}: the premium model is never used."
        )
        yield Advice("warn", words, key)
    elif threshold < c.p_min:
        words = f"Every p passes {_share(threshold)} when the lowest p is {_share(c.p_min)}: the economy model is never used."
        yield Advice("warn", words, key)


# Words ------------------------------------------------------------------------------------------------------------


def _droops(config: Config, demands: list[Demand]) -> list[tuple[Demand, float]]:
    return [(d, droop) for d in demands if (droop := dynamics(config, d).droop) is not None]


def _eased(advice: Advice, config: Config, live: Config, demands: list[Demand], held: set[str]) -> Advice:
    """A block becomes a warning where ``live`` has it too, ``held``; of droop where no plan fares worse than under it."""
    if advice.level != "block":
        return advice
    worse = [
        d for d, droop in _droops(config, demands)
        if abs(droop) > d.quota and abs(dynamics(live, d).droop or 0.0) < abs(droop)
    ]  # fmt: skip
    if worse if advice.key == _DROOP else advice.key not in held:
        return advice
    return advice._replace(
        level="warn", sentence=f"{advice.sentence} What is live is no better, so this does not block."
    )


def _fault(text: str) -> Advice:
    """A fault of the schema, ``controller.k: Input should be greater than 0``, in the words of the page."""
    key, _, message = text.partition(": ")
    titles = {tunable.key: tunable.title for tunable in tunables(Config())}
    group = {name: info.title or name for name, info in Config.model_fields.items()}
    within = {name.rpartition(".")[2]: title for name, title in titles.items() if name.rpartition(".")[0] == key}
    nested = next((title.partition(":")[0] for title in within.values() if ":" in title), key)
    title = titles.get(key) or group.get(key) or nested
    message = re.sub(r"^Input should be", "must be", message)
    message = re.sub(r"\w+", lambda word: f"“{within[word[0]]}”" if word[0] in within else word[0], message)
    return Advice("block", f"{title}: {message.rstrip('.')}.", key)
