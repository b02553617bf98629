"""A figure as Plotly reads it: dicts, drawn when somebody needs them and kept as JSON for whoever needs the same again.

Plotly's own objects check every property and cost 5 to 15 ms a figure; the tests put these figures through that check.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from hashlib import blake2b
from typing import Any, NamedTuple, ParamSpec

import orjson
import pandas as pd

from pages.components.kept import Kept, fingerprint

#: JSON of figures, over all sessions of the process.
MOST_BYTES = 64 * 2**20
_SPECS = Kept(MOST_BYTES)
_JSON = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY

P = ParamSpec("P")


class Written(NamedTuple):
    """A figure's JSON, and its height in pixels; None: as high as Plotly makes it."""

    json: bytes
    height: int | None


class Figure:
    """Traces and a layout. One that :func:`kept` gave is not drawn before somebody looks into it or asks for its JSON."""

    def __init__(
        self,
        layout: Mapping[str, Any] | None = None,
        traces: Iterable[dict[str, Any]] = (),
        *,
        key: bytes | None = None,
        draw: Callable[[], Figure] | None = None,
    ) -> None:
        """An empty figure of ``layout``; or what ``draw`` makes, which is always the same for the same ``key``."""
        self._layout = dict(layout or {})
        self._traces = list(traces)
        self._key, self._draw = key, draw

    @property
    def data(self) -> list[dict[str, Any]]:
        """The traces, to read and to change."""
        self._look()
        return self._traces

    @data.setter
    def data(self, traces: Iterable[dict[str, Any]]) -> None:
        self._look()
        self._traces = list(traces)

    @property
    def layout(self) -> dict[str, Any]:
        """The layout, to read and to change."""
        self._look()
        return self._layout

    @property
    def key(self) -> bytes | None:
        """The same for figures that look the same; None for one that was looked into, and may have been changed."""
        return self._key

    def _look(self) -> None:
        if self._draw is not None:
            drawn, self._draw, self._key = self._draw(), None, None
            self._traces, self._layout = drawn.data, drawn.layout

    def changed(self, change: Callable[[Figure], None], name: object) -> Figure:
        """The same figure after ``change``, which ``name`` says all about."""
        if self._key is None:
            change(self)
            return self
        before = self._draw

        def draw() -> Figure:
            assert before is not None, "a figure with a key is not drawn yet"
            fig = before()
            change(fig)
            return fig

        return Figure(key=blake2b(self._key + repr(name).encode(), digest_size=16).digest(), draw=draw)

    def json(self) -> bytes:
        """The figure as Plotly's browser side takes it."""
        return self.written().json

    def written(self) -> Written:
        """The figure's JSON and how high it is: whoever shows it need not draw it to know that."""
        if self._key is None:
            return self._dumped()
        return _SPECS.get(
            self._key, lambda: Figure._dumped(self._draw()) if self._draw else self._dumped(), lambda made: len(made[0])
        )

    def _dumped(self) -> Written:
        height = self.layout.get("height")
        json = orjson.dumps({"data": _known(self.data), "layout": _known(self.layout)}, _plain, _JSON)
        return Written(json, None if height is None else int(height))

    # What Plotly's figures call the same -----------------------------------------------------------------------------

    def add_trace(self, trace: dict[str, Any]) -> Figure:
        """Draw ``trace`` over what there is."""
        self.data.append(trace)
        return self

    def add_shape(self, **shape: Any) -> Figure:
        """A line or a rectangle."""
        self.layout.setdefault("shapes", []).append(shape)
        return self

    def add_annotation(self, **annotation: Any) -> Figure:
        """Text at a place."""
        self.layout.setdefault("annotations", []).append(annotation)
        return self

    def update_layout(self, **changes: Any) -> Figure:
        """Set parts of the layout, leaving the others as they are."""
        merge(self.layout, changes)
        return self

    def update_traces(self, **changes: Any) -> Figure:
        """Set the same on every trace."""
        for trace in self.data:
            merge(trace, changes)
        return self

    def update_xaxes(self, *more: Mapping[str, Any], **changes: Any) -> Figure:
        """Set parts of the x axis."""
        return self._axis("xaxis", *more, changes)

    def update_yaxes(self, *more: Mapping[str, Any], **changes: Any) -> Figure:
        """Set parts of the y axis."""
        return self._axis("yaxis", *more, changes)

    def _axis(self, name: str, *parts: Mapping[str, Any]) -> Figure:
        for part in parts:
            merge(self.layout.setdefault(name, {}), part)
        return self


def kept(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """A function of data alone: its figure is drawn once for the same data, and kept as JSON."""

    @wraps(draw)
    def figure(*args: P.args, **kwargs: P.kwargs) -> Figure:
        key = fingerprint((draw.__module__, draw.__qualname__, args, kwargs))
        return draw(*args, **kwargs) if key is None else Figure(key=key, draw=lambda: draw(*args, **kwargs))

    return figure


def merge(into: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Set ``changes``, going into dicts that are there already."""
    for name, value in changes.items():
        there = into.get(name)
        if isinstance(there, dict) and isinstance(value, Mapping):
            # A copy: what is merged into may be shared with other figures.
            inner = dict(there)
            merge(inner, value)
            into[name] = inner
        else:
            into[name] = value


def scatter(**properties: Any) -> dict[str, Any]:
    """Points and lines."""
    return {"type": "scatter"} | properties


def bar(**properties: Any) -> dict[str, Any]:
    """Bars."""
    return {"type": "bar"} | properties


def heatmap(**properties: Any) -> dict[str, Any]:
    """Shaded cells."""
    return {"type": "heatmap"} | properties


def band(axis: str, low: float, high: float, fill: str) -> dict[str, Any]:
    """A shaded band between two values of an axis, over the whole of the other, as a shape."""
    other = "y" if axis == "x" else "x"
    return {
        "type": "rect", f"{axis}0": low, f"{axis}1": high, f"{axis}ref": axis, f"{other}0": 0, f"{other}1": 1,
        f"{other}ref": f"{other} domain", "fillcolor": fill, "line": {"width": 0}, "layer": "below",
    }  # fmt: skip


def _known(value: Any) -> Any:
    """Without properties that are None: to Plotly those are not set. Gaps, which are None in lists of values, stay."""
    if isinstance(value, dict):
        return {name: _known(part) for name, part in value.items() if part is not None}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [_known(part) for part in value]
    return value


def _plain(value: Any) -> Any:
    """What orjson does not know."""
    if value is pd.NaT or value is pd.NA:
        return None
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    if isinstance(value, (pd.Series, pd.Index)):
        return value.tolist()
    raise TypeError(f"A figure cannot hold {type(value).__name__}.")
