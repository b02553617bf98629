"""Where accounts stand now: balances, what they spent lately and the cycle that runs, kept in memory from copy to copy.

Worked out once, when it is first asked for; from then on changed by what is new alone: entries that came are added up by
account, and cycles of accounts whose cycles changed are replaced. What a manifest no longer names is taken off by what it named
instead, so entries that moved to other files count once. So to know who stands where is a look through one table.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
from sqlalchemy import (
    BigInteger,
    Column,
    FromClause,
    MetaData,
    Select,
    SelectBase,
    SmallInteger,
    Table,
    Text,
    and_,
    cast,
    func,
    select,
)

from credit_core.analytics import day_ends, measures, relations
from credit_core.analytics.dialect import sql_of
from credit_core.analytics.filing import paths
from credit_core.analytics.manifest import Manifest, Segment
from credit_core.units import DAY_US

#: Days that what accounts spend is told by.
RECENT_DAYS = 7
#: More entries than this are not added up one by one: it is worked out anew, as it is where the copy was last looked at longer ago.
_MOST_ENTRIES, _LONGEST_US = 1_500_000, DAY_US
#: Of so many rows, a part of so many may be such as were replaced.
_TOO_FEW_ROWS, _REPLACED_PART = 10_000, 4

#: What questions see: one row for each account and cycle that runs, or is about to, of plans that are paced.
present = Table(
    "present",
    MetaData(),
    Column("account_id", Text),
    Column("plan", Text),
    Column("region", Text),
    Column("quota_uc", BigInteger),
    Column("start_at", BigInteger),
    Column("end_at", BigInteger),
    Column("paced_uc", BigInteger),
    Column("available_uc", BigInteger),
    Column("pauses", SmallInteger),
    Column("burned_uc", BigInteger, comment="spent in the RECENT_DAYS before at_us"),
    Column("at_us", BigInteger, comment="the instant just after the newest entry, the same in each row"),
    Column("number", BigInteger, comment="higher in what came later, the same in each row"),
)
#: Its rows, of every account; plan and region stand in a table of their own, so that a row is narrow.
_ROWS, _PLACES = "present_rows", "present_places"
_places = Table(_PLACES, MetaData(), Column("place", SmallInteger), Column("plan", Text), Column("region", Text))
_CYCLE = ("place", "quota_uc", "start_at", "end_at")
_SUMS = ("paced_uc", "available_uc", "pauses", "burned_uc")
_F = relations.facts.c
#: By how much an entry changes each of them; what is spent counts from an instant on.
_CHANGES = (sql_of(day_ends.paced_uc(_F)), "d_avail_uc", sql_of(day_ends.pauses(_F)), sql_of(measures.spent_uc(_F)))
Asked = Callable[[SelectBase], tuple[str, list[Any]]]


class _Stood(NamedTuple):
    """What the rows are of: a manifest, spending since an instant; ``replaced``: rows that are gone and still take room."""

    at: Manifest
    since_us: int
    number: int
    rows: int
    replaced: int


class _New(NamedTuple):
    """What a manifest has that another had not: entries that came, those that are gone, and files that name accounts' cycles."""

    came: list[Segment]
    gone: list[Segment]
    cycles: tuple[str, ...]


def states(before_us: int) -> Select[Any]:
    """account_id, paced_uc, available_uc and pauses (0: it is not paused) after all entries before an instant."""
    return (
        select(
            _F.account_id,
            measures.total(day_ends.paced_uc)(_F).label("paced_uc"),
            measures.total(lambda g: g.d_avail_uc)(_F).label("available_uc"),
            func.sum(day_ends.pauses(_F)).label("pauses"),
        )
        .where(_F.occurred_at < before_us)
        .group_by(_F.account_id)
    )


def recent(before_us: int) -> Select[Any]:
    """account_id and burned_uc, what it spent in the :data:`RECENT_DAYS` before an instant, of accounts with entries in them."""
    within = (_F.occurred_at >= _since_us(before_us), _F.occurred_at < before_us)
    burned = measures.total(measures.spent_uc)(_F).label("burned_uc")
    return select(_F.account_id, burned).where(*within).group_by(_F.account_id)


class Present:
    """The rows of one database. One at a time: whoever calls holds the copy (``Facts.exchange``)."""

    def __init__(self, database: duckdb.DuckDBPyConnection, store: Path, asked: Asked) -> None:
        """Nothing is worked out yet. ``asked`` gives SQL of a statement over the copy."""
        self._database, self._store, self._asked = database, store, asked
        self._stood: _Stood | None = None
        self._numbers = itertools.count(1)

    def of(self, found: Manifest) -> FromClause:
        """:data:`present` as of a manifest that is taken up and has entries, or of one that came after it."""
        if self._stood is None or self._stood.at is not found:
            self._stood = self._continued(found) or self._anew(found)
        # The number sets the answers that are remembered of one state apart from those of another.
        return select(present).where(present.c.number >= self._stood.number).subquery(present.name)

    def forget(self) -> None:
        """Work it out anew."""
        self._stood = None

    def kept_up(self, cursor: duckdb.DuckDBPyConnection, found: Manifest) -> Callable[[], None]:
        """Before files go that it would be told from: what to do once the transaction that takes the manifest up has ended."""
        stood = self._stood
        new = None if stood is None else _new(stood.at, found)
        if stood is None or (new is not None and not new.gone):
            return lambda: None
        then = None if new is None else self._changed(cursor, stood, found, new)

        def settle() -> None:
            self._stood = then

        return settle

    def _continued(self, found: Manifest) -> _Stood | None:
        """From where it stood; None where that tells too little."""
        stood = self._stood
        new = None if stood is None else _new(stood.at, found)
        if stood is None or new is None:
            return None
        try:
            return self._in_one_step(lambda cursor: self._changed(cursor, stood, found, new))
        except (duckdb.IOException, duckdb.HTTPException):
            # Files that it stood on were deleted meanwhile.
            return None

    def _in_one_step(self, done: Callable[[duckdb.DuckDBPyConnection], _Stood]) -> _Stood:
        with self._database.cursor() as cursor:
            cursor.begin()
            try:
                then = done(cursor)
            except BaseException:
                cursor.rollback()
                raise
            cursor.commit()
        return then

    # All of it -----------------------------------------------------------------------------------------------------

    def _anew(self, found: Manifest) -> _Stood:
        at_us = _at_us(found)
        # What it asks may have to be made before, where others see it.
        sql, parameters = self._asked(_every(at_us))

        def made(cursor: duckdb.DuckDBPyConnection) -> _Stood:
            current = f'SELECT DISTINCT plan, region FROM "{relations.cycles.name}" WHERE end_at >= {at_us}'
            numbered = f"SELECT CAST(row_number() OVER () AS SMALLINT) AS place, plan, region FROM ({current})"
            cursor.execute(f"CREATE OR REPLACE TABLE {_PLACES} AS {numbered}")
            cursor.execute(f"CREATE OR REPLACE TABLE {_ROWS} AS {sql}", parameters)
            rows = _count(cursor, f"SELECT count(*) FROM {_ROWS}")
            return self._shown(cursor, _Stood(found, _since_us(at_us), 0, rows, 0))

        return self._in_one_step(made)

    # What is new ---------------------------------------------------------------------------------------------------

    def _changed(self, cursor: duckdb.DuckDBPyConnection, stood: _Stood, found: Manifest, new: _New) -> _Stood:
        at_us = _at_us(found)
        cursor.execute(f"CREATE OR REPLACE TEMP TABLE new_sums AS {self._changes(stood, found, new)}")
        named = f"SELECT DISTINCT account_id FROM read_parquet({paths(self._store, new.cycles)})"
        nobody = "SELECT account_id FROM new_sums WHERE FALSE"
        cursor.execute(f"CREATE OR REPLACE TEMP TABLE new_whose AS {named if new.cycles else nobody}")
        those = "SELECT account_id FROM new_sums UNION SELECT account_id FROM new_whose"
        cursor.execute(
            f"CREATE OR REPLACE TEMP TABLE new_known AS SELECT rowid AS row, * FROM {_ROWS} WHERE account_id IN ({those})"
        )
        # Whoever had no entry before may have cycles since longer.
        cursor.execute("INSERT INTO new_whose SELECT account_id FROM new_sums ANTI JOIN new_known USING (account_id)")
        self._find_cycles(cursor, at_us)
        replaced = _count(cursor, f"DELETE FROM {_ROWS} WHERE rowid IN (SELECT row FROM new_known)")
        inserted = _count(cursor, f"INSERT INTO {_ROWS} {_next()}")
        rows, gone = stood.rows - replaced + inserted, stood.replaced + replaced
        if gone > max(_TOO_FEW_ROWS, rows // _REPLACED_PART):
            cursor.execute(f"CREATE OR REPLACE TABLE {_ROWS} AS SELECT * FROM {_ROWS}")
            gone = 0
        for name in ("new_sums", "new_whose", "new_known", "new_cycles"):
            cursor.execute(f"DROP TABLE temp.{name}")
        return self._shown(cursor, _Stood(found, _since_us(at_us), 0, rows, gone))

    def _changes(self, stood: _Stood, found: Manifest, new: _New) -> str:
        """SQL of what came less what is gone, and of spending that is too long ago by now, by account."""
        since_us = _since_us(_at_us(found))
        left = [one for one in found.segments if one.first_us < since_us and one.last_us >= stood.since_us]
        whole = (*_CHANGES[:3], f"CASE WHEN occurred_at >= {stood.since_us} THEN {_CHANGES[3]} END")
        spent = ("0", "0", "0", _CHANGES[3])
        too_old = f"occurred_at >= {stood.since_us} AND occurred_at < {since_us}"
        parts = [
            self._entries(files, changes, sign, among)
            for files, changes, sign, among in (
                (new.came, whole, "", "TRUE"),
                (new.gone, whole, "-", "TRUE"),
                (left if since_us > stood.since_us else [], spent, "-", too_old),
            )
            if files
        ]
        sums = ", ".join(f"CAST(coalesce(sum({name}), 0) AS BIGINT) AS {name}" for name in _SUMS)
        every = " UNION ALL ".join(parts) or f"SELECT account_id, {', '.join(_SUMS)} FROM {_ROWS} WHERE FALSE"
        return f"SELECT account_id, {sums} FROM ({every}) GROUP BY account_id"

    def _entries(self, segments: Sequence[Segment], changes: Sequence[str], sign: str, among: str) -> str:
        amounts = ", ".join(f"{sign}({sql}) AS {name}" for sql, name in zip(changes, _SUMS, strict=True))
        files = paths(self._store, [one.file for one in segments])
        return f"SELECT account_id, {amounts} FROM read_parquet({files}) AS {relations.facts.name} WHERE {among}"

    def _find_cycles(self, cursor: duckdb.DuckDBPyConnection, at_us: int) -> None:
        """The cycles of accounts that moved, by account; most often all of them are among those in memory."""
        name, known = relations.cycles.name, f"{relations.cycles.name}_new"
        absent = _count(cursor, f'SELECT count(*) FROM new_whose ANTI JOIN "{known}" USING (account_id)')
        cursor.execute(
            "CREATE OR REPLACE TEMP TABLE new_cycles AS SELECT account_id, plan, region, quota_uc, start_at, end_at "
            f'FROM "{name if absent else known}" '
            f"WHERE end_at >= {at_us} AND account_id IN (SELECT account_id FROM new_whose)"
        )
        cursor.execute(
            f"INSERT INTO {_PLACES} SELECT (SELECT coalesce(max(place), 0) FROM {_PLACES}) + row_number() OVER (), plan, region "
            f"FROM (SELECT DISTINCT plan, region FROM new_cycles EXCEPT SELECT plan, region FROM {_PLACES})"
        )

    # What questions see --------------------------------------------------------------------------------------------

    def _shown(self, cursor: duckdb.DuckDBPyConnection, stood: _Stood) -> _Stood:
        stood = stood._replace(number=next(self._numbers))
        paced = sql_of(select(_places).where(relations.paced(_places.c.plan)))
        told = ", ".join(f"p.{name}" if name in ("plan", "region") else f"r.{name}" for name in present.c.keys()[:-2])
        cursor.execute(
            f"CREATE OR REPLACE VIEW {present.name} AS SELECT {told}, {_at_us(stood.at)} AS at_us, {stood.number} AS number "
            f"FROM {_ROWS} r JOIN ({paced}) p USING (place)"
        )
        return stood


def _every(at_us: int) -> Select[Any]:
    """The rows, from nothing."""
    every, spent, c, p = (
        states(at_us).subquery("states"),
        recent(at_us).subquery("recent"),
        relations.cycles.c,
        _places.c,
    )
    now = (
        select(c.account_id, c.plan, c.region, c.quota_uc, c.start_at, c.end_at)
        .where(c.end_at >= at_us)
        .subquery("now")
    )
    placed = and_(p.plan.is_not_distinct_from(now.c.plan), p.region.is_not_distinct_from(now.c.region))
    return select(
        every.c.account_id,
        p.place,
        *(now.c[name] for name in _CYCLE[1:]),
        every.c.paced_uc,
        every.c.available_uc,
        cast(every.c.pauses, SmallInteger).label("pauses"),
        cast(func.coalesce(spent.c.burned_uc, 0), BigInteger).label("burned_uc"),
    ).select_from(
        every.outerjoin(spent, spent.c.account_id == every.c.account_id)
        .outerjoin(now, now.c.account_id == every.c.account_id)
        .outerjoin(_places, placed)
    )


def _next() -> str:
    """SQL of the rows of all accounts of which something is new."""
    sums = ", ".join(f"any_value({name}) AS {name}" for name in _SUMS)
    added = ", ".join(f"coalesce(b.{name}, 0) + coalesce(d.{name}, 0) AS {name}" for name in _SUMS)
    cycle = ", ".join(_CYCLE)
    return f"""
        WITH before AS (SELECT account_id, {sums} FROM new_known GROUP BY account_id),
        sums AS (SELECT account_id, {added} FROM before b FULL JOIN new_sums d USING (account_id)),
        running AS (
            SELECT account_id, {cycle} FROM new_known ANTI JOIN new_whose USING (account_id)
            UNION ALL SELECT n.account_id, {cycle} FROM new_cycles n
            JOIN {_PLACES} p ON p.plan IS NOT DISTINCT FROM n.plan AND p.region IS NOT DISTINCT FROM n.region
        )
        SELECT account_id, {cycle}, {", ".join(_SUMS)} FROM sums LEFT JOIN running USING (account_id)"""


def _new(before: Manifest, found: Manifest) -> _New | None:
    """None where entries may be gone for good, where too much is new, or where it is not known whose cycles changed."""
    if before.last_us is None or found.last_us is None:
        return None
    known, named = ({one.file for one in at.segments} for at in (before, found))
    came = [one for one in found.segments if one.file not in known]
    gone = [one for one in before.segments if one.file not in named]
    cycles, then = (at.tables.get(relations.cycles.name, ()) for at in (found, before))
    goes_on = (
        (before.layout, before.begins_us) == (found.layout, found.begins_us)
        and before.watermark <= found.watermark
        and 0 <= found.last_us - before.last_us <= _LONGEST_US
        # A copy that was made anew has other files alone.
        and len(gone) < len(known)
        and sum(one.rows for one in (*came, *gone)) <= _MOST_ENTRIES
        and cycles[:1] == then[:1]
    )
    if not goes_on:
        return None
    return _New(came, gone, cycles[len(then) :] if cycles[: len(then)] == then else cycles[1:])


def _at_us(at: Manifest) -> int:
    assert at.last_us is not None, "a copy without entries has no now"
    return at.last_us + 1


def _since_us(before_us: int) -> int:
    return before_us - RECENT_DAYS * DAY_US


def _count(cursor: duckdb.DuckDBPyConnection, sql: str) -> int:
    return int(cursor.execute(sql).fetchall()[0][0])
