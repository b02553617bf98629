"""DataFrame → figure: every figure of the dashboard is made here and nowhere else.

Functions of data alone: they import neither Streamlit nor the store. Values come in as the queries give them (credits,
shares in [0, 1], days) with the :class:`Unit` that says how they are shown; instants are drawn in the reporting zone.
What users wrote (names, notes) is shown literally. :func:`compact` makes the phone's version of any figure, and
``pages.components.plots.show`` puts it on a page.
"""

from pages.components.charts.annotations import Mark, compact, marks_from
from pages.components.charts.bars import distribution, ranked_bars, stacked_bars
from pages.components.charts.cells import cell_map, hour_of_week
from pages.components.charts.courses import course
from pages.components.charts.curves import Target, calibration, cycle_days, demand_by_coverage, s_curve
from pages.components.charts.drawing import Figure
from pages.components.charts.lines import DAY, HOUR, burn_against_pace, quantile_bands, time_lines
from pages.components.charts.money import funnel, waterfall
from pages.components.charts.pictures import sparkline
from pages.components.charts.style import (
    ACCOUNTS,
    BLUE,
    COUNT,
    CREDITS,
    DAYS,
    DECISIONS,
    DOLLARS,
    GENERATIONS,
    GREEN,
    GREY,
    LATENCY,
    MILLISECONDS,
    ORANGE,
    PURPLE,
    REQUESTS,
    SHARE,
    SKY,
    SURPLUS_DAYS,
    VERMILLION,
    Unit,
    colour,
    colours,
    same_scale,
)
from pages.components.charts.trade import survival, trade_off

__all__ = [
    "ACCOUNTS",
    "BLUE",
    "COUNT",
    "CREDITS",
    "DAY",
    "DAYS",
    "DECISIONS",
    "DOLLARS",
    "GENERATIONS",
    "GREEN",
    "GREY",
    "HOUR",
    "LATENCY",
    "MILLISECONDS",
    "ORANGE",
    "PURPLE",
    "REQUESTS",
    "SHARE",
    "SKY",
    "SURPLUS_DAYS",
    "VERMILLION",
    "Figure",
    "Mark",
    "Target",
    "Unit",
    "burn_against_pace",
    "calibration",
    "cell_map",
    "colour",
    "colours",
    "compact",
    "course",
    "cycle_days",
    "demand_by_coverage",
    "distribution",
    "funnel",
    "hour_of_week",
    "marks_from",
    "quantile_bands",
    "ranked_bars",
    "s_curve",
    "same_scale",
    "sparkline",
    "stacked_bars",
    "survival",
    "time_lines",
    "trade_off",
    "waterfall",
]
