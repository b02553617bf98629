"""Teams: one whose members spend from one pool, and one whose quota is shared out among them.

Members take part in every rule about users. What changes an apportioned team comes after everything due was written, so that
the next cycle's shares are known: who takes part, on which plan, with which weight.
"""

from __future__ import annotations

from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import rule

from credit_core.errors import Conflict
from tests.invariants.machine.base import POOLED, QUOTA, SIGNED_UP, Machine, late, plans
from tests.invariants.model import Upcoming, Wallet

ZONE = {"pool": "Europe/Berlin", "shared": "Asia/Kathmandu"}
WEIGHTS = {"hal": 1, "ivy": 2, "jan": 4}
teams = st.sampled_from(sorted(ZONE))
members = st.sampled_from([*POOLED, "kit", *WEIGHTS])


class Together(Machine):
    """Who spends with whom."""

    def begin(self) -> None:
        super().begin()
        at = SIGNED_UP[1]
        self.core.add_team("pool", "basic", "pooled", ZONE["pool"], at=at)
        self.core.add_members("pool", dict.fromkeys(POOLED, 1), at=at)
        self.pool = Wallet(QUOTA["basic"], ZONE["pool"], at, plan="basic", team="pool")
        self.accounts.append(self.pool)
        self.wallets |= dict.fromkeys(POOLED, self.pool)
        self.core.add_team("shared", "basic", "apportioned", ZONE["shared"], at=at)
        self.core.add_members("shared", WEIGHTS, at=at)
        self.shared_plan, self.weights = "basic", dict(WEIGHTS)
        #: Plan of those who leave with the running cycle.
        self.leaving: dict[str, str] = {}
        for user in WEIGHTS:
            wallet = Wallet(self.share(user), ZONE["shared"], at, plan="basic", team="shared")
            # A function and no bound method: a copy of the wallet must not copy the machine.
            wallet.upcoming = lambda user=user: self.next_terms(user)
            self.opened(user, wallet)

    def share(self, user: str) -> int:
        """Proportions rounded down; what is left goes to the largest remainders, among equal ones by name."""
        quota, total = QUOTA[self.shared_plan], sum(self.weights.values())
        exact = {name: divmod(quota * weight, total) for name, weight in self.weights.items()}
        order = sorted(exact, key=lambda name: (-exact[name][1], name))
        left = quota - sum(whole for whole, _ in exact.values())
        return exact[user][0] + (order.index(user) < left)

    def next_terms(self, user: str) -> Upcoming:
        if user in self.leaving:
            return Upcoming(self.leaving[user], QUOTA[self.leaving[user]], leaves=True)
        return Upcoming(self.shared_plan, self.share(user))

    @rule(behind=late)
    def join_the_pool(self, behind: timedelta) -> None:
        def call() -> object:
            return self.core.add_user("kit", self.pool.plan, ZONE["pool"], team_id="pool", at=self.at(behind))

        if "kit" not in self.wallets:
            call()
            self.wallets["kit"] = self.pool
        elif self.wallets["kit"] is self.pool:
            self.unchanged(call)
        else:
            self.refused(Conflict, call)

    @rule(user=members, plan=plans, rarely=st.integers(0, 2), behind=late)
    def leave(self, user: str, plan: str, rarely: int, behind: timedelta) -> None:
        wallet, at = self.wallets.get(user), self.at(behind)
        if wallet is None or rarely:
            return
        if not wallet.team:
            self.refused(Conflict, lambda: self.core.leave_team(user, plan, at=at))
        elif wallet is self.pool:
            self.core.leave_team(user, plan, at=at)
            wallet.catch_up(at, self.live)
            self.opened(user, Wallet(QUOTA[plan], ZONE["pool"], at, plan=plan))
        else:
            self.reconcile_all()
            if wallet.team:
                self.core.leave_team(user, plan, at=self.clock.now)
                self.leaving[user] = plan
                self.weights.pop(user, None)

    @rule(user=members, weight=st.integers(1, 7))
    def set_weight(self, user: str, weight: int) -> None:
        """Who was to leave stays."""
        self.reconcile_all()
        wallet = self.wallets.get(user)
        if wallet is None:
            return
        if wallet.team != "shared":
            self.refused(Conflict, lambda: self.core.set_weight(user, weight, at=self.clock.now))
        else:
            self.core.set_weight(user, weight, at=self.clock.now)
            self.weights[user] = weight
            self.leaving.pop(user, None)

    @rule(team=teams, plan=plans, behind=late)
    def change_team_plan(self, team: str, plan: str, behind: timedelta) -> None:
        at = self.at(behind)
        if team == "shared":
            self.reconcile_all()
            self.core.change_team_plan(team, plan, at=self.clock.now)
            self.shared_plan = plan
        elif plan == self.pool.plan:
            self.unchanged(lambda: self.core.change_team_plan(team, plan, at=at))
        elif self.pool.paused_at is not None:
            self.refused(Conflict, lambda: self.core.change_team_plan(team, plan, at=at))
        else:
            self.core.change_team_plan(team, plan, at=at)
            self.pool.catch_up(at, self.live)
            self.pool.plan = plan
            self.pool.change_plan(QUOTA[plan], at, self.live)

    @rule(team=teams, rarely=st.integers(0, 2), behind=late)
    def pause_or_resume_a_team(self, team: str, rarely: int, behind: timedelta) -> None:
        at = self.at(behind)
        if team == "shared":
            self.refused(Conflict, lambda: self.core.pause_team(team, at=at))
            self.refused(Conflict, lambda: self.core.resume_team(team, at=at))
        elif self.pool.paused_at is None:
            if not rarely:
                self.core.pause_team(team, at=at)
                self.pool.catch_up(at, self.live)
                self.pool.pause(at)
        elif at < self.pool.paused_at:
            self.refused(Conflict, lambda: self.core.resume_team(team, at=at))
        else:
            self.core.resume_team(team, at=at)
            self.pool.resume(at)

    @rule(team=teams)
    def look_at_a_team(self, team: str) -> None:
        """Whoever came and left: the shares of a cycle are the plan's quota, to the micro-credit."""
        self.reconcile_all()
        seen = self.unchanged(lambda: self.core.team(team))
        wallets = {user: wallet for user, wallet in self.wallets.items() if wallet.team == team}
        assert {member.user_id for member in seen.members} == set(wallets)
        of_team = [self.pool] if team == "pool" else list(wallets.values())
        assert (seen.available_uc, seen.held_uc) == (sum(w.available for w in of_team), sum(w.held for w in of_team))
        assert [m.quota_uc for m in seen.members] == [wallets[m.user_id].quota for m in seen.members]
        if team == "shared" and wallets:
            (plan,) = {wallet.plan for wallet in wallets.values()}
            assert sum(member.quota_uc for member in seen.members) == QUOTA[plan]
            assert {m.user_id: m.weight for m in seen.members} == {u: self.weights.get(u, 0) for u in wallets}
