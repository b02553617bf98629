"""A backfill by processes of its own, each of which reads a range of the ledger and writes it as one closed segment.

::

    with Fillers(Terms(url, folder, zone, None), passing, processes=2) as fillers:
        for end, filled in fillers.fill(after, source.ends(after, FILLED_ROWS)):
            ...  # in the order of the ledger

Nothing but names comes back, so that rows cross no process. A filler ends with the process that began it; what it leaves
half written nobody names, and is swept.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any, NamedTuple, TextIO

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

from credit_core.analytics.filing import GROUP_ROWS, SegmentFile, closed, complete, lot_columns, rolled_up
from credit_core.analytics.lanes import open_lane
from credit_core.analytics.manifest import PART, Segment
from credit_core.analytics.retention import Aside, retained
from credit_core.analytics.source import Watermark
from credit_core.analytics.sync import open_database
from credit_core.errors import LedgerUnavailable

#: Of one process, beside the rows in hand.
_MEMORY_LIMIT = "128MB"
_PIECE_ROWS = GROUP_ROWS // 2
#: Lots in hand, which entries of the same days name again and again.
_KNOWN_LOTS = 300_000


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


class Fillers:
    """Processes that write segments."""

    def __init__(self, terms: Terms, passing: Path, processes: int) -> None:
        """Nothing is started before :meth:`__enter__`; ``passing``: a folder for files that do not stay."""
        self._terms = terms
        self._passing = passing
        self._processes = processes
        self._idle: SimpleQueue[subprocess.Popen[str]] = SimpleQueue()
        self._started: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Fillers:
        """Started."""
        package = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
        for _ in range(self._processes):
            process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(self._passing)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                env={**os.environ, "PYTHONPATH": path},
            )  # fmt: skip
            self._started.append(process)
            self._idle.put(process)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Ended, at once where something failed."""
        for process in self._started:
            if kind is not None:
                process.kill()
            process.communicate()

    def fill(self, after: Watermark, ends: Iterable[Watermark]) -> Iterator[tuple[Watermark, Filled]]:
        """A segment for each piece, in order. Raises :class:`LedgerUnavailable`."""
        waiting: deque[tuple[Watermark, Future[Filled]]] = deque()
        with ThreadPoolExecutor(self._processes) as pool:
            try:
                for end in ends:
                    waiting.append((end, pool.submit(self._one, after, end)))
                    after = end
                    if len(waiting) > self._processes:
                        yield self._next(waiting)
                while waiting:
                    yield self._next(waiting)
            except BaseException:
                for process in self._started:
                    process.kill()
                raise

    def _next(self, waiting: deque[tuple[Watermark, Future[Filled]]]) -> tuple[Watermark, Filled]:
        end, made = waiting.popleft()
        return end, made.result()

    def _one(self, after: Watermark, end: Watermark) -> Filled:
        process = self._idle.get()
        assert process.stdin is not None, "opened with a pipe"
        assert process.stdout is not None, "opened with a pipe"
        try:
            print(json.dumps([self._terms, after, end]), file=process.stdin, flush=True)
            answer = process.stdout.readline()
        except OSError:
            answer = ""
        if not answer:
            raise LedgerUnavailable("A process of the backfill ended. Run it again; it goes on where it came to.")
        self._idle.put(process)
        document: dict[str, Any] = json.loads(answer)
        if "error" in document:
            raise LedgerUnavailable(f"The ledger could not be read: {document['error']}. Check the database.")
        segment = document["segment"]
        return Filled(None if segment is None else Segment(**segment), Aside(*document["aside"]))


class _Filler:
    """What one such process does."""

    def __init__(self, passing: Path, url: str) -> None:
        own = passing / f"filler-{os.getpid()}"
        own.mkdir()
        self._database = open_database(None, own, _MEMORY_LIMIT, 1)
        self._lane = open_lane(url)
        self._lots = self._lane.lots(())
        self._number = 0

    def fill(self, terms: Terms, after: Watermark, up_to: Watermark) -> Filled:
        aside = Aside()
        with SegmentFile(self._path(terms, "facts")) as file:
            for entries in self._lane.entries(after, up_to, _PIECE_ROWS):
                rows = complete(entries, lot_columns(entries, self._lots_of(entries)), terms.zone)
                kept, gone = retained(self._database, rows, terms.begins_us, terms.zone)
                aside = Aside(aside.left_out + gone.left_out, aside.openings + gone.openings)
                file.add(kept)
        if not file.rows:
            file.path.unlink()
            return Filled(None, aside)
        # What the rows took is free before the roll-ups ask for as much.
        pa.default_memory_pool().release_unused()
        sums = rolled_up(self._database, file.path, partial(self._path, terms))
        return Filled(closed(file, sums), aside)

    def _path(self, terms: Terms, kind: str) -> Path:
        self._number += 1
        return Path(terms.folder, f"{kind}-{os.getpid()}-{self._number}{PART}")

    def _lots_of(self, entries: Any) -> Any:
        """All lots that these entries name, most of which those before named too."""
        named = entries["lot_id"].unique().drop_null()
        unknown = named.filter(pc.invert(pc.is_in(named, value_set=self._lots["lot_id"]))).to_pylist()
        if len(self._lots) + len(unknown) > _KNOWN_LOTS:
            self._lots = self._lots.filter(pc.is_in(self._lots["lot_id"], value_set=named))
        self._lots = pa.concat_tables([self._lots, self._lane.lots(unknown)]).combine_chunks()
        return self._lots


def main(passing: Path, asked: TextIO, answers: TextIO) -> None:
    """Answer each line of JSON with another, until there are no more."""
    jobs: SimpleQueue[str] = SimpleQueue()

    def listen() -> None:
        for line in asked:
            jobs.put(line)
        # Whoever asked is gone, or wants no more: nobody would name what is being written.
        os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    filler: _Filler | None = None
    while True:
        terms, after, up_to = json.loads(jobs.get())
        try:
            filler = filler or _Filler(passing, terms[0])
            made = filler.fill(Terms(*terms), Watermark(*after), Watermark(*up_to))
            answer: dict[str, Any] = {
                "segment": None if made.segment is None else asdict(made.segment),
                "aside": made.aside,
            }
        except Exception as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.stdin, sys.stdout)
