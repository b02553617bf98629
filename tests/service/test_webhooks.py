"""Raw bytes and headers in, a verified event out: signatures known from elsewhere, and everything that must be refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from credit_core.errors import InvalidRequest, InvalidSignature, NotFound
from credit_core.policy import plans
from credit_core.policy.payments import PaymentEvent
from credit_core.service import webhooks
from credit_core.service.webhooks import Ignored, read, signature
from credit_core.settings import payment_secret

SECRET = "whsec_titrate_test"
#: Signed with OpenSSL: printf '%s' "1741608000.$body" | openssl dgst -sha256 -hmac whsec_titrate_test
BODY = (
    b'{"id":"evt_1","type":"payment_intent.succeeded","created":1741607990,"data":{"object":{"id":"pi_1",'
    b'"amount_received":499,"metadata":{"user_id":"ada","pack":"starter"}}}}'
)
STAMP = 1_741_608_000
V1 = "aa263812728caf5b32215d666a02f05ff821f59ff58feee0397188ca9a77c1f7"
NOW = datetime.fromtimestamp(STAMP, UTC)
PURCHASE = PaymentEvent(
    "stripe", "evt_1", datetime.fromtimestamp(1_741_607_990, UTC), "pack", "ada", "pi_1", pack="starter", amount=499
)
CATALOG = plans.parse(
    {
        "plans": {
            "free": {"title": "Free", "quota_policy": "titrated_monthly", "quota_credits": 20},
            "premium": {
                "title": "Premium", "quota_policy": "titrated_monthly", "quota_credits": 600, "falls_to": "free",
                "products": ["com.titrate.premium:monthly"],
            },
        },
        "models": {"m": {"title": "M", "modality": "image", "credits": 1, "provider_cost_usd": 0.1}},
        "packs": {"starter": {"title": "Starter", "price_usd": 4.99, "credits": 25, "products": ["com.titrate.starter"]}},
    }
)  # fmt: skip


def stripe(header: str, body: bytes = BODY, now: datetime = NOW, secret: str = SECRET) -> PaymentEvent | Ignored:
    return read("stripe", body, {"stripe-signature": header}, secret, now, CATALOG)


def reported(kind: str, thing: dict[str, Any]) -> PaymentEvent | Ignored:
    """What a signed Stripe event of type ``kind`` about ``thing`` comes to, without its digest."""
    body = json.dumps({"id": "evt_1", "type": kind, "created": STAMP, "data": {"object": thing}}).encode()
    found = stripe(f"t={STAMP},v1={signature(body, SECRET, STAMP)}", body)
    return found._replace(digest=b"") if isinstance(found, PaymentEvent) else found


def bought(event: dict[str, Any], headers: dict[str, str] | None = None, **top: Any) -> PaymentEvent | Ignored:
    """What a RevenueCat event comes to, by its Authorization header unless ``headers`` are given."""
    full = {"id": "rc-1", "app_user_id": "ada", "event_timestamp_ms": STAMP * 1_000, "transaction_id": "t-1", **event}
    body = json.dumps({"event": full, "api_version": "1.0", **top}).encode()
    found = read("revenuecat", body, headers or {"Authorization": "Bearer s3cret"}, "Bearer s3cret", NOW, CATALOG)
    return found._replace(digest=b"") if isinstance(found, PaymentEvent) else found


def blank(kind: str, **facts: Any) -> PaymentEvent:
    return PaymentEvent("stripe", "evt_1", NOW, kind, **{"user_id": None, "reference": "pi_1", **facts})


# ------------------------------------------------------------------------------------------------------------ signatures


def test_a_signature_made_by_openssl_is_accepted_and_the_event_read() -> None:
    found = stripe(f"t={STAMP},v1={V1}")
    assert isinstance(found, PaymentEvent)
    assert found._replace(digest=b"") == PURCHASE
    assert found.digest.hex() == "cc6fe7c6cfc45d3aecc106f2e61c8ffaf54e5ce625f0266429bd0fe167e72214"


def test_revenuecat_signs_alike_under_a_header_of_its_own() -> None:
    body = b'{"event":{"id":"rc-1","type":"TEST"}}'
    headers = {"x-revenuecat-webhook-signature": f"t={STAMP},v1={signature(body, SECRET, STAMP)}"}
    assert isinstance(read("revenuecat", body, headers, SECRET, NOW, CATALOG), Ignored)
    with pytest.raises(InvalidSignature, match="byte for byte"):
        read("revenuecat", body + b" ", headers, SECRET, NOW, CATALOG)


def test_a_wrong_revenuecat_signature_is_not_saved_by_a_right_authorization_header() -> None:
    headers = {"X-RevenueCat-Webhook-Signature": f"t={STAMP},v1={'0' * 64}", "Authorization": SECRET}
    with pytest.raises(InvalidSignature, match="byte for byte"):
        read("revenuecat", b'{"event":{"id":"rc-1","type":"TEST"}}', headers, SECRET, NOW, CATALOG)


@pytest.mark.parametrize("position", range(0, len(BODY), 7))
def test_one_altered_byte_is_refused(position: int) -> None:
    altered = BODY[:position] + bytes([BODY[position] ^ 1]) + BODY[position + 1 :]
    with pytest.raises(InvalidSignature, match="byte for byte"):
        stripe(f"t={STAMP},v1={V1}", altered)


def test_another_secret_is_refused_and_the_message_says_what_to_check() -> None:
    with pytest.raises(InvalidSignature, match="the secret is this endpoint's own"):
        stripe(f"t={STAMP},v1={V1}", secret="whsec_other")


def test_a_timestamp_that_was_changed_is_refused() -> None:
    with pytest.raises(InvalidSignature, match="byte for byte"):
        stripe(f"t={STAMP + 1},v1={V1}")


@pytest.mark.parametrize("age_s", [-300, 0, 300])
def test_a_signature_within_five_minutes_either_way_is_accepted(age_s: int) -> None:
    assert isinstance(stripe(f"t={STAMP},v1={V1}", now=NOW + timedelta(seconds=age_s)), PaymentEvent)


@pytest.mark.parametrize(("age_s", "said"), [(301, "301 s ago"), (-301, "301 s in the future")])
def test_a_stale_or_future_signature_is_refused(age_s: int, said: str) -> None:
    with pytest.raises(InvalidSignature, match=said):
        stripe(f"t={STAMP},v1={V1}", now=NOW + timedelta(seconds=age_s))


def test_one_right_signature_of_several_is_enough() -> None:
    assert isinstance(stripe(f"t={STAMP},v1={'0' * 64},v1={V1},v0=abc"), PaymentEvent)
    with pytest.raises(InvalidSignature):
        stripe(f"t={STAMP},v1={'0' * 64},v1={'1' * 64}")
    with pytest.raises(InvalidSignature, match="form"):
        stripe(f"t={STAMP},v0={V1}")


@pytest.mark.parametrize(
    "header", ["", "nonsense", f"v1={V1}", f"t={STAMP}", f"t=now,v1={V1}", f"t={STAMP},t={STAMP},v1={V1}", f"t={'9' * 5_000},v1={V1}",
     "t=²,v1=é\udcff"]
)  # fmt: skip
def test_a_header_that_is_no_signature_is_refused(header: str) -> None:
    with pytest.raises(InvalidSignature, match="form"):
        stripe(header)


def test_a_missing_header_or_secret_is_told_apart() -> None:
    with pytest.raises(InvalidSignature, match="no Stripe-Signature header"):
        read("stripe", BODY, {}, SECRET, NOW, CATALOG)
    with pytest.raises(InvalidSignature, match="no secret for stripe"):
        stripe(f"t={STAMP},v1={V1}", secret="")
    with pytest.raises(InvalidSignature, match="neither"):
        read("revenuecat", b"{}", {}, SECRET, NOW, CATALOG)
    with pytest.raises(InvalidSignature, match="Authorization"):
        read("revenuecat", b"{}", {"Authorization": f"Bearer {SECRET}"}, SECRET, NOW, CATALOG)
    with pytest.raises(InvalidRequest, match="provider must be one of stripe, revenuecat"):
        read("paypal", BODY, {}, SECRET, NOW, CATALOG)


def test_the_secrets_come_from_the_environment_and_an_empty_one_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDITS_STRIPE_SECRET", "whsec_1")
    monkeypatch.setenv("CREDITS_REVENUECAT_SECRET", "")
    assert (payment_secret("stripe"), payment_secret("revenuecat"), payment_secret("paypal")) == ("whsec_1", None, None)


# ---------------------------------------------------------------------------------------------------------------- bodies


@pytest.mark.parametrize(
    "body",
    [b"not json", b"[]", b"{}", b'"text"', b"\xff\xfe", b'{"id":"e","type":"invoice.paid","created":1,"data":{}}',
     b'{"id":"e","type":"charge.refunded","created":"x","data":{"object":{"id":"c","amount_refunded":1}}}',
     b'{"id":"e","type":"charge.refunded","created":1,"data":{"object":{"id":"c","amount_refunded":-1}}}',
     b'{"id":"e","type":"charge.refunded","created":1,"data":{"object":{"id":"c","amount_refunded":0.5}}}',
     b'{"id":"e","type":"invoice.paid","created":99999999999999999999,"data":{"object":{"metadata":{"plan":"premium"}}}}'],
)  # fmt: skip
def test_a_signed_body_that_is_no_event_is_refused_as_a_bad_request(body: bytes) -> None:
    with pytest.raises(InvalidRequest) as refused:
        stripe(f"t={STAMP},v1={signature(body, SECRET, STAMP)}", body)
    assert not isinstance(refused.value, InvalidSignature)


def test_the_signature_is_checked_before_the_body_is_read() -> None:
    with pytest.raises(InvalidSignature):
        stripe(f"t={STAMP},v1={V1}", b"not json")


def test_a_body_that_was_parsed_before_or_is_far_too_long_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="raw bytes"):
        read("stripe", BODY.decode(), {}, SECRET, NOW, CATALOG)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match="no event is over"):
        read("stripe", b" " * (webhooks.MOST_BYTES + 1), {}, SECRET, NOW, CATALOG)


def test_an_unknown_type_is_ignored_and_the_answer_says_so() -> None:
    found = reported("customer.created", {"id": "cus_1"})
    assert found == Ignored("stripe", "evt_1", "customer.created", found[3])
    assert "say nothing about credits" in str(found)
    assert isinstance(bought({"type": "TRANSFER"}), Ignored)


UNTIL = datetime(2025, 4, 10, tzinfo=UTC)
LINES = {"data": [{"period": {"end": 1_000}}, {"period": {"end": int(UNTIL.timestamp())}}]}
OURS = {"user_id": " ada ", "plan": "premium"}
PACK = {"user_id": "ada", "pack": "starter"}


@pytest.mark.parametrize(
    ("kind", "thing", "event"),
    [
        ("checkout.session.completed", {"id": "cs_1", "mode": "payment", "payment_status": "paid", "payment_intent": "pi_1",
          "amount_total": 499, "metadata": PACK}, blank("pack", user_id="ada", pack="starter", amount=499)),
        ("checkout.session.async_payment_succeeded", {"id": "pi_1", "mode": "payment", "payment_status": "paid", "metadata": PACK},
         blank("pack", user_id="ada", pack="starter")),
        ("invoice.paid", {"id": "in_1", "payment_intent": "pi_1", "lines": LINES, "amount_paid": 900,
          "subscription_details": {"metadata": OURS}},
         blank("paid", user_id="ada", plan="premium", paid_until=UNTIL, amount=900)),
        ("invoice.payment_succeeded", {"id": "in_1", "lines": LINES, "parent": {"subscription_details": {"metadata": OURS}},
          "payments": {"data": [{"payment": {"payment_intent": "pi_1"}}]}},
         blank("paid", user_id="ada", plan="premium", paid_until=UNTIL)),
        ("invoice.paid", {"id": "in_1", "lines": LINES, "metadata": OURS},
         blank("paid", user_id="ada", plan="premium", paid_until=UNTIL, reference="in_1")),
        ("customer.subscription.deleted", {"id": "sub_1", "ended_at": int(UNTIL.timestamp()), "metadata": OURS},
         blank("expired", user_id="ada", plan="premium", paid_until=UNTIL, reference="sub_1")),
        ("customer.subscription.updated", {"id": "sub_1", "cancel_at_period_end": True, "metadata": OURS},
         blank("cancelled", user_id="ada", plan="premium", reference="sub_1")),
        ("charge.refunded", {"id": "ch_1", "payment_intent": "pi_1", "amount": 499, "amount_refunded": 100, "metadata": PACK},
         blank("refund", user_id="ada", amount=100)),
        ("charge.dispute.created", {"id": "dp_1", "charge": "ch_1", "amount": 499, "status": "needs_response", "metadata": {}},
         blank("chargeback", reference="ch_1", amount=499)),
    ],
)  # fmt: skip
def test_what_a_stripe_event_reports(kind: str, thing: dict[str, Any], event: PaymentEvent) -> None:
    assert reported(kind, thing) == event


@pytest.mark.parametrize(
    ("kind", "thing", "why"),
    [
        ("checkout.session.completed", {"id": "cs_1", "mode": "subscription"}, "invoice"),
        ("checkout.session.completed", {"id": "cs_1", "mode": "payment", "payment_status": "unpaid"}, "not paid yet"),
        ("payment_intent.succeeded", {"id": "pi_1", "metadata": {}}, "metadata.pack"),
        ("invoice.paid", {"id": "in_1", "lines": LINES}, "metadata.plan"),
        ("customer.subscription.deleted", {"id": "sub_1"}, "metadata.user_id"),
        ("customer.subscription.updated", {"id": "sub_1", "metadata": OURS}, "Nothing"),
        ("charge.dispute.created", {"id": "dp_1", "charge": "ch_1", "amount": 1, "status": "warning_needs_response"}, "inquiry"),
    ],
)  # fmt: skip
def test_a_stripe_event_that_changes_nothing_says_why(kind: str, thing: dict[str, Any], why: str) -> None:
    found = reported(kind, thing)
    assert isinstance(found, Ignored)
    assert why in found.why


def test_a_payment_without_a_user_says_where_to_put_one() -> None:
    with pytest.raises(InvalidRequest, match=r"metadata\.user_id"):
        reported("payment_intent.succeeded", {"id": "pi_1", "metadata": {"pack": "starter"}})


PREMIUM = {"product_id": "com.titrate.premium:monthly", "expiration_at_ms": int(UNTIL.timestamp()) * 1_000}


@pytest.mark.parametrize(
    ("told", "kind", "facts"),
    [
        ({"type": "INITIAL_PURCHASE", **PREMIUM}, "paid", {"plan": "premium", "paid_until": UNTIL}),
        ({"type": "RENEWAL", **PREMIUM, "product_id": "premium"}, "paid", {"plan": "premium", "paid_until": UNTIL}),
        ({"type": "SUBSCRIPTION_EXTENDED", **PREMIUM}, "paid", {"plan": "premium", "paid_until": UNTIL}),
        ({"type": "NON_RENEWING_PURCHASE", "product_id": "com.titrate.starter"}, "pack", {"pack": "starter"}),
        ({"type": "CANCELLATION", "cancel_reason": "CUSTOMER_SUPPORT"}, "refund", {}),
        ({"type": "CANCELLATION", "cancel_reason": "UNSUBSCRIBE", **PREMIUM}, "cancelled", {"plan": "premium", "paid_until": UNTIL}),
        ({"type": "EXPIRATION", **PREMIUM}, "expired", {"plan": "premium", "paid_until": UNTIL}),
    ],
)  # fmt: skip
def test_what_a_revenuecat_event_reports(told: dict[str, Any], kind: str, facts: dict[str, Any]) -> None:
    assert bought(told) == PaymentEvent("revenuecat", "rc-1", NOW, kind, "ada", "t-1", **facts)


def test_a_sandbox_purchase_and_a_plan_bought_as_a_pack_are_ignored() -> None:
    sandbox = bought({"type": "INITIAL_PURCHASE", **PREMIUM, "environment": "SANDBOX"})
    assert isinstance(sandbox, Ignored)
    assert "nobody paid" in sandbox.why
    swapped = bought({"type": "NON_RENEWING_PURCHASE", **PREMIUM})
    assert isinstance(swapped, Ignored)
    assert "is a plan" in swapped.why


def test_a_product_that_the_catalogue_does_not_have_says_where_to_name_it() -> None:
    with pytest.raises(NotFound, match="`products`"):
        bought({"type": "RENEWAL", **PREMIUM, "product_id": "com.other"})
