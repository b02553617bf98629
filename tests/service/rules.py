"""One scene per way that a request can be answered: user ada asks for ``asked`` and gets that answer."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from credit_core import CreditCore, Decision
from credit_core.units import to_us
from tests.service.scenes import CREDIT, FRESH_FOR_ALL, LIBRARY_FOR_ALL, NOW, ask, change, make_live


def blocked(core: CreditCore) -> Decision:
    core.add_user("ada", "basic", at=NOW)
    change(core, "UPDATE users SET blocked_at = :at", at=to_us(NOW))
    return ask(core, "asked")


def rate_limited(core: CreditCore) -> Decision:
    make_live(core, {"limits.bucket_capacity": 1.0})
    core.add_user("ada", "basic", at=NOW)
    ask(core, "earlier")
    return ask(core, "asked")


def paused(core: CreditCore) -> Decision:
    core.add_user("ada", "basic", at=NOW)
    change(core, "UPDATE accounts SET paused_at = :at, due_at = NULL", at=to_us(NOW))
    return ask(core, "asked")


def unaffordable(core: CreditCore) -> Decision:
    core.add_user("ada", "free", at=NOW)
    return ask(core, "asked", images=21)


def unaffordable_miss(core: CreditCore) -> Decision:
    core.add_user("ada", "free", at=NOW)
    return ask(core, "asked", images=21, genre="jazz", mood="calm")


def coverage_miss(core: CreditCore) -> Decision:
    core.library.put("jazz", "calm", 9, at=NOW)
    core.add_user("ada", "basic", segment="high_engagement", at=NOW)
    return ask(core, "asked", genre="jazz", mood="calm")


def thin_cell(core: CreditCore) -> Decision:
    """Covered well enough, but thinner than the median and of little health."""
    core.library.put("jazz", "calm", 11, at=NOW)
    core.library.put("rock", "wild", 20, at=NOW)
    core.add_user("ada", "basic", at=NOW)
    ask(core, "earlier", genre="rock", mood="wild")
    return ask(core, "asked", genre="jazz", mood="calm", at=NOW + timedelta(minutes=10))


def session_cap(core: CreditCore) -> Decision:
    make_live(core, FRESH_FOR_ALL | {"session.max_fresh": 1})
    core.add_user("ada", "basic", at=NOW)
    ask(core, "earlier")
    return ask(core, "asked")


def at_cap(core: CreditCore) -> Decision:
    core.add_user("ada", "free", at=NOW)
    core.grant("ada", 39 * CREDIT, "rollover", "carried", at=NOW)
    return ask(core, "asked")


def drawn_fresh(core: CreditCore) -> Decision:
    make_live(core, FRESH_FOR_ALL)
    core.library.put("jazz", "calm", 14, at=NOW - timedelta(days=40))
    core.library.put("jazz", "calm", 6, at=NOW)
    core.add_user("ada", "basic", "Europe/Berlin", at=NOW)
    return ask(core, "asked", images=3, genre="jazz", mood="calm", model="dalle-3-hd", text="a blue door")


def drawn_library(core: CreditCore) -> Decision:
    make_live(core, LIBRARY_FOR_ALL)
    core.add_user("ada", "premium", at=NOW)
    return ask(core, "asked")


def drawn_at_pace(core: CreditCore) -> Decision:
    """With the demand of the plan known, an intercept from it, a conserving user, and a balance far behind its pace."""
    make_live(core, {"controller.intercept": "feed_forward", "controller.surplus_unit": "days", "controller.k": 0.4})
    change(core, "INSERT INTO plan_demand (plan, day, rate) VALUES ('basic', '2025-03-09', 9.5)")
    core.add_user("ada", "basic", at=NOW - timedelta(days=3))
    change(core, "UPDATE users SET conserving = :on", on=True)
    ask(core, "earlier", images=100, at=NOW - timedelta(hours=1))
    return ask(core, "asked")


#: Rule that answers, status of the answer, scene.
RULES: tuple[tuple[str, str, Callable[[CreditCore], Decision]], ...] = (
    ("blocked", "REJECTED", blocked),
    ("rate_limited", "RATE_LIMITED", rate_limited),
    ("paused", "REJECTED", paused),
    ("unaffordable", "LIBRARY", unaffordable),
    ("unaffordable", "LIBRARY", unaffordable_miss),
    ("coverage_miss", "RESERVED", coverage_miss),
    ("coverage_miss", "RESERVED", thin_cell),
    ("session_cap", "DEFERRED", session_cap),
    ("at_cap", "RESERVED", at_cap),
    ("controller", "RESERVED", drawn_fresh),
    ("controller", "LIBRARY", drawn_library),
    ("controller", "LIBRARY", drawn_at_pace),
)
NAMES = [scene.__name__ for _, _, scene in RULES]
