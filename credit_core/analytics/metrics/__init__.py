"""Every metric of SPEC 6, declared once: its name, unit, expression, and the dimensions it may be summed over.

Pages, exports and the tie-out read this registry. Rates keep numerator and denominator and are never averaged. Amounts
are micro-units inside; ``scale`` of them make one of the unit that is shown.
"""

from __future__ import annotations

from functools import cache

from sqlalchemy import FromClause, select

from credit_core.analytics import measures as m
from credit_core.analytics import relations
from credit_core.analytics.dialect import sql_of
from credit_core.analytics.filters import Period
from credit_core.analytics.metrics.amounts import CREDITS, SALES
from credit_core.analytics.metrics.decisions import DECISIONS
from credit_core.analytics.metrics.declaration import Direction, Format, Metric, Relation, Span
from credit_core.analytics.metrics.endings import ENDINGS
from credit_core.analytics.metrics.people import ACCOUNTS
from credit_core.errors import InvalidRequest

__all__ = [
    "METRICS",
    "Direction",
    "Format",
    "Metric",
    "Relation",
    "Span",
    "checked_dimension",
    "metric",
    "relation_of",
    "sql",
]

#: Every metric by slug.
METRICS: dict[str, Metric] = {
    declared.slug: declared for declared in (*CREDITS, *SALES, *DECISIONS, *ENDINGS, *ACCOUNTS)
}

_APART = {"closings": m.closings, "repeated": m.repeated}


def metric(slug: str) -> Metric:
    """The metric called ``slug``, else :class:`InvalidRequest` with the slugs there are."""
    if slug not in METRICS:
        raise InvalidRequest(f"There is no metric {slug!r}. There are: {', '.join(METRICS)}.")
    return METRICS[slug]


def checked_dimension(declared: Metric, name: str) -> str:
    """``name`` where the metric may be broken down by it, else :class:`InvalidRequest`."""
    if name not in declared.dimensions:
        choices = ", ".join(declared.dimensions)
        raise InvalidRequest(f"{declared.title} cannot be broken down by {name!r}. It can by: {choices}.")
    return name


def relation_of(declared: Metric, entries: FromClause, period: Period | None = None) -> FromClause:
    """What the metric's expressions are over, given the entries it looks at; with a period, less of what lies outside may be there."""
    if declared.relation == "finished":
        return m.finished(period)
    if declared.counted_apart:
        return _APART[declared.relation]()
    return m.neighbours(entries) if declared.relation == "neighbours" else entries


@cache
def sql(slug: str) -> str:
    """The metric's expressions as SQL, for people who want to check it."""
    declared = metric(slug)
    relation = relation_of(declared, relations.facts)
    parts = [declared.numerator(relation.c).label("numerator")]
    if declared.denominator is not None:
        parts.append(declared.denominator(relation.c).label("denominator"))
    return sql_of(select(*parts).select_from(relation))
