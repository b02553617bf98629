"""Balances carried forward: everything up to the end of some days, added up, so that no question has to begin at the beginning.

The writer of a folder of segments makes what is missing after each run: roll-ups that a segment lacks because a later release
declares them, and a week's end at a time, for each account, the sum of all that came before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple

from credit_core.analytics.filing import kept_of, paths, quoted
from credit_core.analytics.manifest import Manifest, Segment
from credit_core.analytics.rollups import ROLLUPS, RollUp
from credit_core.policy.cycles import first_instant, local_day
from credit_core.units import checked_zone, from_us, to_us

#: Days between two days up to whose end everything is added up.
EVERY_DAYS = 7
#: Writes the rows of a statement to a new file of a kind, and gives its name.
Written = Callable[[str, str], str]


class Carried(NamedTuple):
    """Days up to whose end a roll-up is added up → the file; ``late``: files with entries that came since, for those days too."""

    files: Mapping[date, str]
    late: tuple[str, ...]


def carried(at: Manifest, rollup: RollUp) -> Carried:
    """What is there of a roll-up, and still holds."""
    covered = set(at.tables.get(_of(rollup), ()))
    closed = [one for one in at.segments if one.closed]
    files = {_day_of(name): name for name in at.tables.get(_until(rollup), ())}
    if not files or not covered <= {one.rollups.get(rollup.key, "") for one in closed}:
        return Carried({}, ())
    since = [one for one in closed if one.rollups[rollup.key] not in covered]
    end_us = to_us(first_instant(max(files) + timedelta(days=1), checked_zone(at.zone)))
    return Carried(files, tuple(one.rollups[rollup.key] for one in since if one.first_us < end_us))


def last_whole_day(at: Manifest) -> date | None:
    """The newest day that is over and has closed entries; None where there is none."""
    closed = [one.last_us for one in at.segments if one.closed]
    if not closed or at.last_us is None:
        return None
    place = checked_zone(at.zone)
    return min(local_day(from_us(max(closed)), place), local_day(from_us(at.last_us), place) - timedelta(days=1))


def completed(at: Manifest, folder: Path, written: Written) -> Manifest:
    """The manifest with every roll-up of each closed segment, and with what is carried to each week's end that has passed.

    The same one where nothing is missing.
    """
    segments = tuple(_with_rollups(one, folder, written) if one.closed else one for one in at.segments)
    at = at if segments == at.segments else replace(at, segments=segments)
    for rollup in ROLLUPS:
        if rollup.carried:
            at = _carried_on(at, rollup, folder, written)
    return at


def _with_rollups(segment: Segment, folder: Path, written: Written) -> Segment:
    kept = kept_of(f"read_parquet({quoted(str(folder / segment.file))})")
    if set(kept) == set(segment.rollups):
        return segment
    files = {key: segment.rollups.get(key) or written(*what) for key, what in kept.items()}
    return replace(segment, rollups=files)


def _carried_on(at: Manifest, rollup: RollUp, folder: Path, written: Written) -> Manifest:
    last = last_whole_day(at)
    if last is None:
        return at
    closed = [one for one in at.segments if one.closed]
    there = carried(at, rollup)
    place = checked_zone(at.zone)
    files = dict(there.files)
    if there.late:
        # What was added up before they came is made again.
        since = min(one.first_us for one in closed if one.rollups[rollup.key] in there.late)
        files = {day: name for day, name in files.items() if day < local_day(from_us(since), place)}
    first = local_day(from_us(min(one.first_us for one in closed)), place)
    due = [day for day in _ends(first, last) if day not in files]
    if not due and files == there.files:
        return at
    for day in due:
        before = max((known for known in files if known < day), default=None)
        files[day] = written(_KIND + f"-{day:%Y%m%d}", _up_to(at, rollup, folder, files, before, day))
    covered = tuple(one.rollups[rollup.key] for one in closed)
    ordered = tuple(files[day] for day in sorted(files))
    return replace(at, tables=at.tables | {_until(rollup): ordered, _of(rollup): covered})


def _up_to(
    at: Manifest, rollup: RollUp, folder: Path, files: Mapping[date, str], before: date | None, day: date
) -> str:
    """SQL of everything up to the end of ``day``: what it comes to ``before``, and the days since."""
    since_us = None if before is None else end_us(at, before)
    among = [
        one.rollups[rollup.key]
        for one in at.segments
        if one.closed and one.first_us < end_us(at, day) and (since_us is None or one.last_us >= since_us)
    ]
    parts = []
    if among:
        condition = f"day <= DATE '{day}'" + ("" if before is None else f" AND day > DATE '{before}'")
        parts.append(f"SELECT * FROM read_parquet({paths(folder, among)}) WHERE {condition}")
    if before is not None:
        parts.append(f"SELECT * FROM read_parquet({paths(folder, [files[before]])})")
    return rollup.added_up(f"({' UNION ALL '.join(parts)})", day) + " ORDER BY ALL"


def end_us(at: Manifest, day: date) -> int:
    """The instant at which a reporting day ends."""
    return to_us(first_instant(day + timedelta(days=1), checked_zone(at.zone)))


def _ends(first: date, last: date) -> Iterator[date]:
    """The weeks' ends among these days."""
    for number in range(first.toordinal(), last.toordinal() + 1):
        if number % EVERY_DAYS == 0:
            yield date.fromordinal(number)


_KIND = "until"


def _until(rollup: RollUp) -> str:
    return f"{_KIND} {rollup.key}"


def _of(rollup: RollUp) -> str:
    return f"{_until(rollup)} of"


def _day_of(file: str) -> date:
    return date.fromisoformat(file.split("-")[1])
