"""How a reserve ends: once, charged or given back, whatever is tried afterwards (SPEC 2.1)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from credit_core import CreditCore
from credit_core.errors import AlreadyEnded, InvalidAmount, InvalidRequest, NotFound
from tests.service.scenes import (
    CREDIT,
    LIBRARY_FOR_ALL,
    NOW,
    ask,
    entries,
    everything,
    lots,
    make_live,
    moves,
    scalar,
)

COPIED = (
    "user_id", "team_id", "request_id", "session_id", "plan", "region", "modality", "model", "genre", "mood",
    "config_version", "arm",
)  # fmt: skip
LATER = NOW + timedelta(minutes=1)


@pytest.fixture
def reserved(fresh_core: CreditCore) -> CreditCore:
    """Ada, on Free, with 3 of her 20 credits held by r-1."""
    fresh_core.add_user("ada", "free", at=NOW)
    ask(fresh_core, images=3)
    return fresh_core


@pytest.fixture
def spanning(fresh_core: CreditCore) -> CreditCore:
    """Ada with a hold of 25: 2 bonus, 20 monthly and 3 of 10 purchased credits."""
    fresh_core.add_user("ada", "free", at=NOW)
    fresh_core.grant("ada", 2 * CREDIT, "bonus", "gift", at=NOW, expires_at=NOW + timedelta(days=5))
    fresh_core.grant("ada", 10 * CREDIT, "purchased", "pack", at=NOW)
    ask(fresh_core, images=25)
    return fresh_core


# -------------------------------------------------------------------------------------------------------------- settled


def test_a_settle_charges_what_was_held(reserved: CreditCore) -> None:
    ended = reserved.settle("ada", "r-1", latency_ms=2_300, at=LATER)
    assert (ended.status, ended.settled_uc, ended.returned_uc, ended.at) == ("SETTLED", 3 * CREDIT, 0, LATER)
    assert moves(reserved)[-1] == ("settle", "monthly", 0, -3)
    assert lots(reserved) == [("monthly", 17, 0)]
    assert reserved.balance("ada").lifetime.spent_uc == 3 * CREDIT
    assert reserved.verify() == []


def test_a_settle_copies_the_facts_of_its_reserve_whatever_is_live_by_then(fresh_core: CreditCore) -> None:
    fresh_core.add_user("ada", "basic", region="eu", at=NOW)
    ask(fresh_core, genre="jazz", mood="calm", session_id="s-7")
    make_live(fresh_core, LIBRARY_FOR_ALL | {"routing.premium_model": "stable-diffusion-xl"})
    fresh_core.settle("ada", "r-1", at=LATER)
    reserve, settle = entries(fresh_core)[-2:]
    assert {name: settle[name] for name in COPIED} == {name: reserve[name] for name in COPIED}
    assert (settle["region"], settle["genre"], settle["model"], settle["config_version"]) == (
        "eu",
        "jazz",
        "dalle-3-hd",
        2,
    )


def test_what_the_provider_charged_is_recorded_or_taken_from_the_catalogue(fresh_core: CreditCore) -> None:
    fresh_core.add_user("ada", "basic", at=NOW)
    for request_id in ("r-1", "r-2", "r-3"):
        ask(fresh_core, request_id, images=3, model="stable-diffusion-xl")
    assert fresh_core.settle("ada", "r-1", at=LATER).cost_usd_micro == 3 * 80_000
    assert fresh_core.settle("ada", "r-2", cost_usd_micro=7, at=LATER).cost_usd_micro == 7
    assert fresh_core.settle("ada", "r-3", cost_usd_micro=0, at=LATER).cost_usd_micro == 0


def test_the_part_that_was_not_needed_goes_back_to_its_lot(reserved: CreditCore) -> None:
    ended = reserved.settle("ada", "r-1", actual_uc=1_250_000, at=LATER)
    assert (ended.settled_uc, ended.returned_uc) == (1_250_000, 1_750_000)
    assert moves(reserved)[-1] == ("settle", "monthly", 1.75, -3)
    assert lots(reserved) == [("monthly", 18.75, 0)]


def test_a_settle_consumes_lots_in_spending_order_and_returns_the_rest_to_theirs(spanning: CreditCore) -> None:
    spanning.settle("ada", "r-1", actual_uc=21_500_000, at=LATER)
    assert moves(spanning, after=6) == [
        ("settle", "bonus", 0, -2),
        ("settle", "monthly", 0.5, -20),
        ("settle", "purchased", 3, -3),
    ]
    assert lots(spanning) == [("monthly", 0.5, 0), ("purchased", 10, 0)]
    assert len({row["leg_id"] for row in entries(spanning)[6:]}) == 1
    assert spanning.verify() == []


def test_a_settle_of_nothing_returns_everything(spanning: CreditCore) -> None:
    before = lots(spanning)
    assert spanning.settle("ada", "r-1", actual_uc=0, at=LATER).settled_uc == 0
    assert [(kind, avail + held) for kind, avail, held in before] == [(k, a) for k, a, _ in lots(spanning)]


def test_a_settle_cannot_charge_more_than_was_held(reserved: CreditCore) -> None:
    before = everything(reserved)
    with pytest.raises(InvalidRequest, match="3000001, more than the 3000000"):
        reserved.settle("ada", "r-1", actual_uc=3 * CREDIT + 1, at=LATER)
    assert everything(reserved) == before


# ------------------------------------------------------------------------------------------------------------- released


def test_a_failed_generation_costs_nothing(spanning: CreditCore) -> None:
    ended = spanning.release("ada", "r-1", "provider_error", at=LATER)
    assert (ended.status, ended.settled_uc, ended.returned_uc, ended.reason) == (
        "RELEASED", 0, 25 * CREDIT, "provider_error",
    )  # fmt: skip
    assert moves(spanning, after=6) == [
        ("release", "bonus", 2, -2),
        ("release", "monthly", 20, -20),
        ("release", "purchased", 3, -3),
    ]
    assert lots(spanning) == [("bonus", 2, 0), ("monthly", 20, 0), ("purchased", 10, 0)]
    assert spanning.balance("ada").lifetime.spent_uc == 0


def test_a_release_copies_the_facts_of_its_reserve(reserved: CreditCore) -> None:
    make_live(reserved, LIBRARY_FOR_ALL)
    reserved.release("ada", "r-1", "cancelled", at=LATER)
    reserve, release = entries(reserved)[-2:]
    assert {name: release[name] for name in COPIED} == {name: reserve[name] for name in COPIED}


def test_a_release_needs_a_reason(reserved: CreditCore) -> None:
    with pytest.raises(InvalidRequest, match="reason"):
        reserved.release("ada", "r-1", "  ", at=LATER)
    assert reserved.balance("ada").held_uc == 3 * CREDIT


# ---------------------------------------------------------------------------------------------------------------- again

Act = Callable[[CreditCore], object]


def settle(core: CreditCore) -> object:
    return core.settle("ada", "r-1", actual_uc=2 * CREDIT, latency_ms=10.0, at=LATER)


def release(core: CreditCore) -> object:
    return core.release("ada", "r-1", "provider_error", at=LATER)


@pytest.mark.parametrize("act", [settle, release])
def test_the_same_end_again_returns_the_first_answer_and_writes_nothing(reserved: CreditCore, act: Act) -> None:
    first = act(reserved)
    before = everything(reserved)
    again = act(reserved)
    assert again == first._replace(replayed=True)  # type: ignore[attr-defined]
    assert everything(reserved) == before


def settle_otherwise(core: CreditCore) -> object:
    return core.settle("ada", "r-1", actual_uc=3 * CREDIT, at=LATER)


@pytest.mark.parametrize(
    ("first", "second"),
    [(settle, settle_otherwise), (settle, release), (release, settle)],
    ids=lambda act: act.__name__,
)
def test_another_end_is_an_error_and_writes_nothing(reserved: CreditCore, first: Act, second: Act) -> None:
    first(reserved)
    before = everything(reserved)
    with pytest.raises(AlreadyEnded, match=r"'r-1' of user 'ada' ended before as (SETTLED|RELEASED)"):
        second(reserved)
    assert everything(reserved) == before


@pytest.mark.parametrize("act", [settle, release])
def test_what_was_not_reserved_cannot_end(core: CreditCore, act: Act) -> None:
    core.add_user("ada", "free", at=NOW)
    with pytest.raises(NotFound, match="Authorize it first"):
        act(core)
    ask(core, images=21)
    with pytest.raises(AlreadyEnded, match="was answered LIBRARY: nothing is held"):
        act(core)
    with pytest.raises(NotFound, match="add_user"):
        core.settle("bob", "r-1", at=LATER)


def test_nobody_ends_another_users_request(reserved: CreditCore) -> None:
    reserved.add_user("bob", "free", at=NOW)
    with pytest.raises(NotFound):
        reserved.settle("bob", "r-1", at=LATER)
    assert reserved.balance("ada").held_uc == 3 * CREDIT


@pytest.mark.parametrize("amount", [-1, 1.0, True, "3", 10**16])
def test_an_amount_that_is_none_is_refused_before_anything_is_read(reserved: CreditCore, amount: object) -> None:
    with pytest.raises(InvalidAmount, match="actual_uc"):
        reserved.settle("ada", "r-1", actual_uc=amount, at=LATER)  # type: ignore[arg-type]
    with pytest.raises(InvalidAmount, match="cost_usd_micro"):
        reserved.settle("ada", "r-1", cost_usd_micro=amount, at=LATER)  # type: ignore[arg-type]


@pytest.mark.parametrize("latency", [float("nan"), float("inf"), -1.0])
def test_a_latency_that_is_none_is_refused(reserved: CreditCore, latency: float) -> None:
    with pytest.raises(InvalidRequest, match="latency_ms"):
        reserved.settle("ada", "r-1", latency_ms=latency, at=LATER)
    assert reserved.balance("ada").held_uc == 3 * CREDIT


def test_a_latency_of_negative_zero_leaves_the_chain_intact(reserved: CreditCore) -> None:
    reserved.settle("ada", "r-1", latency_ms=-0.0, at=LATER)
    assert reserved.verify() == []


# ---------------------------------------------------------------------------------------------------- after the sweeper


def test_a_settle_after_the_sweep_is_refused_and_recorded_once_for_support(reserved: CreditCore) -> None:
    swept_at = NOW + timedelta(minutes=15)
    reserved.sweep(at=swept_at)
    late = NOW + timedelta(hours=2)
    for _ in range(3):
        with pytest.raises(AlreadyEnded, match=r"swept at 2025-03-10T12:15:00\+00:00; this settle came later"):
            reserved.settle("ada", "r-1", actual_uc=2 * CREDIT, cost_usd_micro=120_000, latency_ms=900.0, at=late)
    assert moves(reserved, after=2) == [("release", "monthly", 3, -3), ("rejected", None, 0, 0)]
    recorded = entries(reserved)[-1]
    assert (recorded["reason"], recorded["request_id"], recorded["occurred_at"]) == ("late_settle", "r-1", late)
    assert (recorded["cost_usd_micro"], recorded["latency_ms"]) == (120_000, 900.0)
    assert reserved.balance("ada").available_uc == 20 * CREDIT
    assert reserved.verify() == []


def test_a_late_settle_first_writes_the_closings_that_were_due(reserved: CreditCore) -> None:
    reserved.sweep(at=NOW + timedelta(minutes=15))
    with pytest.raises(AlreadyEnded):
        reserved.settle("ada", "r-1", at=NOW + timedelta(days=31))
    assert [kind for kind, *_ in moves(reserved, after=3)] == ["rollover", "rollover", "grant", "rejected"]
    assert scalar(reserved, "SELECT cycle_no FROM accounts") == 1


def test_a_late_settle_tried_again_a_month_later_writes_nothing(reserved: CreditCore) -> None:
    reserved.sweep(at=NOW + timedelta(minutes=15))
    with pytest.raises(AlreadyEnded, match="settle came later"):
        reserved.settle("ada", "r-1", at=NOW + timedelta(hours=2))
    before = everything(reserved)
    with pytest.raises(AlreadyEnded, match="settle came later"):
        reserved.settle("ada", "r-1", at=NOW + timedelta(days=31))
    assert everything(reserved) == before


def test_a_release_after_the_sweep_finds_it_released(reserved: CreditCore) -> None:
    reserved.sweep(at=NOW + timedelta(minutes=15))
    before = everything(reserved)
    answer = reserved.release("ada", "r-1", "cancelled", at=NOW + timedelta(hours=1))
    assert (answer.status, answer.reason, answer.replayed) == ("RELEASED", "swept", True)
    assert everything(reserved) == before


# -------------------------------------------------------------------------------------------------------------- partial


def test_a_partial_generation_gives_the_hold_back_and_is_retried_once_from_the_library(spanning: CreditCore) -> None:
    ended = spanning.partial("ada", "r-1", at=LATER, cost_usd_micro=50_000)
    assert (ended.status, ended.settled_uc, ended.returned_uc) == ("PARTIAL", 0, 25 * CREDIT)
    assert moves(spanning, after=6) == [
        ("partial", "bonus", 2, -2),
        ("partial", "monthly", 20, -20),
        ("partial", "purchased", 3, -3),
        ("library", None, 0, 0),
    ]
    assert entries(spanning)[6]["cost_usd_micro"] == 50_000
    before = everything(spanning)
    assert spanning.partial("ada", "r-1", at=LATER).replayed
    with pytest.raises(AlreadyEnded, match="PARTIAL"):
        spanning.settle("ada", "r-1", at=LATER)
    assert everything(spanning) == before
    assert spanning.verify() == []


def test_after_a_partial_the_request_still_has_its_first_answer(reserved: CreditCore) -> None:
    first = ask(reserved, images=3)
    reserved.partial("ada", "r-1", at=LATER)
    assert ask(reserved, images=3) == first
