"""Each connection is told what makes a commit durable, and keeps it (FINDINGS, Ledger databases)."""

from __future__ import annotations

import sqlite3
from threading import Barrier

import psycopg
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from credit_core import CreditCore
from credit_core.store.engine import BUSY_TIMEOUT_MS, open_engine
from tests.service.scenes import NOW, ask
from tests.service.together import together


def settings(engine: Engine, *names: str) -> list[object]:
    """What a connection of ``engine`` goes by."""
    connection = engine.raw_connection()
    try:
        read = "PRAGMA" if engine.dialect.name == "sqlite" else "SHOW"
        cursor = connection.cursor()
        return [cursor.execute(f"{read} {name}").fetchone()[0] for name in names]
    finally:
        connection.close()


def test_every_sqlite_connection_is_durable_and_strict(sqlite_ledger: str) -> None:
    with CreditCore.open(sqlite_ledger) as core:
        core.add_user("ada", "free", at=NOW)
        together(lambda n: ask(core, f"r-{n}"), range(6))
        names = ("synchronous", "journal_mode", "foreign_keys", "recursive_triggers", "busy_timeout")
        start = Barrier(4)
        engine = core.deployment.ledger.engine
        seen = together(lambda _: (start.wait(), settings(engine, *names))[1], range(4))
    assert seen == [[2, "wal", 1, 1, BUSY_TIMEOUT_MS]] * 4


def test_one_caller_keeps_to_one_connection_whose_pages_are_the_newest(ledger_url: str) -> None:
    engine = open_engine(ledger_url)
    first, second = engine.raw_connection(), engine.raw_connection()
    last = second.driver_connection
    first.close()
    second.close()
    for _ in range(3):
        with engine.connect() as connection:
            assert connection.connection.driver_connection is last
    engine.dispose()


def test_a_sqlite_writer_holds_the_write_lock_from_the_start(sqlite_ledger: str) -> None:
    engine = open_engine(sqlite_ledger)
    other = sqlite3.connect(sqlite_ledger.removeprefix("sqlite:///"), timeout=0, isolation_level=None)
    with engine.begin(), pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("BEGIN IMMEDIATE")
    other.execute("BEGIN IMMEDIATE")
    other.close()
    engine.dispose()


def test_a_reader_on_sqlite_needs_no_write_lock(sqlite_ledger: str) -> None:
    with CreditCore.open(sqlite_ledger) as core:
        core.add_user("ada", "free", at=NOW)
        with core.deployment.ledger.engine.begin():
            assert core.balance("ada").available_uc == 20_000_000


@pytest.mark.parametrize("refused", ["INSERT INTO deployment (key, value) VALUES ('k', 'v')", "DELETE FROM holds"])
def test_a_read_only_connection_cannot_write(ledger_url: str, refused: str) -> None:
    engine = open_engine(ledger_url, read_only=True)
    with pytest.raises(DBAPIError, match=r"readonly|read-only"), engine.begin() as connection:
        connection.execute(text(refused))
    engine.dispose()


@pytest.mark.postgres
def test_every_postgresql_connection_is_durable_whatever_the_database_says(own_postgres_ledger: str) -> None:
    name = psycopg.conninfo.conninfo_to_dict(own_postgres_ledger)["dbname"]
    with psycopg.connect(own_postgres_ledger, autocommit=True) as owner:
        owner.execute(f"ALTER DATABASE {name} SET synchronous_commit = 'off'")
        owner.execute(f"ALTER DATABASE {name} SET lock_timeout = 0")
    with CreditCore.open(own_postgres_ledger) as core:
        engine = core.deployment.ledger.engine
        names = ("synchronous_commit", "lock_timeout", "idle_in_transaction_session_timeout")
        assert together(lambda _: settings(engine, *names), range(4)) == [["on", "30s", "1min"]] * 4


@pytest.mark.postgres
def test_settings_survive_a_rollback(own_postgres_ledger: str) -> None:
    name = psycopg.conninfo.conninfo_to_dict(own_postgres_ledger)["dbname"]
    with psycopg.connect(own_postgres_ledger, autocommit=True) as owner:
        owner.execute(f"ALTER DATABASE {name} SET synchronous_commit = 'off'")
    engine = open_engine(own_postgres_ledger)
    with pytest.raises(DBAPIError), engine.begin() as connection:
        connection.execute(text("SELECT 1/0"))
    assert settings(engine, "synchronous_commit", "role") == ["on", "titrate_app"]
    engine.dispose()
