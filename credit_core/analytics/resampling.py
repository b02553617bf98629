"""Resampled remainders: how often a balance does not last, worked out for many accounts at once (SPEC 6, run-out risk).

A day still to come is drawn from the account's own last complete days with weight n, and from all days of its plan's
accounts with weight :data:`PLAN_DAYS`; n is the number of its own days. Draws are SplitMix64 of a seed and a counter, so
an account's chance on a day is the same wherever and whenever it is worked out.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

REMAINDERS = 1_000
#: Complete days of an account that are looked back on, and the weight of its plan in days (SPEC 6).
OWN_DAYS, PLAN_DAYS = 28, 14
#: Remainders worked on at a time: what a processor's cache holds.
_BLOCK = 1 << 16
_GAMMA = 0x9E3779B97F4A7C15
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


class Pool(NamedTuple):
    """All account-days of a plan: ``spending`` has those above 0, micro-credits, the other ``days`` are 0."""

    days: int
    spending: Integers


class Account(NamedTuple):
    """What is known of an account: its balance, the days to its reset, and its own last complete days of demand."""

    available_uc: int
    days_left: float
    own_uc: Sequence[int] | Integers
    plan: str
    seed: int


class Outlook(NamedTuple):
    """Share of remainders that run out, and the day (from now, whole days) on which the middle one of those does."""

    chance: float
    days: float | None


def seed_of(account_id: str, day: date) -> int:
    """hash(account, day): 64 bits."""
    return int.from_bytes(blake2b(f"{account_id}\n{day.isoformat()}".encode(), digest_size=8).digest(), "big")


def outlooks(accounts: Sequence[Account], pools: dict[str, Pool], remainders: int = REMAINDERS) -> list[Outlook]:
    """For each account, how many of ``remainders`` resampled ends of its cycle ask for more than it has.

    A last part of a day counts with its share. Nobody runs out of what nobody asks for: with no day to draw from, or none
    left, the chance is 0.
    """
    found = [Outlook(0.0, None)] * len(accounts)
    by_plan: dict[str, list[int]] = {}
    for place, one in enumerate(accounts):
        if one.days_left > 0 and (len(one.own_uc) or pools[one.plan].days):
            by_plan.setdefault(one.plan, []).append(place)
    step = max(1, _BLOCK // remainders)
    for plan, places in by_plan.items():
        # Those that come to their end together are worked out together.
        places.sort(key=lambda place: accounts[place].days_left)
        for first in range(0, len(places), step):
            some = places[first : first + step]
            told = _together([accounts[place] for place in some], pools[plan], remainders)
            for place, outlook in zip(some, told, strict=True):
                found[place] = outlook
    return found


def _together(some: Sequence[Account], pool: Pool, remainders: int) -> list[Outlook]:
    """Accounts of one plan, day by day: a remainder that has run out draws no more days."""
    draws = _Draws(some, pool)
    left = np.array([one.days_left for one in some])
    days = np.ceil(left).astype(np.int64)
    share = left - (days - 1)
    who = np.repeat(np.arange(len(some)), remainders)
    state = states([one.seed for one in some], remainders).ravel()
    has = np.array([one.available_uc for one in some], dtype=np.int64)[who]
    out = np.zeros((days.max(), len(some)), dtype=np.int64)
    for day in range(len(out)):
        wanted = draws(who, state + _steps(day * remainders))
        if (last := days == day + 1).any():
            ends = np.flatnonzero(last[who])
            wanted[ends] = (wanted[ends] * share[who[ends]]).astype(np.int64)
        has -= wanted
        over = has < 0
        out[day] = np.bincount(who[over], minlength=len(some))
        goes_on = np.flatnonzero(~(over | last[who]))
        who, state, has = who[goes_on], state[goes_on], has[goes_on]
        if not len(who):
            break
    by_then = out.cumsum(axis=0)
    number = by_then[-1]
    # The lower of two middles.
    middle = (by_then <= (number - 1) // 2).sum(axis=0)
    return [
        Outlook(int(one) / remainders, float(day) if one else None) for one, day in zip(number, middle, strict=True)
    ]


class _Draws:
    """Days of demand, micro-credits, drawn for accounts of one plan."""

    def __init__(self, some: Sequence[Account], pool: Pool) -> None:
        self._known = np.array([len(one.own_uc) for one in some], dtype=np.float64)
        self._weight = PLAN_DAYS if pool.days else 0
        # Each account's own days, and one more for draws of its plan, which are told after it.
        self._own = np.concatenate([*(np.array(one.own_uc, dtype=np.int64) for one in some), [0]]).astype(np.int64)
        self._start = np.cumsum([0, *(len(one.own_uc) for one in some)])
        self._pool = pool

    def __call__(self, who: Integers, state: npt.NDArray[np.uint64]) -> Integers:
        """One day for each of these, by the account's place; ``state`` is used up."""
        slot, known = uniforms(state), self._known[who]
        slot *= known + self._weight
        place = slot.astype(np.int64)
        place += self._start[who]
        wanted = self._own.take(place, mode="clip")
        if self._weight:
            slot -= known
            rest = np.flatnonzero(slot >= 0)
            rank = (slot[rest] * (self._pool.days / PLAN_DAYS)).astype(np.int64)
            # What lies behind the plan's spending days are its idle ones.
            spending = np.zeros(len(rank), dtype=np.int64)
            spent = np.flatnonzero(rank < len(self._pool.spending))
            spending[spent] = self._pool.spending[rank[spent]]
            wanted[rest] = spending
        return wanted


def states(seeds: Sequence[int], count: int) -> npt.NDArray[np.uint64]:
    """seeds × count states of SplitMix64: seed + (n + 1)·γ."""
    steps: npt.NDArray[np.uint64] = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_GAMMA)
    return np.array(seeds, dtype=np.uint64)[:, None] + steps


def _steps(number: int) -> np.uint64:
    return np.uint64(number * _GAMMA % (1 << 64))


def uniforms(z: npt.NDArray[np.uint64]) -> Floats:
    """Numbers in [0, 1): SplitMix64 of these states, which are used up, its upper 53 bits over 2⁵³."""
    z ^= z >> np.uint64(30)
    z *= _FIRST
    z ^= z >> np.uint64(27)
    z *= _SECOND
    z ^= z >> np.uint64(31)
    z >>= np.uint64(11)
    return np.multiply(z, 2.0**-53, dtype=np.float64)
