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
#: Draws worked on at a time: what a processor's cache holds.
_BLOCK = 1 << 15
_GAMMA, _FIRST, _SECOND = (
    np.uint64(0x9E3779B97F4A7C15),
    np.uint64(0xBF58476D1CE4E5B9),
    np.uint64(0x94D049BB133111EB),
)


class Pool(NamedTuple):
    """All account-days of a plan: ``spending`` has those above 0, micro-credits, the other ``days`` are 0."""

    days: int
    spending: Integers


class Account(NamedTuple):
    """What is known of an account: its balance, the days to its reset, and its own last complete days of demand."""

    available_uc: int
    days_left: float
    own_uc: Sequence[int]
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
    by_length: dict[tuple[int, str], list[int]] = {}
    for place, one in enumerate(accounts):
        days = int(np.ceil(one.days_left))
        if days > 0 and (one.own_uc or pools[one.plan].days):
            by_length.setdefault((days, one.plan), []).append(place)
    for (days, plan), places in by_length.items():
        step = max(1, _BLOCK // (remainders * days))
        for first in range(0, len(places), step):
            some = places[first : first + step]
            told = _together([accounts[place] for place in some], pools[plan], days, remainders)
            for place, outlook in zip(some, told, strict=True):
                found[place] = outlook
    return found


def _together(some: Sequence[Account], pool: Pool, days: int, remainders: int) -> list[Outlook]:
    """Accounts of one plan with equally many days to come."""
    demand = _drawn(some, pool, days, remainders)
    last = np.array([one.days_left - (days - 1) for one in some])
    demand[:, -1] = (demand[:, -1] * last[:, None]).astype(np.int64)
    available = np.array([one.available_uc for one in some], dtype=np.int64)
    over = demand.sum(axis=1) > available[:, None]
    chances = over.mean(axis=1)
    return [
        Outlook(float(chance), _middle_day(demand[place][:, over[place]], one.available_uc) if chance else None)
        for place, (one, chance) in enumerate(zip(some, chances, strict=True))
    ]


def _middle_day(demand: Integers, available_uc: int) -> float:
    """Days after which the middle one of these remainders (days × remainders) is out; the lower of two middles."""
    first = (np.cumsum(demand, axis=0) > available_uc).argmax(axis=0)
    return float(np.sort(first)[(len(first) - 1) // 2])


def _drawn(some: Sequence[Account], pool: Pool, days: int, remainders: int) -> Integers:
    """accounts × days × remainders of demand, micro-credits."""
    known = np.array([len(one.own_uc) for one in some], dtype=np.float64)[:, None]
    weight = PLAN_DAYS if pool.days else 0
    # Each account's own days, and one more for draws of its plan, which are told after it.
    own = np.concatenate([*(np.array(one.own_uc, dtype=np.int64) for one in some), [0]]).astype(np.int64)
    start = np.cumsum([0, *(len(one.own_uc) for one in some)])
    slot = uniforms([one.seed for one in some], remainders * days)
    slot *= known + weight
    place = slot.astype(np.int64)
    place += start[:-1, None]
    demand = own.take(place, mode="clip")
    if weight:
        rest = np.flatnonzero(slot >= known)
        rank = ((slot - known).ravel()[rest] * (pool.days / PLAN_DAYS)).astype(np.int64)
        # What lies behind the plan's spending days are its idle ones.
        spending = np.zeros(len(rank), dtype=np.int64)
        spent = np.flatnonzero(rank < len(pool.spending))
        spending[spent] = pool.spending[rank[spent]]
        demand.ravel()[rest] = spending
    return np.asarray(demand.reshape(len(some), days, remainders))


def uniforms(seeds: Sequence[int], count: int) -> Floats:
    """seeds × count numbers in [0, 1): SplitMix64 of seed + (n + 1)·γ, its upper 53 bits over 2⁵³."""
    with np.errstate(over="ignore"):
        steps = np.arange(1, count + 1, dtype=np.uint64) * _GAMMA
        z = np.array(seeds, dtype=np.uint64)[:, None] + steps[None, :]
        z ^= z >> np.uint64(30)
        z *= _FIRST
        z ^= z >> np.uint64(27)
        z *= _SECOND
        z ^= z >> np.uint64(31)
    z >>= np.uint64(11)
    return z * 2.0**-53
