"""What the policies beside ``titrated_monthly`` need of the ledger: their counts, their quote, and what a failure gives back."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from credit_core import units
from credit_core.policy import limits, plans, quotas
from credit_core.policy.decision import Allowance, Request
from credit_core.policy.plans import Plan, Quote
from credit_core.policy.quotas import Window
from credit_core.service.deployment import Deployment
from credit_core.store import counts, guests
from credit_core.store.ledger import Connection
from credit_core.store.records import Account, Row, User
from credit_core.store.unit import Unit


class Offer(NamedTuple):
    """What a request would cost and which count it meets first."""

    quote: Quote
    allowance: Allowance | None


def offer(
    unit: Unit,
    deployment: Deployment,
    user: User,
    account: Account,
    plan: Plan,
    request: Request,
    ip_hash: bytes | None,
    at: datetime,
) -> Offer:
    """Price ``request`` and find its tightest count. The account is locked; a guest's windows are locked here."""
    if plan.quota_policy == "guest_window":
        windows = unit.windows(guests.window_keys(account.account_id, ip_hash))
        named = [(key.split(":", 1)[0], window) for key, window in windows.items()]
        return Offer(_quote(deployment, plan, request, account), quotas.tightest(quotas.guest(plan, named, at)))
    if plan.quota_policy == "daily_count" and plan.daily_limit is not None:
        zone = units.checked_zone(user.timezone)
        counted = unit.counted(account, quotas.day_of(at, zone)[0])
        allowances = quotas.daily(plan.daily_limit, counted, zone, at)
        return Offer(_quote(deployment, plan, request, account), quotas.tightest(allowances))
    # Counting reads the whole cycle's generations, so only where a count can limit this one.
    if plan.free_per_month is not None or any(name == request.modality for name in plan.counts):
        return _studio_offer(unit, deployment, account, plan, request, at)
    return Offer(_quote(deployment, plan, request, account), None)


def _studio_offer(
    unit: Unit, deployment: Deployment, account: Account, plan: Plan, request: Request, at: datetime
) -> Offer:
    """``plan_credits`` with limits: free models while they last, then paid ones, each within its modality's counts."""
    # The running cycle's zone: a change of the user's counts from the next one.
    zone = units.checked_zone(account.timezone)
    moment = max(at, account.cycle_start_at)
    cycle = (account.cycle_start_at, account.cycle_end_at)
    counted = unit.counted(account, min(account.cycle_start_at, quotas.day_of(moment, zone)[0]))

    def tightest(free: bool) -> Allowance | None:
        return quotas.tightest(quotas.monthly(plan, request.modality, free, counted, zone, cycle, moment))

    gift = tightest(free=True)
    left = gift is None or gift.used + request.images <= gift.limit
    quote = _quote(deployment, plan, request, account, free=left)
    if not left and request.model is None and quote.cost_uc > account.avail_uc:
        # Nothing else can be paid for, so it is the free ones' count that stands in the way.
        quote = _quote(deployment, plan, request, account)
    is_free = quote.model is not None and deployment.catalog.models[quote.model].credits == 0
    return Offer(quote, gift if is_free else tightest(free=False))


class Count(NamedTuple):
    """One of a plan's counts as it stands; ``modality`` None is all of them together."""

    modality: str | None
    allowance: Allowance


def standing(connection: Connection, account: Account, plan: Plan, zone: ZoneInfo, at: datetime) -> tuple[Count, ...]:
    """Every count of the account's plan as of ``at``, without locking anything; a guest's stricter one first."""
    if plan.quota_policy == "guest_window":
        windows = guests.of_guest(connection, account.account_id)
        strict = sorted(quotas.guest(plan, windows, at), key=lambda one: one.limit - one.used)
        return tuple(Count(None, one) for one in strict)
    if not plan.counting:
        return ()
    moment = max(at, account.cycle_start_at) if plan.cycled else at
    since = quotas.day_of(moment, zone)[0]
    if plan.quota_policy == "daily_count":
        counted = counts.counted(connection, account.account_id, since, ())
        return tuple(Count(None, one) for one in quotas.daily(plan.daily_limit, counted, zone, moment))
    cycle = (account.cycle_start_at, account.cycle_end_at)
    counted = counts.counted(connection, account.account_id, min(account.cycle_start_at, since), ())
    found = [Count(None, one) for one in quotas.monthly(plan, "", True, counted, zone, cycle, moment)]
    for modality in plan.counts:
        ones = quotas.monthly(plan, modality, False, counted, zone, cycle, moment)
        found += [Count(modality, one) for one in ones]
    return tuple(found)


def count(unit: Unit, account: Account, plan: Plan, images: int, ip_hash: bytes | None, at: datetime) -> dict[str, Any]:
    """Columns by which a served generation counts, and its guest's windows; nothing for policies that count nothing.

    A late one counts in the running cycle or window, whose limit it met.
    """
    if not plan.counting:
        return {}
    moment = max(at, account.cycle_start_at) if plan.cycled else at
    if plan.quota_policy == "guest_window":
        assert plan.window_hours is not None, "the catalogue checks it"
        length = timedelta(hours=plan.window_hours)
        windows = {
            key: window if window.opened_at is not None and at < window.opened_at + length else Window(at, 0)
            for key, window in unit.windows(guests.window_keys(account.account_id, ip_hash)).items()
        }
        moment = max(at, *(window.opened_at for window in windows.values() if window.opened_at is not None))
        unit.set_windows({key: window._replace(used=window.used + images) for key, window in windows.items()})
    return {"d_count": images, "counted_at": moment}


def uncount(unit: Unit, account: Account, reserve: Row) -> dict[str, Any]:
    """Columns by which a failed generation counts no longer; the guest's windows that it counts in get it back."""
    if reserve["d_count"] is None:
        return {}
    columns = {"d_count": -reserve["d_count"], "counted_at": reserve["counted_at"]}
    if reserve["quota_policy"] == "guest_window":
        windows = unit.windows(guests.window_keys(account.account_id, reserve["ip_hash"]))
        unit.set_windows(
            {
                key: window._replace(used=max(window.used - reserve["d_count"], 0))
                for key, window in windows.items()
                if window.opened_at is not None and window.opened_at <= reserve["counted_at"]
            }
        )
        columns["ip_hash"] = reserve["ip_hash"]
    return columns


def cool_down_s(user: User, plan: Plan, seconds: float, at: datetime) -> float:
    """Seconds to wait after the user's last fresh one on a counting plan; 0 where there is nothing to wait for."""
    if plan.quota_policy not in plans.COUNTED:
        return 0.0
    return limits.cool_down(None if user.fresh_at is None else (at - user.fresh_at).total_seconds(), seconds)


def _quote(deployment: Deployment, plan: Plan, request: Request, account: Account, *, free: bool = True) -> Quote:
    return plans.quote(
        deployment.catalog, plan, request.modality, request.model, request.images, account.avail_uc, free=free
    )
