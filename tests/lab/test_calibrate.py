"""Targets to a configuration: points in closed form, figures by a search that a replay confirms."""

from __future__ import annotations

import math

import pytest

from credit_core.errors import InvalidRequest, Stopped
from credit_core.lab import calibrate, candidates, replay, targets
from credit_core.lab.calibrate import Found
from credit_core.lab.experiments import figure
from credit_core.lab.targets import Bound, Point, Wish
from credit_core.policy.config import Config, apply_changes
from credit_core.policy.controller import base_probability, logit
from tests.lab.opening import closed, prepared

__all__ = ["closed"]

WISH = Wish("fresh_rate", True, (Bound("run_out_share", "<", 0.08),))


@pytest.fixture(scope="module")
def ledger(fleet_url: str) -> replay.Prepared:
    return prepared(fleet_url)


@pytest.fixture(scope="module")
def found(ledger: replay.Prepared) -> Found:
    return search(ledger, seed=1)


def search(ledger: replay.Prepared, seed: int, tries: int = 60, **more: float) -> Found:
    live = ledger.configs[max(ledger.configs)]
    return calibrate.search(
        ledger, live, WISH, replay.last_days(ledger, 28), tries=tries, finalists=4, seed=seed, **more
    )


def test_two_points_of_the_design_give_its_k() -> None:
    points = targets.parse(["p(-50)=0.2", "p(50)=0.8"])
    assert isinstance(points, tuple)
    assert not isinstance(points, Wish)
    changes = targets.s_curve(points)
    assert round(changes["controller.k"], 7) == 0.0277259
    assert changes["controller.p_at_zero"] == pytest.approx(0.5, abs=1e-15)


def test_points_that_are_not_symmetric_are_met_too() -> None:
    points = (Point(-20.0, 0.3), Point(90.0, 0.9))
    changes = targets.s_curve(points, unit=2.0)
    for surplus, p in points:
        intercept = logit(changes["controller.p_at_zero"])
        assert base_probability(changes["controller.k"], surplus, 2.0, intercept) == pytest.approx(p, abs=1e-12)
    with pytest.raises(InvalidRequest, match="must rise"):
        targets.s_curve((Point(-20.0, 0.9), Point(90.0, 0.3)))


def test_targets_are_read_as_they_are_written() -> None:
    assert targets.parse(["run_out_share<2%", "fresh_rate=max"]) == Wish(
        "fresh_rate", True, (Bound("run_out_share", "<", 0.02),)
    )
    assert targets.parse(["dry_time<=0.01", "provider_cost=min"]) == Wish(
        "provider_cost", False, (Bound("dry_time", "<", 0.01),)
    )
    assert targets.parse(["flicker < 0.2"]) == Wish("fresh_rate", True, (Bound("flicker", "<", 0.2),))


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["run_out_share"], "'run_out_share' is no target"),
        (["luck<0.1"], "There is no figure 'luck'"),
        (["p(-50)=0.2"], "takes two points, got 1"),
        (["p(-50)=0.2", "p(50)=0.8", "flicker<0.1"], "different questions"),
        (["flicker=min", "fresh_rate=max"], "Only one figure"),
        ([], "at least one target"),
        (["flicker<1.2.3"], "is no number"),
    ],
)
def test_what_is_no_target_is_refused_with_what_is(texts: list[str], said: str) -> None:
    with pytest.raises(InvalidRequest, match=r"run_out_share<0\.02") as refused:
        targets.parse(texts)
    assert said in str(refused.value)


def test_bounds_are_met_or_missed_by_how_much() -> None:
    below, above = Bound("dry_time", "<", 0.02), Bound("fresh_rate", ">", 0.5)
    assert below.violation(0.01) == 0.0
    assert below.violation(0.02) > 0.0
    assert below.violation(0.03) == pytest.approx(0.5)
    assert above.violation(0.4) == pytest.approx(0.2)
    assert below.violation(math.nan) == math.inf
    spared = WISH.on_sample(475).bounds[0]
    assert spared.value == pytest.approx(0.08 - math.sqrt(0.08 * 0.92 / 475))
    assert Wish("fresh_rate", True, (above,)).on_sample(100).bounds == (above,), "no share of accounts"


def test_candidates_are_readable_and_work() -> None:
    live = Config()
    every = candidates.first(live, 120, seed=2, coverage=True)
    assert every[0].changes == {}
    for one in every:
        apply_changes(live.body(), dict(one.changes))
    kept = candidates.first(live, 120, seed=2, coverage=False)
    assert not any("coverage" in key for one in kept for key in one.changes)
    moved = candidates.near([one for one in every if one.family][:4], live, 30, [2, 0], 1.0, coverage=True)
    assert len(moved) == 30
    assert all(0.0 <= place <= 1.0 for one in moved for place in one.places)


def test_a_search_ends_in_what_a_replay_confirms(ledger: replay.Prepared, found: Found) -> None:
    """The finalist's figures are those of a replay of its changes over all accounts."""
    live, period = ledger.configs[max(ledger.configs)], replay.last_days(ledger, 28)
    best = found.frame.iloc[0]
    candidate = apply_changes(live.body(), found.changes(found.best))
    again = replay.run(ledger, [live, candidate], period)
    assert figure("fresh_rate", again.runs[1]) == best["fresh_rate"]
    assert figure("run_out_share", again.runs[1]) == best["run_out_share"]
    assert found.met
    assert best["run_out_share"] < 0.08 <= found.frame.set_index("number").loc[0, "run_out_share"]
    told = found.comparison(found.best)
    assert told.value("run_out_share") == best["run_out_share"]
    assert told.value("run_out_share", "difference") < 0.0


def test_finalists_are_in_order_and_of_several_strategies(found: Found) -> None:
    assert found.frame["violation"].is_monotonic_increasing
    assert found.frame["name"].nunique() >= 3
    assert sorted(found.frame["number"]) == list(range(len(found.frame)))
    assert not found.cut


def test_the_same_seed_gives_the_same_table(ledger: replay.Prepared, found: Found) -> None:
    assert search(ledger, seed=1).frame.equals(found.frame)


def test_time_that_is_up_ends_the_search_and_says_so(ledger: replay.Prepared) -> None:
    ticks = iter(range(10_000))
    hasty = search(ledger, seed=1, budget_s=8.0, clock=lambda: float(next(ticks)))  # type: ignore[arg-type]
    assert hasty.cut
    assert hasty.tried < 60
    assert len(hasty.frame) >= 2


def test_it_can_be_stopped_and_tells_how_far_it_is(ledger: replay.Prepared) -> None:
    live, period = ledger.configs[max(ledger.configs)], replay.last_days(ledger, 28)
    told: list[float] = []

    def stopped() -> bool:
        return len(told) >= 5

    with pytest.raises(Stopped, match="nothing was written"):
        calibrate.search(ledger, live, WISH, period, progress=lambda share, _: told.append(share), stopped=stopped)
    assert told == sorted(told)
    assert len(told) == 5


def test_a_search_of_nothing_is_refused(ledger: replay.Prepared) -> None:
    with pytest.raises(InvalidRequest, match="at least 2 candidates"):
        search(ledger, seed=1, tries=1)
    with pytest.raises(InvalidRequest, match="more than 0 seconds"):
        search(ledger, seed=1, budget_s=0.0)
