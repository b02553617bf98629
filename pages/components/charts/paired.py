"""Two configurations side by side over time: live in grey, the draft in blue."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd

from pages.components.charts.drawing import Figure, kept, scatter
from pages.components.charts.lines import DAY, quantile_bands, time_lines
from pages.components.charts.style import CREDITS, GREY, SURPLUS_DAYS, localise

LIVE, DRAFT = "live", "draft"


@kept
def paired_bands(frame: pd.DataFrame, *, zone: ZoneInfo, span: tuple[Any, Any] | None = None) -> Figure:
    """Surplus days: the draft's bands and median in blue, live's median and outer edges dotted in grey.

    ``frame`` [day, side, p05, p25, p50, p75, p95]; without a draft live's own bands are drawn.
    """
    live, draft = (frame[frame["side"] == side] for side in (LIVE, DRAFT))
    fig = quantile_bands(
        draft if len(draft) else live, x="day", median="p50", inner=("p25", "p75"), outer=("p05", "p95"), unit=SURPLUS_DAYS,
        zone=zone, span=span, height=300,
    )  # fmt: skip
    if len(draft) and len(live):
        times = (localise(live["day"], zone) + timedelta(hours=12)).map(lambda time: time.isoformat()).tolist()
        for column, width, name in (("p05", 1.2, ""), ("p95", 1.2, ""), ("p50", 2.2, "Live, median")):
            fig.add_trace(
                scatter(
                    x=times, y=SURPLUS_DAYS.shown(live[column]), mode="lines", name=name, showlegend=False,
                    line={"color": GREY, "width": width, "dash": "dot"},
                    hovertemplate=f"<b>{name}</b> %{{y:+.1f}} days<extra></extra>" if name else None,
                    hoverinfo=None if name else "skip",
                )
            )  # fmt: skip
        low, high = fig.layout["yaxis"]["range"]
        fig.update_yaxes(range=[min(low, 1.07 * live["p05"].min()), max(high, 1.07 * live["p95"].max())])
    return fig


def paired_burn(frame: pd.DataFrame, *, zone: ZoneInfo, span: tuple[Any, Any] | None = None) -> Figure:
    """Credits spent from the period's start on, live and draft, against what the quotas afford (dashed).

    ``frame`` [day, side, credits, pace].
    """
    return time_lines(
        frame, x="day", y="credits", series="side", unit=CREDITS.titled("credits from the period's start"), zone=zone, step=DAY,
        pace="pace", span=span, zero=True, height=300,
    )  # fmt: skip
