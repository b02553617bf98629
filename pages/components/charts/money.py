"""Where money comes from and goes to, and how far people get: bars in a given order."""

from __future__ import annotations

from typing import Any

import pandas as pd

from pages.components import numbers
from pages.components.charts.drawing import Figure, bar, kept, scatter
from pages.components.charts.style import BLUE, GREY, GUIDE, ORANGE, SKY, TEXT, VERMILLION, Unit, figure, series_title
from pages.components.text import figure_text


@kept
def waterfall(frame: pd.DataFrame, *, step: str, amount: str, total: str, unit: Unit) -> Figure:
    """Amounts one after the other in the frame's order, from the top; rows whose ``total`` is true begin at 0 again.

    An unknown amount has no bar and is written '–'; what follows it begins at the last known level.
    """
    fig = figure(height=72 + 40 * len(frame), x_title=unit.title)
    level, bases, sizes, tints, ends = 0.0, [], [], [], []
    for name, value, stands in zip(frame[step], frame[amount], frame[total], strict=True):
        known = not pd.isna(value)
        size = float(value) * unit.scale if known else 0.0
        bases.append(0.0 if stands else level)
        sizes.append(size)
        level = (size if known else level) if stands else level + size
        ends.append(max(bases[-1], bases[-1] + size))
        tints.append(VERMILLION if size < 0 and stands else _colour_of(name, stands))
    names = [series_title(name) for name in frame[step]]
    places = [f"{place}" for place in range(len(names))]
    hover = [
        f"<b>{figure_text(name)}</b><br>{unit.text(value)}" for name, value in zip(names, frame[amount], strict=True)
    ]
    fig.add_trace(
        bar(
            x=sizes, y=places, base=bases, orientation="h", marker={"color": tints, "line": {"width": 0}},
            hovertext=hover, hovertemplate="%{hovertext}<extra></extra>", customdata=[str(name) for name in frame[step]],
        )
    )  # fmt: skip
    fig.add_trace(_beside(ends, places, [f" {unit.bare(value)}" for value in frame[amount]]))
    low = min([0.0, *(base + size for base, size in zip(bases, sizes, strict=True))])
    high = max([0.0, *ends])
    fig.update_xaxes(range=[1.05 * low, high + 0.3 * ((high - low) or 1.0)], zeroline=True, zerolinecolor=GUIDE)
    _in_order(fig, names, places)
    return fig


def _beside(ends: list[float], places: list[str], written: list[str]) -> dict[str, Any]:
    return scatter(
        x=ends, y=places, mode="text", text=written, textposition="middle right", hoverinfo="skip", cliponaxis=False,
        textfont={"size": 12, "color": TEXT},
    )  # fmt: skip


def _in_order(fig: Figure, names: list[str], places: list[str]) -> None:
    fig.update_layout(hovermode="closest", bargap=0.35)
    fig.update_xaxes(showgrid=True, showline=False, nticks=5)
    fig.update_yaxes(
        type="category", showgrid=False, autorange="reversed", tickvals=places,
        ticktext=[figure_text(name, 24) for name in names],
    )  # fmt: skip


def _colour_of(step: object, stands: bool) -> str:
    """Sums in one colour, what was earned by use paler, what nobody used grey, costs apart."""
    return {"breakage": GREY, "provider_cost": ORANGE}.get(str(step), BLUE if stands else SKY)


@kept
def funnel(frame: pd.DataFrame, *, step: str, count: str, before: str, unit: Unit) -> Figure:
    """Bars in the frame's order, each with its number and its share of those ``before``."""
    fig = figure(height=72 + 44 * len(frame), x_title=unit.title)
    names = [series_title(name) for name in frame[step]]
    places = [f"{place}" for place in range(len(names))]
    written = []
    for number, former in zip(frame[count], frame[before], strict=True):
        part = "" if pd.isna(former) or not former else f" · {numbers.share(number / former)}"
        written.append(f" {numbers.count(number)}{part}")
    fig.add_trace(
        bar(
            x=unit.shown(frame[count]), y=places, orientation="h", marker={"color": BLUE, "line": {"width": 0}},
            hovertext=[f"<b>{figure_text(name)}</b>{text}" for name, text in zip(names, written, strict=True)],
            hovertemplate="%{hovertext}<extra></extra>",
        )
    )  # fmt: skip
    fig.add_trace(_beside([value or 0.0 for value in unit.shown(frame[count])], places, written))
    fig.update_xaxes(range=[0, float(frame[count].max() or 1) * 1.35])
    _in_order(fig, names, places)
    return fig
