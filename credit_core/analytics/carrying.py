"""Balances carried forward: everything up to the end of some days, added up, so that no question has to begin at the beginning.

The writer of a folder of segments makes what is missing after each run: roll-ups that a segment lacks because a later release
declares them, and a week's end at a time, for each account, the sum of all that came before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple

from credit_core.analytics.filing import kept_of, paths, quoted
from credit_core.analytics.manifest import Manifest, Segment
from credit_core.analytics.rollups import ROLLUPS, RollUp
from credit_core.policy.cycles import first_instant, local_day
from credit_core.units import checked_zone, from_us, to_us

#: Days between two days up to whose end everything is added up; the last such day may come sooner.
EVERY_DAYS = 7
#: Writes the rows of a statement to a new file of a kind, and gives its name.
Written = Callable[[str, str], str]


class Carried(NamedTuple):
    """Days up to whose end a roll-up is added up → the file; ``late``: files with entries that came since, for those days too.

    ``weeks``: such days → the file of the week that ends with the day, or as much of it as is over, added up.
    """

    files: Mapping[date, str]
    late: tuple[str, ...]
    weeks: Mapping[date, str]


class AddedUp(NamedTuple):
    """What a question need not tell apart: everything up to the end of a day, and after it the weeks that end with these."""

    until: date | None
    weeks: tuple[date, ...]

    def days(self) -> list[str]:
        """Conditions on a day, one of which those have that are in it."""
        spans: list[tuple[date | None, date]] = [] if self.until is None else [(None, self.until)]
        for day in self.weeks:
            before = end_before(day)
            if spans and spans[-1][1] == before:
                spans[-1] = (spans[-1][0], day)
            else:
                spans.append((before, day))
        return [
            ("" if after is None else f"day > DATE '{after}' AND ") + f"day <= DATE '{day}'" for after, day in spans
        ]


class Told(NamedTuple):
    """A day that a question tells from those before it; ``within``: parts of the day too."""

    day: date
    within: bool


def not_told_apart(days: Sequence[date], told: Sequence[Told], before: date) -> AddedUp:
    """Of the weeks that end with ``days``, those without a bound in them; from the day ``before`` on every day is told apart."""
    until = max((day for day in days if all(day < one.day for one in told)), default=None)

    def whole(end: date) -> bool:
        first = end_before(end) + timedelta(days=1)
        return all(end < one.day or one.day < first or (one.day == first and not one.within) for one in told)

    weeks = (day for day in sorted(days) if (until is None or day > until) and day < before and whole(day))
    return AddedUp(until, tuple(weeks))


def dates(days: Iterable[date]) -> str:
    """Days as literals of SQL."""
    return ", ".join(f"DATE '{day}'" for day in days)


def carried(at: Manifest, rollup: RollUp) -> Carried:
    """What is there of a roll-up, and still holds."""
    covered = set(at.tables.get(_of(rollup), ()))
    closed = [one for one in at.segments if one.closed]
    files, weeks = ({_day_of(name): name for name in at.tables.get(of(rollup), ())} for of in (_until, _week))
    if not files or not covered <= {one.rollups.get(rollup.key, "") for one in closed}:
        return Carried({}, (), {})
    since = [one for one in closed if one.rollups[rollup.key] not in covered]
    end = end_us(at, max(files))
    return Carried(files, tuple(one.rollups[rollup.key] for one in since if one.first_us < end), weeks)


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
    files, weeks = dict(there.files), dict(there.weeks)
    if there.late:
        # What was added up before they came is made again.
        late_us = min(one.first_us for one in closed if one.rollups[rollup.key] in there.late)
        since = local_day(from_us(late_us), checked_zone(at.zone))
        files, weeks = ({day: name for day, name in kept.items() if day < since} for kept in (files, weeks))
    ends = list(_ends(first_day(at), last))
    files, weeks = ({day: name for day, name in kept.items() if day in ends} for kept in (files, weeks))
    for day in ends:
        week_before = end_before(day)
        if day not in weeks:
            rows = rows_of(at, rollup, folder, week_before + timedelta(days=1), day)
            weeks[day] = written(f"week-{day:%Y%m%d}", _added_up(rollup, day, rows))
        if day not in files:
            before = files.get(week_before)
            parts = [weeks[day], *([] if before is None else [before])]
            rows = f"SELECT * FROM read_parquet({paths(folder, parts)})"
            files[day] = written(f"until-{day:%Y%m%d}", _added_up(rollup, day, rows))
    if (files, weeks) == (there.files, there.weeks):
        return at
    covered = tuple(one.rollups[rollup.key] for one in closed)
    ordered = {of(rollup): tuple(kept[day] for day in sorted(kept)) for of, kept in ((_until, files), (_week, weeks))}
    return replace(at, tables=at.tables | ordered | {_of(rollup): covered})


def _added_up(rollup: RollUp, day: date, rows: str) -> str:
    return rollup.added_up(f"({rows})", day) + " ORDER BY ALL"


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
    return to_us(first_instant(day + timedelta(days=1), checked_zone(at.zone)))


def end_before(day: date) -> date:
    """The last week's end before a day."""
    return day - timedelta(days=(day.toordinal() - 1) % EVERY_DAYS + 1)


def _ends(first: date, last: date) -> Iterator[date]:
    """The weeks' ends among these days, and the last of them."""
    for number in range(first.toordinal(), last.toordinal() + 1):
        if number % EVERY_DAYS == 0 or number == last.toordinal():
            yield date.fromordinal(number)


def _until(rollup: RollUp) -> str:
    return f"until {rollup.key}"


def _week(rollup: RollUp) -> str:
    return f"week {rollup.key}"


def _of(rollup: RollUp) -> str:
    return f"{_until(rollup)} of"


def _day_of(file: str) -> date:
    return date.fromisoformat(file.split("-")[1])
