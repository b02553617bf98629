"""What a customer would see (SPEC 3): :func:`view` turns their standing into a meter, a badge, a pace line, a receipt …

Pure: the dashboard's customer preview and an application's own screens show the same. Whatever is unknown stays None.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime
from typing import Literal, NamedTuple

from credit_core.policy import surplus
from credit_core.policy.plans import QuotaPolicy
from credit_core.policy.standing import Asked, Charge, Lifetime, Offer, Period, Standing, Taken, Use
from credit_core.units import MICRO, format_credits, uc_to_credits

Level = Literal["ok", "warning", "critical"]
Badge = Literal["sparkle", "warning", "low_balance"]
Risk = Literal["Low", "Medium", "High"]
Obstacle = Literal["blocked", "paused", "limit", "credits"]

#: The meter warns from these shares on, in per cent: compared in whole numbers, so that 80 % is 80 %.
WARNING_PERCENT, CRITICAL_PERCENT = 80, 95
#: "N left this month" is said from this share of a video limit on.
LEFT_PERCENT = 80
#: Shares of the on-pace balance that earn the badges.
SPARKLE_ABOVE, WARNING_BELOW = 1.5, 0.2
LOW_BALANCE_UC = 10 * MICRO
#: Run-out risk (SPEC 6): Low < 10 % ≤ Medium < 40 % ≤ High.
MEDIUM_FROM, HIGH_FROM = 0.10, 0.40
FIRST_LIBRARY_TIP = (
    "This one came from the library: ready at once, and free of charge. Your credits stay for fresh ones later."
)
#: What is priced where nobody asked for anything else.
ONE_IMAGE = Asked()
_PERIOD_WORDS = {"day": "today", "month": "this month", "window": "for now"}


class Meter(NamedTuple):
    """How much is used up: ``share`` in [0, 1] is ``used`` / ``total``, both in micro-credits or in generations."""

    share: float
    level: Level
    used: int
    total: int
    unit: Literal["credits", "generations"]


class Left(NamedTuple):
    """A limit that comes near: "5 left this month"."""

    modality: str
    left: int
    period: Period
    text: str


class CostPreview(NamedTuple):
    """What a request would cost. ``obstacle``: why it would not be made now; ``cheaper``: models that would do, the best first.

    ``affordable`` and ``available_after_uc`` are None where the balance is unknown.
    """

    offer: Offer
    images: int
    cost_uc: int
    affordable: bool | None
    obstacle: Obstacle | None
    available_after_uc: int | None
    cheaper: tuple[Offer, ...]


class Receipt(NamedTuple):
    """What the newest charge took, by lot kind, and the balance after it."""

    request_id: str
    at: datetime
    model: str | None
    charged_uc: int
    taken: tuple[Taken, ...]
    available_after_uc: int


class Reset(NamedTuple):
    """The next reset: credits there will be if nothing more is spent, or generations that may be made."""

    at: datetime
    amount_uc: int | None
    generations: int | None


class Countdown(NamedTuple):
    """What a guest may still make, and the seconds until the count starts again; None before the first use."""

    left: int
    limit: int
    seconds_left: float | None
    text: str


class View(NamedTuple):
    """What the customer sees. A part that does not apply, or that nothing is known of, is None or empty."""

    quota_policy: QuotaPolicy
    plan: str
    available_uc: int | None
    held_uc: int | None
    pack_uc: int | None
    surplus_days: float | None
    meter: Meter | None
    badge: Badge | None
    left: tuple[Left, ...]
    pace: str | None
    risk: Risk | None
    preview: CostPreview | None
    recommendation: Offer | None
    receipt: Receipt | None
    reset: Reset | None
    countdown: Countdown | None
    tip: str | None
    lifetime: Lifetime | None
    paused: bool
    blocked: bool


def view(standing: Standing, asked: Asked = ONE_IMAGE) -> View:
    """What the customer in this ``standing`` sees; ``asked`` is the request that the cost preview and the advice are for."""
    return View(
        quota_policy=standing.quota_policy,
        plan=standing.plan,
        available_uc=standing.available_uc,
        held_uc=standing.held_uc,
        pack_uc=standing.pack_uc,
        surplus_days=standing.surplus_days,
        meter=meter(standing),
        badge=badge(standing),
        left=running_short(standing.uses),
        pace=pace_line(standing.mean_fresh, standing.run_out_chance),
        risk=risk_of(standing.run_out_chance),
        preview=preview(standing, asked),
        recommendation=recommendation(standing, asked),
        receipt=receipt(standing.charge),
        reset=reset(standing),
        countdown=countdown(standing),
        tip=FIRST_LIBRARY_TIP if standing.first_library_fallback else None,
        lifetime=standing.lifetime,
        paused=standing.paused,
        blocked=standing.blocked,
    )


def risk_of(chance: float | None) -> Risk | None:
    """The chance of a run-out in a word: Low < 10 % ≤ Medium < 40 % ≤ High (SPEC 6)."""
    if chance is None:
        return None
    return "Low" if chance < MEDIUM_FROM else "Medium" if chance < HIGH_FROM else "High"


def pace_line(mean_fresh: float | None, run_out_chance: float | None) -> str | None:
    """Such as "Pace: ~7 fresh/day · Risk of run-out: Low"; an unknown half is left out."""
    risk = risk_of(run_out_chance)
    halves = [
        None if mean_fresh is None else f"Pace: {_about(mean_fresh)} fresh/day",
        None if risk is None else f"Risk of run-out: {risk}",
    ]
    return " · ".join(half for half in halves if half is not None) or None


def meter(standing: Standing) -> Meter | None:
    """How much is used up, ``warning`` from 80 % and ``critical`` from 95 % on. A hold counts as used until it ends.

    Credits: of all that the running cycle had, so credits bought on top count. Counts: of the day's, month's or window's.
    """
    match standing.quota_policy:
        case "daily_count":
            return _meter_of(_overall(standing.uses, "day"))
        case "guest_window":
            return _meter_of(_guest_use(standing))
    if standing.available_uc is None or standing.held_uc is None or standing.spent_uc is None:
        return None
    used = max(0, standing.spent_uc) + standing.held_uc
    total = used + standing.available_uc
    # A plan without credits counts its free generations.
    return _meter(used, total, "credits") if total else _meter_of(_overall(standing.uses, "month"))


def badge(standing: Standing) -> Badge | None:
    """``sparkle`` over 150 % of the on-pace balance, ``warning`` under 20 % of it; prepaid: ``low_balance`` under 10 credits."""
    if standing.quota_policy == "prepaid":
        low = standing.available_uc is not None and standing.available_uc < LOW_BALANCE_UC
        return "low_balance" if low else None
    if standing.quota_policy not in ("titrated_monthly", "plan_credits") or standing.paced_uc is None:
        return None
    if not standing.quota_uc or not standing.cycle_days or not standing.days_left:
        return None
    on_pace = surplus.on_pace(uc_to_credits(standing.quota_uc), standing.cycle_days, standing.days_left)
    paced = uc_to_credits(standing.paced_uc)
    return "sparkle" if paced > SPARKLE_ABOVE * on_pace else "warning" if paced < WARNING_BELOW * on_pace else None


def running_short(uses: Iterable[Use]) -> tuple[Left, ...]:
    """Video limits of which 80 % are used: "5 left this month"."""
    return tuple(
        Left(use.modality, left, use.period, f"{left} left {_PERIOD_WORDS[use.period]}")
        for use in uses
        if use.modality == "video"
        and use.limit
        and (left := use.left) is not None
        and use.used * 100 >= use.limit * LEFT_PERCENT
    )


def preview(standing: Standing, asked: Asked) -> CostPreview | None:
    """What ``asked`` would cost, and cheaper models of the modality that the balance affords. None where no model fits."""
    fitting = _fitting(standing, asked)
    named = [offer for offer in fitting if asked.model is None or offer.model in (asked.model, None)]
    if not named:
        return None
    offer = min(named, key=lambda one: one.cost_uc)
    cost = offer.cost_uc * asked.images
    obstacle = _obstacle(standing, asked.modality)
    affordable = _affords(standing, cost) if obstacle is None else False
    after = standing.available_uc - cost if affordable and standing.available_uc is not None else None
    cheaper = [one for one in _affordable(standing, asked) if one.cost_uc < offer.cost_uc]
    return CostPreview(
        offer=offer,
        images=asked.images,
        cost_uc=cost,
        affordable=affordable,
        obstacle=obstacle or ("credits" if affordable is False else None),
        available_after_uc=after,
        cheaper=tuple(sorted(cheaper, key=_worth, reverse=True)),
    )


def recommendation(standing: Standing, asked: Asked) -> Offer | None:
    """The best model of the modality that the balance affords: the dearest. None where the plan chooses, or none is afforded."""
    named = [offer for offer in _affordable(standing, asked) if offer.model is not None]
    return max(named, key=_worth, default=None)


def receipt(charge: Charge | None) -> Receipt | None:
    """The newest charge, lots of one kind together, without those that paid nothing."""
    if charge is None:
        return None
    by_kind: dict[str, int] = {}
    for kind, amount_uc in charge.taken:
        if amount_uc:
            by_kind[kind] = by_kind.get(kind, 0) + amount_uc
    return Receipt(
        request_id=charge.request_id,
        at=charge.at,
        model=charge.model,
        charged_uc=sum(by_kind.values()),
        taken=tuple(Taken(kind, amount_uc) for kind, amount_uc in by_kind.items()),
        available_after_uc=charge.available_after_uc,
    )


def reset(standing: Standing) -> Reset | None:
    """When the next credits or generations come, and how many. None for prepaid, for guests and while paused."""
    if standing.next_reset_at is None or standing.paused or standing.quota_policy in ("prepaid", "guest_window"):
        return None
    counted = _overall(standing.uses, "day" if standing.quota_policy == "daily_count" else "month")
    return Reset(standing.next_reset_at, standing.next_amount_uc, None if counted is None else counted.limit)


def countdown(standing: Standing) -> Countdown | None:
    """Such as "1 of 3 left · resets in 5 h 12 min" for a guest, else None."""
    use = _guest_use(standing)
    if use is None or use.limit is None or use.left is None:
        return None
    resets_at = standing.guest_resets_at
    running = resets_at is not None and resets_at > standing.at
    seconds = (resets_at - standing.at).total_seconds() if running and resets_at is not None else None
    text = f"{use.left} of {use.limit} left"
    return Countdown(use.left, use.limit, seconds, text if seconds is None else f"{text} · resets in {_span(seconds)}")


def _meter(used: int, total: int, unit: Literal["credits", "generations"]) -> Meter:
    level: Level = (
        "critical"
        if used * 100 >= total * CRITICAL_PERCENT
        else "warning"
        if used * 100 >= total * WARNING_PERCENT
        else "ok"
    )
    return Meter(min(used / total, 1.0), level, used, total, unit)


def _meter_of(use: Use | None) -> Meter | None:
    return None if use is None or not use.limit else _meter(use.used, use.limit, "generations")


def _overall(uses: Iterable[Use], period: Period) -> Use | None:
    return next((use for use in uses if use.modality is None and use.period == period), None)


def _guest_use(standing: Standing) -> Use | None:
    if standing.quota_policy != "guest_window" or standing.guest_used is None or standing.guest_limit is None:
        return None
    over = standing.guest_resets_at is not None and standing.guest_resets_at <= standing.at
    return Use(None, "window", 0 if over else standing.guest_used, standing.guest_limit)


def _obstacle(standing: Standing, modality: str) -> Obstacle | None:
    """What stands against any generation of ``modality``, whatever it costs; a request counts once."""
    if standing.blocked:
        return "blocked"
    if standing.paused:
        return "paused"
    guest = _guest_use(standing)
    uses = standing.uses if guest is None else (*standing.uses, guest)
    return "limit" if any(use.left == 0 for use in uses if use.modality in (None, modality)) else None


def _fitting(standing: Standing, asked: Asked) -> list[Offer]:
    return [offer for offer in standing.offers if offer.modality == asked.modality]


def _affordable(standing: Standing, asked: Asked) -> list[Offer]:
    """Models that would do for ``asked`` now; none where the balance is unknown, unless they are free."""
    if _obstacle(standing, asked.modality) is not None:
        return []
    return [offer for offer in _fitting(standing, asked) if _affords(standing, offer.cost_uc * asked.images)]


def _affords(standing: Standing, cost_uc: int) -> bool | None:
    if cost_uc == 0:
        return True
    return None if standing.available_uc is None else cost_uc <= standing.available_uc


def _worth(offer: Offer) -> tuple[int, int]:
    return offer.cost_uc, offer.provider_cost_usd_micro or 0


def _about(mean: float) -> str:
    """Such as "~7"; under one a decimal, since "~0" would say none."""
    if 0.0 < mean < 0.05:
        return "under 0.1"
    return f"~{mean:.1f}" if 0.0 < mean < 0.95 else f"~{format_credits(round(mean) * MICRO)}"


def _span(seconds: float) -> str:
    minutes = math.ceil(seconds / 60.0)
    hours, rest = divmod(minutes, 60)
    parts = [f"{hours} h" if hours else "", f"{rest} min" if rest else ""]
    return " ".join(part for part in parts if part)
