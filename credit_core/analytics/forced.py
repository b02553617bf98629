"""What was spent on requests that rule 5 made fresh: a request's first entry says so, and its end, later, does not.

Each closed segment keeps apart the ends that belong to such a request of the same segment (``spent``), those whose request
began in another one (``stray``), and the beginnings (``opening``): so the two need not be found again among all entries.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    FromClause,
    Select,
    and_,
    case,
    column,
    exists,
    func,
    literal,
    select,
    table,
    union_all,
)

from credit_core.analytics import relations
from credit_core.analytics.dialect import keyed, sql_of

#: The relation of what is kept apart.
NAME = "forced_entries"
_COLUMNS = (
    "user_id", "request_id", "occurred_at", "kind", "d_avail_uc", "d_held_uc", "plan", "region", "model", "team_id",
    "genre", "mood",
)  # fmt: skip


def _ends(f: Any) -> Any:
    return and_(f.kind.in_(("settle", "refund")), f.genre.is_not(None))


def _same_request(one: Any, other: Any) -> Any:
    return and_(one.user_id == other.user_id, one.request_id == other.request_id)


def spending() -> Select[Any]:
    """Settles and refunds of requests decided by rule 5."""
    f, opening = relations.facts.c, relations.facts.alias("opening")
    forced = select(opening.c.user_id, opening.c.request_id).where(opening.c.rule == "coverage_miss").subquery("forced")
    return select(*(f[name] for name in _COLUMNS)).join(forced, _same_request(forced.c, f)).where(_ends(f))


_KEPT = table(NAME, column("part"), *(column(name) for name in _COLUMNS))


def strays() -> Select[Any]:
    """Of what is kept apart, the ends whose request began in another segment: few, so few beginnings are looked at for them."""
    e, o, s = (_KEPT.alias(name) for name in ("ends", "openings", "strays"))
    theirs = o.c.request_id.in_(select(s.c.request_id).where(s.c.part == "stray"))
    opened = exists().where(o.c.part == "opening", _same_request(o.c, e.c), theirs)
    return select(*(e.c[name] for name in _COLUMNS)).where(e.c.part == "stray", opened)


def kept(those: FromClause) -> CompoundSelect[Any]:
    """:func:`spending` from what is kept apart; ``those``: the rows of :func:`strays`."""
    spent = select(*(_KEPT.c[name] for name in _COLUMNS)).where(_KEPT.c.part == "spent")
    return union_all(spent, select(*(those.c[name] for name in _COLUMNS)))


def _parts(f: FromClause, *, closed: bool) -> str:
    opening = f.alias("opening")
    # One row for a request, joined once: an EXISTS for each of the two parts takes three times as long.
    opened = (
        select(
            opening.c.user_id,
            opening.c.request_id,
            func.bool_or(opening.c.rule == "coverage_miss").label("forced"),
        )
        .where(opening.c.rule.is_not(None))
        .group_by(opening.c.user_id, opening.c.request_id)
        .subquery("opened")
    )
    columns = [f.c[name] for name in _COLUMNS]

    def part(name: ColumnElement[str], condition: ColumnElement[bool]) -> Select[Any]:
        return select(name.label("part"), *columns).where(condition)

    if closed:
        spent_or_stray = case((opened.c.forced, "spent"), else_="stray")
        ends = part(spent_or_stray, and_(_ends(f.c), func.coalesce(opened.c.forced, True))).select_from(
            f.outerjoin(opened, _same_request(opened.c, f.c))
        )
    else:
        ends = part(literal("stray"), _ends(f.c))
    every = union_all(ends, part(literal("opening"), f.c.rule == "coverage_miss"))
    return sql_of(every)


def made_from(relation: str) -> str:
    """SQL of what is kept apart of a closed segment, over a relation with the columns of ``facts``."""
    # Asked for more than once: DuckDB would write out all columns of it first.
    return f"WITH facts AS NOT MATERIALIZED (SELECT * FROM {relation}) {_parts(relations.facts, closed=True)}"


def fresh_from(relation: str) -> str:
    """The same of entries that are not closed yet: any of them may belong to another's beginning."""
    return f"WITH facts AS (SELECT * FROM {relation}) {_parts(relations.facts, closed=False)}"


def key() -> str:
    """Name and definition, as a segment names the file."""
    return keyed(NAME, made_from("facts"))
