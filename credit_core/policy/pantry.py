"""The pantry queue (SPEC 4.1): which cells of the library are worth filling first, and by how much. Pure."""

from __future__ import annotations

import math


def score(demand_per_day: float, coverage: float, threshold: float) -> float:
    """Demand × (threshold − coverage) of one cell and plan; 0 where the threshold is reached. A cell's is the sum over plans."""
    return demand_per_day * max(threshold - coverage, 0.0)


def missing(assets: int, target: int, threshold: float) -> int:
    """Assets still to be added until coverage reaches ``threshold``."""
    # 0.15 · 20 is a little over 3 in binary.
    return max(math.ceil(round(threshold * target, 9)) - assets, 0)
