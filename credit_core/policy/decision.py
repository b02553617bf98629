"""One decision: the first rule of SPEC 4 that applies ends it. Pure, and recomputable from what it logs.

:func:`evaluate` is the law itself, over numbers alone, so that the laboratory can compile it; :func:`decide` is the same
in the product's words.
"""

from __future__ import annotations

import hashlib
import struct
from datetime import datetime
from typing import NamedTuple

from credit_core import units
from credit_core.policy import controller, guardrails, strategies, surplus
from credit_core.policy.config import Config
from credit_core.policy.controller import MODES
from credit_core.policy.guardrails import RULES
from credit_core.policy.strategies import STRATEGIES

FRESH, LIBRARY = "fresh", "library"


class Request(NamedTuple):
    """What a caller asks for; ``user_id`` None is a guest, known by the session. Text is hashed, never stored."""

    user_id: str | None
    request_id: str
    session_id: str
    genre: str | None = None
    mood: str | None = None
    modality: str = "image"
    model: str | None = None
    images: int = 1
    ip: str | None = None
    text: str | None = None


class Law(NamedTuple):
    """Every number of a configuration that a decision of one plan needs."""

    k: float
    unit: int
    p_at_zero: float
    feed_forward: bool
    tau0_days: float
    p_min: float
    p_max: float
    freshness_lo: float
    freshness_hi: float
    freshness_tau: float
    credit_lo: float
    credit_hi: float
    library_lo: float
    library_hi: float
    conservation: float
    conserve_enter: float
    conserve_leave: float
    conserve_factor: float
    spend_enter: float
    spend_leave: float
    spend_factor: float
    max_fresh: int
    max_share: float
    health_floor: float
    at_cap_share: float
    threshold: float
    cap_multiple: float
    strategy: int = strategies.LOGISTIC
    nudged: bool = True
    gamma: float = 1.0
    rho: float = 0.3
    w_surplus: float = 40.0
    w_freshness: float = 30.0
    w_credit: float = 20.0
    w_library: float = 10.0
    zone_green: float = 0.5
    zone_red: float = 0.2
    zone_p_yellow: float = 0.5
    zone_p_red: float = 0.1
    headroom_rho: float = 0.1
    headroom_requests: float = 2.0
    headroom_most: float = 0.07
    headroom_until: float = 0.12


class Inputs(NamedTuple):
    """The state of one request as numbers: credits, days, shares. ``coverage`` < 0 means that no cell was named."""

    blocked: bool
    rate_limited: bool
    paused: bool
    available: float
    balance: float
    quota: float
    cycle_days: float
    days_left: float
    demand: float
    session_images: float
    session_fresh: int
    session_fresh_cost: float
    session_opening: float
    mode: int
    segment_factor: float
    conserving: bool
    coverage: float
    health: float
    under_represented: bool
    cost: float
    cell_new: bool = False
    arm_p: float = 0.5
    deferred: bool = False
    largest: float = 0.0


class Verdict(NamedTuple):
    """What :func:`evaluate` found. For rules 1 to 3 only ``rule`` is meaningful."""

    rule: int
    miss: bool
    fresh: bool
    mode: int
    surplus: float
    surplus_days: float
    p0: float
    freshness: float
    credit_health: float
    library: float
    segment: float
    conservation: float
    mode_factor: float
    p: float


class Nudges(NamedTuple):
    """The factors multiplied onto p0, in the order of SPEC 4."""

    freshness: float
    credit_health: float
    library: float
    segment: float
    conservation: float
    mode: float


class Allowance(NamedTuple):
    """A count that limits generations (SPEC 3). ``name``: day, month, free, session or ip."""

    name: str
    limit: int
    used: int
    resets_at: datetime


class State(NamedTuple):
    """What is known of the account, session, cell and user at the request's instant."""

    plan: str
    available_uc: int
    paced_uc: int
    quota_uc: int
    cycle_days: float
    days_left: float
    mode: str = "steady"
    demand_rate: float | None = None
    session_images: int = 0
    session_fresh: int = 0
    session_fresh_uc: int = 0
    session_opening_uc: int = 0
    segment: str | None = None
    conserving: bool = False
    coverage: float | None = None
    health: float | None = None
    under_represented: bool = False
    cost_uc: int = units.MICRO
    blocked: bool = False
    retry_after_s: float = 0.0
    paused: bool = False
    cell_new: bool = False
    arm_p: float | None = None
    largest_uc: int = 0
    deferred: bool = False
    policy: str = "titrated_monthly"
    allowance: Allowance | None = None
    affordable_model: str | None = None


class Decision(NamedTuple):
    """The answer to one request, with everything that :func:`decide` saw, so that it can be computed again.

    ``status``: REJECTED, RATE_LIMITED, LIBRARY, DEFERRED or RESERVED. ``outcome``: fresh, library or None. ``user_id`` is
    the guest's own where the request named no user; settle and release take it. What the controller works out is None where
    it was not asked.
    """

    status: str
    outcome: str | None
    rule: str
    miss: bool
    forced: bool
    mode: str
    surplus: float | None
    surplus_days: float | None
    p0: float | None
    nudges: Nudges | None
    p: float | None
    u01: float
    amount_uc: int
    model: str | None
    retry_after_s: float | None
    strategy: str | None
    threshold: float | None
    state: State
    config_version: int | None = None
    arm: str | None = None
    user_id: str | None = None
    request_id: str | None = None
    at: datetime | None = None
    replayed: bool = False
    images: int = 1

    @property
    def fresh(self) -> bool:
        """True where a fresh generation was reserved."""
        return self.status == "RESERVED"

    @property
    def remaining(self) -> int | None:
        """Generations left until ``state.allowance`` resets; None where nothing is counted."""
        limit = self.state.allowance
        return None if limit is None else max(limit.limit - limit.used - (self.images if self.fresh else 0), 0)

    @property
    def http_status(self) -> int:
        """How a web face would answer: 402 unaffordable, 403 blocked or paused, 429 over a limit, else 200."""
        if self.status == "RATE_LIMITED":
            return 429
        if self.status == "REJECTED":
            return 402 if self.rule == "unaffordable" else 403
        return 200


def law_for(config: Config, plan: str) -> Law:
    """The numbers of ``config`` for ``plan``."""
    c, n, h, s = config.controller, config.nudges, config.hysteresis, config.strategies
    tuning = config.plan(plan)
    return Law(
        k=c.k,
        unit=controller.SURPLUS_UNITS.index(c.surplus_unit),
        p_at_zero=c.p_at_zero,
        feed_forward=c.intercept == "feed_forward",
        tau0_days=c.tau0_days,
        p_min=c.p_min,
        p_max=c.p_max,
        freshness_lo=n.freshness.lo,
        freshness_hi=n.freshness.hi,
        freshness_tau=n.freshness_tau,
        credit_lo=n.credit_health.lo,
        credit_hi=n.credit_health.hi,
        library_lo=n.library.lo,
        library_hi=n.library.hi,
        conservation=n.conservation,
        conserve_enter=h.conserve_enter_days,
        conserve_leave=h.conserve_leave_days,
        conserve_factor=h.conserve_factor,
        spend_enter=h.spend_enter_days,
        spend_leave=h.spend_leave_days,
        spend_factor=h.spend_factor,
        max_fresh=config.session.max_fresh,
        max_share=config.session.max_share,
        health_floor=config.coverage.health_floor,
        at_cap_share=config.coverage.at_cap_share,
        threshold=tuning.coverage_threshold,
        cap_multiple=tuning.cap_multiple,
        strategy=STRATEGIES.index(c.strategy),
        nudged=c.strategy == "logistic" or (c.strategy == "affordable" and s.affordable_nudged),
        gamma=s.affordable_gamma,
        rho=s.reserve_rho,
        w_surplus=s.weight_surplus,
        w_freshness=s.weight_freshness,
        w_credit=s.weight_credit,
        w_library=s.weight_library,
        zone_green=s.zone_green,
        zone_red=s.zone_red,
        zone_p_yellow=s.zone_p_yellow,
        zone_p_red=s.zone_p_red,
        headroom_rho=s.headroom_rho,
        headroom_requests=s.headroom_requests,
        headroom_most=s.headroom_most,
        headroom_until=s.headroom_until,
    )


def evaluate(law: Law, x: Inputs, u01: float) -> Verdict:
    """Apply rules 1 to 8 in order. Scalars in, scalars out."""
    if x.blocked or x.rate_limited or x.paused:
        rule = guardrails.BLOCKED if x.blocked else guardrails.RATE_LIMITED if x.rate_limited else guardrails.PAUSED
        return Verdict(rule, False, False, x.mode, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0)
    ahead = surplus.surplus(x.balance, x.quota, x.cycle_days, x.days_left)
    # Without a quota there is no pace: what the balance covers is fresh, by rule 7 at the latest.
    paced = x.quota > 0.0
    days = surplus.surplus_days(ahead, x.quota, x.cycle_days) if paced else 0.0
    mode = controller.next_mode(x.mode, days, law.conserve_enter, law.conserve_leave, law.spend_enter, law.spend_leave)
    fading = controller.freshness(x.session_images, law.freshness_tau)
    level = min(x.balance / x.quota, 1.0) if paced else 1.0
    has_cell = x.coverage >= 0.0
    p0 = _base(law, x, ahead, fading, level) if paced else 1.0
    freshness = credit = library = segment = conservation = mode_factor = 1.0
    if law.nudged:
        freshness = controller.nudge(law.freshness_lo, law.freshness_hi, fading)
        credit = controller.nudge(law.credit_lo, law.credit_hi, level)
        library = controller.nudge(law.library_lo, law.library_hi, 1.0 - x.health) if has_cell else 1.0
        segment = x.segment_factor
        conservation = law.conservation if x.conserving else 1.0
        if mode == controller.CONSERVE:
            mode_factor = law.conserve_factor
        elif mode == controller.SPEND:
            mode_factor = law.spend_factor
    p = p0 * freshness * credit * library * segment * conservation * mode_factor
    # Of the other strategies SPEC 4 gives p itself: a floor or a zone means its 1 and 0.
    if law.nudged or law.strategy == strategies.AFFORDABLE:
        p = controller.clip(p, law.p_min, law.p_max)
    miss = has_cell and x.coverage < law.threshold
    if x.cost > x.available:
        rule, fresh = guardrails.UNAFFORDABLE, False
    elif x.deferred:
        rule, fresh = guardrails.DEFERRED, True
    elif miss or (has_cell and x.under_represented and x.health < law.health_floor):
        rule, fresh = guardrails.COVERAGE_MISS, True
    elif guardrails.over_session_cap(
        x.session_fresh, x.session_fresh_cost, x.cost, x.session_opening, law.max_fresh, law.max_share
    ):
        rule, fresh = guardrails.SESSION_CAP, False
    elif guardrails.at_cap(x.balance, law.cap_multiple * x.quota, law.at_cap_share):
        rule, fresh = guardrails.AT_CAP, True
    else:
        rule, fresh = guardrails.CONTROLLER, u01 < p
    return Verdict(
        rule, miss, fresh, mode, ahead, days, p0, freshness, credit, library, segment, conservation, mode_factor, p
    )


def _base(law: Law, x: Inputs, ahead: float, fading: float, level: float) -> float:
    """p0 by the law's strategy."""
    if law.strategy == strategies.AFFORDABLE:
        # Without a measured demand the quota's own pace is the best guess.
        rate = x.demand if x.demand >= 0.0 else x.quota / x.cycle_days
        return strategies.affordable(law.gamma, x.balance, rate, x.days_left)
    if law.strategy == strategies.RESERVE:
        return strategies.reserve(law.rho, x.balance, x.cost, surplus.on_pace(x.quota, x.cycle_days, x.days_left))
    if law.strategy == strategies.HEADROOM:
        return strategies.headroom(
            law.headroom_rho, law.headroom_requests, law.headroom_most, law.headroom_until,
            x.balance, x.cost, surplus.on_pace(x.quota, x.cycle_days, x.days_left), x.quota, max(x.largest, x.cost),
            x.days_left / x.cycle_days,
        )  # fmt: skip
    if law.strategy == strategies.WEIGHTED:
        need = 1.0 - x.health if x.coverage >= 0.0 else 0.0
        return strategies.weighted(
            law.w_surplus, law.w_freshness, law.w_credit, law.w_library, ahead, x.quota, fading, level, need
        )
    if law.strategy == strategies.ZONES:
        return strategies.zones(x.balance, x.quota, law.zone_green, law.zone_red, law.zone_p_yellow, law.zone_p_red)
    if law.strategy == strategies.NOVELTY:
        return 1.0 if x.cell_new else 0.0
    if law.strategy == strategies.THOMPSON:
        return x.arm_p
    if law.feed_forward and x.demand >= 0.0:
        intercept = controller.feed_forward(x.quota, x.cycle_days, x.demand, law.p_min, law.p_max)
    else:
        intercept = controller.logit(law.p_at_zero)
    return controller.base_probability(law.k, ahead, controller.unit_size(law.unit, x.quota, x.cycle_days), intercept)


def inputs_of(state: State, config: Config) -> Inputs:
    """``state`` as the numbers that :func:`evaluate` takes."""
    segments = config.nudges.segments
    return Inputs(
        blocked=state.blocked,
        rate_limited=state.retry_after_s > 0.0,
        paused=state.paused,
        available=units.uc_to_credits(state.available_uc),
        balance=units.uc_to_credits(state.paced_uc),
        quota=units.uc_to_credits(state.quota_uc),
        cycle_days=state.cycle_days,
        days_left=state.days_left,
        demand=-1.0 if state.demand_rate is None else state.demand_rate,
        session_images=float(state.session_images),
        session_fresh=state.session_fresh,
        session_fresh_cost=units.uc_to_credits(state.session_fresh_uc),
        session_opening=units.uc_to_credits(state.session_opening_uc),
        mode=MODES.index(state.mode),
        segment_factor=segments.get(state.segment or "default", segments["default"]),
        conserving=state.conserving,
        coverage=-1.0 if state.coverage is None else state.coverage,
        health=0.0 if state.health is None else state.health,
        under_represented=state.under_represented,
        cost=units.uc_to_credits(state.cost_uc),
        cell_new=state.cell_new,
        arm_p=0.5 if state.arm_p is None else state.arm_p,
        deferred=state.deferred,
        largest=units.uc_to_credits(state.largest_uc),
    )


def decide(state: State, request: Request, config: Config, u01: float, law: Law | None = None) -> Decision:
    """Decide one request of a ``titrated_monthly`` account (SPEC 4). ``law``, where given, is ``law_for(config, state.plan)``."""
    law = law or law_for(config, state.plan)
    verdict = evaluate(law, inputs_of(state, config), u01)
    judged = verdict.rule > guardrails.PAUSED
    if not judged:
        status, outcome = ("RATE_LIMITED" if verdict.rule == guardrails.RATE_LIMITED else "REJECTED"), None
    elif verdict.fresh:
        status, outcome = "RESERVED", FRESH
    elif state.deferred:
        status, outcome = "REJECTED", None
    else:
        status, outcome = ("DEFERRED" if verdict.rule == guardrails.SESSION_CAP else "LIBRARY"), LIBRARY
    routed = config.routing.premium_model if verdict.p > config.routing.threshold else config.routing.economy_model
    return Decision(
        status=status,
        outcome=outcome,
        rule=RULES[verdict.rule],
        miss=verdict.miss,
        forced=guardrails.UNAFFORDABLE <= verdict.rule <= guardrails.AT_CAP,
        mode=MODES[verdict.mode],
        surplus=verdict.surplus if judged else None,
        surplus_days=verdict.surplus_days if judged else None,
        p0=verdict.p0 if judged else None,
        nudges=Nudges(*verdict[7:13]) if judged else None,
        p=verdict.p if judged else None,
        u01=u01,
        amount_uc=state.cost_uc if status == "RESERVED" else 0,
        model=(request.model or routed) if status == "RESERVED" else None,
        retry_after_s=state.retry_after_s if verdict.rule == guardrails.RATE_LIMITED else None,
        strategy=config.controller.strategy,
        threshold=law.threshold,
        state=state,
        images=request.images,
    )


def draw(salt: bytes, user_id: str, request_id: str) -> float:
    """u01 in [0, 1): keyed BLAKE2b-64 over both ids, each as 4-byte big-endian length + UTF-8; >> 11, / 2^53 (SPEC 4)."""
    digest = hashlib.blake2b(digest_size=8, key=salt)
    for part in (user_id.encode(), request_id.encode()):
        digest.update(struct.pack(">I", len(part)))
        digest.update(part)
    return float((int.from_bytes(digest.digest(), "big") >> 11) / 2**53)
