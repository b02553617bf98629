"""What was written cannot be changed: the database itself refuses, whoever asks and however (SPEC 2, FINDINGS)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from credit_core import CreditCore
from credit_core.store.engine import APP_ROLE, open_engine
from credit_core.store.schema import APPEND_ONLY, metadata
from tests.service.scenes import FRESH_FOR_ALL, NOW, ask, everything, make_live
from tests.service.stages import begin

#: A column of each, to be changed.
COLUMN = {name: list(metadata.tables[name].columns)[-1].name for name in APPEND_ONLY}


def released_in_stages(core: CreditCore) -> None:
    begin(core, core.propose({"controller.k": 0.5}, "olga", ""))


@pytest.fixture
def written(own_ledger_url: str) -> Iterator[CreditCore]:
    """A ledger with rows in every append-only table."""
    with CreditCore.open(own_ledger_url) as core:
        make_live(core, FRESH_FOR_ALL)
        core.add_user("ada", "free", at=NOW)
        ask(core)
        core.settle("ada", "r-1", at=NOW)
        core.reward("ada", "r-1", 1.0, at=NOW)
        core.purchase_callback("ada", at=NOW)
        released_in_stages(core)
        assert all(rows for name, rows in everything(core).items() if name in APPEND_ONLY)
        yield core


def test_the_append_only_tables_are_those_of_the_ledger_and_of_what_was_released() -> None:
    assert {"ledger_entries", "config_versions", "config_releases", "catalogs"} <= set(APPEND_ONLY)


@pytest.mark.parametrize("as_owner", [False, True], ids=["application", "owner"])
@pytest.mark.parametrize("table", APPEND_ONLY)
def test_rows_can_be_neither_changed_nor_deleted(
    own_ledger_url: str, written: CreditCore, table: str, as_owner: bool
) -> None:
    before = everything(written)
    statements = [f"UPDATE {table} SET {COLUMN[table]} = {COLUMN[table]}", f"DELETE FROM {table}"]
    if own_ledger_url.startswith("postgresql"):
        statements += [f"TRUNCATE {table} CASCADE", f"DELETE FROM ONLY {table}"]
    engine = open_engine(own_ledger_url, owner=as_owner)
    for statement in statements:
        with pytest.raises(DBAPIError, match=r"append-only|permission denied"), engine.begin() as connection:
            connection.execute(text(statement))
    engine.dispose()
    assert everything(written) == before


# --------------------------------------------------------------------------------------------------------------- SQLite


@pytest.fixture
def foreign(sqlite_ledger: str) -> Iterator[sqlite3.Connection]:
    """Somebody else's connection to a ledger, with the engine's own defaults: no recursive triggers, no foreign keys."""
    with CreditCore.open(sqlite_ledger) as core:
        make_live(core, FRESH_FOR_ALL)
        core.add_user("ada", "free", at=NOW)
        ask(core)
        core.settle("ada", "r-1", at=NOW)
        core.reward("ada", "r-1", 1.0, at=NOW)
        core.purchase_callback("ada", at=NOW)
        released_in_stages(core)
    connection = sqlite3.connect(sqlite_ledger.removeprefix("sqlite:///"), isolation_level=None)
    assert connection.execute("PRAGMA recursive_triggers").fetchone() == (0,)
    yield connection
    connection.close()


@pytest.mark.parametrize("table", APPEND_ONLY)
@pytest.mark.parametrize("verb", ["INSERT OR REPLACE", "REPLACE"])
def test_a_row_cannot_be_replaced_over_another_connection(foreign: sqlite3.Connection, table: str, verb: str) -> None:
    before = foreign.execute(f"SELECT * FROM {table}").fetchall()
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        foreign.execute(f"{verb} INTO {table} SELECT * FROM {table}")
    assert foreign.execute(f"SELECT * FROM {table}").fetchall() == before


@pytest.mark.parametrize(
    "kept",
    [("id",), ("account_id", "seq"), ("leg_id", "line")],
    ids=["same row id", "same place in the account", "same place in the leg"],
)
def test_an_entry_cannot_be_replaced_through_any_of_its_keys(
    foreign: sqlite3.Connection, kept: tuple[str, ...]
) -> None:
    before = foreign.execute("SELECT * FROM ledger_entries").fetchall()
    other = {"id": "id + 100", "seq": "seq + 100", "leg_id": "'other'"}
    columns = [
        "NULL" if name == "id" and "id" not in kept else other.get(name, name) if name not in kept else name
        for name in metadata.tables["ledger_entries"].columns.keys()  # noqa: SIM118
    ]
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        foreign.execute(
            f"INSERT OR REPLACE INTO ledger_entries SELECT {', '.join(columns)} FROM ledger_entries LIMIT 1"
        )
    assert foreign.execute("SELECT * FROM ledger_entries").fetchall() == before


@pytest.mark.parametrize("table", APPEND_ONLY)
def test_an_upsert_does_not_get_through_either(foreign: sqlite3.Connection, table: str) -> None:
    column = COLUMN[table]
    before = foreign.execute(f"SELECT * FROM {table}").fetchall()
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        foreign.execute(
            f"INSERT INTO {table} SELECT * FROM {table} WHERE true ON CONFLICT DO UPDATE SET {column} = excluded.{column}"
        )
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        foreign.execute(f"UPDATE OR REPLACE {table} SET {column} = {column}")
    assert foreign.execute(f"SELECT * FROM {table}").fetchall() == before


# ----------------------------------------------------------------------------------------------------------- PostgreSQL


@pytest.mark.postgres
def test_the_application_works_as_a_role_that_owns_nothing_and_may_only_add(own_postgres_ledger: str) -> None:
    with CreditCore.open(own_postgres_ledger) as core, core.deployment.ledger.reading() as connection:
        assert connection.scalar(text("SELECT current_user")) == APP_ROLE
        owned = connection.scalar(text("SELECT count(*) FROM pg_tables WHERE tableowner = current_user"))
        assert owned == 0
        for table in metadata.tables:
            may = {
                right: connection.scalar(text(f"SELECT has_table_privilege('{table}', '{right}')"))
                for right in ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "TRIGGER", "REFERENCES")
            }
            changed = table not in APPEND_ONLY
            assert may == {
                "SELECT": True, "INSERT": True, "UPDATE": changed, "DELETE": changed, "TRUNCATE": False,
                "TRIGGER": False, "REFERENCES": False,
            }, table  # fmt: skip


@pytest.mark.postgres
def test_the_application_cannot_drop_the_guards(own_postgres_ledger: str) -> None:
    engine = open_engine(own_postgres_ledger)
    for statement in (
        "ALTER TABLE ledger_entries DISABLE TRIGGER ALL",
        "DROP TRIGGER ledger_entries_append_only ON ledger_entries",
        "DROP TABLE ledger_entries CASCADE",
        "SET session_replication_role = replica",
        "CREATE OR REPLACE FUNCTION titrate_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$",
    ):
        with pytest.raises(DBAPIError, match=r"must be owner|permission denied"), engine.begin() as connection:
            connection.execute(text(statement))
    engine.dispose()


@pytest.mark.postgres
@pytest.mark.parametrize("table", APPEND_ONLY)
def test_acting_as_a_replica_does_not_switch_the_guards_off(own_postgres_ledger: str, table: str) -> None:
    with CreditCore.open(own_postgres_ledger) as core:
        make_live(core, FRESH_FOR_ALL)
        core.add_user("ada", "free", at=NOW)
        ask(core)
        core.reward("ada", "r-1", 1.0, at=NOW)
        core.purchase_callback("ada", at=NOW)
        released_in_stages(core)
        before = everything(core)
        with psycopg.connect(own_postgres_ledger, autocommit=True) as superuser:
            superuser.execute("SET session_replication_role = replica")
            for statement in (
                f"UPDATE {table} SET {COLUMN[table]} = {COLUMN[table]}",
                f"DELETE FROM {table}",
                f"TRUNCATE {table} CASCADE",
            ):
                with pytest.raises(psycopg.Error, match="append-only"):
                    superuser.execute(statement)
        assert everything(core) == before
