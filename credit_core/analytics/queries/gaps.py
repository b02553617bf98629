"""What filling the library's gaps would mend, how demand lies over coverage, and whose first fallback it was."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd
from sqlalchemy import ColumnElement, Select, func, select

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
    met = _met_library(relations.behind(relations.facts, filters)).subquery("met")
    before = _met_library(relations.facts.c.occurred_at < to_us(filters.period.start)).subquery("before")
    joined = met.outerjoin(before, before.c.user_id == met.c.user_id)
    statement = select(func.count(), func.count().filter(before.c.user_id.is_(None))).select_from(joined)
    users, firsts = facts.rows(statement)[0]
    return FirstFallbacks(int(users), int(firsts))


def _met_library(behind: ColumnElement[bool]) -> Select[tuple[str]]:
    """Users with a library answer among some entries."""
    f = relations.facts.c
    answered = func.count().filter(measures.judged_with("library")(f))
    return select(f.user_id).where(behind, f.user_id.is_not(None)).group_by(f.user_id).having(answered > 0)
