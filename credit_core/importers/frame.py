"""What every import shares: an event, the order of events, rejects, and the sum in which every row is accounted for.

A log is read as a stream: rows become :class:`Event` or a reject, are put in order of (instant, line) on disk where they do
not fit in memory, and identical rows of one instant are numbered, so that the same file gives the same request ids again.
Memory is bounded by :data:`RUN_ROWS` while sorting, and afterwards by what is going on at one time, not by the file.
"""

from __future__ import annotations

import csv
import hashlib
import heapq
import json
import os
import pickle
import struct
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple
from zoneinfo import ZoneInfo

from credit_core.errors import InvalidImport, InvalidRequest
from credit_core.units import spreadsheet_text, to_us

SUCCEEDED, FAILED, PENDING = "succeeded", "failed", "pending"
#: Rows held in memory while sorting; more are sorted in runs on disk, of which so many are merged at a time.
RUN_ROWS = 50_000
_FAN_IN, _BLOCK_ROWS = 32, 500
#: A log tells of the past. Rows before this would close thousands of cycles, rows later than a day from now cannot be true.
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
LATEST_AHEAD = timedelta(days=1)
#: A pause this long ends a session (SPEC 4), for logs that name no sessions.
SESSION_IDLE = timedelta(minutes=30)
_SEPARATOR = "\x1f"


class Event(NamedTuple):
    """One row of a log: who asked for what, and how it ended. ``content`` is what makes the row itself (not its place)."""

    line: int
    content: str
    user_id: str
    started_at: datetime
    ended_at: datetime | None
    status: str
    images: int
    session_id: str
    request_id: str = ""
    genre: str | None = None
    mood: str | None = None
    model: str | None = None
    latency_ms: float | None = None
    cost_usd_micro: int | None = None
    modality: str = "image"

    def reject(self, reason: str) -> Reject:
        """This row as a reject."""
        return Reject(self.line, reason, self.content.replace(_SEPARATOR, ","))


class Reject(NamedTuple):
    """A row that cannot be used, and why."""

    line: int
    reason: str
    row: str


@dataclass
class Summary:
    """How every row of an import ended. Rows read = settled + released + held + library + deferred + … + reject_file.

    The figures tell of the file's rows as they stand in the ledger; ``new`` and ``known`` tell which of them this run wrote.
    ``usable``: rows that a dry run
    would bring in. ``assumed_images``: rows that lacked a number of images and count as one.
    """

    mode: str
    source: str
    rows_read: int = 0
    new: int = 0
    known: int = 0
    settled: int = 0
    released: int = 0
    held: int = 0
    library: int = 0
    deferred: int = 0
    rate_limited: int = 0
    rejected: int = 0
    imported: int = 0
    usable: int = 0
    reject_file: int = 0
    swept: int = 0
    late_settles: int = 0
    images: int = 0
    assumed_images: int = 0
    users: int = 0
    first_at: str | None = None
    last_at: str | None = None
    seconds: float = 0.0
    dry_run: bool = False
    rules: dict[str, int] = field(default_factory=dict)
    spent_by_unit: dict[str, int] = field(default_factory=dict)

    @property
    def spent_uc(self) -> int | None:
        """Micro-credits spent by the rows; None where they are of more than one unit, which are never summed."""
        spent = [uc for uc in self.spent_by_unit.values() if uc]
        return None if len(spent) > 1 else sum(spent)

    @property
    def accounted(self) -> int:
        """The sum that must equal ``rows_read``; ``swept`` and ``late_settles`` are parts of ``released``."""
        return (
            self.settled + self.released + self.held + self.library + self.deferred + self.rate_limited
            + self.rejected + self.imported + self.usable + self.reject_file
        )  # fmt: skip

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return asdict(self) | {
            "spent_uc": self.spent_uc,
            "accounted": self.accounted,
            "complete": self.accounted == self.rows_read,
            "rows_per_s": round(self.rows_read / max(self.seconds, 0.1)),
        }


class Rejects:
    """Counts rejects, and writes them where a file was asked for: as JSON lines to ``….jsonl``, else as CSV."""

    def __init__(self, path: Path | None) -> None:
        """``path`` is replaced on entering; afterwards it holds this run's rejects and nothing else."""
        self.count = 0
        self.first: list[Reject] = []
        self._path = path
        self._file: IO[str] | None = None

    def add(self, reject: Reject) -> None:
        """Take one."""
        self.count += 1
        if len(self.first) < 5:
            self.first.append(reject)
        if self._file is None or self._path is None:
            return
        if self._path.suffix == ".jsonl":
            self._file.write(json.dumps(reject._asdict()) + "\n")
        else:
            csv.writer(self._file).writerow(map(spreadsheet_text, reject))

    def __enter__(self) -> Rejects:
        """Open the file, before anything else is done. Raises :class:`InvalidImport` where that fails."""
        if self._path is not None:
            try:
                self._file = self._path.open("w", encoding="utf-8", errors="backslashreplace", newline="")
            except OSError as error:
                raise InvalidImport(f"The reject file cannot be written: {error}. Nothing was imported.") from error
            if self._path.suffix != ".jsonl":
                csv.writer(self._file).writerow(Reject._fields)
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def content_of(fields: Sequence[str]) -> str:
    """A row's fields as the ``content`` of its event. Raises :class:`InvalidRequest` where they were not UTF-8."""
    content = _SEPARATOR.join(fields)
    try:
        content.encode()
    except UnicodeEncodeError:
        raise InvalidRequest("is not UTF-8 text") from None
    return content


def instant(text: str, name: str, zone: ZoneInfo, now: datetime) -> datetime:
    """The instant that a log's ``text`` names, naive times read in ``zone``; else :class:`InvalidRequest`."""
    try:
        at = datetime.fromisoformat(text.strip())
        at = (at.replace(tzinfo=zone) if at.tzinfo is None else at).astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidRequest(f"{name} is {text!r}, not a time such as 2024-11-15 16:57:50") from None
    if not EARLIEST <= at <= now + LATEST_AHEAD:
        raise InvalidRequest(f"{name} is {text!r}, not between the year 2000 and now")
    return at


def in_order(rows: Iterable[Event], run_rows: int = RUN_ROWS) -> Iterator[Event]:
    """``rows`` by (instant, line), in memory bounded by ``run_rows``: sorted runs on disk, merged."""
    stream = iter(rows)
    first = sorted(islice(stream, run_rows), key=_key)
    if len(first) < run_rows:
        yield from _numbered(first)
        return
    with tempfile.TemporaryFile() as file:
        runs = [_write_run(file, first)]
        del first
        while part := sorted(islice(stream, run_rows), key=_key):
            runs.append(_write_run(file, part))
            if len(runs) == _FAN_IN:
                runs = [_write_run(file, _merged(file, runs))]
        yield from _numbered(_merged(file, runs))


def _key(event: Event) -> tuple[datetime, int]:
    return (event.started_at, event.line)


def _write_run(file: IO[bytes], rows: Iterable[Event]) -> tuple[int, int]:
    start = end = file.seek(0, os.SEEK_END)
    stream = iter(rows)
    while block := list(islice(stream, _BLOCK_ROWS)):
        # The rows may come from runs of the same file: whoever reads moves its place.
        file.seek(end)
        pickle.dump(block, file, protocol=pickle.HIGHEST_PROTOCOL)
        end = file.tell()
    return start, end


def _read_run(file: IO[bytes], start: int, end: int) -> Iterator[Event]:
    while start < end:
        file.seek(start)
        block: list[Event] = pickle.load(file)
        start = file.tell()
        yield from block


def _merged(file: IO[bytes], runs: list[tuple[int, int]]) -> Iterator[Event]:
    return heapq.merge(*(_read_run(file, *run) for run in runs), key=_key)


def _numbered(rows: Iterable[Event]) -> Iterator[Event]:
    """Give each event its request id: a digest of the row and of how many equal ones stood before it at its instant."""
    instant: datetime | None = None
    seen: dict[str, int] = {}
    for event in rows:
        if event.started_at != instant:
            instant, seen = event.started_at, {}
        number = seen[event.content] = seen.get(event.content, 0) + 1
        yield event if event.request_id else event._replace(request_id=row_id(event.content, number))


def row_id(content: str, number: int) -> str:
    """The request id of the ``number``-th row with this content: BLAKE2b-128 over both, hex."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(struct.pack(">I", number))
    digest.update(content.encode())
    return digest.hexdigest()


def in_sessions(events: Iterable[Event]) -> Iterator[Event]:
    """Give events without a session, which are in order, one: a user's session ends with a pause of :data:`SESSION_IDLE`."""
    running: dict[str, tuple[str, datetime]] = {}
    checked_at: datetime | None = None
    for event in events:
        at = event.started_at
        if checked_at is None or at - checked_at >= SESSION_IDLE:
            # Only sessions that may go on are remembered.
            running = {user: kept for user, kept in running.items() if at - kept[1] < SESSION_IDLE}
            checked_at = at
        last = running.get(event.user_id)
        going_on = last is not None and at - last[1] < SESSION_IDLE
        name = last[0] if going_on and last is not None else f"session-{event.request_id[:16]}"
        running[event.user_id] = (name, at)
        yield event if event.session_id else event._replace(session_id=name)


def noted(events: Iterable[Event], summary: Summary) -> Iterator[Event]:
    """Pass events on, noting their span and images in ``summary``."""
    for event in events:
        summary.first_at = summary.first_at or event.started_at.isoformat()
        summary.last_at = event.started_at.isoformat()
        summary.images += event.images
        yield event


def chunks(events: Iterable[Event], size: int, cuts: Sequence[datetime] = ()) -> Iterator[list[Event]]:
    """Lists of at most ``size`` events; none spans a UTC midnight, where closings and demand are due, or one of ``cuts``."""
    part: list[Event] = []
    waiting = iter(sorted(cuts))
    cut = next(waiting, None)
    for event in events:
        passed = False
        while cut is not None and cut <= event.started_at:
            passed, cut = True, next(waiting, None)
        if part and (passed or len(part) >= size or _day(event) != _day(part[0])):
            yield part
            part = []
        part.append(event)
    if part:
        yield part


def _day(event: Event) -> int:
    return to_us(event.started_at) // 86_400_000_000
