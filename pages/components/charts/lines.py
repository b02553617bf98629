"""Figures over time drawn as lines: metrics by day or hour, burn against pace, quantile bands."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd

from pages.components import numbers
from pages.components.charts.annotations import Label, Mark, guide_line, name_series, release_marks
from pages.components.charts.drawing import Figure, band, kept, scatter
from pages.components.charts.sampling import thinned, with_gaps
from pages.components.charts.style import (
    BLUE,
    FAINT,
    GUIDE,
    HEIGHT,
    SKY,
    Unit,
    as_time_axis,
    colours,
    faded,
    figure,
    headroom,
    localise,
    picked_by,
    series_title,
    unfinished,
)
from pages.components.text import figure_text

SO_FAR = " · so far"
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


@kept
def time_lines(
    frame: pd.DataFrame,
    *,
    x: str,
    y: str,
    unit: Unit,
    zone: ZoneInfo,
    series: str | None = None,
    name: str = "",
    step: timedelta = DAY,
    compare: pd.DataFrame | None = None,
    shift: timedelta = timedelta(0),
    compare_name: str = "previous period",
    pace: str | None = None,
    target: float | None = None,
    target_name: str = "target",
    marks: Sequence[Mark] = (),
    span: tuple[Any, Any] | None = None,
    domain: Sequence[str] = (),
    zero: bool = True,
    shares: bool = False,
    tint: str = BLUE,
    height: int = HEIGHT,
) -> Figure:
    """One or more lines over time.

    ``x`` holds starts of steps: instants, or days of the reporting zone. ``y`` holds values of ``unit``.
    ``series`` splits into lines. ``compare`` has the same columns over an earlier period; ``shift`` moves it onto this
    one, dotted. ``pace`` names a column drawn dashed and grey; ``target`` is a value of ``unit``. ``span`` is the
    period, so that missing days show at the ends too. ``shares`` adds to the hover each line's part of the sum at that
    time (only for metrics that may be summed). What a click gives is [day, series].
    """
    fig = figure(height=height, y_title=unit.title)
    lines = _lines(frame, x, series, name or series_title(y))
    palette = colours([key for key, _ in lines], domain) if series else {lines[0][0]: tint}
    earlier = _earlier(compare, x, y, series, shift, zone)
    totals = frame.groupby(x)[y].sum(min_count=1) if shares and series else None
    shown: list[float | None] = []
    labels: list[Label] = []
    for key, part in lines:
        rows = thinned(with_gaps(part, x, pd.Timedelta(step)), y)
        times, values = localise(rows[x], zone), unit.shown(rows[y])
        before = earlier.get(key if series else None)
        part_of = unfinished(times, step, zone, span)
        hover = [
            _hover(series_title(key), value, unit, totals.get(at) if totals is not None else None,
                   before.get(time) if before is not None else None, compare_name) + (SO_FAR if open_ else "")
            for at, time, value, open_ in zip(rows[x], times, rows[y], part_of, strict=True)
        ]  # fmt: skip
        if before is not None:
            dotted = unit.shown(before.to_numpy())
            shown += dotted
            fig.add_trace(_line(before.index, dotted, palette[key], step, dash="dot", width=1.5, opacity=0.75))
        fig.add_trace(
            _line(times, values, palette[key], step, name=figure_text(series_title(key)), hover=hover,
                  markers=len(rows) <= 31, hollow=part_of) | {"customdata": picked_by(rows[x], key)}
        )  # fmt: skip
        shown += values
        known = [v for v in values if v is not None]
        if known and series:
            labels.append(Label(series_title(key), palette[key], known[-1]))
    if len(labels) == 1:
        labels.clear()
    if pace is not None:
        paces = _pace(fig, frame, x, pace, unit, zone, step)
        shown += paces
        labels += [Label("pace", GUIDE, v) for v in [v for v in paces if v is not None][-1:]]
    if target is not None:
        shown.append(target * unit.scale)
        guide_line(fig, target * unit.scale)
        labels.append(Label(f"{target_name} {unit.bare(target)}", GUIDE, target * unit.scale, guide=True))
    y_range = headroom(shown, zero=zero)
    fig.update_yaxes(range=list(y_range), ticksuffix=unit.suffix)
    as_time_axis(fig, step, zone, span, dotted=compare_name if earlier else "")
    release_marks(fig, marks, zone, span)
    name_series(fig, labels, y_range)
    return fig


@kept
def burn_against_pace(
    frame: pd.DataFrame,
    *,
    x: str,
    burned: str,
    pace: str,
    unit: Unit,
    zone: ZoneInfo,
    step: timedelta = DAY,
    compare: pd.DataFrame | None = None,
    shift: timedelta = timedelta(0),
    compare_name: str = "previous period",
    marks: Sequence[Mark] = (),
    span: tuple[Any, Any] | None = None,
    forecast: pd.DataFrame | None = None,
    height: int = 360,
) -> Figure:
    """Cumulative burn as an area, cumulative pace dashed above or below it, the comparison dotted.

    ``forecast`` (day, middle, inner_low … outer_high, pace) goes on from the last complete day as a fan.
    """
    fig = figure(height=height, y_title=unit.title)
    fan = _fan(fig, forecast, unit, zone, step) if forecast is not None else []
    if forecast is not None and span is not None:
        start, end = localise(span, zone)
        span = (start, max(end, pd.Timestamp(forecast["day"].iloc[-1]) + step))
    rows = with_gaps(frame, x, pd.Timedelta(step))
    times, values = localise(rows[x], zone), unit.shown(rows[burned])
    paces = unit.shown(rows[pace])
    earlier = _earlier(compare, x, burned, None, shift, zone).get(None)
    hover = []
    for time, spent, planned in zip(times, rows[burned], rows[pace], strict=True):
        lines = [f"<b>Burned</b> {unit.text(spent)}", f"<b>Pace</b> {unit.text(planned)}"]
        lines.append(f"{numbers.change(spent, planned).text} against pace")
        if earlier is not None and time in earlier.index:
            lines.append(f"{numbers.change(spent, earlier[time]).text} against {compare_name}")
        hover.append("<br>".join(lines))
    dotted = unit.shown(earlier.to_numpy()) if earlier is not None else []
    if earlier is not None:
        fig.add_trace(_line(earlier.index, dotted, BLUE, step, dash="dot", width=1.5, opacity=0.75))
    fig.add_trace(_line(times, paces, GUIDE, step, name="Pace", dash="dash", width=1.8))
    burned_line = _line(times, values, BLUE, step, name="Burned", hover=hover, width=2.6)
    fig.add_trace(burned_line | {"fill": "tozeroy", "fillcolor": faded(BLUE, 0.1)})
    labels = [Label("pace", GUIDE, v) for v in [v for v in paces if v is not None][-1:]]
    if forecast is not None:
        last = forecast.iloc[-1]
        labels = [
            Label(name, shade, float(last[column]) * unit.scale)
            for name, column, shade in (("pace", "pace", GUIDE), ("expected", "middle", BLUE))
            if not pd.isna(last[column])
        ]
    known = [i for i, v in enumerate(values) if v is not None]
    if known and forecast is None:
        early = (times.iloc[known[-1]] + step).isoformat() if known[-1] < len(values) - 1 else None
        labels.append(Label("burned", BLUE, values[known[-1]] or 0.0, x=early))
    y_range = headroom([*values, *paces, *dotted, *fan], zero=True)
    fig.update_yaxes(range=list(y_range), ticksuffix=unit.suffix)
    as_time_axis(fig, step, zone, span, dotted=compare_name if earlier is not None else "")
    release_marks(fig, marks, zone, span)
    name_series(fig, labels, y_range)
    return fig


def _fan(fig: Figure, forecast: pd.DataFrame, unit: Unit, zone: ZoneInfo, step: timedelta) -> list[float | None]:
    """Two bands around a dashed middle, and pace going on; gives what was drawn."""
    times = localise(forecast["day"], zone)
    drawn = {name: unit.shown(forecast[name]) for name in forecast.columns if name != "day"}
    for edge, alpha in (("outer", 0.16), ("inner", 0.28)):
        fig.add_trace(_line(times, drawn[f"{edge}_low"], SKY, step, width=0))
        upper = _line(times, drawn[f"{edge}_high"], SKY, step, width=0)
        fig.add_trace(upper | {"fill": "tonexty", "fillcolor": faded(SKY, alpha)})
    hover = [
        f"<b>Expected</b> {unit.text(row['middle'])}<br>1 of 2: {unit.text(row['inner_low'])} to {unit.text(row['inner_high'])}"
        f"<br>9 of 10: {unit.text(row['outer_low'])} to {unit.text(row['outer_high'])}<br>pace {unit.text(row['pace'])}"
        for row in forecast.to_dict("records")
    ]
    fig.add_trace(_line(times, drawn["middle"], BLUE, step, name="Expected", hover=hover, dash="dash", width=1.8))
    fig.add_trace(_line(times, drawn["pace"], GUIDE, step, dash="dash", width=1.2, opacity=0.6))
    return [value for values in drawn.values() for value in values]


@kept
def quantile_bands(
    frame: pd.DataFrame,
    *,
    x: str,
    median: str,
    inner: tuple[str, str],
    outer: tuple[str, str],
    unit: Unit,
    zone: ZoneInfo,
    step: timedelta = DAY,
    tolerance: float | None = 3.0,
    compare: pd.DataFrame | None = None,
    shift: timedelta = timedelta(0),
    compare_name: str = "previous period",
    marks: Sequence[Mark] = (),
    span: tuple[Any, Any] | None = None,
    names: tuple[str, str] = ("middle half", "middle 90 %"),
    tint: str = BLUE,
    height: int = 360,
) -> Figure:
    """A median with an inner and an outer quantile band; ±``tolerance`` shaded grey behind them."""
    fig = figure(height=height, y_title=unit.title)
    rows = with_gaps(frame, x, pd.Timedelta(step))
    shown: list[float | None] = []
    # A paler fill than the line, or the bands sink into a dark page.
    wash = SKY if tint == BLUE else tint
    for place, piece in enumerate(_unbroken(rows, median)):
        times = localise(piece[x], zone)
        for (low, high), alpha, name in ((outer, 0.22, names[1]), (inner, 0.38, names[0])):
            lows, highs = unit.shown(piece[low]), unit.shown(piece[high])
            shown += [*lows, *highs]
            fig.add_trace(_line(times, lows, wash, step, width=0))
            upper = _line(times, highs, wash, step, width=0, name="" if place else name)
            fig.add_trace(upper | {"fill": "tonexty", "fillcolor": faded(wash, alpha)})
    earlier = _earlier(compare, x, median, None, shift, zone).get(None)
    if earlier is not None:
        dotted = unit.shown(earlier.to_numpy())
        shown += dotted
        fig.add_trace(_line(earlier.index, dotted, tint, step, dash="dot", width=1.5, opacity=0.75))
    hover = [
        f"<b>Median</b> {unit.text(row[median])}"
        f"<br>{names[0]}: {unit.text(row[inner[0]])} to {unit.text(row[inner[1]])}"
        f"<br>{names[1]}: {unit.text(row[outer[0]])} to {unit.text(row[outer[1]])}"
        for row in rows.to_dict("records")
    ]
    values = unit.shown(rows[median])
    fig.add_trace(_line(localise(rows[x], zone), values, tint, step, name="Median", hover=hover, width=2.4))
    if tolerance is not None:
        bound = tolerance * unit.scale
        shown += [bound, -bound]
        fig.add_shape(**band("y", -bound, bound, FAINT))
        guide_line(fig, bound)
        guide_line(fig, -bound)
    y_range = headroom(shown, zero=False)
    fig.update_yaxes(range=list(y_range), zeroline=True, zerolinecolor=GUIDE, zerolinewidth=1)
    as_time_axis(fig, step, zone, span, dotted=compare_name if earlier is not None else "")
    release_marks(fig, marks, zone, span)
    last = {c: unit.shown(rows[c].dropna().tail(1)) for c in (median, inner[1], outer[1])}
    captions = (
        (median, "median", tint),
        (inner[1], names[0], faded(wash, 0.75)),
        (outer[1], names[1], faded(wash, 0.45)),
    )
    labels = [Label(text, shade, last[c][0] or 0.0) for c, text, shade in captions if last[c]]
    if tolerance is not None:
        labels.append(Label(f"±{unit.bare(tolerance)}", GUIDE, tolerance * unit.scale, guide=True))
    name_series(fig, labels, y_range)
    return fig


def _line(
    times: Any,
    values: Sequence[float | None],
    shade: str,
    step: timedelta,
    *,
    name: str = "",
    hover: Sequence[str] | None = None,
    dash: str = "solid",
    width: float = 2.2,
    opacity: float = 1.0,
    markers: bool = False,
    hollow: Sequence[bool] = (),
) -> dict[str, Any]:
    """A line whose points stand in the middle of the step they cover.

    A point between two gaps has a marker, or it would not be seen; what is ``hollow`` (a day that is not over) has an
    open one.
    """
    points = list(values)
    open_ = list(hollow) or [False] * len(points)
    lone = [
        v is not None and (i == 0 or points[i - 1] is None) and (i == len(points) - 1 or points[i + 1] is None)
        for i, v in enumerate(points)
    ]
    marked = [markers or alone or pending for alone, pending in zip(lone, open_, strict=True)]
    trace = scatter(
        x=[t.isoformat() for t in times], y=points, name=name, opacity=opacity, connectgaps=False,
        mode="lines+markers" if any(marked) else "lines", line={"color": shade, "width": width, "dash": dash},
        marker={
            "size": [8 if pending else 5 if shows else 0 for shows, pending in zip(marked, open_, strict=True)],
            "symbol": ["circle-open" if pending else "circle" for pending in open_],
            "line": {"width": [2 if pending else 0 for pending in open_]},
            "color": shade,
            "opacity": 1,
        },
        xperiod=step / timedelta(milliseconds=1), xperiodalignment="middle",
        xperiod0=times.iloc[0].isoformat() if isinstance(times, pd.Series) and len(times) else None,
        showlegend=bool(name),
    )  # fmt: skip
    if hover is None:
        return trace | {"hoverinfo": "skip"}
    return trace | {"hovertext": list(hover), "hovertemplate": "%{hovertext}<extra></extra>"}


def _lines(frame: pd.DataFrame, x: str, series: str | None, name: str) -> list[tuple[str, pd.DataFrame]]:
    ordered = frame.sort_values(x, kind="stable")
    if series is None:
        return [(name, ordered)]
    return [(str(key), part) for key, part in ordered.groupby(series, sort=True, observed=True)]


def _earlier(
    compare: pd.DataFrame | None, x: str, y: str, series: str | None, shift: timedelta, zone: ZoneInfo
) -> dict[str | None, pd.Series]:
    """The comparison's values by line, indexed by the time on this period's axis that they are compared with."""
    if compare is None or compare.empty:
        return {}
    parts = [(None, compare)] if series is None else list(compare.groupby(series, sort=True, observed=True))
    moved = {}
    for key, part in parts:
        ordered = part.sort_values(x, kind="stable")
        times = localise(ordered[x], zone) + shift
        moved[None if key is None else str(key)] = pd.Series(ordered[y].to_numpy(), index=pd.DatetimeIndex(times))
    return moved


def _hover(name: str, value: Any, unit: Unit, total: Any, before: Any, compare_name: str) -> str:
    parts = [f"<b>{figure_text(name)}</b> {unit.text(value)}"]
    if total is not None and not pd.isna(total) and total and not pd.isna(value):
        parts.append(numbers.share(value / total))
    if before is not None and not pd.isna(before) and not pd.isna(value):
        moved = numbers.points(value, before) if unit.suffix == "%" else numbers.change(value, before)
        parts.append(f"{moved.text} against {compare_name}")
    return " · ".join(parts)


def _pace(fig: Figure, frame: pd.DataFrame, x: str, pace: str, unit: Unit, zone: ZoneInfo, step: timedelta) -> list:
    rows = frame.groupby(x, as_index=False)[pace].first().sort_values(x)
    values = unit.shown(rows[pace])
    hover = [f"<b>Pace</b> {unit.text(v)}" for v in rows[pace]]
    times = localise(rows[x], zone)
    fig.add_trace(_line(times, values, GUIDE, step, name="Pace", hover=hover, dash="dash", width=1.6))
    return values


def _unbroken(rows: pd.DataFrame, column: str) -> list[pd.DataFrame]:
    """Runs of known values: a filled band would bridge a gap, so each run is filled on its own."""
    known = rows[column].notna()
    runs = (known != known.shift()).cumsum()
    return [part for _, part in rows[known].groupby(runs[known])]
