"""Surplus: are people ahead or behind? Bands over time, who runs out when, and where the controller lets them settle."""

import pandas as pd
import streamlit as st

from credit_core.analytics import queries
from credit_core.analytics.queries import settling, standing
from credit_core.analytics.queries.surplus import LISTED, Dry
from credit_core.service import configure
from pages.components import charts, drill, filters, kpi, numbers, plots, run_out, sentences, session, states, tables
from pages.components.answers import ask
from pages.components.metric_cards import Wanted, cards
from pages.components.session import guard

guard()

#: Verdicts of ``settling.droop_by_plan`` in words.
MEANINGS = {
    "ample": "the quota pays for everything asked, so balances grow towards the cap.",
    "empty": "the formula lies further behind than a balance can be, so people run out first.",
    "capped": "the formula lies further ahead than the cap allows, so credits expire first.",
    "slow": "closing a gap takes more than a third of a cycle, so resets come before it settles.",
    "settles": "accounts get there within the cycle.",
}
#: Surplus days within which an account is on pace (SPEC 6).
TOLERANCE = 3.0

st.title("Surplus")
chosen, facts, zone = filters.current(), session.facts(), session.zone()
ledger = session.ledger()
if ledger.as_of is None:
    filters.no_entries()
    st.stop()
config = session.core().config()


def sentence(ends: standing.Ends, whole: standing.Spread) -> None:
    """How far people are from pace, in words."""
    if not whole.accounts:
        st.markdown("No running account has these filters.")
        return
    behind = f"{numbers.count(whole.behind)} {'is' if whole.behind == 1 else 'are'}"
    spread = (
        f"of {sentences.counted(whole.accounts, 'account')}, {behind} more than 3 days behind pace and "
        f"{numbers.count(whole.ahead)} more than 3 days ahead; the median is **{numbers.days(whole.median)}**"
    )
    out = sentences.running_out(ends.empty, ends.soon, "the next reset")
    first = "" if ends.first_at is None else f", the first on {sentences.weekday(ends.first_at, zone)}"
    st.markdown(sentences.joined(spread, f"{out}{first}"))


def bands(course: pd.DataFrame) -> None:
    """Surplus over time, and the share of accounts on either side of pace."""
    marks = charts.marks_from(ask(queries.release_marks, chosen))
    left, right = st.columns([3, 2])
    with left:
        st.subheader("Surplus at each day's end")
        before = ask(queries.surplus_bands, chosen.compared()) if chosen.compare else None
        fig = charts.quantile_bands(
            course, x="day", median="median", inner=("p25", "p75"), outer=("p05", "p95"), unit=charts.SURPLUS_DAYS, zone=zone,
            tolerance=TOLERANCE, compare=before, shift=filters.shift(), compare_name=filters.compare_name(), marks=marks,
            span=filters.span(),
        )  # fmt: skip
        plots.show(
            fig,
            key="bands",
            alt="Surplus days over time: median, middle half and middle 90 % of accounts.",
            on_days=filters.set_days,
        )
        st.caption(
            "Days of even spending that accounts are ahead (+) or behind (−). Shaded grey: within 3 days, on pace."
        )
    with right:
        st.subheader("Share behind and ahead")
        long = course.melt("day", ["behind_share", "ahead_share"], "side", "value").replace(
            {"behind_share": "behind", "ahead_share": "ahead"}
        )
        fig = charts.time_lines(
            long, x="day", y="value", series="side", unit=charts.SHARE.titled("share of accounts, %"), zone=zone, marks=marks,
            span=filters.span(), target=config.slos.behind_share, target_name="target",
        )  # fmt: skip
        plots.show(
            fig,
            key="sides",
            alt="Share of accounts more than 3 days behind and ahead, by day.",
            on_days=filters.set_days,
        )


def now_by_plan() -> None:
    """How surplus is spread now."""
    left, right = st.columns(2)
    with left:
        st.subheader("Spread now")
        fig = charts.distribution(
            ask(queries.surplus_histogram, chosen.at_end()), low="from_days", high="to_days", y="accounts", unit=charts.ACCOUNTS,
            x_title="surplus, days", series="plan", tolerance=TOLERANCE, domain=session.options().plans,
        )  # fmt: skip
        plots.show(fig, key="spread", alt="Accounts by surplus days, stacked by plan.")
    with right:
        st.subheader("By plan")
        tables.show(
            ask(queries.surplus_by_plan, chosen.at_end()),
            [
                tables.Column("plan", "Plan", "slug", pinned=True),
                tables.Column("accounts", "Accounts", "count"),
                tables.Column("median", "Median, days", "days"),
                tables.Column("behind_share", "Behind", "share", help="More than 3 days behind pace."),
                tables.Column("ahead_share", "Ahead", "share", help="More than 3 days ahead of pace."),
            ],
            key="spread_by_plan",
            zone=zone,
            file_name="surplus_by_plan",
            alt="Surplus days by plan.",
        )


def settles() -> None:
    """Where the controller lets accounts settle, measured and by its own formula."""
    st.subheader("Where accounts settle")
    live = configure.live_version(session.core().deployment)
    rows = ask(settling.droop_by_plan, chosen, config, live.version)
    st.markdown(
        "A controller that reacts to surplus alone holds every account a constant distance from pace, its *droop*: only there "
        "does it hand out just what the quota affords."
    )
    if rows.empty:
        few = f"at least {settling.FEWEST_DRAWN} drawn decisions of one account are needed"
        states.unknown(
            f"Version {live.version} has drawn too little in this period: {few}."
            if config.controller.strategy == "logistic"
            else "The formula is that of the logistic law; the live one decides by another."
        )
        return
    for verdict, plans in rows.groupby("verdict", sort=False)["plan"]:
        st.markdown(f"- **{sentences.listing(plans, limit=6)}**: {MEANINGS[verdict]}")
    tables.show(
        rows,
        [
            tables.Column("plan", "Plan", "slug", pinned=True),
            tables.Column("accounts", "Accounts", "count"),
            tables.Column(
                "demand_credits_per_day", "Demand a day", "credits", help="Credits an account asks for, fresh or not."
            ),
            tables.Column("quota_credits_per_day", "Quota a day", "credits"),
            tables.Column(
                "affordable_share", "Affordable", "share", help="Part of the drawn requests that the quota pays for."
            ),
            tables.Column(
                "measured_credits", "Measured, credits", "days", help="Credits ahead of (+) or behind (−) pace."
            ),
            tables.Column(
                "predicted_credits", "By the formula", "days", help="(logit p* − b) ÷ k, in credits of surplus."
            ),
            tables.Column("time_constant_days", "Days to settle", "credits", help="To close 63 % of a gap."),
        ],
        key="settles",
        zone=zone,
        search=False,
        file_name="droop_by_plan",
        alt="Measured and predicted distance from pace by plan.",
    )
    st.caption(
        f"Middle accounts of the decisions that version {live.version} drew in this period. The formula knows neither nudges nor "
        "modes, and accounts that joined or reset lately are still on their way."
    )
    st.page_link("pages/tuning.py", label="Tuning offers the gain that holds people nearer", icon=":material/tune:")


def people(now: pd.DataFrame, accounts: int) -> None:
    """The accounts that are most behind; all ``accounts`` are in the file."""
    st.subheader("Accounts")
    tables.show(
        now,
        [
            tables.Column("user_id", "User", pinned=True),
            tables.Column("plan", "Plan", "slug"),
            tables.Column("region", "Region", hidden=True),
            tables.Column("surplus_days", "Surplus, days", "days", help="Ahead of (+) or behind (−) even spending."),
            tables.Column("mode", "Mode", "slug", help="What the controller does about it: conserve, steady or spend."),
            tables.Column("available_credits", "Available", "credits"),
            tables.Column(
                "burn_credits_per_day", "Burn a day", "credits", help="Credits a day, mean of the last 7 days."
            ),
            tables.Column("runway_days", "Runway, days", "credits", help="Available ÷ burn a day."),
            tables.Column("runs_out_at", "Runs out", "instant", help="Only where that is before the next reset."),
            tables.Column("next_reset_at", "Next reset", "instant"),
        ],
        key="accounts",
        zone=zone,
        on_row=drill.to_user,
        csv_rows=lambda: queries.surplus_now(session.facts(), chosen),
        total=accounts,
        file_name="surplus_now",
        alt="Accounts by surplus days, most behind first.",
    )
    st.caption("Click a row to open the user.")


def ran_out() -> None:
    """Who met an empty balance in the period."""
    st.subheader("Run-outs in the period")
    rows, dry = ask(queries.run_outs, chosen, LISTED), ask(queries.dry_time, chosen)
    if dry.run_outs:
        st.markdown(dry_words(dry))
    paced_out()
    if rows.empty:
        states.unknown("Nobody met an empty balance in this period.")
        return
    tables.show(
        rows,
        [
            tables.Column("user_id", "User", pinned=True),
            tables.Column("plan", "Plan", "slug"),
            tables.Column("run_out_at", "Ran out", "instant", help="First request that the balance did not cover."),
            tables.Column("granted_at", "Next grant", "instant"),
            tables.Column("dry_days", "Dry, days", "credits", help="From the run-out to the next grant."),
            tables.Column("dry_share", "Of the cycle", "share", hidden=bool(rows["dry_share"].isna().all())),
            tables.Column("ongoing", "Still dry", "flag"),
        ],
        key="run_outs",
        zone=zone,
        on_row=drill.to_user,
        csv_rows=lambda: queries.run_outs(session.facts(), chosen),
        total=dry.run_outs,
        file_name="run_outs",
        alt="Users who ran out of credits in the period.",
    )


def dry_words(dry: Dry) -> str:
    """How long people were dry, and how much of what could be given was."""
    per = "" if dry.share is None else f", in all **{numbers.share(dry.share)}** of a cycle per active account"
    return sentences.joined(
        f"{sentences.counted(dry.run_outs, 'run-out')} of {sentences.counted(dry.accounts, 'account')}; the middle one lasted "
        f"{numbers.duration(dry.median_days * 86_400)}{per}"
    )


@st.fragment(parallel=True)
def paced_out() -> None:
    """What finished cycles made of what there was: every reserve and grant in them is looked at, and nothing waits for that."""
    pacing = ask(queries.value, chosen, "pacing_efficiency")
    if pacing.value is not None:
        st.markdown(
            f"Finished cycles gave out **{numbers.share(pacing.value)}** of the fresh credits that their balances and demand allowed."
        )


def summary(whole: standing.Spread, course: pd.DataFrame) -> list[kpi.Card]:
    """Behind, ahead, the middle, and what comes of it at resets and run-outs."""
    before = ask(standing.spread_before, chosen.compared().at_end()) if chosen.compare else None
    was = before or standing.NOBODY
    bound = config.slos.behind_share
    behind = kpi.Card(
        "Behind pace",
        numbers.share(whole.behind_share),
        change=numbers.points(whole.behind_share, was.behind_share, better="down"),
        course=list(course["behind_share"]),
        target=bound,
        target_text=f"target under {numbers.share(bound)}",
        help=kpi.Help("Accounts more than 3 surplus days behind pace.", "accounts below −3 surplus days / accounts", "share", "SPEC 6"),
        alarm=whole.behind_share is not None and whole.behind_share > bound,
    )  # fmt: skip
    ahead = kpi.Card(
        "Ahead of pace",
        numbers.share(whole.ahead_share),
        change=numbers.points(whole.ahead_share, was.ahead_share, better="neutral"),
        course=list(course["ahead_share"]),
        help=kpi.Help("Accounts more than 3 surplus days ahead of pace.", "accounts above +3 surplus days / accounts", "share", "SPEC 6"),
    )  # fmt: skip
    median = kpi.Card(
        "Median surplus",
        numbers.days(whole.median),
        change=numbers.difference(whole.median, was.median, numbers.days, better="neutral"),
        course=list(course["median"]),
        help=kpi.Help(
            "Half of the accounts are further ahead than this, half less.",
            "S × L ÷ Q of each account",
            "days",
            "SPEC 4",
        ),
    )
    return [
        behind,
        ahead,
        median,
        *cards(
            [
                Wanted("run_out_share", "Ran out", target=config.slos.run_out_share),
                Wanted("at_cap_share", target=config.slos.at_cap_share),
            ],
            chosen,
        ),
    ]


if not filters.only_paced("surplus"):
    if filters.charged():
        ran_out()
    drill.entries(chosen, "surplus")
    st.stop()
with states.loading(420):
    everybody = ask(queries.surplus_now, chosen.at_end(), LISTED)
    whole = ask(standing.spread, chosen.at_end())
    course = ask(queries.surplus_bands, chosen)
said = st.container()
if everybody.empty:
    with said:
        sentence(ask(standing.ends, chosen.at_end()), whole)
    filters.nothing_here("No running account in this period with these filters.")
    drill.entries(chosen, "surplus")
    st.stop()
# Charts first: the words above them and the cards below wait for what they alone ask.
bands(course)
with said:
    sentence(ask(standing.ends, chosen.at_end()), whole)
kpi.row(summary(whole, course), key="surplus")
run_out.show(chosen)
now_by_plan()
people(everybody, whole.accounts)
ran_out()
settles()
drill.entries(chosen, "surplus")
