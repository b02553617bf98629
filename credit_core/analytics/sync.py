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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import cached_property
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, NamedTuple

import duckdb
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
from sqlalchemy import ColumnElement, Engine, Select, SelectBase, func, select
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.exc import DBAPIError

from credit_core.analytics import relations
from credit_core.analytics.source import START, Chunk, Source, Watermark, columns_of, open_source
from credit_core.errors import LedgerUnavailable
from credit_core.policy.plans import Plan
from credit_core.store import schema
from credit_core.store.engine import open_engine
from credit_core.units import checked_zone, from_us

_DIALECT = PGDialect(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]
#: Above this many changed keys a dimension table is read whole.
_FEW = 2_000
#: New rows from which on the copy is compressed, to a fifth, after a follow; within a long one at four times as many.
_COMPRESSED_ROWS = 245_760
_BY_ACCOUNT = (relations.accounts, relations.users, relations.cycles)
#: Rows that come and go with entries: as many as before need not be the same ones.
_WITH_ENTRIES = (relations.holds.name, relations.deferrals.name)
#: Small tables, and figures that change whenever the table does.
_TOKENS = {
    "holds": select(func.count(), func.sum(schema.holds.c.amount_uc)),
    "deferrals": select(func.count(), func.max(schema.deferrals.c.deferred_at)),
    "library_days": select(func.count(), func.sum(schema.library_days.c.assets)),
    "library_cells": select(
        func.count(), func.count(schema.library_cells.c.requested_at), func.count(schema.library_cells.c.queued_at)
    ),
    "config_versions": select(func.count(schema.config_versions.c.version)),
    "config_releases": select(func.count(schema.config_releases.c.release_id)),
    "checks": select(func.count(schema.checks.c.check_id)),
    "plans": select(func.count(schema.catalogs.c.version)),
}
_LOCAL = "timezone($zone, make_timestamptz(occurred_at))"


class Follow(NamedTuple):
    """What one :meth:`Facts.follow` did. ``as_of`` is the newest entry's instant; None while the ledger is empty."""

    rows: int
    watermark: Watermark
    seconds: float
    as_of: datetime | None
    version: int
    rebuilt: bool


class Extent(NamedTuple):
    """How far the copy reaches: first and newest instant in microseconds, None while it is empty; number of entries."""

    first_us: int | None
    last_us: int | None
    entries: int


class Facts:
    """The columnar copy of one ledger. One per process; follow and query from any thread."""

    def __init__(
        self,
        source: Source,
        engine: Engine,
        database: duckdb.DuckDBPyConnection,
        folder: Path,
        zone: str | None,
    ) -> None:
        """Use :meth:`open`."""
        self.engine = engine
        self.version = 0
        self.zone = zone or "UTC"
        self.extent = Extent(None, None, 0)
        self._source = source
        self._database = database
        self._writer = database.cursor()
        self._clean_up = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._fixed_zone = zone
        self._lock = threading.Lock()
        self._touched: set[str] | None = None
        self._tokens: dict[str, tuple[Any, ...]] = {}
        self._uncompressed = 0
        self._place = source.place()

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
        if reporting_zone is not None:
            checked_zone(reporting_zone)
        engine = open_engine(url, read_only=True)
        folder = Path(mkdtemp(prefix="titrate-"))
        config: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": memory_limit,
            "threads": str(threads),
            "temp_directory": str(folder / "spill"),
            "autoinstall_known_extensions": "false",
        }
        try:
            database = duckdb.connect(":memory:" if path is None else str(path), config=config)
        except duckdb.Error as error:
            engine.dispose()
            shutil.rmtree(folder, ignore_errors=True)
            raise LedgerUnavailable(
                f"The columnar copy at {path} could not be opened: {error}. Only one process may have it open."
            ) from error
        return cls(open_source(url, folder), engine, database, folder, reporting_zone)

    def follow(self) -> Follow:
        """Copy everything new. Raises :class:`LedgerUnavailable`; what was copied before stays usable."""
        with self._lock:
            started = time.perf_counter()
            try:
                if self._place != (place := self._source.place()):
                    # Pooled connections would go on reading a file that was replaced.
                    self.engine.dispose()
                    self._place = place
                rebuilt = self._prepare()
                rows = sum(self._append(chunk) for chunk in self._source.chunks(self._watermark()))
                changed = self._refresh_dimensions(copied=rows > 0)
            except DBAPIError as error:
                raise LedgerUnavailable(
                    f"The ledger could not be read: {error.orig}. Check the database; the last copy is still shown."
                ) from error
            except duckdb.Error as error:
                raise LedgerUnavailable(
                    f"The columnar copy could not be written: {error}. Give it more memory or disk; the last copy is still shown."
                ) from error
            if rows or changed or rebuilt:
                self.extent = Extent(*self._one("SELECT min(occurred_at), max(occurred_at), count(*) FROM facts"))
                self.version += 1
            self._compress(_COMPRESSED_ROWS)
            as_of = None if self.extent.last_us is None else from_us(self.extent.last_us)
            return Follow(rows, self._watermark(), time.perf_counter() - started, as_of, self.version, rebuilt)

    # Reading -----------------------------------------------------------------------------------------------------

    def frame(self, statement: SelectBase) -> pd.DataFrame:
        """The result as a frame; columns ``*_at`` become aware datetimes in the reporting zone."""
        with self._database.cursor() as cursor:
            frame = cursor.execute(*compiled(statement)).df()
        for name in frame.columns:
            if str(name).endswith("_at"):
                frame[name] = instants(frame[name], self.zone)
        return frame

    def rows(self, statement: SelectBase) -> list[tuple[Any, ...]]:
        """The result as tuples, integers exact."""
        with self._database.cursor() as cursor:
            return cursor.execute(*compiled(statement)).fetchall()

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

    def coming(self, tx: int, last_id: int) -> ColumnElement[bool]:
        """Condition on ``ledger_entries``: written after that watermark."""
        return self._source.after(Watermark(tx, last_id))

    def close(self) -> None:
        """Give back memory, connections and files."""
        with self._lock:
            self._writer.close()
            self._database.close()
            self._source.close()
            self.engine.dispose()
            self._clean_up()

    # Copying -----------------------------------------------------------------------------------------------------

    def _prepare(self) -> bool:
        """Make the tables; make them anew where they are of another layout or ledger. True where that was so."""
        with self.engine.connect() as connection:
            deployed = connection.execute(
                select(schema.deployment.c.value).where(schema.deployment.c.key == "reporting_zone")
            ).scalar()
        zone = self._fixed_zone or checked_zone(deployed or "UTC").key
        there = self._one("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'copy_state'")[0]
        layout, known_zone, last_hash, mark = self._state if there else (None, None, None, 0)
        rebuilt = bool(there) and (layout != self._layout or (mark > 0 and self._hash_of(mark) != last_hash))
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
        self._touched = None
        self._tokens.clear()

    def _move_to(self, zone: str) -> None:
        """Work out day, hour and weekday again, in another reporting zone."""
        with self._transaction() as writer:
            writer.execute(
                f"UPDATE facts SET day = CAST({_LOCAL} AS DATE), hour = hour({_LOCAL}), dow = isodow({_LOCAL})",
                {"zone": zone},
            )
            writer.execute("UPDATE copy_state SET zone = $1", [zone])

    def _append(self, chunk: Chunk) -> int:
        entries = chunk.entries
        if entries.num_rows == 0:
            return 0
        new_lots = self._new_lots(entries)
        last_hash = self._hash_of(chunk.watermark.id)
        with self._transaction() as writer:
            with _incoming(writer, new_lots):
                writer.execute("INSERT INTO lots SELECT * FROM incoming WHERE lot_id NOT IN (SELECT lot_id FROM lots)")
            with _incoming(writer, entries):
                writer.execute(
                    "INSERT INTO facts SELECT e.*, l.kind, l.unit_price_usd_micro, "
                    f"CAST({_LOCAL} AS DATE), hour({_LOCAL}), isodow({_LOCAL}) "
                    "FROM incoming e LEFT JOIN lots l ON e.lot_id = l.lot_id",
                    {"zone": self.zone},
                )
            writer.execute("UPDATE copy_state SET tx = $1, id = $2, last_hash = $3", [*chunk.watermark, last_hash])
        if self._touched is not None:
            self._touched.update(entries["account_id"].unique().to_pylist())
        self._uncompressed += int(entries.num_rows)
        self._compress(4 * _COMPRESSED_ROWS)
        return int(entries.num_rows)

    def _new_lots(self, entries: pa.Table) -> pa.Table:
        """The lots that these entries name and the copy does not have; where they are many, all lots."""
        with _incoming(self._writer, entries):
            named = self._writer.execute(
                "SELECT DISTINCT lot_id FROM incoming WHERE lot_id IS NOT NULL AND lot_id NOT IN (SELECT lot_id FROM lots)"
            ).fetchall()
        statement = select(*columns_of(schema.lots, relations.lots.columns.keys()))
        if len(named) <= _FEW:
            statement = statement.where(self._source.within(schema.lots.c.lot_id, [row[0] for row in named]))
        return self._source.read({"lots": statement})["lots"]

    def _refresh_dimensions(self, *, copied: bool) -> bool:
        """Read again the rows of accounts that have new entries, and the small tables that changed."""
        touched = None if self._touched is None or len(self._touched) > _FEW else sorted(self._touched)
        statements = {}
        if touched is None or touched:
            for table in _BY_ACCOUNT:
                source = schema.metadata.tables[table.name]
                statement = select(*columns_of(source, table.columns.keys()))
                narrowed = (
                    statement if touched is None else statement.where(self._source.within(source.c.account_id, touched))
                )
                statements[table.name] = narrowed
        tokens = self._read_tokens()
        for name in tokens:
            moved = tokens[name] != self._tokens.get(name)
            if name != relations.plans.name and (moved or (copied and name in _WITH_ENTRIES)):
                statements[name] = select(
                    *columns_of(schema.metadata.tables[name], relations.metadata.tables[name].columns.keys())
                )
        tables = self._source.read(statements) if statements else {}
        if tokens[relations.plans.name] != self._tokens.get(relations.plans.name):
            tables[relations.plans.name] = self._plans()
        if not tables:
            return False
        with self._transaction() as writer:
            for name, rows in tables.items():
                partly = touched is not None and relations.metadata.tables[name] in _BY_ACCOUNT
                with _incoming(writer, rows):
                    writer.execute(
                        f'DELETE FROM "{name}"'
                        + (" WHERE account_id IN (SELECT account_id FROM incoming)" if partly else "")
                    )
                    writer.execute(f'INSERT INTO "{name}" SELECT * FROM incoming')
        self._touched = set()
        self._tokens = tokens
        return True

    def _plans(self) -> pa.Table:
        """Policy and unit of every plan that any catalogue had, by the newest that has it."""
        catalogs = schema.catalogs.c
        with self.engine.connect() as connection:
            bodies = connection.execute(select(catalogs.body).order_by(catalogs.version)).scalars().all()
        known = {name: row for body in bodies for name, row in body.get("plans", {}).items()}
        usual = Plan.model_fields["credit_unit"].default
        columns = {
            "plan": list(known),
            "quota_policy": [row["quota_policy"] for row in known.values()],
            "credit_unit": [row.get("credit_unit", usual) for row in known.values()],
        }
        return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})

    def _read_tokens(self) -> dict[str, tuple[Any, ...]]:
        """Per small table, figures that change whenever the table does."""
        with self.engine.connect() as connection:
            return {name: tuple(connection.execute(statement).one()) for name, statement in _TOKENS.items()}

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

    def _hash_of(self, entry_id: int) -> str | None:
        with self.engine.connect() as connection:
            found = connection.execute(
                select(schema.ledger_entries.c.hash).where(schema.ledger_entries.c.id == entry_id)
            ).scalar()
        return None if found is None else bytes(found).hex()

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


def compiled(statement: SelectBase) -> tuple[str, list[Any]]:
    """SQL in PostgreSQL's dialect, which DuckDB runs unchanged, and its parameters in order."""
    result = statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
    return str(result), [result.params[name] for name in result.positiontup or ()]


def instants(microseconds: pd.Series[Any], zone: str) -> pd.Series[Any]:
    """Microseconds since the epoch as aware datetimes in ``zone``; missing stays missing."""
    return pd.to_datetime(microseconds.astype("Int64"), unit="us", utc=True).dt.tz_convert(zone)


@contextmanager
def _incoming(connection: duckdb.DuckDBPyConnection, rows: pa.Table) -> Iterator[None]:
    connection.register("incoming", rows)
    try:
        yield
    finally:
        connection.unregister("incoming")
