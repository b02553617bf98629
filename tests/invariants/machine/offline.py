"""Spends made while a client was disconnected."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from credit_core import Request
from credit_core.errors import Conflict, RequestMismatch
from credit_core.service.offline import Spend
from tests.invariants.machine.base import Machine, late, picks, users
from tests.service.scenes import CREDIT

spends = st.lists(st.tuples(st.integers(1, 9), st.timedeltas(timedelta(), timedelta(days=3))), min_size=1, max_size=4)


class Offline(Machine):
    """Synchronising clients."""

    def remember(self) -> None:
        super().remember()
        self.synced: list[tuple[str, list[Spend]]] = []

    @rule(user=users, spends=spends, behind=late)
    def sync(self, user: str, spends: list[tuple[int, timedelta]], behind: timedelta) -> None:
        at, wallet = self.at(behind), self.wallets[user]
        made = [Spend(f"o-{next(self.numbers)}", at - ago, images) for images, ago in spends]
        done = self.core.sync(user, made, at=at)
        wallet.catch_up(at, self.live)
        taken, overdrawn = [], []
        for spend in sorted(made, key=lambda spend: (spend.at, spend.request_id)):
            if spend.images * CREDIT <= wallet.available:
                wallet.take(spend.images * CREDIT)
                taken.append(spend.request_id)
            else:
                overdrawn.append(spend.request_id)
        assert done == (tuple(taken), tuple(overdrawn), ())
        self.synced.append((user, made))

    @precondition(lambda self: self.synced)
    @rule(pick=picks, behind=late, how=st.sampled_from(["again", "other", "as a request"]))
    def sync_again(self, pick: int, behind: timedelta, how: str) -> None:
        user, made = self.synced[pick % len(self.synced)]
        at = max(self.at(behind), *(spend.at for spend in made))
        other = made[-1]._replace(images=made[-1].images + 1)
        asked = Request(user, made[-1].request_id, "s-1", images=made[-1].images)
        if how == "other":
            self.refused(Conflict, lambda: self.core.sync(user, [*made[:-1], other], at=at))
        elif how == "as a request":
            self.refused(RequestMismatch, lambda: self.core.authorize(asked, at=at))
        else:
            done = self.core.sync(user, reversed(made), at=at)
            self.wallets[user].catch_up(at, self.live)
            known = sorted(made, key=lambda spend: (spend.at, spend.request_id))
            assert done == ((), (), tuple(spend.request_id for spend in known))
