"""How often calls came again for what had been answered (SPEC 6, duplicates refused)."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, literal, select

from credit_core.store.columns import Flag, Instant
from credit_core.store.library import upsert
from credit_core.store.schema import accounts, repeats, users
from credit_core.units import from_us, to_us

#: Every reporting day of every zone in use begins at a quarter of an hour.
QUARTER_US = 15 * 60 * 1_000_000


def count(connection: Connection, user_id: str, call: str, at: datetime, *, refused: bool) -> None:
    """One more such call for something of the user. Nothing where there is no such user."""
    quarter_at = from_us(to_us(at) // QUARTER_US * QUARTER_US)
    statement = upsert(connection.dialect, repeats).from_select(
        ["quarter_at", "account_id", "call", "refused", "plan", "region", "calls"],
        select(
            literal(quarter_at, Instant), accounts.c.account_id, literal(call), literal(refused, Flag),
            accounts.c.plan, accounts.c.region, literal(1),
        ).join_from(accounts, users, users.c.account_id == accounts.c.account_id).where(users.c.user_id == user_id),
    )  # fmt: skip
    connection.execute(
        statement.on_conflict_do_update(index_elements=repeats.primary_key, set_={"calls": repeats.c.calls + 1})
    )
