"""What is worked out of days that are over, a week at a time, in files beside the closed segments: which of it still holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from typing import NamedTuple

from credit_core.analytics.carrying import EVERY_DAYS
from credit_core.analytics.manifest import Manifest
from credit_core.analytics.rollups import ROLLUPS
from credit_core.policy.cycles import local_day
from credit_core.units import checked_zone, from_us

#: What all of it rests on.
PEOPLE = next(one for one in ROLLUPS if one.name == "people")
Span = tuple[date, date]


class ByWeek(NamedTuple):
    """Files of days, each with its first and last day; the days up to ``through`` still hold."""

    files: dict[Span, str]
    through: date | None

    @property
    def days(self) -> frozenset[date]:
        """The days that hold."""
        spans = ((first, min(last, self.through)) for first, last in self.files if self.through is not None)
        return frozenset(
            date.fromordinal(day) for first, last in spans for day in range(first.toordinal(), last.toordinal() + 1)
        )


def there(at: Manifest, kind: str) -> ByWeek:
    """What a folder has of a kind; a day does not hold any more once entries of it or of days before came later."""
    files = {_span(name): name for name in at.tables.get(kind, ())}
    # Worked out once: it is written anew every time it is asked for.
    covered, key = set(at.tables.get(rests_on(kind), ())), PEOPLE.key
    if not files or not covered <= {one.rollups.get(key, "") for one in at.segments if one.closed}:
        return ByWeek({}, None)
    since = [one.first_us for one in at.segments if one.rollups.get(key) not in covered]
    through = max(last for _, last in files)
    if since:
        through = min(through, local_day(from_us(min(since)), checked_zone(at.zone)) - timedelta(days=1))
    return ByWeek(files, through)


def tables(at: Manifest, kind: str, files: Mapping[Span, str]) -> dict[str, tuple[str, ...]]:
    """What a manifest says of files that rest on all that is closed now."""
    people = tuple(one.rollups[PEOPLE.key] for one in at.segments if one.closed)
    return {kind: tuple(files[span] for span in sorted(files)), rests_on(kind): people}


def named(kind: str, span: Span) -> str:
    """The kind of a file, by which :func:`there` knows its days."""
    return f"{kind}-{span[0]:%Y%m%d}-{span[1]:%Y%m%d}"


def weeks(first: date, last: date) -> Iterator[Span]:
    """The days in weeks that end where balances are carried to; the last may be short."""
    day = first
    while day <= last:
        end = min(day + timedelta(days=-day.toordinal() % EVERY_DAYS), last)
        yield day, end
        day = end + timedelta(days=1)


def rests_on(kind: str) -> str:
    """What the manifest calls the files of closed entries that a kind was made from."""
    return f"{kind} of"


def _span(file: str) -> Span:
    first, last = (date.fromisoformat(part) for part in file.split("-")[1:3])
    return first, last
