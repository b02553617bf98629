"""A seeded, made-up ledger that shows everything the dashboard can show; what it is made of stands in ``data/demo.toml``.

It goes through the same authorize and settle as live traffic, with the ledger's clock set to the events' own time.
"""

from __future__ import annotations

import heapq
import math
import tomllib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias
from zoneinfo import ZoneInfo

import numpy as np

from credit_core import settings
from credit_core.errors import Conflict, LedgerError
from credit_core.importers import demo_others, demo_rewards
from credit_core.importers.frame import SUCCEEDED, Event, Rejects, Summary, noted, row_id
from credit_core.importers.govern import Act, Clock, Governor, Signup
from credit_core.policy.decision import Decision
from credit_core.service import accounts, lookup
from credit_core.service.core import CreditCore
from credit_core.store.unit import Unit

#: The published draw salt of ledgers that are made to be repeated elsewhere (docs/decisions/0005-draw-salt.md).
PUBLISHED_SALT = b"titrate: published draw salt"
_Weights: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]


class Person(NamedTuple):
    """A made-up user."""

    user_id: str
    plan: str
    region: str
    timezone: str
    segment: str | None
    joined_at: datetime
    images_a_day: float
    favourites: tuple[int, ...]
    other: demo_others.Other | None = None
    visit: demo_others.Visit | None = None


def parameters(path: Path | None = None) -> dict[str, Any]:
    """``data/demo.toml``."""
    return tomllib.loads((path or settings.catalog_folder().parent / "demo.toml").read_text(encoding="utf-8"))


def make(
    url: str,
    until: datetime,
    *,
    users: int | None = None,
    days: int | None = None,
    seed: int | None = None,
    reporting_zone: str | None = None,
    progress: Callable[[float, str], None] = lambda _share, _words: None,
) -> Summary:
    """Fill the empty ledger at ``url`` with ``days`` of activity that end at ``until``. Raises :class:`Conflict` if it has users."""
    wanted = parameters()
    wanted |= {name: value for name, value in (("users", users), ("days", days), ("seed", seed)) if value is not None}
    start = datetime(until.year, until.month, until.day, tzinfo=UTC) - timedelta(days=int(wanted["days"]))
    clock = Clock(start)
    with CreditCore.open(url, clock=clock, reporting_zone=reporting_zone, draw_salt=PUBLISHED_SALT) as core:
        if core.users() > 0:
            raise Conflict(
                "This ledger has users already, and a demo would mix with them. Name another with --database."
            )
        return _fill(core, clock, wanted, start, until, progress)


def _fill(
    core: CreditCore,
    clock: Clock,
    wanted: Mapping[str, Any],
    start: datetime,
    until: datetime,
    progress: Callable[[float, str], None],
) -> Summary:
    rng = np.random.default_rng(int(wanted["seed"]))
    people = _people(rng, wanted, start)
    stock(core, rng, wanted, start)
    summary = Summary("govern", "demo", users=len(people))
    happening = sorted(_happenings(core, wanted, people, until), key=lambda one: (one[0], one[1]))
    instants = [at for at, _, _ in happening]

    def meanwhile(unit: Unit, after: datetime | None, until: datetime) -> None:
        """Sign up everybody who joined meanwhile, whether or not they will ever ask for anything, and sell what was bought."""
        first = 0 if after is None else bisect_right(instants, after)
        for at, _, happen in happening[first : bisect_right(instants, until)]:
            unit.now = at
            happen(unit)

    def told(events: Iterator[Event]) -> Iterator[Event]:
        for event in events:
            summary.rows_read += 1
            if summary.rows_read % 250 == 0:
                at = event.started_at
                progress((at - start) / (until - start), f"{at:%Y-%m-%d}, {summary.rows_read} requests")
            yield event

    signups = {person.user_id: Signup(person.plan, person.timezone, person.region, person.segment) for person in people}
    with Rejects(None) as rejects:
        outcomes = _outcomes(wanted, start, until)
        governor = Governor(core, lambda e: signups[e.user_id], summary, rejects, outcomes, clock, meanwhile)
        events = noted(_events(rng, wanted, people, start, until), summary)
        governor.run(
            told(events), [*_releases(core, wanted, start, until), *_restocks(core, rng, wanted, start, until)]
        )
        governor.finish(until)
        summary.reject_file = rejects.count
    lookup.reward_served(core.deployment, demo_rewards.judging(wanted, until))
    core.reconcile(until)
    core.sweep(until)
    if core.verify(record_as="demo"):
        raise LedgerError(
            "The demo broke an invariant; `python -m credit_core verify` tells which. Please report this."
        )
    progress(1.0, f"{summary.rows_read} requests")
    summary.users = len(people)
    return summary


def _happenings(
    core: CreditCore, wanted: Mapping[str, Any], people: list[Person], until: datetime
) -> Iterator[tuple[datetime, str, Callable[[Unit], None]]]:
    """Sign-ups and purchases: when, whose, and what is written."""

    def join(p: Person, unit: Unit) -> None:
        session = None if p.visit is None else p.visit.session_id
        accounts.add_user_in(
            unit, core.deployment, p.user_id, p.plan, p.timezone, p.region, p.segment, p.joined_at, session
        )

    def buy(p: demo_others.Purchase, unit: Unit) -> None:
        price = p.unit_price_usd_micro
        accounts.grant_in(unit, core.deployment, p.user_id, p.credits_uc, "purchased", p.key, p.at, None, price)

    catalog = core.deployment.catalog
    for number, p in enumerate(people):
        yield p.joined_at, p.user_id, partial(join, p)
        if p.other is not None and catalog.plan(p.plan).quota_policy == "prepaid":
            for one in demo_others.purchases(wanted, catalog, number, p.user_id, p.other, p.joined_at, until):
                yield one.at, p.user_id, partial(buy, one)


def _people(rng: np.random.Generator, wanted: Mapping[str, Any], start: datetime) -> list[Person]:
    plans, regions, activity = wanted["plans"], wanted["regions"], wanted["activity"]
    cells = len(wanted["library"]["genres"]) * len(wanted["library"]["moods"])
    people = []
    for number in range(int(wanted["users"])):
        plan = _pick(rng, {name: row[0] for name, row in plans.items()})
        region = _pick(rng, {name: row[0] for name, row in regions.items()})
        _, median, sigma = plans[plan]
        there = rng.random() < wanted["initial_share"]
        # Growth: the density of sign-ups rises towards the end.
        day = rng.random() * 0.5 if there else (wanted["days"] - 1) * math.sqrt(rng.random())
        joined_at, other = start + timedelta(days=float(day)), demo_others.chosen(wanted, number)
        people.append(
            Person(
                user_id=f"user-{number:05d}",
                plan=plan if other is None else other.plan,
                region=region,
                timezone=str(rng.choice(regions[region][1:])),
                segment="high_engagement" if rng.random() < activity["high_engagement_share"] else None,
                joined_at=joined_at,
                images_a_day=float(np.exp(np.log(median) + sigma * rng.standard_normal())),
                favourites=tuple(int(cell) for cell in rng.choice(cells, size=3, p=_popularity(cells), replace=False)),
                other=other,
                visit=None if there else demo_others.session_before(wanted, number, joined_at, start),
            )
        )
    return people


def _popularity(cells: int) -> _Weights:
    weight = (np.arange(cells) + 1.0) ** -0.7
    return np.asarray(weight / weight.sum(), dtype=np.float64)


def stock(core: CreditCore, rng: np.random.Generator, wanted: Mapping[str, Any], start: datetime) -> None:
    """Fill the library as it stands at ``start``, some of it with stale assets."""
    library = wanted["library"]
    cells = library_cells(wanted)
    # Somewhere in the middle of the ranking stand cells that nobody ever filled.
    empty = set(rng.choice(np.arange(6, len(cells) - 6), size=library["empty_cells"], replace=False).tolist())
    for rank, (genre, mood) in enumerate(cells):
        count = round(library["stock"] * (rank + 1.0) ** -library["decay"] * float(rng.lognormal(0.0, 0.35)))
        if rank in empty or count <= 0:
            continue
        stale = round(count * library["stale_share"] * float(rng.random()) * 2)
        for share, age in ((min(stale, count), 45), (count - min(stale, count), 4)):
            if share:
                core.library.put(genre, mood, share, start - timedelta(days=age))


def _restocks(
    core: CreditCore, rng: np.random.Generator, wanted: Mapping[str, Any], start: datetime, until: datetime
) -> Iterator[Act]:
    """Every week some cells get assets, the more popular ones more often."""
    library, cells = wanted["library"], library_cells(wanted)

    def restock(at: datetime) -> None:
        popularity = _popularity(len(cells))
        for rank in rng.choice(len(cells), size=library["restock_cells"], p=popularity, replace=False).tolist():
            genre, mood = cells[rank]
            core.library.put(genre, mood, int(library["restock_assets"]), at)

    at = start + timedelta(days=7)
    while at < until:
        yield Act(at, partial(restock, at))
        at += timedelta(days=7)


def _releases(core: CreditCore, wanted: Mapping[str, Any], start: datetime, until: datetime) -> Iterator[Act]:
    """Changes of configuration: the first at the start, the others at nine in the morning of their days."""

    def release(change: Mapping[str, Any]) -> None:
        if change.get("rollback"):
            core.roll_back(change["author"], change["note"])
        else:
            version = core.propose(change["changes"], change["author"], change["note"])
            core.release_version(version, author=change["author"], reason=change["note"])
        # The next decision must know it: real time hardly passes between one made-up day and the next.
        core.config()

    for change in wanted["release"]:
        at = start + timedelta(days=int(change["day"]), hours=9 if change["day"] else 0)
        if at < until:
            yield Act(at, partial(release, change))


def library_cells(wanted: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Cells by popularity: genres and moods interleaved, so that no genre has it all."""
    genres, moods = wanted["library"]["genres"], wanted["library"]["moods"]
    pairs = [(g, m) for g in range(len(genres)) for m in range(len(moods))]
    return [(genres[g], moods[m]) for g, m in sorted(pairs, key=lambda p: (p[0] * 1.0 + p[1] * 1.3, p[0]))]


def _events(
    rng: np.random.Generator, wanted: Mapping[str, Any], people: list[Person], start: datetime, until: datetime
) -> Iterator[Event]:
    """Requests of all people in order of time: each person's sessions are drawn one after the other and merged."""
    cells = library_cells(wanted)
    streams = [
        _person_events(np.random.default_rng([int(wanted["seed"]), number]), wanted, person, cells, until)
        for number, person in enumerate(people)
    ]
    visits = [*demo_others.visits(wanted, start, until), *(person.visit for person in people if person.visit)]
    streams += [demo_others.guest_events(wanted, number, visit, until) for number, visit in enumerate(visits)]
    in_order = heapq.merge(*streams, key=lambda e: (e.started_at, e.user_id, e.line))
    for line, event in enumerate(in_order, 1):
        yield event._replace(line=line, request_id=row_id(event.content, 1))


def _person_events(
    rng: np.random.Generator, wanted: Mapping[str, Any], person: Person, cells: list[tuple[str, str]], until: datetime
) -> Iterator[Event]:
    activity = wanted["activity"]
    sizes = [int(size) for size in activity["images"]]
    shares = np.array(list(activity["images"].values()))
    images_per_session = activity["requests_per_session"] * float(np.dot(sizes, shares / shares.sum()))
    sessions_a_day = person.images_a_day / images_per_session
    if person.other is not None:
        sessions_a_day = person.other.generations_a_day / activity["requests_per_session"]
    weights = np.array(activity["hours"], dtype=float)
    popularity, size_shares = _cumulated(_popularity(len(cells))), _cumulated(shares)
    zone, day, number = ZoneInfo(person.timezone), person.joined_at.astimezone(ZoneInfo(person.timezone)).date(), 0
    last, free_at = until.astimezone(zone).date(), person.joined_at - timedelta(days=1)
    while day <= last:
        rate = sessions_a_day * activity["weekdays"][day.weekday()]
        for hour in sorted(rng.choice(24, size=rng.poisson(rate), p=weights / weights.sum()).tolist()):
            # Nobody asks in two sessions at once: one that would overlap begins when the one before it is over.
            at = max(free_at, _local(day, hour, float(rng.random()), zone))
            binge = rng.random() < activity["binge_share"]
            mean = activity["requests_per_session"] * (activity["binge_factor"] if binge else 1.0)
            gap = activity["binge_seconds_between"] if binge else activity["seconds_between_requests"]
            number += 1
            for turn in range(int(rng.geometric(1.0 / mean))):
                favourite = rng.random() < 0.6
                cell = person.favourites[int(rng.integers(3))] if favourite else _place(rng, popularity)
                images = sizes[_place(rng, size_shares)]
                if person.joined_at <= at < until:
                    content = f"{person.user_id}/{number}/{turn}"
                    genre, mood = cells[cell]
                    event = Event(
                        number,
                        content,
                        person.user_id,
                        at,
                        None,
                        SUCCEEDED,
                        images,
                        f"{person.user_id}-{number}",
                        "",
                        genre,
                        mood,
                    )
                    yield event if person.other is None else _other(rng, event, person.other)
                at += timedelta(microseconds=max(1, int(rng.exponential(gap) * 1e6)))
            free_at = at
        day += timedelta(days=1)


def _other(rng: np.random.Generator, event: Event, other: demo_others.Other) -> Event:
    """The event as one of a plan that is not titrated: one generation, of a modality and mostly by a model of its own."""
    ask = demo_others.asked(rng, other.asks)
    return event._replace(images=1, genre=None, mood=None, modality=ask.modality, model=ask.model)


def _cumulated(weights: _Weights) -> _Weights:
    total = (weights / weights.sum()).cumsum()
    return np.asarray(total / total[-1], dtype=np.float64)


def _place(rng: np.random.Generator, cumulated: _Weights) -> int:
    """A place drawn by cumulated weights: what ``rng.choice`` with weights does, at a tenth of its cost."""
    return int(cumulated.searchsorted(rng.random(), side="right"))


def _local(day: date, hour: int, share: float, zone: ZoneInfo) -> datetime:
    return datetime(day.year, day.month, day.day, hour, tzinfo=zone).astimezone(UTC) + timedelta(
        seconds=int(share * 3_600)
    )


def _outcomes(
    wanted: Mapping[str, Any], start: datetime, until: datetime
) -> Callable[[Event, Decision], tuple[datetime | None, bool, float | None]]:
    outcome = wanted["outcome"]
    still_running = until - timedelta(minutes=outcome["running_minutes"])

    def ends(event: Event, decision: Decision) -> tuple[datetime | None, bool, float | None]:
        rng = np.random.default_rng([int(wanted["seed"]), event.line])
        fate, noise = float(rng.random()), float(rng.standard_normal())
        median, sigma = outcome["latency_s"].get(decision.model or "", (6.0, 0.5))
        seconds = float(median) * math.exp(float(sigma) * noise) * (1.0 + 0.15 * (event.images - 1))
        bad = (event.started_at - start).days == outcome["bad_day"] and decision.model == outcome["bad_model"]
        failing = outcome["bad_day_failure_rate"] if bad else outcome["failure_rate"]
        if fate < outcome["never_ends"] or event.started_at >= still_running:
            return None, False, None
        if fate < outcome["never_ends"] + outcome["late"]:
            seconds += 1_200.0
        failed = outcome["never_ends"] + outcome["late"] <= fate < outcome["never_ends"] + outcome["late"] + failing
        return event.started_at + timedelta(seconds=seconds), failed, seconds * 1_000.0

    return ends


def _pick(rng: np.random.Generator, shares: Mapping[str, float]) -> str:
    names = list(shares)
    weights = np.array([shares[name] for name in names])
    return str(rng.choice(names, p=weights / weights.sum()))
