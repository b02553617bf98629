"""Spends that happened while a client was disconnected: taken in any order, once each, never below zero (SPEC 2.1)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from credit_core import units
from credit_core.errors import Conflict, InvalidRequest
from credit_core.policy import plans
from credit_core.policy.decision import Request
from credit_core.policy.lots import allocate
from credit_core.service import cycles, generate, quotas
from credit_core.service.deployment import Deployment
from credit_core.store.records import Row, opening_leg
from credit_core.store.unit import Delta, Unit

OVERDRAFT = "overdraft_offline"
_MOST = 10_000


class Spend(NamedTuple):
    """A generation that an offline client made on its own. ``at``: when; ``model``: which the client used, if it knows."""

    request_id: str
    at: datetime
    images: int = 1
    session_id: str = "offline"
    modality: str = "image"
    model: str | None = None


class Synced(NamedTuple):
    """How the spends of one call ended, by request id, each in the order of its instants."""

    taken: tuple[str, ...]
    overdrawn: tuple[str, ...]
    known: tuple[str, ...]


def sync(deployment: Deployment, user_id: str, spends: Iterable[Spend], at: datetime | None) -> Synced:
    """Record ``spends`` in one transaction. What the balance does not cover is recorded as refused; nothing is taken twice."""
    checked = sorted((_checked(user_id, spend) for spend in spends), key=lambda pair: (pair[1], pair[0].request_id))
    if len(checked) > _MOST:
        raise InvalidRequest(f"At most {_MOST} spends are taken in one call, got {len(checked)}. Send them in parts.")
    moment = deployment.instant(at)
    late = next((request for request, spent_at in checked if spent_at > moment), None)
    if late is not None:
        raise InvalidRequest(
            f"Spend {late.request_id!r} lies after the sync. Check the client's clock; nothing was written."
        )
    return deployment.ledger.run(lambda unit: sync_in(unit, deployment, user_id, checked, moment))


def sync_in(
    unit: Unit, deployment: Deployment, user_id: str, spends: list[tuple[Request, datetime]], at: datetime
) -> Synced:
    """:func:`sync` inside a transaction."""
    user, account = unit.user(user_id)
    hashes: dict[str, bytes] = {}
    for request, _ in spends:
        content = generate.content_hash(request, unit.salts["content"])
        if hashes.setdefault(request.request_id, content) != content:
            raise InvalidRequest(
                f"Spend {request.request_id!r} stands twice with other content. Each has an id of its own; nothing was written."
            )
        lines = unit.leg(opening_leg(user_id, request.request_id))
        if lines and bytes(lines[0]["content_hash"]) != hashes[request.request_id]:
            raise Conflict(
                f"Request {request.request_id!r} of user {user_id!r} is known with other content; nothing was written."
            )
    cycles.catch_up(unit, deployment, account, at)
    live = deployment.live.of(unit.connection, account.account_id)
    plan = deployment.catalog.plan(account.plan)
    taken: list[str] = []
    overdrawn: list[str] = []
    known: list[str] = []
    for request, spent_at in spends:
        leg = opening_leg(user_id, request.request_id)
        if unit.leg(leg):
            if request.request_id not in taken and request.request_id not in overdrawn:
                known.append(request.request_id)
            continue
        (model, cost_uc, _), limit = quotas.offer(unit, deployment, user, account, plan, request, None, spent_at)
        facts: Row = {
            "user_id": user_id, "team_id": user.team_id, "request_id": request.request_id, "session_id": request.session_id,
            "modality": request.modality, "model": model, "images": request.images, "config_version": live.version,
            "arm": live.arm, "content_hash": hashes[request.request_id],
        }  # fmt: skip
        parts = allocate(unit.views(account), cost_uc)
        if parts is None or (limit is not None and limit.used + request.images > limit.limit):
            unit.append(account, "rejected", leg, [Delta(None, 0, 0)], spent_at, **facts, reason=OVERDRAFT)
            overdrawn.append(request.request_id)
            continue
        lots = unit.lots(account)
        deltas = [Delta(lots[part.lot_id], -part.amount_uc, 0) for part in parts] or [Delta(None, 0, 0)]
        cost = plans.provider_cost_usd_micro(deployment.catalog, model, request.images)
        facts |= quotas.count(unit, account, plan, request.images, None, spent_at)
        unit.append(account, "import", leg, deltas, spent_at, **facts, reason="offline", cost_usd_micro=cost)
        account.demand_uc += cost_uc
        taken.append(request.request_id)
    if taken or overdrawn:
        cycles.set_due(unit, account)
    return Synced(tuple(taken), tuple(overdrawn), tuple(known))


def _checked(user_id: str, spend: Spend) -> tuple[Request, datetime]:
    request = Request(
        user_id, spend.request_id, spend.session_id, modality=spend.modality, model=spend.model, images=spend.images
    )
    return generate.checked(request), units.checked_instant(spend.at)
