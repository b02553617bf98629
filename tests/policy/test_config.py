"""The one schema of every tunable: the defaults of SPEC 2 to 6, validation, changes, differences, the content hash."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from credit_core.errors import InvalidConfig
from credit_core.policy.config import (
    DEFAULT_PLANS,
    Config,
    apply_changes,
    content_hash,
    differences,
    flatten,
    parse,
)
from tests.policy.defaults import DEFAULTS

# ---------------------------------------------------------------------------------------------------------- defaults


@pytest.mark.parametrize(("key", "value"), DEFAULTS.items(), ids=list(DEFAULTS))
def test_the_default_is_the_one_of_the_specification(key: str, value: object) -> None:
    shipped = flatten(Config().body())[key]
    assert shipped == value
    assert type(shipped) is type(value)


def test_no_tunable_has_a_default_that_is_not_in_the_table() -> None:
    assert set(flatten(Config().body())) == set(DEFAULTS)


@pytest.mark.parametrize("plan", list(DEFAULT_PLANS))
def test_an_idle_balance_of_every_shipped_plan_would_pass_its_cap_so_that_the_cap_binds(plan: str) -> None:
    tuning = Config().plan(plan)
    assert (1 + tuning.soft_decay) / tuning.soft_decay > tuning.cap_multiple


# ------------------------------------------------------------------------------------------------------------- parse


def body() -> dict[str, Any]:
    return Config().body()


def faults_of(changes: dict[str, Any]) -> tuple[str, ...]:
    with pytest.raises(InvalidConfig) as caught:
        apply_changes(body(), changes)
    return caught.value.faults


def places_of(changes: dict[str, Any]) -> list[str]:
    return [fault.split(":")[0] for fault in faults_of(changes)]


def test_a_body_survives_json_and_back() -> None:
    changed = apply_changes(body(), {"controller.k": 0.0277, "plans.gold.cap_multiple": 5.0})
    again = parse(json.loads(json.dumps(changed.body())))
    assert again == changed
    assert again.body() == changed.body()


def test_an_empty_body_is_the_shipped_configuration() -> None:
    assert parse({}) == Config()


WEIGHTS = [f"strategies.weight_{name}" for name in ("surplus", "freshness", "credit", "library")]

BAD = [
    ("controller.k", 0.0),
    ("controller.k", -0.1),
    ("controller.k", 101.0),
    ("controller.k", float("nan")),
    ("controller.k", float("inf")),
    ("controller.k", None),
    ("controller.k", "steep"),
    ("controller.strategy", "guess"),
    ("controller.surplus_unit", "weeks"),
    ("controller.intercept", "floating"),
    ("controller.p_at_zero", 0.0),
    ("controller.p_at_zero", 1.0),
    ("controller.tau0_days", 0.0),
    ("controller.p_min", -0.1),
    ("controller.p_max", 1.1),
    ("strategies.affordable_gamma", 0.0),
    ("strategies.affordable_nudged", "perhaps"),
    ("strategies.reserve_rho", -0.1),
    ("strategies.weight_surplus", -1.0),
    ("strategies.zone_green", 1.01),
    ("strategies.zone_p_red", -0.01),
    ("nudges.freshness.lo", -0.1),
    ("nudges.freshness_tau", 0.0),
    ("nudges.conservation", 1.5),
    ("nudges.segments.vip", float("nan")),
    ("hysteresis.conserve_enter_days", 1.0),
    ("hysteresis.conserve_factor", 1.1),
    ("hysteresis.spend_factor", 0.9),
    ("session.max_fresh", 0),
    ("session.max_fresh", 2.5),
    ("session.max_share", 1.01),
    ("session.idle_s", 0.0),
    ("coverage.target", 0),
    ("coverage.stale_days", 0),
    ("coverage.health_floor", -0.01),
    ("coverage.at_cap_share", 1.01),
    ("coverage.library_growth", "perhaps"),
    ("routing.threshold", 1.01),
    ("routing.premium_model", ""),
    ("rollover.burst_allowance", 7),
    ("limits.bucket_capacity", 0.5),
    ("limits.bucket_leak_per_minute", 0.0),
    ("limits.override_s", -1.0),
    ("saga.hold_ttl_s", 0.0),
    ("plans.basic.coverage_threshold", 1.01),
    ("plans.basic.cap_multiple", 0.9),
    ("plans.basic.soft_decay", -0.01),
    ("slos.behind_share", 2.0),
    ("slos.authorize_p95_ms", 0.0),
]


@pytest.mark.parametrize(("key", "value"), BAD, ids=[f"{key} = {value}" for key, value in BAD])
def test_a_value_out_of_range_is_refused_at_its_place(key: str, value: object) -> None:
    assert places_of({key: value}) == [key]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"controller.p_min": 0.9, "controller.p_max": 0.9}, "p_min must be below p_max"),
        (dict.fromkeys(WEIGHTS, 0.0), "weights must not all be 0"),
        ({"strategies.zone_red": 0.6}, "zone_red must not be above zone_green"),
        ({"nudges.library.lo": 1.2}, "lo must not be above hi"),
        ({"nudges.segments.vip": 9.0}, "segments.vip must lie between 0 and 5"),
        ({"hysteresis.conserve_leave_days": -3.0}, "conserve_enter_days < conserve_leave_days"),
        ({"hysteresis.conserve_leave_days": 5.0}, "conserve_leave_days < spend_enter_days"),
        ({"hysteresis.spend_leave_days": 5.0}, "spend_leave_days < spend_enter_days"),
        ({"hysteresis.spend_leave_days": -3.0}, "conserve_enter_days < spend_leave_days"),
    ],
)
def test_values_that_do_not_fit_together_are_refused(changes: dict[str, Any], words: str) -> None:
    (fault,) = faults_of(changes)
    assert words in fault
    assert "Value error" not in fault


def test_segments_without_a_default_are_refused() -> None:
    with pytest.raises(InvalidConfig, match="segments must name a default"):
        parse({"nudges": {"segments": {"vip": 1.2}}})


def test_all_faults_of_all_sections_are_reported_at_once_in_the_schema_s_order() -> None:
    changes = {"slos.at_cap_share": 2.0, "session.max_fresh": 0, "controller.k": -1.0, "controller.p_at_zero": 7.0}
    assert places_of(changes) == ["controller.k", "controller.p_at_zero", "session.max_fresh", "slos.at_cap_share"]


def test_a_bad_value_does_not_hide_that_others_do_not_fit_together() -> None:
    found = faults_of({"controller.k": -1.0, "controller.p_min": 0.9, "controller.p_max": 0.1})
    assert any("greater than 0" in fault for fault in found)
    assert any("p_min must be below p_max" in fault for fault in found)


def test_every_bad_segment_is_reported() -> None:
    found = " ".join(faults_of({"nudges.segments.vip": 9.0, "nudges.segments.new": -1.0}))
    assert "segments.vip" in found
    assert "segments.new" in found


def test_both_wrong_orders_of_hysteresis_edges_are_reported() -> None:
    changes = {"hysteresis.conserve_leave_days": -3.0, "hysteresis.spend_leave_days": 5.0}
    found = " ".join(faults_of(changes))
    assert "conserve_leave_days" in found
    assert "spend_leave_days" in found


def test_one_weight_is_enough_and_zones_may_touch() -> None:
    changes = {**dict.fromkeys(WEIGHTS, 0.0), "strategies.weight_library": 1.0, "strategies.zone_red": 0.5}
    assert apply_changes(body(), changes).strategies.zone_red == 0.5


def test_both_faults_of_the_strategies_are_reported() -> None:
    found = " ".join(faults_of({**dict.fromkeys(WEIGHTS, 0.0), "strategies.zone_red": 0.6}))
    assert "weights must not all be 0" in found
    assert "zone_red must not be above zone_green" in found


def test_an_unknown_section_or_field_is_refused() -> None:
    with pytest.raises(InvalidConfig) as caught:
        parse({"controler": {}, "controller": {"gain": 1.0}})
    assert sorted(fault.split(":")[0] for fault in caught.value.faults) == ["controler", "controller.gain"]


def test_a_configuration_does_not_change_once_made() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Config().controller.k = 1.0


def test_a_plan_that_is_not_listed_is_tuned_like_basic() -> None:
    assert Config().plan("bespoke") == Config().plan("basic")


# ----------------------------------------------------------------------------------------------------------- changes


def test_a_dotted_change_reaches_any_depth() -> None:
    changes = {"controller.k": 0.03, "nudges.freshness.hi": 1.5, "plans.free.cap_multiple": 2.0}
    config = apply_changes(body(), changes)
    assert (config.controller.k, config.nudges.freshness.hi, config.plan("free").cap_multiple) == (0.03, 1.5, 2.0)
    assert differences(body(), config.body()) == {
        "controller.k": (0.0025, 0.03),
        "nudges.freshness.hi": (1.2, 1.5),
        "plans.free.cap_multiple": (3.0, 2.0),
    }


def test_changes_that_are_only_valid_together_are_judged_together() -> None:
    config = apply_changes(body(), {"controller.p_min": 0.985, "controller.p_max": 0.99})
    assert (config.controller.p_min, config.controller.p_max) == (0.985, 0.99)


def test_the_body_that_is_changed_stays_as_it_was() -> None:
    before = body()
    apply_changes(before, {"controller.k": 0.03, "plans.gold.cap_multiple": 2.0, "nudges.segments.vip": 1.2})
    assert before == body()


def test_a_plan_can_be_added_and_starts_from_the_defaults() -> None:
    gold = apply_changes(body(), {"plans.gold.cap_multiple": 5.0}).plan("gold")
    assert (gold.cap_multiple, gold.coverage_threshold, gold.soft_decay) == (5.0, 0.5, 0.4)


def test_a_segment_can_be_added() -> None:
    assert apply_changes(body(), {"nudges.segments.vip": 1.3}).nudges.segments["vip"] == 1.3


UNKNOWN = [
    *("k", "controller.gain", "controller.k.x", "controller.k.x.y", "nudges.freshness.mid", "controler.k", ""),
    *("plans.basic", "plans.basic.threshold", "plans.gold.threshold", "plans.basic.cap_multiple.x"),
    *("plans.basic.cap_multiple.x.y", "nudges.segments.vip.x", "nudges.segment.vip"),
]


@pytest.mark.parametrize("key", UNKNOWN)
def test_a_key_that_names_no_tunable_is_refused_and_says_where_to_look(key: str) -> None:
    found = faults_of({key: 1.0})
    assert found[0].startswith(f"{key}: ")
    if key != "plans.basic":
        assert "config show" in found[0]


def test_unknown_keys_and_bad_values_are_reported_together() -> None:
    assert places_of({"controller.gain": 1.0, "controller.k": -1.0}) == ["controller.gain", "controller.k"]


def test_a_change_of_a_section_that_is_gone_is_refused() -> None:
    assert faults_of({"plans": None, "plans.basic.cap_multiple": 2.0})


# ------------------------------------------------------------------------------------------------------- differences


def test_equal_bodies_do_not_differ() -> None:
    assert differences(body(), body()) == {}


def test_what_one_side_lacks_differs_from_nothing() -> None:
    with_gold = apply_changes(body(), {"plans.gold.cap_multiple": 5.0}).body()
    added = differences(body(), with_gold)
    assert added == {
        "plans.gold.coverage_threshold": (None, 0.5),
        "plans.gold.cap_multiple": (None, 5.0),
        "plans.gold.soft_decay": (None, 0.4),
    }
    assert differences(with_gold, body()) == {key: (new, old) for key, (old, new) in added.items()}


@settings(max_examples=50, deadline=None)
@given(
    changes=st.fixed_dictionaries(
        {},
        optional={
            "controller.k": st.floats(0.001, 1.0),
            "controller.p_at_zero": st.floats(0.01, 0.99),
            "session.max_fresh": st.integers(1, 50),
            "limits.enabled": st.booleans(),
            "plans.free.soft_decay": st.floats(0, 1),
            "nudges.segments.vip": st.floats(0, 5),
        },
    )
)
def test_applying_the_differences_gives_the_new_body(changes: dict[str, Any]) -> None:
    new = apply_changes(body(), changes)
    found = differences(body(), new.body())
    assert set(found) <= set(changes)
    assert apply_changes(body(), {key: value for key, (_, value) in found.items()}) == new


# ------------------------------------------------------------------------------------------------------ content hash


def reversed_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: reversed_keys(value[key]) for key in reversed(value)}
    return value


def test_the_content_hash_does_not_depend_on_the_order_of_keys() -> None:
    assert list(reversed_keys(body())) != list(body())
    assert content_hash(reversed_keys(body())) == content_hash(body())


def test_the_content_hash_is_a_sha_256_that_survives_json() -> None:
    digest = content_hash(body())
    assert len(digest) == 64
    assert int(digest, 16) >= 0
    assert content_hash(json.loads(json.dumps(body(), indent=2))) == digest


def test_the_content_hash_of_a_small_body_is_known() -> None:
    # printf '{"a":{"b":1.5,"c":"\u00e9"}}' | sha256sum, the escape as six characters
    known = "6ebf9db5717b3ebe0bbc6310a51f44275f90a0d0ea417bae8157b41a3a7380fd"
    assert content_hash({"a": {"c": "é", "b": 1.5}}) == known


@pytest.mark.parametrize("key", list(DEFAULTS))
def test_any_change_changes_the_content_hash(key: str) -> None:
    section, _, leaf = key.rpartition(".")
    changed = body()
    node = changed
    for part in section.split("."):
        node = node[part]
    node[leaf] = "other" if isinstance(node[leaf], str) else not node[leaf] if isinstance(node[leaf], bool) else 0.123
    assert content_hash(changed) != content_hash(body())


def test_what_is_not_a_number_has_no_content_hash() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        content_hash({"a": float("nan")})
