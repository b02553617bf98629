"""Opening the copy that pages read: in memory, in segments on disk, or on ClickHouse where the deployment names one."""

from __future__ import annotations

from credit_core import settings
from credit_core.analytics.stored import opened
from credit_core.analytics.sync import Facts
from credit_core.errors import InvalidConfig


def open_facts(url: str) -> Facts:
    """The columnar copy of the ledger at ``url``: at ``CREDITS_ANALYTICS_URL``, filled by its loader, else on this machine.

    Raises :class:`InvalidConfig`, and :class:`LedgerUnavailable` where there is no ledger or no server.
    """
    at = settings.analytics_url()
    if at is None:
        return opened(
            url, settings.facts_store(url), memory_limit=settings.facts_memory(), threads=settings.facts_threads()
        )
    return open_cluster(url, at)


def open_cluster(url: str, at: str, *, loads: bool = False) -> Facts:
    """The copy on ClickHouse at ``at``; ``loads``: as its loader. Raises as :func:`open_facts`."""
    try:
        # The driver is asked for where a deployment needs it, and installed for it.
        from credit_core.analytics.clickhouse.facts import ClickHouseFacts
    except ModuleNotFoundError as error:
        raise InvalidConfig([
            f"{settings.ANALYTICS_VARIABLE} needs the package {error.name}, which is not installed. "
            "Install it: pip install -c requirements-dev.txt clickhouse-connect"
        ]) from error  # fmt: skip
    return ClickHouseFacts.at(url, at, loads=loads)
