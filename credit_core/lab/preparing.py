"""Ledger entries → events to replay, in whole columns: what came from outside, in the order it was recorded (SPEC 7, Replay).

Given from outside are requests with their draws and what was logged of cell and user, cycles, grants, corrections, changes
of plan and pauses. What the ledger did by itself (expiries, rollovers, clamps) is left out: the kernel works it out again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]

from credit_core.lab import columnar, indirect, linking, tables
from credit_core.lab.batches import Batch, Names, Recorded, World, bounds
from credit_core.lab.columnar import Coded, Flags, Floats, Ints
from credit_core.lab.linking import Ends, Late, Named
from credit_core.lab.placing import Begin, Lots, place_lots
from credit_core.lab.tables import Records
from credit_core.policy import cycles
from credit_core.policy.controller import MODES
from credit_core.policy.guardrails import RULES
from credit_core.units import from_us, to_us

_RULE = {name: number for number, name in enumerate(RULES)}
_MODE = {name: number for number, name in enumerate(MODES)}
_OUTSIDE = {
    "settle": tables.END, "release": tables.END, "partial": tables.END, "refund": tables.REFUND, "grant": tables.GRANT,
    "adjust": tables.ADJUST, "import": tables.IMPORT, "pause": tables.PAUSE, "resume": tables.RESUME,
}  # fmt: skip


@dataclass(frozen=True)
class _Legs:
    """One row a leg, as its first line, at ``at`` of the entries; ``moved`` and ``spent`` are sums over its lines."""

    entries: pa.Table
    at: Ints
    account: Ints
    moved: Ints
    spent: Ints

    @cached_property
    def kind(self) -> Coded:
        return self.coded("kind")

    @cached_property
    def plan(self) -> Coded:
        return self.coded("plan")

    @cached_property
    def reason(self) -> Coded:
        return self.coded("reason")

    @cached_property
    def decided(self) -> Flags:
        return self.known("rule")

    @cached_property
    def own_plan(self) -> Flags:
        """What ends or corrects a request bears the plan of that request, all others the account's of their time."""
        return self.decided | ~self.known("request_id") | self.kind.equals("import")

    def whole(self, name: str) -> Ints:
        return columnar.whole(self.entries, name)[self.at]

    def number(self, name: str, otherwise: float = np.nan) -> Floats:
        return columnar.number(self.entries, name, otherwise)[self.at]

    def known(self, name: str) -> Flags:
        return columnar.known(self.entries, name)[self.at]

    def coded(self, name: str) -> Coded:
        return columnar.coded(self.entries, name).take(self.at)

    def texts(self, name: str, rows: Ints) -> pa.Array:
        return columnar.texts(self.entries, name).take(pa.array(self.at[rows]))


@dataclass(frozen=True)
class _Shape:
    """Which legs become events: row of the leg, kind of event, and of a change of plan the quota that follows."""

    row: Ints
    kind: Ints
    quota_uc: Ints


def prepare(
    entries: pa.Table,
    lots: Sequence[tuple[str, str, str, int | None]],
    cycle_rows: Sequence[tuple[str, int, int, int, int]],
    world: World,
) -> Recorded:
    """All entries of some accounts (:func:`queries.entries_of`) as events; accounts in the order of their ids.

    Numbered as ``world`` does it; plans, models and segments that it does not know come after its own.
    """
    names, account, entries = _in_order(entries)
    legs = _legs(entries, account)
    placed = place_lots(lots, cycle_rows, names)
    shape = _with_plan_changes(legs, _kinds(legs, placed))
    event_from = np.searchsorted(legs.account[shape.row], np.arange(len(names) + 1)).astype(np.int64)
    segment, model = legs.coded("segment"), legs.coded("model")
    known = Names(
        world.versions,
        _with_more(world.plans, legs.plan),
        _with_more(world.models, model),
        _with_more(world.segments, segment),
    )
    events = _events(legs, shape, placed, known)
    _fill_requests(events, legs, shape.row, segment, model, known)
    _fill_priors(events, legs, shape.row, world, known)
    user_ids, user_from = _link(events, legs, shape, len(names))
    _put_back_ends(events, event_from, shape, account, legs, placed)
    asked = np.isin(events["kind"], (tables.OPEN, tables.CHILD))
    batch = Batch(
        account_ids=names,
        plan=_last(legs.plan, legs.own_plan, legs.account, len(names), world.plans[0]),
        segment=_last(segment, segment.codes >= 0, legs.account, len(names), world.segments[0]),
        event_from=event_from,
        lot_from=placed.lot_from,
        events=events,
        lots=placed.records,
        requests=columnar.texts(entries, "request_id").take(
            pa.array(np.where(asked, legs.at[shape.row], 0), mask=~asked)
        ),
        users=int(events["user"].max(initial=0)) + 1,
    )
    return Recorded(batch, known, user_ids, user_from, np.bincount(account, minlength=len(names)).astype(np.int64))


def _in_order(entries: pa.Table) -> tuple[list[str], Ints, pa.Table]:
    """Accounts by name, each entry's account, and the entries in that order: a database may collate in another one."""
    found = columnar.coded(entries, "account_id")
    told = found.values.to_pylist()
    names = sorted(told)
    number = {name: place for place, name in enumerate(names)}
    account = np.array([number[name] for name in told], dtype=np.int64)[found.codes]
    if (np.diff(account) < 0).any():
        order = np.argsort(account, kind="stable")
        return names, account[order], entries.take(pa.array(order)).combine_chunks()
    return names, account, entries.combine_chunks()


def _legs(entries: pa.Table, account: Ints) -> _Legs:
    starts = np.flatnonzero(columnar.whole(entries, "line") == 1)
    avail, held = columnar.whole(entries, "d_avail_uc"), columnar.whole(entries, "d_held_uc")
    return _Legs(
        entries=entries,
        at=starts,
        account=account[starts],
        moved=np.add.reduceat(avail, starts) if len(starts) else starts,
        spent=-np.add.reduceat(avail + held, starts) if len(starts) else starts,
    )


def _kinds(legs: _Legs, placed: Lots) -> Ints:
    """What each leg is as an event; −1: the ledger's own doing, or nothing to replay."""
    kind = legs.kind.as_numbers(_OUTSIDE, -1)
    later = legs.known("parent_request_id")
    kind[legs.decided] = np.where(later[legs.decided], tables.CHILD, tables.OPEN)
    granted = np.flatnonzero(kind == tables.GRANT)
    for place, leg in zip(granted.tolist(), legs.texts("leg_id", granted).to_pylist(), strict=True):
        begin = placed.begins.get(leg)
        if begin is not None:
            kind[place] = tables.BEGIN if begin.number == 0 else tables.CLOSE
    return kind


def _with_plan_changes(legs: _Legs, kind: Ints) -> _Shape:
    """The events, with one more before the first of each new plan: the change itself writes an entry only where credits move."""
    own = np.flatnonzero(legs.own_plan)
    account, plan = legs.account[own], legs.plan.codes[own]
    changed = own[1:][(account[1:] == account[:-1]) & (plan[1:] != plan[:-1])]
    row = np.flatnonzero(kind >= 0)
    if not len(changed):
        return _Shape(row, kind[row], np.zeros(len(row), np.int64))
    told = legs.known("quota_uc")
    quota, ends = (
        legs.number("quota_uc", 0.0),
        np.searchsorted(legs.account, legs.account[changed], "right"),
    )
    found = {}
    for place, end in zip(changed.tolist(), ends.tolist(), strict=True):
        later = place + np.flatnonzero(told[place:end])
        # A change after which nobody ever asked decides nothing that is replayed.
        if len(later):
            found[place] = int(quota[later[0]])
    more = np.array(list(found), dtype=np.int64)
    rows = np.concatenate([more, row])
    order = np.argsort(rows, kind="stable")
    kinds = np.concatenate([np.full(len(more), tables.PLAN), kind[row]])
    quotas = np.concatenate([np.array(list(found.values()), dtype=np.int64), np.zeros(len(row), np.int64)])
    return _Shape(rows[order], kinds[order], quotas[order])


def _events(legs: _Legs, shape: _Shape, placed: Lots, known: Names) -> Records:
    row, kind = shape.row, shape.kind
    events = tables.records(len(row), tables.EVENT)
    events["at"], events["kind"] = legs.whole("occurred_at")[row], kind
    events["config"] = _configs(legs, known)[row]
    events["plan"] = legs.plan.as_numbers(_places(known.plans), 0)[row]
    moved = legs.moved[row]
    events["amount_uc"] = np.where(
        kind == tables.END, legs.spent[row], np.where(kind == tables.ADJUST, moved, np.abs(moved))
    )
    events["images"] = legs.number("images", 0.0)[row]
    for name in ("lot", "carry", "ref", "before", "cell", "asked", "model"):
        events[name] = -1
    events["quota_uc"] = np.where(kind == tables.PLAN, shape.quota_uc, 0)
    _place_cycles(events, legs, row, placed)
    _place_lots(events, legs, row, placed)
    return events


def _fill_priors(events: Records, legs: _Legs, row: Ints, world: World, known: Names) -> None:
    asked = np.flatnonzero(np.isin(events["kind"], (tables.OPEN, tables.CHILD)))
    told = pd.DataFrame(
        {
            "occurred_at": events["at"],
            "demand_rate": legs.number("demand_rate")[row],
            "plan": np.array(known.plans, dtype=object)[events["plan"]],
        }
    )
    events["prior"][asked] = indirect.priors(events, told, asked, world.rates, world.tau0_days)


def _configs(legs: _Legs, known: Names) -> Ints:
    told = legs.known("config_version")
    version = legs.number("config_version", 0.0).astype(np.int64)
    filled = columnar.filled(version, told, legs.account)
    return np.searchsorted(np.array(known.versions), np.where(filled < 0, known.versions[0], filled)).astype(np.int64)


def _place_cycles(events: Records, legs: _Legs, row: Ints, placed: Lots) -> None:
    places = np.flatnonzero(np.isin(events["kind"], (tables.BEGIN, tables.CLOSE)))
    found = [placed.begins[leg] for leg in legs.texts("leg_id", row[places]).to_pylist()]
    told = np.array(found, dtype=np.int64).reshape(-1, len(Begin._fields))
    _, start_us, end_us, _, monthly, carry = told.T
    # The sign-up lies within its first cycle, which began at midnight.
    events["at"][places] = np.where(events["kind"][places] == tables.CLOSE, start_us, events["at"][places])
    events["lot"][places], events["carry"][places] = monthly, carry
    events["begin_us"][places], events["end_us"][places] = start_us, end_us
    events["quota_uc"][places] = events["amount_uc"][places]
    starts, which = np.unique(start_us, return_inverse=True)
    burst = [cycles.cap_at(from_us(start), 0.0, burst_allowance=True) > 0.0 for start in starts.tolist()]
    events["burst"][places] = np.array(burst, dtype=np.bool_)[which]


def _place_lots(events: Records, legs: _Legs, row: Ints, placed: Lots) -> None:
    kind = events["kind"]
    moved = np.flatnonzero(np.isin(kind, (tables.GRANT, tables.ADJUST, tables.IMPORT)))
    lots, reasons = (legs.texts(name, row[moved]).to_pylist() for name in ("lot_id", "reason"))
    for place, lot, reason in zip(moved.tolist(), lots, reasons, strict=True):
        # Recorded usage is paid by a lot of its own; a spend made offline by all lots.
        offline = kind[place] == tables.IMPORT and reason == "offline"
        events["lot"][place] = -1 if offline else placed.place.get(lot, -1)
    resumed = np.flatnonzero(kind == tables.RESUME)
    for place, details in zip(resumed.tolist(), legs.texts("details", row[resumed]).to_pylist(), strict=True):
        events["end_us"][place] = to_us(datetime.fromisoformat(json.loads(details)["cycle_end_at"]))


def _fill_requests(events: Records, legs: _Legs, row: Ints, segment: Coded, model: Coded, known: Names) -> None:
    asked = np.flatnonzero(np.isin(events["kind"], (tables.OPEN, tables.CHILD)))
    rows = row[asked]

    def fill(name: str, values: Any) -> None:
        events[name][asked] = values

    for name, column, otherwise in (
        ("amount_uc", "cost_uc", 0.0), ("quota_uc", "quota_uc", 0.0), ("u01", "u01", np.nan), ("cycle_days", "cycle_days", np.nan),
        ("days_left", "days_left", np.nan), ("p", "p", 0.0), ("arm_p", "arm_p", 0.5), ("coverage", "coverage", -1.0),
        ("health", "health", 0.0),
    ):  # fmt: skip
        fill(name, legs.number(column, otherwise)[rows])
    fill("conserving", legs.number("conserving", 0.0)[rows] > 0.0)
    fill("under", legs.number("under_represented", 0.0)[rows] > 0.0)
    fill("consent", True)
    rule = legs.coded("rule").take(rows)
    fill("blocked", rule.equals("blocked"))
    fill("rule", rule.as_numbers(_RULE, 0))
    fill("mode", legs.coded("mode").take(rows).as_numbers(_MODE, 0))
    fill("fresh", legs.coded("status").take(rows).equals("RESERVED"))
    fill("segment", segment.take(rows).as_numbers(_places(known.segments), 0))
    models = _places(known.models)
    fill("model", model.take(rows).as_numbers(models, -1))
    genre, mood = legs.coded("genre").take(rows), legs.coded("mood").take(rows)
    cell = genre.codes * (len(mood.values) + 1) + mood.codes
    fill("cell", np.where((genre.codes >= 0) & (mood.codes >= 0), cell, -1))
    fill("end_usd", np.nan)
    details = columnar.encoded(legs.texts("details", rows))
    named = {text: json.loads(text).get("asked_model") for text in details.values.to_pylist()}
    fill("asked", details.as_numbers({text: models.get(name, -1) for text, name in named.items()}, -1))


def _link(events: Records, legs: _Legs, shape: _Shape, accounts: int) -> tuple[pa.Array, Ints]:
    """Tie events to one another, number the users of each account; gives their ids and where each account's begin."""
    row = shape.row
    user, request = legs.coded("user_id"), legs.coded("request_id")
    parent = np.full(len(row), -1, dtype=np.int64)
    children = np.flatnonzero(shape.kind == tables.CHILD)
    parent[children] = request.places_of(legs.texts("parent_request_id", row[children]))
    named = Named(legs.account[row], user.codes[row], request.codes[row], parent, legs.coded("session_id").codes[row])
    ends = Ends(
        legs.kind.equals("settle")[row],
        legs.reason.equals("swept")[row],
        legs.number("cost_usd_micro")[row],
    )
    linking.link(events, named, ends, _late(legs, user, request))
    asked = np.flatnonzero(np.isin(shape.kind, (tables.OPEN, tables.CHILD)))
    pairs = pd.factorize(legs.account[row[asked]] * (len(user.values) + 1) + user.codes[row[asked]])
    people = np.asarray(pairs[1], dtype=np.int64)
    owner, who = np.divmod(people + 1, len(user.values) + 1)
    user_from = bounds([np.bincount(owner, minlength=accounts)])
    events["user"][asked] = np.asarray(pairs[0]) - user_from[legs.account[row[asked]]]
    return user.values.take(pa.array(np.maximum(who - 1, 0), mask=who == 0)), user_from


def _late(legs: _Legs, user: Coded, request: Coded) -> Late:
    """Settles that came after their sweep."""
    rows = np.flatnonzero(legs.kind.equals("rejected") & legs.reason.equals("late_settle"))
    told = [int(json.loads(details)["actual_uc"]) for details in legs.texts("details", rows).to_pylist()]
    at = legs.whole("occurred_at")[rows]
    return Late(user.codes[rows], request.codes[rows], at, np.array(told, dtype=np.int64))


def _put_back_ends(events: Records, event_from: Ints, shape: _Shape, owner: Ints, legs: _Legs, placed: Lots) -> None:
    """Of accounts that were paused: the ends of their lots before that."""
    resumed = shape.row[shape.kind == tables.RESUME]
    if not len(resumed):
        return
    seq = legs.whole("seq")[shape.row]
    lines = legs.entries.select(["seq", "lot_id", "d_avail_uc", "d_held_uc"])
    for account in np.unique(legs.account[resumed]).tolist():
        mine = slice(event_from[account], event_from[account + 1])
        own = placed.records[placed.lot_from[account] : placed.lot_from[account + 1]]
        first, last = np.searchsorted(owner, (account, account + 1)).tolist()
        told = lines.slice(first, last - first).to_pandas()
        indirect.before_pauses(events[mine], seq[mine], told, own, placed.place)


def _with_more(names: tuple[str, ...], found: Coded) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*names, *sorted(found.values.to_pylist())]))


def _places(names: Sequence[str]) -> dict[str, int]:
    return {name: place for place, name in enumerate(names)}


def _last(found: Coded, wanted: Flags, account: Ints, accounts: int, otherwise: str) -> list[str]:
    rows = np.flatnonzero(wanted)
    last = np.full(accounts, -1, dtype=np.int64)
    last[account[rows]] = found.codes[rows]
    values = [*found.values.to_pylist(), otherwise]
    return [values[code] for code in last.tolist()]
