"""Upkeep: reconcile, sweep, checks that are kept, heads that are kept elsewhere, the library."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import rule

from tests.invariants.machine.base import CELLS, Machine, late
from tests.service.scenes import scalar


class Upkeep(Machine):
    """What no user asked for."""

    @rule(behind=late)
    def reconcile(self, behind: timedelta) -> None:
        at = self.at(behind)
        closings = sum(wallet.closings for wallet in self.wallets.values())
        done = self.core.reconcile(at=at)
        for wallet in self.wallets.values():
            wallet.catch_up(at, self.live)
        assert done.closings == sum(wallet.closings for wallet in self.wallets.values()) - closings

    @rule(behind=late)
    def sweep(self, behind: timedelta) -> None:
        at = self.at(behind)
        swept = self.core.sweep(at=at)
        found = [(user, r) for user, w in self.wallets.items() for r, hold in w.holds.items() if hold.ends <= at]
        assert swept == (len(found), sum(self.wallets[user].holds[r].amount for user, r in found))
        for user, request_id in found:
            self.wallets[user].catch_up(at, self.live)
            self.wallets[user].end(request_id, 0, at, self.live)
            self.ended[user, request_id] = ("sweep", 0)

    @rule()
    def all_holds_run_out(self) -> None:
        """Nobody ends anything for as long as holds live, and the sweeper comes."""
        ends = [hold.ends for wallet in self.wallets.values() for hold in wallet.holds.values()]
        self.clock.now = max([self.clock.now, *ends])
        self.sweep(timedelta())

    @rule(what=st.sampled_from(["heads", "check", "stock"]), cell=st.sampled_from(CELLS), assets=st.integers(1, 9))
    def keep(self, what: str, cell: tuple[str, str], assets: int) -> None:
        if what == "heads":
            self.heads = self.unchanged(self.core.heads)
            assert len(self.heads) == self.core.users() == len(self.wallets)
        elif what == "check":
            before = scalar(self.core, "SELECT count(*) FROM checks")
            assert self.core.verify(record_as="olga") == []
            assert scalar(self.core, "SELECT count(*) FROM checks") == before + 1
            assert self.core.weakly_guarded() is False
        else:
            self.fill(*cell, assets, self.clock.now)
            assert self.core.library.cell(*cell, at=self.clock.now).assets == self.assets[cell]
            assert self.core.library.coverage(*cell, at=self.clock.now) == min(1.0, self.assets[cell] / 20)
