"""Upkeep: reconcile, sweep, checks that are kept, heads that are kept elsewhere, the library."""

from __future__ import annotations

from datetime import timedelta
from operator import itemgetter

from hypothesis import strategies as st
from hypothesis.stateful import rule

from credit_core.service.generate import DEFERRAL_LIFETIME
from credit_core.store.records import opening_leg
from tests.invariants.machine.base import CELLS, Machine, late
from tests.service.scenes import scalar


class Upkeep(Machine):
    """What no user asked for."""

    @rule(behind=late)
    def reconcile(self, behind: timedelta) -> None:
        at = self.at(behind)
        closings = sum(wallet.closings for wallet in self.accounts)
        done = self.core.reconcile(at=at)
        for wallet in self.accounts:
            wallet.catch_up(at, self.live)
        assert done.closings == sum(wallet.closings for wallet in self.accounts) - closings

    @rule(behind=late)
    def sweep(self, behind: timedelta) -> None:
        at = self.at(behind)
        swept = self.core.sweep(at=at)
        asked = {request.request_id: request.user_id for request, _ in self.requests}
        over = [
            (hold.ends, opening_leg(asked[r], r), wallet, r)
            for wallet in self.accounts
            for r, hold in wallet.holds.items()
            if hold.ends <= at
        ]
        # What comes back first may fill the room under the cap that another would have had.
        found = [(wallet, r) for _, _, wallet, r in sorted(over, key=itemgetter(0, 1))]
        overdue = [(since, request) for since, _, request in self.waiting if since + DEFERRAL_LIFETIME <= at]
        assert swept == (len(found), sum(wallet.holds[r].amount for wallet, r in found), len(overdue))
        for wallet, request_id in found:
            wallet.catch_up(at, self.live)
            wallet.end(request_id, 0, at, self.live)
            self.ended[asked[request_id], request_id] = ("sweep", 0)
            self.gave_back(asked[request_id], request_id)
        for since, request in overdue:
            self.dropped(since, request)
        self.waiting = [one for one in self.waiting if one[0] + DEFERRAL_LIFETIME > at]
        assert scalar(self.core, "SELECT count(*) FROM deferrals") == len(self.waiting)

    @rule()
    def all_holds_run_out(self) -> None:
        """Nobody ends anything for as long as holds live, and the sweeper comes."""
        ends = [hold.ends for wallet in self.accounts for hold in wallet.holds.values()]
        self.clock.now = max([self.clock.now, *ends])
        self.sweep(timedelta())

    @rule(limit=st.integers(1, 3), behind=late)
    def take_cells_to_fill(self, limit: int, behind: timedelta) -> None:
        """Cells are leased for an hour: nobody else gets one of them meanwhile."""
        at = self.at(behind)
        taken = self.unchanged(lambda: self.core.library.take(limit, at=at))
        assert len(taken) <= limit
        for cell in taken:
            assert (cell.genre, cell.mood) in CELLS
            assert cell.score > 0
        again = {(cell.genre, cell.mood) for cell in self.core.library.take(limit, at=at)}
        assert not again & {(cell.genre, cell.mood) for cell in taken}

    @rule(what=st.sampled_from(["heads", "check", "stock"]), cell=st.sampled_from(CELLS), assets=st.integers(1, 9))
    def keep(self, what: str, cell: tuple[str, str], assets: int) -> None:
        if what == "heads":
            self.heads = self.unchanged(self.core.heads)
            # Who counts and has asked for nothing yet has no entry, and so no head.
            begun = scalar(self.core, "SELECT count(DISTINCT account_id) FROM ledger_entries")
            signed_up = [user for user in self.wallets if not user.startswith("guest:")]
            assert (len(self.heads), self.core.users()) == (begun, len(signed_up))
        elif what == "check":
            before = scalar(self.core, "SELECT count(*) FROM checks")
            assert self.core.verify(record_as="olga") == []
            assert scalar(self.core, "SELECT count(*) FROM checks") == before + 1
            assert self.core.weakly_guarded() is False
        else:
            self.fill(*cell, assets, self.clock.now)
            assert self.core.library.cell(*cell, at=self.clock.now).assets == self.assets[cell]
            assert self.core.library.coverage(*cell, at=self.clock.now) == min(1.0, self.assets[cell] / 20)
