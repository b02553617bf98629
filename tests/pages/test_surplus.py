"""Surplus: who is ahead and who behind, with balances that are the ledger's sums."""

from __future__ import annotations

import pytest

from credit_core.policy import customer
from pages.components import numbers, sentences
from tests.pages.conftest import DEMO_ZONE, HOSTILE, OpenPage
from tests.pages.reading import (
    Kept,
    card,
    drawn_text,
    figure,
    figures,
    filters_of,
    last_days,
    ledger_sum,
    markdown_of,
    rows,
    sentence,
    traces,
    words,
)


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        ({}, {}),
        ({"plan": "basic"}, {"plan": "basic"}),
        ({"plan": "free", "region": "us"}, {"plan": "free", "region": "us"}),
    ],
)
def test_balances_are_the_ledgers_sums(demo_ledger: str, look_at: OpenPage, query: dict[str, str], kept: Kept) -> None:
    start, end = last_days(demo_ledger, 400, DEMO_ZONE)
    available = ledger_sum(demo_ledger, "SUM(d_avail_uc)", kept, start, end, by="account_id")

    page = look_at(demo_ledger, "surplus", query)

    shown = rows(page, "accounts")
    assert len(shown) == len(available)
    assert round(shown["available_credits"].sum() * 1_000_000) == sum(available.values())


@pytest.mark.parametrize("query", [{}, {"plan": "free"}, {"region": "us", "period": "7d"}])
def test_every_count_of_accounts_is_the_same(demo_ledger: str, look_at: OpenPage, query: dict[str, str]) -> None:
    page = look_at(demo_ledger, "surplus", query)

    people, plans = rows(page, "accounts"), rows(page, "Surplus days by plan.")
    bars = traces(figure(page, "spread"), "bar")
    behind = int((people["surplus_days"] < -3).sum())
    assert plans["accounts"].sum() == len(people)
    assert sum(sum(bar["y"]) for bar in bars) == len(people)
    assert card(page, "Behind pace") == numbers.share(behind / len(people))
    assert card(page, "Median surplus") == numbers.days(people["surplus_days"].median())
    assert sentence(page).startswith(f"Of {len(people)} accounts, {behind} ")


def test_run_outs_are_accounts_that_met_an_empty_balance(demo_ledger: str, look_at: OpenPage) -> None:
    span = last_days(demo_ledger, 28, DEMO_ZONE)
    dry = ledger_sum(demo_ledger, "SUM(rule = 'unaffordable')", {}, *span, by="user_id")

    page = look_at(demo_ledger, "surplus")

    assert set(rows(page, "run_outs")["user_id"]) <= {user for user, times in dry.items() if times}


def test_most_behind_come_first_and_run_out_dates_lie_before_the_reset(demo_ledger: str, look_at: OpenPage) -> None:
    people = rows(look_at(demo_ledger, "surplus"), "accounts")

    ends = people.dropna(subset=["runs_out_at"])
    assert people["surplus_days"].is_monotonic_increasing
    assert (ends["runs_out_at"] < ends["next_reset_at"]).all()


def test_everybody_has_a_risk_and_the_page_counts_it(demo_ledger: str, look_at: OpenPage) -> None:
    page = look_at(demo_ledger, "surplus", {"risk": "All"})

    risks = rows(page, "risk_rows")
    assert len(risks) == len(rows(page, "accounts"))
    assert risks["chance"].is_monotonic_decreasing
    for row in risks.to_dict("records"):
        assert row["risk"] == customer.risk_of(row["chance"])
    high, medium = ((risks["risk"] == band).sum() for band in ("High", "Medium"))
    assert f"**{sentences.counted(high, 'user')}**" in words(page)
    assert f"**{numbers.count(medium)}** at medium risk" in words(page)


def test_the_customers_card_tells_the_same_risk(demo_ledger: str, look_at: OpenPage) -> None:
    risks = rows(look_at(demo_ledger, "surplus", {"risk": "All"}), "risk_rows")

    for row in (risks.iloc[0], risks.iloc[-1]):
        page = look_at(demo_ledger, "users", {"user": row["user_id"]})
        assert f"Risk of run-out: {row['risk']}" in words(page)


def test_where_accounts_settle_is_told_in_words(demo_ledger: str, look_at: OpenPage) -> None:
    page = look_at(demo_ledger, "surplus", {"period": "90d"})

    assert "its *droop*" in words(page)
    assert len(rows(page, "Measured and predicted distance from pace by plan.")) >= 1


def test_a_link_opens_with_its_filters(demo_ledger: str, look_at: OpenPage) -> None:
    page = look_at(demo_ledger, "surplus", {"plan": "free", "region": ["us", "eu"]})

    assert filters_of(page).plans == ("free",)
    assert set(rows(page, "accounts")["plan"]) == {"free"}


def test_nothing_here_says_so_and_offers_a_way_out(demo_ledger: str, look_at: OpenPage) -> None:
    page = look_at(demo_ledger, "surplus", {"plan": "premium_annual", "region": "us"})

    assert not page.exception
    assert "No running account" in words(page)


def test_hostile_names_are_shown_not_obeyed(hostile_ledger: str, look_at: OpenPage) -> None:
    page = look_at(hostile_ledger, "surplus")

    for attack in HOSTILE[:5]:
        assert not any(attack in text for text in markdown_of(page))
        assert not any(attack in text and "<" in attack for spec in figures(page) for text in drawn_text(spec))
