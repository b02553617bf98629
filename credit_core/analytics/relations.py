"""The tables of the read side, derived from the ledger's own schema, and the conditions that filters put on them.

``facts`` holds one row per ledger entry, and adds what every page asks for: the lot's kind, and the day, hour and weekday
in the reporting zone. Instants are integer microseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Date,
    Double,
    FromClause,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    Text,
    and_,
    or_,
    select,
    true,
    type_coerce,
)
from sqlalchemy.types import TypeEngine

from credit_core.analytics.filters import Filters
from credit_core.store import schema
from credit_core.store.columns import Flag, Instant
from credit_core.store.records import pool_id
from credit_core.units import to_us

metadata = MetaData()

#: Columns of ``ledger_entries`` that stay in the ledger: what proves an entry, and what only recomputing a decision needs
#: (:func:`credit_core.analytics.queries.decisions.recent_decisions` fetches those by id). They are a third of an entry.
_LEFT_OUT = frozenset({
    "content_hash", "details", "prev_hash", "hash",
    "prior_mode", "strategy", "available_uc", "paced_uc", "days_left", "session_images", "session_fresh", "session_fresh_uc",
    "session_opening_uc", "segment", "conserving", "health", "under_represented", "threshold", "p0", "nudge_freshness",
    "nudge_credit_health", "nudge_library", "nudge_segment", "nudge_conservation", "nudge_mode", "u01", "retry_after_s",
    "cell_new", "arm_p", "largest_uc", "limit_count", "used_count", "resets_at", "counted_at", "ip_hash",
})  # fmt: skip
_DUCKDB = {
    BigInteger: "BIGINT",
    Boolean: "BOOLEAN",
    Date: "DATE",
    Double: "DOUBLE",
    Integer: "INTEGER",
    SmallInteger: "SMALLINT",
    Text: "VARCHAR",
}


def _copied_type(kind: TypeEngine[Any]) -> TypeEngine[Any]:
    if isinstance(kind, Instant):
        return BigInteger()
    if isinstance(kind, Flag):
        return Boolean()
    for plain in (Double, BigInteger, Integer):
        if isinstance(kind, plain):
            return plain()
    return Text()


def _copy_of(source: Table, names: Sequence[str], name: str | None = None, extra: Sequence[Column[Any]] = ()) -> Table:
    return Table(
        name or source.name,
        metadata,
        *(Column(column, _copied_type(source.c[column].type)) for column in names),
        *extra,
    )


#: Columns of ``ledger_entries`` that are copied, in its order.
ENTRY_COLUMNS = tuple(column.name for column in schema.ledger_entries.columns if column.name not in _LEFT_OUT)

facts = _copy_of(
    schema.ledger_entries,
    ENTRY_COLUMNS,
    "facts",
    (
        Column("lot_kind", Text),
        Column("unit_price_usd_micro", BigInteger, comment="of the lot, per credit"),
        Column("day", Date, comment="in the reporting zone"),
        Column("hour", SmallInteger, comment="0 to 23, in the reporting zone"),
        Column("dow", SmallInteger, comment="1 Monday to 7 Sunday"),
    ),
)
lots = _copy_of(schema.lots, ("lot_id", "account_id", "kind", "expires_at", "unit_price_usd_micro"))
accounts = _copy_of(
    schema.accounts,
    (
        "account_id",
        "kind",
        "plan",
        "region",
        "timezone",
        "cycle_no",
        "cycle_start_at",
        "cycle_end_at",
        "quota_uc",
        "mode",
        "created_at",
        "paused_at",
    ),
)
users = _copy_of(schema.users, ("user_id", "account_id", "team_id", "segment", "guest_session", "created_at"))
cycles = _copy_of(schema.cycles, tuple(column.name for column in schema.cycles.columns))
holds = _copy_of(schema.holds, tuple(column.name for column in schema.holds.columns))
deferrals = _copy_of(schema.deferrals, tuple(column.name for column in schema.deferrals.columns))
library_days = _copy_of(schema.library_days, ("genre", "mood", "day", "assets"))
library_cells = _copy_of(schema.library_cells, ("genre", "mood", "requested_at", "queued_at"))
config_versions = _copy_of(
    schema.config_versions, ("version", "parent", "body", "author", "created_at", "note", "content_hash")
)
config_releases = _copy_of(
    schema.config_releases, ("release_id", "version", "arm", "share", "released_at", "author", "reason", "action")
)
repeats = _copy_of(schema.repeats, tuple(column.name for column in schema.repeats.columns))
checks = _copy_of(schema.checks, ("check_id", "checked_at", "entries", "duration_ms", "violations", "actor"))
#: What each plan runs by, from the newest catalogue that has it (:mod:`credit_core.policy.plans`).
plans = Table(
    "plans",
    metadata,
    Column("plan", Text),
    Column("quota_policy", Text),
    Column("credit_unit", Text),
)
#: How far the copy has come; one row, which moves with the data in one transaction.
copy_state = Table(
    "copy_state",
    metadata,
    Column("layout", Text, comment="the tables' definition: another one is a rebuild"),
    Column("zone", Text, comment="reporting zone that day, hour and weekday are in"),
    Column("tx", BigInteger),
    Column("id", BigInteger),
    Column(
        "last_hash", Text, comment="of the last entry copied: where the ledger has another there, it is another ledger"
    ),
    Column("compressions", Integer),
)


def duckdb_type(column: Column[Any]) -> str:
    """DuckDB's name of the column's type."""
    return _DUCKDB[type(column.type)]


def create_statement(table: Table) -> str:
    """``CREATE TABLE`` for DuckDB; names come from the schema, never from a caller."""
    columns = ", ".join(f'"{column.name}" {duckdb_type(column)}' for column in table.columns)
    return f'CREATE TABLE "{table.name}" ({columns})'


def ledger_facts(kept: ColumnElement[bool]) -> FromClause:
    """The relation ``facts`` over the ledger's own tables, for the tie-out; without day, hour and weekday.

    ``kept`` is a condition on ``ledger_entries``.
    """
    entries, lot = schema.ledger_entries, schema.lots
    copied = (type_coerce(entries.c[name], facts.c[name].type).label(name) for name in ENTRY_COLUMNS)
    joined = entries.outerjoin(lot, entries.c.lot_id == lot.c.lot_id)
    of_lot = (lot.c.kind.label("lot_kind"), lot.c.unit_price_usd_micro)
    return select(*copied, *of_lot).select_from(joined).where(kept).subquery("facts")


def in_dimensions(relation: FromClause, filters: Filters) -> ColumnElement[bool]:
    """Condition on plan, region, model, user, team and cell of a relation with one row per entry."""
    c = relation.c
    conditions: list[ColumnElement[bool]] = [c[name].in_(kept) for name, kept in entry_dimensions(filters) if kept]
    conditions.append(within(c.plan, filters))
    if filters.cell is not None:
        conditions += [c.genre == filters.cell[0], c.mood == filters.cell[1]]
    return _all(conditions)


def entry_dimensions(filters: Filters) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """(column, values kept) of each dimension of ``facts``; no values keep all."""
    return (
        ("plan", filters.plans),
        ("region", filters.regions),
        ("model", filters.models),
        ("user_id", filters.users),
        ("team_id", filters.teams),
    )


def within(plan: ColumnElement[Any], filters: Filters) -> ColumnElement[bool]:
    """Condition on a plan's name: one of those that policy and unit leave."""
    return true() if filters.within is None else plan.in_(filters.within)


def paced(plan: ColumnElement[Any]) -> ColumnElement[bool]:
    """Condition on a plan's name, in the copy alone: its accounts are paced by the controller, so they have a surplus."""
    return plan.in_(select(plans.c.plan).where(plans.c.quota_policy == "titrated_monthly"))


def in_period(instant: ColumnElement[Any], filters: Filters) -> ColumnElement[bool]:
    """start ≤ instant < end, for an instant in microseconds."""
    return (instant >= to_us(filters.period.start)) & (instant < to_us(filters.period.end))


def behind(relation: FromClause, filters: Filters) -> ColumnElement[bool]:
    """The rows of ``facts`` that a filter keeps: its period by occurred_at, and its dimensions."""
    return in_period(relation.c.occurred_at, filters) & in_dimensions(relation, filters)


def of_accounts(relation: FromClause, filters: Filters) -> ColumnElement[bool]:
    """Condition on plan, region, user and team of a relation with an account_id, such as ``cycles``; model and cell are ignored.

    A team's accounts are its pool and those of its present members.
    """
    c = relation.c
    kept_values = (("plan", filters.plans), ("region", filters.regions))
    conditions: list[ColumnElement[bool]] = [c[name].in_(kept) for name, kept in kept_values if kept]
    conditions.append(within(c.plan, filters))
    if filters.users:
        conditions.append(c.account_id.in_(select(users.c.account_id).where(users.c.user_id.in_(filters.users))))
    if filters.teams:
        of_members = select(users.c.account_id).where(users.c.team_id.in_(filters.teams))
        conditions.append(
            or_(c.account_id.in_([pool_id(team) for team in filters.teams]), c.account_id.in_(of_members))
        )
    return _all(conditions)


def _all(conditions: Sequence[ColumnElement[bool]]) -> ColumnElement[bool]:
    return and_(true(), *conditions)
