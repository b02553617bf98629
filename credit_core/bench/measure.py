"""How the benchmarks measure: alternating blocks, quantiles, and what a durable write costs here."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles
from typing import NamedTuple

Block = Callable[[int], None]


class Against(NamedTuple):
    """Runs of product and baseline, neighbour by neighbour. ``ratio``: the product's rate by the baseline's, median."""

    product_s: float
    baseline_s: float
    ratio: float


def against(product: Block, baseline: Block, blocks: int) -> Against:
    """Seconds per block of each, alternating; a first block of each is not counted."""
    taken: tuple[list[float], list[float]] = ([], [])
    for number in range(blocks + 1):
        for times, run in zip(taken, (product, baseline), strict=True):
            started = time.perf_counter()
            run(number)
            if number:
                times.append(time.perf_counter() - started)
    ratios = [slow / own for own, slow in zip(*taken, strict=True)]
    return Against(median(taken[0]), median(taken[1]), median(ratios))


def p50_p95(taken: list[float]) -> tuple[float, float]:
    """Median and 95th percentile."""
    return median(taken), quantiles(taken, n=20)[18]


def fsync_ms(folder: Path, times: int = 100) -> float:
    """Median of writing 4 KiB in place and fdatasync, in ``folder``: what a commit cannot be faster than."""
    taken = []
    path = folder / "fsync.bin"
    with path.open("wb") as file:
        for _ in range(times):
            file.seek(0)
            file.write(os.urandom(4_096))
            file.flush()
            started = time.perf_counter()
            os.fdatasync(file.fileno())
            taken.append((time.perf_counter() - started) * 1_000)
    path.unlink()
    return median(taken)
