"""The ledger database opened for writing: the one place that commits, with bounded retry where the engine asks for it."""

from __future__ import annotations

import random
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from typing import Any, NoReturn, TypeAlias, TypeVar

import psycopg
import sqlalchemy
from sqlalchemy import Engine, select, update
from sqlalchemy.exc import DBAPIError

from credit_core.errors import InvalidRequest, LedgerUnavailable, ReadOnlyLedger
from credit_core.store.engine import open_engine
from credit_core.store.memory import Memory, Moved
from credit_core.store.schema import deployment
from credit_core.store.transactions import Transactions
from credit_core.store.unit import Unit
from credit_core.units import checked_zone

T = TypeVar("T")
#: A connection in a transaction of :meth:`Ledger.write` or :meth:`Ledger.reading`, for layers that write no SQL of their own.
Connection: TypeAlias = sqlalchemy.Connection
#: Keys of this deployment, made once: for the controller's draw, the digest of details, and hashes of request content and of addresses.
SALTS = ("draw", "details", "content", "origin")
#: Lost races, and (26000) prepared statements that a connection pooler dropped.
_RETRIED = frozenset({"40001", "40P01", "55P03", "26000"})
_DRIVER_ERRORS = (DBAPIError, sqlite3.Error, psycopg.Error)
_DUPLICATES = (sqlite3.IntegrityError, psycopg.IntegrityError, psycopg.errors.DuplicateTable)
_ATTEMPTS = 12
_RECONNECT_S = 20.0


class Ledger:
    """A ledger database. One per process; safe to use from many threads."""

    def __init__(self, url: str, clock: Callable[[], datetime]) -> None:
        """Connect to a ledger whose schema is up to date. ``clock`` gives the wall clock, aware."""
        self.url = url
        self.clock = clock
        self.engine: Engine = open_engine(url)
        self._transactions = Transactions(self.engine)
        self._memory = Memory()
        self._salts: dict[str, bytes] | None = None

    @property
    def salts(self) -> Mapping[str, bytes]:
        """The deployment's keys by name."""
        if self._salts is None:
            self._salts = {
                name: bytes.fromhex(value) for name in SALTS if (value := self.fact(f"salt_{name}")) is not None
            }
        return self._salts

    def prepare(self, reporting_zone: str | None, draw_salt: bytes | None = None) -> None:
        """Give a new deployment its keys and reporting zone; an existing one keeps what it has.

        ``draw_salt``, 16 to 64 bytes, makes a new ledger's draws repeatable elsewhere; the default is a secret one.
        """
        if reporting_zone is not None:
            checked_zone(reporting_zone)
        wanted = {f"salt_{name}": secrets.token_hex(32) for name in SALTS} | {"reporting_zone": reporting_zone or "UTC"}
        if draw_salt is not None:
            wanted["salt_draw"] = draw_salt.hex()

        def write(connection: Connection) -> None:
            there = {row.key for row in connection.execute(select(deployment.c.key))}
            missing = [{"key": key, "value": value} for key, value in wanted.items() if key not in there]
            if missing:
                connection.execute(deployment.insert(), missing)

        self.write(write)
        if reporting_zone is not None and self.fact("reporting_zone") != reporting_zone:
            raise InvalidRequest(
                f"This ledger reports in {self.fact('reporting_zone')}. Leave the option out; `config zone` changes it."
            )

    def report_in(self, zone: str) -> None:
        """Report days in another zone from now on; the columnar copies are worked out anew when they next follow."""
        changed = update(deployment).where(deployment.c.key == "reporting_zone").values(value=checked_zone(zone).key)
        self.write(lambda connection: connection.execute(changed))

    def fact(self, key: str) -> str | None:
        """A row of ``deployment``."""
        with self.reading() as connection:
            return connection.execute(select(deployment.c.value).where(deployment.c.key == key)).scalar()

    def run(self, act: Callable[[Unit], T], *, whose: str | None = None) -> T:
        """Run ``act`` in one transaction and commit it; on any error nothing is written.

        Acts name their legs by what they do, so running one again after a lost connection or a serialisation failure
        finds what the first try committed. Raises :class:`LedgerUnavailable` when all retries are used up. An act that
        moves the account of the user ``whose`` alone is first tried without a lock (:mod:`credit_core.store.memory`).
        """
        if whose is not None:
            tried = self._without_lock(act, whose)
            if tried is not None:
                return tried[0]
        done: list[Unit] = []

        def attempt(connection: Connection) -> T:
            done[:] = [Unit(connection, self.clock(), self.salts)]
            result = act(done[0])
            done[0].flush()
            return result

        result = self.write(attempt)
        self._committed(done[0])
        return result

    def _without_lock(self, act: Callable[[Unit], T], whose: str) -> tuple[T] | None:
        """What ``act`` returned, once it has written where nothing had moved; None where it must run under lock."""
        may_try, image = self._memory.lend(whose)
        if not may_try:
            return None
        moved = False
        try:
            if image is None and self.engine.dialect.name == "sqlite":
                # Nothing is saved: to read costs as much with a lock.
                return None
            with self._transactions.begin(at_once=False) as connection:
                unit = Unit(connection, self.clock(), self.salts, locked=False, image=image)
                result = act(unit)
                unit.flush()
            self._committed(unit)
            return (result,)
        except Moved:
            moved = True
        except Exception:
            # Whatever it says, it says of an account that may have moved: under lock it will be said again, or not.
            pass
        finally:
            self._memory.give_back(whose, moved=moved)
        return None

    def _committed(self, unit: Unit) -> None:
        unit.committed()
        image = unit.image()
        if image is not None:
            self._memory.keep(image)
            return
        for user_id in unit.users:
            self._memory.forget(user_id)

    def write(self, act: Callable[[Connection], T]) -> T:
        """As :meth:`run`, for tables outside the ledger: configuration, library, checks."""
        return committed(self._transactions.begin, act)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A short read that sees one state of the ledger throughout. On SQLite it takes no write lock."""
        options: dict[str, Any] = {"titrate_reading": True}
        if self.engine.dialect.name == "postgresql":
            options["isolation_level"] = "REPEATABLE READ"
        with told(), self.engine.connect().execution_options(**options) as connection:
            yield connection

    def close(self) -> None:
        """Give back all connections."""
        self.engine.dispose()


def committed(begin: Callable[[], AbstractContextManager[Connection]], act: Callable[[Connection], T]) -> T:
    """Run ``act`` in a transaction of ``begin`` and commit it, with bounded retry. The only place that commits."""
    started = time.monotonic()
    for tried in range(1, _ATTEMPTS + 1):
        try:
            with begin() as connection:
                return act(connection)
        except _DRIVER_ERRORS as error:
            fault = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
            if isinstance(fault, _DUPLICATES):
                # Another process wrote the same leg or user first; the next try finds it. A real fault fails again.
                if tried >= 3:
                    raise
            elif not _retriable(fault) and not (_lost(fault) and time.monotonic() - started < _RECONNECT_S):
                _refuse(fault, error)
            if tried == _ATTEMPTS:
                raise LedgerUnavailable(
                    "The ledger stayed busy through every retry; nothing was written. Try again."
                ) from error
        # Jittered back-off: writers that collided must not meet again.
        time.sleep(random.uniform(0.5, 1.0) * min(0.005 * 2**tried, 2.0))
    raise AssertionError("unreachable: the last attempt returns or raises")


@contextmanager
def told() -> Iterator[None]:
    """Tell what the database says in our own errors."""
    try:
        yield
    except _DRIVER_ERRORS as error:
        _refuse(error.orig if isinstance(error, DBAPIError) and error.orig is not None else error, error)


def _retriable(fault: BaseException) -> bool:
    return getattr(fault, "sqlstate", None) in _RETRIED or (
        isinstance(fault, sqlite3.OperationalError) and "locked" in str(fault)
    )


def _lost(fault: BaseException) -> bool:
    """True where the connection broke: an error of the connection itself has no SQLSTATE."""
    state = getattr(fault, "sqlstate", "")
    return isinstance(fault, psycopg.OperationalError) and (state is None or state.startswith(("57P", "08")))


def _refuse(fault: BaseException, error: Exception) -> NoReturn:
    text = next(iter(str(fault).strip().splitlines()), type(fault).__name__)
    if "readonly" in text or getattr(fault, "sqlstate", None) in ("25006", "42501"):
        raise ReadOnlyLedger(
            f"The ledger refused the write ({text}). Check the file's permissions or the role's grants."
        ) from error
    # Class XX: the server itself is in trouble, such as with a file that may not grow.
    broken = str(getattr(fault, "sqlstate", None)).startswith("XX")
    unusable = isinstance(fault, sqlite3.OperationalError | psycopg.OperationalError)
    if broken or unusable or type(fault) is sqlite3.DatabaseError:
        raise LedgerUnavailable(
            f"The ledger could not be used: {text}. Nothing was written; check the database and try again."
        ) from error
    raise error
