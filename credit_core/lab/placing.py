"""The lots of accounts as rows with places within their account, and the cycles whose grants fill them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from credit_core.lab import tables
from credit_core.lab.columnar import Ints
from credit_core.lab.tables import NEVER, Records
from credit_core.policy.lots import LOT_KINDS, PACED_KINDS
from credit_core.store.records import leg_id

_RANK = {kind: rank for rank, kind in enumerate(LOT_KINDS)}


class Begin(NamedTuple):
    """A cycle as its grant begins it: places of its lots within the account."""

    number: int
    start_us: int
    end_us: int
    quota_uc: int
    monthly: int
    carry: int


@dataclass(frozen=True)
class Lots:
    """``begins``: leg of a quota's grant → its cycle; ``place``: lot → place; ``lot_from`` bounds each account's ``records``."""

    begins: Mapping[str, Begin]
    place: Mapping[str, int]
    lot_from: Ints
    records: Records


def place_lots(
    lots: Sequence[tuple[str, str, str, int | None]],
    cycles: Sequence[tuple[str, int, int, int, int]],
    names: Sequence[str],
) -> Lots:
    """The lots of the accounts ``names``, with those that only a replay fills. ``lots`` and ``cycles`` as queries give them."""
    number = {name: place for place, name in enumerate(names)}
    known: dict[str, tuple[int, str, int | None]] = {
        lot: (number[account], kind, end) for account, lot, kind, end in lots if account in number
    }
    begins: dict[str, tuple[int, int, int, int, str, str]] = {}
    for account, cycle_no, start, end, quota in cycles:
        if account not in number:
            continue
        monthly, carry = (leg_id("lot", account, kind, str(cycle_no)) for kind in ("monthly", "rollover"))
        known.setdefault(monthly, (number[account], "monthly", end))
        known.setdefault(carry, (number[account], "rollover", end))
        begins[leg_id("quota", account, str(cycle_no))] = (cycle_no, start, end, quota, monthly, carry)
    order = sorted(known, key=lambda lot: (known[lot][0], lot))
    rows = [known[lot] for lot in order]
    owner = np.array([row[0] for row in rows], dtype=np.int64)
    lot_from = np.searchsorted(owner, np.arange(len(number) + 1)).astype(np.int64)
    records = tables.records(len(order), tables.LOT)
    records["tie"] = np.arange(len(order)) - lot_from[owner]
    records["rank"] = [_RANK[row[1]] for row in rows]
    records["paced"] = [row[1] in PACED_KINDS for row in rows]
    records["first_end"] = [NEVER if row[2] is None else row[2] for row in rows]
    place = dict(zip(order, records["tie"].tolist(), strict=True))
    found = {
        leg: Begin(no, start, end, quota, place[monthly], place[carry])
        for leg, (no, start, end, quota, monthly, carry) in begins.items()
    }
    return Lots(found, place, lot_from, records)
