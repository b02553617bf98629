"""Short ways to write an account's state down: amounts in credits, everything else as SPEC 4 names it."""

from __future__ import annotations

from typing import Any

from credit_core.policy.config import Config, apply_changes
from credit_core.policy.decision import Request, State

MICRO = 1_000_000
SHIPPED = Config()
REQUEST = Request(user_id="u", request_id="r", session_id="s")


def uc(credits: float) -> int:
    return round(credits * MICRO)


def account(
    A: float = 100,
    *,
    Q: float = 200,
    L: float = 30.0,
    d: float = 15.0,
    all_lots: float | None = None,
    cost: float = 1,
    session_cost: float = 0,
    session_opening: float = 0,
    plan: str = "basic",
    **more: Any,
) -> State:
    """On pace in the middle of a 30-day cycle of the Basic plan, unless told otherwise; no cell is asked for."""
    return State(
        plan=plan,
        available_uc=uc(A if all_lots is None else all_lots),
        paced_uc=uc(A),
        quota_uc=uc(Q),
        cycle_days=float(L),
        days_left=float(d),
        cost_uc=uc(cost),
        session_fresh_uc=uc(session_cost),
        session_opening_uc=uc(session_opening),
        **more,
    )


def cell(coverage: float, health: float | None = None, *, under_represented: bool = False) -> dict[str, Any]:
    """The asked cell; without its own figure, all of its assets are young."""
    return {
        "coverage": coverage,
        "health": coverage if health is None else health,
        "under_represented": under_represented,
    }


def with_changes(changes: dict[str, Any]) -> Config:
    """The shipped configuration with dotted changes."""
    return apply_changes(SHIPPED.body(), changes) if changes else SHIPPED
