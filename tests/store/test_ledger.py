"""One transaction per use case: all of it or nothing, and a reader sees only what is whole."""

from __future__ import annotations

import sqlite3
import time
from threading import Event, Thread
from typing import Any

import psycopg
import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import IntegrityError

from credit_core import CreditCore
from credit_core.errors import LedgerError, LedgerUnavailable, NotFound, ReadOnlyLedger
from credit_core.policy.controller import MODES
from credit_core.policy.lots import LOT_KINDS
from credit_core.service.accounts import add_user_in, grant_in
from credit_core.store.schema import ENTRY_KINDS, ledger_entries
from credit_core.store.unit import Delta, Unit
from tests.service.scenes import CREDIT, FRESH_FOR_ALL, NOW, ask, everything, make_live


class Stop(Exception):
    """What a test raises in the middle of a transaction."""


def test_an_error_in_the_middle_of_a_use_case_leaves_nothing_behind(core: CreditCore) -> None:
    before = everything(core)

    def act(unit: Unit) -> None:
        add_user_in(unit, core.deployment, "ada", "free", "UTC", None, None, NOW)
        grant_in(unit, core.deployment, "ada", CREDIT, "bonus", "gift", NOW)
        raise Stop

    with pytest.raises(Stop):
        core.deployment.ledger.run(act)
    assert everything(core) == before


def test_an_error_while_writing_leaves_nothing_behind(core: CreditCore) -> None:
    core.add_user("ada", "free", at=NOW)
    before = everything(core)

    def act(unit: Unit) -> None:
        grant_in(unit, core.deployment, "ada", CREDIT, "bonus", "gift", NOW)

        def last() -> None:
            raise Stop

        unit.finally_write(last)

    with pytest.raises(Stop):
        core.deployment.ledger.run(act)
    assert everything(core) == before


def test_a_balance_cannot_be_taken_below_zero_by_any_caller(core: CreditCore) -> None:
    core.add_user("ada", "free", at=NOW)
    before = everything(core)

    def act(unit: Unit) -> None:
        _, account = unit.user("ada")
        [lot] = unit.lots(account).values()
        unit.append(account, "clamp", "leg", [Delta(lot, -20 * CREDIT - 1, 0)], NOW)

    with pytest.raises(LedgerError, match="would make a balance negative; nothing was written"):
        core.deployment.ledger.run(act)
    assert everything(core) == before


@pytest.mark.parametrize("column", ["avail_uc", "held_uc"])
@pytest.mark.parametrize("table", ["accounts", "lots"])
def test_the_database_itself_refuses_a_negative_balance(core: CreditCore, table: str, column: str) -> None:
    core.add_user("ada", "free", at=NOW)
    with pytest.raises(Exception, match="not_negative"), core.deployment.ledger.engine.begin() as connection:
        connection.execute(text(f"UPDATE {table} SET {column} = -1"))


COPIED = ", ".join(column.name for column in ledger_entries.columns if column.name not in ("id", "kind", "seq", "line"))


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        ("UPDATE accounts SET kind = 'bank'", "kind"),
        ("UPDATE accounts SET mode = 'panic'", "mode"),
        ("UPDATE lots SET kind = 'found'", "kind"),
        ("UPDATE lots SET is_open = NOT is_open", "open"),
        *(
            (
                f"INSERT INTO ledger_entries (kind, seq, line, {COPIED}) SELECT {values}, {COPIED} FROM ledger_entries",
                check,
            )
            for values, check in (("'theft', 9, 9", "kind"), ("kind, 0, 9", "positive"), ("kind, 9, 0", "positive"))
        ),
    ],
)
def test_the_database_itself_refuses_what_no_row_may_be(core: CreditCore, broken: str, check: str) -> None:
    core.add_user("ada", "free", at=NOW)
    with (
        pytest.raises(IntegrityError, match=rf"(?i)check constraint.*{check}"),
        core.deployment.ledger.engine.begin() as connection,
    ):
        connection.execute(text(broken))


@pytest.mark.postgres
def test_postgresql_knows_the_same_kinds_as_the_code(postgres_url: str) -> None:
    known = {
        "titrate_ledger_entries_hold(1, 1, '{}')": ENTRY_KINDS,
        "titrate_lots_hold(0, 0, '{}', true)": LOT_KINDS,
        "titrate_accounts_hold(0, 0, '{}', 'steady')": ("user", "team", "guest"),
        "titrate_accounts_hold(0, 0, 'user', '{}')": MODES,
    }
    with (
        CreditCore.open(postgres_url) as core,
        core.deployment.ledger.engine.connect() as connection,
    ):
        for call, kinds in known.items():
            held = {kind: connection.execute(text(f"SELECT {call.format(kind)}")).scalar() for kind in (*kinds, "none")}
            assert held == dict.fromkeys(kinds, True) | {"none": False}


def test_two_units_of_one_use_case_write_one_leg_once(core: CreditCore) -> None:
    core.add_user("ada", "free", at=NOW)

    def act(unit: Unit) -> None:
        for _ in range(2):
            grant_in(unit, core.deployment, "ada", CREDIT, "bonus", "gift", NOW)

    core.deployment.ledger.run(act)
    assert core.balance("ada").available_uc == 21 * CREDIT
    assert core.verify() == []


def test_a_ledger_that_may_only_be_read_says_so(ledger_url: str, core: CreditCore) -> None:
    core.add_user("ada", "free", at=NOW)
    with CreditCore.open(ledger_url) as reader:
        read_only = (
            "PRAGMA query_only=ON" if ledger_url.startswith("sqlite") else "SET default_transaction_read_only = on"
        )

        @event.listens_for(reader.deployment.ledger.engine, "checkout")
        def _only_read(connection: Any, _record: Any, _proxy: Any) -> None:
            connection.execute(read_only)
            if not ledger_url.startswith("sqlite"):
                connection.commit()

        # What rests since the opening was never checked out again.
        reader.deployment.ledger.engine.dispose()
        assert reader.balance("ada").available_uc == 20 * CREDIT
        with pytest.raises(ReadOnlyLedger):
            ask(reader)
    with pytest.raises(NotFound):
        core.explain("ada", "r-1")


# -------------------------------------------------------------------------------------------------------- bounded retry


class Busy(psycopg.errors.SerializationFailure):
    """What PostgreSQL says of a transaction that must be run again."""

    sqlstate = "40001"


RETRIED = [Busy("could not serialize access"), sqlite3.OperationalError("database is locked")]


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the ledger would have waited between its tries."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    return slept


@pytest.mark.parametrize("fault", RETRIED, ids=lambda fault: type(fault).__name__)
def test_a_transaction_that_lost_a_race_is_run_again(core: CreditCore, waits: list[float], fault: Exception) -> None:
    tries = 0

    def act(_: object) -> str:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise fault
        return "done"

    assert core.deployment.ledger.write(act) == "done"
    assert (tries, len(waits)) == (4, 3)


@pytest.mark.parametrize("fault", RETRIED, ids=lambda fault: type(fault).__name__)
def test_a_ledger_that_stays_busy_is_given_up_in_words(core: CreditCore, waits: list[float], fault: Exception) -> None:
    tries = 0

    def act(_: object) -> None:
        nonlocal tries
        tries += 1
        raise fault

    with pytest.raises(LedgerUnavailable, match="stayed busy through every retry; nothing was written"):
        core.deployment.ledger.write(act)
    assert 2 < tries <= 20
    assert sum(waits) < 30


@pytest.mark.parametrize("fault", [ValueError("mine"), NotFound("nobody"), sqlite3.IntegrityError("really twice")])
def test_a_fault_that_stays_is_not_run_for_ever(core: CreditCore, waits: list[float], fault: Exception) -> None:
    tries = 0

    def act(_: object) -> None:
        nonlocal tries
        tries += 1
        raise fault

    with pytest.raises(type(fault)):
        core.deployment.ledger.write(act)
    assert tries <= 3


# ------------------------------------------------------------------------------------------------ reading while others write


@pytest.fixture
def busy(ledger_url: str, fresh_core: CreditCore) -> Any:
    """A core on a ledger that another one writes to all the time: four users generate."""
    stop, started = Event(), Event()
    make_live(fresh_core, FRESH_FOR_ALL | {"saga.hold_ttl_s": 30.0})
    users = [f"u-{number}" for number in range(4)]
    for user in users:
        fresh_core.add_user(user, "premium", at=NOW)
        fresh_core.grant(user, 50_000 * CREDIT, "bonus", "gift", at=NOW)
    failed: list[BaseException] = []

    def generate() -> None:
        number = 0
        try:
            with CreditCore.open(ledger_url, clock=fresh_core.deployment.ledger.clock) as writer:
                while not stop.is_set():
                    for user in users:
                        ask(writer, f"r-{number}", user=user)
                        writer.release(user, f"r-{number}", "provider_error", at=NOW)
                    number += 1
                    started.set()
        except BaseException as error:
            failed.append(error)
            started.set()

    thread = Thread(target=generate)
    thread.start()
    assert started.wait(30)
    yield fresh_core
    stop.set()
    thread.join(30)
    assert failed == []


def test_a_ledger_in_use_verifies_clean(busy: CreditCore) -> None:
    assert [busy.verify() for _ in range(12)] == [[]] * 12


def test_a_balance_read_while_others_write_is_whole(busy: CreditCore) -> None:
    torn = []
    for _ in range(150):
        for user in ("u-0", "u-1", "u-2", "u-3"):
            balance = busy.balance(user)
            if balance.available_uc + balance.held_uc != 50_600 * CREDIT or balance.available_uc != sum(
                lot.avail_uc for lot in balance.lots
            ):
                torn.append(balance)
    assert torn == []
