"""Users: sign-up and grants."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime
from itertools import islice
from zoneinfo import ZoneInfo

from credit_core import units
from credit_core.errors import Conflict, InvalidRequest
from credit_core.policy import cycles as calendar
from credit_core.policy import plans
from credit_core.policy.lots import LOT_KINDS
from credit_core.service import cycles, lookup
from credit_core.service.deployment import Deployment
from credit_core.service.lookup import Balance
from credit_core.store.chain import GENESIS
from credit_core.store.records import Account, Lot, User, leg_id, pool_of
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
    guest_session: str | None = None,
    at: datetime | None = None,
) -> Balance:
    """Sign a user up and grant what the plan begins with. The same call again changes nothing; other terms raise :class:`Conflict`.

    ``guest_session``: the session the user was a guest in before, for the funnel; a later call need not name it.
    """
    at = deployment.instant(at)
    deployment.ledger.run(
        lambda unit: add_user_in(unit, deployment, user_id, plan, timezone, region, segment, at, guest_session)
    )
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
    guest_session: str | None = None,
) -> Account:
    """:func:`add_user` inside a transaction."""
    user_id = units.checked_user(user_id)
    if is_guest(user_id):
        raise InvalidRequest(f"User ids that begin with {units.GUEST!r} are the guests' own. Choose another.")
    guest_session = None if guest_session is None else units.checked_id(guest_session, "guest_session")
    region = DEFAULT_REGION if region is None else units.checked_id(region, "region")
    segment = None if segment is None else units.checked_id(segment, "segment")
    zone = units.checked_zone(timezone)
    if deployment.catalog.plan(plan).quota_policy == "guest_window":
        raise InvalidRequest(f"Plan {plan!r} is for guests, who are not added: authorize with user_id None.")
    if unit.has_user(user_id):
        existing, account = unit.user(user_id)
        linked = guest_session is None or existing.guest_session == guest_session
        known = (account.plan, account.region, existing.timezone, existing.segment, existing.team_id)
        if known != (plan, region, timezone, segment, None) or not linked:
            raise Conflict(
                f"User {user_id!r} exists on plan {account.plan!r} in {existing.timezone}, region {account.region!r}. Nothing was changed."
            )
        return account
    account = _open(unit, deployment, user_id, "user", plan, zone, region, segment, guest_session, at)
    welcome = deployment.catalog.plan(plan).welcome_credits
    if welcome is not None:
        grant_in(unit, deployment, user_id, units.credits_to_uc(welcome), "welcome", "welcome", at)
    return account


def guest_id(session_id: str) -> str:
    """The user id of the guest of a session."""
    return f"{units.GUEST}{session_id}"


def is_guest(user_id: str) -> bool:
    """True for the user id of a guest."""
    return user_id.startswith(units.GUEST)


def open_guest(unit: Unit, deployment: Deployment, session_id: str, at: datetime) -> Account:
    """The account of a guest, at the first request of the session."""
    plan = deployment.catalog.guest_plan()
    zone = units.checked_zone("UTC")
    return _open(unit, deployment, guest_id(session_id), "guest", plan, zone, DEFAULT_REGION, None, None, at)


def _open(
    unit: Unit,
    deployment: Deployment,
    user_id: str,
    kind: str,
    plan: str,
    zone: ZoneInfo,
    region: str,
    segment: str | None,
    guest_session: str | None,
    at: datetime,
) -> Account:
    row = deployment.catalog.plan(plan)
    terms = plans.terms(row, region)
    anchor = calendar.local_day(at, zone)
    start, end = calendar.cycle_start(anchor, zone, 0), calendar.cycle_start(anchor, zone, 1)
    account = blank_account(
        user_id if kind == "guest" else account_id(user_id), plan, region, zone.key, anchor, 0, (start, end), terms.quota_uc,
        at, unit.now, cycled=row.cycled,
    )  # fmt: skip
    unit.add_account(account)
    unit.add_user(blank_user(user_id, account.account_id, zone.key, None, segment, at, guest_session))
    cycles.open_first_cycle(unit, account, at)
    return account


def account_id(user_id: str) -> str:
    """The account of a user's own."""
    return f"user:{user_id}"


def blank_account(
    account_id: str,
    plan: str,
    region: str,
    timezone: str,
    anchor: date,
    anchor_no: int,
    bounds: tuple[datetime, datetime],
    quota_uc: int,
    at: datetime,
    now: datetime,
    *,
    cycled: bool = True,
) -> Account:
    """An account before its first entry. ``bounds``: start and end of its first cycle; ``now``: the wall clock."""
    kind = "guest" if is_guest(account_id) else "user" if pool_of(account_id) is None else "team"
    return Account(
        account_id=account_id, kind=kind, plan=plan, region=region, timezone=timezone, anchor_day=anchor.isoformat(),
        anchor_no=anchor_no, cycle_no=0,
        cycle_start_at=bounds[0], cycle_end_at=bounds[1], quota_uc=quota_uc, avail_uc=0, held_uc=0, demand_uc=0, mode="steady", seq=0,
        head_hash=GENESIS, recorded_at=now, created_at=at, paused_at=None,
        due_at=bounds[1] if cycled else None, cycled=cycled,
    )  # fmt: skip


def blank_user(
    user_id: str,
    account_id: str,
    timezone: str,
    team_id: str | None,
    segment: str | None,
    at: datetime,
    guest_session: str | None = None,
) -> User:
    """A user before their first request."""
    return User(
        user_id=user_id, account_id=account_id, timezone=timezone, team_id=team_id, segment=segment, conserving=False,
        session_consent=True, blocked_at=None, created_at=at, session_last_at=None, session_images=0, session_fresh=0,
        session_fresh_uc=0, session_opening_uc=0, session_cells=[], bucket_level=0.0, bucket_at=None, guest_session=guest_session,
    )  # fmt: skip


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
    while batch := [units.checked_user(user_id) for user_id in islice(stream, BATCH)]:

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
    lines = unit.leg(leg)
    if lines:
        # It may have gone to another account: that of a pool which the user was in, or was not in yet.
        granted_to = unit.lock_accounts([lines[0]["account_id"]])[0]
        before = unit.lot(granted_to, lines[0]["lot_id"])
        assert before is not None, "a grant's lot stays"
        if (lines[0]["d_avail_uc"], before.kind) != (amount_uc, lot_kind):
            raise Conflict(
                f"Grant {key!r} of user {user_id!r} was posted before with another amount or lot kind. Use a new key for a new grant."
            )
        return before
    cycles.catch_up(unit, deployment, account, at)
    # Two members of a pool may use the same key.
    lot_id = leg_id("lot", account.account_id, "grant", user_id, key)
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
