"""Reading a ledger for the columnar copy: new entries after a watermark, and small tables, as Arrow.

Exact under concurrent writers (FINDINGS, "The read side"): on SQLite ids are given inside BEGIN IMMEDIATE, so all up to the
newest are there; on PostgreSQL an entry is read once every transaction up to its own has ended, in the order (tx, id).
"""

from __future__ import annotations

import itertools
import sqlite3
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import adbc_driver_manager
import adbc_driver_postgresql.dbapi  # type: ignore[import-untyped]
import adbc_driver_sqlite.dbapi
import pyarrow as pa  # type: ignore[import-untyped]
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    Select,
    String,
    Text,
    bindparam,
    cast,
    literal,
    literal_column,
    select,
    tuple_,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.engine import URL
from sqlalchemy.types import TypeEngine, UserDefinedType

from credit_core.analytics.relations import ENTRY_COLUMNS
from credit_core.analytics.statements import (
    WANTED,
    among_postgresql,
    among_sqlite,
    columns_of,
    compiled_for,
    conformed,
    fetched,
    in_columns,
    within_postgresql,
    within_sqlite,
)
from credit_core.errors import LedgerUnavailable
from credit_core.store.engine import BUSY_TIMEOUT_MS, parse_url
from credit_core.store.schema import ledger_entries

#: DuckDB takes whole row groups (122 880 rows) five times faster than parts of them.
CHUNK_ROWS = 245_760
_PIECE_ROWS = 61_440
_READERS = 2
#: Fewer rows than this are sooner taken through Python than through a file.
_FEW_ROWS = 4_000
SQLITE = sqlite.dialect(paramstyle="qmark")
POSTGRESQL = PGDialect(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]


class Watermark(NamedTuple):
    """The last entry copied. ``tx`` is PostgreSQL's transaction, 0 on SQLite."""

    tx: int
    id: int


class Chunk(NamedTuple):
    """Entries in the order they are copied, and the watermark that goes with them."""

    entries: pa.Table
    watermark: Watermark


START = Watermark(0, 0)


class Source(Protocol):
    """A ledger that can be copied."""

    def place(self) -> tuple[int, ...]:
        """Where the ledger lies; another place after a file was replaced."""

    def chunks(self, after: Watermark) -> Iterator[Chunk]:
        """Every entry after a watermark that may be copied now, in pieces."""

    def ends(self, after: Watermark, rows: int) -> Iterator[Watermark]:
        """Where pieces of so many entries end, of those after a watermark that may be copied now; what is left over is less."""

    def read(self, statements: Mapping[str, Select[Any]], wanted: Sequence[str] = ()) -> dict[str, pa.Table]:
        """Rows for relations of the copy, by its name, in its types: several small reads, all of one instant.

        ``wanted``: the values that :meth:`among` left open.
        """

    def among(self, key: ColumnElement[str]) -> ColumnElement[bool]:
        """``key IN wanted``, for statements that are kept and read again and again."""

    def within(self, key: ColumnElement[str], values: Sequence[str]) -> ColumnElement[bool]:
        """``key IN values`` for any number of values, as one bound parameter."""

    def up_to(self, watermark: Watermark) -> ColumnElement[bool]:
        """Condition on ``ledger_entries``: copied, once this watermark is reached."""

    def after(self, watermark: Watermark) -> ColumnElement[bool]:
        """Condition on ``ledger_entries``: not copied yet, at this watermark."""

    def close(self) -> None:
        """Give back connections and files."""


def open_source(url: str, folder: Path) -> Source:
    """The source for a ledger's URL; ``folder`` is for its passing files."""
    parsed = parse_url(url)
    return SqliteSource(parsed, folder) if parsed.get_backend_name() == "sqlite" else PostgresSource(parsed)


class SqliteSource:
    """Reads a ledger file through ``sqlite3``, which copies rows into a carrier file that ADBC then reads.

    ADBC brings its own copy of SQLite. Two copies in one process must never open the same file: POSIX drops all of a
    process's locks on a file when any descriptor of it is closed, so the first read would let a second writer in beside
    the one of this process (sqlite.org/howtocorrupt.html, 2.2.1). The carrier is nobody else's.
    """

    def __init__(self, url: URL, folder: Path) -> None:
        """Nothing is opened before the first read."""
        self._path = str(url.database)
        self._folder = folder
        self._numbers = itertools.count()
        self._keeping = threading.Lock()
        self._kept: sqlite3.Connection | None = None
        self._kept_at: tuple[int, ...] = ()

    def place(self) -> tuple[int, ...]:
        """Device and inode; nothing while there is no file."""
        with suppress(FileNotFoundError):
            found = Path(self._path).stat()
            return found.st_dev, found.st_ino
        return ()

    def chunks(self, after: Watermark) -> Iterator[Chunk]:
        """Ranges of ids, a few read ahead in parallel."""
        newest = self._newest()
        bounds = [(low, min(low + _PIECE_ROWS, newest)) for low in range(after.id, newest, _PIECE_ROWS)]
        pieces: list[Chunk] = []
        for piece in self._pieces(bounds):
            pieces.append(piece)
            if len(pieces) == CHUNK_ROWS // _PIECE_ROWS:
                yield _joined(pieces)
                pieces.clear()
        if pieces:
            yield _joined(pieces)

    def ends(self, after: Watermark, rows: int) -> Iterator[Watermark]:
        """Every so many ids."""
        yield from (Watermark(0, end) for end in range(after.id + rows, self._newest() + 1, rows))

    def _newest(self) -> int:
        with self._connection() as connection:
            return connection.execute("SELECT max(id) FROM ledger_entries").fetchone()[0] or 0

    def _pieces(self, bounds: Sequence[tuple[int, int]]) -> Iterator[Chunk]:
        if len(bounds) == 1:
            yield self._range(*bounds[0])
            return
        with ThreadPoolExecutor(_READERS) as pool:
            waiting: deque[Future[Chunk]] = deque()
            try:
                for bound in bounds:
                    waiting.append(pool.submit(self._range, *bound))
                    if len(waiting) > 2 * _READERS:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def _range(self, low: int, high: int) -> Chunk:
        if high - low <= _FEW_ROWS:
            with self._connection() as connection:
                cursor = connection.execute(_newest_sql(), (low, high))
                entries = in_columns("facts", [column[0] for column in cursor.description], cursor.fetchall())
        else:
            entries = self._by_carrier({"facts": between(low, high)})["facts"]
        return Chunk(entries, Watermark(0, entries["id"][-1].as_py() if entries.num_rows else low))

    def read(self, statements: Mapping[str, Select[Any]], wanted: Sequence[str] = ()) -> dict[str, pa.Table]:
        """One short read transaction; what turns out to be much goes through a carrier, by another."""
        tables: dict[str, pa.Table] = {}
        with self._connection() as connection:
            connection.execute("BEGIN")
            for name, statement in statements.items():
                cursor = connection.execute(*compiled_for(statement, SQLITE, wanted))
                rows, names = cursor.fetchmany(_FEW_ROWS), [column[0] for column in cursor.description]
                cursor.close()
                if len(rows) == _FEW_ROWS:
                    break
                tables[name] = in_columns(name, names, rows)
            connection.execute("ROLLBACK")
        return tables if len(tables) == len(statements) else self._by_carrier(statements, wanted)

    def _by_carrier(self, statements: Mapping[str, Select[Any]], wanted: Sequence[str] = ()) -> dict[str, pa.Table]:
        carrier = Path(self._folder, f"carrier-{next(self._numbers)}.db")
        try:
            with self._connection() as connection:
                connection.execute("ATTACH ? AS carrier", (f"{carrier.as_uri()}?mode=rwc",))
                connection.execute("PRAGMA carrier.journal_mode=OFF")
                connection.execute("PRAGMA carrier.synchronous=OFF")
                connection.execute("BEGIN")
                for name, statement in statements.items():
                    sql, parameters = compiled_for(statement, SQLITE, wanted)
                    connection.execute(f'CREATE TABLE carrier."{name}" AS {sql}', parameters)
                connection.execute("COMMIT")
                connection.execute("DETACH carrier")
            return _carried(carrier, statements)
        finally:
            carrier.unlink(missing_ok=True)

    def among(self, key: ColumnElement[str]) -> ColumnElement[bool]:
        """The values as one JSON array."""
        return among_sqlite(key, bindparam(WANTED, type_=Text()))

    def within(self, key: ColumnElement[str], values: Sequence[str]) -> ColumnElement[bool]:
        """As :meth:`among`."""
        return within_sqlite(key, values)

    def up_to(self, watermark: Watermark) -> ColumnElement[bool]:
        """By id alone."""
        return ledger_entries.c.id <= watermark.id

    def after(self, watermark: Watermark) -> ColumnElement[bool]:
        """By id alone."""
        return ledger_entries.c.id > watermark.id

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """The connection that is kept, or one for now where another thread has it."""
        if not Path(self._path).exists():
            raise LedgerUnavailable(f"There is no ledger at {self._path}. Create it with: python -m credit_core init")
        try:
            if not self._keeping.acquire(blocking=False):
                with closing(self._open()) as connection:
                    yield connection
                return
            try:
                yield self._kept_connection()
            except BaseException:
                self._let_go()
                raise
            finally:
                self._keeping.release()
        except sqlite3.Error as error:
            raise LedgerUnavailable(
                f"The ledger at {self._path} could not be read: {error}. Create or migrate it with: python -m credit_core init"
            ) from error

    def _kept_connection(self) -> sqlite3.Connection:
        if self._kept is None or self._kept_at != self.place():
            self._let_go()
            self._kept_at, self._kept = self.place(), self._open()
        return self._kept

    def _open(self) -> sqlite3.Connection:
        uri = f"{Path(self._path).resolve().as_uri()}?mode=ro"
        return sqlite3.connect(
            uri, uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_MS / 1_000, check_same_thread=False
        )

    def _let_go(self) -> None:
        if self._kept is not None:
            self._kept.close()
        self._kept = None

    def close(self) -> None:
        """Close the connection."""
        self._let_go()


class _Xid8(UserDefinedType[int]):
    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "xid8"


#: Made by the migration, on PostgreSQL alone.
TX: ColumnElement[Any] = literal_column("ledger_entries.tx", _Xid8())
_ENDED = literal_column("pg_snapshot_xmin(pg_current_snapshot())", _Xid8())


class PostgresSource:
    """Reads a PostgreSQL ledger through ADBC, by the watermark (tx, id)."""

    def __init__(self, url: URL) -> None:
        """Nothing is opened before the first read."""
        self._url = url.set(drivername="postgresql").render_as_string(hide_password=False)
        self._connection: adbc_driver_postgresql.dbapi.Connection | None = None

    def place(self) -> tuple[int, ...]:
        """A server has one place."""
        return ()

    def chunks(self, after: Watermark) -> Iterator[Chunk]:
        """One statement a chunk, until one comes back short."""
        while True:
            statement = entries_where(cast(cast(TX, String), BigInteger).label("tx")).where(*_settled_after(after))
            entries = self.read(
                {"facts": statement.order_by(TX, ledger_entries.c.id).limit(_inline(CHUNK_ROWS, Integer()))}
            )["facts"]
            if entries.num_rows == 0:
                return
            after = Watermark(entries["tx"][-1].as_py(), entries["id"][-1].as_py())
            yield Chunk(entries.drop_columns("tx"), after)
            if entries.num_rows < CHUNK_ROWS:
                return

    def ends(self, after: Watermark, rows: int) -> Iterator[Watermark]:
        """By the index alone."""
        entry = ledger_entries.c
        while True:
            statement = select(cast(cast(TX, String), BigInteger).label("tx"), entry.id).where(*_settled_after(after))
            found = self.read({"facts": statement.order_by(TX, entry.id).offset(rows - 1).limit(1)})[
                "facts"
            ].to_pylist()
            if not found:
                return
            after = Watermark(found[0]["tx"], found[0]["id"])
            yield after

    def read(self, statements: Mapping[str, Select[Any]], wanted: Sequence[str] = ()) -> dict[str, pa.Table]:
        """One read-only transaction; a connection lost since the last read is opened again, once."""
        try:
            return self._read(statements, wanted)
        except adbc_driver_manager.Error:
            self._drop()
        try:
            return self._read(statements, wanted)
        except adbc_driver_manager.Error as error:
            self._drop()
            raise LedgerUnavailable(
                f"The ledger could not be read: {error}. Check the database; then `python -m credit_core init` migrates it."
            ) from error

    def _read(self, statements: Mapping[str, Select[Any]], wanted: Sequence[str]) -> dict[str, pa.Table]:
        if self._connection is None:
            self._connection = adbc_driver_postgresql.dbapi.connect(self._url, autocommit=True)
        tables: dict[str, pa.Table] = {}
        with self._connection.cursor() as cursor:
            cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            for name, statement in statements.items():
                sql, parameters = compiled_for(statement, POSTGRESQL, wanted)
                cursor.execute(sql, parameters or None)
                tables[name] = conformed(name, cursor.fetch_arrow_table())
            cursor.execute("COMMIT")
        return tables

    def among(self, key: ColumnElement[str]) -> ColumnElement[bool]:
        """The values as one JSON array."""
        return among_postgresql(key, bindparam(WANTED, type_=Text()))

    def within(self, key: ColumnElement[str], values: Sequence[str]) -> ColumnElement[bool]:
        """As :meth:`among`."""
        return within_postgresql(key, values)

    def up_to(self, watermark: Watermark) -> ColumnElement[bool]:
        """(tx, id) ≤ watermark: everything below it had ended when it was read."""
        return tuple_(TX, ledger_entries.c.id) <= bound(watermark)

    def after(self, watermark: Watermark) -> ColumnElement[bool]:
        """(tx, id) > watermark, which the index finds."""
        return tuple_(TX, ledger_entries.c.id) > bound(watermark)

    def _drop(self) -> None:
        if self._connection is not None:
            with suppress(adbc_driver_manager.Error):
                self._connection.close()
        self._connection = None

    def close(self) -> None:
        """Close the connection."""
        self._drop()


def _joined(pieces: Sequence[Chunk]) -> Chunk:
    return Chunk(pa.concat_tables([piece.entries for piece in pieces]), pieces[-1].watermark)


def entries_where(*extra: ColumnElement[Any]) -> Select[Any]:
    """The columns of ``ledger_entries`` that are copied."""
    return select(*columns_of(ledger_entries, ENTRY_COLUMNS), *extra)


def between(low: int, high: int) -> Select[Any]:
    """Entries with low < id ≤ high, in order."""
    ids = ledger_entries.c.id
    return entries_where().where(ids > low, ids <= high).order_by(ids)


@cache
def _newest_sql() -> str:
    """The statement of :func:`between`, with both bounds as parameters."""
    return str(between(0, 0).compile(dialect=SQLITE))


def _settled_after(after: Watermark) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return TX < _ENDED, tuple_(TX, ledger_entries.c.id) > bound(after)


def bound(watermark: Watermark) -> ColumnElement[Any]:
    """A watermark to compare (tx, id) with."""
    return tuple_(
        cast(cast(_inline(str(watermark.tx), String()), String), _Xid8()), _inline(watermark.id, BigInteger())
    )


def _inline(value: int | str, kind: TypeEngine[Any]) -> ColumnElement[Any]:
    """A value that SQLAlchemy renders into the statement: ADBC reads by COPY, four times as fast, where nothing is bound."""
    return literal(value, kind, literal_execute=True)


def _carried(carrier: Path, names: Iterable[str]) -> dict[str, pa.Table]:
    with adbc_driver_sqlite.dbapi.connect(str(carrier)) as connection:
        return {name: fetched(connection, name, f'SELECT * FROM "{name}"') for name in names}
