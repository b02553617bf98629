"""Any metric by up to two dimensions: the largest parts and all others together, the rows behind a point, the SQL."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import pandas as pd
from sqlalchemy import ColumnElement, Text, and_, cast, func, or_, select, true

from credit_core.analytics import measures, relations
from credit_core.analytics.filters import Filters, Period, fair
from credit_core.analytics.metrics import Metric, checked_dimension, metric
from credit_core.analytics.queries.export import csv_bytes, rows_frame
from credit_core.analytics.queries.series import NONE, OTHER, Apart, breakdown, breakdown_statement, change, daily
from credit_core.analytics.sync import Facts
from credit_core.errors import InvalidRequest
from credit_core.units import from_us

_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Question:
    """A metric, up to two dimensions, and how many values of each are shown apart."""

    slug: str
    by: tuple[str, ...] = ()
    top: int = 6

    def __post_init__(self) -> None:
        """Refuse what the metric cannot be broken down by."""
        if len(self.by) > 2 or len(set(self.by)) < len(self.by):
            raise InvalidRequest("A question has at most two different dimensions. Leave one out.")
        for name in self.by:
            checked_dimension(self.metric, name)

    @property
    def metric(self) -> Metric:
        """The declared metric."""
        return metric(self.slug)


@dataclass(frozen=True, slots=True)
class Point:
    """A bar, cell or dot: its day, where it has one, and its value of each dimension, OTHER and NONE among them.

    ``hour`` (0 to 23) and ``dow`` (1 Monday to 7), in the reporting zone, are dimensions of a point too.
    """

    day: date | None = None
    values: tuple[tuple[str, str], ...] = ()


def apart(facts: Facts, filters: Filters, question: Question) -> dict[str, tuple[str, ...]]:
    """Per dimension the values that count most over the period: of a rate by its denominator, else by the metric."""
    chosen = {}
    for name in question.by:
        # A rate's last column is its denominator; of every other metric it is the numerator.
        found = facts.rows(breakdown_statement(filters, question.slug, (name,)))
        counted = question.metric.denominator is not None or question.metric.zero_of_nothing
        ranked = sorted((row for row in found if row[-1] or not counted), key=lambda row: -abs(row[-1] or 0))
        names = [NONE if row[0] is None else str(row[0]) for row in ranked]
        # One more would be all that is in 'other': then it is shown as itself.
        chosen[name] = tuple(names if len(names) <= question.top + 1 else names[: question.top])
    return chosen


def parts(facts: Facts, filters: Filters, question: Question, apart: Apart) -> pd.DataFrame:
    """The dimensions, value, numerator, denominator, share, and where a comparison is asked for before and change.

    What is not ``apart`` is :data:`OTHER`, worked out over its own rows: rates are never averaged.
    """
    filters = _fair(facts, filters)
    now = _told(breakdown(facts, filters, question.slug, question.by, apart=apart), question)
    compared = filters.compared()
    if compared is None:
        return now.assign(before=float("nan"), change=float("nan"))
    then = breakdown(facts, compared, question.slug, question.by, apart=apart)
    keys = list(question.by)
    joined = now.merge(then[[*keys, "value"]].rename(columns={"value": "before"}), on=keys, how="left")
    if question.metric.zero_of_nothing:
        joined["before"] = joined["before"].fillna(0.0)
    moved = [
        change(question.metric, _known(after), _known(before))
        for after, before in zip(joined["value"], joined["before"], strict=True)
    ]
    return joined.assign(change=pd.Series(moved, index=joined.index, dtype="float64"))


def course(facts: Facts, filters: Filters, question: Question, apart: Apart) -> pd.DataFrame:
    """Per reporting day: day, the dimensions, value, numerator, denominator."""
    found = daily(facts, filters, question.slug, question.by, apart)
    return _told(found, question) if question.by else found


def sql(facts: Facts, filters: Filters, question: Question, apart: Apart) -> str:
    """The statement behind :func:`parts`, ready to run on the ledger's copy, for people who want to check it."""
    return facts.told(breakdown_statement(filters, question.slug, question.by, apart))


def has_rows(question: Question) -> bool:
    """Whether ledger entries are behind the metric; closed cycles are not entries."""
    return not question.metric.counted_apart


def point_rows(
    facts: Facts, filters: Filters, question: Question, apart: Apart, point: Point, limit: int
) -> pd.DataFrame:
    """The newest entries that went into a point; of a rate, into its numerator or denominator."""
    return rows_frame(facts, _span(filters, question), limit, _behind(question, apart, point))


def point_count(facts: Facts, filters: Filters, question: Question, apart: Apart, point: Point) -> int:
    """How many entries went into a point."""
    f = relations.facts
    kept = relations.behind(f, _span(filters, question)) & _behind(question, apart, point)
    return int(facts.rows(select(func.count()).select_from(f).where(kept))[0][0])


def point_csv(facts: Facts, filters: Filters, question: Question, apart: Apart, point: Point) -> bytes:
    """Every entry that went into a point, as CSV."""
    return csv_bytes(facts, _span(filters, question), _behind(question, apart, point))


def _fair(facts: Facts, filters: Filters) -> Filters:
    newest = facts.extent.last_us
    return fair(filters, None if newest is None else from_us(newest))


def _told(frame: pd.DataFrame, question: Question) -> pd.DataFrame:
    """Without the parts in which nothing was counted: most are what is left of 'other'."""
    weight = frame["numerator" if question.metric.denominator is None else "denominator"]
    counted = (weight.notna() & (weight != 0)).groupby([frame[name] for name in question.by], dropna=False)
    return frame[counted.transform("any")].reset_index(drop=True)


def _known(value: float) -> float | None:
    return None if value != value else value


def _span(filters: Filters, question: Question) -> Filters:
    """What is open at the period's end began whenever it began."""
    if question.metric.span == "period":
        return filters
    return filters.narrowed(period=Period(_BEGINNING, filters.period.end))


def _behind(question: Question, apart: Apart, point: Point) -> ColumnElement[bool]:
    f = relations.facts.c
    conditions: list[ColumnElement[bool]] = [_contributing(question.metric)(f)]
    if point.day is not None:
        to_date = question.metric.span == "to_date"
        conditions.append(f.day <= point.day if to_date else f.day == point.day)
    for name, value in point.values:
        if name not in (*question.by, "dow", "hour"):
            raise InvalidRequest(f"The point has no {name!r}. It has: {', '.join(question.by) or 'no dimension'}.")
        conditions.append(_is(f[name], value, apart.get(name, ())))
    return and_(*conditions)


def _is(column: ColumnElement[Any], value: str, named: tuple[str, ...] | Any) -> ColumnElement[bool]:
    if value == NONE:
        return column.is_(None)
    if value != OTHER:
        return cast(column, Text) == value
    others = cast(column, Text).not_in([name for name in named if name != NONE])
    return and_(column.is_not(None), others) if NONE in named else or_(column.is_(None), others)


def _contributing(declared: Metric) -> measures.Expression:
    """The condition on an entry that it goes into the metric."""
    if declared.relation == "neighbours":
        return lambda f: measures.judged(f) & f.outcome.is_not(None)
    figures = [figure for figure in (declared.numerator, declared.denominator) if figure is not None]
    known = [figure.rows for figure in figures if isinstance(figure, measures.Aggregate)]
    return lambda f: or_(*(rows(f) for rows in known)) if known else true()
