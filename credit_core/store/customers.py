"""Reads behind the customer's view: what an account's entries say of the running cycle, the last charge and the last answer."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, and_, func, or_, select, text

from credit_core.store.schema import LOT_IS_OPEN, accounts, ledger_entries, lots

_entry = ledger_entries.c


class Charged(NamedTuple):
    """A settle: (lot kind, amount) of its lines in spending order, and what the account had available right after it."""

    request_id: str
    occurred_at: datetime
    model: str | None
    parts: tuple[tuple[str, int], ...]
    available_after_uc: int


def spent_since(connection: Connection, account_id: str, since: datetime) -> int:
    """Micro-credits spent by an account from ``since`` on, as SPEC 2 counts them: settle + import − refund."""
    taken = func.sum(_entry.d_avail_uc + _entry.d_held_uc)
    query = select(func.coalesce(taken, 0)).where(
        _entry.account_id == account_id,
        _entry.kind.in_(("settle", "import", "refund")),
        _entry.occurred_at >= since,
    )
    return -int(connection.execute(query).scalar_one())


def spent_of_open_lots(connection: Connection, account_id: str) -> int:
    """Micro-credits spent of an account's lots that still hold something."""
    taken = func.sum(_entry.d_avail_uc + _entry.d_held_uc)
    query = (
        select(func.coalesce(taken, 0))
        .join_from(ledger_entries, lots, lots.c.lot_id == _entry.lot_id)
        .where(
            _entry.account_id == account_id,
            _entry.kind.in_(("settle", "import", "refund")),
            text(LOT_IS_OPEN),
        )
    )
    return -int(connection.execute(query).scalar_one())


def images_charged(connection: Connection, account_id: str, user_id: str, since: datetime, until: datetime) -> int:
    """Images that a user was charged for in [since, until]: settled ones, and recorded ones that cost something."""
    query = select(func.coalesce(func.sum(_entry.images), 0)).where(
        _entry.account_id == account_id,
        _entry.user_id == user_id,
        _entry.line == 1,
        or_(_entry.kind == "settle", and_(_entry.kind == "import", _entry.d_avail_uc < 0)),
        _entry.occurred_at >= since,
        _entry.occurred_at <= until,
    )
    return int(connection.execute(query).scalar_one())


def newest_charge(connection: Connection, account_id: str, user_id: str) -> Charged | None:
    """The newest settle of a user; None before the first."""
    newest = (
        select(_entry.leg_id)
        .where(_entry.account_id == account_id, _entry.user_id == user_id, _entry.kind == "settle")
        .order_by(_entry.seq.desc())
        .limit(1)
    )
    query = (
        select(
            _entry.request_id,
            _entry.occurred_at,
            _entry.model,
            _entry.seq,
            lots.c.kind.label("lot_kind"),
            (_entry.d_avail_uc + _entry.d_held_uc).label("taken_uc"),
        )
        .outerjoin_from(ledger_entries, lots, lots.c.lot_id == _entry.lot_id)
        .where(_entry.leg_id == newest.scalar_subquery())
        .order_by(_entry.line)
    )
    lines = connection.execute(query).all()
    if not lines:
        return None
    moved_later = select(func.coalesce(func.sum(_entry.d_avail_uc), 0)).where(
        _entry.account_id == account_id, _entry.seq > lines[-1].seq
    )
    available = connection.execute(select(accounts.c.avail_uc).where(accounts.c.account_id == account_id)).scalar_one()
    return Charged(
        request_id=lines[0].request_id,
        occurred_at=lines[0].occurred_at,
        model=lines[0].model,
        parts=tuple((line.lot_kind, -line.taken_uc) for line in lines if line.lot_kind is not None),
        available_after_uc=available - int(connection.execute(moved_later).scalar_one()),
    )


def first_library_answer(connection: Connection, account_id: str, user_id: str) -> bool:
    """True where the newest answer to a user came from the library, and none before it did."""
    answered = and_(
        _entry.account_id == account_id,
        _entry.user_id == user_id,
        _entry.line == 1,
        # The library's retry of a half-finished generation answers too, and has no status.
        or_(_entry.status.is_not(None), _entry.kind == "library"),
    )
    newest = connection.execute(select(_entry.outcome).where(answered).order_by(_entry.seq.desc()).limit(1)).scalar()
    if newest != "library":
        return False
    return connection.execute(select(func.count()).where(answered, _entry.outcome == "library")).scalar_one() == 1
