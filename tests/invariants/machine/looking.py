"""Looking at a user: nothing is written, and what is shown is what the model says."""

from __future__ import annotations

from copy import deepcopy
from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import rule

from credit_core import Decision, Request
from tests.invariants.machine.base import Machine, late, picks, users


class Looking(Machine):
    """Reads."""

    @rule(user=users, behind=late, limit=st.sampled_from([1, 7, 10_000]), pick=picks)
    def look(self, user: str, behind: timedelta, limit: int, pick: int) -> None:
        self.profile(user, behind)
        self.what_the_customer_sees(sorted(self.wallets)[pick % len(self.wallets)], behind)
        # Of a pool everybody sees their own entries and the pool's, which add up to no balance.
        if self.wallets[user].team != "pool":
            self.page_through_the_history(user, limit)
        if self.requests:
            self.explain(*self.requests[pick % len(self.requests)])

    def profile(self, user: str, behind: timedelta) -> None:
        wallet = self.wallets[user]
        seen = self.unchanged(lambda: self.core.profile(user, at=self.at(behind)))
        after = deepcopy(wallet)
        after._close(self.live)
        assert (seen.available_uc, seen.held_uc, seen.paced_uc) == (wallet.available, wallet.held, wallet.paced)
        assert (seen.plan, seen.quota_uc) == (self.wallets[user].plan, wallet.quota)
        assert (seen.cycle_start_at, seen.next_reset_at) == (wallet.starts, wallet.ends)
        assert (seen.timezone, seen.paused_at) == (wallet.next_zone, wallet.paused_at)
        assert seen.next_amount_uc == after.available
        assert seen.config_version == self.released[-1]

    def what_the_customer_sees(self, user: str, behind: timedelta) -> None:
        wallet = self.wallets[user]
        seen = self.unchanged(lambda: self.core.customer_view(user, at=self.at(behind)))
        assert (seen.available_uc, seen.held_uc) == (wallet.available, wallet.held)
        assert (seen.plan, seen.paused) == (wallet.plan, wallet.paused_at is not None)
        assert seen.pack_uc == sum(lot.avail for lot in wallet.lots if lot.kind == "purchased")

    def page_through_the_history(self, user: str, limit: int) -> None:
        rows = page = self.core.history(user, limit=limit)
        while len(page) == limit:
            page = self.core.history(user, rows[-1]["seq"], limit)
            rows = rows + page
        assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))
        balance = self.core.balance(user)
        assert sum(row["d_avail_uc"] for row in rows) == balance.available_uc
        assert sum(row["d_held_uc"] for row in rows) == balance.held_uc
        charged = [row for row in rows if row["kind"] in ("settle", "import", "refund")]
        assert balance.lifetime.spent_uc == -sum(row["d_avail_uc"] + row["d_held_uc"] for row in charged)

    def explain(self, request: Request, decision: Decision) -> None:
        explained = self.unchanged(lambda: self.core.explain(request.user_id, request.request_id))
        assert explained.exact
        assert explained.logged == decision
