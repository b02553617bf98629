"""What a world in bulk is made by (:mod:`credit_core.importers.bulk_world`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from credit_core.policy.decision import Law


class Cell(NamedTuple):
    """A cell of the library, as it stands throughout."""

    genre: str
    mood: str
    coverage: float
    health: float
    under_represented: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the world is made by. Per plan: share of accounts, quota in credits and law; per model: median s, sigma, cost."""

    plans: Sequence[str]
    plan_shares: Sequence[float]
    quotas: Sequence[int]
    laws: Sequence[Law]
    soft_decay: Sequence[float]
    regions: Sequence[str]
    region_shares: Sequence[float]
    cells: Sequence[Cell]
    models: Sequence[str]
    latency_s: Sequence[tuple[float, float]]
    cost_usd_micro: Sequence[int]
    routing_threshold: float
    image_shares: Sequence[float]
    hours: Sequence[float]
    draw_salt: bytes
    content_key: bytes
    version: int
