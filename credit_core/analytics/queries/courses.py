"""The courses of several metrics at once: what :func:`~credit_core.analytics.queries.series.daily` tells of each, in few statements."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from itertools import accumulate, groupby
from typing import Any

import pandas as pd
from sqlalchemy import func, null, select

from credit_core.analytics import relations
from credit_core.analytics.days import reporting_days
from credit_core.analytics.filters import Filters
from credit_core.analytics.metrics import Metric, metric
from credit_core.analytics.queries import series
from credit_core.analytics.sync import Facts

#: Numerator and denominator of one day.
Parts = tuple[Any, Any]


def courses(facts: Facts, filters: Filters, slugs: Sequence[str]) -> pd.DataFrame:
    """Each metric's value on every reporting day of the period: ``day``, and a column per slug; unknown ones are NaN."""
    days = reporting_days(filters.period, facts.zone)
    named = [one.day for one in days]
    lived = {one.date() for one in series.lived_days(facts, filters.period)}
    lengths = {day.date(): length for day, length in series._lengths(facts, filters, days).items()}
    columns: dict[str, list[float | None]] = {}
    ordered = sorted((metric(slug) for slug in slugs), key=series._asked_together)
    for _, group in groupby(ordered, key=series._asked_together):
        together = list(group)
        found = _asked(facts, filters, together, named[0])
        for number, declared in enumerate(together):
            parts = {day: (row[2 * number], row[2 * number + 1]) for day, row in found.items()}
            filled = _filled(facts, declared, parts, named, lived)
            columns[declared.slug] = [
                _value(declared, part, lengths.get(day)) for day, part in zip(named, filled, strict=True)
            ]
    values = {slug: pd.Series(columns[slug], dtype="float64") for slug in slugs}
    return pd.DataFrame({"day": pd.to_datetime(named), **values})


def _asked(facts: Facts, filters: Filters, together: Sequence[Metric], first: date) -> dict[date, tuple[Any, ...]]:
    """By day, numerator and denominator of each metric, one after the other."""
    relation = series._looked_at(together[0], filters)
    day = series._day_of(together[0], relation, facts.zone, first).label("day")
    parts: list[Any] = []
    for declared in together:
        whole = declared.denominator
        parts += [declared.numerator(relation.c), null() if whole is None else whole(relation.c)]
    labelled = [part.label(f"part_{number}") for number, part in enumerate(parts)]
    statement = select(day, *labelled).select_from(relation).where(series._kept(together[0], relation, filters))
    return {row[0]: tuple(row[1:]) for row in facts.rows(statement.group_by(day))}


def _filled(
    facts: Facts, declared: Metric, found: Mapping[date, Parts], days: Sequence[date], lived: set[date]
) -> Iterable[Parts]:
    """A part for every day: 0 where no rows mean that, unknown where the ledger knows nothing of the day."""
    if declared.span == "to_date":
        newest = facts.rows(select(func.max(relations.facts.c.day)))[0][0]
        stock = accumulate((found.get(day, (None, None))[0] or 0 for day in days), initial=0)
        next(stock)
        return [
            (held if newest is not None and day <= newest else None, None)
            for day, held in zip(days, stock, strict=True)
        ]
    zero = (0, 0) if declared.zero_of_nothing or declared.denominator is not None else (None, None)
    return [found.get(day, zero if day in lived else (None, None)) for day in days]


def _value(declared: Metric, parts: Parts, length: float | None) -> float | None:
    numerator, denominator = parts
    if numerator is None:
        return None
    if declared.denominator is not None:
        return float(numerator) / float(denominator) if denominator else None
    if not declared.per_day:
        return float(numerator) / declared.scale
    return None if length is None else float(numerator) / declared.scale / length
