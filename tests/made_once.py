"""Ledgers that the workers of one test run share: the first to ask makes one, the others copy it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

#: ``made_once(name, fill)``: ``fill(url)`` writes a ledger, unless another worker did.
MadeOnce = Callable[[str, Callable[[str], object]], Path]


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> MadeOnce:
    """SQLite ledgers that the first worker to ask makes for all: ``made_once(name, fill)`` → its path, only to be copied."""
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    def made(name: str, fill: Callable[[str], object]) -> Path:
        folder, whole = shared / f"making-{name}", shared / f"{name}.db"
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not whole.exists():
                folder.mkdir()
                fill(f"sqlite:///{folder / whole.name}")
                assert list(folder.iterdir()) == [folder / whole.name], (
                    "closing the last connection leaves one complete file"
                )
                (folder / whole.name).rename(whole)
        return whole

    return made
