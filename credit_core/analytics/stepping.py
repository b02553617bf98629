"""Values of the few steps that quantiles lie in, kept for all who ask (:mod:`credit_core.analytics.quantiles`).

A question tells the steps first, from counts. Those that nobody had before are read from the files of closed segments; then
values are ranked in memory. Periods, days and models ask the same few steps again and again.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import duckdb

#: Values of a column kept at most before another step is read, at some 80 bytes each.
_MOST = 3_000_000


class Bound(NamedTuple):
    """A statement, and its parameters by their names."""

    sql: str
    values: tuple[tuple[str, Any], ...]


class Ranking(NamedTuple):
    """How quantiles are told: ``wanted`` are the steps that they lie in, ``ranked`` comes of the table ``wanted`` of these.

    ``kept`` names the values of such steps, which come from ``closed``, a relation of the files ``of``.
    """

    wanted: Bound
    ranked: Bound
    kept: str
    closed: str
    of: tuple[str, ...]


class _Kept(NamedTuple):
    of: tuple[str, ...] | None
    steps: frozenset[float]
    values: int


class Steps:
    """The steps that one database has in memory."""

    def __init__(self) -> None:
        """None yet."""
        self._kept: dict[str, _Kept] = {}

    def __call__(self, cursor: duckdb.DuckDBPyConnection, name: str, ranking: Ranking) -> None:
        """Have the quantiles in a table, counted and ranked of one instant. Nobody else may be asking this."""
        before = dict(self._kept)
        cursor.begin()
        try:
            cursor.execute(f"CREATE OR REPLACE TEMP TABLE wanted AS {ranking.wanted.sql}", dict(ranking.wanted.values))
            self._read(cursor, ranking)
            cursor.execute(f"CREATE OR REPLACE TABLE {name} AS {ranking.ranked.sql}", dict(ranking.ranked.values))
        except BaseException:
            self._kept = before
            cursor.rollback()
            raise
        cursor.commit()

    def _read(self, cursor: duckdb.DuckDBPyConnection, ranking: Ranking) -> None:
        """Have the values of the steps that are wanted."""
        steps = frozenset(step for (step,) in cursor.execute("SELECT DISTINCT step FROM wanted").fetchall())
        kept = self._kept.get(ranking.kept, _Kept(None, frozenset(), 0))
        missing = steps - kept.steps
        if kept.of != ranking.of or (missing and kept.values > _MOST):
            cursor.execute(f"CREATE OR REPLACE TABLE {ranking.kept} AS SELECT * FROM {ranking.closed} WHERE FALSE")
            kept, missing = _Kept(ranking.of, frozenset(), 0), steps
        if missing:
            some = ", ".join(map(repr, sorted(missing)))
            read = f"INSERT INTO {ranking.kept} SELECT * FROM {ranking.closed} WHERE step IN ({some})"
            ((values,),) = cursor.execute(read).fetchall()
            kept = _Kept(ranking.of, kept.steps | missing, kept.values + values)
        self._kept[ranking.kept] = kept
