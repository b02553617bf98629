"""Connections rest between transactions: used again where nothing went wrong, given up where something did."""

from __future__ import annotations

import time
from collections.abc import Iterator
from threading import Barrier
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, text

from credit_core import CreditCore
from credit_core.store.engine import RESTING, open_engine
from credit_core.store.transactions import Transaction, Transactions
from tests.service.scenes import NOW, StoppedClock, ask
from tests.service.together import together

COUNT = text("SELECT count(*) FROM deployment")
ADD = text("INSERT INTO deployment (key, value) VALUES (:key, 'there')")


@pytest.fixture
def transactions(ledger_url: str) -> Iterator[Transactions]:
    """On an empty ledger."""
    engine = open_engine(ledger_url)
    yield Transactions(engine)
    engine.dispose()


def driver(connection: Any) -> Any:
    return connection.connection.driver_connection


def test_one_after_another_uses_one_connection_and_commits_what_ran_through_sqlalchemy(
    transactions: Transactions,
) -> None:
    used = []
    for number in range(3):
        with transactions.begin() as connection:
            before = connection.execute(COUNT).scalar_one()
            connection.execute(ADD, {"key": f"k-{number}"})
            used.append(driver(connection))
    assert len(set(map(id, used))) == 1
    with transactions.engine.connect() as other:
        assert other.execute(COUNT).scalar_one() == before + 1
        assert driver(other) is not used[0], "what rests is not in the pool"


def test_a_transaction_that_fails_is_rolled_back_and_the_next_one_works(transactions: Transactions) -> None:
    with transactions.begin() as connection:
        before = connection.execute(COUNT).scalar_one()

    def stopped(connection: Connection) -> None:
        connection.execute(ADD, {"key": "k"})
        raise RuntimeError

    with pytest.raises(RuntimeError), transactions.begin() as connection:
        stopped(connection)
    with transactions.begin() as connection:
        assert connection.execute(COUNT).scalar_one() == before


def test_a_commit_that_fails_leaves_nothing_and_is_told(
    transactions: Transactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    with transactions.begin() as connection:
        before = connection.execute(COUNT).scalar_one()

    def full(_: Transaction) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(Transaction, "_commit", full)
        with pytest.raises(OSError, match="disk full"), transactions.begin() as connection:
            connection.execute(ADD, {"key": "k"})
    with transactions.begin() as connection:
        assert connection.execute(COUNT).scalar_one() == before


@pytest.mark.postgres
def test_of_many_at_once_a_few_rest_and_the_others_go_back_to_the_pool(own_postgres_ledger: str) -> None:
    engine = open_engine(own_postgres_ledger)
    transactions, at_once = Transactions(engine), RESTING + 2
    start = Barrier(at_once)

    def read(_: int) -> None:
        with transactions.begin() as connection:
            connection.execute(COUNT)
            start.wait(30)

    together(read, range(at_once))
    assert engine.pool.checkedout() == RESTING  # type: ignore[attr-defined]
    engine.dispose()
    assert transactions._resting == [], "nothing of a disposed engine is used again"


@pytest.mark.postgres
def test_a_connection_that_was_lost_while_it_rested_is_replaced_without_a_retry(
    own_postgres_ledger: str, clock: StoppedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    with CreditCore.open(own_postgres_ledger, clock=clock) as core:
        core.add_user("ada", "free", at=NOW)
        with psycopg.connect(own_postgres_ledger, autocommit=True) as other:
            ended = other.execute(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
            ).fetchall()
        assert ended
        slept: list[float] = []
        monkeypatch.setattr(time, "sleep", slept.append)
        assert ask(core).rule is not None
        assert slept == []
        assert core.verify() == []
