"""Arrivals that no ledger holds, as a replay takes them: accounts of one plan, one cycle each."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa  # type: ignore[import-untyped]

from credit_core.lab import tables
from credit_core.lab.batches import Batch, World
from credit_core.lab.tables import NEVER
from credit_core.policy.config import Config
from credit_core.policy.lots import LOT_KINDS
from credit_core.policy.plans import Catalog
from credit_core.units import DAY_US, MICRO


class Arrivals(NamedTuple):
    """Requests in order of account and instant. ``account`` counts from 0; ``at_us`` from the cycle's start.

    ``prior``: the plan's demand in credits a day (λ₀ of SPEC 4). A negative coverage names no cell. ``session`` numbers
    the sessions, ``cell`` the cells; without them an account has one session and its requests no cell of their own.
    """

    account: npt.NDArray[np.int64]
    at_us: npt.NDArray[np.int64]
    images: npt.NDArray[np.int64]
    u01: npt.NDArray[np.float64]
    quota_uc: int
    cycle_days: float
    prior: float
    coverage: float | npt.NDArray[np.float64] = 1.0
    health: float | npt.NDArray[np.float64] = 0.7
    session: npt.NDArray[np.int64] | None = None
    cell: npt.NDArray[np.int64] | None = None


def world_of(catalog: Catalog, config: Config, plan: str, cycle_days: float) -> World:
    """The world of one configuration and plan."""
    return World(
        versions=(1,),
        tau0_days=(config.controller.tau0_days,),
        plans=(plan,),
        models=tuple(dict.fromkeys([*catalog.models, config.routing.premium_model, config.routing.economy_model])),
        segments=("default", *sorted(set(config.nudges.segments) - {"default"})),
        rates={},
        no_consent=frozenset(),
        end_us=round(cycle_days * DAY_US),
    )


def one_cycle(arrivals: Arrivals, accounts: int) -> Batch:
    """Each account's cycle, begun at 0 with its quota, and its requests; an image costs one credit."""
    sizes = np.bincount(arrivals.account, minlength=accounts) + 1
    event_from = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    events = tables.records(int(event_from[-1]), tables.EVENT)
    for name in ("lot", "carry", "ref", "before", "cell", "asked", "model"):
        events[name] = -1
    begins = event_from[:-1]
    end_us = round(arrivals.cycle_days * DAY_US)
    events["kind"] = tables.OPEN
    events["kind"][begins] = tables.BEGIN
    events["lot"][begins], events["carry"][begins], events["end_us"][begins] = 0, 1, end_us
    events["amount_uc"][begins] = arrivals.quota_uc
    events["quota_uc"] = arrivals.quota_uc
    asked = np.flatnonzero(events["kind"] == tables.OPEN)
    events["at"][asked], events["images"][asked], events["u01"][asked] = arrivals.at_us, arrivals.images, arrivals.u01
    events["amount_uc"][asked] = arrivals.images * MICRO
    events["coverage"][asked], events["health"][asked] = arrivals.coverage, arrivals.health
    events["prior"], events["cycle_days"] = arrivals.prior, arrivals.cycle_days
    if arrivals.cell is not None:
        events["cell"][asked] = arrivals.cell
    events["days_left"][asked] = (end_us - arrivals.at_us) / DAY_US
    events["consent"], events["arm_p"], events["end_usd"] = True, 0.5, np.nan
    # One session is one user's: who asked before is the request before.
    same = np.diff(arrivals.account if arrivals.session is None else arrivals.session) == 0
    follows = asked[1:][same]
    events["before"][follows] = follows - 1 - np.repeat(begins, sizes)[follows]
    lots = tables.records(2 * accounts, tables.LOT)
    lots["rank"] = np.tile([LOT_KINDS.index("monthly"), LOT_KINDS.index("rollover")], accounts)
    lots["tie"], lots["first_end"], lots["paced"] = np.tile([0, 1], accounts), min(end_us, NEVER), True
    return Batch(
        account_ids=[f"account-{number}" for number in range(accounts)],
        plan=["" for _ in range(accounts)],
        segment=["default" for _ in range(accounts)],
        event_from=event_from,
        lot_from=(2 * np.arange(accounts + 1)).astype(np.int64),
        events=events,
        lots=lots,
        requests=pa.nulls(len(events), pa.string()),
        users=1,
    )
