"""Users: sign-up and grants."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from itertools import islice

from credit_core import units
from credit_core.errors import Conflict, InvalidRequest
from credit_core.policy import cycles as calendar
from credit_core.policy import plans
from credit_core.policy.lots import LOT_KINDS
from credit_core.service import cycles, lookup
from credit_core.service.deployment import Deployment
from credit_core.service.lookup import Balance
from credit_core.store.chain import GENESIS
from credit_core.store.records import Account, Lot, User, leg_id
from credit_core.store.unit import Delta, Unit

DEFAULT_REGION = "global"
#: Users that :func:`add_users` signs up in one transaction.
BATCH = 5_000


def add_user(
    deployment: Deployment,
    user_id: str,
    plan: str,
    timezone: str = "UTC",
    region: str | None = None,
    segment: str | None = None,
    at: datetime | None = None,
) -> Balance:
    """Sign a user up and grant the first quota. The same call again changes nothing; other terms raise :class:`Conflict`."""
    at = deployment.instant(at)
    deployment.ledger.run(lambda unit: add_user_in(unit, deployment, user_id, plan, timezone, region, segment, at))
    return lookup.balance(deployment, user_id)


def add_user_in(
    unit: Unit,
    deployment: Deployment,
    user_id: str,
    plan: str,
    timezone: str,
    region: str | None,
    segment: str | None,
    at: datetime,
) -> Account:
    """:func:`add_user` inside a transaction."""
    user_id = units.checked_id(user_id, "user_id")
    region = DEFAULT_REGION if region is None else units.checked_id(region, "region")
    segment = None if segment is None else units.checked_id(segment, "segment")
    zone = units.checked_zone(timezone)
    terms = plans.terms(deployment.catalog.plan(plan), region)
    if unit.has_user(user_id):
        existing, account = unit.user(user_id)
        if (account.plan, account.region, existing.timezone, existing.segment) != (plan, region, timezone, segment):
            raise Conflict(
                f"User {user_id!r} exists on plan {account.plan!r} in {existing.timezone}, region {account.region!r}. Nothing was changed."
            )
        return account
    anchor = calendar.local_day(at, zone)
    start, end = calendar.cycle_start(anchor, zone, 0), calendar.cycle_start(anchor, zone, 1)
    account = Account(
        account_id=f"user:{user_id}", kind="user", plan=plan, region=region, timezone=timezone, anchor_day=anchor.isoformat(),
        anchor_no=0, cycle_no=0,
        cycle_start_at=start, cycle_end_at=end, quota_uc=terms.quota_uc, avail_uc=0, held_uc=0, demand_uc=0, mode="steady", seq=0,
        head_hash=GENESIS, recorded_at=unit.now, created_at=at, paused_at=None, due_at=end,
    )  # fmt: skip
    unit.add_account(account)
    unit.add_user(
        User(
            user_id=user_id, account_id=account.account_id, timezone=timezone, team_id=None, segment=segment, conserving=False,
            session_consent=True, blocked_at=None, created_at=at, session_last_at=None, session_images=0, session_fresh=0,
            session_fresh_uc=0, session_opening_uc=0, session_cells=[], bucket_level=0.0, bucket_at=None,
        )
    )  # fmt: skip
    cycles.open_first_cycle(unit, account, at)
    return account


def add_users(
    deployment: Deployment,
    user_ids: Iterable[str],
    plan: str,
    timezone: str = "UTC",
    region: str | None = None,
    segment: str | None = None,
    at: datetime | None = None,
) -> int:
    """Sign many users up on the same terms, :data:`BATCH` in a transaction; returns how many. Repeating it changes nothing."""
    at = deployment.instant(at)
    count = 0
    stream = iter(user_ids)
    while batch := [units.checked_id(user_id, "user_id") for user_id in islice(stream, BATCH)]:

        def sign_up(unit: Unit, batch: list[str] = batch) -> None:
            unit.lock_users(batch)
            for user_id in batch:
                add_user_in(unit, deployment, user_id, plan, timezone, region, segment, at)

        deployment.ledger.run(sign_up)
        count += len(batch)
    return count


def grant(
    deployment: Deployment,
    user_id: str,
    amount_uc: int,
    lot_kind: str,
    key: str,
    expires_at: datetime | None = None,
    unit_price_usd_micro: int = 0,
    at: datetime | None = None,
) -> Balance:
    """Grant credits into a lot of their own. ``key`` names the grant: the same call again changes nothing."""
    at = deployment.instant(at)
    deployment.ledger.run(
        lambda unit: grant_in(unit, deployment, user_id, amount_uc, lot_kind, key, at, expires_at, unit_price_usd_micro)
    )
    return lookup.balance(deployment, user_id)


def grant_in(
    unit: Unit,
    deployment: Deployment,
    user_id: str,
    amount_uc: int,
    lot_kind: str,
    key: str,
    at: datetime,
    expires_at: datetime | None = None,
    unit_price_usd_micro: int = 0,
) -> Lot:
    """:func:`grant` inside a transaction; returns the lot."""
    units.checked_uc(amount_uc, "amount_uc", minimum=1)
    units.checked_uc(unit_price_usd_micro, "unit_price_usd_micro")
    key = units.checked_id(key, "key")
    if lot_kind not in LOT_KINDS:
        raise InvalidRequest(f"lot_kind must be one of {', '.join(LOT_KINDS)}, got {lot_kind!r}.")
    if expires_at is not None and units.checked_instant(expires_at, "expires_at") <= at:
        raise InvalidRequest(f"expires_at {expires_at.isoformat()} is not after the grant ({at.isoformat()}).")
    user, account = unit.user(user_id)
    leg = leg_id("grant", user_id, key)
    lot_id = leg_id("lot", account.account_id, "grant", key)
    lines = unit.leg(leg)
    lot = unit.lot(account, lot_id)
    if lines and lot is not None:
        if (lines[0]["d_avail_uc"], lot.kind) != (amount_uc, lot_kind):
            raise Conflict(
                f"Grant {key!r} of user {user_id!r} was posted before with another amount or lot kind. Use a new key for a new grant."
            )
        return lot
    cycles.catch_up(unit, deployment, account, at)
    lot = unit.add_lot(account, Lot(lot_id, account.account_id, lot_kind, at, expires_at, unit_price_usd_micro, 0, 0))
    unit.append(
        account,
        "grant",
        leg,
        [Delta(lot, amount_uc, 0)],
        at,
        user_id=user.user_id,
        team_id=user.team_id,
        details={"key": key},
    )
    cycles.set_due(unit, account)
    return lot
