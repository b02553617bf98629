"""What is written onto a figure: series' names beside their lines, guides and targets, releases.

An annotation's ``name`` says what it is (label, guide, head, release), so that :func:`compact` can tell them apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd

from pages.components.charts.drawing import Figure, merge
from pages.components.charts.style import GUIDE, HEIGHT, PAGE, TEXT, localise
from pages.components.text import figure_paragraph, figure_text, shortened

#: Above this many series a legend replaces labels beside the lines.
LABELLED_SERIES = 4
LONGEST_LABEL = 22
#: Room above a plot with releases: Plotly's bar of buttons lies over the upper half, and must not cover the newest mark.
MARKED_MARGIN_PX = 48


@dataclass(frozen=True, slots=True)
class Mark:
    """A configuration release, shown as a thin vertical line with its story on hover."""

    at: datetime
    version: str
    author: str = ""
    note: str = ""


def marks_from(releases: pd.DataFrame) -> list[Mark]:
    """The marks of ``queries.release_marks``: what was decided (rolled back, ramped) stands before the note."""
    marks = []
    for row in releases.to_dict("records"):
        said = [str(row[c]) for c in ("action", "reason", "note") if row.get(c) and not pd.isna(row[c])]
        marks.append(Mark(row["released_at"], str(row["version"]), str(row["author"] or ""), " · ".join(said)))
    return marks


@dataclass(frozen=True, slots=True)
class Label:
    """A series' name beside its last value: in the margin, or at ``x`` where the line ends before the plot does.

    A guide names a level (a target, a bound); on a phone it moves into the plot, while series' names become a legend.
    """

    name: str
    colour: str
    y: float
    x: str | None = None
    guide: bool = False


def guide_line(fig: Figure, at: float, *, axis: str = "y") -> None:
    """A dashed grey line across the figure: a target or a bound."""
    along = {"x0": 0, "x1": 1, "xref": "x domain", "y0": at, "y1": at, "yref": "y"}
    if axis == "x":
        along = {"y0": 0, "y1": 1, "yref": "y domain", "x0": at, "x1": at, "xref": "x"}
    fig.add_shape(type="line", layer="above", line={"color": GUIDE, "width": 1.4, "dash": "dash"}, **along)


def head_label(fig: Figure, x: float, text: str) -> None:
    """The name of a vertical line or band, above the plot."""
    fig.add_annotation(
        x=x, xref="x", y=1, yref="y domain", yanchor="bottom", xanchor="center", text=figure_text(text),
        showarrow=False, font={"size": 11, "color": TEXT}, name="head",
    )  # fmt: skip
    fig.update_layout(margin={"t": 26})


def release_marks(fig: Figure, marks: Sequence[Mark], zone: ZoneInfo, span: tuple[Any, Any] | None) -> None:
    """Releases as thin vertical lines; neighbours too close to be told apart share one label."""
    if not marks:
        return
    times = localise([mark.at for mark in marks], zone)
    placed = sorted(zip(times, marks, strict=True), key=lambda pair: pair[0])
    if span is not None:
        start, end = localise(span, zone)
        placed = [pair for pair in placed if start <= pair[0] <= end]
    if not placed:
        return
    low, high = (localise(span, zone)) if span is not None else (placed[0][0], placed[-1][0])
    near = (high - low) * 0.045
    groups: list[list[tuple[pd.Timestamp, Mark]]] = []
    for pair in placed:
        fig.add_shape(
            type="line", x0=pair[0].isoformat(), x1=pair[0].isoformat(), xref="x", y0=0, y1=1, yref="y domain",
            line={"color": GUIDE, "width": 1}, layer="below", name="release",
        )  # fmt: skip
        if groups and pair[0] - groups[-1][-1][0] < near:
            groups[-1].append(pair)
        else:
            groups.append([pair])
    fig.update_layout(margin={"t": MARKED_MARGIN_PX})
    for group in groups:
        # Distinct ones: a version that is released again within the group is named once.
        versions = list(dict.fromkeys(mark.version for _, mark in group))
        named = versions[0] if len(versions) == 1 else f"{versions[0]}–{versions[-1]}"
        fig.add_annotation(
            x=group[0][0].isoformat(), xref="x", y=1, yref="y domain", yanchor="bottom", xanchor="center",
            text=f"v{figure_text(named, 16)}", showarrow=False,
            font={"size": 11, "color": TEXT}, name="release", hovertext="<br><br>".join(_story(at, mark) for at, mark in group),
            hoverlabel={"font": {"size": 12, "color": TEXT}}, captureevents=True,
        )  # fmt: skip


def _story(at: pd.Timestamp, mark: Mark) -> str:
    who = f" · {figure_text(mark.author, 40)}" if mark.author else ""
    note = f"<br>{figure_paragraph(mark.note)}" if mark.note else ""
    return f"<b>Release {figure_text(mark.version, 16)}</b>{who}<br>{at.day} {at:%b %Y, %H:%M}{note}"


def direct_labels(fig: Figure, labels: Sequence[Label], y_range: tuple[float, float]) -> None:
    """Names beside the last values, pushed apart until none covers another, within the plot's height."""
    beside = sorted((label for label in labels if label.x is None), key=lambda label: label.y)
    plot_px = max(80.0, (fig.layout.get("height") or HEIGHT) - 84.0)
    per_px = (y_range[1] - y_range[0]) / plot_px
    wanted = [(label.y - y_range[0]) / per_px for label in beside]
    at = _spread(wanted, min(17.0, plot_px / max(1, len(beside))), plot_px)
    for label, natural, shown in zip(beside, wanted, at, strict=True):
        fig.add_annotation(
            x=1, xref="x domain", xanchor="left", xshift=6, y=label.y, yref="y", yanchor="middle",
            yshift=round(shown - natural, 1), **_label_look(label),
        )  # fmt: skip
    for label in labels:
        if label.x is not None:
            fig.add_annotation(x=label.x, xanchor="left", xshift=8, y=label.y, yanchor="middle", **_label_look(label))
    if beside:
        widest = max(len(shortened(label.name, LONGEST_LABEL)) for label in beside)
        fig.update_layout(margin={"r": 28 + round(6.9 * widest)})


def _label_look(label: Label) -> dict[str, Any]:
    sign = "╌" if label.colour == GUIDE else "●"
    return {
        "text": f'<span style="color:{label.colour}">{sign}</span> {figure_text(label.name, LONGEST_LABEL)}',
        "showarrow": False,
        "align": "left",
        "name": "guide" if label.guide else "label",
        "font": {"size": 12, "color": TEXT},
    }


def _spread(wanted: Sequence[float], gap: float, height: float) -> list[float]:
    at = list(wanted)
    for i in range(1, len(at)):
        at[i] = max(at[i], at[i - 1] + gap)
    if at and at[-1] > height:
        at[-1] = max(height, gap * (len(at) - 1))
        for i in range(len(at) - 2, -1, -1):
            at[i] = min(at[i], at[i + 1] - gap)
    return at


def name_series(fig: Figure, labels: Sequence[Label], y_range: tuple[float, float]) -> None:
    """Label up to four series directly; above that a legend says who is who, and only guides are labelled."""
    if sum(label.colour != GUIDE for label in labels) > LABELLED_SERIES:
        fig.update_layout(showlegend=True)
        labels = [label for label in labels if label.guide]
    direct_labels(fig, labels, y_range)


def compact(fig: Figure) -> Figure:
    """The figure for a phone: a legend instead of labels beside the lines, no dragging, fewer ticks."""
    notes = fig.layout.get("annotations", [])
    inside = {"x": 0, "xanchor": "left", "xshift": 4, "yanchor": "bottom", "yshift": 2, "bgcolor": PAGE}
    fig.layout["annotations"] = [
        note | inside if note.get("name") == "guide" else note for note in notes if note.get("name") != "label"
    ]
    above = {"orientation": "h", "x": 0.5, "y": 1, "yanchor": "bottom", "len": 1, "title": {"side": "top"}}
    for trace in fig.data:
        if trace["type"] == "heatmap":
            merge(trace, {"colorbar": above})
    if sum(note.get("name") == "label" for note in notes) > 1:
        fig.update_layout(showlegend=True)
    fig.update_layout(dragmode=False, margin={"r": 12, "l": 0})
    fig.update_xaxes(nticks=5, fixedrange=True)
    fig.update_yaxes(nticks=5, fixedrange=True)
    return fig
