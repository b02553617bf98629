"""Ledger → facts: an in-process columnar copy that follows the ledger and that every page queries (SPEC 6, FINDINGS).

::

    facts = Facts.open("sqlite:///data/ledger.db")
    facts.follow()  # copies what is new; cheap where nothing is
    facts.frame(select(...))  # any thread
"""

from __future__ import annotations

import shutil
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import cached_property
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, NamedTuple

import duckdb
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
from sqlalchemy import ColumnElement, FromClause, Select, SelectBase, select

from credit_core.analytics import forced, measures, relations, spells
from credit_core.analytics.compiling import compiled
from credit_core.analytics.day_ends import DayEnds
from credit_core.analytics.dialect import sql_of
from credit_core.analytics.dimensions import Dimensions, new_lots
from credit_core.analytics.filters import Period
from credit_core.analytics.origin import Origin, told
from credit_core.analytics.sharing import Shared
from credit_core.analytics.source import START, Chunk, Watermark, entries_after
from credit_core.errors import LedgerUnavailable
from credit_core.units import from_us

#: Results kept, and of how many rows at most each.
_MOST_REMEMBERED, _MOST_REMEMBERED_ROWS, _MOST_MADE = 12, 150_000, 4
#: New rows from which on the copy is compressed, to a fifth, after a follow; within a long one at four times as many.
#: A small copy is when a quarter of it is new: questions take a quarter less.
_COMPRESSED_ROWS, _COMPRESSED_PART, _TOO_FEW_ROWS = 245_760, 4, 8_192
#: The entry's instant on the reporting zone's clock.
LOCAL = "timezone($zone, make_timestamptz(occurred_at))"


class Follow(NamedTuple):
    """What one :meth:`Facts.follow` did. ``as_of`` is the newest entry's instant; None while the ledger is empty.

    ``readable_s``: after how many of the ``seconds`` every entry could be read, where roll-ups were made after that.
    """

    rows: int
    watermark: Watermark
    seconds: float
    as_of: datetime | None
    version: int
    rebuilt: bool
    readable_s: float | None = None


class Extent(NamedTuple):
    """How far the copy reaches: first and newest instant in microseconds, None while it is empty; number of entries."""

    first_us: int | None
    last_us: int | None
    entries: int


class Place(NamedTuple):
    """Where a copy lies: ``folder`` None is memory alone; ``writes``: this process keeps it up to date, else another does.

    ``server``: the database on ClickHouse where it stands instead.
    """

    folder: Path | None
    writes: bool
    closed_segments: int
    open_segments: int
    server: str | None = None


class Begin(NamedTuple):
    """Where a copy begins that keeps so many days alone: the first instant in it, microseconds, and how many entries came before."""

    at_us: int
    left_out: int


class Facts:
    """The columnar copy of one ledger. One per process; follow and query from any thread."""

    def __init__(self, origin: Origin, database: duckdb.DuckDBPyConnection, folder: Path) -> None:
        """Use :meth:`open`."""
        self.engine = origin.engine
        self.version = 0
        self.zone = "UTC"
        self.extent = Extent(None, None, 0)
        #: None where the copy has every entry.
        self.begin: Begin | None = None
        #: What the facts are where no ledger is behind them, in words.
        self.made_up: str | None = None
        #: Held where the copy is exchanged, by those whose several questions must be of one copy.
        self.exchange = threading.RLock()
        self._origin = origin
        self._source = origin.source
        self._database = database
        self._writer = database.cursor()
        self._clean_up = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._lock = threading.Lock()
        self._remembering = threading.Lock()
        self._remembered: dict[tuple[str, tuple[str, ...], int], pd.DataFrame] = {}
        self._made: list[tuple[Callable[..., pd.DataFrame], tuple[Any, ...], int, pd.DataFrame]] = []
        self._noted: dict[str, tuple[int, dict[Any, Any]]] = {}
        self._dimensions = Dimensions(origin.source, origin.engine)
        self._shared = Shared(database)
        self._uncompressed = 0

    @classmethod
    def open(
        cls,
        url: str,
        reporting_zone: str | None = None,
        path: Path | None = None,
        memory_limit: str = "1GB",
        threads: int = 2,
    ) -> Facts:
        """Open a copy in memory, or in the file ``path``. ``reporting_zone`` overrides the deployment's own.

        Nothing is copied before the first :meth:`follow`. Raises :class:`LedgerUnavailable` where there is no ledger.
        """
        folder = Path(mkdtemp(prefix="titrate-"))
        try:
            origin = Origin.open(url, folder, reporting_zone)
            database = open_database(path, folder, memory_limit, threads)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return cls(origin, database, folder)

    def follow(self) -> Follow:
        """Copy everything new. Raises :class:`LedgerUnavailable`; what was copied before stays usable."""
        with self._lock:
            started = time.perf_counter()
            with told():
                self._origin.renew()
                rebuilt = self._prepare()
                rows = sum(self._append(chunk) for chunk in entries_after(self._source, self._watermark()))
                changed = self._refresh_dimensions(copied=rows > 0)
            if rows or changed or rebuilt:
                self.extent = Extent(*self._one("SELECT min(occurred_at), max(occurred_at), count(*) FROM facts"))
                self.version += 1
            self._compress(min(_COMPRESSED_ROWS, max(_TOO_FEW_ROWS, self.extent.entries // _COMPRESSED_PART)))
            as_of = None if self.extent.last_us is None else from_us(self.extent.last_us)
            return Follow(rows, self._watermark(), time.perf_counter() - started, as_of, self.version, rebuilt)

    # Reading -----------------------------------------------------------------------------------------------------

    def frame(self, statement: SelectBase) -> pd.DataFrame:
        """The result as a frame; columns ``*_at`` become aware datetimes in the reporting zone.

        A page asks several questions that rest on the same statement: its result is kept until something new is copied.
        """
        sql, parameters = self._asked(statement)
        key = (sql, tuple(map(repr, parameters)), self.version)
        with self._remembering:
            known = self._remembered.get(key)
        if known is not None:
            return known.copy()
        frame = self._fetched(statement, sql, parameters)
        for name in frame.columns:
            if str(name).endswith("_at"):
                frame[name] = instants(frame[name], self.zone)
        if len(frame) <= _MOST_REMEMBERED_ROWS:
            with self._remembering:
                oldest = next(iter(self._remembered), key)
                if oldest[2] != key[2]:
                    self._remembered.clear()
                elif len(self._remembered) >= _MOST_REMEMBERED:
                    del self._remembered[oldest]
                self._remembered[key] = frame.copy()
        return frame

    def once(self, made: Callable[..., pd.DataFrame], *given: Any) -> pd.DataFrame:
        """``made(self, *given)``, which several questions of a page rest on: worked out once, and kept as :meth:`frame` keeps."""
        version = self.version
        with self._remembering:
            self._made = [one for one in self._made if one[2] == version]
            known = next((one[3] for one in self._made if one[0] is made and one[1] == given), None)
        if known is None:
            known = made(self, *given)
            if len(known) <= _MOST_REMEMBERED_ROWS:
                with self._remembering:
                    self._made = [*self._made, (made, given, version, known)][-_MOST_MADE:]
        return known.copy()

    def notes(self, name: str) -> dict[Any, Any]:
        """What a question notes down of parts of its answers, for whoever asks of the same parts; gone when something new is copied."""
        with self._remembering:
            noted = self._noted.get(name)
            if noted is None or noted[0] != self.version:
                noted = self._noted[name] = (self.version, {})
        return noted[1]

    def _fetched(self, _statement: SelectBase, sql: str, parameters: list[Any]) -> pd.DataFrame:
        with self._database.cursor() as cursor:
            return cursor.execute(sql, parameters).df()

    def run_outs(self, start_us: int, end_us: int) -> SelectBase:
        """Run-outs that began from ``start_us`` to before ``end_us`` (:mod:`credit_core.analytics.spells`)."""
        return spells.spells(spells.events().subquery("events"), start_us, end_us)

    def finished(self, ended: Period) -> FromClause:
        """Finished cycles, less of those that ended outside of a period may be there (:func:`measures.finished`)."""
        return measures.finished(ended)

    def forced_spending(self) -> FromClause:
        """What was spent on requests that rule 5 made fresh (:mod:`credit_core.analytics.forced`)."""
        return forced.spending().subquery("spending")

    def shared(self, statement: Select[Any], *, lasting: bool = False) -> FromClause:
        """A relation that several questions of a page rest on, worked out when the first of them is asked.

        A ``lasting`` one is small, and no answer by itself.
        """
        sql, parameters = self._asked(statement)
        return self._shared(sql, parameters, self.version, statement.selected_columns.keys(), lasting=lasting)

    def forget(self) -> None:
        """Ask everything anew, for those who measure."""
        with self._remembering:
            self._remembered.clear()
            self._made.clear()
            self._noted.clear()
        self._shared.forget()

    def rows(self, statement: SelectBase) -> list[tuple[Any, ...]]:
        """The result as tuples, integers exact."""
        with self._database.cursor() as cursor:
            return cursor.execute(*self._asked(statement)).fetchall()

    def _asked(self, statement: SelectBase) -> tuple[str, list[Any]]:
        """The SQL that answers a statement, and its parameters."""
        return compiled(statement)

    def told(self, statement: SelectBase) -> str:
        """A statement in the words of this copy's engine, its values written out: for people who want to run it themselves."""
        return sql_of(statement)

    def reader(self, statement: SelectBase, batch_rows: int = 20_000) -> pa.RecordBatchReader:
        """The result as a stream of Arrow batches, of one instant however long the reading takes."""
        sql, parameters = compiled(statement)
        return self._database.cursor().sql(sql, params=parameters).to_arrow_reader(batch_rows)

    def from_ledger(self, statements: Mapping[str, Select[Any]]) -> dict[str, pa.Table]:
        """Rows of the ledger itself, as Arrow, all of one instant; each named by the relation that it resembles."""
        return self._source.read(statements)

    def within(self, key: ColumnElement[str], values: Sequence[str]) -> ColumnElement[bool]:
        """Condition ``key IN values`` for :meth:`from_ledger`, for any number of values."""
        return self._source.within(key, values)

    def copied(self, tx: int | None = None, last_id: int | None = None) -> ColumnElement[bool]:
        """Condition on ``ledger_entries``: copied by now, or up to a watermark read before."""
        if tx is None or last_id is None:
            tx, last_id = self.rows(select(relations.copy_state.c.tx, relations.copy_state.c.id))[0]
        return self._source.up_to(Watermark(tx, last_id))

    def waiting(self) -> ColumnElement[bool]:
        """Condition on ``ledger_entries``: not copied yet."""
        return self.coming(*self.rows(select(relations.copy_state.c.tx, relations.copy_state.c.id))[0])

    @property
    def place(self) -> Place:
        """Where the copy lies, and who keeps it up to date."""
        return Place(None, True, 0, 0)

    def day_ends(self) -> DayEnds | None:
        """The days of which it is counted where accounts stood; None where nothing is."""
        return None

    def present(self, _at_us: int) -> FromClause | None:
        """Where accounts stand (:data:`credit_core.analytics.present.present`), where that is kept and as of that instant."""
        return None

    def coming(self, tx: int, last_id: int) -> ColumnElement[bool]:
        """Condition on ``ledger_entries``: written after that watermark."""
        return self._source.after(Watermark(tx, last_id))

    def close(self) -> None:
        """Give back memory, connections and files."""
        with self._lock:
            self._writer.close()
            self._database.close()
            self._origin.close()
            self._clean_up()

    # Copying -----------------------------------------------------------------------------------------------------

    def _prepare(self) -> bool:
        """Make the tables; make them anew where they are of another layout or ledger. True where that was so."""
        zone = self._origin.zone()
        there = self._one("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'copy_state'")[0]
        layout, known_zone, last_hash, mark = self._state if there else (None, None, None, 0)
        rebuilt = bool(there) and (layout != self._layout or (mark > 0 and self._origin.hash_of(mark) != last_hash))
        if rebuilt or not there:
            self._create(zone)
        elif known_zone != zone:
            self._move_to(zone)
            rebuilt = True
        self.zone = zone
        return rebuilt

    @cached_property
    def _layout(self) -> str:
        return ";".join(relations.create_statement(table) for table in relations.metadata.sorted_tables)

    @property
    def _state(self) -> tuple[Any, ...]:
        return self._one("SELECT layout, zone, last_hash, id FROM copy_state")

    def _create(self, zone: str) -> None:
        with self._transaction() as writer:
            for table in relations.metadata.sorted_tables:
                writer.execute(f'DROP TABLE IF EXISTS "{table.name}"')
                writer.execute(relations.create_statement(table))
            writer.execute("INSERT INTO copy_state VALUES ($1, $2, $3, $4, NULL, 0)", [self._layout, zone, *START])
        self._dimensions.forget()

    def _move_to(self, zone: str) -> None:
        """Work out day, hour and weekday again, in another reporting zone."""
        with self._transaction() as writer:
            writer.execute(
                f"UPDATE facts SET day = CAST({LOCAL} AS DATE), hour = hour({LOCAL}), dow = isodow({LOCAL})",
                {"zone": zone},
            )
            writer.execute("UPDATE copy_state SET zone = $1", [zone])

    def _append(self, chunk: Chunk) -> int:
        entries = chunk.entries
        if entries.num_rows == 0:
            return 0
        new_lots = self._new_lots(entries)
        last_hash = chunk.last_hash or self._origin.hash_of(chunk.watermark.id)
        with self._transaction() as writer:
            with incoming(writer, new_lots):
                writer.execute("INSERT INTO lots SELECT * FROM incoming WHERE lot_id NOT IN (SELECT lot_id FROM lots)")
            with incoming(writer, entries):
                writer.execute(
                    "INSERT INTO facts SELECT e.*, l.kind, l.unit_price_usd_micro, "
                    f"CAST({LOCAL} AS DATE), hour({LOCAL}), isodow({LOCAL}) "
                    "FROM incoming e LEFT JOIN lots l ON e.lot_id = l.lot_id",
                    {"zone": self.zone},
                )
            writer.execute("UPDATE copy_state SET tx = $1, id = $2, last_hash = $3", [*chunk.watermark, last_hash])
        self._dimensions.touch(entries)
        self._uncompressed += int(entries.num_rows)
        self._compress(4 * _COMPRESSED_ROWS)
        return int(entries.num_rows)

    def _new_lots(self, entries: pa.Table) -> pa.Table:
        """The lots that these entries name and the copy does not have; where they are many, all lots."""
        with incoming(self._writer, entries):
            named = self._writer.execute(
                "SELECT DISTINCT lot_id FROM incoming WHERE lot_id IS NOT NULL AND lot_id NOT IN (SELECT lot_id FROM lots)"
            ).fetchall()
        return new_lots(self._source, (row[0] for row in named))

    def _refresh_dimensions(self, *, copied: bool) -> bool:
        """Read again the rows of accounts that have new entries, and the small tables that changed."""
        changed, tokens = self._dimensions.changed(copied=copied)
        if not changed.tables:
            return False
        with self._transaction() as writer:
            for name, rows in changed.tables.items():
                those = " WHERE account_id IN (SELECT account_id FROM incoming)" if name in changed.partly else ""
                with incoming(writer, rows):
                    if name not in changed.added:
                        writer.execute(f'DELETE FROM "{name}"{those}')
                    writer.execute(f'INSERT INTO "{name}" SELECT * FROM incoming')
        self._dimensions.settle(tokens)
        return True

    def _compress(self, least: int) -> None:
        """Compress the copy if at least this many rows are new."""
        if self._uncompressed < least:
            return
        # DuckDB skips a checkpoint where it believes that nothing changed since the last one, which it may have begun and left.
        self._writer.execute("UPDATE copy_state SET compressions = compressions + 1")
        # Refused while a page's query holds an older instant; the next follow tries again.
        with suppress(duckdb.TransactionException):
            self._writer.execute("CHECKPOINT")
            self._uncompressed = 0

    def _watermark(self) -> Watermark:
        return Watermark(*self._one("SELECT tx, id FROM copy_state"))

    def _one(self, sql: str) -> tuple[Any, ...]:
        row: tuple[Any, ...] = self._writer.execute(sql).fetchall()[0]
        return row

    @contextmanager
    def _transaction(self) -> Iterator[duckdb.DuckDBPyConnection]:
        self._writer.begin()
        try:
            yield self._writer
        except BaseException:
            self._writer.rollback()
            raise
        self._writer.commit()


def open_database(path: Path | None, folder: Path, memory_limit: str, threads: int) -> duckdb.DuckDBPyConnection:
    """DuckDB in memory, or in the file ``path``; what does not fit into memory goes to ``folder``."""
    config: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": memory_limit,
        "threads": str(threads),
        "temp_directory": str(folder / "spill"),
        "autoinstall_known_extensions": "false",
        # Days' ends are compared row by row (credit_core.analytics.carrying).
        "preserve_insertion_order": "true",
    }
    try:
        database = duckdb.connect(":memory:" if path is None else str(path), config=config)
        # Files of the copy never change: where their parts lie is read once, and is the first to go where memory is short.
        database.execute("SET GLOBAL parquet_metadata_cache = true")
        return database
    except duckdb.Error as error:
        raise LedgerUnavailable(
            f"The columnar copy at {path} could not be opened: {error}. Only one process may have it open."
        ) from error


def instants(microseconds: pd.Series[Any], zone: str) -> pd.Series[Any]:
    """Microseconds since the epoch as aware datetimes in ``zone``; missing stays missing."""
    return pd.to_datetime(microseconds.astype("Int64"), unit="us", utc=True).dt.tz_convert(zone)


@contextmanager
def incoming(connection: duckdb.DuckDBPyConnection, rows: pa.Table, name: str = "incoming") -> Iterator[None]:
    """Arrow rows under a name that statements of the connection can read."""
    connection.register(name, rows)
    try:
        yield
    finally:
        connection.unregister(name)
