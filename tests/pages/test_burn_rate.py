"""Burn rate: every total is the ledger's own, with whatever the bar and the page narrow it to."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from credit_core.units import MICRO
from pages.components import numbers
from tests.pages.conftest import DEMO_ZONE, HOSTILE, NARROWED, OpenPage
from tests.pages.reading import (
    SPENT,
    UNITS,
    Kept,
    card,
    drawn_text,
    figure,
    figures,
    filters_of,
    last_days,
    ledger_sum,
    markdown_of,
    plain,
    rows,
    sentence,
    traces,
    words,
)


@pytest.mark.parametrize(("query", "kept", "days"), NARROWED)
def test_totals_are_the_ledgers_own(
    demo_ledger: str, look_at: OpenPage, query: dict[str, str], kept: Kept, days: int
) -> None:
    span = last_days(demo_ledger, days, DEMO_ZONE)
    spent_uc = ledger_sum(demo_ledger, SPENT, kept, *span)
    assert spent_uc > 0

    page = look_at(demo_ledger, "burn_rate", query)

    assert (filters_of(page).period.start, filters_of(page).period.end) == span
    assert card(page, "Credits spent") == numbers.credits(spent_uc)
    assert sentence(page).startswith(f"**{numbers.in_credits(spent_uc / MICRO)}** burned")
    assert _so_far(page) == spent_uc
    assert _stacked(page) == ledger_sum(demo_ledger, SPENT, kept, *span, by="plan")
    assert round(rows(page, "burn_users")["spent_credits"].sum() * MICRO) == spent_uc


def test_a_chosen_range_covers_its_days_whole(demo_ledger: str, look_at: OpenPage) -> None:
    span = datetime(2025, 3, 10, tzinfo=DEMO_ZONE), datetime(2025, 3, 18, tzinfo=DEMO_ZONE)

    page = look_at(demo_ledger, "burn_rate", {"period": "custom", "range": "2025-03-10..2025-03-17"})

    assert (filters_of(page).period.start, filters_of(page).period.end) == span
    assert card(page, "Credits spent") == numbers.credits(ledger_sum(demo_ledger, SPENT, {}, *span))


def test_this_cycle_begins_with_the_middle_one_and_is_drawn_by_its_days(demo_ledger: str, look_at: OpenPage) -> None:
    with closing(sqlite3.connect(demo_ledger.removeprefix("sqlite:///"))) as connection:
        began = sorted(
            datetime.fromtimestamp(us / MICRO, ZoneInfo(zone)).date()
            for us, zone in connection.execute(
                f"SELECT cycle_start_at, timezone FROM accounts WHERE quota_uc > 0 AND plan IN {tuple(UNITS['titrated'])}"
            )
        )
    day = began[(len(began) - 1) // 2]
    span = datetime.combine(day, time(), DEMO_ZONE), last_days(demo_ledger, 1, DEMO_ZONE)[1]

    page = look_at(demo_ledger, "burn_rate", {"period": "cycle", "compare": "cycle", "unit": "titrated"})

    assert (filters_of(page).period.start, filters_of(page).period.end) == span
    assert card(page, "Credits spent") == numbers.credits(ledger_sum(demo_ledger, SPENT, {}, *span))
    assert figure(page, "burn_by_cycle_day")["data"]
    near = sum(abs(one - day) <= timedelta(days=1) for one in began) / len(began)
    (line,) = (one for one in page.caption if "the middle one of" in plain(one.value))
    assert f"{len(began)} running cycles" in plain(line.value)
    assert f"{near * 100:.1f} % of them" in plain(line.value)
    assert "in the last cycle" in sentence(page)
    assert "**This cycle**" in line.help


@pytest.mark.parametrize(
    ("query", "dimension"),
    [({}, "plan"), ({"plan": "basic"}, "model"), ({"plan": "basic", "model": "dalle-3-hd"}, "user_id")],
)
def test_the_bars_split_by_what_is_not_narrowed_yet(
    demo_ledger: str, look_at: OpenPage, query: dict[str, str], dimension: str
) -> None:
    page = look_at(demo_ledger, "burn_rate", query)

    (bars,) = traces(figure(page, f"burn_by_{dimension}"), "bar")
    shown = {name: round(value * MICRO) for name, value in zip(bars["customdata"], bars["x"], strict=True)}
    spent = ledger_sum(demo_ledger, SPENT, query, *last_days(demo_ledger, 28, DEMO_ZONE), by=dimension)
    largest = sorted((value for value in spent.values() if value), reverse=True)[:10]
    assert sorted(shown.values(), reverse=True) == largest
    assert all(spent[name] == value for name, value in shown.items())


def test_a_model_narrows_everything_and_has_no_pace(demo_ledger: str, look_at: OpenPage) -> None:
    kept = {"plan": "basic", "model": "stable-diffusion-xl"}
    spent_uc = ledger_sum(demo_ledger, SPENT, kept, *last_days(demo_ledger, 28, DEMO_ZONE))

    page = look_at(demo_ledger, "burn_rate", kept)

    assert page.selectbox(key="model").value == "stable-diffusion-xl"
    assert card(page, "Credits spent") == numbers.credits(spent_uc)
    assert _so_far(page) == spent_uc
    assert rows(page, "burn_users")["pace_credits"].isna().all()
    assert "pace" not in sentence(page)


def test_the_way_back_to_the_fleet_takes_out_plan_region_and_model(demo_ledger: str, open_page: OpenPage) -> None:
    page = open_page(demo_ledger, "burn_rate", {"plan": "basic", "region": "eu", "model": "dalle-3-hd"})

    page.button(key="to_fleet").click().run()

    assert (filters_of(page).plans, filters_of(page).regions) == ((), ())
    assert page.selectbox(key="model").value == "All models"


def test_an_unknown_model_in_the_url_is_dropped(demo_ledger: str, look_at: OpenPage) -> None:
    page = look_at(demo_ledger, "burn_rate", {"model": "nobody"})

    spent_uc = ledger_sum(demo_ledger, SPENT, {}, *last_days(demo_ledger, 28, DEMO_ZONE))
    assert card(page, "Credits spent") == numbers.credits(spent_uc)


def test_nothing_spent_says_so_and_offers_a_way_out(demo_ledger: str, look_at: OpenPage) -> None:
    page = look_at(demo_ledger, "burn_rate", {"plan": "premium_annual", "region": "us"})

    assert not page.exception
    assert "No credits were spent in this period with these filters." in words(page)


def test_hostile_names_are_shown_not_obeyed(hostile_ledger: str, look_at: OpenPage) -> None:
    page = look_at(hostile_ledger, "burn_rate")

    for attack in HOSTILE[:5]:
        assert not any(attack in text for text in markdown_of(page))
        assert not any(attack in text and "<" in attack for spec in figures(page) for text in drawn_text(spec))


@pytest.mark.parametrize(("part", "column"), [("Region", "region"), ("Arm", "arm")])
def test_a_days_burn_can_be_parted_otherwise_and_still_ties_out(
    demo_ledger: str, look_at: OpenPage, part: str, column: str
) -> None:
    page = look_at(demo_ledger, "burn_rate", {"parts": part})

    spent = ledger_sum(demo_ledger, SPENT, {}, *last_days(demo_ledger, 28, DEMO_ZONE), by=column)
    shown = {
        bar["customdata"][0][1]: round(sum(value or 0 for value in bar["y"]) * MICRO)
        for bar in traces(figure(page, "burn_a_day"), "bar")
    }
    assert shown == {name or f"no {part.lower()}": value for name, value in spent.items() if name or value}


def test_the_forecast_goes_on_from_what_was_burned(demo_ledger: str, look_at: OpenPage) -> None:
    page = look_at(demo_ledger, "burn_rate")

    drawn = {trace["name"]: trace for trace in figure(page, "burn_so_far")["data"] if trace.get("name")}
    burned, expected = drawn["Burned"], drawn["Expected"]
    last_whole = burned["x"].index(expected["x"][0])
    assert expected["y"][0] == pytest.approx(burned["y"][last_whole])
    assert expected["y"] == sorted(expected["y"])
    assert "in 9 of 10" in words(page)


def test_cycles_can_be_laid_over_each_other(demo_ledger: str, look_at: OpenPage) -> None:
    page = look_at(demo_ledger, "burn_rate", {"along": "By day of the cycle"})

    drawn = {trace["name"]: trace for trace in figure(page, "burn_by_cycle_day")["data"]}
    assert set(drawn) == {"Pace", "Last cycle", "This cycle"}
    assert drawn["This cycle"]["x"][0] == 1
    assert "the mean over the accounts that have lived it whole" in words(page)
    assert not any("None" in text for text in (words(page), words(look_at(demo_ledger, "burn_rate"))))


def test_a_period_that_is_over_foresees_nothing(demo_ledger: str, look_at: OpenPage) -> None:
    page = look_at(demo_ledger, "burn_rate", {"period": "custom", "range": "2025-03-01..2025-03-10"})

    assert "Expected" not in {trace.get("name") for trace in figure(page, "burn_so_far")["data"]}
    assert "in 9 of 10" not in words(page)


def _so_far(page: Any) -> int:
    burned = next(trace for trace in figure(page, "burn_so_far")["data"] if trace.get("name") == "Burned")
    return round(max(value for value in burned["y"] if value is not None) * MICRO)


def _stacked(page: Any) -> dict[str, int]:
    """Micro-credits by plan, over the bars of the chart by day."""
    found = {}
    for bar in traces(figure(page, "burn_a_day"), "bar"):
        plan = bar["name"].lower().replace(" ", "_")
        found[plan] = round(sum(value for value in bar["y"] if value is not None) * MICRO)
    return found
