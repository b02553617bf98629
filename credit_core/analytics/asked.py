"""What statements are rewritten over, and what comes of it (:mod:`credit_core.analytics.rewriting`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Any, NamedTuple

from credit_core.analytics.days import day_within
from credit_core.analytics.rollups import RollUp
from credit_core.analytics.stepping import Ranking


class Rolled(NamedTuple):
    """A roll-up and what of its definition expressions are compared with."""

    rollup: RollUp
    conditions: Mapping[str, str]
    measures: Mapping[str, str]
    counts: Mapping[str, str]
    latest: Mapping[str, str]


class Held(NamedTuple):
    """Of which days visits are there; ``newest``: the newest file of them, which is another once anything of these days is."""

    first: date
    through: date
    newest: str


class RolledUp(NamedTuple):
    """What is rolled up: the first and last reporting day; ``fresh``: there are entries that are not yet.

    ``last_us``: the newest entry's instant where that is known: a bound after it cuts through nothing.
    ``names``: the roll-ups that are there. ``carried``: roll-up → days up to whose end everything is added up, but for entries
    that came later, where it is among ``late``. ``visits``: the days of which it is known who came.
    ``subsets``: those of entries kept apart. ``closed``: the files of closed segments.
    """

    zone: str
    first: date
    last: date
    last_us: int | None
    fresh: bool
    names: frozenset[str]
    carried: tuple[tuple[str, tuple[date, ...]], ...] = ()
    late: frozenset[str] = frozenset()
    visits: Held | None = None
    subsets: frozenset[str] = frozenset()
    closed: tuple[str, ...] = ()

    def days_cut(self, cuts: Iterable[int]) -> dict[date, list[int]]:
        """The days that instants lie within → those instants; one after the newest entry cuts through nothing."""
        beyond = float("inf") if self.last_us is None else self.last_us
        within: dict[date, list[int]] = {}
        for at in sorted(cuts):
            day = day_within(at, self.zone) if at <= beyond else None
            if day is not None and self.first <= day <= self.last:
                within.setdefault(day, []).append(at)
        return within


class Cut(NamedTuple):
    """A relation that a rewritten statement asks: a day rolled up on either side of what cuts it, or its ``entries``.

    Without ``entries`` it is kept from the first question on; as long as ``of`` is the same, where that is said, else until
    something new is copied. Quantiles have no ``sql`` but a ``ranking``.
    """

    name: str
    sql: str
    entries: str | None
    of: str | None = None
    ranking: Ranking | None = None


class Asked(NamedTuple):
    """A statement, its parameters in order, and what it needs made first."""

    sql: str
    parameters: list[Any]
    cuts: tuple[Cut, ...] = ()
