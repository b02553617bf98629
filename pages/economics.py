"""Economics: does it pay? Revenue, provider cost and margin, what is owed, packs, the way to the first one, and prices."""

import streamlit as st

from credit_core.analytics import metrics, queries
from credit_core.analytics.queries import economics, funnel, margins, money
from pages.components import (
    charts,
    drill,
    filters,
    kpi,
    numbers,
    plots,
    price_change,
    pricing_calculator,
    sentences,
    session,
    states,
    tables,
)
from pages.components.answers import ask
from pages.components.metric_cards import Wanted, cards
from pages.components.session import guard

guard()

STEPS = {
    "guests": "Guests", "signed_up": "Signed up", "welcome_spent": "Spent welcome credits", "first_pack": "Bought a pack",
    "repeat": "Bought again",
}  # fmt: skip
REVENUE = kpi.Help(
    "Credits spent at the unit price of their lots, subscriptions straight-line over their cycles, and breakage. "
    "Unknown where a plan's price is.", source="SPEC 6, revenue", unit="dollars",
)  # fmt: skip
MARGIN = kpi.Help("Revenue less provider cost. Unknown where either is.", source="SPEC 6, margin", unit="dollars")
MONEY = (
    tables.Column("revenue_usd", "Revenue", "dollars"),
    tables.Column("cost_usd", "Provider cost", "dollars"),
    tables.Column("margin_usd", "Margin", "dollars"),
    tables.Column("margin_share", "Margin, %", "share", help="Margin ÷ revenue."),
)

st.title("Economics")
chosen, facts, zone = filters.current(), session.facts(), session.zone()
catalog = session.core().deployment.catalog
if session.ledger().as_of is None:
    filters.no_entries()
    st.stop()


def sentence(whole: economics.Accounts) -> None:
    """Whether it pays, in words."""
    clauses = []
    if whole.revenue_usd_micro is not None:
        clauses.append(f"**{numbers.money(whole.revenue_usd_micro)}** came in{margin_words(whole)}")
    if whole.unpriced:
        have = "has" if len(whole.unpriced) == 1 else "have"
        clauses.append(f"revenue is unknown: {sentences.listing(whole.unpriced)} {have} no price in the catalogue")
    if whole.uncosted:
        clauses.append(f"provider cost is unknown for {sentences.listing(whole.uncosted)}")
    st.markdown(sentences.joined(*clauses))
    if whole.unpriced:
        st.caption("Type prices into data/catalog/plans.toml, or filter to plans that have one.")


def margin_words(whole: economics.Accounts) -> str:
    if whole.margin_usd_micro is None or whole.cost_usd_micro is None:
        return ""
    cost = f", {numbers.money(whole.cost_usd_micro)} went to providers"
    share = whole.margin_share
    return cost if share is None else f"{cost}: a margin of **{sentences.percent(share)}**"


def summary(whole: economics.Accounts) -> list[kpi.Card]:
    """Five figures."""
    before = ask(economics.accounts, chosen.compared(), catalog) if chosen.compare else None

    def card(label: str, name: str, better: numbers.Better, about: kpi.Help) -> kpi.Card:
        now, then = getattr(whole, name), None if before is None else getattr(before, name)
        return kpi.Card(label, numbers.money_headline(now), change=numbers.change(now, then, better=better), help=about)

    return [
        card("Revenue", "revenue_usd_micro", "up", REVENUE),
        card("Provider cost", "cost_usd_micro", "down", kpi.help_of(metrics.metric("provider_cost"))),
        card("Margin", "margin_usd_micro", "up", MARGIN),
        *cards([Wanted("pack_sales"), Wanted("liability", "Owed to customers")], chosen),
    ]


def flow(whole: economics.Accounts) -> None:
    """From what came in to what was left, and day by day."""
    steps, days = st.columns([2, 3])
    with steps:
        st.subheader("From revenue to margin")
        fig = charts.waterfall(
            economics.steps(whole), step="step", amount="amount_usd", total="sum", unit=charts.DOLLARS
        )
        plots.show(fig, key="waterfall", alt="Subscriptions, packs used and breakage, less provider cost, to margin.")
    with days:
        st.subheader("Revenue and provider cost a day")
        frame = money.in_dollars(ask(economics.by_day, chosen, catalog))
        long = frame.melt("day", ["revenue_usd", "cost_usd"], "flow", "amount")
        long = long.assign(flow=long["flow"].map({"revenue_usd": "revenue", "cost_usd": "provider_cost"}))
        if long["amount"].isna().all():
            states.unknown("Neither revenue nor provider cost is known on any day.")
            return
        fig = charts.time_lines(
            long, x="day", y="amount", series="flow", unit=charts.DOLLARS.per("day"), zone=zone, span=filters.span(),
            marks=charts.marks_from(ask(queries.release_marks, chosen)), domain=("provider_cost", "revenue"),
        )  # fmt: skip
        plots.show(fig, key="money_by_day", alt="Revenue and provider cost by day.", on_days=filters.set_days)
        if note := sentences.unfinished(session.ledger().as_of, chosen.period.end, zone):
            st.caption(note)


def plans() -> None:
    """Each plan's money."""
    st.subheader("By plan")
    rows = money.in_dollars(ask(economics.by_plan, chosen, catalog))
    tables.show(
        rows,
        [
            tables.Column("plan", "Plan", "slug", pinned=True),
            tables.Column("credit_unit", "Credits", "slug"),
            tables.Column("subscriptions_usd", "Subscriptions", "dollars", help="Straight-line over the cycle."),
            tables.Column("lots_usd", "Packs used", "dollars", help="At the unit price of the lots consumed."),
            tables.Column("breakage_usd", "Breakage", "dollars", help="Paid credits that expired or were clamped."),
            *MONEY,
        ],
        key="money_by_plan",
        zone=zone,
        file_name="margin_by_plan",
        alt="Revenue, provider cost and margin by plan.",
    )


def models() -> None:
    """Each model's money."""
    st.subheader("By model")
    rows = money.in_dollars(ask(economics.by_model, chosen, catalog))
    rows = rows.assign(model=rows["model"].replace({economics.UNUSED: "not used"}))
    tables.show(
        rows,
        [
            tables.Column("model", "Model", pinned=True),
            tables.Column(
                "subscriptions_usd",
                "Subscriptions",
                "dollars",
                help="Shared out by the monthly credits each model took.",
            ),
            tables.Column("lots_usd", "Packs used", "dollars"),
            *MONEY,
        ],
        key="money_by_model",
        zone=zone,
        file_name="margin_by_model",
        alt="Revenue, provider cost and margin by model.",
    )


def accounts() -> None:
    """Accounts by what they leave, those that cost most."""
    st.subheader("By account")
    rows = money.in_dollars(ask(margins.by_account, chosen, catalog))
    if rows.empty:
        states.unknown("No account did anything in this period with these filters.")
        return
    rows = rows.assign(user_id=[account.removeprefix("user:") for account in rows["account_id"]])
    tables.show(
        rows,
        [
            tables.Column("user_id", "Account", pinned=True),
            tables.Column("plan", "Plan", "slug"),
            tables.Column("subscriptions_usd", "Subscription", "dollars", help="Straight-line over the cycle."),
            tables.Column("lots_usd", "Packs used", "dollars"),
            *MONEY,
        ],
        key="money_by_account",
        zone=zone,
        file_name="margin_by_account",
        alt="Accounts by margin, least first.",
    )
    st.caption("Least margin first, of the 1 000 accounts that cost providers most.")


def owed() -> None:
    """What customers hold, and what it was sold for."""
    st.subheader("Outstanding and lost, by lot")
    rows = money.in_dollars(ask(economics.liability, chosen, catalog))
    if rows.empty:
        states.unknown("Nobody holds any credits.")
        return
    tables.show(
        rows,
        [
            tables.Column("lot_kind", "Lot", "slug", pinned=True),
            tables.Column("credit_unit", "Credits", "slug"),
            tables.Column("outstanding_uc", "Outstanding", "credits_uc"),
            tables.Column(
                "liability_usd",
                "Sold for",
                "dollars",
                help="At the unit price of the lots; gifts are 0. Monthly credits are earned with their cycle.",
            ),
            tables.Column("expired_uc", "Expired", "credits_uc", help="In the period."),
            tables.Column("clamped_uc", "Clamped", "credits_uc", help="In the period: over a cap, or of a closed lot."),
            tables.Column(
                "breakage_usd",
                "Breakage",
                "dollars",
                help="What expired and was clamped, at the unit price of its lots.",
            ),
        ],
        key="owed",
        zone=zone,
        search=False,
        file_name="outstanding_by_lot",
        alt="Outstanding credits and liability by kind of lot.",
    )


def packs() -> None:
    """Packs sold."""
    st.subheader("Packs sold")
    rows = money.in_dollars(ask(economics.packs, chosen, catalog))
    if rows.empty:
        states.unknown("No pack was sold in this period with these filters.")
        return
    titles = {name: pack.title for name, pack in catalog.packs.items()}
    tables.show(
        rows.assign(pack=[titles.get(name, "no longer sold") for name in rows["pack"]]),
        [
            tables.Column("pack", "Pack", pinned=True),
            tables.Column("credits_uc", "Credits", "credits_uc"),
            tables.Column("sold", "Sold", "count"),
            tables.Column("buyers", "Buyers", "count"),
            tables.Column("sales_usd", "Sales", "dollars"),
        ],
        key="packs",
        zone=zone,
        search=False,
        file_name="packs_sold",
        alt="Packs sold, with buyers and sales.",
    )


def way() -> None:
    """How people get to their first pack, and what welcome credits did."""
    st.subheader("From guest to repeat buyer")
    frame = ask(funnel.funnel, chosen)
    if not frame["users"].sum():
        states.unknown("Nobody came in this period with these filters.")
        return
    said = []
    if linked := ask(funnel.from_guests, chosen):
        said.append(f"{numbers.count(linked)} of those who signed up had been guests before")
    gift = ask(funnel.welcome, chosen)
    if gift.users:
        used = sentences.percent(gift.spent_share)
        said.append(
            f"{sentences.counted(gift.users, 'user')} got {numbers.credits(gift.granted_uc)} welcome credits and spent "
            f"{used} of them; {numbers.count(gift.spenders)} spent any"
        )
    st.markdown(sentences.joined(*said))
    steps, weeks = st.columns(2)
    with steps:
        shown = frame.assign(step=frame["step"].map(STEPS))
        fig = charts.funnel(shown, step="step", count="users", before="before", unit=charts.COUNT.titled("users"))
        plots.show(fig, key="funnel", alt="Users by step, from guests to repeat buyers.")
        st.caption("Of those who came in this period, up to its end. Shares are of the step before.")
    with weeks:
        rows = ask(funnel.cohorts, chosen)
        if rows.empty:
            states.unknown("Nobody signed up in this period.")
            return
        tables.show(
            rows,
            [
                tables.Column("week", "Week of", "day", pinned=True),
                tables.Column("signed_up", "Signed up", "count"),
                tables.Column("from_guests", "Were guests", "count"),
                tables.Column("welcome_spent", "Welcome", "count", help="Spent welcome credits."),
                tables.Column("first_pack", "First pack", "count"),
                tables.Column("repeat", "Repeat", "count"),
            ],
            key="cohorts",
            zone=zone,
            search=False,
            file_name="funnel_by_week",
            alt="Funnel by week of sign-up.",
        )


with states.loading(420):
    whole = ask(economics.accounts, chosen, catalog)
sentence(whole)
flow(whole)
kpi.row(summary(whole), key="economics")
plans()
models()
accounts()
owed()
packs()
way()
st.subheader("What another price would have meant")
price_change.show(chosen, catalog, list(ask(economics.by_plan, chosen, catalog)["plan"]))
st.subheader("Pricing calculator")
pricing_calculator.show(catalog)
drill.entries(chosen, "economics")
