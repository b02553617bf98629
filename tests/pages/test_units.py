"""A ledger with plans of every policy: each page shows one credit unit at a time, and its totals are plain SQL sums of that unit."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from credit_core import CreditCore
from credit_core.policy.cycles import first_instant
from credit_core.units import MICRO
from pages.components import numbers
from tests.pages.conftest import ADDRESS, DEMO_ZONE, OpenPage
from tests.pages.reading import (
    SPENT,
    UNITS,
    card,
    figure,
    filters_of,
    last_days,
    ledger_sum,
    rows,
    sentence,
    traces,
    words,
)
from tests.pages.test_users import by_sql

CHARGED = ("titrated", "studio", "prepaid")
EVERY = (*CHARGED, "generations")
REQUESTS = "SUM(rule IS NOT NULL AND parent_request_id IS NULL)"
REFUSED = (
    "SUM(rule IN ('blocked', 'rate_limited', 'paused', 'over_limit') OR (rule = 'unaffordable' AND outcome IS NULL "
    "AND parent_request_id IS NULL))"
)
FRESH = "SUM(outcome = 'fresh' AND rule <> 'deferred')"
ACTIVE = "COUNT(DISTINCT CASE WHEN rule IS NOT NULL AND parent_request_id IS NULL THEN account_id END)"


@pytest.mark.parametrize("unit", EVERY)
@pytest.mark.parametrize("page", ADDRESS)
def test_every_page_opens_for_every_unit(demo_ledger: str, look_at: OpenPage, page: str, unit: str) -> None:
    test = look_at(demo_ledger, page, {"unit": unit})

    assert not test.exception
    assert filters_of(test).unit == unit
    assert not re.search(r"\b(nan|inf|NaT|NaN|<NA>)\b", words(test))


def test_pages_lead_with_the_titrated_unit(demo_ledger: str, look_at: OpenPage) -> None:
    test = look_at(demo_ledger, "overview")

    assert filters_of(test).unit == "titrated"
    assert "titrated credits" in words(test)
    assert set(filters_of(test).within) <= set(UNITS["titrated"])


@pytest.mark.parametrize("unit", EVERY)
def test_overview_totals_are_the_units_own(demo_ledger: str, look_at: OpenPage, unit: str) -> None:
    span = last_days(demo_ledger, 28, DEMO_ZONE)

    def summed(expression: str) -> int:
        return int(ledger_sum(demo_ledger, expression, {}, *span, unit=unit))

    test = look_at(demo_ledger, "overview", {"unit": unit})

    assert card(test, "Requests") == numbers.count(summed(REQUESTS)) != "0"
    assert card(test, "Active accounts") == numbers.count(summed(ACTIVE))
    drawn = {
        line["name"]: sum(value for value in line["y"] if value is not None)
        for line in figure(test, "answers")["data"]
        if line.get("name")
    }
    assert drawn["Fresh"] == summed(FRESH)
    if unit == "titrated":
        assert set(drawn) == {"Fresh", "Library", "Miss"}
    else:
        assert drawn == {"Fresh": summed(FRESH), "Declined": summed(REFUSED)}
        assert card(test, "Declined") == numbers.count(summed(REFUSED))
    if unit == "generations":
        assert card(test, "Generations") == numbers.count(summed("SUM(d_count)"))
        assert "ran out" not in words(test)


@pytest.mark.parametrize("unit", CHARGED)
def test_burn_totals_are_the_units_own(demo_ledger: str, look_at: OpenPage, unit: str) -> None:
    span = last_days(demo_ledger, 28, DEMO_ZONE)
    spent_uc = ledger_sum(demo_ledger, SPENT, {}, *span, unit=unit)
    by_plan = ledger_sum(demo_ledger, SPENT, {}, *span, unit=unit, by="plan")

    test = look_at(demo_ledger, "burn_rate", {"unit": unit})

    assert card(test, "Credits spent") == numbers.credits(spent_uc) != "0"
    assert sentence(test).startswith(f"**{numbers.in_credits(spent_uc / MICRO)}** burned")
    (bars,) = traces(figure(test, "burn_by_plan"), "bar")
    shown = {name: round(value * MICRO) for name, value in zip(bars["customdata"], bars["x"], strict=True)}
    assert shown == {plan: spent for plan, spent in by_plan.items() if spent}
    assert figure(test, "burn_a_day")["layout"]["yaxis"]["title"]["text"] == f"{unit} credits a day"
    assert round(rows(test, "burn_users")["spent_credits"].sum() * MICRO) == spent_uc


def test_what_plans_count_is_counted_instead_of_burned(demo_ledger: str, look_at: OpenPage) -> None:
    span = last_days(demo_ledger, 28, DEMO_ZONE)
    counted = ledger_sum(demo_ledger, "SUM(d_count)", {}, *span, unit="generations")
    by_plan = ledger_sum(demo_ledger, "SUM(d_count)", {}, *span, unit="generations", by="plan")

    test = look_at(demo_ledger, "burn_rate", {"unit": "generations"})

    assert sentence(test).startswith(f"**{numbers.counted(counted, 'generation')}** counted")
    assert card(test, "Generations") == numbers.count(counted) != "0"
    over = ledger_sum(demo_ledger, "SUM(rule = 'over_limit')", {}, *span, unit="generations")
    assert card(test, "Limit hits") == numbers.count(over) != "0"
    bars = traces(figure(test, "burn_a_day"), "bar")
    drawn = {bar["name"].lower(): sum(value or 0 for value in bar["y"]) for bar in bars}
    assert drawn == {plan: count for plan, count in by_plan.items() if count}
    shown = rows(test, "burn_users")
    requests = ledger_sum(demo_ledger, REQUESTS, {}, *span, unit="generations")
    assert (shown["requests"].sum(), shown["fresh"].sum()) == (
        requests,
        ledger_sum(demo_ledger, FRESH, {}, *span, unit="generations"),
    )


@pytest.mark.parametrize("unit", ["studio", "prepaid"])
def test_plans_that_are_not_paced_have_run_outs_but_no_surplus(demo_ledger: str, look_at: OpenPage, unit: str) -> None:
    span = last_days(demo_ledger, 28, DEMO_ZONE)
    refused = ledger_sum(
        demo_ledger, "COUNT(DISTINCT CASE WHEN rule = 'unaffordable' THEN account_id END)", {}, *span, unit=unit
    )
    assert refused > 0

    test = look_at(demo_ledger, "surplus", {"unit": unit})

    assert f"Plans that count {unit} credits have no surplus." in words(test)
    assert not test.metric
    assert rows(test, "run_outs")["user_id"].nunique() <= refused
    assert set(rows(test, "run_outs")["plan"]) <= set(UNITS[unit])


def test_a_page_that_has_nothing_for_a_unit_leads_to_one_that_has(demo_ledger: str, open_page: OpenPage) -> None:
    test = open_page(demo_ledger, "coverage", {"unit": "prepaid"})
    assert "Plans that count prepaid credits have no library coverage." in words(test)

    test.button(key="_to_titrated").click().run()

    assert filters_of(test).unit == "titrated"
    assert card(test, "Requests") != "0"


def test_tuning_knows_titrated_plans_alone(demo_ledger: str, look_at: OpenPage) -> None:
    for query in ({}, {"unit": "studio"}, {"policy": "prepaid"}):
        test = look_at(demo_ledger, "tuning", query)

        assert not test.exception
        assert set(test.selectbox(key="tuning_plan").options) == {
            "Free", "Basic", "Premium", "Basic annual", "Premium annual",
        }  # fmt: skip
        assert set(rows(test, "tuning_by_plan")["plan"] if _has_preview(test) else ()) <= set(UNITS["titrated"])


def test_integrity_ties_out_under_each_unit(demo_ledger: str, look_at: OpenPage) -> None:
    for unit in EVERY:
        test = look_at(demo_ledger, "integrity", {"unit": unit})
        assert "The figures of this dashboard equal the ledger's sums." in words(test)


# One user of each policy --------------------------------------------------------------------------------------------


def _busiest(url: str, plan: str) -> str:
    ((user,),) = by_sql(
        url,
        "SELECT user_id FROM ledger_entries WHERE plan = ? AND rule IS NOT NULL GROUP BY 1 ORDER BY COUNT(*) DESC LIMIT 1",
        plan,
    )
    return str(user)


def _open(url: str, open_page: OpenPage, plan: str) -> tuple[str, AppTest]:
    user = _busiest(url, plan)
    test = open_page(url, "users", {"user": user})
    assert not test.exception
    return user, test


def test_a_user_with_credits_of_a_month_sees_reset_counts_and_what_expires(
    demo_ledger: str, open_page: OpenPage
) -> None:
    user, test = _open(demo_ledger, open_page, "creator_pro")
    with CreditCore.open(demo_ledger) as core:
        profile = core.profile(user, _end(demo_ledger))

    used = {(one.modality, one.allowance.name): (one.allowance.used, one.allowance.limit) for one in profile.counts}
    assert {name: limit for name, (_, limit) in used.items()} == {("video", "month"): 25, ("video", "day"): 5}
    ((videos,),) = by_sql(
        demo_ledger,
        "SELECT COALESCE(SUM(d_count), 0) FROM ledger_entries WHERE user_id = ? AND modality = 'video' AND counted_at >= ?",
        user,
        int(profile.cycle_start_at.timestamp() * 1e6),
    )
    assert used["video", "month"][0] == videos
    said = sentence(test)
    assert f"Video this cycle: {videos} of 25 generations" in said
    assert "what is left expires and it has 1" in said
    assert "pace" not in said
    assert "Surplus" not in {metric.label for metric in test.metric}


def test_a_plan_without_credits_of_its_own_says_so(demo_ledger: str, open_page: OpenPage) -> None:
    _, test = _open(demo_ledger, open_page, "creator_free")

    assert "The plan has no credits of its own" in sentence(test)
    assert "of 50" in card(test, "Free models this cycle")
    assert card(test, "Available") == "0"


def test_a_prepaid_user_has_no_reset(demo_ledger: str, open_page: OpenPage) -> None:
    user, test = _open(demo_ledger, open_page, "prepaid")
    ((available, spent),) = by_sql(
        demo_ledger,
        f"SELECT SUM(d_avail_uc), {SPENT} FROM ledger_entries WHERE account_id = ?",
        f"user:{user}",
    )

    said = sentence(test)
    assert "nothing resets" in said
    assert "next reset" not in said
    assert card(test, "Available") == numbers.credits(available)
    assert card(test, "Spent") == numbers.credits(spent)
    assert {metric.label for metric in test.metric} == {"Available", "Held", "Spent", "Served", "Credits left"}


def test_a_user_of_a_daily_limit_sees_what_today_has_used(demo_ledger: str, open_page: OpenPage) -> None:
    user, test = _open(demo_ledger, open_page, "daily")
    ((zone,),) = by_sql(demo_ledger, "SELECT timezone FROM users WHERE user_id = ?", user)
    at = _end(demo_ledger)
    midnight = first_instant(at.astimezone(ZoneInfo(zone)).date(), ZoneInfo(zone))
    ((used,),) = by_sql(
        demo_ledger,
        "SELECT COALESCE(SUM(d_count), 0) FROM ledger_entries WHERE user_id = ? AND counted_at >= ? AND d_count IS NOT NULL",
        user,
        int(midnight.timestamp() * 1e6),
    )

    assert card(test, "Today") == f"{used} of 5"
    assert f"Today: {used} of 5 generations" in sentence(test)
    assert {metric.label for metric in test.metric} == {"Today", "Served"}
    assert "Balance by lot" not in words(test)
    shown = rows(test, "timeline")
    assert pd.to_numeric(shown["d_count"]).sum() == _sum_of_counts(demo_ledger, user, len(shown))


def test_a_guest_is_known_by_the_session_and_its_window(demo_ledger: str, open_page: OpenPage) -> None:
    user, test = _open(demo_ledger, open_page, "guest")
    assert user.startswith("guest:")

    assert "A guest, known by the session alone." in sentence(test)
    assert card(test, "This window").endswith("of 3")
    assert {metric.label for metric in test.metric} == {"This window", "Served"}


@pytest.mark.parametrize(
    ("plan", "rule"),
    [
        ("daily", "over_limit"),
        ("daily", "allowed"),
        ("prepaid", "unaffordable"),
        ("creator_pro", "allowed"),
        ("guest", "over_limit"),
    ],
)
def test_answers_of_every_policy_are_explained_exactly(
    demo_ledger: str, open_page: OpenPage, plan: str, rule: str
) -> None:
    ((user, request),) = by_sql(
        demo_ledger,
        "SELECT user_id, request_id FROM ledger_entries WHERE plan = ? AND rule = ? ORDER BY id DESC LIMIT 1",
        plan,
        rule,
    )

    test = open_page(demo_ledger, "users", {"user": user, "request": request})

    assert not test.exception
    assert "Recomputed from what was logged: equal to the last bit." in words(test)
    made = dict(next(t.value for t in test.table if "Rule" in t.value["Figure"].tolist()).values.tolist())
    assert made["Rule"] == rule.replace("_", " ")
    assert not {"Surplus days", "Draw"} & set(made)
    assert "strategy" not in words(test)


def _end(url: str) -> datetime:
    return last_days(url, 1, DEMO_ZONE)[1] - timedelta(microseconds=1)


def _sum_of_counts(url: str, user: str, newest: int) -> int:
    ((total,),) = by_sql(
        url,
        "SELECT SUM(d_count) FROM (SELECT d_count FROM ledger_entries WHERE user_id = ? ORDER BY seq DESC LIMIT ?)",
        user,
        newest,
    )
    return int(total)


def _has_preview(test: AppTest) -> bool:
    return any("tuning_by_plan" in str(table.proto.id) for table in test.dataframe)
