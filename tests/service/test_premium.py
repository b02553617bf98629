"""Premium sync (SPEC 3): what signed events do to plans, packs and flags, in any order; and the override until they are there."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from credit_core import CreditCore
from credit_core.errors import Conflict, InvalidRequest, InvalidSignature, NotFound
from credit_core.policy.payments import PaymentEvent
from credit_core.service import premium
from credit_core.service.premium import AppliedPayment
from credit_core.service.webhooks import signature
from tests.service.scenes import CREDIT, ask, entries, everything, lots, make_live, moves, scalar

DAY = timedelta(days=1)
START = datetime(2025, 4, 10, tzinfo=UTC)
#: Half of the cycle is left: an upgrade grants half of the difference, exactly.
HALF = datetime(2025, 4, 25, tzinfo=UTC)
END = datetime(2025, 5, 10, tzinfo=UTC)
_numbers = itertools.count()


def event(kind: str, minute: int = 0, **facts: Any) -> PaymentEvent:
    """A Stripe event of ada, ``minute`` minutes after midnight of :data:`HALF` by the provider's clock."""
    named = {"user_id": "ada", "reference": "pi_1", **facts}
    return PaymentEvent("stripe", f"evt_{next(_numbers)}", HALF + timedelta(minutes=minute), kind, **named)


def paid(plan: str, minute: int = 0, until: datetime = END + DAY, **facts: Any) -> PaymentEvent:
    return event("paid", minute, plan=plan, paid_until=until, **{"reference": f"in_{plan}", **facts})


def pack(minute: int = 0, **facts: Any) -> PaymentEvent:
    return event("pack", minute, **{"pack": "creator", "amount": 1_000, **facts})


def apply(core: CreditCore, *events: PaymentEvent, at: datetime = HALF) -> AppliedPayment:
    """Apply the events in this order; the last answer."""
    return [premium.apply_event(core.deployment, e, at) for e in events][-1]


def flag(core: CreditCore, user: str = "ada") -> Any:
    return scalar(core, "SELECT flag_reason FROM users WHERE user_id = :user", user=user)


def paid_until(core: CreditCore, user: str = "ada") -> Any:
    return scalar(core, "SELECT paid_until FROM accounts WHERE account_id = :account", account=f"user:{user}")


@pytest.fixture
def ada(core: CreditCore) -> CreditCore:
    """A core with ada on the free plan since :data:`START`, and whatever the balance covers served fresh."""
    make_live(core, {"controller.p_min": 1.0 - 2.0**-53, "controller.p_max": 1.0, "session.max_fresh": 100_000})
    make_live(core, {"session.max_share": 1.0})
    core.add_user("ada", "free", at=START)
    return core


def spend(core: CreditCore, images: int, at: datetime = HALF) -> None:
    """Ask for ``images``, and settle them."""
    request_id = f"spend-{next(_numbers)}"
    assert ask(core, request_id, images=images, at=at).status == "RESERVED"
    core.settle("ada", request_id, at=at)


# ----------------------------------------------------------------------------------------------------------------- packs


def test_a_paid_pack_becomes_a_purchased_lot_that_the_next_request_sees(ada: CreditCore) -> None:
    answer = apply(ada, pack())
    assert (answer.granted_uc, answer.note, answer.replayed) == (110 * CREDIT, "pack creator granted", False)
    assert lots(ada) == [("monthly", 20, 0), ("purchased", 110, 0)]
    assert ask(ada, images=130, at=HALF).status == "RESERVED"
    assert ada.verify() == []


def test_the_same_event_again_returns_the_first_answer_and_writes_nothing(ada: CreditCore) -> None:
    for bought in (pack(), paid("premium"), event("chargeback", amount=1_000)):
        first = apply(ada, bought)
        before = everything(ada)
        assert apply(ada, bought, at=HALF + DAY) == first._replace(replayed=True)
        assert everything(ada) == before


def test_one_payment_told_by_two_events_is_granted_once(ada: CreditCore) -> None:
    second = apply(ada, pack(), pack(1))
    assert (second.granted_uc, second.note) == (0, "the payment's pack had been granted before")
    ada.purchase("ada", "creator", "pi_1", at=HALF)
    assert lots(ada) == [("monthly", 20, 0), ("purchased", 110, 0)]
    assert ada.verify() == []


def test_a_refund_takes_its_share_back_from_the_very_lot(ada: CreditCore) -> None:
    apply(ada, pack(), pack(reference="pi_2", pack="starter"), event("refund", 1, amount=200))
    assert moves(ada)[-1] == ("adjust", "purchased", -22, 0)
    assert entries(ada)[-1]["details"]["reference"] == "pi_1"
    assert lots(ada) == [("monthly", 20, 0), ("purchased", 88, 0), ("purchased", 25, 0)] or lots(ada) == [
        ("monthly", 20, 0),
        ("purchased", 25, 0),
        ("purchased", 88, 0),
    ]
    # A provider reports all that was refunded so far: 500 of 1,000 is 300 more than before.
    assert apply(ada, event("refund", 2, amount=500)).taken_uc == 33 * CREDIT
    assert apply(ada, event("refund", 1, amount=200)).taken_uc == 0
    assert apply(ada, event("chargeback", 3, amount=900)).taken_uc == 55 * CREDIT
    assert lots(ada) == [("monthly", 20, 0), ("purchased", 25, 0)]
    assert flag(ada) is None
    assert ada.verify() == []


def test_a_chargeback_after_spending_takes_what_is_left_and_flags_the_user(ada: CreditCore) -> None:
    apply(ada, pack())
    spend(ada, 100)
    answer = apply(ada, event("chargeback", 1, user_id=None, amount=1_000))
    assert (answer.user_id, answer.taken_uc, answer.missing_uc) == ("ada", 30 * CREDIT, 80 * CREDIT)
    taken, short = entries(ada)[-2:]
    assert (taken["kind"], taken["d_avail_uc"], taken["actor"], taken["reason"]) == (
        "adjust", -30 * CREDIT, "stripe", "chargeback",
    )  # fmt: skip
    assert (short["kind"], short["reason"], short["d_avail_uc"]) == ("rejected", "chargeback_shortfall", 0)
    assert short["details"]["missing_uc"] == 80 * CREDIT
    assert ada.balance("ada").available_uc == 0
    assert flag(ada) == "chargeback_shortfall"
    assert scalar(ada, "SELECT flagged_at FROM users") == int(HALF.timestamp()) * 1_000_000
    assert ada.verify() == []


def test_a_pack_that_a_pool_keeps_is_taken_back_from_the_pool_after_its_buyer_left(core: CreditCore) -> None:
    core.add_team("t", "free", "pooled", at=START)
    for user in ("ada", "bob"):
        core.add_user(user, "free", team_id="t", at=START)
    apply(core, pack())
    # With as much of their own, nothing but the lot would tell whose credits are taken.
    core.leave_team("ada", "basic", at=HALF)
    assert apply(core, event("refund", 1, amount=500)).taken_uc == 55 * CREDIT
    assert (lots(core), lots(core, "bob")) == ([("monthly", 200, 0)], [("monthly", 20, 0), ("purchased", 55, 0)])
    answer = apply(core, event("chargeback", 2), pack(3))
    assert (answer.user_id, answer.granted_uc, answer.taken_uc) == ("ada", 0, 0)
    assert (lots(core), lots(core, "bob")) == ([("monthly", 200, 0)], [("monthly", 20, 0)])
    assert scalar(core, "SELECT count(*) FROM ledger_entries WHERE kind = 'adjust' AND team_id = 't'") == 2
    assert core.verify() == []


def test_what_a_running_generation_holds_is_not_taken_but_missing(ada: CreditCore) -> None:
    apply(ada, pack())
    ask(ada, "running", images=30, at=HALF)
    answer = apply(ada, event("chargeback", 1))
    assert (answer.taken_uc, answer.missing_uc) == (100 * CREDIT, 10 * CREDIT)
    ada.settle("ada", "running", at=HALF)
    assert ada.verify() == []


def test_a_chargeback_that_comes_before_its_payment_ends_the_same(ada: CreditCore) -> None:
    parked = apply(ada, event("chargeback", 1, user_id=None, amount=1_000))
    assert (parked.user_id, parked.note) == (None, "its payment is not known yet; it counts when that comes")
    assert [kind for kind, *_ in moves(ada)] == ["grant"]
    answer = apply(ada, pack())
    assert (answer.granted_uc, answer.taken_uc, answer.missing_uc) == (110 * CREDIT, 110 * CREDIT, 0)
    assert lots(ada) == [("monthly", 20, 0)]
    assert flag(ada) is None
    assert ada.verify() == []


def test_a_pack_whose_price_changed_since_is_still_taken_back(ada: CreditCore) -> None:
    apply(ada, pack())
    creator = ada.deployment.catalog.packs["creator"]
    ada.deployment.catalog.packs["creator"] = creator.model_copy(update={"credits": 90.0})
    assert apply(ada, event("refund", 1)).taken_uc == 110 * CREDIT
    assert apply(ada, pack(2)).granted_uc == 0


# ----------------------------------------------------------------------------------------------------------------- plans


def test_a_paid_plan_is_there_with_the_next_request(ada: CreditCore) -> None:
    assert ask(ada, "before", images=300, at=HALF).status == "LIBRARY"
    answer = apply(ada, paid("premium"))
    assert (answer.plan, answer.paid_until, answer.granted_uc) == ("premium", END + DAY, 290 * CREDIT)
    assert ask(ada, "after", images=310, at=HALF).status == "RESERVED"
    assert ada.profile("ada", at=HALF).plan == "premium"
    assert ada.verify() == []


def test_an_older_payment_that_comes_later_does_not_move_the_plan(ada: CreditCore) -> None:
    apply(ada, paid("premium", 2, END + 30 * DAY))
    answer = apply(ada, paid("basic", 1, END + 60 * DAY))
    assert (answer.plan, answer.paid_until, answer.granted_uc) == ("premium", END + 30 * DAY, 0)
    assert answer.note == "the plan stays premium"
    assert ada.verify() == []


def test_a_renewal_extends_and_grants_with_the_next_cycle_alone(ada: CreditCore) -> None:
    apply(ada, paid("premium", until=END + DAY))
    assert apply(ada, paid("premium", 1, END + 32 * DAY, reference="in_2")).granted_uc == 0
    ada.reconcile(at=END)
    assert moves(ada)[-1] == ("grant", "monthly", 600, 0)
    assert ada.verify() == []


@pytest.mark.parametrize(
    ("until", "plan", "quota"), [(END, "premium", 600), (END - timedelta(microseconds=1), "free", 20)]
)
def test_a_plan_is_granted_again_if_it_is_paid_until_the_cycle_begins(
    ada: CreditCore, until: datetime, plan: str, quota: int
) -> None:
    apply(ada, paid("premium", until=until))
    ada.reconcile(at=END)
    assert moves(ada)[-1] == ("grant", "monthly", quota, 0)
    assert ada.profile("ada", at=END).plan == plan
    assert ada.balance("ada").available_uc <= 3 * quota * CREDIT or plan == "premium"
    assert ada.verify() == []


def test_a_fallen_plan_keeps_no_more_than_the_lower_cap_and_rises_with_the_next_payment(ada: CreditCore) -> None:
    apply(ada, paid("premium", until=END - DAY))
    ada.reconcile(at=END)
    assert lots(ada) == [("monthly", 20, 0), ("rollover", 40, 0)]
    assert paid_until(ada) is None
    late = apply(ada, paid("premium", 60, END + 30 * DAY, reference="in_2"), at=END)
    assert (late.plan, late.granted_uc) == ("premium", 580 * CREDIT)
    assert ada.verify() == []


def test_an_account_that_is_not_billed_by_webhooks_never_falls(ada: CreditCore) -> None:
    ada.add_user("bea", "premium", at=START)
    ada.reconcile(at=END + 100 * DAY)
    assert ada.profile("bea", at=END + 100 * DAY).plan == "premium"


def test_an_end_shortens_what_is_paid_and_a_cancellation_does_not(ada: CreditCore) -> None:
    apply(ada, paid("premium", until=END + 30 * DAY))
    assert apply(ada, event("cancelled", 1, reference="sub_1")).note == "the plan stays until what was paid for ends"
    assert paid_until(ada) == int((END + 30 * DAY).timestamp()) * 1_000_000
    other = event("expired", 2, reference="sub_0", plan="basic", paid_until=HALF)
    assert apply(ada, other).paid_until == END + 30 * DAY
    assert apply(ada, event("expired", 3, reference="sub_1", plan="premium", paid_until=HALF)).paid_until == HALF
    assert ada.profile("ada", at=HALF + DAY).plan == "premium", "until the cycle ends"
    ada.reconcile(at=END)
    assert ada.profile("ada", at=END).plan == "free"
    assert ada.verify() == []


def test_a_chargeback_of_a_plan_takes_back_what_it_gave_and_the_plan(ada: CreditCore) -> None:
    apply(ada, paid("premium", amount=900))
    spend(ada, 100)
    answer = apply(ada, event("chargeback", 1, reference="in_premium", user_id=None, amount=900))
    assert (answer.plan, answer.paid_until, answer.taken_uc, answer.missing_uc) == (
        "free",
        None,
        210 * CREDIT,
        80 * CREDIT,
    )
    assert flag(ada) == "chargeback_shortfall"
    again = apply(ada, paid("premium", 5, reference="in_2"))
    assert (again.plan, again.granted_uc) == ("premium", 290 * CREDIT), "paid anew, granted anew"
    assert ada.verify() == []


def test_a_renewal_that_is_charged_back_takes_back_the_cycle_it_began(ada: CreditCore) -> None:
    apply(ada, paid("premium", until=END + timedelta(hours=12)))
    apply(ada, paid("premium", 1, END + 30 * DAY, reference="in_2"))
    ada.reconcile(at=END)
    answer = apply(ada, event("chargeback", 2, reference="in_2"), at=END + 2 * DAY)
    assert (answer.plan, answer.taken_uc, answer.missing_uc) == ("free", 580 * CREDIT, 0)
    assert ada.verify() == []


def test_a_partial_refund_of_a_plan_leaves_it(ada: CreditCore) -> None:
    apply(ada, paid("premium", amount=900))
    answer = apply(ada, event("refund", 1, reference="in_premium", amount=100))
    assert (answer.plan, answer.taken_uc) == ("premium", 0)
    assert apply(ada, event("refund", 2, reference="in_premium", amount=900)).taken_uc == 290 * CREDIT


def test_a_plan_that_somebody_gave_by_hand_is_what_a_revoked_payment_leaves(ada: CreditCore) -> None:
    ada.change_plan("ada", "basic", at=HALF)
    apply(ada, paid("premium"))
    answer = apply(ada, event("refund", 1, reference="in_premium"))
    assert (answer.plan, answer.taken_uc) == ("basic", 200 * CREDIT)
    assert ada.verify() == []


def test_a_payment_reaches_a_paused_account(ada: CreditCore) -> None:
    ada.pause("ada", at=HALF)
    assert apply(ada, paid("premium"), at=END + DAY).granted_uc == 290 * CREDIT
    ada.resume("ada", at=END + DAY)
    assert ada.profile("ada", at=END + DAY).plan == "premium"
    assert ada.verify() == []


# -------------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("refused", "error"),
    [
        (pack(user_id="nobody"), NotFound), (pack(pack="none"), NotFound), (paid("none"), NotFound), (event("paid"), InvalidRequest),
        (event("gift"), InvalidRequest), (pack(user_id=None), InvalidRequest),
    ],
)  # fmt: skip
def test_what_names_nothing_here_is_refused_and_not_kept(
    ada: CreditCore, refused: PaymentEvent, error: type[Exception]
) -> None:
    before = everything(ada)
    with pytest.raises(error):
        apply(ada, refused)
    assert everything(ada) == before


def test_a_payment_of_one_user_cannot_be_claimed_for_another(ada: CreditCore) -> None:
    ada.add_user("bea", "free", at=START)
    apply(ada, pack())
    with pytest.raises(Conflict, match="belongs to user 'ada'"):
        apply(ada, pack(1, user_id="bea"))
    assert ada.balance("bea").available_uc == 20 * CREDIT


def test_the_whole_way_from_signed_bytes_to_the_balance(ada: CreditCore) -> None:
    body = json.dumps(
        {
            "id": "evt_whole", "type": "payment_intent.succeeded", "created": int(HALF.timestamp()),
            "data": {"object": {"id": "pi_9", "amount_received": 499, "metadata": {"user_id": "ada", "pack": "starter"}}},
        }
    ).encode()  # fmt: skip
    stamp = int(HALF.timestamp())
    headers = {"Stripe-Signature": f"t={stamp},v1={signature(body, 'whsec', stamp)}"}
    answer = ada.payment_webhook("stripe", body, headers, "whsec", at=HALF)
    assert (answer.kind, answer.user_id, answer.granted_uc) == ("pack", "ada", 25 * CREDIT)
    before = everything(ada)
    assert ada.payment_webhook("stripe", body, headers, "whsec", at=HALF).replayed
    for other, secret in ((body + b" ", "whsec"), (body, "other"), (body, None)):
        with pytest.raises(InvalidSignature):
            ada.payment_webhook("stripe", other, headers, secret, at=HALF)
    with pytest.raises(InvalidSignature, match="ago"):
        ada.payment_webhook("stripe", body, headers, "whsec", at=HALF + timedelta(seconds=301))
    assert everything(ada) == before


def test_an_event_of_another_kind_is_answered_and_not_kept(ada: CreditCore) -> None:
    body = b'{"id":"evt_x","type":"customer.created","created":1,"data":{"object":{}}}'
    stamp = int(HALF.timestamp())
    headers = {"Stripe-Signature": f"t={stamp},v1={signature(body, 'whsec', stamp)}"}
    before = everything(ada)
    answer = ada.payment_webhook("stripe", body, headers, "whsec", at=HALF)
    assert answer.kind is None
    assert answer.note.startswith("customer.created: ")
    assert everything(ada) == before


# -------------------------------------------------------------------------------------------------------------- override


def test_a_purchase_callback_lifts_the_limits_for_ten_minutes_and_nothing_else(core: CreditCore) -> None:
    make_live(core, {"limits.bucket_capacity": 1.0, "limits.bucket_leak_per_minute": 0.001})
    core.add_user("ada", "free", at=START)
    ask(core, "r-1", at=HALF)
    assert ask(core, "r-2", at=HALF).status == "RATE_LIMITED"
    before = (core.balance("ada").available_uc, core.profile("ada", at=HALF).plan)
    assert core.purchase_callback("ada", at=HALF) == (HALF + timedelta(minutes=10), True)
    assert (core.balance("ada").available_uc, core.profile("ada", at=HALF).plan) == before
    for n in range(3):
        assert ask(core, f"free-{n}", at=HALF + timedelta(minutes=9)).status != "RATE_LIMITED"
    assert ask(core, "r-3", at=HALF + timedelta(minutes=10)).status == "RATE_LIMITED"
    assert ask(core, "r-4", images=21, at=HALF + timedelta(minutes=9)).rule == "unaffordable", "balances stay"
    assert core.verify() == []


def test_the_override_is_given_once_a_local_day(core: CreditCore) -> None:
    core.add_user("ada", "free", "Asia/Tokyo", at=START)
    night = datetime(2025, 4, 24, 14, 59, tzinfo=UTC)  # 23:59 in Tokyo
    assert core.purchase_callback("ada", at=night) == (night + timedelta(minutes=10), True)
    before = everything(core)
    assert core.purchase_callback("ada", at=night + timedelta(seconds=30)) == (night + timedelta(minutes=10), False)
    assert everything(core) == before
    morning = night + timedelta(minutes=1)
    assert core.purchase_callback("ada", at=morning) == (morning + timedelta(minutes=10), True)
    with pytest.raises(NotFound):
        core.purchase_callback("nobody", at=night)


# ------------------------------------------------------------------------------------------------------- order and number

#: By the provider's clock. References and ids are made one user's own in :func:`told`.
POOL = [
    paid("basic", 1, amount=100),
    paid("premium", 2, amount=300),
    event("refund", 3, reference="in_premium", amount=100),
    event("chargeback", 4, reference="in_premium", user_id=None, amount=300),
    paid("basic", 5, END + 30 * DAY, reference="in_basic_2"),
    event("expired", 6, reference="sub", plan="basic", paid_until=HALF - DAY),
    event("refund", 7, reference="in_basic"),
    pack(10),
    pack(11),
    event("refund", 12, user_id=None, amount=250),
    event("refund", 13, amount=400),
    event("chargeback", 14, user_id=None, amount=300),
    pack(15, reference="pi_2", pack="starter"),
    event("chargeback", 16, reference="pi_2", user_id=None),
    event("cancelled", 17, reference="sub"),
]


def told(core: CreditCore, events: list[PaymentEvent]) -> dict[str, Any]:
    """What the events in this order, each as told to a new user, come to."""
    user = f"u{next(_numbers)}"
    core.add_user(user, "free", at=START)
    for e in events:
        own = e._replace(event_id=f"{user}-{e.event_id}", reference=f"{user}-{e.reference}")
        apply(core, own._replace(user_id=None if e.user_id is None else user))
    short = [row["details"]["missing_uc"] for row in entries(core, user) if row["reason"] == "chargeback_shortfall"]
    kept = "SELECT COALESCE(MAX(plan || ' ' || COALESCE(paid_until, 0)), '') || COUNT(*) FROM subscriptions WHERE user_id = :user"
    kept_as_of = "SELECT COALESCE(MAX(as_of), 0) FROM subscriptions WHERE user_id = :user"
    return {
        "lots": sorted(lots(core, user)),
        "plan": core.profile(user, at=HALF).plan,
        "paid_until": paid_until(core, user),
        "flag": flag(core, user),
        "missing": sum(short),
        "subscription": (scalar(core, kept, user=user), scalar(core, kept_as_of, user=user)),
    }


@settings(max_examples=30, suppress_health_check=[*HealthCheck])
@given(data=st.data())
def test_any_order_with_duplicates_ends_in_one_state(core: CreditCore, data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.sampled_from(POOL), unique=True, min_size=2, max_size=8), label="arriving")
    again = data.draw(st.lists(st.sampled_from(chosen), max_size=3), label="duplicates")
    arriving = data.draw(st.permutations([*chosen, *again]), label="order")
    in_order = sorted(chosen, key=lambda e: e.occurred_at)
    assert told(core, arriving) == told(core, in_order)
    assert core.verify() == []
