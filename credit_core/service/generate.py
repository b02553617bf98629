"""One generation: authorize decides and reserves, settle or release ends it; each is one transaction (SPEC 2.1)."""

from __future__ import annotations

import hashlib
import hmac
import struct
import time
from datetime import datetime, timedelta
from typing import Any

from credit_core import units
from credit_core.errors import InvalidRequest, RequestMismatch
from credit_core.policy import anomaly, controller, limits, plans
from credit_core.policy.decision import Decision, Request, State, decide, draw
from credit_core.policy.lots import allocate
from credit_core.policy.plans import Plan
from credit_core.policy.quotas import decide as allowed
from credit_core.service import accounts, cycles, quotas, repeats
from credit_core.service.deployment import Deployment, Live
from credit_core.store import decisions, demand, guests, library
from credit_core.store.records import Account, Row, User, opening_leg
from credit_core.store.unit import Delta, Unit

MODALITIES = ("text", "image", "video")
#: Cells of a running session that are remembered; older ones count as new again.
SESSION_CELLS = 64
#: A deferred request that nobody could serve by then is dropped.
DEFERRAL_LIFETIME = timedelta(hours=24)
#: Stands for "the user's history is too short" where the most of an hour is kept.
NO_HISTORY = -1.0
JUDGED = frozenset({"unaffordable", "coverage_miss", "session_cap", "at_cap", "controller"})


def checked(request: Request) -> Request:
    """``request`` trimmed and within bounds, else :class:`InvalidRequest`."""
    if request.modality not in MODALITIES:
        raise InvalidRequest(f"modality must be one of {', '.join(MODALITIES)}, got {request.modality!r}.")
    units.checked_count(request.images, "images", 1, plans.MOST_IMAGES)
    if (request.genre is None) != (request.mood is None):
        raise InvalidRequest("genre and mood name a library cell together. Give both or neither.")
    session_id = units.checked_id(request.session_id, "session_id")
    user_id = accounts.guest_id(session_id) if request.user_id is None else request.user_id
    return request._replace(
        user_id=units.checked_user(user_id),
        request_id=units.checked_id(request.request_id, "request_id"),
        session_id=session_id,
        genre=None if request.genre is None else units.checked_id(request.genre, "genre"),
        mood=None if request.mood is None else units.checked_id(request.mood, "mood"),
        model=None if request.model is None else units.checked_id(request.model, "model"),
        text=None if request.text is None else units.checked_text(request.text, "text"),
        ip=None if request.ip is None else units.checked_ip(request.ip),
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
    """Decide and reserve in one transaction. The same call again returns the first answer, and is counted.

    A request without a user is a guest's, whom the session names; ends take the answer's ``user_id``.
    """
    started = time.perf_counter()
    request = checked(request)
    user_id = _user_of(request)
    return repeats.run(
        deployment, user_id, "authorize", at,
        lambda unit: authorize_in(unit, deployment, request, deployment.instant(at), started), whose=user_id,
    )  # fmt: skip


def authorize_in(
    unit: Unit,
    deployment: Deployment,
    request: Request,
    at: datetime,
    started: float | None = None,
    *,
    challenge: bool = True,
) -> Decision:
    """:func:`authorize` inside a transaction, of a request that was :func:`checked`.

    ``started``: ``perf_counter`` of the call. Without ``challenge`` an anomaly only flags, whatever is configured.
    """
    user_id = _user_of(request)
    leg = opening_leg(user_id, request.request_id)
    unit.load(user_id, leg)
    if user_id == accounts.guest_id(request.session_id) and not unit.has_user(user_id):
        accounts.open_guest(unit, deployment, request.session_id, at)
    user, account = unit.user(user_id)
    content = content_hash(request, unit.salts["content"])
    lines = unit.leg(leg)
    if lines:
        return _first_answer(lines[0], content, request)
    cycles.catch_up(unit, deployment, account, at)
    live = deployment.live.of(unit.connection, account.account_id)
    plan = deployment.catalog.plan(account.plan)
    if plan.quota_policy == "titrated_monthly":
        _start_session(user, account, live, at)
        cost_uc = plans.quote(deployment.catalog, plan, request.modality, request.model, request.images, 0).cost_uc
        state = _state(unit, deployment, user, account, request, live, cost_uc, at)
        decision = _decide(unit, deployment, account, request, live, state, at)
        if decision.rule in JUDGED:
            _count(user, account, request, decision, at)
        _mark_cell(unit, deployment, request, decision, at)
        facts: dict[str, Any] = {}
    else:
        decision, facts = _allow(unit, deployment, user, account, plan, request, live, at)
    if decision.fresh:
        facts["anomaly"] = _watch(unit, user, account, live, at, challenge=challenge)
    if request.ip is not None:
        facts["ip_hash"] = _seen(unit, request, at)
    line = _answer(unit, user, account, request, decision, live, content, started=started, **facts)
    if decision.status == "DEFERRED":
        _queue(unit, line)
    unit.touch(user)
    return decision


def _allow(
    unit: Unit,
    deployment: Deployment,
    user: User,
    account: Account,
    plan: Plan,
    request: Request,
    live: Live,
    at: datetime,
) -> tuple[Decision, dict[str, Any]]:
    """Decide by a policy other than ``titrated_monthly``, and count what it serves."""
    ip_hash = None if request.ip is None else _ip_hash(unit, request.ip)
    offer = quotas.offer(unit, deployment, user, account, plan, request, ip_hash, at)
    state = State(
        plan=account.plan,
        policy=plan.quota_policy,
        available_uc=account.avail_uc,
        paced_uc=cycles.paced_uc(unit, account),
        quota_uc=account.quota_uc,
        cycle_days=_cycle_days(account),
        days_left=_days_left(account, at),
        mode=account.mode,
        cost_uc=offer.quote.cost_uc,
        blocked=_blocked(user),
        retry_after_s=_wait_s(user, plan, live, at),
        paused=account.paused_at is not None,
        allowance=None if _lifted(user, at) else offer.allowance,
        affordable_model=offer.quote.affordable,
    )
    u01 = draw(unit.salts["draw"], _user_of(request), request.request_id)
    decision = _signed(allowed(state, request, offer.quote.model, at, u01), request, live, at)
    if decision.rule in ("allowed", "unaffordable"):
        account.demand_uc += state.cost_uc
    if not decision.fresh:
        return decision, {}
    return decision, quotas.count(unit, account, plan, request.images, ip_hash, at)


def _watch(unit: Unit, user: User, account: Account, live: Live, at: datetime, *, challenge: bool) -> bool | None:
    """Count a fresh one of this hour, and flag the user where there are more than their history explains (SPEC 3)."""
    limits_ = live.config.limits
    hour = anomaly.hour_of(at)
    user.fresh_at = at if user.fresh_at is None else max(at, user.fresh_at)
    if user.hour_at is None or user.hour_at < hour:
        user.hour_at, user.hour_fresh, user.hour_most = hour, 0, None
    user.hour_fresh += 1
    if not limits_.enabled or user.hour_fresh < limits_.anomaly_least:
        return None
    if user.hour_most is None:
        earlier = unit.fresh_since(account, user.user_id, hour - anomaly.HISTORY)
        most = anomaly.most(earlier, hour, limits_.anomaly_factor, limits_.anomaly_hours)
        user.hour_most = NO_HISTORY if most is None else most
    known = None if user.hour_most == NO_HISTORY else user.hour_most
    if not anomaly.is_anomaly(user.hour_fresh, known, limits_.anomaly_least):
        return None
    user.flagged_at, user.flag_reason = at, "anomaly"
    if challenge and limits_.anomaly_effect == "block":
        user.challenged_at = at
    return True


def _seen(unit: Unit, request: Request, at: datetime) -> bytes:
    """Keep the address apart from the ledger, where it can be erased; the ledger gets its keyed hash."""
    assert request.ip is not None
    ip, user_id = request.ip, _user_of(request)
    hashed = _ip_hash(unit, ip)
    unit.finally_put(guests.SEE, {"user_id": user_id, "ip_hash": hashed, "ip": ip, "first_seen_at": at})
    return hashed


def _ip_hash(unit: Unit, ip: str) -> bytes:
    return hashlib.blake2b(units.ip_prefix(ip).encode(), digest_size=16, key=unit.salts["origin"]).digest()


def _user_of(request: Request) -> str:
    assert request.user_id is not None, "a checked request names its user or guest"
    return request.user_id


def authorize_deferred(unit: Unit, deployment: Deployment, line: Row, child_id: str, at: datetime) -> Decision | None:
    """The fresh half of the deferred request on ``line``, as request ``child_id``: rules 1 to 4 again, then fresh.

    Touches no session counters. None where rules 1 to 3 refuse it for now; it may be asked for again.
    """
    request = decisions.request_of(line)._replace(request_id=child_id)
    user, account = unit.user(_user_of(request))
    cycles.catch_up(unit, deployment, account, at)
    if deployment.catalog.plan(account.plan).quota_policy != "titrated_monthly":
        # The user has changed to a plan that defers nothing; the request waits for its end.
        return None
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
    u01 = draw(unit.salts["draw"], _user_of(request), request.request_id)
    decision = decide(state, request, live.config, u01, deployment.live.law(live, account.plan))
    return _signed(decision, request, live, at)


def _signed(decision: Decision, request: Request, live: Live, at: datetime) -> Decision:
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
    **own: Any,
) -> Row:
    """Write the opening leg of a request, with its hold where it reserves; returns its first line."""
    assert decision.at is not None
    user_id = _user_of(request)
    leg = opening_leg(user_id, request.request_id)
    parts = allocate(unit.views(account), decision.amount_uc) if decision.fresh else []
    assert parts is not None, "rule 4 refuses what the balance does not cover"
    facts = decisions.to_columns(decision) | own | {
        "user_id": user_id, "team_id": user.team_id, "request_id": request.request_id, "session_id": request.session_id,
        "parent_request_id": parent_request_id, "modality": request.modality, "model": decision.model, "images": request.images,
        "genre": request.genre, "mood": request.mood, "config_version": live.version, "arm": live.arm, "content_hash": content,
        "details": decisions.details_of(request, decision),
        "authorize_ms": None if started is None else (time.perf_counter() - started) * 1_000,
    }  # fmt: skip
    lots = unit.lots(account)
    deltas = [Delta(lots[part.lot_id], -part.amount_uc, part.amount_uc) for part in parts] or [Delta(None, 0, 0)]
    lines = unit.append(account, decisions.KIND_OF_STATUS[decision.status], leg, deltas, decision.at, **facts)
    if decision.fresh:
        expires_at = decision.at + timedelta(seconds=live.config.saga.hold_ttl_s)
        unit.add_hold(
            {
                "leg_id": leg, "account_id": account.account_id, "user_id": user_id, "request_id": request.request_id,
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
    cycle_days, days_left = _cycle_days(account), _days_left(account, at)
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
        blocked=_blocked(user),
        retry_after_s=_wait_s(user, deployment.catalog.plan(account.plan), live, at),
        paused=account.paused_at is not None,
        cell_new=request.genre is not None and [request.genre, request.mood] not in user.session_cells,
        arm_p=deployment.arm_probability(unit.connection, at)
        if live.config.controller.strategy == "thompson"
        else None,
        largest_uc=account.largest_uc,
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


def _cycle_days(account: Account) -> float:
    return (account.cycle_end_at - account.cycle_start_at).total_seconds() / units.DAY_S


def _days_left(account: Account, at: datetime) -> float:
    return min(max((account.cycle_end_at - at).total_seconds() / units.DAY_S, 0.0), _cycle_days(account))


def _blocked(user: User) -> bool:
    return user.blocked_at is not None or user.challenged_at is not None


def _lifted(user: User, at: datetime) -> bool:
    """True while a purchase lifts the limits (SPEC 3, Premium sync)."""
    return user.override_until is not None and at < user.override_until


def _wait_s(user: User, plan: Plan, live: Live, at: datetime) -> float:
    """Seconds until the limits let this user pass; 0 lets pass and pours into the bucket."""
    if not live.config.limits.enabled or _lifted(user, at):
        return 0.0
    cool = quotas.cool_down_s(user, plan, live.config.limits.cool_down_s, at)
    return cool if cool > 0.0 else _pour(user, live, at)


def _pour(user: User, live: Live, at: datetime) -> float:
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
    account.largest_uc = max(account.largest_uc, decision.state.cost_uc)


def _mark_cell(unit: Unit, deployment: Deployment, request: Request, decision: Decision, at: datetime) -> None:
    if request.genre is None or request.mood is None or decision.rule not in JUDGED:
        return
    cell = (request.genre, request.mood)
    queued = decision.rule == "coverage_miss" and cell not in deployment.queued_cells
    if cell in deployment.requested_cells and not queued:
        return
    asked = {"genre": request.genre, "mood": request.mood, "requested_at": at, "queued_at": at if queued else None}
    unit.finally_put(library.MARK, asked)
    unit.after(lambda: deployment.requested_cells.add(cell))
    if queued:
        unit.after(lambda: deployment.queued_cells.add(cell))
