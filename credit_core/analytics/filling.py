"""A backfill by processes of its own: each reads a range of the ledger and writes it as one closed segment, of entries alone.

::

    with Fillers(passing, processes=2) as fillers:
        terms = Terms(url, folder, zone, None)
        for end, filled in fillers.fill(terms, after, source.ends(after, FILLED_ROWS)):
            ...  # in the order of the ledger
        for segment in fillers.roll_up(terms, lacking(manifest), named):
            ...  # with what is kept beside it, once all entries can be read

Nothing but names comes back, so that rows cross no process. A filler ends with the process that began it; what it leaves
half written nobody names, and is swept.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any, NamedTuple, TextIO, TypeVar

import pyarrow as pa  # type: ignore[import-untyped]

from credit_core.analytics import processes
from credit_core.analytics.filing import GROUP_ROWS, SegmentFile, closed, complete, kept_keys, rolled_up
from credit_core.analytics.lanes import Lane, open_lane
from credit_core.analytics.manifest import PART, Manifest, Segment
from credit_core.analytics.retention import Aside, retained
from credit_core.analytics.source import Watermark
from credit_core.analytics.sync import open_database
from credit_core.errors import LedgerUnavailable

#: Of one process: what is added up by account and day must fit, or it is written out and read again, at twice the time.
_MEMORY_LIMIT = "192MB"
_PIECE_ROWS = GROUP_ROWS // 2
#: Lots in hand, which entries of the same days name again and again.
_KNOWN_LOTS = 300_000
#: Columns of ``facts`` that lots have.
_OF_LOTS = {"lot_kind": "kind", "unit_price_usd_micro": "unit_price_usd_micro"}
_About = TypeVar("_About")


class Terms(NamedTuple):
    """What all segments of a backfill have in common; those before ``begins_us`` are added up."""

    url: str
    folder: str
    zone: str
    begins_us: int | None


class Filled(NamedTuple):
    """A written segment, None where nothing was kept, and what was left out."""

    segment: Segment | None
    aside: Aside


def lacking(at: Manifest) -> list[Segment]:
    """The closed segments beside which something is missing."""
    keys = kept_keys()
    return [one for one in at.segments if one.closed and set(one.rollups) != keys]


class Fillers:
    """Processes that write segments, and what is kept beside them."""

    def __init__(self, passing: Path, processes: int) -> None:
        """Nothing is started before there is something to do; ``passing``: a folder for files that do not stay."""
        self._passing = passing
        self._processes = processes
        self._idle: SimpleQueue[subprocess.Popen[str]] = SimpleQueue()
        self._started: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Fillers:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Ended, at once where something failed."""
        for process in self._started:
            if kind is not None:
                process.kill()
            process.communicate()

    def fill(self, terms: Terms, after: Watermark, ends: Iterable[Watermark]) -> Iterator[tuple[Watermark, Filled]]:
        """A segment for each piece, in order. Raises :class:`LedgerUnavailable`."""

        def jobs() -> Iterator[tuple[Watermark, list[Any]]]:
            begin = after
            for end in ends:
                yield end, ["fill", terms, begin, end]
                begin = end

        for end, answer in self._in_order(jobs()):
            segment = answer["segment"]
            yield end, Filled(None if segment is None else Segment(**segment), Aside(*answer["aside"]))

    def roll_up(self, terms: Terms, segments: Sequence[Segment], named: Callable[[str], str]) -> Iterator[Segment]:
        """The segments with what they lack, in order; ``named`` gives a file its lasting name. Raises :class:`LedgerUnavailable`."""
        jobs = ((one, ["roll_up", terms, one.file, list(one.rollups)]) for one in segments)
        for one, made in self._in_order(jobs):
            there = {key: file for key, file in one.rollups.items() if key in kept_keys()}
            yield replace(one, rollups=there | {key: named(file) for key, file in made.items()})

    def _in_order(self, jobs: Iterable[tuple[_About, list[Any]]]) -> Iterator[tuple[_About, dict[str, Any]]]:
        waiting: deque[tuple[_About, Future[dict[str, Any]]]] = deque()
        self._start()
        with ThreadPoolExecutor(self._processes) as pool:
            try:
                for about, job in jobs:
                    waiting.append((about, pool.submit(self._one, job)))
                    if len(waiting) > self._processes:
                        yield self._next(waiting)
                while waiting:
                    yield self._next(waiting)
            except BaseException:
                for process in self._started:
                    process.kill()
                raise

    def _next(self, waiting: deque[tuple[_About, Future[dict[str, Any]]]]) -> tuple[_About, dict[str, Any]]:
        about, made = waiting.popleft()
        return about, made.result()

    def _start(self) -> None:
        while len(self._started) < self._processes:
            process = processes.begun(__name__, str(self._passing))
            self._started.append(process)
            self._idle.put(process)

    def _one(self, job: list[Any]) -> dict[str, Any]:
        process = self._idle.get()
        try:
            processes.ask(process, job)
            document = processes.answered(process)
        except OSError:
            document = None
        if document is None:
            raise LedgerUnavailable("A process of the backfill ended. Run it again; it goes on where it came to.")
        self._idle.put(process)
        if "error" in document:
            raise LedgerUnavailable(
                f"The ledger could not be copied: {document['error']}. Check the database, and the space on disk."
            )
        return document


class _Lots:
    """What lots say, of those that entries named lately: most of them are named again."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._places: dict[str, int] = {}
        self._rows = lane.lots(())

    def columns_for(self, entries: pa.Table) -> dict[str, Any]:
        """Kind and price of each entry's lot, as :func:`filing.lot_columns`, in a fifth of the time for lots that are known."""
        named = entries["lot_id"].combine_chunks().dictionary_encode()
        names = named.dictionary.to_pylist()
        if len(self._places) + len(names) > _KNOWN_LOTS:
            self.forget()
        places = [self._places.get(name) for name in names]
        unknown = [name for name, place in zip(names, places, strict=True) if place is None]
        if unknown:
            found, there = self._lane.lots(unknown), len(self._rows)
            new = {name: there + place for place, name in enumerate(found["lot_id"].to_pylist())}
            self._places |= new
            self._rows = pa.concat_tables([self._rows, found]).combine_chunks()
            places = [new.get(name) if place is None else place for name, place in zip(names, places, strict=True)]
        place = pa.array(places, pa.int64()).take(named.indices)
        return {name: self._rows[of].take(place) for name, of in _OF_LOTS.items()}

    def forget(self) -> None:
        """Give back the memory."""
        self._places, self._rows = {}, self._rows.slice(0, 0).combine_chunks()


class _Filler:
    """What one such process does."""

    def __init__(self, passing: Path) -> None:
        own = passing / f"filler-{os.getpid()}"
        own.mkdir()
        self._database = open_database(None, own, _MEMORY_LIMIT, 1)
        self._lane: Lane | None = None
        self._lots: _Lots | None = None
        self._number = 0

    def fill(self, terms: Terms, after: Watermark, up_to: Watermark) -> dict[str, Any]:
        """A segment of these entries alone."""
        if self._lane is None or self._lots is None:
            self._lane = open_lane(terms.url)
            self._lots = _Lots(self._lane)
        aside = Aside()
        with SegmentFile(self._path(terms, "facts")) as file:
            for entries in self._lane.entries(after, up_to, _PIECE_ROWS):
                rows = complete(entries, self._lots.columns_for(entries), terms.zone)
                kept, gone = retained(self._database, rows, terms.begins_us, terms.zone)
                aside = Aside(aside.left_out + gone.left_out, aside.openings + gone.openings)
                file.add(kept)
        if not file.rows:
            file.path.unlink()
            return {"segment": None, "aside": aside}
        return {"segment": asdict(closed(file, {})), "aside": aside}

    def roll_up(self, terms: Terms, file: str, there: Sequence[str]) -> dict[str, Any]:
        """What is to be kept beside a segment, and is not ``there``."""
        if self._lots is not None:
            # What rows took is free before the sums ask for as much.
            self._lots = None
            pa.default_memory_pool().release_unused()
        made = rolled_up(self._database, Path(terms.folder, file), partial(self._path, terms), there)
        return {key: path.name for key, path in made.items()}

    def _path(self, terms: Terms, kind: str) -> Path:
        self._number += 1
        return Path(terms.folder, f"{kind}-{os.getpid()}-{self._number}{PART}")


def main(passing: Path, asked: TextIO, answers: TextIO) -> None:
    """Fill segments, or sum them up, as each line asks."""
    filler: _Filler | None = None

    def answer(job: list[Any]) -> dict[str, Any]:
        nonlocal filler
        kind, terms, *about = job
        filler = filler or _Filler(passing)
        if kind == "fill":
            return filler.fill(Terms(*terms), *(Watermark(*one) for one in about))
        return filler.roll_up(Terms(*terms), *about)

    processes.serve(asked, answers, answer)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.stdin, sys.stdout)
