"""What things are worth (SPEC 6, revenue): lots by unit price, subscriptions straight-line, baskets against plans and packs. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import gcd
from typing import NamedTuple

from credit_core import units
from credit_core.errors import InvalidRequest
from credit_core.policy import plans
from credit_core.policy.plans import Catalog, Pack
from credit_core.units import MICRO

#: What a plan must entitle to for generations in bulk.
BULK = "bulk"
_HALF = MICRO // 2


class Want(NamedTuple):
    """Generations that a customer makes in a month by one model; ``bulk``: as a batch, which a plan must allow."""

    model: str
    number: int
    bulk: bool = False


class Bill(NamedTuple):
    """What a month's wishes cost the customer in credits, and the provider's charge; None where a model's is unknown."""

    credit_unit: str
    credits_uc: int
    cost_usd_micro: int | None


class Fit(NamedTuple):
    """A plan beside a bill. ``lacks``: what it does not allow for, empty where it fits. Unknown price, unknown margin."""

    plan: str
    quota_uc: int
    price_usd_micro: int | None
    margin_usd_micro: int | None
    lacks: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """True where nothing is lacking."""
        return not self.lacks


class Offer(NamedTuple):
    """A pack beside the smallest one: price of a credit, credits more for the same money, money less for the same credits."""

    unit_price_usd_micro: int
    bonus_share: float
    saving_share: float


def value_usd_micro(amount_uc: int, unit_price_usd_micro: int) -> int:
    """Micro-dollars of an amount at a price per credit: to the nearest, halves away from zero, so that its negative undoes it."""
    size = (abs(amount_uc) * unit_price_usd_micro + _HALF) // MICRO
    return -size if amount_uc < 0 else size


def earned_usd_micro(price_usd_micro: int, start_us: int, end_us: int, at_us: int) -> int:
    """Of a subscription's price for [start, end), what is earned by ``at``: straight-line, all of it at the end.

    The difference between two instants is what is earned between them, so days add up to their cycle exactly.
    """
    passed = min(max(at_us - start_us, 0), end_us - start_us)
    return price_usd_micro * passed // (end_us - start_us)


def bill(catalog: Catalog, wants: Sequence[Want]) -> Bill:
    """What ``wants`` cost. Raises :class:`InvalidRequest` on an unknown model, a negative count or mixed credit units."""
    for want in wants:
        if want.model not in catalog.models:
            raise InvalidRequest(f"There is no model {want.model!r}. The catalogue has: {', '.join(catalog.models)}.")
        if want.number < 0:
            raise InvalidRequest(f"number must not be negative, got {want.number} for {want.model}.")
    kinds = sorted({catalog.models[want.model].credit_unit for want in wants})
    if len(kinds) != 1:
        raise InvalidRequest(
            f"A bill is in one credit unit, got {', '.join(kinds) or 'none'}. Choose models of one unit."
        )
    used = [want for want in wants if want.number]
    credits_uc = sum(units.credits_to_uc(catalog.models[want.model].credits) * want.number for want in used)
    costs = [_cost(catalog, want) for want in used]
    known = [cost for cost in costs if cost is not None]
    return Bill(kinds[0], credits_uc, sum(known) if len(known) == len(costs) else None)


def _cost(catalog: Catalog, want: Want) -> int | None:
    return plans.provider_cost_usd_micro(catalog, want.model, want.number)


def fit(catalog: Catalog, plan: str, wants: Sequence[Want], region: str | None = None) -> Fit:
    """How a plan of monthly credits (``plan_credits``) stands to ``wants``: quota, monthly counts, free ones, bulk.

    Limits a day are not looked at: a month's wishes say nothing of days.
    """
    found, cost = catalog.plan(plan), bill(catalog, wants)
    quota_uc, price = plans.terms(found, region)
    lacks = []
    if cost.credits_uc > quota_uc:
        lacks.append(f"{units.format_credits(cost.credits_uc - quota_uc)} credits")
    for modality, limits in found.counts.items():
        count = sum(want.number for want in wants if catalog.models[want.model].modality == modality)
        if limits.per_month is not None and count > limits.per_month:
            lacks.append(f"{count - limits.per_month} {modality}")
    free = sum(want.number for want in wants if catalog.models[want.model].credits == 0)
    if found.free_per_month is not None and free > found.free_per_month:
        lacks.append(f"{free - found.free_per_month} free")
    if any(want.bulk and want.number for want in wants) and BULK not in found.entitlements:
        lacks.append(BULK)
    margin = None if price is None or cost.cost_usd_micro is None else price - cost.cost_usd_micro
    return Fit(plan, quota_uc, price, margin, tuple(lacks))


def fits(catalog: Catalog, wants: Sequence[Want], region: str | None = None) -> list[Fit]:
    """Every plan of monthly credits in the wants' unit: those that fit first, the cheapest first; unknown prices last."""
    unit = bill(catalog, wants).credit_unit
    found = [
        fit(catalog, name, wants, region)
        for name, plan in catalog.plans.items()
        if plan.quota_policy == "plan_credits" and plan.credit_unit == unit
    ]
    return sorted(found, key=lambda one: (not one.fits, one.price_usd_micro is None, one.price_usd_micro or 0))


def packs_for(catalog: Catalog, credits_uc: int) -> dict[str, int]:
    """The cheapest packs that hold at least ``credits_uc``: pack → how many. Nothing for nothing, or where none are sold."""
    if credits_uc <= 0 or not catalog.packs:
        return {}
    sizes = {name: units.credits_to_uc(pack.credits) for name, pack in catalog.packs.items()}
    prices = {name: units.dollars_to_usd_micro(pack.price_usd) for name, pack in catalog.packs.items()}
    step = gcd(*sizes.values())
    need = -(-credits_uc // step)
    # More than this many steps is told by the pack with the cheapest credit, and the rest by the table.
    most = 4 * max(sizes.values()) // step
    best = min(sizes, key=lambda name: (prices[name] / sizes[name], name))
    first = max(0, (need - most) // (sizes[best] // step)) if need > most else 0
    need -= first * (sizes[best] // step)
    cheapest: list[tuple[int, str | None]] = [(0, None)]
    for amount in range(1, need + 1):
        cheapest.append(
            min((cheapest[max(0, amount - sizes[name] // step)][0] + prices[name], name) for name in catalog.packs)
        )
    chosen = {best: first} if first else {}
    while need > 0:
        name = cheapest[need][1]
        assert name is not None, "every amount above 0 takes a pack"
        chosen[name] = chosen.get(name, 0) + 1
        need = max(0, need - sizes[name] // step)
    return {name: chosen[name] for name in catalog.packs if name in chosen}


def price_of(catalog: Catalog, chosen: Mapping[str, int]) -> int:
    """Micro-dollars of packs: pack → how many."""
    return sum(units.dollars_to_usd_micro(catalog.packs[name].price_usd) * number for name, number in chosen.items())


def offer(pack: Pack, smallest: Pack) -> Offer:
    """Bonus and saving of a pack against the smallest (SPEC 3): both computed, never typed in."""
    here, there = pack.price_usd / pack.credits, smallest.price_usd / smallest.credits
    price = units.round_half_even(units.dollars_to_usd_micro(pack.price_usd) * MICRO, units.credits_to_uc(pack.credits))
    return Offer(price, there / here - 1.0, 1.0 - here / there)


def smallest_pack(catalog: Catalog) -> Pack | None:
    """The pack with fewest credits, which the others are held against."""
    return min(catalog.packs.values(), key=lambda pack: pack.credits, default=None)


def pack_named(catalog: Catalog, amount_uc: int, unit_price_usd_micro: int) -> str | None:
    """The pack that was sold as a lot of ``amount_uc`` at this unit price; None where the catalogue has no such pack now."""
    for name, pack in catalog.packs.items():
        if units.credits_to_uc(pack.credits) == amount_uc and offer(pack, pack)[0] == unit_price_usd_micro:
            return name
    return None
