"""kill -9: what was acknowledged stays, what was not leaves no trace, and nobody waits for the dead (SPEC 2.1)."""

from __future__ import annotations

import random
import time
from datetime import timedelta
from typing import Any

import pytest

from credit_core import CreditCore
from tests.faults import kill_loop
from tests.faults.processes import Nursery, workers
from tests.service.scenes import CREDIT, FRESH_FOR_ALL, ask, entries, make_live

TTL = timedelta(minutes=15)


@pytest.fixture
def real_core(ledger_url: str) -> Any:
    """A core on the real clock, with all served fresh and ada on Premium."""
    with CreditCore.open(ledger_url) as core:
        make_live(core, FRESH_FOR_ALL)
        core.add_user("ada", "premium")
        yield core


def test_a_worker_killed_between_reserve_and_settle_leaves_a_hold_that_the_sweeper_returns(
    ledger_url: str, real_core: CreditCore
) -> None:
    with workers(ledger_url) as [worker]:
        assert worker.call("authorize", user="ada", request_id="r-1", images=7)["status"] == "RESERVED"
        assert worker.kill() == []
    assert real_core.balance("ada").held_uc == 7 * CREDIT
    assert real_core.verify() == []
    reserved_at = entries(real_core)[-1]["occurred_at"]
    assert real_core.sweep(at=reserved_at + TTL - timedelta(microseconds=1)).holds == 0
    assert real_core.sweep(at=reserved_at + TTL) == (1, 7 * CREDIT, 0)
    balance = real_core.balance("ada")
    assert (balance.available_uc, balance.held_uc) == (600 * CREDIT, 0)
    assert real_core.verify() == []


def test_another_worker_can_finish_what_a_killed_one_began(ledger_url: str, real_core: CreditCore) -> None:
    with workers(ledger_url, 2) as [first, second]:
        first.call("authorize", user="ada", request_id="r-1")
        first.kill()
        assert second.call("authorize", user="ada", request_id="r-1") == {
            "status": "RESERVED", "version": 2, "replayed": True, "amount_uc": CREDIT,
        }  # fmt: skip
        assert second.call("settle", user="ada", request_id="r-1") == {"status": "SETTLED", "replayed": False}
    assert real_core.balance("ada").available_uc == 599 * CREDIT
    assert real_core.verify() == []


def test_a_worker_killed_before_its_commit_leaves_nothing_and_keeps_nobody_waiting(
    ledger_url: str, real_core: CreditCore
) -> None:
    before = entries(real_core)
    with workers(ledger_url) as [worker]:
        worker.tell("authorize_and_hang", user="ada", request_id="r-1")
        assert worker.hear() == "written"
        assert entries(real_core) == before
        worker.kill()
    started = time.monotonic()
    decision = ask(real_core, "r-1", at=real_core.deployment.ledger.clock())
    assert (decision.status, decision.replayed) == ("RESERVED", False)
    assert time.monotonic() - started < 10
    assert real_core.verify() == []


def test_under_load_and_repeated_kills_every_acknowledged_write_is_there(
    ledger_url: str, real_core: CreditCore
) -> None:
    users = ("ada", "bob")
    real_core.add_user("bob", "premium")
    for user in users:
        real_core.grant(user, 5_000 * CREDIT, "purchased", "pack")
    chance = random.Random(20250310)
    heard: dict[str, list[Any]] = {user: [] for user in users}
    for round_ in range(3):
        with workers(ledger_url, 2) as started:
            for user, worker in zip(users, started, strict=True):
                worker.tell("work", user=user, prefix=f"k-{round_}")
            for user, worker in zip(users, started, strict=True):
                heard[user] += [worker.hear() for _ in range(chance.randrange(20, 60))]
                heard[user] += worker.kill()
    for user in users:
        written = {(row["kind"], row["request_id"]) for row in entries(real_core, user)}
        reserved = {("reserve", said[1]) for said in heard[user] if said[0] == "authorized"}
        settled = {("settle", said[1]) for said in heard[user] if said[0] == "settled"}
        assert len(settled) > 20
        assert reserved | settled <= written
        # At most one step a round was done but not yet told.
        assert len({pair for pair in written if pair[0] in ("reserve", "settle")} - reserved - settled) <= 3
    assert real_core.verify() == []
    real_core.sweep(at=real_core.deployment.ledger.clock() + timedelta(hours=1))
    for user in users:
        assert real_core.balance(user).held_uc == 0
        settles = sum(row["kind"] == "settle" for row in entries(real_core, user))
        assert real_core.balance(user).available_uc == (5_600 - settles) * CREDIT
    assert real_core.verify() == []


def test_killed_in_a_loop_under_load_with_two_sweepers_nothing_is_lost_and_nothing_twice(
    ledger_url: str, nursery: Nursery
) -> None:
    """More rounds, and the figures, by ``python -m tests.faults.kill_loop URL ROUNDS``."""
    with CreditCore.open(ledger_url) as core:
        found = kill_loop.loop(core, nursery, rounds=8)
    assert (found.lost, found.twice, found.off_uc, found.violations) == (0, 0, 0, 0)
    assert found.acknowledged > 50
    assert found.swept > 0
    # Of each worker that was killed at most one step was done and not yet told.
    assert found.untold <= found.kills
