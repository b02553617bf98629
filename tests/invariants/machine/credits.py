"""Credits by hand and by sale: grants, packs, adjustments, refunds, each under a key that counts once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from credit_core import Request
from credit_core.errors import Conflict, InsufficientCredits, InvalidRequest, NotFound
from tests.invariants.machine.base import amounts, late, picks, users
from tests.invariants.machine.generation import Generation
from tests.service.scenes import CREDIT

PACKS = {"starter": 25 * CREDIT, "creator": 110 * CREDIT, "pro": 300 * CREDIT, "enterprise": 650 * CREDIT}


class Credits(Generation):
    """Everything that moves credits but a generation and time."""

    def remember(self) -> None:
        super().remember()
        self.refunds: dict[tuple[str, str, str], int] = {}
        #: Calls to make again, with the same or with other content.
        self.posted: list[Callable[[bool], object]] = []

    @rule(
        user=users,
        kind=st.sampled_from(["bonus", "purchased", "welcome"]),
        amount=amounts,
        days=st.none() | st.integers(1, 50),
        behind=late,
    )
    def grant(self, user: str, kind: str, amount: int, days: int | None, behind: timedelta) -> None:
        at, key = self.at(behind), f"g-{next(self.numbers)}"
        ends = None if days is None else at + timedelta(days=days)
        self.core.grant(user, amount, kind, key, expires_at=ends, at=at)
        self.wallets[user].catch_up(at, self.live)
        self.wallets[user].grant(kind, amount, ends)
        self.posted.append(lambda other: self.core.grant(user, amount + other, kind, key))

    @rule(user=users, amount=amounts, sign=st.sampled_from([1, -1]), behind=late)
    def adjust(self, user: str, amount: int, sign: int, behind: timedelta) -> None:
        at, wallet, key = self.at(behind), self.wallets[user], f"a-{next(self.numbers)}"

        def call() -> Any:
            return self.core.adjust(user, sign * amount, key, "sam", "asked for it", at=at)

        # So that what is refused below would have had nothing else to write.
        self.core.reconcile(at=at)
        for each in self.accounts:
            each.catch_up(at, self.live)
        if sign > 0:
            call()
            wallet.grant("bonus", amount, None)
        elif amount <= wallet.available:
            call()
            wallet.take(amount)
        else:
            self.refused(InsufficientCredits, call)
            return
        self.posted.append(lambda other: self.core.adjust(user, sign * (amount + other), key, "sam", "asked again"))

    @rule(user=users, pack=st.sampled_from(sorted(PACKS)), behind=late)
    def purchase(self, user: str, pack: str, behind: timedelta) -> None:
        at, key = self.at(behind), f"p-{next(self.numbers)}"
        self.core.purchase(user, pack, key, at=at)
        self.wallets[user].catch_up(at, self.live)
        self.wallets[user].grant("purchased", PACKS[pack], None)
        another = min(name for name in PACKS if name != pack)
        self.posted.append(lambda other: self.core.purchase(user, another if other else pack, key))

    @precondition(lambda self: self.posted)
    @rule(pick=picks, other=st.booleans())
    def post_again(self, pick: int, other: bool) -> None:
        """What is under a key already: the same changes nothing, other content is refused."""
        call = self.posted[pick % len(self.posted)]
        if other:
            self.refused(Conflict, lambda: call(True))
        else:
            self.unchanged(lambda: call(False))

    @precondition(lambda self: self.requests)
    @rule(pick=picks, share=st.sampled_from([1.0, 0.5, 0.1]), key=st.sampled_from("ab"), behind=late)
    def refund(self, pick: int, share: float, key: str, behind: timedelta) -> None:
        charged = [
            made for made in self.requests if self.ended.get((made[0].user_id, made[0].request_id), ("", 0))[1] > 1
        ]
        among = charged if charged and pick % 4 else self.requests
        self.refunded(among[pick // 4 % len(among)][0], share, key, self.at(behind))

    @rule(
        user=users, share=st.sampled_from([0.9, 0.5, 0.1]), used=st.sampled_from([None, 0.7]), days=st.integers(0, 40)
    )
    def spend_everything_and_take_some_back(self, user: str, share: float, used: float | None, days: int) -> None:
        """One charge over all lots there are, refunded later in parts: each goes back to the lot it was taken from."""
        self.awake(user)
        # A new session, whose cap lets any one request through.
        self.clock.now += timedelta(minutes=31)
        self.reconcile_all()
        images = self.wallets[user].available // CREDIT
        if not 1 <= images <= 1_000:
            return
        self.asked(Request(user, f"r-{next(self.numbers)}", "s-1", images=images), self.clock.now)
        request, decision = self.requests[-1]
        self.settled(request, decision, used, self.clock.now)
        self.clock.now += timedelta(days=days)
        for key in "ab":
            self.refunded(request, share, key, self.clock.now)

    def refunded(self, request: Request, share: float, key: str, at: datetime) -> None:
        user, request_id = request.user_id, request.request_id
        end, settled = self.ended.get((user, request_id), (None, 0))
        amount = max(1, int(settled * share))

        def call() -> Any:
            return self.core.refund(user, request_id, amount, key, "sam", "asked for it", at=at)

        before = [done for (u, r, _), done in self.refunds.items() if (u, r) == (user, request_id)]
        same = self.refunds.get((user, request_id, key))
        if end != "settle":
            self.refused(NotFound, call)
        elif same is not None:
            if same == amount:
                assert call().replayed
            else:
                self.refused(Conflict, call)
        elif sum(before) + amount > settled:
            self.refused(InvalidRequest, call)
        else:
            assert call().amount_uc == amount
            wallet = self.wallet_of(user, request_id)
            wallet.catch_up(at, self.live)
            wallet.refund(request_id, amount, at, self.live)
            self.refunds[user, request_id, key] = amount
