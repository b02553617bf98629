"""Teams: one pool that all members spend from, or one quota that is shared out among accounts of their own (SPEC 2.2)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import NamedTuple

from credit_core import units
from credit_core.errors import Conflict, InvalidRequest, NotFound
from credit_core.policy import cycles as calendar
from credit_core.policy import plans
from credit_core.policy.plans import Plan
from credit_core.service import accounts, cycles, lifecycle, lookup, shares
from credit_core.service.deployment import Deployment
from credit_core.service.lookup import Balance
from credit_core.store import teams
from credit_core.store.ledger import Connection
from credit_core.store.records import Account, User, pool_id
from credit_core.store.teams import Membership, TeamRow
from credit_core.store.unit import Unit

POOLED, APPORTIONED = MODES = ("pooled", "apportioned")
#: Weight that one member may have, so that exact proportions stay within 64 bits.
MOST_WEIGHT = 1_000_000
_LAST_CYCLE = 2**31 - 1


class Member(NamedTuple):
    """A member of a team, and what the account that pays for them holds: in a pool everybody's.

    ``weight``: in the next cycle's quota, 0 for one who leaves with it; None in a pool.
    """

    user_id: str
    account_id: str
    weight: int | None
    quota_uc: int
    available_uc: int
    held_uc: int


class Team(NamedTuple):
    """A team: its terms, what it holds in all, and its members by name. ``quota_uc``: of the plan, for the whole team."""

    team_id: str
    plan: str
    region: str
    mode: str
    timezone: str
    quota_uc: int
    available_uc: int
    held_uc: int
    members: tuple[Member, ...]


def add_team(
    deployment: Deployment,
    team_id: str,
    plan: str,
    mode: str,
    timezone: str = "UTC",
    region: str | None = None,
    at: datetime | None = None,
) -> Team:
    """Set a team up; a pool gets its first quota at once. The same call again changes nothing; other terms raise :class:`Conflict`."""
    if mode not in MODES:
        raise InvalidRequest(f"mode must be one of {', '.join(MODES)}, got {mode!r}.")
    at = deployment.instant(at)
    region = accounts.DEFAULT_REGION if region is None else units.checked_id(region, "region")
    zone = units.checked_zone(timezone)
    _team_plan(deployment, plan)
    row = TeamRow(team_id, plan, region, mode, timezone, calendar.local_day(at, zone).isoformat(), at)
    deployment.ledger.run(lambda unit: _add_team_in(unit, deployment, row, at))
    return team(deployment, team_id)


def _team_plan(deployment: Deployment, name: str) -> Plan:
    plan = deployment.catalog.plan(name)
    if not plan.cycled:
        raise InvalidRequest(f"A team shares a quota, and plan {name!r} has none. Choose one with quota_credits.")
    return plan


def _add_team_in(unit: Unit, deployment: Deployment, row: TeamRow, at: datetime) -> None:
    there = teams.find(unit.connection, row.team_id, lock=True)
    if there is not None:
        if (there.plan, there.region, there.mode, there.timezone) != (row.plan, row.region, row.mode, row.timezone):
            raise Conflict(
                f"Team {row.team_id!r} exists, {there.mode}, on plan {there.plan!r} in {there.timezone}, region {there.region!r}. "
                "Nothing was changed."
            )
        return
    teams.add(unit.connection, row)
    if row.mode == POOLED:
        quota_uc = plans.terms(deployment.catalog.plan(row.plan), row.region).quota_uc
        pool = _account(pool_id(row.team_id), row, 0, quota_uc, at, unit.now)
        unit.add_account(pool)
        cycles.open_first_cycle(unit, pool, at)


def add_member(
    deployment: Deployment,
    team_id: str,
    user_id: str,
    plan: str,
    timezone: str = "UTC",
    region: str | None = None,
    segment: str | None = None,
    at: datetime | None = None,
) -> Balance:
    """Sign a user up as a member of a team: of a pool at once, of an apportioned quota with the next cycle.

    The first member of an apportioned team has its whole quota until that; :func:`add_members` lets several begin together.
    ``plan`` and ``region`` must be the team's. The same call again changes nothing; other terms raise :class:`Conflict`.
    """
    at = deployment.instant(at)
    units.checked_zone(timezone)
    segment = None if segment is None else units.checked_id(segment, "segment")

    def act(unit: Unit) -> None:
        row = _joined(unit, team_id, [user_id])
        if (plan, row.region if region is None else region) != (row.plan, row.region):
            raise Conflict(
                f"Team {team_id!r} is on plan {row.plan!r} in region {row.region!r}, and its members with it. "
                f"Add them with that plan, or move all by core.change_team_plan({team_id!r}, plan)."
            )
        _join(unit, deployment, row, {user_id: 1}, timezone, segment, at)

    deployment.ledger.run(act)
    return lookup.balance(deployment, user_id)


def add_members(deployment: Deployment, team_id: str, weights: Mapping[str, int], at: datetime | None = None) -> Team:
    """Sign several users up at once, as :func:`add_member`, in the team's time zone. ``weights``: user → weight in its quota.

    Where the team has no member yet, they share the running cycle's quota.
    """
    checked = {units.checked_id(user_id, "user_id"): _weight(weight) for user_id, weight in weights.items()}
    at = deployment.instant(at)

    def act(unit: Unit) -> None:
        row = _joined(unit, team_id, checked)
        _join(unit, deployment, row, checked, row.timezone, None, at)

    deployment.ledger.run(act)
    return team(deployment, team_id)


def _joined(unit: Unit, team_id: str, user_ids: Iterable[str]) -> TeamRow:
    """The team, for users to join. Everywhere accounts are locked before their team."""
    unit.lock_users(user_ids)
    unit.lock_accounts([pool_id(team_id)])
    return _locked(unit.connection, team_id)


def _join(
    unit: Unit,
    deployment: Deployment,
    row: TeamRow,
    weights: Mapping[str, int],
    timezone: str,
    segment: str | None,
    at: datetime,
) -> None:
    new: dict[str, int] = {}
    for user_id, weight in sorted(weights.items()):
        if not unit.has_user(user_id):
            new[user_id] = weight
            continue
        there, _ = unit.user(user_id)
        if (there.team_id, there.timezone, there.segment) != (row.team_id, timezone, segment):
            whose = "in no team" if there.team_id is None else f"in team {there.team_id!r}"
            raise Conflict(f"User {user_id!r} exists, {whose}, in {there.timezone}. Nothing was changed.")
    if not new:
        return
    if row.mode == POOLED:
        (pool,) = unit.lock_accounts([pool_id(row.team_id)])
        paying = dict.fromkeys(new, pool)
    else:
        paying = _open_members(unit, deployment, row, new, at)
    for user_id, account in paying.items():
        unit.add_user(accounts.blank_user(user_id, account.account_id, timezone, row.team_id, segment, at))
        if row.mode == APPORTIONED:
            cycles.open_first_cycle(unit, account, at)


def _open_members(
    unit: Unit, deployment: Deployment, row: TeamRow, new: Mapping[str, int], at: datetime
) -> dict[str, Account]:
    number = calendar.number_at(date.fromisoformat(row.anchor_day), units.checked_zone(row.timezone), at)
    if number < 0:
        raise InvalidRequest(
            f"Team {row.team_id!r} begins on {row.anchor_day}, after {at.isoformat()}. Use a later at."
        )
    # A cycle that somebody takes part in is not shared out anew.
    first = number + 1 if teams.weights(unit.connection, row.team_id, number) else number
    _refuse_shared(unit.connection, row, first)
    for user_id, weight in new.items():
        teams.set_membership(unit.connection, row.team_id, user_id, Membership(first, weight, None))
    if first == number:
        shares.share_out(unit.connection, deployment, row, number)
    opened: dict[str, Account] = {}
    for user_id in new:
        share = teams.share(unit.connection, row.team_id, number, user_id)
        quota_uc = 0 if share is None else share.quota_uc
        opened[user_id] = _account(accounts.account_id(user_id), row, number, quota_uc, at, unit.now)
        unit.add_account(opened[user_id])
    return opened


def set_weight(deployment: Deployment, user_id: str, weight: int, at: datetime | None = None) -> Team:
    """Give a member of an apportioned team another weight, from the next cycle on."""
    part = _weight(weight)
    at = deployment.instant(at)

    def act(unit: Unit) -> str:
        user, account = _member(unit, user_id)
        cycles.catch_up(unit, deployment, account, at)
        row = _locked(unit.connection, _team_of(user))
        if row.mode == POOLED:
            raise Conflict(f"Team {row.team_id!r} is pooled: its members have no shares, so nothing was changed.")
        _plan_part(unit, row, user, account, at, part, None)
        return row.team_id

    return team(deployment, deployment.ledger.run(act))


def leave_team(deployment: Deployment, user_id: str, plan: str, at: datetime | None = None) -> Balance:
    """Take a member out of their team; they go on alone, on ``plan``.

    Of a pool they leave at once: all it holds stays with it, and a first quota of ``plan`` begins. Of an apportioned quota
    they leave with the running cycle: its unspent credits expire then, what they were sold or given besides stays theirs.
    """
    deployment.catalog.plan(plan)
    at = deployment.instant(at)

    def act(unit: Unit) -> None:
        user, account = _member(unit, user_id)
        cycles.catch_up(unit, deployment, account, at)
        row = _locked(unit.connection, _team_of(user))
        if row.mode == APPORTIONED:
            _plan_part(unit, row, user, account, at, 0, plan)
        else:
            _leave_pool(unit, deployment, row, user, plan, at)

    deployment.ledger.run(act)
    return lookup.balance(deployment, user_id)


def _leave_pool(unit: Unit, deployment: Deployment, row: TeamRow, user: User, plan: str, at: datetime) -> None:
    zone = units.checked_zone(user.timezone)
    anchor = calendar.local_day(at, zone)
    bounds = (calendar.cycle_start(anchor, zone, 0), calendar.cycle_start(anchor, zone, 1))
    alone = deployment.catalog.plan(plan)
    quota_uc = plans.terms(alone, row.region).quota_uc
    account = accounts.blank_account(
        accounts.account_id(user.user_id), plan, row.region, user.timezone, anchor, 0, bounds, quota_uc, at, unit.now,
        cycled=alone.cycled,
    )  # fmt: skip
    unit.add_account(account)
    unit.move_user(user, account)
    # The next session begins with what the new account holds.
    user.team_id = user.session_last_at = None
    cycles.open_first_cycle(unit, account, at)


def _plan_part(
    unit: Unit, row: TeamRow, user: User, account: Account, at: datetime, weight: int, plan: str | None
) -> None:
    number = calendar.number_at(date.fromisoformat(row.anchor_day), units.checked_zone(row.timezone), at)
    first = max(number, shares.team_cycle(account)) + 1
    _refuse_shared(unit.connection, row, first)
    teams.set_membership(unit.connection, row.team_id, user.user_id, Membership(first, weight, plan))


def change_team_plan(deployment: Deployment, team_id: str, plan: str, at: datetime | None = None) -> Team:
    """Move a team to ``plan``: a pool at once, as a user's own account; an apportioned quota with the next cycle."""
    _team_plan(deployment, plan)
    at = deployment.instant(at)

    def act(unit: Unit) -> None:
        pool = unit.lock_accounts([pool_id(team_id)])
        row = _locked(unit.connection, team_id)
        if row.mode == POOLED:
            lifecycle.move_to_plan(unit, deployment, pool[0], plan, at, {"team_id": team_id})
        teams.set_plan(unit.connection, team_id, plan)

    deployment.ledger.run(act)
    return team(deployment, team_id)


def pause_team(deployment: Deployment, team_id: str, at: datetime | None = None) -> Team:
    """Freeze a pool's cycle for all its members, until :func:`resume_team`."""
    at = deployment.instant(at)
    deployment.ledger.run(
        lambda unit: lifecycle.freeze(unit, deployment, _pool(unit, team_id), at, {"team_id": team_id})
    )
    return team(deployment, team_id)


def resume_team(deployment: Deployment, team_id: str, at: datetime | None = None) -> Team:
    """End a pool's pause."""
    at = deployment.instant(at)

    def act(unit: Unit) -> None:
        pool = _pool(unit, team_id)
        lifecycle.thaw(unit, pool, pool.timezone, at, {"team_id": team_id})

    deployment.ledger.run(act)
    return team(deployment, team_id)


def team(deployment: Deployment, team_id: str) -> Team:
    """A team and its members, without writing anything."""
    with deployment.ledger.reading() as connection:
        row = _found(teams.find(connection, team_id), team_id)
        there = teams.members(connection, team_id)
        weights = teams.weights(connection, team_id, _LAST_CYCLE)
        pool = teams.held(connection, pool_id(team_id)) if row.mode == POOLED else None
    quota_uc = plans.terms(deployment.catalog.plan(row.plan), row.region).quota_uc
    members = tuple(
        Member(
            one.user_id,
            one.account_id,
            weights.get(one.user_id, 0) if row.mode == APPORTIONED else None,
            one.quota_uc,
            one.avail_uc,
            one.held_uc,
        )
        for one in there
    )
    available = sum(one.avail_uc for one in there) if pool is None else pool.avail_uc
    held = sum(one.held_uc for one in there) if pool is None else pool.held_uc
    return Team(team_id, row.plan, row.region, row.mode, row.timezone, quota_uc, available, held, members)


def _account(account_id: str, row: TeamRow, number: int, quota_uc: int, at: datetime, now: datetime) -> Account:
    """An account that keeps the team's calendar, from the team's cycle ``number`` on."""
    anchor, zone = date.fromisoformat(row.anchor_day), units.checked_zone(row.timezone)
    bounds = (calendar.cycle_start(anchor, zone, number), calendar.cycle_start(anchor, zone, number + 1))
    return accounts.blank_account(
        account_id, row.plan, row.region, row.timezone, anchor, -number, bounds, quota_uc, at, now
    )


def _refuse_shared(connection: Connection, row: TeamRow, first: int) -> None:
    newest = teams.newest_shared(connection, row.team_id)
    if newest is not None and newest >= first:
        start = calendar.cycle_start(
            date.fromisoformat(row.anchor_day), units.checked_zone(row.timezone), newest
        ).isoformat()
        raise Conflict(
            f"The quota of team {row.team_id!r} is already shared out for the cycle that begins at {start}. "
            "Make the change with an at in that cycle or later; nothing was written."
        )


def _member(unit: Unit, user_id: str) -> tuple[User, Account]:
    user, account = unit.user(user_id)
    _team_of(user)
    return user, account


def _team_of(user: User) -> str:
    if user.team_id is None:
        raise Conflict(f"User {user.user_id!r} is in no team. Nothing was changed.")
    return user.team_id


def _pool(unit: Unit, team_id: str) -> Account:
    row = _found(teams.find(unit.connection, team_id), team_id)
    if row.mode == APPORTIONED:
        raise Conflict(
            f"Team {team_id!r} is apportioned: its members' cycles must go on together, so they cannot be paused. "
            "Let members leave instead."
        )
    return unit.lock_accounts([pool_id(team_id)])[0]


def _locked(connection: Connection, team_id: str) -> TeamRow:
    return _found(teams.find(connection, team_id, lock=True), team_id)


def _found(row: TeamRow | None, team_id: str) -> TeamRow:
    if row is None:
        raise NotFound(f"There is no team {team_id!r}. Add it first: core.add_team(team_id, plan, mode).")
    return row


def _weight(weight: object) -> int:
    if isinstance(weight, bool) or not isinstance(weight, int) or not 1 <= weight <= MOST_WEIGHT:
        raise InvalidRequest(f"weight must be a whole number from 1 to {MOST_WEIGHT}, got {weight!r}.")
    return weight
