"""What filling the library's gaps would mend, how demand lies over coverage, and whose first fallback it was."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd
from sqlalchemy import func, select

from credit_core.analytics import measures, relations
from credit_core.analytics.filters import Filters
from credit_core.analytics.queries.coverage import cells, pantry_queue
from credit_core.analytics.sync import Facts
from credit_core.policy.config import Config
from credit_core.units import to_us

#: Queues are summed up over so many cells.
STEPS = (10, 50, 100)


class FirstFallbacks(NamedTuple):
    """Users who got a library answer in the period, and those of them who had never had one before."""

    users: int
    firsts: int

    @property
    def share(self) -> float | None:
        """firsts ÷ users; None without users."""
        return self.firsts / self.users if self.users else None


def pantry_effect(facts: Facts, filters: Filters, config: Config) -> pd.DataFrame:
    """The pantry queue with the period's misses of each cell: misses, and over the cell and those above it cum_misses,
    cum_miss_share (of all misses of the period; NaN without any), cum_assets_needed and cum_at_risk_credits.
    """
    queue = pantry_queue(facts, filters, config)
    everything = cells(facts, filters, config)
    missed = everything[["genre", "mood", "misses", "at_risk_credits"]]
    joined = queue.merge(missed, on=["genre", "mood"], how="left", validate="one_to_one")
    joined = joined.fillna({"misses": 0, "at_risk_credits": 0.0})
    total = int(everything["misses"].sum())
    return joined.assign(
        misses=joined["misses"].astype("int64"),
        cum_misses=joined["misses"].cumsum().astype("int64"),
        cum_miss_share=joined["misses"].cumsum() / total if total else float("nan"),
        cum_assets_needed=joined["assets_needed"].cumsum(),
        cum_at_risk_credits=joined["at_risk_credits"].cumsum(),
    )


def fill_steps(queue: pd.DataFrame) -> pd.DataFrame:
    """Of :func:`pantry_effect`, what the next 10, 50 and 100 cells, and all of them, come to: cells and the cum columns."""
    sizes = [*(size for size in STEPS if size < len(queue)), *([len(queue)] if len(queue) else [])]
    columns = ["cum_misses", "cum_miss_share", "cum_assets_needed", "cum_at_risk_credits"]
    rows = queue.iloc[[size - 1 for size in sizes]][columns].reset_index(drop=True)
    rows.insert(0, "cells", sizes)
    return rows


def demand_by_coverage(facts: Facts, filters: Filters, config: Config) -> pd.DataFrame:
    """Requests of the period by the coverage that their cell has now: coverage (ascending), requests, under_share.

    ``under_share`` is the share of all requests whose cell has this coverage or less.
    """
    everything = cells(facts, filters, config)
    asked = everything[everything["requests"] > 0]
    frame = asked.groupby("coverage", as_index=False)[["requests"]].sum().sort_values("coverage", ignore_index=True)
    return frame.assign(under_share=frame["requests"].cumsum() / frame["requests"].sum())


def first_fallbacks(facts: Facts, filters: Filters) -> FirstFallbacks:
    """How many users met the library for the first time in the period, of all who met it then."""
    f = relations.facts.c
    answered = measures.judged_with("library")(f) & f.user_id.is_not(None)
    met = select(f.user_id).distinct().where(relations.behind(relations.facts, filters), answered).subquery("met")
    first = (
        select(f.user_id, func.min(f.occurred_at).label("first_us"))
        .where(answered)
        .group_by(f.user_id)
        .subquery("first")
    )
    found = facts.rows(
        select(func.count(), func.count().filter(first.c.first_us >= to_us(filters.period.start)))
        .select_from(met.join(first, first.c.user_id == met.c.user_id))
    )  # fmt: skip
    return FirstFallbacks(int(found[0][0]), int(found[0][1]))
