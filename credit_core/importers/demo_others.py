"""The part of the demo that is not titrated: people on plans of the other policies, the packs they buy, and guests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import numpy as np

from credit_core import units
from credit_core.importers.frame import SUCCEEDED, Event
from credit_core.policy.plans import Catalog
from credit_core.service import accounts

#: Parts of the demo that are drawn apart from each other and from people: one can change and the others stay.
_MOVING, _BUYING, _VISITING = 1, 2, 3


class Ask(NamedTuple):
    """What somebody may ask for, and how often beside the rest. ``model`` None: the cheapest that fits."""

    modality: str
    model: str | None
    weight: float


class Other(NamedTuple):
    """Terms of somebody whose plan is not titrated."""

    plan: str
    generations_a_day: float
    asks: tuple[Ask, ...]


class Purchase(NamedTuple):
    """A pack bought."""

    at: datetime
    user_id: str
    key: str
    credits_uc: int
    unit_price_usd_micro: int


class Visit(NamedTuple):
    """A guest's session, from its first request on."""

    session_id: str
    at: datetime


def chosen(wanted: Mapping[str, Any], number: int) -> Other | None:
    """The plan of user ``number`` where that is not titrated; None for the others."""
    rng = np.random.default_rng([int(wanted["seed"]), number, _MOVING])
    left = float(rng.random())
    for plan, (share, median, sigma) in wanted["others"].items():
        if left < share:
            rate = float(np.exp(np.log(median) + sigma * rng.standard_normal()))
            return Other(plan, rate, tuple(_asks(wanted["asks"][plan])))
        left -= share
    return None


def asked(rng: np.random.Generator, asks: Sequence[Ask]) -> Ask:
    """One of ``asks``, drawn by weight."""
    weights = np.array([ask.weight for ask in asks])
    return asks[int(rng.choice(len(asks), p=weights / weights.sum()))]


def purchases(
    wanted: Mapping[str, Any],
    catalog: Catalog,
    number: int,
    user_id: str,
    other: Other,
    joined_at: datetime,
    until: datetime,
) -> Iterator[Purchase]:
    """Packs that a prepaid user buys: about when the credits before must be spent, now too early, now too late, until they stop."""
    rng = np.random.default_rng([int(wanted["seed"]), number, _BUYING])
    rules, packs = wanted["packs"], wanted["packs"]["bought"]
    weights = np.array(list(packs.values()))
    left = catalog.plan(other.plan).welcome_credits or 0.0
    at, bought = joined_at, 0
    while rng.random() < (rules["again_share"] if bought else rules["first_share"]):
        at += timedelta(days=left / other.generations_a_day * float(rng.uniform(*rules["patience"])))
        if at >= until:
            return
        bought += 1
        pack = catalog.packs[str(rng.choice(list(packs), p=weights / weights.sum()))]
        price = round(units.dollars_to_usd_micro(pack.price_usd) / pack.credits)
        yield Purchase(at, user_id, f"pack-{bought}", units.credits_to_uc(pack.credits), price)
        left = pack.credits


def session_before(wanted: Mapping[str, Any], number: int, joined_at: datetime, start: datetime) -> Visit | None:
    """The visit as a guest that made user ``number`` sign up; None for those who came another way."""
    rng = np.random.default_rng([int(wanted["seed"]), number, _VISITING])
    at = joined_at - timedelta(seconds=float(rng.uniform(300, 7_200)))
    if rng.random() >= wanted["guests"]["newcomers_share"] or at < start + timedelta(days=1):
        return None
    return Visit(f"visit-of-{number:05d}", at)


def visits(wanted: Mapping[str, Any], start: datetime, until: datetime) -> list[Visit]:
    """Visits of guests who never sign up."""
    rng = np.random.default_rng([int(wanted["seed"]), 0, 0, _VISITING])
    count = round(wanted["guests"]["visits_a_user"] * int(wanted["users"]))
    span = until - start
    return [Visit(f"visit-{number:05d}", start + span * float(rng.random()) ** 0.7) for number in range(count)]


def guest_events(wanted: Mapping[str, Any], number: int, visit: Visit, until: datetime) -> Iterator[Event]:
    """Requests of one visit; those over the window's limit are refused, and some guests come back the next day."""
    rng = np.random.default_rng([int(wanted["seed"]), number, 0, _VISITING])
    guests, user_id, at, turn = wanted["guests"], accounts.guest_id(visit.session_id), visit.at, 0
    for day in range(1 + int(rng.random() < guests["returning_share"])):
        at += timedelta(hours=25 * day)
        for _ in range(int(rng.geometric(1.0 / guests["requests"]))):
            if at < until:
                turn += 1
                content = f"{user_id}/{turn}"
                yield Event(turn, content, user_id, at, None, SUCCEEDED, 1, visit.session_id)
            at += timedelta(microseconds=int((8.0 + rng.exponential(guests["seconds_between"])) * 1e6))


def _asks(weights: Mapping[str, float]) -> Iterator[Ask]:
    for name, weight in weights.items():
        modality, _, model = name.partition("/")
        yield Ask(modality, model or None, float(weight))
