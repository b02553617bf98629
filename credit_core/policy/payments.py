"""What a payment provider reported, and what a set of such reports comes to, in whatever order they came (SPEC 3, Premium sync)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from fractions import Fraction
from typing import NamedTuple

#: ``paid``: a plan until an instant. ``pack``: credits sold once. ``refund``, ``chargeback``: a payment went back.
#: ``expired``: a plan ended. ``cancelled``: a plan will not renew, which changes nothing before it ends.
KINDS = ("paid", "pack", "refund", "chargeback", "expired", "cancelled")
#: Kinds that take a payment back.
TAKEN_BACK = ("refund", "chargeback")


class PaymentEvent(NamedTuple):
    """One event of a provider.

    ``reference`` names the payment (of ``expired`` and ``cancelled``: the subscription). ``amount`` is in the smallest unit
    of the payment's currency; of a refund it is all that was refunded so far; None: the whole. ``user_id`` is None where
    only the payment tells it. ``digest``: SHA-256 of the body.
    """

    provider: str
    event_id: str
    occurred_at: datetime
    kind: str
    user_id: str | None
    reference: str
    plan: str | None = None
    pack: str | None = None
    paid_until: datetime | None = None
    amount: int | None = None
    digest: bytes = b""


class Standing(NamedTuple):
    """The plan that a user's payments come to, and until when it is paid. ``as_of``: the newest event that says so."""

    provider: str
    plan: str
    paid_until: datetime
    as_of: datetime


def in_order(events: Iterable[PaymentEvent]) -> list[PaymentEvent]:
    """By the provider's clock. Of one second, in which a subscription may replace another, the payment counts last."""
    return sorted(events, key=lambda e: (e.occurred_at, e.kind == "paid", e.provider, e.event_id))


def share_taken_back(payment: PaymentEvent, events: Iterable[PaymentEvent]) -> Fraction:
    """The share of ``payment`` that refunds and chargebacks took, in [0, 1]; both count, each at the most it ever reported."""
    total = Fraction(0)
    about = [e for e in events if (e.provider, e.reference) == (payment.provider, payment.reference)]
    for kind in TAKEN_BACK:
        shares = [
            Fraction(e.amount, payment.amount) if e.amount is not None and payment.amount else Fraction(1)
            for e in about
            if e.kind == kind
        ]
        total += max(shares, default=Fraction(0))
    return min(total, Fraction(1))


def revoked(payment: PaymentEvent, events: Iterable[PaymentEvent]) -> bool:
    """Whether a payment for a plan no longer counts: refunded in full, or charged back at all."""
    events = list(events)
    disputed = any(
        e.kind == "chargeback" and (e.provider, e.reference) == (payment.provider, payment.reference) for e in events
    )
    return disputed or share_taken_back(payment, events) == 1


def standing(events: Iterable[PaymentEvent]) -> Standing | None:
    """The plan of the newest payment that was not taken back, shortened by an end of that plan reported later."""
    events = list(events)
    found: Standing | None = None
    for event in in_order(events):
        if event.paid_until is None:
            continue
        if event.kind == "paid" and event.plan is not None and not revoked(event, events):
            found = Standing(event.provider, event.plan, event.paid_until, event.occurred_at)
        elif event.kind == "expired" and found is not None and event.plan in (None, found.plan):
            until = min(found.paid_until, event.paid_until)
            found = found._replace(paid_until=until, as_of=event.occurred_at)
    return found


def in_force(events: Iterable[PaymentEvent], cycle_start: datetime, at: datetime) -> Standing | None:
    """:func:`standing`, where it still gives its plan at ``at``.

    A plan that merely ran out is kept to the end of the cycle that it paid for; one whose renewal was taken back is not.
    """
    events = list(events)
    found = standing(events)
    if found is None or found.paid_until < cycle_start:
        return None
    newer = any(e.kind == "paid" and e.occurred_at > found.as_of and revoked(e, events) for e in events)
    return None if newer and found.paid_until <= at else found


def in_effect(events: Iterable[PaymentEvent], at: datetime) -> list[PaymentEvent]:
    """Payments for plans that were not taken back and whose time is not over."""
    events = list(events)
    return [
        e
        for e in in_order(events)
        if e.kind == "paid" and e.paid_until is not None and e.paid_until > at and not revoked(e, events)
    ]
