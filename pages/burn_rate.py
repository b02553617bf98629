"""Burn rate: who spends what, against pace? From the fleet to a plan, a model and a user."""

from collections.abc import Callable

import pandas as pd
import streamlit as st

from credit_core.analytics import queries
from credit_core.analytics.filters import Filters
from credit_core.analytics.queries import series, standing
from credit_core.analytics.queries.surplus import LISTED
from pages.components import charts, drill, filters, kpi, numbers, plots, sentences, session, states, tables
from pages.components.answers import ask
from pages.components.metric_cards import Wanted, cards, figures
from pages.components.session import guard
from pages.components.text import escape_markdown

guard()

ALL_MODELS = "All models"
MODEL = "model"
_USER = "_user_of_bar"
UNNAMED = "no model named"
AXIS, BY_DATE, BY_CYCLE = "along", "By date", "By day of the cycle"
MOST_MODELS, MODELS_IN_A_ROW = 6, 2
#: What a day's burn can be parted by.
PARTS, PARTED = (
    {"plan": "Plan", "model": "Model", "modality": "Modality", "region": "Region", "team_id": "Team", "arm": "Arm"},
    "parts",
)

SPENDING = (
    tables.Column("spent_credits", "Spent", "credits", help="Settled and imported less refunded, credits."),
    tables.Column("credits_per_day", "A day", "credits"),
    tables.Column("pace_credits", "Pace", "credits", help="What even spending of the quota would have come to."),
    tables.Column("pace_ratio", "Of pace", "share", help="Spent ÷ pace: over 100 % runs out before the reset."),
)

st.title("Burn rate")
facts, zone, options = session.facts(), session.zone(), session.options()
if session.ledger().as_of is None:
    filters.no_entries()
    st.stop()


def narrowed() -> Filters:
    """The bar's filters and the page's own: one model."""
    model = st.session_state.get(MODEL) or st.query_params.get(MODEL)
    chosen = filters.current()
    return chosen.narrowed(models=(model,)) if model in options.models else chosen


def drill_bar() -> None:
    """Where in fleet → plan → model the page stands, and the ways back up."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small", key="drill_bar"):
        st.selectbox(
            "Model", [ALL_MODELS, *options.models], key=MODEL, bind="query-params", width=240,
            help="Pace belongs to a plan's quota, so with a model chosen there is none.",
        )  # fmt: skip
        if chosen.plans or chosen.regions or chosen.teams or chosen.models:
            st.button("Back to the fleet", icon=":material/arrow_upward:", on_click=to_fleet, key="to_fleet")


def to_fleet() -> None:
    st.session_state[MODEL] = ALL_MODELS
    filters.widen()


def to_plan(plan: str) -> None:
    filters.set_filters(plan=plan)


def to_model(model: str) -> None:
    if model in options.models:
        st.session_state[MODEL] = model


def to_user(user: str) -> None:
    """Callbacks cannot leave the page; its next run does."""
    st.session_state[_USER] = user


def to_pair(plan: str, model: str) -> None:
    """A bar of a model's chart narrows to its plan and the model."""
    to_plan(plan)
    to_model(model)


def sentence(by_plan: pd.DataFrame) -> None:
    """The burn in words."""
    whole = ask(standing.pace_of_all, chosen)
    if not whole.spent_uc:
        st.markdown("No credits were spent in this period with these filters.")
        return
    was = figures(wanted(), chosen)["spent"]["before"]
    before = (
        ""
        if numbers.is_unknown(was) or not was
        else f" ({numbers.short(was)} {sentences.within(filters.compare_name())})"
    )
    pace = sentences.against_pace(whole.over_share)
    stands_out = sentences.plan_pace(by_plan, ask(standing.since_release, chosen)) if len(by_plan) > 1 else ""
    spent = f"**{numbers.in_credits(whole.spent_credits)}** burned{before}{', ' + pace if pace else ''}"
    st.markdown(sentences.joined(spent, stands_out))


def wanted() -> list[Wanted]:
    """What stands on the cards."""
    return [
        Wanted("spent", unit=filters.credit_words()),
        Wanted("burn_rate", unit=f"{filters.credit_words()} a day"),
        Wanted("active_accounts"),
        Wanted("requests"),
        Wanted("provider_cost"),
    ]


def against_pace() -> None:
    """Burn so far beside pace, and its parts one step further down."""
    so_far, parts = st.columns([3, 2])
    with so_far:
        has_pace = bool(paces["pace_credits"].notna().any())
        st.subheader("Burn so far, against pace" if has_pace else "Burn so far")
        axis = BY_DATE
        if has_pace:
            axis = st.segmented_control(
                "Along", [BY_DATE, BY_CYCLE], default=BY_CYCLE if filters.by_cycle() else BY_DATE, key=AXIS,
                bind="query-params", required=True, label_visibility="collapsed",
            )  # fmt: skip
        if axis == BY_CYCLE:
            by_cycle()
        else:
            by_date()
    with parts:
        by_next("spent", credit_unit)
        plans_against_pace()


def by_date() -> None:
    """Burn since the period's start, and what it is coming to."""
    before = ask(standing.fleet_burn, chosen.compared()) if chosen.compare else None
    fig = charts.burn_against_pace(
        ask(standing.fleet_burn, chosen), x="day", burned="cum_spent_credits", pace="cum_pace_credits",
        unit=credit_unit, zone=zone, compare=before, shift=filters.shift(), compare_name=filters.compare_name(),
        marks=marks, span=filters.span(), forecast=None if ahead is None else ahead.sums,
    )  # fmt: skip
    alt = "Credits burned since the period's start against pace, and what they are coming to."
    plots.show(fig, key="burn_so_far", alt=alt, on_days=filters.set_days)
    forecast_words()


def by_cycle() -> None:
    """Burn by the day of the cycle, whenever each account's began."""
    frame = ask(queries.burn_by_cycle_day, chosen)
    if frame.empty:
        states.unknown("No cycle runs at the end of this period with these filters.")
        return
    fig = charts.cycle_days(frame, unit=credit_unit)
    plots.show(
        fig, key="burn_by_cycle_day", alt="What an account has spent by each day of its cycle, this one and the last."
    )
    st.caption(
        f"The cycles that run at the period's end, of {sentences.counted(int(frame['accounts'].max()), 'account')}, and the ones before "
        "them. A day's burn is the mean over the accounts that have lived it whole."
    )


def by_next(slug: str, unit: charts.Unit) -> None:
    """The parts of a metric one step further down."""
    dimension, name, narrow = next_step()
    st.subheader(f"By {name}")
    frame = ask(queries.breakdown, chosen, slug, by=dimension).fillna({dimension: UNNAMED})
    frame = frame[frame["value"] != 0]
    fig = charts.ranked_bars(
        frame, label=dimension, value="value", unit=unit, series_colours=dimension != "user_id", limit=10
    )
    plots.show(fig, key=f"burn_by_{dimension}", alt=f"{unit.title.capitalize()} burned by {name}.", on_click=narrow)
    st.caption("Click a bar to open its user." if name == "user" else f"Click a bar to narrow to its {name}.")


def next_step() -> tuple[str, str, Callable[[str], None]]:
    """What to narrow by next: a plan, within one plan a model, within both a user. Dimension, name, and how."""
    if len(chosen.plans) != 1:
        return "plan", "plan", to_plan
    return ("model", "model", to_model) if not chosen.models else ("user_id", "user", to_user)


def plans_against_pace() -> None:
    """Each plan's burn beside its pace, the fastest first."""
    known = paces.dropna(subset=["pace_credits"]).assign(pace_ratio=lambda rows: rows["over_share"] + 1)
    if len(known) < 2:
        return
    known = known.sort_values("pace_ratio", ascending=False, ignore_index=True)
    tables.show(
        known,
        [tables.Column("plan", "Plan", "slug", pinned=True), SPENDING[0], *SPENDING[2:]],
        key="plans_against_pace",
        zone=zone,
        search=False,
        file_name="plans_against_pace",
        alt="Plans by how fast they burn against their pace, the fastest first.",
    )
    fastest = known.iloc[0]
    st.caption(
        f"Fastest against its pace: **{sentences.named(fastest['plan'])}**, at {sentences.percent(fastest['pace_ratio'])} of it."
    )


def forecast_words() -> None:
    """What the burn is coming to."""
    if ahead is None:
        return
    last = {name: numbers.count(value) for name, value in ahead.sums.iloc[-1].drop("day").items()}
    when = f"By {numbers.day(ahead.until)}{', when every running cycle has ended' if ahead.cycles_end else ''}"
    pace = "" if last["pace"] == numbers.UNKNOWN else f"; pace would be {last['pace']}"
    st.caption(
        f"{when}: **{last['middle']} {escape_markdown(filters.credit_words())}** expected, {last['inner_low']} to {last['inner_high']} in "
        f"1 of 2 cases and {last['outer_low']} to {last['outer_high']} in 9 of 10{pace}. A straight trend and the weekday, from the last "
        "28 complete days."
    )


def by_day() -> None:
    """Each day's burn and what it was made of; days that were not as usual are marked."""
    st.subheader("Burn a day")
    part = st.segmented_control(
        "By", list(PARTS), default="plan", format_func=PARTS.__getitem__, key=PARTED, bind="query-params", required=True,
        label_visibility="collapsed",
    )  # fmt: skip
    frame = ask(standing.burn_by_day, chosen, part).replace({part: {series.NONE: f"no {PARTS[part].lower()}"}})
    odd = ask(queries.unusual_days, chosen)
    fig = charts.stacked_bars(
        frame, x="day", y="spent_credits", series=part, pace="pace_credits", unit=credit_unit.per("day"), zone=zone, marks=marks,
        compare=ask(standing.burn_by_day, chosen.compared()) if chosen.compare else None, shift=filters.shift(),
        compare_name=filters.compare_name(), span=filters.span(), unusual=odd,
        domain={"plan": options.plans, "model": options.models, "region": options.regions}.get(part, ()),
    )  # fmt: skip
    alt = f"Credits burned by day and {PARTS[part].lower()}, with pace; unusual days are marked."
    plots.show(fig, key="burn_a_day", alt=alt, on_days=filters.set_days)
    told = sentences.unusual(odd)
    note = sentences.unfinished(session.ledger().as_of, chosen.period.end, zone)
    st.caption(" ".join(text for text in (told, note) if text))


def by_model(parted: pd.DataFrame) -> None:
    """Plans within each model, on one scale."""
    st.subheader("By model and plan")
    models = list(dict.fromkeys(parted["model"]))
    for first in range(0, min(len(models), MOST_MODELS), MODELS_IN_A_ROW):
        for place, model in zip(st.columns(MODELS_IN_A_ROW), models[first : first + MODELS_IN_A_ROW], strict=False):
            with place:
                st.text(model)
                fig = charts.ranked_bars(
                    parted[parted["model"] == model],
                    label="plan",
                    value="credits_per_day",
                    unit=credit_unit.per("day"),
                )
                plots.show(
                    fig, key=f"burn_model_{models.index(model)}", alt=f"Credits a day by plan, spent with {model}.",
                    on_click=lambda plan, model=model: to_pair(plan, model),
                )  # fmt: skip
    left_out = len(models) - MOST_MODELS
    more = f" The {MOST_MODELS} models that cost most; {left_out} more are in the list above." if left_out > 0 else ""
    st.caption(f"Click a bar to narrow to its plan and model.{more}")


def when_and_who() -> None:
    """The hours of the week, and who changed most."""
    hours, movers = st.columns(2)
    with hours:
        hours_of_week("spent", credit_unit)
    with movers:
        st.subheader("Top movers")
        drill.movers(chosen, "movers")


def hours_of_week(slug: str, unit: charts.Unit) -> None:
    """The hours of the week of a metric."""
    st.subheader("When in the week")
    fig = charts.hour_of_week(
        ask(queries.hours_of_week, chosen, slug), weekday="dow", hour="hour", value="per_hour",
        unit=unit.per("hour"), zone_name=facts.zone,
    )  # fmt: skip
    plots.show(fig, key="burn_hours", alt=f"{unit.title.capitalize()} in each hour of the week.")


def counted() -> None:
    """The page for plans that count generations: who makes how many, and how many are refused."""
    counts = cards(
        [Wanted(slug) for slug in ("generations", "active_accounts", "requests", "limit_hits", "provider_cost")], chosen
    )
    total = ask(queries.value, chosen, "generations")
    said = f"**{numbers.counted(int(total.value or 0), 'generation')}** counted; these plans charge no credits, so there is no pace"
    st.markdown(sentences.joined(said))
    drill_bar()
    if not ask(queries.value, chosen, "requests").value:
        filters.nothing_here("Nobody generated anything in this period with these filters.")
        drill.entries(chosen, "burn")
        return
    by_plan, parts = st.columns([3, 2])
    with by_plan:
        st.subheader("Generations a day, by plan")
        fig = charts.stacked_bars(
            ask(queries.daily, chosen, "generations", by="plan"), x="day", y="value", series="plan",
            unit=charts.GENERATIONS.per("day"), zone=zone, marks=marks, span=filters.span(), domain=options.plans,
        )  # fmt: skip
        plots.show(fig, key="burn_a_day", alt="Generations by day and plan.", on_days=filters.set_days)
    with parts:
        by_next("generations", charts.GENERATIONS)
    kpi.row(counts, key="burn")
    hours_of_week("generations", charts.GENERATIONS)
    users()
    drill.entries(chosen, "burn")


def users() -> None:
    """Everybody who spent, most first."""
    st.subheader("Users")
    burning = ask(queries.burners, chosen, LISTED)
    tables.show(
        burning.listed,
        [
            tables.Column("user_id", "User", pinned=True),
            tables.Column("plan", "Plan", "slug"),
            tables.Column("region", "Region"),
            *(SPENDING if filters.charged() else ()),
            tables.Column("requests", "Requests", "count"),
            tables.Column("fresh", "Fresh", "count"),
            tables.Column("last_at", "Last seen", "instant"),
        ],
        key="burn_users",
        zone=zone,
        on_row=drill.to_user,
        csv_rows=lambda: queries.burn_by_account(session.facts(), chosen),
        total=burning.accounts,
        file_name="burn_by_user",
        alt="Users by credits spent, most first.",
    )
    st.caption("Click a row to open the user.")


if _USER in st.session_state:
    drill.to_user({"user_id": st.session_state.pop(_USER)})
chosen, credit_unit = narrowed(), filters.credit_unit()
marks = charts.marks_from(ask(queries.release_marks, chosen))
if not filters.charged():
    counted()
    st.stop()
with states.loading(420):
    paces = ask(standing.pace_by_plan, chosen)
    ahead = ask(queries.burn_forecast, chosen)
    parted = ask(queries.burn_by_plan_model, chosen).fillna({"model": UNNAMED})
said = st.container()
drill_bar()
if parted.empty:
    with said:
        sentence(paces)
    filters.nothing_here("No credits were spent in this period with these filters.")
    drill.entries(chosen, "burn")
    st.stop()
# Charts first: the words above them and the cards below wait for what they alone ask.
against_pace()
with said:
    sentence(paces)
kpi.row(cards(wanted(), chosen), key="burn")
by_day()
if len(parted) > 1:
    by_model(parted)
when_and_who()
users()
drill.entries(chosen, "burn")
