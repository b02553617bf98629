"""Which lots a spend is taken from (SPEC 2): the soonest to expire first, then by lot kind, then by age."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

#: Order on equal expiry.
LOT_KINDS = ("monthly", "rollover", "welcome", "bonus", "purchased", "backfill")
#: What the controller paces; the other kinds are the user's to spend as they like.
PACED_KINDS = frozenset({"monthly", "rollover"})
_RANK = {kind: rank for rank, kind in enumerate(LOT_KINDS)}
_NEVER = 1 << 62


class LotView(NamedTuple):
    """What spending needs to know of a lot."""

    lot_id: str
    kind: str
    expires_us: int | None
    avail_uc: int


class Part(NamedTuple):
    """An amount of one lot."""

    lot_id: str
    amount_uc: int


def spending_key(kind: str, expires_us: int | None, lot_id: str) -> tuple[int, int, str]:
    """Sort key of the spending order."""
    return (_NEVER if expires_us is None else expires_us, _RANK[kind], lot_id)


def allocate(lots: Iterable[LotView], amount_uc: int) -> list[Part] | None:
    """Parts of ``lots`` that make up ``amount_uc`` in spending order; None where they do not hold enough."""
    if amount_uc < 0:
        raise ValueError("a spend cannot be negative")
    parts: list[Part] = []
    missing = amount_uc
    for lot in sorted(
        (lot for lot in lots if lot.avail_uc > 0), key=lambda lot: spending_key(lot.kind, lot.expires_us, lot.lot_id)
    ):
        if missing == 0:
            break
        taken = min(lot.avail_uc, missing)
        parts.append(Part(lot.lot_id, taken))
        missing -= taken
    return parts if missing == 0 else None


def consume(held: Sequence[Part], actual_uc: int) -> list[int]:
    """Of each held part, in spending order, how much a settle of ``actual_uc`` consumes; the rest goes back."""
    if actual_uc < 0:
        raise ValueError("a settle cannot consume less than nothing")
    consumed: list[int] = []
    missing = actual_uc
    for part in held:
        taken = min(part.amount_uc, missing)
        consumed.append(taken)
        missing -= taken
    if missing:
        raise ValueError("a settle cannot consume more than its hold")
    return consumed
