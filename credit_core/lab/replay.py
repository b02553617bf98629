"""Closed-loop replay: what a configuration would have made of the ledger's own requests, balances followed onward (SPEC 7).

Given from outside: requests with their instants and draws, logged coverage and health, grants, purchases, adjustments,
changes of plan, pauses. Worked out again: decisions, holds, settles, sweeps, refunds, closings, sessions, modes, deferrals.
What was asked for is taken as it was: nobody is assumed to ask more or less because they got other answers.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]

from credit_core import units
from credit_core.analytics import filters, queries
from credit_core.analytics.days import reporting_days
from credit_core.analytics.sync import Facts
from credit_core.errors import InvalidConfig, InvalidRequest, Stopped
from credit_core.lab import arrivals, kernels, tables
from credit_core.lab.batches import Batch, World
from credit_core.lab.compiling import alone, compiled
from credit_core.lab.tables import Governing, Records
from credit_core.policy import config as schema
from credit_core.policy import cycles, plans
from credit_core.policy.config import Config
from credit_core.policy.controller import MODES
from credit_core.policy.decision import law_for
from credit_core.policy.guardrails import RULES
from credit_core.policy.plans import Catalog

#: How long a generation takes by a model that nobody has used yet.
USUAL_LATENCY_MS = 5_000.0
#: Decimals of a rollover cap or decay that closings can be worked out with in 64 bits.
_MOST_DECIMALS = 9
#: Accounts that a worker takes at a time.
_SLICES = 16


class Period(NamedTuple):
    """From when until when decisions are taken anew, and the instants of the days' ends within; microseconds."""

    start_us: int
    end_us: int
    day_ends: tuple[int, ...]


@dataclass(frozen=True)
class Run:
    """One configuration over a period: a row per account.

    ``sums`` has the fields of :data:`tables.SUMS`; ``course`` [account, day] those of :data:`tables.DAY` at each day's end.
    """

    sums: Records
    course: Records

    @property
    def days(self) -> npt.NDArray[np.float64]:
        """[account, day]: the surplus in days at each day's end, nan where there was none."""
        return np.asarray(self.course["surplus"])


@dataclass(frozen=True)
class Replayed:
    """Runs over the same accounts. ``left_out``: accounts that were, at least for a time, on another quota policy."""

    account_ids: list[str]
    plan: npt.NDArray[np.object_]
    segment: npt.NDArray[np.object_]
    period: Period
    runs: list[Run]
    left_out: int


@dataclass(frozen=True)
class Prepared:
    """A ledger ready to be replayed: its configurations, by version, and what they lean on."""

    facts: Facts
    catalog: Catalog
    configs: dict[int, Config]
    accounts: pd.DataFrame
    left_out: int
    latencies_ms: dict[str, float]
    claim_days: float | None

    @property
    def last_us(self) -> int:
        """Just after the newest entry."""
        return (self.facts.extent.last_us or 0) + 1


def open_ledger(facts: Facts, catalog: Catalog) -> Prepared:
    """Everything of the ledger behind ``facts`` that runs share. Follow the facts first."""
    accounts = queries.replayed_accounts(facts)
    numbers = queries.versions(facts)["version"].astype(int).tolist()
    kept = accounts[accounts["titrated"]].reset_index(drop=True)
    return Prepared(
        facts=facts,
        catalog=catalog,
        configs={number: schema.parse(queries.body(facts, number)) for number in sorted(numbers)},
        accounts=kept,
        left_out=len(accounts) - len(kept),
        latencies_ms=queries.median_latencies_ms(facts),
        claim_days=queries.median_claim_days(facts),
    )


def last_days(prepared: Prepared, days: int) -> Period:
    """The newest ``days`` days of the ledger."""
    if days < 1:
        raise InvalidRequest(f"days must be 1 or more, got {days}.")
    end = prepared.last_us
    return period_of(prepared, max(end - days * units.DAY_US, prepared.facts.extent.first_us or 0), end)


def whole(prepared: Prepared) -> Period:
    """All there is."""
    return period_of(prepared, prepared.facts.extent.first_us or 0, prepared.last_us)


def run(
    prepared: Prepared,
    candidates: Sequence[Config | None],
    period: Period,
    *,
    progress: Callable[[float, str], None] = lambda _share, _words: None,
    stopped: Callable[[], bool] = lambda: False,
    threads: int | None = None,
    batch_entries: int = arrivals.BATCH_ENTRIES,
) -> Replayed:
    """Each candidate over ``period``, deciding all of it; None lets each decision's own version decide it.

    What came before the period is taken as it was logged. Accounts are read, replayed and forgotten in batches. Raises
    :class:`Stopped` soon after ``stopped`` says so.
    """
    world = world_of(prepared, candidates, period)
    laws = governing(prepared, world, candidates, period)
    kernel = compiled(kernels.replay)
    parts: list[tuple[Batch, list[Run]]] = []
    total, done = len(prepared.accounts), 0
    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        for batch in arrivals.batches(prepared.facts, world, prepared.accounts, batch_entries):
            runs = []
            for law in laws:
                if stopped():
                    raise Stopped("The replay was stopped; nothing was written. Start it again for a result.")
                runs.append(play(batch, law, kernel, pool)[0])
            parts.append((batch.forgotten(), runs))
            done += len(batch.account_ids)
            progress(done / total, f"{done} of {total} accounts")
    return joined(parts, period, prepared.left_out, len(candidates))


def disagreements(prepared: Prepared, *, interpreted: bool = False) -> pd.DataFrame:
    """The decisions of the whole ledger that the replay takes otherwise than they were logged, each by its own version.

    Parity (SPEC 7): rule, mode and outcome equal and p within 1e-12; no rows, if all is well. Columns account_id, request_id
    and, of each of rule, mode, fresh and p, what was logged and what came out. ``frame.attrs["decisions"]``: how many there are.
    """
    period = whole(prepared)
    world = world_of(prepared, [None], period)
    (law,) = governing(prepared, world, [None], period)
    kernel = kernels.replay if interpreted else compiled(kernels.replay)
    frames, decisions = [], 0
    with ThreadPoolExecutor(1 if interpreted else os.cpu_count() or 1) as pool:
        for batch in arrivals.batches(prepared.facts, world, prepared.accounts):
            _, told = play(batch, law, kernel, pool, telling=True)
            asked = np.isin(batch.events["kind"], (tables.OPEN, tables.CHILD))
            decisions += int(asked.sum())
            frames.append(unlike(batch, told, asked))
    found = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
    found.attrs["decisions"] = decisions
    return found


def warm_up() -> None:
    """Compile the kernel, or read it from the cache, so that nobody's first replay waits for that.

    While another process of this machine compiles it, this one waits instead of doing the same.
    """
    world = World((1,), (14.0,), ("basic",), ("m",), ("default",), {}, frozenset(), 1)
    config = Config.model_validate({"routing": {"premium_model": "m", "economy_model": "m"}})
    law = govern([config], world, tables.records(1, tables.MODEL), Period(0, 1, ()), 0)
    nobody = np.zeros(1, np.int64)
    none = pa.nulls(0, pa.string())
    empty = Batch([], [], [], nobody, nobody, tables.records(0, tables.EVENT), tables.records(0, tables.LOT), none, 1)
    with alone(), ThreadPoolExecutor(1) as pool:
        play(empty, law, compiled(kernels.replay), pool)


def unlike(batch: Batch, told: Records, asked: npt.NDArray[np.bool_], tolerance: float = 1e-12) -> pd.DataFrame:
    """Of the events ``asked``, those of which ``told`` says other than the log."""
    logged = batch.events
    differs = asked & ~(
        told["asked"]
        & (told["rule"] == logged["rule"])
        & (told["mode"] == logged["mode"])
        & (told["fresh"] == logged["fresh"])
        & (np.abs(told["p"] - logged["p"]) <= tolerance)
    )
    rows = np.flatnonzero(differs)
    owner = np.searchsorted(batch.event_from, rows, side="right") - 1
    columns: dict[str, list[object]] = {
        "account_id": [batch.account_ids[place] for place in owner.tolist()],
        "request_id": batch.requests.take(pa.array(rows)).to_pylist(),
    }
    for side, table in (("logged", logged), ("again", told)):
        columns[f"rule_{side}"] = [RULES[rule] for rule in table["rule"][rows].tolist()]
        columns[f"mode_{side}"] = [MODES[mode] for mode in table["mode"][rows].tolist()]
        columns[f"fresh_{side}"] = table["fresh"][rows].tolist()
        columns[f"p_{side}"] = table["p"][rows].tolist()
    return pd.DataFrame(columns)


def play(
    batch: Batch, law: Governing, kernel: Callable[..., None], pool: ThreadPoolExecutor, *, telling: bool = False
) -> tuple[Run, Records]:
    """One batch under one law, its accounts shared out among the pool's threads."""
    accounts = len(batch.account_ids)
    out = tables.records(accounts, tables.OUT)
    days = tables.records((accounts, len(law.day_ends)), tables.DAY)
    days["surplus"] = np.nan
    told = tables.records(len(batch.events) if telling else 0, tables.TOLD)
    sizes, lots = np.diff(batch.event_from), np.diff(batch.lot_from)
    most = int(sizes.max(initial=0)), int(lots.max(initial=0))

    def share(bounds: tuple[int, int]) -> None:
        work = tables.work(*most, batch.users)
        first, last = bounds
        kernel(
            first, last, batch.event_from, batch.lot_from, batch.events, batch.lots, law, work, out, days, told, telling
        )

    ends = np.searchsorted(batch.event_from, np.linspace(0, len(batch.events), _SLICES + 1)[1:], side="left")
    bounds = [0, *sorted({*np.minimum(ends, accounts).tolist(), accounts} - {0})]
    if accounts == 0:
        bounds = [0, 0]
    for done in pool.map(share, itertools.pairwise(bounds)):
        assert done is None
    return Run(out, days), told


def world_of(prepared: Prepared, candidates: Sequence[Config | None], period: Period) -> World:
    """What arrivals up to the period's end are numbered by, so that every one of ``candidates`` may decide them."""
    named = [config for config in candidates if config is not None]
    return arrivals.world_of(prepared.facts, prepared.catalog, prepared.configs, named, period.end_us)


def governing(prepared: Prepared, world: World, candidates: Sequence[Config | None], period: Period) -> list[Governing]:
    """The candidates as the kernel takes them; None: each decision's own version."""
    models, logged = models_of(prepared.catalog, world, prepared.latencies_ms), list(prepared.configs.values())
    return [
        govern(logged, world, models, period, -1, prepared.claim_days)
        if config is None
        else govern([*logged, config], world, models, period, len(logged), prepared.claim_days)
        for config in candidates
    ]


def govern(
    configs: Sequence[Config],
    world: World,
    models: Records,
    period: Period,
    candidate: int,
    claim_days: float | None = None,
) -> Governing:
    """Configurations as the kernel takes them: the world's versions in their order, then any others.

    ``candidate`` is the place of the one that decides the whole period, −1: each decision by its own.
    """
    pairs = [(config, plan) for config in configs for plan in world.plans]
    laws = tables.records(len(pairs), tables.LAW)
    rollover = tables.records(len(pairs), tables.ROLLOVER)
    for place, (config, plan) in enumerate(pairs):
        laws[place] = tuple(law_for(config, plan))
        tuning = config.plan(plan)
        cap, share = units.ratio(tuning.cap_multiple), cycles.kept_share(tuning.soft_decay)
        if max(cap[1], share[1]) > 10**_MOST_DECIMALS:
            raise InvalidConfig(
                [f"plans.{plan}: a replay takes cap_multiple and soft_decay with at most {_MOST_DECIMALS} decimals"]
            )
        rollover[place] = (*cap, *share)
    rules = tables.records(len(configs), tables.RULES)
    for place, config in enumerate(configs):
        limits, routing = config.limits, config.routing
        rules[place] = (
            config.session.idle_s, limits.enabled, limits.bucket_capacity, limits.bucket_leak_per_minute,
            round(config.saga.hold_ttl_s * units.MICRO), routing.threshold, world.models.index(routing.premium_model),
            world.models.index(routing.economy_model), config.rollover.burst_allowance,
        )  # fmt: skip
    factors = [[c.nudges.segments.get(name, c.nudges.segments["default"]) for name in world.segments] for c in configs]
    return Governing(
        laws=laws,
        rules=rules,
        rollover=rollover,
        segments=np.array(factors, dtype=np.float64),
        models=models,
        plans=len(world.plans),
        candidate=candidate,
        child_us=0 if claim_days is None else max(1, round(claim_days * units.DAY_US)),
        start_us=period.start_us,
        end_us=period.end_us,
        day_ends=np.array(period.day_ends, dtype=np.int64),
        cells=any(config.controller.strategy == "novelty" for config in configs),
    )


def models_of(catalog: Catalog, world: World, latencies_ms: Mapping[str, float]) -> Records:
    """Price and usual latency by model; one that was never used takes as long as the others do."""
    usual = float(np.median(list(latencies_ms.values()))) if latencies_ms else USUAL_LATENCY_MS
    models = tables.records(len(world.models), tables.MODEL)
    for place, name in enumerate(world.models):
        price = plans.provider_cost_usd_micro(catalog, name, 1)
        models[place] = (math.nan if price is None else float(price), round(latencies_ms.get(name, usual) * 1_000))
    return models


def period_of(prepared: Prepared, start_us: int, end_us: int) -> Period:
    """[start, end) in microseconds, with the ends of the reporting days within."""
    span = filters.Period(units.from_us(start_us), units.from_us(end_us))
    ends = [day.end_us for day in reporting_days(span, prepared.facts.zone)]
    return Period(start_us, end_us, tuple(end for end in ends if end < end_us))


def joined(parts: Sequence[tuple[Batch, Sequence[Run]]], period: Period, left_out: int, runs: int) -> Replayed:
    """The runs of all batches as one, accounts by their ids; each batch comes with ``runs`` of them."""
    batches = [batch for batch, _ in parts]
    names = [name for batch in batches for name in batch.account_ids]
    order = np.array(sorted(range(len(names)), key=names.__getitem__), dtype=np.int64)
    together = []
    for place in range(runs):
        each = [found[place] for _, found in parts]
        sums = np.concatenate([run.sums for run in each]) if each else tables.records(0, tables.OUT)
        course = np.concatenate([run.course for run in each]) if each else tables.records((0, 0), tables.DAY)
        together.append(Run(sums[order].view(np.recarray), course[order].view(np.recarray)))
    return Replayed(
        account_ids=[names[place] for place in order.tolist()],
        plan=np.array([plan for batch in batches for plan in batch.plan], dtype=object)[order],
        segment=np.array([segment for batch in batches for segment in batch.segment], dtype=object)[order],
        period=period,
        runs=together,
        left_out=left_out,
    )
