"""A decision in a sentence, for people who were not there."""

from __future__ import annotations

import math

from credit_core.policy.decision import Allowance, Decision
from credit_core.policy.plans import COUNTED
from credit_core.units import format_credits


def sentence(decision: Decision) -> str:
    """Why this request got what it got, in one or two sentences."""
    state = decision.state
    cost = _credits(state.cost_uc)
    match decision.rule:
        case "blocked":
            return "Refused: the user is blocked until the open challenge is cleared."
        case "rate_limited":
            wait = f"{math.ceil(decision.retry_after_s or 0.0)} s"
            return f"Refused: too many requests at once. The next one is accepted in {wait}, under a new request id."
        case "paused":
            return "Refused: the account is paused."
        case "unaffordable" if decision.outcome is None:
            return f"Refused: it costs {cost}, but only {_there(state.available_uc)} available.{_help(decision)}"
        case "over_limit":
            return f"Refused: {_limit(state.allowance)}.{_help(decision)}"
        case "allowed" if state.allowance is not None:
            left = decision.remaining
            verb = "is" if left == 1 else "are"
            return f"Fresh{_price(decision)}: {_limit(state.allowance)} before it, so {left or 'none'} {verb} left."
        case "allowed" if state.policy in COUNTED:
            return f"Fresh: plan {state.plan} has no limit."
        case "allowed":
            return f"Fresh{_price(decision)}: {_there(state.available_uc)} available."
        case "unaffordable":
            return f"Library: a fresh one costs {cost}, but only {_there(state.available_uc)} available."
        case "coverage_miss" if decision.miss:
            return (
                f"Fresh, without a draw: the library covers {_share(state.coverage)} of this cell, "
                f"under the {_share(decision.threshold)} that plan {state.plan} asks for."
            )
        case "coverage_miss":
            health = _share(state.health)
            return f"Fresh, without a draw: this cell is in the thinner half of the library and its health is only {health}."
        case "session_cap":
            return (
                f"Library now, the fresh one queued: this session already had {state.session_fresh} fresh "
                f"for {_credits(state.session_fresh_uc)}, "
                f"of {_credits(state.session_opening_uc)} at its start."
            )
        case "deferred":
            return "Fresh: the queued half of a request that its session's cap had deferred."
        case "at_cap":
            return (
                f"Fresh, without a draw: {_credits(state.paced_uc)} is close to the most that this plan may carry over."
            )
    ahead = decision.surplus_days or 0.0
    pace = "on pace" if abs(ahead) < 0.05 else f"{abs(ahead):.1f} days {'ahead of' if ahead > 0 else 'behind'} pace"
    drawn, verb = ("under", "Fresh") if decision.fresh else ("not under", "Library")
    chance, draw = _share(decision.p), _share(decision.u01)
    return (
        f"{verb}: the account was {pace}, so the chance of a fresh one was {chance}; the draw was {draw}, {drawn} it."
    )


_PER = {
    "day": "today",
    "month": "this cycle",
    "free": "this cycle by free models",
    "session": "by this session in its window",
    "ip": "from this address in its window",
}


def _limit(allowance: Allowance | None) -> str:
    assert allowance is not None, "a count decided"
    what = "generation" if allowance.limit == 1 else "generations"
    verb = "was" if allowance.used == 1 else "were"
    return f"{allowance.used or 'none'} of {allowance.limit} {what} {verb} used {_PER[allowance.name]}"


def _price(decision: Decision) -> str:
    """What it costs, on plans where generations cost anything."""
    if decision.state.policy in COUNTED:
        return ""
    return " for nothing" if decision.state.cost_uc == 0 else f" for {_credits(decision.state.cost_uc)}"


def _help(decision: Decision) -> str:
    """What would help somebody who was refused."""
    state = decision.state
    if decision.rule == "over_limit" and state.allowance is not None:
        fewer = f" {decision.remaining} at once would still do." if decision.remaining else ""
        if decision.images > state.allowance.limit:
            return fewer or " Another plan would help."
        then = f"{state.allowance.resets_at:%Y-%m-%d %H:%M} UTC"
        return f"{fewer} The count resets at {then}; ask again then, under a new request id."
    if state.affordable_model is not None:
        return f" The balance covers model {state.affordable_model}."
    return " A pack, another plan or the next grant would help."


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value * 100:.1f} %"


def _credits(amount_uc: int) -> str:
    text = format_credits(amount_uc)
    return f"{text} credit" if text == "1" else f"{text} credits"


def _there(amount_uc: int) -> str:
    text = _credits(amount_uc)
    return f"{text} was" if text == "1 credit" else f"{text} were"
