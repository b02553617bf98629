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
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import adbc_driver_manager
import adbc_driver_postgresql.dbapi  # type: ignore[import-untyped]
import adbc_driver_sqlite.dbapi
import psycopg
import pyarrow as pa  # type: ignore[import-untyped]
from sqlalchemy import (
    ColumnElement,
    Integer,
    Select,
    Text,
    bindparam,
    select,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import URL

from credit_core.analytics.few import BEGIN, POSTGRESQL, Ask, PostgresFew, Rows
from credit_core.analytics.packing import packed_after_id, unpacked
from credit_core.analytics.relations import ENTRY_COLUMNS
from credit_core.analytics.statements import (
    WANTED,
    among_postgresql,
    among_sqlite,
    compiled_for,
    conformed,
    fetched,
    in_columns,
    within_postgresql,
    within_sqlite,
)
from credit_core.analytics.watermarks import (
    AFTER_ID,
    AFTER_TX,
    MOST,
    TX,
    TX_NUMBER,
    after_tx,
    between,
    bound,
    entries_where,
    entry_place,
    inline,
    settled_after,
)
from credit_core.errors import LedgerUnavailable
from credit_core.store.engine import BUSY_TIMEOUT_MS, parse_url
from credit_core.store.schema import ledger_entries

#: DuckDB takes whole row groups (122 880 rows) five times faster than parts of them.
CHUNK_ROWS = 245_760
_PIECE_ROWS = 61_440
_READERS = 2
#: So many rows are sooner taken through Python than through a file.
FEW_ROWS = 4_000
SQLITE = sqlite.dialect(paramstyle="qmark")


class Watermark(NamedTuple):
    """The last entry copied. ``tx`` is PostgreSQL's transaction, 0 on SQLite."""

    tx: int
    id: int


class Chunk(NamedTuple):
    """Entries in the order they are copied, and the watermark that goes with them; ``last_hash``: of the last, hex, where it was read."""

    entries: pa.Table
    watermark: Watermark
    last_hash: str | None = None


START = Watermark(0, 0)


class Source(Protocol):
    """A ledger that can be copied."""

    def place(self) -> tuple[int, ...]:
        """Where the ledger lies; another place after a file was replaced."""

    def few(self, after: Watermark, asks: Sequence[Ask] = ()) -> tuple[Chunk | None, list[Rows]]:
        """All entries after a watermark that may be copied now, None where they are not few; and what else is asked, of that instant."""

    def rows(self, asks: Sequence[Ask]) -> list[Rows]:
        """Of each statement its rows, as the database has their values: few, all of one instant. One thread at a time."""

    def chunks(self, after: Watermark) -> Iterator[Chunk]:
        """Every entry after a watermark that may be copied now, in pieces."""

    def ends(self, after: Watermark, rows: int) -> Iterator[Watermark]:
        """Where pieces of so many entries end, of those after a watermark that may be copied now; what is left over is less."""

    def read(self, statements: Mapping[str, Select[Any]]) -> dict[str, pa.Table]:
        """Rows for relations of the copy, by its name, in its types: any number of them, all of one instant."""

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


def entries_after(source: Source, after: Watermark) -> Iterator[Chunk]:
    """Every entry after a watermark that may be copied now, by the way that is the shorter one."""
    few, _ = source.few(after)
    yield from source.chunks(after) if few is None else [few]


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

    def few(self, after: Watermark, asks: Sequence[Ask] = ()) -> tuple[Chunk | None, list[Rows]]:
        """By id alone."""
        found, *others = self.rows([Ask(packed_after_id(), {AFTER_ID: after.id, MOST: FEW_ROWS + 1}), *asks])
        if len(found) > FEW_ROWS:
            return None, others
        entries = unpacked(found)
        return (_chunk(entries, 0, found[-1][-1]) if found else Chunk(entries, after)), others

    def rows(self, asks: Sequence[Ask]) -> list[Rows]:
        """One short read transaction."""
        with self._connection() as connection:
            connection.execute("BEGIN")
            found = [connection.execute(*compiled_for(ask.statement, SQLITE, ask.values)).fetchall() for ask in asks]
            connection.execute("ROLLBACK")
        return found

    def chunks(self, after: Watermark) -> Iterator[Chunk]:
        """Ranges of ids, a few read ahead in parallel."""
        newest = self._newest()
        bounds = [(low, min(low + _PIECE_ROWS, newest)) for low in range(after.id, newest, _PIECE_ROWS)]
        pieces: list[Chunk] = []
        for piece in self._pieces(bounds):
            pieces.append(piece)
            if len(pieces) == CHUNK_ROWS // _PIECE_ROWS:
                yield joined(pieces)
                pieces.clear()
        if pieces:
            yield joined(pieces)

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
        entries = self._by_carrier({"facts": between(low, high)})["facts"]
        return Chunk(entries, Watermark(0, entries["id"][-1].as_py() if entries.num_rows else low))

    def read(self, statements: Mapping[str, Select[Any]]) -> dict[str, pa.Table]:
        """One short read transaction; what turns out to be much goes through a carrier, by another."""
        tables: dict[str, pa.Table] = {}
        with self._connection() as connection:
            connection.execute("BEGIN")
            for name, statement in statements.items():
                cursor = connection.execute(*compiled_for(statement, SQLITE))
                rows, names = cursor.fetchmany(FEW_ROWS), [column[0] for column in cursor.description]
                cursor.close()
                if len(rows) == FEW_ROWS:
                    break
                tables[name] = in_columns(name, names, rows)
            connection.execute("ROLLBACK")
        return tables if len(tables) == len(statements) else self._by_carrier(statements)

    def _by_carrier(self, statements: Mapping[str, Select[Any]]) -> dict[str, pa.Table]:
        carrier = Path(self._folder, f"carrier-{next(self._numbers)}.db")
        try:
            with self._connection() as connection:
                connection.execute("ATTACH ? AS carrier", (f"{carrier.as_uri()}?mode=rwc",))
                connection.execute("PRAGMA carrier.journal_mode=OFF")
                connection.execute("PRAGMA carrier.synchronous=OFF")
                connection.execute("BEGIN")
                for name, statement in statements.items():
                    sql, parameters = compiled_for(statement, SQLITE)
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


class PostgresSource:
    """Reads a PostgreSQL ledger through ADBC, by the watermark (tx, id)."""

    def __init__(self, url: URL) -> None:
        """Nothing is opened before the first read."""
        self._url = url.set(drivername="postgresql").render_as_string(hide_password=False)
        self._connection: adbc_driver_postgresql.dbapi.Connection | None = None
        self._few = PostgresFew(self._url)

    def place(self) -> tuple[int, ...]:
        """A server has one place."""
        return ()

    def few(self, after: Watermark, asks: Sequence[Ask] = ()) -> tuple[Chunk | None, list[Rows]]:
        """By the watermark's index."""
        beyond = {AFTER_TX: str(after.tx), AFTER_ID: after.id, MOST: FEW_ROWS + 1}
        found, *others = self.rows([Ask(after_tx(), beyond), *asks])
        if len(found) > FEW_ROWS:
            return None, others
        entries = in_columns("facts", ENTRY_COLUMNS, found)
        return (_chunk(entries, *found[-1][-2:]) if found else Chunk(entries, after)), others

    def rows(self, asks: Sequence[Ask]) -> list[Rows]:
        """One read-only transaction, in one round trip."""
        try:
            return self._few.rows(asks)
        except psycopg.Error as error:
            raise _unreadable(error) from error

    def chunks(self, after: Watermark) -> Iterator[Chunk]:
        """One statement a chunk, until one comes back short."""
        while True:
            statement = entries_where(TX_NUMBER).where(*settled_after(*after))
            entries = self.read(
                {"facts": statement.order_by(TX, ledger_entries.c.id).limit(inline(CHUNK_ROWS, Integer()))}
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
            statement = select(TX_NUMBER, entry.id).where(*settled_after(*after))
            found = self.read({"facts": statement.order_by(TX, entry.id).offset(rows - 1).limit(1)})[
                "facts"
            ].to_pylist()
            if not found:
                return
            after = Watermark(found[0]["tx"], found[0]["id"])
            yield after

    def read(self, statements: Mapping[str, Select[Any]]) -> dict[str, pa.Table]:
        """One read-only transaction; a connection lost since the last read is opened again, once."""
        try:
            return self._read(statements)
        except adbc_driver_manager.Error:
            self._drop()
        try:
            return self._read(statements)
        except adbc_driver_manager.Error as error:
            self._drop()
            raise _unreadable(error) from error

    def _read(self, statements: Mapping[str, Select[Any]]) -> dict[str, pa.Table]:
        if self._connection is None:
            self._connection = adbc_driver_postgresql.dbapi.connect(self._url, autocommit=True)
        tables: dict[str, pa.Table] = {}
        with self._connection.cursor() as cursor:
            cursor.execute(BEGIN)
            for name, statement in statements.items():
                sql, parameters = compiled_for(statement, POSTGRESQL)
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
        return entry_place() <= bound(*watermark)

    def after(self, watermark: Watermark) -> ColumnElement[bool]:
        """(tx, id) > watermark, which the index finds."""
        return entry_place() > bound(*watermark)

    def _drop(self) -> None:
        if self._connection is not None:
            with suppress(adbc_driver_manager.Error):
                self._connection.close()
        self._connection = None

    def close(self) -> None:
        """Close the connections."""
        self._drop()
        self._few.close()


def _unreadable(error: Exception) -> LedgerUnavailable:
    return LedgerUnavailable(
        f"The ledger could not be read: {error}. Check the database; then `python -m credit_core init` migrates it."
    )


def _chunk(entries: pa.Table, tx: int, last_hash: bytes) -> Chunk:
    return Chunk(entries, Watermark(tx, entries["id"][-1].as_py()), bytes(last_hash).hex())


def joined(pieces: Sequence[Chunk]) -> Chunk:
    """Several in a row as one."""
    return Chunk(pa.concat_tables([piece.entries for piece in pieces]), *pieces[-1][1:])


def _carried(carrier: Path, names: Iterable[str]) -> dict[str, pa.Table]:
    with adbc_driver_sqlite.dbapi.connect(str(carrier)) as connection:
        return {name: fetched(connection, name, f'SELECT * FROM "{name}"') for name in names}
