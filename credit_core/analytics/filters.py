"""What a reader looks at: a period and the dimensions that narrow it. One record for pages, exports and tests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from credit_core.errors import InvalidRequest
from credit_core.units import checked_instant


@dataclass(frozen=True, slots=True)
class Period:
    """Half-open span of instants [start, end), both aware UTC."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        """Refuse naive instants and empty spans."""
        checked_instant(self.start, "start")
        checked_instant(self.end, "end")
        if self.end <= self.start:
            raise InvalidRequest("A period must end after it starts. Choose a later end.")

    @property
    def length(self) -> timedelta:
        """Elapsed time."""
        return self.end - self.start

    def before(self) -> Period:
        """The period of the same elapsed length right before this one."""
        return Period(self.start - self.length, self.start)


@dataclass(frozen=True, slots=True)
class Filters:
    """A period, an optional comparison, and the values kept of each dimension (empty keeps all).

    ``policies`` and ``unit`` say what was asked for; ``within`` are the plans that they leave (None leaves all), because
    entries know plans. Amounts of different units are never summed: with more than one in the ledger, ``unit`` is set.
    """

    period: Period
    compare: Period | None = None
    plans: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    teams: tuple[str, ...] = ()
    cell: tuple[str, str] | None = None
    policies: tuple[str, ...] = ()
    unit: str | None = None
    within: tuple[str, ...] | None = None

    def compared(self) -> Filters | None:
        """The same filters over the comparison period; None where nothing is compared."""
        return None if self.compare is None else replace(self, period=self.compare, compare=None)

    def at_end(self) -> Filters:
        """The same filters for what is so at the period's end: one question, however long the period is."""
        end = self.period.end
        return replace(self, period=Period(end - timedelta(days=1), end), compare=None)

    def narrowed(self, **changes: object) -> Filters:
        """These filters with some fields replaced, for a drill-down."""
        return replace(self, **changes)  # type: ignore[arg-type]


def fair(filters: Filters, as_of: datetime | None) -> Filters:
    """An unfinished period compared over the same elapsed time: the comparison is cut where the period has come to (SPEC 6)."""
    period, compare = filters.period, filters.compare
    if compare is None or as_of is None or not period.start < as_of < period.end:
        return filters
    end = min(compare.end, compare.start + (as_of - period.start))
    return replace(filters, compare=Period(compare.start, end))
