"""Rewards of served requests: a like, a download, a kept image, as one figure in [0, 1] per request."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, func, insert, select

from credit_core.errors import Conflict
from credit_core.policy.arms import Rewards
from credit_core.store.schema import rewards


def add(connection: Connection, user_id: str, request_id: str, outcome: str, value: float, at: datetime) -> None:
    """Log a reward once per request. The same value again changes nothing; another raises :class:`Conflict`."""
    key = (rewards.c.user_id == user_id) & (rewards.c.request_id == request_id)
    first = connection.execute(select(rewards.c.value).where(key)).scalar()
    if first is None:
        row = {"user_id": user_id, "request_id": request_id, "outcome": outcome, "value": value, "rewarded_at": at}
        connection.execute(insert(rewards).values(row))
    elif first != value:
        raise Conflict(
            f"Request {request_id!r} of user {user_id!r} was rewarded {first} before; a reward is not changed."
        )


def totals(connection: Connection) -> dict[str, Rewards]:
    """Rewards by outcome: fresh and library."""
    found = {"fresh": Rewards(0.0, 0), "library": Rewards(0.0, 0)}
    query = select(rewards.c.outcome, func.sum(rewards.c.value), func.count()).group_by(rewards.c.outcome)
    for outcome, total, count in connection.execute(query):
        found[outcome] = Rewards(float(total), int(count))
    return found
