"""Heat maps: one cell per pair of values, clickable, and the hours of a week."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pages.components import numbers
from pages.components.charts.drawing import Figure, heatmap, kept, scatter
from pages.components.charts.style import BLUE, TEXT, VERMILLION, Unit, faded, figure
from pages.components.text import figure_text

#: Deepest shade of each scale: dark enough to stand out, pale enough for the theme's own text on top of it.
_DEEPEST = {BLUE: 0.68, VERMILLION: 0.78}
#: Names under a heat map; of more columns only every second, third … is named.
MOST_TICKS = 16
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


@kept
def cell_map(
    frame: pd.DataFrame,
    *,
    row: str,
    column: str,
    value: str,
    unit: Unit,
    row_title: str,
    column_title: str,
    tint: str = VERMILLION,
    most: float | None = None,
    detail: Callable[[dict[str, Any]], str] | None = None,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    column_names: Mapping[str, str] | None = None,
) -> Figure:
    """A value per (row, column). A click anywhere in a cell selects it: ``customdata`` is [row, column].

    Cells without a row in ``frame`` stay empty; unknown values show '–'. ``most`` fixes the top of the
    scale, so that two periods can be compared. ``detail`` adds lines to a cell's hover; it must return plain text.
    ``column_names`` is what columns are called on screen.
    """
    down = [str(r) for r in (rows or sorted(frame[row].unique(), key=str))]
    across = [str(c) for c in (columns or sorted(frame[column].unique(), key=str))]
    height = min(900, 96 + max(22, 34 if len(down) <= 14 else 24) * max(1, len(down)))
    fig = figure(height=height, x_title=column_title, y_title=row_title)
    names = column_names or {}
    known = {(str(r[row]), str(r[column])): r for r in frame.to_dict("records")}
    grid = [[_scaled(known.get((r, c), {}).get(value), unit) for c in across] for r in down]
    _heat(fig, across, down, grid, unit, tint, None if most is None else most * unit.scale)
    texts, hover, custom, xs, ys = [], [], [], [], []
    written = len(known) <= 150 and len(across) <= MOST_TICKS
    for r in down:
        for c in across:
            found = known.get((r, c))
            if found is None:
                continue
            xs.append(c)
            ys.append(r)
            texts.append(_short(found[value], unit) if written else "")
            more = "".join(f"<br>{figure_text(line)}" for line in detail(found).split("\n")) if detail else ""
            hover.append(f"<b>{figure_text(r)} × {figure_text(names.get(c, c))}</b><br>{unit.text(found[value])}{more}")
            custom.append([r, c])
    _overlay(fig, xs, ys, texts, hover, custom)
    ticks = across[:: 1 + len(across) // MOST_TICKS]
    fig.update_xaxes(tickvals=ticks, ticktext=[figure_text(names.get(c, c), 14) for c in ticks])
    fig.update_yaxes(tickvals=down, ticktext=[figure_text(r, 18) for r in down])
    return fig


@kept
def hour_of_week(
    frame: pd.DataFrame, *, weekday: str, hour: str, value: str, unit: Unit, zone_name: str, tint: str = BLUE
) -> Figure:
    """A value per hour of the week; ``weekday`` 1 is Monday, ``hour`` 0 to 23 of the reporting zone."""
    fig = figure(height=292, x_title=f"hour of day, {zone_name}", y_title="")
    known = {(int(r[weekday]) - 1, int(r[hour])): r[value] for r in frame.to_dict("records")}
    hours = [f"{h:02d}" for h in range(24)]
    grid = [[_scaled(known.get((d, h)), unit) for h in range(24)] for d in range(7)]
    _heat(fig, hours, list(WEEKDAYS), grid, unit, tint, None)
    pairs = [(d, h) for d in range(7) for h in range(24) if (d, h) in known]
    whole = sum(v for v in known.values() if not pd.isna(v))
    hover = [
        f"<b>{WEEKDAYS[d]} {h:02d}:00–{(h + 1) % 24:02d}:00</b><br>{unit.text(known[d, h])}"
        + (f" · {numbers.share(known[d, h] / whole)} of the week" if whole and not pd.isna(known[d, h]) else "")
        for d, h in pairs
    ]
    _overlay(
        fig, [hours[h] for _, h in pairs], [WEEKDAYS[d] for d, _ in pairs], [""] * len(pairs), hover,
        [[d + 1, h] for d, h in pairs],
    )  # fmt: skip
    fig.update_xaxes(tickvals=hours[::3], ticktext=hours[::3])
    return fig


def _heat(
    fig: Figure, across: list[str], down: list[str], grid: list, unit: Unit, tint: str, top: float | None
) -> None:
    values = np.array(grid, dtype=float) if grid else np.empty((0, 0))
    highest = top if top is not None else (float(np.nanmax(values)) if np.isfinite(values).any() else 1.0)
    fig.add_trace(
        heatmap(
            x=across, y=down, z=grid, zmin=0, zmax=highest or 1.0, xgap=2, ygap=2, hoverinfo="skip",
            hoverongaps=False, colorscale=[[0, faded(tint, 0.04)], [1, faded(tint, _DEEPEST.get(tint, 0.7))]],
            colorbar={
                "title": {"text": unit.title, "side": "right", "font": {"size": 12, "color": TEXT}}, "thickness": 10, "len": 0.92,
                "outlinewidth": 0, "ticksuffix": unit.suffix, "nticks": 5, "tickfont": {"size": 11, "color": TEXT}, "tickformat": ",.3~f",
            },
        )
    )  # fmt: skip
    # The nearest centre wins, however far: on a grid that is the cell under the pointer.
    fig.update_layout(hovermode="closest", hoverdistance=-1, dragmode=False)
    bare = {"type": "category", "showgrid": False, "showline": False, "fixedrange": True, "categoryorder": "array"}
    fig.update_xaxes(bare, categoryarray=across, range=[-0.5, len(across) - 0.5])
    fig.update_yaxes(bare, categoryarray=down, range=[len(down) - 0.5, -0.5], tickvals=down)


def _overlay(fig: Figure, xs: list, ys: list, texts: list[str], hover: list[str], custom: list) -> None:
    """Square markers nobody sees: heat-map cells themselves cannot be clicked in Streamlit."""
    fig.add_trace(
        scatter(
            x=xs, y=ys, mode="markers+text" if any(texts) else "markers", text=texts, textfont={"size": 12, "color": TEXT},
            textposition="middle center", marker={"symbol": "square", "size": 26, "opacity": 0.01, "color": BLUE},
            customdata=custom, hovertext=hover, hovertemplate="%{hovertext}<extra></extra>",
            selected={"marker": {"opacity": 0.01}}, unselected={"marker": {"opacity": 0.01}},
        )
    )  # fmt: skip


def _scaled(value: Any, unit: Unit) -> float | None:
    return None if value is None or pd.isna(value) else float(value) * unit.scale


def _short(value: Any, unit: Unit) -> str:
    """A value that fits into a cell."""
    if value is None or pd.isna(value):
        return numbers.UNKNOWN
    shown = float(value) * unit.scale
    digits = 0 if abs(shown) >= 100 else unit.digits
    return numbers.decimal(shown, digits, trim=unit.suffix != "%")
