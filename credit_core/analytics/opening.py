"""Opening the copy that pages read: in memory, in segments on disk, or on ClickHouse where the deployment names one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from credit_core import settings
from credit_core.analytics.origin import Origin
from credit_core.analytics.stored import opened
from credit_core.analytics.sync import Facts
from credit_core.errors import InvalidConfig

if TYPE_CHECKING:
    from credit_core.analytics.clickhouse.facts import ClickHouseFacts


def open_facts(url: str) -> Facts:
    """The columnar copy of the ledger at ``url``: at ``CREDITS_ANALYTICS_URL``, filled by its loader, else on this machine.

    Raises :class:`InvalidConfig`, and :class:`LedgerUnavailable` where there is no ledger or no server.
    """
    at = settings.analytics_url()
    if at is None:
        return opened(
            url, settings.facts_store(url), memory_limit=settings.facts_memory(), threads=settings.facts_threads()
        )
    with _driver():
        from credit_core.analytics.clickhouse.facts import ClickHouseFacts
    return ClickHouseFacts.at(url, at)


def open_loader(url: str, at: str) -> ClickHouseFacts:
    """What fills the copy on ClickHouse at ``at``. Raises as :func:`open_facts`."""
    with _driver():
        from credit_core.analytics.clickhouse.facts import ClickHouseFacts
    return ClickHouseFacts.at(url, at, loads=True)


def cluster_tables(url: str, at: str) -> list[str]:
    """The definitions of the tables that the copy at ``at`` consists of; no server is asked. Raises as :func:`open_facts`."""
    with _driver():
        from credit_core.analytics.clickhouse import facts, tables
    with TemporaryDirectory() as folder:
        origin = Origin.open(url, Path(folder), None)
        try:
            return tables.create_statements(facts.site_of(at)[1], origin.zone())
        finally:
            origin.close()


@contextmanager
def _driver() -> Iterator[None]:
    """ClickHouse's driver is needed where a deployment uses it, and installed for it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise InvalidConfig([
            f"{settings.ANALYTICS_VARIABLE} needs the package {error.name}, which is not installed. "
            "Install it: pip install -c requirements-dev.txt clickhouse-connect"
        ]) from error  # fmt: skip
