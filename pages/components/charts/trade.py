"""Laws against each other: what each gains and what it costs, and how long its users go without a run-out."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from pages.components import numbers
from pages.components.charts.annotations import LABELLED_SERIES, Label, direct_labels, guide_line
from pages.components.charts.drawing import Figure, kept, scatter
from pages.components.charts.style import BLUE, GREEN, GREY, GUIDE, ORANGE, PAGE, PURPLE, SKY, TEXT, VERMILLION, figure
from pages.components.text import figure_text

#: One colour for each kind of law.
FAMILIES = {
    "live": TEXT, "logistic": BLUE, "reserve": GREEN, "headroom": VERMILLION, "affordable": ORANGE, "weighted": PURPLE,
    "zones": SKY,
}  # fmt: skip
#: Numbers are dark on all dots but these.
_INK = {TEXT: PAGE, BLUE: "#ffffff"}


@kept
def trade_off(frame: pd.DataFrame, *, named: Sequence[str] = (), height: int = 440) -> Figure:
    """Pacing efficiency over dry share, a dot per law; the line joins those that no other beats, the wall is the offline best.

    ``frame`` [slug, number, title, family, efficiency, dry_share, run_out_users, on_line]. Each dot bears its number;
    ``named`` are the slugs that bear their name too, where it meets nothing else on a wide screen nor on a phone.
    """
    fig = figure(
        height=height,
        x_title="dry share, %",
        y_title="pacing efficiency, %",
    )
    known = frame.dropna(subset=["efficiency", "dry_share"])
    line = known[known["on_line"]].sort_values("dry_share")
    fig.add_trace(
        scatter(
            x=(line["dry_share"] * 100).tolist(), y=(line["efficiency"] * 100).tolist(), mode="lines", name="no law is better",
            line={"color": GUIDE, "width": 1.4, "dash": "dot"}, hoverinfo="skip", showlegend=False,
        )
    )  # fmt: skip
    for family, rows in known.groupby("family", sort=False):
        shade, kind = FAMILIES.get(str(family), GREY), figure_text(str(family).capitalize())
        fig.add_trace(
            scatter(
                x=(rows["dry_share"] * 100).tolist(), y=(rows["efficiency"] * 100).tolist(), mode="markers+text", name=kind,
                marker={"size": 21 if family == "live" else 17, "color": shade, "symbol": "diamond" if family == "live" else "circle"},
                text=[str(number) for number in rows["number"]], textposition="middle center",
                textfont={"size": 10, "color": _INK.get(shade, "#111111")},
                hovertext=[_hover(row) for row in rows.to_dict("records")], hovertemplate="%{hovertext}<extra></extra>",
            )
        )  # fmt: skip
    low, high = (
        (float(known["dry_share"].min()) * 100, float(known["dry_share"].max()) * 100) if len(known) else (0.0, 1.0)
    )
    least = float(known["efficiency"].min()) * 100 if len(known) else 0.0
    side, air = max((high - low) * 0.12, 0.5), max((100.0 - least) * 0.12, 1.0)
    ends = (max(low - side, -0.04 * high), high + side)
    _names(fig, known, named, ends, 100.0 - least + 2 * air)
    guide_line(fig, 100.0)
    fig.add_annotation(
        x=1, xref="x domain", y=100.0, text="offline best: all that budgets pay for, nobody dry", showarrow=False, xanchor="right",
        yanchor="bottom", font={"size": 11, "color": TEXT},
    )  # fmt: skip
    fig.update_xaxes(range=list(ends), type="linear", ticksuffix="%")
    fig.update_yaxes(range=[least - air, 100.0 + air], ticksuffix="%")
    fig.update_layout(hovermode="closest")
    return fig


def _hover(row: dict[str, object]) -> str:
    return (
        f"<b>{row['number']} · {figure_text(str(row['title']))}</b><br>efficiency {numbers.share(row['efficiency'])}<br>"
        f"dry share {numbers.share(row['dry_share'])}<br>{numbers.counted(row['run_out_users'], 'user')} run out"
    )


#: About how large the plot is on a wide screen and on a phone, and a character and line of a name: what placing names
#: reckons with, in pixels.
_PLOTS, _CHARACTER, _LINE, _DOT = ((880.0, 330.0), (270.0, 330.0)), 6.3, 14.0, 10.0
_Box = tuple[float, float, float, float]


def _names(fig: Figure, known: pd.DataFrame, named: Sequence[str], ends: tuple[float, float], height: float) -> None:
    """Names beside dots where there is room at every width, the first of ``named`` first; the others are told on hover."""
    scales = [(wide / max(ends[1] - ends[0], 1e-9), high / max(height, 1e-9)) for wide, high in _PLOTS]
    dots = {row["slug"]: (row["dry_share"] * 100, row["efficiency"] * 100) for row in known.to_dict("records")}
    taken: list[list[_Box]] = [
        [(x * a - _DOT, -y * b - _DOT, x * a + _DOT, -y * b + _DOT) for x, y in dots.values()] for a, b in scales
    ]
    titles = dict(zip(known["slug"], known["title"], strict=True))
    on_line = set(known[known["on_line"]]["slug"])
    for slug in (slug for slug in named if slug in dots):
        x, y = dots[slug]
        wide = _CHARACTER * len(titles[slug])
        sides = [("left", 14, 0.0, 0.0), ("right", -14, -wide, 0.0)]
        above = [("center", 0, -wide / 2, -18.0), ("center", 0, -wide / 2, 18.0)]
        for anchor, shift, left, down in above + sides if slug in on_line else sides + above:
            boxes: list[_Box] = [
                (
                    x * a + shift + left,
                    -y * b + down - _LINE / 2,
                    x * a + shift + left + wide,
                    -y * b + down + _LINE / 2,
                )
                for a, b in scales
            ]
            inside = all(
                box[0] >= ends[0] * a and box[2] <= ends[1] * a for box, (a, _) in zip(boxes, scales, strict=True)
            )
            if inside and not any(_touch(box, other) for box, rest in zip(boxes, taken, strict=True) for other in rest):
                for box, rest in zip(boxes, taken, strict=True):
                    rest.append(box)
                fig.add_annotation(
                    x=x, y=y, text=figure_text(titles[slug], 40), showarrow=False, xanchor=anchor, xshift=shift, yshift=-down,
                    font={"size": 11, "color": TEXT}, name="label",
                )  # fmt: skip
                break


def _touch(one: _Box, other: _Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


@kept
def survival(frame: pd.DataFrame, *, sessions: int, height: int = 340) -> Figure:
    """Share of users without a run-out after each session, a step line per law: [title, session, without, family]."""
    fig = figure(height=height, x_title="sessions so far", y_title="users without a run-out, %")
    labels = []
    names = frame["title"].drop_duplicates().tolist()
    shades = [BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILLION, GREY]
    for place, name in enumerate(names):
        rows = frame[(frame["title"] == name) & (frame["session"] <= sessions)].dropna(subset=["without"])
        shade = shades[place % len(shades)]
        values = (rows["without"] * 100).tolist()
        fig.add_trace(
            scatter(
                x=rows["session"].tolist(), y=values, mode="lines", name=figure_text(name),
                line={"color": shade, "width": 2, "shape": "hv"},
                hovertext=[f"{figure_text(name)} {numbers.share(value)}" for value in rows["without"]],
                hovertemplate="%{hovertext}<extra></extra>",
            )
        )  # fmt: skip
        if values:
            labels.append(Label(name, shade, values[-1]))
    fig.update_xaxes(range=[0, sessions], type="linear", dtick=5)
    fig.update_yaxes(range=[0, 103], ticksuffix="%")
    if len(names) <= LABELLED_SERIES:
        direct_labels(fig, labels, (0.0, 103.0))
    else:
        fig.update_layout(showlegend=True)
    return fig
