"""What the policies beside ``titrated_monthly`` need of the ledger: their counts, their quote, and what a failure gives back."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from credit_core import units
from credit_core.policy import limits, plans, quotas
from credit_core.policy.decision import Allowance, Decision, Request
from credit_core.policy.plans import Plan, Quote
from credit_core.policy.quotas import Window
from credit_core.service.deployment import Deployment
from credit_core.store import reads
from credit_core.store.ledger import Connection
from credit_core.store.records import Account, User
from credit_core.store.unit import Row, Unit


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
    catalog = deployment.catalog
    zone = units.checked_zone(user.timezone)
    if plan.quota_policy == "guest_window":
        windows = unit.windows(_keys(account, ip_hash))
        named = [(key.split(":", 1)[0], window) for key, window in windows.items()]
        allowances = quotas.guest(plan, named, at)
        return Offer(_quote(deployment, plan, request, account), quotas.tightest(allowances))
    if plan.quota_policy == "daily_count":
        counted = unit.counted(account, quotas.day_of(at, zone)[0])
        allowances = quotas.daily(plan.daily_limit, counted, zone, at)
        return Offer(_quote(deployment, plan, request, account), quotas.tightest(allowances))
    if plan.quota_policy == "prepaid" or not (plan.counts or plan.free_per_month is not None):
        return Offer(_quote(deployment, plan, request, account), None)
    moment = counted_at(account, plan, at)
    cycle = (account.cycle_start_at, account.cycle_end_at)
    counted = unit.counted(account, min(account.cycle_start_at, quotas.day_of(moment, zone)[0]))

    def tightest(free: bool) -> Allowance | None:
        return quotas.tightest(quotas.monthly(plan, request.modality, free, counted, zone, cycle, moment))

    gift = tightest(free=True)
    left = gift is None or gift.used + request.images <= gift.limit
    quote = _quote(deployment, plan, request, account, free=left)
    is_free = quote.model is not None and catalog.models[quote.model].credits == 0
    return Offer(quote, gift if is_free else tightest(free=False))


class Count(NamedTuple):
    """One of a plan's counts as it stands; ``modality`` None is all of them together."""

    modality: str | None
    allowance: Allowance


def standing(connection: Connection, account: Account, plan: Plan, zone: ZoneInfo, at: datetime) -> tuple[Count, ...]:
    """Every count of the account's plan as of ``at``, without locking anything; a guest's by session alone."""
    if plan.quota_policy == "guest_window":
        window = reads.window(connection, f"session:{account.account_id}")
        return tuple(Count(None, one) for one in quotas.guest(plan, [("session", window)], at))
    if not plan.counting:
        return ()
    moment = counted_at(account, plan, at)
    since = quotas.day_of(moment, zone)[0]
    if plan.quota_policy == "daily_count":
        counted = reads.counted(connection, account.account_id, since)
        return tuple(Count(None, one) for one in quotas.daily(plan.daily_limit, counted, zone, moment))
    cycle = (account.cycle_start_at, account.cycle_end_at)
    counted = reads.counted(connection, account.account_id, min(account.cycle_start_at, since))
    found = [Count(None, one) for one in quotas.monthly(plan, "", True, counted, zone, cycle, moment)]
    for modality in plan.counts:
        ones = quotas.monthly(plan, modality, False, counted, zone, cycle, moment)
        found += [Count(modality, one) for one in ones]
    return tuple(found)


def counted_at(account: Account, plan: Plan, at: datetime) -> datetime:
    """The instant that a generation counts at: a late one of an earlier cycle counts in the running one."""
    return max(at, account.cycle_start_at) if plan.cycled else at


def count(
    unit: Unit, account: Account, plan: Plan, request: Request, decision: Decision, ip_hash: bytes | None
) -> dict[str, Any]:
    """Columns by which a reserve counts, and its guest's windows; nothing for policies that count nothing."""
    assert decision.at is not None
    if not decision.fresh or not plan.counting:
        return {}
    if plan.quota_policy == "guest_window":
        assert plan.window_hours is not None, "the catalogue checks it"
        length = timedelta(hours=plan.window_hours)
        changed = {}
        for key, window in unit.windows(_keys(account, ip_hash)).items():
            running = window.opened_at is not None and decision.at < window.opened_at + length
            opened, used = (window.opened_at, window.used) if running else (decision.at, 0)
            changed[key] = Window(opened, used + request.images)
        unit.set_windows(changed)
    return {"d_count": request.images, "counted_at": counted_at(account, plan, decision.at)}


def uncount(unit: Unit, deployment: Deployment, account: Account, reserve: Row) -> dict[str, Any]:
    """Columns by which a failed generation counts no longer; its guest's windows get it back while they run."""
    if reserve["d_count"] is None:
        return {}
    if reserve["quota_policy"] == "guest_window":
        windows = unit.windows(_keys(account, reserve["ip_hash"]))
        unit.set_windows(
            {
                key: window._replace(used=max(window.used - reserve["d_count"], 0))
                for key, window in windows.items()
                if window.opened_at is not None and window.opened_at <= reserve["counted_at"]
            }
        )
    return {"d_count": -reserve["d_count"], "counted_at": reserve["counted_at"]}


def cool_down_s(user: User, plan: Plan, seconds: float, at: datetime) -> float:
    """Seconds to wait after the user's last fresh one on a counting plan; 0 where there is nothing to wait for."""
    if plan.quota_policy not in plans.COUNTED:
        return 0.0
    return limits.cool_down(None if user.fresh_at is None else (at - user.fresh_at).total_seconds(), seconds)


def _quote(deployment: Deployment, plan: Plan, request: Request, account: Account, *, free: bool = True) -> Quote:
    return plans.quote(
        deployment.catalog, plan, request.modality, request.model, request.images, account.avail_uc, free=free
    )


def _keys(account: Account, ip_hash: bytes | None) -> list[str]:
    session = f"session:{account.account_id}"
    return [session] if ip_hash is None else [f"ip:{bytes(ip_hash).hex()}", session]
