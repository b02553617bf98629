"""What a customer sees of their own account (SPEC 3, last paragraph): load their standing once, then a pure function of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from credit_core import units
from credit_core.errors import InvalidRequest
from credit_core.policy import customer, plans, quotas
from credit_core.policy.customer import ONE_IMAGE, View
from credit_core.policy.plans import Plan, QuotaPolicy
from credit_core.policy.standing import Asked, Charge, Offer, Period, Standing, Taken, Use, mean_per_day
from credit_core.service import lookup
from credit_core.service.deployment import Deployment
from credit_core.service.lookup import Profile
from credit_core.store import customers, reads
from credit_core.store.ledger import Connection

#: The pace a customer is told is the mean of this long, or since they signed up where that is shorter.
PACE_WINDOW = timedelta(days=28)


def customer_view(
    deployment: Deployment,
    user_id: str,
    at: datetime | None = None,
    asked: Asked = ONE_IMAGE,
    run_out_chance: float | None = None,
) -> View:
    """What the user would see at ``at``; writes nothing, not even what is due.

    ``asked`` is the request that the cost preview and the advice are for. ``run_out_chance`` in [0, 1] comes from the
    read side, which alone knows a plan's days of demand; None leaves the risk out. Raises :class:`NotFound`,
    :class:`InvalidRequest`.
    """
    asked = _checked(asked)
    if run_out_chance is not None and not 0.0 <= run_out_chance <= 1.0:
        raise InvalidRequest(f"run_out_chance must be a number between 0 and 1, got {run_out_chance!r}.")
    return customer.view(standing(deployment, user_id, at)._replace(run_out_chance=run_out_chance), asked)


def standing(deployment: Deployment, user_id: str, at: datetime | None = None) -> Standing:
    """All that is known of a customer at ``at``, of one state of the ledger."""
    moment = deployment.instant(at)
    with deployment.ledger.reading() as connection:
        profile = lookup.profile_in(connection, deployment, user_id, moment)
        plan = deployment.catalog.plan(profile.plan)
        account_id = profile.account_id
        since = max(profile.created_at, moment - PACE_WINDOW)
        images = customers.images_charged(connection, account_id, user_id, since, moment)
        charged = customers.newest_charge(connection, account_id, user_id)
        known = Standing(
            quota_policy=plan.quota_policy,
            plan=profile.plan,
            at=moment,
            available_uc=profile.available_uc,
            held_uc=profile.held_uc,
            mean_fresh=mean_per_day(images, (moment - since) / timedelta(days=1)),
            pack_uc=sum(lot.avail_uc for lot in reads.open_lots(connection, account_id) if lot.kind == "purchased"),
            charge=None if charged is None else _charge(deployment.catalog, charged),
            lifetime=lookup.lifetime_of(reads.moved(connection, account_id)),
            first_library_fallback=customers.first_library_answer(connection, account_id, user_id),
            paused=profile.paused_at is not None,
            blocked=profile.blocked_at is not None,
        )
        return _OF_POLICY[plan.quota_policy](connection, deployment, profile, known)


# What each quota policy adds: its counters, its cycle and what its models cost ------------------------------------


def _titrated(connection: Connection, deployment: Deployment, profile: Profile, known: Standing) -> Standing:
    return known._replace(
        spent_uc=customers.spent_since(connection, profile.account_id, profile.cycle_start_at),
        quota_uc=profile.quota_uc,
        paced_uc=profile.paced_uc,
        cycle_days=profile.cycle_days,
        days_left=profile.days_left,
        surplus_days=profile.surplus_days,
        next_reset_at=profile.next_reset_at,
        next_amount_uc=profile.next_amount_uc,
        # The controller routes: whichever model serves an image, it costs the same.
        offers=(Offer(None, "Image", "image", units.MICRO),),
    )


def _plan_credits(connection: Connection, deployment: Deployment, profile: Profile, known: Standing) -> Standing:
    plan = deployment.catalog.plan(profile.plan)
    return _titrated(connection, deployment, profile, known)._replace(
        uses=_uses(profile), offers=_offers(deployment.catalog, plan)
    )


def _daily(connection: Connection, deployment: Deployment, profile: Profile, known: Standing) -> Standing:
    plan = deployment.catalog.plan(profile.plan)
    _, end = quotas.day_of(known.at, units.checked_zone(profile.timezone))
    return known._replace(uses=_uses(profile), next_reset_at=end, offers=_offers(deployment.catalog, plan))


def _prepaid(connection: Connection, deployment: Deployment, profile: Profile, known: Standing) -> Standing:
    plan = deployment.catalog.plan(profile.plan)
    spent = customers.spent_of_open_lots(connection, profile.account_id)
    return known._replace(spent_uc=spent, offers=_offers(deployment.catalog, plan))


def _guest(connection: Connection, deployment: Deployment, profile: Profile, known: Standing) -> Standing:
    plan = deployment.catalog.plan(profile.plan)
    strictest = profile.counts[0].allowance
    return known._replace(
        guest_used=strictest.used,
        guest_limit=strictest.limit,
        guest_resets_at=strictest.resets_at,
        offers=_offers(deployment.catalog, plan),
    )


def _uses(profile: Profile) -> tuple[Use, ...]:
    """The profile's counts; free models' alone where nothing else can be paid for, since they limit no other."""
    return tuple(
        Use(one.modality, _PERIOD[one.allowance.name], one.allowance.used, one.allowance.limit)
        for one in profile.counts
        if one.allowance.name != "free" or not profile.quota_uc
    )


_PERIOD: Mapping[str, Period] = {"day": "day", "month": "month", "free": "month"}


def _offers(catalog: plans.Catalog, plan: Plan) -> tuple[Offer, ...]:
    return tuple(
        Offer(
            name,
            row.title,
            row.modality,
            plans.price_uc(catalog, plan, name, 1),
            plans.provider_cost_usd_micro(catalog, name, 1),
        )
        for name, row in catalog.models.items()
        if plan.quota_policy in plans.COUNTED or row.credit_unit == plan.credit_unit
    )


#: What each quota policy adds to what is known of every customer.
_OF_POLICY: Mapping[QuotaPolicy, Callable[[Connection, Deployment, Profile, Standing], Standing]] = {
    "titrated_monthly": _titrated,
    "plan_credits": _plan_credits,
    "daily_count": _daily,
    "prepaid": _prepaid,
    "guest_window": _guest,
}


def _charge(catalog: plans.Catalog, charged: customers.Charged) -> Charge:
    model = catalog.models.get(charged.model or "")
    return Charge(
        request_id=charged.request_id,
        at=charged.occurred_at,
        model=charged.model if model is None else model.title,
        taken=tuple(Taken(kind, amount_uc) for kind, amount_uc in charged.parts),
        available_after_uc=charged.available_after_uc,
    )


def _checked(asked: Asked) -> Asked:
    images: object = asked.images
    if isinstance(images, bool) or not isinstance(images, int) or not 1 <= images <= 1_000:
        raise InvalidRequest(f"images must be a whole number from 1 to 1000, got {images!r}.")
    return asked._replace(
        modality=units.checked_id(asked.modality, "modality"),
        model=None if asked.model is None else units.checked_id(asked.model, "model"),
    )
