"""Time passes, by minutes or by weeks, to the end of a cycle or over it."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import rule

from credit_core import Request
from tests.invariants.machine.base import users
from tests.invariants.machine.generation import Generation
from tests.service.scenes import CREDIT


class Passing(Generation):
    """The clock."""

    @rule(by=st.one_of(st.timedeltas(timedelta(), timedelta(hours=1)), st.timedeltas(timedelta(), timedelta(days=20))))
    def time_passes(self, by: timedelta) -> None:
        # MAX_AHEAD bounds what a caller may say, not how long a ledger lives: the clock goes along.
        self.clock.now += by

    @rule()
    def the_next_cycle_ends(self) -> None:
        self.clock.now = max(self.clock.now, min(wallet.ends for wallet in self.wallets.values()))

    @rule(user=users, share=st.sampled_from([1.0, 0.5, 0.2]))
    def a_cycle_ends_over_a_hold(self, user: str, share: float) -> None:
        wallet = self.wallets[user]
        images = int(wallet.available // CREDIT * share)
        before = wallet.ends - timedelta(seconds=1)
        if self.clock.now < before and 1 <= images <= 1_000:
            self.clock.now = before
            self.asked(Request(user, f"r-{next(self.numbers)}", "s-1", images=images), before)
            self.clock.now = wallet.ends
