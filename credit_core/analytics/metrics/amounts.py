"""Metrics of credits and money: what was spent, granted, lost, sold and is owed."""

from __future__ import annotations

from sqlalchemy import case

from credit_core.analytics import measures as m
from credit_core.analytics.metrics.declaration import POSTED, Metric, amount, money, number
from credit_core.units import MICRO

#: What moved, in credits and in provider dollars.
CREDITS: tuple[Metric, ...] = (
    amount("spent", "Credits spent", "neutral", "settle + import − refund", "SPEC 2, Spent", m.spent_uc),
    Metric(
        slug="burn_rate",
        title="Burn rate",
        unit="credits per day",
        format="credits",
        direction="neutral",
        definition="credits spent / elapsed days of the period",
        source="SPEC 6, burn rate",
        numerator=m.total(m.spent_uc),
        dimensions=POSTED,
        summable=POSTED,
        scale=MICRO,
        per_day=True,
    ),
    amount(
        "granted",
        "Granted",
        "neutral",
        "credits granted, into any kind of lot",
        "SPEC 2, grant",
        m.moved_uc("grant", 1),
    ),
    amount(
        "expired",
        "Expired",
        "down",
        "credits that expired, at a reset or with their lot",
        "SPEC 2, expire",
        m.moved_uc("expire", -1),
    ),
    amount(
        "clamped",
        "Clamped",
        "down",
        "credits taken because they were over a cap",
        "SPEC 2, clamp",
        m.moved_uc("clamp", -1),
    ),
    Metric(
        slug="provider_cost",
        title="Provider cost",
        unit="dollars",
        format="dollars",
        direction="down",
        definition="what providers charged, for failed, partial and late generations too; unknown where no settle has a cost",
        source="SPEC 2.1, cost_usd_micro",
        numerator=m.provider_cost,
        dimensions=POSTED,
        summable=("day", *POSTED),
        scale=MICRO,
    ),
    Metric(
        slug="open_holds_credits",
        title="Credits in open holds",
        unit="credits",
        format="credits",
        direction="down",
        definition="Σ d_held up to the end of the period",
        source="SPEC 2, held",
        numerator=m.total(lambda f: f.d_held_uc),
        dimensions=POSTED,
        summable=POSTED,
        scale=MICRO,
        span="to_date",
    ),
)  # fmt: skip
#: What was sold and what it is worth.
SALES: tuple[Metric, ...] = (
    number(
        "packs_sold", "Packs sold", "packs", "up", "purchases granted", "SPEC 3, packs", m.sold, ("plan", "region", "user_id"),
    ),
    money(
        "pack_sales", "Pack sales", "up", "packs sold, at the unit price of their lots", "SPEC 3, packs",
        m.at_price(lambda f: case((m.sold(f), f.d_avail_uc), else_=0)),
    ),
    money(
        "lot_revenue", "Revenue of lots", "up", "credits spent, at the unit price of the lots they came from", "SPEC 6, revenue",
        m.at_price(m.spent_uc),
    ),
    money(
        "breakage", "Breakage", "neutral", "expired and clamped credits, at the unit price of their lots", "SPEC 6, revenue",
        m.at_price(lambda f: case((f.kind.in_(("expire", "clamp")), -f.d_avail_uc), else_=0)),
    ),
    money(
        "liability", "Outstanding liability", "neutral", "credits available and held at the end of the period, at the unit price of "
        "their lots", "SPEC 6, revenue", m.at_price(m.outstanding_uc), "to_date",
    ),
    Metric(
        slug="outstanding",
        title="Credits outstanding",
        unit="credits",
        format="credits",
        direction="neutral",
        definition="credits available and held at the end of the period",
        source="SPEC 6, outstanding liability",
        numerator=m.total(m.outstanding_uc),
        dimensions=POSTED,
        summable=POSTED,
        scale=MICRO,
        span="to_date",
    ),
)  # fmt: skip
