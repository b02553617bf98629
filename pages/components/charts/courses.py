"""A value that holds until the next event changes it: a balance."""

from __future__ import annotations

from datetime import timedelta
from zoneinfo import ZoneInfo

import pandas as pd

from pages.components import numbers
from pages.components.charts.drawing import Figure, kept, scatter
from pages.components.charts.sampling import thinned
from pages.components.charts.style import BLUE, Unit, as_time_axis, faded, figure, headroom, localise

_ANY = timedelta(hours=1)


@kept
def course(frame: pd.DataFrame, *, x: str, y: str, unit: Unit, zone: ZoneInfo, height: int = 220) -> Figure:
    """``y`` after each instant ``x`` (ascending), drawn as steps down to 0."""
    rows = thinned(frame.reset_index(drop=True), y)
    times = localise(rows[x], zone)
    values = unit.shown(rows[y])
    hover = [
        f"<b>{unit.text(value)}</b><br>{numbers.instant(at, zone)}" for at, value in zip(rows[x], values, strict=True)
    ]
    fig = figure(height=height, y_title=unit.title)
    fig.add_trace(
        scatter(
            x=[time.isoformat() for time in times], y=values, mode="lines", line={"color": BLUE, "width": 2, "shape": "hv"},
            fill="tozeroy", fillcolor=faded(BLUE, 0.10), hovertext=hover, hovertemplate="%{hovertext}<extra></extra>", showlegend=False,
        )
    )  # fmt: skip
    as_time_axis(fig, _ANY, zone, None)
    fig.update_yaxes(range=headroom(values, zero=True))
    return fig
