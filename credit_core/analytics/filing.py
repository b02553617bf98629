"""Closed segments as files: entries in the columns of ``facts``, row group by row group, and the roll-ups beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

import duckdb
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from sqlalchemy import Date, SmallInteger, Table

from credit_core.analytics import forced, relations, rollups, spells, subsets
from credit_core.analytics import manifest as manifests
from credit_core.analytics.lanes import FEW_VALUES
from credit_core.analytics.local_clock import local_clock
from credit_core.analytics.manifest import Segment
from credit_core.analytics.statements import ARROW

#: DuckDB skips and spreads whole row groups of this size.
GROUP_ROWS = 122_880
#: How DuckDB writes them.
PARQUET = f"FORMAT parquet, COMPRESSION snappy, ROW_GROUP_SIZE {GROUP_ROWS}"
#: Of files that have their rows in steps, of which a question reads few.
_IN_STEPS = PARQUET.replace(str(GROUP_ROWS), "8192")
_TYPES = {**ARROW, Date: pa.date32(), SmallInteger: pa.int16()}


def table_schema(table: Table) -> pa.Schema:
    """A table of the copy as Arrow has it."""
    return pa.schema([pa.field(column.name, _TYPES[type(column.type)]) for column in table.columns])


#: Texts of few different values go by dictionary; in the file they are texts.
SCHEMA = pa.schema([
    pa.field(field.name, pa.dictionary(pa.int32(), pa.string())) if field.name in (*FEW_VALUES, "lot_kind") else field
    for field in table_schema(relations.facts)
])  # fmt: skip
#: Columns of which nearly every row is another: a dictionary of them is made and thrown away.
_DISTINCT = frozenset({"id", "seq", "leg_id", "request_id", "occurred_at", "recorded_at"})
_REPEATED = [field.name for field in SCHEMA if field.name not in _DISTINCT and not pa.types.is_floating(field.type)]

#: Columns by whose bounds row groups are passed over.
_BOUNDED = ["id", "occurred_at", "day"]


def complete(entries: pa.Table, of_lots: Mapping[str, Any], zone: str) -> pa.Table:
    """The entries in the columns of ``facts``, with day, hour and weekday in ``zone``; what they do not have is missing.

    ``of_lots``: what their lots say (:func:`lot_columns`).
    """
    known = dict(zip(entries.column_names, entries.columns, strict=True)) | dict(of_lots)
    known |= local_clock(entries["occurred_at"], zone)
    columns = [
        known[name] if name in known else pa.nulls(len(entries), SCHEMA.field(name).type) for name in SCHEMA.names
    ]
    return pa.table(columns, names=SCHEMA.names).cast(SCHEMA)


def lot_columns(entries: pa.Table, lots: pa.Table) -> dict[str, Any]:
    """Kind and price of each entry's lot; ``lots`` has all that they name, once each."""
    named = entries["lot_id"].combine_chunks().dictionary_encode()
    place = pc.index_in(named.dictionary, value_set=lots["lot_id"]).take(named.indices)
    return {"lot_kind": lots["kind"].take(place), "unit_price_usd_micro": lots["unit_price_usd_micro"].take(place)}


class SegmentFile:
    """A closed segment in the making: rows come piece by piece, in memory stays one piece."""

    def __init__(self, path: Path) -> None:
        """``path`` must not exist."""
        self.path = path
        self.rows = 0
        self.first_us: int | None = None
        self.last_us: int | None = None
        self._waiting: list[pa.Table] = []
        self._writer = pq.ParquetWriter(
            path, SCHEMA, compression="snappy", use_dictionary=_REPEATED, write_statistics=_BOUNDED, store_schema=False
        )

    def __enter__(self) -> SegmentFile:
        """The file itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Have it on disk; nothing stays of one that failed."""
        if self._waiting and kind is None:
            self._writer.write_table(pa.concat_tables(self._waiting).unify_dictionaries(), row_group_size=GROUP_ROWS)
        self._writer.close()
        if kind is None:
            manifests.sync_file(self.path)
        else:
            self.path.unlink(missing_ok=True)

    def add(self, rows: pa.Table) -> None:
        """Rows of ``facts``, of any number."""
        if not rows.num_rows:
            return
        span = pc.min_max(rows["occurred_at"]).as_py()
        self.first_us = span["min"] if self.first_us is None else min(self.first_us, span["min"])
        self.last_us = span["max"] if self.last_us is None else max(self.last_us, span["max"])
        self.rows += rows.num_rows
        self._waiting.append(rows)
        if sum(map(len, self._waiting)) >= GROUP_ROWS:
            every = pa.concat_tables(self._waiting).unify_dictionaries()
            whole = len(every) // GROUP_ROWS * GROUP_ROWS
            self._writer.write_table(every.slice(0, whole), row_group_size=GROUP_ROWS)
            self._waiting = [every.slice(whole)] if whole < len(every) else []


def kept_of(entries: str) -> dict[str, tuple[str, str]]:
    """What a closed segment keeps beside its entries: key → kind of file and SQL of its rows over a relation like ``facts``."""
    sums = {one.key: (f"rollup-{one.name}", one.made_from(entries)) for one in rollups.ROLLUPS}
    rows = {one.key: (one.table, one.filed_from(entries)) for one in subsets.SUBSETS}
    return sums | rows | {apart.key(): (apart.NAME, apart.made_from(entries)) for apart in (spells, forced)}


@cache
def kept_keys() -> frozenset[str]:
    """The keys of :func:`kept_of`."""
    return frozenset(kept_of(relations.facts.name))


def rolled_up(
    database: duckdb.DuckDBPyConnection, path: Path, file_of: Callable[[str], Path], there: Sequence[str] = ()
) -> dict[str, Path]:
    """Write what is kept beside a segment and not ``there``, on disk when it returns; ``file_of`` names the file of each kind."""
    made = {}
    for key, (kind, rows) in kept_of(f"read_parquet({quoted(str(path))})").items():
        if key not in there:
            made[key] = file_of(kind)
            copy_to(database, rows, made[key])
    return made


def copy_to(database: duckdb.DuckDBPyConnection, rows: str, path: Path) -> None:
    """Have the rows of a statement in a file on disk."""
    in_steps = path.name.startswith(tuple(f"{one.table}-" for one in subsets.SUBSETS if one.step is not None))
    database.execute(f"COPY ({rows}) TO {quoted(str(path))} ({_IN_STEPS if in_steps else PARQUET})")
    manifests.sync_file(path)


def paged(path: Path, table: Table, pages: Iterable[pa.Table]) -> str:
    """Have the pages of a small table, which may be large, in a file on disk: never all of it in memory."""
    with pq.ParquetWriter(path, table_schema(table)) as writer:
        for rows in pages:
            writer.write_table(rows.cast(writer.schema))
    manifests.sync_file(path)
    return path.name


def closed(file: SegmentFile, sums: dict[str, Path]) -> Segment:
    """What a manifest says of a written segment."""
    assert file.first_us is not None, "a segment has rows"
    assert file.last_us is not None, "a segment has rows"
    names = {name: path.name for name, path in sums.items()}
    return Segment(file.path.name, file.rows, file.first_us, file.last_us, True, names)


def newest_rows(folder: Path, parts: Sequence[str], among: str = "TRUE", key: str = "account_id") -> str:
    """SQL: of each account (or other ``key``) ``among`` those the rows of the last file that names it."""
    if len(parts) == 1:
        return f"SELECT * FROM read_parquet({paths(folder, parts)}) WHERE {among}"
    every = f"read_parquet({paths(folder, parts)}, filename = true)"
    newest = f"SELECT {key}, max(filename) AS filename FROM {every} WHERE {among} GROUP BY {key}"
    return f"SELECT p.* EXCLUDE (filename) FROM {every} p JOIN ({newest}) n USING ({key}, filename)"


def folded(folder: Path, parts: Sequence[str], key: str | None) -> tuple[str, bool]:
    """SQL of all parts but the first as one, and False; of all of them, and True, where they grew beside it, or no ``key`` is theirs."""
    if key is None:
        return f"SELECT * FROM read_parquet({paths(folder, parts)})", True
    rows = {file: pq.read_metadata(folder / file).num_rows for file in parts}
    whole = sum(rows[file] for file in parts[1:]) * 4 > rows[parts[0]]
    return newest_rows(folder, parts if whole else parts[1:], key=key), whole


def paths(folder: Path, files: Sequence[str]) -> str:
    """A list of files for ``read_parquet``."""
    return "[" + ", ".join(quoted(str(folder / file)) for file in files) + "]"


def quoted(text: str) -> str:
    """Text as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"
