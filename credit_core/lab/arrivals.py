"""The arrivals of a ledger, batch after batch: read from its entries, or kept from an earlier reading beside its facts."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeAlias

import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]

from credit_core.analytics import queries
from credit_core.analytics.sync import Facts
from credit_core.lab.batches import Batch, Recorded, World, fitted
from credit_core.lab.keeping import Kept
from credit_core.lab.preparing import prepare
from credit_core.policy.config import Config
from credit_core.policy.plans import Catalog

__all__ = ["BATCH_ENTRIES", "Batch", "World", "batches", "read", "world_of"]

#: Entries that are read and replayed at a time: what bounds the memory, and how often progress is told.
BATCH_ENTRIES = 100_000
_DEFAULT_SEGMENT = "default"
#: Entries, lots and cycles of some accounts.
_Rows: TypeAlias = tuple[pa.Table, list[tuple[str, str, str, int | None]], list[tuple[str, int, int, int, int]]]


def batches(facts: Facts, world: World, accounts: pd.DataFrame, entries: int = BATCH_ENTRIES) -> Iterator[Batch]:
    """Batches of about so many ``entries``; ``accounts`` as :func:`queries.replayed_accounts` gives them.

    Where facts are kept on disk so are arrivals, and what was read before comes from there, in the batches of that time.
    """
    kept = kept_beside(facts)
    if kept is None:
        for each in _recorded(facts, world, accounts, entries):
            yield fitted(each, world)
    else:
        yield from kept.batches(world, accounts, lambda missing: _recorded(facts, world, missing, entries))


def kept_beside(facts: Facts) -> Kept | None:
    """The arrivals kept beside facts on disk; None where facts are in memory or on a server."""
    folder = facts.place.folder
    return None if folder is None else Kept(facts, folder)


def _recorded(facts: Facts, world: World, accounts: pd.DataFrame, entries: int) -> Iterator[Recorded]:
    """Read from the ledger, the next ones while these are prepared."""
    waiting: deque[Future[_Rows]] = deque()
    ahead = ThreadPoolExecutor(1)
    try:
        for ids in _shared_out(accounts, entries):
            waiting.append(ahead.submit(_rows, facts, ids))
            if len(waiting) > 1:
                yield prepare(*waiting.popleft().result(), world)
        while waiting:
            yield prepare(*waiting.popleft().result(), world)
    finally:
        # Where nobody wants the rest, only what is being read is waited for.
        ahead.shutdown(cancel_futures=True)


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


def _shared_out(accounts: pd.DataFrame, entries: int) -> Iterator[list[str]]:
    """The accounts' ids in lists of about so many ``entries`` together."""
    ids, sizes = accounts["account_id"].tolist(), accounts["entries"].tolist()
    first = held = 0
    for place, size in enumerate(sizes):
        if held and held + size > entries:
            yield ids[first:place]
            first, held = place, 0
        held += size
    if held:
        yield ids[first:]


def read(facts: Facts, world: World, account_ids: Sequence[str]) -> Batch:
    """The events of these accounts."""
    return fitted(prepare(*_rows(facts, account_ids), world), world)


def _rows(facts: Facts, account_ids: Sequence[str]) -> _Rows:
    """All that the ledger has of these accounts."""
    return (
        queries.entries_of(facts, account_ids),
        queries.lots_of(facts, account_ids),
        queries.cycles_of(facts, account_ids),
    )
