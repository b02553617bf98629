"""One generation: authorize decides and reserves, settle or release ends it; each is one transaction (SPEC 2.1)."""

from __future__ import annotations

import hashlib
import hmac
import struct
import time
from datetime import datetime, timedelta

from credit_core import units
from credit_core.errors import InvalidRequest, RequestMismatch
from credit_core.policy import controller, limits, plans
from credit_core.policy.decision import Decision, Request, State, decide, draw
from credit_core.policy.lots import allocate
from credit_core.service import cycles
from credit_core.service.deployment import Deployment, Live
from credit_core.store import decisions, demand, library
from credit_core.store.records import Account, User, opening_leg
from credit_core.store.unit import Delta, Row, Unit

MODALITIES = ("text", "image", "video")
#: Cells of a running session that are remembered; older ones count as new again.
SESSION_CELLS = 64
#: A deferred request that nobody could serve by then is dropped.
DEFERRAL_LIFETIME = timedelta(hours=24)
JUDGED = frozenset({"unaffordable", "coverage_miss", "session_cap", "at_cap", "controller"})


def checked(request: Request) -> Request:
    """``request`` trimmed and within bounds, else :class:`InvalidRequest`."""
    if request.modality not in MODALITIES:
        raise InvalidRequest(f"modality must be one of {', '.join(MODALITIES)}, got {request.modality!r}.")
    if isinstance(request.images, bool) or not isinstance(request.images, int):
        raise InvalidRequest(f"images must be a whole number, got {request.images!r}.")
    if (request.genre is None) != (request.mood is None):
        raise InvalidRequest("genre and mood name a library cell together. Give both or neither.")
    return request._replace(
        user_id=units.checked_id(request.user_id, "user_id"),
        request_id=units.checked_id(request.request_id, "request_id"),
        session_id=units.checked_id(request.session_id, "session_id"),
        genre=None if request.genre is None else units.checked_id(request.genre, "genre"),
        mood=None if request.mood is None else units.checked_id(request.mood, "mood"),
        model=None if request.model is None else units.checked_id(request.model, "model"),
        text=None if request.text is None else units.checked_text(request.text, "text"),
    )


def content_hash(request: Request, key: bytes) -> bytes:
    """Keyed BLAKE2b-256 over what the request asks for: modality, model, images, genre, mood and its text (SPEC 2.1)."""
    digest = hashlib.blake2b(digest_size=32, key=key)
    for part in (request.modality, request.model, str(request.images), request.genre, request.mood, request.text):
        data = b"" if part is None else part.encode()
        digest.update(struct.pack(">?I", part is not None, len(data)))
        digest.update(data)
    return digest.digest()


def authorize(deployment: Deployment, request: Request, at: datetime | None) -> Decision:
    """Decide and reserve in one transaction. The same call again returns the first answer and writes nothing."""
    started = time.perf_counter()
    request = checked(request)
    return deployment.ledger.run(lambda unit: authorize_in(unit, deployment, request, deployment.instant(at), started))


def authorize_in(
    unit: Unit, deployment: Deployment, request: Request, at: datetime, started: float | None = None
) -> Decision:
    """:func:`authorize` inside a transaction, of a request that was :func:`checked`. ``started``: ``perf_counter`` of the call."""
    leg = opening_leg(request.user_id, request.request_id)
    unit.load(request.user_id, leg)
    user, account = unit.user(request.user_id)
    content = content_hash(request, unit.salts["content"])
    lines = unit.leg(leg)
    if lines:
        return _first_answer(lines[0], content, request)
    cost_uc = plans.cost_uc(deployment.catalog.plan(account.plan), request.images)
    cycles.catch_up(unit, deployment, account, at)
    live = deployment.live.of(unit.connection, account.account_id)
    _start_session(user, account, live, at)
    state = _state(unit, deployment, user, account, request, live, cost_uc, at)
    decision = _decide(unit, deployment, account, request, live, state, at)
    if decision.rule in JUDGED:
        _count(user, account, request, decision, at)
    line = _answer(unit, user, account, request, decision, live, content, started=started)
    if decision.status == "DEFERRED":
        _queue(unit, line)
    _mark_cell(unit, deployment, request, decision, at)
    unit.touch(user)
    return decision


def authorize_deferred(unit: Unit, deployment: Deployment, line: Row, child_id: str, at: datetime) -> Decision | None:
    """The fresh half of the deferred request on ``line``, as request ``child_id``: rules 1 to 4 again, then fresh.

    Touches no session counters. None where rules 1 to 3 refuse it for now; it may be asked for again.
    """
    request = decisions.request_of(line)._replace(request_id=child_id)
    user, account = unit.user(request.user_id)
    cycles.catch_up(unit, deployment, account, at)
    live = deployment.live.of(unit.connection, account.account_id)
    state = _state(unit, deployment, user, account, request, live, line["cost_uc"], at)._replace(deferred=True)
    decision = _decide(unit, deployment, account, request, live, state, at)
    if decision.p is None:
        return None
    content = bytes(line["content_hash"])
    _answer(unit, user, account, request, decision, live, content, parent_request_id=line["request_id"])
    unit.touch(user)
    return decision


def _decide(
    unit: Unit, deployment: Deployment, account: Account, request: Request, live: Live, state: State, at: datetime
) -> Decision:
    u01 = draw(unit.salts["draw"], request.user_id, request.request_id)
    decision = decide(state, request, live.config, u01, deployment.live.law(live, account.plan))
    return decision._replace(
        config_version=live.version, arm=live.arm, user_id=request.user_id, request_id=request.request_id, at=at
    )


def _answer(
    unit: Unit,
    user: User,
    account: Account,
    request: Request,
    decision: Decision,
    live: Live,
    content: bytes,
    *,
    started: float | None = None,
    parent_request_id: str | None = None,
) -> Row:
    """Write the opening leg of a request, with its hold where it reserves; returns its first line."""
    assert decision.at is not None
    leg = opening_leg(request.user_id, request.request_id)
    parts = allocate(unit.views(account), decision.amount_uc) if decision.fresh else []
    assert parts is not None, "rule 4 refuses what the balance does not cover"
    facts = decisions.to_columns(decision) | {
        "user_id": request.user_id, "team_id": user.team_id, "request_id": request.request_id, "session_id": request.session_id,
        "parent_request_id": parent_request_id, "modality": request.modality, "model": decision.model, "images": request.images,
        "genre": request.genre, "mood": request.mood, "config_version": live.version, "arm": live.arm, "content_hash": content,
        "details": None if request.model is None else {"asked_model": request.model},
        "authorize_ms": None if started is None else (time.perf_counter() - started) * 1_000,
    }  # fmt: skip
    lots = unit.lots(account)
    deltas = [Delta(lots[part.lot_id], -part.amount_uc, part.amount_uc) for part in parts] or [Delta(None, 0, 0)]
    lines = unit.append(account, decisions.KIND_OF_STATUS[decision.status], leg, deltas, decision.at, **facts)
    if decision.fresh:
        expires_at = decision.at + timedelta(seconds=live.config.saga.hold_ttl_s)
        unit.add_hold(
            {
                "leg_id": leg, "account_id": account.account_id, "user_id": request.user_id, "request_id": request.request_id,
                "amount_uc": decision.amount_uc, "reserved_at": decision.at, "expires_at": expires_at,
            }
        )  # fmt: skip
    return lines[0]


def _queue(unit: Unit, line: Row) -> None:
    """Keep a deferred request for the worker (:mod:`credit_core.service.deferred`)."""
    unit.add_deferral(
        {
            "leg_id": line["leg_id"], "account_id": line["account_id"], "user_id": line["user_id"], "request_id": line["request_id"],
            "deferred_at": line["occurred_at"], "expires_at": line["occurred_at"] + DEFERRAL_LIFETIME,
        }
    )  # fmt: skip


def _first_answer(line: Row, content: bytes, request: Request) -> Decision:
    if not hmac.compare_digest(bytes(line["content_hash"]), content):
        raise RequestMismatch(
            f"Request {request.request_id!r} of user {request.user_id!r} was asked before with other content. "
            "Use a new request_id for a new request."
        )
    if line["rule"] is None:
        raise RequestMismatch(
            f"Request {request.request_id!r} of user {request.user_id!r} was recorded as a spend made offline. "
            "Use a new request_id for a new request."
        )
    return decisions.from_columns(line)._replace(replayed=True)


def _start_session(user: User, account: Account, live: Live, at: datetime) -> None:
    """Begin a new running session where the last decision is too long ago (SPEC 4, freshness)."""
    last = user.session_last_at
    if last is None or (at - last).total_seconds() >= live.config.session.idle_s:
        user.session_images = user.session_fresh = user.session_fresh_uc = 0
        user.session_opening_uc = account.avail_uc
        user.session_cells = []


def _state(
    unit: Unit,
    deployment: Deployment,
    user: User,
    account: Account,
    request: Request,
    live: Live,
    cost_uc: int,
    at: datetime,
) -> State:
    cycle_days = (account.cycle_end_at - account.cycle_start_at).total_seconds() / units.DAY_S
    days_left = min(max((account.cycle_end_at - at).total_seconds() / units.DAY_S, 0.0), cycle_days)
    coverage = health = None
    under_represented = False
    settings = live.config.coverage
    if request.genre is not None and request.mood is not None:
        cell = library.cell(unit.connection, request.genre, request.mood, at, settings.stale_days)
        coverage, health = cell.coverage(settings.target), cell.health(settings.target)
        middle = deployment.median_coverage(unit.connection, at, settings.target)
        under_represented = middle is not None and coverage < middle
    return State(
        plan=account.plan,
        available_uc=account.avail_uc,
        paced_uc=cycles.paced_uc(unit, account),
        quota_uc=account.quota_uc,
        cycle_days=cycle_days,
        days_left=days_left,
        mode=account.mode,
        demand_rate=_demand_rate(unit, deployment, account, live, cycle_days - days_left, at),
        session_images=user.session_images if user.session_consent else 0,
        session_fresh=user.session_fresh,
        session_fresh_uc=user.session_fresh_uc,
        session_opening_uc=user.session_opening_uc,
        segment=user.segment,
        conserving=user.conserving,
        coverage=coverage,
        health=health,
        under_represented=under_represented,
        cost_uc=cost_uc,
        blocked=user.blocked_at is not None,
        retry_after_s=_pour(user, live, at),
        paused=account.paused_at is not None,
        cell_new=request.genre is not None and [request.genre, request.mood] not in user.session_cells,
        arm_p=deployment.arm_probability(unit.connection, at)
        if live.config.controller.strategy == "thompson"
        else None,
    )


def _demand_rate(
    unit: Unit, deployment: Deployment, account: Account, live: Live, days_so_far: float, at: datetime
) -> float | None:
    day = at.date()
    key = (account.plan, day.isoformat())
    if key not in deployment.rates:
        deployment.rates[key] = demand.rate(unit.connection, account.plan, day)
    prior = deployment.rates[key]
    if prior is None:
        return None
    return controller.demand_rate(
        prior, live.config.controller.tau0_days, units.uc_to_credits(account.demand_uc), days_so_far
    )


def _pour(user: User, live: Live, at: datetime) -> float:
    if not live.config.limits.enabled:
        return 0.0
    elapsed = 0.0 if user.bucket_at is None else (at - user.bucket_at).total_seconds()
    bucket = limits.leak(
        user.bucket_level, elapsed, live.config.limits.bucket_capacity, live.config.limits.bucket_leak_per_minute
    )
    user.bucket_level = bucket.level
    user.bucket_at = at if user.bucket_at is None else max(at, user.bucket_at)
    return bucket.retry_after_s


def _count(user: User, account: Account, request: Request, decision: Decision, at: datetime) -> None:
    user.session_last_at = at if user.session_last_at is None else max(at, user.session_last_at)
    user.session_images += request.images
    cell = [request.genre, request.mood]
    if request.genre is not None and request.mood is not None and cell not in user.session_cells:
        user.session_cells = [*user.session_cells, [request.genre, request.mood]][-SESSION_CELLS:]
    if decision.fresh:
        user.session_fresh += 1
        user.session_fresh_uc += decision.amount_uc
    account.mode = decision.mode
    account.demand_uc += decision.state.cost_uc


def _mark_cell(unit: Unit, deployment: Deployment, request: Request, decision: Decision, at: datetime) -> None:
    if request.genre is None or request.mood is None or decision.rule not in JUDGED:
        return
    cell = (request.genre, request.mood)
    queued = decision.rule == "coverage_miss" and cell not in deployment.queued_cells
    if cell in deployment.requested_cells and not queued:
        return
    unit.finally_write(lambda: library.mark(unit.connection, *cell, requested_at=at, queued_at=at if queued else None))
    # Noted before the commit: a mark that is rolled back is written again by the next process, which changes nothing here.
    deployment.requested_cells.add(cell)
    if queued:
        deployment.queued_cells.add(cell)
