"""Arrivals of some accounts as a replay takes them, and how what was recorded becomes that for one set of configurations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

from credit_core.lab import tables
from credit_core.lab.columnar import Ints
from credit_core.lab.tables import Records


class Names(NamedTuple):
    """What the numbers in events stand for."""

    versions: tuple[int, ...]
    plans: tuple[str, ...]
    models: tuple[str, ...]
    segments: tuple[str, ...]


@dataclass(frozen=True)
class World:
    """What the events of all batches are numbered by, read once: versions, plans, models, segments; and λ₀ by plan."""

    versions: tuple[int, ...]
    tau0_days: tuple[float, ...]
    plans: tuple[str, ...]
    models: tuple[str, ...]
    segments: tuple[str, ...]
    rates: Mapping[str, tuple[list[str], list[float]]]
    no_consent: frozenset[str]
    end_us: int

    @property
    def names(self) -> Names:
        """What it numbers, in its order."""
        return Names(self.versions, self.plans, self.models, self.segments)


@dataclass(frozen=True)
class Batch:
    """The events of some accounts. ``plan`` and ``segment`` are each account's last; ``requests`` are ids by event.

    ``users``: the most users of one account.
    """

    account_ids: list[str]
    plan: list[str]
    segment: list[str]
    event_from: Ints
    lot_from: Ints
    events: Records
    lots: Records
    requests: pa.Array
    users: int

    @property
    def request_id(self) -> npt.NDArray[np.object_]:
        """The request's id by event, None where there is none."""
        return np.asarray(self.requests.to_numpy(zero_copy_only=False), dtype=object)

    def of(self, places: Ints) -> Batch:
        """The accounts at ``places`` alone, in that order."""
        wanted = places.tolist()
        rows = rows_of(self.event_from, places)
        return replace(
            self,
            account_ids=[self.account_ids[place] for place in wanted],
            plan=[self.plan[place] for place in wanted],
            segment=[self.segment[place] for place in wanted],
            event_from=bounds([np.diff(self.event_from)[places]]),
            lot_from=bounds([np.diff(self.lot_from)[places]]),
            events=self.events[rows],
            lots=self.lots[rows_of(self.lot_from, places)],
            requests=self.requests.take(pa.array(rows)),
        )

    def forgotten(self) -> Batch:
        """Whose accounts they were, without the events themselves."""
        return replace(self, events=self.events[:0].copy(), lots=self.lots[:0].copy(), requests=self.requests[:0])


@dataclass(frozen=True)
class Recorded:
    """A batch as the ledger has it, whatever is to be replayed: all of its events, under numbers of its own.

    ``user_ids`` name the users of each account, ``user_from`` bounds them; everybody consents. ``entries``: how many
    entries each account had.
    """

    batch: Batch
    names: Names
    user_ids: pa.Array
    user_from: Ints
    entries: Ints

    def of(self, places: Ints) -> Recorded:
        """The accounts at ``places`` alone, in that order."""
        return replace(
            self,
            batch=self.batch.of(places),
            user_ids=self.user_ids.take(pa.array(rows_of(self.user_from, places))),
            user_from=bounds([np.diff(self.user_from)[places]]),
            entries=self.entries[places],
        )


def joined(parts: Sequence[Batch]) -> Batch:
    """The accounts of all parts as one batch."""
    return Batch(
        account_ids=[name for part in parts for name in part.account_ids],
        plan=[plan for part in parts for plan in part.plan],
        segment=[segment for part in parts for segment in part.segment],
        event_from=bounds([np.diff(part.event_from) for part in parts]),
        lot_from=bounds([np.diff(part.lot_from) for part in parts]),
        events=np.concatenate([part.events for part in parts]).view(np.recarray),
        lots=np.concatenate([part.lots for part in parts]).view(np.recarray),
        requests=pa.concat_arrays([part.requests for part in parts]),
        users=max(part.users for part in parts),
    )


def fitted(recorded: Recorded, world: World) -> Batch:
    """The events up to the world's end under its numbers, with what its users consent to.

    Plans and segments that it does not know count as its first, models as none. ``recorded`` is taken over: its own arrays
    are changed where there is something to change.
    """
    batch, names = recorded.batch, recorded.names
    moved = {
        "config": _numbers(names.versions, world.versions, 0),
        "plan": _numbers(names.plans, world.plans, 0),
        "segment": _numbers(names.segments, world.segments, 0),
        "model": _numbers(names.models, world.models, -1),
        "asked": _numbers(names.models, world.models, -1),
    }
    moved = {field: to for field, to in moved.items() if not np.array_equal(to[:-1], np.arange(len(to) - 1))}
    silent = _without_consent(recorded, world.no_consent)
    for field, to in moved.items():
        batch.events[field] = to[batch.events[field]]
    for account, user in silent.tolist():
        mine = batch.events[batch.event_from[account] : batch.event_from[account + 1]]
        mine["consent"][mine["user"] == user] = False
    late = batch.events["at"] >= world.end_us
    return _until(batch, late, world) if late.any() else batch


def rows_of(edges: Ints, places: Ints) -> Ints:
    """The rows of the accounts at ``places``, whose rows ``edges`` bound, one account after the other."""
    sizes = np.diff(edges)[places]
    first = np.repeat(edges[:-1][places] - (np.cumsum(sizes) - sizes), sizes)
    return np.asarray(first + np.arange(int(sizes.sum())), dtype=np.int64)


def bounds(sizes: Sequence[Ints]) -> Ints:
    """Where each account's rows begin and end, from how many each has."""
    return np.concatenate([[0], np.cumsum(np.concatenate(sizes))]).astype(np.int64)


def _numbers(before: Sequence[object], after: Sequence[object], otherwise: int) -> Ints:
    """[number before]: the number after; the last one, which −1 picks, is none."""
    places = {name: place for place, name in enumerate(after)}
    return np.array([*(places.get(name, otherwise) for name in before), -1], dtype=np.int64)


def _without_consent(recorded: Recorded, names: frozenset[str]) -> Ints:
    """[account, user] of the users named."""
    if not names:
        return np.zeros((0, 2), dtype=np.int64)
    asked = pc.is_in(recorded.user_ids, value_set=pa.array(sorted(names), pa.string()))
    found = np.flatnonzero(np.asarray(asked.to_numpy(zero_copy_only=False)))
    account = np.searchsorted(recorded.user_from, found, side="right") - 1
    return np.stack([account, found - recorded.user_from[account]], axis=1)


def _until(batch: Batch, late: npt.NDArray[np.bool_], world: World) -> Batch:
    """The batch as it was before the events that are ``late``: requests that had not ended then have no end."""
    start = np.repeat(batch.event_from[:-1], np.diff(batch.event_from))
    events, kept = batch.events.copy(), ~late
    gone = np.flatnonzero(late & (events["kind"] == tables.END))
    of = start[gone] + events["ref"][gone]
    events["end_usd"][of] = np.nan
    open_ = events["end_at"] >= world.end_us
    events["end_kind"][open_], events["end_at"][open_], events["end_uc"][open_] = tables.NO_END, 0, 0
    halves = np.flatnonzero(late & (events["kind"] == tables.CHILD))
    events["child"][start[halves] + events["ref"][halves]] = False
    # Places within the account count what is left.
    before: Ints = np.cumsum(kept) - kept
    for field in ("ref", "before"):
        known = events[field] >= 0
        at = start[known]
        events[field][known] = before[at + events[field][known]] - before[at]
    rows = np.flatnonzero(kept)
    sizes = np.diff(np.searchsorted(rows, batch.event_from))
    found = replace(
        batch, events=events[rows], event_from=bounds([sizes]), requests=batch.requests.take(pa.array(rows))
    )
    return replace(
        found,
        plan=_last(found, "plan", world.plans, batch.plan),
        segment=_last(found, "segment", world.segments, batch.segment),
    )


def _last(batch: Batch, field: str, names: Sequence[str], otherwise: list[str]) -> list[str]:
    """The name of each account's last request's plan or segment; ``otherwise`` where it has none."""
    asked = np.flatnonzero(np.isin(batch.events["kind"], (tables.OPEN, tables.CHILD)))
    owner = np.searchsorted(batch.event_from, asked, side="right") - 1
    last = np.full(len(batch.account_ids), -1, dtype=np.int64)
    last[owner] = asked
    return [
        was if place < 0 else names[batch.events[field][place]]
        for place, was in zip(last.tolist(), otherwise, strict=True)
    ]
