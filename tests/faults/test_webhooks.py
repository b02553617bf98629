"""Webhooks that one process takes and another decides by; and the same ones taken by several at once (SPEC 3, Premium sync)."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from credit_core import CreditCore
from credit_core.policy.payments import PaymentEvent
from credit_core.service import premium
from credit_core.service.webhooks import signature
from credit_core.store.unit import Unit
from tests.faults.processes import workers
from tests.faults.test_double_tap import at_once
from tests.service.scenes import CREDIT, FRESH_FOR_ALL, everything, make_live, moves, scalar

SECRET = "whsec_faults"


@pytest.fixture
def real_core(ledger_url: str) -> Iterator[CreditCore]:
    """A core on the real clock with ada on the free plan: other processes have no other clock."""
    with CreditCore.open(ledger_url) as core:
        make_live(core, FRESH_FOR_ALL)
        core.add_user("ada", "free")
        yield core


def signed(event_id: str, kind: str, thing: dict[str, Any]) -> dict[str, Any]:
    """A delivery signed now, as a worker's call takes it."""
    stamp = int(datetime.now(UTC).timestamp())
    body = json.dumps({"id": event_id, "type": kind, "created": stamp, "data": {"object": thing}})
    headers = {"Stripe-Signature": f"t={stamp},v1={signature(body.encode(), SECRET, stamp)}"}
    return {"provider": "stripe", "body": body, "headers": headers, "secret": SECRET}


def pack(event_id: str, payment: str) -> dict[str, Any]:
    thing = {"id": payment, "amount_received": 499, "metadata": {"user_id": "ada", "pack": "starter"}}
    return signed(event_id, "payment_intent.succeeded", thing)


def test_a_webhook_taken_by_one_process_is_seen_by_authorize_in_another_in_under_a_second(
    ledger_url: str, real_core: CreditCore
) -> None:
    end = int((datetime.now(UTC) + timedelta(days=40)).timestamp())
    invoice = {
        "id": "in_1", "lines": {"data": [{"period": {"end": end}}]}, "metadata": {"user_id": "ada", "plan": "premium"},
    }  # fmt: skip
    with workers(ledger_url, 2) as (taking, deciding):
        # More than a free month has, and less than premium's: the answer tells which plan decided.
        before = deciding.call("authorize", user="ada", request_id="before", images=300)
        assert before["status"] == "LIBRARY"
        call = signed("evt_1", "invoice.paid", invoice)
        started = time.perf_counter()
        assert taking.call("payment_webhook", **call)["granted_uc"] > 300 * CREDIT
        after = deciding.call("authorize", user="ada", request_id="after", images=300)
        elapsed_s = time.perf_counter() - started
    assert after["status"] == "RESERVED"
    assert elapsed_s < 1.0
    assert real_core.verify() == []


def test_one_delivery_taken_by_two_processes_at_once_counts_once(ledger_url: str, real_core: CreditCore) -> None:
    with workers(ledger_url, 2) as started:
        calls = [pack(f"evt_{n}", f"pi_{n}") for n in range(10)]
        answers = at_once(started, "payment_webhook", calls)
    assert sorted(answer["replayed"] for answer in answers) == [False] * 10 + [True] * 10
    assert [kind for kind, *_ in moves(real_core)] == ["grant"] * 11
    assert real_core.balance("ada").available_uc == 270 * CREDIT
    assert scalar(real_core, "SELECT COUNT(*) FROM payment_events") == 10
    assert real_core.verify() == []


def test_a_payment_does_not_miss_its_chargeback_that_is_not_committed_yet(real_core: CreditCore) -> None:
    now = datetime.now(UTC)
    payment = PaymentEvent("stripe", "evt_1", now, "pack", "ada", "pi_1", pack="starter", amount=499)
    back = PaymentEvent("stripe", "evt_2", now, "chargeback", None, "pi_1", amount=499)
    written, paid = threading.Event(), threading.Event()

    def hesitate(unit: Unit) -> None:
        """Write the chargeback, and commit it once the payment is through, or seems to wait."""
        premium.apply_event_in(unit, real_core.deployment, back, now)
        written.set()
        paid.wait(0.5)

    with ThreadPoolExecutor(1) as other:
        taken_back = other.submit(real_core.deployment.ledger.run, hesitate)
        written.wait(10)
        answer = premium.apply_event(real_core.deployment, payment, now)
        paid.set()
        taken_back.result()
    assert (answer.granted_uc, answer.taken_uc) == (25 * CREDIT, 25 * CREDIT)
    assert real_core.balance("ada").available_uc == 20 * CREDIT
    assert real_core.verify() == []


def test_altered_deliveries_leave_no_trace(ledger_url: str, real_core: CreditCore) -> None:
    good = pack("evt_1", "pi_1")
    before = everything(real_core)
    with workers(ledger_url, 1) as (worker,):
        for body in (
            good["body"].replace("starter", "enterprise"),
            good["body"].replace("ada", "bea"),
            good["body"] + " ",
        ):
            assert worker.call("payment_webhook", **good | {"body": body})["error"] == "InvalidSignature"
    assert everything(real_core) == before
