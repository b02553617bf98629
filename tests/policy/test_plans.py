"""The catalogue: plans, models, regions and what an image costs: SPEC 3."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from credit_core.errors import InvalidConfig, InvalidRequest, NotFound
from credit_core.policy.config import Config
from credit_core.policy.plans import (
    Catalog,
    Plan,
    Quote,
    Terms,
    fitting_models,
    parse,
    provider_cost_usd_micro,
    quote,
    terms,
)

NAMES = ("plans.toml", "models.toml", "packs.toml")
CATALOG_DIR = Path(__file__).resolve().parents[2] / "data" / "catalog"


def body() -> dict[str, Any]:
    return {
        "plans": {
            "basic": {
                "title": "Basic",
                "quota_policy": "titrated_monthly",
                "quota_credits": 200,
                "regions": {"in": {"quota_credits": 150}, "ch": {"price_usd": 12.5}, "us": {"price_usd": 0}},
            },
            "paid": {
                "title": "Paid",
                "quota_policy": "titrated_monthly",
                "quota_credits": 33.3333335,
                "price_usd": 9.99,
            },
        },
        "models": {"m": {"title": "M", "modality": "image", "credits": 12, "provider_cost_usd": 0.08}},
    }


def shipped() -> Catalog:
    read = [tomllib.loads((CATALOG_DIR / name).read_text(encoding="utf-8")) for name in NAMES]
    return parse({key: table for tables in read for key, table in tables.items()})


# ----------------------------------------------------------------------------------------------- the shipped catalogue


@pytest.mark.parametrize(("plan", "quota"), [("free", 20), ("basic", 200), ("premium", 600)])
def test_the_shipped_titrated_plans_have_the_quotas_of_the_specification(plan: str, quota: int) -> None:
    assert terms(shipped().plan(plan), None) == Terms(quota * 1_000_000, None)


def test_the_shipped_catalogue_has_both_annual_plans() -> None:
    assert {name for name, plan in shipped().plans.items() if plan.annual} == {"basic_annual", "premium_annual"}


def test_no_shipped_titrated_plan_has_a_price_until_one_is_typed_in() -> None:
    titrated = [plan for plan in shipped().plans.values() if plan.quota_policy == "titrated_monthly"]
    assert [plan.price_usd for plan in titrated] == [None] * 5


def test_every_shipped_titrated_plan_is_tuned_in_the_shipped_configuration() -> None:
    titrated = {name for name, plan in shipped().plans.items() if plan.quota_policy == "titrated_monthly"}
    assert titrated == set(Config().plans)


def test_the_models_that_are_routed_to_are_priced() -> None:
    catalog, routing = shipped(), Config().routing
    assert catalog.models[routing.premium_model].title == "DALL-E 3 HD"
    assert catalog.models[routing.economy_model].title == "Stable Diffusion XL"
    assert provider_cost_usd_micro(catalog, routing.premium_model, 1) == 120_000
    assert provider_cost_usd_micro(catalog, routing.economy_model, 3) == 240_000


@pytest.mark.parametrize(
    ("pack", "title", "price", "credits"),
    [
        ("starter", "Starter", 4.99, 25),
        ("creator", "Creator", 14.99, 110),
        ("pro", "Pro", 29.99, 300),
        ("enterprise", "Enterprise", 49.99, 650),
    ],
)
def test_the_shipped_packs_have_the_prices_of_the_specification(
    pack: str, title: str, price: float, credits: int
) -> None:
    row = shipped().packs[pack]
    assert (row.title, row.price_usd, row.credits, row.popular) == (title, price, credits, pack == "creator")


def test_every_shipped_plan_that_is_paid_for_falls_to_the_free_one_of_its_kind() -> None:
    assert {name: plan.falls_to for name, plan in shipped().plans.items() if plan.falls_to is not None} == {
        "basic": "free", "premium": "free", "basic_annual": "free", "premium_annual": "free",
        "creator_pro": "creator_free", "studio_pro": "creator_free", "studio_enterprise": "creator_free",
    }  # fmt: skip


@pytest.mark.parametrize("lower", ["none", "paid"])
def test_a_plan_can_only_fall_to_another_plan_of_the_catalogue(lower: str) -> None:
    broken = body()
    broken["plans"]["paid"]["falls_to"] = lower
    with pytest.raises(InvalidConfig, match=f"'paid' falls to '{lower}', which is not another plan"):
        parse(broken)


def test_a_product_of_a_store_names_one_plan_or_pack() -> None:
    sold = body() | {"packs": {"small": {"title": "Small", "price_usd": 1, "credits": 5, "products": ["com.x.small"]}}}
    sold["plans"]["paid"]["products"] = ["com.x.paid", "com.x.paid:yearly", "small"]
    catalog = parse(sold)
    assert catalog.sold_as("com.x.paid:yearly") == ("plan", "paid")
    assert catalog.sold_as("com.x.small") == ("pack", "small")
    assert catalog.sold_as("basic") == ("plan", "basic")
    assert catalog.sold_as("small") == ("plan", "paid"), "what is said goes before what a key happens to be"
    with pytest.raises(NotFound, match=r"'com\.y'.*`products`"):
        catalog.sold_as("com.y")
    sold["packs"]["small"]["products"] = ["com.x.paid"]
    with pytest.raises(InvalidConfig, match="named by two plans or packs"):
        parse(sold)


# -------------------------------------------------------------------------------------------------------------- terms


def test_a_region_differs_only_in_what_it_states() -> None:
    plan = parse(body()).plan("basic")
    assert terms(plan, "in") == Terms(150_000_000, None)
    assert terms(plan, "ch") == Terms(200_000_000, 12_500_000)


@pytest.mark.parametrize("region", [None, "", "elsewhere"])
def test_a_region_that_states_nothing_has_the_plan_s_terms(region: str | None) -> None:
    assert terms(parse(body()).plan("basic"), region) == Terms(200_000_000, None)


def test_a_price_of_zero_is_a_price_and_no_price_is_unknown() -> None:
    plan = parse(body()).plan("basic")
    assert terms(plan, "us").price_usd_micro == 0
    assert terms(plan, None).price_usd_micro is None


def test_quota_and_price_are_rounded_once_half_even() -> None:
    assert terms(parse(body()).plan("paid"), None) == Terms(33_333_334, 9_990_000)


def test_an_unknown_plan_is_not_found_and_the_known_ones_are_named() -> None:
    with pytest.raises(NotFound, match=r"'gold'.*basic, paid"):
        parse(body()).plan("gold")


# --------------------------------------------------------------------------------------------------------------- cost


@pytest.mark.parametrize(("images", "cost"), [(1, 1_000_000), (4, 4_000_000), (1_000, 1_000_000_000)])
def test_an_image_of_a_titrated_plan_costs_one_credit(images: int, cost: int) -> None:
    catalog = parse(body())
    assert quote(catalog, catalog.plan("basic"), "image", None, images, 0).cost_uc == cost


@pytest.mark.parametrize("images", [0, -1, 1_001])
def test_no_images_or_too_many_are_refused(images: int) -> None:
    with pytest.raises(InvalidRequest, match="between 1 and 1000"):
        quote(parse(body()), parse(body()).plan("basic"), "image", None, images, 0)


@pytest.mark.parametrize("model", [None, "unheard-of"])
def test_the_cost_of_a_model_without_a_price_is_unknown_not_zero(model: str | None) -> None:
    assert provider_cost_usd_micro(parse(body()), model, 1) is None


# --------------------------------------------------------------------------------------------------------- validation


def faults(changed: dict[str, Any]) -> tuple[str, ...]:
    with pytest.raises(InvalidConfig) as caught:
        parse(changed)
    return caught.value.faults


def test_every_fault_is_reported_at_once_with_its_place() -> None:
    changed = body()
    changed["plans"]["basic"]["quota_credits"] = 0
    changed["plans"]["paid"]["price_usd"] = -1
    changed["models"]["m"]["modality"] = "smell"
    found = faults(changed)
    places = [fault.split(":")[0] for fault in found]
    assert places == ["plans.basic.quota_credits", "plans.paid.price_usd", "models.m.modality"]


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -1.0])
@pytest.mark.parametrize("place", [("models", "m", "credits"), ("models", "m", "provider_cost_usd")])
def test_numbers_that_are_none_are_refused(number: float, place: tuple[str, str, str]) -> None:
    changed = body()
    changed[place[0]][place[1]][place[2]] = number
    assert faults(changed)[0].startswith(".".join(place))


def test_an_unknown_field_is_refused() -> None:
    changed = body()
    changed["plans"]["basic"]["quota_credit"] = 5
    assert faults(changed)[0].startswith("plans.basic.quota_credit")


@pytest.mark.parametrize("table", ["plans", "models"])
def test_a_catalogue_without_plans_or_models_is_refused(table: str) -> None:
    assert "at least one plan and one model" in faults(body() | {table: {}})[0]


def test_a_quota_too_small_for_one_micro_credit_is_refused() -> None:
    changed = body()
    changed["plans"]["basic"]["quota_credits"] = 1e-7
    assert faults(changed)[0].startswith("plans.basic.quota_credits")


def test_plans_do_not_change_once_read() -> None:
    plan: Plan = parse(body()).plan("basic")
    with pytest.raises(ValueError, match="frozen"):
        plan.quota_credits = 5.0


# -------------------------------------------------------------------------------------------- the five systems, shipped

#: SPEC 3: key, title, modality, credits, provider cost in micro-dollars.
MODELS = [
    *((f"free-text-{n}", f"Free text model {n}", "text", 0, 0) for n in range(1, 7)),
    ("kimi-vl-a3b", "KIMI VL A3B", "text", 1, 800),
    ("qwen-turbo", "Qwen Turbo", "text", 2, 1_700),
    ("deepseek-v3-1", "DeepSeek V3.1", "text", 5, 8_400),
    ("gpt-4o-mini", "GPT-4o Mini", "text", 5, 6_300),
    ("gpt-4o", "GPT-4o", "text", 20, 170_000),
    ("claude-3-5-sonnet", "Claude 3.5 Sonnet", "text", 18, 150_000),
    ("gen4-image", "Gen4 Image", "image", 25, 200_000),
    ("gen4-turbo", "Gen4 Turbo", "image", 20, 150_000),
    ("stable-diffusion-xl", "Stable Diffusion XL", "image", 12, 80_000),
    ("dalle-3-hd", "DALL-E 3 HD", "image", 15, 120_000),
    ("gen-4-5s", "Gen-4 5 s", "video", 30, 250_000),
    ("gen-4-10s", "Gen-4 10 s", "video", 60, 500_000),
    ("gen-3-5s", "Gen-3 5 s", "video", 60, 500_000),
    ("stable-video-4s", "Stable Video 4 s", "video", 25, 200_000),
    ("veo-2-1s", "Veo 2 1 s", "video", 60, 500_000),
]
PREPAID = [
    ("nano-banana", "Nano Banana", 0.5),
    ("flux-dev", "Flux Dev", 1.0),
    ("lora-normal", "LORA Normal", 1.0),
    ("lora-context", "LORA Context", 1.0),
    ("gemini-flash", "Gemini Flash", 1.0),
    ("nano-banana-pro", "Nano Banana Pro", 2.0),
]
#: Key, price, credits, free a month, counts by modality, entitlements.
STUDIO: list[tuple[str, float, float, int | None, dict[str, tuple[int | None, ...]], tuple[str, ...]]] = [
    ("creator_free", 0, 0, 50, {}, ("watermark",)),
    ("creator_pro", 25, 1_500, None, {"video": (25, 5, None)}, ()),
    ("studio_pro", 75, 5_000, None, {"video": (80, 15, 25)}, ("api", "priority")),
    ("studio_enterprise", 200, 20_000, None, {"video": (300, None, None)}, ("api", "priority", "bulk")),
]


def test_the_shipped_models_are_those_of_the_specification() -> None:
    catalog = shipped()
    studio = {
        (key, row.title, row.modality, row.credits, provider_cost_usd_micro(catalog, key, 1))
        for key, row in catalog.models.items()
        if row.credit_unit == "studio"
    }
    assert studio == set(MODELS)
    prepaid = {(key, row.title, row.credits) for key, row in catalog.models.items() if row.credit_unit == "prepaid"}
    assert prepaid == set(PREPAID)
    assert {provider_cost_usd_micro(catalog, key, 1) for key, *_ in PREPAID} == {None}
    assert len(catalog.models) == len(MODELS) + len(PREPAID)


@pytest.mark.parametrize(("key", "price", "credits", "free", "counts", "entitlements"), STUDIO)
def test_the_shipped_studio_plans_are_those_of_the_specification(
    key: str,
    price: float,
    credits: float,
    free: int | None,
    counts: dict[str, tuple[int | None, ...]],
    entitlements: tuple[str, ...],
) -> None:
    plan = shipped().plan(key)
    assert (plan.quota_policy, plan.credit_unit, plan.price_usd) == ("plan_credits", "studio", price)
    assert (plan.quota_credits, plan.free_per_month, plan.entitlements) == (credits, free, entitlements)
    assert {name: (c.per_month, c.per_day, c.burst_day) for name, c in plan.counts.items()} == counts


def test_the_shipped_daily_prepaid_and_guest_plans_are_those_of_the_specification() -> None:
    plans = shipped().plans
    assert (plans["daily"].quota_policy, plans["daily"].daily_limit) == ("daily_count", 5)
    assert plans["daily_premium"].daily_limit is None
    assert (plans["prepaid"].quota_policy, plans["prepaid"].welcome_credits) == ("prepaid", 50)
    guest = plans[shipped().guest_plan()]
    assert (guest.window_limit, guest.window_hours) == (3, 24)
    assert {plan.quota_policy for plan in plans.values()} == {
        "titrated_monthly", "daily_count", "plan_credits", "prepaid", "guest_window",
    }  # fmt: skip
    assert {name for name, plan in plans.items() if plan.cycled} == {
        "free", "basic", "premium", "basic_annual", "premium_annual", *(name for name, *_ in STUDIO),
    }  # fmt: skip


# --------------------------------------------------------------------------------------------------------------- quotes


def asked(
    plan: str, modality: str, model: str | None, available: float, images: int = 1, *, free: bool = True
) -> Quote:
    catalog = shipped()
    return quote(catalog, catalog.plan(plan), modality, model, images, int(available * 1_000_000), free=free)


@pytest.mark.parametrize(
    ("plan", "modality", "cheapest", "credits"),
    [
        ("creator_pro", "text", "free-text-1", 0),
        ("creator_pro", "image", "stable-diffusion-xl", 12),
        ("creator_pro", "video", "stable-video-4s", 25),
        ("prepaid", "image", "nano-banana", 0.5),
        ("daily", "image", "stable-diffusion-xl", 0),
        ("guest", "text", "free-text-1", 0),
    ],
)
def test_no_model_means_the_cheapest_of_the_modality_free_ones_first(
    plan: str, modality: str, cheapest: str, credits: float
) -> None:
    assert asked(plan, modality, None, 100) == Quote(cheapest, int(credits * 1_000_000))


def test_once_the_free_ones_are_used_up_the_next_cheapest_is_meant() -> None:
    assert asked("creator_pro", "text", None, 100, free=False) == Quote("kimi-vl-a3b", 1_000_000)
    # Of equal credits the one that costs the provider less.
    assert shipped().models["gpt-4o-mini"].credits == shipped().models["deepseek-v3-1"].credits
    assert fitting_models(shipped(), shipped().plan("creator_pro"), "text")[6:] == [
        "kimi-vl-a3b", "qwen-turbo", "gpt-4o-mini", "deepseek-v3-1", "claude-3-5-sonnet", "gpt-4o",
    ]  # fmt: skip


def test_where_only_free_models_fit_the_free_one_is_quoted_even_when_used_up() -> None:
    changed = body()
    changed["plans"]["s"] = {"title": "S", "quota_policy": "plan_credits", "credit_unit": "studio", "quota_credits": 9}
    changed["models"]["m"]["credits"] = 0
    catalog = parse(changed)
    assert quote(catalog, catalog.plan("s"), "image", None, 1, 0, free=False).model == "m"


def test_what_the_balance_does_not_cover_comes_with_the_best_model_that_it_does() -> None:
    assert asked("creator_pro", "text", "gpt-4o", 19) == Quote("gpt-4o", 20_000_000, "claude-3-5-sonnet")
    assert asked("creator_pro", "text", "gpt-4o", 20) == Quote("gpt-4o", 20_000_000, None)
    assert asked("creator_pro", "image", "gen4-image", 30, 2) == Quote("gen4-image", 50_000_000, "dalle-3-hd")
    assert asked("creator_pro", "image", "gen4-image", 11) == Quote("gen4-image", 25_000_000, None)
    assert asked("creator_pro", "text", "gpt-4o", 0.5) == Quote("gpt-4o", 20_000_000, "free-text-6")
    assert asked("creator_pro", "text", "gpt-4o", 0.5, free=False) == Quote("gpt-4o", 20_000_000, None)


@pytest.mark.parametrize(
    ("plan", "modality", "model", "named"),
    [
        ("creator_pro", "image", "gpt-4o", "stable-diffusion-xl, dalle-3-hd, gen4-turbo, gen4-image"),
        ("creator_pro", "image", "nano-banana", "stable-diffusion-xl"),
        ("prepaid", "image", "dalle-3-hd", "nano-banana"),
        ("daily", "video", "dalle-3-hd", "stable-video-4s"),
        ("prepaid", "video", None, "no model for video"),
    ],
)
def test_a_model_of_another_modality_or_unit_is_refused_and_those_that_fit_are_named(
    plan: str, modality: str, model: str | None, named: str
) -> None:
    with pytest.raises(InvalidRequest, match=named):
        asked(plan, modality, model, 100)


def test_a_model_nobody_knows_is_not_found() -> None:
    with pytest.raises(NotFound, match=r"'dream'.*stable-video-4s"):
        asked("creator_pro", "video", "dream", 100)


def test_plans_that_count_charge_nothing_by_any_model() -> None:
    assert asked("daily", "image", "gen4-image", 0, 4) == Quote("gen4-image", 0)
    assert asked("guest", "image", "nano-banana-pro", 0) == Quote("nano-banana-pro", 0)


# ------------------------------------------------------------------------------------------------- fields by the policy


@pytest.mark.parametrize(
    ("plan", "place", "said"),
    [
        ({"quota_policy": "titrated_monthly"}, "quota_credits", "is missing"),
        ({"quota_policy": "titrated_monthly", "quota_credits": 0}, "quota_credits", "less than a micro-credit"),
        ({"quota_policy": "plan_credits"}, "quota_credits", "is missing"),
        ({"quota_policy": "plan_credits", "quota_credits": 1e-9}, "quota_credits", "less than a micro-credit"),
        ({"quota_policy": "guest_window", "window_hours": 24}, "window_limit", "is missing"),
        ({"quota_policy": "guest_window", "window_limit": 3}, "window_hours", "is missing"),
        ({"quota_policy": "daily_count", "quota_credits": 5}, "quota_credits", "does not belong"),
        ({"quota_policy": "daily_count", "daily_limit": -1}, "daily_limit", "greater than or equal to 0"),
        ({"quota_policy": "prepaid", "daily_limit": 5}, "daily_limit", "does not belong"),
        ({"quota_policy": "prepaid", "welcome_credits": 0}, "welcome_credits", "greater than 0"),
        ({"quota_policy": "weekly"}, "quota_policy", "titrated_monthly"),
    ],
)
def test_a_plan_states_what_its_policy_needs_and_nothing_of_another(
    plan: dict[str, Any], place: str, said: str
) -> None:
    [fault] = faults(body() | {"plans": {"x": {"title": "X"} | plan}})
    assert fault.startswith(f"plans.x.{place}:")
    assert said in fault


@pytest.mark.parametrize("counts", [{"per_month": 9, "burst_day": 5}, {"per_day": 5, "burst_day": 5}])
def test_a_burst_day_is_more_than_a_day(counts: dict[str, int]) -> None:
    plan = {"title": "X", "quota_policy": "plan_credits", "quota_credits": 5, "counts": {"video": counts}}
    [fault] = faults(body() | {"plans": {"x": plan}})
    assert fault.startswith("plans.x.counts.video:")
    assert "burst_day must be more than per_day" in fault


def test_guests_have_one_plan_at_most_and_a_catalogue_without_one_says_so() -> None:
    guests = {"title": "G", "quota_policy": "guest_window", "window_limit": 3, "window_hours": 24}
    assert "at most one plan" in faults(body() | {"plans": {"a": guests, "b": guests}})[0]
    with pytest.raises(NotFound, match="guest_window"):
        parse(body()).guest_plan()
