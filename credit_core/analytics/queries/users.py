"""One user's history, on the ledger itself: it is short there and right up to date (FINDINGS, "The read side").

These rows are personal: pages ask for them through the service, which checks the role and writes the audit entry.
"""

from __future__ import annotations

import pandas as pd
from sqlalchemy import BigInteger, Engine, cast, func, or_, select, type_coerce

from credit_core.analytics.sync import instants
from credit_core.errors import NotFound
from credit_core.store.columns import Instant
from credit_core.store.schema import accounts, ledger_entries, lots, users
from credit_core.units import MICRO

_SHOWN = (
    "seq", "occurred_at", "recorded_at", "kind", "d_avail_uc", "d_held_uc", "request_id", "session_id", "modality", "model", "images",
    "genre", "mood", "rule", "miss", "outcome", "status", "mode", "p", "u01", "cost_uc", "config_version", "latency_ms",
    "reason", "actor", "leg_id", "line", "limit_name", "d_count",
)  # fmt: skip


def find_users(engine: Engine, prefix: str, limit: int = 20) -> pd.DataFrame:
    """Users whose id begins with ``prefix``, upper and lower case alike.

    Columns user_id, account_id, plan, region, segment, created_at (UTC), available_uc, available_credits.
    """
    u, a = users.c, accounts.c
    start = func.substr(u.user_id, 1, len(prefix))
    statement = (
        select(
            u.user_id,
            u.account_id,
            a.plan,
            a.region,
            u.segment,
            type_coerce(u.created_at, BigInteger).label("created_at"),
            a.avail_uc.label("available_uc"),
        )
        .join_from(users, accounts, a.account_id == u.account_id)
        .where(or_(start == prefix, func.lower(start) == prefix.lower()))
        .order_by(u.user_id)
        .limit(limit)
    )
    frame = _read(engine, statement)
    frame["created_at"] = instants(frame["created_at"], "UTC")
    frame["available_credits"] = frame["available_uc"].astype("float64") / MICRO
    return frame


def user_timeline(
    engine: Engine, user_id: str, zone: str, limit: int = 200, before_seq: int | None = None
) -> pd.DataFrame:
    """Entries of the account that pays for the user, newest first, each with the balance after it. Raises :class:`NotFound`.

    Of a team's pool: the user's own and the pool's, not what other members did; balances are the pool's.
    ``before_seq`` continues an earlier page. Amounts as *_uc and *_credits: d_avail, d_held, available, held.
    """
    with engine.connect() as connection:
        account_id = connection.execute(select(users.c.account_id).where(users.c.user_id == user_id)).scalar()
    if account_id is None:
        raise NotFound(f"There is no user {user_id!r}. Search by the first letters of the id.")
    e = ledger_entries.c
    every = (
        select(
            *(
                type_coerce(e[name], BigInteger).label(name) if isinstance(e[name].type, Instant) else e[name]
                for name in _SHOWN
            ),
            e.user_id,
            lots.c.kind.label("lot_kind"),
            cast(func.sum(e.d_avail_uc).over(order_by=e.seq), BigInteger).label("available_uc"),
            cast(func.sum(e.d_held_uc).over(order_by=e.seq), BigInteger).label("held_uc"),
        )
        .join_from(ledger_entries, lots, lots.c.lot_id == e.lot_id, isouter=True)
        .where(e.account_id == account_id)
        .subquery("every")
    )
    shown = (column for column in every.c if column.name != "user_id")
    theirs = or_(every.c.user_id == user_id, every.c.user_id.is_(None))
    statement = select(*shown).where(theirs).order_by(every.c.seq.desc()).limit(limit)
    frame = _read(engine, statement if before_seq is None else statement.where(every.c.seq < before_seq))
    for name in ("occurred_at", "recorded_at"):
        frame[name] = instants(frame[name], zone)
    for name in ("d_avail", "d_held", "available", "held"):
        frame[f"{name}_credits"] = frame[f"{name}_uc"].astype("float64") / MICRO
    frame["miss"] = frame["miss"].astype("boolean")
    frame["d_count"] = frame["d_count"].astype("Int64")
    return frame


def _read(engine: Engine, statement: object) -> pd.DataFrame:
    with engine.connect() as connection:
        result = connection.execute(statement)  # type: ignore[call-overload]
        return pd.DataFrame(result.all(), columns=list(result.keys()))
