"""Rewarded decisions of a ledger beside what a candidate would have done with them, along its replayed trajectory."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from credit_core.analytics.queries import rewards
from credit_core.errors import Stopped
from credit_core.lab import arrivals, counterfactual, kernels, replay, tables
from credit_core.lab.compiling import compiled
from credit_core.lab.counterfactual import Counterfactual, Rows
from credit_core.lab.experiments import STOPPED, Progress, Stop
from credit_core.lab.replay import Period, Prepared
from credit_core.policy import guardrails
from credit_core.policy.config import Config
from credit_core.units import from_us

#: What a reward is modelled by.
FEATURES = ("surplus_days", "images", "session_images", "coverage", "health", "share_left")
_KEY = ["account_id", "request_id", "u01"]


@dataclass(frozen=True)
class Rewarded:
    """``rows`` of rewarded decisions; ``unlike``: how many do not come out as logged; ``elsewhere``: rewards of other plans."""

    rows: Rows
    unlike: int
    elsewhere: int


def estimate(
    prepared: Prepared,
    candidate: Config,
    period: Period,
    *,
    seed: int = 0,
    progress: Progress = lambda _share, _words: None,
    stopped: Stop = lambda: False,
) -> Counterfactual:
    """What ``candidate`` would have earned on the rewarded decisions of ``period``, or why that cannot be told."""
    found = read(prepared, candidate, period, progress=progress, stopped=stopped)
    return counterfactual.estimate(found.rows, unlike=found.unlike, seed=seed)


def read(
    prepared: Prepared,
    candidate: Config,
    period: Period,
    *,
    progress: Progress = lambda _share, _words: None,
    stopped: Stop = lambda: False,
) -> Rewarded:
    """The rewarded decisions of ``period``, with the candidate's chances; only accounts with a reward are replayed."""
    logged = rewards.rewarded_decisions(prepared.facts)
    at = logged["occurred_at"]
    known = logged[(at >= from_us(period.start_us)) & (at < from_us(period.end_us))]
    accounts = prepared.accounts[prepared.accounts["account_id"].isin(known["account_id"])].reset_index(drop=True)
    some = replace(prepared, accounts=accounts)
    own, other, world = _governed(some, candidate, period._replace(day_ends=()))
    kernel = compiled(kernels.replay)
    frames, unlike, done = [], 0, 0
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for batch in arrivals.batches(prepared.facts, world, accounts):
            if stopped():
                raise Stopped(STOPPED)
            joined = _joined(batch, known)
            again = replay.play(batch, own, kernel, pool, telling=True)[1]
            asked = np.zeros(len(batch.events), np.bool_)
            asked[joined["place"].to_numpy()] = True
            unlike += len(replay.unlike(batch, again, asked))
            told = replay.play(batch, other, kernel, pool, telling=True)[1]
            frames.append(joined.assign(**_chances(told[joined["place"].to_numpy()])))
            done += len(batch.account_ids)
            progress(done / len(accounts), f"{done} of {len(accounts)} accounts with rewards")
    found = pd.concat(frames, ignore_index=True) if frames else known.iloc[:0].assign(new_fresh=0.0, new_library=0.0)
    return Rewarded(rows_of(found), unlike, rewards.reward_count(prepared.facts) - len(logged))


def _governed(prepared: Prepared, candidate: Config, period: Period) -> tuple[Any, Any, Any]:
    """Each decision's own version and the candidate as the kernel takes them, and how events are numbered for both."""
    logged = list(prepared.configs.values())
    world = arrivals.world_of(prepared.facts, prepared.catalog, prepared.configs, [candidate], period.end_us)
    models = replay.models_of(prepared.catalog, world, prepared.latencies_ms)
    own = replay.govern(logged, world, models, period, -1, prepared.claim_days)
    other = replay.govern([*logged, candidate], world, models, period, len(logged), prepared.claim_days)
    return own, other, world


def rows_of(frame: pd.DataFrame) -> Rows:
    """``frame`` of rewarded decisions with new_fresh and new_library as arrays."""
    share_left = (frame["days_left"] / frame["cycle_days"]).astype(float)
    features = frame.assign(share_left=share_left)[list(FEATURES)].astype(float).fillna(0.0)
    return Rows(
        account=np.asarray(pd.factorize(frame["account_id"])[0], dtype=np.int64),
        fresh=frame["fresh"].to_numpy(dtype=np.bool_),
        reward=frame["reward"].to_numpy(dtype=np.float64),
        p=np.nan_to_num(frame["p"].to_numpy(dtype=np.float64)),
        forced=(frame["rule"] != guardrails.RULES[guardrails.CONTROLLER]).to_numpy(dtype=np.bool_),
        new_fresh=frame["new_fresh"].to_numpy(dtype=np.float64),
        new_library=frame["new_library"].to_numpy(dtype=np.float64),
        x=features.to_numpy(dtype=np.float64),
    )


def _joined(batch: arrivals.Batch, known: pd.DataFrame) -> pd.DataFrame:
    """The rewarded decisions of a batch with their place among its events; the draw tells apart users of one team."""
    opened = np.flatnonzero(batch.events["kind"] == tables.OPEN)
    owner = np.searchsorted(batch.event_from, opened, side="right") - 1
    events = pd.DataFrame(
        {
            "account_id": np.array(batch.account_ids, dtype=object)[owner],
            "request_id": batch.request_id[opened],
            "u01": batch.events["u01"][opened],
            "place": opened,
        }
    )
    return known.merge(events, on=_KEY, how="inner", validate="one_to_one")


def _chances(told: Any) -> dict[str, Any]:
    """The candidate's chances of a fresh one and of a library one; where it would refuse, of neither."""
    drawn, served = told["rule"] == guardrails.CONTROLLER, told["rule"] > guardrails.PAUSED
    fresh = np.where(drawn, np.clip(told["p"], 0.0, 1.0), told["fresh"].astype(np.float64))
    return {"new_fresh": np.where(served, fresh, 0.0), "new_library": np.where(served, 1.0 - fresh, 0.0)}
