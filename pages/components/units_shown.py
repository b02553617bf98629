"""In which unit a metric is drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from credit_core.analytics.metrics import Metric
from pages.components import charts, filters
from pages.components.text import figure_text

_UNITS: Mapping[str, charts.Unit] = {
    "credits": charts.CREDITS,
    "dollars": charts.DOLLARS,
    "share": charts.SHARE,
    "days": charts.DAYS,
    "count": charts.COUNT,
    "ms": charts.LATENCY,
}


def unit_of(metric: Metric) -> charts.Unit:
    """How a metric's values are drawn. The axis says what they are, and their unit."""
    unit = _UNITS[metric.format]
    if metric.format == "share":
        return unit.titled(f"{metric.title.lower()}, %")
    if metric.format == "ms":
        return unit.titled(f"{metric.title.lower()}, seconds")
    if metric.format == "count":
        return replace(unit, title=metric.unit)
    if metric.format == "credits":
        return unit.titled(figure_text(metric.unit.replace("credits", filters.credit_words(), 1)))
    return unit.titled(metric.unit)
