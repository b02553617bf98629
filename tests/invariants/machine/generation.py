"""One generation: authorize, its ends, calls made twice, and the reward."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from credit_core import Decision, Request
from credit_core.errors import AlreadyEnded, Conflict, NotFound, RequestMismatch
from credit_core.store.records import opening_leg
from tests.invariants.machine.base import JUDGED, Machine, cells, late, picks, users
from tests.service.scenes import CREDIT


class Generation(Machine):
    """Requests and how they end."""

    def remember(self) -> None:
        super().remember()
        self.rewarded: dict[tuple[str, str], float] = {}

    @rule(user=users, images=st.integers(1, 8), cell=cells, behind=late, session=st.integers(1, 2))
    def authorize(self, user: str, images: int, cell: tuple[str, str], behind: timedelta, session: int) -> None:
        request = Request(user, f"r-{next(self.numbers)}", f"s-{session}", *cell, images=images)
        self.asked(request, self.at(behind))

    @rule(user=users, over=st.integers(-1, 1), behind=late)
    def authorize_the_whole_balance(self, user: str, over: int, behind: timedelta) -> None:
        images = self.wallets[user].available // CREDIT + over
        if 1 <= images <= 1_000:
            self.asked(Request(user, f"r-{next(self.numbers)}", "s-1", images=images), self.at(behind))

    @rule(
        user=users,
        images=st.lists(st.integers(1, 8), min_size=1, max_size=6),
        cell=cells,
        end=st.sampled_from(["settle", "settle", "release", "partial"]),
        took=st.timedeltas(timedelta(seconds=1), timedelta(minutes=20)),
        share=st.sampled_from([None, 0.5]),
    )
    def generate(
        self, user: str, images: list[int], cell: tuple[str, str], end: str, took: timedelta, share: float | None
    ) -> None:
        """Several generations to their ends, as an application makes them; some take longer than their holds."""
        self.awake(user)
        for number in images:
            self.asked(Request(user, f"r-{next(self.numbers)}", "s-1", *cell, images=number), self.clock.now)
            self.clock.now += took
            if end == "settle":
                self.settled(*self.requests[-1], share, self.clock.now)
            else:
                self.given_back(*self.requests[-1], end, self.clock.now)

    @rule(user=users, count=st.integers(11, 34), settle=st.booleans())
    def binge(self, user: str, count: int, settle: bool) -> None:
        """One image after the other, until the session's cap or the bucket stops it; delivered, or abandoned."""
        self.awake(user)
        for _ in range(count):
            self.asked(Request(user, f"r-{next(self.numbers)}", "s-1"), self.clock.now)
            self.clock.now += timedelta(seconds=1)
            if settle and self.requests[-1][1].fresh:
                self.settled(*self.requests[-1], None, self.clock.now)

    def asked(self, request: Request, at: datetime) -> None:
        wallet = self.wallets[request.user_id]
        decision = self.core.authorize(request, at=at)
        wallet.catch_up(at, self.live)
        state = decision.state
        assert (state.available_uc, state.paced_uc, state.quota_uc) == (wallet.available, wallet.paced, wallet.quota)
        assert not (decision.fresh and wallet.paused_at)
        if decision.rule in JUDGED:
            assert (decision.rule == "unaffordable") == (request.images * CREDIT > wallet.available)
        assert decision.config_version == self.released[-1]
        assert self.core.explain(request.user_id, request.request_id).exact
        if decision.fresh:
            assert decision.amount_uc == request.images * CREDIT
            wallet.reserve(request.request_id, decision.amount_uc, at, self.live)
        if decision.status == "DEFERRED":
            self.waiting.append((at, opening_leg(request.user_id, request.request_id), request))
        self.requests.append((request, decision))

    @precondition(lambda self: self.requests)
    @rule(pick=picks, behind=late, more=st.integers(0, 1))
    def ask_again(self, pick: int, behind: timedelta, more: int) -> None:
        request, decision = self.requests[pick % len(self.requests)]
        before, at = self.entries(), self.at(behind)
        if more:
            self.refused(
                RequestMismatch, lambda: self.core.authorize(request._replace(images=request.images + more), at=at)
            )
        else:
            assert self.core.authorize(request, at=at) == decision._replace(replayed=True)
            assert self.entries() == before

    @precondition(lambda self: self.requests)
    @rule(pick=picks, share=st.sampled_from([None, 1.0, 0.0, 0.3, 0.123456]), behind=late)
    def settle(self, pick: int, share: float | None, behind: timedelta) -> None:
        self.settled(*self.pick(pick), share, self.at(behind))

    def settled(self, request: Request, decision: Decision, share: float | None, at: datetime) -> None:
        user, request_id = request.user_id, request.request_id
        wallet = self.wallet_of(user, request_id)
        actual = decision.amount_uc if share is None else int(decision.amount_uc * share)

        def call() -> Any:
            return self.core.settle(user, request_id, None if share is None else actual, at=at)

        first = self.ended.get((user, request_id))
        if not decision.fresh:
            self.refused(AlreadyEnded, call)
        elif first is None:
            ended = call()
            wallet.catch_up(at, self.live)
            wallet.end(request_id, actual, at, self.live)
            assert (ended.status, ended.settled_uc, ended.replayed) == ("SETTLED", actual, False)
            self.ended[user, request_id] = ("settle", actual)
            if request.genre is not None and request.mood is not None:
                self.assets[request.genre, request.mood] += request.images
        elif first == ("settle", actual):
            before = self.entries()
            assert call().replayed
            assert self.entries() == before
        elif first[0] == "sweep":
            with pytest.raises(AlreadyEnded, match="swept"):
                call()
            if first[1] == 0:
                # Recorded once, and like every entry after what was due by then.
                wallet.catch_up(at, self.live)
                self.ended[user, request_id] = ("sweep", 1)
        else:
            self.refused(AlreadyEnded, call)

    @precondition(lambda self: self.requests)
    @rule(pick=picks, behind=late, end=st.sampled_from(["release", "partial"]))
    def give_back(self, pick: int, behind: timedelta, end: str) -> None:
        self.given_back(*self.pick(pick), end, self.at(behind))

    def given_back(self, request: Request, decision: Decision, end: str, at: datetime) -> None:
        user, request_id = request.user_id, request.request_id
        wallet = self.wallet_of(user, request_id)

        def call() -> Any:
            if end == "partial":
                return self.core.partial(user, request_id, at=at)
            return self.core.release(user, request_id, "provider_error", at=at)

        first = self.ended.get((user, request_id), (None,))[0]
        if not decision.fresh:
            self.refused(AlreadyEnded, call)
        elif first is None:
            assert call().returned_uc == decision.amount_uc
            wallet.catch_up(at, self.live)
            wallet.end(request_id, 0, at, self.live)
            self.ended[user, request_id] = (end, 0)
            self.gave_back(user, request_id)
        elif first == end or (first == "sweep" and end == "release"):
            before = self.entries()
            assert call().replayed
            assert self.entries() == before
        else:
            self.refused(AlreadyEnded, call)

    @precondition(lambda self: self.requests)
    @rule(pick=picks, value=st.sampled_from([0.0, 0.5, 1]))
    def reward(self, pick: int, value: float) -> None:
        request, decision = self.requests[pick % len(self.requests)]
        key = (request.user_id, request.request_id)
        if decision.outcome is None:
            self.refused(NotFound, lambda: self.core.reward(*key, value))
        elif self.rewarded.setdefault(key, value) != value:
            self.refused(Conflict, lambda: self.core.reward(*key, value))
        else:
            self.unchanged(lambda: self.core.reward(*key, value))
