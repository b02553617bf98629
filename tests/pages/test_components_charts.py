"""Figures say exactly what their data says: titles, zero, gaps, colours, marks."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from streamlit.elements.lib import streamlit_plotly_theme

from pages.components.charts import sampling, style
from tests.pages.figures import Checked

charts = Checked()
N = "\u202f"
BERLIN = ZoneInfo("Europe/Berlin")
DAYS = pd.date_range("2025-03-01", periods=5)
SPAN = (datetime(2025, 2, 28, 23, tzinfo=UTC), datetime(2025, 3, 5, 12, tzinfo=UTC))
BURN = charts.CREDITS.per("day")


def by_plan(values: dict[str, list[float]]) -> pd.DataFrame:
    parts = [pd.DataFrame({"day": DAYS[: len(v)], "plan": plan, "value": v}) for plan, v in values.items()]
    return pd.concat(parts, ignore_index=True)


def named(fig: go.Figure, name: str) -> go.Scatter | go.Bar:
    return next(trace for trace in fig.data if trace.name == name)


def notes(fig: go.Figure, name: str) -> list[str]:
    return [a.text for a in fig.layout.annotations if a.name == name]


TWO = by_plan({"basic": [10.0, 20.0, np.nan, 40.0, 50.0], "free": [1.0, 2.0, 3.0, 4.0, 5.0]})


# --------------------------------------------------------------------------------------------------------------- lines


def test_a_time_line_names_its_units_and_its_zone() -> None:
    fig = charts.time_lines(TWO, x="day", y="value", series="plan", unit=BURN, zone=BERLIN, span=SPAN)
    assert fig.layout.yaxis.title.text == "credits a day"
    assert fig.layout.xaxis.title.text == "day, Europe/Berlin"
    assert list(fig.layout.xaxis.range) == ["2025-03-01T00:00:00", "2025-03-06T00:00:00"]
    assert charts.CREDITS.per("hour").title == "credits an hour"


def test_a_gap_stays_a_gap_and_zero_is_the_floor() -> None:
    fig = charts.time_lines(TWO, x="day", y="value", series="plan", unit=BURN, zone=BERLIN)
    line = named(fig, "Basic")
    assert list(line.y) == [10.0, 20.0, None, 40.0, 50.0]
    assert line.connectgaps is False
    assert fig.layout.yaxis.range[0] == 0.0
    assert fig.layout.yaxis.range[1] > 50.0


def test_missing_rows_are_gaps_too() -> None:
    frame = pd.DataFrame({"day": DAYS[[0, 1, 4]], "value": [1, 2, 3]})
    fig = charts.time_lines(frame, x="day", y="value", name="Burn", unit=BURN, zone=BERLIN)
    assert list(fig.data[0].y) == [1.0, 2.0, None, 3.0]


def test_a_point_between_gaps_is_still_seen() -> None:
    days = pd.date_range("2025-01-01", periods=60)
    values = [1.0] * 30 + [np.nan, 5.0, np.nan] + [1.0] * 27
    frame = pd.DataFrame({"day": days, "value": values})
    line = charts.time_lines(frame, x="day", y="value", unit=BURN, zone=BERLIN).data[0]
    assert line.mode == "lines+markers"
    assert [size for size in line.marker.size if size] == [5]
    assert line.marker.size[31] == 5


def test_a_day_that_is_not_over_is_hollow_and_says_so() -> None:
    fig = charts.time_lines(TWO, x="day", y="value", series="plan", unit=BURN, zone=BERLIN, span=SPAN)
    line = named(fig, "Free")
    assert list(line.marker.symbol) == ["circle"] * 4 + ["circle-open"]
    assert line.hovertext[3:] == (f"<b>Free</b> 4{N}credits", f"<b>Free</b> 5{N}credits · so far")
    whole = (SPAN[0], datetime(2025, 3, 5, 23, tzinfo=UTC))
    over = charts.time_lines(TWO, x="day", y="value", series="plan", unit=BURN, zone=BERLIN, span=whole)
    assert set(named(over, "Free").marker.symbol) == {"circle"}
    bars = charts.stacked_bars(TWO, x="day", y="value", series="plan", unit=BURN, zone=BERLIN, span=SPAN)
    assert list(named(bars, "Free").marker.opacity) == [1, 1, 1, 1, 0.55]


def test_the_comparison_is_dotted_and_moved_onto_the_period() -> None:
    earlier = TWO.assign(day=TWO["day"] - pd.Timedelta(days=28), value=TWO["value"] * 0.5)
    fig = charts.time_lines(
        TWO, x="day", y="value", series="plan", unit=BURN, zone=BERLIN, compare=earlier, shift=timedelta(days=28),
        compare_name="previous 28 days", shares=True,
    )  # fmt: skip
    dotted = [trace for trace in fig.data if trace.line.dash == "dot"]
    assert len(dotted) == 2
    assert dotted[0].x[0] == named(fig, "Basic").x[0] == "2025-03-01T00:00:00"
    assert dotted[0].line.color == named(fig, "Basic").line.color
    assert fig.layout.xaxis.title.text == "day, Europe/Berlin (dotted: previous 28 days)"
    hover = named(fig, "Basic").hovertext[0]
    assert hover == f"<b>Basic</b> 10{N}credits · 90.9{N}% · +100.0{N}% against previous 28 days"


def test_targets_and_pace_are_dashed_and_grey() -> None:
    frame = TWO[TWO["plan"] == "basic"].assign(pace=30.0)
    fig = charts.time_lines(frame, x="day", y="value", unit=BURN, zone=BERLIN, pace="pace", target=60.0)
    assert named(fig, "Pace").line.to_plotly_json() == {"color": style.GUIDE, "dash": "dash", "width": 1.6}
    line = fig.layout.shapes[0]
    assert (line.y0, line.y1, line.line.dash, line.line.color) == (60.0, 60.0, "dash", style.GUIDE)
    assert fig.layout.yaxis.range[1] > 60.0
    assert len(notes(fig, "guide")) == 1
    assert "target 60" in notes(fig, "guide")[0]


def test_four_series_are_labelled_and_five_have_a_legend() -> None:
    four = by_plan({name: [1.0, 2.0] for name in "abcd"})
    five = by_plan({name: [1.0, 2.0] for name in "abcde"})
    draw = {"x": "day", "y": "value", "series": "plan", "unit": BURN, "zone": BERLIN}
    labelled, listed = charts.time_lines(four, **draw), charts.time_lines(five, **draw)
    assert (len(notes(labelled, "label")), labelled.layout.showlegend) == (4, False)
    assert (len(notes(listed, "label")), listed.layout.showlegend) == (0, True)


def test_labels_of_equal_lines_do_not_cover_each_other() -> None:
    same = by_plan({name: [1.0, 7.0] for name in "abcd"})
    fig = charts.time_lines(same, x="day", y="value", series="plan", unit=BURN, zone=BERLIN)
    shifts = sorted(a.yshift for a in fig.layout.annotations if a.name == "label")
    assert np.diff(shifts).min() >= 16.9


def test_instants_are_drawn_on_the_clock_of_the_reporting_zone() -> None:
    frame = pd.DataFrame({"at": pd.to_datetime(["2025-03-01T23:00Z", "2025-03-02T00:00Z"]), "v": [1.0, 2.0]})
    fig = charts.time_lines(frame, x="at", y="v", unit=BURN, zone=BERLIN, step=charts.HOUR)
    assert list(fig.data[0].x) == ["2025-03-02T00:00:00", "2025-03-02T01:00:00"]
    assert fig.layout.xaxis.title.text == "hour, Europe/Berlin"


def test_a_release_is_a_thin_line_with_version_author_and_note() -> None:
    note = "k up <a href='http://evil'>x</a>"
    marks = [charts.Mark(datetime(2025, 3, 3, 8, tzinfo=UTC), "7", "Ada", note)]
    fig = charts.time_lines(TWO, x="day", y="value", series="plan", unit=BURN, zone=BERLIN, marks=marks, span=SPAN)
    line = next(s for s in fig.layout.shapes if s.name == "release")
    assert (line.x0, line.x1, line.line.width) == ("2025-03-03T09:00:00", "2025-03-03T09:00:00", 1)
    assert notes(fig, "release") == ["v7"]
    story = next(a for a in fig.layout.annotations if a.name == "release").hovertext
    assert story.startswith("<b>Release 7</b> · Ada<br>3 Mar 2025, 09:00<br>k up &lt;a")
    assert "<a" not in story


def test_releases_side_by_side_share_a_label_and_those_outside_are_left_out() -> None:
    at = datetime(2025, 3, 3, 8, tzinfo=UTC)
    marks = [charts.Mark(at + timedelta(hours=h), str(h)) for h in (0, 1, 2, 48, 4_800)]
    fig = charts.time_lines(TWO, x="day", y="value", series="plan", unit=BURN, zone=BERLIN, marks=marks, span=SPAN)
    assert notes(fig, "release") == ["v0–2", "v48"]
    assert sum(s.name == "release" for s in fig.layout.shapes) == 4


@pytest.mark.parametrize(
    ("versions", "label"), [(("5", "5"), "v5"), (("5", "6", "5"), "v5–6"), (("3", "4", "5"), "v3–5")]
)
def test_a_version_released_twice_in_one_group_is_named_once(versions: tuple[str, ...], label: str) -> None:
    at = datetime(2025, 3, 3, 8, tzinfo=UTC)
    marks = [charts.Mark(at + timedelta(hours=hour), version) for hour, version in enumerate(versions)]
    fig = charts.time_lines(TWO, x="day", y="value", series="plan", unit=BURN, zone=BERLIN, marks=marks, span=SPAN)
    assert notes(fig, "release") == [label]


def test_marks_are_made_of_releases() -> None:
    at = pd.Timestamp("2025-03-03T08:00Z")
    rows = pd.DataFrame(
        [{"released_at": at, "version": 7, "author": "Ada", "note": "why", "reason": None, "action": "release"}]
    )
    assert charts.marks_from(rows) == [charts.Mark(at, "7", "Ada", "release · why")]


def test_burn_stands_against_pace() -> None:
    frame = pd.DataFrame({"day": DAYS, "b": [1.0, 2.0, 3.0, np.nan, np.nan], "p": [2.0, 4.0, 6.0, 8.0, 10.0]})
    fig = charts.burn_against_pace(frame, x="day", burned="b", pace="p", unit=charts.CREDITS, zone=BERLIN)
    burned, pace = named(fig, "Burned"), named(fig, "Pace")
    assert (burned.fill, pace.line.dash) == ("tozeroy", "dash")
    assert list(burned.y) == [1.0, 2.0, 3.0, None, None]
    assert fig.layout.yaxis.range[0] == 0.0
    assert burned.hovertext[2] == f"<b>Burned</b> 3{N}credits<br><b>Pace</b> 6{N}credits<br>−50.0{N}% against pace"


def test_bands_break_where_nothing_is_known_and_show_the_tolerance() -> None:
    frame = pd.DataFrame({"day": DAYS, "median": [0.0, 1.0, np.nan, 2.0, 3.0]})
    for name, off in (("p05", -6), ("p25", -2), ("p75", 2), ("p95", 6)):
        frame[name] = frame["median"] + off
    fig = charts.quantile_bands(
        frame,
        x="day",
        median="median",
        inner=("p25", "p75"),
        outer=("p05", "p95"),
        unit=charts.SURPLUS_DAYS,
        zone=BERLIN,
    )
    assert fig.layout.yaxis.title.text == "surplus, days"
    bands = [trace for trace in fig.data if trace.fill == "tonexty"]
    assert [len(trace.x) for trace in bands] == [2, 2, 2, 2]
    assert list(named(fig, "Median").y) == [0.0, 1.0, None, 2.0, 3.0]
    shaded = [s for s in fig.layout.shapes if s.type == "rect"]
    assert [(s.y0, s.y1) for s in shaded] == [(-3.0, 3.0)]
    assert fig.layout.yaxis.range[0] < -6


def test_a_sparkline_is_a_picture_with_gaps_a_dot_at_its_end_and_a_target() -> None:
    picture = ElementTree.fromstring(charts.sparkline([1.0, None, 3.0, 2.0], target=2.0))
    course, dot, target = (path.get("d") or "" for path in picture)
    assert course.count("M") == 2, "the line breaks where a value is missing"
    assert course.startswith("M2 ")
    assert dot == f"{course[course.rindex('L') :].replace('L', 'M')}h0"
    assert [path.get("stroke-dasharray") for path in picture] == [None, None, "5 4"]
    height = float(target.split(" ")[1].split("H")[0])
    assert dot == f"M98 {height:.4g}h0", "the last value is the target"
    assert len(ElementTree.fromstring(charts.sparkline([1.0, None]))) == 1


# ---------------------------------------------------------------------------------------------------------------- bars


def test_stacked_bars_start_at_zero_and_share_one_sum() -> None:
    fig = charts.stacked_bars(TWO, x="day", y="value", series="plan", unit=BURN, zone=BERLIN, order=["free"])
    assert fig.layout.barmode == "stack"
    assert fig.layout.yaxis.range[0] == 0
    assert fig.layout.yaxis.range[1] == pytest.approx(55 * 1.1)
    assert [trace.name for trace in fig.data] == ["Free", "Basic"]
    assert named(fig, "Basic").hovertext[4] == f"<b>Basic</b> 50{N}credits · 90.9{N}%"
    assert named(fig, "Basic").y[2] is None


def test_ranked_bars_leave_room_for_their_longest_value() -> None:
    def room(value: int) -> float:
        frame = pd.DataFrame({"plan": ["a"], "n": [value]})
        return (
            float(charts.ranked_bars(frame, label="plan", value="n", unit=charts.COUNT).layout.xaxis.range[1]) / value
        )

    assert room(9) == pytest.approx(1.18)
    assert room(1_563_481) == pytest.approx(1.06 + 0.03 * len("1 563 481"))


def test_ranked_bars_start_at_zero_longest_first_with_change_and_share() -> None:
    frame = pd.DataFrame({"plan": ["free", "<b>basic</b>"], "now": [1.0, 3.0], "then": [2.0, np.nan]})
    fig = charts.ranked_bars(frame, label="plan", value="now", unit=BURN, before="then", compare_name="yesterday")
    bar = fig.data[0]
    assert list(bar.x) == [3.0, 1.0]
    assert list(bar.customdata) == ["<b>basic</b>", "free"]
    assert list(fig.layout.yaxis.ticktext) == ["&lt;b&gt;basic&lt;/b&gt;", "Free"]
    assert fig.layout.xaxis.range[0] == 0
    assert fig.layout.xaxis.title.text == "credits a day (tick: yesterday)"
    assert bar.hovertext[1] == f"<b>Free</b><br>1{N}credit · 25.0{N}%<br>−50.0{N}% against yesterday"


def test_values_that_may_not_be_summed_have_no_share() -> None:
    frame = pd.DataFrame({"plan": ["free"], "rate": [0.25]})
    fig = charts.ranked_bars(frame, label="plan", value="rate", unit=charts.SHARE, whole=0, target=0.05)
    assert fig.data[0].hovertext[0] == f"<b>Free</b><br>25.0{N}%"
    assert list(fig.data[0].x) == [25.0]
    assert notes(fig, "head") == [f"target 5.0{N}%"]


def test_a_distribution_draws_open_ends_as_wide_as_their_neighbours() -> None:
    frame = pd.DataFrame(
        {"from": [np.nan, -1.0, 0.0, 1.0], "to": [-1.0, 0.0, 1.0, np.nan], "n": [1, 2, 3, 4], "plan": "basic"}
    )
    fig = charts.distribution(
        frame, low="from", high="to", y="n", unit=charts.ACCOUNTS, x_title="surplus, days", series="plan", tolerance=3.0
    )
    assert list(fig.data[0].x) == [-1.5, -0.5, 0.5, 1.5]
    assert list(fig.data[0].width) == [1.0] * 4
    assert fig.layout.yaxis.range[0] == 0
    assert (fig.layout.xaxis.title.text, fig.layout.yaxis.title.text) == ("surplus, days", "accounts")
    assert fig.data[0].hovertext[0].endswith("below −1")
    assert fig.data[0].hovertext[3] == f"<b>Basic</b> 4{N}accounts · 40.0{N}% of all<br>1 and above"


# --------------------------------------------------------------------------------------------------------------- cells


def test_every_known_cell_can_be_clicked_and_names_itself() -> None:
    frame = pd.DataFrame({"g": ["a", "a", "b"], "m": ["x", "y", "x"], "v": [0.5, None, 0.0]})
    fig = charts.cell_map(
        frame, row="g", column="m", value="v", unit=charts.SHARE, row_title="genre", column_title="mood"
    )
    heat, squares = fig.data
    assert heat.z == ([50.0, None], [0.0, None])
    assert squares.marker.symbol == "square"
    assert squares.marker.opacity == 0.01
    assert [list(pair) for pair in squares.customdata] == [["a", "x"], ["a", "y"], ["b", "x"]]
    assert list(squares.text) == [f"50.0{N}%".removesuffix(f"{N}%"), "–", "0.0"]
    assert (fig.layout.hovermode, fig.layout.hoverdistance) == ("closest", -1)
    assert heat.zmin == 0


def test_the_week_begins_on_monday() -> None:
    frame = pd.DataFrame({"dow": [1, 7], "hour": [0, 23], "v": [1.0, 3.0]})
    fig = charts.hour_of_week(frame, weekday="dow", hour="hour", value="v", unit=BURN, zone_name="Europe/Berlin")
    assert fig.data[0].z[0][0] == 1.0
    assert fig.data[0].z[6][23] == 3.0
    assert list(fig.data[1].hovertext)[1] == f"<b>Sun 23:00–00:00</b><br>3{N}credits · 75.0{N}% of the week"
    assert fig.layout.xaxis.title.text == "hour of day, Europe/Berlin"


def test_the_s_curve_shows_live_draft_and_targets() -> None:
    frame = pd.DataFrame({"surplus": [-100.0, 0.0, 100.0], "p_live": [0.4, 0.5, 0.6], "p_draft": [0.1, 0.5, 0.9]})
    fig = charts.s_curve(frame, targets=[charts.Target(50, 0.8), charts.Target(-50, 0.2)], bounds=(0.02, 0.98))
    assert list(named(fig, "Draft").y) == [10.0, 50.0, 90.0]
    assert list(named(fig, "Target").x) == [50, -50]
    assert list(fig.layout.yaxis.range) == [0, 100]
    assert fig.layout.xaxis.title.text == "surplus, credits"
    assert fig.layout.yaxis.title.text == "chance of a fresh one, %"
    assert [text.split("</span> ")[1] for text in notes(fig, "guide")] == [
        f"lowest 2.0{N}%",
        f"highest 98.0{N}%",
    ]


# ------------------------------------------------------------------------------------------------------- colour and size


def test_a_name_has_one_colour_everywhere() -> None:
    assert charts.colour("basic") == charts.colour("Basic") == charts.BLUE
    assert charts.colour("live") == charts.GREY
    assert charts.colour("studio") == charts.colour("studio")
    assert charts.colour("studio") in style.PALETTE
    assert style.YELLOW not in {charts.colour(f"name {i}") for i in range(500)}


def test_names_shown_together_differ_and_a_filter_does_not_recolour_them() -> None:
    domain = ["free", "basic", "alpha", "beta", "gamma"]
    everybody = charts.colours(domain)
    assert len(set(everybody.values())) == 5
    assert charts.colours(["gamma"], domain) == {"gamma": everybody["gamma"]}


def test_colours_of_the_theme_are_those_streamlit_replaces() -> None:
    assert style.TEXT == streamlit_plotly_theme.GRAY_90
    assert style.PAGE == streamlit_plotly_theme.BG_COLOR


def test_a_long_series_is_thinned_and_keeps_its_extremes_and_gaps() -> None:
    values = np.sin(np.arange(50_000) / 50)
    values[20_000] = 9.0
    values[30_000] = -9.0
    values[40_000:40_100] = np.nan
    frame = pd.DataFrame({"at": pd.date_range("2025-01-01", periods=50_000, freq="min"), "v": values})
    thin = sampling.thinned(frame, "v")
    assert len(thin) <= 2_000
    assert (thin["v"].max(), thin["v"].min()) == (9.0, -9.0)
    assert thin["v"].isna().any()
    assert list(thin.index[[0, -1]]) == [0, 49_999]
    assert thin.index.is_monotonic_increasing
    fig = charts.time_lines(frame, x="at", y="v", unit=BURN, zone=BERLIN, step=timedelta(minutes=1))
    assert len(fig.data[0].x) <= 2_000
    assert fig.data[0].type == "scatter"


def test_short_series_are_left_alone() -> None:
    assert sampling.thinned(TWO, "value") is TWO


def test_on_a_phone_a_legend_replaces_labels_and_nothing_is_dragged() -> None:
    fig = charts.time_lines(TWO, x="day", y="value", series="plan", unit=BURN, zone=BERLIN, target=60.0)
    fig = charts.compact(fig)
    assert notes(fig, "label") == []
    assert (fig.layout.showlegend, fig.layout.dragmode) == (True, False)
    guide = next(a for a in fig.layout.annotations if a.name == "guide")
    assert (guide.x, guide.xanchor) == (0, "left")


@pytest.mark.parametrize("rows", [0, 1])
def test_nothing_and_one_point_are_drawn(rows: int) -> None:
    frame = TWO.head(rows).assign(pace=1.0, p=0.5, low=0.0, high=1.0)
    draw = {"unit": BURN, "zone": BERLIN}
    figures = [
        charts.time_lines(frame, x="day", y="value", series="plan", span=SPAN, **draw),
        charts.time_lines(frame, x="day", y="value", pace="pace", **draw),
        charts.stacked_bars(frame, x="day", y="value", series="plan", pace="pace", **draw),
        charts.burn_against_pace(frame, x="day", burned="value", pace="pace", **draw),
        charts.quantile_bands(frame, x="day", median="value", inner=("low", "high"), outer=("low", "high"), **draw),
        charts.ranked_bars(frame, label="plan", value="value", unit=BURN),
        charts.distribution(frame, low="low", high="high", y="value", unit=BURN, x_title="x", series="plan"),
        charts.cell_map(frame, row="plan", column="plan", value="value", unit=BURN, row_title="a", column_title="b"),
        charts.s_curve(frame.assign(surplus=1.0), live="p", draft=None),
    ]
    for fig in figures:
        json.loads(charts.compact(fig).to_json())
    assert charts.sparkline(frame["value"].tolist()).startswith("<svg")
