"""Operations: does it work? Latency and failures by model, what limits refused, what waits and what is held now."""

from datetime import datetime

import pandas as pd
import streamlit as st

from credit_core.analytics import queries
from credit_core.analytics.filters import Filters
from credit_core.analytics.queries import operations
from pages.components import charts, drill, filters, kpi, numbers, periods, plots, sentences, session, states, tables
from pages.components.answers import ask
from pages.components.metric_cards import Wanted, cards, figures
from pages.components.session import guard

guard()

ALL_MODELS = "All models"
MODEL, QUANTILE = "model", "quantile"
QUANTILES = {"p95": "latency_p95_ms", "p50": "latency_p50_ms"}
#: Lines of the latency chart; the busiest models have them.
MOST_MODELS = 6
#: Incidents by day, in the order they are stacked.
INCIDENTS = {
    "rate_limited": "Rate-limited",
    "over_limit": "Over a limit",
    "blocked": "While blocked",
    "anomalies": "Anomalies",
    "late": "Late settles",
    "duplicates": "Duplicates",
}
_PICKED = "_picked_model"

st.title("Operations")
facts, zone, options, ledger = session.facts(), session.zone(), session.options(), session.ledger()
if ledger.as_of is None:
    filters.no_entries()
    st.stop()
config = session.core().config()


def narrowed() -> Filters:
    """The bar's filters and the page's own: one model."""
    model = st.session_state.get(MODEL) or st.query_params.get(MODEL)
    chosen = filters.current()
    return chosen.narrowed(models=(model,)) if model in options.models else chosen


def moment() -> datetime:
    """What 'now' is for ages: of a ledger that nobody writes any more, its newest entry."""
    now = session.now()
    return ledger.as_of if now - ledger.as_of > periods.OLD_AFTER else now


def sentence(by_model: pd.DataFrame, waiting: pd.DataFrame, stuck: int) -> None:
    """Whether it works, in words."""
    known = figures(wanted(), chosen)
    failures, latency_ms = known["failure_rate"], known["latency_p95_ms"]["value"]
    if not failures["denominator"]:
        st.markdown("No generation ended in this period with these filters.")
        return
    ended = sentences.counted(failures["denominator"], "generation")
    clauses = [f"**{sentences.percent(failures['value'])}** of {ended} failed{worst(by_model, failures['value'])}"]
    if not numbers.is_unknown(latency_ms):
        clauses.append(f"19 of 20 were done within **{numbers.milliseconds(latency_ms)}**")
    if stuck:
        are = "hold is" if stuck == 1 else "holds are"
        clauses.append(f"**{numbers.count(stuck)}** {are} past {'its' if stuck == 1 else 'their'} lifetime")
    clauses.append(queued(waiting))
    st.markdown(sentences.joined(*clauses))


def queued(waiting: pd.DataFrame) -> str:
    """How many deferred requests wait, how long, and how many of them too long."""
    if waiting.empty:
        return ""
    oldest = numbers.duration(waiting["age_s"].max())
    wait = "waits" if len(waiting) == 1 else "wait"
    said = f"{sentences.counted(len(waiting), 'deferred request')} {wait}, the oldest for {oldest}"
    late = too_long(waiting)
    return f"{said}; {numbers.count(late)} too long, and will be dropped by the next sweep" if late else said


def too_long(waiting: pd.DataFrame) -> int:
    """How many deferred requests wait past their end."""
    return int((waiting["expires_at"] <= pd.Timestamp(moment())).sum())


def worst(by_model: pd.DataFrame, rate: float) -> str:
    """The model that fails more than all together, where one stands out."""
    if len(by_model) < 2:
        return ""
    first = by_model.loc[by_model["failure_rate"].idxmax()]
    if first["failure_rate"] < 1.25 * rate or not rate:
        return ""
    return f", most with {sentences.named(first['model'])} ({sentences.percent(first['failure_rate'])})"


def controls() -> None:
    """The one model that the page looks at, and the way back."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small", key="model_bar"):
        st.selectbox("Model", [ALL_MODELS, *options.models], key=MODEL, bind="query-params", width=240)
        if chosen.models:
            st.button("All models", icon=":material/close:", key="to_all_models", on_click=to_model, args=(ALL_MODELS,))


def to_model(model: str) -> None:
    st.session_state[MODEL] = model


def wanted() -> list[Wanted]:
    """What stands on the cards."""
    return [
        Wanted("latency_p95_ms", "Generation, p95"),
        Wanted("failure_rate"),
        Wanted("authorize_p95_ms", target=config.slos.authorize_p95_ms),
        Wanted("rate_limit_hits" if filters.paced() else "limit_hits"),
        Wanted("late_settles"),
    ]


def latency(by_model: pd.DataFrame) -> None:
    """How long generations take, by model."""
    st.subheader("Latency by model")
    quantile = st.segmented_control(
        "Quantile", list(QUANTILES), default="p95", key=QUANTILE, bind="query-params", required=True,
        label_visibility="collapsed",
    )  # fmt: skip
    busiest = tuple(by_model["model"].dropna().head(MOST_MODELS))
    course = ask(queries.daily, chosen.narrowed(models=busiest), QUANTILES[quantile], by="model")
    if not busiest or course["value"].isna().all():
        states.unknown("No settled generation tells how long it took.")
        return
    fig = charts.time_lines(
        course, x="day", y="value", series="model", unit=charts.LATENCY.titled(f"{quantile} latency, seconds"), zone=zone,
        marks=marks, span=filters.span(), domain=options.models,
    )  # fmt: skip
    plots.show(fig, key="latency", alt=f"{quantile} of generation latency by day and model.", on_days=filters.set_days)
    if len(by_model) > MOST_MODELS:
        st.caption(f"The {MOST_MODELS} busiest models; all of them are in the table.")


def rates() -> None:
    """How generations end that do not end well."""
    st.subheader("Failed, partial, refunded")
    frame = ask(operations.rates_by_day, chosen)
    if frame["value"].isna().all():
        states.unknown("No generation ended in this period.")
        return
    fig = charts.time_lines(
        frame, x="day", y="value", series="rate", unit=charts.SHARE.titled("share of ended ones, %"), zone=zone,
        marks=marks, span=filters.span(), domain=("failed", "partial", "refunded"),
    )  # fmt: skip
    plots.show(fig, key="rates", alt="Failure, partial and refund rate by day.", on_days=filters.set_days)
    st.caption("Refunds are a share of settled ones.")


def model_table(by_model: pd.DataFrame) -> None:
    """Each model's figures; a click narrows to it."""
    st.subheader("Models")
    tables.show(
        by_model,
        [
            tables.Column("model", "Model", pinned=True),
            tables.Column("ended", "Ended", "count", help="Settled, released or partial."),
            tables.Column("p50_ms", "Median", "ms"),
            tables.Column("p95_ms", "p95", "ms"),
            tables.Column("failure_rate", "Failed", "share", help="Releases because the provider failed ÷ ended."),
            tables.Column("partial_rate", "Partial", "share", help="Ended half-way ÷ ended."),
            tables.Column("refund_rate", "Refunded", "share", help="Refunds ÷ settled."),
        ],
        key="models",
        zone=zone,
        on_row=lambda row: pick(row["model"]),
        file_name="models",
        alt="Models by generations ended, with latency and failure rates.",
    )
    known = by_model.dropna(subset=["model", "failure_rate"])
    most = ""
    if len(known) > 1 and known["failure_rate"].max() > 0:
        first = known.loc[known["failure_rate"].idxmax()]
        share, ended = numbers.share(first["failure_rate"]), numbers.count(first["ended"])
        most = f"Fails most: **{sentences.named(first['model'])}**, {share} of {ended}. "
    st.caption(f"{most}Click a row to narrow to its model.")


def pick(model: str) -> None:
    """A row of a table narrows to its model."""
    st.session_state[_PICKED] = model
    st.rerun()


def refused() -> None:
    """What limits and guards stopped, what came late and what came twice, by day."""
    st.subheader("Limits, late ends and duplicates, a day")
    frame = ask(operations.incidents_by_day, chosen)
    if not frame["number"].sum():
        states.unknown("Nobody met a limit, no settle came late, and no call came twice.")
        return
    frame = frame.assign(incident=frame["incident"].map(INCIDENTS))
    happened = frame.groupby("incident")["number"].sum()
    fig = charts.stacked_bars(
        frame[frame["incident"].isin(happened[happened > 0].index)], x="day", y="number", series="incident",
        unit=charts.COUNT.titled("incidents a day"), zone=zone, marks=marks, span=filters.span(),
        order=tuple(INCIDENTS.values()), domain=tuple(INCIDENTS.values()),
    )  # fmt: skip
    alt = "Requests refused by the rate limit or a count, anomalies, late settles and duplicates by day."
    plots.show(fig, key="incidents", alt=alt, on_days=filters.set_days)
    if not chosen.models:
        st.caption(
            "Duplicates are calls that came again for a request: they were answered as the first one, and charged nothing."
        )


def now_open(holds: pd.DataFrame, waiting: pd.DataFrame) -> None:
    """What is held and what waits at this moment, whatever the period."""
    held, queue = st.columns(2)
    with held:
        st.subheader("Open holds now, by age")
        if not holds["holds"].sum():
            states.unknown("Nothing is held: every reserve has ended.")
        else:
            tables.show(
                holds,
                [
                    tables.Column("age", "Age", pinned=True),
                    tables.Column("holds", "Holds", "count"),
                    tables.Column("accounts", "Accounts", "count"),
                ],
                key="holds_by_age", zone=zone, search=False, file_name="open_holds_by_age",
                alt="Open holds by age.",
            )  # fmt: skip
            st.page_link(
                "pages/integrity.py",
                label="Each hold",
                icon=":material/arrow_forward:",
                icon_position="right",
            )
    with queue:
        st.subheader("Deferred queue now")
        if waiting.empty:
            states.unknown("Nothing waits for its fresh one.")
            return
        tables.show(
            waiting,
            [
                tables.Column("user_id", "User", pinned=True),
                tables.Column("plan", "Plan", "slug"),
                tables.Column("age_s", "Waits for", "seconds"),
                tables.Column("deferred_at", "Since", "instant"),
                tables.Column("expires_at", "Dropped after", "instant", hidden=True),
                tables.Column("request_id", "Request", hidden=True),
            ],
            key="deferred", zone=zone, on_row=drill.to_user, file_name="deferred_queue",
            alt="Deferred requests that wait, the oldest first.",
        )  # fmt: skip
        if too_long(waiting):
            st.caption("Those that waited too long are dropped by the sweeper. Run it, or put it on a timer:")
            st.code("python -m credit_core sweep", language="bash")


def people() -> None:
    """Who met limits and failures."""
    st.subheader("Who it happened to")
    rows = ask(operations.incidents, chosen)
    if rows.empty:
        states.unknown("Nobody met a limit, a failure or a late end.")
        return
    tables.show(
        rows,
        [
            tables.Column("user_id", "User", pinned=True),
            tables.Column("plan", "Plan", "slug"),
            tables.Column("rate_limited", "Rate-limited", "count"),
            tables.Column("over_limit", "Over a limit", "count"),
            tables.Column("blocked", "While blocked", "count", help="Requests while a challenge was open."),
            tables.Column("anomalies", "Anomalies", "count"),
            tables.Column("failed", "Failed", "count"),
            tables.Column("late", "Late settles", "count"),
            tables.Column("last_at", "Last", "instant"),
        ],
        key="met_limits",
        zone=zone,
        on_row=drill.to_user,
        file_name="incidents_by_user",
        alt="Users by incidents, most first.",
    )
    st.caption("Click a row to open the user.")


if _PICKED in st.session_state:
    st.session_state[MODEL] = st.session_state.pop(_PICKED)
chosen = narrowed()
with states.loading(420):
    by_model = ask(operations.models, chosen)
marks = charts.marks_from(ask(queries.release_marks, chosen))
said = st.container()
controls()
# Charts first: the words above them and the cards below wait for what they alone ask.
slow, bad = st.columns(2)
with slow:
    latency(by_model)
with bad:
    rates()
holds = operations.holds_by_age(facts, chosen, moment())
waiting = operations.deferred_queue(facts, chosen, moment())
stuck_now = int(holds.loc[holds["age"] == operations.STUCK, "holds"].sum())
with said:
    sentence(by_model, waiting, stuck_now)
kpi.row(cards(wanted(), chosen), key="operations")
if len(by_model):
    model_table(by_model)
refused()
now_open(holds, waiting)
people()
drill.entries(chosen, "operations")
