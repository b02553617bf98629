"""A made-up ledger of millions of entries, for measuring: ``python -m credit_core demo --entries 10000000``.

One account for a hundred entries, over ninety days that end at the last midnight (UTC). Hash chain, balances, lots and
cycles are those that live traffic would have left, so that every invariant holds.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]

from credit_core.errors import Conflict
from credit_core.importers import demo
from credit_core.importers.bulk_rows import Batch, Chains, arrow
from credit_core.importers.bulk_terms import Cell, Terms
from credit_core.importers.bulk_world import Joined, World
from credit_core.policy import plans
from credit_core.policy.controller import MODES
from credit_core.policy.decision import law_for
from credit_core.service.core import CreditCore
from credit_core.store import bulk
from credit_core.units import MICRO, dollars_to_usd_micro

DAYS = 90
_PLANS = ("free", "basic", "premium", "basic_annual", "premium_annual")
Progress = Callable[[float, str], None]


class Made(NamedTuple):
    """What was made, and how fast; seconds with indexes and everything."""

    entries: int
    accounts: int
    days: int
    seconds: float

    @property
    def entries_per_s(self) -> float:
        """The rate."""
        return self.entries / max(self.seconds, 1e-9)


def make(
    url: str,
    entries: int,
    until: datetime,
    *,
    days: int = DAYS,
    seed: int = 7,
    reporting_zone: str | None = None,
    progress: Progress = lambda _share, _words: None,
) -> Made:
    """Fill the empty ledger at ``url`` with about ``entries`` entries. Raises :class:`Conflict` if it has users.

    A run that is cut off leaves the ledger as it was.
    """
    started = time.monotonic()
    part = bulk.beside(url)
    try:
        world = new_world(part, entries, until, days, seed, reporting_zone)
        chains = Chains(world.account_ids, world.user_ids, bulk.ENTRY_COLUMNS, hashed=True)
        made = 0
        with bulk.bulk(url, part) as ledger, _Writer(ledger) as writer:
            for share, groups in world.batches():
                batch = chains.append(groups)
                if batch is not None:
                    writer.put("ledger_entries", batch)
                    made += batch.rows
                progress(0.9 * share, f"{made} entries")
            for table, rows in dimensions(world, chains):
                writer.put(table, rows)
            progress(0.9, f"{made} entries; indexes")
    except BaseException:
        bulk.discard(url)
        raise
    progress(1.0, f"{made} entries")
    return Made(made, world.accounts, days, time.monotonic() - started)


def new_world(url: str, entries: int, until: datetime, days: int, seed: int, reporting_zone: str | None) -> World:
    """Accounts before their first day, in the library and by the configuration of the ledger at ``url``, which has no users."""
    start = until.astimezone(UTC).date() - timedelta(days=days)
    with CreditCore.open(url, reporting_zone=reporting_zone, draw_salt=demo.PUBLISHED_SALT) as core:
        if core.users() > 0:
            raise Conflict("This ledger has users already. Name another with --database.")
        return World(_terms(core, start, seed), entries, start, days, seed)


def _terms(core: CreditCore, start: date, seed: int) -> Terms:
    """The shipped configuration and catalogue, and what ``data/demo.toml`` says of people, hours and providers."""
    wanted, config, catalog = demo.parameters(), core.config(), core.deployment.catalog
    first = datetime(start.year, start.month, start.day, tzinfo=UTC)
    demo.stock(core, np.random.default_rng(seed), wanted, first)
    places = demo.library_cells(wanted)
    held = [core.library.cell(genre, mood, first) for genre, mood in places]
    target = config.coverage.target
    middle = median(cell.coverage(target) for cell in held)
    models = (config.routing.economy_model, config.routing.premium_model)
    latency = wanted["outcome"]["latency_s"]
    shares = np.asarray(list(wanted["activity"]["images"].values()), dtype=np.float64)
    salts = core.deployment.ledger.salts
    return Terms(
        plans=_PLANS, plan_shares=[wanted["plans"][name][0] for name in _PLANS],
        quotas=[plans.terms(catalog.plan(name), None).quota_uc // MICRO for name in _PLANS],
        laws=[law_for(config, name) for name in _PLANS], soft_decay=[config.plan(name).soft_decay for name in _PLANS],
        regions=list(wanted["regions"]), region_shares=[row[0] for row in wanted["regions"].values()],
        cells=[
            Cell(genre, mood, cell.coverage(target), cell.health(target), cell.coverage(target) < middle)
            for (genre, mood), cell in zip(places, held, strict=True)
        ],
        models=models, latency_s=[latency[name] for name in models],
        cost_usd_micro=[dollars_to_usd_micro(catalog.models[name].provider_cost_usd or 0.0) for name in models],
        routing_threshold=config.routing.threshold,
        image_shares=shares / shares.sum(), hours=wanted["activity"]["hours"],
        draw_salt=salts["draw"], content_key=salts["content"], version=1,
    )  # fmt: skip


def dimensions(world: World, chains: Chains) -> Iterator[tuple[str, pa.Table]]:
    """Accounts, users, lots and cycles as they stand at the end, as rows of their tables."""
    n, terms = world.accounts, world.terms
    # Whoever signed up has an entry; nobody else is there.
    starts, ends = world.bounds()
    account_ids, user_ids = arrow(world.account_ids, n), arrow(world.user_ids, n)
    names = {
        "account_id": account_ids, "plan": _named(terms.plans, world.plan), "region": _named(terms.regions, world.region),
    }  # fmt: skip
    balance_uc = (world.monthly + world.rollover) * MICRO
    yield "accounts", pa.table(names | {
        "kind": _same("user", n), "timezone": _same("UTC", n),
        "anchor_day": _named([world.anchor(one).isoformat() for one in range(int(world.joined.max()) + 1)], world.joined),
        "anchor_no": _same(0, n), "cycle_no": world.cycle_no, "cycle_start_at": starts, "cycle_end_at": ends, "due_at": ends,
        "quota_uc": world.quota * MICRO, "avail_uc": balance_uc, "held_uc": _same(0, n), "demand_uc": world.demand * MICRO,
        "largest_uc": world.largest * MICRO, "mode": _named(MODES, world.mode), "seq": chains.seq,
        "head_hash": pa.array(chains.heads or [b""] * n, pa.binary()), "recorded_at": chains.recorded_us,
        "created_at": world.created_us, "cycled": _same(True, n),
    })  # fmt: skip
    nothing = ("session_images", "session_fresh", "session_fresh_uc", "session_opening_uc", "hour_fresh")
    yield "users", pa.table(
        {"user_id": user_ids, "account_id": account_ids, "timezone": _same("UTC", n), "created_at": world.created_us}
        | {"conserving": _same(False, n), "session_consent": _same(True, n), "session_cells": _same("[]", n)}
        | {"bucket_level": _same(0.0, n)} | {name: _same(0, n) for name in nothing}
    )  # fmt: skip
    cells = terms.cells
    yield "library_cells", pa.table({
        "genre": [cell.genre for cell in cells], "mood": [cell.mood for cell in cells],
        "requested_at": _same(int(world.created_us.min()), len(cells)),
    })  # fmt: skip
    yield from (("lots", rows) for rows in _lots(world))
    yield from (("cycles", rows) for rows in _cycles(world, names))


def _lots(world: World) -> Iterator[pa.Table]:
    for joined in world.lots:
        account, columns, n = joined.account, joined.columns, len(joined.account)
        lots, monthly = columns["lot_id"], columns["kind"] == "monthly"
        # Of a closed lot nothing is left: all of it expired or moved.
        running = (world.monthly_lot if monthly else world.rollover_lot)[account] == lots
        held = (world.monthly if monthly else world.rollover)[account]
        yield pa.table({
            "lot_id": arrow(lots, n), "account_id": arrow(world.account_ids[account], n), "kind": _same(columns["kind"], n),
            "granted_at": columns["granted_at"], "expires_at": columns["expires_at"],
            "unit_price_usd_micro": _same(0, n), "held_uc": _same(0, n), "avail_uc": np.where(running, held, 0) * MICRO,
        })  # fmt: skip


def _cycles(world: World, names: dict[str, Any]) -> Iterator[pa.Table]:
    every = {name: pa.array(values) for name, values in names.items()}
    running = {"cycle_no": world.cycle_no, "opening_uc": world.opening * MICRO}
    for account, columns in [*world.closed, Joined(np.arange(world.accounts), running)]:
        owner, n = pa.array(account), len(account)
        number = columns["cycle_no"]
        closing = {name: _same(one, n) if isinstance(one, int) else one for name, one in columns.items()}
        yield pa.table({name: values.take(owner) for name, values in every.items()} | closing | {
            "start_at": world.edges[world.joined[account], number], "end_at": world.edges[world.joined[account], number + 1],
            "quota_uc": world.quota[account] * MICRO,
        })  # fmt: skip


def _named(values: Any, codes: Any) -> pa.Array:
    return pa.array(list(values)).take(pa.array(codes))


def _same(value: Any, rows: int) -> pa.Array:
    return pa.repeat(value, rows)


class _Writer:
    """Writes in a thread of its own: the database's work needs nothing of Python's."""

    def __init__(self, ledger: bulk.Bulk) -> None:
        self._ledger = ledger
        self._waiting: queue.Queue[tuple[str, pa.Table | Batch] | None] = queue.Queue(2)
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._write)

    def __enter__(self) -> _Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._waiting.put(None)
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def put(self, table: str, rows: pa.Table | Batch) -> None:
        """Have rows written, once those before them are."""
        if self._failure is not None:
            raise self._failure
        self._waiting.put((table, rows))

    def _write(self) -> None:
        while (item := self._waiting.get()) is not None:
            if self._failure is None:
                try:
                    table, rows = item
                    self._ledger.append(table, rows.table() if isinstance(rows, Batch) else rows)
                except Exception as error:
                    # The maker of rows hears of it at its next put.
                    self._failure = error
