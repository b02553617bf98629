"""Ledger → facts on disk: immutable Parquet segments and a manifest, written by one process, read by any number.

::

    with Syncer.open("sqlite:///data/ledger.db", Path("data/ledger.facts")) as syncer:
        syncer.follow()  # copies what is new; every entry once, whatever ended the run before

The watermark stands in the manifest that names the segments, so that a run that was killed goes on where the last manifest
was put in place. New entries come as small *open* segments; those of days that are over are sorted into *closed* ones.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from credit_core.analytics import carrying, counting, relations
from credit_core.analytics import manifest as manifests
from credit_core.analytics.dimensions import BY_ACCOUNT, FEW, Dimensions, new_lots
from credit_core.analytics.manifest import ASIDE, NAME, Lock, Manifest, Segment
from credit_core.analytics.origin import Origin, told
from credit_core.analytics.source import Chunk
from credit_core.analytics.sync import LOCAL, Follow, incoming, open_database
from credit_core.units import from_us

#: A backfill writes closed segments of so many rows.
BACKFILL_ROWS = 245_760
#: Fewer rows than this are left open.
LEAST_CLOSED_ROWS = 122_880
#: From so many open rows on, all are closed; from so many open files on, those of days that are over.
MOST_OPEN_ROWS, MOST_OPEN_FILES = 500_000, 128
#: From so many closed segments on that are smaller than a row group, they become one.
MOST_SMALL = 16
#: From so many files of a small table on, they become one.
MOST_PARTS = 128
_SWEPT_EVERY_S = 60.0
#: (share done or 0 where it is not known, words)
Progress = Callable[[float, str], None]
_PARQUET = "FORMAT parquet, COMPRESSION snappy, ROW_GROUP_SIZE 122880"


class Syncer:
    """The one writer of a folder of segments."""

    def __init__(
        self, origin: Origin, folder: Path, lock: Lock, passing: Path, memory_limit: str, threads: int
    ) -> None:
        """Use :meth:`open`."""
        self.folder = folder
        self._origin = origin
        self._lock = lock
        self._passing = passing
        self._database = open_database(None, passing, memory_limit, threads)
        self._manifest: Manifest | None = None
        self._aside = False
        self._dimensions = Dimensions(origin.source, origin.engine, (*BY_ACCOUNT, relations.lots))
        self._swept_at = float("-inf")

    @classmethod
    def open(
        cls, url: str, folder: Path, reporting_zone: str | None = None, memory_limit: str = "384MB", threads: int = 2
    ) -> Syncer:
        """Become the writer of ``folder``, for the ledger at ``url``.

        Raises :class:`Conflict` where another process is, and :class:`LedgerUnavailable` where there is no ledger.
        """
        passing = Path(mkdtemp(prefix="titrate-"))
        try:
            origin = Origin.open(url, passing, reporting_zone)
            lock = Lock(folder)
        except BaseException:
            shutil.rmtree(passing, ignore_errors=True)
            raise
        return cls(origin, folder, lock, passing, memory_limit, threads)

    def __enter__(self) -> Syncer:
        """The syncer itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """As :meth:`close`."""
        self.close()

    def follow(self, *, rebuild: bool = False, progress: Progress = lambda _share, _words: None) -> Follow:
        """Copy everything new. ``rebuild`` makes all of it anew, beside what is there, which is shown meanwhile.

        Raises :class:`LedgerUnavailable`; what was copied before stays usable.
        """
        started = time.perf_counter()
        with told():
            self._origin.renew()
            anew = self._prepare(rebuild)
            rows = 0
            for entries, chunk in self._pieces():
                rows += self._append(entries, chunk)
                progress(0.0, f"{rows} entries")
            if not (rows and self._now.settled):
                self._refresh_dimensions(copied=rows > 0)
            self._compact()
            self._add_up()
            self._finish()
        self._sweep()
        at = self._now
        as_of = None if at.last_us is None else from_us(at.last_us)
        return Follow(rows, at.watermark, time.perf_counter() - started, as_of, at.version, anew)

    @property
    def manifest(self) -> Manifest:
        """What is on disk."""
        return self._now

    def close(self) -> None:
        """Let another process write; files stay."""
        self._database.close()
        self._origin.close()
        shutil.rmtree(self._passing, ignore_errors=True)
        self._lock.release()

    # What there is -----------------------------------------------------------------------------------------------

    @property
    def _now(self) -> Manifest:
        assert self._manifest is not None, "follow() comes first"
        return self._manifest

    def _prepare(self, rebuild: bool) -> bool:
        """Take up the manifest; begin anew where layout, zone or ledger are others. True where that was so."""
        zone, layout = self._origin.zone(), layout_of()
        if self._manifest is None:
            self._take_up(zone, layout)
        at = self._now
        same = at.layout == layout and (at.id == 0 or self._origin.hash_of(at.id) == at.last_hash)
        if same and at.zone == zone and not rebuild:
            return False
        # What is of the same ledger is shown until the new one has caught up.
        self._aside = same and at.entries > 0
        self._manifest = Manifest(layout, zone, at.version, number=at.number)
        self._dimensions.forget()
        if not self._aside:
            self._publish(self._now)
        return True

    def _take_up(self, zone: str, layout: str) -> None:
        there = manifests.read(self.folder) or Manifest(layout, zone)
        begun = manifests.read(self.folder, ASIDE)
        if begun is not None and (begun.layout, begun.zone) == (layout, zone):
            self._aside, there = True, begun
        else:
            (self.folder / ASIDE).unlink(missing_ok=True)
        if not self._whole(there):
            there = Manifest(layout, zone, there.version, number=there.number)
        # Files that no manifest names yet have higher numbers.
        numbers = [int(path.stem.rsplit("-", 1)[1]) for path in self.folder.glob("*-*.parquet")]
        self._manifest = replace(there, number=max([there.number, *numbers]))
        if there.settled:
            self._dimensions.settle(there.tokens)

    def _whole(self, manifest: Manifest) -> bool:
        """Whether every file that was not waited for can be read: a power cut may have left less of it."""
        small = [one.file for one in manifest.segments if not one.closed]
        tables = [files for name, files in manifest.tables.items() if name in relations.metadata.tables]
        for file in (*small, *(file for files in tables for file in files)):
            try:
                pq.read_metadata(self.folder / file)
            except (OSError, pa.ArrowInvalid):
                return False
        return True

    def _publish(self, manifest: Manifest) -> None:
        manifest = replace(manifest, version=manifest.version + 1, written_at=time.time())
        manifests.write(self.folder, manifest, ASIDE if self._aside else NAME)
        before, self._manifest = self._manifest, manifest
        if before is not None:
            manifests.retire(self.folder, before.files() - manifest.files())

    def _finish(self) -> None:
        if self._aside:
            self._aside = False
            before = manifests.read(self.folder)
            if before is not None:
                self._manifest = replace(self._now, version=max(self._now.version, before.version))
            self._publish(self._now)
            (self.folder / ASIDE).unlink(missing_ok=True)
            if before is not None:
                manifests.retire(self.folder, before.files() - self._now.files())

    def _sweep(self) -> None:
        if self._aside or time.monotonic() - self._swept_at < _SWEPT_EVERY_S:
            return
        manifests.sweep(self.folder, self._now.files())
        self._swept_at = time.monotonic()

    # Entries -----------------------------------------------------------------------------------------------------

    def _pieces(self) -> Iterator[tuple[pa.Table, Chunk]]:
        """New entries, many together in a backfill, with the last chunk among them."""
        waiting: list[Chunk] = []
        for chunk in self._origin.source.chunks(self._now.watermark):
            if chunk.entries.num_rows:
                waiting.append(chunk)
            if sum(one.entries.num_rows for one in waiting) >= BACKFILL_ROWS:
                yield pa.concat_tables([one.entries for one in waiting]), chunk
                waiting = []
        if waiting:
            yield pa.concat_tables([one.entries for one in waiting]), waiting[-1]

    def _append(self, entries: pa.Table, chunk: Chunk) -> int:
        tx, last_id = chunk.watermark
        last_hash = self._origin.hash_of(last_id)
        self._dimensions.touch(entries)
        # A tick is published once, together with its accounts, whose lots it needs.
        tick = entries.num_rows < LEAST_CLOSED_ROWS
        lots = self._refresh_dimensions(copied=True, publish=False) if tick else None
        written = self.write(entries, self._lots_of(entries) if lots is None else lots, closed=not tick)
        segments = (*self._now.segments, written)
        self._publish(replace(self._now, tx=tx, id=last_id, last_hash=last_hash, segments=segments, settled=tick))
        return int(entries.num_rows)

    def write(self, entries: pa.Table, lots: pa.Table, *, closed: bool) -> Segment:
        """A segment of these entries, with the day and hour of the reporting zone and what their lots say; not published yet."""
        with incoming(self._database, entries), incoming(self._database, lots, "incoming_lots"):
            names = ", ".join(f'e."{name}"' for name in relations.ENTRY_COLUMNS)
            at = LOCAL.replace("$zone", _quoted(self._now.zone))
            rows = (
                f"SELECT {names}, l.kind AS lot_kind, l.unit_price_usd_micro, CAST({at} AS DATE) AS day, "
                f"CAST(hour({at}) AS SMALLINT) AS hour, CAST(isodow({at}) AS SMALLINT) AS dow "
                "FROM incoming e LEFT JOIN incoming_lots l ON e.lot_id = l.lot_id"
            )
            return self._closed(rows) if closed else self._open(rows)

    def _closed(self, rows: str) -> Segment:
        file = self._file("facts", rows)
        written = f"read_parquet({self._quoted_path(file)})"
        count, first, last = self._one(f"SELECT count(*), min(occurred_at), max(occurred_at) FROM {written}")
        sums = {key: self._file(*what) for key, what in carrying.kept_of(written).items()}
        return Segment(file, count, first, last, True, sums)

    def _open(self, rows: str) -> Segment:
        found = self._database.sql(rows).to_arrow_table()
        span = pc.min_max(found["occurred_at"]).as_py()
        return Segment(self._stored("facts", found), found.num_rows, span["min"], span["max"], False)

    def _lots_of(self, entries: pa.Table) -> pa.Table:
        with incoming(self._database, entries):
            named = self._database.execute("SELECT DISTINCT lot_id FROM incoming WHERE lot_id IS NOT NULL").fetchall()
        if len(named) <= FEW:
            return new_lots(self._origin.source, (row[0] for row in named))
        # A backfill reads them all once, and again those that came since.
        known = self._one("SELECT count(*) FROM duckdb_tables() WHERE table_name = 'known_lots'")[0]
        if not known:
            self._database.execute(relations.create_statement(relations.lots).replace('"lots"', "known_lots"))
        with incoming(self._database, entries):
            unknown = self._database.execute(
                "SELECT DISTINCT lot_id FROM incoming WHERE lot_id IS NOT NULL AND lot_id NOT IN (SELECT lot_id FROM known_lots)"
            ).fetchall()
        with incoming(self._database, new_lots(self._origin.source, (row[0] for row in unknown))):
            self._database.execute(
                "INSERT INTO known_lots SELECT * FROM incoming WHERE lot_id NOT IN (SELECT lot_id FROM known_lots)"
            )
        with incoming(self._database, entries):
            return self._database.sql(
                "SELECT * FROM known_lots WHERE lot_id IN (SELECT lot_id FROM incoming)"
            ).to_arrow_table()

    # Keeping few and large files ---------------------------------------------------------------------------------

    def _compact(self) -> None:
        """Sort what is open into closed segments once its day is over or it is much; make few of many small files."""
        still_open = [one for one in self._now.segments if not one.closed]
        closed = [one for one in self._now.segments if one.closed]
        if sum(one.rows for one in still_open) >= MOST_OPEN_ROWS:
            self._merge(still_open, "TRUE")
        elif len(still_open) >= MOST_OPEN_FILES:
            newest = self._one(f"SELECT max(day) FROM read_parquet({self._paths(still_open)})")[0]
            self._merge(still_open, f"day < DATE '{newest}'")
        small = [one for one in closed if one.rows < LEAST_CLOSED_ROWS]
        if len(small) >= MOST_SMALL:
            self._merge(small, "TRUE")

    def _merge(self, segments: list[Segment], over: str) -> None:
        """One closed segment of the rows that are ``over``, and one open one of the others."""
        rows = f"SELECT * FROM read_parquet({self._paths(segments)}) WHERE"
        made = []
        for condition, made_of in ((over, self._closed), (f"NOT ({over})", self._open)):
            if self._one(f"SELECT count(*) FROM ({rows} {condition})")[0]:
                made.append(made_of(f"{rows} {condition} ORDER BY occurred_at, id"))
        kept = tuple(one for one in self._now.segments if one not in segments)
        self._publish(replace(self._now, segments=(*kept, *made)))

    def _add_up(self) -> None:
        """Roll-ups that a segment of another release lacks, what is carried to weeks' ends, and where accounts stood at days' ends."""
        made = carrying.completed(self._now, self.folder, self._file)
        made = counting.completed(made, self.folder, self._database, self._file)
        if made.segments != self._now.segments or made.tables != self._now.tables:
            self._publish(replace(self._now, segments=made.segments, tables=made.tables))

    # Small tables ------------------------------------------------------------------------------------------------

    def _refresh_dimensions(self, *, copied: bool, publish: bool = True) -> pa.Table | None:
        """Write the small tables that changed; gives the lots of all accounts with new entries where it read just those."""
        self._database.execute("DROP TABLE IF EXISTS known_lots")
        changed, tokens = self._dimensions.changed(copied=copied)
        lots = changed.tables.get(relations.lots.name) if relations.lots.name in changed.partly else None
        if not changed.tables and self._now.settled:
            return lots
        tables = dict(self._now.tables)
        for name, rows in changed.tables.items():
            file = self._stored(name, rows)
            parts = (*tables.get(name, ()), file) if name in changed.partly else (file,)
            tables[name] = self._folded(name, parts) if len(parts) >= MOST_PARTS else parts
        self._dimensions.settle(tokens)
        settled = replace(self._now, tables=tables, tokens=tokens, settled=True)
        if publish:
            self._publish(settled)
        else:
            self._manifest = settled
        return lots

    def _folded(self, name: str, parts: tuple[str, ...]) -> tuple[str, ...]:
        """All parts but the first as one, or all of them where they grew beside it: an account's newest rows count."""
        rows = {file: self._one(f"SELECT count(*) FROM read_parquet({self._quoted_path(file)})")[0] for file in parts}
        whole = sum(rows[file] for file in parts[1:]) * 4 > rows[parts[0]]
        folded = self._file(name, newest_rows(self.folder, parts if whole else parts[1:]))
        return (folded,) if whole else (parts[0], folded)

    # Files -------------------------------------------------------------------------------------------------------

    def _named(self, kind: str) -> str:
        number = self._now.number + 1
        self._manifest = replace(self._now, number=number)
        return f"{kind}-{number:010d}.parquet"

    def _stored(self, kind: str, rows: pa.Table) -> str:
        """A few rows, sooner written than planned, and not waited for: what a power cut damages is found at the next start."""
        name = self._named(kind)
        pq.write_table(rows, self.folder / name)
        return name

    def _file(self, kind: str, rows: str) -> str:
        name = self._named(kind)
        self._database.execute(f"COPY ({rows}) TO {self._quoted_path(name)} ({_PARQUET})")
        manifests.sync_file(self.folder / name)
        return name

    def _quoted_path(self, file: str) -> str:
        return _quoted(str(self.folder / file))

    def _paths(self, segments: list[Segment]) -> str:
        return paths(self.folder, [one.file for one in segments])

    def _one(self, sql: str) -> tuple[Any, ...]:
        row: tuple[Any, ...] = self._database.execute(sql).fetchall()[0]
        return row


@cache
def layout_of() -> str:
    """Changes with the tables' definitions: a copy of another layout is made anew."""
    tables = [relations.create_statement(table) for table in relations.metadata.sorted_tables]
    return hashlib.blake2b(";".join(tables).encode(), digest_size=8).hexdigest()


def newest_rows(folder: Path, parts: tuple[str, ...]) -> str:
    """SQL: of each account the rows of the last file that names it."""
    every = f"read_parquet({paths(folder, parts)}, filename = true)"
    newest = f"SELECT account_id, max(filename) AS filename FROM {every} GROUP BY account_id"
    return f"SELECT p.* EXCLUDE (filename) FROM {every} p JOIN ({newest}) n USING (account_id, filename)"


def paths(folder: Path, files: Any) -> str:
    """A list of files for ``read_parquet``."""
    return "[" + ", ".join(_quoted(str(folder / file)) for file in files) + "]"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
