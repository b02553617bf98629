"""Does it pay: revenue, provider cost and margin; what is owed; packs, welcome credits and the way to the first pack.

Revenue is what lots' credits were spent at, subscriptions straight-line over their cycles at the catalogue's prices, and
breakage. A plan without a known price has unknown revenue and margin, and so has any sum that it is part of: never 0.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any, NamedTuple

import pandas as pd
from sqlalchemy import and_, func, or_, select

from credit_core.analytics import measures, relations
from credit_core.analytics.days import reporting_days
from credit_core.analytics.filters import Filters
from credit_core.analytics.queries.burn import _running_until
from credit_core.analytics.queries.series import NONE, breakdown, covered, daily, value
from credit_core.analytics.sync import Facts
from credit_core.policy import plans, pricing
from credit_core.policy.lots import PACED_KINDS
from credit_core.policy.plans import Catalog
from credit_core.units import MICRO, to_us

#: Of a plan that no catalogue has, and of lots of accounts without one.
UNKNOWN_UNIT = "unknown"
#: Revenue that no model earned: subscriptions nobody used, and breakage.
UNUSED = " not used"
STEPS = ("guests", "signed_up", "welcome_spent", "first_pack", "repeat")


class Accounts(NamedTuple):
    """What came in and what it cost, micro-dollars. None is unknown, because of the plans ``unpriced`` and ``uncosted``."""

    lots_usd_micro: int
    subscriptions_usd_micro: int | None
    breakage_usd_micro: int
    revenue_usd_micro: int | None
    cost_usd_micro: int | None
    margin_usd_micro: int | None
    unpriced: tuple[str, ...]
    uncosted: tuple[str, ...]

    @property
    def margin_share(self) -> float | None:
        """Margin ÷ revenue; None where it is unknown or nothing came in."""
        if self.margin_usd_micro is None or not self.revenue_usd_micro:
            return None
        return self.margin_usd_micro / self.revenue_usd_micro


class Welcome(NamedTuple):
    """Welcome credits granted in the period, and what those users spent of welcome credits up to its end."""

    users: int
    spenders: int
    granted_uc: int
    spent_uc: int

    @property
    def spent_share(self) -> float:
        """Spent ÷ granted; 0 of nothing."""
        return self.spent_uc / self.granted_uc if self.granted_uc else 0.0


def accounts(facts: Facts, filters: Filters, catalog: Catalog) -> Accounts:
    """The whole, over the part of the period that the ledger covers."""
    rows = by_plan(facts, filters, catalog)
    subscriptions = _sum(rows["subscriptions_usd_micro"])
    lots, broken = (int(value(facts, filters, slug).numerator or 0) for slug in ("lot_revenue", "breakage"))
    cost = _sum(rows["cost_usd_micro"])
    revenue = None if subscriptions is None else lots + broken + subscriptions
    margin = None if revenue is None or cost is None else revenue - cost
    unpriced, uncosted = (
        tuple(str(row["plan"]) for row in rows.to_dict("records") if row[name] is None)
        for name in ("subscriptions_usd_micro", "cost_usd_micro")
    )
    return Accounts(lots, subscriptions, broken, revenue, cost, margin, unpriced, uncosted)


def by_plan(facts: Facts, filters: Filters, catalog: Catalog) -> pd.DataFrame:
    """Per plan with a cycle, spending or cost in the period, in order of its name.

    Columns plan, credit_unit, and as ``*_usd_micro`` (objects: integers, None unknown) lots, subscriptions, breakage,
    revenue, cost, margin; margin_share of the revenue.
    """
    subscribed = _subscriptions(facts, filters, catalog, _whole(facts, filters))
    parts = {name: _figures(facts, filters, slug, "plan") for name, slug in _OF_LEDGER.items()}
    there = {plan for figures in parts.values() for plan, number in figures.items() if number != 0} | set(subscribed)
    rows = []
    for plan in sorted(there):
        lots, broken = (parts[name].get(plan) or 0 for name in ("lots", "breakage"))
        earned = _sum(subscribed.get(plan, [_price_of_none(catalog, plan)]))
        cost = parts["cost"].get(plan, 0)
        revenue = None if earned is None else lots + broken + earned
        rows.append((plan, unit_of(catalog, plan), lots, earned, broken, *_margin(revenue, cost)))
    columns = ["plan", "credit_unit", "lots", "subscriptions", "breakage", *_MARGIN]
    return _money_frame(rows, columns)


def by_model(facts: Facts, filters: Filters, catalog: Catalog) -> pd.DataFrame:
    """Per model, and :data:`UNUSED`: model, and as ``*_usd_micro`` lots, subscriptions, revenue, cost, margin; margin_share.

    A plan's subscriptions are shared out by the monthly credits that each model took of it, so all rows add up to the
    whole. What no model took, and breakage, is not used.
    """
    lots, cost = (_figures(facts, filters, slug, "model") for slug in ("lot_revenue", "provider_cost"))
    subscribed = {
        plan: _sum(days) for plan, days in _subscriptions(facts, filters, catalog, _whole(facts, filters)).items()
    }
    shares, unused, unknown = _shared(_paced_by_model(facts, filters), subscribed)
    rows = []
    for model in sorted({*lots, *cost, *shares}):
        earned = None if model in unknown else shares.get(model, 0)
        revenue = None if earned is None else (lots.get(model) or 0) + earned
        taken = cost.get(model, 0)
        if revenue or taken or revenue is None or taken is None:
            rows.append((model, lots.get(model) or 0, earned, *_margin(revenue, taken)))
    broken = int(value(facts, filters, "breakage").numerator or 0)
    left = None if unused is None else unused + broken
    if left is None or left:
        rows.append((UNUSED, 0, left, *_margin(left, 0)))
    return _money_frame(rows, ["model", "lots", "subscriptions", *_MARGIN])


def by_day(facts: Facts, filters: Filters, catalog: Catalog) -> pd.DataFrame:
    """Per reporting day: day, revenue_usd_micro, cost_usd_micro; None where unknown, or not reached yet."""
    days = reporting_days(filters.period, facts.zone)
    part = covered(facts, filters.period)
    first, last = to_us(part.start), to_us(part.end)
    edges = [min(max(edge, first), last) for edge in (*(day.start_us for day in days), days[-1].end_us)]
    subscribed = _subscriptions(facts, filters, catalog, edges)
    of_ledger = {name: daily(facts, filters, slug)["numerator"] for name, slug in _OF_DAYS.items()}
    rows = []
    for number, day in enumerate(days):
        lots, broken, cost = (_integer(of_ledger[name].iloc[number]) for name in ("lots", "breakage", "cost"))
        earned = _sum(amounts[number] for amounts in subscribed.values())
        reached = edges[number] < edges[number + 1]
        # Subscriptions earn on days without any entry, which cost nothing.
        revenue = (lots or 0) + (broken or 0) + earned if reached and earned is not None else None
        rows.append((day.day, revenue, (0 if lots is None else cost) if reached else None))
    frame = pd.DataFrame(rows, columns=["day", "revenue_usd_micro", "cost_usd_micro"], dtype="object")
    return frame.assign(day=pd.to_datetime(frame["day"]))


def liability(facts: Facts, filters: Filters, catalog: Catalog) -> pd.DataFrame:
    """What customers hold at the end of the period: lot_kind, credit_unit, outstanding_uc, liability_usd_micro.

    Credits of a subscription are earned with its cycle and not lot by lot: what is owed for them is missing.
    """
    keys = ["lot_kind", "plan"]
    held = breakdown(facts, filters, "outstanding", keys)[[*keys, "numerator"]]
    owed = breakdown(facts, filters, "liability", keys)[[*keys, "numerator"]]
    frame = held.merge(owed, on=keys, suffixes=("_uc", "_usd")).dropna(subset=["lot_kind"])
    frame["credit_unit"] = [unit_of(catalog, plan) for plan in frame["plan"]]
    grouped = frame.groupby(["lot_kind", "credit_unit"], as_index=False)[["numerator_uc", "numerator_usd"]].sum()
    named = grouped.rename(columns={"numerator_uc": "outstanding_uc", "numerator_usd": "liability_usd_micro"})
    paced = named["lot_kind"].isin(PACED_KINDS)
    named["liability_usd_micro"] = named["liability_usd_micro"].astype("Int64").mask(paced)
    return named[(named["outstanding_uc"] != 0) | (named["liability_usd_micro"].fillna(0) != 0)].reset_index(drop=True)


def packs(facts: Facts, filters: Filters, catalog: Catalog) -> pd.DataFrame:
    """Packs sold in the period: pack (None: not in the catalogue any more), credits_uc, sold, buyers, sales_usd_micro."""
    f = relations.facts.c
    amount, price = f.d_avail_uc, f.unit_price_usd_micro
    statement = (
        select(amount, price, func.count().label("sold"), func.count(f.user_id.distinct()).label("buyers"))
        .where(relations.behind(relations.facts, filters), measures.sold(f))
        .group_by(amount, price)
        .order_by(func.count().desc(), amount, price)
    )
    rows = [
        (
            pricing.pack_named(catalog, amount_uc, unit_price),
            amount_uc,
            sold,
            buyers,
            sold * pricing.value_usd_micro(amount_uc, unit_price),
        )
        for amount_uc, unit_price, sold, buyers in facts.rows(statement)
    ]
    return pd.DataFrame(rows, columns=["pack", "credits_uc", "sold", "buyers", "sales_usd_micro"])


def welcome(facts: Facts, filters: Filters) -> Welcome:
    """What became of the welcome credits granted in the period."""
    f = relations.facts.c
    end = f.occurred_at < to_us(filters.period.end)
    gift = (f.lot_kind == "welcome") & end & relations.in_dimensions(relations.facts, filters)
    granted = measures.total(measures.moved_uc("grant", 1))(f)
    per_user = (
        select(
            f.account_id,
            granted.label("granted_uc"),
            measures.total(measures.spent_uc)(f).label("spent_uc"),
            func.min(f.occurred_at).filter(f.kind == "grant").label("granted_at"),
        )
        .where(gift)
        .group_by(f.account_id)
        .subquery("per_user")
    )
    u = per_user.c
    spent = measures.total(lambda _: u.spent_uc)(u)
    statement = select(
        func.count(), func.count().filter(u.spent_uc > 0), measures.total(lambda _: u.granted_uc)(u), spent
    ).where(u.granted_at >= to_us(filters.period.start))
    return Welcome(*(int(number) for number in facts.rows(statement)[0]))


def funnel(facts: Facts, filters: Filters) -> pd.DataFrame:
    """Those who came in the period, and how far they got by its end: step (of :data:`STEPS`), users, before.

    Guests are all guests, whichever plans are kept: they have none yet.

    ``before`` are the users of the step before; those who signed up were not all guests (:func:`from_guests`).
    """
    came = _comers(facts, filters)
    guests, signed = came[came["guest"]], came[~came["guest"]]
    counts = [len(guests), len(signed), *(int(signed[name].sum()) for name in STEPS[2:])]
    before = [None, None, *counts[1:-1]]
    return pd.DataFrame({"step": STEPS, "users": counts, "before": pd.array(before, dtype="Int64")})


def from_guests(facts: Facts, filters: Filters) -> int:
    """How many of those who signed up in the period had been guests before."""
    came = _comers(facts, filters)
    return int(came.loc[~came["guest"], "linked"].sum())


def cohorts(facts: Facts, filters: Filters) -> pd.DataFrame:
    """By week of sign-up (its Monday): week, signed_up, from_guests, welcome_spent, first_pack, repeat."""
    came = _comers(facts, filters)
    signed = came[~came["guest"]]
    days = signed["created_at"].dt.tz_localize(None).dt.normalize()
    weeks = days - pd.to_timedelta(days.dt.day_of_week, unit="D")
    grouped = signed.assign(week=weeks, signed_up=1).groupby("week", as_index=False)
    frame = grouped[["signed_up", "linked", *STEPS[2:]]].sum().rename(columns={"linked": "from_guests"})
    return frame.astype(dict.fromkeys(frame.columns[1:], "int64"))


def in_dollars(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with a column ``*_usd`` beside each ``*_usd_micro``: dollars, for display; missing where unknown."""
    amounts = [name for name in frame.columns if str(name).endswith("_usd_micro")]
    shown = {name.removesuffix("_micro"): pd.to_numeric(frame[name]).astype("float64") / MICRO for name in amounts}
    return frame.assign(**shown)


def steps(whole: Accounts) -> pd.DataFrame:
    """From revenue to margin, in order: step, amount_usd (missing where unknown), sum (a total of those before it)."""
    rows = [
        ("subscriptions", whole.subscriptions_usd_micro, False),
        ("packs_used", whole.lots_usd_micro, False),
        ("breakage", whole.breakage_usd_micro, False),
        ("revenue", whole.revenue_usd_micro, True),
        ("provider_cost", None if whole.cost_usd_micro is None else -whole.cost_usd_micro, False),
        ("margin", whole.margin_usd_micro, True),
    ]
    frame = pd.DataFrame(rows, columns=["step", "amount_usd_micro", "sum"]).astype({"amount_usd_micro": "object"})
    return in_dollars(frame)[["step", "amount_usd", "sum"]]


def unit_of(catalog: Catalog, plan: str) -> str:
    """The credit unit of a plan; :data:`UNKNOWN_UNIT` where the catalogue does not have it any more."""
    return catalog.plans[plan].credit_unit if plan in catalog.plans else UNKNOWN_UNIT


_OF_LEDGER = {"lots": "lot_revenue", "breakage": "breakage", "cost": "provider_cost", "requests": "requests"}
_OF_DAYS = {"lots": "lot_revenue", "breakage": "breakage", "cost": "provider_cost"}
_MARGIN = ("revenue", "cost", "margin", "margin_share")
#: Amount, or None where a price is unknown.
_Amounts = list[int | None]


def _figures(facts: Facts, filters: Filters, slug: str, by: str) -> dict[str, int | None]:
    found = breakdown(facts, filters, slug, by)
    names = [NONE if name is None or name != name else str(name) for name in found[by].astype(object)]
    return {name: _integer(number) for name, number in zip(names, found["numerator"], strict=True)}


def _whole(facts: Facts, filters: Filters) -> list[int]:
    part = covered(facts, filters.period)
    return [to_us(part.start), to_us(part.end)]


def _subscriptions(facts: Facts, filters: Filters, catalog: Catalog, edges: list[int]) -> dict[str, _Amounts]:
    """Plan → what its subscriptions earned between each two of ``edges`` (microseconds); None where the price is unknown."""
    c, a = relations.cycles.c, relations.accounts.c
    until = _running_until().label("until")
    running = (a.cycle_no == c.cycle_no).label("running")
    # Many accounts share their cycle's bounds: each of them is worked out once.
    statement = (
        select(c.plan, c.region, c.start_at, c.end_at, until, running, a.paused_at.is_not(None), func.count())
        .join_from(relations.cycles, relations.accounts, a.account_id == c.account_id)
        .where(c.start_at < edges[-1], relations.of_accounts(relations.cycles, filters))
        .group_by(c.plan, c.region, c.start_at, c.end_at, until, running, a.paused_at.is_not(None))
    )
    found: dict[str, _Amounts] = {}
    for plan, region, start, end, stops, now, paused, number in facts.rows(statement):
        runs_on = now and not paused and plan in catalog.plans and not catalog.plans[plan].cycled
        last = edges[-1] if runs_on else stops
        if last <= edges[0]:
            continue
        price = _price(catalog, plan, region)
        amounts = found.setdefault(plan, [0] * (len(edges) - 1))
        for place, (low, high) in enumerate(itertools.pairwise(edges)):
            known = amounts[place]
            amounts[place] = (
                None
                if known is None or price is None
                else known
                + number * (_earned(price, start, end, min(high, last)) - _earned(price, start, end, min(low, last)))
            )
    return found


def _earned(price: int, start: int, end: int, at: int) -> int:
    """Straight-line, cycle after cycle of the same length where a plan's cycle is never closed."""
    whole = max(0, (at - start) // (end - start))
    return whole * price + pricing.earned_usd_micro(price, start, end, at - whole * (end - start))


def _price(catalog: Catalog, plan: str, region: str) -> int | None:
    """Per cycle, micro-dollars. Prepaid plans have no subscription; 0 is theirs."""
    if plan not in catalog.plans:
        return None
    found = catalog.plans[plan]
    price = plans.terms(found, region).price_usd_micro
    return 0 if price is None and found.quota_policy == "prepaid" else price


def _price_of_none(catalog: Catalog, plan: str) -> int | None:
    """What a plan without a cycle in the period earned: nothing, where it is known to be."""
    return 0 if plan in catalog.plans else None


def _paced_by_model(facts: Facts, filters: Filters) -> dict[str, dict[str, int]]:
    """Plan → model → monthly and rollover micro-credits spent."""
    f = relations.facts.c
    spent = measures.total(measures.spent_uc)(f)
    statement = (
        select(f.plan, func.coalesce(f.model, NONE), spent)
        .where(relations.behind(relations.facts, filters), f.lot_kind.in_(PACED_KINDS))
        .group_by(f.plan, f.model)
        .having(spent > 0)
    )
    found: dict[str, dict[str, int]] = {}
    for plan, model, amount in facts.rows(statement):
        found.setdefault(plan, {})[model] = int(amount)
    return found


def _shared(
    weights: dict[str, dict[str, int]], subscribed: dict[str, int | None]
) -> tuple[dict[str, int], int | None, set[str]]:
    """Subscriptions by model, what no model took (None: unknown), and the models whose part is unknown."""
    shares: dict[str, int] = {}
    unused: int | None = 0
    unknown: set[str] = set()
    for plan in {*weights, *subscribed}:
        earned, models = subscribed.get(plan), weights.get(plan, {})
        if earned is None:
            unknown |= set(models)
            unused = unused if models else None
            continue
        if not models:
            unused = None if unused is None else unused + earned
            continue
        left, whole = earned, sum(models.values())
        # Largest last, which takes what rounding down leaves.
        for model, amount in sorted(models.items(), key=lambda one: (one[1], one[0]))[:-1]:
            part = earned * amount // whole
            shares[model] = shares.get(model, 0) + part
            left -= part
        most = max(models.items(), key=lambda one: (one[1], one[0]))[0]
        shares[most] = shares.get(most, 0) + left
    return shares, unused, unknown


def _comers(facts: Facts, filters: Filters) -> pd.DataFrame:
    """Users who came in the period: created_at, guest, linked (had been a guest), welcome_spent, first_pack, repeat."""
    f, u, a = relations.facts.c, relations.users.c, relations.accounts.c
    start, end = to_us(filters.period.start), to_us(filters.period.end)
    did = (
        select(
            f.user_id,
            func.sum(measures.spent_uc(f)).filter(f.lot_kind == "welcome").label("spent_uc"),
            func.count().filter(measures.sold(f)).label("packs"),
        )
        .where(f.occurred_at < end, f.user_id.is_not(None))
        .group_by(f.user_id)
        .subquery("did")
    )
    # Guests have no plan yet, and the one they are kept under counts in a unit of its own.
    anyone = filters.narrowed(plans=(), policies=(), unit=None, within=None)
    kept = or_(
        relations.of_accounts(relations.accounts, filters),
        and_(a.kind == "guest", relations.of_accounts(relations.accounts, anyone)),
    )
    statement = (
        select(u.created_at, a.kind, u.guest_session, did.c.spent_uc, did.c.packs)
        .select_from(
            relations.users.join(relations.accounts, a.account_id == u.account_id).outerjoin(
                did, did.c.user_id == u.user_id
            )
        )
        .where(u.created_at >= start, u.created_at < end, kept)
        .order_by(u.created_at, u.user_id)
    )
    found = facts.frame(statement)
    bought = found["packs"].fillna(0)
    return found.assign(
        guest=found["kind"] == "guest",
        linked=found["guest_session"].notna(),
        welcome_spent=found["spent_uc"].fillna(0) > 0,
        first_pack=bought > 0,
        repeat=bought > 1,
    )


def _margin(revenue: int | None, cost: int | None) -> tuple[int | None, int | None, int | None, float | None]:
    if revenue is None or cost is None:
        return revenue, cost, None, None
    return revenue, cost, revenue - cost, (revenue - cost) / revenue if revenue > 0 else None


def _money_frame(rows: list[tuple[Any, ...]], columns: list[str]) -> pd.DataFrame:
    whole = {"plan", "model", "credit_unit", "margin_share"}
    names = [name if name in whole else f"{name}_usd_micro" for name in columns]
    return pd.DataFrame(rows, columns=names, dtype="object").astype({"margin_share": "float64"})


def _sum(amounts: Iterable[int | None]) -> int | None:
    """The sum, unknown where a part is."""
    known = list(amounts)
    return None if any(amount is None for amount in known) else sum(amount for amount in known if amount is not None)


def _integer(number: Any) -> int | None:
    return None if number is None or number is pd.NA or number != number else int(number)
