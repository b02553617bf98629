"""Premium sync (SPEC 3): the provider's signed webhook is the truth; a purchase callback only lifts limits until it is there.

What a set of events comes to does not depend on the order in which they arrive (:mod:`credit_core.policy.payments`): each
one is kept, and the user's plan and paid time follow from all of them. A payment that was taken back before it was heard of
grants, and takes back again, in the same transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from credit_core import units
from credit_core.errors import Conflict, InvalidRequest
from credit_core.policy import cycles as calendar
from credit_core.policy import payments as policy
from credit_core.policy import plans
from credit_core.policy.payments import PaymentEvent
from credit_core.service import corrections, cycles, lifecycle, webhooks
from credit_core.service.deployment import Deployment
from credit_core.store import payments
from credit_core.store.payments import Recorded, Subscription
from credit_core.store.records import Account, Lot, User, leg_id, pool_of
from credit_core.store.unit import Delta, Unit

#: The reason of entries for what was spent before its payment was taken back, and of the flag.
SHORTFALL = "chargeback_shortfall"
_CALLBACK = "callback"


class AppliedPayment(NamedTuple):
    """What an event did. ``kind`` is None where it changes nothing by its nature; ``note`` says what was done, or why nothing."""

    provider: str
    event_id: str
    kind: str | None
    user_id: str | None
    granted_uc: int
    taken_uc: int
    missing_uc: int
    plan: str | None
    paid_until: datetime | None
    note: str
    replayed: bool = False


class LimitOverride(NamedTuple):
    """Limits are lifted until ``until``. ``granted`` is False where the day's override had been given before."""

    until: datetime
    granted: bool


class _Taken(NamedTuple):
    taken_uc: int
    missing_uc: int


def payment_webhook(
    deployment: Deployment,
    provider: str,
    payload: bytes,
    headers: Mapping[str, str],
    secret: str | None,
    at: datetime | None,
) -> AppliedPayment:
    """Verify a delivery and apply it; see :func:`credit_core.service.webhooks.read` for what it raises and ignores."""
    at = deployment.instant(at)
    event = webhooks.read(provider, payload, headers, secret or "", at, deployment.catalog)
    if isinstance(event, webhooks.Ignored):
        return AppliedPayment(
            provider, event.event_id, None, None, 0, 0, 0, None, None, f"{event.event_type}: {event.why}"
        )
    return apply_event(deployment, event, at)


def apply_event(deployment: Deployment, event: PaymentEvent, at: datetime | None) -> AppliedPayment:
    """Apply a verified event in one transaction. The same event again returns the first answer and writes nothing.

    Raises :class:`NotFound` for a user, plan or pack that is not there (nothing is kept: let the provider send it again).
    """
    if event.kind not in policy.KINDS:
        raise InvalidRequest(f"kind must be one of {', '.join(policy.KINDS)}, got {event.kind!r}.")
    if (event.kind in ("paid", "pack", "expired") and event.user_id is None) or (
        (event.kind == "paid" and event.plan is None)
        or (event.kind == "pack" and event.pack is None)
        or (event.kind in ("paid", "expired") and event.paid_until is None)
    ):
        raise InvalidRequest(f"Event {event.event_id!r} of kind {event.kind} lacks its user, plan, pack or paid_until.")
    return deployment.ledger.run(lambda unit: apply_event_in(unit, deployment, event, deployment.instant(at)))


def apply_event_in(unit: Unit, deployment: Deployment, event: PaymentEvent, at: datetime) -> AppliedPayment:
    """:func:`apply_event` inside a transaction."""
    payments.lock(unit.connection, event.provider, event.reference)
    before = payments.found(unit.connection, event.provider, event.event_id)
    if before is not None:
        return _answer(before.event, before.effect)._replace(replayed=True)
    known = payments.about(unit.connection, event.provider, event.reference)
    user_id = _whose(event, known)
    event = event._replace(user_id=user_id)
    effect = _effect(unit, deployment, event, known, at)
    payments.add(unit.connection, event, at, effect)
    return _answer(event, effect)


def _effect(
    unit: Unit, deployment: Deployment, event: PaymentEvent, known: list[Recorded], at: datetime
) -> dict[str, Any]:
    same = [recorded.event for recorded in known]
    kinds = {e.kind for e in same}
    done_uc = sum(r.effect.get("taken_uc", 0) + r.effect.get("missing_uc", 0) for r in known)
    if event.kind == "cancelled":
        return {"note": "the plan stays until what was paid for ends"}
    if event.kind == "pack":
        return _pack(unit, deployment, event, same, done_uc, at)
    if event.kind in policy.TAKEN_BACK and not kinds & {"pack", "paid"}:
        return {"note": "its payment is not known yet; it counts when that comes"}
    assert event.user_id is not None, "a payment names its user"
    if event.kind in policy.TAKEN_BACK and "pack" in kinds:
        user, _ = unit.user(event.user_id)
        taken = _take_back_pack(unit, deployment, user, event, [*same, event], done_uc, at)
        return {
            **taken._asdict(),
            "note": "the pack is taken back" if taken.taken_uc else "there is nothing left to take back",
        }
    return _follow(unit, deployment, event, event.user_id, same, at)


def purchase_callback(deployment: Deployment, user_id: str, at: datetime | None) -> LimitOverride:
    """Lift the user's limits for ``limits.override_s``, once per local day, until the provider's word of a purchase is there.

    Balances and plans stay as they are. A second call of the day returns the first answer.
    """
    return deployment.ledger.run(lambda unit: _lift(unit, deployment, user_id, deployment.instant(at)))


def _lift(unit: Unit, deployment: Deployment, user_id: str, at: datetime) -> LimitOverride:
    user, account = unit.user(user_id)
    day = calendar.local_day(at, units.checked_zone(user.timezone)).isoformat()
    before = payments.found(unit.connection, _CALLBACK, f"{user_id}/{day}")
    if before is not None:
        return LimitOverride(units.from_us(before.effect["until_us"]), granted=False)
    live = deployment.live.of(unit.connection, account.account_id)
    until = at + timedelta(seconds=live.config.limits.override_s)
    user.override_until = until
    unit.touch(user)
    event = PaymentEvent(_CALLBACK, f"{user_id}/{day}", at, "override", user_id, day)
    payments.add(unit.connection, event, at, {"until_us": units.to_us(until)})
    return LimitOverride(until, granted=True)


def _whose(event: PaymentEvent, known: list[Recorded]) -> str | None:
    """The user of the event's payment, else the one it names."""
    paying = [r.event.user_id for r in known if r.event.kind in ("paid", "pack") and r.event.user_id is not None]
    if paying and event.kind in ("paid", "pack") and event.user_id != paying[0]:
        raise Conflict(
            f"Payment {event.reference!r} belongs to user {paying[0]!r}; event {event.event_id!r} names {event.user_id!r}. "
            "Nothing was written; check the metadata of the payment."
        )
    return paying[0] if paying else event.user_id


# ----------------------------------------------------------------------------------------------------------------- packs


def _pack(
    unit: Unit, deployment: Deployment, event: PaymentEvent, same: list[PaymentEvent], done_uc: int, at: datetime
) -> dict[str, Any]:
    """Grant a pack under its payment's reference; if the payment is known to be taken back, take back what it gave."""
    user, _ = unit.user(event.user_id or "")
    new = not unit.leg(_grant_leg(user, event.reference))
    if new:
        corrections.purchase_in(unit, deployment, user.user_id, event.pack or "", event.reference, at)
    taken = _take_back_pack(unit, deployment, user, event, [*same, event], done_uc, at)
    granted = unit.leg(_grant_leg(user, event.reference))[0]["d_avail_uc"] if new else 0
    note = f"pack {event.pack} granted" if new else "the payment's pack had been granted before"
    if taken != _Taken(0, 0):
        note += "; the payment had been taken back"
    return {"granted_uc": granted, **taken._asdict(), "note": note}


def _take_back_pack(
    unit: Unit,
    deployment: Deployment,
    user: User,
    event: PaymentEvent,
    same: list[PaymentEvent],
    done_uc: int,
    at: datetime,
) -> _Taken:
    """What refunds and chargebacks of a pack's payment ask for beyond ``done_uc``, which earlier events took or missed."""
    payment = next(e for e in policy.in_order(same) if e.kind == "pack")
    granted = unit.leg(_grant_leg(user, event.reference))[0]
    owed = units.round_half_even(granted["d_avail_uc"] * policy.share_taken_back(payment, same)) - done_uc
    # A member who left a pool since has an account of their own, and the pool keeps the pack.
    account = unit.lock_accounts([granted["account_id"]])[0]
    lot = unit.lot(account, granted["lot_id"])
    return _take(unit, deployment, user, account, lot, max(0, owed), event, same, {}, at)


def _grant_leg(user: User, reference: str) -> str:
    return leg_id("grant", user.user_id, reference)


def _take(
    unit: Unit, deployment: Deployment, user: User, account: Account, lot: Lot | None, owed_uc: int, event: PaymentEvent,
    same: list[PaymentEvent], facts: dict[str, Any], at: datetime,
) -> _Taken:  # fmt: skip
    """Take min(what the lot has, ``owed_uc``); what is missing becomes a ``rejected`` entry and a flag."""
    if not owed_uc:
        return _Taken(0, 0)
    cycles.catch_up(unit, deployment, account, at)
    reason = "chargeback" if any(e.kind == "chargeback" for e in same) else "refund"
    details = {"reference": event.reference, "event_id": event.event_id, **facts}
    team_id = pool_of(account.account_id) or user.team_id
    whose = {"user_id": user.user_id, "team_id": team_id, "actor": event.provider}
    taken = min(owed_uc, 0 if lot is None else lot.avail_uc)
    if taken:
        leg = leg_id("taken_back", event.provider, event.event_id)
        unit.append(account, "adjust", leg, [Delta(lot, -taken, 0)], at, **whose, reason=reason, details=details)
    missing = owed_uc - taken
    if missing:
        leg = leg_id("shortfall", event.provider, event.event_id)
        short = details | {
            "missing_uc": missing,
            "lot_id": None if lot is None else lot.lot_id,
            "taken_back_by": reason,
        }
        unit.append(account, "rejected", leg, [Delta(None, 0, 0)], at, **whose, reason=SHORTFALL, details=short)
        if user.flagged_at is None:
            user.flagged_at, user.flag_reason = at, SHORTFALL
        unit.touch(user)
    cycles.set_due(unit, account)
    return _Taken(taken, missing)


# ----------------------------------------------------------------------------------------------------------------- plans


def _follow(
    unit: Unit, deployment: Deployment, event: PaymentEvent, user_id: str, same: list[PaymentEvent], at: datetime
) -> dict[str, Any]:
    """Give the user the plan that all payments come to, with this one."""
    user, account = unit.user(user_id)
    cycles.catch_up(unit, deployment, account, at)
    heard = {(e.provider, e.event_id): e for e in (*_of_user(unit, user_id), *same, event)}
    events = [*heard.values()]
    seq, plan, until = account.seq, account.plan, account.paid_until
    kept = payments.subscription(unit.connection, user_id)
    base = kept.base_plan if kept is not None and kept.plan == account.plan else account.plan
    standing = policy.in_force(events, account.cycle_start_at, at)
    target = base if standing is None else standing.plan
    now = (None, None) if standing is None else (standing.plan, standing.paid_until)
    changed = now != ((None, None) if kept is None else (kept.plan, kept.paid_until))
    taken = _take_back_quota(unit, deployment, user, account, event, events, target, base, at)
    missed = _missed(unit, deployment, account, event, events, at)
    # Where nothing changed the user stays where they are: somebody may have moved them by hand since.
    for step in (missed, target if changed else plan):
        if step is not None:
            lifecycle.change_plan_in(unit, deployment, user_id, step, at, while_paused=True)
    if changed:
        account.paid_until = now[1]
        unit.touch(account)
    newest = policy.in_order(e for e in events if _about_plans(e, events))[-1]
    provider = newest.provider if standing is None else standing.provider
    payments.put_subscription(
        unit.connection, Subscription(user_id, provider, now[0], base, now[1], newest.occurred_at)
    )
    lines = unit.lot_lines(account, lifecycle.monthly_lot_id(account), ("grant",))
    unmoved = (plan, until) == (account.plan, account.paid_until)
    return {
        "granted_uc": sum(line["d_avail_uc"] for line in lines if line["seq"] > seq),
        **taken._asdict(),
        "plan": account.plan,
        "paid_until_us": None if account.paid_until is None else units.to_us(account.paid_until),
        "note": f"the plan stays {account.plan}" if unmoved else f"the plan is {account.plan}",
    }


def _of_user(unit: Unit, user_id: str) -> list[PaymentEvent]:
    return [recorded.event for recorded in payments.of_user(unit.connection, user_id)]


def _about_plans(event: PaymentEvent, events: list[PaymentEvent]) -> bool:
    if event.kind in policy.TAKEN_BACK:
        return any(e.kind == "paid" and e.reference == event.reference for e in events)
    return event.kind in ("paid", "expired")


def _quota_uc(deployment: Deployment, account: Account, plan: str | None) -> int:
    return plans.terms(deployment.catalog.plan(plan or ""), account.region).quota_uc


def _missed(
    unit: Unit, deployment: Deployment, account: Account, event: PaymentEvent, events: list[PaymentEvent], at: datetime
) -> str | None:
    """The plan of a payment in effect that is heard of after a newer one for a smaller plan: the cycle still gets its quota."""
    if event.kind != "paid" or event not in policy.in_effect(events, at):
        return None
    higher = _quota_uc(deployment, account, event.plan) > lifecycle.granted_quota_uc(unit, deployment, account)
    return event.plan if higher else None


def _take_back_quota(
    unit: Unit, deployment: Deployment, user: User, account: Account, event: PaymentEvent, events: list[PaymentEvent],
    target: str, base: str, at: datetime,
) -> _Taken:  # fmt: skip
    """What the running cycle was granted for a payment that was now taken back, above what other payments and the plan give."""
    same = [e for e in events if (e.provider, e.reference) == (event.provider, event.reference)]
    payment = next((e for e in same if e.kind == "paid"), None)
    if event.kind not in policy.TAKEN_BACK or payment is None or not policy.revoked(payment, same):
        return _Taken(0, 0)
    still = {target, base, *(e.plan for e in policy.in_effect(events, at))}
    floor = max(_quota_uc(deployment, account, plan) for plan in still)
    owed = sum(band.above(floor) for band in lifecycle.granted_bands(unit, deployment, account))
    lot = unit.lot(account, lifecycle.monthly_lot_id(account))
    return _take(unit, deployment, user, account, lot, owed, event, same, {"quota_uc": floor}, at)


def _answer(event: PaymentEvent, effect: Mapping[str, Any]) -> AppliedPayment:
    until = effect.get("paid_until_us")
    return AppliedPayment(
        event.provider, event.event_id, event.kind, event.user_id, effect.get("granted_uc", 0), effect.get("taken_uc", 0),
        effect.get("missing_uc", 0), effect.get("plan"), None if until is None else units.from_us(until), effect["note"],
    )  # fmt: skip
