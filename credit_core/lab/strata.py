"""A sample of accounts that stands for all of them: drawn by plan and by how much they ask for, each with its weight.

Most of what pacing does it does to the few who ask for more than they get, so a plain sample of a few hundred would hardly
meet them. Strata get places by Neyman's allocation (Cochran, Sampling Techniques, 5.5): by their size times the spread of
demand within.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from credit_core.lab import tables
from credit_core.lab.batches import Batch, joined
from credit_core.lab.replay import Period
from credit_core.policy.guardrails import PAUSED
from credit_core.units import DAY_US, MICRO

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]
#: Demand over what the quota affords, below which an account is light, even; above: heavy. None: it asked for nothing.
CLASSES = ("idle", "light", "even", "heavy")
_EDGES = (0.5, 1.0)
#: The fewest accounts of a stratum that are drawn; all, where there are no more.
_FEWEST = 3


class Drawn(NamedTuple):
    """Places of the accounts drawn, ascending, and how many accounts each of them stands for."""

    places: Places
    weights: Floats


def draw(told: pd.DataFrame, size: int, seed: int = 0) -> Drawn | None:
    """About ``size`` accounts of ``told`` (:func:`describe`), a few of each stratum at least; None where all are hardly more."""
    if len(told) <= size * 1.25:
        return None
    demand = told["demand"].to_numpy()
    strata = told.groupby(["plan", "class"], sort=True).indices
    within = [np.sort(places) for places in strata.values()]
    sizes = np.array([len(places) for places in within])
    counts = allocated(sizes, np.array([float(demand[places].std()) for places in within]), size)
    rng = np.random.default_rng(seed)
    places = np.concatenate(
        [rng.choice(among, count, replace=False) for among, count in zip(within, counts, strict=True)]
    )
    weights = np.repeat(sizes / counts, counts)
    order = np.argsort(places)
    return Drawn(places[order], weights[order])


def allocated(sizes: Places, spreads: Floats, total: int) -> list[int]:
    """Places of each stratum: at least a few, at most all, the rest by size times spread."""
    counts = np.minimum(sizes, _FEWEST).astype(np.int64)
    pull = sizes * spreads
    while (left := total - int(counts.sum())) > 0:
        open_ = (counts < sizes) & (pull > 0)
        if not open_.any():
            break
        share = np.where(open_, pull, 0.0)
        more = np.minimum(np.ceil(left * share / share.sum()).astype(np.int64), sizes - counts)
        # Rounded up: the last ones go without, so that no more than the total is given out.
        given = np.minimum(np.cumsum(more), left)
        counts += np.diff(given, prepend=0)
    return [int(count) for count in counts]


def describe(batch: Batch, period: Period) -> pd.DataFrame:
    """By account: account_id, plan, decisions by rules 4 to 8 in the period, the credits they asked for (demand), class."""
    events, accounts = batch.events, len(batch.account_ids)
    within = (events["at"] >= period.start_us) & (events["at"] < period.end_us)
    asked = (events["kind"] == tables.OPEN) & (events["rule"] > PAUSED) & within
    rows = events[asked]
    owner = np.repeat(np.arange(accounts), np.diff(batch.event_from))[asked]
    number = np.bincount(owner, minlength=accounts)
    demand = np.bincount(owner, rows["amount_uc"] / MICRO, accounts)
    pace = np.bincount(owner, rows["quota_uc"] / MICRO / np.maximum(rows["cycle_days"], 1e-9), accounts)
    affords = pace / np.maximum(number, 1) * (period.end_us - period.start_us) / DAY_US
    # Without a quota whatever is asked for is more than it affords.
    ratio = np.divide(demand, affords, out=np.full(accounts, np.inf), where=affords > 0)
    classes = np.where(number == 0, 0, 1 + np.searchsorted(_EDGES, ratio))
    return pd.DataFrame(
        {
            "account_id": batch.account_ids,
            "plan": batch.plan,
            "decisions": number,
            "demand": demand,
            "class": [CLASSES[place] for place in classes.tolist()],
        }
    )


def picked(batches: Sequence[Batch], places: Places) -> Batch:
    """Accounts by their places in all batches together, as one batch."""
    starts = np.cumsum([0, *(len(batch.account_ids) for batch in batches)])
    return joined(
        [
            batch.of(places[(places >= start) & (places < end)] - start)
            for batch, start, end in zip(batches, starts[:-1], starts[1:], strict=True)
        ]
    )
