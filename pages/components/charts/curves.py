"""Curves over something else than time: the S-curve, what was told against what happened, demand over coverage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from pages.components import numbers
from pages.components.charts.annotations import Label, direct_labels, guide_line, head_label, name_series
from pages.components.charts.drawing import Figure, band, kept, scatter
from pages.components.charts.style import BLUE, FAINT, GREEN, GREY, GUIDE, PAGE, TEXT, Unit, faded, figure, headroom
from pages.components.text import figure_text, title_of


@dataclass(frozen=True, slots=True)
class Target:
    """A point the curve should pass through."""

    surplus: float
    p: float
    name: str = ""


@kept
def s_curve(
    frame: pd.DataFrame,
    *,
    surplus: str = "surplus",
    live: str = "p_live",
    draft: str | None = "p_draft",
    targets: Sequence[Target] = (),
    width: tuple[float, float] | None = None,
    bounds: tuple[float, float] | None = None,
    x_title: str = "surplus, credits",
    height: int = 380,
) -> Figure:
    """Chance of a fresh one over surplus: live in grey, the draft in blue, targets as diamonds.

    ``width`` shades the surplus between which the draft goes from 10 to 90 %; ``bounds`` are p_min and p_max.
    """
    fig = figure(height=height, x_title=x_title, y_title="chance of a fresh one, %")
    labels = []
    lines = [(live, "live", GREY, 2.2)]
    if draft is not None:
        lines.append((draft, "draft", BLUE, 2.8))
    for column, name, shade, thick in lines:
        if column not in frame:
            continue
        hover = [f"<b>{name.capitalize()}</b> {numbers.share(p)}" for p in frame[column]]
        values = [None if pd.isna(p) else float(p) * 100 for p in frame[column]]
        fig.add_trace(
            scatter(
                x=frame[surplus].tolist(), y=values, mode="lines", name=name.capitalize(), hovertext=hover,
                line={"color": shade, "width": thick, "simplify": False}, hovertemplate="%{hovertext}<extra></extra>",
            )
        )  # fmt: skip
        labels += [Label(name, shade, values[-1])] if values and values[-1] is not None else []
    if targets:
        fig.add_trace(
            scatter(
                x=[t.surplus for t in targets], y=[t.p * 100 for t in targets], mode="markers", name="Target",
                marker={"symbol": "diamond-open", "size": 12, "color": GREEN, "line": {"width": 2.4}},
                hovertext=[_target_text(t) for t in targets], hovertemplate="%{hovertext}<extra></extra>",
            )
        )  # fmt: skip
        last = max(targets, key=lambda t: t.surplus)
        fig.add_annotation(
            x=last.surplus, y=last.p * 100, text="target", showarrow=False, xshift=12, xanchor="left",
            font={"size": 11, "color": TEXT},
        )  # fmt: skip
    if width is not None:
        fig.add_shape(**band("x", width[0], width[1], FAINT))
        head_label(fig, (width[0] + width[1]) / 2, "10 to 90 %")
    for bound, name in zip(bounds or (), ("lowest", "highest"), strict=False):
        guide_line(fig, bound * 100)
        labels.append(Label(f"{name} {numbers.share(bound)}", GUIDE, bound * 100, guide=True))
    for at, axis in ((0, "x"), (50, "y")):
        line = {"x0": at, "x1": at, "y0": 0, "y1": 1, "yref": "y domain"}
        if axis == "y":
            line = {"y0": at, "y1": at, "x0": 0, "x1": 1, "xref": "x domain"}
        fig.add_shape(type="line", line={"color": GUIDE, "width": 1, "dash": "dot"}, layer="below", **line)
    ends = [float(frame[surplus].min()), float(frame[surplus].max())] if len(frame) else [-100.0, 100.0]
    fig.update_xaxes(range=ends, type="linear", hoverformat="+,.0f")
    fig.update_yaxes(range=[0, 100], ticksuffix="%", nticks=6)
    direct_labels(fig, labels, (0.0, 100.0))
    return fig


@kept
def calibration(
    frame: pd.DataFrame,
    *,
    predicted: str,
    observed: str,
    low: str,
    high: str,
    number: str,
    x_title: str,
    y_title: str,
    height: int = 340,
) -> Figure:
    """What happened over what was told, shares both, with intervals; on the dashed diagonal they are the same."""
    fig = figure(height=height, x_title=x_title, y_title=y_title)
    x, y = ([float(value) * 100 for value in frame[name]] for name in (predicted, observed))
    ends = {
        name: [abs(float(value) * 100 - at) for value, at in zip(frame[name], y, strict=True)] for name in (low, high)
    }
    hover = [
        f"<b>{numbers.share(row[observed])}</b> of {numbers.count(row[number])}<br>told {numbers.share(row[predicted])}"
        f"<br>{numbers.share(row[low])} to {numbers.share(row[high])}"
        for row in frame.to_dict("records")
    ]
    fig.add_shape(
        type="line", x0=0, y0=0, x1=100, y1=100, line={"color": GUIDE, "width": 1.4, "dash": "dash"}, layer="below"
    )
    fig.add_trace(
        scatter(
            x=x, y=y, mode="lines+markers", line={"color": BLUE, "width": 1.4}, marker={"size": 9, "color": BLUE},
            error_y={"type": "data", "array": ends[high], "arrayminus": ends[low], "color": BLUE, "thickness": 1.4, "width": 5},
            hovertext=hover, hovertemplate="%{hovertext}<extra></extra>", showlegend=False,
        )
    )  # fmt: skip
    fig.update_layout(hovermode="closest")
    fig.update_xaxes(range=[0, 100], ticksuffix="%", nticks=6)
    fig.update_yaxes(range=[0, 100], ticksuffix="%", nticks=6)
    return fig


@kept
def demand_by_coverage(
    frame: pd.DataFrame,
    *,
    coverage: str,
    under: str,
    requests: str,
    thresholds: Mapping[str, float],
    height: int = 300,
) -> Figure:
    """Share of requests over the coverage of their cells, as steps; a dashed line per threshold, with who has it."""
    fig = figure(height=height, x_title="coverage of the cell, %", y_title="share of requests, %")
    places = [0.0, *(float(value) * 100 for value in frame[coverage]), 100.0]
    shares = [0.0, *(float(value) * 100 for value in frame[under]), 100.0]
    hover = ["", *_under_texts(frame, coverage, under, requests), ""]
    fig.add_trace(
        scatter(
            x=places, y=shares, mode="lines", line={"color": BLUE, "width": 2.4, "shape": "hv"}, fill="tozeroy",
            fillcolor=faded(BLUE, 0.1), hovertext=hover, hovertemplate="%{hovertext}<extra></extra>", showlegend=False,
        )
    )  # fmt: skip
    for step, bound in enumerate(sorted(set(thresholds.values()))):
        guide_line(fig, bound * 100, axis="x")
        names = [figure_text(title_of(name), 18) for name, value in thresholds.items() if value == bound]
        fig.add_annotation(
            x=bound * 100, y=100 - 13 * step, text=", ".join(names[:2]) + (" …" if len(names) > 2 else ""), showarrow=False,
            xanchor="left" if bound < 0.5 else "right", xshift=5 if bound < 0.5 else -5, bgcolor=PAGE, font={"size": 11, "color": TEXT},
        )  # fmt: skip
    fig.update_layout(hovermode="closest")
    fig.update_xaxes(range=[0, 100], ticksuffix="%", nticks=6)
    fig.update_yaxes(range=[0, 105], ticksuffix="%", nticks=6)
    return fig


def _under_texts(frame: pd.DataFrame, coverage: str, under: str, requests: str) -> list[str]:
    return [
        f"<b>{numbers.share(row[under])}</b> of requests were for cells with {numbers.share(row[coverage])} or less"
        f"<br>{numbers.counted(row[requests], 'request')} for cells with exactly that"
        for row in frame.to_dict("records")
    ]


@kept
def cycle_days(frame: pd.DataFrame, *, unit: Unit, height: int = 360) -> Figure:
    """What an account has spent by each day of its cycle: this cycle, the one before it dotted, pace dashed.

    ``frame`` is of ``queries.burn_by_cycle_day``.
    """
    fig = figure(height=height, x_title="day of the cycle (dotted: last cycle)", y_title=f"{unit.title} an account")
    days, labels, drawn = frame["day"].tolist(), [], []
    for column, name, shade, dash, number in (
        ("pace_credits", "pace", GUIDE, "dash", "accounts"),
        ("before_credits", "last cycle", BLUE, "dot", "accounts_before"),
        ("spent_credits", "this cycle", BLUE, "solid", "accounts"),
    ):
        values = unit.shown(frame[column])
        hover = [
            f"<b>{name.capitalize()}</b> {unit.text(value)} · {numbers.counted(who, 'account')}"
            for value, who in zip(frame[column], frame[number], strict=True)
        ]
        fig.add_trace(
            scatter(
                x=days, y=values, mode="lines", name=name.capitalize(), line={"color": shade, "dash": dash, "width": 2.4},
                opacity=0.75 if dash == "dot" else 1.0, hovertext=hover, hovertemplate="%{hovertext}<extra></extra>",
            )
        )  # fmt: skip
        drawn += values
        known = [value for value in values if value is not None]
        labels += [Label(name, shade, known[-1])] if known else []
    y_range = headroom(drawn, zero=True)
    fig.update_xaxes(range=[1, max(days, default=1)], nticks=9, hoverformat="d")
    fig.update_yaxes(range=list(y_range), ticksuffix=unit.suffix)
    name_series(fig, labels, y_range)
    return fig


def _target_text(target: Target) -> str:
    name = f"<b>{figure_text(target.name)}</b> " if target.name else "<b>Target</b> "
    return f"{name}{numbers.share(target.p)} at {numbers.decimal(target.surplus, 1, trim=True, sign=True)}"
