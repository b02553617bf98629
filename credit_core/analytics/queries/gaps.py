"""What filling the library's gaps would mend."""

from __future__ import annotations

import pandas as pd

from credit_core.analytics.filters import Filters
from credit_core.analytics.queries.coverage import cells, pantry_queue
from credit_core.analytics.sync import Facts
from credit_core.policy.config import Config


def pantry_effect(facts: Facts, filters: Filters, config: Config) -> pd.DataFrame:
    """The pantry queue with the period's misses of each cell: misses, and over the cell and those above it cum_misses,
    cum_miss_share (of all misses of the period; NaN without any) and cum_assets_needed.
    """
    queue = pantry_queue(facts, filters, config)
    everything = cells(facts, filters, config)
    missed = everything[["genre", "mood", "misses"]]
    joined = queue.merge(missed, on=["genre", "mood"], how="left", validate="one_to_one").fillna({"misses": 0})
    total = int(everything["misses"].sum())
    return joined.assign(
        misses=joined["misses"].astype("int64"),
        cum_misses=joined["misses"].cumsum().astype("int64"),
        cum_miss_share=joined["misses"].cumsum() / total if total else float("nan"),
        cum_assets_needed=joined["assets_needed"].cumsum(),
    )
