"""One source, two paths: a policy function decides the same, to the last bit, interpreted and compiled."""

from __future__ import annotations

import fcntl
import random
import struct
from pathlib import Path

import numba
import pytest

from credit_core.lab import pacing, speed
from credit_core.lab.compiling import alone, compiled
from credit_core.policy import decision
from credit_core.policy.config import Config, apply_changes
from credit_core.policy.decision import Inputs, Law, Verdict, law_for
from credit_core.policy.strategies import STRATEGIES


def bits(verdict: Verdict) -> bytes:
    return b"".join(struct.pack(">d", float(value)) for value in verdict)


def some_inputs(rng: random.Random) -> Inputs:
    quota = rng.choice((20.0, 200.0, 600.0))
    length = rng.uniform(28.0, 31.1)
    balance = rng.choice((0.0, rng.uniform(0.0, quota * 4), quota / 2))
    return Inputs(
        blocked=rng.random() < 0.02, rate_limited=rng.random() < 0.02, paused=rng.random() < 0.02,
        available=balance + rng.choice((0.0, 25.0)), balance=balance, quota=quota, cycle_days=length,
        days_left=rng.uniform(0.0, length), demand=rng.choice((-1.0, 0.0, rng.uniform(0.1, 60.0))),
        session_images=float(rng.randint(0, 60)), session_fresh=rng.randint(0, 13), session_fresh_cost=rng.uniform(0.0, 40.0),
        session_opening=rng.uniform(0.0, quota), mode=rng.randint(0, 2), segment_factor=rng.choice((1.0, 1.1)),
        conserving=rng.random() < 0.2, coverage=rng.choice((-1.0, rng.random())), health=rng.random(),
        under_represented=rng.random() < 0.5, cost=float(rng.choice((1, 2, 4, 8))), cell_new=rng.random() < 0.5,
        arm_p=rng.random(), deferred=rng.random() < 0.05,
    )  # fmt: skip


def law(strategy: str, intercept: str, unit: str, rng: random.Random) -> Law:
    changes = {
        "controller.strategy": strategy, "controller.intercept": intercept, "controller.surplus_unit": unit,
        "controller.k": rng.choice((0.0025, 0.0277259, 1.5)), "strategies.affordable_nudged": rng.random() < 0.5,
    }  # fmt: skip
    return law_for(apply_changes(Config().body(), changes), rng.choice(("free", "basic", "premium")))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_both_paths_give_the_same_bits(strategy: str) -> None:
    rng = random.Random(strategy)
    fast = compiled(decision.evaluate)
    rules = set()
    for intercept in ("fixed", "feed_forward"):
        for unit in ("credits", "days", "quota_percent"):
            terms = law(strategy, intercept, unit, rng)
            for _ in range(400):
                inputs, u01 = some_inputs(rng), rng.random()
                one, other = decision.evaluate(terms, inputs, u01), fast(terms, inputs, u01)
                assert bits(one) == bits(other), (terms, inputs, u01)
                rules.add(one.rule)
    assert rules == set(range(1, 10)), "every rule was met"


def test_a_whole_cycle_comes_to_the_same_sums_and_compiled_is_much_faster() -> None:
    found = speed.measure(accounts=2_000, interpreted_accounts=4)
    assert found.same
    assert found.compiled_per_core_s > 50 * found.interpreted_per_s


def test_one_process_compiles_at_a_time() -> None:
    with alone():
        folder = Path(numba.config.CACHE_DIR)
        with (folder / "compiling.lock").open("w") as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with (folder / "compiling.lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_the_original_stays_interpreted() -> None:
    before = decision.evaluate
    compiled(decision.evaluate)
    assert decision.evaluate is before
    assert decision.controller.sigmoid(0.0) == 0.5
    assert not hasattr(decision.controller.sigmoid, "py_func")


def test_formulas_are_compiled_not_copied() -> None:
    """The kernels hold no exponential, logarithm or power: what they know of the policy they call."""
    for module in (
        pacing.__file__,
        pacing.__file__.replace("pacing", "kernels"),
        pacing.__file__.replace("pacing", "holding"),
    ):
        text = Path(module).read_text(encoding="utf-8")
        assert "math" not in text
        assert "**" not in text
