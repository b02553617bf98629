"""A small fleet for the laboratory: the demo in little."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from credit_core.importers import demo

FLEET_END = datetime(2025, 4, 2, 12, tzinfo=UTC)


@pytest.fixture(scope="session")
def fleet_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """120 users over 36 days, so that cycles close; many of them judge what they got, and like fresh ones better."""
    path: Path = tmp_path_factory.mktemp("fleet") / "ledger.db"
    demo.make(f"sqlite:///{path}", FLEET_END, users=120, days=36, seed=11)
    return f"sqlite:///{path}"
