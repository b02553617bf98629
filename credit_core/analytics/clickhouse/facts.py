"""The columnar copy on a ClickHouse server or cluster, behind the same questions as the embedded one.

::

    loader = ClickHouseFacts.at(ledger_url, "clickhouse://loader@host/titrate?cluster=main", loads=True)
    loader.follow()  # one process loads what is new …
    facts = ClickHouseFacts.at(ledger_url, "clickhouse://reader@host/titrate")
    facts.follow()  # … all others look how far it has come
    facts.frame(select(...))  # any thread

A batch of entries is sent under the next number, and becomes visible when its watermark is written: readers ask for rows
up to the last number they saw. A batch whose watermark was never written is sent again under the same number, and its rows
replace themselves (:mod:`credit_core.analytics.clickhouse.tables`).
"""

from __future__ import annotations

import itertools
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, NamedTuple

import clickhouse_connect
import duckdb
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from sqlalchemy import FromClause, Select, SelectBase, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from credit_core.analytics import manifest, relations
from credit_core.analytics.clickhouse import tables
from credit_core.analytics.clickhouse.dialect import SETTINGS, Query, compiled, written_out
from credit_core.analytics.clickhouse.tables import KEYED, Site
from credit_core.analytics.layout import layout_of
from credit_core.analytics.origin import Origin, told
from credit_core.analytics.relations import ENTRY_COLUMNS
from credit_core.analytics.source import CHUNK_ROWS, START, Chunk, Watermark, entries_after
from credit_core.analytics.statements import columns_of
from credit_core.analytics.sync import Extent, Facts, Follow, Place, incoming
from credit_core.errors import InvalidConfig, InvalidRequest, LedgerUnavailable
from credit_core.settings import ANALYTICS_VARIABLE
from credit_core.store import schema
from credit_core.units import from_us

#: Rows are there for every reader when an insert returns, on all shards and on most replicas of each.
_INSERT = {"async_insert": 0}
_INSERT_ON_CLUSTER = _INSERT | {"distributed_foreground_insert": 1, "insert_quorum": "auto"}
#: A part of a statement that looks at facts too is answered from all shards.
_READ_ON_CLUSTER = {"distributed_product_mode": "global"}
#: (rows sent by now)
Progress = Callable[[int], None]
#: What of a segment's rows is sent: days, hours and weekdays are the server's.
_STORED = [*ENTRY_COLUMNS, "lot_kind", "unit_price_usd_micro"]
_SCHEMES = ("clickhouse", "clickhouses", "chdb")


class _State(NamedTuple):
    """The newest row of ``copy_state``."""

    batch: int = 0
    layout: str | None = None
    zone: str | None = None
    tx: int = START.tx
    id: int = START.id
    last_hash: str | None = None
    first_us: int | None = None
    last_us: int | None = None
    entries: int = 0


class ClickHouseFacts(Facts):
    """The copy of one ledger on ClickHouse. Follow and query from any thread; one process ``loads``, any number read."""

    def __init__(self, origin: Origin, client: Client, site: Site, folder: Path, *, loads: bool) -> None:
        """Use :meth:`at`."""
        super().__init__(origin, duckdb.connect(), folder)
        self._client = client
        self._at = site
        self._loads = loads
        self._seen = _State()
        self._insert = _INSERT if site.cluster is None else _INSERT_ON_CLUSTER

    @classmethod
    def at(cls, url: str, at: str, reporting_zone: str | None = None, *, loads: bool = False) -> ClickHouseFacts:
        """Open the copy of the ledger at ``url`` that stands at ``at``: ``clickhouse://user:password@host:port/database?cluster=name``
        (``clickhouses`` over TLS), or ``chdb://memory/database``, ClickHouse inside this process.

        ``loads``: :meth:`follow` copies what is new; else it only looks how far the loader has come. Raises
        :class:`InvalidConfig`, and :class:`LedgerUnavailable` where there is no ledger or no server.
        """
        client, site = open_client(at, create=loads)
        folder = Path(mkdtemp(prefix="titrate-"))
        try:
            origin = Origin.open(url, folder, reporting_zone)
        except BaseException:
            client.close()
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return cls(origin, client, site, folder, loads=loads)

    def shared(self, statement: Select[Any], *, lasting: bool = False) -> FromClause:
        """Asked within each question that rests on it."""
        # One may rest on another, so each has a name of its own.
        return statement.subquery()

    def follow(self, progress: Progress = lambda _rows: None) -> Follow:
        """Copy everything new, or see what the loader has copied; ``progress`` is told how many rows were sent by now.

        Raises :class:`LedgerUnavailable`; what was seen before stays usable.
        """
        with self._lock:
            started, seen, before, rebuilt = time.perf_counter(), self._seen.batch, self._seen, False
            self._origin.renew()
            with told(), asked(self._at):
                state = self._newest()
                if self._loads:
                    before, rebuilt = self._prepare_tables(state)
                    state = self._load_new(before, progress)
            self._see(state)
            if state.batch != seen:
                self.version += 1
            rows = max(0, state.entries - before.entries)
            as_of = None if state.last_us is None else from_us(state.last_us)
            watermark = Watermark(state.tx, state.id)
            return Follow(rows, watermark, time.perf_counter() - started, as_of, self.version, rebuilt)

    # Reading -----------------------------------------------------------------------------------------------------

    def rows(self, statement: SelectBase) -> list[tuple[Any, ...]]:
        """The result as tuples, integers exact."""
        found = self._arrow(statement)
        return list(zip(*(column.to_pylist() for column in found.columns), strict=True))

    def told(self, statement: SelectBase) -> str:
        """A statement in ClickHouse's words with the settings it is asked under, its values written out."""
        return written_out(statement)

    def reader(self, statement: SelectBase, batch_rows: int = 20_000) -> pa.RecordBatchReader:
        """The result as a stream of Arrow batches, of one instant however long the reading takes."""
        query = compiled(statement)
        with asked(self._at):
            batches = self._batches(query, self._settings() | {"max_block_size": batch_rows})
            first = next(batches, None)
        if first is None:
            return self._arrow(statement).to_reader()
        return pa.RecordBatchReader.from_batches(first.schema, itertools.chain((first,), batches))

    def _batches(self, query: Query, settings: dict[str, Any]) -> Iterator[pa.RecordBatch]:
        with self._client.query_arrow_stream(query.sql, query.parameters, settings) as blocks:
            for block in blocks:
                yield from _conformed(pa.Table.from_batches([block]), query).to_batches()

    @property
    def place(self) -> Place:
        """The database, and whether this process is its loader."""
        return Place(None, self._loads, 0, 0, self._at.database)

    def close(self) -> None:
        """Give back connections and files; the copy stays."""
        super().close()
        self._client.close()

    def _fetched(self, statement: SelectBase, *_: Any) -> pd.DataFrame:
        rows = self._arrow(statement)
        # By way of DuckDB, so that a page gets the same kinds of columns from either copy.
        with self._database.cursor() as cursor, incoming(cursor, rows):
            return cursor.execute("SELECT * FROM incoming").df()

    def _arrow(self, statement: SelectBase) -> pa.Table:
        query = compiled(statement)
        with asked(self._at):
            return _conformed(self._client.query_arrow(query.sql, query.parameters, self._settings()), query)

    def _settings(self) -> dict[str, Any]:
        more = {} if self._at.cluster is None else _READ_ON_CLUSTER
        return SETTINGS | more | {"additional_table_filters": tables.visible(self._at, self._seen.batch)}

    def _see(self, state: _State) -> None:
        self._seen = state
        self.zone = state.zone or self.zone
        self.extent = Extent(state.first_us, state.last_us, state.entries)

    def _newest(self) -> _State:
        """How far the loader has come; the beginning where there is no copy yet."""
        there = {name for (name,) in self._client.query(f"SHOW TABLES FROM {self._at.name}").result_rows}
        if tables.STATE in there:
            found = self._client.query(
                f"SELECT {', '.join(_State._fields)} FROM {self._at.table(tables.STATE)} FINAL ORDER BY batch DESC LIMIT 1"
            ).result_rows
            return _State(*found[0]) if found else _State()
        if not self._loads:
            raise LedgerUnavailable(
                f"There is no copy in {self._at.database} yet. Start the loader: python -m credit_core clickhouse --follow"
            )
        if there:
            raise InvalidConfig([
                f"The database {self._at.database} holds tables of others ({', '.join(sorted(there)[:3])}). "
                f"Name one in {ANALYTICS_VARIABLE} that is empty, or not there yet."
            ])  # fmt: skip
        return _State()

    # Loading -----------------------------------------------------------------------------------------------------

    def load_segments(self, folder: Path, progress: Progress = lambda _rows: None) -> int:
        """Begin the copy with the entries of segments on disk, which the ledger then need not be read for; returns how many.

        :meth:`follow` goes on where they end. Raises :class:`InvalidRequest` where they are of another ledger or release,
        and where the copy has begun.
        """
        found = manifest.read(folder)
        if found is None or found.layout != layout_of():
            raise InvalidRequest(f"{folder} has no segments of this release. Make them: python -m credit_core sync")
        if found.begins_us is not None:
            raise InvalidRequest(
                f"The segments in {folder} keep {found.keep_days} days alone. Begin with those of --keep-days 0."
            )
        with self._lock, told(), asked(self._at):
            if found.last_hash != self._origin.hash_of(found.id):
                raise InvalidRequest(f"The segments in {folder} are of another ledger. Name the folder of this one.")
            state, _ = self._prepare_tables(self._newest())
            if state.id:
                raise InvalidRequest(
                    "The copy has begun already. Go on with: python -m credit_core clickhouse --follow"
                )
            for file in found.tables.get(relations.lots.name, ()):
                self._send(relations.lots.name, pq.read_table(folder / file))
            rows = 0
            for segment in found.segments:
                for entries in pq.ParquetFile(folder / segment.file).iter_batches(CHUNK_ROWS, columns=_STORED):
                    self._send_facts(pa.Table.from_batches([entries]), state.batch + 1)
                    rows += entries.num_rows
                    progress(rows)
            self._commit(
                state._replace(
                    batch=state.batch + 1, tx=found.tx, id=found.id, last_hash=found.last_hash, first_us=found.first_us,
                    last_us=found.last_us, entries=found.entries,
                )
            )  # fmt: skip
        return rows

    def _prepare_tables(self, state: _State) -> tuple[_State, bool]:
        """Make the tables; make them anew where they are of another layout, zone or ledger. True where that was so."""
        zone = self._origin.zone()
        statements = tables.create_statements(self._at, zone)
        layout = tables.layout_of(statements)
        if state.layout == layout and (state.id == 0 or self._origin.hash_of(state.id) == state.last_hash):
            return state, False
        for statement in (*tables.drop_statements(self._at), *statements):
            self._client.command(statement)
        self._dimensions.forget()
        # Numbers go on: to who still reads by the last one, the new copy is empty until its next follow.
        return self._commit(_State(state.batch + 1, layout, zone)), state.batch > 0

    def _load_new(self, state: _State, progress: Progress) -> _State:
        """Every batch that there is to send, then the small tables, which a number of its own tells of."""
        before = state.entries
        for chunk in entries_after(self._source, Watermark(state.tx, state.id)):
            if not chunk.entries.num_rows:
                break
            state = self._load(state, chunk)
            progress(state.entries - before)
        if self._refresh_dimensions(copied=state.entries > before):
            state = self._commit(state._replace(batch=state.batch + 1))
        return state

    def _load(self, state: _State, chunk: Chunk) -> _State:
        """Send one batch, then its watermark."""
        entries = chunk.entries
        lots = self._lots_of(entries)
        batch = state.batch + 1
        self._send(relations.lots.name, lots)
        self._send_facts(_with_lots(entries, lots), batch)
        bounds = pc.min_max(entries["occurred_at"]).as_py()
        known = [us for us in (state.first_us, state.last_us) if us is not None]
        self._dimensions.touch(entries)
        return self._commit(
            state._replace(
                batch=batch, tx=chunk.watermark.tx, id=chunk.watermark.id,
                last_hash=chunk.last_hash or self._origin.hash_of(chunk.watermark.id),
                first_us=min([bounds["min"], *known]), last_us=max([bounds["max"], *known]),
                entries=state.entries + entries.num_rows,
            )
        )  # fmt: skip

    def _commit(self, state: _State) -> _State:
        """Write the state that makes its batch visible."""
        table = self._at.table(tables.STATE)
        self._client.insert(table, [tuple(state)], column_names=state._fields, settings=self._insert)
        forget = tables.forget_statement(self._at, state.batch)
        if forget is not None:
            self._client.command(forget)
        return state

    def _lots_of(self, entries: pa.Table) -> pa.Table:
        named = pc.unique(entries["lot_id"].drop_null()).to_pylist()
        statement = select(*columns_of(schema.lots, relations.lots.columns.keys()))
        return self._source.read({"lots": statement.where(self._source.within(schema.lots.c.lot_id, named))})["lots"]

    def _refresh_dimensions(self, *, copied: bool) -> bool:
        """Send the rows of accounts that have new entries, and the small tables that changed."""
        changed, tokens = self._dimensions.changed(copied=copied)
        for name, rows in changed.tables.items():
            if name in KEYED or name in changed.added:
                self._send(name, rows)
            else:
                self._replace(name, rows)
        self._dimensions.settle(tokens)
        return bool(changed.tables)

    def _send_facts(self, entries: pa.Table, batch: int) -> None:
        number = pa.repeat(pa.scalar(batch, pa.int64()), entries.num_rows)
        self._send(relations.facts.name, entries.append_column("batch", number))

    def _send(self, name: str, rows: pa.Table) -> None:
        if rows.num_rows:
            self._client.insert_arrow(self._at.table(name), rows, settings=self._insert)

    def _replace(self, name: str, rows: pa.Table) -> None:
        if rows.num_rows == 0:
            self._client.command(tables.empty_statement(self._at, name))
            return
        self._client.command(tables.empty_statement(self._at, tables.incoming(name)))
        self._send(tables.incoming(name), rows)
        self._client.command(tables.replace_statement(self._at, name))


def site_of(at: str) -> tuple[URL, Site]:
    """What a URL as :meth:`ClickHouseFacts.at` takes it says. Raises :class:`InvalidConfig`."""
    try:
        url = make_url(at)
    except ArgumentError:
        url = None
    if url is None or url.drivername not in _SCHEMES:
        raise InvalidConfig([
            f"{ANALYTICS_VARIABLE} is none of clickhouse://user:password@host:8123/database?cluster=name, clickhouses:// over TLS, "
            "chdb://memory/database. Unset it to read a copy on this machine."
        ])  # fmt: skip
    unknown = sorted(set(url.query) - {"cluster"})
    if unknown:
        raise InvalidConfig([f"{ANALYTICS_VARIABLE} has {', '.join(unknown)}. After the ? only cluster=name is known."])
    cluster = url.query.get("cluster")
    return url, Site(url.database or "titrate", None if cluster is None else str(cluster))


def open_client(at: str, *, create: bool = False) -> tuple[Client, Site]:
    """A client for such a URL; ``create`` makes the database where there is none."""
    url, site = site_of(at)
    with asked(site):
        if url.drivername == "chdb":
            client = clickhouse_connect.get_client(interface="chdb")
        else:
            client = clickhouse_connect.get_client(
                host=url.host or "localhost", port=url.port, username=url.username, password=url.password or "",
                secure=url.drivername == "clickhouses", autogenerate_session_id=False,
            )  # fmt: skip
        if create:
            client.command(f"CREATE DATABASE IF NOT EXISTS {site.name}{site.everywhere}")
        client.database = site.database
    return client, site


@contextmanager
def asked(site: Site) -> Iterator[None]:
    """Say in our own errors what the server says in its."""
    try:
        yield
    except (ClickHouseError, OSError) as error:
        raise LedgerUnavailable(
            f"ClickHouse could not be asked (database {site.database}): {error}. Check the server and {ANALYTICS_VARIABLE}."
        ) from error


def _with_lots(entries: pa.Table, lots: pa.Table) -> pa.Table:
    """The entries with kind and price of the lot each one moves."""
    where = pc.index_in(entries["lot_id"], value_set=lots["lot_id"])
    kind, price = (lots[name].combine_chunks().take(where) for name in ("kind", "unit_price_usd_micro"))
    return entries.append_column("lot_kind", kind).append_column("unit_price_usd_micro", price)


def _conformed(rows: pa.Table, query: Query) -> pa.Table:
    """The columns by the statement's own names, whole numbers signed, conditions true or false."""
    fields = [
        pa.field(
            name, pa.bool_() if name in query.flags else pa.int64() if pa.types.is_unsigned_integer(kind) else kind
        )
        for name, kind in zip(query.names, rows.schema.types, strict=True)
    ]
    return rows.rename_columns(list(query.names)).cast(pa.schema(fields))
