"""Writing a whole ledger at once, far faster than entry by entry: into a new ledger alone, and all of it or nothing.

The guards and indexes of ``ledger_entries`` are put aside while rows come in and are back before anybody sees them: a
SQLite ledger is filled beside its place and moved there at the end, a PostgreSQL one in one transaction.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import adbc_driver_manager
import adbc_driver_postgresql.dbapi  # type: ignore[import-untyped]
import adbc_driver_sqlite.dbapi
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
from sqlalchemy import Boolean, Double, Integer, LargeBinary
from sqlalchemy.sql.sqltypes import BigInteger

from credit_core.errors import LedgerUnavailable
from credit_core.store.columns import Document, Flag, Instant
from credit_core.store.engine import parse_url
from credit_core.store.schema import ENTRY_KINDS, metadata

_ENTRIES = "ledger_entries"
ENTRY_COLUMNS = frozenset(metadata.tables[_ENTRIES].columns.keys())
_SIDES = ("", "-wal", "-shm", "-journal")


class Bulk(Protocol):
    """A new ledger that takes rows in bulk."""

    def append(self, table: str, rows: pa.Table) -> None:
        """Add rows; columns that they do not have stay empty. Safe from one thread at a time."""


def beside(url: str) -> str:
    """Where the ledger for ``url`` is filled: a SQLite file beside its place, which holds what is there already."""
    parsed = parse_url(url)
    if parsed.get_backend_name() != "sqlite":
        return url
    path = Path(str(parsed.database))
    part = path.with_name(f"{path.name}.part")
    _remove(part)
    if path.exists():
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(part)) as target:
            source.backup(target)
    return f"sqlite:///{part}"


def discard(url: str) -> None:
    """Remove what :func:`beside` made for ``url`` and nobody finished."""
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite":
        path = Path(str(parsed.database))
        _remove(path.with_name(f"{path.name}.part"))


@contextmanager
def bulk(url: str, part: str) -> Iterator[Bulk]:
    """Fill the ledger at ``part`` (:func:`beside`); leaving without an error puts it in the place of ``url``.

    Nobody else may have the ledger open. Raises :class:`LedgerUnavailable` where the database refuses.
    """
    parsed = parse_url(part)
    try:
        if parsed.get_backend_name() != "sqlite":
            plain = parsed.set(drivername="postgresql").render_as_string(hide_password=False)
            with adbc_driver_postgresql.dbapi.connect(plain) as connection:
                yield from _filled(connection, _Tables(connection, "postgresql"), _POSTGRESQL_GUARDS)
            return
        path, place = Path(str(parsed.database)), Path(str(parse_url(url).database))
        with adbc_driver_sqlite.dbapi.connect(str(path), autocommit=True) as connection:
            # The file is nobody's yet: a crash leaves it behind, and the next run begins it anew.
            for pragma in (
                "journal_mode=OFF",
                "synchronous=OFF",
                "foreign_keys=OFF",
                "cache_size=-262144",
                "threads=2",
            ):
                _run(connection, f"PRAGMA {pragma}")
            yield from _filled(connection, _Tables(connection, "sqlite"), _SQLITE_GUARDS)
    except adbc_driver_manager.Error as error:
        raise LedgerUnavailable(
            f"The ledger could not be filled: {error}. Nothing was kept; check its disk and rights, then run this again."
        ) from error
    _move(path, place)


def _filled(connection: Any, tables: _Tables, guards: str) -> Iterator[Bulk]:
    there = [(str(drop), str(make)) for drop, make in _rows(connection, guards)]
    for drop, _ in there:
        _run(connection, drop)
    yield tables
    for _, make in there:
        _run(connection, make)
    if tables.engine == "postgresql":
        connection.commit()
        _run(connection, f"ANALYZE {_ENTRIES}")
        connection.commit()


class _Tables:
    def __init__(self, connection: Any, engine: str) -> None:
        self.engine = engine
        self._connection = connection

    def append(self, table: str, rows: pa.Table) -> None:
        if self.engine == "sqlite":
            # To ask each row whether its kind is one of seventeen takes as long as to write it: all are asked at once.
            known = table == _ENTRIES and _checked(rows)
            _run(self._connection, f"PRAGMA ignore_check_constraints={'ON' if known else 'OFF'}")
        columns = metadata.tables[table].c
        fields = [pa.field(name, _arrow(columns[name].type, self.engine)) for name in rows.column_names]
        rows = rows.cast(pa.schema(fields))
        for place, name in enumerate(rows.column_names):
            if self.engine == "postgresql" and isinstance(columns[name].type, Document):
                # As COPY's binary format has jsonb: its version, then the text.
                documents = pc.binary_join_element_wise(pa.scalar(b"\x01"), rows[name].cast(pa.binary()), b"")
                rows = rows.set_column(place, name, documents)
        with self._connection.cursor() as cursor:
            cursor.adbc_ingest(table, rows, mode="append")


def _checked(rows: pa.Table) -> bool:
    """What the constraints on each row of ``ledger_entries`` say, of all these: where they do not hold, SQLite tells so."""
    known = pc.all(pc.is_in(rows["kind"], pa.array(ENTRY_KINDS))).as_py()
    return bool(known and all(pc.min(rows[name]).as_py() >= 1 for name in ("seq", "line")))


def _arrow(kind: Any, engine: str) -> pa.DataType:
    if isinstance(kind, Flag | Boolean):
        return pa.bool_() if engine == "postgresql" else pa.int64()
    if isinstance(kind, Instant | BigInteger):
        return pa.int64()
    if isinstance(kind, Double):
        return pa.float64()
    if isinstance(kind, Integer):
        return pa.int32()
    return pa.binary() if isinstance(kind, LargeBinary) else pa.string()


#: (statement that puts it aside, statement that makes it again), in the order of making.
_SQLITE_GUARDS = (
    "SELECT 'DROP ' || type || ' \"' || name || '\"', sql FROM sqlite_master "
    f"WHERE tbl_name = '{_ENTRIES}' AND type IN ('index', 'trigger') AND sql IS NOT NULL "
    # One of few rows costs nothing as they come; made afterwards it takes another look at all.
    f"AND name NOT IN (SELECT name FROM pragma_index_list('{_ENTRIES}') WHERE partial) ORDER BY type, rowid"
)
_POSTGRESQL_GUARDS = (
    "SELECT format('DROP INDEX %I', indexname), indexdef FROM pg_indexes "
    f"WHERE schemaname = current_schema() AND tablename = '{_ENTRIES}' AND indexname NOT IN "
    "(SELECT conname FROM pg_constraint) UNION ALL "
    "SELECT format('ALTER TABLE %I DROP CONSTRAINT %I', t.relname, c.conname), "
    "format('ALTER TABLE %I ADD CONSTRAINT %I %s', t.relname, c.conname, pg_get_constraintdef(c.oid)) "
    f"FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid WHERE t.relname = '{_ENTRIES}' AND c.contype = 'f'"
)


def _rows(connection: Any, sql: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


def _run(connection: Any, sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        # Some pragmas answer; SQLite runs a statement only as far as its answer is read.
        with suppress(adbc_driver_manager.ProgrammingError):
            cursor.fetchall()


def _move(part: Path, place: Path) -> None:
    with closing(sqlite3.connect(part)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    with part.open("rb") as file:
        os.fsync(file.fileno())
    for side in _SIDES[1:]:
        Path(f"{place}{side}").unlink(missing_ok=True)
    shutil.move(part, place)


def _remove(path: Path) -> None:
    for side in _SIDES:
        Path(f"{path}{side}").unlink(missing_ok=True)
