"""Deferred requests: the fresh half of each is reserved once, in order, or dropped, or goes on waiting."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from credit_core.service.deferred import child_id
from credit_core.service.generate import DEFERRAL_LIFETIME
from tests.invariants.machine.base import late, users
from tests.invariants.machine.generation import Generation
from tests.invariants.machine.upkeep import Upkeep
from tests.service.scenes import CREDIT, scalar


class Deferred(Generation, Upkeep):
    """Draining the queue; what nobody drains is swept."""

    @rule(
        user=users,
        count=st.integers(12, 20),
        limit=st.sampled_from([0, 1, 100]),
        after=st.timedeltas(timedelta(), timedelta(hours=30)),
    )
    def binge_and_claim(self, user: str, count: int, limit: int, after: timedelta) -> None:
        """More than a session may have fresh; the worker comes later, some of it too late, or the sweeper alone."""
        self.binge(user, count, settle=True)
        self.clock.now += after
        if limit:
            self.claim_deferred(limit, timedelta())
        else:
            self.sweep(timedelta())

    @precondition(lambda self: self.waiting)
    @rule(limit=st.sampled_from([1, 2, 100]), behind=late)
    def claim_deferred(self, limit: int, behind: timedelta) -> None:
        at = self.at(behind)
        claimed = {decision.request_id: decision for decision in self.core.claim_deferred(limit, at=at)}
        taken = len(claimed)
        left = limit
        still = []
        for place, (since, leg, request) in enumerate(ordered := sorted(self.waiting)):
            if since > at or not left:
                still += ordered[place:]
                break
            if since + DEFERRAL_LIFETIME <= at:
                self.dropped(since, request)
                continue
            wallet = self.wallets[request.user_id]
            wallet.catch_up(at, self.live)
            child = request._replace(request_id=child_id(request.user_id, request.request_id))
            covered = request.images * CREDIT <= wallet.available
            if decision := claimed.pop(child.request_id, None):
                assert covered
                assert wallet.paused_at is None
                assert (decision.status, decision.amount_uc) == ("RESERVED", request.images * CREDIT)
                wallet.reserve(child.request_id, decision.amount_uc, at, self.live)
                left -= 1
            elif scalar(self.core, "SELECT count(*) FROM ledger_entries WHERE request_id = :id", id=child.request_id):
                assert not covered
                decision = self.core.explain(child.user_id, child.request_id).logged
                assert (decision.status, decision.rule) == ("REJECTED", "unaffordable")
            else:
                assert wallet.paused_at is not None or self.live.limits
                still.append((since, leg, request))
                continue
            assert self.core.explain(child.user_id, child.request_id).exact
            self.requests.append((child, decision))
        assert claimed == {}
        assert taken == limit - left
        self.waiting = still
        assert scalar(self.core, "SELECT count(*) FROM deferrals") == len(still)
