"""Events of payment providers, as they came, and the subscription that they come to."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, delete, insert, select, text

from credit_core import units
from credit_core.policy.payments import PaymentEvent
from credit_core.store.schema import payment_events, subscriptions


class Recorded(NamedTuple):
    """An event that was received, and what it did then."""

    event: PaymentEvent
    effect: dict[str, Any]


class Subscription(NamedTuple):
    """A row of ``subscriptions``. ``plan`` is None once all payments were taken back."""

    user_id: str
    provider: str
    plan: str | None
    base_plan: str
    paid_until: datetime | None
    as_of: datetime


def lock(connection: Connection, provider: str, reference: str) -> None:
    """Let only one transaction at a time work on a payment: its chargeback may come first, when no row is there to lock."""
    if connection.dialect.name == "postgresql":
        key = f"payment:{provider}:{reference}"
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": key})


def found(connection: Connection, provider: str, event_id: str) -> Recorded | None:
    """The event as it was received before; None where it was not."""
    row = connection.execute(
        select(payment_events).where(payment_events.c.provider == provider, payment_events.c.event_id == event_id)
    ).first()
    return None if row is None else _recorded(row)


def about(connection: Connection, provider: str, reference: str) -> list[Recorded]:
    """Every event about one payment."""
    return _all(connection, payment_events.c.provider == provider, payment_events.c.reference == reference)


def of_user(connection: Connection, user_id: str) -> list[Recorded]:
    """The user's events, and those that tell of the user's payments without naming the user."""
    own = select(payment_events.c.reference).where(
        payment_events.c.user_id == user_id, payment_events.c.kind != "override"
    )
    return _all(connection, payment_events.c.reference.in_(own), payment_events.c.kind != "override")


def add(connection: Connection, event: PaymentEvent, received_at: datetime, effect: dict[str, Any]) -> None:
    """Keep an event, with what it did."""
    terms: dict[str, Any] = {"plan": event.plan, "pack": event.pack, "amount": event.amount}
    if event.paid_until is not None:
        terms["paid_until_us"] = units.to_us(event.paid_until)
    row = {
        "provider": event.provider, "event_id": event.event_id, "received_at": received_at, "occurred_at": event.occurred_at,
        "kind": event.kind, "user_id": event.user_id, "reference": event.reference, "digest": event.digest, "effect": effect,
        "terms": {name: value for name, value in terms.items() if value is not None},
    }  # fmt: skip
    connection.execute(insert(payment_events).values(row))


def subscription(connection: Connection, user_id: str) -> Subscription | None:
    """The user's subscription; None where no payment for a plan was ever heard of."""
    row = connection.execute(
        select(*(subscriptions.c[name] for name in Subscription._fields)).where(subscriptions.c.user_id == user_id)
    ).first()
    return None if row is None else Subscription(*row)


def put_subscription(connection: Connection, row: Subscription) -> None:
    """Keep the user's subscription in place of what was kept."""
    connection.execute(delete(subscriptions).where(subscriptions.c.user_id == row.user_id))
    connection.execute(insert(subscriptions).values(row._asdict()))


def _all(connection: Connection, *conditions: Any) -> list[Recorded]:
    order = (payment_events.c.occurred_at, payment_events.c.event_id)
    return [_recorded(row) for row in connection.execute(select(payment_events).where(*conditions).order_by(*order))]


def _recorded(row: Any) -> Recorded:
    terms = row.terms
    until = terms.get("paid_until_us")
    event = PaymentEvent(
        row.provider, row.event_id, row.occurred_at, row.kind, row.user_id, row.reference, terms.get("plan"), terms.get("pack"),
        None if until is None else units.from_us(until), terms.get("amount"), bytes(row.digest),
    )  # fmt: skip
    return Recorded(event, row.effect)
