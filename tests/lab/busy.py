"""A short, eventful life of a few accounts: everything that a replay must follow, at random and seeded."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from credit_core import CreditCore, Request
from credit_core.errors import CreditError
from credit_core.service.offline import Spend
from tests.service.scenes import CREDIT, StoppedClock, make_live

#: The draws of these ledgers: the same life in every run.
SALT = b"titrate: a short, eventful life"
GENRES, MOODS = ("noir", "anime"), ("calm", "dark", "bright")
USERS = (("ada", "basic", "UTC"), ("bob", "free", "Asia/Tokyo"), ("eve", "premium", "America/New_York"))
#: Versions, each live for a while: every strategy, both intercepts, other edges of sessions, holds and rollover.
VERSIONS: tuple[Mapping[str, Any], ...] = (
    {"limits.bucket_capacity": 6.0, "limits.bucket_leak_per_minute": 0.5, "session.max_fresh": 4},
    {"controller.intercept": "feed_forward", "controller.k": 0.02, "rollover.burst_allowance": True},
    {"controller.strategy": "affordable", "strategies.affordable_nudged": True, "saga.hold_ttl_s": 300.0},
    {"controller.strategy": "reserve", "plans.basic.soft_decay": 0.123456789, "plans.free.cap_multiple": 1.5},
    {"controller.strategy": "weighted", "session.idle_s": 600.0, "nudges.segments.high_engagement": 1.7},
    {"controller.strategy": "novelty", "limits.enabled": False, "plans.premium.coverage_threshold": 0.1},
    {"controller.strategy": "headroom", "strategies.headroom_most": 0.3},
    {"controller.strategy": "zones", "coverage.at_cap_share": 0.5, "plans.basic.cap_multiple": 1.25},
    {"controller.strategy": "thompson", "coverage.at_cap_share": 0.98, "plans.basic.cap_multiple": 3.0},
)


def live_through(core: CreditCore, clock: StoppedClock, days: int, seed: int, a_day: int = 12) -> None:
    """Fill ``core`` with ``days`` of requests, ends, corrections, purchases, pauses, changes of plan, rewards and releases."""
    rng, taste = random.Random(seed), random.Random(seed + 1)
    start = clock.now
    core.library.put("noir", "calm", 16, at=start - timedelta(days=3))
    core.library.put("anime", "dark", 40, at=start - timedelta(days=45))
    for name, plan, zone in USERS:
        core.add_user(name, plan, zone, segment="high_engagement" if name == "eve" else None, at=start)
    open_: list[tuple[str, str]] = []
    settled: list[tuple[str, str, int]] = []
    number, user = 0, "ada"
    for day in range(days):
        if day % 7 == 0:
            make_live(core, VERSIONS[day // 7 % len(VERSIONS)])
        core.reconcile(clock.now)
        for _ in range(a_day):
            clock.advance(seconds=rng.choice((1, 2, 3, 30, 400, 9_000)))
            number += 1
            user = rng.choice(USERS)[0] if rng.random() < 0.25 else user
            chance = rng.random()
            try:
                if chance < 0.03:
                    core.adjust(user, rng.choice((-3, -1, 4)) * CREDIT, f"a-{number}", "sam", "test", at=clock.now)
                elif chance < 0.05:
                    core.purchase(user, "starter", f"p-{number}", at=clock.now)
                elif chance < 0.07:
                    ends = clock.now + timedelta(days=rng.randint(1, 20))
                    core.grant(user, 5 * CREDIT, rng.choice(("bonus", "welcome")), f"g-{number}", ends, at=clock.now)
                elif chance < 0.085:
                    core.change_plan(user, rng.choice(("free", "basic", "premium")), at=clock.now)
                elif chance < 0.10:
                    core.pause(user, at=clock.now)
                elif chance < 0.17:
                    core.resume(user, at=clock.now)
                elif chance < 0.19:
                    core.sync(user, [Spend(f"o-{number}", clock.now - timedelta(hours=1), 2)], at=clock.now)
                elif chance < 0.22:
                    core.claim_deferred(2, at=clock.now)
                elif chance < 0.25:
                    core.sweep(at=clock.now)
                elif chance < 0.30 and settled:
                    user, request_id, amount = rng.choice(settled)
                    core.refund(
                        user, request_id, rng.choice((amount, amount // 3)), f"r-{number}", "sam", "test", at=clock.now
                    )
                else:
                    outcome = _ask(core, clock, rng, user, number, open_)
                    if outcome is not None and taste.random() < 0.5:
                        liked = taste.random() < (0.7 if outcome == "fresh" else 0.5)
                        core.reward(user, f"q-{number}", float(liked), at=clock.now)
                while open_ and rng.random() < 0.6:
                    _end(core, clock, rng, open_.pop(rng.randrange(len(open_))), settled)
            except CreditError:
                continue
        clock.advance(hours=rng.randint(3, 16))
    core.reconcile(clock.now)


def _ask(
    core: CreditCore, clock: StoppedClock, rng: random.Random, user: str, number: int, open_: list[tuple[str, str]]
) -> str | None:
    """Ask for something; what came of it, fresh or library."""
    cell = rng.random() < 0.7
    decision = core.authorize(
        Request(
            user,
            f"q-{number}",
            f"s-{user}-{number // 9}",
            genre=rng.choice(GENRES) if cell else None,
            mood=rng.choice(MOODS) if cell else None,
            images=rng.choice((1, 2, 4, 8)),
            model="dalle-3-hd" if rng.random() < 0.1 else None,
        ),
        at=clock.now,
    )
    if decision.fresh:
        open_.append((user, f"q-{number}"))
    return decision.outcome


def _end(
    core: CreditCore, clock: StoppedClock, rng: random.Random, key: tuple[str, str], settled: list[tuple[str, str, int]]
) -> None:
    fate = rng.random()
    at = clock.advance(seconds=rng.choice((1, 8, 200)))
    if fate < 0.1:
        core.release(*key, "provider_error", at=at)
    elif fate < 0.15:
        core.partial(*key, at=at)
    elif fate < 0.9:
        actual = CREDIT if fate < 0.3 else None
        done = core.settle(*key, actual, latency_ms=rng.uniform(500, 9_000), at=at)
        settled.append((*key, done.settled_uc))
