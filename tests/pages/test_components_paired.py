"""Live and draft in one figure."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pandas as pd

from pages.components.charts import paired
from pages.components.charts.style import BLUE, GREY
from tests.pages.figures import Checked

charts = Checked(paired)
ZONE = ZoneInfo("Europe/Berlin")
DAYS = pd.to_datetime(["2025-03-28", "2025-03-29", "2025-03-30"])


def bands(side: str, median: float) -> pd.DataFrame:
    quantiles = {"p05": -4.0, "p25": -1.0, "p50": median, "p75": 3.0, "p95": 9.0}
    return pd.DataFrame({"day": DAYS, "side": side} | quantiles)


def named(fig: object) -> dict[str, object]:
    return {trace.name: trace for trace in fig.data if trace.name}  # type: ignore[attr-defined]


def test_the_draft_has_bands_and_live_dotted_edges() -> None:
    fig = charts.paired_bands(pd.concat([bands("live", 1.0), bands("draft", 2.0)]), zone=ZONE)
    drawn = named(fig)
    assert (list(drawn["Median"].y), drawn["Median"].line.color) == ([2.0] * 3, BLUE)
    assert (list(drawn["Live, median"].y), drawn["Live, median"].line.color) == ([1.0] * 3, GREY)
    dotted = [trace for trace in fig.data if trace.line.dash == "dot" and trace.line.color == GREY]
    assert sorted(trace.y[0] for trace in dotted) == [-4.0, 1.0, 9.0]


def test_what_only_live_reaches_is_in_sight() -> None:
    wide = bands("live", 1.0).assign(p05=-40.0, p95=90.0)
    low, high = charts.paired_bands(pd.concat([wide, bands("draft", 2.0)]), zone=ZONE).layout.yaxis.range
    assert low < -40.0
    assert high > 90.0


def test_without_a_draft_live_has_the_bands() -> None:
    drawn = named(charts.paired_bands(bands("live", 1.0), zone=ZONE))
    assert list(drawn["Median"].y) == [1.0] * 3
    assert "Live, median" not in drawn


def test_burn_is_drawn_for_both_against_pace() -> None:
    rows = [
        {"day": day, "side": side, "credits": place * of, "pace": place * 30.0}
        for side, of in (("live", 10.0), ("draft", 12.0))
        for place, day in enumerate(DAYS, start=1)
    ]
    drawn = named(charts.paired_burn(pd.DataFrame(rows), zone=ZONE))
    assert list(drawn["Live"].y) == [10.0, 20.0, 30.0]
    assert list(drawn["Draft"].y) == [12.0, 24.0, 36.0]
    assert list(drawn["Pace"].y) == [30.0, 60.0, 90.0]
    assert (drawn["Live"].line.color, drawn["Draft"].line.color) == (GREY, BLUE)
