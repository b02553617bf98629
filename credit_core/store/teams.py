"""Teams, who belongs to them from which cycle on, and how the quota of a cycle was shared out (SPEC 2.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, delete, func, insert, select, update

from credit_core.store.reads import Holding
from credit_core.store.schema import accounts, team_members, team_shares, teams, users


@dataclass(frozen=True, slots=True)
class TeamRow:
    """A row of ``teams``."""

    team_id: str
    plan: str
    region: str
    mode: str
    timezone: str
    anchor_day: str
    created_at: datetime


class Membership(NamedTuple):
    """A member's part in the quota as of a cycle; ``plan`` is what one with weight 0 goes on with."""

    from_cycle: int
    weight: int
    plan: str | None


class Share(NamedTuple):
    """What one member gets of a cycle's quota, and by which plan it was shared out."""

    plan: str
    quota_uc: int


class MemberRow(NamedTuple):
    """A user of a team and the account that pays for them."""

    user_id: str
    account_id: str
    quota_uc: int
    avail_uc: int
    held_uc: int


def find(connection: Connection, team_id: str, *, lock: bool = False) -> TeamRow | None:
    """The team; with ``lock`` nobody else joins it, leaves it or shares its quota out before the commit."""
    query = select(teams).where(teams.c.team_id == team_id)
    row = connection.execute(query.with_for_update() if lock else query).first()
    return None if row is None else TeamRow(**row._mapping)


def add(connection: Connection, team: TeamRow) -> None:
    """A new team."""
    connection.execute(insert(teams), asdict(team))


def set_plan(connection: Connection, team_id: str, plan: str) -> None:
    """The team is on another plan."""
    connection.execute(update(teams).where(teams.c.team_id == team_id).values(plan=plan))


def members(connection: Connection, team_id: str) -> list[MemberRow]:
    """The users of a team, by name."""
    query = (
        select(users.c.user_id, *(accounts.c[name] for name in MemberRow._fields[1:]))
        .join_from(users, accounts, users.c.account_id == accounts.c.account_id)
        .where(users.c.team_id == team_id)
        .order_by(users.c.user_id)
    )
    return [MemberRow(*row) for row in connection.execute(query)]


def held(connection: Connection, account_id: str) -> Holding | None:
    """What an account holds; None where there is no such account."""
    query = select(accounts.c.account_id, accounts.c.avail_uc, accounts.c.held_uc)
    row = connection.execute(query.where(accounts.c.account_id == account_id)).first()
    return None if row is None else Holding(*row)


def membership(connection: Connection, user_id: str, cycle_no: int) -> Membership | None:
    """A member's part as of the team's cycle ``cycle_no``; None before the first."""
    column = team_members.c
    row = connection.execute(
        select(column.from_cycle, column.weight, column.plan)
        .where(column.user_id == user_id, column.from_cycle <= cycle_no)
        .order_by(column.from_cycle.desc())
        .limit(1)
    ).first()
    return None if row is None else Membership(*row)


def weights(connection: Connection, team_id: str, cycle_no: int) -> dict[str, int]:
    """Weight of everybody who takes part in the team's cycle ``cycle_no``."""
    column = team_members.c
    rows = connection.execute(
        select(column.user_id, column.weight)
        .where(column.team_id == team_id, column.from_cycle <= cycle_no)
        .order_by(column.from_cycle)
    )
    newest = {user_id: weight for user_id, weight in rows}  # noqa: C416 - a later row of a user replaces the earlier one
    return {user_id: weight for user_id, weight in newest.items() if weight > 0}


def set_membership(connection: Connection, team_id: str, user_id: str, part: Membership) -> None:
    """The member's part from ``part.from_cycle`` on; what was planned for that cycle before is replaced."""
    column = team_members.c
    connection.execute(delete(team_members).where(column.user_id == user_id, column.from_cycle == part.from_cycle))
    connection.execute(insert(team_members), {"team_id": team_id, "user_id": user_id, **part._asdict()})


def newest_shared(connection: Connection, team_id: str) -> int | None:
    """The newest cycle whose quota is shared out; None before the first."""
    return connection.execute(select(func.max(team_shares.c.cycle_no)).where(team_shares.c.team_id == team_id)).scalar()


def is_shared(connection: Connection, team_id: str, cycle_no: int) -> bool:
    """True once the quota of the cycle is shared out."""
    query = select(team_shares.c.user_id).where(team_shares.c.team_id == team_id, team_shares.c.cycle_no == cycle_no)
    return connection.execute(query.limit(1)).first() is not None


def share(connection: Connection, team_id: str, cycle_no: int, user_id: str) -> Share | None:
    """What a member gets of a cycle; None where the cycle is not shared out, or not with them."""
    column = team_shares.c
    row = connection.execute(
        select(column.plan, column.quota_uc).where(
            column.team_id == team_id, column.cycle_no == cycle_no, column.user_id == user_id
        )
    ).first()
    return None if row is None else Share(*row)


def add_shares(connection: Connection, team_id: str, cycle_no: int, plan: str, shares: Mapping[str, int]) -> None:
    """Share the quota of a cycle out, for good."""
    rows = [
        {"team_id": team_id, "cycle_no": cycle_no, "user_id": user_id, "plan": plan, "quota_uc": quota_uc}
        for user_id, quota_uc in sorted(shares.items())
    ]
    if rows:
        connection.execute(insert(team_shares), rows)
