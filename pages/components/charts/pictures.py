"""Pictures: what nobody hovers over or drags, as SVG that a browser shows as an image."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from pages.components.charts.style import BLUE, GUIDE, headroom


def sparkline(
    values: Sequence[float | None], *, target: float | None = None, tint: str = BLUE, height: int = 44
) -> str:
    """The course of a value as an SVG picture without axes: gaps stay gaps, a dot at the end, the target dashed.

    For cards, where there is nothing to hover or drag: five of Plotly's figures took the browser longer than all else in the row.
    """
    shown = [None if v is None or pd.isna(v) else float(v) for v in values]
    known = [v for v in [*shown, target] if v is not None]
    low, high = headroom(known, zero=False)
    step = 96.0 / max(1, len(shown) - 1)

    def at(place: int, value: float) -> str:
        return f"{2 + step * place:.4g} {(high - value) / (high - low) * height:.4g}"

    runs: list[list[str]] = [[]]
    for place, value in enumerate(shown):
        if value is None:
            runs.append([])
        else:
            runs[-1].append(at(place, value))
    # A run of one point has no length: only a round cap shows it.
    course = "".join(f"M{run[0]}" + ("".join(f"L{point}" for point in run[1:]) or "h0") for run in runs if run)
    parts = [_stroke(course, tint, 1.8)]
    if shown and shown[-1] is not None:
        parts.append(_stroke(f"M{at(len(shown) - 1, shown[-1])}h0", tint, 6))
    if target is not None:
        level = f"{(high - target) / (high - low) * height:.4g}"
        parts.append(_stroke(f"M0 {level}H100", GUIDE, 1.2, dashes="5 4"))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="100%" height="{height}" viewBox="0 0 100 {height}" '
        f'preserveAspectRatio="none">{"".join(parts)}</svg>'
    )


def _stroke(path: str, shade: str, width: float, dashes: str = "") -> str:
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return (
        f'<path d="{path}" fill="none" stroke="{shade}" stroke-width="{width}" stroke-linecap="round" stroke-linejoin="round" '
        f'vector-effect="non-scaling-stroke"{dashed}></path>'
    )
