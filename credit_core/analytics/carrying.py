"""Balances carried forward: everything up to the end of some days, added up, so that no question has to begin at the beginning.

The writer of a folder of segments makes what is missing after each run: roll-ups that a segment lacks because a later release
declares them, and, of the end of each week and each of the last days, the sum of all that came before, for each account. Rows of
such a day's end are in the order of the one before, with new accounts behind: so what came between two of them is told by taking
row from row, without looking for the accounts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from credit_core.analytics import days as reporting
from credit_core.analytics.filing import kept_of, paths, quoted
from credit_core.analytics.manifest import Manifest, Segment
from credit_core.analytics.rollups import ROLLUPS, RollUp
from credit_core.policy.cycles import local_day
from credit_core.units import checked_zone, from_us

#: Days between two days up to whose end everything is added up, and how many of the last days are such days, each of them: nine
#: weeks, so that 28 days and the 28 before them begin and end where one is.
EVERY_DAYS, LAST_DAYS = 7, 63
#: Writes the rows of a statement to a new file of a kind, and gives its name.
Written = Callable[[str, str], str]


class Carried(NamedTuple):
    """Days up to whose end a roll-up is added up → the file; ``late``: files with entries that came since, for those days too."""

    files: Mapping[date, str]
    late: tuple[str, ...]


class AddedUp(NamedTuple):
    """What a question need not tell apart: everything up to the end of a day; and spans, each from after a day to the end of another."""

    until: date | None
    spans: tuple[tuple[date, date], ...]

    def days(self) -> list[str]:
        """Conditions on a day, one of which those have that are in it."""
        return [
            *([] if self.until is None else [f"day <= DATE '{self.until}'"]),
            *(f"day > DATE '{after}' AND day <= DATE '{until}'" for after, until in self.spans),
        ]


class Told(NamedTuple):
    """A day that a question tells from those before it; ``within``: parts of the day too."""

    day: date
    within: bool


def not_told_apart(days: Sequence[date], told: Sequence[Told], before: date) -> AddedUp:
    """Of the spans between ``days``, those without a bound in them; from the day ``before`` on every day is told apart."""
    until = max((day for day in days if all(day < one.day for one in told)), default=None)
    bounds = {one.day for one in told}
    spans: list[tuple[date, date]] = []
    for after, end in pairwise(sorted(day for day in days if until is None or day >= until)):
        first = after + timedelta(days=1)
        if end >= before or any(first <= one.day <= end and (one.day > first or one.within) for one in told):
            continue
        if spans and spans[-1][1] == after and first not in bounds:
            first = spans.pop()[0] + timedelta(days=1)
        spans.append((first - timedelta(days=1), end))
    return AddedUp(until, tuple(spans))


def carried(at: Manifest, rollup: RollUp) -> Carried:
    """What is there of a roll-up, and still holds."""
    covered = set(at.tables.get(_of(rollup), ()))
    closed = [one for one in at.segments if one.closed]
    files = {_day_of(name): name for name in at.tables.get(_ends_of(rollup), ())}
    if not files or not covered <= {one.rollups.get(rollup.key, "") for one in closed}:
        return Carried({}, ())
    since = [one for one in closed if one.rollups[rollup.key] not in covered]
    end = end_us(at, max(files))
    return Carried(files, tuple(one.rollups[rollup.key] for one in since if one.first_us < end))


def first_day(at: Manifest) -> date:
    """The oldest day of a closed segment; there is one."""
    return local_day(from_us(min(one.first_us for one in at.segments if one.closed)), checked_zone(at.zone))


def last_whole_day(at: Manifest) -> date | None:
    """The newest day that is over and has closed entries; None where there is none."""
    closed = [one.last_us for one in at.segments if one.closed]
    if not closed or at.last_us is None:
        return None
    place = checked_zone(at.zone)
    return min(local_day(from_us(max(closed)), place), local_day(from_us(at.last_us), place) - timedelta(days=1))


def completed(at: Manifest, folder: Path, written: Written) -> Manifest:
    """The manifest with every roll-up of each closed segment, and with what is carried to the ends of days that are over.

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
    files = dict(there.files)
    if there.late:
        # What was added up before they came is made again.
        late_us = min(one.first_us for one in closed if one.rollups[rollup.key] in there.late)
        since = local_day(from_us(late_us), checked_zone(at.zone))
        files = {day: name for day, name in files.items() if day < since}
    ends = list(_ends(first_day(at), last))
    for day in ends:
        if day not in files:
            before = max(((one, name) for one, name in files.items() if one < day), default=None)
            files[day] = written(f"until-{day:%Y%m%d}", _until(at, rollup, folder, day, before))
    files = {day: files[day] for day in ends}
    if files == there.files:
        return at
    covered = tuple(one.rollups[rollup.key] for one in closed)
    # Those of other definitions, and of releases that kept weeks, are not asked any more.
    others = {name: names for name, names in at.tables.items() if not name.startswith(_KINDS)}
    return replace(at, tables=others | {_ends_of(rollup): tuple(files.values()), _of(rollup): covered})


def _until(at: Manifest, rollup: RollUp, folder: Path, day: date, before: tuple[date, str] | None) -> str:
    """SQL of everything up to the end of a day, from the day's end before it, whose rows stay where they are."""
    first = first_day(at) if before is None else before[0] + timedelta(days=1)
    rows = f"SELECT *, NULL AS place FROM ({rows_of(at, rollup, folder, first, day)})"
    if before is not None:
        known = f"read_parquet({paths(folder, [before[1]])}, file_row_number = true)"
        rows += f" UNION ALL BY NAME SELECT * RENAME (file_row_number AS place) FROM {known}"
    keys = ", ".join(f'"{key}"' for key in rollup.keys if key != "day")
    return f"{rollup.added_up(f'({rows})', day)} ORDER BY min(place) NULLS LAST, {keys}"


def rows_of(at: Manifest, rollup: RollUp, folder: Path, first: date, last: date) -> str:
    """SQL of the roll-up's rows of closed segments, of the days from ``first`` to ``last``."""
    start_us, stop_us = end_us(at, first - timedelta(days=1)), end_us(at, last)
    closed = [one for one in at.segments if one.closed]
    among = [one.rollups[rollup.key] for one in closed if start_us <= one.last_us and one.first_us < stop_us]
    # Days without entries have the columns of any other.
    files = among or [closed[0].rollups[rollup.key]]
    return f"SELECT * FROM read_parquet({paths(folder, files)}) WHERE day BETWEEN DATE '{first}' AND DATE '{last}'"


def end_us(at: Manifest, day: date) -> int:
    """The instant at which a reporting day ends."""
    return reporting.end_us(day, at.zone)


def _ends(first: date, last: date) -> Iterator[date]:
    """The weeks' ends among these days, and each of the last days."""
    for number in range(first.toordinal(), last.toordinal() + 1):
        if number % EVERY_DAYS == 0 or number > last.toordinal() - LAST_DAYS:
            yield date.fromordinal(number)


#: What a manifest's lists of day ends are called, in this release and before it.
_KINDS = ("until ", "week ", "day ends ")


def _ends_of(rollup: RollUp) -> str:
    return f"day ends {rollup.key}"


def _of(rollup: RollUp) -> str:
    return f"{_ends_of(rollup)} of"


def _day_of(file: str) -> date:
    return date.fromisoformat(file.split("-")[1])
