"""Short words for what tests of the ledger do over and over: ask, look at the entries, put a configuration live."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, select, text

from credit_core import CreditCore, Decision, Request
from credit_core.store.engine import open_engine
from credit_core.store.memory import Memory
from credit_core.store.schema import APPEND_ONLY, metadata

NOW = datetime(2025, 3, 10, 12, tzinfo=UTC)
CREDIT = 1_000_000
#: Keys of the test deployments: fixed, so that every draw is known.
SALTS = {f"salt_{name}": hashlib.sha256(name.encode()).hexdigest() for name in ("draw", "details", "content")}
#: p = 1 − 2⁻⁵³ and neither session caps nor rate limits: what the balance covers is served fresh.
FRESH_FOR_ALL = {
    "controller.p_min": 1.0 - 2.0**-53,
    "controller.p_max": 1.0,
    "session.max_fresh": 100_000,
    "session.max_share": 1.0,
    "limits.enabled": False,
}
#: p under any draw: whatever no rule forces is served from the library.
LIBRARY_FOR_ALL = {"controller.p_min": 0.0, "controller.p_max": 1e-300, "limits.enabled": False}


class StoppedClock:
    """A wall clock that moves only when it is told to."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **by: float) -> datetime:
        """Move on by ``timedelta(**by)``; returns the new time."""
        self.now += timedelta(**by)
        return self.now


def make_live(core: CreditCore, changes: Mapping[str, Any], share: float = 1.0) -> int:
    """Propose ``changes``, release them, and have ``core`` notice at once; returns the version."""
    version = core.propose(changes, "olga", "for a test")
    core.release_version(version, share, author="olga")
    core.config()
    return version


def ask(core: CreditCore, request_id: str = "r-1", *, user: str = "ada", at: datetime = NOW, **asked: Any) -> Decision:
    """One request of ``user``, in session s-1 if no other is named."""
    return core.authorize(Request(user, request_id, **{"session_id": "s-1", **asked}), at=at)


def forget(core: CreditCore) -> None:
    """From here on the core reads every account anew, as another process would."""
    core.deployment.ledger._memory = Memory()


def entries(core: CreditCore, user: str = "ada") -> list[dict[str, Any]]:
    """The user's whole history."""
    return core.history(user, limit=10_000)


def moves(core: CreditCore, user: str = "ada", after: int = 0) -> list[tuple[str, str | None, float, float]]:
    """Kind, lot kind, credits made available and credits held, of each entry with seq > ``after``."""
    with core.deployment.ledger.reading() as connection:
        kinds = {row.lot_id: row.kind for row in connection.execute(text("SELECT lot_id, kind FROM lots"))}
    return [
        (row["kind"], kinds.get(row["lot_id"]), row["d_avail_uc"] / CREDIT, row["d_held_uc"] / CREDIT)
        for row in core.history(user, after, limit=10_000)
    ]


def lots(core: CreditCore, user: str = "ada") -> list[tuple[str, float, float]]:
    """Kind, available and held credits of the user's lots, in spending order."""
    return [(lot.kind, lot.avail_uc / CREDIT, lot.held_uc / CREDIT) for lot in core.balance(user).lots]


def everything(core: CreditCore) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table, to show that a call wrote nothing; but for the count of repeats (test_repeats.py)."""
    with core.deployment.ledger.reading() as connection:
        return {
            name: [tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key.columns))]
            for name, table in metadata.tables.items()
            if name != "repeats"
        }


def scalar(core: CreditCore, query: str, **values: Any) -> Any:
    """The one value of a query."""
    with core.deployment.ledger.reading() as connection:
        return connection.execute(text(query), values).scalar_one()


@contextmanager
def tampering(url: str) -> Iterator[Connection]:
    """A connection that no trigger, check or foreign key stops: what an intruder with the owner's password could do."""
    engine = open_engine(url, owner=True)
    try:
        with engine.connect() as connection:
            if engine.dialect.name == "sqlite":
                connection.exec_driver_sql("COMMIT")
                connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
                connection.exec_driver_sql("PRAGMA ignore_check_constraints=ON")
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                guards = connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).scalars()
                for name in list(guards):
                    connection.execute(text(f"DROP TRIGGER {name}"))
            else:
                connection.execute(text("SET session_replication_role = replica"))
                for name in APPEND_ONLY:
                    connection.execute(text(f"ALTER TABLE {name} DISABLE TRIGGER USER"))
            yield connection
            connection.commit()
    finally:
        engine.dispose()


def change(core: CreditCore, statement: str, **values: Any) -> None:
    """What no use case offers yet: write a plain statement on a table that is not append-only."""
    core.deployment.ledger.write(lambda connection: connection.execute(text(statement), values))
