"""What a plain count leaves of a plan that counts generations: by local day, by month with one burst day, by window."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

HOUR = timedelta(hours=1)
DAILY, WINDOW = 5, 3
#: Of ``studio_pro``, for video.
PER_MONTH, PER_DAY, BURST = 80, 15, 25


class Made(NamedTuple):
    """A generation that was served. ``at``: the instant that it counts at."""

    user: str
    request_id: str
    ip: str | None
    at: datetime
    images: int
    ended: bool = False


def left_of_the_day(made: Iterable[Made], zone: ZoneInfo, at: datetime) -> int:
    """What is left of :data:`DAILY` on the local day of ``at``."""
    today = at.astimezone(zone).date()
    return DAILY - sum(m.images for m in made if m.at.astimezone(zone).date() == today)


def left_of_the_month(made: Iterable[Made], at: datetime) -> int:
    """What is left of a cycle's videos, of which ``made`` holds no others, on the UTC day of ``at``."""
    by_day: dict[Any, int] = {}
    for m in made:
        by_day[m.at.date()] = by_day.get(m.at.date(), 0) + m.images
    spent = any(count > PER_DAY for day, count in by_day.items() if day != at.date())
    return min((PER_DAY if spent else BURST) - by_day.get(at.date(), 0), PER_MONTH - sum(by_day.values()))


def left_of_the_window(made: Iterable[Made], at: datetime) -> int:
    """What is left of three: windows follow each other, each opened by the first one after the last."""
    opened, used = None, 0
    for m in sorted(made, key=lambda m: m.at):
        if opened is None or m.at >= opened + 24 * HOUR:
            opened, used = m.at, 0
        used += m.images
    running = opened is not None and at < opened + 24 * HOUR
    return WINDOW - (used if running else 0)


def left_for_a_guest(made: Iterable[Made], user: str, ip: str | None, at: datetime) -> int:
    """The tighter of the session's window and the address's."""
    made = list(made)
    here = [left_of_the_window([m for m in made if m.user == user], at)]
    if ip is not None:
        here.append(left_of_the_window([m for m in made if m.user.startswith("guest:") and m.ip == ip], at))
    return min(here)
