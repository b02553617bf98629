"""The statements of a unit of work (:mod:`credit_core.store.unit`), built once and compiled once per engine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from operator import attrgetter
from typing import Any

from sqlalchemy import Table, Text, bindparam, delete, insert, select, text, update

from credit_core.store import chain
from credit_core.store.prepared import Prepared
from credit_core.store.records import Account, Lot, User
from credit_core.store.schema import LOT_IS_OPEN, accounts, cycles, deferrals, holds, ledger_entries, lots, users

BLANK: dict[str, Any] = {column.name: None for column in ledger_entries.columns if column.name != "id"}
ACCOUNT = tuple(field.name for field in fields(Account))
USER = tuple(field.name for field in fields(User))
LOT = tuple(field.name for field in fields(Lot))
CYCLE = tuple(column.name for column in cycles.columns)

#: Rows are locked in the order of FROM: accounts first, as every leg writes them.
_SEEN = select(
    *(accounts.c[name] for name in ACCOUNT), *(users.c[name].label(f"user_{name}") for name in USER)
).join_from(accounts, users, users.c.account_id == accounts.c.account_id)
BOTH = _SEEN.with_for_update()
USER_ROW = Prepared(BOTH.where(users.c.user_id == bindparam("user_id")))
USER_SEEN = Prepared(_SEEN.where(users.c.user_id == bindparam("user_id")))
USER_ROWS = BOTH.where(users.c.user_id.in_(bindparam("user_ids", expanding=True))).order_by(accounts.c.account_id)
ACCOUNT_ROWS = (
    select(accounts)
    .where(accounts.c.account_id.in_(bindparam("account_ids", expanding=True)))
    .order_by(accounts.c.account_id)
    .with_for_update()
)
OWNERS = select(users).where(users.c.account_id.in_(bindparam("account_ids", expanding=True)))
OPEN_LOTS = select(lots).where(lots.c.account_id.in_(bindparam("account_ids", expanding=True)), text(LOT_IS_OPEN))
ACCOUNT_LOTS = Prepared(select(lots).where(lots.c.account_id == bindparam("account_id"), text(LOT_IS_OPEN)))
USER_LOTS = Prepared(
    select(lots)
    .join(users, users.c.account_id == lots.c.account_id)
    .where(users.c.user_id == bindparam("user_id"), text(LOT_IS_OPEN))
)
#: All that an opening leg looks at: a row per open lot, or one without any. Only where no other comes in between, since
#: PostgreSQL would lock the newest account, and still show the lots as they were before.
WHOLE = Prepared(
    _SEEN.add_columns(
        select(ledger_entries.c.line).where(ledger_entries.c.leg_id == bindparam("leg_id")).exists(),
        *(lots.c[name].label(f"lot_{name}") for name in LOT),
    )
    .outerjoin(lots, (lots.c.account_id == accounts.c.account_id) & text(LOT_IS_OPEN))
    .where(users.c.user_id == bindparam("user_id"))
)
ONE_LOT = select(lots).where(lots.c.lot_id == bindparam("lot_id"))
ENTRY_COLUMNS = tuple(column for column in ledger_entries.columns if column.name not in ("prev_hash", "hash"))
LEG = Prepared(
    select(*ENTRY_COLUMNS).where(ledger_entries.c.leg_id == bindparam("leg_id")).order_by(ledger_entries.c.line)
)
ENTRY_NAMES = tuple(column.name for column in ENTRY_COLUMNS)
#: What the end of a request needs of its opening leg.
OPENING = (
    "leg_id", "account_id", "user_id", "team_id", "kind", "lot_id", "d_held_uc", "request_id", "session_id", "plan", "region",
    "modality", "model", "images", "genre", "mood", "config_version", "arm", "quota_policy", "status", "d_count", "counted_at",
    "ip_hash",
)  # fmt: skip
OPENING_AND_END = Prepared(
    select(*(ledger_entries.c[name] for name in OPENING))
    .where(ledger_entries.c.leg_id.in_((bindparam("opening", type_=Text), bindparam("leg_id", type_=Text))))
    .order_by(ledger_entries.c.leg_id, ledger_entries.c.line)
)
IS_WRITTEN = Prepared(select(ledger_entries.c.line).where(ledger_entries.c.leg_id == bindparam("leg_id")))
LEGS = (
    select(*ENTRY_COLUMNS)
    .where(ledger_entries.c.leg_id.in_(bindparam("leg_ids", expanding=True)))
    .order_by(ledger_entries.c.leg_id, ledger_entries.c.line)
)
INSERT_ACCOUNT = Prepared(insert(accounts), ACCOUNT)
INSERT_USER = Prepared(insert(users), USER)
INSERT_LOT = Prepared(insert(lots), LOT)
INSERT_CYCLE = Prepared(insert(cycles), CYCLE)
INSERT_ENTRY = Prepared(insert(ledger_entries), tuple(BLANK), joins=True, sender=chain.sender)
#: What a leg that decides nothing may name beside what every entry has: most columns are about decisions.
PLAIN_FACTS = frozenset(
    (
        "user_id", "team_id", "request_id", "session_id", "plan", "region", "modality", "model", "images", "genre", "mood",
        "config_version", "arm", "cost_usd_micro", "latency_ms", "actor", "reason", "details",
    )
)  # fmt: skip
INSERT_PLAIN_ENTRY = Prepared(
    insert(ledger_entries),
    (
        "account_id", "seq", "leg_id", "line", "occurred_at", "recorded_at", "kind", "lot_id", "d_avail_uc", "d_held_uc",
        "prev_hash", "hash", *sorted(PLAIN_FACTS),
    ),
    joins=True,
    sender=chain.sender,
)  # fmt: skip


def _update_by_key(table: Table, key: str, names: Iterable[str]) -> Any:
    return (
        update(table).where(table.c[key] == bindparam(f"key_{key}")).values({name: bindparam(name) for name in names})
    )


ACCOUNT_CHANGES = tuple(name for name in ACCOUNT if name not in ("account_id", "kind", "created_at"))
USER_CHANGES = tuple(name for name in USER if name not in ("user_id", "created_at"))
LOT_CHANGES = ("avail_uc", "held_uc", "expires_at", "is_open")
LOT_MOVES = ("avail_uc", "held_uc")
UPDATE_ACCOUNT = Prepared(_update_by_key(accounts, "account_id", ACCOUNT_CHANGES), joins=True)
UPDATE_USER = Prepared(_update_by_key(users, "user_id", USER_CHANGES), joins=True)
#: What any leg changes. Naming an indexed column has SQLite write its index anew, and check its foreign key, changed or not.
ACCOUNT_MOVES = ("avail_uc", "held_uc", "demand_uc", "largest_uc", "mode", "seq", "head_hash", "recorded_at", "version")
USER_MOVES = (
    "session_last_at", "session_images", "session_fresh", "session_fresh_uc", "session_opening_uc", "session_cells",
    "bucket_level", "bucket_at", "fresh_at", "hour_at", "hour_fresh", "hour_most",
)  # fmt: skip
MOVE_ACCOUNT = Prepared(_update_by_key(accounts, "account_id", ACCOUNT_MOVES), joins=True)
MOVE_USER = Prepared(_update_by_key(users, "user_id", USER_MOVES), joins=True)


def _where_known(names: Iterable[str]) -> Prepared:
    """The update of an account that is still as it was known (:mod:`credit_core.store.memory`)."""
    known = (accounts.c.version == bindparam("known_version")) & (accounts.c.head_hash == bindparam("known_head"))
    return Prepared(_update_by_key(accounts, "account_id", names).where(known))


#: What a leg without a lock writes first, by what it would write under lock.
GUARDS = {MOVE_ACCOUNT: _where_known(ACCOUNT_MOVES), UPDATE_ACCOUNT: _where_known(ACCOUNT_CHANGES)}
account_terms = attrgetter(*(name for name in ACCOUNT_CHANGES if name not in ACCOUNT_MOVES))
user_terms = attrgetter(*(name for name in USER_CHANGES if name not in USER_MOVES))
UPDATE_LOT = Prepared(_update_by_key(lots, "lot_id", LOT_CHANGES), joins=True)
MOVE_LOT = Prepared(_update_by_key(lots, "lot_id", LOT_MOVES), joins=True)
INSERT_HOLD = Prepared(insert(holds), tuple(column.name for column in holds.columns), joins=True)
INSERT_DEFERRAL = Prepared(insert(deferrals), tuple(column.name for column in deferrals.columns), joins=True)
DELETE_DEFERRAL = Prepared(delete(deferrals).where(deferrals.c.leg_id == bindparam("key_leg_id")))
DELETE_HOLD = Prepared(delete(holds).where(holds.c.leg_id == bindparam("key_leg_id")), joins=True)


def _update_cycle(*names: str) -> Prepared:
    return Prepared(_update_by_key(cycles, "cycle_no", names).where(cycles.c.account_id == bindparam("key_account_id")))


CLOSE_CYCLE = _update_cycle("closed_at", "unspent_uc", "kept_uc", "carried_uc", "cap_multiple", "demand_uc")
MOVE_CYCLE = _update_cycle("end_at", "plan", "quota_uc")
