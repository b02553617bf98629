"""Many at once on one account: fifty taps in threads, sixteen processes; each request once, and never below zero (SPEC 2.1)."""

from __future__ import annotations

import time
from collections import Counter
from threading import Barrier

from credit_core import CreditCore, Decision
from tests.faults.processes import Nursery
from tests.service.scenes import CREDIT, FRESH_FOR_ALL, NOW, ask, entries, make_live, moves
from tests.service.together import together

TAPS = 50
PROCESSES = 16


def lowest(core: CreditCore) -> int:
    """The lowest balance there ever was, of the account or any lot of it, available or held; micro-credits."""
    sums: Counter[tuple[str, str]] = Counter()
    least = 0
    for row in entries(core):
        for place in ("account", row["lot_id"]):
            for column in ("d_avail_uc", "d_held_uc"):
                sums[place, column] += row[column]
        least = min(least, *sums.values())
    return least


def test_fifty_double_taps_with_one_request_id_reserve_once(fresh_core: CreditCore) -> None:
    fresh_core.add_user("ada", "free", at=NOW)
    start = Barrier(TAPS)

    def tap(_: int) -> Decision:
        start.wait()
        return ask(fresh_core, "r-1", images=2)

    answers = together(tap, range(TAPS))
    assert {answer.status for answer in answers} == {"RESERVED"}
    assert sorted(answer.replayed for answer in answers) == [False] + [True] * (TAPS - 1)
    assert len({answer._replace(replayed=False) for answer in answers}) == 1
    assert moves(fresh_core, after=1) == [("reserve", "monthly", -2, 2)]
    assert (fresh_core.balance("ada").available_uc, fresh_core.balance("ada").held_uc) == (18 * CREDIT, 2 * CREDIT)
    assert fresh_core.verify() == []


def test_fifty_taps_with_credit_for_ten_reserve_ten_and_forty_are_declined(fresh_core: CreditCore) -> None:
    fresh_core.add_user("ada", "free", at=NOW)
    start = Barrier(TAPS)

    def tap(number: int) -> Decision:
        start.wait()
        return ask(fresh_core, f"r-{number}", images=2)

    answers = together(tap, range(TAPS))
    assert sorted((answer.status, answer.rule) for answer in answers) == (
        [("LIBRARY", "unaffordable")] * 40 + [("RESERVED", "controller")] * 10
    )
    assert not any(answer.replayed for answer in answers)
    assert [kind for kind, *_ in moves(fresh_core)].count("reserve") == 10
    assert (fresh_core.balance("ada").available_uc, fresh_core.balance("ada").held_uc) == (0, 20 * CREDIT)
    assert lowest(fresh_core) == 0
    assert fresh_core.verify() == []


def test_sixteen_processes_on_one_hot_account_charge_each_request_once(ledger_url: str, nursery: Nursery) -> None:
    """Each has four requests of its own, and all have the same six; the quota covers 40 of the 70."""
    shared = [f"shared-{number}" for number in range(6)]
    with CreditCore.open(ledger_url) as core:
        make_live(core, FRESH_FOR_ALL)
        core.add_user("ada", "free")
        core.grant("ada", 20 * CREDIT, "purchased", "pack")
        start = time.time() + 1.0
        crowd = [
            nursery.spawn(
                ledger_url, "crowd", user="ada", own=[f"own-{n}-{k}" for k in range(4)], shared=shared, start=start
            )
            for n in range(PROCESSES)
        ]
        said = [child.finished() for child in crowd]
        assert [len(told) for told in said] == [10] * PROCESSES
        first = [(request_id, status) for told in said for request_id, status, replayed in told if not replayed]
        assert len(first) == len({request_id for request_id, _ in first}) == 4 * PROCESSES + len(shared)
        every = {(request_id, status) for told in said for request_id, status, _ in told}
        assert every == set(first)
        assert sorted(status for _, status in first) == ["LIBRARY"] * 30 + ["RESERVED"] * 40
        kinds = [row["kind"] for row in entries(core)]
        assert (kinds.count("reserve"), kinds.count("settle"), kinds.count("library")) == (40, 40, 30)
        assert (core.balance("ada").available_uc, core.balance("ada").held_uc) == (0, 0)
        assert lowest(core) == 0
        assert core.verify() == []
