"""Bars: stacked by day, ranked side by side, and distributions. Their axes always start at 0."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd

from pages.components import numbers
from pages.components.charts.annotations import Label, Mark, guide_line, head_label, name_series, release_marks
from pages.components.charts.drawing import Figure, band, bar, kept, scatter
from pages.components.charts.style import (
    BLUE,
    FAINT,
    GUIDE,
    HEIGHT,
    PAGE,
    TEXT,
    VERMILLION,
    Unit,
    as_time_axis,
    colour,
    colours,
    figure,
    localise,
    picked_by,
    series_title,
    unfinished,
)
from pages.components.text import figure_text

DAY = timedelta(days=1)


@kept
def stacked_bars(
    frame: pd.DataFrame,
    *,
    x: str,
    y: str,
    series: str,
    unit: Unit,
    zone: ZoneInfo,
    step: timedelta = DAY,
    pace: str | None = None,
    compare: pd.DataFrame | None = None,
    shift: timedelta = timedelta(0),
    compare_name: str = "previous period",
    marks: Sequence[Mark] = (),
    span: tuple[Any, Any] | None = None,
    order: Sequence[str] = (),
    domain: Sequence[str] = (),
    unusual: pd.DataFrame | None = None,
    height: int = HEIGHT,
) -> Figure:
    """Parts of a sum over time, stacked. The comparison's sum is a dotted line, pace a dashed one.

    ``unusual`` has the days whose sum is not as usual (``x``, value, usual): a diamond stands above each.
    ``order`` puts series from bottom to top; the others follow by name. What a click gives is [day, series].
    """
    fig = figure(height=height, y_title=unit.title)
    names = [str(n) for n in sorted(frame[series].dropna().unique(), key=str)]
    names = [n for n in order if n in names] + [n for n in names if n not in order]
    palette = colours(names, domain)
    totals = frame.groupby(x)[y].sum(min_count=1)
    labels, reached = [], 0.0
    last = frame[x].max()
    for name in names:
        part = frame[frame[series].astype(str) == name].sort_values(x)
        times = localise(part[x], zone)
        pending = unfinished(times, step, zone, span)
        hover = [
            f"<b>{figure_text(series_title(name))}</b> {unit.text(value)} · {_share(value, totals.get(at))}"
            + (" · so far" if open_ else "")
            for at, value, open_ in zip(part[x], part[y], pending, strict=True)
        ]
        fig.add_trace(
            bar(
                x=[t.isoformat() for t in times], y=unit.shown(part[y]), name=figure_text(series_title(name)),
                marker={
                    "color": palette[name], "line": {"width": 0}, "opacity": [0.55 if open_ else 1 for open_ in pending],
                },
                xperiod=step / timedelta(milliseconds=1),
                xperiodalignment="middle", xperiod0=times.iloc[0].isoformat() if len(times) else None,
                hovertext=hover, hovertemplate="%{hovertext}<extra></extra>", customdata=picked_by(part[x], name),
            )
        )  # fmt: skip
        at_end = part.loc[part[x] == last, y].sum() * unit.scale
        labels.append(Label(series_title(name), palette[name], reached + at_end / 2))
        reached += at_end
    top = [v * unit.scale for v in totals.dropna()]
    if compare is not None and not compare.empty:
        top += _sum_line(fig, compare, x, y, unit, zone, step, shift, compare_name, totals)
    if pace is not None:
        paces = _pace_line(fig, frame, x, pace, unit, zone, step)
        top += paces
        labels += [Label("pace", GUIDE, v) for v in paces[-1:]]
    if unusual is not None and not unusual.empty:
        _diamonds(fig, unusual, x, unit, zone, step)
    y_range = (0.0, (max(top, default=1.0) or 1.0) * 1.1)
    fig.update_layout(barmode="stack")
    fig.update_yaxes(range=list(y_range), rangemode="tozero", ticksuffix=unit.suffix)
    as_time_axis(fig, step, zone, span, dotted=compare_name if compare is not None and not compare.empty else "")
    release_marks(fig, marks, zone, span)
    name_series(fig, labels, y_range)
    return fig


def _diamonds(fig: Figure, unusual: pd.DataFrame, x: str, unit: Unit, zone: ZoneInfo, step: timedelta) -> None:
    times = localise(unusual[x], zone)
    hover = [
        f"<b>Unusual</b> {unit.text(row['value'])}, usually {unit.text(row['usual'])}"
        for row in unusual.to_dict("records")
    ]
    fig.add_trace(
        scatter(
            x=[(time + step / 2).isoformat() for time in times], y=unit.shown(unusual["value"]), mode="markers",
            marker={"symbol": "diamond", "size": 11, "color": VERMILLION, "line": {"width": 1.5, "color": PAGE}},
            hovertext=hover, hovertemplate="%{hovertext}<extra></extra>", name="Unusual", showlegend=False,
        )
    )  # fmt: skip


@kept
def ranked_bars(
    frame: pd.DataFrame,
    *,
    label: str,
    value: str,
    unit: Unit,
    before: str | None = None,
    series_colours: bool = True,
    target: float | None = None,
    target_name: str = "target",
    whole: float | None = None,
    compare_name: str = "previous period",
    better: numbers.Better = "neutral",
    limit: int = 12,
) -> Figure:
    """Horizontal bars, longest on top, each with its value written beside it.

    ``before`` names the comparison's column, a small tick on each bar. ``whole`` is what shares are taken of
    (default: the sum of ``value``); pass 0 for values that may not be summed.
    """
    shown = frame.sort_values(value, ascending=False, na_position="last").head(limit)
    total = float(frame[value].sum()) if whole is None else whole
    fig = figure(height=max(140, 72 + 30 * len(shown)), x_title=unit.title)
    names = [series_title(n) for n in shown[label]]
    places = [f"{i}" for i in range(len(shown))]
    hover = []
    for row in shown.to_dict("records"):
        part = f" · {numbers.share(row[value] / total)}" if total and not pd.isna(row[value]) else ""
        moved = ""
        if before is not None and not pd.isna(row[before]):
            change = numbers.points if unit.suffix == "%" else numbers.change
            moved = f"<br>{change(row[value], row[before], better=better).text} against {compare_name}"
        hover.append(f"<b>{figure_text(series_title(row[label]))}</b><br>{unit.text(row[value])}{part}{moved}")
    fig.add_trace(
        bar(
            x=unit.shown(shown[value]), y=places, orientation="h",
            marker={"color": [colour(n) for n in shown[label]] if series_colours else BLUE, "line": {"width": 0}},
            customdata=[str(n) for n in shown[label]], hovertext=hover, hovertemplate="%{hovertext}<extra></extra>",
        )
    )  # fmt: skip
    ends = [v or 0.0 for v in unit.shown(shown[value])]
    written = [unit.bare(v) for v in shown[value]]
    if before is not None:
        dots = unit.shown(shown[before])
        ends = [max(end, dot or 0.0) for end, dot in zip(ends, dots, strict=True)]
        fig.add_trace(
            scatter(
                x=dots, y=places, mode="markers", hoverinfo="skip",
                marker={"symbol": "line-ns", "size": 18, "line": {"width": 2, "color": GUIDE}},
            )
        )  # fmt: skip
        fig.update_xaxes(title={"text": f"{unit.title} (tick: {figure_text(compare_name)})"})
    fig.add_trace(
        scatter(
            x=ends, y=places, mode="text", text=[f" {text}" for text in written], hoverinfo="skip",
            textposition="middle right", textfont={"size": 12, "color": TEXT}, cliponaxis=False,
        )
    )  # fmt: skip
    most = max(ends, default=0.0)
    if target is not None:
        most = max(most, target * unit.scale)
        guide_line(fig, target * unit.scale, axis="x")
        head_label(fig, target * unit.scale, f"{target_name} {unit.bare(target)}")
    fig.update_layout(hovermode="closest", bargap=0.35)
    # Room for the longest value beside its bar, on a phone too.
    room = 1.06 + 0.03 * max(4, *map(len, written), 0)
    fig.update_xaxes(range=[0, (most or 1.0) * room], rangemode="tozero", showgrid=True, showline=False, nticks=5)
    fig.update_yaxes(
        type="category", showgrid=False, autorange="reversed", tickmode="array",
        tickvals=places, ticktext=[figure_text(n, 24) for n in names],
    )  # fmt: skip
    return fig


@kept
def distribution(
    frame: pd.DataFrame,
    *,
    low: str,
    high: str,
    y: str,
    unit: Unit,
    x_title: str,
    series: str | None = None,
    tolerance: float | None = None,
    domain: Sequence[str] = (),
    height: int = HEIGHT,
) -> Figure:
    """A histogram from ready-made bins [``low``, ``high``), stacked by ``series``; ±``tolerance`` shaded behind it.

    Bins may be open at the ends: a missing ``low`` or ``high`` is drawn as wide as its neighbour.
    """
    fig = figure(height=height, x_title=x_title, y_title=unit.title)
    bins = frame.copy()
    width = float((bins[high] - bins[low]).median())
    bins["_low"] = bins[low].fillna(bins[high] - width)
    bins["_high"] = bins[high].fillna(bins[low] + width)
    names = [str(n) for n in sorted(bins[series].dropna().unique(), key=str)] if series else [""]
    palette = colours(names, domain) if series else {"": BLUE}
    whole = bins.groupby("_low")[y].sum(min_count=1)
    everything = bins[y].sum()
    for name in names:
        part = bins[bins[series].astype(str) == name] if series else bins
        hover = []
        for row in part.to_dict("records"):
            edges = _edges(row[low], row[high])
            who = f"<b>{figure_text(series_title(name))}</b> " if series else ""
            hover.append(f"{who}{unit.text(row[y])} · {_share(row[y], everything)} of all<br>{edges}")
        fig.add_trace(
            bar(
                x=((part["_low"] + part["_high"]) / 2).tolist(), width=(part["_high"] - part["_low"]).tolist(),
                y=unit.shown(part[y]), name=figure_text(series_title(name)), hovertext=hover,
                marker={"color": palette[name], "line": {"width": 0}}, hovertemplate="%{hovertext}<extra></extra>",
            )
        )  # fmt: skip
    if tolerance is not None:
        fig.add_shape(**band("x", -tolerance, tolerance, FAINT))
        for edge in (-tolerance, tolerance):
            guide_line(fig, edge, axis="x")
            head_label(fig, edge, numbers.decimal(edge, 1, trim=True, sign=True))
    top = max([v * unit.scale for v in whole.dropna()], default=1.0) or 1.0
    fig.update_layout(barmode="stack", bargap=0.04, hovermode="closest", showlegend=len(names) > 1)
    fig.update_yaxes(range=[0, top * 1.12], rangemode="tozero")
    fig.update_xaxes(type="linear")
    return fig


def _edges(low: Any, high: Any) -> str:
    if pd.isna(low):
        return f"below {numbers.decimal(high, 1, trim=True)}"
    if pd.isna(high):
        return f"{numbers.decimal(low, 1, trim=True)} and above"
    return f"{numbers.decimal(low, 1, trim=True)} to {numbers.decimal(high, 1, trim=True)}"


def _share(value: Any, total: Any) -> str:
    if total is None or pd.isna(total) or not total or pd.isna(value):
        return numbers.UNKNOWN
    return numbers.share(value / total)


def _sum_line(
    fig: Figure, compare: pd.DataFrame, x: str, y: str, unit: Unit, zone: ZoneInfo, step: timedelta,
    shift: timedelta, compare_name: str, totals: pd.Series,
) -> list[float]:  # fmt: skip
    """The comparison's sums, dotted; on hover the sum now and what became of it."""
    sums = compare.groupby(x)[y].sum(min_count=1).sort_index()
    times = localise(sums.index, zone) + shift
    now = pd.Series(totals.to_numpy(), index=pd.DatetimeIndex(localise(totals.index, zone)))
    hover = []
    for time, value in zip(times, sums, strict=True):
        current = now.get(time)
        moved = f" · all now {unit.text(current)}, {numbers.change(current, value).text}" if current is not None else ""
        hover.append(f"<b>{figure_text(compare_name)}</b> {unit.text(value)}{moved}")
    values = unit.shown(sums)
    fig.add_trace(_guide_trace(times, values, step, "dot", hover, compare_name))
    return [v for v in values if v is not None]


def _pace_line(
    fig: Figure, frame: pd.DataFrame, x: str, pace: str, unit: Unit, zone: ZoneInfo, step: timedelta
) -> list[float]:
    rows = frame.groupby(x, as_index=False)[pace].first().sort_values(x)
    values = unit.shown(rows[pace])
    hover = [f"<b>Pace</b> {unit.text(v)}" for v in rows[pace]]
    fig.add_trace(_guide_trace(localise(rows[x], zone), values, step, "dash", hover, "Pace"))
    return [v for v in values if v is not None]


def _guide_trace(times: Any, values: list, step: timedelta, dash: str, hover: list[str], name: str) -> dict[str, Any]:
    return scatter(
        x=[t.isoformat() for t in times], y=values, mode="lines", connectgaps=False, name=figure_text(name),
        line={"color": GUIDE, "width": 1.8, "dash": dash}, xperiod=step / timedelta(milliseconds=1),
        xperiodalignment="middle", xperiod0=times.iloc[0].isoformat() if len(times) else None,
        hovertext=hover, hovertemplate="%{hovertext}<extra></extra>",
    )  # fmt: skip
