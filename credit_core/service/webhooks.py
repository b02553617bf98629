"""Webhooks of payment providers: raw bytes and headers in, a verified :class:`PaymentEvent` out. No I/O.

Stripe (https://docs.stripe.com/webhooks, "Verify manually"): header ``Stripe-Signature: t=<unix seconds>,v1=<hex>``, several
v1 while a secret is rotated; v1 is HMAC-SHA256 of ``<t>.<body>`` under the endpoint's secret ``whsec_…``. User, plan and pack
are ours to name, as metadata:

==========================================  ==========  ==================================================================
event type                                  kind        read from the object
==========================================  ==========  ==================================================================
checkout.session.completed,                 pack        a paid session in mode ``payment``: ``metadata.user_id``,
checkout.session.async_payment_succeeded                ``metadata.pack``, ``amount_total``, ``payment_intent``
payment_intent.succeeded                    pack        ``metadata`` as above, ``amount_received``, ``id``
invoice.paid, invoice.payment_succeeded     paid        metadata of the subscription (``user_id``, ``plan``), the last
                                                        ``lines.data[].period.end``, ``payment_intent`` or the invoice's id
customer.subscription.deleted               expired     ``metadata``, ``ended_at``
customer.subscription.updated               cancelled   where ``cancel_at_period_end``
charge.refunded                             refund      ``amount_refunded`` (all so far), ``payment_intent``
charge.dispute.created,                     chargeback  ``amount``, ``payment_intent``; inquiries (``warning_…``) take no
charge.dispute.funds_withdrawn                          money and are ignored
==========================================  ==========  ==================================================================

Plans: create the endpoint with an API version before 2025-03-31.basil. Later invoices do not name their payment, nor charges
their invoice, so that a refund or dispute of a plan is kept but finds nothing to take back. Packs work in every version.

RevenueCat (https://www.revenuecat.com/docs/integrations/webhooks): ``X-RevenueCat-Webhook-Signature: t=…,v1=…``, built as
Stripe's, where signing is on; else the ``Authorization`` header equals the value set in its dashboard, which proves the sender
but neither the body nor the time: prefer signing. ``app_user_id`` is our user, ``product_id`` a plan's or pack's key or one
of its ``products`` in the catalogue, ``transaction_id`` the payment. INITIAL_PURCHASE, RENEWAL and SUBSCRIPTION_EXTENDED
are ``paid`` until ``expiration_at_ms``; NON_RENEWING_PURCHASE is ``pack``; CANCELLATION is ``refund`` of the whole where
``cancel_reason`` is CUSTOMER_SUPPORT, else ``cancelled``; EXPIRATION is ``expired``. Sandbox purchases are ignored.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from credit_core import units
from credit_core.errors import InvalidInstant, InvalidRequest, InvalidSignature
from credit_core.policy.payments import PaymentEvent
from credit_core.policy.plans import Catalog

#: How far a signature's time may be from ours, either way; an older delivery may be a recorded one. Stripe's own default.
TOLERANCE = timedelta(seconds=300)
#: Providers send a few kilobytes.
MOST_BYTES = 1_000_000
_STRIPE_HEADER = "Stripe-Signature"
_REVENUECAT_HEADER = "X-RevenueCat-Webhook-Signature"


class Ignored(NamedTuple):
    """A genuine event that changes nothing here. ``why`` is for the log of the endpoint that took it."""

    provider: str
    event_id: str
    event_type: str
    why: str


def read(
    provider: str, payload: bytes, headers: Mapping[str, str], secret: str, now: datetime, catalog: Catalog
) -> PaymentEvent | Ignored:
    """Verify a delivery and say what it reports. ``payload``: the body exactly as received, before any parsing.

    Raises :class:`InvalidSignature` where it does not prove that the provider sent it within :data:`TOLERANCE` of ``now``,
    :class:`InvalidRequest` for a body that cannot be read, :class:`NotFound` for a product that the catalogue does not have.
    """
    if provider not in PROVIDERS:
        raise InvalidRequest(f"provider must be one of {', '.join(PROVIDERS)}, got {provider!r}.")
    if not isinstance(payload, bytes):
        raise InvalidRequest(
            "payload must be the raw bytes of the body: what was parsed and written again has another signature."
        )
    if len(payload) > MOST_BYTES:
        raise InvalidRequest(f"The body is {len(payload)} bytes; no event is over {MOST_BYTES}. Check what is calling.")
    verify, parse = PROVIDERS[provider]
    if not secret:
        raise InvalidSignature(
            f"There is no secret for {provider}: nothing it sends can be verified. Set it and send again."
        )
    verify(payload, headers, secret, units.checked_instant(now, "now"))
    try:
        body = json.loads(payload)
    except ValueError as error:
        raise InvalidRequest(
            f"The body is signed but not JSON ({error}). Check what lies between {provider} and here."
        ) from error
    try:
        return parse(body, hashlib.sha256(payload).digest(), catalog)
    except (KeyError, TypeError, AttributeError, IndexError, OverflowError, InvalidInstant) as error:
        raise InvalidRequest(
            f"The body is not an event as {provider} documents it ({type(error).__name__}: {error}). "
            "Check the endpoint's API version."
        ) from error


def verify_stripe(payload: bytes, headers: Mapping[str, str], secret: str, now: datetime) -> None:
    """Raise :class:`InvalidSignature` unless ``Stripe-Signature`` is right and at most :data:`TOLERANCE` away from ``now``."""
    _verify_signed(_STRIPE_HEADER, _header(headers, _STRIPE_HEADER), payload, secret, now)


def verify_revenuecat(payload: bytes, headers: Mapping[str, str], secret: str, now: datetime) -> None:
    """As :func:`verify_stripe` by RevenueCat's signature; where there is none, by the Authorization header alone."""
    signature = _header(headers, _REVENUECAT_HEADER)
    if signature is not None:
        _verify_signed(_REVENUECAT_HEADER, signature, payload, secret, now)
        return
    given = _header(headers, "Authorization")
    if given is None:
        raise InvalidSignature(
            f"There is neither a {_REVENUECAT_HEADER} nor an Authorization header. "
            "Turn on signing, or set the authorization value, in RevenueCat's webhook settings."
        )
    if not hmac.compare_digest(given.encode(errors="replace"), secret.encode()):
        raise InvalidSignature(
            "The Authorization header is not the value expected. "
            "Compare it with RevenueCat's webhook settings, a leading 'Bearer ' included."
        )


def signature(payload: bytes, secret: str, timestamp: int) -> str:
    """HMAC-SHA256 of ``<timestamp>.<payload>``, hex: scheme v1 of both providers."""
    return hmac.new(secret.encode(), b"%d." % timestamp + payload, hashlib.sha256).hexdigest()


def _verify_signed(name: str, header: str | None, payload: bytes, secret: str, now: datetime) -> None:
    if header is None:
        raise InvalidSignature(f"There is no {name} header. Check that the endpoint passes headers on unchanged.")
    parts = [part.strip().partition("=") for part in header.split(",")]
    stamps = [value for key, _, value in parts if key == "t"]
    given = [value for key, _, value in parts if key == "v1"]
    if len(stamps) != 1 or not stamps[0].isascii() or not stamps[0].isdigit() or len(stamps[0]) > 12 or not given:
        raise InvalidSignature(
            f"The {name} header is not of the form t=<unix seconds>,v1=<hex>. Check that nothing rewrites it."
        )
    stamp = int(stamps[0])
    expected = signature(payload, secret, stamp).encode()
    if not any(hmac.compare_digest(value.encode(errors="replace"), expected) for value in given):
        raise InvalidSignature(
            f"The {name} header does not match the body. Check that the secret is this endpoint's own and that the body "
            "arrives byte for byte."
        )
    age = now.timestamp() - stamp
    if abs(age) > TOLERANCE.total_seconds():
        raise InvalidSignature(
            f"The signature was made {abs(age):.0f} s {'ago' if age > 0 else 'in the future'}; "
            f"at most {TOLERANCE.total_seconds():.0f} are taken. Check this machine's clock; the provider will send again."
        )


def _header(headers: Mapping[str, str], name: str) -> str | None:
    return next((value for key, value in headers.items() if key.lower() == name.lower()), None)


# ---------------------------------------------------------------------------------------------------------------- Stripe


def _stripe(body: Mapping[str, Any], digest: bytes, catalog: Catalog) -> PaymentEvent | Ignored:
    event_id, kind = units.checked_id(body["id"], "id"), units.checked_id(body["type"], "type")
    thing = body["data"]["object"]
    event = _STRIPE.get(kind, _unknown)(thing)
    if isinstance(event, str):
        return Ignored("stripe", event_id, kind, event)
    return _checked(
        event._replace(provider="stripe", event_id=event_id, occurred_at=_seconds(body["created"]), digest=digest)
    )


def _stripe_session(thing: Mapping[str, Any]) -> PaymentEvent | str:
    if thing.get("mode") != "payment":
        return "The session starts a subscription; its invoice says how long is paid."
    if thing.get("payment_status") != "paid":
        return "The session is not paid yet; another event follows when it is."
    return _stripe_pack(thing, thing.get("payment_intent") or thing["id"], thing.get("amount_total"))


def _stripe_intent(thing: Mapping[str, Any]) -> PaymentEvent | str:
    return _stripe_pack(thing, thing["id"], thing.get("amount_received"))


def _stripe_pack(thing: Mapping[str, Any], reference: str, amount: int | None) -> PaymentEvent | str:
    named = thing.get("metadata") or {}
    if "pack" not in named:
        return "The payment has no metadata.pack, so it is not for one of our packs."
    return _BLANK._replace(
        kind="pack", user_id=named.get("user_id"), pack=named["pack"], reference=reference, amount=amount
    )


def _stripe_invoice(thing: Mapping[str, Any]) -> PaymentEvent | str:
    subscribed = thing.get("subscription_details") or (thing.get("parent") or {}).get("subscription_details") or {}
    named = {**(thing.get("metadata") or {}), **(subscribed.get("metadata") or {})}
    if "plan" not in named:
        return "The invoice's subscription has no metadata.plan, so it is not for one of our plans."
    until = max(_seconds(line["period"]["end"]) for line in thing["lines"]["data"])
    paid = ((thing.get("payments") or {}).get("data") or [{}])[0].get("payment") or {}
    reference = thing.get("payment_intent") or paid.get("payment_intent") or thing["id"]
    about = _BLANK._replace(
        kind="paid", user_id=named.get("user_id"), plan=named["plan"], amount=thing.get("amount_paid")
    )
    return about._replace(paid_until=until, reference=reference)


def _stripe_ended(thing: Mapping[str, Any]) -> PaymentEvent | str:
    named = thing.get("metadata") or {}
    if "user_id" not in named:
        return "The subscription has no metadata.user_id, so it is not one of ours."
    return _BLANK._replace(
        kind="expired", user_id=named["user_id"], plan=named.get("plan"), reference=thing["id"], paid_until=_seconds(thing["ended_at"])
    )  # fmt: skip


def _stripe_updated(thing: Mapping[str, Any]) -> PaymentEvent | str:
    named = thing.get("metadata") or {}
    if not thing.get("cancel_at_period_end") or "user_id" not in named:
        return "Nothing about the subscription is cancelled; invoices say what is paid."
    return _BLANK._replace(kind="cancelled", user_id=named["user_id"], plan=named.get("plan"), reference=thing["id"])


def _stripe_refunded(thing: Mapping[str, Any]) -> PaymentEvent | str:
    return _stripe_taken("refund", thing, thing["id"], thing["amount_refunded"])


def _stripe_disputed(thing: Mapping[str, Any]) -> PaymentEvent | str:
    if str(thing.get("status", "")).startswith("warning"):
        return "An inquiry takes no money back; a dispute follows if it does."
    return _stripe_taken("chargeback", thing, thing["charge"], thing["amount"])


def _stripe_taken(kind: str, thing: Mapping[str, Any], charge: str, amount: int) -> PaymentEvent:
    user_id = (thing.get("metadata") or {}).get("user_id")
    return _BLANK._replace(kind=kind, user_id=user_id, reference=thing.get("payment_intent") or charge, amount=amount)


def _unknown(_thing: Mapping[str, Any]) -> str:
    return "Events of this type say nothing about credits or plans; unsubscribe from them if you like."


_STRIPE: dict[str, Callable[[Mapping[str, Any]], PaymentEvent | str]] = {
    "checkout.session.completed": _stripe_session,
    "checkout.session.async_payment_succeeded": _stripe_session,
    "payment_intent.succeeded": _stripe_intent,
    "invoice.paid": _stripe_invoice,
    "invoice.payment_succeeded": _stripe_invoice,
    "customer.subscription.deleted": _stripe_ended,
    "customer.subscription.updated": _stripe_updated,
    "charge.refunded": _stripe_refunded,
    "charge.dispute.created": _stripe_disputed,
    "charge.dispute.funds_withdrawn": _stripe_disputed,
}


# ------------------------------------------------------------------------------------------------------------ RevenueCat


def _revenuecat(body: Mapping[str, Any], digest: bytes, catalog: Catalog) -> PaymentEvent | Ignored:
    told = body["event"]
    event_id, kind = units.checked_id(told["id"], "id"), units.checked_id(told["type"], "type")
    if kind not in _REVENUECAT:
        return Ignored("revenuecat", event_id, kind, _unknown(told))
    if told.get("environment") == "SANDBOX":
        return Ignored("revenuecat", event_id, kind, "A sandbox purchase: nobody paid.")
    ours = (
        "cancelled" if kind == "CANCELLATION" and told.get("cancel_reason") != "CUSTOMER_SUPPORT" else _REVENUECAT[kind]
    )
    event = _BLANK._replace(
        provider="revenuecat", event_id=event_id, occurred_at=_milliseconds(told["event_timestamp_ms"]), kind=ours, digest=digest,
        user_id=told["app_user_id"], reference=told.get("transaction_id") or told["original_transaction_id"],
    )  # fmt: skip
    if ours == "refund":
        return _checked(event)
    what, name = catalog.sold_as(told["product_id"])
    if (what == "pack") != (ours == "pack"):
        return Ignored(
            "revenuecat",
            event_id,
            kind,
            f"{told['product_id']!r} is a {what}, which events of this type are not about.",
        )
    if ours == "pack":
        return _checked(event._replace(pack=name))
    until = told.get("expiration_at_ms")
    return _checked(event._replace(plan=name, paid_until=None if until is None else _milliseconds(until)))


_REVENUECAT = {
    "INITIAL_PURCHASE": "paid",
    "RENEWAL": "paid",
    "SUBSCRIPTION_EXTENDED": "paid",
    "NON_RENEWING_PURCHASE": "pack",
    "CANCELLATION": "refund",
    "EXPIRATION": "expired",
}

# ------------------------------------------------------------------------------------------------------------------ both

_BLANK = PaymentEvent("", "", units.from_us(0), "", None, "")
_NEEDS_USER = ("paid", "pack", "expired")


def _checked(event: PaymentEvent) -> PaymentEvent:
    """``event`` with its names trimmed and everything there that its kind needs, else :class:`InvalidRequest`."""
    if event.user_id is None and event.kind in _NEEDS_USER:
        raise InvalidRequest(
            f"Event {event.event_id} ({event.kind}) names no user. Put metadata.user_id on the payment or subscription."
        )
    if event.kind in ("paid", "expired") and event.paid_until is None:
        raise InvalidRequest(f"Event {event.event_id} ({event.kind}) does not say until when the plan is paid.")
    if event.amount is not None:
        units.checked_uc(event.amount, "amount")
    return event._replace(
        user_id=None if event.user_id is None else units.checked_id(event.user_id, "user_id"),
        reference=units.checked_id(event.reference, "reference"),
        plan=None if event.plan is None else units.checked_id(event.plan, "plan"),
        pack=None if event.pack is None else units.checked_id(event.pack, "pack"),
    )


def _seconds(value: Any) -> datetime:
    return _instant(value, units.MICRO)


def _milliseconds(value: Any) -> datetime:
    return _instant(value, 1_000)


def _instant(value: Any, us: int) -> datetime:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidInstant(f"an instant must be a whole number, got {value!r}")
    return units.from_us(value * us)


PROVIDERS: dict[
    str,
    tuple[
        Callable[[bytes, Mapping[str, str], str, datetime], None],
        Callable[[Mapping[str, Any], bytes, Catalog], PaymentEvent | Ignored],
    ],
] = {"stripe": (verify_stripe, _stripe), "revenuecat": (verify_revenuecat, _revenuecat)}
