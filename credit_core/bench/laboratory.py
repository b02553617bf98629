"""How fast the laboratory is: decisions by the whole policy, and a replay of a million of them with all that follows."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]

from credit_core import settings
from credit_core.lab import keeping, kernels, outcomes, replay, speed, workload
from credit_core.lab.batches import Batch, Recorded, World, fitted
from credit_core.lab.compiling import compiled
from credit_core.lab.replay import Period
from credit_core.policy.config import Config, apply_changes
from credit_core.service import catalog as catalogue
from credit_core.units import DAY_US, MICRO

_REQUESTS, _QUOTA, _CYCLE_DAYS, _PLAN = 240, 200, 30.0, "basic"
_RUNS = 5
_STEEP = {"controller.k": 0.0277259}


def measure(small: bool) -> dict[str, Any]:
    """Decisions a second compiled and interpreted, and seconds for a replay of a million decisions (small: of 24,000)."""
    found = speed.measure(2_000 if small else 40_000)
    accounts = 100 if small else 4_167
    replayed = _replay(accounts, 1 if small else _RUNS)
    return {
        "compiled_per_s": found.compiled_per_s,
        "compiled_per_core_s": found.compiled_per_core_s,
        "interpreted_per_s": found.interpreted_per_s,
        "same": found.same,
        "threads": found.threads,
        "decisions": accounts * _REQUESTS,
        **replayed,
    }


def _replay(accounts: int, runs: int) -> dict[str, float]:
    """Medians of ``runs``: the kernel with holds, settles, lots and closings; with the comparison of every metric; and with
    reading the arrivals that an earlier replay kept on disk.
    """
    live = Config()
    draft = apply_changes(live.body(), _STEEP)
    catalog = catalogue.read(settings.catalog_folder()).catalog
    world = workload.world_of(catalog, live, _PLAN, _CYCLE_DAYS)
    end = round(_CYCLE_DAYS * DAY_US)
    period = Period(0, end, tuple(round(day * DAY_US) for day in range(1, int(_CYCLE_DAYS))))
    models = replay.models_of(catalog, world, {})
    laws = [replay.govern([config], world, models, period, 0) for config in (live, draft)]
    batch = workload.one_cycle(_arrivals(accounts), accounts)
    kernel = compiled(kernels.replay)
    kernel_s, compared_s, read_s = [], [], []
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool, TemporaryDirectory() as folder:
        part = keeping.save(_recorded(batch, world), Path(folder, "part"))
        before, _ = replay.play(batch, laws[0], kernel, pool)
        for _ in range(runs):
            started = time.perf_counter()
            after, _ = replay.play(batch, laws[1], kernel, pool)
            kernel_s.append(time.perf_counter() - started)
            outcomes.compare(replay.joined([(batch, [before, after])], period, 0, 2))
            compared_s.append(time.perf_counter() - started)
            started = time.perf_counter()
            again = fitted(keeping.load(part), world)
            after, _ = replay.play(again, laws[1], kernel, pool)
            outcomes.compare(replay.joined([(again, [before, after])], period, 0, 2))
            read_s.append(time.perf_counter() - started)
    each = {"kernel_s": kernel_s, "replay_s": compared_s, "read_replay_s": read_s}
    return {name: float(np.median(seconds)) for name, seconds in each.items()}


def _recorded(batch: Batch, world: World) -> Recorded:
    accounts = len(batch.account_ids)
    users, entries = np.arange(accounts + 1), np.diff(batch.event_from)
    return Recorded(batch, world.names, pa.array(batch.account_ids, pa.string()), users, entries)


def _arrivals(accounts: int) -> workload.Arrivals:
    """Accounts that ask a little more than their quota affords, some of them in binges."""
    rng = np.random.default_rng(7)
    size = accounts * _REQUESTS
    at = np.sort(rng.integers(0, round(_CYCLE_DAYS * DAY_US), (accounts, _REQUESTS)), axis=1)
    return workload.Arrivals(
        account=np.repeat(np.arange(accounts), _REQUESTS),
        at_us=at.reshape(-1),
        images=rng.choice([1, 1, 1, 2, 4], size),
        u01=rng.random(size),
        quota_uc=_QUOTA * MICRO,
        cycle_days=_CYCLE_DAYS,
        prior=1.8 * _REQUESTS / _CYCLE_DAYS,
    )
