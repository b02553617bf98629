"""Figures as Plotly's own objects: what the charts draw goes through Plotly's check of every property."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import orjson
import plotly.graph_objects as go

from pages.components import charts


class Checked:
    """The functions of a module of charts; a figure that one of them draws comes out checked, as Plotly's own."""

    def __init__(self, module: ModuleType = charts) -> None:
        self._module = module
        self._drawn: list[tuple[go.Figure, charts.Figure]] = []

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._module, name)
        return self._checking(found) if callable(found) and name.islower() else found

    def _checking(self, draw: Callable[..., Any]) -> Callable[..., Any]:
        def drawn(*args: Any, **named: Any) -> Any:
            figure = draw(*(self._ours(value) for value in args), **named)
            if not isinstance(figure, charts.Figure):
                return figure
            shown = checked(figure)
            self._drawn.append((shown, figure))
            return shown

        return drawn

    def _ours(self, value: Any) -> Any:
        return next((ours for shown, ours in self._drawn if shown is value), value)


def checked(figure: charts.Figure) -> go.Figure:
    """The figure, from its JSON, as Plotly's own. Raises ValueError where Plotly knows no such property."""
    return go.Figure(orjson.loads(figure.json()))
