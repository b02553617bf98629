"""What a draft is told before it is published: figures of FINDINGS, and each rule of advice shown to fire and to keep quiet."""

from __future__ import annotations

import math
from typing import Any

import pytest

from credit_core.policy.advice import Advice, Cell, Demand, advise, blocks, check, dynamics
from credit_core.policy.config import Config
from credit_core.policy.strategies import STRATEGIES
from tests.policy.states import SHIPPED, with_changes

K = math.log(4) / 50
#: FINDINGS: 20 credits a day, of which the quota affords a third.
BASIC = Demand("basic", quota=200.0, cycle_days=30.0, rate=20.0, mean_rate=9.0, accounts=600, pressed=200)
LIGHT = Demand("premium", quota=600.0, cycle_days=30.0, rate=15.0, mean_rate=15.0, accounts=80)
UNKNOWN = Demand("free", quota=20.0, cycle_days=30.0)
STEEP = {"controller.k": K}


def told(changes: dict[str, Any], *demands: Demand, live: Config | None = None) -> list[Advice]:
    return advise(with_changes(changes), demands or (BASIC,), live)


def about(found: list[Advice], *words: str) -> list[Advice]:
    return [one for one in found if all(word in one.sentence for word in words)]


# Figures ----------------------------------------------------------------------------------------------------------


def test_the_affordable_share_is_pace_over_demand() -> None:
    assert BASIC.affordable == pytest.approx(1 / 3)
    assert LIGHT.affordable == pytest.approx(4 / 3)
    assert UNKNOWN.affordable is None


@pytest.mark.parametrize(("k", "droop", "constant"), [(0.0025, -277.2589, 90.0), (K, -25.0, 8.1152)])
def test_droop_and_time_constant_are_those_of_findings(k: float, droop: float, constant: float) -> None:
    got = dynamics(with_changes({"controller.k": k}), BASIC)
    assert got.droop == pytest.approx(droop, abs=1e-4)
    assert got.time_constant_days == pytest.approx(constant, abs=1e-4)
    assert got.width == pytest.approx(2 * math.log(9) / k)


def test_a_feed_forward_intercept_leaves_no_droop() -> None:
    got = dynamics(with_changes({"controller.intercept": "feed_forward"}), BASIC)
    assert got.droop == pytest.approx(0.0, abs=1e-9)
    assert got.intercept == pytest.approx(-math.log(2))


@pytest.mark.parametrize("demand", [LIGHT, UNKNOWN])
def test_without_demand_beyond_the_quota_there_is_no_droop(demand: Demand) -> None:
    got = dynamics(SHIPPED, demand)
    assert (got.droop, got.time_constant_days) == (None, None)


def test_another_strategy_has_no_such_figures() -> None:
    got = dynamics(with_changes({"controller.strategy": "reserve"}), BASIC)
    assert (got.intercept, got.width, got.droop, got.time_constant_days) == (None, None, None, None)
    assert not about(told({"controller.strategy": "reserve"}), "S-curve")


@pytest.mark.parametrize(("unit", "size"), [("credits", 1.0), ("days", 200 / 30), ("quota_percent", 2.0)])
def test_the_surplus_unit_scales_all_of_them(unit: str, size: float) -> None:
    got = dynamics(with_changes({"controller.surplus_unit": unit}), BASIC)
    assert got.width == pytest.approx(2 * math.log(9) * size / 0.0025)
    assert got.droop == pytest.approx(-math.log(2) * size / 0.0025)


# Faults -----------------------------------------------------------------------------------------------------------


def test_faults_are_told_all_at_once_in_the_page_s_words() -> None:
    config, faults = check(
        SHIPPED.body(), {"controller.k": 0.0, "nonsense": 1, "plans.basic.cap_multiple": 30, "nudges.library.lo": 2}
    )
    assert config is None
    assert [(one.level, one.key) for one in faults] == [
        ("block", "nonsense"), ("block", "controller.k"), ("block", "nudges.library"), ("block", "plans.basic.cap_multiple"),
    ]  # fmt: skip
    assert faults[1].sentence == "Gain k: must be greater than 0."
    assert (
        faults[2].sentence
        == "Library need: “Library need: lowest factor” must not be above “Library need: highest factor”."
    )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"controller.p_min": 0.99}, "Gain: “Lowest p” must be below “Highest p”."),
        ({"hysteresis.spend_leave_days": 9}, "Hysteresis: “Conserve from” < “Spend until” < “Spend from” must hold."),
        ({"nudges.segments.default": 9}, "Nudges: segments.default must lie between 0 and 5, got 9.0."),
    ],
)
def test_a_fault_between_two_tunables_names_them_by_their_titles(changes: dict[str, Any], sentence: str) -> None:
    assert [one.sentence for one in check(SHIPPED.body(), changes).faults] == [sentence]


def test_a_model_that_the_catalogue_lacks_is_a_fault() -> None:
    config, (fault,) = check(SHIPPED.body(), {"routing.premium_model": "gone"}, ("dalle-3-hd", "stable-diffusion-xl"))
    assert config is None
    assert fault.key == "routing.premium_model"
    assert "dalle-3-hd, stable-diffusion-xl" in fault.sentence


def test_a_feed_forward_intercept_without_an_upper_bound_is_a_fault() -> None:
    changes = {"controller.intercept": "feed_forward", "controller.p_max": 1.0}
    assert [one.key for one in check(SHIPPED.body(), changes).faults] == ["controller.p_max"]


def test_a_sound_draft_has_a_configuration_and_no_faults() -> None:
    config, faults = check(SHIPPED.body(), STEEP, ("dalle-3-hd", "stable-diffusion-xl"))
    assert faults == []
    assert config is not None
    assert config.controller.k == K


# What it amounts to -----------------------------------------------------------------------------------------------


def test_a_droop_of_more_than_a_quota_blocks() -> None:
    (found,) = about(told({}), "277.3", "behind pace", "whole quota of 200")
    assert found.level == "block"
    assert found.key == "controller.k"
    assert blocks(told({}))
    assert not blocks(told(STEEP))


def test_a_droop_that_live_has_as_well_does_not_block() -> None:
    (found,) = about(told({}, live=SHIPPED), "277.3")
    assert found.level == "warn"
    assert "no better" in found.sentence
    assert not blocks(told({"controller.k": 0.003}, live=SHIPPED))
    assert blocks(told({"controller.k": 0.002}, live=SHIPPED))
    assert blocks(told({}, live=with_changes(STEEP)))


def test_a_droop_the_other_way_leaves_the_quota_unused() -> None:
    demand = BASIC._replace(rate=200 / 30 / 0.9)
    (found,) = about(told({}, demand), "878.9", "ahead of pace")
    assert "unused" in found.sentence


def test_the_worst_plan_is_told_in_full_and_the_others_by_their_figures() -> None:
    small = Demand("free", quota=20.0, cycle_days=30.0, rate=2.0, accounts=5, pressed=5)
    (found,) = about(told({}, BASIC, small), "would settle")
    assert found.sentence.startswith("Free: ")
    assert "Likewise Basic (−277.3 of 200)." in found.sentence


def test_a_time_constant_over_a_third_of_the_cycle_warns() -> None:
    (found,) = about(told({}), "90 days", "third of its cycle of 30 days")
    assert found.level == "warn"
    assert not about(told(STEEP), "63\u202f%")


def test_a_flat_curve_warns() -> None:
    (found,) = about(told({}), "nearly flat", "46.9", "53.1")
    assert found.level == "warn"
    assert not about(told(STEEP), "nearly flat")
    (mixed,) = about(told(STEEP, BASIC, UNKNOWN), "nearly flat")
    assert "percent of quota" in mixed.sentence


def test_a_curve_that_is_a_switch_is_noted() -> None:
    assert [one.level for one in about(told({"controller.k": 3.0}), "switch")] == ["note"]
    assert not about(told(STEEP), "switch")


def test_bounds_that_overrule_the_affordable_share_warn() -> None:
    assert about(told(STEEP | {"controller.p_min": 0.4}), "40", "above the 33.3")
    assert about(told(STEEP | {"controller.p_max": 0.3}), "30", "below the 33.3")
    assert not about(told(STEEP), "of demand that the quota affords")


def test_p_at_zero_beyond_the_bounds_warns() -> None:
    assert about(told(STEEP | {"controller.p_at_zero": 0.01}), "p at zero surplus is 1")
    assert not about(told(STEEP | {"controller.p_at_zero": 0.01, "controller.intercept": "feed_forward"}), "p at zero")


def test_certain_outcomes_are_noted() -> None:
    assert [one.level for one in about(told(STEEP | {"controller.p_min": 0.0}), "lowest p of 0")] == ["note"]
    assert about(told(STEEP | {"controller.p_max": 1.0}), "highest p of 100")


def test_a_cap_that_never_binds_warns() -> None:
    """Q·(1 + δ)/δ: 3 quotas at δ = 0.5, so a cap of 3 binds nobody and one of 2.9 somebody."""
    assert about(told(STEEP | {"plans.basic.soft_decay": 0.5}), "tends to 3 quotas", "cap of 3")
    assert not about(told(STEEP | {"plans.basic.soft_decay": 0.5, "plans.basic.cap_multiple": 2.9}), "never binds")
    assert not about(told(STEEP | {"plans.basic.soft_decay": 0.0}), "never binds")
    assert not about(told(STEEP), "never binds")


def test_a_full_quota_that_counts_as_at_the_cap_warns() -> None:
    assert about(told(STEEP | {"plans.basic.cap_multiple": 1.0}), "Basic: a full quota already counts as at the cap")
    assert not about(told(STEEP), "at the cap")


def test_thresholds_that_mean_nothing_or_everything_are_noted() -> None:
    found = told(
        STEEP
        | {
            "plans.free.coverage_threshold": 0.0,
            "plans.basic.coverage_threshold": 0.05,
            "plans.premium.coverage_threshold": 1.0,
        }
    )
    assert [one.sentence.split(":")[0] for one in about(found, "coverage threshold is")] == ["Free", "Basic", "Premium"]
    assert not about(told(STEEP), "coverage threshold")


def test_a_cheaper_plan_with_a_higher_threshold_warns() -> None:
    (found,) = about(told(STEEP | {"plans.free.coverage_threshold": 0.6}), "higher coverage threshold")
    assert found.key == "plans.free.coverage_threshold"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"routing.threshold": 0.98}, "premium model is never used"),
        ({"routing.threshold": 0.01}, "economy model is never used"),
        ({"routing.premium_model": "stable-diffusion-xl"}, "same model"),
    ],
)
def test_routing_that_never_chooses_is_told(changes: dict[str, Any], words: str) -> None:
    assert about(told(STEEP | changes), words)
    assert not about(told(STEEP), words)


def test_feed_forward_without_measured_demand_is_noted() -> None:
    changes = STEEP | {"controller.intercept": "feed_forward"}
    assert about(told(changes, UNKNOWN), "Free: no demand was measured yet")
    assert not about(told(changes, BASIC), "no demand was measured")


def test_the_gravest_comes_first() -> None:
    levels = [one.level for one in told({"controller.p_min": 0.0})]
    assert levels == sorted(levels, key=("block", "warn", "note").index)
    assert {"block", "warn", "note"} == set(levels)


# The other strategies ---------------------------------------------------------------------------------------------


def by(strategy: str, **of_strategy: float) -> dict[str, Any]:
    """A strategy with some of its own tunables."""
    return {"controller.strategy": strategy} | {f"strategies.{name}": value for name, value in of_strategy.items()}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_strategy_as_it_is_shipped_is_blocked(strategy: str) -> None:
    assert not blocks(told(STEEP | by(strategy), BASIC, LIGHT))


def test_a_chance_that_falls_where_surplus_rises_blocks() -> None:
    (found,) = about(told(by("zones", zone_p_red=0.6, zone_p_yellow=0.3)), "falls where surplus rises")
    assert found.level == "block"
    assert "from 60\u202f% at 30 credits to 30\u202f% at 40 (quota 200)" in found.sentence
    assert not about(told(by("zones", zone_p_red=0.3, zone_p_yellow=0.3)), "falls")
    assert blocks(told(by("zones", zone_p_red=0.6)))
    assert not blocks(told(by("zones", zone_p_red=0.6), live=with_changes(by("zones", zone_p_red=0.7))))


def test_a_floor_above_a_full_quota_warns() -> None:
    """Right after a reset A = Q, so nothing is fresh until Q ≥ ρ·Q·d/L: of ρ = 1.5 the first third of the cycle."""
    assert about(told(by("reserve", reserve_rho=1.5)), "the first 10 days of a cycle nothing is fresh")
    assert about(told(by("headroom", headroom_rho=1.5)), "the first 10 days of a cycle nothing is fresh")
    assert not about(told(by("reserve", reserve_rho=1.0)), "nothing is fresh")
    assert not about(told(by("logistic", reserve_rho=1.5)), "nothing is fresh")


def test_no_floor_at_all_warns() -> None:
    assert about(told(by("reserve", reserve_rho=0.0)), "fresh until the account runs out")
    assert not about(told(by("headroom", headroom_rho=0.0)), "fresh until the account runs out")
    assert about(told(by("headroom", headroom_rho=0.0, headroom_most=0.0)), "fresh until the account runs out")


@pytest.mark.parametrize(
    ("changes", "key"),
    [({"headroom_requests": 0.0}, "requests"), ({"headroom_most": 0.0}, "most"), ({"headroom_until": 1.0}, "until")],
)
def test_headroom_without_room_is_reserve_and_warns(changes: dict[str, float], key: str) -> None:
    (found,) = about(told(by("headroom", **changes)), "plain floor of reserve")
    assert (found.level, found.key) == ("warn", f"strategies.headroom_{key}")
    assert not about(told(by("headroom")), "plain floor")


def test_headroom_smaller_than_an_image_is_noted() -> None:
    """A quota of 20 and 4 % of it: 0.8 credits."""
    assert about(told(by("headroom", headroom_most=0.04), BASIC, UNKNOWN), "Free: the most room is 0.8 credits")
    assert not about(told(by("headroom", headroom_most=0.04), BASIC), "the most room")


def test_affordable_that_strays_from_pace_by_design_warns() -> None:
    """The balance goes as (d/L)^γ: of γ = 3 it is furthest behind at 3^(−1/2), by 0.3849."""
    assert about(told(by("affordable", affordable_gamma=3.0)), "38.5\u202f% of a quota behind pace", "run dry")
    assert about(told(by("affordable", affordable_gamma=0.25)), "of a quota ahead of pace")
    assert not about(told(by("affordable")), "by design")


def test_laws_that_do_not_look_at_pace_warn() -> None:
    assert about(told(by("weighted", weight_surplus=0.0)), "weight of surplus is 0")
    assert not about(told(by("weighted")), "weight of surplus")
    for strategy in ("novelty", "thompson"):
        (found,) = about(told(by(strategy)), "holds anybody back")
        assert found.level == "warn"
    assert about(told(by("zones", zone_p_red=0.0)), "in red nothing is fresh")


def test_bounds_of_p_are_told_only_where_they_hold() -> None:
    """Of the other laws SPEC 4 gives p itself: a lowest p says nothing of a floor."""
    bounds = {"controller.p_min": 0.4, "controller.p_at_zero": 0.2, "routing.threshold": 0.01}
    assert about(told(STEEP | bounds), "above the 33.3")
    for words in ("above the 33.3", "p at zero surplus", "economy model is never used"):
        assert not about(told(by("reserve") | bounds), words)
    assert about(told(by("reserve")), "draws no lots", "premium model")
    assert about(told(by("reserve") | {"routing.threshold": 1.0}), "draws no lots", "economy model")


# The library ------------------------------------------------------------------------------------------------------

#: Coverage 0.2 and 0.5 of a target of 20: nine in ten ask for the thin one.
THIN, HALF = Cell(90, 4), Cell(10, 10)


def advised(changes: dict[str, Any], *library: Cell, live: Config | None = None) -> list[Advice]:
    return about(advise(with_changes(STEEP | changes), [BASIC], live, library), "assets")


def test_a_threshold_that_no_cell_reaches_warns_and_blocks_where_the_library_does_not_grow() -> None:
    found = advised({}, THIN, HALF)
    assert (found[0].level, found[0].key) == ("warn", "plans.premium.coverage_threshold")
    assert "asks for 13 assets in a cell" in found[0].sentence
    still = advised({"coverage.library_growth": False}, THIN, HALF)
    assert still[0].level == "block"
    assert "does not grow" in still[0].sentence
    live = with_changes({"coverage.library_growth": False})
    assert advised({"coverage.library_growth": False}, THIN, HALF, live=live)[0].level == "warn"


def test_a_threshold_that_most_requests_fall_short_of_warns() -> None:
    (found,) = [
        one for one in advised({}, THIN, HALF) if "most are served fresh" in one.sentence and "Basic" in one.sentence
    ]
    assert found.level == "warn"
    assert "90\u202f% of the requests" in found.sentence
    assert not [one for one in advised({}, Cell(40, 4), Cell(60, 20)) if "most are served" in one.sentence]


def test_of_a_library_that_nobody_asked_nothing_is_said() -> None:
    assert advised({}) == []
    assert advised({}, Cell(0, 0)) == []
