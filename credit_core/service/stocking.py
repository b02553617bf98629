"""Filling the library: batch workers take cells from the pantry queue, the most wanted first (SPEC 4.1)."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from credit_core import units
from credit_core.policy import guardrails, pantry
from credit_core.policy.config import Config
from credit_core.service.deployment import Deployment
from credit_core.store import library
from credit_core.store.ledger import Connection
from credit_core.store.library import Queued

MOST_CELLS = 10_000


class PantryCell(NamedTuple):
    """A cell to fill: ``missing`` assets bring it to the highest threshold of the plans that asked for it."""

    genre: str
    mood: str
    score: float
    missing: int


def take(deployment: Deployment, limit: int, at: datetime | None) -> list[PantryCell]:
    """Take up to ``limit`` cells for an hour, by demand × (threshold − coverage), largest first.

    No two workers get the same cell. What was not filled by then can be taken again. Raises :class:`InvalidRequest`.
    """
    units.checked_count(limit, "limit", 1, MOST_CELLS)
    moment = deployment.instant(at)
    with deployment.ledger.reading() as connection:
        deployment.live.refresh(connection, now=True)
        config = deployment.live.load(connection, deployment.live.rollout.version)
        queued = library.queue(connection, moment)
    assert config is not None, "a release names an existing version"
    wanted = ordered(queued, config)

    def lease(connection: Connection) -> list[PantryCell]:
        taken: list[PantryCell] = []
        for cell in wanted:
            if len(taken) == limit:
                break
            if library.take(connection, cell.genre, cell.mood, moment):
                taken.append(cell)
        return taken

    return deployment.ledger.write(lease) if wanted else []


def ordered(queued: list[Queued], config: Config) -> list[PantryCell]:
    """The cells that lack assets, the highest score first."""
    target = config.coverage.target
    found: dict[tuple[str, str], PantryCell] = {}
    for genre, mood, assets, plan, requests in queued:
        threshold = config.plan(plan).coverage_threshold
        score = pantry.score(requests / library.DEMAND_DAYS, guardrails.coverage(assets, target), threshold)
        before = found.get((genre, mood), PantryCell(genre, mood, 0.0, 0))
        lacking = max(before.missing, pantry.missing(assets, target, threshold))
        found[genre, mood] = before._replace(score=before.score + score, missing=lacking)
    cells = [cell for cell in found.values() if cell.score > 0.0]
    return sorted(cells, key=lambda cell: (-cell.score, cell.genre, cell.mood))
