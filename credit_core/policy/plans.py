"""The catalogue: plans, models and packs as validated records (SPEC 3). What is not known is None, never 0."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from credit_core import units
from credit_core.errors import InvalidConfig, InvalidRequest, NotFound

QuotaPolicy = Literal["titrated_monthly", "daily_count", "plan_credits", "prepaid", "guest_window"]
Modality = Literal["text", "image", "video"]
#: Plans whose cycles close and begin with a grant; the others have no cycle.
CYCLED = ("titrated_monthly", "plan_credits")
#: Plans that count generations instead of charging credits.
COUNTED = ("daily_count", "guest_window")
#: Larger batches are several requests.
MOST_IMAGES = 1_000


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class RegionTerms(_Row):
    """Quota and price of a plan in one region, where they differ."""

    quota_credits: float | None = Field(None, ge=0)
    price_usd: float | None = Field(None, ge=0)


class Counts(_Row):
    """The most generations of one modality; None is no limit. ``burst_day``: the most on one day of each cycle."""

    per_month: int | None = Field(None, ge=0)
    per_day: int | None = Field(None, ge=0)
    burst_day: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _burst_is_more(self) -> Counts:
        if self.burst_day is not None and (self.per_day is None or self.burst_day <= self.per_day):
            raise ValueError("burst_day must be more than per_day")
        return self


#: What only plans of one policy may state, and must where True.
_OWN: dict[str, dict[str, bool]] = {
    "titrated_monthly": {"quota_credits": True},
    "daily_count": {"daily_limit": False},
    "plan_credits": {"quota_credits": True, "counts": False, "free_per_month": False},
    "prepaid": {"welcome_credits": False},
    "guest_window": {"window_limit": True, "window_hours": True},
}
_OWNED = {name for fields in _OWN.values() for name in fields}


class Plan(_Row):
    """A plan: which quota policy it runs, what that policy needs, and its price per cycle.

    ``daily_limit`` None is unlimited. ``free_per_month`` limits generations by models that cost 0. ``counts`` limits
    generations by modality. ``entitlements`` are the application's own words; the core hands them on.
    """

    title: str = Field(min_length=1)
    quota_policy: QuotaPolicy
    credit_unit: str = Field("titrated", min_length=1)
    price_usd: float | None = Field(None, ge=0)
    annual: bool = False
    #: The plan of an account whose paid time is over; none: it stays.
    falls_to: str | None = None
    #: What a store sells the plan as (RevenueCat's ``product_id``), besides the plan's own key.
    products: tuple[str, ...] = ()
    regions: dict[str, RegionTerms] = {}
    entitlements: tuple[str, ...] = ()
    quota_credits: float | None = Field(None, ge=0)
    daily_limit: int | None = Field(None, ge=0)
    counts: dict[Modality, Counts] = {}
    free_per_month: int | None = Field(None, ge=0)
    welcome_credits: float | None = Field(None, gt=0)
    window_limit: int | None = Field(None, ge=1)
    window_hours: float | None = Field(None, gt=0, le=24 * 366)

    @model_validator(mode="after")
    def _fits_its_policy(self) -> Plan:
        own = _OWN[self.quota_policy]
        for name in sorted(_OWNED & self.model_fields_set - own.keys()):
            raise _misfit(name, f"does not belong to quota_policy {self.quota_policy}")
        for name in sorted(name for name, needed in own.items() if needed and getattr(self, name) is None):
            raise _misfit(name, f"is missing: quota_policy {self.quota_policy} needs it")
        quotas = [self.quota_credits, *(local.quota_credits for local in self.regions.values())]
        least = 0 if self.quota_policy == "titrated_monthly" else -1
        if any(quota is not None and (units.credits_to_uc(quota) or -bool(quota)) <= least for quota in quotas):
            raise _misfit("quota_credits", "is less than a micro-credit")
        return self

    @property
    def cycled(self) -> bool:
        """True where cycles close and begin with a grant."""
        return self.quota_policy in CYCLED

    @property
    def counting(self) -> bool:
        """True where entries count generations."""
        return self.quota_policy in COUNTED or self.quota_policy == "plan_credits"


def _misfit(field: str, message: str) -> PydanticCustomError:
    return PydanticCustomError("misfit", "{message}", {"field": field, "message": message})


class Model(_Row):
    """A generation model: what it costs the customer and the provider, per image, clip or call."""

    title: str = Field(min_length=1)
    modality: Modality
    credit_unit: str = Field("studio", min_length=1)
    credits: float = Field(ge=0)
    provider_cost_usd: float | None = Field(None, ge=0)


class Pack(_Row):
    """Credits sold once."""

    title: str = Field(min_length=1)
    price_usd: float = Field(gt=0)
    credits: float = Field(gt=0)
    popular: bool = False
    products: tuple[str, ...] = ()


class Catalog(_Row):
    """Plans, models and packs by key."""

    plans: dict[str, Plan]
    models: dict[str, Model]
    packs: dict[str, Pack] = {}

    @model_validator(mode="after")
    def _some_of_each(self) -> Catalog:
        if not self.plans or not self.models:
            raise ValueError("a catalogue needs at least one plan and one model")
        if sum(plan.quota_policy == "guest_window" for plan in self.plans.values()) > 1:
            raise ValueError("at most one plan can be the guests' (quota_policy guest_window)")
        for name, plan in self.plans.items():
            lower = None if plan.falls_to is None else self.plans.get(plan.falls_to)
            if plan.falls_to is not None and (lower is None or lower is plan):
                raise ValueError(
                    f"plan {name!r} falls to {plan.falls_to!r}, which is not another plan of the catalogue"
                )
            if lower is not None and (lower.quota_policy, lower.credit_unit) != (plan.quota_policy, plan.credit_unit):
                raise ValueError(
                    f"plan {name!r} falls to {plan.falls_to!r}, which has another quota_policy or credit_unit"
                )
        sold = [product for _, row in self._offers() for product in row.products]
        if len(set(sold)) < len(sold):
            raise ValueError("a product is named by two plans or packs; it can be only one of them")
        return self

    def _offers(self) -> list[tuple[tuple[str, str], Plan | Pack]]:
        plans: list[tuple[tuple[str, str], Plan | Pack]] = [(("plan", name), row) for name, row in self.plans.items()]
        return [*plans, *((("pack", name), row) for name, row in self.packs.items())]

    def sold_as(self, product: str) -> tuple[str, str]:
        """("plan" or "pack", its key) of what a store sells as ``product``; the key itself counts. Raises :class:`NotFound`."""
        offers = self._offers()
        for wanted in ([o for o, row in offers if product in row.products], [o for o, _ in offers if o[1] == product]):
            if wanted:
                return wanted[0]
        raise NotFound(
            f"No plan or pack is sold as {product!r}. Name it under `products` of that plan or pack in the catalogue."
        )

    def plan(self, name: str) -> Plan:
        """The plan called ``name``, else :class:`NotFound` with the names there are."""
        if name not in self.plans:
            raise NotFound(f"There is no plan {name!r}. The catalogue has: {', '.join(self.plans)}.")
        return self.plans[name]

    def guest_plan(self) -> str:
        """Key of the guests' plan, else :class:`NotFound`."""
        for name, plan in self.plans.items():
            if plan.quota_policy == "guest_window":
                return name
        raise NotFound(
            "The catalogue has no plan for guests. Add one with quota_policy guest_window, or give a user_id."
        )


class Terms(NamedTuple):
    """What one account gets per cycle."""

    quota_uc: int
    price_usd_micro: int | None


class Quote(NamedTuple):
    """What one request would cost: ``model`` is None where the controller routes, ``affordable`` names what would do instead."""

    model: str | None
    cost_uc: int
    affordable: str | None = None


def parse(body: Mapping[str, Any], places: Mapping[tuple[str, ...], str] | None = None) -> Catalog:
    """Validate a catalogue. Raises :class:`InvalidConfig` with every fault; ``places``: where each key was written."""
    try:
        return Catalog.model_validate(body)
    except ValidationError as error:
        raise InvalidConfig([_fault(fault, places or {}) for fault in error.errors()]) from error


def _fault(fault: Any, places: Mapping[tuple[str, ...], str]) -> str:
    path = tuple(str(part) for part in fault["loc"])
    if "field" in fault.get("ctx", {}):
        path += (fault["ctx"]["field"],)
    place = next((places[path[:end]] for end in range(len(path), 0, -1) if path[:end] in places), None)
    said = f"{'.'.join(path)}: {fault['msg']}" if path else str(fault["msg"])
    return said if place is None else f"{place}: {said}"


def terms(plan: Plan, region: str | None) -> Terms:
    """Quota and price of ``plan`` in ``region``; what a region does not state it takes from the plan. No quota is 0."""
    local = plan.regions.get(region or "", RegionTerms())
    quota = plan.quota_credits if local.quota_credits is None else local.quota_credits
    price = plan.price_usd if local.price_usd is None else local.price_usd
    return Terms(units.credits_to_uc(quota or 0.0), None if price is None else units.dollars_to_usd_micro(price))


def quote(
    catalog: Catalog, plan: Plan, modality: str, model: str | None, images: int, available_uc: int, *, free: bool = True
) -> Quote:
    """What ``images`` by ``model`` cost on ``plan`` (SPEC 3).

    Titrated plans: one credit each, whichever model serves them. Counting plans: nothing. Else the model's price; no
    ``model`` means the cheapest of the modality, free ones first while ``free``. Raises :class:`InvalidRequest`,
    :class:`NotFound`.
    """
    if not 1 <= images <= MOST_IMAGES:
        raise InvalidRequest(
            f"images must lie between 1 and {MOST_IMAGES}, got {images}. Split larger batches into several requests."
        )
    if plan.quota_policy == "titrated_monthly":
        return Quote(model, images * units.MICRO)
    fitting = fitting_models(catalog, plan, modality)
    if model is None:
        among = fitting if free else [name for name in fitting if catalog.models[name].credits > 0]
        model = next(iter(among or fitting))
    elif model not in catalog.models:
        raise NotFound(f"There is no model {model!r}. For {modality} the plan has: {', '.join(fitting)}.")
    elif model not in fitting:
        raise InvalidRequest(
            f"Model {model!r} does not make {modality} on plan {plan.title!r}. It has: {', '.join(fitting)}."
        )
    cost_uc = price_uc(catalog, plan, model, images)
    within = [
        name
        for name in fitting
        if price_uc(catalog, plan, name, images) <= available_uc and (free or catalog.models[name].credits > 0)
    ]
    return Quote(model, cost_uc, None if cost_uc <= available_uc else next(iter(reversed(within)), None))


def fitting_models(catalog: Catalog, plan: Plan, modality: str) -> list[str]:
    """Models that ``plan`` may use for ``modality``, the cheapest first. Raises :class:`InvalidRequest` where there is none."""
    counted = plan.quota_policy in COUNTED

    def price(name: str) -> tuple[float, float, str]:
        row = catalog.models[name]
        cost = float("inf") if row.provider_cost_usd is None else row.provider_cost_usd
        return (0.0 if counted else row.credits, cost, name)

    found = [
        name
        for name, row in catalog.models.items()
        if row.modality == modality and (counted or row.credit_unit == plan.credit_unit)
    ]
    if not found:
        raise InvalidRequest(
            f"Plan {plan.title!r} has no model for {modality}. Ask for another modality, or add a model of credit_unit "
            f"{plan.credit_unit!r} to the catalogue."
        )
    return sorted(found, key=price)


def price_uc(catalog: Catalog, plan: Plan, model: str, images: int) -> int:
    """Micro-credits that ``images`` by ``model`` cost on ``plan``; nothing where it counts generations."""
    return 0 if plan.quota_policy in COUNTED else units.credits_to_uc(catalog.models[model].credits) * images


def provider_cost_usd_micro(catalog: Catalog, model: str | None, images: int) -> int | None:
    """What the provider charges for ``images`` of ``model``; None for a model the catalogue does not price."""
    row = catalog.models.get(model or "")
    if row is None or row.provider_cost_usd is None:
        return None
    return _usd_micro(row.provider_cost_usd) * images


@cache
def _usd_micro(dollars: float) -> int:
    """Converting exactly takes as long as the rest of a settle's arithmetic, and a catalogue has few prices."""
    return units.dollars_to_usd_micro(dollars)
