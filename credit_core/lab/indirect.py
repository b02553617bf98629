"""What the ledger tells only indirectly: λ₀ behind a logged λ, and the ends of lots before a pause."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import pandas as pd

from credit_core.lab import tables
from credit_core.lab.tables import NEVER, Records
from credit_core.policy.guardrails import PAUSED
from credit_core.units import DAY_US, MICRO


def before_pauses(
    events: Records, seq: npt.NDArray[np.int64], lines: pd.DataFrame, lots: Records, lot_place: Mapping[str, int]
) -> None:
    """Put back the ends that pauses of one account have moved: the tables tell the last ones, spending went by the first."""
    kind, at = events["kind"], events["at"]
    begun = np.flatnonzero(np.isin(kind, (tables.BEGIN, tables.CLOSE)))
    for place, after in zip(begun.tolist(), [*begun[1:].tolist(), len(events)], strict=True):
        asked = [i for i in range(place, after) if kind[i] == tables.OPEN]
        resumed = [i for i in range(place, after) if kind[i] == tables.RESUME]
        # The days that were left when somebody last asked before the pause; where nobody did, nothing was spent.
        if resumed and asked and asked[0] < resumed[0]:
            end_us = int(at[asked[0]]) + round(float(events["days_left"][asked[0]]) * DAY_US)
            events["end_us"][place] = end_us
            lots["first_end"][events["lot"][place]] = lots["first_end"][events["carry"][place]] = end_us
    pauses = np.flatnonzero(kind == tables.PAUSE)
    for resume in np.flatnonzero(kind == tables.RESUME)[::-1].tolist():
        paused = int(pauses[pauses < resume][-1])
        since = max(int(at[paused]), int(events["begin_us"][begun[begun < paused]][-1]))
        # Lots that held nothing at that moment kept their end.
        before = lines[lines["seq"] < seq[resume]]
        held = before.groupby("lot_id")[["d_avail_uc", "d_held_uc"]].sum().any(axis=1)
        for lot in (lot_place[name] for name in held.index[held]):
            if not lots["paced"][lot] and at[resume] < lots["first_end"][lot] < NEVER:
                lots["first_end"][lot] -= at[resume] - since


def priors(
    events: Records,
    legs: pd.DataFrame,
    asked: npt.NDArray[np.int64],
    rates: Mapping[str, tuple[list[str], list[float]]],
    tau0_days: Sequence[float],
) -> npt.NDArray[np.float64]:
    """λ₀ of each request's plan and UTC day; −1 where the log knew none.

    A day's rate is stored some time in the day, and what was decided before went by the one before it: of the two, the one
    from which the logged λ comes out.
    """
    rows = legs.iloc[asked]
    newest, older = np.full(len(rows), -1.0), np.full(len(rows), -1.0)
    days = rows["occurred_at"].to_numpy() // DAY_US
    rate = rows["demand_rate"].to_numpy()
    plans = rows["plan"].to_numpy()
    for plan, (stored, values) in rates.items():
        mine = np.flatnonzero(~np.isnan(rate) & (plans == plan))
        for day in np.unique(days[mine]).tolist():
            place = bisect_right(stored, datetime.fromtimestamp(day * DAY_US / 1e6, UTC).date().isoformat())
            if place:
                of_day = mine[days[mine] == day]
                newest[of_day], older[of_day] = values[place - 1], values[max(place - 2, 0)]
    tau = np.array(tau0_days)[events["config"][asked]]
    so_far = (events["cycle_days"] - events["days_left"])[asked]
    implied = (rate * (tau + so_far) - _demand_so_far(events)[asked] / MICRO) / tau
    return np.where(np.abs(older - implied) < np.abs(newest - implied), older, newest)


def _demand_so_far(events: Records) -> npt.NDArray[np.int64]:
    """What each event's account had asked for in its cycle before it, by the log."""
    kind = events["kind"]
    judged = (kind == tables.OPEN) & (events["rule"] > PAUSED)
    asked_for = np.where(judged, events["amount_uc"], 0) + np.where(kind == tables.IMPORT, events["images"] * MICRO, 0)
    before = np.cumsum(asked_for) - asked_for
    begun = np.isin(kind, (tables.BEGIN, tables.CLOSE))
    since = np.maximum.accumulate(np.where(begun, np.arange(len(events)), 0))
    return np.asarray(before - before[since], dtype=np.int64) if len(events) else before
