"""What tells one piece of the laboratory's work from another: the filters, by reporting day."""

from __future__ import annotations

from collections.abc import Hashable

from credit_core.analytics.filters import Filters


def key_of(chosen: Filters) -> Hashable:
    """The filters without the minute: the end of a running period moves, and until midnight it is the same period."""
    period = chosen.period
    return period.start, period.end.date(), chosen.plans, chosen.regions, chosen.teams
