"""How a reserve ends: settle charges it, release gives it back; each is one transaction (SPEC 2.1)."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from credit_core import units
from credit_core.errors import AlreadyEnded, EndedBefore, InvalidRequest, NotFound
from credit_core.policy import plans
from credit_core.policy.lots import Part, consume
from credit_core.service import cycles, quotas, repeats
from credit_core.service.deployment import Deployment
from credit_core.store import library
from credit_core.store.records import Account, Lot, Row, ending_leg, leg_id, opening_leg
from credit_core.store.unit import Delta, Unit

#: Columns that an end copies from its reserve (SPEC 2).
_COPIED = (
    "user_id",
    "team_id",
    "request_id",
    "session_id",
    "plan",
    "region",
    "modality",
    "model",
    "genre",
    "mood",
    "config_version",
    "arm",
)

#: Nobody waits longer than eleven days for an image.
MOST_LATENCY_MS = 1e9
#: Why the sweeper releases.
SWEPT = "swept"
_STATUS = {"settle": "SETTLED", "release": "RELEASED", "partial": "PARTIAL"}


class Ended(NamedTuple):
    """How a reserve ended. ``status``: SETTLED, RELEASED or PARTIAL (given back; the library serves this one)."""

    status: str
    request_id: str
    settled_uc: int
    returned_uc: int
    cost_usd_micro: int | None
    latency_ms: float | None
    reason: str | None
    at: datetime
    replayed: bool = False


class LateSettle(NamedTuple):
    """A settle that came after its hold was swept: recorded, then refused. It is no call that came again."""

    message: str
    replayed: bool = False


def settle(
    deployment: Deployment,
    user_id: str,
    request_id: str,
    actual_uc: int | None,
    cost_usd_micro: int | None,
    latency_ms: float | None,
    at: datetime | None,
) -> Ended:
    """Charge a reserve: ``actual_uc`` of it (default all), the rest goes back to its lots."""
    if actual_uc is not None:
        units.checked_uc(actual_uc, "actual_uc")
    if cost_usd_micro is not None:
        units.checked_uc(cost_usd_micro, "cost_usd_micro")
    if latency_ms is not None:
        latency_ms = units.checked_real(latency_ms, "latency_ms", 0.0, MOST_LATENCY_MS)
    done = repeats.run(
        deployment, user_id, "settle", at,
        lambda unit: settle_in(
            unit, deployment, user_id, request_id, deployment.instant(at), actual_uc, cost_usd_micro, latency_ms
        ),
        whose=user_id,
    )  # fmt: skip
    if isinstance(done, LateSettle):
        raise AlreadyEnded(done.message)
    return done


def settle_in(
    unit: Unit,
    deployment: Deployment,
    user_id: str,
    request_id: str,
    at: datetime,
    actual_uc: int | None = None,
    cost_usd_micro: int | None = None,
    latency_ms: float | None = None,
) -> Ended | LateSettle:
    """:func:`settle` inside a transaction. A late settle is recorded and returned, for the caller to refuse after the commit."""
    account, reserve, end = _reserve_of(unit, user_id, request_id)
    held = [Part(line["lot_id"], line["d_held_uc"]) for line in reserve]
    amount = sum(part.amount_uc for part in held)
    actual = amount if actual_uc is None else actual_uc
    if end:
        first = _ended(end, replayed=True)
        if first.status == "SETTLED" and actual == first.settled_uc:
            return first
        if first.status == "RELEASED" and first.reason == SWEPT:
            if not unit.leg(leg_id("late", user_id, request_id)):
                cycles.catch_up(unit, deployment, account, at)
            return _record_late(unit, account, reserve[0], first, actual, cost_usd_micro, latency_ms, at)
        raise EndedBefore(
            f"Request {request_id!r} of user {user_id!r} ended before as {first.status}. One reserve has one end; nothing was written."
        )
    if actual > amount:
        raise InvalidRequest(
            f"actual_uc is {actual}, more than the {amount} that were reserved. Reserve what a generation may cost at most."
        )
    if cost_usd_micro is None:
        cost_usd_micro = plans.provider_cost_usd_micro(deployment.catalog, reserve[0]["model"], reserve[0]["images"])
    cycles.catch_up(unit, deployment, account, at)
    consumed = consume(held, actual)
    lots = lots_of(unit, account, held)
    deltas = [
        Delta(lots.get(part.lot_id), part.amount_uc - taken, -part.amount_uc)
        for part, taken in zip(held, consumed, strict=True)
    ]
    facts = copied(reserve[0])
    lines = unit.append(
        account,
        "settle",
        ending_leg(user_id, request_id),
        deltas,
        at,
        images=reserve[0]["images"],
        cost_usd_micro=cost_usd_micro,
        latency_ms=latency_ms,
        **facts,
    )
    _after_end(unit, deployment, account, reserve[0], lots, at, facts)
    live = deployment.live.load(unit.connection, reserve[0]["config_version"])
    if (
        live is not None
        and live.coverage.library_growth
        and reserve[0]["genre"] is not None
        and reserve[0]["modality"] == "image"
    ):
        genre, mood, images = reserve[0]["genre"], reserve[0]["mood"], reserve[0]["images"]
        unit.finally_put(library.PUT, library.put_row(genre, mood, images, at))
    return _ended(lines)


def release(
    deployment: Deployment,
    user_id: str,
    request_id: str,
    reason: str,
    cost_usd_micro: int | None,
    at: datetime | None,
) -> Ended:
    """Give a reserve back in full: the provider failed, or the caller cancelled. A failed generation costs nothing."""
    reason = units.checked_text(reason, "reason", limit=200)
    if not reason or reason == SWEPT:
        raise InvalidRequest(
            f"release needs a reason such as 'provider_error' or 'cancelled', and {SWEPT!r} is the sweeper's own."
        )
    if cost_usd_micro is not None:
        units.checked_uc(cost_usd_micro, "cost_usd_micro")
    return repeats.run(
        deployment, user_id, "release", at,
        lambda unit: release_in(unit, deployment, user_id, request_id, reason, deployment.instant(at), cost_usd_micro),
        whose=user_id,
    )  # fmt: skip


def release_in(
    unit: Unit,
    deployment: Deployment,
    user_id: str,
    request_id: str,
    reason: str,
    at: datetime,
    cost_usd_micro: int | None = None,
) -> Ended:
    """:func:`release` inside a transaction."""
    return _give_back(unit, deployment, "release", user_id, request_id, reason, at, cost_usd_micro)


def partial(
    deployment: Deployment, user_id: str, request_id: str, cost_usd_micro: int | None, at: datetime | None
) -> Ended:
    """The provider ended half-way and nothing more can arrive: give the hold back and retry once from the library."""
    if cost_usd_micro is not None:
        units.checked_uc(cost_usd_micro, "cost_usd_micro")
    return repeats.run(
        deployment, user_id, "partial", at,
        lambda unit: partial_in(unit, deployment, user_id, request_id, deployment.instant(at), cost_usd_micro),
        whose=user_id,
    )  # fmt: skip


def partial_in(
    unit: Unit, deployment: Deployment, user_id: str, request_id: str, at: datetime, cost_usd_micro: int | None = None
) -> Ended:
    """:func:`partial` inside a transaction."""
    ended = _give_back(unit, deployment, "partial", user_id, request_id, "partial", at, cost_usd_micro)
    if not ended.replayed:
        account, reserve, _ = _reserve_of(unit, user_id, request_id)
        leg = leg_id("retry", user_id, request_id)
        facts = copied(reserve[0]) | {"images": reserve[0]["images"], "outcome": "library", "reason": "partial"}
        unit.append(account, "library", leg, [Delta(None, 0, 0)], at, **facts)
    return ended


def _give_back(
    unit: Unit,
    deployment: Deployment,
    kind: str,
    user_id: str,
    request_id: str,
    reason: str,
    at: datetime,
    cost_usd_micro: int | None,
) -> Ended:
    account, reserve, end = _reserve_of(unit, user_id, request_id)
    if end:
        first = _ended(end, replayed=True)
        if end[0]["kind"] == kind:
            return first
        raise EndedBefore(
            f"Request {request_id!r} of user {user_id!r} ended before as {first.status}. "
            "One reserve has one end; nothing was written."
        )
    cycles.catch_up(unit, deployment, account, at)
    held = [Part(line["lot_id"], line["d_held_uc"]) for line in reserve]
    lots = lots_of(unit, account, held)
    deltas = [Delta(lots.get(part.lot_id), part.amount_uc, -part.amount_uc) for part in held]
    facts = copied(reserve[0])
    own = {"images": reserve[0]["images"], "cost_usd_micro": cost_usd_micro, "reason": reason}
    own |= quotas.uncount(unit, account, reserve[0])
    lines = unit.append(account, kind, ending_leg(user_id, request_id), deltas, at, **facts, **own)
    _after_end(unit, deployment, account, reserve[0], lots, at, facts)
    return _ended(lines)


def _reserve_of(unit: Unit, user_id: str, request_id: str) -> tuple[Account, list[Row], list[Row]]:
    opening, ending = opening_leg(user_id, request_id), ending_leg(user_id, request_id)
    unit.load(user_id, ending, of=opening)
    unit.user(user_id)
    reserve = unit.opening(opening)
    if not reserve:
        raise NotFound(f"There is no request {request_id!r} of user {user_id!r}. Authorize it first.")
    if reserve[0]["kind"] != "reserve":
        raise AlreadyEnded(
            f"Request {request_id!r} of user {user_id!r} was answered {reserve[0]['status']}: nothing is held, so nothing can end."
        )
    account = unit.lock_accounts([reserve[0]["account_id"]])[0]
    return account, reserve, unit.leg(ending)


def lots_of(unit: Unit, account: Account, parts: list[Part]) -> dict[str, Lot]:
    """The lots that ``parts`` name, by id; they exist, since entries name them. What cost nothing names none."""
    found = {part.lot_id: unit.lot(account, part.lot_id) for part in parts if part.lot_id}
    return {lot_id: lot for lot_id, lot in found.items() if lot is not None}


def copied(line: Row) -> dict[str, object]:
    """What later legs of a request copy from its reserve or settle."""
    return {name: line[name] for name in _COPIED}


def _after_end(
    unit: Unit,
    deployment: Deployment,
    account: Account,
    line: Row,
    lots: dict[str, Lot],
    at: datetime,
    facts: dict[str, object],
) -> None:
    unit.end_hold(line["leg_id"])
    cycles.return_to_closed(unit, deployment, account, list(lots.values()), at, line["leg_id"], facts)
    cycles.set_due(unit, account)


def _record_late(
    unit: Unit,
    account: Account,
    line: Row,
    first: Ended,
    actual_uc: int,
    cost_usd_micro: int | None,
    latency_ms: float | None,
    at: datetime,
) -> LateSettle:
    leg = leg_id("late", line["user_id"], line["request_id"])
    if not unit.leg(leg):
        unit.append(
            account, "rejected", leg, [Delta(None, 0, 0)], at, images=line["images"], cost_usd_micro=cost_usd_micro, latency_ms=latency_ms,
            reason="late_settle", details={"actual_uc": actual_uc}, **copied(line),
        )  # fmt: skip
    return LateSettle(
        f"The hold of request {line['request_id']!r} of user {line['user_id']!r} was swept at {first.at.isoformat()}; "
        "this settle came later. "
        "It is recorded as late_settle for support; charge it with a new request or adjust the balance."
    )


def _ended(lines: list[Row], *, replayed: bool = False) -> Ended:
    first = lines[0]
    consumed = -sum(line["d_avail_uc"] + line["d_held_uc"] for line in lines)
    return Ended(
        status=_STATUS[first["kind"]],
        request_id=first["request_id"],
        settled_uc=consumed,
        returned_uc=sum(line["d_avail_uc"] for line in lines),
        cost_usd_micro=first["cost_usd_micro"],
        latency_ms=first["latency_ms"],
        reason=first["reason"],
        at=first["occurred_at"],
        replayed=replayed,
    )
