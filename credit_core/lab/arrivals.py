"""The ledger as events to replay: what came from outside, in the order it was recorded (SPEC 7, Replay).

Given from outside are requests with their draws and what was logged of cell and user, cycles, grants, corrections, changes
of plan and pauses. What the ledger did by itself (expiries, rollovers, clamps) is left out: the kernel works it out again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from credit_core.analytics import queries
from credit_core.analytics.sync import Facts
from credit_core.lab import indirect, tables
from credit_core.lab.tables import NEVER, Records
from credit_core.policy import cycles
from credit_core.policy.config import Config
from credit_core.policy.controller import MODES
from credit_core.policy.guardrails import RULES
from credit_core.policy.lots import LOT_KINDS, PACED_KINDS
from credit_core.policy.plans import Catalog
from credit_core.store.records import leg_id
from credit_core.units import from_us

#: Entries that are read and replayed at a time: what bounds the memory.
BATCH_ENTRIES = 200_000
_RULE = {name: number for number, name in enumerate(RULES)}
_MODE = {name: number for number, name in enumerate(MODES)}
_RANK = {kind: rank for rank, kind in enumerate(LOT_KINDS)}
_OUTSIDE = {
    "settle": tables.END, "release": tables.END, "partial": tables.END, "refund": tables.REFUND, "grant": tables.GRANT,
    "adjust": tables.ADJUST, "import": tables.IMPORT, "pause": tables.PAUSE, "resume": tables.RESUME,
}  # fmt: skip
_DEFAULT_SEGMENT = "default"


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


@dataclass(frozen=True)
class Batch:
    """The events of some accounts. ``plan`` and ``segment`` are each account's last; ``request_id`` is by event."""

    account_ids: list[str]
    plan: list[str]
    segment: list[str]
    event_from: npt.NDArray[np.int64]
    lot_from: npt.NDArray[np.int64]
    events: Records
    lots: Records
    request_id: npt.NDArray[np.object_]
    users: int

    def of(self, places: npt.NDArray[np.int64]) -> Batch:
        """The accounts at ``places`` alone, in that order."""
        wanted = places.tolist()
        return replace(
            self,
            account_ids=[self.account_ids[place] for place in wanted],
            plan=[self.plan[place] for place in wanted],
            segment=[self.segment[place] for place in wanted],
            event_from=_bounds(self.event_from, places),
            lot_from=_bounds(self.lot_from, places),
            events=self.events[_rows(self.event_from, wanted)],
            lots=self.lots[_rows(self.lot_from, wanted)],
            request_id=self.request_id[_rows(self.event_from, wanted)],
        )

    def forgotten(self) -> Batch:
        """Whose accounts they were, without the events themselves."""
        return replace(
            self, events=self.events[:0].copy(), lots=self.lots[:0].copy(), request_id=self.request_id[:0].copy()
        )


def _bounds(edges: npt.NDArray[np.int64], places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(np.diff(edges)[places])]).astype(np.int64)


def _rows(edges: npt.NDArray[np.int64], places: Sequence[int]) -> npt.NDArray[np.int64]:
    spans = [np.arange(edges[place], edges[place + 1]) for place in places]
    return np.concatenate(spans) if spans else np.zeros(0, np.int64)


def batches(facts: Facts, world: World, accounts: pd.DataFrame, entries: int = BATCH_ENTRIES) -> Iterator[Batch]:
    """Batches of about so many ``entries``; ``accounts`` as :func:`queries.replayed_accounts` gives them."""
    ids, sizes = accounts["account_id"].tolist(), accounts["entries"].tolist()
    first = held = 0
    for place, size in enumerate(sizes):
        if held and held + size > entries:
            yield read(facts, world, ids[first:place])
            first, held = place, 0
        held += size
    if held:
        yield read(facts, world, ids[first:])


def world_of(
    facts: Facts, catalog: Catalog, configs: Mapping[int, Config], candidates: Sequence[Config], end_us: int
) -> World:
    """``configs`` by version; segments and models are numbered as these and the ``candidates`` name them."""
    everyone = [*configs.values(), *candidates]
    segments = {name for config in everyone for name in config.nudges.segments}
    models = [name for c in everyone for name in (c.routing.premium_model, c.routing.economy_model)]
    rates = {
        plan: ([day for day, _ in rows], [rate for _, rate in rows])
        for plan, rows in queries.demand_rates(facts).items()
    }
    return World(
        versions=tuple(configs),
        tau0_days=tuple(config.controller.tau0_days for config in configs.values()),
        plans=tuple(name for name, plan in catalog.plans.items() if plan.quota_policy == "titrated_monthly"),
        models=tuple(dict.fromkeys([*catalog.models, *models])),
        segments=(_DEFAULT_SEGMENT, *sorted(segments - {_DEFAULT_SEGMENT})),
        rates=rates,
        no_consent=queries.without_consent(facts),
        end_us=end_us,
    )


def read(facts: Facts, world: World, account_ids: Sequence[str]) -> Batch:
    """The events of these accounts."""
    frame = queries.entries_of(facts, account_ids)
    return prepare(frame, queries.lots_of(facts, account_ids), queries.cycles_of(facts, account_ids), world)


def prepare(
    frame: pd.DataFrame,
    lots: Sequence[tuple[str, str, str, int | None]],
    cycle_rows: Sequence[tuple[str, int, int, int, int]],
    world: World,
) -> Batch:
    """Entries (:func:`queries.entries_of`) as events; accounts in the order of their ids."""
    frame = frame[frame["occurred_at"] < world.end_us].reset_index(drop=True)
    legs = _legs(frame)
    account_code, account_names = pd.factorize(legs["account_id"])
    names = [str(name) for name in account_names]
    number = {name: place for place, name in enumerate(names)}
    begins, lot_place, lot_from, lot_records = _lots(lots, cycle_rows, number)
    kind = _kinds(legs, begins)
    legs = _with_plan_changes(legs.assign(account=account_code, event=kind))
    kept = legs[legs["event"] >= 0].reset_index(drop=True)
    events = _events(kept, begins, lot_place, world, _late(legs))
    counts = np.bincount(kept["account"].to_numpy(), minlength=len(names))
    event_from = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    for account in np.unique(kept["account"].to_numpy()[kept["event"].to_numpy() == tables.RESUME]).tolist():
        mine = slice(event_from[account], event_from[account + 1])
        own = lot_records[lot_from[account] : lot_from[account + 1]]
        indirect.before_pauses(
            events[mine], kept["seq"].to_numpy()[mine], frame[frame["account_id"] == names[account]], own, lot_place
        )
    return Batch(
        account_ids=names,
        plan=_last(legs[_own_plan(legs)], "plan", names, world.plans[0]),
        segment=_last(legs, "segment", names, _DEFAULT_SEGMENT),
        event_from=event_from,
        lot_from=lot_from,
        events=events,
        lots=lot_records,
        request_id=kept["request_id"].to_numpy(),
        users=int(events["user"].max()) + 1 if len(events) else 1,
    )


def _legs(frame: pd.DataFrame) -> pd.DataFrame:
    """One row a leg, as its first line; ``moved`` and ``spent`` are sums over its lines."""
    first = frame["line"].to_numpy() == 1
    starts = np.flatnonzero(first)
    legs: pd.DataFrame = frame[first].reset_index(drop=True)
    avail, held = frame["d_avail_uc"].to_numpy(), frame["d_held_uc"].to_numpy()
    if len(starts):
        legs["moved"] = np.add.reduceat(avail, starts)
        legs["spent"] = -np.add.reduceat(avail + held, starts)
    else:
        legs["moved"] = legs["spent"] = np.zeros(0, np.int64)
    return legs


def _late(legs: pd.DataFrame) -> dict[str, tuple[int, int]]:
    """Settles that came after their sweep: request → (instant, what they would have charged)."""
    rows = legs[(legs["kind"] == "rejected") & (legs["reason"] == "late_settle")]
    keys = rows["user_id"].astype(str) + "\0" + rows["request_id"].astype(str)
    told = (int(json.loads(details)["actual_uc"]) for details in rows["details"])
    return dict(zip(keys, zip(rows["occurred_at"].astype(int), told, strict=True), strict=True))


@dataclass(frozen=True)
class _Begin:
    """A cycle as its grant begins it: places of its lots within the account."""

    number: int
    start_us: int
    end_us: int
    quota_uc: int
    monthly: int
    carry: int


def _lots(
    lots: Sequence[tuple[str, str, str, int | None]],
    cycle_rows: Sequence[tuple[str, int, int, int, int]],
    number: Mapping[str, int],
) -> tuple[dict[str, _Begin], dict[str, int], npt.NDArray[np.int64], Records]:
    """(leg of a quota's grant → its cycle, lot → place, bounds by account, rows), with the lots that only a replay fills."""
    known: dict[str, tuple[int, str, int | None]] = {
        lot: (number[account], kind, end) for account, lot, kind, end in lots if account in number
    }
    begins: dict[str, tuple[int, int, int, int, str, str]] = {}
    for account, cycle_no, start, end, quota in cycle_rows:
        if account not in number:
            continue
        monthly, carry = (leg_id("lot", account, kind, str(cycle_no)) for kind in ("monthly", "rollover"))
        known.setdefault(monthly, (number[account], "monthly", end))
        known.setdefault(carry, (number[account], "rollover", end))
        begins[leg_id("quota", account, str(cycle_no))] = (cycle_no, start, end, quota, monthly, carry)
    order = sorted(known, key=lambda lot: (known[lot][0], lot))
    owner = np.array([known[lot][0] for lot in order], dtype=np.int64)
    lot_from = np.searchsorted(owner, np.arange(len(number) + 1)).astype(np.int64)
    records = tables.records(len(order), tables.LOT)
    place: dict[str, int] = {}
    for row, lot in enumerate(order):
        whose, kind, end_us = known[lot]
        place[lot] = row - int(lot_from[whose])
        records["rank"][row], records["tie"][row] = _RANK[kind], place[lot]
        records["paced"][row] = kind in PACED_KINDS
        records["first_end"][row] = NEVER if end_us is None else end_us
    found = {
        leg: _Begin(no, start, end, quota, place[monthly], place[carry])
        for leg, (no, start, end, quota, monthly, carry) in begins.items()
    }
    return found, place, lot_from, records


def _kinds(legs: pd.DataFrame, begins: Mapping[str, _Begin]) -> npt.NDArray[np.int64]:
    """What each leg is as an event; −1: the ledger's own doing, or nothing to replay."""
    kind = legs["kind"].map(_OUTSIDE).fillna(-1).to_numpy().astype(np.int64)
    decided = legs["rule"].notna().to_numpy()
    kind[decided] = np.where(legs["parent_request_id"].notna()[decided], tables.CHILD, tables.OPEN)
    granted = np.flatnonzero(kind == tables.GRANT)
    for place, leg in zip(granted.tolist(), legs["leg_id"].to_numpy()[granted].tolist(), strict=True):
        begin = begins.get(leg)
        if begin is not None:
            kind[place] = tables.BEGIN if begin.number == 0 else tables.CLOSE
    return kind


def _with_plan_changes(legs: pd.DataFrame) -> pd.DataFrame:
    """The legs with one more before the first of each new plan: the change itself writes an entry only where credits move."""
    own = np.flatnonzero(_own_plan(legs))
    account, plan = legs["account"].to_numpy()[own], legs["plan"].to_numpy()[own]
    changed = own[1:][(account[1:] == account[:-1]) & (plan[1:] != plan[:-1])]
    legs["order"] = np.arange(len(legs), dtype=np.float64)
    if not len(changed):
        return legs
    rows = legs.iloc[changed].copy()
    quota, account = legs["quota_uc"].to_numpy(), legs["account"].to_numpy()
    found = []
    for place in changed.tolist():
        later = np.flatnonzero((account[place:] == account[place]) & ~np.isnan(quota[place:]))
        found.append(quota[place + later[0]] if len(later) else np.nan)
    rows["event"], rows["quota_uc"], rows["order"] = tables.PLAN, found, rows["order"] - 0.5
    # A change after which nobody ever asked decides nothing that is replayed.
    rows = rows[rows["quota_uc"].notna()]
    ordered: pd.DataFrame = pd.concat([legs, rows]).sort_values("order", ignore_index=True)
    return ordered


def _own_plan(legs: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Legs that bear the account's plan of their time; what ends or corrects a request bears that of the request."""
    return np.asarray(legs["rule"].notna() | legs["request_id"].isna() | (legs["kind"] == "import"))


def _events(
    legs: pd.DataFrame,
    begins: Mapping[str, _Begin],
    lot_place: Mapping[str, int],
    world: World,
    late: Mapping[str, tuple[int, int]],
) -> Records:
    events = tables.records(len(legs), tables.EVENT)
    events["at"] = legs["occurred_at"]
    lot_ids = legs["lot_id"].astype(str).tolist()
    events["kind"] = kind = legs["event"].to_numpy()
    events["config"] = _configs(legs, world)
    events["plan"] = legs["plan"].map({name: place for place, name in enumerate(world.plans)}).fillna(0)
    events["amount_uc"] = np.where(kind == tables.END, legs["spent"], legs["moved"].abs())
    events["amount_uc"][kind == tables.ADJUST] = legs["moved"][kind == tables.ADJUST]
    events["images"] = legs["images"].fillna(0)
    for name in ("lot", "carry", "ref", "before", "cell", "asked", "model"):
        events[name] = -1
    for place in np.flatnonzero(np.isin(kind, (tables.GRANT, tables.ADJUST))).tolist():
        events["lot"][place] = lot_place.get(lot_ids[place], -1)
    _place_cycles(events, legs, begins)
    asked = np.flatnonzero(np.isin(kind, (tables.OPEN, tables.CHILD)))
    _fill_requests(events, legs, asked, world)
    indirect.link(events, legs, asked, late)
    resumed = np.flatnonzero(kind == tables.RESUME)
    for place in resumed.tolist():
        details = json.loads(str(legs["details"].iat[place]))
        events["end_us"][place] = pd.Timestamp(details["cycle_end_at"]).value // 1_000
    backfill = np.flatnonzero(kind == tables.IMPORT)
    for place in backfill.tolist():
        # Recorded usage is paid by a lot of its own; a spend made offline by all lots.
        events["lot"][place] = -1 if legs["reason"].iat[place] == "offline" else lot_place.get(lot_ids[place], -1)
    return events


def _configs(legs: pd.DataFrame, world: World) -> npt.NDArray[np.int64]:
    known = legs.groupby("account")["config_version"]
    filled = known.ffill().fillna(known.bfill()).fillna(world.versions[0])
    return np.searchsorted(np.array(world.versions), filled.to_numpy()).astype(np.int64)


def _place_cycles(events: Records, legs: pd.DataFrame, begins: Mapping[str, _Begin]) -> None:
    places = np.flatnonzero(np.isin(events["kind"], (tables.BEGIN, tables.CLOSE)))
    for place, leg in zip(places.tolist(), legs["leg_id"].to_numpy()[places].tolist(), strict=True):
        begin = begins[leg]
        row = events[place]
        # The sign-up lies within its first cycle, which began at midnight.
        row.at = begin.start_us if row.kind == tables.CLOSE else row.at
        row.lot, row.carry, row.end_us, row.quota_uc = begin.monthly, begin.carry, begin.end_us, row.amount_uc
        row.burst = cycles.cap_at(from_us(begin.start_us), 0.0, burst_allowance=True) > 0.0
        row.begin_us = begin.start_us
    planned = events["kind"] == tables.PLAN
    events["quota_uc"][planned] = legs["quota_uc"].to_numpy()[planned]


def _fill_requests(events: Records, legs: pd.DataFrame, asked: npt.NDArray[np.int64], world: World) -> None:
    rows = legs.iloc[asked]

    def fill(name: str, values: Any) -> None:
        events[name][asked] = values

    fill("amount_uc", rows["cost_uc"])
    for name in ("u01", "quota_uc", "cycle_days", "days_left"):
        fill(name, rows[name])
    fill("p", rows["p"].fillna(0.0))
    fill("arm_p", rows["arm_p"].fillna(0.5))
    fill("coverage", rows["coverage"].fillna(-1.0))
    fill("health", rows["health"].fillna(0.0))
    fill("conserving", rows["conserving"].fillna(0.0) > 0.0)
    fill("under", rows["under_represented"].fillna(0.0) > 0.0)
    fill("consent", ~rows["user_id"].isin(world.no_consent))
    fill("blocked", rows["rule"] == "blocked")
    fill("rule", rows["rule"].map(_RULE))
    fill("mode", rows["mode"].map(_MODE))
    fill("fresh", rows["status"] == "RESERVED")
    segments = {name: place for place, name in enumerate(world.segments)}
    fill("segment", rows["segment"].map(segments).fillna(0))
    models = {name: place for place, name in enumerate(world.models)}
    fill("model", rows["model"].map(models).fillna(-1))
    fill("cell", pd.factorize(rows["genre"].astype("string") + "\0" + rows["mood"].astype("string"))[0])
    fill("end_usd", np.nan)
    for place, details in zip(asked.tolist(), rows["details"].tolist(), strict=True):
        if isinstance(details, str) and (model := json.loads(details).get("asked_model")) is not None:
            events["asked"][place] = models.get(model, -1)
    fill("prior", indirect.priors(events, legs, asked, world.rates, world.tau0_days))
    users = pd.factorize(rows["account_id"].astype(str) + "\0" + rows["user_id"].astype(str))[0]
    fill("user", users - pd.Series(users).groupby(rows["account"].to_numpy()).transform("min").to_numpy())


def _last(legs: pd.DataFrame, column: str, names: Sequence[str], otherwise: str) -> list[str]:
    last = legs[legs[column].notna()].groupby("account")[column].last()
    return [str(last.get(place, otherwise)) for place in range(len(names))]
