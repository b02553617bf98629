"""Facts without a ledger: a folder of segments that a generator fills, to measure what reads it.

The manifest says so, and nobody takes such a folder for the copy of a ledger: it is read, never followed.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from credit_core.analytics import counting, relations
from credit_core.analytics import manifest as manifests
from credit_core.analytics.dimensions import BY_ACCOUNT, Dimensions
from credit_core.analytics.filing import GROUP_ROWS, SegmentFile, closed, complete, copy_to, rolled_up, table_schema
from credit_core.analytics.layout import layout_of
from credit_core.analytics.manifest import Lock, Manifest, Segment
from credit_core.analytics.origin import Origin, told
from credit_core.analytics.segments import FILLED_ROWS
from credit_core.analytics.sync import open_database
from credit_core.errors import Conflict


class MadeUpFacts:
    """The writer of such a folder; entries are written in a thread of its own, in the order they are given."""

    def __init__(self, url: str, folder: Path, words: str, memory_limit: str = "384MB") -> None:
        """``url``: the ledger that configuration, catalogue and library are taken from; ``words``: what these facts are.

        Raises :class:`Conflict` where the folder has facts already.
        """
        self._passing = Path(mkdtemp(prefix="titrate-"))
        self.folder = folder
        self._words = words
        self._lock = Lock(folder)
        if manifests.stamp(folder) is not None:
            self._lock.release()
            raise Conflict(f"There are facts in {folder} already. Name another folder with --facts.")
        self._discard()
        self._origin = Origin.open(url, self._passing, None)
        self._zone = self._origin.zone()
        self._database = open_database(None, self._passing, memory_limit, 2)
        self._segments: list[Segment] = []
        self._waiting: list[pa.Table] = []
        self._rows, self._number = 0, 0
        self._file: SegmentFile | None = None
        self._pool = ThreadPoolExecutor(1)
        self._writing: list[Future[None]] = []

    def append(self, entries: pa.Table) -> None:
        """Entries in order of id, each with its ``lot_kind`` and ``unit_price_usd_micro``."""
        self._waiting.append(entries)
        while (rows := sum(map(len, self._waiting))) >= GROUP_ROWS:
            every = pa.concat_tables(self._waiting, promote_options="default")
            whole = rows // GROUP_ROWS * GROUP_ROWS
            self._waiting = [every.slice(whole)]
            self._hand_over(every.slice(0, whole))

    def finish(self, tables: Mapping[str, Iterable[pa.Table]]) -> Manifest:
        """Write what is left and the small tables, by relation, each in pieces; from now on the folder can be read."""
        if self._waiting:
            self._hand_over(pa.concat_tables(self._waiting, promote_options="default"))
        self._pool.submit(self._close).result()
        self._settle(0)
        with told():
            of_ledger, _ = Dimensions(self._origin.source, self._origin.engine, (*BY_ACCOUNT, relations.lots)).changed(
                copied=True
            )
        files: dict[str, tuple[str, ...]] = {
            name: (self._stored(name, [rows, *tables.get(name, ())]),) for name, rows in of_ledger.tables.items()
        }
        made = Manifest(
            layout_of(), self._zone, version=1, id=self._rows, number=self._number, segments=tuple(self._segments),
            tables=files, settled=True, written_at=time.time(), made_up=self._words,
        )  # fmt: skip
        made = counting.completed(made, self.folder, self._database, self._written)
        made = replace(made, number=self._number)
        manifests.write(self.folder, made)
        return made

    def _hand_over(self, entries: pa.Table) -> None:
        self._writing.append(self._pool.submit(self._write, entries))
        self._settle(2)

    def _settle(self, left: int) -> None:
        while len(self._writing) > left:
            self._writing.pop(0).result()

    def _write(self, entries: pa.Table) -> None:
        of_lots = {name: entries[name] for name in ("lot_kind", "unit_price_usd_micro")}
        if self._file is None:
            self._file = SegmentFile(self._path("facts"))
        self._file.add(complete(entries, of_lots, self._zone))
        self._rows += len(entries)
        if self._file.rows >= FILLED_ROWS:
            self._close()

    def _close(self) -> None:
        if self._file is not None:
            with self._file:
                pass
            self._segments.append(closed(self._file, rolled_up(self._database, self._file.path, self._path)))
            self._file = None

    def _stored(self, name: str, pieces: Iterable[pa.Table]) -> str:
        schema = table_schema(relations.metadata.tables[name])
        path = self._path(name)
        with pq.ParquetWriter(path, schema, compression="snappy") as writer:
            for rows in pieces:
                known = {field.name: rows[field.name] for field in schema if field.name in rows.column_names}
                missing = {field.name: pa.nulls(len(rows), field.type) for field in schema if field.name not in known}
                writer.write_table(
                    pa.table({field.name: (known | missing)[field.name] for field in schema}).cast(schema)
                )
        manifests.sync_file(path)
        return path.name

    def _written(self, kind: str, rows: str) -> str:
        path = self._path(kind)
        copy_to(self._database, rows, path)
        return path.name

    def _path(self, kind: str) -> Path:
        self._number += 1
        return self.folder / f"{kind}-{self._number:010d}.parquet"

    def close(self) -> None:
        """Let go of the folder; one that was not finished has no manifest, and the next may fill it."""
        self._pool.shutdown(cancel_futures=True)
        self._database.close()
        self._origin.close()
        if manifests.stamp(self.folder) is None:
            self._discard()
        shutil.rmtree(self._passing, ignore_errors=True)
        self._lock.release()

    def _discard(self) -> None:
        for path in self.folder.glob("*.parquet"):
            path.unlink()
