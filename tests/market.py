"""A ledger with something of every way to earn: subscriptions, packs, welcome credits, guests; and prices that are not known."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

from credit_core import CreditCore, Request
from credit_core.service import ends, generate
from credit_core.store.unit import Unit
from tests.service.scenes import StoppedClock

MARKET_START = datetime(2025, 3, 1, tzinfo=UTC)
MARKET_DAYS = 40
#: Plan → users; what each asks for.
_PEOPLE = {"creator_free": 3, "creator_pro": 6, "studio_pro": 3, "prepaid": 8, "daily": 4}
_MODELS = {
    "creator_free": ("free-text-1", "free-text-2"),
    "creator_pro": ("gpt-4o", "dalle-3-hd", "gen-4-5s", "kimi-vl-a3b"),
    "studio_pro": ("gen4-image", "stable-video-4s", "claude-3-5-sonnet"),
    "prepaid": ("flux-dev", "nano-banana", "nano-banana-pro"),
    "daily": ("stable-diffusion-xl",),
    "basic": (None,),
}
_MODALITY = {"free-text": "text", "gpt-4o": "text", "kimi-vl-a3b": "text", "claude-3-5-sonnet": "text",
             "gen-4-5s": "video", "stable-video-4s": "video"}  # fmt: skip


def market(url: str, *, unpriced: bool = False, reporting_zone: str = "UTC", seed: int = 5, scale: int = 1) -> None:
    """Fill an empty ledger. ``unpriced`` adds a plan whose price nobody knows; ``scale`` multiplies the users."""
    clock = StoppedClock(MARKET_START)
    with CreditCore.open(url, clock=clock, reporting_zone=reporting_zone) as core:
        chance = random.Random(seed)
        people = dict(_PEOPLE) | ({"basic": 2} if unpriced else {})
        joined = _guests(core, clock, chance, scale)
        users = [(f"{plan}-{n}", plan) for plan, number in people.items() for n in range(number * scale)]
        for place, (user, plan) in enumerate(users):
            at = MARKET_START + timedelta(hours=36 + 7 * (place % 60))
            clock.now = max(clock.now, at)
            session = joined.pop() if plan == "prepaid" and joined and place % 2 else None
            core.add_user(user, plan, guest_session=session, at=clock.now)
        for day in range(19, MARKET_DAYS):
            clock.now = max(clock.now, MARKET_START + timedelta(days=day, hours=10))
            core.reconcile(clock.now)
            core.deployment.ledger.run(lambda unit, day=day: _day(unit, core, chance, users, day, clock.now))
            for user, plan in users:
                if plan == "prepaid" and chance.random() < 0.07:
                    pack = chance.choice(("starter", "creator", "creator", "pro"))
                    core.purchase(user, pack, key=f"{user}-{day}", at=clock.now)
        core.reconcile(clock.now)


def _guests(core: CreditCore, clock: StoppedClock, chance: random.Random, scale: int) -> list[str]:
    sessions = []
    for number in range(9 * scale):
        clock.now = MARKET_START + timedelta(hours=1, minutes=11 * number)
        session = f"visit-{number}"
        for turn in range(1 + chance.randrange(4)):
            request = Request(None, f"g{turn}", session, model="stable-diffusion-xl", ip=f"192.0.2.{number % 200}")
            at = clock.now + timedelta(seconds=30 * turn)
            decision = core.authorize(request, at=at)
            if decision.fresh:
                core.settle(decision.user_id or "", f"g{turn}", latency_ms=2_000.0, at=at + timedelta(seconds=9))
        sessions.append(session)
    return sessions


def _day(
    unit: Unit, core: CreditCore, chance: random.Random, users: list[tuple[str, str]], day: int, now: datetime
) -> None:
    for user, plan in users:
        for turn in range(chance.randrange(3)):
            model = chance.choice(_MODELS[plan])
            modality = next((kind for name, kind in _MODALITY.items() if (model or "").startswith(name)), "image")
            at = now + timedelta(minutes=4 * turn)
            request = Request(
                user, f"{day}-{turn}", "s", modality=modality, model=model, images=4 if plan == "prepaid" else 1
            )
            if not generate.authorize_in(unit, core.deployment, generate.checked(request), at).fresh:
                continue
            done = at + timedelta(seconds=20)
            if chance.random() < 0.06:
                ends.release_in(unit, core.deployment, user, request.request_id, "provider_error", done)
            else:
                ends.settle_in(
                    unit, core.deployment, user, request.request_id, done, latency_ms=chance.lognormvariate(9, 0.5)
                )
