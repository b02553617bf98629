"""Targets → a configuration: a seeded search over replays that narrows down on samples and ends on every account (SPEC 7).

Successive halving: many candidates on a quarter of the accounts, variations of the best of them there too, the better
ones on half of them, and a handful on all, where they are told with intervals against what is live. The same seed gives the same
table, unless the time budget cut the search short, which it says.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from credit_core.errors import InvalidRequest, Stopped
from credit_core.lab import arrivals, candidates, kernels, laws, outcomes, replay
from credit_core.lab.candidates import Candidate
from credit_core.lab.compiling import compiled
from credit_core.lab.experiments import STOPPED, Progress, Stop, figure, sampled
from credit_core.lab.replay import Period, Prepared, Replayed, Run
from credit_core.lab.targets import FIGURES, Wish
from credit_core.policy.config import Config, apply_changes

#: Shares of the accounts that the rounds before the last one are played on, and the fewest accounts of a round.
ROUNDS = (1 / 4, 1 / 2)
FEWEST = 40
#: Entries that the rounds before the last one keep in memory together, at most.
KEPT_ENTRIES = 300_000
#: How often the best so far are varied, and how many of each strategy.
GENERATIONS, PARENTS = 6, 2
#: How often the finalists are varied again where none of them meets the bounds on all accounts.
AGAIN = 3
#: Part of the time budget that is kept for the round on all accounts.
_LAST_SHARE = 0.4
#: What the line of Pareto is drawn over.
UP, DOWN = ("pacing_efficiency",), ("dry_time", "flicker", "provider_cost")
COLUMNS = (
    "fresh_rate", "run_out_share", "pacing_efficiency", "dry_time", "flicker", "provider_cost", "premium_share", "unspent_credits",
)  # fmt: skip


@dataclass(frozen=True)
class Found:
    """Finalists on all accounts, best first; live is number 0, wherever it stands.

    ``frame`` [number, name, meets, violation, on_line, changed, and a column per figure]; ``on_line``: no other finalist has
    more pacing efficiency and less dry time, flicker and cost. ``cut``: time ran out before all candidates were tried.
    """

    frame: pd.DataFrame
    finalists: tuple[Candidate, ...]
    replayed: Replayed
    wish: Wish
    tried: int
    cut: bool
    seed: int

    @property
    def best(self) -> int:
        """Number of the first finalist."""
        return int(self.frame["number"].iloc[0])

    @property
    def met(self) -> bool:
        """Whether the first finalist meets every bound on all accounts."""
        return bool(self.frame["meets"].iloc[0])

    def changes(self, number: int) -> dict[str, Any]:
        """What the finalist changes against live."""
        return dict(self.finalists[number].changes)

    def comparison(self, number: int) -> outcomes.Comparison:
        """Live against the finalist on all accounts, with intervals."""
        return outcomes.compare(self.replayed, live=0, candidate=number, seed=self.seed)


def search(
    prepared: Prepared,
    live: Config,
    wish: Wish,
    period: Period,
    *,
    tries: int = 360,
    finalists: int = 8,
    coverage: bool = True,
    seed: int = 0,
    budget_s: float = 120.0,
    progress: Progress = lambda _share, _words: None,
    stopped: Stop = lambda: False,
    clock: Callable[[], float] = time.monotonic,
) -> Found:
    """The best of about ``tries`` candidates for ``wish``. ``coverage``: coverage thresholds may change too.

    Raises :class:`Stopped` soon after ``stopped`` says so. ``budget_s`` is kept to within a candidate or two.
    """
    if tries < 2 or finalists < 1:
        raise InvalidRequest("A search needs at least 2 candidates and 1 finalist.")
    if not budget_s > 0.0:
        raise InvalidRequest(f"The time budget must be more than 0 seconds, got {budget_s}.")
    period = period._replace(day_ends=())
    started = clock()
    deadline = started + budget_s * (1.0 - _LAST_SHARE)
    grounds = _Grounds(prepared, live, period, seed)
    varied, kept = tries * 2 // (3 * GENERATIONS), max(finalists * 2, tries // 8)
    drawn = candidates.first(live, tries - varied * GENERATIONS, seed, coverage)
    steps = tries + kept
    trial = _Trial(grounds, live, wish, lambda done: progress(0.6 * min(done / steps, 1.0), _said(done)), stopped)

    def late() -> bool:
        return clock() > deadline

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        known = trial.play(drawn, 1, pool, late)
        for turn in range(3 * GENERATIONS):
            best = trial.ranked(known, 1)
            if turn >= GENERATIONS and trial.meets(best[0], 1):
                break
            nearer = candidates.near(parents(best), live, varied, [seed, turn], 0.8 ** (turn % GENERATIONS), coverage)
            known += trial.play(nearer, 1, pool, late)
        cut = late()
        last = trial.ranked(trial.play(spread(trial.ranked(known, 1), kept), 2, pool, late), 2)
        cut = cut or late()
        chosen, found = spread(last, finalists), None
        for turn in range(1 + AGAIN):
            left = started + budget_s - clock()
            afford = max(1, int(left / max(trial.seconds_an_account * len(prepared.accounts), 1e-9)))
            if found is not None and (left <= 0.0 or afford < len(chosen)):
                break
            cut = cut or afford < len(chosen)
            found = _on_all(prepared, live, wish, period, chosen[:afford], seed, progress, stopped)
            if found.met:
                break
            best = [found.finalists[number] for number in found.frame["number"].tolist()]
            nearer = trial.play(
                candidates.near(best[:PARENTS], live, varied, [seed, 99, turn], 0.4, coverage), 2, pool, late
            )
            known += nearer
            chosen = spread(trial.ranked([*nearer, *last], 2), finalists)
    assert found is not None
    return replace(found, tried=len(known), cut=cut)


def _on_all(
    prepared: Prepared, live: Config, wish: Wish, period: Period, chosen: list[Candidate], seed: int,
    progress: Progress, stopped: Stop,
) -> Found:  # fmt: skip
    kept = [Candidate("live", None, (), {}), *(one for one in chosen if one.changes)]
    configs = [_config(one, live) for one in kept]
    replayed = replay.run(
        prepared, configs, period, progress=lambda share, words: progress(0.6 + 0.4 * share, words), stopped=stopped
    )
    names = dict.fromkeys([*COLUMNS, wish.slug, *(bound.slug for bound in wish.bounds)])
    rows = []
    for number, (one, run) in enumerate(zip(kept, replayed.runs, strict=True)):
        figures = {slug: figure(slug, run) for slug in names}
        violation = wish.violation(figures)
        rows.append(
            {
                "number": number, "name": one.name, "meets": violation == 0.0, "violation": violation,
                "score": wish.score(figures), "changed": len(one.changes), **figures,
            }
        )  # fmt: skip
    frame = pd.DataFrame(rows)
    frame["on_line"] = laws.efficient(frame[list(UP)].to_numpy(), frame[list(DOWN)].to_numpy())
    frame = frame.sort_values(["violation", "score"], ascending=[True, False], kind="stable", ignore_index=True)
    return Found(frame.drop(columns="score"), tuple(kept), replayed, wish, 0, False, seed)


class _Grounds:
    """Accounts drawn at random, read once and kept: the arrivals of the rounds before the last one."""

    def __init__(self, prepared: Prepared, live: Config, period: Period, seed: int) -> None:
        everybody, entries = len(prepared.accounts), float(prepared.accounts["entries"].sum())
        most = min(1.0, KEPT_ENTRIES / max(entries, 1.0))
        self.sizes = [max(min(FEWEST, everybody), round(share * most * everybody)) for share in ROUNDS]
        self.world = arrivals.world_of(prepared.facts, prepared.catalog, prepared.configs, [live], period.end_us)
        self.models = replay.models_of(prepared.catalog, self.world, prepared.latencies_ms)
        self.logged, self.period, self.claim_days = list(prepared.configs.values()), period, prepared.claim_days
        self.rounds = []
        for size in self.sizes:
            some = sampled(prepared, size, seed).accounts
            self.rounds.append(list(arrivals.batches(prepared.facts, self.world, some)))

    def govern(self, config: Config) -> Any:
        return replay.govern(
            [*self.logged, config], self.world, self.models, self.period, len(self.logged), self.claim_days
        )


class _Trial:
    """Candidates on samples: their figures by round, and how long they took."""

    def __init__(self, grounds: _Grounds, live: Config, wish: Wish, told: Callable[[int], None], stopped: Stop) -> None:
        self._grounds, self._live, self._told, self._stopped = grounds, live, told, stopped
        self._wishes = {number: wish.on_sample(size) for number, size in enumerate(grounds.sizes, start=1)}
        self._figures: dict[tuple[int, int], dict[str, float]] = {}
        self._asked: set[tuple[object, ...]] = set()
        self._kernel = compiled(kernels.replay)
        self._spent_s, self._accounts, self._done = 0.0, 0, 0

    @property
    def seconds_an_account(self) -> float:
        return self._spent_s / self._accounts if self._accounts else 0.0

    def play(
        self, some: Sequence[Candidate], round_: int, pool: ThreadPoolExecutor, late: Callable[[], bool]
    ) -> list[Candidate]:
        """Those of ``some`` that are new in this round and for which there was time."""
        played: list[Candidate] = []
        for one in some:
            asked = (round_, *sorted((key, str(value)) for key, value in one.changes.items()))
            if asked in self._asked:
                continue
            self._asked.add(asked)
            if self._stopped():
                raise Stopped(STOPPED)
            if late() and played:
                break
            begun = time.perf_counter()
            law = self._grounds.govern(_config(one, self._live))
            batches = self._grounds.rounds[round_ - 1]
            sums = [replay.play(batch, law, self._kernel, pool)[0].sums for batch in batches]
            run = Run(np.concatenate(sums).view(np.recarray), np.zeros((0, 0), np.float32))
            self._figures[id(one), round_] = {slug: figure(slug, run) for slug in FIGURES}
            self._spent_s += time.perf_counter() - begun
            self._accounts += len(run.sums)
            played.append(one)
            self._done += 1
            self._told(self._done)
        return played

    def meets(self, one: Candidate, round_: int) -> bool:
        """Whether a candidate met every bound in that round."""
        return self._wishes[round_].violation(self._figures[id(one), round_]) == 0.0

    def ranked(self, some: Sequence[Candidate], round_: int) -> list[Candidate]:
        """Those that meet the bounds by what is wished for, then the others by how little they miss."""

        def key(one: Candidate) -> tuple[float, float]:
            figures = self._figures[id(one), round_]
            return self._wishes[round_].violation(figures), -self._wishes[round_].score(figures)

        return sorted(some, key=key)


def parents(ranked: list[Candidate]) -> list[Candidate]:
    """The first of each strategy: each finds its own best, whichever is ahead so far."""
    counted: dict[str, int] = {}
    found = []
    for one in ranked:
        counted[one.name] = counted.get(one.name, 0) + 1
        if counted[one.name] <= PARENTS:
            found.append(one)
    return found


def spread(ranked: list[Candidate], number: int) -> list[Candidate]:
    """So many of them: half the first, then the first of each strategy that is missing, so that there is something to pick from."""
    best = ranked[: (number + 1) // 2]
    seen = {one.name for one in best}
    firsts = [one for place, one in enumerate(ranked) if one.name not in {r.name for r in ranked[:place]}]
    others = [one for one in firsts if one.name not in seen and one.family is not None]
    rest = [one for one in ranked if one not in best and one not in others]
    return [*best, *others, *rest][:number]


def _config(one: Candidate, live: Config) -> Config:
    return apply_changes(live.body(), dict(one.changes)) if one.changes else live


def _said(done: int) -> str:
    return f"{done} candidates tried on samples"
