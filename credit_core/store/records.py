"""Rows that a transaction works on: loaded under lock, changed in memory, written back once at commit."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, lru_cache
from operator import attrgetter
from typing import Any, TypeVar

#: What the account of a team's pool is called, before the team's id.
_POOL = "team:"
_length = struct.Struct(">I").pack


@dataclass(slots=True)
class Account:
    """A row of ``accounts``."""

    account_id: str
    kind: str
    plan: str
    region: str
    timezone: str
    anchor_day: str
    anchor_no: int
    cycle_no: int
    cycle_start_at: datetime
    cycle_end_at: datetime
    quota_uc: int
    avail_uc: int
    held_uc: int
    demand_uc: int
    mode: str
    seq: int
    head_hash: bytes
    recorded_at: datetime
    created_at: datetime
    paused_at: datetime | None
    due_at: datetime | None
    cycled: bool = True
    largest_uc: int = 0
    paid_until: datetime | None = None
    version: int = 0


@dataclass(slots=True)
class User:
    """A row of ``users``."""

    user_id: str
    account_id: str
    timezone: str
    team_id: str | None
    segment: str | None
    conserving: bool
    session_consent: bool
    blocked_at: datetime | None
    created_at: datetime
    session_last_at: datetime | None
    session_images: int
    session_fresh: int
    session_fresh_uc: int
    session_opening_uc: int
    session_cells: list[list[str]]
    bucket_level: float
    bucket_at: datetime | None
    fresh_at: datetime | None = None
    hour_at: datetime | None = None
    hour_fresh: int = 0
    hour_most: float | None = None
    override_until: datetime | None = None
    flagged_at: datetime | None = None
    flag_reason: str | None = None
    challenged_at: datetime | None = None
    guest_session: str | None = None


@dataclass(slots=True)
class Lot:
    """A row of ``lots``."""

    lot_id: str
    account_id: str
    kind: str
    granted_at: datetime
    expires_at: datetime | None
    unit_price_usd_micro: int
    avail_uc: int
    held_uc: int
    #: As it is in the table, until :meth:`mark`.
    is_open: bool = True

    def mark(self) -> bool:
        """Note whether the lot holds anything; True where that has changed."""
        before, self.is_open = self.is_open, self.avail_uc + self.held_uc > 0
        return before != self.is_open

    def closed(self, at: datetime) -> bool:
        """True where the lot has expired by ``at``: nothing may come back to it."""
        return self.expires_at is not None and self.expires_at <= at


Row = dict[str, Any]
_Record = TypeVar("_Record", Account, User, Lot)


def pool_id(team_id: str) -> str:
    """The account of a pooled team."""
    return f"{_POOL}{team_id}"


def pool_of(account_id: str) -> str | None:
    """The team whose pool the account is; None for an account of one user."""
    return account_id.removeprefix(_POOL) if account_id.startswith(_POOL) else None


@lru_cache(1_024)
def leg_id(act: str, *parts: str) -> str:
    """The id of one act: BLAKE2b-128 over its name and keys, each length-prefixed, hex. The same act has the same id."""
    named = [part.encode() for part in (act, *parts)]
    framed = b"".join([_length(len(name)) + name for name in named])
    return hashlib.blake2b(framed, digest_size=16).hexdigest()


def opening_leg(user_id: str, request_id: str) -> str:
    """The leg that answers a request: reserve, library, defer, rate_limited or rejected."""
    return leg_id("open", user_id, request_id)


def ending_leg(user_id: str, request_id: str) -> str:
    """The leg that ends a reserve: settle, release or partial."""
    return leg_id("end", user_id, request_id)


def changed(dirty: Mapping[str, _Record], new: Sequence[_Record] = ()) -> list[_Record]:
    """Those of ``dirty`` that are not ``new``, in the order of their keys: the order in which writers lock."""
    if not new and len(dirty) == 1:
        return list(dirty.values())
    made = {id(record) for record in new}
    return [record for _, record in sorted(dirty.items()) if id(record) not in made]


@cache
def _fields(names: tuple[str, ...], key: str | None) -> tuple[tuple[str, ...], attrgetter[tuple[Any, ...]]]:
    return (names, attrgetter(*names)) if key is None else ((*names, f"key_{key}"), attrgetter(*names, key))


def rows_of(records: Iterable[Account | User | Lot], names: tuple[str, ...], key: str | None = None) -> list[Row]:
    """The fields ``names`` of each record; ``key`` adds the field that an update finds its row by."""
    heads, values = _fields(names, key)
    return [dict(zip(heads, values(record), strict=True)) for record in records]
