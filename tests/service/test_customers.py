"""The customer's view, loaded from a ledger: exact figures after exact acts, on both engines (SPEC 3 and 8)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from credit_core import Asked, CreditCore, Request
from credit_core.errors import InvalidInstant, InvalidRequest, NotFound
from credit_core.policy.customer import FIRST_LIBRARY_TIP, Meter, Reset
from credit_core.policy.standing import Lifetime, Offer, Taken
from tests.service.scenes import CREDIT, LIBRARY_FOR_ALL, NOW, ask, everything, make_live

RESET = datetime(2025, 4, 10, tzinfo=UTC)


def charge(core: CreditCore, request_id: str, *, images: int = 1, at: datetime = NOW, **end: int) -> None:
    """A fresh request of ada, settled at once."""
    assert ask(core, request_id, images=images, at=at).fresh
    core.settle("ada", request_id, at=at, **end)


def test_a_new_customer_sees_a_full_balance_and_no_past(core: CreditCore) -> None:
    core.add_user("ada", "basic", at=NOW)
    seen = core.customer_view("ada", at=NOW)
    assert (seen.quota_policy, seen.plan, seen.available_uc, seen.held_uc) == (
        "titrated_monthly",
        "basic",
        200 * CREDIT,
        0,
    )
    assert seen.meter == Meter(0.0, "ok", 0, 200 * CREDIT, "credits")
    assert (seen.badge, seen.pace, seen.risk, seen.receipt, seen.tip, seen.countdown) == (None,) * 6
    assert seen.reset == Reset(RESET, 400 * CREDIT, None)
    assert seen.lifetime == Lifetime(200 * CREDIT, 0, 0, 0, 0)
    assert (seen.pack_uc, seen.paused, seen.blocked, seen.left, seen.recommendation) == (0, False, False, (), None)


def test_charges_fill_the_meter_and_the_pace(fresh_core: CreditCore) -> None:
    core = fresh_core
    core.add_user("ada", "basic", at=NOW)
    charge(core, "r-1", images=150)
    charge(core, "r-2", images=6, actual_uc=4 * CREDIT)
    assert ask(core, "open", images=6).fresh
    seen = core.customer_view("ada", at=NOW + timedelta(days=12))
    assert seen.meter == Meter(0.8, "warning", 160 * CREDIT, 200 * CREDIT, "credits")
    # 156 images were made in twelve days, whatever of the second charge came back.
    assert seen.pace == "Pace: ~13 fresh/day"
    assert core.verify() == []


def test_what_was_spent_before_the_reset_no_longer_fills_the_meter(fresh_core: CreditCore) -> None:
    core = fresh_core
    core.add_user("ada", "basic", at=NOW)
    charge(core, "r-1", images=190)
    core.reconcile(at=RESET)
    charge(core, "r-2", images=42, at=RESET)
    seen = core.customer_view("ada", at=RESET)
    assert seen.meter == Meter(0.2, "ok", 42 * CREDIT, 210 * CREDIT, "credits")
    # The window is 28 days, and the first charge lies before it.
    assert seen.pace == "Pace: ~2 fresh/day"
    assert core.customer_view("ada", at=NOW + timedelta(days=28)).pace == "Pace: ~7 fresh/day"


def test_a_refund_empties_the_meter_again(fresh_core: CreditCore) -> None:
    core = fresh_core
    core.add_user("ada", "free", at=NOW)
    charge(core, "r-1", images=19)
    assert core.customer_view("ada", at=NOW).meter == Meter(0.95, "critical", 19 * CREDIT, 20 * CREDIT, "credits")
    core.refund("ada", "r-1", 9 * CREDIT, "k", "sam", "blurred", at=NOW)
    assert core.customer_view("ada", at=NOW).meter == Meter(0.5, "ok", 10 * CREDIT, 20 * CREDIT, "credits")


def test_releases_are_no_pace_and_no_receipt(fresh_core: CreditCore) -> None:
    core = fresh_core
    core.add_user("ada", "free", at=NOW)
    ask(core, "failed")
    core.release("ada", "failed", "provider_error", at=NOW)
    seen = core.customer_view("ada", at=NOW + timedelta(days=1))
    assert (seen.pace, seen.receipt) == ("Pace: ~0 fresh/day", None)


def test_the_receipt_is_of_the_newest_charge_with_the_balance_right_after_it(fresh_core: CreditCore) -> None:
    core = fresh_core
    core.add_user("ada", "free", at=NOW)
    core.purchase("ada", "starter", "payment", at=NOW)
    charge(core, "r-1", images=2)
    charge(core, "r-2", images=21)
    assert ask(core, "later", images=3).fresh
    core.adjust("ada", 5 * CREDIT, "k", "sam", "sorry", at=NOW)
    seen = core.customer_view("ada", at=NOW)
    assert seen.receipt is not None
    assert (seen.receipt.request_id, seen.receipt.charged_uc, seen.receipt.at) == ("r-2", 21 * CREDIT, NOW)
    assert seen.receipt.taken == (Taken("monthly", 18 * CREDIT), Taken("purchased", 3 * CREDIT))
    assert seen.receipt.available_after_uc == 22 * CREDIT
    assert (seen.available_uc, seen.held_uc) == (24 * CREDIT, 3 * CREDIT)
    assert seen.pack_uc == sum(lot.avail_uc for lot in core.balance("ada").lots if lot.kind == "purchased")


def test_a_receipt_leaves_out_the_lot_that_got_everything_back(fresh_core: CreditCore) -> None:
    core = fresh_core
    core.add_user("ada", "free", at=NOW)
    core.purchase("ada", "starter", "payment", at=NOW)
    charge(core, "r-1", images=30, actual_uc=20 * CREDIT)
    receipt = core.customer_view("ada", at=NOW).receipt
    assert receipt is not None
    assert receipt.model in ("DALL-E 3 HD", "Stable Diffusion XL")
    assert (receipt.taken, receipt.available_after_uc) == ((Taken("monthly", 20 * CREDIT),), 25 * CREDIT)


def test_somebody_far_ahead_sparkles_and_somebody_behind_is_warned(fresh_core: CreditCore) -> None:
    core = fresh_core
    core.add_user("ada", "basic", at=NOW)
    # A full balance is 150 % of pace a third into the cycle of 31 days: on 20 March at 08:00.
    assert core.customer_view("ada", at=NOW + timedelta(days=9, hours=19)).badge is None
    assert core.customer_view("ada", at=NOW + timedelta(days=9, hours=21)).badge == "sparkle"
    charge(core, "r-1", images=190)
    assert core.customer_view("ada", at=NOW + timedelta(days=11)).badge == "warning"


@pytest.mark.parametrize(("images", "affordable", "after_uc"), [(20, True, 0), (21, False, None)])
def test_a_request_is_priced_before_it_is_made(
    core: CreditCore, images: int, affordable: bool, after_uc: int | None
) -> None:
    core.add_user("ada", "free", at=NOW)
    seen = core.customer_view("ada", at=NOW, asked=Asked("image", images=images)).preview
    assert seen is not None
    assert seen.offer == Offer(None, "Image", "image", CREDIT)
    assert (seen.cost_uc, seen.affordable, seen.available_after_uc) == (images * CREDIT, affordable, after_uc)
    assert seen.obstacle == (None if affordable else "credits")


def test_the_preview_is_what_authorize_then_holds(fresh_core: CreditCore) -> None:
    core = fresh_core
    core.add_user("ada", "basic", at=NOW)
    seen = core.customer_view("ada", at=NOW, asked=Asked("image", images=7)).preview
    decision = ask(core, "r-1", images=7)
    assert seen is not None
    assert (seen.cost_uc, seen.available_after_uc) == (decision.amount_uc, core.balance("ada").available_uc)


# Tip --------------------------------------------------------------------------------------------------------------


def test_the_tip_comes_with_the_first_library_answer_and_goes_with_the_next(core: CreditCore) -> None:
    make_live(core, LIBRARY_FOR_ALL)
    core.add_user("ada", "basic", at=NOW)
    assert core.customer_view("ada", at=NOW).tip is None
    assert ask(core, "r-1").status == "LIBRARY"
    assert core.customer_view("ada", at=NOW).tip == FIRST_LIBRARY_TIP
    assert ask(core, "r-2").status == "LIBRARY"
    assert core.customer_view("ada", at=NOW).tip is None


def test_a_fresh_answer_after_it_takes_the_tip_away(fresh_core: CreditCore) -> None:
    core = fresh_core
    core.add_user("ada", "free", at=NOW)
    assert ask(core, "dear", images=21).status == "LIBRARY"
    assert core.customer_view("ada", at=NOW).tip == FIRST_LIBRARY_TIP
    charge(core, "r-1")
    assert core.customer_view("ada", at=NOW).tip is None


def test_the_library_s_retry_of_a_half_finished_one_is_a_first_library_answer_too(fresh_core: CreditCore) -> None:
    core = fresh_core
    core.add_user("ada", "free", at=NOW)
    ask(core, "r-1")
    core.partial("ada", "r-1", at=NOW)
    assert core.customer_view("ada", at=NOW).tip == FIRST_LIBRARY_TIP


# Pause, block, risk -----------------------------------------------------------------------------------------------


def test_a_pause_stops_the_days_and_the_reset(core: CreditCore) -> None:
    core.add_user("ada", "basic", at=NOW)
    core.pause("ada", at=NOW + timedelta(days=11))
    for days in (11, 25):
        seen = core.customer_view("ada", at=NOW + timedelta(days=days))
        assert (seen.paused, seen.reset, seen.badge) == (True, None, "sparkle")
        assert seen.surplus_days == pytest.approx(11.5, abs=1e-12)
        assert seen.preview is not None
        assert (seen.preview.affordable, seen.preview.obstacle) == (False, "paused")


def test_a_chance_that_the_read_side_knows_completes_the_pace_line(fresh_core: CreditCore) -> None:
    core = fresh_core
    core.add_user("ada", "basic", at=NOW)
    charge(core, "r-1", images=70)
    seen = core.customer_view("ada", at=NOW + timedelta(days=10), run_out_chance=0.099)
    assert (seen.pace, seen.risk) == ("Pace: ~7 fresh/day · Risk of run-out: Low", "Low")


# Edges ------------------------------------------------------------------------------------------------------------


def test_lifetime_totals_are_the_balances(fresh_core: CreditCore) -> None:
    core = fresh_core
    core.add_user("ada", "free", at=NOW)
    charge(core, "r-1", images=3)
    assert (
        core.customer_view("ada", at=NOW).lifetime
        == core.balance("ada").lifetime
        == Lifetime(20 * CREDIT, 3 * CREDIT, 0, 1, 0)
    )


def test_looking_writes_nothing(fresh_core: CreditCore) -> None:
    core = fresh_core
    core.add_user("ada", "free", at=NOW)
    charge(core, "r-1")
    before = everything(core)
    core.customer_view("ada", at=NOW + timedelta(days=90))
    assert everything(core) == before


def test_a_daily_customer_sees_what_is_left_today(core: CreditCore) -> None:
    core.add_user("ada", "daily", "Asia/Kathmandu", at=NOW)
    for number in range(2):
        core.authorize(Request("ada", f"r-{number}", "s-1"), at=NOW + timedelta(minutes=number))
    seen = core.customer_view("ada", at=NOW + timedelta(minutes=5))
    assert seen.meter == Meter(0.4, "ok", 2, 5, "generations")
    # Midnight in Kathmandu, UTC+5:45.
    assert seen.reset is not None
    assert seen.reset.at == datetime(2025, 3, 10, 18, 15, tzinfo=UTC)


def test_a_studio_customer_sees_the_limits_of_a_modality(core: CreditCore) -> None:
    core.add_user("ada", "creator_pro", at=NOW)
    for number in range(4):
        core.authorize(Request("ada", f"r-{number}", "s-1", modality="video"), at=NOW + timedelta(minutes=number))
    seen = core.customer_view("ada", at=NOW + timedelta(minutes=5), asked=Asked("video"))
    assert [(use.modality, use.period, use.left) for use in seen.left] == [("video", "day", 1)]
    assert (seen.available_uc, seen.held_uc) == (1_400 * CREDIT, 100 * CREDIT)
    assert seen.preview is not None
    assert (seen.preview.offer.model, seen.preview.cost_uc) == ("stable-video-4s", 25 * CREDIT)
    assert seen.recommendation is not None
    assert seen.recommendation.cost_uc == 60 * CREDIT


def test_a_prepaid_customer_sees_a_low_balance(core: CreditCore) -> None:
    core.add_user("ada", "prepaid", at=NOW)
    core.authorize(Request("ada", "r-1", "s-1", model="flux-dev", images=41), at=NOW)
    core.settle("ada", "r-1", at=NOW)
    seen = core.customer_view("ada", at=NOW)
    assert (seen.available_uc, seen.badge, seen.reset) == (9 * CREDIT, "low_balance", None)
    assert seen.meter == Meter(0.82, "warning", 41 * CREDIT, 50 * CREDIT, "credits")


def test_a_guest_sees_the_stricter_window_count_down(core: CreditCore) -> None:
    for number, session in enumerate(("s-1", "s-2")):
        core.authorize(Request(None, f"r-{number}", session, ip="192.0.2.7"), at=NOW + timedelta(minutes=number))
    seen = core.customer_view("guest:s-2", at=NOW + timedelta(minutes=2))
    assert seen.countdown is not None
    assert (seen.countdown.left, seen.countdown.seconds_left) == (1, 86_400.0 - 120.0)


def test_what_makes_no_sense_is_refused(core: CreditCore) -> None:
    core.add_user("ada", "free", at=NOW)
    with pytest.raises(NotFound, match="There is no user 'eve'"):
        core.customer_view("eve", at=NOW)
    for images in (0, 1_001, True, 1.5):
        with pytest.raises(InvalidRequest, match="images must be a whole number from 1 to 1000"):
            core.customer_view("ada", at=NOW, asked=Asked(images=images))  # type: ignore[arg-type]
    for chance in (-0.1, 1.1, float("nan")):
        with pytest.raises(InvalidRequest, match="run_out_chance must be a number between 0 and 1"):
            core.customer_view("ada", at=NOW, run_out_chance=chance)
    with pytest.raises(InvalidInstant):
        core.customer_view("ada", at=datetime(2025, 3, 10))  # noqa: DTZ001
