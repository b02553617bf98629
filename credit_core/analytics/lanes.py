"""A ledger read in bulk, straight from ADBC, by a process that has no other connection to it.

Two copies of SQLite in one process must never open the same file (:class:`credit_core.analytics.source.SqliteSource`); in a
process of its own ADBC may, and takes half the time of the way through a carrier.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import adbc_driver_postgresql.dbapi  # type: ignore[import-untyped]
import adbc_driver_sqlite.dbapi
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
from sqlalchemy import ColumnElement, Select, func, literal_column, select

from credit_core.analytics import relations
from credit_core.analytics.few import POSTGRESQL
from credit_core.analytics.relations import ENTRY_COLUMNS
from credit_core.analytics.source import SQLITE, Watermark
from credit_core.analytics.statements import (
    columns_of,
    compiled_for,
    conformed,
    fetched,
    within_postgresql,
    within_sqlite,
)
from credit_core.analytics.watermarks import TX, between, bound, entries_where, entry_place
from credit_core.store.engine import BUSY_TIMEOUT_MS, parse_url
from credit_core.store.schema import ledger_entries, lots

#: Texts of few different values. They are handed over as one column: ADBC's time goes by the number of columns.
FEW_VALUES = (
    "kind", "plan", "region", "modality", "model", "genre", "mood", "arm", "quota_policy", "status", "outcome", "rule", "mode",
    "limit_name", "actor", "reason",
)  # fmt: skip
#: Of a stream of rows from PostgreSQL, about so many come at once.
BATCH_BYTES = 16 << 20
_BATCH_BYTES = "adbc.postgresql.batch_size_hint_bytes"
#: Between them, and where one is missing; neither stands in a text of the ledger, which refuses control characters.
_BETWEEN, _MISSING = 31, 30


def _packed(between: ColumnElement[str], missing: ColumnElement[str]) -> list[ColumnElement[Any]]:
    few = (func.coalesce(ledger_entries.c[name], missing) for name in FEW_VALUES)
    others = columns_of(ledger_entries, [name for name in ENTRY_COLUMNS if name not in FEW_VALUES])
    return [*others, func.concat_ws(between, *few).label("packed")]


_OF_SQLITE = _packed(func.char(_BETWEEN), func.char(_MISSING))
# Nothing is bound, so that ADBC reads by COPY.
_OF_POSTGRESQL = _packed(literal_column(f"chr({_BETWEEN})"), literal_column(f"chr({_MISSING})"))
_LOTS = select(*columns_of(lots, relations.lots.columns.keys()))


class Lane(Protocol):
    """One connection to a ledger."""

    def entries(self, after: Watermark, up_to: Watermark, rows: int) -> Iterator[pa.Table]:
        """The entries of a range that may be copied, so many at a time, in order."""

    def lots(self, named: Sequence[str]) -> pa.Table:
        """These lots as the copy has them."""

    def close(self) -> None:
        """Give back the connection."""


def open_lane(url: str) -> Lane:
    """The lane for a ledger's URL."""
    if parse_url(url).get_backend_name() == "sqlite":
        return SqliteLane(opened(url))
    return PostgresLane(url)


def opened(url: str) -> Any:
    """An ADBC connection that reads; nothing else of the process may have a SQLite file open."""
    parsed = parse_url(url)
    if parsed.get_backend_name() != "sqlite":
        plain = parsed.set(drivername="postgresql").render_as_string(hide_password=False)
        return adbc_driver_postgresql.dbapi.connect(plain, autocommit=True)
    path = Path(str(parsed.database)).resolve()
    connection = adbc_driver_sqlite.dbapi.connect(f"{path.as_uri()}?mode=ro", autocommit=True)
    with connection.cursor() as cursor:
        cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    return connection


class SqliteLane:
    """Ranges of ids, each read at once."""

    def __init__(self, connection: Any) -> None:
        """On a connection of its own."""
        self._connection = connection

    def entries(self, after: Watermark, up_to: Watermark, rows: int) -> Iterator[pa.Table]:
        """As :class:`Lane` says."""
        for low in range(after.id, up_to.id, rows):
            piece = between(low, min(low + rows, up_to.id))
            found = unpacked(self._read("facts", piece.with_only_columns(*_OF_SQLITE)))
            yield self._read("facts", piece) if found is None else found

    def lots(self, named: Sequence[str]) -> pa.Table:
        """As :class:`Lane` says."""
        return self._read("lots", _LOTS.where(within_sqlite(lots.c.lot_id, named)))

    def _read(self, name: str, statement: Select[Any]) -> pa.Table:
        return fetched(self._connection, name, *compiled_for(statement, SQLITE))

    def close(self) -> None:
        """As :class:`Lane` says."""
        self._connection.close()


class PostgresLane:
    """One statement for a range, whose rows come as a stream."""

    def __init__(self, url: str) -> None:
        """Connect, twice: while rows come as a stream, their connection takes no other statement."""
        self._url = url
        self._connection, self._beside = opened(url), opened(url)

    def entries(self, after: Watermark, up_to: Watermark, rows: int) -> Iterator[pa.Table]:
        """As :class:`Lane` says."""
        within = entry_place() > bound(*after), entry_place() <= bound(*up_to)
        wanted = entries_where().where(*within).order_by(TX, ledger_entries.c.id)
        given = 0
        for piece in self._stream(wanted.with_only_columns(*_OF_POSTGRESQL), rows, unpacked):
            if piece is None:
                break
            given += 1
            yield piece
        else:
            return
        self._connection.close()
        self._connection = opened(self._url)
        plain = self._stream(wanted, rows, lambda found: found)
        yield from (piece for piece in islice(plain, given, None) if piece is not None)

    def _stream(
        self, wanted: Select[Any], rows: int, taken: Callable[[pa.Table], pa.Table | None]
    ) -> Iterator[pa.Table | None]:
        """Pieces of so many rows as ``taken`` has them; None, and no more, where it has not."""
        with self._connection.cursor(adbc_stmt_kwargs={_BATCH_BYTES: BATCH_BYTES}) as cursor:
            cursor.execute(compiled_for(wanted, POSTGRESQL)[0])
            waiting: list[pa.Table] = []
            for batch in cursor.fetch_record_batch():
                if (found := taken(conformed("facts", pa.Table.from_batches([batch])))) is None:
                    yield None
                    return
                waiting.append(found)
                while sum(map(len, waiting)) >= rows:
                    whole = pa.concat_tables(waiting).unify_dictionaries()
                    yield whole.slice(0, rows)
                    waiting = [whole.slice(rows)]
            if any(map(len, waiting)):
                yield pa.concat_tables(waiting).unify_dictionaries()

    def lots(self, named: Sequence[str]) -> pa.Table:
        """As :class:`Lane` says."""
        sql, parameters = compiled_for(_LOTS.where(within_postgresql(lots.c.lot_id, named)), POSTGRESQL)
        with self._beside.cursor() as cursor:
            cursor.execute(sql, parameters)
            return conformed("lots", cursor.fetch_arrow_table())

    def close(self) -> None:
        """As :class:`Lane` says."""
        self._beside.close()
        self._connection.close()


def unpacked(rows: pa.Table) -> pa.Table | None:
    """The rows with their texts in columns of their own, by dictionary; None where a text has control characters after all."""
    packed = rows["packed"].combine_chunks().dictionary_encode()
    parts = pc.split_pattern(packed.dictionary, chr(_BETWEEN))
    lengths = pc.min_max(pc.list_value_length(parts)).as_py()
    if len(rows) and set(lengths.values()) != {len(FEW_VALUES)}:
        return None
    for place, name in enumerate(FEW_VALUES):
        values = pc.list_element(parts, place) if len(rows) else pa.array([], pa.string())
        missing = pc.equal(values, chr(_MISSING))
        own = pc.replace_with_mask(values, missing, pa.scalar(None, pa.string())).dictionary_encode()
        codes = own.indices.take(packed.indices)
        rows = rows.append_column(name, pa.DictionaryArray.from_arrays(codes, own.dictionary))
    return rows.select(ENTRY_COLUMNS)
