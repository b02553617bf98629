"""How often the 95 % intervals of paired differences hold the truth, on made-up accounts whose truth is known.

The truth is what a new account of the same population could expect with fresh draws, from 200,000 accounts that no data
set contains.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from credit_core.lab import laws, outcomes, population
from credit_core.lab.experiments import Stage
from credit_core.lab.laws import Law
from credit_core.lab.population import Population
from credit_core.lab.replay import Period, Replayed, Run
from credit_core.policy.config import Config
from credit_core.units import DAY_US
from tests.lab.opening import CATALOG

LIVE, CANDIDATE = "logistic", "headroom"
#: Users who come back, as subscribers do, and many of them pressed, so that run-outs happen in every data set.
PEOPLE = Population(
    quota=60.0, requests=3.0, requests_user=0.85, requests_session=0.6, more_sessions=4.0, session_shape=1.5, heavy_share=0.0,
    binge_share=0.02,
)  # fmt: skip
PER_SET = 600
#: What the study looks at: a rate, a mean of few, totals, and a share of accounts.
FIGURES = (
    "fresh_rate", "chosen_fresh_rate", "fresh_credits", "running_efficiency", "run_out_share", "dry_time", "flicker",
    "premium_share", "provider_cost", "idle_library",
)  # fmt: skip


def runs(accounts: int, seed: int) -> list[Run]:
    """Both laws on so many accounts of :data:`PEOPLE`."""
    configs = [laws.configured(law, Config()) for law in both()]
    stage = Stage(CATALOG, configs, PEOPLE)
    sides: list[list[Run]] = [[], []]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for drawn in population.blocks(PEOPLE, seed, accounts=accounts):
            for side, (run, _) in enumerate(stage.play(drawn, pool)):
                sides[side].append(run)
    return [
        Run(*(np.concatenate(parts).view(np.recarray) for parts in zip(*map(parts_of, each), strict=True)))
        for each in sides
    ]


def parts_of(run: Run) -> list[Any]:
    """The arrays of a run, each a row per account."""
    return [getattr(run, field.name) for field in fields(run)]


def both() -> list[Law]:
    found = {law.slug: law for law in laws.chosen([LIVE, CANDIDATE])}
    return [found[LIVE], found[CANDIDATE]]


def truth_of(both_runs: list[Run], accounts: int) -> dict[str, float]:
    """The difference by figure; of totals, per account."""
    found = {}
    for metric in outcomes.METRICS:
        if metric.slug in FIGURES:
            sides = []
            for run in both_runs:
                bottom = accounts if metric.denominator is None else metric.denominator(run).sum()
                sides.append(metric.numerator(run).sum() / bottom)
            found[metric.slug] = sides[1] - sides[0]
    return found


def coverage(sets: int, per_set: int, truth: dict[str, float], seed: int = 7) -> dict[str, float]:
    """Share of data sets whose interval holds the truth, by figure."""
    every = runs(sets * per_set, seed)
    totals = {metric.slug for metric in outcomes.METRICS if metric.denominator is None}
    held = dict.fromkeys(FIGURES, 0)
    everybody = np.full(per_set, "all", dtype=object)
    for number in range(sets):
        some = slice(number * per_set, (number + 1) * per_set)
        own = [Run(*(part[some] for part in parts_of(run))) for run in every]
        names = [str(place) for place in range(per_set)]
        period = Period(0, round(PEOPLE.cycle_days * DAY_US), ())
        found = outcomes.compare(Replayed(names, everybody, everybody, period, own, 0), seed=number)
        for slug in FIGURES:
            expected = truth[slug] * (per_set if slug in totals else 1)
            held[slug] += found.value(slug, "low") <= expected <= found.value(slug, "high")
    return {slug: hits / sets for slug, hits in held.items()}


@pytest.mark.deep
def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """400 data sets: from 92 to 98 % of them, of every figure."""
    found = coverage(400, PER_SET, truth_of(runs(200_000, seed=1), 200_000))
    assert all(0.92 <= share <= 0.98 for share in found.values()), found


def test_intervals_hold_the_truth_in_a_short_look() -> None:
    """24 small data sets: no figure is far off; what is precise takes the deep study."""
    found = coverage(24, PER_SET // 3, truth_of(runs(10_000, seed=1), 10_000))
    assert all(share >= 0.75 for share in found.values()), found
    assert np.mean(list(found.values())) >= 0.85


def test_the_same_seed_gives_the_same_people() -> None:
    first, second = (population.draw(PEOPLE, 3, 0, 50, 1.0).arrivals for _ in range(2))
    assert np.array_equal(first.at_us, second.at_us)
