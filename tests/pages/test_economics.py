"""Economics: money is the ledger's own, unknown prices are '–' and never 0, and the calculator says what fits."""

from __future__ import annotations

import pytest

from credit_core.units import MICRO
from pages.components import numbers
from tests.market import MARKET_DAYS
from tests.pages.conftest import DEMO_ZONE, HOSTILE, OpenPage
from tests.pages.reading import (
    card,
    drawn_text,
    figure,
    figures,
    last_days,
    ledger_sum,
    markdown_of,
    rows,
    sentence,
    traces,
    words,
)

STUDIO = {"period": "90d", "plan": ["creator_pro", "studio_pro"]}


def test_a_price_that_nobody_knows_is_an_unknown_revenue_and_no_zero(demo_ledger: str, look_at: OpenPage) -> None:
    cost = ledger_sum(demo_ledger, "SUM(cost_usd_micro)", {}, *last_days(demo_ledger, 28, DEMO_ZONE))

    page = look_at(demo_ledger, "economics")

    assert (card(page, "Revenue"), card(page, "Margin")) == ("–", "–")
    assert card(page, "Provider cost") == numbers.money(cost)
    assert "Revenue is unknown: Basic" in sentence(page)
    assert "data/catalog/plans.toml" in words(page)
    assert rows(page, "Revenue, provider cost and margin by plan.")["revenue_usd"].isna().all()


def test_a_day_that_is_not_over_is_compared_alike_on_every_page(demo_ledger: str, look_at: OpenPage) -> None:
    changes = {
        page: next(one.delta for one in look_at(demo_ledger, page).metric if one.label == "Provider cost")
        for page in ("overview", "economics")
    }

    assert changes["economics"] == changes["overview"] != ""


@pytest.mark.parametrize("plan", ["creator_pro", "studio_pro"])
def test_totals_are_the_ledgers_own(market_ledger: str, look_at: OpenPage, plan: str) -> None:
    cost = ledger_sum(market_ledger, "SUM(cost_usd_micro)", {"plan": plan}, *_all(market_ledger), unit="studio")

    page = look_at(market_ledger, "economics", {"period": "90d", "plan": plan})

    found = rows(page, "Revenue, provider cost and margin by plan.")
    assert card(page, "Provider cost") == numbers.money(cost)
    assert found["cost_usd_micro" if "cost_usd_micro" in found else "cost_usd"].sum() == pytest.approx(cost / MICRO)
    assert card(page, "Revenue") == numbers.in_dollars(found["revenue_usd"].sum())
    assert card(page, "Margin") == numbers.in_dollars(found["revenue_usd"].sum() - cost / MICRO)
    models = rows(page, "Revenue, provider cost and margin by model.")
    assert models["revenue_usd"].sum() == pytest.approx(found["revenue_usd"].sum(), abs=1e-6)
    assert models["cost_usd"].sum() == pytest.approx(cost / MICRO)


def test_packs_sold_are_the_ledgers_own(market_ledger: str, look_at: OpenPage) -> None:
    sold = ledger_sum(
        market_ledger, _of_lot("COUNT(*)", "purchased"), {"kind": "grant"}, *_all(market_ledger), unit="prepaid"
    )

    page = look_at(market_ledger, "economics", {"period": "90d", "plan": "prepaid"})

    assert rows(page, "Packs sold, with buyers and sales.")["sold"].sum() == sold > 0
    assert "Provider cost is unknown for Prepaid" in sentence(page)
    assert card(page, "Margin") == "–"


def test_the_waterfall_ends_in_the_margin(market_ledger: str, look_at: OpenPage) -> None:
    page = look_at(market_ledger, "economics", STUDIO)

    (bars,) = traces(figure(page, "waterfall"), "bar")
    amounts = dict(zip(bars["customdata"], bars["x"], strict=True))
    parts = ("subscriptions", "packs_used", "breakage")
    assert amounts["revenue"] == pytest.approx(sum(amounts[name] for name in parts))
    assert amounts["margin"] == pytest.approx(amounts["revenue"] + amounts["provider_cost"])
    assert bars["base"][-2] + bars["x"][-2] == pytest.approx(amounts["margin"])


def test_days_add_up_to_the_revenue(market_ledger: str, look_at: OpenPage) -> None:
    page = look_at(market_ledger, "economics", STUDIO)

    (line,) = (t for t in traces(figure(page, "money_by_day"), "scatter") if t.get("name") == "Revenue")
    assert numbers.in_dollars(sum(v for v in line["y"] if v is not None)) == card(page, "Revenue")


def test_the_calculator_names_the_cheapest_plan_that_fits(market_ledger: str, open_page: OpenPage) -> None:
    page = open_page(market_ledger, "economics", {"calc_texts": "0", "calc_images": "40", "calc_videos": "5"})
    assert "605" in next(m.value for m in page.markdown if "studio credits" in m.value)
    assert "Creator Pro" in page.success[0].value

    page.slider(key="calc_bulk").set_value(10).run()
    assert "Enterprise" in page.success[0].value

    page.slider(key="calc_bulk").set_value(2_000).run()
    assert "No plan allows for this much" in page.warning[0].value


def test_the_calculator_sells_packs_where_there_are_no_plans(market_ledger: str, look_at: OpenPage) -> None:
    page = look_at(market_ledger, "economics", {"calc_unit": "Prepaid", "calc_images": "110", "calc_bulk": "0"})

    assert "packs" in words(page).lower()
    assert "×" in page.success[0].value
    assert rows(page, "Packs with bonus and saving.")["bonus"].iloc[0] == 0.0


def test_hostile_names_are_shown_not_obeyed(hostile_ledger: str, look_at: OpenPage) -> None:
    page = look_at(hostile_ledger, "economics")

    for attack in HOSTILE[:5]:
        assert not any(attack in text for text in markdown_of(page))
        assert not any(attack in text and "<" in attack for spec in figures(page) for text in drawn_text(spec))


def _all(url: str) -> tuple:
    return last_days(url, MARKET_DAYS + 50, DEMO_ZONE)


def _of_lot(expression: str, kind: str) -> str:
    return f"{expression} FILTER (WHERE lot_id IN (SELECT lot_id FROM lots WHERE kind = '{kind}'))"


def test_accounts_and_another_price_are_told(market_ledger: str, look_at: OpenPage) -> None:
    page = look_at(market_ledger, "economics", {"unit": "studio", "period": "90d", "price_of": "Studio pro"})

    assert not page.exception
    accounts, plans = (
        rows(page, "Accounts by margin, least first."),
        rows(page, "Revenue, provider cost and margin by plan."),
    )
    assert accounts["cost_usd"].sum() == pytest.approx(plans["cost_usd"].sum())
    assert accounts["margin_usd"].is_monotonic_increasing
    assert "at **$75.00** a cycle Studio pro would have earned" in words(page).replace("At", "at")
    assert "it pays for its providers from" in words(page).replace("It", "it")
