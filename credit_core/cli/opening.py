"""Opening the ledger that a command works on."""

from __future__ import annotations

from credit_core.errors import NotFound
from credit_core.service.core import CreditCore
from credit_core.store import migrate


def existing(url: str) -> CreditCore:
    """The core on a ledger that is there. A mistyped address must not look like a ledger in which all is well."""
    if not migrate.exists(url):
        raise NotFound(f"There is no ledger at {url}. Create one with: python -m credit_core init --database {url}")
    return CreditCore.open(url)
