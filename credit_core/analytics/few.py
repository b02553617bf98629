"""A few rows of a ledger, as tuples: several statements of one instant, asked at once. A tick asks so: it has no time for many ways."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import psycopg
from sqlalchemy import Select
from sqlalchemy.dialects.postgresql.base import PGDialect

from credit_core.analytics.statements import WANTED, compiled_for

POSTGRESQL = PGDialect(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]
Rows = list[tuple[Any, ...]]
#: Their statements find rows by key; compiling them would take longer than running them.
_SESSION = "SET jit = off; SET default_transaction_read_only = on"
#: Begins a transaction that sees one state of the ledger, and writes nothing.
BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


class Ask(NamedTuple):
    """A statement that is kept, and the values of its open parameters."""

    statement: Select[Any]
    values: Mapping[str, Any] = {}


def among(statement: Select[Any], wanted: Sequence[str]) -> Ask:
    """A statement with the values that :meth:`Source.among` left open."""
    return Ask(statement, {WANTED: json.dumps(wanted)})


class PostgresFew:
    """One connection that stays open. Its statements are prepared, and go to the server and back together."""

    def __init__(self, url: str) -> None:
        """Nothing is opened before the first question."""
        self._url = url
        self._connection: psycopg.Connection[Any] | None = None

    def rows(self, asks: Sequence[Ask]) -> list[Rows]:
        """Of each statement its rows. A connection lost since the last time is opened again, once; raises :class:`psycopg.Error`."""
        if self._connection is not None:
            try:
                return self._asked(self._connection, asks)
            except psycopg.OperationalError:
                self.close()
        self._connection = psycopg.connect(self._url, autocommit=True, cursor_factory=psycopg.RawCursor)
        try:
            self._connection.execute(_SESSION)
            return self._asked(self._connection, asks)
        except psycopg.Error:
            self.close()
            raise

    def _asked(self, connection: psycopg.Connection[Any], asks: Sequence[Ask]) -> list[Rows]:
        with connection.pipeline():
            connection.execute(BEGIN)
            told = [
                connection.execute(*compiled_for(ask.statement, POSTGRESQL, ask.values), prepare=True, binary=True)
                for ask in asks
            ]
            connection.execute("COMMIT")
        return [one.fetchall() for one in told]

    def close(self) -> None:
        """Give back the connection."""
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.close()
        self._connection = None
