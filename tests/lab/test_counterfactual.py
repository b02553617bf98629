"""Estimates from logged rewards: known answers, truth that is known by construction, and every reason to refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from credit_core.lab import counterfactual
from credit_core.lab.counterfactual import Counterfactual, Rows


def rows(size: int = 4_000, accounts: int = 400, seed: int = 1, **given: Any) -> Rows:
    """Decisions of a log that drew fresh with p, and a candidate that would with ``new_fresh``; a fresh one is liked more."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(size, 2))
    p = np.clip(0.5 + 0.15 * x[:, 0], 0.1, 0.9)
    fresh = rng.random(size) < p
    taste = 0.3 + 0.1 * np.tanh(x[:, 0]) + 0.25 * fresh
    new_fresh = np.clip(0.65 + 0.1 * x[:, 0], 0.05, 0.95)
    made = Rows(
        account=np.sort(rng.integers(0, accounts, size)),
        fresh=fresh,
        reward=(rng.random(size) < taste).astype(np.float64),
        p=p,
        forced=np.zeros(size, np.bool_),
        new_fresh=new_fresh,
        new_library=1.0 - new_fresh,
        x=x,
    )
    return made._replace(**given)


def truth(made: Rows) -> float:
    return float((0.3 + 0.1 * np.tanh(made.x[:, 0]) + 0.25 * made.new_fresh).mean())


@pytest.mark.parametrize(("logged", "new", "share"), [(0.5, 0.8, 0.735294), (0.2, 0.8, 0.307692), (0.05, 0.5, 0.19)])
def test_the_effective_number_of_decisions_is_as_known(logged: float, new: float, share: float) -> None:
    size = 10_000
    fresh = np.arange(size) < round(logged * size)
    weights = np.where(fresh, new / logged, (1.0 - new) / (1.0 - logged))
    assert round(counterfactual.ess(weights) / size, 6) == share


def test_eight_decisions_that_always_went_one_way_carry_nothing() -> None:
    always = rows(8, 8)._replace(fresh=np.ones(8, np.bool_), p=np.full(8, 1.0), new_fresh=np.full(8, 0.5))
    always = always._replace(new_library=1.0 - always.new_fresh)
    found = counterfactual.estimate(always)
    assert found.diagnosis.ess_share == 1.0, "the weights alone look healthy"
    assert (found.snips, found.robust) == (None, None)
    assert any("never possible" in reason for reason in found.refusals)
    one = counterfactual.diagnose(always._replace(account=np.zeros(8, np.int64)))
    assert one.account_ess == 1.0


def test_weighting_is_the_formula_of_the_findings() -> None:
    made = rows()
    weights = counterfactual.weights_of(made)
    found = counterfactual.estimate(made)
    assert found.snips is not None
    value = float((weights * made.reward).sum() / weights.sum())
    se = float(np.sqrt((weights**2 * (made.reward - value) ** 2).sum()) / weights.sum())
    assert (found.snips.value, found.snips.se) == pytest.approx((value, se), rel=1e-12)


def test_both_estimates_find_the_truth_and_their_intervals_hold_it() -> None:
    errors, held = [], 0
    for seed in range(20):
        made = rows(seed=seed)
        found = counterfactual.estimate(made, seed=seed)
        assert found.snips is not None
        assert found.robust is not None
        assert found.robust.interval is not None
        errors.append((found.snips.value - truth(made), found.robust.value - truth(made)))
        held += found.robust.interval.low <= truth(made) <= found.robust.interval.high
    assert np.abs(np.mean(errors, axis=0)).max() < 0.006
    assert held >= 17


def test_a_forced_decision_corrects_nothing() -> None:
    made = rows()
    forced = np.arange(len(made.reward)) % 4 == 0
    mixed = made._replace(
        forced=forced,
        new_fresh=np.where(forced, made.fresh, made.new_fresh),
        new_library=np.where(forced, ~made.fresh, made.new_library),
    )
    found = counterfactual.estimate(mixed)
    model = counterfactual.rewards_model(mixed, 0)
    weights = np.where(forced, 0.0, counterfactual.weights_of(mixed))
    taken = np.where(mixed.fresh, model[:, 1], model[:, 0])
    direct = mixed.new_fresh * model[:, 1] + mixed.new_library * model[:, 0]
    assert found.robust is not None
    assert found.robust.value == pytest.approx(float((direct + weights * (mixed.reward - taken)).mean()), rel=1e-12)
    assert found.diagnosis.unsupported == pytest.approx(0.0, abs=1e-12)


def test_the_model_never_saw_the_account_it_speaks_of() -> None:
    """With a reward that is an account's own secret, a model that peeked would know it."""
    made = rows(2_000, 200)
    secret = np.random.default_rng(5).random(200)[made.account]
    found = counterfactual.rewards_model(made._replace(reward=secret, x=np.eye(200)[made.account]), 0)
    assert abs(np.corrcoef(found[:, 1], secret)[0, 1]) < 0.2


def test_weights_that_tell_another_story_than_the_model_turn_it_amber() -> None:
    made = rows(12_000)
    assert not counterfactual.estimate(made).amber
    # The log lied a little about its chances where rewards are high: the weights follow the lie, the model does not.
    tilted = np.clip(np.where(made.x[:, 0] > 0.0, made.p * 0.75, made.p * 1.2), 0.05, 0.95)
    found = counterfactual.estimate(made._replace(p=tilted))
    assert found.refusals == ()
    assert found.amber


def refusal(found: Counterfactual) -> str:
    assert found.snips is None
    assert found.robust is None
    return " ".join(found.refusals)


@pytest.mark.parametrize(
    ("made", "unlike", "reason"),
    [
        pytest.param(rows(0, 1), 0, "No rewards were logged", id="nothing"),
        pytest.param(rows(), 3, "3 of 4000 decisions do not come out", id="parity"),
        pytest.param(
            rows()._replace(forced=np.ones(4_000, np.bool_)), 0, "None of these decisions was drawn", id="forced"
        ),
        pytest.param(rows(4_000, 20), 0, "of 20 accounts", id="accounts"),
        pytest.param(rows(150, 150), 0, "at least 200 are needed", id="decisions"),
        pytest.param(rows()._replace(p=np.full(4_000, 0.9)), 0, "should average 1", id="mean weight"),
    ],
)
def test_it_refuses_and_says_why(made: Rows, unlike: int, reason: str) -> None:
    found = counterfactual.estimate(made, unlike=unlike)
    if reason == "of 20 accounts":
        assert "accounts; at least 50 are needed" in refusal(found)
    else:
        assert reason in refusal(found)


def test_one_decision_that_carries_too_much_is_named() -> None:
    made = rows(600, 300)
    p, new = made.p.copy(), made.new_fresh.copy()
    fresh = int(np.flatnonzero(made.fresh)[0])
    p[fresh], new[fresh] = 0.005, 0.95
    assert "One decision alone carries" in refusal(counterfactual.estimate(made._replace(p=p, new_fresh=new)))


def test_few_that_carry_all_are_told() -> None:
    made = rows(40_000, 4_000, seed=3)
    rare = np.full(40_000, 0.002)
    fresh = np.random.default_rng(1).random(40_000) < rare
    found = counterfactual.estimate(
        made._replace(p=rare, fresh=fresh, new_fresh=np.full(40_000, 0.98), new_library=np.full(40_000, 0.02))
    )
    assert "Only 0." in refusal(found)


def test_a_little_that_was_never_possible_refuses_weighting_alone() -> None:
    made = rows()
    forced = np.arange(4_000) % 20 == 0
    mixed = made._replace(forced=forced, new_fresh=np.where(forced, ~made.fresh, made.new_fresh))
    mixed = mixed._replace(new_library=1.0 - mixed.new_fresh)
    found = counterfactual.estimate(mixed)
    assert found.diagnosis.unsupported == pytest.approx(0.05)
    assert found.refusals == ()
    assert found.robust is not None
    assert found.snips is None
    assert "5.0% of what this configuration would do" in found.snips_refusals[0]


def test_overlap_counts_the_drawn_decisions_of_both_sides() -> None:
    made = rows()._replace(forced=np.arange(4_000) < 1_000)
    found = counterfactual.overlap(made)
    assert found.groupby("side")["decisions"].sum().to_dict() == {"draft": 3_000, "live": 3_000}
