"""The sweeper: holds that nobody ended in time go back to their owners, each once (SPEC 2.1)."""

from __future__ import annotations

from datetime import timedelta
from threading import Barrier

import pytest

from credit_core import CreditCore
from tests.service.scenes import CREDIT, NOW, StoppedClock, ask, entries, everything, make_live, moves
from tests.service.together import together

TTL = timedelta(minutes=15)
MICROSECOND = timedelta(microseconds=1)


def test_a_hold_stays_to_the_end_of_its_lifetime_and_no_longer(fresh_core: CreditCore) -> None:
    fresh_core.add_user("ada", "free", at=NOW)
    ask(fresh_core, images=4)
    assert fresh_core.sweep(at=NOW + TTL - MICROSECOND) == (0, 0, 0)
    assert fresh_core.balance("ada").held_uc == 4 * CREDIT
    assert fresh_core.sweep(at=NOW + TTL) == (1, 4 * CREDIT, 0)
    assert moves(fresh_core)[-1] == ("release", "monthly", 4, -4)
    released = entries(fresh_core)[-1]
    assert (released["reason"], released["occurred_at"]) == ("swept", NOW + TTL)
    assert fresh_core.verify() == []


def test_the_lifetime_of_a_hold_is_fixed_when_it_is_made(fresh_core: CreditCore) -> None:
    fresh_core.add_user("ada", "free", at=NOW)
    ask(fresh_core, "r-1")
    make_live(fresh_core, {"saga.hold_ttl_s": 60.0})
    ask(fresh_core, "r-2")
    fresh_core.sweep(at=NOW + timedelta(minutes=1))
    assert [row["request_id"] for row in entries(fresh_core) if row["kind"] == "release"] == ["r-2"]


def test_sweeping_again_finds_nothing(fresh_core: CreditCore) -> None:
    fresh_core.add_user("ada", "free", at=NOW)
    ask(fresh_core)
    fresh_core.sweep(at=NOW + TTL)
    before = everything(fresh_core)
    assert fresh_core.sweep(at=NOW + TTL) == (0, 0, 0)
    # How far the sweep looked may be noted again.
    after = everything(fresh_core)
    assert after | {"deployment": None} == before | {"deployment": None}


def test_ended_holds_are_left_alone(fresh_core: CreditCore) -> None:
    fresh_core.add_user("ada", "free", at=NOW)
    ask(fresh_core, "r-1")
    ask(fresh_core, "r-2")
    fresh_core.settle("ada", "r-1", at=NOW)
    fresh_core.release("ada", "r-2", "cancelled", at=NOW)
    assert fresh_core.sweep(at=NOW + TTL) == (0, 0, 0)


def test_more_holds_than_one_batch_are_all_released(fresh_core: CreditCore) -> None:
    for user in range(3):
        fresh_core.add_user(f"u-{user}", "premium", at=NOW)
        for number in range(70):
            ask(fresh_core, f"r-{number}", user=f"u-{user}")
    assert fresh_core.sweep(at=NOW + TTL) == (210, 210 * CREDIT, 0)
    assert fresh_core.verify() == []


def test_two_sweepers_at_once_release_each_hold_once(
    ledger_url: str, fresh_core: CreditCore, clock: StoppedClock
) -> None:
    for user in range(8):
        fresh_core.add_user(f"u-{user}", "basic", at=NOW)
        for number in range(5):
            ask(fresh_core, f"r-{number}", user=f"u-{user}")
    with CreditCore.open(ledger_url, clock=clock) as other:
        start = Barrier(2)
        swept = together(lambda core: (start.wait(), core.sweep(at=NOW + TTL))[1], [fresh_core, other])
    assert sum(run.holds for run in swept) == 40
    assert sum(run.amount_uc for run in swept) == 40 * CREDIT
    assert {fresh_core.balance(f"u-{user}").available_uc for user in range(8)} == {200 * CREDIT}
    assert fresh_core.verify() == []


@pytest.mark.parametrize("behind", [timedelta(hours=1), timedelta(days=1)], ids=str)
def test_a_request_whose_clock_is_behind_the_last_sweep_makes_no_old_hold(
    fresh_core: CreditCore, behind: timedelta
) -> None:
    fresh_core.add_user("ada", "free", at=NOW - timedelta(days=3))
    fresh_core.sweep(at=NOW)
    ask(fresh_core, at=NOW - behind)
    assert fresh_core.verify() == []
    assert fresh_core.sweep(at=NOW + TTL).holds == 1
    assert fresh_core.verify() == []
