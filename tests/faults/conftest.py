"""Processes for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.processes import Nursery


@pytest.fixture(scope="session")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    """One per worker of pytest: it imports everything once."""
    made = Nursery(tmp_path_factory.mktemp("nursery"))
    yield made
    made.close()
