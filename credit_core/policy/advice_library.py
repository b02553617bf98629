"""Whether the coverage thresholds can be met by the library that there is; said by :mod:`credit_core.policy.advice`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import median

from credit_core.policy.advice_terms import Advice, Cell, listed, number, share, title
from credit_core.policy.config import Config
from credit_core.policy.guardrails import coverage

#: From this share of misses on it is rule 5 that decides, not the controller.
MOSTLY = 0.5


def advise(config: Config, library: Sequence[Cell]) -> Iterator[Advice]:
    """Plans whose threshold no cell reaches, or that most requests fall short of; nothing of a library nobody asked."""
    asked = [cell for cell in library if cell.requests > 0]
    total = sum(cell.requests for cell in asked)
    if not total:
        return
    target = config.coverage.target
    best = max(coverage(cell.assets, target) for cell in asked)
    unreached: dict[float, list[str]] = {}
    mostly: dict[float, list[str]] = {}
    for name, tuning in config.plans.items():
        threshold = tuning.coverage_threshold
        misses = sum(cell.requests for cell in asked if coverage(cell.assets, target) < threshold) / total
        if best < threshold:
            unreached.setdefault(threshold, []).append(name)
        elif misses > MOSTLY:
            mostly.setdefault(threshold, []).append(name)
    held = number(median(cell.assets for cell in asked))
    for threshold, names in unreached.items():
        needs = math.ceil(threshold * target - 1e-9)
        grows = config.coverage.library_growth
        ends = "until it has grown" if grows else "and the library does not grow, so that never ends"
        yield Advice(
            "warn" if grows else "block",
            f"{listed(map(title, names))}: the coverage threshold of {share(threshold)} asks for {needs} assets in a cell, and no cell "
            f"that was asked for has as many. Every request is a miss, served fresh without the controller, {ends}.",
            f"plans.{names[0]}.coverage_threshold",
        )
    for threshold, names in mostly.items():
        missing = sum(cell.requests for cell in asked if coverage(cell.assets, target) < threshold) / total
        yield Advice(
            "warn",
            f"{listed(map(title, names))}: {share(missing)} of the requests ask for cells under the coverage threshold of "
            f"{share(threshold)} (half of the cells hold {held} assets or fewer), so most are served fresh without the controller.",
            f"plans.{names[0]}.coverage_threshold",
        )
