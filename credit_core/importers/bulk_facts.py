"""The facts of a made-up ledger without the ledger: ``python -m credit_core demo --entries 100000000 --facts-only``.

Account by account and entry by entry they are what ``sync`` would copy from the ledger of :mod:`credit_core.importers.bulk`
with the same seed and days; only what the hash chain and the database cost is left out.
"""

from __future__ import annotations

import time
from collections import defaultdict
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]

from credit_core.analytics import relations
from credit_core.analytics.made_up import MadeUpFacts
from credit_core.importers import bulk
from credit_core.importers.bulk import Made, Progress
from credit_core.importers.bulk_rows import Chains

_COLUMNS = frozenset(relations.facts.columns.keys())


def make(
    url: str,
    folder: Path,
    entries: int,
    until: datetime,
    *,
    days: int = bulk.DAYS,
    seed: int = 7,
    reporting_zone: str | None = None,
    progress: Progress = lambda _share, _words: None,
) -> Made:
    """Fill ``folder`` with the facts of about ``entries`` entries; the ledger at ``url`` gets configuration and library alone.

    Raises :class:`Conflict` if the ledger has users or the folder facts. A run that is cut off leaves the folder empty.
    """
    started = time.monotonic()
    world = bulk.new_world(url, entries, until, days, seed, reporting_zone)
    chains = Chains(world.account_ids, world.user_ids, _COLUMNS, hashed=False)
    words = (
        f"about {entries} entries made up with seed {seed}, over {days} days until {world.start + timedelta(days=days)}"
    )
    made = 0
    with closing(MadeUpFacts(url, folder, words)) as facts:
        for share, groups in world.batches():
            batch = chains.append(groups)
            if batch is not None:
                ids = np.arange(made + 1, made + batch.rows + 1)
                facts.append(batch.table().append_column("id", pa.array(ids)))
                made += batch.rows
            progress(0.95 * share, f"{made} entries")
        tables: defaultdict[str, list[pa.Table]] = defaultdict(list)
        for name, rows in bulk.dimensions(world, chains):
            tables[name].append(rows)
        facts.finish(tables)
    progress(1.0, f"{made} entries")
    return Made(made, world.accounts, days, time.monotonic() - started)
