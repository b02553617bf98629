"""Changes of an account's terms: another plan, a pause and its end (SPEC 2.2)."""

from __future__ import annotations

from datetime import datetime, timedelta
from fractions import Fraction
from typing import NamedTuple

from credit_core import units
from credit_core.errors import Conflict
from credit_core.policy import cycles as calendar
from credit_core.policy import plans
from credit_core.policy.lots import PACED_KINDS, allocate
from credit_core.service import cycles, lookup
from credit_core.service.deployment import Deployment
from credit_core.service.lookup import Balance
from credit_core.store.records import Account, Lot, User, leg_id
from credit_core.store.unit import Delta, Unit

_MICROSECOND = timedelta(microseconds=1)


class Band(NamedTuple):
    """What the running cycle's monthly lot was granted for the quota between ``low_uc`` and ``high_uc``."""

    low_uc: int
    high_uc: int
    amount_uc: int

    def above(self, quota_uc: int) -> int:
        """The part of the grant that is for quota above ``quota_uc``."""
        part = self.high_uc - max(self.low_uc, min(quota_uc, self.high_uc))
        return units.round_half_even(Fraction(self.amount_uc) * part, self.high_uc - self.low_uc)

    def up_to(self, quota_uc: int) -> Band:
        """What is left once the part above ``quota_uc`` was taken back."""
        return Band(self.low_uc, min(self.high_uc, quota_uc), self.amount_uc - self.above(quota_uc))


def change_plan(deployment: Deployment, user_id: str, plan: str, at: datetime | None) -> Balance:
    """Move a user to ``plan``. An upgrade grants the difference for the days left; a downgrade clamps to the new cap."""
    deployment.ledger.run(lambda unit: change_plan_in(unit, deployment, user_id, plan, deployment.instant(at)))
    return lookup.balance(deployment, user_id)


def change_plan_in(
    unit: Unit, deployment: Deployment, user_id: str, plan: str, at: datetime, *, while_paused: bool = False
) -> None:
    """:func:`change_plan` inside a transaction. The plan a user is on already changes nothing.

    What the running cycle was granted for already is not granted again: to Premium, back, and to Premium once more grants once.
    ``while_paused`` lets a payment change a frozen account; its days left are those of the pause.
    """
    user, account = unit.user(user_id)
    refuse_member(user, "plan", f"change_team_plan({user.team_id!r}, {plan!r})")
    move_to_plan(unit, deployment, account, plan, at, _whose(user), while_paused=while_paused)


def move_to_plan(
    unit: Unit,
    deployment: Deployment,
    account: Account,
    plan: str,
    at: datetime,
    whose: dict[str, object],
    *,
    while_paused: bool = False,
) -> None:
    """Change an account's plan inside a transaction; ``whose`` it is stands on the entries."""
    new = deployment.catalog.plan(plan)
    terms = plans.terms(new, account.region)
    if account.plan == plan:
        return
    if new.quota_policy == "guest_window" or account.kind == "guest":
        raise Conflict("Guests have a plan of their own and cannot change it. Sign the visitor up with add_user.")
    if not while_paused:
        _refuse_paused(account, "change its plan")
    if new.cycled and not account.cycled:
        # The cycles of a plan that has none ran on unwritten; they are written before one begins to count.
        account.cycled = True
        cycles.set_due(unit, account)
    cycles.catch_up(unit, deployment, account, at)
    other_unit = deployment.catalog.plan(account.plan).credit_unit != new.credit_unit
    if other_unit:
        _refuse_other_credits(unit, account, new.credit_unit)
    old_quota = 0 if other_unit else account.quota_uc
    account.plan, account.quota_uc, account.cycled = plan, terms.quota_uc, new.cycled
    act = (account.account_id, plan, str(account.seq))
    live = deployment.live.of(unit.connection, account.account_id)
    facts = whose | {"config_version": live.version, "arm": live.arm, "reason": "plan_change"}
    if other_unit:
        _clamp(unit, account, 0, act, at, facts)
    if terms.quota_uc > old_quota:
        low = max(old_quota, granted_quota_uc(unit, deployment, account))
        left = max(account.cycle_end_at - (account.paused_at or at), timedelta(0)) // _MICROSECOND
        length = (account.cycle_end_at - account.cycle_start_at) // _MICROSECOND
        amount = units.round_half_even(Fraction(max(terms.quota_uc - low, 0)) * min(left, length), length)
        if amount:
            lot = _monthly_lot(unit, account, at)
            details = {"from_quota_uc": low, "quota_uc": terms.quota_uc}
            unit.append(
                account, "grant", leg_id("upgrade", *act), [Delta(lot, amount, 0)], at, **facts, details=details
            )
    else:
        multiple = cycles.cap_multiple(new, live.config.plan(plan).cap_multiple)
        _clamp(unit, account, calendar.cap_uc(terms.quota_uc, multiple), act, at, facts)
    unit.move_cycle(
        account.account_id, account.cycle_no, end_at=account.cycle_end_at, plan=plan, quota_uc=account.quota_uc
    )
    cycles.set_due(unit, account)


def _refuse_other_credits(unit: Unit, account: Account, unit_name: str) -> None:
    """Credits of one unit never turn into another's: what is held or was bought keeps a user where they are."""
    bought = sum(lot.avail_uc for lot in unit.lots(account).values() if lot.kind not in PACED_KINDS)
    if account.held_uc or bought:
        raise Conflict(
            f"Account {account.account_id} holds {account.held_uc} uc for open requests and {bought} uc outside its quota, "
            f"which are not credits of unit {unit_name!r}. End the requests and adjust or refund the rest first."
        )


def granted_bands(unit: Unit, deployment: Deployment, account: Account) -> list[Band]:
    """What the running cycle's monthly lot was granted, less what was taken back, from the ledger.

    Grants of another credit unit, from before a change of plan, are none of this plan's.
    """
    catalog = deployment.catalog
    credit_unit = catalog.plan(account.plan).credit_unit
    bands: list[Band] = []
    for line in unit.lot_lines(account, monthly_lot_id(account), ("grant", "adjust", "rejected")):
        if line["plan"] in catalog.plans and catalog.plans[line["plan"]].credit_unit != credit_unit:
            continue
        details = line["details"] or {}
        if line["kind"] == "grant":
            amount = int(line["d_avail_uc"])
            bands.append(Band(details.get("from_quota_uc", 0), details.get("quota_uc", amount), amount))
        elif "quota_uc" in details:
            bands = [band.up_to(details["quota_uc"]) for band in bands if band.low_uc < details["quota_uc"]]
    return bands


def granted_quota_uc(unit: Unit, deployment: Deployment, account: Account) -> int:
    """The highest quota that the running cycle was granted for."""
    return max((band.high_uc for band in granted_bands(unit, deployment, account)), default=0)


def monthly_lot_id(account: Account) -> str:
    """The lot that holds the running cycle's quota."""
    return leg_id("lot", account.account_id, "monthly", str(account.cycle_no))


def _monthly_lot(unit: Unit, account: Account, at: datetime) -> Lot:
    lot_id = monthly_lot_id(account)
    lot = unit.lot(account, lot_id)
    if lot is not None:
        return lot
    return unit.add_lot(account, Lot(lot_id, account.account_id, "monthly", at, account.cycle_end_at, 0, 0, 0))


def _clamp(
    unit: Unit, account: Account, cap_uc: int, act: tuple[str, ...], at: datetime, facts: dict[str, object]
) -> None:
    over = cycles.paced_uc(unit, account) - cap_uc
    if over <= 0:
        return
    lots = unit.lots(account)
    parts = allocate([view for view in unit.views(account) if view.kind in PACED_KINDS], over) or []
    deltas = [Delta(lots[part.lot_id], -part.amount_uc, 0) for part in parts]
    unit.append(account, "clamp", leg_id("downgrade", *act), deltas, at, **facts)


def pause(deployment: Deployment, user_id: str, at: datetime | None) -> Balance:
    """Freeze the user's cycle: nothing is granted, expires or is authorized until :func:`resume`."""
    deployment.ledger.run(lambda unit: pause_in(unit, deployment, user_id, deployment.instant(at)))
    return lookup.balance(deployment, user_id)


def pause_in(unit: Unit, deployment: Deployment, user_id: str, at: datetime) -> None:
    """:func:`pause` inside a transaction. A paused account stays as it is."""
    user, account = unit.user(user_id)
    refuse_member(user, "pause", f"pause_team({user.team_id!r})")
    freeze(unit, deployment, account, at, _whose(user))


def freeze(unit: Unit, deployment: Deployment, account: Account, at: datetime, whose: dict[str, object]) -> None:
    """Pause an account inside a transaction."""
    if account.paused_at is not None:
        return
    cycles.catch_up(unit, deployment, account, at)
    # A clock behind the running cycle's start must not give the cycle more days than it has.
    account.paused_at = max(at, account.cycle_start_at)
    leg = leg_id("pause", account.account_id, str(account.seq))
    unit.append(account, "pause", leg, [Delta(None, 0, 0)], at, **whose)
    cycles.set_due(unit, account)


def resume(deployment: Deployment, user_id: str, at: datetime | None) -> Balance:
    """End a pause: the cycle ends at the first local midnight that leaves it the days it had, which becomes the anchor."""
    deployment.ledger.run(lambda unit: resume_in(unit, deployment, user_id, deployment.instant(at)))
    return lookup.balance(deployment, user_id)


def resume_in(unit: Unit, deployment: Deployment, user_id: str, at: datetime) -> None:
    """:func:`resume` inside a transaction. An account that is not paused stays as it is."""
    user, account = unit.user(user_id)
    refuse_member(user, "pause", f"resume_team({user.team_id!r})")
    thaw(unit, account, user.timezone, at, _whose(user))


def thaw(unit: Unit, account: Account, timezone: str, at: datetime, whose: dict[str, object]) -> None:
    """End the pause of an account inside a transaction; its next cycle begins at a midnight in ``timezone``."""
    paused_at = account.paused_at
    if paused_at is None:
        return
    if at < paused_at:
        raise Conflict(
            f"Account {account.account_id} was paused at {paused_at.isoformat()}, after the resume ({at.isoformat()}). Check the clock."
        )
    zone = units.checked_zone(timezone)
    earliest = at + (account.cycle_end_at - paused_at)
    day = calendar.local_day(earliest, zone)
    end = calendar.first_instant(day, zone)
    if end < earliest:
        end = calendar.first_instant(day + timedelta(days=1), zone)
    shift = at - paused_at
    for kind in PACED_KINDS:
        # Also where nothing is left in it: what is refunded later comes back to it.
        unit.lot(account, leg_id("lot", account.account_id, kind, str(account.cycle_no)))
    for lot in unit.lots(account).values():
        if lot.kind in PACED_KINDS and lot.expires_at == account.cycle_end_at:
            unit.move_expiry(lot, end)
        elif lot.kind not in PACED_KINDS and lot.expires_at is not None and lot.expires_at > paused_at:
            unit.move_expiry(lot, lot.expires_at + shift)
    account.cycle_end_at, account.paused_at = end, None
    account.anchor_day, account.anchor_no = calendar.local_day(end, zone).isoformat(), account.cycle_no + 1
    leg = leg_id("resume", account.account_id, str(account.seq))
    unit.append(account, "resume", leg, [Delta(None, 0, 0)], at, **whose, details={"cycle_end_at": end.isoformat()})
    unit.move_cycle(account.account_id, account.cycle_no, end_at=end, plan=account.plan, quota_uc=account.quota_uc)
    cycles.set_due(unit, account)


def refuse_member(user: User, what: str, call: str) -> None:
    """Raise :class:`Conflict` where the user's ``what`` is a team's; ``call`` is what changes it."""
    if user.team_id is not None:
        raise Conflict(
            f"User {user.user_id!r} is a member of team {user.team_id!r}, whose {what} it is. Nothing was changed; use core.{call}."
        )


def _refuse_paused(account: Account, what: str) -> None:
    if account.paused_at is not None:
        raise Conflict(
            f"Account {account.account_id} is paused since {account.paused_at.isoformat()}; resume it to {what}."
        )


def _whose(user: User) -> dict[str, object]:
    return {"user_id": user.user_id, "team_id": user.team_id}
