"""Short reads that the use cases need, outside of a unit or to find work for one."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, func, select, text

from credit_core.store.records import Account, Lot, User, opening_leg
from credit_core.store.schema import (
    LOT_IS_OPEN,
    accounts,
    deferrals,
    holds,
    ledger_entries,
    lots,
    users,
)
from credit_core.units import GUEST


class Holding(NamedTuple):
    """An account's balances."""

    account_id: str
    avail_uc: int
    held_uc: int


class Moved(NamedTuple):
    """What an account's entries of one kind and outcome add up to."""

    kind: str
    outcome: str | None
    d_avail_uc: int
    d_held_uc: int
    entries: int


class ExpiredHold(NamedTuple):
    """A hold past its lifetime."""

    account_id: str
    user_id: str
    request_id: str
    leg_id: str


class Deferral(NamedTuple):
    """A deferred request that waits for its fresh half."""

    leg_id: str
    account_id: str
    user_id: str
    request_id: str
    deferred_at: datetime
    expires_at: datetime


def holding(connection: Connection, user_id: str) -> Holding | None:
    """The account that pays for a user, and what it holds; None where there is no such user."""
    row = connection.execute(
        select(accounts.c.account_id, accounts.c.avail_uc, accounts.c.held_uc)
        .join_from(users, accounts, users.c.account_id == accounts.c.account_id)
        .where(users.c.user_id == user_id)
    ).first()
    return None if row is None else Holding(*row)


def user_and_account(connection: Connection, user_id: str) -> tuple[User, Account] | None:
    """A user and the account that pays for them; None where there is no such user."""
    user = connection.execute(select(users).where(users.c.user_id == user_id)).first()
    if user is None:
        return None
    account = connection.execute(select(accounts).where(accounts.c.account_id == user.account_id)).one()
    return User(**user._mapping), Account(**account._mapping)


def open_lots(connection: Connection, account_id: str) -> list[Lot]:
    """The account's lots that hold anything."""
    rows = connection.execute(select(lots).where(lots.c.account_id == account_id, text(LOT_IS_OPEN)))
    return [Lot(**row._mapping) for row in rows]


def moved(connection: Connection, account_id: str) -> list[Moved]:
    """The account's entries summed by kind and outcome."""
    entry = ledger_entries.c
    rows = connection.execute(
        select(entry.kind, entry.outcome, func.sum(entry.d_avail_uc), func.sum(entry.d_held_uc), func.count())
        .where(entry.account_id == account_id)
        .group_by(entry.kind, entry.outcome)
    )
    return [Moved(kind, outcome, int(avail), int(held), entries) for kind, outcome, avail, held, entries in rows]


def entries_after(
    connection: Connection, account_id: str, after_seq: int, limit: int, user_id: str | None = None
) -> list[dict[str, Any]]:
    """Entries of an account with seq > ``after_seq``, oldest first, every column; with ``user_id`` theirs and nobody's."""
    query = select(ledger_entries).where(ledger_entries.c.account_id == account_id, ledger_entries.c.seq > after_seq)
    if user_id is not None:
        query = query.where((ledger_entries.c.user_id == user_id) | ledger_entries.c.user_id.is_(None))
    return _rows(connection, query.order_by(ledger_entries.c.seq).limit(limit))


def opening_line(connection: Connection, user_id: str, request_id: str) -> dict[str, Any] | None:
    """Line 1 of the answer to a request, every column."""
    query = select(ledger_entries).where(ledger_entries.c.leg_id == opening_leg(user_id, request_id))
    return next(iter(_rows(connection, query.where(ledger_entries.c.line == 1))), None)


def refunds(connection: Connection, account_id: str, user_id: str, request_id: str) -> list[dict[str, Any]]:
    """The refund entries of a request."""
    entry = ledger_entries.c
    query = select(entry.leg_id, entry.d_avail_uc).where(
        entry.account_id == account_id, entry.kind == "refund", entry.user_id == user_id, entry.request_id == request_id
    )
    return _rows(connection, query)


def count_entries(connection: Connection) -> int:
    """Number of entries in the ledger."""
    return connection.execute(select(func.count()).select_from(ledger_entries)).scalar_one()


def count_users(connection: Connection) -> int:
    """Number of users who signed up; guests are not among them."""
    signed_up = ~users.c.user_id.startswith(GUEST, autoescape=True)
    return connection.execute(select(func.count()).select_from(users).where(signed_up)).scalar_one()


def due_accounts(connection: Connection, at: datetime, limit: int) -> list[str]:
    """Accounts with a closing or expiry due by ``at``, the longest overdue first."""
    query = select(accounts.c.account_id).where(accounts.c.due_at <= at).order_by(accounts.c.due_at).limit(limit)
    return list(connection.execute(query).scalars())


def expired_holds(connection: Connection, at: datetime, limit: int) -> list[ExpiredHold]:
    """Holds whose lifetime ended by ``at``, the oldest first."""
    query = select(*(holds.c[name] for name in ExpiredHold._fields)).where(holds.c.expires_at <= at)
    return [
        ExpiredHold(*row) for row in connection.execute(query.order_by(holds.c.expires_at, holds.c.leg_id).limit(limit))
    ]


def still_held(connection: Connection, leg_ids: Iterable[str]) -> set[str]:
    """Those of ``leg_ids`` whose hold is open."""
    return set(connection.execute(select(holds.c.leg_id).where(holds.c.leg_id.in_(list(leg_ids)))).scalars())


def waiting_deferrals(
    connection: Connection, at: datetime, after: tuple[datetime, str] | None, limit: int
) -> list[Deferral]:
    """Deferred requests up to ``at``, oldest first, from after (instant, leg) on."""
    column = deferrals.c
    query = select(*(column[name] for name in Deferral._fields)).where(column.deferred_at <= at)
    if after is not None:
        later = (column.deferred_at == after[0]) & (column.leg_id > after[1])
        query = query.where((column.deferred_at > after[0]) | later)
    return [
        Deferral(*row) for row in connection.execute(query.order_by(column.deferred_at, column.leg_id).limit(limit))
    ]


def expired_deferrals(connection: Connection, at: datetime, limit: int) -> list[Deferral]:
    """Deferred requests that nobody drained by their end, ``at`` or before, the oldest first."""
    column = deferrals.c
    query = select(*(column[name] for name in Deferral._fields)).where(column.expires_at <= at)
    return [Deferral(*row) for row in connection.execute(query.order_by(column.expires_at, column.leg_id).limit(limit))]


def still_deferred(connection: Connection, leg_ids: Iterable[str]) -> set[str]:
    """Those of ``leg_ids`` that still wait."""
    query = select(deferrals.c.leg_id).where(deferrals.c.leg_id.in_(list(leg_ids)))
    return set(connection.execute(query).scalars())


def _rows(connection: Connection, query: Select[Any]) -> list[dict[str, Any]]:
    return [dict(row._mapping) for row in connection.execute(query)]
