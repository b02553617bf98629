"""The quota policies beside ``titrated_monthly`` (SPEC 3): what they count, what they allow, and one decision by them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import NamedTuple
from zoneinfo import ZoneInfo

from credit_core.policy import cycles
from credit_core.policy.decision import FRESH, Allowance, Decision, Request, State
from credit_core.policy.guardrails import (
    ALLOWED,
    BLOCKED,
    OVER_LIMIT,
    PAUSED,
    RATE_LIMITED,
    RULES,
    UNAFFORDABLE,
)
from credit_core.policy.plans import Plan


class Counted(NamedTuple):
    """Generations that an entry counts: +n where one was reserved, −n where it failed, both at the reserve's instant."""

    at: datetime
    modality: str
    free: bool
    generations: int


class Window(NamedTuple):
    """A guest's window: when it opened, and the not-failed generations in it."""

    opened_at: datetime | None
    used: int


def day_of(at: datetime, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """First instant of the local day of ``at``, and of the next."""
    day = cycles.local_day(at, zone)
    return cycles.first_instant(day, zone), cycles.first_instant(day + timedelta(days=1), zone)


def daily(limit: int | None, counted: Iterable[Counted], zone: ZoneInfo, at: datetime) -> list[Allowance]:
    """``daily_count``: not-failed generations of the local day of ``at``."""
    if limit is None:
        return []
    start, end = day_of(at, zone)
    return [Allowance("day", limit, _within(counted, start, end), end)]


def monthly(
    plan: Plan,
    modality: str,
    free: bool,
    counted: Sequence[Counted],
    zone: ZoneInfo,
    cycle: tuple[datetime, datetime],
    at: datetime,
) -> list[Allowance]:
    """``plan_credits``: the modality's counts by cycle and day, and the free generations of the cycle.

    A cycle has one burst day: the first day that goes over ``per_day`` takes it.
    """
    found: list[Allowance] = []
    start, end = cycle
    if free and plan.free_per_month is not None:
        found.append(Allowance("free", plan.free_per_month, _within((c for c in counted if c.free), start, end), end))
    counts = next((counts for name, counts in plan.counts.items() if name == modality), None)
    if counts is None:
        return found
    same = [c for c in counted if c.modality == modality and start <= c.at < end]
    if counts.per_month is not None:
        found.append(Allowance("month", counts.per_month, sum(c.generations for c in same), end))
    if counts.per_day is not None:
        limit = counts.per_day
        today = cycles.local_day(at, zone)
        if counts.burst_day is not None:
            by_day = groupby(
                sorted((cycles.local_day(c.at, zone), c.generations) for c in same), key=lambda day_count: day_count[0]
            )
            burst = {day for day, rows in by_day if sum(count for _, count in rows) > counts.per_day}
            limit = counts.per_day if burst - {today} else counts.burst_day
        day_start, day_end = day_of(at, zone)
        found.append(Allowance("day", limit, _within(same, day_start, day_end), day_end))
    return found


def guest(plan: Plan, windows: Iterable[tuple[str, Window]], at: datetime) -> list[Allowance]:
    """``guest_window``: by name (session, ip), what its running window holds; a window opens with its first generation."""
    assert plan.window_limit is not None, "the catalogue checks it"
    assert plan.window_hours is not None, "the catalogue checks it"
    length = timedelta(hours=plan.window_hours)
    found = []
    for name, window in windows:
        running = window.opened_at is not None and at < window.opened_at + length
        opened = window.opened_at if running and window.opened_at is not None else at
        found.append(Allowance(name, plan.window_limit, window.used if running else 0, opened + length))
    return found


def tightest(allowances: Iterable[Allowance]) -> Allowance | None:
    """The one with the least room; of equals the one that resets last. Over a limit by any number is no room."""
    return min(allowances, key=lambda a: (max(a.limit - a.used, 0), -a.resets_at.timestamp()), default=None)


def decide(state: State, request: Request, model: str | None, at: datetime, u01: float) -> Decision:
    """Rules 1 to 4 of SPEC 4 and the plan's counts, for every policy but ``titrated_monthly``; what passes is fresh.

    ``model`` is the quoted one (:func:`credit_core.policy.plans.quote`). ``u01`` decides nothing here; it is logged with
    every decision alike.
    """
    limit = state.allowance
    retry_after_s: float | None = None
    if state.blocked:
        rule = BLOCKED
    elif state.retry_after_s > 0.0:
        rule, retry_after_s = RATE_LIMITED, state.retry_after_s
    elif state.paused:
        rule = PAUSED
    elif limit is not None and limit.used + request.images > limit.limit:
        rule, retry_after_s = OVER_LIMIT, max((limit.resets_at - at).total_seconds(), 0.0)
    elif state.cost_uc > state.available_uc:
        rule = UNAFFORDABLE
    else:
        rule = ALLOWED
    fresh = rule == ALLOWED
    refusal = "RATE_LIMITED" if rule in (RATE_LIMITED, OVER_LIMIT) else "REJECTED"
    return Decision(
        status="RESERVED" if fresh else refusal,
        outcome=FRESH if fresh else None,
        rule=RULES[rule],
        miss=False,
        forced=False,
        mode=state.mode,
        surplus=None,
        surplus_days=None,
        p0=None,
        nudges=None,
        p=None,
        u01=u01,
        amount_uc=state.cost_uc if fresh else 0,
        model=model if fresh else None,
        retry_after_s=retry_after_s,
        strategy=None,
        threshold=None,
        state=state,
        images=request.images,
    )


def _within(counted: Iterable[Counted], start: datetime, end: datetime) -> int:
    return sum(c.generations for c in counted if start <= c.at < end)
