"""What another price of a plan would have meant in the period, on the usage that there was."""

from __future__ import annotations

import streamlit as st

from credit_core.analytics.filters import Filters
from credit_core.analytics.queries import margins
from credit_core.policy.plans import Catalog
from pages.components import kpi, numbers, sentences, states
from pages.components.answers import ask
from pages.components.text import escape_markdown, title_of

_PLAN, _PRICE = "price_of", "price"


def show(chosen: Filters, catalog: Catalog, plans: list[str]) -> None:
    """A plan, a price, and what would have come of it. ``plans``: those with usage in the period."""
    sold = [name for name in plans if name in catalog.plans and catalog.plans[name].quota_policy != "prepaid"]
    if not sold:
        states.unknown("No plan that is sold by the cycle was used in this period.")
        return
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small", key="price_bar"):
        plan = st.selectbox("Plan", sold, format_func=title_of, key=_PLAN, bind="query-params", width=220)
        listed = catalog.plans[plan].price_usd
        price = st.number_input(
            "Price per cycle, dollars", min_value=0.0, max_value=100_000.0, value=listed or 10.0, step=1.0, format="%.2f",
            key=f"{_PRICE}_{plan}", width=220,
        )  # fmt: skip
    found = ask(margins.at_price, chosen, catalog, plan, float(price))
    name = escape_markdown(title_of(plan))
    if not found.cycles:
        states.unknown(f"No cycle of {title_of(plan)} ran in this period with these filters.")
        return
    now = "an unknown amount, for want of a price" if found.revenue_now is None else numbers.money(found.revenue_now)
    clauses = [
        f"at **{numbers.in_dollars(price)}** a cycle {name} would have earned **{numbers.money(found.revenue_then)}** instead of {now}"
    ]
    if found.break_even_usd_micro:
        clauses.append(f"it pays for its providers from **{numbers.money(found.break_even_usd_micro)}** a cycle on")
    if found.may_leave_share is not None:
        clauses.append(
            f"that is worth it unless more than {sentences.percent(found.may_leave_share)} of its subscribers leave over it"
        )
    st.markdown(sentences.joined(*clauses))
    kpi.row(
        [
            kpi.Card("Cycles in the period", numbers.decimal(found.cycles, 1), unit="of its accounts, in whole cycles"),
            kpi.Card(
                "Revenue at that price", numbers.money_headline(found.revenue_then),
                change=numbers.change(found.revenue_then, found.revenue_now, better="up")
            ),
            kpi.Card(
                "Margin at that price", numbers.money_headline(found.margin_then),
                change=numbers.change(found.margin_then, found.margin_now, better="up"),
                unit="" if found.margin_share_then is None else f"{numbers.share(found.margin_share_then)} of revenue",
            ),
        ],
        key="price_change",
    )  # fmt: skip
    st.caption(
        "Subscriptions straight-line over their cycles, the same price in every region, and the usage that there was."
    )
