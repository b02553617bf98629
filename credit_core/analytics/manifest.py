"""What the columnar copy on disk consists of: one small file that names all others, and is replaced in one step.

Segments are written once and never changed. Whoever reads takes the manifest and the files it names; those that a later
one no longer names are deleted late, so that readers of the one before still find them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
import weakref
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

from credit_core.analytics.relations import metadata
from credit_core.analytics.source import START, Watermark
from credit_core.errors import Conflict, LedgerUnavailable

NAME, ASIDE = "manifest.json", "manifest.next.json"
_LOCK = "sync.lock"
#: Files that are no longer named stay this long.
KEPT_S = 600.0
_FORMAT = 3
#: Those that this release reads; the first knew neither made-up facts nor a beginning, the second named all lots of an account.
_READ = (1, 2, _FORMAT)
#: How files end that nothing names yet.
PART = ".parquet.part"


@dataclass(frozen=True, slots=True)
class Segment:
    """Entries in one Parquet file. ``closed``: read in place, and summed up in ``rollups`` (name → file); else small and new."""

    file: str
    rows: int
    first_us: int
    last_us: int
    closed: bool
    rollups: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Manifest:
    """The whole copy, and how far it has come: data and watermark move together.

    ``tables``: files per small table; the first is whole, each later one has all rows of some accounts, or some lots. ``settled``: the
    small tables are of this watermark; else they are read whole after a restart. ``made_up``: what the facts are where no
    ledger is behind them, in words; such a folder is only read. ``keep_days``: older entries are left out, None keeps all;
    ``begins_us``: where the copy begins because of that, ``left_out``: how many entries lie before,
    ``openings``: how many rows say what those come to.
    """

    layout: str
    zone: str
    version: int = 0
    tx: int = START.tx
    id: int = START.id
    last_hash: str | None = None
    number: int = 0
    segments: tuple[Segment, ...] = ()
    tables: dict[str, tuple[str, ...]] = field(default_factory=dict)
    tokens: dict[str, list[str]] = field(default_factory=dict)
    settled: bool = False
    written_at: float = 0.0
    made_up: str | None = None
    keep_days: int | None = None
    begins_us: int | None = None
    left_out: int = 0
    openings: int = 0

    @property
    def watermark(self) -> Watermark:
        """The last entry in it."""
        return Watermark(self.tx, self.id)

    @property
    def entries(self) -> int:
        """How many entries it holds."""
        return sum(segment.rows for segment in self.segments) - self.openings

    @property
    def first_us(self) -> int | None:
        """The first entry's instant, microseconds; None while there is none."""
        if self.last_us is None:
            return None
        return max(min(segment.first_us for segment in self.segments), self.begins_us or 0)

    @property
    def last_us(self) -> int | None:
        """The newest entry's instant, microseconds; None while there is none."""
        last = max((segment.last_us for segment in self.segments), default=None)
        return None if last is None or last < (self.begins_us or 0) else last

    def files(self) -> set[str]:
        """Every file that it names."""
        segments = (file for one in self.segments for file in (one.file, *one.rollups.values()))
        return {*segments, *(file for files in self.tables.values() for file in files)}


class Stamp(NamedTuple):
    """Tells one manifest file from the one that replaced it."""

    inode: int
    changed_ns: int


def stamp(folder: Path) -> Stamp | None:
    """Of the manifest in ``folder``; None where there is none."""
    try:
        found = (folder / NAME).stat()
    except FileNotFoundError:
        return None
    return Stamp(found.st_ino, found.st_mtime_ns)


def read(folder: Path, name: str = NAME) -> Manifest | None:
    """The manifest in ``folder``; None where there is none, or one of another format."""
    try:
        found: dict[str, Any] = orjson.loads((folder / name).read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise LedgerUnavailable(
            f"The manifest in {folder} is damaged: {error}. Make the copy anew with: python -m credit_core sync --rebuild"
        ) from error
    if found.pop("format", None) not in _READ:
        return None
    found["segments"] = tuple(Segment(**segment) for segment in found["segments"])
    found["tables"] = {table: tuple(files) for table, files in found["tables"].items()}
    return Manifest(**found)


def whole(folder: Path, manifest: Manifest) -> bool:
    """Whether every file that was not waited for can be read: a power cut may have left less of it."""
    small = [one.file for one in manifest.segments if not one.closed]
    tables = [files for name, files in manifest.tables.items() if name in metadata.tables]
    for file in (*small, *(file for files in tables for file in files)):
        try:
            pq.read_metadata(folder / file)
        except (OSError, pa.ArrowInvalid):
            return False
    return True


def made_up(folder: Path) -> bool:
    """Whether the facts in ``folder`` have no ledger behind them."""
    found = read(folder) if (folder / NAME).exists() else None
    return found is not None and found.made_up is not None


def write(folder: Path, manifest: Manifest, name: str = NAME) -> None:
    """Put the manifest in the place of the one before, in one step; what it names must be on disk."""
    part = folder / f"{name}.part"
    document = {"format": _FORMAT} | {one.name: getattr(manifest, one.name) for one in fields(manifest)}
    with part.open("wb") as file:
        file.write(orjson.dumps(document, default=tuple, option=orjson.OPT_NON_STR_KEYS))
        file.flush()
        os.fsync(file.fileno())
    part.replace(folder / name)


def sync_file(path: Path) -> None:
    """Have a file on disk before anything names it."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sweep(folder: Path, named: set[str], kept_s: float = KEPT_S) -> int:
    """Delete the segment files that nothing names and nobody wrote lately; returns how many."""
    before = time.time() - kept_s
    gone = 0
    for path in (*folder.glob("*.parquet"), *folder.glob(f"*{PART}")):
        if path.name not in named:
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < before:
                    path.unlink()
                    gone += 1
    return gone


def retire(folder: Path, files: set[str]) -> None:
    """From now on these files are kept for :data:`KEPT_S`."""
    for name in files:
        with contextlib.suppress(FileNotFoundError):
            os.utime(folder / name)


class Lock:
    """Held by the one process that writes the copy; the kernel lets go of it when that process ends, however it does."""

    def __init__(self, folder: Path) -> None:
        """Raises :class:`Conflict` where another holds it."""
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            raise Conflict(
                f"Another process already keeps {folder} up to date. Stop it first, or leave it to that one."
            ) from error
        self._release = weakref.finalize(self, os.close, descriptor)

    def release(self) -> None:
        """Let another have it."""
        self._release()
