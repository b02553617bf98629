"""Entries that are too old for the copy: where it begins, and what those that are left out come to.

Balances, surplus and run-outs rest on everything that came before. So what leaves the copy is added up into *openings*: an
entry for each account and kind of lot, of the instant before the copy begins, which no period of it covers.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import duckdb
import pyarrow as pa  # type: ignore[import-untyped]
from sqlalchemy import func

from credit_core.analytics import relations
from credit_core.analytics.day_ends import pauses
from credit_core.analytics.dialect import sql_of
from credit_core.analytics.sync import incoming
from credit_core.policy.cycles import first_instant, local_day
from credit_core.units import checked_zone, from_us, to_us

OPENING = "opening"


class Aside(NamedTuple):
    """How many entries are left out for their age, and how many openings say what those come to."""

    left_out: int = 0
    openings: int = 0


_WHOSE = "account_id, user_id, team_id, plan, region, quota_policy, lot_kind, unit_price_usd_micro"
_PAUSES = sql_of(func.sum(pauses(relations.facts.c)))


def clock() -> datetime:
    """Now; what is too old to be kept is told by it."""
    return datetime.now(UTC)


def begins_us(keep_days: int | None, zone: str, now: datetime) -> int | None:
    """The first instant that is kept: the start of the day in ``zone`` that was ``keep_days`` ago; None keeps all."""
    if keep_days is None:
        return None
    place = checked_zone(zone)
    return to_us(first_instant(local_day(now, place) - timedelta(days=keep_days), place))


def with_openings(relation: str, begins: int, zone: str, among: str) -> str:
    """SQL of the entries ``among``, with what all those before that instant come to."""
    then = f"{begins - 1} AS occurred_at, DATE '{local_day(from_us(begins - 1), checked_zone(zone))}' AS day"
    older = f"FROM {relation} AS {relations.facts.name} WHERE occurred_at < {begins}"
    amounts = ", ".join(f"CAST(sum({name}) AS BIGINT) AS {name}" for name in ("d_avail_uc", "d_held_uc"))
    return (
        # By name: what openings do not have is missing.
        f"SELECT * FROM {relation} WHERE {among} UNION ALL BY NAME "
        f"SELECT {_WHOSE}, '{OPENING}' AS kind, {amounts}, max(id) AS id, {then} {older} "
        f"GROUP BY {_WHOSE} HAVING sum(d_avail_uc) <> 0 OR sum(d_held_uc) <> 0 "
        "UNION ALL BY NAME "
        f"SELECT account_id, CASE WHEN {_PAUSES} > 0 THEN 'pause' ELSE 'resume' END AS kind, 0 AS d_avail_uc, 0 AS d_held_uc, "
        f"max(id) AS id, {then} {older} GROUP BY account_id HAVING {_PAUSES} <> 0"
    )


def left_out(database: duckdb.DuckDBPyConnection, relation: str, begins: int) -> int:
    """How many entries lie before that instant; what was added up before is none, and has no place in a chain."""
    counted = f"SELECT count(*) FROM {relation} WHERE occurred_at < {begins} AND seq IS NOT NULL"
    return int(database.execute(counted).fetchall()[0][0])


def openings_of(database: duckdb.DuckDBPyConnection, relation: str, begins: int, zone: str) -> tuple[str, Aside]:
    """SQL of what all entries of a relation before that instant come to; and how many those are."""
    opened = f"{with_openings(relation, begins, zone, among='FALSE')} ORDER BY account_id"
    openings = int(database.execute(f"SELECT count(*) FROM ({opened})").fetchall()[0][0])
    return opened, Aside(left_out(database, relation, begins), openings)


def retained(
    database: duckdb.DuckDBPyConnection, rows: pa.Table, begins: int | None, zone: str
) -> tuple[pa.Table, Aside]:
    """Rows of ``facts`` from that instant on, and the openings of the others."""
    if begins is None:
        return rows, Aside()
    with incoming(database, rows):
        left = left_out(database, "incoming", begins)
        if not left:
            return rows, Aside()
        kept = database.sql(with_openings("incoming", begins, zone, f"occurred_at >= {begins}")).to_arrow_table()
    return kept.cast(rows.schema), Aside(left, len(kept) + left - len(rows))
