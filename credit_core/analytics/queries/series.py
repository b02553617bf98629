"""Any metric: its value, against the comparison, by day, by dimension, by hour of the week."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from sqlalchemy import ColumnElement, Date, FromClause, Select, Text, case, cast, func, literal, select

from credit_core.analytics import relations
from credit_core.analytics.days import Day, reporting_days
from credit_core.analytics.filters import Filters, Period, fair
from credit_core.analytics.measures import Aggregate, Expression
from credit_core.analytics.metrics import METRICS, Metric, checked_dimension, metric, relation_of
from credit_core.analytics.sync import Facts
from credit_core.errors import InvalidRequest
from credit_core.policy.cycles import first_instant, local_day
from credit_core.units import DAY_S, DAY_US, checked_zone, from_us, to_us

#: Of a dimension: what is not shown apart, and no value at all. Names are trimmed, so none begins with a space.
OTHER, NONE = " other", " none"
#: Dimension → the values that are shown apart; all others together are :data:`OTHER`, worked out over their rows.
Apart = Mapping[str, Sequence[str]]
#: A frame's columns by name.
Columns = Mapping[Any, "pd.Series[Any]"]


class Value(NamedTuple):
    """A metric's value in its unit, and the raw figures behind it: micro-units or counts, exact."""

    value: float | None
    numerator: int | float | None
    denominator: int | None


def value(facts: Facts, filters: Filters, slug: str) -> Value:
    """One metric over the period."""
    return values(facts, filters, (slug,))[slug]


def values(facts: Facts, filters: Filters, slugs: Sequence[str]) -> dict[str, Value]:
    """Several metrics over the period, by slug and in that order: one statement per relation, however many metrics."""
    found: dict[str, Value] = {}
    days = elapsed_days(facts, filters.period)
    for together in _together(slugs):
        relation = _looked_at(together[0], filters, facts)
        parts: dict[Expression, ColumnElement[Any]] = {}
        for declared in together:
            for part in (declared.numerator, declared.denominator):
                # What several metrics rest on is counted once.
                if part is not None and part not in parts:
                    parts[part] = part(relation.c).label(f"part_{len(parts)}")
        statement = select(*parts.values()).select_from(relation).where(_kept(together[0], relation, filters))
        row = dict(zip(parts, facts.rows(statement)[0], strict=True))
        for declared in together:
            numerator = row[declared.numerator]
            denominator = None if declared.denominator is None else row[declared.denominator]
            found[declared.slug] = Value(_value(declared, numerator, denominator, days), numerator, denominator)
    return {slug: found[slug] for slug in slugs}


def _asked_together(declared: Metric) -> tuple[str, str, str, bool]:
    timed = _timed(declared, relations.facts)
    return declared.relation, declared.span, "" if timed is None else str(timed), tells_apart(declared)


def _timed(declared: Metric, relation: FromClause) -> ColumnElement[bool] | None:
    """Of a quantile the condition on a row that has the value: it is one of those rows, and of no other."""
    if declared.format != "ms" or not isinstance(declared.numerator, Aggregate):
        return None
    return declared.numerator.rows(relation.c)


def tells_apart(declared: Metric) -> bool:
    """Whether a metric counts accounts, which needs more rows than sums do."""
    return isinstance(declared.numerator, Aggregate) and declared.numerator.told_apart


def kpis(facts: Facts, filters: Filters, slugs: Sequence[str]) -> pd.DataFrame:
    """Metrics over the period and over the comparison, which is cut to the same elapsed time.

    Columns slug, title, unit, format, direction, value, numerator, denominator, before, change. ``change`` is relative
    for amounts, counts and times, and the difference for shares.
    """
    wanted = [metric(slug) for slug in slugs]
    known = facts.extent
    filters = fair(filters, None if known.last_us is None else from_us(known.last_us))
    compared = filters.compared()
    now = values(facts, filters, slugs)
    then = {} if compared is None else values(facts, compared, slugs)
    rows = []
    for declared in wanted:
        at = now[declared.slug]
        before = then[declared.slug].value if declared.slug in then else None
        what = (declared.slug, declared.title, declared.unit, declared.format, declared.direction)
        rows.append((*what, *at, before, change(declared, at.value, before)))
    columns = ["slug", "title", "unit", "format", "direction", *Value._fields, "before", "change"]
    # As objects, so that integers stay exact beside the quantiles' fractions.
    frame = pd.DataFrame(rows, columns=columns, dtype="object")
    return frame.astype(dict.fromkeys(("value", "before", "change"), "float64"))


def change(declared: Metric, now: float | None, before: float | None) -> float | None:
    """Relative change; for shares the difference. None where it cannot be told."""
    if now is None or before is None:
        return None
    if declared.format == "share":
        return now - before
    return None if before == 0 else now / before - 1.0


def daily(
    facts: Facts, filters: Filters, slug: str, by: str | Sequence[str] | None = None, apart: Apart | None = None
) -> pd.DataFrame:
    """Per reporting day of the period: day, (``by``), value, numerator, denominator.

    A day without matching rows is 0 (unknown for rates) where the ledger has other entries that day, else missing.
    """
    return dailies(facts, filters, (slug,), by, apart)[slug]


def dailies(
    facts: Facts, filters: Filters, slugs: Sequence[str], by: str | Sequence[str] | None = None, apart: Apart | None = None
) -> dict[str, pd.DataFrame]:  # fmt: skip
    """:func:`daily` of several metrics by slug, with one statement per relation."""
    found: dict[str, pd.DataFrame] = {}
    days = reporting_days(filters.period, facts.zone)
    for together in _together(slugs):
        keys = [checked_dimension(declared, name) for declared in together[:1] for name in _names(by)]
        relation = _looked_at(together[0], filters, facts)
        day = _day_of(together[0], relation, facts.zone, days[0].day).label("day")
        rows = facts.frame(
            _grouped(together, relation, filters, [day, *(_dimension(relation, name, apart) for name in keys)])
        )
        rows["day"] = pd.to_datetime(rows["day"])
        merged, empty = _on_grid(days, rows, keys)
        _fill(facts, filters, together, merged, empty, keys)
        lengths = merged["day"].map(_lengths(facts, filters, days)) if any(one.per_day for one in together) else 1.0
        for declared, part in _apart(together, merged, ["day", *keys]):
            found[declared.slug] = _with_values(declared, part, lengths if declared.per_day else 1.0)
    return {slug: found[slug] for slug in slugs}


def breakdowns(
    facts: Facts, filters: Filters, slugs: Sequence[str], by: str | Sequence[str], only: FromClause | None = None
) -> dict[str, pd.DataFrame]:
    """Several metrics by the same dimensions, by slug and in their order: the dimensions, value, numerator, denominator.

    One statement per relation. ``only``: of the accounts in that relation.
    """
    found: dict[str, pd.DataFrame] = {}
    days = elapsed_days(facts, filters.period)
    for together in _together(slugs):
        keys = [checked_dimension(declared, name) for declared in together for name in _names(by)][: len(_names(by))]
        relation = _looked_at(together[0], filters, facts)
        dimensions = [relation.c[name] for name in keys]
        statement = _grouped(together, relation, filters, dimensions).order_by(*dimensions)
        if only is not None:
            statement = statement.where(relation.c.account_id.in_(select(only.c.account_id)))
        rows = facts.frame(statement)
        for declared, part in _apart(together, rows, keys):
            found[declared.slug] = _with_values(declared, part, days if declared.per_day else 1.0)
    return {slug: found[slug] for slug in slugs}


def _together(slugs: Sequence[str]) -> list[list[Metric]]:
    """Metrics that one statement can tell; quantiles apart, and numbers of accounts, which need more rows than sums do."""
    return [list(group) for _, group in groupby(sorted(map(metric, slugs), key=_asked_together), key=_asked_together)]


def _grouped(
    together: Sequence[Metric], relation: FromClause, filters: Filters, groups: Sequence[ColumnElement[Any]]
) -> Select[Any]:
    parts = [
        part.label(f"{part.name}_{number}")
        for number, declared in enumerate(together)
        for part in _parts(declared, relation)
    ]
    kept = _kept(together[0], relation, filters)
    return select(*groups, *parts).select_from(relation).where(kept).group_by(*groups)


def _apart(together: Sequence[Metric], rows: pd.DataFrame, keys: list[str]) -> Iterator[tuple[Metric, Columns]]:
    """Each metric's columns of :func:`_grouped`."""
    columns = dict(rows.items())
    shared = {name: columns[name] for name in keys}
    for number, declared in enumerate(together):
        figures = {name: columns.get(f"{name}_{number}") for name in ("numerator", "denominator")}
        yield declared, shared | {name: one for name, one in figures.items() if one is not None}


def breakdown(
    facts: Facts,
    filters: Filters,
    slug: str,
    by: str | Sequence[str],
    limit: int | None = None,
    apart: Apart | None = None,
) -> pd.DataFrame:
    """By one or more dimensions, largest first: the dimensions, value, numerator, denominator, share of the whole.

    ``share`` is missing where the metric may not be summed over the dimensions.
    """
    declared, keys = metric(slug), _names(by)
    found = facts.frame(breakdown_statement(filters, slug, keys, apart))
    days = elapsed_days(facts, filters.period) if declared.per_day else 1.0
    found = _with_values(declared, dict(found.items()), days)
    adds_up = declared.denominator is None and set(keys) <= set(declared.summable)
    whole = found["numerator"].sum() if adds_up else 0
    found["share"] = found["numerator"].astype("float64") / whole if whole else float("nan")
    return found if limit is None else found.head(limit)


def breakdown_statement(filters: Filters, slug: str, by: Sequence[str], apart: Apart | None = None) -> Select[Any]:
    """What :func:`breakdown` asks: the dimensions, numerator and denominator; the largest numerator first."""
    declared = metric(slug)
    relation = _looked_at(declared, filters)
    dimensions = [_dimension(relation, checked_dimension(declared, name), apart) for name in by]
    numerator, *rest = _parts(declared, relation)
    statement = select(*dimensions, numerator, *rest).select_from(relation).where(_kept(declared, relation, filters))
    return statement.group_by(*dimensions).order_by(numerator.desc(), *dimensions)


def _names(by: str | Sequence[str] | None) -> list[str]:
    return [] if by is None else [by] if isinstance(by, str) else list(by)


def _dimension(relation: FromClause, name: str, apart: Apart | None) -> ColumnElement[Any]:
    column: ColumnElement[Any] = relation.c[name]
    if apart is None or name not in apart:
        return column
    text = cast(column, Text)
    missing = literal(NONE if NONE in apart[name] else OTHER)
    return case((column.is_(None), missing), (text.in_(apart[name]), text), else_=literal(OTHER)).label(name)


def hours_of_week(facts: Facts, filters: Filters, slug: str) -> pd.DataFrame:
    """168 rows: dow (1 Monday to 7), hour (0 to 23), value, numerator, denominator, per_hour.

    ``per_hour`` is the value over the number of such weekdays in the part of the period that the ledger covers.
    """
    declared = metric(slug)
    if declared.counted_apart or declared.span == "to_date":
        raise InvalidRequest(f"{declared.title} has no hours. Use one of: {', '.join(_hourly())}.")
    relation = _looked_at(declared, filters)
    keys = [relation.c.dow, relation.c.hour]
    statement = select(*keys, *_parts(declared, relation)).select_from(relation)
    found = facts.frame(statement.where(_kept(declared, relation, filters)).group_by(*keys))
    grid = pd.MultiIndex.from_product([range(1, 8), range(24)], names=["dow", "hour"]).to_frame(index=False)
    merged = grid.merge(found, on=["dow", "hour"], how="left")
    if declared.zero_of_nothing:
        merged["numerator"] = merged["numerator"].fillna(0)
    merged = _with_values(declared, dict(merged.items()))
    lived = Counter(one.day.isoweekday() for one in reporting_days(covered(facts, filters.period), facts.zone))
    seen = merged["dow"].map(dict(lived)) if declared.denominator is None else 1.0
    merged["per_hour"] = merged["value"] / seen
    return merged


def covered(facts: Facts, period: Period) -> Period:
    """The part of the period from the start of the ledger's first reporting day to its newest entry; else the period itself."""
    known = facts.extent
    if known.first_us is None or known.last_us is None:
        return period
    zone = checked_zone(facts.zone)
    start = max(period.start, first_instant(local_day(from_us(known.first_us), zone), zone))
    end = min(period.end, from_us(known.last_us + 1))
    return Period(start, end) if start < end else period


def elapsed_days(facts: Facts, period: Period) -> float:
    """Days of the period that the ledger covers."""
    return covered(facts, period).length.total_seconds() / DAY_S


def lived_days(facts: Facts, period: Period) -> pd.Series[Any]:
    """The reporting days of the period on which the ledger has any entry."""
    f = relations.facts.c
    days = reporting_days(period, facts.zone)
    lived = facts.frame(select(f.day).distinct().where(f.day >= days[0].day, f.day <= days[-1].day))
    return pd.to_datetime(lived["day"])


def _hourly() -> list[str]:
    return [slug for slug, declared in METRICS.items() if not declared.counted_apart and declared.span == "period"]


def _value(declared: Metric, numerator: Any, denominator: Any, days: float) -> float | None:
    if numerator is None or (declared.denominator is not None and not denominator):
        return None
    if declared.denominator is not None:
        return float(numerator / denominator)
    return float(numerator / declared.scale / (days if declared.per_day else 1.0))


def _looked_at(declared: Metric, filters: Filters, facts: Facts | None = None) -> FromClause:
    """``facts`` may have some of it worked out."""
    if facts is not None and declared.relation == "finished":
        return facts.finished(filters.period)
    # Neighbours are told after filtering: both of a pair lie in the period.
    if declared.relation == "neighbours":
        return relation_of(
            declared, select(relations.facts).where(relations.behind(relations.facts, filters)).subquery("facts")
        )
    return relation_of(declared, relations.facts, filters.period)


def _kept(declared: Metric, relation: FromClause, filters: Filters) -> ColumnElement[bool]:
    if declared.counted_apart:
        return relations.in_period(relation.c.occurred_at, filters) & relations.of_accounts(relation, filters)
    if declared.relation == "neighbours":
        return relations.in_period(relation.c.occurred_at, filters)
    if declared.span == "to_date":
        return (relation.c.occurred_at < to_us(filters.period.end)) & relations.in_dimensions(relation, filters)
    behind, timed = relations.behind(relation, filters), _timed(declared, relation)
    return behind if timed is None else behind & timed


def _parts(declared: Metric, relation: FromClause) -> list[ColumnElement[Any]]:
    parts: list[ColumnElement[Any]] = [declared.numerator(relation.c).label("numerator")]
    if declared.denominator is not None:
        parts.append(declared.denominator(relation.c).label("denominator"))
    return parts


def _day_of(declared: Metric, relation: FromClause, zone: str, first: date) -> ColumnElement[Any]:
    if declared.counted_apart:
        return cast(func.timezone(zone, func.make_timestamptz(relation.c.occurred_at)), Date)
    # What was open before the period counts from its first day on.
    day: ColumnElement[Any] = relation.c.day
    return func.greatest(day, first) if declared.span == "to_date" else day


def _on_grid(days: Sequence[Day], rows: pd.DataFrame, keys: list[str]) -> tuple[pd.DataFrame, npt.NDArray[np.bool_]]:
    """A row for each day and each combination of ``keys`` that is among ``rows``, and which of them had none."""
    dates = pd.to_datetime([one.day for one in days])
    groups = rows.groupby(keys, dropna=False, sort=True) if keys else None
    place = np.zeros(len(rows), dtype=np.int64) if groups is None else groups.ngroup().to_numpy()
    width = 1 if groups is None else int(place.max(initial=-1)) + 1
    at = dates.get_indexer(pd.Index(rows["day"])) * width + place
    merged = rows.set_axis(at).reindex(np.arange(len(dates) * width))
    merged["day"] = dates.repeat(width)
    if groups is not None:
        # One row of each combination tells its values, for every day.
        _, first = np.unique(place, return_index=True)
        names = rows[keys].iloc[np.tile(first, len(dates))]
        for name in keys:
            merged[name] = names[name].array
    empty = np.ones(len(merged), dtype=bool)
    empty[at] = False
    return merged, empty


def _fill(
    facts: Facts,
    filters: Filters,
    together: Sequence[Metric],
    merged: pd.DataFrame,
    empty: npt.NDArray[np.bool_],
    keys: list[str],
) -> None:
    """Tell days without matching rows (0 where that is what no rows mean) from days that the ledger knows nothing of."""
    if together[0].span == "to_date":
        newest = facts.rows(select(func.max(relations.facts.c.day)))[0][0]
        for number in range(len(together)):
            changes = merged[f"numerator_{number}"].fillna(0)
            stock = (
                changes.groupby([merged[name] for name in keys], dropna=False).cumsum() if keys else changes.cumsum()
            )
            merged[f"numerator_{number}"] = stock.where(merged["day"] <= pd.Timestamp(newest))
        return
    zero = [n for n, declared in enumerate(together) if declared.zero_of_nothing or declared.denominator is not None]
    figures = [name for n in zero for name in (f"numerator_{n}", f"denominator_{n}") if name in merged]
    if figures and empty.any():
        nothing = merged["day"].isin(lived_days(facts, filters.period)) & empty
        merged[figures] = merged[figures].mask(nothing, 0)


def _lengths(facts: Facts, filters: Filters, days: Sequence[Day]) -> dict[pd.Timestamp, float]:
    """Per day, the part of it in days that lies in the period and that the ledger covers."""
    part = covered(facts, filters.period)
    first, last = to_us(part.start), to_us(part.end)
    lengths = {pd.Timestamp(one.day): (min(one.end_us, last) - max(one.start_us, first)) / DAY_US for one in days}
    return {day: length for day, length in lengths.items() if length > 0}


def _with_values(declared: Metric, columns: Columns, days: Any = 1.0) -> pd.DataFrame:
    """The columns as a frame with ``value``, and with those that a metric without a denominator lacks."""
    numerator, denominator = columns["numerator"], columns.get("denominator")
    amount = numerator.astype("float64")
    if declared.denominator is None or denominator is None:
        shown = amount / declared.scale if declared.scale != 1 else amount
        value, denominator = (shown / days if declared.per_day else shown), None
    else:
        whole = denominator.astype("float64")
        value = amount / whole.where(whole > 0)
    figures = {
        "value": value,
        "numerator": numerator if declared.format == "ms" else numerator.astype("Int64"),
        "denominator": _unknown(len(numerator)) if denominator is None else denominator,
    }
    others = {name: one for name, one in columns.items() if name not in figures}
    return pd.DataFrame(others | figures, index=numerator.index, copy=False)


def _unknown(rows: int) -> pd.arrays.IntegerArray:
    return pd.arrays.IntegerArray(np.ones(rows, dtype=np.int64), np.ones(rows, dtype=bool))
