"""Where the library fails: cells by demand, misses and health, and the pantry queue (SPEC 4.1)."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from statistics import median

import pandas as pd
from sqlalchemy import BigInteger, ColumnElement, case, cast, func, select

from credit_core.analytics import measures, relations
from credit_core.analytics.days import reporting_days
from credit_core.analytics.filters import Filters
from credit_core.analytics.queries.series import elapsed_days, lived_days
from credit_core.analytics.sync import Facts
from credit_core.policy import guardrails, pantry
from credit_core.policy.config import Config
from credit_core.units import MICRO, from_us

_CELL = ["genre", "mood"]


def cells(facts: Facts, filters: Filters, config: Config, at: datetime | None = None) -> pd.DataFrame:
    """Every cell asked for in the period or held by the library, most requests first.

    Columns genre, mood, requests (decisions by rules 4–8), misses, miss_rate, fresh, demand_per_day; at ``at`` (default:
    the newest entry) assets, stale_assets, coverage, staleness_share, health, under_represented; at_risk_uc and
    at_risk_credits (spent because of rule 5), threshold (the highest of the plans that asked), queue_score, queued_at.
    """
    newest = facts.extent.last_us
    at = at or (filters.period.end if newest is None else from_us(newest))
    return facts.once(_cells, filters.narrowed(compare=None), config, at)


def _cells(facts: Facts, filters: Filters, config: Config, at: datetime) -> pd.DataFrame:
    asked = _asked(facts, filters, config)
    frame = _library(facts, filters, config, at).merge(_of_cells(asked), on=_CELL, how="outer")
    frame = frame.merge(_at_risk(facts, filters), on=_CELL, how="left")
    counts = ["requests", "misses", "fresh", "assets", "stale_assets", "at_risk_uc"]
    frame[counts] = frame[counts].fillna(0).astype("int64")
    target = config.coverage.target
    held = list(zip(frame["assets"], frame["stale_assets"], strict=True))
    frame["coverage"] = [guardrails.coverage(assets, target) for assets, _ in held]
    frame["health"] = [guardrails.health(assets, stale, target) for assets, stale in held]
    frame["staleness_share"] = frame["stale_assets"] / frame["assets"].where(frame["assets"] > 0)
    demanded = frame.loc[frame["demanded"].fillna(False).astype(bool), "coverage"]
    frame["under_represented"] = frame["coverage"] < (median(demanded) if len(demanded) else -math.inf)
    frame["miss_rate"] = frame["misses"] / frame["requests"].where(frame["requests"] > 0)
    frame["demand_per_day"] = frame["requests"] / elapsed_days(facts, filters.period)
    frame["at_risk_credits"] = frame["at_risk_uc"] / MICRO
    frame["queue_score"] = _scores(asked, frame, elapsed_days(facts, filters.period))
    columns = [
        *_CELL, "requests", "misses", "miss_rate", "fresh", "demand_per_day", "assets", "stale_assets", "coverage", "staleness_share",
        "health", "under_represented", "at_risk_uc", "at_risk_credits", "threshold", "queue_score", "queued_at",
    ]  # fmt: skip
    return frame[columns].sort_values(["requests", *_CELL], ascending=[False, True, True]).reset_index(drop=True)


def pantry_queue(
    facts: Facts, filters: Filters, config: Config, limit: int | None = None, at: datetime | None = None
) -> pd.DataFrame:
    """Cells in the order they are worth filling: demand × (threshold − coverage), summed over the plans that asked.

    Columns rank, genre, mood, requests, demand_per_day, coverage, threshold, assets, assets_needed (to reach the
    threshold), queue_score, queued_at.
    """
    frame = cells(facts, filters, config, at)
    frame = frame[frame["queue_score"] > 0].sort_values(["queue_score", *_CELL], ascending=[False, True, True])
    frame = frame.reset_index(drop=True)
    frame["rank"] = frame.index + 1
    held = list(zip(frame["assets"], frame["threshold"], strict=True))
    needed = [pantry.missing(assets, config.coverage.target, threshold) for assets, threshold in held]
    frame["assets_needed"] = pd.Series(needed, dtype="int64")
    columns = [
        "rank",
        *_CELL,
        "requests",
        "demand_per_day",
        "coverage",
        "threshold",
        "assets",
        "assets_needed",
        "queue_score",
        "queued_at",
    ]
    return frame[columns] if limit is None else frame[columns].head(limit)


def misses_by_day(facts: Facts, filters: Filters, limit: int = 10) -> pd.DataFrame:
    """Per reporting day, for the cells with most misses in the period: day, genre, mood, requests, misses, miss_rate."""
    f = relations.facts.c
    kept = relations.behind(relations.facts, filters) & f.genre.is_not(None)
    misses = func.count().filter(measures.missed(f)).label("misses")
    asked = func.count().filter(measures.judged(f)).label("requests")
    found = facts.frame(select(f.day, f.genre, f.mood, asked, misses).where(kept).group_by(f.day, f.genre, f.mood))
    sums = found.groupby(_CELL, as_index=False, dropna=False)["misses"].sum()
    order = sums[sums["misses"] > 0].sort_values(["misses", *_CELL], ascending=[False, True, True], ignore_index=True)
    worst = order[_CELL].head(limit)
    found["day"] = pd.to_datetime(found["day"])
    days = pd.DataFrame({"day": pd.to_datetime([one.day for one in reporting_days(filters.period, facts.zone)])})
    frame = days.merge(worst, how="cross").merge(found, on=["day", *_CELL], how="left")
    nothing = frame["requests"].isna() & frame["day"].isin(lived_days(facts, filters.period))
    counts = frame[["requests", "misses"]].astype("Int64").mask(nothing, 0)
    frame[["requests", "misses"]] = counts
    frame["miss_rate"] = _ratio(counts["misses"], counts["requests"])
    return frame


def miss_by_plan(facts: Facts, filters: Filters, config: Config) -> pd.DataFrame:
    """By plan: threshold, requests, misses, miss_rate, cells_under_threshold (of those its accounts asked for)."""
    asked = _asked(facts, filters, config)
    held = cells(facts, filters, config)[[*_CELL, "coverage"]]
    asked = asked.merge(held, on=_CELL, how="left")
    asked["under"] = asked["coverage"] < asked["threshold"]
    frame = asked.groupby("plan", as_index=False).agg(
        threshold=("threshold", "first"),
        requests=("requests", "sum"),
        misses=("misses", "sum"),
        cells_under_threshold=("under", "sum"),
    )
    frame["miss_rate"] = _ratio(frame["misses"], frame["requests"])
    return frame[["plan", "threshold", "requests", "misses", "miss_rate", "cells_under_threshold"]]


def _ratio(part: pd.Series, whole: pd.Series) -> pd.Series:
    known = whole.astype("float64")
    return part.astype("float64") / known.where(known > 0)


def _asked(facts: Facts, filters: Filters, config: Config) -> pd.DataFrame:
    """genre, mood, plan, requests, misses, fresh, threshold."""
    f = relations.facts.c
    keys = (f.genre, f.mood, f.plan)
    statement = (
        select(
            *keys,
            func.count().label("requests"),
            func.count().filter(f.miss).label("misses"),
            func.count().filter(f.outcome == "fresh").label("fresh"),
        )
        .where(relations.behind(relations.facts, filters), measures.judged(f), f.genre.is_not(None))
        .group_by(*keys)
    )
    frame = facts.frame(statement)
    frame["threshold"] = [config.plan(plan).coverage_threshold for plan in frame["plan"]]
    return frame.astype({"threshold": "float64"})


def _of_cells(asked: pd.DataFrame) -> pd.DataFrame:
    return asked.groupby(_CELL, as_index=False).agg(
        requests=("requests", "sum"), misses=("misses", "sum"), fresh=("fresh", "sum"), threshold=("threshold", "max")
    )


def _scores(asked: pd.DataFrame, frame: pd.DataFrame, days: float) -> list[float]:
    """Per row of ``frame``: Σ over plans of demand a day × (threshold − coverage), where that is positive."""
    known = asked.merge(frame[[*_CELL, "coverage"]], on=_CELL)
    rows = zip(known["requests"] / days, known["coverage"], known["threshold"], strict=True)
    known["score"] = pd.Series([pantry.score(*row) for row in rows], dtype="float64")
    score = known.groupby(_CELL)["score"].sum().to_dict()
    return [float(score.get(cell, 0.0)) for cell in zip(frame["genre"], frame["mood"], strict=True)]


def _library(facts: Facts, filters: Filters, config: Config, at: datetime) -> pd.DataFrame:
    """genre, mood, assets, stale_assets, demanded, queued_at. Ages count in whole UTC days."""
    held, marks = relations.library_days.c, relations.library_cells.c
    today = at.astimezone(UTC).date()
    stale_before = (today - timedelta(days=config.coverage.stale_days)).isoformat()
    assets = select(
        held.genre,
        held.mood,
        _sum(held.assets).label("assets"),
        _sum(case((held.day < stale_before, held.assets), else_=0)).label("stale_assets"),
    ).where(held.day <= today.isoformat())
    marked = select(marks.genre, marks.mood, marks.requested_at.is_not(None).label("demanded"), marks.queued_at)
    if filters.cell is not None:
        genre, mood = filters.cell
        assets, marked = (
            assets.where(held.genre == genre, held.mood == mood),
            marked.where(marks.genre == genre, marks.mood == mood),
        )
    frame = facts.frame(assets.group_by(held.genre, held.mood))
    return frame.merge(facts.frame(marked), on=_CELL, how="outer")


def _at_risk(facts: Facts, filters: Filters) -> pd.DataFrame:
    """genre, mood, at_risk_uc: spent on requests that rule 5 made fresh."""
    forced = facts.forced_spending()
    f = forced.c
    statement = (
        select(f.genre, f.mood, measures.total(measures.spent_uc)(f).label("at_risk_uc"))
        .where(relations.behind(forced, filters))
        .group_by(f.genre, f.mood)
    )
    return facts.frame(statement)


def _sum(amount: ColumnElement[int]) -> ColumnElement[int]:
    return cast(func.sum(amount), BigInteger)
