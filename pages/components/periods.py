"""Which instants a choice of the bar means: where periods end and begin, and what each is compared with. Without Streamlit.

A period ends at the ledger's anchor: now, or, where the newest entry is older than 36 hours, the end of that entry's
day. It begins at a midnight of the reporting zone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from credit_core.analytics.filters import Period
from credit_core.analytics.queries.running import Running
from credit_core.policy.cycles import add_months, first_instant
from pages.components import numbers

#: Periods as the URL has them, and how many days of the reporting zone those of a fixed length cover.
TODAY, CYCLE, CUSTOM = "today", "cycle", "custom"
DAYS = {TODAY: 1, "7d": 7, "28d": 28, "90d": 90}
DEFAULT_PERIOD = "28d"
PERIODS = {TODAY: "Today", "7d": "7 days", "28d": "28 days", "90d": "90 days", CYCLE: "This cycle", CUSTOM: "Custom"}
PREVIOUS, LAST_CYCLE, NOTHING = "previous", "cycle", "none"
COMPARISONS = {PREVIOUS: "vs previous", LAST_CYCLE: "vs last cycle", NOTHING: "vs nothing"}

#: A ledger whose newest entry is older than this is read as of the end of that entry's day.
OLD_AFTER = timedelta(hours=36)
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Anchor:
    """Where periods end, and whether that is in the past because the ledger is old."""

    end: datetime
    newest: datetime | None
    old: bool

    def today(self, zone: ZoneInfo) -> date:
        """The last reporting day that periods cover."""
        return (self.end - timedelta(microseconds=1)).astimezone(zone).date()


def anchor(newest: datetime | None, now: datetime, zone: ZoneInfo) -> Anchor:
    """The instant at which periods end. The present is rounded up to a minute, so that answers can be kept that long."""
    if newest is not None and now - newest > OLD_AFTER:
        return Anchor(first_instant(newest.astimezone(zone).date() + _DAY, zone), newest, True)
    whole_minute = now.replace(second=0, microsecond=0)
    return Anchor(whole_minute if whole_minute == now else whole_minute + timedelta(minutes=1), newest, False)


def period_of(choice: str, chosen: Sequence[date], until: Anchor, zone: ZoneInfo) -> Period:
    """The period that a choice names, but for a cycle. ``chosen`` are the first and last day of a custom one."""
    last = until.today(zone)
    if choice == CUSTOM and chosen:
        first, end_day = min(chosen), min(max(chosen), last)
        start = first_instant(min(first, end_day), zone)
        end = until.end if end_day == last else first_instant(end_day + _DAY, zone)
        return Period(start, end)
    length = DAYS.get(choice, DAYS[DEFAULT_PERIOD])
    return Period(first_instant(last - timedelta(days=length - 1), zone), until.end)


def this_cycle(running: Running | None, until: Anchor, zone: ZoneInfo) -> Period:
    """Since the day on which the middle one of the running cycles began; the calendar month so far where none runs."""
    last = until.today(zone)
    first = last.replace(day=1) if running is None else min(running.began, last)
    return Period(first_instant(first, zone), until.end)


def previous(period: Period, zone: ZoneInfo) -> Period:
    """The same number of days right before, as much of them as has passed of ``period``: to the same time of day."""
    first, after = _days_of(period, zone)
    return _moved(period, first - (after - first), zone)


def last_cycle(period: Period, zone: ZoneInfo) -> Period:
    """The same days as many whole cycles earlier as the period touches, to the same time of day; it ends where that begins.

    A cycle is a calendar month (SPEC 2.2), so a short one before a long one has fewer days to compare with.
    """
    first, _ = _days_of(period, zone)
    moved = _moved(period, add_months(first, -cycles_covered(period, zone)), zone)
    return Period(moved.start, min(moved.end, period.start))


def cycles_covered(period: Period, zone: ZoneInfo) -> int:
    """How many cycles that begin with ``period`` it takes to cover it."""
    first, after = _days_of(period, zone)
    count = 1
    while add_months(first, count) < after:
        count += 1
    return count


def compared(choice: str, period: Period, named: str, zone: ZoneInfo) -> Period | None:
    """What ``period``, chosen as ``named``, is compared with. Before this cycle comes the last one."""
    if choice == NOTHING:
        return None
    return last_cycle(period, zone) if _to_last_cycle(choice, named) else previous(period, zone)


def compare_name(choice: str, period: Period, named: str, zone: ZoneInfo) -> str:
    """What a comparison is called beside a change: 'previous 28 days', 'last cycle'."""
    if _to_last_cycle(choice, named):
        count = cycles_covered(period, zone)
        return "last cycle" if count == 1 else f"{count} cycles before"
    if named == TODAY:
        return "yesterday"
    return "previous period" if named == CUSTOM else f"previous {PERIODS[named]}"


def range_text(days: Sequence[date]) -> str:
    """Days as the URL has them: ``2025-03-01..2025-03-09``; ``2025-03-01..`` while the second is being chosen."""
    return f"{days[0]}..{days[1] if len(days) > 1 else ''}" if days else ""


def range_days(text: str, first: date, last: date) -> tuple[date, ...]:
    """The days that a URL's range names, within ``first`` to ``last``; none where it names none of those."""
    try:
        days = sorted(date.fromisoformat(part) for part in text.split("..", 1) if part)
    except ValueError:
        return ()
    if not days or days[0] > last or days[-1] < first:
        return ()
    return tuple(min(max(day, first), last) for day in days)


def days_in_words(period: Period, zone: ZoneInfo) -> str:
    """The days that a period touches: '3–9 Mar 2025'."""
    first, after = _days_of(period, zone)
    last = after - _DAY
    if first == last:
        return numbers.day(first)
    if (first.year, first.month) == (last.year, last.month):
        return f"{first.day}–{numbers.day(last)}"
    return f"{numbers.day(first, year=first.year != last.year)} – {numbers.day(last)}"


def cycle_in_words(running: Running | None) -> str:
    """Whose cycle this cycle is, for the line under the bar."""
    if running is None:
        return "no cycle runs with these filters, so this is the calendar month"
    if running.cycles == 1:
        return f"the one running cycle began on {numbers.day(running.began)}"
    if running.near == running.cycles:
        return (
            f"all {numbers.counted(running.cycles, 'running cycle')} began within a day of {numbers.day(running.began)}"
        )
    return (
        f"the middle one of {numbers.counted(running.cycles, 'running cycle')} began on {numbers.day(running.began)}, "
        f"{numbers.share(running.near / running.cycles)} of them within a day of it"
    )


def meaning(choice: str, named: str) -> str | None:
    """What "cycle" means in the period and the comparison, for the line's (i); None where neither has one."""
    by_cycle = _to_last_cycle(choice, named)
    return "\n\n".join(text for text, told in ((_THIS, named == CYCLE), (_LAST, by_cycle)) if told) or None


_THIS = (
    "**This cycle** begins on the day on which the middle one of the running cycles began: of the accounts behind the filters "
    "that have a quota, half had begun theirs by then. Where all cycles share the calendar month, it is that month. Each account "
    "by its own days is on Burn rate, *By day of the cycle*."
)
_LAST = (
    "**Last cycle** is the same days one calendar month earlier, or as many whole months as the period needs; it stops at the same "
    "day and time, so 12 days are compared with 12 days."
)


def _to_last_cycle(choice: str, named: str) -> bool:
    """Whether the comparison goes by cycles: because it was chosen, or because what comes before this cycle is the last."""
    return choice == LAST_CYCLE or (choice == PREVIOUS and named == CYCLE)


def _days_of(period: Period, zone: ZoneInfo) -> tuple[date, date]:
    """The first reporting day of a period, and the day after its last one."""
    last = (period.end - timedelta(microseconds=1)).astimezone(zone).date()
    return period.start.astimezone(zone).date(), last + _DAY


def _moved(period: Period, first: date, zone: ZoneInfo) -> Period:
    """As many days from ``first`` on, whole ones where ``period`` ends with its last day, else the same elapsed time."""
    begins, after = _days_of(period, zone)
    start = first_instant(first, zone)
    if period.end == first_instant(after, zone):
        return Period(start, first_instant(first + (after - begins), zone))
    return Period(start, start + (period.end - period.start))
