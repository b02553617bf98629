"""The quota of an apportioned team: shared out once per cycle, by whichever member's account opens the cycle first (SPEC 2.2).

Who takes part in a cycle is fixed before it begins, and its shares are written under the team's lock and never changed, so
that members' accounts may close late, in any order and from any process, and still add up to the team's quota.
"""

from __future__ import annotations

from typing import NamedTuple

from credit_core.policy import cycles, plans
from credit_core.service.deployment import Deployment
from credit_core.store import teams
from credit_core.store.ledger import Connection
from credit_core.store.records import Account, User, pool_of
from credit_core.store.teams import Share, TeamRow


class Next(NamedTuple):
    """Terms of an account's next cycle. ``leaves``: it begins without the team."""

    plan: str
    quota_uc: int
    leaves: bool = False


def next_terms(
    connection: Connection, deployment: Deployment, account: Account, owner: User | None, *, foresee: bool = False
) -> Next:
    """Plan and quota of the cycle after the account's running one. With ``foresee`` nothing is written: as things stand now."""
    if owner is None or owner.team_id is None or pool_of(account.account_id) is not None:
        return Next(account.plan, plans.terms(deployment.catalog.plan(account.plan), account.region).quota_uc)
    number = team_cycle(account) + 1
    part = teams.membership(connection, owner.user_id, number)
    if part is not None and part.weight == 0 and part.plan is not None:
        return Next(part.plan, plans.terms(deployment.catalog.plan(part.plan), account.region).quota_uc, leaves=True)
    share = (_foreseen if foresee else _shared)(connection, deployment, owner.team_id, number, owner.user_id)
    return Next(account.plan if share is None else share.plan, 0 if share is None else share.quota_uc)


def team_cycle(account: Account) -> int:
    """Number, among the team's cycles, of the running cycle of a member's account."""
    return account.cycle_no - account.anchor_no


def share_out(connection: Connection, deployment: Deployment, team: TeamRow, number: int) -> None:
    """Write everybody's share of the team's cycle ``number``. The team is locked, and the cycle not yet shared out."""
    shares = cycles.apportion(_quota_uc(deployment, team), teams.weights(connection, team.team_id, number))
    teams.add_shares(connection, team.team_id, number, team.plan, shares)


def _shared(connection: Connection, deployment: Deployment, team_id: str, number: int, user_id: str) -> Share | None:
    share = teams.share(connection, team_id, number, user_id)
    if share is not None or teams.is_shared(connection, team_id, number):
        return share
    team = teams.find(connection, team_id, lock=True)
    assert team is not None, "a member's team exists"
    # Another member's account may have opened the cycle before we had the lock.
    if not teams.is_shared(connection, team_id, number):
        share_out(connection, deployment, team, number)
    return teams.share(connection, team_id, number, user_id)


def _foreseen(connection: Connection, deployment: Deployment, team_id: str, number: int, user_id: str) -> Share | None:
    if teams.is_shared(connection, team_id, number):
        return teams.share(connection, team_id, number, user_id)
    team = teams.find(connection, team_id)
    assert team is not None, "a member's team exists"
    shares = cycles.apportion(_quota_uc(deployment, team), teams.weights(connection, team_id, number))
    return Share(team.plan, shares[user_id]) if user_id in shares else None


def _quota_uc(deployment: Deployment, team: TeamRow) -> int:
    return plans.terms(deployment.catalog.plan(team.plan), team.region).quota_uc
