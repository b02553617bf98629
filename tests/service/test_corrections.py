"""Partial ends, refunds, adjustments and purchases: each once, none over what was charged or is there (SPEC 2, 2.1)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from credit_core import CreditCore
from credit_core.errors import AlreadyEnded, Conflict, InsufficientCredits, InvalidAmount, InvalidRequest, NotFound
from credit_core.service.corrections import Refunded
from tests.service.scenes import CREDIT, NOW, ask, entries, everything, lots, make_live, moves, scalar
from tests.service.together import outcomes

LATER = NOW + timedelta(minutes=1)
END = datetime(2025, 4, 10, tzinfo=UTC)


def refund(core: CreditCore, credits: float, key: str = "k-1", request_id: str = "r-1", **how: Any) -> Refunded:
    return core.refund("ada", request_id, round(credits * CREDIT), key, "sam", "it was blurred", **{"at": LATER, **how})


def adjust(core: CreditCore, amount_uc: Any, key: str = "k-1", at: datetime = LATER) -> Any:
    return core.adjust("ada", amount_uc, key, "sam", "by hand", at=at)


@pytest.fixture
def reserved(fresh_core: CreditCore) -> CreditCore:
    """Ada, on Free, with 3 of her 20 credits held by r-1."""
    fresh_core.add_user("ada", "free", at=NOW)
    ask(fresh_core, images=3)
    return fresh_core


@pytest.fixture
def charged(reserved: CreditCore) -> CreditCore:
    """The same, with r-1 settled in full."""
    reserved.settle("ada", "r-1", at=NOW)
    return reserved


@pytest.fixture
def spanning(fresh_core: CreditCore) -> CreditCore:
    """Ada, charged 25: 2 bonus, 20 monthly and 3 of 10 purchased credits."""
    fresh_core.add_user("ada", "free", at=NOW)
    fresh_core.grant("ada", 2 * CREDIT, "bonus", "gift", at=NOW, expires_at=NOW + timedelta(days=5))
    fresh_core.grant("ada", 10 * CREDIT, "purchased", "pack", at=NOW)
    ask(fresh_core, images=25)
    fresh_core.settle("ada", "r-1", at=NOW)
    return fresh_core


# -------------------------------------------------------------------------------------------------------------- partial


def test_a_partial_end_gives_the_hold_back_and_is_retried_once_from_the_library(reserved: CreditCore) -> None:
    ended = reserved.partial("ada", "r-1", at=LATER, cost_usd_micro=40_000)
    assert (ended.status, ended.settled_uc, ended.returned_uc, ended.cost_usd_micro) == (
        "PARTIAL", 0, 3 * CREDIT, 40_000,
    )  # fmt: skip
    assert lots(reserved) == [("monthly", 20, 0)]
    assert moves(reserved, after=2) == [("partial", "monthly", 3, -3), ("library", None, 0, 0)]
    retry = entries(reserved)[-1]
    assert (retry["request_id"], retry["outcome"], retry["reason"], retry["images"]) == ("r-1", "library", "partial", 3)
    assert reserved.verify() == []


def test_the_same_partial_end_again_returns_the_first_answer_and_writes_nothing(reserved: CreditCore) -> None:
    first = reserved.partial("ada", "r-1", at=LATER)
    before = everything(reserved)
    again = reserved.partial("ada", "r-1", at=LATER + timedelta(hours=1))
    assert again == first._replace(replayed=True)
    assert everything(reserved) == before


def test_after_a_partial_end_every_other_end_is_refused_and_a_refund_finds_no_charge(reserved: CreditCore) -> None:
    reserved.partial("ada", "r-1", at=LATER)
    before = everything(reserved)
    with pytest.raises(AlreadyEnded, match="PARTIAL"):
        reserved.settle("ada", "r-1", at=LATER)
    with pytest.raises(AlreadyEnded, match="PARTIAL"):
        reserved.release("ada", "r-1", "provider_error", at=LATER)
    with pytest.raises(NotFound, match="not charged"):
        refund(reserved, 1)
    assert everything(reserved) == before


@pytest.mark.parametrize("end", ["settle", "release"])
def test_what_ended_otherwise_cannot_end_half_way(reserved: CreditCore, end: str) -> None:
    if end == "settle":
        reserved.settle("ada", "r-1", at=LATER)
    else:
        reserved.release("ada", "r-1", "cancelled", at=LATER)
    before = everything(reserved)
    with pytest.raises(AlreadyEnded):
        reserved.partial("ada", "r-1", at=LATER)
    assert everything(reserved) == before
    assert reserved.verify() == []


# --------------------------------------------------------------------------------------------------------------- refund


def test_refunds_under_several_keys_never_come_to_more_than_the_charge(charged: CreditCore) -> None:
    assert refund(charged, 1).refunded_uc == CREDIT
    assert refund(charged, 1.25, "k-2").refunded_uc == 2_250_000
    before = everything(charged)
    with pytest.raises(InvalidRequest, match="charged 3000000 uc and 2250000 are refunded"):
        refund(charged, 0.750001, "k-3")
    assert everything(charged) == before
    last = refund(charged, 0.75, "k-3")
    assert (last.refunded_uc, last.settled_uc, last.replayed) == (3 * CREDIT, 3 * CREDIT, False)
    with pytest.raises(InvalidRequest, match="over it"):
        refund(charged, 0.000001, "k-4")
    balance = charged.balance("ada")
    assert (balance.available_uc, balance.lifetime.spent_uc) == (20 * CREDIT, 0)
    assert charged.verify() == []


def test_the_same_refund_again_writes_nothing_and_another_amount_under_its_key_is_refused(charged: CreditCore) -> None:
    first = refund(charged, 3)
    before = everything(charged)
    assert refund(charged, 3, at=LATER + timedelta(hours=2)) == first._replace(replayed=True)
    with pytest.raises(Conflict, match="posted before with 3000000 uc, not 2000000"):
        refund(charged, 2)
    assert everything(charged) == before
    assert charged.verify() == []


def test_a_refund_says_who_and_why_and_copies_the_facts_of_the_charge(charged: CreditCore) -> None:
    refund(charged, 1)
    settle, returned = entries(charged)[-2:]
    assert (returned["kind"], returned["actor"], returned["reason"]) == ("refund", "sam", "it was blurred")
    for name in ("request_id", "plan", "region", "model", "arm", "config_version", "session_id", "modality"):
        assert returned[name] == settle[name], name


def test_a_refund_goes_back_to_the_lots_it_came_from_the_last_taken_first(spanning: CreditCore) -> None:
    seq = entries(spanning)[-1]["seq"]
    refund(spanning, 2)
    assert moves(spanning, after=seq) == [("refund", "purchased", 2, 0)]
    refund(spanning, 4, "k-2")
    assert sorted(moves(spanning, after=seq + 1)) == [("refund", "monthly", 3, 0), ("refund", "purchased", 1, 0)]
    refund(spanning, 19, "k-3")
    assert sorted(moves(spanning, after=seq + 3)) == [("refund", "bonus", 2, 0), ("refund", "monthly", 17, 0)]
    assert lots(spanning) == [("bonus", 2, 0), ("monthly", 20, 0), ("purchased", 10, 0)]
    assert spanning.verify() == []


def test_only_what_was_charged_can_be_refunded_not_what_was_held(reserved: CreditCore) -> None:
    with pytest.raises(NotFound, match="not charged"):
        refund(reserved, 1)
    reserved.settle("ada", "r-1", actual_uc=CREDIT, at=NOW)
    with pytest.raises(InvalidRequest, match="over it"):
        refund(reserved, 1.5)
    assert refund(reserved, 1).settled_uc == CREDIT
    assert reserved.verify() == []


def test_a_refund_to_a_closed_cycle_becomes_rollover_of_the_running_one(charged: CreditCore) -> None:
    charged.reconcile(at=END)
    assert lots(charged) == [("monthly", 20, 0), ("rollover", 17, 0)]
    refund(charged, 2, at=END + timedelta(days=3))
    assert lots(charged) == [("monthly", 20, 0), ("rollover", 19, 0)]
    assert sorted(moves(charged)[-3:]) == [
        ("refund", "monthly", 2, 0), ("rollover", "monthly", -2, 0), ("rollover", "rollover", 2, 0),
    ]  # fmt: skip
    assert charged.balance("ada").lots[1].expires_at == datetime(2025, 5, 10, tzinfo=UTC)
    assert charged.verify() == []


def test_what_a_late_refund_brings_over_the_cap_is_clamped(charged: CreditCore) -> None:
    charged.reconcile(at=END)
    make_live(charged, {"plans.free.cap_multiple": 1.9})
    refund(charged, 3, at=END + timedelta(days=3))
    assert charged.balance("ada").available_uc == 38 * CREDIT
    assert [kind for kind, *_ in moves(charged)][-1] == "clamp"
    assert charged.balance("ada").lifetime.expired_uc == 2 * CREDIT
    assert charged.verify() == []


def test_a_refund_to_an_expired_lot_becomes_rollover_as_well(spanning: CreditCore) -> None:
    refund(spanning, 25, at=NOW + timedelta(days=6))
    assert lots(spanning) == [("monthly", 20, 0), ("rollover", 2, 0), ("purchased", 10, 0)]
    assert spanning.verify() == []


def test_refunds_at_once_under_different_keys_stay_within_the_charge(charged: CreditCore) -> None:
    answers = outcomes(lambda number: refund(charged, 1, f"k-{number}"), range(6), InvalidRequest)
    assert sum(isinstance(answer, Refunded) for answer in answers) == 3
    assert charged.balance("ada").available_uc == 20 * CREDIT
    assert charged.verify() == []


def test_the_same_refund_at_once_is_posted_once(charged: CreditCore) -> None:
    answers = outcomes(lambda _: refund(charged, 1), range(4))
    assert sorted(answer.replayed for answer in answers if isinstance(answer, Refunded)) == [False, True, True, True]
    assert scalar(charged, "SELECT count(*) FROM ledger_entries WHERE kind = 'refund'") == 1
    assert charged.verify() == []


@pytest.mark.parametrize("bad", [0, -1, 1.5, float("nan"), "1", True, None])
def test_a_refund_of_nothing_or_of_no_whole_number_is_refused(charged: CreditCore, bad: Any) -> None:
    before = everything(charged)
    with pytest.raises(InvalidAmount):
        charged.refund("ada", "r-1", bad, "k-1", "sam", "why", at=LATER)
    assert everything(charged) == before


def test_a_correction_needs_a_reason(charged: CreditCore) -> None:
    before = everything(charged)
    with pytest.raises(InvalidRequest, match="reason"):
        charged.refund("ada", "r-1", CREDIT, "k-1", "sam", "  ", at=LATER)
    with pytest.raises(InvalidRequest, match="reason"):
        charged.adjust("ada", CREDIT, "k-1", "sam", "", at=LATER)
    assert everything(charged) == before


# --------------------------------------------------------------------------------------------------------------- adjust


def test_an_adjustment_adds_a_bonus_lot_or_takes_in_spending_order(core: CreditCore) -> None:
    core.add_user("ada", "free", at=NOW)
    assert adjust(core, 5 * CREDIT).available_uc == 25 * CREDIT
    assert lots(core) == [("monthly", 20, 0), ("bonus", 5, 0)]
    assert adjust(core, -22_500_000, "k-2").available_uc == 2_500_000
    assert moves(core, after=1) == [
        ("adjust", "bonus", 5, 0), ("adjust", "monthly", -20, 0), ("adjust", "bonus", -2.5, 0),
    ]  # fmt: skip
    last = entries(core)[-1]
    assert (last["actor"], last["reason"]) == ("sam", "by hand")
    assert core.verify() == []


def test_the_same_adjustment_again_changes_nothing_and_another_amount_is_refused(core: CreditCore) -> None:
    core.add_user("ada", "free", at=NOW)
    adjust(core, -5 * CREDIT)
    before = everything(core)
    assert adjust(core, -5 * CREDIT, at=LATER + timedelta(hours=1)).available_uc == 15 * CREDIT
    for other in (5 * CREDIT, -4 * CREDIT):
        with pytest.raises(Conflict, match="posted before with -5000000 uc"):
            adjust(core, other)
    assert everything(core) == before
    assert core.verify() == []


def test_more_than_is_available_cannot_be_taken_and_what_is_held_is_not_available(reserved: CreditCore) -> None:
    before = everything(reserved)
    with pytest.raises(InsufficientCredits, match="17000000 uc available, so 17000001"):
        adjust(reserved, -17_000_001)
    assert everything(reserved) == before
    assert adjust(reserved, -17 * CREDIT).available_uc == 0
    assert reserved.verify() == []


@pytest.mark.parametrize("bad", [0, float("nan"), float("inf"), 1.0, "5", None, True, 9_000_000_000_000_001])
def test_an_adjustment_by_nothing_or_by_no_whole_number_is_refused(core: CreditCore, bad: Any) -> None:
    core.add_user("ada", "free", at=NOW)
    before = everything(core)
    with pytest.raises(InvalidAmount):
        adjust(core, bad)
    assert everything(core) == before


def test_takings_at_once_never_take_more_than_there_is(core: CreditCore) -> None:
    core.add_user("ada", "free", at=NOW)
    answers = outcomes(lambda number: adjust(core, -6 * CREDIT, f"k-{number}"), range(5), InsufficientCredits)
    assert sum(isinstance(answer, InsufficientCredits) for answer in answers) == 2
    assert core.balance("ada").available_uc == 2 * CREDIT
    assert core.verify() == []


# ------------------------------------------------------------------------------------------------------------- purchase


@pytest.mark.parametrize(
    ("pack", "credits", "unit_price_usd_micro"),
    [("starter", 25, 199_600), ("creator", 110, 136_273), ("pro", 300, 99_967), ("enterprise", 650, 76_908)],
)
def test_a_pack_becomes_a_lot_that_never_expires_at_the_price_paid_per_credit(
    core: CreditCore, pack: str, credits: int, unit_price_usd_micro: int
) -> None:
    core.add_user("ada", "free", at=NOW)
    bought = core.purchase("ada", pack, "payment-1", at=LATER).lots[-1]
    assert (bought.kind, bought.avail_uc, bought.expires_at) == ("purchased", credits * CREDIT, None)
    assert bought.unit_price_usd_micro == unit_price_usd_micro
    assert core.verify() == []


def test_a_payment_counts_once(core: CreditCore) -> None:
    core.add_user("ada", "free", at=NOW)
    core.purchase("ada", "starter", "payment-1", at=LATER)
    before = everything(core)
    assert core.purchase("ada", "starter", "payment-1", at=LATER + timedelta(days=1)).available_uc == 45 * CREDIT
    with pytest.raises(Conflict, match="payment-1"):
        core.purchase("ada", "pro", "payment-1", at=LATER)
    assert everything(core) == before
    assert core.purchase("ada", "starter", "payment-2", at=LATER).available_uc == 70 * CREDIT
    assert core.verify() == []


def test_an_unknown_pack_is_refused_with_the_names_there_are(core: CreditCore) -> None:
    core.add_user("ada", "free", at=NOW)
    before = everything(core)
    with pytest.raises(NotFound, match=r"no pack 'mega'.*starter, creator, pro, enterprise"):
        core.purchase("ada", "mega", "payment-1", at=LATER)
    assert everything(core) == before
