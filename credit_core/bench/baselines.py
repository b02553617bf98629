"""What the product is measured against: the cheapest thing that could do the same on the same engine, with the same durability."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Column, Identity, MetaData, Table, insert, text

from credit_core.bench.measure import Block
from credit_core.store.engine import open_engine
from credit_core.store.schema import ledger_entries

_CREDIT = 1_000_000


@contextmanager
def two_commits(url: str, size: int) -> Iterator[Block]:
    """``size`` times two commits, each inserting one row as wide as a ledger entry: no lock, decision, balance or chain."""
    engine = open_engine(url, owner=True)
    columns = [Column(column.name, column.type) for column in ledger_entries.columns if column.name != "id"]
    key = Column("id", ledger_entries.c.id.type, Identity(always=True), primary_key=True)
    bare = Table("bench_bare", MetaData(), key, *columns, sqlite_strict=True)
    bare.create(engine)
    pooled = open_engine(url)
    if engine.dialect.name == "postgresql":
        with engine.begin() as connection:
            connection.execute(text("GRANT SELECT, INSERT ON bench_bare TO PUBLIC"))
    engine.dispose()
    now = datetime.now(UTC)
    row = {
        "account_id": "user:bench", "seq": 1, "leg_id": "0" * 32, "line": 1, "occurred_at": now, "recorded_at": now, "kind": "reserve",
        "d_avail_uc": -_CREDIT, "d_held_uc": _CREDIT, "plan": "premium", "region": "global", "prev_hash": bytes(32), "hash": bytes(32),
    }  # fmt: skip
    row = {column.name: row.get(column.name) for column in bare.columns if column.name != "id"}
    statement = insert(bare)

    def block(_number: int) -> None:
        for _ in range(size):
            for _commit in range(2):
                with pooled.begin() as connection:
                    connection.execute(statement, row)

    try:
        yield block
    finally:
        pooled.dispose()


@contextmanager
def two_phase(url: str, size: int, users: int, tables: str) -> Iterator[Block]:
    """``size`` two-phase transfers on PostgreSQL, each two calls of a PL/pgSQL function that commit by themselves.

    ``tables``: ``lean`` for tables made for it, ``own`` for copies of the ledger's, with its columns, indexes and checks.
    """
    engine = open_engine(url, owner=True)
    script = Path(__file__).with_name(f"two_phase_{tables}.sql").read_text(encoding="utf-8")
    with engine.begin() as connection:
        connection.exec_driver_sql(script)
        connection.exec_driver_sql(f"SELECT bench_{tables}_fill({int(users)})")
    pooled = engine.raw_connection()
    driver = pooled.driver_connection
    assert driver is not None
    driver.autocommit = True
    # As an application would: prepared at the first call.
    driver.prepare_threshold = 0
    cursor = driver.cursor()
    cursor.execute("SET synchronous_commit = 'on'")
    reserve, settle = f"SELECT bench_{tables}_reserve(%s, %s, %s)", f"SELECT bench_{tables}_settle(%s)"

    def block(number: int) -> None:
        for turn in range(size):
            leg = f"{number:016x}{turn:016x}"
            cursor.execute(reserve, (f"bench-{(number * size + turn) * 7919 % users}", leg, _CREDIT))
            if cursor.fetchone() != (True,):
                raise AssertionError("the baseline's reserve was refused")
            cursor.execute(settle, (leg,))
            if cursor.fetchone() != (True,):
                raise AssertionError("the baseline's settle was refused")

    try:
        yield block
    finally:
        cursor.close()
        pooled.close()
        engine.dispose()
