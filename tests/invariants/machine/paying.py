"""Payments told by a provider's signed webhooks: packs that are paid, refunded, disputed, told twice and out of order.

Payments for plans have a property of their own, over every order of their events, in tests/service/test_premium.py.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any, NamedTuple

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from credit_core.errors import InvalidSignature
from credit_core.service.premium import AppliedPayment
from credit_core.service.webhooks import signature
from tests.invariants.machine.base import POOLED, late, picks, users
from tests.invariants.machine.credits import PACKS, Credits
from tests.invariants.machine.together import Together
from tests.invariants.model import Lot, Wallet

SECRET = "whsec_titrate_test"
#: What every pack costs here, in cents.
PRICE = 1_000
TYPES = {"pack": "payment_intent.succeeded", "refund": "charge.refunded", "chargeback": "charge.dispute.created"}


@dataclass(eq=False)
class Payment:
    """One payment, and what the events of it that were heard come to."""

    reference: str
    user: str
    pack: str
    wallet: Wallet | None = None
    lot: Lot | None = None
    done: int = 0
    back: dict[str, int] = field(default_factory=dict)

    def heard(self, kind: str, amount: int) -> int:
        """Take note; returns what is now to be taken back, once the pack was granted."""
        if kind != "pack":
            self.back[kind] = max(self.back.get(kind, 0), amount)
        share = min(Fraction(sum(self.back.values()), PRICE), Fraction(1))
        owed = round(PACKS[self.pack] * share) - self.done if self.lot is not None else 0
        self.done += owed
        return owed


class Told(NamedTuple):
    """An event of a payment."""

    payment: Payment
    event_id: str
    kind: str
    amount: int

    def body(self, created: datetime) -> bytes:
        thing: dict[str, Any] = {"id": f"ch_{self.payment.reference}", "payment_intent": self.payment.reference}
        if self.kind == "pack":
            named = {"user_id": self.payment.user, "pack": self.payment.pack}
            thing = {"id": self.payment.reference, "amount_received": self.amount, "metadata": named}
        elif self.kind == "refund":
            thing["amount_refunded"] = self.amount
        else:
            thing |= {"charge": thing["id"], "amount": self.amount}
        # The provider's clock says nothing about the order in which its events come.
        created -= timedelta(hours=int(self.event_id.removeprefix("evt_")) % 3)
        told = {"id": self.event_id, "type": TYPES[self.kind], "created": int(created.timestamp())}
        return json.dumps({**told, "data": {"object": thing}}).encode()


class Paying(Credits, Together):
    """What a provider tells."""

    def remember(self) -> None:
        super().remember()
        self.untold: list[Told] = []
        self.told: list[tuple[Told, bytes, AppliedPayment]] = []

    @rule(
        user=users,
        pack=st.sampled_from(sorted(PACKS)),
        kinds=st.lists(
            st.sampled_from(
                [("pack", PRICE), ("refund", 200), ("refund", 333), ("chargeback", 500), ("refund", PRICE)]
            ),
            max_size=4,
        ),
        place=st.integers(0, 4),
        now=st.integers(1, 5),
        behind=late,
    )
    def pay(self, user: str, pack: str, kinds: list[tuple[str, int]], place: int, now: int, behind: timedelta) -> None:
        """Somebody pays; of what happens to the payment some is told now, some later, in any order."""
        payment = Payment(f"pi_{next(self.numbers)}", user, pack)
        kinds = [*kinds[:place], ("pack", PRICE), *kinds[place:]]
        events = [Told(payment, f"evt_{next(self.numbers)}", kind, amount) for kind, amount in kinds]
        for told in events[:now]:
            self.tell(told, self.at(behind))
        self.untold += events[now:]

    @rule(user=st.sampled_from(POOLED), pack=st.sampled_from(sorted(PACKS)), back=st.sampled_from([333, PRICE]))
    def pay_for_the_pool_and_leave(self, user: str, pack: str, back: int) -> None:
        """The pack stays with the pool, and is taken back from it."""
        if self.wallets[user] is self.pool:
            self.pay(user, pack, [("refund", back)], 0, 1, timedelta())
            self.leave(user, "basic", 0, timedelta())
            self.tell(self.untold.pop(), self.clock.now)

    @precondition(lambda self: self.untold)
    @rule(pick=picks, behind=late)
    def tell_one(self, pick: int, behind: timedelta) -> None:
        self.tell(self.untold.pop(pick % len(self.untold)), self.at(behind))

    @precondition(lambda self: self.told)
    @rule(pick=picks, genuine=st.booleans())
    def tell_again(self, pick: int, genuine: bool) -> None:
        """The same event answers as it did; one that somebody else signed is none."""
        _, body, answer = self.told[pick % len(self.told)]
        if genuine:
            again = self.unchanged(lambda: self.deliver(body, self.clock.now))
            assert again == answer._replace(replayed=True)
        else:
            self.refused(InvalidSignature, lambda: self.deliver(body, self.clock.now, "whsec_of_somebody_else"))

    def deliver(self, body: bytes, at: datetime, secret: str = SECRET) -> AppliedPayment:
        stamp = int(at.timestamp())
        headers = {"Stripe-Signature": f"t={stamp},v1={signature(body, secret, stamp)}"}
        return self.core.payment_webhook("stripe", body, headers, SECRET, at=at)

    def tell(self, told: Told, at: datetime) -> None:
        payment, body = told.payment, told.body(at)
        answer = self.deliver(body, at)
        granted = taken = 0
        if told.kind == "pack" and payment.lot is None:
            payment.wallet, granted = self.wallets[payment.user], PACKS[payment.pack]
            payment.wallet.catch_up(at, self.live)
            payment.wallet.grant("purchased", granted, None)
            payment.lot = payment.wallet.lots[-1]
        owed = payment.heard(told.kind, told.amount)
        if owed and payment.wallet is not None and payment.lot is not None:
            payment.wallet.catch_up(at, self.live)
            taken = min(payment.lot.avail, owed)
            payment.lot.avail -= taken
        assert (answer.granted_uc, answer.taken_uc, answer.missing_uc) == (granted, taken, owed - taken)
        self.told.append((told, body, answer))
