"""Rewards of a ledger beside a candidate's own trajectory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from credit_core.errors import Stopped
from credit_core.lab import counterfactual, replay, rewarded
from credit_core.policy.config import Config, apply_changes
from tests.lab.opening import closed, prepared

__all__ = ["closed"]


@pytest.fixture(scope="module")
def ledger(fleet_url: str) -> replay.Prepared:
    return prepared(fleet_url)


@pytest.fixture(scope="module")
def live(ledger: replay.Prepared) -> Config:
    return ledger.configs[max(ledger.configs)]


def test_what_was_live_weighs_one(ledger: replay.Prepared, live: Config) -> None:
    """Over the days that one version decided, its own chances are those that were logged."""
    found = rewarded.read(ledger, live, replay.last_days(ledger, 5))
    assert found.unlike == 0
    assert found.elsewhere > 0, "other plans' requests have rewards too"
    weights = counterfactual.weights_of(found.rows)
    assert np.allclose(weights, 1.0)
    told = counterfactual.estimate(found.rows)
    assert told.logged is not None
    assert told.logged.value == found.rows.reward.mean()


def test_a_bolder_one_follows_its_own_balances(ledger: replay.Prepared, live: Config) -> None:
    bold = apply_changes(live.body(), {"controller.p_at_zero": 0.8})
    period = replay.last_days(ledger, 20)
    found = rewarded.read(ledger, bold, period)
    drawn = ~found.rows.forced
    assert found.rows.new_fresh[drawn].mean() > found.rows.p[drawn].mean()
    again = replay.run(ledger, [bold], period)
    assert again.runs[0].sums["decisions"].sum() > len(found.rows.reward)


def test_the_estimate_prefers_what_people_like(ledger: replay.Prepared, live: Config) -> None:
    """People of the demo like fresh ones better than library ones (data/demo.toml): more fresh ones earn more."""
    bold = apply_changes(live.body(), {"controller.p_at_zero": 0.7})
    told = rewarded.estimate(ledger, bold, replay.last_days(ledger, 30))
    if told.refusals:
        assert any("accounts" in reason for reason in told.refusals)
        loose = rewarded.read(ledger, bold, replay.last_days(ledger, 30)).rows
        each = np.arange(len(loose.reward), dtype=np.int64)
        told = counterfactual.estimate(loose._replace(account=each))
    assert told.robust is not None
    assert told.logged is not None
    assert told.robust.value > told.logged.value


def test_a_log_that_cannot_be_recomputed_is_refused(ledger: replay.Prepared, live: Config) -> None:
    """The planted fault: the version that decided is not what it was."""
    number = max(ledger.configs)
    forged = {**ledger.configs, number: apply_changes(live.body(), {"controller.k": 0.03})}
    told = rewarded.estimate(replace(ledger, configs=forged), live, replay.last_days(ledger, 5))
    assert any("do not come out as they were logged" in reason for reason in told.refusals)


def test_it_can_be_stopped(ledger: replay.Prepared, live: Config) -> None:
    with pytest.raises(Stopped):
        rewarded.read(ledger, live, replay.last_days(ledger, 5), stopped=lambda: True)


def test_no_rewards_is_a_refusal_in_words(ledger: replay.Prepared, live: Config) -> None:
    never = replay.Period(0, 1, ())
    told = rewarded.estimate(ledger, live, never)
    assert told.refusals[0].startswith("No rewards were logged")
    assert told.logged is None
