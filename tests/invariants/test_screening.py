"""A large ledger is looked at by processes first: what is found afterwards is what is found without them, word for word."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from credit_core import CreditCore
from credit_core.analytics import processes, screening
from credit_core.store import chain
from credit_core.store.verify import Suspects
from tests.invariants.forging import Forger, forging
from tests.invariants.screened import suspects_of
from tests.service.scenes import CREDIT, FRESH_FOR_ALL, NOW, ask, make_live


@pytest.fixture
def lived(core: CreditCore) -> CreditCore:
    """:func:`filled`, on either engine."""
    filled(core)
    return core


def filled(core: CreditCore) -> None:
    """Ada and Bob, whose entries stand in turns, some with details."""
    make_live(core, FRESH_FOR_ALL)
    for user in ("ada", "bob"):
        core.add_user(user, "basic", at=NOW)
    for number in range(4):
        for user in ("ada", "bob"):
            ask(core, f"r-{number}", user=user, model="dalle-3-hd", at=NOW + timedelta(minutes=number))
            core.settle(user, f"r-{number}", at=NOW + timedelta(minutes=number))
    assert core.verify() == []


@pytest.fixture
def suspected(monkeypatch: pytest.MonkeyPatch) -> list[Suspects]:
    """Every ledger is a large one, in ranges of three entries; here stands what the processes suspected."""
    told: list[Suspects] = []
    screened = screening.screened

    def listened(*about: Any) -> Suspects:
        told.append(screened(*about))
        return told[-1]

    monkeypatch.setattr(screening, "LEAST_ENTRIES", 1)
    monkeypatch.setattr(screening, "RANGE_ROWS", 3)
    monkeypatch.setattr(screening, "screened", listened)
    return told


def hashed_anew(f: Forger, seq: int) -> None:
    """Another model in Ada's entry, with a hash that is right: only the next entry tells."""
    row = f.last(seq=seq)
    forged = row | {"model": "other"}
    f.change(row, model="other", hash=chain.entry_hash(forged, bytes(row["prev_hash"]), f.salt))


def test_processes_find_what_one_finds_at_the_border_of_a_range(
    lived: CreditCore, suspected: list[Suspects], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ada's entries stand alone or two by two in a range: the broken link lies between two ranges."""
    with forging(lived) as forger:
        hashed_anew(forger, 5)
        ids = [forger.last(seq=seq)["id"] for seq in (5, 6)]
        first = forger.connection.exec_driver_sql("SELECT MIN(id) FROM ledger_entries").scalar_one()
        assert (ids[0] - first) // 3 < (ids[1] - first) // 3, "two ranges"
        forger.append("grant", -CREDIT, 0, user="bob", lot=forger.lot("bob"))
        forger.connection.exec_driver_sql("UPDATE ledger_entries SET seq = seq + 1 WHERE leg_id = 'forged-bob-10'")
    by_processes = lived.verify()
    assert suspected == [(frozenset({1, 3, 7, 13}) & suspected[0].invariants, ("user:ada", "user:bob"))]
    monkeypatch.setattr(screening, "LEAST_ENTRIES", 1_000)
    assert by_processes == lived.verify()
    assert len(suspected) == 1
    told = {one.invariant: one.evidence for one in by_processes}
    assert "user:ada: entry 6 does not match its hash" in told[8]


def test_a_broken_link_is_found_wherever_ranges_end(sqlite_ledger: str) -> None:
    with CreditCore.open(sqlite_ledger, clock=lambda: NOW) as core:
        filled(core)
        ranges = (1, 2, 3, 5, 8, 100)
        assert {suspects_of(core, rows) for rows in ranges} == {(frozenset(), ())}
        with forging(core) as forger:
            hashed_anew(forger, 5)
        assert {suspects_of(core, rows) for rows in ranges} == {(frozenset(), ("user:ada",))}


def test_where_no_process_can_be_had_the_ledger_is_walked_as_a_small_one(
    lived: CreditCore, suspected: list[Suspects], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no more processes")

    with forging(lived) as forger:
        hashed_anew(forger, 5)
    monkeypatch.setattr(processes, "begun", refuse)
    assert [one.evidence for one in lived.verify()] == [("user:ada: entry 6 does not match its hash",)]
    assert suspected == []
