"""The thirteen invariants of SPEC 2, each a query that returns no rows, plus the walk over the hash chain."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Connection, insert, select, text

from credit_core.store import chain
from credit_core.store.engine import APP_ROLE
from credit_core.store.schema import checks, ledger_entries

#: Rows of evidence kept per invariant; the number of rows that break it is always told in full.
EVIDENCE = 20


class Violation(NamedTuple):
    """An invariant that does not hold: how many rows break it, and the first of them."""

    invariant: int
    title: str
    rows: int
    evidence: tuple[str, ...]


class Head(NamedTuple):
    """The newest entry of an account's chain, to be kept elsewhere."""

    account_id: str
    seq: int
    hash: str


class Check(NamedTuple):
    """One run of :func:`verify`, as kept in table ``checks``. ``violations``: invariant → number of rows that break it."""

    checked_at: datetime
    entries: int
    duration_ms: float
    violations: dict[str, int]
    actor: str


class Suspects(NamedTuple):
    """Where alone a ledger can be broken: invariants, and accounts by their chain; None is any of them."""

    invariants: frozenset[int]
    accounts: tuple[str, ...] | None


TITLES = {
    1: "balances equal the sums of their entries",
    2: "no balance was ever negative",
    3: "every leg has the shape of its kind",
    4: "held credits equal the reserves not yet ended",
    5: "at most one end per reserve, none without",
    6: "one answer per request",
    7: "sequence numbers without gaps",
    8: "hash chain intact",
    9: "one closing per cycle, cycles adjoin",
    10: "a settle bears its reserve's configuration",
    11: "no hold older than its lifetime",
    12: "recorded times never fall",
    13: "credits granted equal credits accounted for",
}


def queries() -> dict[int, list[str]]:
    """The queries of each invariant but 8."""
    found: dict[int, list[str]] = {}
    for block in re.split(
        r"^-- (?=\d+$)", Path(__file__).with_name("invariants.sql").read_text(encoding="utf-8"), flags=re.MULTILINE
    )[1:]:
        number, sql = block.split("\n", 1)
        found[int(number)] = [query.strip() for query in sql.split(";") if query.strip()]
    return found


def verify(
    connection: Connection,
    salt: bytes,
    heads: Iterable[Head] = (),
    progress: Callable[[int, str], None] = lambda _number, _title: None,
    suspects: Suspects | None = None,
) -> list[Violation]:
    """Run every invariant; ``heads`` are chain heads kept elsewhere. Empty means that nothing is wrong.

    ``suspects`` tells where to look, if somebody has found out; the default is everywhere.
    """
    wanted = queries()
    if suspects is not None:
        wanted = {number: of for number, of in wanted.items() if number in suspects.invariants}
    whose = None if suspects is None else suspects.accounts
    found: list[Violation] = []
    for number, title in TITLES.items():
        progress(number, title)
        if number == 8:
            broken = [*_broken_chains(connection, salt, whose), *_missing_heads(connection, heads)]
        else:
            broken = [
                ", ".join(str(value) for value in row)
                for query in wanted.get(number, ())
                for row in connection.execute(text(query))
            ]
        if broken:
            found.append(Violation(number, title, len(broken), tuple(broken[:EVIDENCE])))
    return found


def record(connection: Connection, check: Check) -> None:
    """Keep the result of a run, for the history of checks."""
    connection.execute(insert(checks).values(check._asdict()))


def heads(connection: Connection) -> list[Head]:
    """The newest entry of every account's chain, by account."""
    rows = connection.execute(text("SELECT account_id, seq, head_hash FROM accounts WHERE seq > 0 ORDER BY account_id"))
    return [Head(row.account_id, row.seq, bytes(row.head_hash).hex()) for row in rows]


def guarded_by_triggers_alone(connection: Connection) -> bool:
    """True on PostgreSQL where the connection may drop the append-only triggers: it does not work as the application's role."""
    return connection.dialect.name == "postgresql" and connection.scalar(text("SELECT current_user")) != APP_ROLE


def _broken_chains(connection: Connection, salt: bytes, whose: Sequence[str] | None) -> Iterable[str]:
    query = (
        select(ledger_entries)
        .order_by(ledger_entries.c.account_id, ledger_entries.c.seq)
        .execution_options(yield_per=5_000)
    )
    if whose is not None:
        query = query.where(ledger_entries.c.account_id.in_(whose))
    ends: Mapping[str, bytes] = {
        row.account_id: bytes(row.head_hash)
        for row in connection.execute(text("SELECT account_id, head_hash FROM accounts WHERE seq > 0"))
    }
    account: str | None = None
    previous = chain.GENESIS
    for row in connection.execute(query).mappings():
        if row["account_id"] != account:
            if account is not None and ends.get(account) != previous:
                yield f"{account}: the chain does not end at the account's head"
            account, previous = row["account_id"], chain.GENESIS
        if bytes(row["prev_hash"]) != previous or chain.entry_hash(dict(row), previous, salt) != bytes(row["hash"]):
            yield f"{account}: entry {row['seq']} does not match its hash"
        previous = bytes(row["hash"])
    if account is not None and ends.get(account) != previous:
        yield f"{account}: the chain does not end at the account's head"


def _missing_heads(connection: Connection, kept: Iterable[Head]) -> Iterable[str]:
    for head in kept:
        there: Any = connection.execute(
            select(ledger_entries.c.hash).where(
                ledger_entries.c.account_id == head.account_id, ledger_entries.c.seq == head.seq
            )
        ).scalar()
        if there is None:
            yield f"{head.account_id}: entry {head.seq}, kept elsewhere as head, is gone"
        elif bytes(there).hex() != head.hash:
            yield f"{head.account_id}: entry {head.seq} differs from the head kept elsewhere"


def as_of(connection: Connection) -> datetime | None:
    """When the newest entry was recorded."""
    return connection.execute(
        select(ledger_entries.c.recorded_at).order_by(ledger_entries.c.id.desc()).limit(1)
    ).scalar()
