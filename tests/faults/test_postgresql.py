"""PostgreSQL on stricter isolation, and connections that break at the worst moment: retried, and charged once (FINDINGS)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from credit_core import CreditCore
from credit_core.store.transactions import Transaction
from credit_core.store.unit import Unit
from tests.faults.processes import workers
from tests.service.scenes import CREDIT, FRESH_FOR_ALL, NOW, StoppedClock, ask, make_live, moves
from tests.service.together import together

pytestmark = pytest.mark.postgres

# ------------------------------------------------------------------------------------------------------ other isolation


def isolate(url: str, level: str) -> None:
    name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = '{level}'")


@pytest.mark.parametrize("level", ["serializable", "repeatable read"])
def test_a_stricter_isolation_changes_nothing_but_the_retries(
    own_postgres_ledger: str, clock: StoppedClock, level: str
) -> None:
    isolate(own_postgres_ledger, level)
    with CreditCore.open(own_postgres_ledger, clock=clock) as core:
        with core.deployment.ledger.engine.begin() as connection:
            assert connection.scalar(text("SHOW transaction_isolation")) == level
        make_live(core, FRESH_FOR_ALL)
        core.add_user("ada", "basic", at=NOW)
        core.add_user("bob", "free", at=NOW)

        def live(n: int) -> None:
            for step in range(6):
                ask(core, f"r-{n}-{step}", genre="jazz", mood="calm")
                core.settle("ada", f"r-{n}-{step}", at=NOW)
            ask(core, f"r-{n}", user="bob", images=6)

        together(live, range(6))
        assert core.balance("ada").available_uc == (200 - 36) * CREDIT
        assert core.balance("bob").held_uc == 18 * CREDIT
        assert core.library.cell("jazz", "calm", at=NOW) == (36, 0)
        core.sweep(at=NOW.replace(hour=13))
        core.reconcile(at=NOW.replace(month=5))
        assert core.verify() == []


def test_processes_that_open_a_new_serializable_ledger_at_once_make_one(postgres_url: str) -> None:
    isolate(postgres_url, "serializable")
    with workers(postgres_url, 2, opened=False) as started:
        for worker in started:
            worker.tell("open")
        assert [worker.hear() for worker in started] == ["open"] * 2
    with CreditCore.open(postgres_url) as core:
        assert core.verify() == []


# ---------------------------------------------------------------------------------------------------- lost connections


class Saboteur:
    """Ends the core's own connection, once, at the moment it is armed for."""

    def __init__(self, core: CreditCore, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self._core = core
        self._url = url
        self._patch = monkeypatch
        self.struck = 0

    def _end(self, pooled: Any) -> None:
        """pg_terminate_backend on the connection that the transaction is using."""
        self.struck += 1
        pid = pooled.driver_connection.info.backend_pid
        with psycopg.connect(self._url, autocommit=True) as superuser:
            superuser.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])

    def before_the_first_statement(self) -> None:
        begin = Unit.__init__

        def made(unit: Unit, connection: Any, *arguments: Any, **options: Any) -> None:
            begin(unit, connection, *arguments, **options)
            if not self.struck:
                self._end(connection.connection)

        self._patch.setattr(Unit, "__init__", made)

    def before_anything_is_written(self) -> None:
        flush = Unit.flush

        def flushed(unit: Unit) -> int:
            if not self.struck:
                self._end(unit.connection.connection)
            return flush(unit)

        self._patch.setattr(Unit, "flush", flushed)

    def before_the_commit(self) -> None:
        flush = Unit.flush

        def flushed(unit: Unit) -> int:
            count = flush(unit)
            if not self.struck:
                self._end(unit.connection.connection)
            return count

        self._patch.setattr(Unit, "flush", flushed)

    def after_the_commit_before_it_is_told(self) -> None:
        commit, written = Transaction._commit, Unit.flush

        def flushed(unit: Unit) -> int:
            count = written(unit)
            if count and not self.struck:
                self._patch.setattr(Transaction, "_commit", lost)
            return count

        def lost(transaction: Transaction) -> None:
            commit(transaction)
            self._patch.setattr(Transaction, "_commit", commit)
            self._end(transaction._connection.connection)
            transaction._driver.cursor().execute("SELECT 1")

        self._patch.setattr(Unit, "flush", flushed)


MOMENTS = [name for name in vars(Saboteur) if not name.startswith("_")]


@pytest.fixture
def sabotage(
    emptied_postgres: Callable[[], str], clock: StoppedClock, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[CreditCore, Saboteur]]:
    """Ada with a hold on r-1, and a saboteur that is not armed yet."""
    url = emptied_postgres()
    with CreditCore.open(url, clock=clock) as core:
        make_live(core, FRESH_FOR_ALL)
        core.add_user("ada", "free", at=NOW)
        ask(core, "r-1", images=2)
        yield core, Saboteur(core, url, monkeypatch)


def settle(core: CreditCore) -> object:
    return core.settle("ada", "r-1", at=NOW)


def release(core: CreditCore) -> object:
    return core.release("ada", "r-1", "provider_error", at=NOW)


def authorize(core: CreditCore) -> object:
    return ask(core, "r-2", images=3)


def grant(core: CreditCore) -> object:
    return core.grant("ada", CREDIT, "bonus", "gift", at=NOW)


def sign_up(core: CreditCore) -> object:
    return core.add_user("bob", "free", at=NOW)


EXPECTED = {
    "settle": [("settle", "monthly", 0, -2)],
    "release": [("release", "monthly", 2, -2)],
    "authorize": [("reserve", "monthly", -3, 3)],
    "grant": [("grant", "bonus", 1, 0)],
    "sign_up": [],
}


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("act", [settle, release, authorize, grant, sign_up], ids=lambda act: act.__name__)
def test_a_connection_lost_in_mid_transaction_is_retried_and_charged_once(
    sabotage: tuple[CreditCore, Saboteur], act: Callable[[CreditCore], object], moment: str
) -> None:
    core, saboteur = sabotage
    getattr(saboteur, moment)()
    act(core)
    assert saboteur.struck == 1
    assert moves(core, after=2) == EXPECTED[act.__name__]
    if act is sign_up:
        assert moves(core, "bob") == [("grant", "monthly", 20, 0)]
    assert core.verify() == []


def test_a_core_goes_on_after_every_connection_of_its_pool_was_lost(sabotage: tuple[CreditCore, Saboteur]) -> None:
    core, saboteur = sabotage
    pooled = [core.deployment.ledger.engine.raw_connection() for _ in range(4)]
    for connection in pooled:
        saboteur._end(connection)
        connection.close()
    assert {answer.status for answer in together(lambda n: ask(core, f"x-{n}"), range(4))} == {"RESERVED"}
    assert core.balance("ada").held_uc == 6 * CREDIT
    assert core.verify() == []
