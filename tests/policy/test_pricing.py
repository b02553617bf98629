"""Exact figures of the catalogue's plans and packs, and of revenue over time."""

from __future__ import annotations

import itertools
import random

import pytest

from credit_core.errors import InvalidRequest
from credit_core.policy import plans, pricing
from credit_core.policy.plans import Catalog
from credit_core.policy.pricing import Want
from credit_core.service.catalog import read
from credit_core.settings import catalog_folder
from credit_core.units import MICRO

CATALOG: Catalog = read(catalog_folder()).catalog
DAY = 86_400 * MICRO


def test_an_amount_is_worth_its_credits_at_the_unit_price_and_its_negative_undoes_it() -> None:
    assert pricing.value_usd_micro(25 * MICRO, 199_600) == 4_990_000
    assert pricing.value_usd_micro(500_000, 136_273) == 68_137
    assert pricing.value_usd_micro(-500_000, 136_273) == -68_137
    assert pricing.value_usd_micro(0, 136_273) == 0
    assert pricing.value_usd_micro(9_000_000_000_000_000, MICRO) == 9_000_000_000_000_000


def test_a_subscription_is_earned_straight_line_and_days_add_up_to_it() -> None:
    price, start, end = 25 * MICRO, 7 * DAY + 13, 37 * DAY + 13
    assert pricing.earned_usd_micro(price, start, end, start) == 0
    assert pricing.earned_usd_micro(price, start, end, start + 15 * DAY) == 12_500_000
    assert pricing.earned_usd_micro(price, start, end, end + DAY) == price
    edges = [start + n * DAY + 7 * n for n in range(30)] + [end]
    earned = [pricing.earned_usd_micro(price, start, end, edge) for edge in edges]
    assert sum(after - before for before, after in itertools.pairwise(earned)) == price


def test_a_bill_adds_credits_and_provider_cost() -> None:
    wants = [Want("gpt-4o", 10), Want("gen4-image", 40), Want("gen-4-5s", 20), Want("dalle-3-hd", 8, bulk=True)]
    assert pricing.bill(CATALOG, wants) == ("studio", (200 + 1_000 + 600 + 120) * MICRO, 15_660_000)


def test_a_bill_with_a_model_of_unknown_cost_has_an_unknown_cost_unless_it_is_not_used() -> None:
    assert pricing.bill(CATALOG, [Want("flux-dev", 3), Want("nano-banana", 1)]) == ("prepaid", 3_500_000, None)
    assert pricing.bill(CATALOG, [Want("flux-dev", 0)]) == ("prepaid", 0, 0)


@pytest.mark.parametrize(
    "wants", [[], [Want("no-such", 1)], [Want("gpt-4o", -1)], [Want("gpt-4o", 1), Want("flux-dev", 1)]]
)
def test_a_bill_that_cannot_be_made_is_refused(wants: list[Want]) -> None:
    with pytest.raises(InvalidRequest):
        pricing.bill(CATALOG, wants)


def test_a_plan_fits_up_to_its_quota_and_its_counts_exactly() -> None:
    full = [Want("gen4-image", 40), Want("stable-video-4s", 20)]
    assert pricing.fit(CATALOG, "creator_pro", full) == (
        "creator_pro", 1_500 * MICRO, 25 * MICRO, 25 * MICRO - 12 * MICRO, (),
    )  # fmt: skip
    assert pricing.fit(CATALOG, "creator_pro", [*full, Want("kimi-vl-a3b", 1)]).lacks == ("1 credits",)
    assert pricing.fit(CATALOG, "creator_pro", [Want("stable-video-4s", 27)]).lacks == ("2 video",)
    assert pricing.fit(CATALOG, "creator_free", [Want("free-text-1", 50)]).fits
    assert pricing.fit(CATALOG, "creator_free", [Want("free-text-1", 51)]).lacks == ("1 free",)
    assert pricing.fit(CATALOG, "studio_pro", [Want("dalle-3-hd", 1, bulk=True)]).lacks == ("bulk",)
    assert pricing.fit(CATALOG, "studio_enterprise", [Want("dalle-3-hd", 1, bulk=True)]).fits


def test_the_cheapest_plan_that_fits_comes_first() -> None:
    def first(*wants: Want) -> str:
        return pricing.fits(CATALOG, wants)[0].plan

    assert first(Want("free-text-1", 10)) == "creator_free"
    assert first(Want("gen4-image", 60)) == "creator_pro"
    assert first(Want("gen4-image", 61)) == "studio_pro"
    assert first(Want("gen-4-5s", 81)) == "studio_enterprise"
    nothing_fits = pricing.fits(CATALOG, [Want("gen4-image", 900)])
    assert [one.fits for one in nothing_fits] == [False] * 4
    assert nothing_fits[-1].lacks == ("2\u2009500 credits",)


def test_an_unknown_price_is_an_unknown_margin_and_comes_last() -> None:
    priced = CATALOG.plans["creator_pro"]
    unknown = CATALOG.model_copy(update={"plans": {"x": priced.model_copy(update={"price_usd": None}), "y": priced}})
    found = pricing.fits(unknown, [Want("gen4-image", 1)])
    assert [(one.plan, one.margin_usd_micro) for one in found] == [("y", 24_800_000), ("x", None)]


def test_packs_for_is_the_cheapest_choice_of_all() -> None:
    chance = random.Random(3)
    prices = {name: round(pack.price_usd * MICRO) for name, pack in CATALOG.packs.items()}
    counts = [range(6), range(4), range(3), range(3)]
    for need in [1, 24, 25, 26, 50, 100, 110, 111, 300, 410, 650, *(chance.randrange(1, 1_000) for _ in range(30))]:
        every = (dict(zip(CATALOG.packs, picked, strict=True)) for picked in itertools.product(*counts))
        enough = [p for p in every if sum(CATALOG.packs[name].credits * n for name, n in p.items()) >= need]
        cheapest = min(sum(prices[name] * n for name, n in one.items()) for one in enough)
        found = pricing.packs_for(CATALOG, need * MICRO)
        assert sum(CATALOG.packs[name].credits * n for name, n in found.items()) >= need
        assert pricing.price_of(CATALOG, found) == cheapest


def test_many_credits_are_mostly_the_pack_with_the_cheapest_credit() -> None:
    assert pricing.packs_for(CATALOG, 65_000 * MICRO) == {"enterprise": 100}
    assert pricing.packs_for(CATALOG, 0) == {}


def test_bonus_and_saving_are_computed_against_the_smallest_pack() -> None:
    smallest = pricing.smallest_pack(CATALOG)
    assert smallest is not None
    assert smallest.title == "Starter"
    assert pricing.offer(smallest, smallest) == (199_600, 0.0, 0.0)
    creator = pricing.offer(CATALOG.packs["creator"], smallest)
    assert creator.unit_price_usd_micro == 136_273
    assert creator.bonus_share == pytest.approx(0.4647098, abs=1e-7)
    assert creator.saving_share == pytest.approx(0.3172709, abs=1e-7)


def test_a_lot_is_known_by_its_size_and_price() -> None:
    assert pricing.pack_named(CATALOG, 110 * MICRO, 136_273) == "creator"
    assert pricing.pack_named(CATALOG, 110 * MICRO, 136_272) is None


def test_a_regions_own_price_counts() -> None:
    plan = CATALOG.plans["creator_pro"].model_copy(update={"regions": {"in": plans.RegionTerms(price_usd=9)}})
    local = CATALOG.model_copy(update={"plans": {"creator_pro": plan}})
    assert pricing.fit(local, "creator_pro", [Want("gen4-image", 1)], "in").price_usd_micro == 9 * MICRO
