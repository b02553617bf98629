"""The library of ready assets as `core.library`: what a cell holds, what joins it, what is to be filled (SPEC 4.1)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from credit_core import units
from credit_core.service import stocking
from credit_core.service.deployment import Deployment
from credit_core.service.stocking import PantryCell
from credit_core.store import library
from credit_core.store.library import Cell

#: Assets that one call may add to a cell.
MOST_ASSETS = 1_000_000


class Library:
    """The library of ready assets."""

    def __init__(self, deployment: Deployment) -> None:
        """Use :attr:`CreditCore.library`."""
        self._deployment = deployment

    def put(self, genre: str, mood: str, count: int, at: datetime | None = None) -> None:
        """Add ``count`` assets to cell ``genre`` × ``mood``."""
        units.checked_count(count, "count", 1, MOST_ASSETS)
        genre, mood = units.checked_id(genre, "genre"), units.checked_id(mood, "mood")
        at = self._deployment.instant(at)
        self._deployment.ledger.write(lambda connection: library.put(connection, genre, mood, count, at))
        self._deployment.library_changed()

    def coverage(self, genre: str, mood: str, at: datetime | None = None) -> float:
        """min(1, assets/target) of the cell at ``at``."""
        return self.cell(genre, mood, at).coverage(self._settings().target)

    def cell(self, genre: str, mood: str, at: datetime | None = None) -> Cell:
        """What the cell holds at ``at``."""
        genre, mood = units.checked_id(genre, "genre"), units.checked_id(mood, "mood")
        at = self._deployment.instant(at)
        stale_days = self._settings().stale_days
        with self._deployment.ledger.reading() as connection:
            return library.cell(connection, genre, mood, at, stale_days)

    def take(self, limit: int, at: datetime | None = None) -> list[PantryCell]:
        """Take cells to fill from the pantry queue; see :func:`credit_core.service.stocking.take`."""
        return stocking.take(self._deployment, limit, at)

    def _settings(self) -> Any:
        live = self._deployment.live
        with self._deployment.ledger.reading() as connection:
            live.refresh(connection)
            config = live.load(connection, live.rollout.version)
        assert config is not None, "a release names an existing version"
        return config.coverage
