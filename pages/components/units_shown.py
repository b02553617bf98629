"""In which unit a metric is drawn, and which credits may be added up: those of one unit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import streamlit as st

from credit_core.analytics.filters import Filters
from credit_core.analytics.metrics import Metric
from pages.components import charts, session
from pages.components.text import title_of

_UNITS: Mapping[str, charts.Unit] = {
    "credits": charts.CREDITS,
    "dollars": charts.DOLLARS,
    "share": charts.SHARE,
    "days": charts.DAYS,
    "count": charts.COUNT,
    "ms": charts.LATENCY,
}
CREDIT_UNIT = "credit_unit"


def unit_of(metric: Metric) -> charts.Unit:
    """How a metric's values are drawn. The axis says what they are, and their unit."""
    unit = _UNITS[metric.format]
    if metric.format == "share":
        return unit.titled(f"{metric.title.lower()}, %")
    if metric.format == "ms":
        return unit.titled(f"{metric.title.lower()}, seconds")
    if metric.format == "count":
        return replace(unit, title=metric.unit)
    return unit.titled(metric.unit)


def credit_units(chosen: Filters) -> dict[str, tuple[str, ...]]:
    """Credit unit → the plans behind the filter that count in it. Plans that left the catalogue are units of their own."""
    plans = session.core().deployment.catalog.plans
    found: dict[str, list[str]] = {}
    for name in chosen.plans or session.options().plans:
        found.setdefault(plans[name].credit_unit if name in plans else name, []).append(name)
    return {unit: tuple(names) for unit, names in sorted(found.items())}


def of_one_unit(chosen: Filters) -> Filters:
    """The filters narrowed to plans of one credit unit, which a control asks for where there are several."""
    units = credit_units(chosen)
    if len(units) < 2:
        return chosen
    largest = sorted(units, key=lambda unit: (-len(units[unit]), unit))
    unit = st.selectbox(
        "Credit unit", largest, format_func=title_of, key=CREDIT_UNIT, bind="query-params", width=160,
        help="Credits of different units are never added up.",
    )  # fmt: skip
    return chosen.narrowed(plans=units[unit])
