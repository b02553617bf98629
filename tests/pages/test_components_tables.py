"""Tables and cards: cells for people, search, every row in the file."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from pages.components import kpi, numbers, plots
from pages.components.tables import Column, Kind

N = "\u202f"
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("kind", "value", "written"),
    [
        ("text", "a\nb", "a b"),
        ("text", "", "–"),
        ("slug", "basic_annual", "Basic annual"),
        ("credits", 1284.5, f"1{N}284.5"),
        ("credits_uc", 1_500_000, "1.5"),
        ("dollars", 0.08, "$0.08"),
        ("share", 0.5, f"50.0{N}%"),
        ("days", 3.2, "+3.2"),
        ("count", np.int64(1200), f"1{N}200"),
        ("ms", 340.0, f"340{N}ms"),
        ("seconds", 90.0, f"2{N}min"),
        ("score", 0.5312, "0.531"),
        ("number", 0.0025, "0"),
        ("instant", pd.Timestamp("2025-03-03T12:00Z"), "3\u00a0Mar\u00a02025,\u00a013:00"),
        ("instant", pd.NaT, "–"),
        ("day", pd.Timestamp("2025-03-03"), "3\u00a0Mar\u00a02025"),
        ("flag", True, "yes"),
        ("flag", pd.NA, "–"),
        ("text", pd.NA, "–"),
        ("flag", None, "–"),
        ("credits", float("nan"), "–"),
        ("count", 0, "0"),
    ],
)
def test_a_cell_is_written_for_people(kind: Kind, value: object, written: str) -> None:
    assert Column("x", kind=kind).write(value, BERLIN) == written


def page() -> None:
    from zoneinfo import ZoneInfo

    import pandas as pd
    import streamlit as st

    from pages.components import tables

    rows = pd.DataFrame({"user_id": [f"u-{n}" for n in range(30)] + ["=1+1"], "spent": [1.5] * 31})
    tables.show(
        rows,
        [tables.Column("user_id", "User"), tables.Column("spent", "Spent", "credits")],
        key="users",
        zone=ZoneInfo("UTC"),
        total=4_000,
        csv_data=lambda: b"all",
    )
    st.session_state["rows"] = len(rows)


def test_search_narrows_what_is_shown_and_says_how_far() -> None:
    test = AppTest.from_function(page).run()
    assert not test.exception
    assert len(test.dataframe[0].value) == 31
    assert test.caption[0].value == f"4{N}000{N}rows, 31 loaded"
    test.text_input(key="users_search").set_value("u-2").run()
    assert list(test.dataframe[0].value["user_id"]) == ["u-2", *(f"u-{n}" for n in range(20, 30))]
    assert test.caption[0].value == f"11 of 31{N}rows match, 4{N}000 in all"
    test.text_input(key="users_search").set_value("=1+").run()
    assert list(test.dataframe[0].value["user_id"]) == ["=1+1"]


def cards() -> None:
    from pages.components import kpi, numbers

    kpi.row(
        [
            kpi.Card(
                "Misses",
                numbers.share(0.07),
                change=numbers.points(0.07, 0.05, better="down"),
                change_name="previous 28 days",
                course=[0.05, None, 0.07],
                target=0.05,
                target_text="target under 5 %",
                help=kpi.Help("Share of decisions.", "misses / decisions", "share", "ledger_entries", "SELECT 1"),
            ),
            kpi.Card("Fresh", numbers.UNKNOWN, unit="credits a day", change=numbers.NO_CHANGE),
        ],
        key="test",
    )


def test_a_card_shows_value_change_with_its_meaning_and_target() -> None:
    test = AppTest.from_function(cards).run()
    assert not test.exception
    misses, fresh = test.metric
    assert (misses.label, misses.value, misses.delta) == ("Misses", f"7.0{N}%", f"+2.0{N}points")
    assert misses.proto.help.startswith("Share of decisions.")
    assert "SELECT 1" in misses.proto.help
    assert (fresh.value, fresh.delta) == ("–", "")
    assert [c.value for c in test.caption] == ["target under 5 %", "credits a day"]


def test_a_row_holds_five_cards() -> None:
    with pytest.raises(ValueError, match="holds 5 cards"):
        kpi.row([kpi.Card("x", "1")] * 6, key="x")


def test_a_box_over_time_names_the_days_it_touches() -> None:
    assert plots.days_of(["2025-03-01 06:00", "2025-03-03T00:00:00"]) == (
        datetime(2025, 3, 1, tzinfo=UTC).date(),
        datetime(2025, 3, 2, tzinfo=UTC).date(),
    )
    first, last = plots.days_of(["2025-03-03 18:00:00.5", "2025-03-03 09:00"])
    assert first == last == datetime(2025, 3, 3, tzinfo=UTC).date()


def test_unknown_is_never_zero() -> None:
    assert numbers.metric(None, "credits") == numbers.UNKNOWN == numbers.metric(float("nan"), "share")
