"""A running core in another process decides by a release in under a second, without a restart (SPEC 5)."""

from __future__ import annotations

import time
from threading import Event, Thread

import pytest

from credit_core import CreditCore
from credit_core.store import configs
from credit_core.store.unit import Unit
from tests.faults.processes import workers
from tests.service.scenes import FRESH_FOR_ALL, ask, make_live


def test_another_processs_next_authorize_bears_a_release_in_under_a_second(ledger_url: str) -> None:
    with CreditCore.open(ledger_url) as core, workers(ledger_url) as [worker]:
        core.add_user("ada", "premium")
        make_live(core, {"limits.enabled": False})
        taken_s = []
        for step in range(3):
            version = core.propose({"controller.k": 0.01 * (step + 1)}, "olga", "")
            # The worker has just asked, so that it goes on by what it knows for as long as it ever does.
            worker.call("authorize", user="ada", request_id=f"before-{step}")
            core.release_version(version, author="olga")
            released = time.monotonic()
            calls = 0
            while worker.call("authorize", user="ada", request_id=f"r-{step}-{calls}")["version"] != version:
                calls += 1
            taken_s.append(time.monotonic() - released)
        assert max(taken_s) < 1.0, taken_s
        assert core.verify() == []


def test_a_rollback_reaches_the_other_process_as_soon(ledger_url: str) -> None:
    with CreditCore.open(ledger_url) as core, workers(ledger_url) as [worker]:
        core.add_user("ada", "premium")
        version = make_live(core, {"limits.enabled": False, "controller.k": 0.5})
        while worker.call("authorize", user="ada", request_id=f"there-{time.monotonic_ns()}")["version"] != version:
            pass
        core.roll_back("olga", "worse")
        rolled_back = time.monotonic()
        calls = 0
        while worker.call("authorize", user="ada", request_id=f"r-{calls}")["version"] != 1:
            calls += 1
        assert time.monotonic() - rolled_back < 1.0


def test_a_leg_that_asks_for_releases_while_another_writes_does_not_hold_it_up(
    ledger_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On SQLite the one that asks waits for the other's commit; the other asks, too, before it commits."""
    asks, newest = Event(), configs.last_release_id

    def asked(connection: configs.Connection) -> int:
        asks.set()
        return newest(connection)

    with CreditCore.open(ledger_url) as core:
        make_live(core, FRESH_FOR_ALL)
        core.add_user("ada", "premium")
        core.add_user("bob", "premium")
        monkeypatch.setattr("credit_core.service.deployment.POLL_S", 0.0)
        monkeypatch.setattr(configs, "last_release_id", asked)
        other = Thread(target=ask, args=(core, "r-1"))

        def write(unit: Unit) -> float:
            unit.user("bob")
            other.start()
            assert asks.wait(10)
            began = time.monotonic()
            core.deployment.live.refresh(unit.connection)
            return time.monotonic() - began

        assert core.deployment.ledger.run(write) < 10.0
        other.join()
        assert core.balance("ada").held_uc > 0
        assert core.verify() == []
