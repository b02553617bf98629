"""Cycles: what is due by an instant is written before anything else (SPEC 2.2), lazily or in batches."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import NamedTuple

from credit_core.policy import cycles, plans
from credit_core.policy.lots import PACED_KINDS, Part, allocate
from credit_core.policy.plans import Plan
from credit_core.service import shares
from credit_core.service.deployment import Deployment
from credit_core.store import demand, reads
from credit_core.store.records import Account, Lot, leg_id, pool_of
from credit_core.store.unit import Delta, Unit
from credit_core.units import checked_zone

BATCH = 200
#: Of credits that come back to an expired lot of a plan without rollover.
BONUS_LIFETIME = timedelta(days=30)


class Reconciled(NamedTuple):
    """What one run of :func:`reconcile` wrote."""

    accounts: int
    closings: int
    expiries: int


class Due(NamedTuple):
    """What :func:`catch_up` wrote for one account."""

    closings: int
    expiries: int


def paced_uc(unit: Unit, account: Account) -> int:
    """Available credits of the monthly and rollover lots: what the controller paces."""
    return sum(lot.avail_uc for lot in unit.lots(account).values() if lot.kind in PACED_KINDS)


def catch_up(unit: Unit, deployment: Deployment, account: Account, at: datetime) -> Due:
    """Write every expiry and closing of ``account`` due by ``at``, in order of their instants."""
    closings = expiries = 0
    while account.due_at is not None and account.due_at <= at:
        unit.need_lock()
        due = account.due_at
        expiries += _expire_lots(unit, deployment, account, due)
        if account.cycled and account.cycle_end_at <= due:
            _close_cycle(unit, deployment, account)
            closings += 1
        set_due(unit, account)
    return Due(closings, expiries)


def set_due(unit: Unit, account: Account) -> None:
    """Note when the account next needs a closing or expiry."""
    expiring = [
        lot.expires_at
        for lot in unit.lots(account).values()
        if lot.expires_at is not None and _expires_alone(lot, account)
    ]
    if account.cycled:
        expiring.append(account.cycle_end_at)
    account.due_at = None if account.paused_at is not None else min(expiring, default=None)
    unit.touch(account)


def _expires_alone(lot: Lot, account: Account) -> bool:
    """True for a lot with an end of its own; those that end with the cycle are the closing's."""
    if lot.expires_at is None or lot.avail_uc == 0:
        return False
    return not account.cycled or lot.kind not in PACED_KINDS or lot.expires_at < account.cycle_end_at


def _expire_lots(unit: Unit, deployment: Deployment, account: Account, due: datetime) -> int:
    expired = [lot for lot in unit.lots(account).values() if _expires_alone(lot, account) and lot.closed(due)]
    for lot in expired:
        live = deployment.live.of(unit.connection, account.account_id)
        # A lot may be emptied by expiry more than once, where credits came back to it in between.
        leg = leg_id("expire", lot.lot_id, str(account.seq))
        unit.append(
            account,
            "expire",
            leg,
            [Delta(lot, -lot.avail_uc, 0)],
            due,
            config_version=live.version,
            arm=live.arm,
            **_whose(unit, account),
        )
    return len(expired)


def open_first_cycle(unit: Unit, account: Account, at: datetime) -> None:
    """Grant the first quota of a new account, whose cycle bounds are set."""
    _grant_quota(unit, account, at, None)


def _close_cycle(unit: Unit, deployment: Deployment, account: Account) -> None:
    end = account.cycle_end_at
    _fall(deployment, account, end)
    live = deployment.live.of(unit.connection, account.account_id)
    tuning = live.config.plan(account.plan)
    paced = [lot for lot in unit.lots(account).values() if lot.kind in PACED_KINDS and lot.avail_uc > 0]
    unspent = sum(lot.avail_uc for lot in paced)
    owner = unit.owner(account)
    upcoming = shares.next_terms(unit.connection, deployment, account, owner)
    # Members of a team keep its calendar, so that all their cycles end at once.
    of_its_own = owner is not None and (owner.team_id is None or upcoming.leaves)
    zone_name = owner.timezone if owner is not None and of_its_own else account.timezone
    zone = checked_zone(zone_name)
    plan = deployment.catalog.plan(account.plan)
    cap = cap_multiple(plan, tuning.cap_multiple)
    if plan.quota_policy == "titrated_monthly":
        cap = cycles.cap_at(end, cap, burst_allowance=live.config.rollover.burst_allowance)
    closing = cycles.close(unspent, account.quota_uc, cap, tuning.soft_decay)
    if upcoming.leaves:
        # What the team gave stays with the team.
        closing = cycles.Closing(0, 0, unspent)
    governed = {"config_version": live.version, "arm": live.arm, **_whose(unit, account)}

    number = account.cycle_no + 1
    next_end = _next_end(date.fromisoformat(account.anchor_day), zone_name, number - account.anchor_no, end)
    by_id = {lot.lot_id: lot for lot in paced}
    views = [view for view in unit.views(account) if view.lot_id in by_id]
    expiring = allocate(views, closing.expired_uc) or []
    _move_out(unit, account, "expire", expiring, by_id, end, governed)
    unit.close_cycle(
        account.account_id, account.cycle_no, closed_at=unit.now, unspent_uc=unspent, kept_uc=closing.kept_uc,
        carried_uc=closing.carried_uc, cap_multiple=cap, demand_uc=account.demand_uc,
    )  # fmt: skip
    account.cycle_no, account.cycle_start_at, account.cycle_end_at = number, end, next_end
    account.timezone, account.quota_uc, account.demand_uc, account.largest_uc = zone.key, upcoming.quota_uc, 0, 0
    if upcoming.plan != account.plan:
        account.plan, account.cycled = upcoming.plan, deployment.catalog.plan(upcoming.plan).cycled
    if owner is not None and upcoming.leaves:
        owner.team_id = None
        unit.touch(owner)
        governed |= _whose(unit, account)
    if closing.carried_uc:
        remaining = [Part(lot.lot_id, lot.avail_uc) for lot in paced if lot.avail_uc > 0]
        carry = rollover_lot(unit, account)
        deltas = [Delta(by_id[part.lot_id], -part.amount_uc, 0) for part in remaining]
        unit.append(
            account,
            "rollover",
            leg_id("rollover", account.account_id, str(number)),
            [*deltas, Delta(carry, closing.carried_uc, 0)],
            end,
            **governed,
        )
    _grant_quota(unit, account, end, governed)


def cap_multiple(plan: Plan, tuned: float) -> float:
    """c of ``plan``: as tuned where credits roll over, else 1, so that nothing of a cycle goes into the next."""
    return tuned if plan.quota_policy == "titrated_monthly" else 1.0


def _fall(deployment: Deployment, account: Account, start: datetime) -> None:
    """A plan that is not paid until ``start`` of the next cycle falls before the closing, so that the lower cap holds (SPEC 3)."""
    if account.paid_until is None or account.paid_until >= start:
        return
    lower = deployment.catalog.plan(account.plan).falls_to
    if lower is not None:
        account.plan, account.paid_until = lower, None
        account.quota_uc = plans.terms(deployment.catalog.plan(lower), account.region).quota_uc


def _next_end(anchor: date, zone: str, number: int, start: datetime) -> datetime:
    """End of cycle ``number`` counted from its anchor; after a change of zone the first scheduled start after ``start``."""
    end = cycles.cycle_start(anchor, checked_zone(zone), number + 1)
    while end <= start:
        number += 1
        end = cycles.cycle_start(anchor, checked_zone(zone), number + 1)
    return end


def _move_out(
    unit: Unit,
    account: Account,
    kind: str,
    parts: list[Part],
    by_id: dict[str, Lot],
    at: datetime,
    facts: dict[str, object],
) -> None:
    if parts:
        leg = leg_id(kind, account.account_id, str(account.cycle_no))
        unit.append(account, kind, leg, [Delta(by_id[part.lot_id], -part.amount_uc, 0) for part in parts], at, **facts)


def _grant_quota(unit: Unit, account: Account, at: datetime, governed: dict[str, object] | None) -> None:
    number = str(account.cycle_no)
    if account.quota_uc:
        lot_id = leg_id("lot", account.account_id, "monthly", number)
        lot = unit.add_lot(account, Lot(lot_id, account.account_id, "monthly", at, account.cycle_end_at, 0, 0, 0))
        leg = leg_id("quota", account.account_id, number)
        unit.append(account, "grant", leg, [Delta(lot, account.quota_uc, 0)], at, **(governed or _whose(unit, account)))
    unit.open_cycle(
        {
            "account_id": account.account_id, "cycle_no": account.cycle_no, "start_at": account.cycle_start_at,
            "end_at": account.cycle_end_at, "plan": account.plan, "region": account.region, "quota_uc": account.quota_uc,
            "opening_uc": paced_uc(unit, account),
        }
    )  # fmt: skip


def rollover_lot(unit: Unit, account: Account) -> Lot:
    """The rollover lot of the running cycle, made where it is missing."""
    lot_id = leg_id("lot", account.account_id, "rollover", str(account.cycle_no))
    lot = unit.lot(account, lot_id)
    if lot is not None:
        return lot
    return unit.add_lot(
        account, Lot(lot_id, account.account_id, "rollover", account.cycle_start_at, account.cycle_end_at, 0, 0, 0)
    )


def return_to_closed(
    unit: Unit,
    deployment: Deployment,
    account: Account,
    lots: list[Lot],
    at: datetime,
    act: str,
    facts: dict[str, object],
) -> None:
    """Credits that came back to closed or expired lots become rollover of the running cycle, within c·Q; the excess is clamped.

    Plans without rollover get them as a bonus lot of :data:`BONUS_LIFETIME`.
    """
    # An instant before the running cycle (a late clock) still finds the lots of earlier cycles closed; while an account
    # is paused no lot closes, however long that lasts.
    moment = max(at, account.cycle_start_at) if account.paused_at is None else account.paused_at
    closed = [lot for lot in lots if lot.closed(moment) and lot.avail_uc > 0]
    returned = sum(lot.avail_uc for lot in closed)
    if not returned:
        return
    if deployment.catalog.plan(account.plan).quota_policy != "titrated_monthly":
        lot_id = leg_id("lot", account.account_id, "returned", act)
        bonus = unit.add_lot(
            account, Lot(lot_id, account.account_id, "bonus", moment, moment + BONUS_LIFETIME, 0, 0, 0)
        )
        deltas = [*(Delta(lot, -lot.avail_uc, 0) for lot in closed), Delta(bonus, returned, 0)]
        unit.append(account, "rollover", leg_id("returned", act), deltas, at, **facts)
        return
    live = deployment.live.of(unit.connection, account.account_id)
    cap = cycles.cap_uc(account.quota_uc, live.config.plan(account.plan).cap_multiple)
    held_back = paced_uc(unit, account) - sum(lot.avail_uc for lot in closed if lot.kind in PACED_KINDS)
    room = max(0, min(returned, cap - held_back))
    moved: list[Delta] = []
    clamped: list[Delta] = []
    for lot in closed:
        kept = min(lot.avail_uc, room)
        room -= kept
        if kept:
            moved.append(Delta(lot, -kept, 0))
        if lot.avail_uc > kept:
            clamped.append(Delta(lot, kept - lot.avail_uc, 0))
    if moved:
        into = Delta(rollover_lot(unit, account), -sum(delta.d_avail_uc for delta in moved), 0)
        unit.append(account, "rollover", leg_id("returned", act), [*moved, into], at, **facts)
    if clamped:
        unit.append(account, "clamp", leg_id("returned-clamp", act), clamped, at, **facts)


def _whose(unit: Unit, account: Account) -> dict[str, object]:
    owner = unit.owner(account)
    if owner is None:
        return {"team_id": pool_of(account.account_id)}
    return {"user_id": owner.user_id, "team_id": owner.team_id}


def reconcile(deployment: Deployment, at: datetime) -> Reconciled:
    """Close and expire what is due by ``at`` on accounts that nobody touches. Safe to run twice and from many processes."""
    total = Reconciled(0, 0, 0)
    while True:
        with deployment.ledger.reading() as connection:
            due = reads.due_accounts(connection, at, BATCH)
        if not due:
            break

        def batch(unit: Unit, account_ids: list[str] = due) -> list[Due]:
            return [catch_up(unit, deployment, account, at) for account in unit.lock_accounts(account_ids)]

        done = deployment.ledger.run(batch)
        total = Reconciled(
            total.accounts + len(done),
            total.closings + sum(d.closings for d in done),
            total.expiries + sum(d.expiries for d in done),
        )
    deployment.ledger.write(lambda connection: demand.refresh(connection, at))
    deployment.rates.clear()
    return total
