"""The catalogue: plans, models, regions and what an image costs: SPEC 3."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from credit_core.errors import InvalidConfig, InvalidRequest, NotFound
from credit_core.policy.config import Config
from credit_core.policy.plans import Catalog, Plan, Terms, parse, provider_cost_usd_micro, quote, terms

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
