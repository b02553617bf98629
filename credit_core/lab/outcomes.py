"""What a replay comes to: metrics of SPEC 6 for live and candidate, their paired difference, and who gains or loses.

The estimand of each difference is what a new account of the same population could expect with fresh draws: accounts are
resampled whole, and both sides of each stay together. Accounts of a stratified sample count as many times as they stand
for, so that totals are those of everybody.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from credit_core.lab.intervals import (
    FEWEST_ACCOUNTS,
    Interval,
    Sums,
    newcombe_paired,
    paired_differences,
)
from credit_core.lab.replay import Replayed, Run
from credit_core.units import MICRO, from_us

Floats = npt.NDArray[np.float64]
BEHIND_DAYS, AHEAD_DAYS = -3.0, 3.0
QUANTILES = {"p05": 0.05, "p25": 0.25, "p50": 0.50, "p75": 0.75, "p95": 0.95}
EVERYBODY = "all"
#: Below this many credits a difference in what is to be expected is neither gain nor loss.
_NOTICED = 0.5
#: Shares with fewer events than this on a side get Newcombe's interval.
_FEW_EVENTS = 5


class Metric(NamedTuple):
    """Σ numerator ÷ Σ denominator over accounts; no denominator: a total. ``each``: both are 0 or 1 per account."""

    slug: str
    title: str
    unit: str
    numerator: Callable[[Run], Floats]
    denominator: Callable[[Run], Floats] | None = None
    each: bool = False


def _of(*names: str) -> Callable[[Run], Floats]:
    def total(run: Run) -> Floats:
        return np.asarray(np.sum([run.sums[name] for name in names], axis=0), dtype=np.float64)

    return total


def _credits(name: str) -> Callable[[Run], Floats]:
    return lambda run: np.asarray(run.sums[name] / MICRO, dtype=np.float64)


def _active(run: Run) -> Floats:
    return np.asarray(run.sums["requests"] > 0, dtype=np.float64)


def _cost_usd(run: Run) -> Floats:
    # One unknown price makes the total unknown.
    return np.asarray(np.where(run.sums["unpriced"] > 0, np.nan, run.sums["usd_micro"] / MICRO), dtype=np.float64)


def _days_where(condition: Callable[[Any], Any]) -> Callable[[Run], Floats]:
    return lambda run: np.asarray(condition(run.days).sum(axis=1), dtype=np.float64)


_KNOWN_DAYS = _days_where(np.isfinite)
METRICS = (
    Metric("fresh_rate", "Fresh rate", "share", _of("fresh"), _of("decisions")),
    Metric("chosen_fresh_rate", "Fresh rate, chosen", "share", _of("chosen_fresh"), _of("chosen")),
    Metric("fresh_credits", "Fresh credits", "credits", _credits("fresh_uc")),
    Metric("expected_credits", "Fresh credits expected, over all draws", "credits", _credits("expected_uc")),
    Metric("demand_credits", "Demand", "credits", _credits("demand_uc")),
    Metric("pacing_efficiency", "Pacing efficiency, finished cycles", "share", _of("cycle_fresh_uc"), _of("cycle_budget_uc")),
    Metric(
        "running_efficiency", "Pacing efficiency, unfinished cycles", "share", _of("running_fresh_uc"), _of("running_budget_uc")
    ),
    Metric(
        "run_out_share", "Accounts with a run-out", "share",
        lambda run: np.asarray(run.sums["run_outs"] > 0, dtype=np.float64), _active, each=True,
    ),
    Metric("dry_time", "Dry time per active account", "share of a cycle", _of("dry_share"), _active),
    Metric("dry_days", "Dry days per active account", "days", _of("dry_days"), _active),
    Metric("flicker", "Flicker", "share", _of("flips"), _of("neighbours")),
    Metric("coverage_miss_rate", "Coverage-miss rate", "share", _of("misses"), _of("decisions")),
    Metric("deferred_rate", "Deferred by the session cap", "share", _of("session_cap"), _of("decisions")),
    Metric("refused_rate", "Refused by rules 1 to 3", "share", _of("refused"), _of("requests")),
    Metric("idle_library", "Library answers while ahead", "share", _of("ahead_library"), _of("ahead")),
    Metric("behind", "Account-days below −3 surplus days", "share", _days_where(lambda days: days < BEHIND_DAYS), _KNOWN_DAYS),
    Metric("ahead", "Account-days above +3 surplus days", "share", _days_where(lambda days: days > AHEAD_DAYS), _KNOWN_DAYS),
    Metric("at_cap_share", "Closings at the rollover cap", "share", _of("at_caps"), _of("closings")),
    Metric("unspent_credits", "Unspent at closings", "credits", _credits("unspent_uc")),
    Metric("expired_credits", "Expired or clamped", "credits", _credits("expired_uc")),
    Metric("premium_share", "Routed to the premium model", "share", _of("premium"), _of("routed")),
    Metric("provider_cost", "Provider cost", "dollars", _cost_usd),
)  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """Live against candidate over the same accounts.

    ``metrics`` [by, group, slug, title, unit, accounts, live, candidate, difference, low, high], ``by`` being all, plan or
    segment; low and high are a 95 % interval of the difference, missing where there are too few accounts. ``surplus``
    [end_at, side, accounts, p05 … p95, behind, ahead] of surplus days at each day's end, ``burn`` [end_at, side, credits]
    what was spent from the period's start to each day's end and the period's. ``accounts`` [account_id, plan, segment,
    live_credits, candidate_credits, difference]: credits of fresh ones to be expected (Σ p·cost), most lost first; of a
    sample those drawn. ``winners`` and ``losers`` are of all accounts, of a sample estimated.
    """

    metrics: pd.DataFrame
    surplus: pd.DataFrame
    burn: pd.DataFrame
    accounts: pd.DataFrame
    winners: int
    losers: int
    left_out: int

    #: What the figures rest on.
    assumes = "What was asked for is taken as it was: nobody asks more or less because of other answers."

    def value(self, slug: str, side: str = "candidate", group: str = EVERYBODY) -> float:
        """One figure; ``side`` is live, candidate, difference, low or high."""
        rows = self.metrics[(self.metrics["slug"] == slug) & (self.metrics["group"] == group)]
        return float(rows[side].iloc[0])


def compare(
    replayed: Replayed, live: int = 0, candidate: int = 1, seed: int = 0, weights: Floats | None = None
) -> Comparison:
    """Run ``candidate`` against run ``live`` of one replay. ``seed`` draws the resamples of accounts.

    ``weights``: of a stratified sample, how many accounts each stands for; its groups are left for all accounts.
    """
    before, after = replayed.runs[live], replayed.runs[candidate]
    everybody = np.ones(len(replayed.account_ids), dtype=np.bool_)
    groups = [(EVERYBODY, EVERYBODY, everybody)]
    for by, names in (("plan", replayed.plan), ("segment", replayed.segment)) if weights is None else ():
        found = sorted(set(names.tolist()))
        groups += [(by, name, names == name) for name in found]
    rows: list[dict[str, object]] = []
    for by, name, within in groups:
        if rows and within.all():
            # A group of everybody has the figures of everybody, which come first.
            rows += [row | {"by": by, "group": name} for row in rows[: len(METRICS)]]
        else:
            rows += _rows(by, name, within, before, after, seed, weights)
    changed = (after.sums["expected_uc"] - before.sums["expected_uc"]) / MICRO
    each = everybody.astype(np.float64) if weights is None else weights
    sides = (("live", before), ("candidate", after))
    return Comparison(
        metrics=pd.DataFrame(rows),
        surplus=pd.concat([_surplus(replayed, run, side, each) for side, run in sides], ignore_index=True),
        burn=pd.concat([_burn(replayed, run, side, each) for side, run in sides], ignore_index=True),
        accounts=_gains(replayed, before, after),
        winners=round(each[changed >= _NOTICED].sum()),
        losers=round(each[changed <= -_NOTICED].sum()),
        left_out=replayed.left_out,
    )


def _rows(
    by: str, group: str, within: npt.NDArray[np.bool_], before: Run, after: Run, seed: int, weights: Floats | None
) -> list[dict[str, object]]:
    sides = [_sides(run, within) for run in (before, after)]
    if weights is not None:
        each = weights[within, None]
        sides = [Sums(side.top * each, side.bottom * each) for side in sides]
    accounts = int(within.sum())
    intervals: list[Interval | None] = [None] * len(METRICS)
    if accounts >= FEWEST_ACCOUNTS:
        # A total is so many times the mean over accounts.
        intervals = paired_differences(_per_account(sides[0]), _per_account(sides[1]), seed)
    rows: list[dict[str, object]] = []
    for place, metric in enumerate(METRICS):
        live, candidate = (_ratio(metric, side, place) for side in sides)
        interval = intervals[place]
        if accounts >= FEWEST_ACCOUNTS and _has_few_events(metric, place, sides):
            # Newcombe's counts accounts, of which a stratified sample has more of some than of others.
            interval = None if weights is not None else _newcombe(place, sides)
        elif interval is not None and metric.denominator is None:
            interval = Interval(interval.low * accounts, interval.high * accounts)
        rows.append(
            {
                "by": by,
                "group": group,
                "slug": metric.slug,
                "title": metric.title,
                "unit": metric.unit,
                "accounts": accounts,
                "live": float(live),
                "candidate": float(candidate),
                "difference": float(candidate - live),
                "low": interval.low if interval else np.nan,
                "high": interval.high if interval else np.nan,
            }
        )
    return rows


def _sides(run: Run, within: npt.NDArray[np.bool_]) -> Sums:
    """Of every metric what stands above and below the line; below a total stands nothing: 0."""
    none = np.zeros(int(within.sum()))
    tops = [metric.numerator(run)[within] for metric in METRICS]
    bottoms = [none if metric.denominator is None else metric.denominator(run)[within] for metric in METRICS]
    return Sums(np.stack(tops, axis=1), np.stack(bottoms, axis=1))


def _per_account(side: Sums) -> Sums:
    totals = np.array([metric.denominator is None for metric in METRICS])
    return Sums(side.top, np.where(totals, 1.0, side.bottom))


def _ratio(metric: Metric, side: Sums, place: int) -> float:
    top, bottom = float(side.top[:, place].sum()), float(side.bottom[:, place].sum())
    if metric.denominator is None:
        return top
    return top / bottom if bottom > 0 else float("nan")


def _has_few_events(metric: Metric, place: int, sides: list[Sums]) -> bool:
    return metric.each and min(int((side.top[:, place] > 0).sum()) for side in sides) < _FEW_EVENTS


def _newcombe(place: int, sides: list[Sums]) -> Interval | None:
    asked = sides[0].bottom[:, place] > 0
    if not asked.any():
        return None
    before, after = (side.top[asked, place] > 0 for side in sides)
    counts = (before & after, before & ~after, ~before & after, ~before & ~after)
    return newcombe_paired(*(int(each.sum()) for each in counts))


def _gains(replayed: Replayed, before: Run, after: Run) -> pd.DataFrame:
    live, candidate = _credits("expected_uc")(before), _credits("expected_uc")(after)
    frame = pd.DataFrame(
        {
            "account_id": replayed.account_ids,
            "plan": replayed.plan,
            "segment": replayed.segment,
            "live_credits": live,
            "candidate_credits": candidate,
            "difference": candidate - live,
        }
    )
    return frame.sort_values(["difference", "account_id"], ignore_index=True)


def _surplus(replayed: Replayed, run: Run, side: str, weights: Floats) -> pd.DataFrame:
    rows = []
    for place, end_us in enumerate(replayed.period.day_ends):
        days = run.days[:, place]
        known = np.isfinite(days)
        some, each = days[known], weights[known]
        quantiles = weighted_quantiles(some, each, list(QUANTILES.values()))
        total = each.sum()
        rows.append(
            {
                "end_at": from_us(end_us),
                "side": side,
                "accounts": round(total),
                **dict(zip(QUANTILES, quantiles, strict=True)),
                "behind": float(each[some < BEHIND_DAYS].sum() / total) if len(some) else np.nan,
                "ahead": float(each[some > AHEAD_DAYS].sum() / total) if len(some) else np.nan,
            }
        )
    return pd.DataFrame(rows, columns=["end_at", "side", "accounts", *QUANTILES, "behind", "ahead"])


def _burn(replayed: Replayed, run: Run, side: str, weights: Floats) -> pd.DataFrame:
    """Credits spent from the period's start to each day's end, and to its own."""
    sums = run.sums
    spent = [run.course["spent_uc"][:, place] for place in range(len(replayed.period.day_ends))]
    spent.append(sums["settled_uc"] + sums["imported_uc"] - sums["refunded_uc"])
    ends = [from_us(end_us) for end_us in (*replayed.period.day_ends, replayed.period.end_us)]
    return pd.DataFrame({"end_at": ends, "side": side, "credits": [float(each @ weights) / MICRO for each in spent]})


def weighted_quantiles(values: Floats, weights: Floats, shares: Sequence[float]) -> list[float]:
    """Quantiles between values in their order, each counting ``weights`` times; of equal weights those of NumPy. nan of none."""
    if not len(values):
        return [np.nan] * len(shares)
    order = np.argsort(values, kind="stable")
    ordered, each = values[order], weights[order]
    before = np.cumsum(each) - each
    return [float(value) for value in np.interp(shares, before / max(before[-1], 1e-300), ordered)]
