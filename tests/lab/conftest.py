"""A small fleet for the laboratory: the demo in little, with rewards for a third of what was served."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from credit_core.importers import demo

FLEET_END = datetime(2025, 4, 2, 12, tzinfo=UTC)


@pytest.fixture(scope="session")
def fleet_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """120 users over 36 days, so that cycles close; a fresh one is liked more often."""
    path: Path = tmp_path_factory.mktemp("fleet") / "ledger.db"
    demo.make(f"sqlite:///{path}", FLEET_END, users=120, days=36, seed=11)
    rng = random.Random(4)
    with closing(sqlite3.connect(path)) as connection:
        served = connection.execute(
            "SELECT user_id, request_id, outcome, occurred_at FROM ledger_entries WHERE line = 1 AND rule IS NOT NULL"
            " AND outcome IS NOT NULL AND parent_request_id IS NULL AND user_id IS NOT NULL ORDER BY id"
        ).fetchall()
        liked = [
            (user, request, outcome, float(rng.random() < (0.6 if outcome == "fresh" else 0.35)), at + 60_000_000)
            for user, request, outcome, at in served
            if rng.random() < 0.35
        ]
        connection.executemany("INSERT INTO rewards VALUES (?, ?, ?, ?, ?)", liked)
        connection.commit()
    return f"sqlite:///{path}"
