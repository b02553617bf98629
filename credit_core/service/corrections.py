"""Credits moved by hand or by a sale: refunds, adjustments, purchases. Each is named by a key and posted once."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from credit_core import units
from credit_core.errors import Conflict, InsufficientCredits, InvalidAmount, InvalidRequest, NotFound, Repeated
from credit_core.policy.lots import Part, allocate, consume
from credit_core.policy.plans import Pack
from credit_core.service import accounts, cycles, ends, lookup, repeats
from credit_core.service.deployment import Deployment
from credit_core.service.lookup import Balance
from credit_core.store import reads
from credit_core.store.records import Lot, ending_leg, leg_id
from credit_core.store.unit import Delta, Unit


class Refunded(NamedTuple):
    """A refund: ``amount_uc`` came back, ``refunded_uc`` in all of what the request was charged."""

    request_id: str
    amount_uc: int
    refunded_uc: int
    settled_uc: int
    replayed: bool = False


def refund(
    deployment: Deployment,
    user_id: str,
    request_id: str,
    amount_uc: int,
    key: str,
    actor: str,
    reason: str,
    at: datetime | None,
) -> Refunded:
    """Give back part of what a request was charged, to the lots it was taken from. All refunds together stay within the charge."""
    units.checked_uc(amount_uc, "amount_uc", minimum=1)
    key, actor, reason = _signed(key, actor, reason)
    return repeats.run(
        deployment, user_id, "refund", at,
        lambda unit: refund_in(
            unit, deployment, user_id, request_id, amount_uc, key, actor, reason, deployment.instant(at)
        ),
    )  # fmt: skip


def refund_in(
    unit: Unit,
    deployment: Deployment,
    user_id: str,
    request_id: str,
    amount_uc: int,
    key: str,
    actor: str,
    reason: str,
    at: datetime,
) -> Refunded:
    """:func:`refund` inside a transaction."""
    unit.user(user_id)
    charged = unit.leg(ending_leg(user_id, request_id))
    if not charged or charged[0]["kind"] != "settle":
        raise NotFound(f"Request {request_id!r} of user {user_id!r} was not charged, so there is nothing to refund.")
    account = unit.lock_accounts([charged[0]["account_id"]])[0]
    consumed = [Part(line["lot_id"], -(line["d_avail_uc"] + line["d_held_uc"])) for line in charged]
    settled = sum(part.amount_uc for part in consumed)
    before = reads.refunds(unit.connection, account.account_id, user_id, request_id)
    leg = leg_id("refund", user_id, request_id, key)
    done = sum(line["d_avail_uc"] for line in before)
    same = [line for line in before if line["leg_id"] == leg]
    if same:
        first = sum(line["d_avail_uc"] for line in same)
        if first != amount_uc:
            raise Repeated(
                f"Refund {key!r} was posted before with {first} uc, not {amount_uc}. Use a new key for a new refund."
            )
        return Refunded(request_id, amount_uc, done, settled, replayed=True)
    if done + amount_uc > settled:
        raise InvalidRequest(
            f"Request {request_id!r} was charged {settled} uc and {done} are refunded; {amount_uc} more would be over it."
        )
    cycles.catch_up(unit, deployment, account, at)
    # What was taken last comes back first: earlier refunds have already undone the end of the spending order.
    undone = consume([*reversed(consumed)], done + amount_uc)
    earlier = consume([*reversed(consumed)], done)
    lots = ends.lots_of(unit, account, consumed)
    deltas = [
        Delta(lots[part.lot_id], now - then, 0)
        for part, now, then in zip(reversed(consumed), undone, earlier, strict=True)
        if now > then
    ]
    facts = ends.copied(charged[0])
    unit.append(account, "refund", leg, deltas, at, **facts, actor=actor, reason=reason, details={"key": key})
    cycles.return_to_closed(unit, deployment, account, [d.lot for d in deltas if d.lot is not None], at, leg, facts)
    cycles.set_due(unit, account)
    return Refunded(request_id, amount_uc, done + amount_uc, settled)


def adjust(
    deployment: Deployment, user_id: str, amount_uc: int, key: str, actor: str, reason: str, at: datetime | None
) -> Balance:
    """Add credits as a bonus lot, or take them in spending order. More than there is cannot be taken."""
    if units.checked_uc(amount_uc, "amount_uc", minimum=-units.MAX_AMOUNT) == 0:
        raise InvalidAmount("amount_uc is 0: there is nothing to adjust.")
    key, actor, reason = _signed(key, actor, reason)
    deployment.ledger.run(
        lambda unit: adjust_in(unit, deployment, user_id, amount_uc, key, actor, reason, deployment.instant(at))
    )
    return lookup.balance(deployment, user_id)


def adjust_in(
    unit: Unit, deployment: Deployment, user_id: str, amount_uc: int, key: str, actor: str, reason: str, at: datetime
) -> None:
    """:func:`adjust` inside a transaction."""
    user, account = unit.user(user_id)
    leg = leg_id("adjust", user_id, key)
    posted = unit.leg(leg)
    if posted:
        first = sum(line["d_avail_uc"] for line in posted)
        if first != amount_uc:
            raise Conflict(f"Adjustment {key!r} of user {user_id!r} was posted before with {first} uc. Use a new key.")
        return
    cycles.catch_up(unit, deployment, account, at)
    if amount_uc > 0:
        lot_id = leg_id("lot", account.account_id, "adjust", user_id, key)
        lot = unit.add_lot(account, Lot(lot_id, account.account_id, "bonus", at, None, 0, 0, 0))
        deltas = [Delta(lot, amount_uc, 0)]
    else:
        parts = allocate(unit.views(account), -amount_uc)
        if parts is None:
            raise InsufficientCredits(
                f"User {user_id!r} has {account.avail_uc} uc available, so {-amount_uc} cannot be taken. Take at most what is there."
            )
        lots = unit.lots(account)
        deltas = [Delta(lots[part.lot_id], -part.amount_uc, 0) for part in parts]
    whose = {"user_id": user.user_id, "team_id": user.team_id}
    unit.append(account, "adjust", leg, deltas, at, **whose, actor=actor, reason=reason, details={"key": key})
    cycles.set_due(unit, account)


def purchase(deployment: Deployment, user_id: str, pack: str, key: str, at: datetime | None) -> Balance:
    """Grant a pack that was paid for. ``key`` names the payment: the same one again changes nothing."""
    deployment.ledger.run(lambda unit: purchase_in(unit, deployment, user_id, pack, key, deployment.instant(at)))
    return lookup.balance(deployment, user_id)


def purchase_in(unit: Unit, deployment: Deployment, user_id: str, pack: str, key: str, at: datetime) -> Lot:
    """:func:`purchase` inside a transaction; returns the lot."""
    bought = pack_of(deployment, pack)
    amount = units.credits_to_uc(bought.credits)
    unit_price = units.round_half_even(units.dollars_to_usd_micro(bought.price_usd) * units.MICRO, amount)
    return accounts.grant_in(unit, deployment, user_id, amount, "purchased", key, at, None, unit_price)


def pack_of(deployment: Deployment, name: str) -> Pack:
    """The pack called ``name``, else :class:`NotFound` with the names there are."""
    packs = deployment.catalog.packs
    if name not in packs:
        raise NotFound(f"There is no pack {name!r}. The catalogue has: {', '.join(packs) or 'none'}.")
    return packs[name]


def _signed(key: str, actor: str, reason: str) -> tuple[str, str, str]:
    reason = units.checked_text(reason, "reason", limit=500)
    if not reason:
        raise InvalidRequest("A correction needs a reason, for those who ask later.")
    return units.checked_id(key, "key"), units.checked_id(actor, "actor"), reason
