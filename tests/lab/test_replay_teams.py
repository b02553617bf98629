"""Teams in the closed loop: members of a pool spend one account in the order of time, those of an apportioned one their own."""

from __future__ import annotations

import random
from datetime import timedelta

import numpy as np
import pytest

from credit_core import CreditCore, Request
from credit_core.errors import CreditError
from credit_core.lab import replay
from credit_core.policy.config import apply_changes
from tests.lab.opening import closed, prepared
from tests.service.scenes import NOW, StoppedClock, make_live

__all__ = ["closed"]
POOLED, APPORTIONED, ALONE = ("ada", "bob", "cyd"), ("dan", "eve"), "fay"
#: Sessions that end soon, caps that are met, and limits that a hasty member meets.
LIVE = {
    "session.max_fresh": 2, "session.idle_s": 900.0, "limits.bucket_capacity": 3.0, "limits.bucket_leak_per_minute": 0.5,
    "controller.k": 0.02,
}  # fmt: skip


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> replay.Prepared:
    """Some weeks of a pool of three, of two who share a quota and of one alone, through cycles that close."""
    url = f"sqlite:///{tmp_path_factory.mktemp('teams') / 'ledger.db'}"
    clock, rng = StoppedClock(NOW), random.Random(8)
    with CreditCore.open(url, clock=clock, draw_salt=b"titrate: teams in a replay") as core:
        core.library.put("noir", "calm", 30, at=NOW - timedelta(days=3))
        make_live(core, LIVE)
        core.add_team("pool", "free", "pooled", at=NOW)
        core.add_members("pool", dict.fromkeys(POOLED, 1), at=NOW)
        core.add_team("parts", "basic", "apportioned", at=NOW)
        core.add_members("parts", {"dan": 1, "eve": 3}, at=NOW)
        core.add_user(ALONE, "basic", at=NOW)
        people, open_, user = [*POOLED, *POOLED, *APPORTIONED, ALONE], [], "ada"
        for number in range(360):
            user = user if rng.random() < 0.5 else rng.choice(people)
            at = clock.advance(seconds=rng.choice((1, 2, 3, 40, 400, 40_000)))
            cell = rng.choice((("noir", "calm"), (None, None)))
            core.reconcile(at)
            decision = core.authorize(
                Request(user, f"q-{number}", f"s-{user}-{number // 11}", *cell, images=rng.choice((1, 2, 4))), at=at
            )
            if decision.fresh:
                open_.append((user, f"q-{number}"))
            while open_ and rng.random() < 0.7:
                done = open_.pop(rng.randrange(len(open_)))
                at = clock.advance(seconds=rng.choice((1, 9, 90)))
                try:
                    core.settle(*done, at=at) if rng.random() < 0.9 else core.release(*done, "provider_error", at=at)
                except CreditError:
                    continue
        assert core.verify() == []
    return prepared(url)


def test_no_decision_of_a_team_differs(ledger: replay.Prepared) -> None:
    found = replay.disagreements(ledger)
    assert found.to_dict("records") == []
    assert found.attrs["decisions"] > 300
    with ledger.facts.engine.connect() as connection:
        query = "SELECT DISTINCT rule FROM ledger_entries WHERE account_id = 'team:pool' AND rule IS NOT NULL"
        rules = {rule for (rule,) in connection.exec_driver_sql(query)}
    assert {"controller", "unaffordable", "session_cap", "rate_limited"} <= rules


def test_a_pool_is_one_account_that_all_members_spend_and_shares_are_spent_singly(ledger: replay.Prepared) -> None:
    """Everything fresh: whatever order members ask in, together they get no more than the pool has, and each his own session."""
    fresh = apply_changes(
        ledger.configs[max(ledger.configs)].body(), {"controller.strategy": "reserve", "strategies.reserve_rho": 0.0}
    )
    found = replay.run(ledger, [fresh], replay.whole(ledger))
    names = found.account_ids
    assert {"team:pool", "user:dan", "user:eve", "user:fay"} == set(names)
    sums = found.runs[0].sums
    with ledger.facts.engine.connect() as connection:
        asked = connection.exec_driver_sql(
            "SELECT account_id, count(*), count(DISTINCT user_id) FROM ledger_entries WHERE line = 1 AND rule IS NOT NULL"
            " AND parent_request_id IS NULL GROUP BY 1"
        ).all()
        granted = dict(
            tuple(row)
            for row in connection.exec_driver_sql(
                "SELECT account_id, sum(d_avail_uc) FROM ledger_entries WHERE kind = 'grant' GROUP BY 1"
            )
        )
    assert {name: count for name, count, _ in asked} == dict(
        zip(names, sums["requests"].astype(int).tolist(), strict=True)
    )
    assert {name: users for name, _, users in asked} == {"team:pool": 3, "user:dan": 1, "user:eve": 1, "user:fay": 1}
    budget = np.array([granted[name] for name in names])
    spent = sums["settled_uc"] - sums["refunded_uc"]
    assert (spent <= budget).all()
    assert spent[names.index("team:pool")] > 0.9 * budget[names.index("team:pool")]
    assert sums["run_outs"][names.index("team:pool")] >= 1
    assert found.left_out == 0
