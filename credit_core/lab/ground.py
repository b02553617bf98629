"""What the laboratory works on behind the dashboard's filters: the accounts, the period, what is live."""

from __future__ import annotations

from dataclasses import dataclass, replace

from credit_core.analytics import queries
from credit_core.analytics.filters import Filters
from credit_core.analytics.queries.population import paced_accounts
from credit_core.analytics.sync import Facts
from credit_core.errors import InvalidRequest
from credit_core.lab import replay
from credit_core.lab.replay import Period, Prepared
from credit_core.policy.config import Config
from credit_core.policy.plans import Catalog
from credit_core.units import to_us


@dataclass(frozen=True)
class Ground:
    """A ledger ready to be replayed over a period. ``number`` is the version that is ``live``."""

    prepared: Prepared
    period: Period
    number: int
    live: Config


def ground(facts: Facts, catalog: Catalog, filters: Filters) -> Ground:
    """Paced accounts behind ``filters`` (period, plan, region, team). Raises :class:`InvalidRequest` where there is nobody."""
    replay.warm_up()
    prepared = replay.open_ledger(facts, catalog)
    ids = paced_accounts(facts, filters)["account_id"]
    kept = prepared.accounts[prepared.accounts["account_id"].isin(ids)].reset_index(drop=True)
    start = max(to_us(filters.period.start), facts.extent.first_us or 0)
    end = min(to_us(filters.period.end), prepared.last_us)
    if start >= end or kept.empty:
        raise InvalidRequest("Nobody of a paced plan is behind these filters, so there is nothing to replay.")
    number = queries.live_version(facts)
    return Ground(replace(prepared, accounts=kept), Period(start, end, ()), number, prepared.configs[number])
