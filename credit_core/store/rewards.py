"""Rewards of served requests: a like, a download, a kept image, as one figure in [0, 1] per request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, func, insert, select

from credit_core.errors import Conflict
from credit_core.policy.arms import Rewards
from credit_core.store.schema import ledger_entries, rewards


class Served(NamedTuple):
    """A request that somebody got an image for: ``at`` is when a fresh one was settled, a library one asked for."""

    user_id: str
    request_id: str
    outcome: str
    at: datetime


class Judged(NamedTuple):
    """A served request, what it was worth, 0 to 1, and when that was told."""

    served: Served
    value: float
    at: datetime


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


def add_many(connection: Connection, judged: Sequence[Judged]) -> None:
    """Log rewards of requests that were served; one that was rewarded before is refused by the table's key."""
    rows = [
        {"user_id": s.user_id, "request_id": s.request_id, "outcome": s.outcome, "value": value, "rewarded_at": at}
        for s, value, at in judged
    ]
    if rows:
        connection.execute(insert(rewards), rows)


def served(connection: Connection) -> Iterator[Served]:
    """Every request that was served, in the order of the ledger; a deferred one's later, fresh half is no request of its own."""
    e = ledger_entries.c
    key = (e.user_id, e.request_id)
    ends = select(*key, e.occurred_at).where(e.line == 1, e.kind == "settle")
    settled_at = {(user, request): at for user, request, at in connection.execute(ends)}
    opened = select(*key, e.outcome, e.occurred_at).where(
        e.line == 1, e.rule.is_not(None), e.outcome.is_not(None), e.user_id.is_not(None), e.parent_request_id.is_(None)
    )
    for user, request, outcome, at in connection.execute(opened.order_by(e.id)):
        done_at = at if outcome == "library" else settled_at.get((user, request))
        if done_at is not None:
            yield Served(user, request, outcome, done_at)


def totals(connection: Connection) -> dict[str, Rewards]:
    """Rewards by outcome: fresh and library."""
    found = {"fresh": Rewards(0.0, 0), "library": Rewards(0.0, 0)}
    query = select(rewards.c.outcome, func.sum(rewards.c.value), func.count()).group_by(rewards.c.outcome)
    for outcome, total, count in connection.execute(query):
        found[outcome] = Rewards(float(total), int(count))
    return found
