"""One step of a draft over logged decisions: exact values on decisions written by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from credit_core.lab import preview, sample
from credit_core.policy.config import Config
from credit_core.service import catalog as catalogue
from credit_core.settings import catalog_folder
from tests.lab.frames import frame_of, logged
from tests.policy.states import account, cell, uc, with_changes

#: Nothing but the S-curve acts on p.
PLAIN = {
    "nudges.freshness.lo": 1.0, "nudges.freshness.hi": 1.0, "nudges.credit_health.lo": 1.0, "nudges.credit_health.hi": 1.0,
    "nudges.library.lo": 1.0, "nudges.library.hi": 1.0, "hysteresis.conserve_factor": 1.0, "hysteresis.spend_factor": 1.0,
}  # fmt: skip
LIVE = with_changes(PLAIN)
STEEP = with_changes(PLAIN | {"controller.k": math.log(4) / 50})
CATALOG = catalogue.read(catalog_folder()).catalog
#: Ahead by 50 credits, behind by 50, on pace: p is 0.8, 0.2 and 0.5 under STEEP, 0.531, 0.469 and 0.5 under LIVE.
AHEAD, BEHIND, ON_PACE = account(150), account(50), account(100)


def previewed(*rows: dict[str, Any], draft: Config = STEEP, live: Config = LIVE) -> preview.Preview:
    prepared = sample.prepare(frame_of(*rows), {1: LIVE})
    return preview.compare(
        prepared, preview.decide_again(prepared, live, CATALOG), preview.decide_again(prepared, draft, CATALOG)
    )


def test_a_steeper_gain_gives_to_those_ahead_and_takes_from_those_behind() -> None:
    got = previewed(logged(AHEAD, 0.6, LIVE), logged(BEHIND, 0.4, LIVE), logged(ON_PACE, 0.4, LIVE))
    assert (got.decisions, got.accounts) == (3, 1)
    assert (got.live.fresh, got.draft.fresh) == (2, 2)
    assert (got.to_fresh, got.to_library) == (1, 1)
    live = 1 / (1 + math.exp(-0.125)) + 1 / (1 + math.exp(0.125)) + 0.5
    assert got.live.expected_fresh == pytest.approx(live, abs=1e-12)
    assert got.draft.expected_fresh == pytest.approx(0.8 + 0.2 + 0.5, abs=1e-12)


def test_flips_are_told_by_plan_and_rule() -> None:
    got = previewed(
        logged(AHEAD, 0.6, LIVE),
        logged(AHEAD, 0.7, LIVE),
        logged(BEHIND, 0.4, LIVE),
        logged(account(150, plan="premium"), 0.6, LIVE),
    )
    assert got.flips.to_dict("records") == [
        {"plan": "basic", "rule_live": "controller", "rule_draft": "controller", "to_fresh": 2, "to_library": 1, "decisions": 3},
        {"plan": "premium", "rule_live": "controller", "rule_draft": "controller", "to_fresh": 1, "to_library": 0, "decisions": 1},
    ]  # fmt: skip


def test_a_lower_threshold_turns_a_miss_into_a_drawn_decision() -> None:
    draft = with_changes(PLAIN | {"plans.basic.coverage_threshold": 0.2})
    got = previewed(logged(account(50, **cell(0.4)), 0.9, LIVE), draft=draft)
    assert got.flips.to_dict("records") == [
        {"plan": "basic", "rule_live": "coverage_miss", "rule_draft": "controller", "to_fresh": 0, "to_library": 1, "decisions": 1}
    ]  # fmt: skip
    assert got.live.expected_fresh == 1.0
    assert got.draft.expected_fresh == pytest.approx(1 / (1 + math.exp(0.125)))


def test_credits_and_cost_are_those_of_the_fresh_ones_by_the_model_they_are_routed_to() -> None:
    got = previewed(
        logged(account(150, cost=3), 0.6, LIVE, images=3),  # p 0.531 → 0.8: library, then the premium model
        logged(ON_PACE, 0.1, LIVE),  # p 0.5 on both sides: the economy model
    )
    assert (got.live.credits_uc, got.draft.credits_uc) == (uc(1), uc(4))
    assert (got.live.premium, got.live.routed) == (0, 1)
    assert (got.draft.premium, got.draft.routed) == (1, 2)
    assert got.draft.premium_share == 0.5
    assert got.live.provider_usd_micro == 80_000
    assert got.draft.provider_usd_micro == 80_000 + 3 * 120_000


def test_a_model_that_the_caller_named_stays_and_is_not_counted_as_routed() -> None:
    got = previewed(logged(ON_PACE, 0.1, LIVE, model="dalle-3-hd"), logged(AHEAD, 0.1, LIVE))
    assert (got.draft.routed, got.draft.premium, got.draft.premium_share) == (1, 1, 1.0)
    assert got.live.premium_share == 0.0
    assert got.live.provider_usd_micro == 120_000 + 80_000
    assert got.draft.provider_usd_micro == 120_000 + 120_000


def test_an_unknown_price_makes_the_cost_unknown_never_zero() -> None:
    live = with_changes(PLAIN | {"routing.economy_model": "of-my-own"})
    prepared = sample.prepare(frame_of(logged(ON_PACE, 0.1, live)), {1: live})
    decided = preview.decide_again(prepared, live, CATALOG)
    assert preview.compare(prepared, decided, decided).live.provider_usd_micro is None


def test_the_same_configuration_changes_nothing() -> None:
    rows = [logged(account(90 + i), i / 20, LIVE, account=f"a{i}") for i in range(20)]
    got = previewed(*rows, draft=LIVE)
    assert got.live == got.draft
    assert got.difference == got.expected_difference == preview.Interval(0.0, 0.0)
    assert got.flips.empty


def test_no_interval_is_drawn_from_a_handful_of_accounts() -> None:
    got = previewed(*[logged(AHEAD, 0.6, LIVE, account=f"a{i}") for i in range(9)])
    assert got.accounts == 9
    assert got.difference is None
    assert np.isnan(got.by_plan["low"]).all()


def test_the_interval_resamples_whole_accounts() -> None:
    """Every account flips or none of its decisions does: the spread is that of 40 coins, however many decisions each has."""
    rows = [logged(AHEAD, 0.6 if who % 2 else 0.9, LIVE, account=f"a{who:02d}") for who in range(40) for _ in range(25)]
    got = previewed(*rows)
    assert got.draft.fresh_rate == pytest.approx(0.5)
    assert got.difference is not None
    half_width = 1.96 * math.sqrt(0.25 / 40)
    assert got.difference.low == pytest.approx(0.5 - half_width, abs=0.03)
    assert got.difference.high == pytest.approx(0.5 + half_width, abs=0.03)
    row = got.by_plan.iloc[0]
    assert (row["low"], row["high"]) == got.difference
    assert (row["plan"], row["decisions"], row["accounts"], row["to_fresh"]) == ("basic", 1000, 40, 500)


def test_the_histogram_counts_decisions_by_rule_8_alone() -> None:
    got = previewed(logged(AHEAD, 0.6, LIVE), logged(account(588), 0.6, LIVE))
    counts = got.p_histogram[got.p_histogram["decisions"] > 0]
    assert [(row.side, round(row.from_p, 2)) for row in counts.itertuples()] == [("live", 0.5), ("draft", 0.8)]


def test_decisions_come_out_as_logged_under_their_own_version() -> None:
    rows = [
        logged(AHEAD, 0.6, LIVE),
        logged(BEHIND, 0.4, STEEP, version=2),
        logged(account(50, **cell(0.4)), 0.9, LIVE),
        logged(account(0, d=0), 0.1, STEEP, version=2),
        logged(account(588), 0.9, LIVE),
        logged(account(100, session_fresh=12, session_cost=12, session_opening=90), 0.1, LIVE),
        logged(account(100, segment="high_engagement", conserving=True, demand_rate=7.5), 0.1, LIVE),
    ]
    prepared = sample.prepare(frame_of(*rows), {1: LIVE, 2: STEEP})
    assert preview.disagreements(prepared).empty


def test_a_decision_that_was_not_taken_as_logged_is_named() -> None:
    row = logged(AHEAD, 0.6, LIVE) | {"p": 0.53}
    (found,) = preview.disagreements(sample.prepare(frame_of(row), {1: LIVE})).to_dict("records")
    assert found["request_id"] == row["request_id"]
    assert found["p_logged"] == 0.53
    assert found["p_again"] == pytest.approx(1 / (1 + math.exp(-0.125)))


def test_the_first_few_are_the_newest_and_their_accounts_count_from_zero() -> None:
    rows = [logged(AHEAD, i / 10, LIVE, account=name) for i, name in enumerate("bca")]
    few = sample.prepare(frame_of(*rows), {1: LIVE}).first(2)
    assert (len(few), few.accounts, few.account.tolist()) == (2, 2, [0, 1])
    assert few.frame["account_id"].tolist() == ["b", "c"]


def test_what_works_over_time_is_named_as_unseen() -> None:
    changes = [
        "controller.k",
        "controller.tau0_days",
        "session.idle_s",
        "plans.basic.soft_decay",
        "plans.basic.cap_multiple",
        "saga.hold_ttl_s",
    ]
    assert preview.unseen(changes) == [
        "controller.tau0_days",
        "session.idle_s",
        "plans.basic.soft_decay",
        "saga.hold_ttl_s",
    ]


def test_demand_is_that_of_accounts_that_ask_for_more_than_they_get() -> None:
    rows = [
        logged(account(100, demand_rate=20.0), 0.1, LIVE, account="heavy"),
        logged(account(100, demand_rate=1.0), 0.1, LIVE, account="heavy"),  # older: does not count
        logged(account(100, demand_rate=10.0), 0.1, LIVE, account="brisk"),
        logged(account(100, demand_rate=3.0), 0.1, LIVE, account="light"),
        logged(account(100), 0.1, LIVE, account="unknown"),
    ]
    basic = sample.demands(frame_of(*rows), CATALOG)["basic"]
    assert (basic.accounts, basic.pressed, basic.quota, basic.cycle_days) == (3, 2, 200.0, 30.0)
    assert basic.rate == 15.0
    assert basic.mean_rate == 11.0
    assert basic.affordable == pytest.approx(200 / 30 / 15)


def test_a_plan_that_nobody_asked_under_has_an_unknown_demand() -> None:
    found = sample.demands(frame_of(logged(AHEAD, 0.1, LIVE)), CATALOG)
    assert list(found) == [name for name, plan in CATALOG.plans.items() if plan.quota_policy == "titrated_monthly"]
    assert found["premium"].rate is None
    assert found["premium"].affordable is None
    assert found["premium"].quota == 600.0
    assert (found["basic"].rate, found["basic"].accounts) == (None, 1)
