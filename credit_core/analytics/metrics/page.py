"""The registry as a page of documentation: docs/metrics.md, which a test keeps equal to it."""

from __future__ import annotations

from credit_core.analytics.metrics import METRICS
from credit_core.analytics.metrics.declaration import Metric

_HEAD = """# Metrics

Every figure of the dashboard, as it is declared in `credit_core/analytics/metrics`: pages, exports, the tie-out and this page read the
same registry. A rate keeps its numerator and denominator and is never averaged; *sums over* names the dimensions whose parts add up
to the whole. The SQL of each stands behind its (i) on screen, and on Explore under *Show the SQL*.

Written by `python -c "from credit_core.analytics.metrics.page import markdown; print(markdown(), end='')" > docs/metrics.md`.

| metric | slug | unit | definition | good | sums over | source |
|---|---|---|---|---|---|---|
"""
_GOOD = {"up": "more", "down": "less", "neutral": "–"}


def markdown() -> str:
    """The whole page."""
    return _HEAD + "".join(_row(declared) for declared in METRICS.values())


def _row(declared: Metric) -> str:
    sums = ", ".join(declared.summable) or "nothing"
    cells = (
        declared.title,
        f"`{declared.slug}`",
        declared.unit,
        declared.definition,
        _GOOD[declared.direction],
        sums,
        declared.source,
    )
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"
