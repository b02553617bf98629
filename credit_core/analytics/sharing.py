"""Results that several questions of a page rest on, kept as tables of the database until something new is copied."""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import duckdb
from sqlalchemy import FromClause, TableClause, column, table

#: Tables kept at most; one that is no longer kept goes when the last question that has it is done.
MOST = 6
_PLACE = "shared"
_Key = tuple[str, tuple[str, ...], int]


class Shared:
    """The kept tables of one database, in memory wherever that is."""

    def __init__(self, database: duckdb.DuckDBPyConnection) -> None:
        """Nothing is kept yet."""
        self._database = database
        database.execute(f"ATTACH ':memory:' AS {_PLACE}")
        self._lock = threading.Lock()
        self._kept: dict[_Key, TableClause] = {}
        self._lasting: set[_Key] = set()
        self._making: dict[_Key, threading.Lock] = {}
        self._numbers = itertools.count(1)

    def __call__(
        self, sql: str, parameters: Sequence[Any], version: int, names: Sequence[str], *, lasting: bool = False
    ) -> FromClause:
        """The rows of a statement, whose columns have these names, as a relation; ``lasting``: :meth:`forget` leaves it."""
        key = (sql, tuple(map(repr, parameters)), version)
        with self._lock:
            making = self._making.setdefault(key, threading.Lock())
        # Whoever asks for the same waits for it.
        with making:
            with self._lock:
                known = self._kept.get(key)
            return self._made(key, list(parameters), names, lasting) if known is None else known

    def forget(self) -> None:
        """Keep nothing that answers a question by itself."""
        with self._lock:
            self._kept = {key: one for key, one in self._kept.items() if key in self._lasting}

    def _made(self, key: _Key, parameters: list[Any], names: Sequence[str], lasting: bool) -> TableClause:
        name = f"relation_{next(self._numbers)}"
        with self._database.cursor() as cursor:
            cursor.execute(f"CREATE TABLE {_PLACE}.{name} AS {key[0]}", parameters)
        made = table(name, *(column(one) for one in names), schema=_PLACE)
        weakref.finalize(made, _drop, self._database, name)
        with self._lock:
            self._kept = {known: one for known, one in self._kept.items() if known[2] == key[2]}
            while len(self._kept) >= MOST:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = made
            self._lasting = {known for known in self._lasting if known in self._kept} | ({key} if lasting else set())
            self._making.pop(key, None)
        return made


def _drop(database: duckdb.DuckDBPyConnection, name: str) -> None:
    # A database that is closed has nothing to drop.
    with suppress(duckdb.Error), database.cursor() as cursor:
        cursor.execute(f"DROP TABLE IF EXISTS {_PLACE}.{name}")
