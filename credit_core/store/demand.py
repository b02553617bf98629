"""λ₀ of SPEC 4: each plan's mean demand a day, stored per plan and day so that a decision can be recomputed."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, Column, ColumnElement, Connection, func, insert, select, type_coerce

from credit_core.store.schema import accounts, cycles, plan_demand
from credit_core.units import DAY_US, MICRO, to_us

WINDOW_DAYS = 28


def rate(connection: Connection, plan: str, day: date) -> float | None:
    """λ₀ of ``plan`` on ``day``, credits a day per account: the newest stored row up to then; None before the first."""
    query = (
        select(plan_demand.c.rate)
        .where(plan_demand.c.plan == plan, plan_demand.c.day <= day.isoformat())
        .order_by(plan_demand.c.day.desc())
        .limit(1)
    )
    return connection.execute(query).scalar()


def refresh(connection: Connection, at: datetime) -> None:
    """Store λ₀ for the UTC day of ``at`` where it is missing: from running cycles and those closed in the 28 days before."""
    day = at.astimezone(UTC).date()
    there = set(connection.execute(select(plan_demand.c.plan).where(plan_demand.c.day == day.isoformat())).scalars())
    closed = (
        select(cycles.c.plan, func.sum(cycles.c.demand_uc), func.sum(_us(cycles.c.end_at) - _us(cycles.c.start_at)))
        .where(
            cycles.c.demand_uc.is_not(None),
            cycles.c.end_at > at - timedelta(days=WINDOW_DAYS),
            cycles.c.end_at <= at,
        )
        .group_by(cycles.c.plan)
    )
    running = (
        select(accounts.c.plan, func.sum(accounts.c.demand_uc), func.sum(to_us(at) - _us(accounts.c.cycle_start_at)))
        .where(accounts.c.cycle_start_at < at, accounts.c.paused_at.is_(None))
        .group_by(accounts.c.plan)
    )
    demand: dict[str, int] = {}
    elapsed: dict[str, int] = {}
    for plan, asked_uc, span_us in (*connection.execute(closed), *connection.execute(running)):
        demand[plan] = demand.get(plan, 0) + int(asked_uc)
        elapsed[plan] = elapsed.get(plan, 0) + int(span_us)
    rows = [
        {"plan": plan, "day": day.isoformat(), "rate": demand[plan] / MICRO / (elapsed[plan] / DAY_US)}
        for plan in sorted(elapsed)
        if plan not in there and elapsed[plan] > 0
    ]
    if rows:
        connection.execute(insert(plan_demand), rows)


def _us(instant: Column[Any]) -> ColumnElement[int]:
    return type_coerce(instant, BigInteger)
