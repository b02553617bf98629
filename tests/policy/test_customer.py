"""What a customer sees, on each boundary that SPEC 3 and 6 name, for all five quota policies."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from credit_core.policy import customer
from credit_core.policy.customer import Countdown, Left, Meter, Receipt, Reset, view
from credit_core.policy.standing import (
    Asked,
    Charge,
    Lifetime,
    Offer,
    QuotaPolicy,
    Standing,
    Taken,
    Use,
    mean_per_day,
)

CREDIT = 1_000_000
NOW = datetime(2025, 3, 10, 12, tzinfo=UTC)
RESET = datetime(2025, 4, 1, tzinfo=UTC)
MODELS = (
    Offer("free", "Free model", "text", 0),
    Offer("sdxl", "Stable Diffusion XL", "image", 12 * CREDIT, 80_000),
    Offer("dalle", "DALL-E 3 HD", "image", 15 * CREDIT, 120_000),
    Offer("turbo", "Gen4 Turbo", "image", 20 * CREDIT, 150_000),
    Offer("gen-3", "Gen-3 5 s", "video", 60 * CREDIT, 500_000),
    Offer("veo", "Veo 2 1 s", "video", 60 * CREDIT, 510_000),
)


def titrated(**known: Any) -> Standing:
    """Half of a 30-day cycle is left, so that 100 of 200 credits are on pace."""
    usual = {"quota_uc": 200 * CREDIT, "cycle_days": 30.0, "days_left": 15.0}
    return Standing("titrated_monthly", "basic", NOW, **(usual | known))


def studio(**known: Any) -> Standing:
    return Standing("plan_credits", "creator_pro", NOW, offers=MODELS, **known)


def guest(**known: Any) -> Standing:
    return Standing("guest_window", "guest", NOW, **known)


# Meter ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("used", "level"),
    [
        (0, "ok"), (799, "ok"), (799_999_999, "ok"), (800, "warning"), (949, "warning"), (950, "critical"), (1_000, "critical"),
    ],
)  # fmt: skip
def test_the_meter_warns_from_80_and_alarms_from_95_percent(used: int, level: str) -> None:
    total = 1_000 if used <= 1_000 else 1_000_000_000
    seen = view(titrated(spent_uc=used, held_uc=0, available_uc=total - used)).meter
    assert seen == Meter(used / total, level, used, total, "credits")


def test_a_hold_counts_as_used_and_bought_credits_as_there_to_use() -> None:
    seen = view(titrated(spent_uc=150 * CREDIT, held_uc=10 * CREDIT, available_uc=40 * CREDIT)).meter
    assert seen == Meter(0.8, "warning", 160 * CREDIT, 200 * CREDIT, "credits")
    with_pack = view(titrated(spent_uc=150 * CREDIT, held_uc=10 * CREDIT, available_uc=240 * CREDIT)).meter
    assert with_pack == Meter(0.4, "ok", 160 * CREDIT, 400 * CREDIT, "credits")


def test_refunds_of_an_earlier_cycle_use_up_nothing() -> None:
    assert view(titrated(spent_uc=-5, held_uc=0, available_uc=10)).meter == Meter(0.0, "ok", 0, 10, "credits")


@pytest.mark.parametrize(("used", "level"), [(3, "ok"), (4, "warning"), (5, "critical"), (6, "critical")])
def test_a_daily_count_is_metered_in_generations(used: int, level: str) -> None:
    standing = Standing("daily_count", "daily", NOW, uses=(Use(None, "day", used, 5),))
    assert view(standing).meter == Meter(min(used / 5, 1.0), level, used, 5, "generations")


def test_a_guest_is_metered_by_their_window_and_an_overdue_window_is_empty() -> None:
    seen = view(guest(guest_used=2, guest_limit=3, guest_resets_at=NOW + timedelta(hours=1)))
    assert seen.meter == Meter(2 / 3, "ok", 2, 3, "generations")
    over = view(guest(guest_used=3, guest_limit=3, guest_resets_at=NOW))
    assert over.meter == Meter(0.0, "ok", 0, 3, "generations")


def test_a_plan_without_credits_is_metered_by_its_free_generations() -> None:
    uses = (Use("video", "month", 1, 9), Use(None, "month", 40, 50))
    seen = view(studio(spent_uc=0, held_uc=0, available_uc=0, uses=uses)).meter
    assert seen == Meter(0.8, "warning", 40, 50, "generations")


@pytest.mark.parametrize(
    "standing",
    [
        titrated(),
        titrated(spent_uc=1, held_uc=1),
        titrated(available_uc=1, spent_uc=1),
        titrated(spent_uc=0, held_uc=0, available_uc=0),
        Standing("daily_count", "daily", NOW),
        Standing("daily_count", "daily", NOW, uses=(Use(None, "day", 9, None),)),
        guest(),
    ],
)
def test_what_is_unknown_or_unlimited_has_no_meter(standing: Standing) -> None:
    assert view(standing).meter is None


# Badge ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("paced_uc", "badge"),
    [
        (150 * CREDIT + 1, "sparkle"), (150 * CREDIT, None), (100 * CREDIT, None), (20 * CREDIT, None),
        (20 * CREDIT - 1, "warning"), (0, "warning"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("policy", ["titrated_monthly", "plan_credits"])
def test_the_badge_sparkles_over_150_and_warns_under_20_percent_of_pace(
    policy: QuotaPolicy, paced_uc: int, badge: str | None
) -> None:
    assert view(titrated(paced_uc=paced_uc)._replace(quota_policy=policy)).badge == badge


@pytest.mark.parametrize(
    ("available_uc", "badge"), [(10 * CREDIT, None), (10 * CREDIT - 1, "low_balance"), (None, None)]
)
def test_a_prepaid_balance_under_ten_credits_is_low(available_uc: int | None, badge: str | None) -> None:
    assert view(Standing("prepaid", "prepaid", NOW, available_uc=available_uc)).badge == badge


@pytest.mark.parametrize(
    "unknown",
    [{}, {"paced_uc": 0, "quota_uc": 0}, {"paced_uc": 0, "days_left": 0.0}, {"paced_uc": 0, "cycle_days": None}],
)
def test_without_a_pace_there_is_no_badge(unknown: dict[str, Any]) -> None:
    assert view(titrated(**unknown)).badge is None


def test_policies_that_only_count_have_no_badge() -> None:
    for policy in ("daily_count", "guest_window"):
        assert view(titrated(paced_uc=0)._replace(quota_policy=policy)).badge is None


# Limits, pace, risk -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("used", "said"), [(19, None), (20, "5 left this month"), (25, "0 left this month"), (26, "0 left this month")]
)
def test_what_is_left_of_a_video_limit_is_said_from_80_percent_on(used: int, said: str | None) -> None:
    seen = view(studio(uses=(Use("video", "month", used, 25),))).left
    assert seen == (() if said is None else (Left("video", max(0, 25 - used), "month", said),))


def test_a_days_video_limit_is_said_as_todays_and_other_limits_are_not_said() -> None:
    uses = (
        Use("video", "day", 4, 5),
        Use("video", "month", 4, None),
        Use("image", "month", 9, 9),
        Use("video", "day", 0, 0),
    )
    assert view(studio(uses=uses)).left == (Left("video", 1, "day", "1 left today"),)


@pytest.mark.parametrize(
    ("chance", "risk"),
    [(0.0, "Low"), (0.0999, "Low"), (0.10, "Medium"), (0.3999, "Medium"), (0.40, "High"), (1.0, "High"), (None, None)],
)
def test_run_out_risk_has_the_bounds_of_the_metric(chance: float | None, risk: str | None) -> None:
    assert customer.risk_of(chance) == risk
    assert view(titrated(run_out_chance=chance)).risk == risk


@pytest.mark.parametrize(
    ("mean", "chance", "line"),
    [
        (7.2, 0.03, "Pace: ~7 fresh/day · Risk of run-out: Low"),
        (7.2, None, "Pace: ~7 fresh/day"),
        (None, 0.5, "Risk of run-out: High"),
        (None, None, None),
        (0.0, None, "Pace: ~0 fresh/day"),
        (0.04, None, "Pace: under 0.1 fresh/day"),
        (0.4, None, "Pace: ~0.4 fresh/day"),
        (0.95, None, "Pace: ~1 fresh/day"),
        (12_345.6, None, "Pace: ~12\u2009346 fresh/day"),
    ],
)
def test_the_pace_line_leaves_out_what_is_unknown(mean: float | None, chance: float | None, line: str | None) -> None:
    assert view(titrated(mean_fresh=mean, run_out_chance=chance)).pace == line


@pytest.mark.parametrize(("count", "days", "mean"), [(14, 2.0, 7.0), (3, 1.0, 3.0), (3, 0.99, None), (0, 28.0, 0.0)])
def test_a_mean_needs_a_day(count: int, days: float, mean: float | None) -> None:
    assert mean_per_day(count, days) == mean


# Cost preview and advice ------------------------------------------------------------------------------------------


def test_a_preview_names_the_cost_and_cheaper_models_that_would_do() -> None:
    seen = view(studio(available_uc=100 * CREDIT), Asked("image", "turbo", 2)).preview
    assert seen is not None
    assert (seen.offer.model, seen.cost_uc, seen.affordable, seen.obstacle) == ("turbo", 40 * CREDIT, True, None)
    assert seen.available_after_uc == 60 * CREDIT
    assert [offer.model for offer in seen.cheaper] == ["dalle", "sdxl"]


def test_a_cheaper_model_would_do_only_where_the_balance_affords_it() -> None:
    seen = view(studio(available_uc=15 * CREDIT - 1), Asked("image", "turbo")).preview
    assert seen is not None
    assert (seen.affordable, seen.obstacle, seen.available_after_uc) == (False, "credits", None)
    assert [offer.model for offer in seen.cheaper] == ["sdxl"]


@pytest.mark.parametrize(("available_uc", "model"), [(0, "sdxl"), (15 * CREDIT, "sdxl")])
def test_without_a_model_the_cheapest_is_priced(available_uc: int, model: str) -> None:
    seen = view(studio(available_uc=available_uc)).preview
    assert seen is not None
    assert (seen.offer.model, seen.cheaper) == (model, ())


def test_a_balance_that_is_unknown_affords_only_what_is_free() -> None:
    paid, free = view(studio()), view(studio(), Asked("text"))
    assert paid.preview is not None
    assert (paid.preview.affordable, paid.preview.obstacle, paid.recommendation) == (None, None, None)
    assert free.preview is not None
    assert (free.preview.affordable, free.recommendation) == (True, MODELS[0])


@pytest.mark.parametrize(
    ("available_uc", "modality", "best"),
    [
        (12 * CREDIT - 1, "image", None), (12 * CREDIT, "image", "sdxl"), (19 * CREDIT, "image", "dalle"),
        (20 * CREDIT, "image", "turbo"), (60 * CREDIT, "video", "veo"), (0, "text", "free"), (99 * CREDIT, "audio", None),
    ],
)  # fmt: skip
def test_the_best_model_that_the_balance_affords_is_recommended(
    available_uc: int, modality: str, best: str | None
) -> None:
    advice = view(studio(available_uc=available_uc), Asked(modality)).recommendation
    assert (advice and advice.model) == best


def test_where_the_plan_chooses_the_model_there_is_a_price_and_no_advice() -> None:
    seen = view(titrated(available_uc=CREDIT, offers=(Offer(None, "Image", "image", CREDIT),)), Asked("image", "dalle"))
    assert seen.preview is not None
    assert (seen.preview.cost_uc, seen.preview.affordable, seen.preview.available_after_uc) == (CREDIT, True, 0)
    assert seen.recommendation is None


def test_a_model_or_modality_that_is_not_offered_has_no_preview() -> None:
    assert view(studio(available_uc=CREDIT), Asked("image", "veo")).preview is None
    assert view(studio(available_uc=CREDIT), Asked("audio")).preview is None


@pytest.mark.parametrize(
    ("known", "obstacle"),
    [
        ({"uses": (Use("image", "day", 5, 5),)}, "limit"),
        ({"uses": (Use(None, "month", 50, 50),)}, "limit"),
        ({"paused": True}, "paused"),
        ({"blocked": True, "paused": True}, "blocked"),
        ({"uses": (Use("video", "day", 5, 5), Use("image", "day", 4, 5))}, None),
    ],
)
def test_what_stands_against_a_request_is_named_and_no_model_helps(known: dict[str, Any], obstacle: str | None) -> None:
    seen = view(studio(available_uc=100 * CREDIT, **known), Asked("image", "turbo"))
    assert seen.preview is not None
    assert (seen.preview.obstacle, seen.preview.affordable) == (obstacle, obstacle is None)
    assert (seen.preview.cheaper == (), seen.recommendation is None) == (obstacle is not None,) * 2


def test_a_guest_at_their_limit_is_refused_until_the_window_is_over() -> None:
    free = (Offer("sdxl", "Stable Diffusion XL", "image", 0),)
    full = guest(guest_used=3, guest_limit=3, guest_resets_at=NOW + timedelta(seconds=1), offers=free)
    before, after = view(full).preview, view(full._replace(at=NOW + timedelta(seconds=1))).preview
    assert before is not None
    assert after is not None
    assert (before.obstacle, after.obstacle) == ("limit", None)


# Receipt, reset, countdown, tip -----------------------------------------------------------------------------------


def test_a_receipt_adds_lots_of_one_kind_and_leaves_out_what_paid_nothing() -> None:
    taken = (Taken("monthly", 3), Taken("monthly", 4), Taken("rollover", 0), Taken("purchased", 5))
    seen = view(titrated(charge=Charge("r-1", NOW, "dalle", taken, 88))).receipt
    assert seen == Receipt("r-1", NOW, "dalle", 12, (Taken("monthly", 7), Taken("purchased", 5)), 88)
    assert view(titrated()).receipt is None


def test_a_charge_of_nothing_still_has_a_receipt() -> None:
    assert view(titrated(charge=Charge("r-1", NOW, None, (Taken("monthly", 0),), 9))).receipt == Receipt(
        "r-1", NOW, None, 0, (), 9
    )


def test_the_next_reset_tells_its_amount_or_its_count() -> None:
    assert view(titrated(next_reset_at=RESET, next_amount_uc=7)).reset == Reset(RESET, 7, None)
    daily = Standing("daily_count", "daily", NOW, next_reset_at=RESET, uses=(Use(None, "day", 1, 5),))
    assert view(daily).reset == Reset(RESET, None, 5)
    free = studio(next_reset_at=RESET, next_amount_uc=0, uses=(Use("video", "month", 1, 9), Use(None, "month", 1, 50)))
    assert view(free).reset == Reset(RESET, 0, 50)


def test_nothing_is_reset_while_paused_nor_where_nothing_ever_is() -> None:
    assert view(titrated(next_reset_at=RESET, paused=True)).reset is None
    assert view(titrated()).reset is None
    for policy in ("prepaid", "guest_window"):
        assert view(titrated(next_reset_at=RESET)._replace(quota_policy=policy)).reset is None


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (86_400, "1 of 3 left · resets in 24 h"),
        (18_720, "1 of 3 left · resets in 5 h 12 min"),
        (18_661, "1 of 3 left · resets in 5 h 12 min"),
        (60, "1 of 3 left · resets in 1 min"),
        (1, "1 of 3 left · resets in 1 min"),
    ],
)
def test_a_guest_is_counted_down(seconds: int, said: str) -> None:
    standing = guest(guest_used=2, guest_limit=3, guest_resets_at=NOW + timedelta(seconds=seconds))
    assert view(standing).countdown == Countdown(1, 3, float(seconds), said)


def test_a_guest_whose_window_is_not_running_has_all_and_no_clock() -> None:
    for known in ({"guest_used": 0}, {"guest_used": 3, "guest_resets_at": NOW}):
        assert view(guest(guest_limit=3, **known)).countdown == Countdown(3, 3, None, "3 of 3 left")
    assert view(guest()).countdown is None
    assert view(titrated(guest_used=1, guest_limit=3)).countdown is None


@pytest.mark.parametrize(("just_now", "tip"), [(True, customer.FIRST_LIBRARY_TIP), (False, None), (None, None)])
def test_the_first_library_answer_is_explained_once(just_now: bool | None, tip: str | None) -> None:
    assert view(titrated(first_library_fallback=just_now)).tip == tip


def test_the_rest_is_passed_on_as_it_is_known() -> None:
    life = Lifetime(5, 4, 1, 3, 2)
    seen = view(titrated(available_uc=1, held_uc=2, pack_uc=3, surplus_days=-1.5, lifetime=life, blocked=True))
    assert (seen.available_uc, seen.held_uc, seen.pack_uc, seen.surplus_days) == (1, 2, 3, -1.5)
    assert (seen.lifetime, seen.blocked, seen.paused, seen.plan) == (life, True, False, "basic")


def test_nothing_known_shows_nothing() -> None:
    for policy in ("titrated_monthly", "daily_count", "plan_credits", "prepaid", "guest_window"):
        seen = view(Standing(policy, "any", NOW))
        known = {name: part for name, part in seen._asdict().items() if part not in (None, (), False)}
        assert known == {"quota_policy": policy, "plan": "any"}
