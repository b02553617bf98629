"""Run-outs and the grants that end them: the few entries from which both are told, and how.

A run-out is the first decision by rule 4 since the account's last grant. Which decision that is can change with every grant that
comes late, so each closed segment keeps all of them apart, beside the grants.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Select,
    TableClause,
    and_,
    case,
    column,
    func,
    literal_column,
    or_,
    select,
    table,
)

from credit_core.analytics import relations
from credit_core.analytics.dialect import keyed, sql_of
from credit_core.policy.plans import CYCLED

#: The relation of :func:`events` where it is kept.
NAME = "run_out_events"
#: Whose a run-out is.
WHOSE = ("account_id", "user_id", "team_id", "plan", "region")
#: The columns of :func:`events` and of :func:`spells`.
EVENT = ("id", *WHOSE, "occurred_at", "cycle_days", "dry")
SPELL = ("id", *WHOSE, "run_out_at", "granted_at", "cycle_days")


def events() -> Select[Any]:
    """Decisions by rule 4 (``dry``) and grants: who, when, and the length of the cycle of plans that have one, in days."""
    f = relations.facts.c
    dry, granted = f.rule == "unaffordable", and_(f.kind == "grant", f.line == 1)
    length = case((f.quota_policy.in_(CYCLED), f.cycle_days)).label("cycle_days")
    told = (f[name] for name in ("id", *WHOSE, "occurred_at"))
    return select(*told, length, func.coalesce(dry, False).label("dry")).where(or_(dry, granted))


def kept(name: str = NAME) -> TableClause:
    """A relation with the columns of :func:`events`."""
    return table(name, *(column(one) for one in EVENT))


def made_from(relation: str) -> str:
    """SQL of :func:`events` over a relation with the columns of ``facts``."""
    return f"WITH facts AS (SELECT * FROM {relation}) {sql_of(events())}"


def key() -> str:
    """Name and definition, as a segment names the file."""
    return keyed(NAME, sql_of(events()))


def spells(events: FromClause, start_us: int, end_us: int) -> Select[Any]:
    """Run-outs that began from ``start_us`` to before ``end_us``, in the columns of :data:`SPELL`.

    ``id``: of the decision; ``granted_at`` is missing where no grant came since.
    """
    e, o, whole = events.c, events.alias("older").c, events.alias("whole").c
    order = (e.occurred_at, e.id)
    yes: ColumnElement[int] = literal_column("1")
    no: ColumnElement[int] = literal_column("0")
    # Nothing but what tells run-outs apart is sorted; whose they are is looked up then.
    looked_at = (
        select(
            e.id, e.account_id, e.occurred_at, e.dry,
            func.min(case((~e.dry, e.occurred_at))).over(partition_by=e.account_id, order_by=order, rows=(1, None)).label("granted_at"),
            # A dry one is the first of its stretch where a grant, or nothing, is right before it.
            func.lag(case((e.dry, yes), else_=no)).over(partition_by=e.account_id, order_by=order).label("dry_before"),
        )
        .where(e.occurred_at >= start_us)
        .subquery("looked_at")
    )  # fmt: skip
    s = looked_at.c
    begun = (
        select(s.id, s.account_id, s.granted_at, s.dry_before)
        .where(s.dry, func.coalesce(s.dry_before, no) == no, s.occurred_at < end_us)
        .cte("begun")
    )
    r = begun.c
    # Of what came before the period the last is enough, and that of accounts whose first one in it is dry.
    before = (
        select(o.account_id, func.arg_max(case((o.dry, yes), else_=no), func.row(o.occurred_at, o.id)).label("was_dry"))
        .where(o.occurred_at < start_us, o.account_id.in_(select(r.account_id).where(r.dry_before.is_(None))))
        .group_by(o.account_id)
        .subquery("before")
    )
    first = or_(r.dry_before.is_not(None), func.coalesce(before.c.was_dry, no) == no)
    whose = (whole[name] for name in ("id", *WHOSE))
    return (
        select(*whose, whole.occurred_at.label("run_out_at"), r.granted_at, whole.cycle_days)
        .select_from(
            begun.join(whole.id.table, whole.id == r.id).outerjoin(before, before.c.account_id == r.account_id)
        )
        .where(first, whole.occurred_at >= start_us, whole.dry)
    )
