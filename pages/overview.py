"""Overview: are we all right? Targets with the error budget left, today's figures, what changed, who runs out next."""

from datetime import timedelta

import pandas as pd
import streamlit as st

from credit_core.analytics import metrics, queries
from credit_core.analytics.queries import news, risk, standing
from credit_core.analytics.queries.surplus import LISTED
from pages.components import charts, drill, filters, kpi, numbers, plots, run_out, sentences, session, states, tables
from pages.components.answers import ask
from pages.components.metric_cards import Wanted, cards
from pages.components.session import guard
from pages.components.text import escape_markdown

guard()

#: How far ahead run-outs are told.
AHEAD = timedelta(days=7)
TARGETS_IN_A_ROW = 4
#: Targets that are no declared metric, in words.
MEANS = {
    "behind_share": "Accounts more than 3 surplus days behind pace, of all that run now.",
    "stuck_holds": "Holds more than a minute past their lifetime that nobody ended.",
    "desync": "Balances that differed from the sums of their entries in the last check.",
}
#: The page that explains a target.
EXPLAINED = {
    "behind_share": ("pages/surplus.py", "Surplus"),
    "idle_library_share": ("pages/surplus.py", "Surplus"),
    "coverage_miss_rate": ("pages/coverage.py", "Coverage"),
    "run_out_share": ("pages/surplus.py", "Surplus"),
    "at_cap_share": ("pages/surplus.py", "Surplus"),
    "stuck_holds": ("pages/integrity.py", "Integrity"),
    "desync": ("pages/integrity.py", "Integrity"),
}

st.title("Overview")
chosen, facts, zone = filters.current(), session.facts(), session.zone()
ledger = session.ledger()
if ledger.as_of is None:
    filters.no_entries()
    st.stop()
config = session.core().config()
charged, paced = filters.charged(), filters.paced()


def sentence(targets: pd.DataFrame, ends: standing.Ends) -> None:
    """The state of things in words."""
    known = targets.dropna(subset=["met"])
    missed = [row["title"] for row in known.to_dict("records") if not row["met"]]
    st.markdown(
        sentences.joined(
            sentences.targets(missed, len(known)),
            sentences.plan_pace(ask(standing.pace_by_plan, chosen), ask(standing.since_release, chosen)),
            sentences.running_out(ends.empty, ends.soon, sentences.weekday(ledger.as_of + AHEAD, zone))
            if paced
            else "",
        )
    )


def target_cards(targets: pd.DataFrame) -> None:
    """One card per target: its value, its bound, and how much of the error budget is left."""
    rows = targets.to_dict("records")
    for first in range(0, len(rows), TARGETS_IN_A_ROW):
        with st.container(horizontal=True, gap="small", key=f"targets_{first}"):
            for row in rows[first : first + TARGETS_IN_A_ROW]:
                with st.container(
                    border=True, gap="xsmall", width="stretch", height="stretch", key=f"target_{row['slug']}"
                ):
                    target_card(row)


def target_card(row: dict) -> None:
    unknown = numbers.is_unknown(row["met"])
    icon, tint = ("remove", "gray") if unknown else ("check_circle", "green") if row["met"] else ("error", "red")
    written = numbers.metric(row["value"], row["format"])
    bound = f"under {numbers.metric(row['target'], row['format'])}" if row["target"] else "none allowed"
    st.markdown(
        f":{tint}[:material/{icon}:] {row['title']}",
        help=MEANS.get(row["slug"]) or metrics.metric(row["slug"]).definition,
    )
    st.markdown(f"**{written}** :gray[· {bound}]")
    if unknown:
        st.caption("nothing to judge")
    elif row["target"]:
        left = float(row["budget_left_share"])
        st.progress(min(max(left, 0.0), 1.0), text=f":small[{budget(left)}]")
    else:
        st.caption("as it should be" if row["met"] else "see Integrity")
    if not unknown and not row["met"] and row["slug"] in EXPLAINED:
        page, label = EXPLAINED[row["slug"]]
        st.page_link(page, label=label, icon=":material/arrow_forward:", icon_position="right")


def budget(left: float) -> str:
    return f"{numbers.share(left)} of the error budget left" if left > 0 else "error budget used up"


def by_day() -> None:
    """What people got, and how many they were."""
    marks = charts.marks_from(ask(queries.release_marks, chosen))
    got = ask(queries.daily_outcomes, chosen)
    before = ask(queries.daily_outcomes, chosen.compared()) if chosen.compare else None
    answers, people = st.columns(2)
    with answers:
        st.subheader("Answers a day")
        outcomes = ("fresh", "library", "miss") if paced else ("fresh", "declined")
        long = got.rename(columns={"misses": "miss"}).melt("day", list(outcomes), "outcome", "value")
        fig = charts.time_lines(
            long, x="day", y="value", series="outcome", unit=charts.COUNT.titled("answers a day"), zone=zone, marks=marks,
            span=filters.span(), domain=outcomes,
        )  # fmt: skip
        plots.show(
            fig,
            key="answers",
            alt="Fresh answers, library answers and coverage misses by day."
            if paced
            else "Fresh answers and refusals by day.",
            on_days=filters.set_days,
        )
    with people:
        st.subheader("Active accounts a day")
        fig = charts.time_lines(
            got, x="day", y="active_accounts", unit=charts.ACCOUNTS, zone=zone, marks=marks, span=filters.span(),
            compare=before, shift=filters.shift(), compare_name=filters.compare_name(),
        )  # fmt: skip
        plots.show(fig, key="active", alt="Accounts with at least one request, by day.", on_days=filters.set_days)
    if note := sentences.unfinished(ledger.as_of, chosen.period.end, zone):
        st.caption(note)


def since_yesterday() -> None:
    """The newest 24 hours against the 24 before, in words."""
    rows = ask(news.since_yesterday, chosen.at_end())
    if rows.empty:
        states.unknown("The ledger does not reach back two days yet.")
        return
    told = rows[rows["told"] & (charged | (rows["slug"] != "spent"))]
    if told.empty:
        st.markdown("Nothing moved by more than chance in the last 24 hours.")
    else:
        mover = ask(news.moved_most, chosen.at_end(), "plan")
        movers = {"spent": mover} if mover is not None and not chosen.plans else {}
        st.markdown("\n".join(f"- {clause}." for clause in sentences.news(told, movers)))
    st.caption("The last 24 hours against the 24 before; only what is more than chance, and at least 5 %.")


def running_out(ends: standing.Ends) -> None:
    """Who runs out within a week."""
    st.subheader("Running out this week")
    if not paced:
        states.unknown(
            f"Run-outs are foreseen for paced plans, not for plans that count {escape_markdown(filters.credit_words())}."
        )
        return
    if not ends.soon:
        states.unknown("Nobody is expected to run out within 7 days at the present burn.")
        return
    tables.show(
        ask(risk.running_out, chosen.at_end(), ledger.as_of + AHEAD, LISTED),
        [
            tables.Column("user_id", "User", pinned=True),
            tables.Column("plan", "Plan", "slug"),
            tables.Column("risk", "Risk", help=run_out.MEANS),
            tables.Column("chance", "Chance", "share", help="To run out before the next reset.", hidden=True),
            tables.Column(
                "runs_out_at", "Runs out", "instant", help="Available credits ÷ mean burn of the last 7 days."
            ),
            tables.Column("available_credits", "Available", "credits", help="Credits that can be spent now."),
            tables.Column(
                "burn_credits_per_day",
                "Burn a day",
                "credits",
                help="Credits a day, mean of the last 7 days.",
                hidden=True,
            ),
            tables.Column("next_reset_at", "Next reset", "instant", hidden=True),
        ],
        key="running_out",
        zone=zone,
        on_row=drill.to_user,
        csv_rows=lambda: risk.running_out(session.facts(), chosen.at_end(), ledger.as_of + AHEAD),
        total=ends.soon,
        file_name="running_out_this_week",
        alt="Users whose credits end within a week at their present burn.",
    )


def shown_targets(targets: pd.DataFrame) -> pd.DataFrame:
    """Targets that plans of the unit can meet or miss: those of paced accounts are nothing to others."""
    if paced:
        return targets
    nothing_to_run_out_of = (targets["slug"] == "run_out_share") & (not charged)
    return targets[targets["met"].notna() & ~nothing_to_run_out_of]


def summary() -> list[kpi.Card]:
    """Five figures."""
    charging = Wanted(
        "burn_rate", unit=f"{filters.credit_words()} a day", page="pages/burn_rate.py", page_label="Burn rate"
    )
    return cards(
        [
            charging if charged else Wanted("generations", page="pages/burn_rate.py", page_label="Who generates"),
            Wanted("active_accounts", page="pages/burn_rate.py", page_label="Who spends"),
            Wanted("requests", page="pages/coverage.py", page_label="What for") if paced else Wanted("requests"),
            Wanted("fresh_rate", page="pages/surplus.py", page_label="Who is ahead") if paced else Wanted("declined"),
            Wanted("provider_cost", page="pages/burn_rate.py", page_label="By model"),
        ],
        chosen,
    )


above, below = st.container(), st.container()
with above:
    with states.loading(420):
        # Charts first: what stands above them waits for what it alone asks.
        with below:
            by_day()
        goals = shown_targets(ask(queries.slos, chosen, config))
        ends = ask(standing.ends, chosen.at_end(), ledger.as_of + AHEAD)
        figures = summary()
    sentence(goals, ends)
    target_cards(goals)
    kpi.row(figures, key="overview")
movers, leavers = st.columns(2)
with movers:
    st.subheader("What changed since yesterday")
    since_yesterday()
    st.subheader("Top movers")
    if charged:
        drill.movers(chosen, "movers")
    else:
        states.unknown("Plans that count generations spend no credits. Burn rate shows what they generate.")
with leavers:
    running_out(ends)
drill.entries(chosen, "overview")
