"""The bar: what lives in the URL, what survives a page switch, what it says in words."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from streamlit.testing.v1 import AppTest

from credit_core.analytics import queries
from credit_core.analytics.filters import Filters, Period
from credit_core.analytics.queries import Options, Terms
from credit_core.analytics.queries.running import Running, running_cycles
from pages.components import filters, periods, session
from tests.pages.reading import plain

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2025, 3, 12, 13, 4, 30, tzinfo=UTC)
UNTIL = periods.anchor(NOW - timedelta(minutes=3), NOW, BERLIN)


def local(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> datetime:
    return datetime(year, month, day, hour, minute, tzinfo=BERLIN).astimezone(UTC)


# ------------------------------------------------------------------------------------------------------------------- URL


#: As far into the day as the ledger's newest entry has come: comparisons end there.
COPIED_A_MONTH_AGO = local(2025, 2, 12, 14, 1) + timedelta(seconds=30)


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A ledger that the bar believes in."""
    told = SimpleNamespace(as_of=NOW - timedelta(minutes=3), first_at=NOW - timedelta(days=60))
    monkeypatch.setattr(session, "zone", lambda: BERLIN)
    monkeypatch.setattr(session, "now", lambda: NOW)
    monkeypatch.setattr(session, "ledger", lambda: told)
    told.options = Options(("basic", "free", "premium"), ("de", "![x](http://evil)"), (), (), ("acme", "zeta"))
    monkeypatch.setattr(session, "options", lambda: told.options)
    return told


@pytest.fixture
def mixed(ledger: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The same ledger with plans of three units; ``entries`` are those of each plan in the period."""
    terms = (
        Terms("basic", "titrated_monthly", "titrated"), Terms("free", "titrated_monthly", "titrated"),
        Terms("creator_pro", "plan_credits", "studio"), Terms("daily", "daily_count", "generations"),
    )  # fmt: skip
    ledger.options = Options(tuple(sorted(one.plan for one in terms)), ("de",), (), (), terms=terms)
    ledger.entries = {"basic": 50, "free": 40, "creator_pro": 60, "daily": 5}
    ledger.asked = []

    def ask(query: Any, kept: Filters) -> dict[str, int]:
        assert query is queries.entries_by_plan
        ledger.asked.append(kept)
        return {plan: count for plan, count in ledger.entries.items() if plan in (kept.plans or ledger.entries)}

    monkeypatch.setattr(filters, "ask", ask)
    return ledger


def frame() -> None:
    """What app.py does, as far as the bar goes, with the drills that pages make."""
    import streamlit as st

    from pages.components import filters

    filters.bar()
    st.text(filters.words())
    st.button("narrow", on_click=filters.set_filters, kwargs={"plan": "free"})
    st.button("days", on_click=lambda: filters.set_days(filters.date(2025, 3, 3), filters.date(2025, 3, 1)))


def opened(**asked: str | list[str]) -> AppTest:
    test = AppTest.from_function(frame)
    for key, value in asked.items():
        test.query_params[key] = value
    test.run()
    assert not test.exception
    return test


def chosen(test: AppTest) -> Filters:
    return test.session_state["_chosen"][0]


def test_without_parameters_28_days_are_compared_with_those_before(ledger: SimpleNamespace) -> None:
    test = opened()
    assert chosen(test) == Filters(
        Period(local(2025, 2, 13), UNTIL.end), compare=Period(local(2025, 1, 16), COPIED_A_MONTH_AGO)
    )
    assert dict(test.query_params) == {}
    assert test.text[0].value.replace("\u00a0", " ") == (
        "13 Feb – 12 Mar 2025 vs 16 Jan – 12 Feb 2025, days of Europe/Berlin"
    )


def test_a_deep_link_sets_the_bar(ledger: SimpleNamespace) -> None:
    test = opened(period="7d", compare="none", plan=["basic", "free"], region="de")
    assert chosen(test) == Filters(
        Period(local(2025, 3, 6), UNTIL.end), compare=None, plans=("basic", "free"), regions=("de",)
    )
    assert test.selectbox(key="_period_twin").value == "7d"
    assert test.multiselect(key="_plan_twin").value == ["basic", "free"]


def test_a_link_to_this_cycle_asks_when_the_cycles_behind_the_filters_began(
    ledger: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def ask(query: Any, kept: Filters) -> Running | None:
        assert query is running_cycles
        asked.append(kept)
        return Running(40, date(2025, 3, 1), 10) if kept.plans else None

    monkeypatch.setattr(filters, "ask", ask)
    test = opened(period="cycle", compare="cycle", plan="basic")
    assert asked[0].plans == ("basic",)
    assert chosen(test) == Filters(
        Period(local(2025, 3, 1), UNTIL.end),
        compare=Period(local(2025, 2, 1), COPIED_A_MONTH_AGO),
        plans=("basic",),
    )
    assert dict(test.query_params) == {"period": "cycle", "compare": "cycle", "plan": "basic"}
    assert "the middle one of 40 running cycles began on 1 Mar 2025, 25.0 %" in plain(test.text[0].value)
    test.button(key="filter_clear").click().run()
    assert chosen(test).period.start == local(2025, 3, 1)
    assert "so this is the calendar month" in test.text[0].value
    # A custom period starts out as the cycle's days.
    test.selectbox(key="_period_twin").set_value("custom").run()
    assert test.session_state["range"] == "2025-03-01..2025-03-12"


def test_any_period_can_be_compared_with_the_last_cycle(ledger: SimpleNamespace) -> None:
    test = opened(period="7d", compare="cycle")
    assert chosen(test).compare == Period(local(2025, 2, 6), COPIED_A_MONTH_AGO)


def test_a_team_narrows_by_link_on_screen_and_by_drill(ledger: SimpleNamespace) -> None:
    test = opened(team="acme")
    assert chosen(test).teams == ("acme",)
    assert test.text[0].value.endswith("Europe/Berlin · acme")
    assert test.multiselect(key="_team_twin").label == "Team"
    test.multiselect(key="_team_twin").set_value(["acme", "zeta"]).run()
    assert test.session_state["team"] == ["acme", "zeta"]
    assert chosen(test).teams == ("acme", "zeta")
    test.button(key="filter_clear").click().run()
    assert chosen(test).teams == ()
    assert chosen(opened(team="nobody")).teams == ()


def test_what_does_not_exist_is_dropped_from_the_url(ledger: SimpleNamespace) -> None:
    test = opened(period="fortnight", plan=["basic", "gold"], region="xx", range="never")
    assert chosen(test).plans == ("basic",)
    assert chosen(test).regions == ()
    assert chosen(test).period.start == local(2025, 2, 13)
    test.run()
    assert dict(test.query_params) == {"plan": "basic"}


def test_what_is_chosen_on_screen_lands_in_the_url(ledger: SimpleNamespace) -> None:
    test = opened()
    test.selectbox(key="_period_twin").set_value("today").run()
    test.multiselect(key="_plan_twin").set_value(["premium"]).run()
    assert chosen(test).plans == ("premium",)
    assert chosen(test).period.start == local(2025, 3, 12)
    assert (test.session_state["period"], test.session_state["plan"]) == ("today", ["premium"])
    test.button(key="filter_clear").click().run()
    assert chosen(test).plans == ()


def test_custom_begins_with_the_days_on_screen_and_leaves_with_them(ledger: SimpleNamespace) -> None:
    test = opened(period="7d")
    test.selectbox(key="_period_twin").set_value("custom").run()
    assert test.session_state["range"] == "2025-03-06..2025-03-12"
    assert chosen(test).period == Period(local(2025, 3, 6), UNTIL.end)
    test.date_input(key="_range_twin").set_value((date(2025, 3, 1), date(2025, 3, 3))).run()
    assert chosen(test).period == Period(local(2025, 3, 1), local(2025, 3, 4))
    test.selectbox(key="_period_twin").set_value("28d").run()
    assert test.session_state["range"] == ""


def test_a_ledger_of_one_unit_asks_for_none(ledger: SimpleNamespace) -> None:
    terms = (Terms("basic", "titrated_monthly", "titrated"), Terms("free", "titrated_monthly", "titrated"))
    ledger.options = Options(("basic", "free"), ("de",), (), (), terms=terms)
    test = opened()
    assert (chosen(test).unit, chosen(test).within) == (None, None)
    assert [box.label for box in test.selectbox if box.key and box.key.startswith("_")] == ["Period", "Compare with"]
    assert "_policy_twin" not in {box.key for box in test.multiselect}


def test_the_unit_with_most_entries_is_chosen_and_named(mixed: SimpleNamespace) -> None:
    test = opened()
    assert (chosen(test).unit, chosen(test).within) == ("titrated", ("basic", "free"))
    assert test.text[0].value.endswith(" · titrated credits")
    assert dict(test.query_params) == {}
    mixed.entries["creator_pro"] = 91
    test.run()
    assert (chosen(test).unit, chosen(test).within) == ("studio", ("creator_pro",))


def test_a_chosen_unit_lives_in_the_url_and_is_cleared(mixed: SimpleNamespace) -> None:
    test = opened(unit="studio")
    assert (chosen(test).unit, chosen(test).within) == ("studio", ("creator_pro",))
    assert test.selectbox(key="_unit_twin").value == "studio"
    test.selectbox(key="_unit_twin").set_value("generations").run()
    assert (chosen(test).unit, test.session_state["unit"]) == ("generations", "generations")
    assert test.text[0].value.endswith(" · generations")
    test.button(key="filter_clear").click().run()
    assert (chosen(test).unit, test.session_state["unit"]) == ("titrated", "most")


def test_a_unit_that_does_not_exist_is_dropped_from_the_url(mixed: SimpleNamespace) -> None:
    test = opened(unit="euros", policy=["daily_count", "barter"])
    assert (chosen(test).unit, chosen(test).policies) == ("generations", ("daily_count",))
    test.run()
    assert dict(test.query_params) == {"policy": "daily_count"}


def test_a_policy_becomes_its_plans_and_brings_their_unit(mixed: SimpleNamespace) -> None:
    test = opened(policy="plan_credits")
    assert chosen(test).policies == ("plan_credits",)
    assert (chosen(test).unit, chosen(test).within, chosen(test).plans) == ("studio", ("creator_pro",), ())
    assert "Plan credits" in test.text[0].value
    test.multiselect(key="_policy_twin").set_value([]).run()
    assert chosen(test).unit == "titrated"


def test_a_plan_brings_its_unit_even_where_it_has_no_entries(mixed: SimpleNamespace) -> None:
    mixed.entries = {"basic": 50}
    test = opened(plan="daily")
    assert (chosen(test).unit, chosen(test).within, chosen(test).plans) == ("generations", ("daily",), ("daily",))


def test_a_unit_and_a_policy_without_a_common_plan_leave_nothing(mixed: SimpleNamespace) -> None:
    test = opened(unit="studio", policy="daily_count")
    assert (chosen(test).unit, chosen(test).within) == ("studio", ())


def test_drills_narrow_and_a_box_sets_the_days(ledger: SimpleNamespace) -> None:
    test = opened(region="de")
    test.button[1].click().run()
    assert (chosen(test).plans, chosen(test).regions) == (("free",), ("de",))
    test.button[2].click().run()
    assert chosen(test).period == Period(local(2025, 3, 1), local(2025, 3, 4))
    assert chosen(test).plans == ("free",)


def test_hostile_names_of_regions_are_shown_as_text(ledger: SimpleNamespace) -> None:
    test = opened(region="![x](http://evil)")
    assert test.text[0].value.endswith("![x](http://evil)")
    assert not test.markdown


def test_an_empty_ledger_still_has_a_bar(ledger: SimpleNamespace) -> None:
    ledger.as_of = ledger.first_at = None
    assert chosen(opened(period="custom", range="2025-03-01..2025-03-02")).period.end == UNTIL.end


def test_an_old_ledger_says_so(ledger: SimpleNamespace) -> None:
    ledger.as_of = NOW - timedelta(days=9)
    assert "the newest entry is 9\u202fdays old" in opened().text[0].value


def test_links_may_not_carry_what_the_bar_holds() -> None:
    assert filters.params(user="u-1", cell=None) == {"user": "u-1"}
    with pytest.raises(ValueError, match="The bar holds plan"):
        filters.params(plan="basic")
