"""Ledgers opened for a replay, and given back when the tests of a file are over."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from credit_core.analytics.sync import Facts
from credit_core.lab import replay
from credit_core.service import catalog as catalogue
from credit_core.settings import catalog_folder

CATALOG = catalogue.read(catalog_folder()).catalog
_OPEN: list[Facts] = []


def prepared(url: str) -> replay.Prepared:
    """The ledger at ``url``, followed."""
    _OPEN.append(Facts.open(url))
    _OPEN[-1].follow()
    return replay.open_ledger(_OPEN[-1], CATALOG)


@pytest.fixture(scope="module", autouse=True)
def closed() -> Iterator[None]:
    """Close what a file's tests have opened."""
    yield
    while _OPEN:
        _OPEN.pop().close()
