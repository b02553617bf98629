"""A user's terms: sign-up, plan, zone, pause."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import rule

from credit_core.errors import Conflict
from tests.invariants.machine.base import LATER_USERS, QUOTA, USERS, Machine, late, plans, users, zones
from tests.service.scenes import change


class Standing(Machine):
    """Who is on what."""

    @rule(user=st.sampled_from((*USERS, *LATER_USERS)), plan=plans, zone=zones, behind=late)
    def sign_up(self, user: str, plan: str, zone: str, behind: timedelta) -> None:
        if user not in self.wallets:
            self.join(user, plan, zone, self.at(behind))
        elif (plan, zone) == (self.wallets[user].plan, self.wallets[user].next_zone):
            self.unchanged(lambda: self.core.add_user(user, plan, zone))
        else:
            self.refused(Conflict, lambda: self.core.add_user(user, plan, zone))

    @rule(user=users, zone=zones)
    def move(self, user: str, zone: str) -> None:
        if self.wallets[user].team:
            return
        change(self.core, "UPDATE users SET timezone = :zone WHERE user_id = :user", zone=zone, user=user)
        self.wallets[user].next_zone = zone

    @rule(user=users, plan=plans, behind=late)
    def change_plan(self, user: str, plan: str, behind: timedelta) -> None:
        wallet, at = self.wallets[user], self.at(behind)
        if wallet.team or (QUOTA[plan] != wallet.quota and wallet.paused_at is not None):
            self.refused(Conflict, lambda: self.core.change_plan(user, plan, at=at))
            return
        self.core.change_plan(user, plan, at=at)
        self.wallets[user].plan = plan
        if QUOTA[plan] != wallet.quota:
            wallet.catch_up(at, self.live)
            wallet.change_plan(QUOTA[plan], at, self.live)

    @rule(user=users, rarely=st.integers(0, 3), behind=late)
    def pause_or_resume(self, user: str, rarely: int, behind: timedelta) -> None:
        wallet, at = self.wallets[user], self.at(behind)
        if wallet.team:
            self.refused(Conflict, lambda: self.core.pause(user, at=at))
            self.refused(Conflict, lambda: self.core.resume(user, at=at))
            return
        if wallet.paused_at is None and rarely < 3:
            return
        if wallet.paused_at is None:
            self.core.pause(user, at=at)
            wallet.catch_up(at, self.live)
            wallet.pause(at)
        elif at < wallet.paused_at:
            self.refused(Conflict, lambda: self.core.resume(user, at=at))
        else:
            self.core.resume(user, at=at)
            wallet.resume(at)
