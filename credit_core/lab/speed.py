"""How fast the laboratory decides on this machine: compiled against interpreted, in one process."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from credit_core.lab import pacing, tables
from credit_core.lab.compiling import compiled
from credit_core.lab.tables import Records
from credit_core.policy.config import Config
from credit_core.policy.decision import law_for

_REQUESTS, _QUOTA, _CYCLE_DAYS = 240, 200.0, 30.0
_SLICES = 32


class Speed(NamedTuple):
    """Decisions a second, sums alone: by all threads, and by a second of one core; whether both paths came to the same sums."""

    compiled_per_s: float
    compiled_per_core_s: float
    interpreted_per_s: float
    same: bool
    threads: int


def measure(accounts: int = 40_000, interpreted_accounts: int = 40, threads: int | None = None) -> Speed:
    """Take ``accounts`` × 240 decisions by the whole policy, and few of them interpreted."""
    law = _law()
    workers = threads or os.cpu_count() or 1
    # The first call compiles, or reads what an earlier process compiled.
    few = decide(law, interpreted_accounts, 1)
    started, spent = time.perf_counter(), time.process_time()
    sums = decide(law, accounts, workers)
    elapsed, spent = time.perf_counter() - started, time.process_time() - spent
    started = time.perf_counter()
    slow = np.zeros(10)
    pacing.cycle(law, 0, interpreted_accounts, _REQUESTS, _QUOTA, _CYCLE_DAYS, slow)
    slow_elapsed = time.perf_counter() - started
    return Speed(
        float(sums[0] / elapsed),
        float(sums[0] / spent),
        float(slow[0] / slow_elapsed),
        bool(np.array_equal(few, slow)),
        workers,
    )


def decide(law: Records, accounts: int, threads: int) -> npt.NDArray[np.float64]:
    """The sums of :func:`pacing.cycle` over so many accounts."""
    kernel = compiled(pacing.cycle)
    bounds = np.linspace(0, accounts, min(_SLICES, accounts) + 1 if threads > 1 else 2).astype(int).tolist()

    def share(place: int) -> npt.NDArray[np.float64]:
        sums = np.zeros(10)
        kernel(law, bounds[place], bounds[place + 1], _REQUESTS, _QUOTA, _CYCLE_DAYS, sums)
        return sums

    with ThreadPoolExecutor(threads) as pool:
        return np.asarray(np.sum(list(pool.map(share, range(len(bounds) - 1))), axis=0))


def _law() -> Records:
    laws = tables.records(1, tables.LAW)
    laws[0] = tuple(law_for(Config(), "basic"))
    return laws[0]
