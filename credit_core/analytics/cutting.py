"""Days that a question cuts through: their entries as they are, and added up once several questions cut through them.

What is counted account by account of such a day, or of one that is not over, is kept from the first question on.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from credit_core.analytics.asked import Cut
from credit_core.analytics.stepping import Steps

#: Adding up a day costs what so many questions pay that look through its entries.
OFTEN = 4
#: Versions of the copy in which nobody asks before what does not rest on the version goes.
_UNASKED = 100


@dataclass
class _Made:
    #: What it was made of: a version, or what the relation says that it rests on.
    of: int | str
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
        self._steps = Steps()

    def __call__(self, cuts: Sequence[Cut], version: int) -> None:
        """Have the days that a question cuts through."""
        with self._lock, self._database.cursor() as cursor:
            for one in cuts:
                self._have(cursor, one, version)
            # Those of the version before may still be asked.
            for name in [name for name, made in self._made.items() if _gone(made, version)]:
                cursor.execute(f"DROP {self._made.pop(name).kind} IF EXISTS {name}")

    def forget(self) -> None:
        """Make those anew that rest on the version."""
        with self._lock:
            for made in self._made.values():
                if isinstance(made.of, int):
                    made.of = -1

    def _have(self, cursor: duckdb.DuckDBPyConnection, one: Cut, version: int) -> None:
        made, of = self._made.get(one.name), version if one.of is None else one.of
        if made is None or made.of != of:
            if one.ranking is not None:
                self._steps(cursor, one.name, one.ranking)
                self._made[one.name] = _Made(of, version, 1, "TABLE")
                return
            kind = "TABLE" if one.entries is None else "VIEW"
            self._make(cursor, one.name, kind, one.entries or one.sql)
            self._made[one.name] = _Made(of, version, 1, kind)
            return
        made.version, made.times = version, made.times + 1
        if made.kind == "VIEW" and made.times == OFTEN:
            self._make(cursor, one.name, "TABLE", one.sql)
            made.kind = "TABLE"

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


def _gone(made: _Made, version: int) -> bool:
    return made.version < version - (1 if isinstance(made.of, int) else _UNASKED)
