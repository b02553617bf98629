"""Days that a question cuts through: their entries as they are, and added up once several questions cut through them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from credit_core.analytics.asked import Cut

#: Adding up a day costs what so many questions pay that look through its entries.
OFTEN = 4


@dataclass
class _Made:
    version: int
    times: int
    kind: str


class Cuts:
    """The relations of one database that have the days' rows, of its newest version."""

    def __init__(self, database: duckdb.DuckDBPyConnection) -> None:
        """Nothing is made yet."""
        self._database = database
        self._lock = threading.Lock()
        self._made: dict[str, _Made] = {}

    def __call__(self, cuts: Sequence[Cut], version: int) -> None:
        """Have the days that a question cuts through."""
        with self._lock, self._database.cursor() as cursor:
            for one in cuts:
                made = self._made.get(one.name)
                if made is None or made.version != version:
                    self._make(cursor, one.name, "VIEW", one.entries)
                    self._made[one.name] = _Made(version, 1, "VIEW")
                    continue
                made.times += 1
                if made.times == OFTEN:
                    self._make(cursor, one.name, "TABLE", one.sql)
                    made.kind = "TABLE"
            # Those of the version before may still be asked.
            for name in [name for name, made in self._made.items() if made.version < version - 1]:
                cursor.execute(f"DROP {self._made.pop(name).kind} IF EXISTS {name}")

    def forget(self) -> None:
        """Make them anew."""
        with self._lock:
            for made in self._made.values():
                made.version = -1

    def _make(self, cursor: duckdb.DuckDBPyConnection, name: str, kind: str, sql: str) -> None:
        before = self._made.get(name)
        if before is None or before.kind == kind:
            cursor.execute(f"CREATE OR REPLACE {kind} {name} AS {sql}")
            return
        # In one step for those who ask it.
        cursor.begin()
        try:
            cursor.execute(f"DROP {before.kind} {name}")
            cursor.execute(f"CREATE {kind} {name} AS {sql}")
        except BaseException:
            cursor.rollback()
            raise
        cursor.commit()
