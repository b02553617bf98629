"""Laws against each other on the same arrivals: the ledger's own, or made-up ones (SPEC 7, Experiment).

Each law is told by its pacing efficiency beside what that costs: users who run out, dry share, flicker, unspent credits,
provider cost. The two ends are serving everything fresh, and the offline best, Σ min(budget, demand), which knows the
cycle in advance: efficiency 1 without a dry day.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from credit_core.errors import InvalidRequest, Stopped
from credit_core.lab import kernels, laws, outcomes, population, replay, retention, workload
from credit_core.lab.arrivals import Batch
from credit_core.lab.compiling import compiled
from credit_core.lab.laws import ALWAYS_FRESH, Law
from credit_core.lab.population import Population
from credit_core.lab.replay import Period, Prepared, Run
from credit_core.policy.config import Config
from credit_core.policy.plans import Catalog
from credit_core.units import DAY_US, MICRO

Progress = Callable[[float, str], None]
Stop = Callable[[], bool]
_BY_SLUG: Mapping[str, outcomes.Metric] = {metric.slug: metric for metric in outcomes.METRICS}
#: The figures of :data:`outcomes.METRICS` that tell laws apart.
FIGURES = (
    "fresh_rate", "pacing_efficiency", "running_efficiency", "run_out_share", "dry_time", "flicker", "unspent_credits",
    "provider_cost", "premium_share", "coverage_miss_rate", "idle_library",
)  # fmt: skip
STOPPED = "It was stopped; nothing was written. Start it again for a result."


@dataclass(frozen=True)
class Standings:
    """Laws on the same arrivals, best efficiency first.

    ``frame`` [slug, title, family, efficiency, dry_share, run_out_users, on_line, and :data:`FIGURES`]. ``dry_share``:
    cycle shares that accounts spent dry ÷ the run-outs that there are when everything is fresh. ``best_fresh_rate``: credits
    that the offline best serves fresh ÷ credits asked for. ``on_line``: no other law has more efficiency and less dry share.
    """

    frame: pd.DataFrame
    accounts: int
    requests: int
    pressed: int
    best_fresh_rate: float
    left_out: int = 0


@dataclass(frozen=True)
class Mock:
    """The design's own question: laws on made-up sessions.

    ``frame`` is that of :class:`Standings` with sessions, session_variance (variance of the fresh rate over sessions) and
    sessions_to_run_out: of accounts that would run dry if everything were fresh, the mean number of sessions up to the
    first run-out, or all they had. ``survival`` [slug, title, session, without]: share of them without a run-out so far
    (Kaplan–Meier: accounts whose sessions ended leave it unharmed). ``rates`` [slug, title, from_rate, to_rate, sessions].
    """

    standings: Standings
    sessions: int
    survival: pd.DataFrame
    rates: pd.DataFrame

    @property
    def frame(self) -> pd.DataFrame:
        """Laws, best efficiency first."""
        return self.standings.frame


def on_ledger(
    prepared: Prepared,
    live: Config,
    entrants: Sequence[Law],
    period: Period,
    *,
    accounts: int | None = None,
    seed: int = 0,
    progress: Progress = lambda _share, _words: None,
    stopped: Stop = lambda: False,
) -> Standings:
    """``entrants`` over the ledger's own arrivals of ``period``; of ``accounts`` drawn at random, where given."""
    kept = sampled(prepared, accounts, seed)
    entrants = _with_ends(entrants)
    configs = [laws.configured(law, live) for law in entrants]
    found = replay.run(kept, configs, period._replace(day_ends=()), progress=progress, stopped=stopped)
    pairs = [(law, run.sums) for law, run in zip(entrants, found.runs, strict=True)]
    return standings(pairs, len(found.account_ids), prepared.left_out)


def sampled(prepared: Prepared, accounts: int | None, seed: int) -> Prepared:
    """``prepared`` with so many accounts drawn at random; None, or no fewer than there are: all."""
    if accounts is None or accounts >= len(prepared.accounts):
        return prepared
    if accounts < 1:
        raise InvalidRequest(f"accounts must be 1 or more, got {accounts}.")
    places = np.sort(np.random.default_rng(seed).permutation(len(prepared.accounts))[:accounts])
    return replace(prepared, accounts=prepared.accounts.iloc[places].reset_index(drop=True))


def on_sessions(
    catalog: Catalog,
    live: Config,
    entrants: Sequence[Law],
    sessions: int,
    *,
    people: Population | None = None,
    seed: int = 0,
    threads: int | None = None,
    progress: Progress = lambda _share, _words: None,
    stopped: Stop = lambda: False,
) -> Mock:
    """``entrants`` on about so many made-up ``sessions`` of ``people``, one cycle each. Seeded."""
    if sessions < 1:
        raise InvalidRequest(f"sessions must be 1 or more, got {sessions}.")
    people = people or Population()
    entrants = _with_ends(entrants)
    stage = Stage(catalog, [laws.configured(law, live) for law in entrants], people)
    totals = [retention.Tally() for _ in entrants]
    sums: list[list[Any]] = [[] for _ in entrants]
    done = accounts = 0
    first = entrants.index(ALWAYS_FRESH)
    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        for drawn in population.blocks(people, seed, sessions=sessions):
            played = []
            for run, told in stage.play(drawn, pool, stopped):
                played.append(retention.by_session(drawn, told))
                sums[len(played) - 1].append(run.sums)
            pressed = played[first].first_dry > 0
            for tally, one in zip(totals, played, strict=True):
                tally.add(one, pressed)
            done, accounts = done + drawn.sessions, accounts + drawn.accounts
            progress(min(done / sessions, 1.0), f"{done} of {sessions} sessions")
    pairs = [(law, np.concatenate(each).view(np.recarray)) for law, each in zip(entrants, sums, strict=True)]
    found = standings(pairs, accounts, 0, complete=True)
    named = {law.slug: tally for law, tally in zip(entrants, totals, strict=True)}
    found.frame["sessions"] = done
    for column in ("session_variance", "sessions_to_run_out"):
        found.frame[column] = [getattr(named[slug], column) for slug in found.frame["slug"]]
    titles = {law.slug: law.title for law in entrants}
    order = found.frame["slug"].tolist()
    return Mock(
        found,
        done,
        pd.concat([named[slug].survival().assign(slug=slug, title=titles[slug]) for slug in order], ignore_index=True),
        pd.concat([named[slug].rates().assign(slug=slug, title=titles[slug]) for slug in order], ignore_index=True),
    )


class Stage:
    """Configurations ready to be played on made-up users, block by block."""

    def __init__(self, catalog: Catalog, configs: Sequence[Config], people: Population) -> None:
        """Compiles, or reads what was compiled."""
        period = Period(0, round(people.cycle_days * DAY_US), ())
        plans = tuple(dict.fromkeys(share.plan for share in people.terms))
        self._plan = np.array([plans.index(share.plan) for share in people.terms])
        self._quota_uc = np.array([round(share.quota * MICRO) for share in people.terms])
        self._kernel = compiled(kernels.replay)
        self._laws = []
        for config in configs:
            world = replace(workload.world_of(catalog, config, plans[0], people.cycle_days), plans=plans)
            models = replay.models_of(catalog, world, {})
            self._laws.append(replay.govern([config], world, models, period, 0))

    def play(
        self, drawn: population.Drawn, pool: ThreadPoolExecutor, stopped: Stop = lambda: False
    ) -> list[tuple[Run, Any]]:
        """Each configuration on these users: sums by account, and what was decided, request by request."""
        batch = self._on_plans(workload.one_cycle(drawn.arrivals, drawn.accounts), drawn)
        played = []
        for law in self._laws:
            if stopped():
                raise Stopped(STOPPED)
            run, told = replay.play(batch, law, self._kernel, pool, telling=True)
            played.append((run, told[told["asked"]]))
        return played

    def _on_plans(self, batch: Batch, drawn: population.Drawn) -> Batch:
        """``batch`` with each account on its own plan, with that one's quota."""
        owner = np.repeat(drawn.terms, np.diff(batch.event_from))
        batch.events["plan"], batch.events["quota_uc"] = self._plan[owner], self._quota_uc[owner]
        batch.events["amount_uc"][batch.event_from[:-1]] = self._quota_uc[drawn.terms]
        return batch


def standings(pairs: Sequence[tuple[Law, Any]], accounts: int, left_out: int, *, complete: bool = False) -> Standings:
    """The table of laws from their sums by account. ``complete``: every account's cycle ends with the period."""
    always = next(sums for law, sums in pairs if law == ALWAYS_FRESH)
    dry_ends = float(always["run_outs"].sum())
    rows = [_row(law, sums, dry_ends, complete) for law, sums in pairs]
    frame = pd.DataFrame(rows).sort_values("efficiency", ascending=False, kind="stable", ignore_index=True)
    frame["on_line"] = laws.efficient(frame[["efficiency"]].to_numpy(), frame[["dry_share"]].to_numpy())
    budget = float(always["cycle_budget_uc"].sum() + always["running_budget_uc"].sum())
    demand = float(always["demand_uc"].sum())
    return Standings(
        frame=frame,
        accounts=accounts,
        requests=int(always["requests"].sum()),
        pressed=int((always["run_outs"] > 0).sum()),
        best_fresh_rate=min(1.0, budget / demand) if demand > 0 and complete else float("nan"),
        left_out=left_out,
    )


def figure(slug: str, run: Run) -> float:
    """One of :data:`outcomes.METRICS` over all accounts of a run; nan where nothing stands below the line."""
    metric = _BY_SLUG[slug]
    top = float(metric.numerator(run).sum())
    if metric.denominator is None:
        return top
    bottom = float(metric.denominator(run).sum())
    return top / bottom if bottom > 0 else float("nan")


def _row(law: Law, sums: Any, dry_ends: float, complete: bool) -> dict[str, object]:
    run = Run(sums, np.zeros((len(sums), 0), np.float32))
    row: dict[str, object] = {"slug": law.slug, "title": law.title, "family": law.family}
    row |= {name: figure(name, run) for name in FIGURES}
    finished, running = figure("pacing_efficiency", run), figure("running_efficiency", run)
    row["efficiency"] = running if complete or np.isnan(finished) else finished
    row["dry_share"] = float(sums["dry_share"].sum()) / dry_ends if dry_ends > 0 else 0.0
    row["run_out_users"] = int((sums["run_outs"] > 0).sum())
    if complete:
        row["pacing_efficiency"] = running
        row["unspent_credits"] = _unspent(sums)
    return row


def _unspent(sums: Any) -> float:
    return float((sums["running_budget_uc"] - sums["running_fresh_uc"]).sum()) / MICRO


def _with_ends(entrants: Sequence[Law]) -> list[Law]:
    """Always fresh is always there: it says who would run dry."""
    return list(entrants) if ALWAYS_FRESH in entrants else [ALWAYS_FRESH, *entrants]
