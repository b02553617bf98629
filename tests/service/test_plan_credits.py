"""plan_credits: a month's credits by model, without rollover; free models, counts and a burst day (SPEC 3)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from credit_core import CreditCore
from credit_core.errors import InsufficientCredits, InvalidAmount, InvalidRequest, NotFound
from credit_core.service.offline import Spend
from tests.service.scenes import CREDIT, NOW, ask, entries, lots, make_live, moves

END = datetime(2025, 4, 10, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def studio(core: CreditCore) -> CreditCore:
    make_live(core, {"limits.enabled": False})
    return core


def joined(core: CreditCore, plan: str) -> CreditCore:
    core.add_user("ada", plan, at=NOW)
    return core


# -------------------------------------------------------------------------------------------------------------- credits


def test_a_generation_costs_what_its_model_costs_and_settles_at_the_catalogues_cost(studio: CreditCore) -> None:
    joined(studio, "creator_pro")
    decision = ask(studio, model="gen4-image", images=2)
    assert (decision.rule, decision.amount_uc, decision.model) == ("allowed", 50 * CREDIT, "gen4-image")
    assert studio.settle("ada", "r-1", at=NOW).cost_usd_micro == 400_000
    assert ask(studio, "r-2", modality="video").model == "stable-video-4s"
    ended = studio.settle("ada", "r-2", actual_uc=5 * CREDIT, at=NOW)
    assert (ended.settled_uc, ended.returned_uc) == (5 * CREDIT, 20 * CREDIT)
    assert studio.balance("ada").available_uc == 1_445 * CREDIT
    assert studio.verify() == []


def test_what_the_balance_does_not_cover_is_declined_with_what_would_do(studio: CreditCore) -> None:
    joined(studio, "creator_pro")
    studio.adjust("ada", -1_481 * CREDIT, "k", "sam", "for a test", at=NOW)
    declined = ask(studio, modality="text", model="gpt-4o")
    assert (declined.rule, declined.status, declined.http_status) == ("unaffordable", "REJECTED", 402)
    assert declined.state.affordable_model == "claude-3-5-sonnet"
    explained = studio.explain("ada", "r-1")
    assert explained.exact, explained.differences
    assert explained.sentence == (
        "Refused: it costs 20 credits, but only 19 credits were available. The balance covers model claude-3-5-sonnet."
    )
    # A retry later, with credits, still hears the first answer; a new request is served.
    studio.purchase("ada", "starter", "payment", at=NOW)
    assert ask(studio, modality="text", model="gpt-4o") == declined._replace(replayed=True)
    assert ask(studio, "r-2", modality="text", model="gpt-4o").status == "RESERVED"
    assert studio.verify() == []


def test_nothing_rolls_over(studio: CreditCore) -> None:
    joined(studio, "creator_pro")
    ask(studio, model="dalle-3-hd")
    studio.settle("ada", "r-1", at=NOW)
    studio.purchase("ada", "starter", "payment", at=NOW)
    before = entries(studio)[-1]["seq"]
    studio.reconcile(at=END)
    assert moves(studio, after=before) == [("expire", "monthly", -1_485, 0), ("grant", "monthly", 1_500, 0)]
    assert lots(studio) == [("monthly", 1_500, 0), ("purchased", 25, 0)]
    studio.reconcile(at=END + 91 * DAY)
    assert lots(studio) == [("monthly", 1_500, 0), ("purchased", 25, 0)]
    assert studio.verify() == []


def test_a_hold_that_comes_back_after_the_closing_becomes_a_bonus_of_thirty_days(studio: CreditCore) -> None:
    joined(studio, "creator_pro")
    late = END - timedelta(minutes=1)
    ask(studio, model="gen4-image", at=late)
    studio.release("ada", "r-1", "provider_error", at=END + timedelta(minutes=1))
    assert lots(studio) == [("monthly", 1_500, 0), ("bonus", 25, 0)]
    [bonus] = [lot for lot in studio.balance("ada").lots if lot.kind == "bonus"]
    assert bonus.expires_at == END + timedelta(days=30, minutes=1)
    studio.reconcile(at=END + 31 * DAY)
    assert [kind for kind, *_ in lots(studio)] == ["monthly"]
    assert studio.verify() == []


# ---------------------------------------------------------------------------------------------------------- free models


def test_a_free_generation_is_recorded_at_cost_0_and_ends_like_any_other(studio: CreditCore) -> None:
    joined(studio, "creator_free")
    decision = ask(studio, modality="text")
    assert (decision.status, decision.amount_uc, decision.model, decision.remaining) == (
        "RESERVED", 0, "free-text-1", 49,
    )  # fmt: skip
    assert studio.settle("ada", "r-1", at=NOW).cost_usd_micro == 0
    assert ask(studio, "r-2", modality="text").remaining == 48
    assert studio.release("ada", "r-2", "provider_error", at=NOW).returned_uc == 0
    assert ask(studio, "r-3", modality="text").remaining == 48
    assert studio.partial("ada", "r-3", at=NOW).status == "PARTIAL"
    assert moves(studio) == [
        ("reserve", None, 0, 0), ("settle", None, 0, 0), ("reserve", None, 0, 0), ("release", None, 0, 0),
        ("reserve", None, 0, 0), ("partial", None, 0, 0), ("library", None, 0, 0),
    ]  # fmt: skip
    assert studio.balance("ada").lifetime.fresh == 3
    with pytest.raises(InvalidAmount):
        studio.settle("ada", "r-1", actual_uc=-1, at=NOW)
    with pytest.raises((InvalidRequest, InvalidAmount, InsufficientCredits)):
        studio.refund("ada", "r-1", 1, "k", "sam", "unhappy", at=NOW)
    with pytest.raises(NotFound):
        studio.refund("ada", "r-2", 1, "k", "sam", "unhappy", at=NOW)
    assert studio.verify() == []


def test_fifty_free_ones_a_month_and_then_the_free_count_stands_in_the_way(studio: CreditCore) -> None:
    joined(studio, "creator_free")
    assert ask(studio, "r-1", modality="text", images=50).remaining == 0
    refused = ask(studio, "r-2", modality="text")
    assert (refused.rule, refused.http_status, refused.state.allowance) == (
        "over_limit", 429, ("free", 50, 50, END),
    )  # fmt: skip
    assert ask(studio, "r-3", modality="text", model="free-text-3").rule == "over_limit"
    assert ask(studio, "r-4", modality="text", at=END).remaining == 49
    # With a credit the next cheapest model is meant.
    studio.grant("ada", CREDIT, "bonus", "gift", at=END)
    ask(studio, "r-5", modality="text", images=49, at=END)
    paid = ask(studio, "r-6", modality="text", at=END)
    assert (paid.status, paid.model, paid.amount_uc, paid.remaining) == ("RESERVED", "kimi-vl-a3b", CREDIT, None)
    assert ask(studio, "r-7", modality="text", at=END).rule == "over_limit"
    assert ask(studio, "r-8", modality="text", model="kimi-vl-a3b", at=END).rule == "unaffordable"
    for number in range(1, 9):
        explained = studio.explain("ada", f"r-{number}")
        assert explained.exact, explained.differences
    assert studio.explain("ada", "r-1").sentence == (
        "Fresh for nothing: none of 50 generations were used this cycle by free models before it, so none are left."
    )
    assert studio.explain("ada", "r-6").sentence == "Fresh for 1 credit: 1 credit was available."
    assert studio.verify() == []


def test_free_models_of_a_plan_without_a_free_count_are_free_without_end(studio: CreditCore) -> None:
    joined(studio, "creator_pro")
    answers = [ask(studio, f"r-{n}", modality="text", images=500) for n in range(3)]
    assert {(a.status, a.amount_uc, a.remaining) for a in answers} == {("RESERVED", 0, None)}
    assert studio.verify() == []


# --------------------------------------------------------------------------------------------------------------- counts


def video(core: CreditCore, name: str, at: datetime = NOW, images: int = 1) -> str:
    """The rule that answered, with the count that did."""
    decision = ask(core, name, modality="video", images=images, at=at)
    allowance = decision.state.allowance
    return (
        decision.rule if allowance is None else f"{decision.rule} {allowance.name} {allowance.used}/{allowance.limit}"
    )


def test_video_is_counted_by_day_and_by_month_and_other_modalities_are_not(studio: CreditCore) -> None:
    joined(studio, "creator_pro")
    studio.grant("ada", 9_000 * CREDIT, "bonus", "gift", at=NOW)
    assert video(studio, "v-0", images=5) == "allowed day 0/5"
    assert video(studio, "v-1") == "over_limit day 5/5"
    assert ask(studio, "image").rule == "allowed"
    for day in range(1, 5):
        assert video(studio, f"d-{day}", NOW + day * DAY, 5).startswith("allowed")
    assert video(studio, "v-2", NOW + 5 * DAY) == "over_limit month 25/25"
    refused = ask(studio, "v-2", modality="video", at=NOW + 5 * DAY)
    assert refused.retry_after_s == (END - NOW - 5 * DAY).total_seconds()
    # One that failed on an earlier day frees the month, and its own day.
    studio.release("ada", "d-1", "provider_error", at=NOW + 5 * DAY)
    assert video(studio, "v-3", NOW + 5 * DAY, 5) == "allowed month 20/25"
    assert video(studio, "v-4", END) == "allowed day 0/5"
    assert studio.verify() == []


def test_a_cycle_has_one_burst_day(studio: CreditCore) -> None:
    joined(studio, "studio_pro")
    assert video(studio, "a", images=15) == "allowed day 0/25"
    assert video(studio, "b", images=10) == "allowed day 15/25"
    assert video(studio, "c") == "over_limit day 25/25"
    assert video(studio, "d", NOW + DAY, 15) == "allowed day 0/15"
    assert video(studio, "e", NOW + DAY) == "over_limit day 15/15"
    # The burst's second half failed: the burst is there again, for another day.
    studio.release("ada", "b", "provider_error", at=NOW + DAY)
    assert video(studio, "f", NOW + DAY, 10) == "allowed day 15/25"
    assert video(studio, "g", NOW, 1) == "over_limit day 15/15"
    assert video(studio, "h", END, 25) == "allowed day 0/25"
    assert studio.verify() == []


def test_a_late_one_of_a_cycle_that_has_closed_counts_in_the_running_one(studio: CreditCore) -> None:
    joined(studio, "creator_pro")
    studio.reconcile(at=END)
    assert video(studio, "late", NOW, 3) == "allowed day 0/5"
    assert video(studio, "now", END, 3) == "over_limit day 3/5"
    assert entries(studio)[-2]["counted_at"] == END
    assert studio.verify() == []


def test_spends_made_offline_meet_the_same_counts(studio: CreditCore) -> None:
    joined(studio, "creator_pro")
    spends = [Spend(f"s-{n}", NOW + timedelta(minutes=n), 2, modality="video") for n in range(3)]
    free = Spend("free", NOW, 4, modality="text")
    done = studio.sync("ada", [*spends, free], at=NOW + DAY)
    assert (done.taken, done.overdrawn) == (("free", "s-0", "s-1"), ("s-2",))
    assert studio.balance("ada").available_uc == 1_400 * CREDIT
    assert [row["d_count"] for row in entries(studio)[1:]] == [4, 2, 2, None]
    assert video(studio, "v", NOW, 2) == "over_limit day 4/5"
    assert studio.verify() == []


def test_free_ones_made_offline_are_limited_too(studio: CreditCore) -> None:
    joined(studio, "creator_free")
    spends = [Spend(f"s-{n}", NOW + timedelta(minutes=n), 20, modality="text") for n in range(3)]
    done = studio.sync("ada", spends, at=NOW + DAY)
    assert (done.taken, done.overdrawn) == (("s-0", "s-1"), ("s-2",))
    assert ask(studio, modality="text").remaining == 9
    assert studio.verify() == []
