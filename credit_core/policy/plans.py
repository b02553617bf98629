"""The catalogue: plans and models as validated records (SPEC 3). Prices that are not known are None, never 0."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from credit_core import units
from credit_core.errors import InvalidConfig, InvalidRequest, NotFound


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class RegionTerms(_Row):
    """Quota and price of a plan in one region, where they differ."""

    quota_credits: float | None = Field(None, gt=0)
    price_usd: float | None = Field(None, ge=0)


class Plan(_Row):
    """A plan: which quota policy it runs, its quota and its price per cycle."""

    title: str = Field(min_length=1)
    quota_policy: Literal["titrated_monthly"]
    credit_unit: str = "titrated"
    quota_credits: float = Field(gt=0)
    price_usd: float | None = Field(None, ge=0)
    annual: bool = False
    regions: dict[str, RegionTerms] = {}

    @field_validator("quota_credits")
    @classmethod
    def _at_least_a_micro_credit(cls, quota: float) -> float:
        if units.credits_to_uc(quota) < 1:
            raise ValueError("is less than a micro-credit")
        return quota


class Model(_Row):
    """A generation model: what it costs the customer and the provider, per image, clip or call."""

    title: str = Field(min_length=1)
    modality: Literal["text", "image", "video"]
    credits: float = Field(ge=0)
    provider_cost_usd: float = Field(ge=0)


class Pack(_Row):
    """Credits sold once."""

    title: str = Field(min_length=1)
    price_usd: float = Field(gt=0)
    credits: float = Field(gt=0)
    popular: bool = False


class Catalog(_Row):
    """Plans, models and packs by key."""

    plans: dict[str, Plan]
    models: dict[str, Model]
    packs: dict[str, Pack] = {}

    @model_validator(mode="after")
    def _some_of_each(self) -> Catalog:
        if not self.plans or not self.models:
            raise ValueError("a catalogue needs at least one plan and one model")
        return self

    def plan(self, name: str) -> Plan:
        """The plan called ``name``, else :class:`NotFound` with the names there are."""
        if name not in self.plans:
            raise NotFound(f"There is no plan {name!r}. The catalogue has: {', '.join(self.plans)}.")
        return self.plans[name]


class Terms(NamedTuple):
    """What one account gets per cycle."""

    quota_uc: int
    price_usd_micro: int | None


def parse(body: Mapping[str, Any]) -> Catalog:
    """Validate a catalogue. Raises :class:`InvalidConfig` with every fault."""
    try:
        return Catalog.model_validate(body)
    except ValidationError as error:
        raise InvalidConfig(
            [f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}" for fault in error.errors()]
        ) from error


def terms(plan: Plan, region: str | None) -> Terms:
    """Quota and price of ``plan`` in ``region``; what a region does not state it takes from the plan."""
    local = plan.regions.get(region or "", RegionTerms())
    quota = plan.quota_credits if local.quota_credits is None else local.quota_credits
    price = plan.price_usd if local.price_usd is None else local.price_usd
    return Terms(units.credits_to_uc(quota), None if price is None else units.dollars_to_usd_micro(price))


def cost_uc(plan: Plan, images: int) -> int:
    """Credits that ``images`` of a titrated plan cost: one each, whichever model serves them (SPEC 3)."""
    if not 1 <= images <= 1_000:
        raise InvalidRequest(
            f"images must lie between 1 and 1000, got {images}. Split larger batches into several requests."
        )
    return images * units.MICRO


def provider_cost_usd_micro(catalog: Catalog, model: str | None, images: int) -> int | None:
    """What the provider charges for ``images`` of ``model``; None for a model the catalogue does not price."""
    row = catalog.models.get(model or "")
    return None if row is None else _usd_micro(row.provider_cost_usd) * images


@cache
def _usd_micro(dollars: float) -> int:
    """Converting exactly takes as long as the rest of a settle's arithmetic, and a catalogue has few prices."""
    return units.dollars_to_usd_micro(dollars)
