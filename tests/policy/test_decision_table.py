"""Every decision of SPEC 4 against the same formulas written a second way: known values, a table, and random states."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from credit_core.policy.config import Config
from credit_core.policy.decision import Decision, State, decide
from tests.policy import formulas
from tests.policy.states import REQUEST, SHIPPED, account, cell, with_changes

TOLERANCE = 1e-12
#: u01 of an account that wins any draw it can win, and of one that loses any it can lose.
LUCKY, UNLUCKY = 0.0, 1.0 - 2.0**-53


def assert_agrees(decision: Decision, said: formulas.Judgement, state: State, config: Config) -> None:
    """Everything that was decided is what the second writing of SPEC 4 says."""
    assert decision.rule == said.rule
    assert decision.status == said.status
    assert decision.outcome == said.outcome
    assert decision.forced is said.forced
    assert decision.state == state
    assert decision.fresh is (said.outcome == "fresh")
    assert decision.amount_uc == (state.cost_uc if said.outcome == "fresh" else 0)
    if said.rule in ("blocked", "rate_limited", "paused"):
        numbers = (decision.surplus, decision.surplus_days, decision.p0, decision.nudges, decision.p, decision.model)
        assert numbers == (None,) * 6, "what was not computed is unknown, not 0"
        assert decision.mode == state.mode
        return
    assert decision.miss is said.miss
    assert decision.mode == said.mode
    # Float noise of A − N grows with A: 1e-12 of the larger of the two, at least 1e-12.
    scale = max(1.0, state.paced_uc / 1e6, state.quota_uc / 1e6)
    assert decision.surplus == pytest.approx(float(said.surplus), rel=0, abs=TOLERANCE * scale)
    scale_days = max(1.0, state.cycle_days * scale / (state.quota_uc / 1e6))
    assert decision.surplus_days == pytest.approx(float(said.surplus_days), rel=0, abs=TOLERANCE * scale_days)
    assert decision.p0 == pytest.approx(float(said.p0), rel=0, abs=TOLERANCE)
    assert decision.nudges == pytest.approx([float(nudge) for nudge in said.nudges], rel=0, abs=TOLERANCE)
    assert decision.p == pytest.approx(float(said.p), rel=0, abs=TOLERANCE)
    routed = config.routing.premium_model if said.premium else config.routing.economy_model
    assert decision.model == (routed if said.outcome == "fresh" else None)


# ------------------------------------------------------------------------------------------------------ known values


@pytest.mark.parametrize(
    ("k", "surplus", "p0", "digits"),
    [
        (0.0025, 50, 0.5312, 4),
        (0.0025, -50, 0.4688, 4),
        (0.027725887222397812, 50, 0.8, 12),
        (0.027725887222397812, -50, 0.2, 12),
        (0.027725887222397812, 100, 16 / 17, 12),
        (0.027725887222397812, -100, 1 / 17, 12),
        (0.0025, 0, 0.5, 12),
    ],
)
def test_p0_has_the_known_values_of_the_specification(k: float, surplus: int, p0: float, digits: int) -> None:
    state = account(A=100 + surplus, d=15)
    decision = decide(state, REQUEST, with_changes({"controller.k": k}), 0.5)
    assert decision.surplus == surplus
    assert decision.p0 is not None
    assert round(decision.p0, digits) == pytest.approx(p0, rel=0, abs=TOLERANCE)


@pytest.mark.parametrize(("k", "surplus"), [(0.0025, 50), (0.0025, -50), (0.0277259, 50), (0.0277259, -100)])
def test_the_second_writing_has_the_known_values_too(k: float, surplus: int) -> None:
    body = with_changes({"controller.k": k}).body()
    said = formulas.judge(account(A=100 + surplus), body, 0.5)
    known = {(0.0025, 50): 0.5312, (0.0025, -50): 0.4688, (0.0277259, 50): 0.8, (0.0277259, -100): 0.0588}
    assert round(float(said.p0), 4) == known[k, surplus]


def test_p_is_the_product_of_p0_all_nudges_and_the_mode() -> None:
    # 20 credits behind of 200 with half the cycle left: −3 days, so conserve; 0.9 + 0.2·80/200 = 0.98.
    state = account(
        A=80, segment="high_engagement", conserving=True, session_images=0, session_opening=100, **cell(0.75, 0.75)
    )
    decision = decide(state, REQUEST, SHIPPED, 0.5)
    assert decision.surplus_days == -3.0
    assert decision.nudges == pytest.approx((1.2, 0.98, 0.95, 1.1, 0.5, 0.5), rel=0, abs=TOLERANCE)
    p0 = 0.48750260351578965  # 1/(1 + e^0.05)
    assert decision.p0 == pytest.approx(p0, rel=0, abs=TOLERANCE)
    assert decision.p == pytest.approx(p0 * 1.2 * 0.98 * 0.95 * 1.1 * 0.5 * 0.5, rel=0, abs=TOLERANCE)


# --------------------------------------------------------------------------------------------------------- the table


class Case(NamedTuple):
    """A state, and what a reader of SPEC 4 says without a calculator."""

    title: str
    state: State
    rule: str
    status: str
    mode: str = "steady"
    miss: bool = False
    u01: float = 0.5
    changes: dict[str, Any] = {}  # noqa: RUF012 - never written to


FORBIDDEN = [
    Case("blocked goes before all else", account(0, blocked=True, retry_after_s=3, paused=True), "blocked", "REJECTED"),
    Case("a challenged account at its cap is blocked", account(600, blocked=True), "blocked", "REJECTED", u01=LUCKY),
    Case("rate limited goes before paused", account(0, retry_after_s=2, paused=True), "rate_limited", "RATE_LIMITED"),
    Case(
        "rate limited though the library misses", account(retry_after_s=0.1, **cell(0)), "rate_limited", "RATE_LIMITED"
    ),
    Case("paused goes before unaffordable", account(0, paused=True), "paused", "REJECTED"),
    Case("paused goes before a miss", account(paused=True, **cell(0)), "paused", "REJECTED"),
    Case(
        "a forbidden request leaves the mode as it was",
        account(0, paused=True, mode="spend"),
        "paused",
        "REJECTED",
        "spend",
    ),
]

UNAFFORDABLE = [
    Case("nothing left", account(0), "unaffordable", "LIBRARY", "conserve", u01=LUCKY),
    Case("nothing left and nothing due", account(0, d=0), "unaffordable", "LIBRARY", u01=LUCKY),
    Case("one micro-credit short", account(0.999999), "unaffordable", "LIBRARY", "conserve", u01=LUCKY),
    Case("exactly enough is enough", account(1, d=0), "controller", "RESERVED", u01=LUCKY),
    Case(
        "purchased credits count for what is affordable",
        account(0, all_lots=50),
        "controller",
        "RESERVED",
        "conserve",
        u01=LUCKY,
    ),
    Case("a batch of five with four left", account(4, d=0, cost=5), "unaffordable", "LIBRARY"),
    Case(
        "unaffordable with a miss", account(0, **cell(0.1)), "unaffordable", "LIBRARY", "conserve", miss=True, u01=LUCKY
    ),
    Case("unaffordable without a miss", account(0, **cell(0.5)), "unaffordable", "LIBRARY", "conserve", u01=LUCKY),
    Case(
        "unaffordable goes before an under-represented cell",
        account(0, **cell(0.9, 0.1, under_represented=True)),
        "unaffordable",
        "LIBRARY",
        "conserve",
    ),
    Case(
        "unaffordable goes before the session cap", account(3, d=0, cost=4, session_fresh=12), "unaffordable", "LIBRARY"
    ),
    Case("unaffordable goes before the rollover cap", account(590, cost=591), "unaffordable", "LIBRARY", "spend"),
]

COVERAGE = [
    Case(
        "coverage just under the threshold is a miss",
        account(**cell(0.49)),
        "coverage_miss",
        "RESERVED",
        miss=True,
        u01=UNLUCKY,
    ),
    Case("coverage on the threshold is no miss", account(**cell(0.50)), "controller", "RESERVED"),
    Case("an empty cell is a miss", account(**cell(0.0)), "coverage_miss", "RESERVED", miss=True, u01=UNLUCKY),
    Case(
        "the free plan misses under 0.30",
        account(10, Q=20, plan="free", **cell(0.29)),
        "coverage_miss",
        "RESERVED",
        miss=True,
        u01=UNLUCKY,
    ),
    Case(
        "the free plan does not miss at 0.30",
        account(10, Q=20, plan="free", **cell(0.30)),
        "controller",
        "LIBRARY",
        u01=UNLUCKY,
    ),
    Case(
        "the premium plan misses under 0.65",
        account(300, Q=600, plan="premium", **cell(0.64)),
        "coverage_miss",
        "RESERVED",
        miss=True,
        u01=UNLUCKY,
    ),
    Case(
        "the premium plan does not miss at 0.65",
        account(300, Q=600, plan="premium", **cell(0.65)),
        "controller",
        "LIBRARY",
        u01=UNLUCKY,
    ),
    Case(
        "the annual premium plan misses as premium does",
        account(300, Q=600, plan="premium_annual", **cell(0.6)),
        "coverage_miss",
        "RESERVED",
        miss=True,
    ),
    Case(
        "the annual basic plan misses as basic does",
        account(plan="basic_annual", **cell(0.49)),
        "coverage_miss",
        "RESERVED",
        miss=True,
    ),
    Case(
        "a threshold that was tuned",
        account(**cell(0.5)),
        "coverage_miss",
        "RESERVED",
        miss=True,
        changes={"plans.basic.coverage_threshold": 0.51},
    ),
    Case(
        "a stale under-represented cell, not a miss",
        account(**cell(0.9, 0.59, under_represented=True)),
        "coverage_miss",
        "RESERVED",
        u01=UNLUCKY,
    ),
    Case(
        "health on the floor is healthy",
        account(**cell(0.9, 0.60, under_represented=True)),
        "controller",
        "LIBRARY",
        u01=UNLUCKY,
    ),
    Case("a stale cell like the others", account(**cell(0.9, 0.1)), "controller", "LIBRARY", u01=UNLUCKY),
    Case(
        "a health floor that was tuned",
        account(**cell(0.9, 0.6, under_represented=True)),
        "coverage_miss",
        "RESERVED",
        changes={"coverage.health_floor": 0.61},
    ),
    Case(
        "a miss goes before the session cap",
        account(session_fresh=12, **cell(0.1)),
        "coverage_miss",
        "RESERVED",
        miss=True,
        u01=UNLUCKY,
    ),
    Case(
        "a miss goes before the rollover cap",
        account(600, **cell(0.1)),
        "coverage_miss",
        "RESERVED",
        "spend",
        miss=True,
        u01=UNLUCKY,
    ),
    Case(
        "a miss is served while conserving",
        account(20, **cell(0.1)),
        "coverage_miss",
        "RESERVED",
        "conserve",
        miss=True,
        u01=UNLUCKY,
    ),
    Case("no cell, no rule 5", account(under_represented=True), "controller", "LIBRARY", u01=UNLUCKY),
]

SESSION_CAP = [
    Case("the eleventh fresh one was given", account(session_fresh=11), "controller", "RESERVED", u01=LUCKY),
    Case("the twelfth fresh one was given", account(session_fresh=12), "session_cap", "DEFERRED", u01=LUCKY),
    Case("long past the cap", account(session_fresh=500), "session_cap", "DEFERRED", u01=LUCKY),
    Case(
        "half of the opening balance exactly",
        account(session_fresh=1, session_cost=49, session_opening=100),
        "controller",
        "RESERVED",
        u01=LUCKY,
    ),
    Case(
        "a micro-credit over half of the opening balance",
        account(session_fresh=1, session_cost=49.000001, session_opening=100),
        "session_cap",
        "DEFERRED",
        u01=LUCKY,
    ),
    Case(
        "a batch over half of the opening balance",
        account(session_fresh=4, session_cost=46, session_opening=100, cost=5),
        "session_cap",
        "DEFERRED",
        u01=LUCKY,
    ),
    Case(
        "the session's first request is always within",
        account(60, d=9, cost=60, session_opening=60),
        "controller",
        "RESERVED",
        u01=LUCKY,
    ),
    Case(
        "the first within, the second over",
        account(60, d=9, cost=5, session_cost=1, session_fresh=1, session_opening=10),
        "session_cap",
        "DEFERRED",
        u01=LUCKY,
    ),
    Case(
        "a session that opened with nothing",
        account(50, d=7.5, session_fresh=1, session_cost=1, session_opening=0),
        "session_cap",
        "DEFERRED",
        u01=LUCKY,
    ),
    Case(
        "the session cap goes before the rollover cap",
        account(600, session_fresh=12),
        "session_cap",
        "DEFERRED",
        "spend",
        u01=LUCKY,
    ),
    Case(
        "a count that was tuned",
        account(session_fresh=3),
        "session_cap",
        "DEFERRED",
        u01=LUCKY,
        changes={"session.max_fresh": 3},
    ),
    Case(
        "a share that was tuned",
        account(session_fresh=1, session_cost=25, session_opening=100),
        "session_cap",
        "DEFERRED",
        changes={"session.max_share": 0.25},
    ),
    Case(
        "without a share only the request itself",
        account(session_fresh=1, session_cost=1, session_opening=100),
        "session_cap",
        "DEFERRED",
        changes={"session.max_share": 0.0},
    ),
]

AT_CAP = [
    Case("98 % of three quotas exactly", account(588), "at_cap", "RESERVED", "spend", u01=UNLUCKY),
    Case("a micro-credit under 98 %", account(587.999999), "controller", "LIBRARY", "spend", u01=UNLUCKY),
    Case("the free plan at its cap", account(58.8, Q=20, plan="free"), "at_cap", "RESERVED", "spend", u01=UNLUCKY),
    Case(
        "the premium plan holds four quotas",
        account(2352, Q=600, plan="premium"),
        "at_cap",
        "RESERVED",
        "spend",
        u01=UNLUCKY,
    ),
    Case(
        "the premium plan under its cap",
        account(2351.999999, Q=600, plan="premium"),
        "controller",
        "LIBRARY",
        "spend",
        u01=UNLUCKY,
    ),
    Case(
        "the annual plan holds six quotas",
        account(1176, plan="basic_annual"),
        "at_cap",
        "RESERVED",
        "spend",
        u01=UNLUCKY,
    ),
    Case(
        "the annual plan at three quotas",
        account(600, plan="basic_annual"),
        "controller",
        "LIBRARY",
        "spend",
        u01=UNLUCKY,
    ),
    Case("purchased credits are not at the cap", account(100, all_lots=5_000), "controller", "LIBRARY", u01=UNLUCKY),
    Case(
        "a share that was tuned",
        account(300),
        "at_cap",
        "RESERVED",
        "spend",
        u01=UNLUCKY,
        changes={"coverage.at_cap_share": 0.5},
    ),
    Case(
        "a cap of one quota",
        account(196, d=30),
        "at_cap",
        "RESERVED",
        u01=UNLUCKY,
        changes={"plans.basic.cap_multiple": 1.0},
    ),
]

# Ten credits a day and half a cycle left: N = 150, and a credit is a tenth of a day.
HYSTERESIS = [
    Case("three days behind starts conserving", account(120, Q=300), "controller", "LIBRARY", "conserve"),
    Case("a micro-credit less than three days behind does not", account(120.000001, Q=300), "controller", "RESERVED"),
    Case(
        "conserving goes on over one day behind",
        account(139.999999, Q=300, mode="conserve"),
        "controller",
        "LIBRARY",
        "conserve",
    ),
    Case("conserving ends one day behind", account(140, Q=300, mode="conserve"), "controller", "RESERVED"),
    Case("five days ahead starts spending", account(200, Q=300), "controller", "RESERVED", "spend"),
    Case("a micro-credit less than five days ahead does not", account(199.999999, Q=300), "controller", "RESERVED"),
    Case(
        "spending goes on over two days ahead",
        account(170.000001, Q=300, mode="spend"),
        "controller",
        "RESERVED",
        "spend",
    ),
    Case("spending ends two days ahead", account(170, Q=300, mode="spend"), "controller", "RESERVED"),
    Case("from spending straight to conserving", account(10, Q=300, mode="spend"), "controller", "LIBRARY", "conserve"),
    Case(
        "from conserving straight to spending", account(400, Q=300, mode="conserve"), "controller", "RESERVED", "spend"
    ),
    Case("steady between one and two days", account(165, Q=300), "controller", "RESERVED"),
    Case("conserving on pace ends", account(150, Q=300, mode="conserve"), "controller", "RESERVED"),
    Case(
        "an edge that was tuned",
        account(145, Q=300),
        "controller",
        "LIBRARY",
        "conserve",
        changes={"hysteresis.conserve_enter_days": -0.5, "hysteresis.conserve_leave_days": 0.0},
    ),
    Case(
        "factors that were tuned",
        account(200, Q=300),
        "controller",
        "RESERVED",
        "spend",
        changes={"hysteresis.spend_factor": 1.5},
    ),
]

# p of an account on pace that asked for no cell is 0.5 · 1.2 · 1.0 = 0.6.
LAW = [
    Case("a draw under p is fresh", account(), "controller", "RESERVED", u01=0.599999999),
    Case("a draw over p is library", account(), "controller", "LIBRARY", u01=0.600000001),
    Case(
        "a draw of p itself is library",
        account(),
        "controller",
        "LIBRARY",
        u01=0.55,
        changes={"controller.p_max": 0.55},
    ),
    Case("even the unluckiest draw loses to no p under 1", account(), "controller", "LIBRARY", u01=UNLUCKY),
    Case("one gains by surplus in credits", account(110), "controller", "RESERVED"),
    Case(
        "surplus counted in days",
        account(110),
        "controller",
        "RESERVED",
        changes={"controller.surplus_unit": "days", "controller.k": 0.4},
    ),
    Case(
        "surplus counted in percent of the quota",
        account(90),
        "controller",
        "LIBRARY",
        changes={"controller.surplus_unit": "quota_percent", "controller.k": 0.2},
    ),
    Case(
        "percent of a free quota",
        account(11, Q=20, plan="free"),
        "controller",
        "RESERVED",
        changes={"controller.surplus_unit": "quota_percent", "controller.k": 0.2},
    ),
    Case(
        "days of a premium quota",
        account(320, Q=600, plan="premium"),
        "controller",
        "RESERVED",
        changes={"controller.surplus_unit": "days", "controller.k": 0.2},
    ),
    Case("a steep gain, ahead", account(130), "controller", "RESERVED", u01=0.8, changes={"controller.k": 0.0277259}),
    Case("a steep gain, behind", account(82), "controller", "LIBRARY", changes={"controller.k": 0.0277259}),
    Case("p at zero 0.3", account(), "controller", "LIBRARY", changes={"controller.p_at_zero": 0.3}),
    Case("p at zero 0.8", account(), "controller", "RESERVED", u01=0.95, changes={"controller.p_at_zero": 0.8}),
    Case(
        "p is held from below",
        account(20),
        "controller",
        "LIBRARY",
        "conserve",
        u01=0.0200001,
        changes={"controller.k": 1.0},
    ),
    Case(
        "p at its lowest can still win",
        account(20),
        "controller",
        "RESERVED",
        "conserve",
        u01=0.0199999,
        changes={"controller.k": 1.0},
    ),
    Case(
        "p is held from above", account(180), "controller", "LIBRARY", "spend", u01=0.98, changes={"controller.k": 1.0}
    ),
    Case(
        "p at its highest",
        account(180),
        "controller",
        "RESERVED",
        "spend",
        u01=0.9799999,
        changes={"controller.k": 1.0},
    ),
    Case(
        "p may be held at 0 and 1: certain",
        account(400),
        "controller",
        "RESERVED",
        "spend",
        u01=UNLUCKY,
        changes={"controller.k": 50.0, "controller.p_max": 1.0},
    ),
    Case(
        "p may be held at 0 and 1: hopeless",
        account(10),
        "controller",
        "LIBRARY",
        "conserve",
        u01=LUCKY,
        changes={"controller.k": 50.0, "controller.p_min": 0.0},
    ),
    Case("the cycle's first instant, all there", account(200, d=30), "controller", "RESERVED"),
    Case("the cycle's first instant, with rollover", account(300, d=30), "controller", "RESERVED", "spend"),
    Case("the cycle's last instant", account(5, d=1e-9), "controller", "RESERVED"),
    Case("the cycle's very end", account(5, d=0), "controller", "RESERVED"),
    Case("a cycle across a clock change", account(100, L=31 - 1 / 24, d=14.5), "controller", "RESERVED"),
    Case("a February", account(100, L=28, d=14), "controller", "RESERVED"),
    Case("a quota of one credit", account(1, Q=1, d=30), "controller", "RESERVED"),
    Case("a quota of twenty thousand", account(10_000, Q=20_000), "controller", "RESERVED"),
    Case("more than the quota is as healthy as all of it", account(250, d=30), "controller", "RESERVED", "spend"),
]

# Pace is 20/3 credits a day.
FEED_FORWARD = [
    Case("demand of twice the pace", account(demand_rate=40 / 3), "controller", "RESERVED"),
    Case("demand of three times the pace", account(demand_rate=20.0), "controller", "LIBRARY"),
    Case("demand under the pace is held at p max", account(demand_rate=1.0), "controller", "RESERVED", u01=0.97),
    Case("no demand at all", account(demand_rate=0.0), "controller", "RESERVED", u01=0.97),
    Case("demand beyond any quota is held at p min", account(demand_rate=1e9), "controller", "LIBRARY", u01=0.03),
    Case("demand that is not known falls back on p at zero", account(), "controller", "RESERVED"),
    Case("ahead of pace as well", account(180, demand_rate=40 / 3), "controller", "RESERVED", "spend", u01=0.65),
]

NUDGES = [
    Case("one image given in this session", account(session_images=1), "controller", "RESERVED", u01=0.58),
    Case("twenty images given in this session", account(session_images=20), "controller", "LIBRARY"),
    Case("a thousand images given in this session", account(session_images=1_000), "controller", "LIBRARY", u01=0.4001),
    Case(
        "a freshness that was tuned",
        account(session_images=3),
        "controller",
        "LIBRARY",
        changes={"nudges.freshness_tau": 2.0},
    ),
    Case(
        "a freshness span that was tuned",
        account(session_images=3),
        "controller",
        "RESERVED",
        u01=0.8,
        changes={"nudges.freshness.lo": 1.5, "nudges.freshness.hi": 2.0},
    ),
    Case("a healthy cell", account(**cell(1.0, 1.0)), "controller", "LIBRARY", u01=0.5401),
    Case("a full cell of old assets", account(**cell(1.0, 0.0)), "controller", "RESERVED", u01=0.6599),
    Case("a half-fresh cell", account(**cell(0.8, 0.4)), "controller", "RESERVED", u01=0.61),
    Case("a highly engaged user", account(segment="high_engagement"), "controller", "RESERVED", u01=0.6599),
    Case("a segment that the table does not name", account(segment="new_here"), "controller", "LIBRARY", u01=0.6001),
    Case(
        "a default segment that was tuned",
        account(segment="new_here"),
        "controller",
        "LIBRARY",
        u01=0.5401,
        changes={"nudges.segments.default": 0.9},
    ),
    Case(
        "a segment that was added",
        account(segment="beta"),
        "controller",
        "RESERVED",
        u01=0.7,
        changes={"nudges.segments.beta": 1.3},
    ),
    Case("a user who saves credits", account(conserving=True), "controller", "LIBRARY", u01=0.3001),
    Case(
        "saving credits, as tuned",
        account(conserving=True),
        "controller",
        "RESERVED",
        u01=0.4499,
        changes={"nudges.conservation": 0.75},
    ),
    Case(
        "credit health that was tuned",
        account(50, d=7.5),
        "controller",
        "RESERVED",
        u01=0.62,
        changes={"nudges.credit_health.lo": 1.0, "nudges.credit_health.hi": 1.4},
    ),
    Case(
        "everything at once, behind",
        account(
            41,
            Q=113,
            L=17,
            d=12,
            mode="steady",
            session_images=7,
            segment="high_engagement",
            conserving=True,
            **cell(0.85, 0.7),
        ),
        "controller",
        "LIBRARY",
        "conserve",
    ),
    Case(
        "everything at once, ahead",
        account(222.25, Q=113, L=17, d=3.125, session_images=4, segment="high_engagement", **cell(0.85, 0.35)),
        "controller",
        "RESERVED",
        "spend",
        u01=0.9,
    ),
]


def by(strategy: str, *cases: Case) -> list[Case]:
    return [case._replace(changes={"controller.strategy": strategy, **case.changes}) for case in cases]


# Half of a 30-day cycle is left, and 100 of 200 credits are on pace, unless a row says otherwise.
STRATEGIES = [
    *by(
        "affordable",
        Case(
            "affordable: demand of four times what is left",
            account(50, demand_rate=13.34),
            "controller",
            "RESERVED",
            "conserve",
            u01=0.2498,
        ),
        Case(
            "affordable: not a hair more",
            account(50, demand_rate=13.34),
            "controller",
            "LIBRARY",
            "conserve",
            u01=0.2499,
        ),
        Case(
            "affordable: more is left than will be asked for",
            account(150, demand_rate=4.0),
            "controller",
            "RESERVED",
            "spend",
            u01=0.97,
            changes={"controller.p_max": 1.0},
        ),
        Case(
            "affordable: no demand",
            account(5, d=0.75, demand_rate=0.0),
            "controller",
            "RESERVED",
            u01=0.97,
            changes={"controller.p_max": 1.0},
        ),
        Case(
            "affordable: no time left",
            account(5, d=0, demand_rate=40.0),
            "controller",
            "RESERVED",
            u01=0.97,
            changes={"controller.p_max": 1.0},
        ),
        Case(
            "affordable: unknown demand is taken to be the pace",
            account(60),
            "controller",
            "LIBRARY",
            "conserve",
            u01=0.6001,
        ),
        Case(
            "affordable: gamma over 1 spends faster",
            account(60),
            "controller",
            "RESERVED",
            "conserve",
            u01=0.8999,
            changes={"strategies.affordable_gamma": 1.5},
        ),
        Case(
            "affordable: no nudge unless asked for",
            account(60, conserving=True),
            "controller",
            "RESERVED",
            "conserve",
            u01=0.5999,
        ),
        Case(
            "affordable: nudged and in a mode where asked for",
            account(60, conserving=True),
            "controller",
            "LIBRARY",
            "conserve",
            u01=0.18,
            changes={"strategies.affordable_nudged": True},
        ),
    ),
    *by(
        "reserve",
        Case("reserve: well over the floor", account(60), "controller", "RESERVED", "conserve", u01=UNLUCKY),
        Case(
            "reserve: on the floor after this request", account(31), "controller", "RESERVED", "conserve", u01=UNLUCKY
        ),
        Case(
            "reserve: a micro-credit under the floor",
            account(30.999999),
            "controller",
            "LIBRARY",
            "conserve",
            u01=LUCKY,
        ),
        Case(
            "reserve: the cost of the batch counts",
            account(34.9, cost=5),
            "controller",
            "LIBRARY",
            "conserve",
            u01=LUCKY,
        ),
        Case("reserve: no floor at the very end", account(1, d=0), "controller", "RESERVED", u01=UNLUCKY),
        Case(
            "reserve: a floor that was tuned",
            account(60),
            "controller",
            "LIBRARY",
            "conserve",
            u01=LUCKY,
            changes={"strategies.reserve_rho": 0.6},
        ),
        Case(
            "reserve: coverage still goes first",
            account(10, **cell(0.0)),
            "coverage_miss",
            "RESERVED",
            "conserve",
            miss=True,
            u01=UNLUCKY,
        ),
    ),
    # 0.4·surplus + 0.3·freshness + 0.2·credit health + 0.1·library need
    *by(
        "weighted",
        Case("weighted: on pace, no cell", account(), "controller", "RESERVED", u01=0.5999),
        Case("weighted: and not a hair more", account(), "controller", "LIBRARY", u01=0.6001),
        Case(
            "weighted: a full cell of old assets adds a tenth",
            account(**cell(1.0, 0.0)),
            "controller",
            "RESERVED",
            u01=0.6999,
        ),
        Case(
            "weighted: surplus counts to one quota ahead",
            account(350, d=15),
            "controller",
            "RESERVED",
            "spend",
            u01=0.8999,
        ),
        Case(
            "weighted: a quota behind counts as nothing",
            account(2, d=30),
            "controller",
            "LIBRARY",
            "conserve",
            u01=0.31,
        ),
        Case("weighted: twenty images later", account(session_images=20), "controller", "LIBRARY", u01=0.42),
        Case(
            "weighted: the preset 35/35/20/10",
            account(180, **cell(0.75, 0.6)),
            "controller",
            "RESERVED",
            "spend",
            u01=0.81,
            changes={"strategies.weight_surplus": 35.0, "strategies.weight_freshness": 35.0},
        ),
    ),
    *by(
        "zones",
        Case("zones: over half of the quota", account(100.000001), "controller", "RESERVED", u01=UNLUCKY),
        Case("zones: half of the quota is yellow", account(100), "controller", "LIBRARY"),
        Case("zones: yellow, luckily", account(100), "controller", "RESERVED", u01=0.4999),
        Case("zones: a fifth of the quota is yellow", account(40), "controller", "RESERVED", "conserve", u01=0.4999),
        Case("zones: under a fifth is red", account(39.999999), "controller", "LIBRARY", "conserve", u01=0.1001),
        Case("zones: red, luckily", account(2), "controller", "RESERVED", "conserve", u01=0.0999),
        Case(
            "zones that were tuned",
            account(100),
            "controller",
            "RESERVED",
            u01=0.85,
            changes={"strategies.zone_green": 0.6, "strategies.zone_p_yellow": 0.9},
        ),
    ),
    *by(
        "headroom",
        # Q 200, L 30, d 15: on pace 100, so ρ keeps 10; the room is at most 14.
        Case(
            "headroom: over the floor of pace and of room",
            account(15),
            "controller",
            "RESERVED",
            "conserve",
            u01=UNLUCKY,
        ),
        Case("headroom: room for two of the largest", account(10.9), "controller", "LIBRARY", "conserve", u01=LUCKY),
        Case(
            "headroom: the largest so far counts",
            account(12.9, largest_uc=6_000_000),
            "controller",
            "LIBRARY",
            "conserve",
            u01=LUCKY,
        ),
        Case(
            "headroom: no more than its share of the quota",
            account(15, largest_uc=60_000_000),
            "controller",
            "RESERVED",
            "conserve",
            u01=UNLUCKY,
        ),
        Case(
            "headroom: given up near the end",
            account(2, d=3, largest_uc=60_000_000),
            "controller",
            "LIBRARY",
            u01=LUCKY,
        ),
        Case(
            "headroom: so that a little more is spent",
            account(3.1, d=3, largest_uc=60_000_000),
            "controller",
            "RESERVED",
            u01=UNLUCKY,
        ),
    ),
    *by(
        "novelty",
        Case(
            "novelty: a cell that is new in the session",
            account(cell_new=True, **cell(0.9)),
            "controller",
            "RESERVED",
            u01=UNLUCKY,
        ),
        Case("novelty: a cell that was asked before", account(**cell(0.9)), "controller", "LIBRARY", u01=LUCKY),
    ),
    *by(
        "thompson",
        Case("thompson: fresh is likely the better arm", account(arm_p=0.8), "controller", "RESERVED", u01=0.7999),
        Case("thompson: but not surely", account(arm_p=0.8), "controller", "LIBRARY", u01=0.8),
        Case("thompson: without rewards both are alike", account(), "controller", "RESERVED", u01=0.4999),
    ),
]

# The fresh half of a request that rule 6 put off passes rules 1 to 4 again, and nothing else (SPEC 2.1).
PUT_OFF = [
    Case("put off, blocked meanwhile", account(deferred=True, blocked=True), "blocked", "REJECTED"),
    Case("put off, paused meanwhile", account(deferred=True, paused=True), "paused", "REJECTED"),
    Case("put off, too many requests", account(deferred=True, retry_after_s=1), "rate_limited", "RATE_LIMITED"),
    Case("put off, unaffordable meanwhile", account(0, d=0, deferred=True), "unaffordable", "REJECTED"),
    Case("put off, run now", account(deferred=True), "deferred", "RESERVED", u01=UNLUCKY),
    Case(
        "put off, in a session long past its cap",
        account(deferred=True, session_fresh=90),
        "deferred",
        "RESERVED",
        u01=UNLUCKY,
    ),
    Case("put off, a miss", account(deferred=True, **cell(0.1)), "deferred", "RESERVED", miss=True, u01=UNLUCKY),
    Case("put off, at the cap", account(600, deferred=True), "deferred", "RESERVED", "spend", u01=UNLUCKY),
]

TABLE = [*FORBIDDEN, *UNAFFORDABLE, *COVERAGE, *SESSION_CAP, *AT_CAP, *HYSTERESIS, *LAW, *NUDGES, *STRATEGIES, *PUT_OFF]
TABLE += [case._replace(changes={"controller.intercept": "feed_forward", **case.changes}) for case in FEED_FORWARD]


def test_the_table_is_as_large_as_it_should_be() -> None:
    assert len(TABLE) >= 60 + 7
    assert len({(case.state, case.u01, str(case.changes)) for case in TABLE}) == len(TABLE), "a row is written twice"
    for rule in (
        "blocked",
        "rate_limited",
        "paused",
        "unaffordable",
        "coverage_miss",
        "session_cap",
        "at_cap",
        "controller",
    ):
        assert sum(case.rule == rule for case in TABLE) >= 2


@pytest.mark.parametrize("case", TABLE, ids=lambda case: case.title)
def test_the_decision_is_the_one_a_reader_expects(case: Case) -> None:
    decision = decide(case.state, REQUEST, with_changes(case.changes), case.u01)
    assert (decision.rule, decision.status, decision.mode, decision.miss) == (
        case.rule,
        case.status,
        case.mode,
        case.miss,
    )


@pytest.mark.parametrize("case", TABLE, ids=lambda case: case.title)
def test_the_decision_agrees_with_the_second_writing(case: Case) -> None:
    config = with_changes(case.changes)
    said = formulas.judge(case.state, config.body(), case.u01)
    assert_agrees(decide(case.state, REQUEST, config, case.u01), said, case.state, config)


# ------------------------------------------------------------------------ boundaries that floats can step over


@pytest.mark.parametrize(
    ("share", "opening", "spent"),
    [(0.29, 100, 28), (0.35, 180, 62), (0.41, 300, 122), (0.5, 200, 99), (0.1, 30, 2), (0.7, 10, 6)],
)
def test_a_session_may_spend_exactly_its_share_whatever_the_share(share: float, opening: int, spent: int) -> None:
    state = account(opening - spent, session_fresh=1, session_cost=spent, session_opening=opening)
    config = with_changes({"session.max_share": share})
    assert formulas.judge(state, config.body(), LUCKY).rule == "controller"
    assert decide(state, REQUEST, config, LUCKY).rule == "controller"


@pytest.mark.parametrize(
    ("Q", "multiple", "share", "A"),
    [(7, 3.0, 0.9, 18.9), (7, 1.5, 0.9, 9.45), (7, 6.0, 0.9, 37.8), (200, 3.0, 0.98, 588), (20, 3.0, 0.98, 58.8)],
)
def test_an_account_is_at_its_cap_from_the_exact_share_on(Q: int, multiple: float, share: float, A: float) -> None:
    state = account(A, Q=Q)
    config = with_changes({"plans.basic.cap_multiple": multiple, "coverage.at_cap_share": share})
    assert formulas.judge(state, config.body(), UNLUCKY).rule == "at_cap"
    assert decide(state, REQUEST, config, UNLUCKY).rule == "at_cap"


@pytest.mark.parametrize(
    ("A", "Q", "L", "d", "before", "after"),
    [
        (10, 20, 30, 10, "steady", "spend"),
        (20, 20, 29, 24, "steady", "spend"),
        (10, 20, 28, 17, "steady", "conserve"),
        (5, 20, 28, 8, "conserve", "steady"),
        (10, 20, 30, 13, "spend", "steady"),
    ],
)
def test_a_whole_number_of_surplus_days_on_an_edge_changes_the_mode(
    A: int, Q: int, L: int, d: int, before: str, after: str
) -> None:
    state = account(A, Q=Q, L=L, d=d, plan="free", mode=before)
    said = formulas.judge(state, SHIPPED.body(), 0.5)
    assert said.surplus_days in (-3, -1, 2, 5)
    assert said.mode == after
    assert decide(state, REQUEST, SHIPPED, 0.5).mode == after


@pytest.mark.parametrize(
    ("Q", "L", "d", "rho", "A"),
    [
        (20, 30, 1, 0.3, 1.2),
        (20, 30, 14, 0.3, 3.8),
        (20, 30, 3, 0.1, 1.2),
        (20, 30, 6, 0.1, 1.4),
        (200, 30, 15, 0.3, 31),
    ],
)
def test_reserve_gives_a_fresh_one_that_ends_exactly_on_the_floor(Q: int, L: int, d: int, rho: float, A: float) -> None:
    state = account(A, Q=Q, L=L, d=d)
    config = with_changes({"controller.strategy": "reserve", "strategies.reserve_rho": rho})
    assert formulas.judge(state, config.body(), 0.5).outcome == "fresh"
    assert decide(state, REQUEST, config, 0.5).outcome == "fresh"


@pytest.mark.parametrize("demand", [0.0, 1.0])
def test_feed_forward_with_p_held_at_0_and_1_still_decides(demand: float) -> None:
    changes = {"controller.intercept": "feed_forward", "controller.p_min": 0.0, "controller.p_max": 1.0}
    state = account(demand_rate=demand)
    config = with_changes(changes)
    said = formulas.judge(state, config.body(), 0.99)
    assert said.p0 == 1, "the quota affords all of the demand"
    assert_agrees(decide(state, REQUEST, config, 0.99), said, state, config)


def test_affordable_is_held_between_p_min_and_p_max_too() -> None:
    # SPEC 4 gives its p0; p = clip(p0, p_min, p_max) holds whatever p0 came from.
    config = with_changes({"controller.strategy": "affordable"})
    dry, rich = account(1, demand_rate=100.0), account(190, demand_rate=1.0)
    assert decide(dry, REQUEST, config, 0.5).p == 0.02
    assert decide(rich, REQUEST, config, 0.5).p == 0.98


# ------------------------------------------------------------------------------------------- random states, configs

#: Every strategy; half of the time the one that most of SPEC 4 is about.
BASES = [*formulas.BASES, *["logistic"] * 6]
SHARE = st.integers(0, 100).map(lambda n: n / 100)
QUOTAS_UC = st.one_of(st.sampled_from([20, 113, 200, 600]).map(lambda q: q * 10**6), st.integers(10**6, 2_000 * 10**6))


def spans(low: float, high: float) -> st.SearchStrategy[tuple[float, float]]:
    return st.tuples(st.floats(low, high), st.floats(low, high)).map(lambda ends: (min(ends), max(ends)))


@st.composite
def changes(draw: st.DrawFn) -> dict[str, Any]:
    """Any configuration that validates, with gains under which float noise stays under 1e-12."""
    out: dict[str, Any] = {
        "controller.k": draw(st.floats(1e-4, 0.3)),
        "controller.surplus_unit": draw(st.sampled_from(["credits", "days", "quota_percent"])),
        "controller.p_at_zero": draw(st.floats(0.01, 0.99)),
        "controller.intercept": draw(st.sampled_from(["fixed", "feed_forward"])),
        "controller.p_min": draw(st.floats(0.001, 0.4)),
        "controller.p_max": draw(st.floats(0.5, 0.999)),
        "nudges.freshness_tau": draw(st.floats(0.5, 100)),
        "nudges.conservation": draw(SHARE),
        "nudges.segments.high_engagement": draw(st.floats(0.5, 2)),
        "session.max_fresh": draw(st.integers(1, 20)),
        "session.max_share": draw(SHARE),
        "coverage.health_floor": draw(SHARE),
        "coverage.at_cap_share": draw(SHARE.filter(bool)),
        "routing.threshold": draw(SHARE),
        "hysteresis.conserve_factor": draw(SHARE),
        "hysteresis.spend_factor": draw(st.floats(1, 2)),
        "plans.basic.coverage_threshold": draw(SHARE),
        "plans.basic.cap_multiple": draw(st.floats(1, 6)),
    }
    for name in ("freshness", "credit_health", "library"):
        out[f"nudges.{name}.lo"], out[f"nudges.{name}.hi"] = draw(spans(0.5, 1.5))
    enter, leave, stop, start = sorted(
        draw(st.lists(st.integers(-20, 0), min_size=2, max_size=2, unique=True))
    ) + sorted(draw(st.lists(st.integers(1, 20), min_size=2, max_size=2, unique=True)))
    out |= {"hysteresis.conserve_enter_days": enter, "hysteresis.conserve_leave_days": leave}
    out |= {"hysteresis.spend_leave_days": stop, "hysteresis.spend_enter_days": start}
    strategy, nudged = draw(st.sampled_from(BASES)), draw(st.booleans())
    out |= {
        "controller.strategy": strategy,
        "strategies.affordable_nudged": nudged,
        "strategies.affordable_gamma": draw(st.floats(0.1, 3)),
        "strategies.reserve_rho": draw(SHARE),
        "strategies.headroom_rho": draw(SHARE),
        "strategies.headroom_requests": draw(st.integers(0, 5)),
        "strategies.headroom_most": draw(SHARE),
        "strategies.headroom_until": draw(SHARE),
        "strategies.weight_surplus": draw(st.integers(1, 100)),
        "strategies.weight_freshness": draw(st.integers(0, 100)),
        "strategies.weight_credit": draw(st.integers(0, 100)),
        "strategies.weight_library": draw(st.integers(0, 100)),
    }
    out["strategies.zone_red"], out["strategies.zone_green"] = sorted((draw(SHARE), draw(SHARE)))
    out["strategies.zone_p_red"], out["strategies.zone_p_yellow"] = sorted((draw(SHARE), draw(SHARE)))
    if strategy == "affordable" and not nudged:
        out |= {"controller.p_min": 0.0, "controller.p_max": 1.0}  # where they stand, see the test above
    return draw(st.sampled_from([out, {}]))


@st.composite
def states(draw: st.DrawFn) -> State:
    quota_uc = draw(QUOTAS_UC)
    length = draw(st.floats(17, 31.05))
    paced_uc = draw(st.one_of(st.integers(0, quota_uc), st.integers(0, 7 * quota_uc)))
    has_cell = draw(st.booleans())
    return State(
        plan=draw(st.sampled_from(["free", "basic", "premium", "basic_annual"])),
        available_uc=paced_uc + draw(st.sampled_from([0, 10**6, 50 * 10**6])),
        paced_uc=paced_uc,
        quota_uc=quota_uc,
        cycle_days=length,
        days_left=draw(st.floats(0, 1)) * length,
        mode=draw(st.sampled_from(["conserve", "steady", "spend"])),
        demand_rate=draw(st.one_of(st.none(), st.floats(0, 1_000))),
        session_images=draw(st.integers(0, 60)),
        session_fresh=draw(st.integers(0, 13)),
        session_fresh_uc=draw(st.integers(0, 13)) * 10**6,
        session_opening_uc=draw(st.integers(0, 3 * quota_uc)),
        segment=draw(st.sampled_from([None, "default", "high_engagement", "unheard_of"])),
        conserving=draw(st.booleans()),
        coverage=draw(SHARE) if has_cell else None,
        health=draw(SHARE) if has_cell else None,
        under_represented=draw(st.booleans()),
        cost_uc=draw(st.integers(1, 8)) * 10**6,
        blocked=draw(st.sampled_from([False] * 19 + [True])),
        retry_after_s=draw(st.sampled_from([0.0] * 19 + [1.5])),
        paused=draw(st.sampled_from([False] * 19 + [True])),
        cell_new=draw(st.booleans()),
        arm_p=draw(st.one_of(st.none(), st.floats(0, 1))),
        largest_uc=draw(st.integers(0, 20)) * 10**6,
        deferred=draw(st.sampled_from([False] * 9 + [True])),
    )


@settings(max_examples=300, deadline=None)
@given(state=states(), changed=changes(), u01=st.floats(0, 1, exclude_max=True))
def test_any_decision_agrees_with_the_second_writing(state: State, changed: dict[str, Any], u01: float) -> None:
    config = with_changes(changed)
    said = formulas.judge(state, config.body(), u01)
    assume(said.margin > 1e-9)
    assert_agrees(decide(state, REQUEST, config, u01), said, state, config)


@settings(max_examples=100, deadline=None)
@given(state=states(), changed=changes(), more_uc=st.integers(1, 500 * 10**6))
def test_more_credits_never_lower_p(state: State, changed: dict[str, Any], more_uc: int) -> None:
    assume(not (state.blocked or state.retry_after_s or state.paused))
    config = with_changes(changed)
    richer = state._replace(paced_uc=state.paced_uc + more_uc, available_uc=state.available_uc + more_uc)
    poor, rich = decide(state, REQUEST, config, 0.5), decide(richer, REQUEST, config, 0.5)
    assert poor.p is not None
    assert rich.p is not None
    assert rich.p >= poor.p - TOLERANCE


@settings(max_examples=100, deadline=None)
@given(state=states(), changed=changes(), u01=st.floats(0, 1, exclude_max=True))
def test_a_decision_can_be_computed_again_from_what_it_logged(
    state: State, changed: dict[str, Any], u01: float
) -> None:
    config = with_changes(changed)
    decision = decide(state, REQUEST, config, u01)
    assert decide(decision.state, REQUEST, config, decision.u01) == decision
