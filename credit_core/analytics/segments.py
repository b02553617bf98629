"""Ledger → facts on disk: immutable Parquet segments and a manifest, written by one process, read by any number.

::

    with Syncer.open("sqlite:///data/ledger.db", Path("data/ledger.facts")) as syncer:
        syncer.follow()  # copies what is new; every entry once, whatever ended the run before

The watermark stands in the manifest that names the segments, so that a run that was killed goes on where the last manifest
was put in place. New entries come as small *open* segments; those of days that are over are sorted into *closed* ones.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from credit_core.analytics import counting, relations
from credit_core.analytics import manifest as manifests
from credit_core.analytics.carrying import last_whole_day
from credit_core.analytics.dimensions import BY_ACCOUNT, WHOLE, Dimensions, key_of, lots_named
from credit_core.analytics.filing import (
    SegmentFile,
    closed,
    complete,
    copy_to,
    folded,
    lot_columns,
    paged,
    paths,
    quoted,
    rolled_up,
)
from credit_core.analytics.filling import Fillers, Terms, lacking
from credit_core.analytics.layout import layout_of
from credit_core.analytics.manifest import ASIDE, NAME, Lock, Manifest, Segment
from credit_core.analytics.origin import Origin, told
from credit_core.analytics.retention import Aside, begins_us, clock, openings_of, retained
from credit_core.analytics.source import START, Chunk, Watermark, joined
from credit_core.analytics.sync import Follow, open_database
from credit_core.errors import Conflict
from credit_core.units import from_us

#: A long backfill writes closed segments of so many rows, by processes of their own; it is long from so many of them on.
FILLED_ROWS, FILLED_SEGMENTS = 983_040, 2
FILLERS = 2
#: A shorter one writes closed segments of so many, which lie in memory meanwhile.
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
#: Rows of a small table in hand at once where all of it is read.
PAGE_ROWS = 100_000
#: (share done or 0 where it is not known, words)
Progress = Callable[[float, str], None]


class Syncer:
    """The one writer of a folder of segments."""

    def __init__(
        self, url: str, origin: Origin, folder: Path, lock: Lock, passing: Path, memory_limit: str, threads: int
    ) -> None:
        """Use :meth:`open`."""
        self.folder = folder
        self._url = url
        self._origin = origin
        self._lock = lock
        self._passing = passing
        self._database = open_database(None, passing, memory_limit, threads)
        self._manifest: Manifest | None = None
        self._aside = False
        self._dimensions = Dimensions(origin.source, origin.engine, (*BY_ACCOUNT, relations.lots))
        self._swept_at = float("-inf")
        self._added_up: object = None
        #: Small tables that are written whole: the last file of each, and what stands in it.
        self._written: dict[str, tuple[str, pa.Table]] = {}

    @classmethod
    def open(
        cls, url: str, folder: Path, reporting_zone: str | None = None, memory_limit: str = "512MB", threads: int = 2
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
        return cls(url, origin, folder, lock, passing, memory_limit, threads)

    def __enter__(self) -> Syncer:
        """The syncer itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """As :meth:`close`."""
        self.close()

    def follow(
        self,
        *,
        rebuild: bool = False,
        keep_days: int | None = None,
        progress: Progress = lambda _share, _words: None,
    ) -> Follow:
        """Copy everything new. ``rebuild`` makes all of it anew, beside what is there, which is shown meanwhile.

        ``keep_days``: from now on entries of older days leave the copy, 0 keeps all, None leaves that as it is. Raises
        :class:`LedgerUnavailable`; what was copied before stays usable. Raises :class:`Conflict` for made-up facts.
        """
        started = time.perf_counter()
        with told(), Fillers(self._passing, FILLERS) as fillers:
            self._origin.renew()
            anew, few = self._prepare(rebuild, keep_days)
            self._retain()
            rows = 0
            for new in (self._fill(fillers), self._take_in()) if few is None else (self._take_in([few]),):
                for copied in new:
                    rows += copied
                    progress(0.0, f"{rows} entries")
            if not (rows and self._now.settled):
                self._refresh_dimensions(copied=rows > 0)
            readable_s = None if self._aside else time.perf_counter() - started
            self._compact()
            self._add_up(fillers, progress)
            self._finish()
        self._sweep()
        at = self._now
        as_of = None if at.last_us is None else from_us(at.last_us)
        return Follow(rows, at.watermark, time.perf_counter() - started, as_of, at.version, anew, readable_s)

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

    @property
    def _terms(self) -> Terms:
        return Terms(self._url, str(self.folder), self._now.zone, self._now.begins_us)

    def _prepare(self, rebuild: bool, keep_days: int | None) -> tuple[bool, Chunk | None]:
        """Take up the manifest; begin anew where layout, zone or ledger are others: True where that was so. And few new entries."""
        if self._manifest is None:
            self._take_up(self._origin.zone(), layout_of())
        at, layout = self._now, layout_of()
        zone, last_hash, few = self._origin.news(at.watermark)
        if at.made_up is not None and not rebuild:
            raise Conflict(
                f"The facts in {self.folder} are {at.made_up}; there is no ledger to go on from. "
                "Name another folder with --facts, or put a copy of this ledger in their place with --rebuild."
            )
        kept = at.keep_days if keep_days is None else keep_days or None
        # What has left the copy is only in the ledger.
        missed = at.begins_us is not None and (kept is None or kept > (at.keep_days or 0))
        same_ledger = at.id == 0 or last_hash == at.last_hash
        same = at.made_up is None and at.layout == layout and same_ledger
        if same and at.zone == zone and not (rebuild or missed):
            self._manifest = replace(at, keep_days=kept)
            return False, few
        # What is of the same ledger is shown until the new one has caught up.
        self._aside = same and at.entries > 0
        self._manifest = Manifest(layout, zone, at.version, number=at.number, keep_days=kept)
        self._dimensions.forget()
        if not self._aside:
            self._publish(self._now)
        return True, few if at.watermark == START else None

    def _take_up(self, zone: str, layout: str) -> None:
        there = manifests.read(self.folder) or Manifest(layout, zone)
        begun = manifests.read(self.folder, ASIDE)
        if begun is not None and (begun.layout, begun.zone) == (layout, zone):
            self._aside, there = True, begun
        else:
            (self.folder / ASIDE).unlink(missing_ok=True)
        if not manifests.whole(self.folder, there):
            there = Manifest(layout, zone, there.version, number=there.number, keep_days=there.keep_days)
        # Files that no manifest names yet have higher numbers.
        numbers = [int(path.stem.rsplit("-", 1)[1]) for path in self.folder.glob("*-*.parquet")]
        self._manifest = replace(there, number=max([there.number, *numbers]))
        if there.settled:
            self._dimensions.settle(there.tokens)

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
        if not self._aside and time.monotonic() - self._swept_at >= _SWEPT_EVERY_S:
            manifests.sweep(self.folder, self._now.files())
            self._swept_at = time.monotonic()

    # Entries -----------------------------------------------------------------------------------------------------

    def _fill(self, fillers: Fillers) -> Iterator[int]:
        """Whole segments of a long backfill, by processes of their own; what is kept beside them comes later."""
        at = self._now
        ends = self._origin.source.ends(at.watermark, FILLED_ROWS)
        first = list(islice(ends, FILLED_SEGMENTS))
        if len(first) < FILLED_SEGMENTS:
            return
        self._dimensions.touched = None
        for end, (segment, left) in fillers.fill(self._terms, at.watermark, chain(first, ends)):
            written = () if segment is None else (replace(segment, file=self._named(segment.file)),)
            yield self._copied(end, written, left, settled=False)

    def _take_in(self, chunks: Iterable[Chunk] | None = None) -> Iterator[int]:
        """What is left, or all of it where it is little; ``chunks``: where it was read already."""
        waiting: list[Chunk] = []
        for chunk in chunks or self._origin.source.chunks(self._now.watermark):
            if chunk.entries.num_rows:
                waiting.append(chunk)
            if sum(one.entries.num_rows for one in waiting) >= BACKFILL_ROWS:
                yield self._append(joined(waiting))
                waiting = []
        if waiting:
            yield self._append(joined(waiting))

    def _append(self, chunk: Chunk) -> int:
        entries = chunk.entries
        self._dimensions.touch(entries)
        # A tick is published once, together with its accounts, whose lots it needs.
        tick = entries.num_rows < LEAST_CLOSED_ROWS
        lots = self._refresh_dimensions(copied=True, publish=False) if tick else None
        if lots is None:
            lots = lots_named(self._origin.source, entries["lot_id"].unique().drop_null().to_pylist())
        written, aside = self.write(entries, lots, closed=not tick)
        return self._copied(chunk.watermark, written, aside, settled=tick, last_hash=chunk.last_hash)

    def _copied(
        self, end: Watermark, written: tuple[Segment, ...], aside: Aside, *, settled: bool, last_hash: str | None = None
    ) -> int:
        """Publish that the copy reaches up to ``end``; gives how many entries that were."""
        at, last_hash = self._now, last_hash or self._origin.hash_of(end.id)
        self._publish(
            replace(
                at, tx=end.tx, id=end.id, last_hash=last_hash, segments=(*at.segments, *written),
                left_out=at.left_out + aside.left_out, openings=at.openings + aside.openings, settled=settled,
            )
        )  # fmt: skip
        return sum(one.rows for one in written) + aside.left_out - aside.openings

    def write(self, entries: pa.Table, lots: pa.Table, *, closed: bool) -> tuple[tuple[Segment, ...], Aside]:
        """A segment of these entries, with the clock of the reporting zone and what their lots say; and what is too old."""
        at = self._now
        rows = complete(entries, lot_columns(entries, lots), at.zone)
        kept, aside = retained(self._database, rows, at.begins_us, at.zone)
        if not kept.num_rows:
            return (), aside
        return (self._closed(kept) if closed else self._open(kept),), aside

    def _closed(self, rows: pa.Table) -> Segment:
        with SegmentFile(self._path("facts")) as file:
            file.add(rows)
        return closed(file, rolled_up(self._database, file.path, self._path))

    def _open(self, rows: pa.Table) -> Segment:
        span = pc.min_max(rows["occurred_at"]).as_py()
        return Segment(self._stored("facts", rows), rows.num_rows, span["min"], span["max"], False)

    def _named(self, file: str) -> str:
        """A file that another process wrote, under this folder's numbers."""
        path = self._path(file.rsplit("-", 2)[0])
        (self.folder / file).rename(path)
        return path.name

    # Keeping few and large files ---------------------------------------------------------------------------------

    def _compact(self) -> None:
        """Sort what is open into closed segments once its day is over or it is much; make few of many small files."""
        still_open = [one for one in self._now.segments if not one.closed]
        small = [one for one in self._now.segments if one.closed and one.rows < LEAST_CLOSED_ROWS]
        if sum(one.rows for one in still_open) >= MOST_OPEN_ROWS:
            self._merge(still_open, "TRUE")
        elif len(still_open) >= MOST_OPEN_FILES:
            newest = self._one(f"SELECT max(day) FROM read_parquet({self._paths(still_open)})")[0]
            self._merge(still_open, f"day < DATE '{newest}'")
        if len(small) >= MOST_SMALL:
            self._merge(small, "TRUE")

    def _merge(self, segments: list[Segment], over: str) -> None:
        """One closed segment of the rows that are ``over``, and one open one of the others."""
        every = f"SELECT * FROM read_parquet({self._paths(segments)}) WHERE"
        made = []
        for condition, made_of in ((over, self._sorted), (f"NOT ({over})", self._reopened)):
            if self._one(f"SELECT count(*) FROM ({every} {condition})")[0]:
                made.append(made_of(f"{every} {condition} ORDER BY occurred_at, id"))
        kept = tuple(one for one in self._now.segments if one not in segments)
        self._publish(replace(self._now, segments=(*kept, *made)))

    def _sorted(self, rows: str) -> Segment:
        path = self.folder / self._filed("facts", rows)
        counted = f"SELECT count(*), min(occurred_at), max(occurred_at) FROM read_parquet({quoted(str(path))})"
        found, first_us, last_us = self._one(counted)
        sums = {key: kept.name for key, kept in rolled_up(self._database, path, self._path).items()}
        return Segment(path.name, found, first_us, last_us, True, sums)

    def _reopened(self, rows: str) -> Segment:
        return self._open(self._database.sql(rows).to_arrow_table())

    def _add_up(self, fillers: Fillers, progress: Progress) -> None:
        """What segments lack beside them, and what is added up over segments: not where those are the same."""
        stands = (frozenset(one.file for one in self._now.segments if one.closed), last_whole_day(self._now))
        if stands != self._added_up:
            self._roll_up(fillers, progress)
            made = counting.completed(self._now, self.folder, self._database, self._filed)
            if made.segments != self._now.segments or made.tables != self._now.tables:
                self._publish(replace(self._now, segments=made.segments, tables=made.tables))
            self._added_up = stands

    def _roll_up(self, fillers: Fillers, progress: Progress) -> None:
        """By processes where it is much; pages are right meanwhile, and read entries. What is little is left."""
        without = lacking(self._now)
        if sum(one.rows for one in without) < FILLED_SEGMENTS * FILLED_ROWS:
            return
        for number, whole in enumerate(fillers.roll_up(self._terms, without, self._named), 1):
            every = (whole if one.file == whole.file else one for one in self._now.segments)
            self._publish(replace(self._now, segments=tuple(every)))
            progress(number / len(without), f"{number} of {len(without)} segments summed up")

    def _retain(self) -> None:
        """Let go of the entries of days that are too old; what they come to stays."""
        at = self._now
        begins = begins_us(at.keep_days, at.zone, clock())
        if begins is None or at.begins_us == begins:
            return
        old = [one for one in at.segments if one.first_us < begins]
        kept = [one for one in at.segments if one.first_us >= begins]
        aside = Aside()
        if old:
            opened, aside = openings_of(self._database, f"read_parquet({self._paths(old)})", begins, at.zone)
            if aside.openings:
                kept.append(self._sorted(opened))
        for one in old:
            if one.last_us >= begins:
                rows, made_of = f"SELECT * FROM read_parquet({self._paths([one])})", (self._reopened, self._sorted)
                kept.append(made_of[one.closed](f"{rows} WHERE occurred_at >= {begins} ORDER BY occurred_at, id"))
        self._publish(
            replace(
                self._now, segments=tuple(kept), begins_us=begins, left_out=at.left_out + aside.left_out, openings=aside.openings,
            )
        )  # fmt: skip

    # Small tables ------------------------------------------------------------------------------------------------

    def _refresh_dimensions(self, *, copied: bool, publish: bool = True) -> pa.Table | None:
        """Write the small tables that changed; gives the lots that new entries name where it read just those."""
        tables = dict(self._now.tables)
        whole = self._dimensions.many
        if whole:
            for table in self._dimensions.by_account:
                tables[table.name] = (paged(self._path(table.name), table, self._dimensions.pages(table, PAGE_ROWS)),)
        changed, tokens = self._dimensions.changed(copied=copied, accounts=not whole)
        if not (changed.tables or whole) and self._now.settled:
            self._dimensions.settle(tokens)
            return changed.lots
        for name, rows in changed.tables.items():
            known = self._written.get(name)
            if known is not None and tables.get(name) == (known[0],) and rows.equals(known[1]):
                continue
            file = self._stored(name, rows)
            if not (beside := name in changed.partly | changed.added):
                self._written[name] = file, rows
            parts = (*tables.get(name, ()), file) if beside else (file,)
            tables[name] = self._folded(name, parts) if len(parts) >= MOST_PARTS else parts
        self._dimensions.settle(tokens)
        settled = replace(self._now, tables=tables, tokens=tokens, settled=True)
        if publish:
            self._publish(settled)
        else:
            self._manifest = settled
        return changed.lots

    def _folded(self, name: str, parts: tuple[str, ...]) -> tuple[str, ...]:
        rows, whole = folded(self.folder, parts, None if name in WHOLE else key_of(name))
        return (self._filed(name, rows),) if whole else (parts[0], self._filed(name, rows))

    # Files -------------------------------------------------------------------------------------------------------

    def _path(self, kind: str) -> Path:
        """A name that was not given before."""
        number = self._now.number + 1
        self._manifest = replace(self._now, number=number)
        return self.folder / f"{kind}-{number:010d}.parquet"

    def _stored(self, kind: str, rows: pa.Table) -> str:
        """A few rows, not waited for: what a power cut damages is found at the next start."""
        with pa.OSFile(str(path := self._path(kind)), "wb") as file:
            # Neither would pay for so few rows, and both take as long as all the rest.
            pq.write_table(rows, file, store_schema=False, use_dictionary=False, write_statistics=False)
        return path.name

    def _filed(self, kind: str, rows: str) -> str:
        """The rows of a statement in a new file, on disk when it returns."""
        path = self._path(kind)
        copy_to(self._database, rows, path)
        return path.name

    def _paths(self, segments: list[Segment]) -> str:
        return paths(self.folder, [one.file for one in segments])

    def _one(self, sql: str) -> tuple[Any, ...]:
        return tuple(self._database.execute(sql).fetchall()[0])
