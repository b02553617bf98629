"""Cards of declared metrics: value, change, course over the period and explanation, all from the metric itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pandas as pd

from credit_core.analytics import metrics, queries
from credit_core.analytics.filters import Filters
from credit_core.analytics.queries.courses import courses
from pages.components import kpi, numbers, sentences, session
from pages.components.answers import ask


@dataclass(frozen=True, slots=True)
class Wanted:
    """A metric on a card: by which name, against which target, and the page that explains it."""

    slug: str
    label: str = ""
    unit: str = ""
    target: float | None = None
    page: str = ""
    page_label: str = ""


def cards(wanted: Sequence[Wanted], chosen: Filters) -> list[kpi.Card]:
    """A card for each, in order. Sparklines are the metric's values by day."""
    known = figures(wanted, chosen)
    by_day = whole_days(ask(courses, chosen, _slugs(wanted)), chosen)
    return [_card(one, known[one.slug], by_day[one.slug]) for one in wanted]


def figures(wanted: Sequence[Wanted], chosen: Filters) -> dict[str, dict[str, Any]]:
    """What the cards say, by slug: the columns of ``queries.kpis``. For words that say the same, so that it is asked once."""
    return {row["slug"]: row for row in ask(queries.kpis, chosen, _slugs(wanted)).to_dict("records")}


def _slugs(wanted: Sequence[Wanted]) -> tuple[str, ...]:
    return tuple(one.slug for one in wanted)


def _card(wanted: Wanted, row: Mapping[str, Any], course: pd.Series) -> kpi.Card:
    metric = metrics.metric(wanted.slug)
    over = wanted.target is not None and not numbers.is_unknown(row["value"]) and row["value"] > wanted.target
    return kpi.Card(
        label=wanted.label or metric.title,
        value=numbers.headline(row["value"], metric.format),
        unit=wanted.unit,
        change=changed(row["value"], row["before"], metric),
        course=list(course) if course.notna().sum() > 1 else (),
        target=wanted.target,
        target_text="" if wanted.target is None else f"target under {numbers.metric(wanted.target, metric.format)}",
        page=wanted.page,
        page_label=wanted.page_label,
        help=kpi.help_of(metric, metrics.sql(wanted.slug)),
        alarm=over,
    )


def whole_days(frame: pd.DataFrame, chosen: Filters) -> pd.DataFrame:
    """A daily frame without a last day that is not over: it would look like a fall."""
    as_of = session.ledger().as_of
    if as_of is None:
        return frame
    reached = min(as_of, chosen.period.end - timedelta(microseconds=1)).astimezone(session.zone())
    whole = reached.hour == sentences.LAST_HOUR or len(frame) < 3
    return frame if whole else frame[frame["day"] < pd.Timestamp(reached.date())]


def changed(value: float | None, before: float | None, metric: metrics.Metric) -> numbers.Change:
    """What became of a metric: shares in points, latencies in their own unit, everything else relative."""
    if metric.format == "share":
        return numbers.points(value, before, better=metric.direction)
    if metric.format == "ms":
        return numbers.difference(value, before, numbers.milliseconds, better=metric.direction)
    return numbers.change(value, before, better=metric.direction)
