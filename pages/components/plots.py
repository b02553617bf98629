"""Putting a figure on a page: its key, its description for screen readers, what a click or a box on it does."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from datetime import date, datetime, timedelta
from html import escape
from typing import Any

import orjson
import streamlit as st
from plotly.basedatatypes import BaseFigure

from pages.components.charts import Figure, compact

_CONFIG: dict[str, Any] = {
    "displaylogo": False,
    "displayModeBar": "hover",
    "modeBarButtonsToRemove": ["lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d", "select2d", "pan2d"],
    "typesetMath": False,
    "scrollZoom": False,
    "doubleClick": "reset",
}
_ROUND = "_round_"

#: Called with the ``customdata`` of the point, bar or cell that was clicked.
OnClick = Callable[[Any], None]
#: Called with the first and last day of the box that was drawn.
OnDays = Callable[[date, date], None]


def on_phone() -> bool:
    """Whether the browser says it is a phone's: figures are then drawn without dragging and with a legend."""
    return "Mobi" in (st.context.headers.get("User-Agent") or "")


def show(fig: Figure, *, key: str, alt: str, on_click: OnClick | None = None, on_days: OnDays | None = None) -> None:
    """Show a figure under ``key``. ``alt`` says in a sentence what it shows.

    ``on_click`` is called with the ``customdata`` of what was clicked, ``on_days`` with the days of a box drawn over
    time (on a desktop). Both are callbacks, before the page runs again: they may set filters. A selection is used up by
    its callback, so the same bar can be clicked again.
    """
    # A figure keeps its selection as long as its key: the key changes once a selection was used.
    round_ = st.session_state.setdefault(f"{_ROUND}{key}", 0)
    config = _CONFIG | {"toImageButtonOptions": {"format": "png", "scale": 2, "filename": key}}
    if on_phone():
        fig = fig.changed(_compacted, "compact")
        on_days = None
        config["displayModeBar"] = False
    modes = [mode for mode, wanted in (("points", on_click), ("box", on_days)) if wanted]
    if on_days is not None:
        fig = fig.changed(_boxed, "boxed")
    written, widget = fig.written(), f"{key}-{round_}"
    # Streamlit must be told the height: it finds none in what is written already, and the browser would draw each figure once in
    # its own height and again in Streamlit's.
    shown: dict[str, Any] = {
        "width": "stretch", "height": written.height or "content", "key": widget, "config": config, "alt": alt,
    }  # fmt: skip
    if not modes:
        st.plotly_chart(_Ready(written.json), **shown)
        return

    def used() -> None:
        selection = st.session_state[widget]["selection"]
        st.session_state[f"{_ROUND}{key}"] = round_ + 1
        boxes, points = selection.get("box") or [], selection.get("points") or []
        if boxes and on_days is not None:
            on_days(*days_of(boxes[0]["x"]))
        elif points and on_click is not None:
            on_click(points[0].get("customdata"))

    st.plotly_chart(_Ready(written.json), **shown, on_select=used, selection_mode=modes)


def picture(svg: str, *, alt: str, height: int = 44) -> None:
    """Show an SVG picture as wide as its block. As an image: nothing in it can run, and Streamlit keeps it as it is."""
    coded = b64encode(svg.encode()).decode()
    st.html(
        f'<img alt="{escape(alt)}" src="data:image/svg+xml;base64,{coded}" style="display:block;width:100%;height:{height}px">'
    )


class _Ready(BaseFigure):  # type: ignore[misc]
    """A finished figure for ``st.plotly_chart``, which asks a figure for a dict and writes that as JSON: here it is already."""

    def __init__(self, json: bytes) -> None:
        self._json = json

    def to_dict(self) -> dict[str, Any]:
        return _Written(self._json)


class _Written(dict[str, Any]):
    """What Plotly's writer takes for a dict, and asks for its JSON before it looks inside."""

    def __init__(self, json: bytes) -> None:
        super().__init__()
        self._json = json

    def to_plotly_json(self) -> orjson.Fragment:
        return orjson.Fragment(self._json)


def _compacted(fig: Figure) -> None:
    compact(fig)


def _boxed(fig: Figure) -> None:
    fig.update_layout(dragmode="select", selectdirection="h")


def days_of(edges: list[str]) -> tuple[date, date]:
    """First and last day that a box over a time axis touches; an edge at midnight ends the day before."""
    first, last = sorted(datetime.fromisoformat(edge.replace(" ", "T")) for edge in edges)
    return first.date(), max(first, last - timedelta(seconds=1)).date()
