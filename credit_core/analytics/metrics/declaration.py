"""What a declared metric is, and how the usual kinds of them are declared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from credit_core.analytics import measures as m
from credit_core.units import MICRO

Format = Literal["credits", "dollars", "share", "days", "count", "ms"]
Direction = Literal["up", "down", "neutral"]
#: What the expressions are over: entries; closed cycles, as such or with what moved in them; decisions beside their neighbours;
#: calls that came again.
Relation = Literal["facts", "closings", "finished", "neighbours", "repeated"]
#: ``period``: the rows of the period. ``to_date``: all rows up to its end, for what is open at that instant.
Span = Literal["period", "to_date"]

_COMMON = ("plan", "region", "modality", "arm", "config_version", "genre", "mood", "user_id", "team_id", "account_id")
POSTED = (*_COMMON, "model", "kind", "lot_kind")
DECIDED = (*_COMMON, "model", "rule", "outcome", "mode")
RATED = (*_COMMON, "mode")
ENDED = (*_COMMON, "model")
CLOSED = ("plan", "region", "account_id")
NOTHING: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A declared metric: ``numerator / scale`` in ``unit``, or ``numerator / denominator`` for a rate.

    ``dimensions``: what it may be broken down by. ``summable``: dimensions, ``day`` among them, whose parts add up to
    the whole; of a rate, numerator and denominator do. ``per_day``: also divided by the period's elapsed days.
    """

    slug: str
    title: str
    unit: str
    format: Format
    direction: Direction
    definition: str
    source: str
    numerator: m.Expression
    denominator: m.Expression | None = None
    dimensions: tuple[str, ...] = RATED
    summable: tuple[str, ...] = ("day", *RATED)
    scale: int = 1
    relation: Relation = "facts"
    span: Span = "period"
    per_day: bool = False

    @property
    def counted_apart(self) -> bool:
        """True where a row is no ledger entry: a closed cycle, or calls that came again."""
        return self.relation in ("closings", "finished", "repeated")

    @property
    def zero_of_nothing(self) -> bool:
        """True where no rows mean 0; a rate or a quantile of nothing is unknown."""
        return self.denominator is None and self.format != "ms"


def amount(slug: str, title: str, direction: Direction, definition: str, source: str, of: m.Expression) -> Metric:
    """Credits moved: a sum of micro-credits."""
    return Metric(
        slug=slug, title=title, unit="credits", format="credits", direction=direction, definition=definition, source=source,
        numerator=m.total(of), dimensions=POSTED, summable=("day", *POSTED), scale=MICRO,
    )  # fmt: skip


def money(
    slug: str,
    title: str,
    direction: Direction,
    definition: str,
    source: str,
    of: m.Expression,
    span: Span = "period",
) -> Metric:
    """Dollars: a sum of micro-dollars."""
    return Metric(
        slug=slug, title=title, unit="dollars", format="dollars", direction=direction, definition=definition, source=source,
        numerator=m.total(of), dimensions=POSTED, summable=POSTED if span == "to_date" else ("day", *POSTED), scale=MICRO,
        span=span,
    )  # fmt: skip


def number(
    slug: str, title: str, unit: str, direction: Direction, definition: str, source: str, condition: m.Expression,
    dimensions: tuple[str, ...] = DECIDED,
) -> Metric:  # fmt: skip
    """How many entries meet a condition."""
    return Metric(
        slug=slug, title=title, unit=unit, format="count", direction=direction, definition=definition, source=source,
        numerator=m.count(condition), dimensions=dimensions, summable=("day", *dimensions),
    )  # fmt: skip


def rate(
    slug: str, title: str, direction: Direction, definition: str, source: str, part: m.Expression, whole: m.Expression,
    dimensions: tuple[str, ...] = RATED,
) -> Metric:  # fmt: skip
    """One count over another."""
    return Metric(
        slug=slug, title=title, unit="share", format="share", direction=direction, definition=definition, source=source,
        numerator=part, denominator=whole, dimensions=dimensions, summable=("day", *dimensions),
    )  # fmt: skip


def quantile(
    slug: str, title: str, definition: str, source: str, quantile: m.Expression, dimensions: tuple[str, ...]
) -> Metric:
    """A quantile of a duration in milliseconds."""
    return Metric(
        slug=slug, title=title, unit="ms", format="ms", direction="down", definition=definition, source=source,
        numerator=quantile, dimensions=dimensions, summable=NOTHING,
    )  # fmt: skip
