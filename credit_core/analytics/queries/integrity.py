"""Can the figures be trusted: facts against the ledger's own sums, open holds by age, and the history of checks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import pandas as pd
from sqlalchemy import BigInteger, ColumnElement, FromClause, Select, cast, func, select, true

from credit_core.analytics import measures, relations
from credit_core.analytics.filters import Filters
from credit_core.analytics.queries.overview import STUCK_AFTER_US
from credit_core.analytics.sync import Facts
from credit_core.store import schema
from credit_core.units import MICRO, from_us, to_us

_NAMES = ("entries", "spent_uc", "granted_uc", "d_avail_uc", "d_held_uc")
#: Of all accounts, whatever the filter: on one side the entries' sums, on the other the balances.
BALANCES = ("avail_uc", "held_uc")


class Line(NamedTuple):
    """One total, from both sides; micro-credits or entries. ``ledger``: None where there is no ledger behind the facts."""

    name: str
    facts: int
    ledger: int | None
    difference: int


class TieOut(NamedTuple):
    """Facts against the ledger for one filter, and all entries against all balances. ``exact``: nothing differs.

    ``made_up``: what the facts are where there is no ledger to compare them with, in words.
    """

    lines: tuple[Line, ...]
    exact: bool
    made_up: str | None = None


def tie_out(facts: Facts, filters: Filters) -> TieOut:
    """Sum the facts and, directly, the ledger's own tables, for the same filter and up to the same entry.

    An entry forged before it was copied is the same on both sides; it shows in the balances, which it did not move. Where the
    copy begins later than the ledger, so do both sides; what was moved before counts among the balances.
    """
    # One statement: the watermark and the sums are of one instant of the copy.
    whole = _moved(relations.facts).subquery("whole")
    mark = relations.copy_state.c
    with facts.exchange:
        begin, made_up = facts.begin, facts.made_up
        kept = None if begin is None else relations.facts.c.occurred_at >= begin.at_us
        copied = _totals(relations.facts, filters, kept).subquery("copied")
        tx, last_id, *ours = facts.rows(select(mark.tx, mark.id, *copied.c, *whole.c))[0]
    if made_up is not None:
        return TieOut(
            tuple(Line(name, int(mine), None, 0) for name, mine in zip(_NAMES, ours, strict=False)), False, made_up
        )
    # One statement again: entries on their way and the balances they moved are of one instant of the ledger.
    since = true() if begin is None else schema.ledger_entries.c.occurred_at >= from_us(begin.at_us)
    ledger = _totals(relations.ledger_facts(facts.copied(tx, last_id) & since), filters).subquery("ledger")
    coming = _moved(schema.ledger_entries).where(facts.coming(tx, last_id)).subquery("coming")
    balances = select(*(_sum(schema.accounts.c[name]).label(name) for name in BALANCES)).subquery("balances")
    sources = ledger.join(coming, true()).join(balances, true())
    with facts.engine.connect() as connection:
        late, theirs = _parted(connection.execute(select(*coming.c, *ledger.c, *balances.c).select_from(sources)).one())
    for place, amount in enumerate(late, len(_NAMES)):
        ours[place] += amount
    sides = zip((*_NAMES, *BALANCES), map(int, ours), theirs, strict=True)
    lines = tuple(Line(name, mine, its, mine - its) for name, mine, its in sides)
    return TieOut(lines, all(line.difference == 0 for line in lines))


def open_holds(facts: Facts, at: datetime) -> pd.DataFrame:
    """Open holds at ``at``, oldest first.

    Columns user_id, account_id, request_id, amount_uc, amount_credits, reserved_at, expires_at, age_s, stuck.
    """
    h = relations.holds.c
    statement = select(
        h.user_id, h.account_id, h.request_id, h.amount_uc, (h.amount_uc / float(MICRO)).label("amount_credits"),
        h.reserved_at, h.expires_at,
        ((to_us(at) - h.reserved_at) / float(MICRO)).label("age_s"), (h.expires_at + STUCK_AFTER_US < to_us(at)).label("stuck"),
    ).order_by(h.reserved_at, h.leg_id)  # fmt: skip
    return facts.frame(statement)


def checks(facts: Facts, limit: int = 50) -> pd.DataFrame:
    """The history of ``verify``, newest first: checked_at, entries, duration_ms, violations (rows that broke an invariant),
    actor, broken (invariant number as text → rows)."""
    c = relations.checks.c
    statement = (
        select(c.checked_at, c.entries, c.duration_ms, c.violations, c.actor).order_by(c.check_id.desc()).limit(limit)
    )
    frame = facts.frame(statement)
    frame["broken"] = [json.loads(found) for found in frame["violations"]]
    frame["violations"] = pd.Series([sum(found.values()) for found in frame["broken"]], dtype="int64")
    return frame


def _totals(relation: FromClause, filters: Filters, kept: ColumnElement[bool] | None = None) -> Select[Any]:
    c = relation.c
    amounts: tuple[ColumnElement[Any], ...] = (
        func.count(),
        measures.total(measures.spent_uc)(c),
        measures.total(measures.moved_uc("grant", 1))(c),
        measures.total(lambda f: f.d_avail_uc)(c),
        measures.total(lambda f: f.d_held_uc)(c),
    )
    labelled = (amount.label(name) for amount, name in zip(amounts, _NAMES, strict=True))
    return (
        select(*labelled)
        .select_from(relation)
        .where(relations.behind(relation, filters), *(() if kept is None else (kept,)))
    )


def _parted(row: Sequence[Any]) -> tuple[list[int], list[int]]:
    """What is on its way, and the ledger's side of each line."""
    values = [int(value) for value in row]
    return values[: len(BALANCES)], values[len(BALANCES) :]


def _moved(relation: FromClause) -> Select[Any]:
    """What all entries of a relation move, in the order of :data:`BALANCES`."""
    moved = zip(BALANCES, (relation.c.d_avail_uc, relation.c.d_held_uc), strict=True)
    return select(*(_sum(column).label(name) for name, column in moved))


def _sum(column: ColumnElement[Any]) -> ColumnElement[Any]:
    return cast(func.coalesce(func.sum(column), 0), BigInteger)
