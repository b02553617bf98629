"""What the strategies other than the S-curve amount to; and for all of them, that being ahead never lowers the chance.

:mod:`credit_core.policy.advice` says it with the rest.
"""

from __future__ import annotations

from collections.abc import Iterator

from credit_core.policy import controller
from credit_core.policy.advice_terms import Advice, Demand, listed, number, share, title
from credit_core.policy.config import Config
from credit_core.policy.decision import Inputs, Law, evaluate, law_for

#: Points of the quota at which p is looked at, from an empty balance up to two quotas.
_POINTS = 40
#: A fall of p by less than this is one of rounding.
_EDGE = 1e-9
#: Off even spending by more than this part of the quota counts.
_UNEVEN = 0.25
_CERTAIN = ("reserve", "headroom", "novelty")


def clipped(config: Config) -> bool:
    """Whether p is held between the lowest and the highest p: of the S-curve and of affordable alone."""
    return config.controller.strategy in ("logistic", "affordable")


def advise(config: Config, demands: list[Demand]) -> Iterator[Advice]:
    """What stands in the way, and what to know, of the law of ``config``."""
    yield from _falling(config, demands)
    name = config.controller.strategy
    if name in ("reserve", "headroom"):
        yield from _floor(config, demands)
    if name == "headroom":
        yield from _headroom(config, demands)
    if name == "affordable":
        yield from _affordable(config)
    if name == "weighted" and config.strategies.weight_surplus == 0.0:
        words = "Weighted: the weight of surplus is 0, so being ahead or behind of pace does not matter."
        yield Advice("warn", words, "strategies.weight_surplus")
    if name == "zones" and config.strategies.zone_p_red == 0.0:
        words = "Zones: in red nothing is fresh, so an account stays there until its cycle ends."
        yield Advice("warn", words, "strategies.zone_p_red")
    if name in ("novelty", "thompson"):
        by = "what was asked before in the session" if name == "novelty" else "what was rewarded"
        words = (
            f"{title(name)} decides by {by} alone: neither surplus nor quota holds anybody back before they run out."
        )
        yield Advice("warn", words, "controller.strategy")
    if name in _CERTAIN:
        model = "premium" if config.routing.threshold < 1.0 else "economy"
        words = (
            f"{title(name)} draws no lots: what the other answer would have led to cannot be estimated later, and every fresh one "
            f"that it gives goes to the {model} model."
        )
        yield Advice("note", words, "controller.strategy")


def _falling(config: Config, demands: list[Demand]) -> Iterator[Advice]:
    """A law under which more credits lower the chance turns pacing round.

    The S-curve cannot: its gain is above 0, no nudge falls, and modes lower the chance behind pace alone; the schema sees to it.
    """
    if config.controller.strategy == "logistic":
        return
    falls = [(demand, fall) for demand in demands if (fall := _fall(config, demand)) is not None]
    if falls:
        demand, (behind, ahead, before, after) = falls[0]
        others = listed(title(d.plan) for d, _ in falls)
        yield Advice(
            "block",
            f"{others}: the chance falls where surplus rises, from {share(before)} at {number(behind)} credits to {share(after)} at "
            f"{number(ahead)} (quota {number(demand.quota)}), so who saves gets less.",
            "controller.strategy",
        )


def _fall(config: Config, demand: Demand) -> tuple[float, float, float, float] | None:
    """The first balances between which p falls, and p at both; None where it never does."""
    if demand.quota <= 0.0:
        return None
    law = law_for(config, demand.plan)
    steps = [2.0 * demand.quota * place / _POINTS for place in range(_POINTS + 1)]
    for left in (0.75, 0.25):
        chances = [_chance(law, demand, balance, left * demand.cycle_days) for balance in steps]
        for place in range(_POINTS):
            if chances[place + 1] < chances[place] - _EDGE:
                return steps[place], steps[place + 1], chances[place], chances[place + 1]
    return None


def _chance(law: Law, demand: Demand, balance: float, days_left: float) -> float:
    """p for one credit, modes and credit health included."""
    state = Inputs(
        blocked=False, rate_limited=False, paused=False, available=balance, balance=balance, quota=demand.quota,
        cycle_days=demand.cycle_days, days_left=days_left, demand=-1.0 if demand.rate is None else demand.rate,
        session_images=0.0, session_fresh=0, session_fresh_cost=0.0, session_opening=balance, mode=controller.STEADY,
        segment_factor=1.0, conserving=False, coverage=-1.0, health=0.0, under_represented=False, cost=1.0, largest=1.0,
    )  # fmt: skip
    return evaluate(law, state, 0.0).p


def _floor(config: Config, demands: list[Demand]) -> Iterator[Advice]:
    name = config.controller.strategy
    rho = config.strategies.reserve_rho if name == "reserve" else config.strategies.headroom_rho
    key = f"strategies.{name}_rho"
    if rho > 1.0:
        # Right after a reset the balance is one quota and pace is one quota too: the floor lies above it until d/L = 1/ρ.
        waits = [(1.0 - 1.0 / rho) * demand.cycle_days for demand in demands]
        days = f" the first {number(max(waits))} days" if waits else f" the first {share(1.0 - 1.0 / rho)}"
        yield Advice(
            "warn",
            f"{title(name)}: a floor of {number(rho)} times pace lies above a full quota, so{days} of a cycle nothing is fresh.",
            key,
        )
    elif rho == 0.0 and (name == "reserve" or not _keeps_room(config)):
        yield Advice("warn", f"{title(name)}: without a floor everything is fresh until the account runs out.", key)


def _keeps_room(config: Config) -> bool:
    s = config.strategies
    return s.headroom_requests > 0.0 and s.headroom_most > 0.0 and s.headroom_until < 1.0


def _headroom(config: Config, demands: list[Demand]) -> Iterator[Advice]:
    s = config.strategies
    if not _keeps_room(config):
        key = (
            "headroom_requests"
            if s.headroom_requests == 0.0
            else "headroom_most"
            if s.headroom_most == 0.0
            else "headroom_until"
        )
        words = "Headroom: no room is ever kept for a large request, so this is the plain floor of reserve."
        yield Advice("warn", words, f"strategies.{key}")
        return
    small = [demand for demand in demands if 0.0 < s.headroom_most * demand.quota < 1.0]
    if small:
        most = s.headroom_most * small[0].quota
        yield Advice(
            "note",
            f"{listed(title(d.plan) for d in small)}: the most room is {number(most)} credits, less than one image costs, so no "
            "request ever finds room kept for it.",
            "strategies.headroom_most",
        )


def _affordable(config: Config) -> Iterator[Advice]:
    """With p = γ·A/(λ·d) the balance goes as (d/L)^γ, which strays furthest from d/L at γ^(−1/(γ − 1))."""
    gamma = config.strategies.affordable_gamma
    if gamma == 1.0:
        return
    left = gamma ** (-1.0 / (gamma - 1.0))
    off = left**gamma - left
    if abs(off) > _UNEVEN:
        side = "behind" if off < 0 else "ahead of"
        so = "the last days run dry" if off < 0 else "much is given out in the last days or never"
        yield Advice(
            "warn",
            f"Affordable: with γ = {number(gamma)} accounts drift {share(abs(off))} of a quota {side} pace by design, so {so}.",
            "strategies.affordable_gamma",
        )
