"""Transactions on connections that rest between them: one costs its BEGIN and its COMMIT, and little else.

SQLAlchemy's own way from the pool through a transaction and back takes longer than both (docs/decisions/0003-hot-path.md).
The connections are the pool's, and go back there at any trouble. What runs through ``Connection.execute`` takes part in the
transaction as ever.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, NamedTuple

from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, Engine, event

from credit_core.store.engine import RESTING, is_gone
from credit_core.store.memory import NeedsLock


class _Resting(NamedTuple):
    connection: Connection
    driver: Any
    since: float


class Transactions:
    """Begins the transactions of one engine. Safe to use from many threads."""

    def __init__(self, engine: Engine) -> None:
        """Nothing connects before the first transaction."""
        self.engine = engine
        self._resting: list[_Resting] = []
        event.listen(engine, "engine_disposed", lambda _: self._forget())

    def begin(self, *, at_once: bool = True) -> Transaction:
        """One transaction: it commits at the end of the ``with``, and rolls back on any error.

        Not ``at_once``: it begins with what is first said in it, on SQLite where that asks for one.
        """
        return Transaction(self, at_once)

    def take(self) -> tuple[Connection, Any]:
        """A connection outside of any transaction, and its driver's own: the one used last, which has the newest pages."""
        while self._resting:
            try:
                connection, driver, since = self._resting.pop()
            except IndexError:
                break
            if not is_gone(self.engine, driver, time.monotonic() - since):
                return connection, driver
            connection.invalidate()
            connection.close()
        connection = self.engine.connect()
        return connection, connection.connection.driver_connection

    def rest(self, connection: Connection, driver: Any) -> None:
        """Keep a connection for the next transaction; more than :data:`RESTING` go back to the pool."""
        if len(self._resting) < RESTING:
            self._resting.append(_Resting(connection, driver, time.monotonic()))
        else:
            connection.close()

    def _forget(self) -> None:
        resting, self._resting = self._resting, []
        for connection, _, _ in resting:
            connection.invalidate()
            connection.close()


class Transaction:
    """One use of a connection, as a context manager. Made by :meth:`Transactions.begin`."""

    def __init__(self, of: Transactions, at_once: bool) -> None:
        """Nothing begins before ``with``."""
        self._of = of
        self._at_once = at_once

    def __enter__(self) -> Connection:
        """Begin. psycopg does so with the first statement; SQLite takes the write lock at once."""
        self._connection, self._driver = self._of.take()
        if self._at_once and self._connection.dialect.name == "sqlite":
            try:
                self._driver.execute("BEGIN IMMEDIATE")
            except BaseException:
                self._connection.close()
                raise
        return self._connection

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """Commit, or roll back where anything failed, the commit included."""
        connection = self._connection
        if kind is None:
            try:
                self._commit()
            except BaseException:
                self._roll_back()
                raise
            self._of.rest(connection, self._driver)
        elif isinstance(error, NeedsLock):
            self._begin_again()
        else:
            self._roll_back()

    def _commit(self) -> None:
        connection = self._connection
        if connection.in_transaction():
            # Something ran through ``Connection.execute``: SQLAlchemy has a transaction of its own around it.
            connection.commit()
        elif connection.dialect.name == "sqlite":
            self._driver.commit()
        elif self._driver.pgconn.transaction_status != TransactionStatus.IDLE:
            # Idle is one whose COMMIT travelled with its last writes.
            self._driver.commit()

    def _begin_again(self) -> None:
        """Nothing went wrong: what follows begins on this connection."""
        try:
            if self._connection.in_transaction():
                self._connection.rollback()
            else:
                self._driver.rollback()
        except BaseException:
            self._roll_back()
            raise
        self._of.rest(self._connection, self._driver)

    def _roll_back(self) -> None:
        """SQLAlchemy's pool rolls back what comes back to it."""
        self._connection.close()
