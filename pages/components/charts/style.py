"""The one look of every figure: palette, units, base layout, axes.

Backgrounds are transparent and text has no colour of its own, so Streamlit's theme decides both, light and dark. Every
colour set here is readable on either.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd

from pages.components import numbers
from pages.components.charts.drawing import Figure
from pages.components.text import figure_text, title_of

#: Okabe & Ito (2008), the order in which names without a fixed colour take them. Yellow comes last: it is faint on
#: white; their black is a grey here, because black is lost on a dark page.
ORANGE, SKY, GREEN, BLUE = "#E69F00", "#56B4E9", "#009E73", "#0072B2"
VERMILLION, PURPLE, GREY, YELLOW = "#D55E00", "#CC79A7", "#8C8C8C", "#F0E442"
PALETTE = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILLION, GREY, YELLOW)

#: The same name has the same colour on every page.
FIXED_COLOURS: Mapping[str, str] = {
    # plans
    "free": SKY,
    "basic": BLUE,
    "premium": ORANGE,
    "basic_annual": GREEN,
    "premium_annual": PURPLE,
    # plans of other units, which never stand beside those above
    "creator_free": SKY,
    "creator_pro": BLUE,
    "studio_pro": ORANGE,
    "studio_enterprise": GREEN,
    "prepaid": BLUE,
    "daily": BLUE,
    "daily_premium": ORANGE,
    "guest": GREEN,
    # models
    "dalle-3-hd": PURPLE,
    "stable-diffusion-xl": SKY,
    # what a request got
    "fresh": BLUE,
    "library": ORANGE,
    "deferred": PURPLE,
    "rejected": VERMILLION,
    "declined": VERMILLION,
    "rate_limited": GREY,
    "miss": VERMILLION,
    "partial": SKY,
    "released": GREY,
    "settled": GREEN,
    "held": SKY,
    "failed": VERMILLION,
    "refunded": PURPLE,
    # pace
    "behind": VERMILLION,
    "on_pace": GREY,
    "ahead": BLUE,
    "conserve": VERMILLION,
    "steady": GREY,
    "spend": BLUE,
    # run-out risk
    "low": GREEN,
    "medium": ORANGE,
    "high": VERMILLION,
    # money
    "revenue": BLUE,
    "provider_cost": ORANGE,
    # lots
    "monthly": BLUE,
    "rollover": SKY,
    "welcome": GREEN,
    "bonus": PURPLE,
    "purchased": ORANGE,
    "backfill": GREY,
    # two configurations side by side
    "live": GREY,
    "draft": BLUE,
    "other": GREY,
}

#: The theme's own text, dark on light and light on dark: Streamlit puts its colour in the place of this one, which is
#: readable on white where nobody does. (``streamlit.elements.lib.streamlit_plotly_theme.GRAY_90``; a test compares.)
TEXT = "#000037"
#: The theme's page background, by the same means (``BG_COLOR``).
PAGE = "#000038"
#: Pace, targets and bounds: dashed, and grey enough to be read on white and on black.
GUIDE = "#8A8A8A"
FAINT = "rgba(138, 138, 138, 0.14)"
RULE = "rgba(138, 138, 138, 0.28)"
HEIGHT = 320


def colour(name: object) -> str:
    """The colour of a plan, model, outcome …: fixed where known, else always the same one for the same name."""
    key = str(name).strip().lower().replace(" ", "_")
    return FIXED_COLOURS.get(key) or PALETTE[zlib.crc32(key.encode()) % (len(PALETTE) - 1)]


def colours(names: Iterable[object], domain: Iterable[object] = ()) -> dict[str, str]:
    """Colours for names shown together. Names without a fixed colour that would clash take the next free one.

    ``domain`` is every value the dimension has; give it so that a filter does not change who clashes with whom.
    """
    wanted = [str(name) for name in names]
    taken: dict[str, str] = {}
    fixed = {name: FIXED_COLOURS.get(name.strip().lower().replace(" ", "_")) for name in {*wanted, *map(str, domain)}}
    used = {c for c in fixed.values() if c}
    for name in sorted(fixed):
        if fixed[name]:
            taken[name] = fixed[name] or GREY
            continue
        start = PALETTE.index(colour(name))
        ring = [PALETTE[(start + step) % len(PALETTE)] for step in range(len(PALETTE))]
        taken[name] = next((c for c in ring if c not in used), ring[0])
        used.add(taken[name])
    return {name: taken[name] for name in wanted}


def faded(hex_colour: str, alpha: float) -> str:
    """``#RRGGBB`` with an opacity."""
    red, green, blue = (int(hex_colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {alpha:g})"


@dataclass(frozen=True, slots=True)
class Unit:
    """How a column becomes an axis: title, factor from the column to the axis, and how one value is written.

    ``write`` names the unit, ``bare`` leaves it to the axis.
    """

    title: str
    scale: float
    write: Callable[[Any], str]
    bare: Callable[[Any], str]
    suffix: str = ""
    digits: int = 1

    def per(self, span: str) -> Unit:
        """The same unit as a rate: ``CREDITS.per("day")`` → 'credits a day'."""
        return replace(self, title=f"{self.title} {'an' if span[0] in 'aeiou' or span == 'hour' else 'a'} {span}")

    def titled(self, title: str) -> Unit:
        """The same unit under another axis title."""
        return replace(self, title=title)

    def shown(self, values: Iterable[Any]) -> list[float | None]:
        """A column as axis values; unknown ones are None, so that gaps stay gaps."""
        return [None if pd.isna(v) else float(v) * self.scale for v in values]

    def text(self, value: Any) -> str:
        """One value for a hover box, with its unit."""
        if value is None or pd.isna(value):
            return numbers.UNKNOWN
        return self.write(value)


CREDITS = Unit("credits", 1.0, numbers.in_credits, numbers.short)
DOLLARS = Unit("dollars", 1.0, numbers.in_dollars, numbers.in_dollars, digits=2)
SHARE = Unit("share, %", 100.0, numbers.share, numbers.share, suffix="%")
DAYS = Unit("days", 1.0, numbers.days, numbers.short)
SURPLUS_DAYS = DAYS.titled("surplus, days")
COUNT = Unit("count", 1.0, numbers.count, numbers.count, digits=0)
ACCOUNTS = replace(COUNT, title="accounts", write=lambda n: numbers.counted(n, "account"))
REQUESTS = replace(COUNT, title="requests", write=lambda n: numbers.counted(n, "request"))
GENERATIONS = replace(COUNT, title="generations", write=lambda n: numbers.counted(n, "generation"))
DECISIONS = replace(COUNT, title="decisions", write=lambda n: numbers.counted(n, "decision"))
#: Milliseconds in the data, seconds on the axis: latencies of generations.
LATENCY = Unit("seconds", 0.001, numbers.milliseconds, numbers.milliseconds)
MILLISECONDS = Unit("milliseconds", 1.0, numbers.milliseconds, numbers.count, digits=0)


def figure(*, height: int = HEIGHT, x_title: str = "", y_title: str = "") -> Figure:
    """An empty figure in the house's look."""
    axis = {
        "showgrid": True,
        "gridcolor": RULE,
        "gridwidth": 1,
        "zeroline": False,
        "showline": False,
        "automargin": True,
        "ticks": "",
        "fixedrange": False,
        "tickfont": {"size": 12, "color": TEXT},
        "tickformat": ",.3~f",
    }
    title = {"standoff": 10, "font": {"size": 12, "color": TEXT}}
    layout = {
        "template": {},
        "height": height,
        "margin": {"l": 8, "r": 16, "t": 12, "b": 8, "pad": 2},
        "font": {"color": TEXT},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "separators": "." + numbers.THIN,
        "showlegend": False,
        "hovermode": "x unified",
        "hoverlabel": {"align": "left", "namelength": -1, "font": {"size": 12, "color": TEXT}},
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": GUIDE, "activecolor": GUIDE},
        "dragmode": "zoom",
        "bargap": 0.2,
        "legend": {
            "orientation": "h",
            "x": 0,
            "y": 1.08,
            "yanchor": "bottom",
            "font": {"size": 12, "color": TEXT},
            "title": {"text": ""},
            "traceorder": "normal",
        },
        "xaxis": axis | {"showgrid": False, "showline": True, "linecolor": RULE, "title": title | {"text": x_title}},
        "yaxis": axis | {"nticks": 6, "title": title | {"text": y_title}},
    }
    return Figure(layout)


def localise(values: Iterable[Any], zone: ZoneInfo) -> pd.Series:
    """Instants as wall-clock times of the reporting zone, which is how Plotly draws them. Days pass unchanged."""
    series = pd.Series(pd.to_datetime(pd.Series(list(values))))
    if series.dt.tz is None:
        return series
    return series.dt.tz_convert(zone).dt.tz_localize(None)


def picked_by(times: Iterable[Any], series: object) -> list[list[str]]:
    """What a click on each point of a series over time gives: [day, series]."""
    return [[pd.Timestamp(time).date().isoformat(), str(series)] for time in times]


def same_scale(figures: Iterable[Figure]) -> None:
    """Give small multiples one value axis: x of horizontal bars, else y."""
    axes = [fig.layout[_value_axis(fig)] for fig in figures]
    ranges = [axis["range"] for axis in axes if axis.get("range")]
    for axis in axes:
        if ranges:
            axis["range"] = [min(low for low, _ in ranges), max(high for _, high in ranges)]


def _value_axis(fig: Figure) -> str:
    return "xaxis" if fig.data and fig.data[0].get("orientation") == "h" else "yaxis"


_STEPS = {
    timedelta(minutes=1): "minute",
    timedelta(minutes=15): "quarter hour",
    timedelta(hours=1): "hour",
    timedelta(days=1): "day",
    timedelta(days=7): "week",
}


def as_time_axis(
    fig: Figure, step: timedelta, zone: ZoneInfo, span: tuple[Any, Any] | None, dotted: str = "", dashed: str = ""
) -> None:
    """Make x a time axis over ``span`` (instants), in whole steps. Its title names the zone and what the lines mean."""
    long = step >= timedelta(days=1)
    styles = [f"{style}: {figure_text(name)}" for style, name in (("dotted", dotted), ("dashed", dashed)) if name]
    legend = f" ({', '.join(styles)})" if styles else ""
    fig.update_xaxes(
        type="date",
        title={"text": f"{_STEPS.get(step, 'time')}, {zone.key}{legend}"},
        tickformat=None,
        hoverformat="%a %-d %b %Y" if long else "%a %-d %b, %H:%M",
        nticks=9,
    )
    years = False
    if span is not None:
        start, end = localise(span, zone)
        whole = "D" if long else "h" if step >= timedelta(hours=1) else "min"
        start, end = start.floor(whole), end.ceil(whole)
        years = start.year != end.year
        fig.update_xaxes(range=[start.isoformat(), end.isoformat()])
    fig.update_xaxes(
        tickformatstops=[
            {"dtickrange": [None, 43_200_000], "value": "%H:%M\n%-d %b"},
            {"dtickrange": [43_200_001, "M1"], "value": "%-d %b\n%Y" if years else "%-d %b"},
            {"dtickrange": ["M1", None], "value": "%b\n%Y"},
        ]
    )


def unfinished(times: Iterable[Any], step: timedelta, zone: ZoneInfo, span: tuple[Any, Any] | None) -> list[bool]:
    """Which steps, given by their local starts, the period ends in the middle of: what they hold is not all yet."""
    if span is None:
        return [False for _ in times]
    end = localise(span, zone).iloc[1]
    return [start < end < start + step for start in times]


def headroom(values: Iterable[float | None], *, zero: bool) -> tuple[float, float]:
    """The y range for values, with air above (and below, where it does not start at zero)."""
    known = [v for v in values if v is not None and not pd.isna(v)]
    if not known:
        return (0.0, 1.0)
    low, high = min(known), max(known)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    span = (high - low) or abs(high) or 1.0
    return (low if zero and low == 0.0 else low - 0.07 * span, high + 0.1 * span)


def series_title(name: object) -> str:
    """A series' name for people: plan and outcome slugs become words."""
    return title_of(str(name))
