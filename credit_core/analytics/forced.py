"""What was spent on requests that rule 5 made fresh: a request's first entry says so, and its end, later, does not.

Each closed segment keeps apart the ends that belong to such a request of the same segment (``spent``), those whose request
began in another one (``stray``), and the beginnings (``opening``): so the two need not be found again among all entries.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import FromClause, Select, and_, column, exists, literal, or_, select, table, union_all

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


def kept() -> Select[Any]:
    """:func:`spending` from what is kept apart."""
    of_kept = table(NAME, column("part"), *(column(name) for name in _COLUMNS))
    e, o = of_kept.alias("ends"), of_kept.alias("openings")
    opened = exists().where(o.c.part == "opening", _same_request(o.c, e.c))
    return select(*(e.c[name] for name in _COLUMNS)).where(or_(e.c.part == "spent", and_(e.c.part == "stray", opened)))


def _parts(f: FromClause, *, closed: bool) -> str:
    opening = f.alias("opening")
    begins = exists().where(opening.c.rule.is_not(None), _same_request(opening.c, f.c))
    forced = exists().where(opening.c.rule == "coverage_miss", _same_request(opening.c, f.c))
    columns = [f.c[name] for name in _COLUMNS]

    def part(name: str, condition: Any) -> Select[Any]:
        return select(literal(name).label("part"), *columns).where(condition)

    ends = [part("spent", and_(_ends(f.c), forced)), part("stray", and_(_ends(f.c), ~begins))]
    every = union_all(*(ends if closed else [part("stray", _ends(f.c))]), part("opening", f.c.rule == "coverage_miss"))
    return sql_of(every)


def made_from(relation: str) -> str:
    """SQL of what is kept apart of a closed segment, over a relation with the columns of ``facts``."""
    return f"WITH facts AS (SELECT * FROM {relation}) {_parts(relations.facts, closed=True)}"


def fresh_from(relation: str) -> str:
    """The same of entries that are not closed yet: any of them may belong to another's beginning."""
    return f"WITH facts AS (SELECT * FROM {relation}) {_parts(relations.facts, closed=False)}"


def key() -> str:
    """Name and definition, as a segment names the file."""
    return keyed(NAME, made_from("facts"))
