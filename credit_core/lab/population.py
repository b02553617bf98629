"""Made-up users for the laboratory: sessions, requests and cells over one cycle, seeded (SPEC 7, Workload).

The defaults are fitted to GenTD26 (Lin et al., SoCC 2025): how many sessions a user has, how long they are, how large the
requests, at which hours. Accounts are drawn in blocks of :data:`BLOCK`, each from a seed of its own, so that any number
of them fits into memory and the first ones do not depend on how many follow.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from credit_core.lab.workload import Arrivals
from credit_core.policy.plans import Catalog
from credit_core.units import DAY_US, MICRO

Floats = npt.NDArray[np.float64]
#: Accounts that are drawn, and replayed, at a time.
BLOCK = 20_000
#: The plan of users whose plans are not told.
PLAN = "basic"
_SECOND_US = 1_000_000
_IDLE_S = 1_800.0
#: Share of the trace's sessions that begin in each hour.
HOURS = (
    0.131, 0.031, 0.034, 0.029, 0.017, 0.012, 0.010, 0.006, 0.003, 0.001, 0.000, 0.001,
    0.000, 0.002, 0.032, 0.098, 0.104, 0.020, 0.056, 0.138, 0.135, 0.140, 0.000, 0.000,
)  # fmt: skip


class Share(NamedTuple):
    """So many of the users, by ``weight`` beside the others', are on this plan with this quota in credits."""

    plan: str
    quota: float
    weight: float


class Population(NamedTuple):
    """How users behave, whatever their plan, and which plans they are on: ``plans``; none: :data:`PLAN` with ``quota``.

    ``more_sessions``: mean number of sessions after the first in 17 days, negative binomial with shape ``session_shape``.
    ``requests``: median of a session; its log spreads by ``requests_user`` between users and ``requests_session`` within
    one. ``binge_share`` of sessions are ``binge_factor`` times as long, and all of ``heavy_share`` of users
    ``heavy_factor`` times, up to ``longest``. ``images``: share of users by favourite number of
    images, which they ask for with chance ``loyal``. Gaps between sessions (days) and requests (seconds) are lognormal.
    ``growth``: how many times as dense sessions begin at the cycle's end as at its start.
    """

    quota: float = 200.0
    cycle_days: float = 30.0
    more_sessions: float = 0.326
    session_shape: float = 0.064
    requests: float = 1.5
    requests_user: float = 0.95
    requests_session: float = 0.86
    binge_share: float = 0.004
    binge_factor: float = 9.0
    heavy_share: float = 0.009
    heavy_factor: float = 20.0
    longest: int = 200
    images: tuple[tuple[int, float], ...] = ((1, 0.588), (2, 0.075), (4, 0.195), (8, 0.142))
    loyal: float = 0.85
    session_gap: tuple[float, float] = (-1.2, 1.9)
    request_gap: tuple[float, float] = (4.30, 0.94)
    growth: float = 1.0
    cells: int = 48
    stock: float = 86.0
    decay: float = 0.42
    stale: float = 0.35
    plans: tuple[Share, ...] = ()

    @property
    def terms(self) -> tuple[Share, ...]:
        """The plans, one at least."""
        return self.plans or (Share(PLAN, self.quota, 1.0),)


class Drawn(NamedTuple):
    """Accounts as a replay takes them; ``sessions``: how many there are, ``first``: the number of the first account.

    ``terms`` [account]: the place of its plan in :attr:`Population.terms`; ``arrivals`` are as of the first of them.
    """

    arrivals: Arrivals
    accounts: int
    sessions: int
    first: int
    terms: npt.NDArray[np.int64]


def mixed(catalog: Catalog, accounts: Sequence[tuple[str, int, int]]) -> tuple[Share, ...]:
    """The plans of ``accounts`` (plan, quota in micro-credits, how many); where there are none, the catalogue's paced ones alike."""
    if accounts:
        return tuple(Share(plan, quota_uc / MICRO, float(count)) for plan, quota_uc, count in accounts)
    paced = (
        (name, plan.quota_credits) for name, plan in catalog.plans.items() if plan.quota_policy == "titrated_monthly"
    )
    return tuple(Share(name, quota, 1.0) for name, quota in paced if quota)


def blocks(
    population: Population, seed: int, *, accounts: int | None = None, sessions: int | None = None
) -> Iterator[Drawn]:
    """Blocks of users until there are so many ``accounts``, or so many ``sessions``; the last block is cut to fit."""
    prior = demand_a_day(population, seed)
    place, left = 0, sessions if accounts is None else accounts
    while left is not None and left > 0:
        size = BLOCK if accounts is None else min(left, BLOCK)
        drawn = draw(population, seed, place, size, prior)
        if accounts is None and drawn.sessions > left:
            drawn = _cut(drawn, left)
        yield drawn
        left -= drawn.sessions if accounts is None else drawn.accounts
        place += 1


def demand_a_day(population: Population, seed: int) -> float:
    """Mean demand of an account in credits a day: λ₀, from users that are drawn for this alone."""
    images = draw(population, seed + 1, 0, 4_000, 0.0).arrivals.images
    return float(images.sum()) / 4_000 / population.cycle_days


def draw(population: Population, seed: int, block: int, accounts: int, prior: float) -> Drawn:
    """The ``block``-th block of users. ``prior`` is λ₀, credits a day."""
    rng = np.random.default_rng([seed, block])
    whose, start_day = _sessions(population, rng, accounts)
    sessions = len(whose)
    level = rng.normal(0.0, population.requests_user, accounts)
    level = np.where(rng.random(accounts) < population.heavy_share, level + np.log(population.heavy_factor), level)[
        whose
    ]
    size = population.requests * np.exp(level + rng.normal(0.0, population.requests_session, sessions))
    size = np.where(rng.random(sessions) < population.binge_share, size * population.binge_factor, size)
    requests = np.clip(np.rint(size), 1, population.longest).astype(np.int64)
    session = np.repeat(np.arange(sessions, dtype=np.int64), requests)
    begins = np.cumsum(requests) - requests
    gap = np.minimum(np.exp(rng.normal(*population.request_gap, len(session))), _IDLE_S - 1.0)
    gap[begins] = 0.0
    since = np.cumsum(gap)
    at_s = start_day[session] * 86_400.0 + since - since[begins][session]
    at_us = (at_s * _SECOND_US).astype(np.int64)
    within = at_us < round(population.cycle_days * DAY_US)
    session, at_us = session[within], at_us[within]
    account = whose[session]
    # Sessions that overlap become one run of requests in time, each still its own session.
    order = np.lexsort((at_us, account))
    session, at_us, account = session[order], at_us[order], account[order]
    cell = _cells(population, rng, len(session))
    coverage = np.minimum(1.0, population.stock * (np.arange(population.cells) + 1.0) ** -population.decay / 20.0)
    arrivals = Arrivals(
        account=account,
        at_us=at_us,
        images=_images(population, rng, accounts, account),
        u01=rng.random(len(session)),
        quota_uc=round(population.terms[0].quota * MICRO),
        cycle_days=population.cycle_days,
        prior=prior,
        coverage=coverage[cell],
        health=coverage[cell] * (1.0 - population.stale),
        session=session,
        cell=cell,
    )
    weights = np.array([share.weight for share in population.terms])
    # Drawn apart, so that another mix of plans leaves everything else as it is.
    chosen = np.random.default_rng([seed, block, 1]).choice(len(weights), accounts, p=weights / weights.sum())
    return Drawn(arrivals, accounts, sessions, block * BLOCK, chosen.astype(np.int64))


def _sessions(population: Population, rng: np.random.Generator, accounts: int) -> tuple[npt.NDArray[np.int64], Floats]:
    """(account, first instant in days) of every session, by account and instant."""
    mean = population.more_sessions * population.cycle_days / 17.0
    more = rng.poisson(rng.gamma(population.session_shape, mean / population.session_shape, accounts))
    count = more + 1
    whose = np.repeat(np.arange(accounts, dtype=np.int64), count)
    begins = np.cumsum(count) - count
    hours = np.array(HOURS) / sum(HOURS)
    first = (
        _first_days(population, rng, accounts) + rng.choice(24, accounts, p=hours) / 24.0 + rng.random(accounts) / 24
    )
    gap = np.exp(rng.normal(*population.session_gap, len(whose)))
    gap[begins] = 0.0
    since = np.cumsum(gap)
    day = first[whose] + since - since[begins][whose]
    # What lies beyond the end begins again at the start: the cycle is a window on a life that goes on.
    day = day % population.cycle_days
    order = np.lexsort((day, whose))
    return whose[order], day[order]


def _first_days(population: Population, rng: np.random.Generator, accounts: int) -> Floats:
    """Whole days of the first session, of a density that rises linearly from 1 to ``growth``."""
    u, rise = rng.random(accounts), population.growth - 1.0
    share = u if rise == 0.0 else (np.sqrt(1.0 + u * ((1.0 + rise) ** 2 - 1.0)) - 1.0) / rise
    return np.asarray(np.floor(share * population.cycle_days), dtype=np.float64)


def _images(
    population: Population, rng: np.random.Generator, accounts: int, account: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    sizes = np.array([size for size, _ in population.images], dtype=np.int64)
    shares = np.array([share for _, share in population.images]) / sum(share for _, share in population.images)
    favourite = rng.choice(sizes, accounts, p=shares)[account]
    other = rng.choice(sizes, len(account), p=shares)
    return np.where(rng.random(len(account)) < population.loyal, favourite, other).astype(np.int64)


def _cells(population: Population, rng: np.random.Generator, requests: int) -> npt.NDArray[np.int64]:
    weights = 1.0 / (np.arange(population.cells) + 1.0)
    return rng.choice(population.cells, requests, p=weights / weights.sum()).astype(np.int64)


def _cut(drawn: Drawn, sessions: int) -> Drawn:
    """The accounts of ``drawn`` whose sessions are among the first so many; the last account is kept whole."""
    a = drawn.arrivals
    assert a.session is not None
    owner = a.account[np.argmax(a.session == sessions - 1)]
    kept = a.account <= owner
    arrays = {name: value[kept] for name, value in a._asdict().items() if isinstance(value, np.ndarray)}
    cut = a._replace(**arrays)
    assert cut.session is not None
    return Drawn(cut, int(owner) + 1, len(np.unique(cut.session)), drawn.first, drawn.terms[: int(owner) + 1])
