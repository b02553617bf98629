"""The schema: what migrations make is what the code says, once, whoever comes first; a newer one is refused."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Barrier, BrokenBarrierError
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import CheckConstraint, Connection, event, inspect, select, text

from credit_core import CreditCore
from credit_core.errors import InvalidRequest, LedgerUnavailable, SchemaTooNew
from credit_core.store import migrate
from credit_core.store.engine import open_engine, parse_url
from credit_core.store.ledger import SALTS, Ledger
from credit_core.store.schema import APPEND_ONLY, accounts, holds, ledger_entries, lots, metadata
from tests.faults.processes import workers
from tests.service.scenes import NOW, StoppedClock, everything
from tests.service.together import together

VERBS = ("UPDATE", "DELETE", "INSERT", "TRUNCATE")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def empty_url(request: pytest.FixtureRequest) -> str:
    """The URL of a database without a schema."""
    if request.param == "sqlite":
        return f"sqlite:///{request.getfixturevalue('tmp_path') / 'new' / 'ledger.db'}"
    return str(request.getfixturevalue("postgres_url"))


@contextmanager
def owner(url: str) -> Iterator[Connection]:
    engine = open_engine(url, owner=True)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def ours(_object: Any, name: str | None, kind: str, _reflected: bool, _compared: Any) -> bool:
    """All but what only the sync from PostgreSQL needs: the column tx and its index."""
    return not (kind == "column" and name == "tx") and name not in ("ix_ledger_entries_tx_id", "alembic_version")


@pytest.mark.filterwarnings("ignore:Did not recognize type 'xid8'")
def test_what_the_migrations_make_is_what_the_code_says(empty_url: str) -> None:
    migrate.upgrade(empty_url)
    with owner(empty_url) as connection:
        context = MigrationContext.configure(connection, opts={"include_object": ours, "compare_type": True})
        assert compare_metadata(context, metadata) == []


@pytest.mark.filterwarnings("ignore:Did not recognize type 'xid8'")
def test_checks_and_keys_are_there_too(empty_url: str) -> None:
    migrate.upgrade(empty_url)
    with owner(empty_url) as connection:
        there = inspect(connection)
        for name, table in metadata.tables.items():
            wanted = {
                str(check.name)
                for check in table.constraints
                if isinstance(check, CheckConstraint)
                and (check._ddl_if is None or check._ddl_if.dialect == connection.dialect.name)
            }
            assert {check["name"] for check in there.get_check_constraints(name)} == wanted
            assert there.get_pk_constraint(name)["constrained_columns"] == [c.name for c in table.primary_key.columns]
            assert len(there.get_foreign_keys(name)) == len(table.foreign_keys)
        if connection.dialect.name == "sqlite":
            strict = connection.execute(text("SELECT name FROM pragma_table_list WHERE strict = 1")).scalars()
            assert set(metadata.tables) <= set(strict)
        else:
            assert there.get_columns("ledger_entries")[-1]["name"] == "tx"


def test_every_append_only_table_is_guarded(empty_url: str) -> None:
    migrate.upgrade(empty_url)
    with owner(empty_url) as connection:
        if connection.dialect.name == "sqlite":
            made = text("SELECT tbl_name, sql FROM sqlite_master WHERE type = 'trigger'")
            guards = [
                (row.tbl_name, verb)
                for row in connection.execute(made)
                for verb in VERBS
                if f"BEFORE {verb}" in row.sql
            ]
        else:
            made = text(
                "SELECT tgrelid::regclass::text AS name, pg_get_triggerdef(oid) AS sql FROM pg_trigger "
                "WHERE NOT tgisinternal AND tgenabled = 'A'"
            )
            guards = [(row.name, verb) for row in connection.execute(made) for verb in VERBS if verb in row.sql]
    third = "INSERT" if empty_url.startswith("sqlite") else "TRUNCATE"
    assert set(guards) == {(table, verb) for table in APPEND_ONLY for verb in ("UPDATE", "DELETE", third)}


def test_migrating_again_changes_nothing(empty_url: str) -> None:
    with CreditCore.open(empty_url) as core:
        core.add_user("ada", "free", at=NOW)
        before = everything(core)
    migrate.upgrade(empty_url)
    with CreditCore.open(empty_url) as core:
        assert everything(core) == before


def test_what_the_first_release_held_is_there_after_the_migrations(empty_url: str) -> None:
    account = {
        "account_id": "user:ada", "kind": "user", "plan": "free", "region": "global", "timezone": "UTC", "anchor_day": "2025-03-10",
        "anchor_no": 0, "cycle_no": 0, "cycle_start_at": NOW, "cycle_end_at": NOW, "quota_uc": 0, "avail_uc": 0, "held_uc": 0,
        "demand_uc": 0, "largest_uc": 0, "mode": "steady", "seq": 0, "head_hash": b"", "recorded_at": NOW, "created_at": NOW,
        "cycled": True,
    }  # fmt: skip
    hold = ("leg", "user:ada", "ada", "r-1", 1_000_000, NOW, NOW)
    entry = {
        "account_id": "user:ada", "seq": 1, "leg_id": "leg", "line": 1, "occurred_at": NOW, "recorded_at": NOW, "kind": "reserve",
        "lot_id": "held", "d_avail_uc": -1, "d_held_uc": 1, "plan": "free", "region": "global", "prev_hash": b"", "hash": b"",
    }  # fmt: skip
    with owner(empty_url) as connection:
        command.upgrade(migrate._alembic(connection), "0001")
        connection.execute(accounts.insert().values(account))
        connection.execute(holds.insert().values(hold))
        for lot_id, avail, held in (("full", 1, 0), ("held", 0, 1), ("empty", 0, 0)):
            lot = {
                "lot_id": lot_id,
                "account_id": "user:ada",
                "kind": "bonus",
                "granted_at": NOW,
                "unit_price_usd_micro": 0,
            }
            connection.execute(lots.insert().values(lot | {"avail_uc": avail, "held_uc": held}))
        connection.execute(ledger_entries.insert().values(entry))
    migrate.upgrade(empty_url)
    with owner(empty_url) as connection:
        assert connection.execute(select(holds)).all() == [hold]
        [kept] = connection.execute(select(*(ledger_entries.c[name] for name in entry))).mappings()
        assert dict(kept) == entry
        marks = connection.execute(select(lots.c.lot_id, lots.c.is_open)).all()
        assert {row.lot_id: row.is_open for row in marks} == {"full": True, "held": True, "empty": False}
        assert connection.execute(select(accounts.c.version)).scalar_one() == 0
        assert {index["name"] for index in inspect(connection).get_indexes("holds")} == {"ix_holds_expires_at"}


def test_a_newer_schema_is_refused_and_left_alone(empty_url: str) -> None:
    CreditCore.open(empty_url).close()
    with owner(empty_url) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaTooNew, match=r"schema is 9999.*Install the release that wrote it, or a newer one"):
        CreditCore.open(empty_url)
    with owner(empty_url) as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all() == ["9999"]


def test_processes_that_open_a_new_ledger_at_once_make_one(empty_url: str) -> None:
    with workers(empty_url, 3, opened=False) as started:
        for worker in started:
            worker.tell("open")
        assert [worker.hear() for worker in started] == ["open"] * 3
    with CreditCore.open(empty_url) as core:
        tables = everything(core)
    with owner(empty_url) as connection:
        assert len(connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all()) == 1
    assert {name: [row[0] for row in tables[name]] for name in ("config_versions", "config_releases", "catalogs")} == {
        "config_versions": [1], "config_releases": [1], "catalogs": [1],
    }  # fmt: skip


def test_the_keys_of_a_deployment_are_made_once_though_two_find_none(empty_url: str) -> None:
    migrate.upgrade(empty_url)
    both_looked = Barrier(2)

    def prepare(_: int) -> dict[str, bytes]:
        ledger = Ledger(empty_url, StoppedClock(NOW))

        @event.listens_for(ledger.engine, "after_cursor_execute")
        def _wait(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            # On SQLite only one of them gets this far at a time, and the other waits in vain.
            if "SELECT deployment" in statement:
                with suppress(BrokenBarrierError):
                    both_looked.wait(1)

        try:
            ledger.prepare(None)
            return dict(ledger.salts)
        finally:
            ledger.close()

    first, second = together(prepare, range(2))
    assert first == second
    assert len(first) == len(SALTS)


# ------------------------------------------------------------------------------------------------- what cannot be opened


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nonsense", "not a database URL"),
        ("mysql://there/ledger", "SQLite or PostgreSQL, not in mysql"),
        ("sqlite://", "needs a file"),
        ("sqlite:///:memory:", "needs a file"),
    ],
)
def test_an_address_that_is_none_is_refused_with_one_that_would_do(url: str, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        CreditCore.open(url)


def test_both_spellings_of_postgresql_mean_the_same_driver() -> None:
    assert {parse_url(url).drivername for url in ("postgresql://h/d", "postgresql+psycopg2://h/d")} == {
        "postgresql+psycopg"
    }


def test_a_database_that_is_not_there_is_told_in_words() -> None:
    with pytest.raises(LedgerUnavailable):
        CreditCore.open("postgresql://localhost:1/ledger")


def test_a_file_that_is_no_database_is_told_in_words_and_left_alone(tmp_path: Any) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("Buy milk. " * 200)
    with pytest.raises(LedgerUnavailable):
        CreditCore.open(f"sqlite:///{path}")
    assert path.read_text() == "Buy milk. " * 200


def test_a_folder_is_no_ledger(tmp_path: Any) -> None:
    with pytest.raises(LedgerUnavailable):
        CreditCore.open(f"sqlite:///{tmp_path}")


def test_a_ledger_only_read_must_be_there(tmp_path: Any) -> None:
    with pytest.raises(LedgerUnavailable, match="credit_core init"):
        open_engine(f"sqlite:///{tmp_path}/none.db", read_only=True)


def test_a_reporting_zone_is_for_the_deployment_and_kept(empty_url: str) -> None:
    CreditCore.open(empty_url, reporting_zone="Asia/Kathmandu").close()
    with CreditCore.open(empty_url) as core:
        assert core.deployment.ledger.fact("reporting_zone") == "Asia/Kathmandu"
    with pytest.raises(InvalidRequest, match="reports in Asia/Kathmandu"):
        CreditCore.open(empty_url, reporting_zone="UTC")
    with pytest.raises(InvalidRequest, match="time zone"):
        CreditCore.open(empty_url, reporting_zone="Mars/Olympus")
    # A connection left open would be warned of here.
    gc.collect()
