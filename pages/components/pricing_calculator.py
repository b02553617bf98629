"""What a customer's month would cost them and us, and which plan or packs would do. All figures are the catalogue's."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from credit_core.policy import pricing
from credit_core.policy.plans import Catalog
from credit_core.policy.pricing import Fit, Want
from pages.components import numbers, sentences, session, states, tables
from pages.components.text import escape_markdown, title_of

#: Sliders: key, what it counts, modality, most, default.
_SLIDERS = (
    ("texts", "Texts a month", "text", 2_000, 100),
    ("images", "Images a month", "image", 1_000, 40),
    ("videos", "Videos a month", "video", 300, 5),
    ("bulk", "Images in bulk a month", "image", 2_000, 0),
)
_UNIT = "calc_unit"


def show(catalog: Catalog) -> None:
    """Sliders on the left, what comes of them on the right."""
    units = sold_units(catalog)
    if not units:
        states.unknown("The catalogue sells neither plans of monthly credits nor packs.")
        return
    left, right = st.columns([2, 3])
    with left:
        unit = st.segmented_control(
            "Credits", units, default=units[0], format_func=title_of, key=_UNIT, bind="query-params", required=True
        )
        wants = _wants(catalog, unit)
    with right:
        if not wants:
            states.unknown("The catalogue has no model in these credits.")
            return
        bill = pricing.bill(catalog, wants)
        st.markdown(
            sentences.joined(
                f"**{numbers.credits(bill.credits_uc)} {escape_markdown(unit)} credits** a month, "
                f"**{numbers.money(bill.cost_usd_micro)}** of provider cost"
                + (" (a model's cost is not in the catalogue)" if bill.cost_usd_micro is None else "")
            )
        )
        plans = pricing.fits(catalog, wants)
        if plans:
            _plans(catalog, plans)
        else:
            _packs(catalog, bill)


def sold_units(catalog: Catalog) -> list[str]:
    """Credit units that a plan of monthly credits or a pack is sold in."""
    kinds = ("plan_credits", "prepaid") if catalog.packs else ("plan_credits",)
    return list(dict.fromkeys(plan.credit_unit for plan in catalog.plans.values() if plan.quota_policy in kinds))


def _wants(catalog: Catalog, unit: str) -> list[Want]:
    wants = []
    for key, label, modality, most, default in _SLIDERS:
        models = [name for name, row in catalog.models.items() if row.credit_unit == unit and row.modality == modality]
        if not models:
            continue
        models.sort(key=lambda name: (catalog.models[name].credits == 0, catalog.models[name].credits, name))
        with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
            number = st.slider(label, 0, most, default, key=f"calc_{key}", bind="query-params")
            model = st.selectbox(
                "Model", models, format_func=lambda name: _priced(catalog, name), key=f"calc_{key}_by_{unit}",
                label_visibility="collapsed", width=220,
                help="Credits for one stand beside the name.",
            )  # fmt: skip
        wants.append(Want(model, number, bulk=key == "bulk"))
    return wants


def _priced(catalog: Catalog, name: str) -> str:
    row = catalog.models[name]
    return f"{row.title} · {numbers.short(row.credits)}"


def _plans(catalog: Catalog, plans: list[Fit]) -> None:
    best = plans[0]
    if best.fits:
        title = escape_markdown(catalog.plans[best.plan].title)
        st.success(
            f"**{title}** fits, at {numbers.money(best.price_usd_micro)} a month: margin {numbers.money(best.margin_usd_micro)}.",
            icon=":material/check:",
        )
    else:
        st.warning("No plan allows for this much.", icon=":material/warning:")
    rows = pd.DataFrame(
        [
            (
                catalog.plans[one.plan].title,
                "fits" if one.fits else f"lacks {sentences.sentence_list(list(one.lacks))}",
                one.quota_uc,
                numbers.money(one.price_usd_micro),
                numbers.money(one.margin_usd_micro),
            )
            for one in plans
        ],
        columns=["plan", "verdict", "quota_uc", "price", "margin"],
    )
    tables.show(
        rows,
        [
            tables.Column("plan", "Plan", pinned=True),
            tables.Column("verdict", "Fits?"),
            tables.Column("quota_uc", "Credits", "credits_uc"),
            tables.Column("price", "Price"),
            tables.Column("margin", "Margin", help="Price less provider cost, where every wish is met."),
        ],
        key="calc_plans",
        zone=session.zone(),
        search=False,
        file_name="plans_that_fit",
        alt="Plans beside what is wished for.",
    )


def _packs(catalog: Catalog, bill: pricing.Bill) -> None:
    chosen = pricing.packs_for(catalog, bill.credits_uc)
    price = pricing.price_of(catalog, chosen)
    margin = None if bill.cost_usd_micro is None else price - bill.cost_usd_micro
    if chosen:
        named = " and ".join(
            f"{number} × {escape_markdown(catalog.packs[name].title)}" for name, number in chosen.items()
        )
        st.success(
            f"**{named}** at {numbers.money(price)} would do"
            + (f": margin {numbers.money(margin)}." if margin is not None else "."),
            icon=":material/check:",
        )
    smallest = pricing.smallest_pack(catalog)
    if smallest is None:
        return
    offers = [(pack, pricing.offer(pack, smallest)) for pack in catalog.packs.values()]
    rows = pd.DataFrame(
        [
            (pack.title, pack.credits, pack.price_usd, one.unit_price_usd_micro, one.bonus_share, one.saving_share)
            for pack, one in offers
        ],
        columns=["pack", "credits", "price_usd", "unit_price_usd_micro", "bonus", "saving"],
    )
    tables.show(
        rows,
        [
            tables.Column("pack", "Pack", pinned=True),
            tables.Column("credits", "Credits", "credits"),
            tables.Column("price_usd", "Price", "dollars"),
            tables.Column("bonus", "Bonus", "share", help="Credits more than the smallest pack's for the same money."),
            tables.Column(
                "saving", "Saving", "share", help="Money less than the smallest pack's for the same credits."
            ),
        ],
        key="calc_packs",
        zone=session.zone(),
        search=False,
        file_name="packs",
        alt="Packs with bonus and saving.",
    )
