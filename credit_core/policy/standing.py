"""What is known of a customer (SPEC 3): the state that :mod:`credit_core.policy.customer` shows, of all five quota policies."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, NamedTuple

from credit_core.policy.plans import QuotaPolicy

Period = Literal["day", "month", "window"]


class Lifetime(NamedTuple):
    """Totals since sign-up."""

    granted_uc: int
    spent_uc: int
    expired_uc: int
    fresh: int
    library: int


class Use(NamedTuple):
    """Generations counted in a period. ``modality`` None: all of them together; ``limit`` None: as many as they like."""

    modality: str | None
    period: Period
    used: int
    limit: int | None

    @property
    def left(self) -> int | None:
        """How many more there may be; None without a limit."""
        return None if self.limit is None else max(0, self.limit - self.used)


class Offer(NamedTuple):
    """A model on this plan. ``model`` None: the plan chooses it. ``cost_uc``: what one costs the customer."""

    model: str | None
    title: str
    modality: str
    cost_uc: int
    #: What the provider takes for one; tells the better of two models that cost the customer the same.
    provider_cost_usd_micro: int | None = None


class Asked(NamedTuple):
    """A request to be priced. ``model`` None: the cheapest that fits, free ones first."""

    modality: str = "image"
    model: str | None = None
    images: int = 1


class Taken(NamedTuple):
    """Credits of one lot kind."""

    lot_kind: str
    amount_uc: int


class Charge(NamedTuple):
    """The newest charge: what each lot paid, in spending order, and what was available right after it.

    ``model``: its title, or its name where the catalogue no longer has it.
    """

    request_id: str
    at: datetime
    model: str | None
    taken: tuple[Taken, ...]
    available_after_uc: int


class Standing(NamedTuple):
    """What is known of a customer. Amounts in micro-credits, instants aware, None where something is unknown.

    ``spent_uc`` is what the meter counts as used: spent in the running cycle; for prepaid, of the lots still open.
    ``paced_uc`` are the monthly and rollover lots. ``mean_fresh``: fresh images a day. ``guest_*``: of the stricter of the
    two counters of a guest.
    """

    quota_policy: QuotaPolicy
    plan: str
    at: datetime
    available_uc: int | None = None
    held_uc: int | None = None
    spent_uc: int | None = None
    quota_uc: int | None = None
    paced_uc: int | None = None
    cycle_days: float | None = None
    days_left: float | None = None
    surplus_days: float | None = None
    mean_fresh: float | None = None
    run_out_chance: float | None = None
    next_reset_at: datetime | None = None
    next_amount_uc: int | None = None
    uses: tuple[Use, ...] = ()
    pack_uc: int | None = None
    guest_used: int | None = None
    guest_limit: int | None = None
    guest_resets_at: datetime | None = None
    offers: tuple[Offer, ...] = ()
    charge: Charge | None = None
    lifetime: Lifetime | None = None
    first_library_fallback: bool | None = None
    paused: bool = False
    blocked: bool = False


def mean_per_day(count: int, days: float) -> float | None:
    """A count a day; None over less than a day, of which nothing can be said yet."""
    return None if days < 1.0 else count / days
