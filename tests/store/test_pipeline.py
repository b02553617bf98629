"""PostgreSQL: what a leg reads is one round trip or none, what it writes is one, and half an exchange is never left behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from credit_core import CreditCore
from credit_core.store import pipeline
from tests.service.scenes import CREDIT, FRESH_FOR_ALL, NOW, StoppedClock, ask, forget, make_live

pytestmark = pytest.mark.postgres


@pytest.fixture
def warm(emptied_postgres: Callable[[], str], clock: StoppedClock) -> Iterator[CreditCore]:
    """A core on PostgreSQL that has served sagas, so that nothing is prepared or read for the first time; it knows ada."""
    with CreditCore.open(emptied_postgres(), clock=clock) as core:
        make_live(core, FRESH_FOR_ALL)
        core.add_user("ada", "premium", at=NOW)
        for request in ("r-0", "r-00"):
            forget(core)
            ask(core, request)
            core.settle("ada", request, at=NOW)
        yield core


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every round trip to the server from here on."""
    trips: list[str] = []
    exchange, execute, ask_alone = pipeline._exchanged, psycopg.Cursor.execute, pipeline._asked

    def exchanged(*arguments: Any, commit: bool, begin: bool) -> Any:
        trips.append("write and commit" if commit else "lock and read" if begin else "read")
        return exchange(*arguments, commit=commit, begin=begin)

    def asked(*arguments: Any) -> Any:
        trips.append("alone")
        return ask_alone(*arguments)

    def executed(cursor: Any, query: Any, *arguments: Any, **options: Any) -> Any:
        trips.append(str(query))
        return execute(cursor, query, *arguments, **options)

    monkeypatch.setattr("credit_core.service.deployment.POLL_S", 3_600.0)
    monkeypatch.setattr(pipeline, "_exchanged", exchanged)
    monkeypatch.setattr(pipeline, "_asked", asked)
    monkeypatch.setattr(psycopg.Cursor, "execute", executed)
    return trips


def test_what_is_known_of_an_account_is_not_read_again(warm: CreditCore, trips: list[str]) -> None:
    ask(warm, "r-1")
    assert trips == ["alone"]
    warm.settle("ada", "r-1", at=NOW)
    assert trips == ["alone"] * 2


def test_what_is_not_known_is_read_in_one_round_trip_without_a_lock(warm: CreditCore, trips: list[str]) -> None:
    forget(warm)
    ask(warm, "r-1")
    assert trips == ["alone", "alone"]
    trips.clear()
    forget(warm)
    warm.settle("ada", "r-1", at=NOW)
    assert trips == ["read", "alone"]


def test_where_others_write_too_a_leg_is_two_round_trips_under_lock(warm: CreditCore, trips: list[str]) -> None:
    with warm.deployment.ledger.engine.begin() as other:
        other.exec_driver_sql("UPDATE accounts SET version = version + 1")
    trips.clear()
    ask(warm, "r-1")
    assert trips == ["alone", "lock and read", "write and commit"]
    trips.clear()
    ask(warm, "r-2")
    assert trips == ["lock and read", "write and commit"]
    warm.settle("ada", "r-2", at=NOW)
    assert trips == ["lock and read", "write and commit"] * 2


def test_what_an_image_adds_to_the_library_travels_with_its_settle(warm: CreditCore, trips: list[str]) -> None:
    before = warm.library.coverage("jazz", "calm", at=NOW)
    ask(warm, "r-1", genre="jazz", mood="calm")
    trips.clear()
    warm.settle("ada", "r-1", at=NOW)
    assert trips == ["alone"] * 2, "it is prepared, then run"
    assert warm.library.coverage("jazz", "calm", at=NOW) > before


def test_statements_that_a_pooler_dropped_are_prepared_again(warm: CreditCore) -> None:
    with warm.deployment.ledger.engine.begin() as connection:
        connection.exec_driver_sql("DEALLOCATE ALL")
    assert ask(warm, "r-1").status == "RESERVED"
    assert warm.balance("ada").held_uc == CREDIT
    assert warm.verify() == []


@pytest.mark.parametrize(
    ("way", "moment"), [("known", 0), ("known", 1), ("read", 3), ("locked", 0), ("locked", 3), ("locked", 9)]
)
def test_an_interrupt_in_the_middle_of_an_exchange_writes_all_or_nothing_and_leaves_no_half_read_connection(
    warm: CreditCore, monkeypatch: pytest.MonkeyPatch, way: str, moment: int
) -> None:
    wait, waited = pipeline._await, 0
    if way == "read":
        forget(warm)
    if way == "locked":
        warm.deployment.ledger._memory.give_back("ada", moved=True)

    def interrupted(*arguments: Any) -> None:
        nonlocal waited
        waited += 1
        if waited > moment:
            raise KeyboardInterrupt
        wait(*arguments)

    monkeypatch.setattr(pipeline, "_await", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ask(warm, "r-1")
    monkeypatch.setattr(pipeline, "_await", wait)
    assert warm.balance("ada").held_uc in (0, CREDIT), "with the COMMIT sent along, it may have been read in time"
    assert ask(warm, "r-1").status == "RESERVED"
    assert warm.balance("ada").held_uc == CREDIT
    assert warm.verify() == []
