"""Opening the copy that pages read: embedded in the process, or on ClickHouse where the deployment names one."""

from __future__ import annotations

from credit_core import settings
from credit_core.analytics.sync import Facts
from credit_core.errors import InvalidConfig


def open_facts(url: str, reporting_zone: str | None = None) -> Facts:
    """The columnar copy of the ledger at ``url``: at ``CREDITS_ANALYTICS_URL``, filled by its loader, else embedded.

    Raises :class:`InvalidConfig`, and :class:`LedgerUnavailable` where there is no ledger or no server.
    """
    at = settings.analytics_url()
    if at is None:
        return Facts.open(url, reporting_zone)
    try:
        # The driver is asked for where a deployment needs it, and installed for it.
        from credit_core.analytics.clickhouse.facts import ClickHouseFacts
    except ModuleNotFoundError as error:
        raise InvalidConfig([
            f"{settings.ANALYTICS_VARIABLE} needs the package {error.name}, which is not installed. "
            "Install it: pip install -c requirements-dev.txt clickhouse-connect"
        ]) from error  # fmt: skip
    return ClickHouseFacts.open(url, at, reporting_zone)
