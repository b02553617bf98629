"""The design's own question on made-up sessions: how evenly each law serves, and how long people stay supplied."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from credit_core.analytics.queries.population import paced_mix
from credit_core.lab import experiments, laws, population
from credit_core.lab.background import Asked, Progress
from credit_core.lab.experiments import Mock
from credit_core.lab.population import Population
from credit_core.settings import database_url
from pages.components import charts, lab_jobs, numbers, plots, session, tables
from pages.components.text import escape_markdown, title_of

SIZES = (1_000, 10_000, 100_000, 1_000_000)
#: Laws whose lines the figure of run-outs shows.
_DRAWN = ("always_fresh", "logistic", "weighted_40", "headroom")
#: Plans that the sentence about the mix names.
_NAMED = 6
#: With fewer pressed users than this a mean over them says little.
_FEW = 30
COLUMNS: Sequence[tables.Column] = (
    tables.Column("title", "Law", pinned=True),
    tables.Column("fresh_rate", "Fresh rate", "share"),
    tables.Column("session_variance", "Fresh-rate variance", "score", "Over sessions: 0 serves every session alike."),
    tables.Column(
        "sessions_to_run_out", "Sessions to run-out", "number",
        "Retention proxy: of users who would run dry if all were fresh, mean sessions up to the first run-out, or all they had.",
    ),
    tables.Column("efficiency", "Pacing efficiency", "share"),
    tables.Column("dry_share", "Dry share", "share"),
    tables.Column("run_out_users", "Users run out", "count"),
    tables.Column("flicker", "Flicker", "share"),
    tables.Column("unspent_credits", "Unspent credits", "credits"),
)  # fmt: skip


def show() -> None:
    """How many sessions, then the answer."""
    core = session.core()
    catalog, live = core.deployment.catalog, core.config()
    counted = paced_mix(session.facts())
    shares = population.mixed(catalog, counted)
    st.markdown(
        "Made-up users, like those of a real image service: most come once, a few want far more than their quota. "
        f"{mix(shares, bool(counted))} Every law gets the same requests and the same draws."
    )
    size = st.segmented_control(
        "Sessions", SIZES, default=SIZES[0], format_func=numbers.count, key="lab_sessions_size", required=True
    )
    number = size or SIZES[0]

    def work(progress: Progress, stopped: Asked) -> Mock:
        entrants = laws.chosen(laws.DESIGN)
        people = Population(plans=shares)
        return experiments.on_sessions(
            catalog, live, entrants, number, people=people, progress=progress, stopped=stopped
        )

    key = ("sessions", database_url(), number, live.model_dump_json(), shares)
    found = lab_jobs.awaited(key, work, f"Playing {numbers.count(number)} sessions", "lab_sessions", "The experiment")
    if found is not None:
        _answer(found)


def mix(shares: Sequence[population.Share], counted: bool) -> str:
    """Which plans made-up users are on, in words."""
    total = sum(share.weight for share in shares)
    largest = sorted(shares, key=lambda share: -share.weight)[:_NAMED]
    named = [
        f"{numbers.share(s.weight / total)} {escape_markdown(title_of(s.plan))} ({numbers.short(s.quota)})"
        for s in largest
    ]
    others = len(shares) - len(largest)
    more = f" and {numbers.counted(others, 'smaller group')}" if others else ""
    whose = "as this ledger's accounts are now" if counted else "in equal parts, because the ledger has no accounts yet"
    return (
        f"They are on the paced plans {whose}, with the quotas in brackets: {', '.join(named)}{more}; what they ask for does not "
        "depend on the plan."
    )


def _answer(found: Mock) -> None:
    st.markdown(sentence(found))
    if found.standings.pressed < _FEW:
        _rates(found)
    else:
        left, right = st.columns(2)
        with left:
            _survival(found)
        with right:
            _rates(found)
    tables.show(
        found.frame,
        COLUMNS,
        key="lab_sessions_table",
        zone=session.zone(),
        search=False,
        alt="Laws on made-up sessions",
    )


def _survival(found: Mock) -> None:
    st.markdown("**Users without a run-out**")
    drawn = found.survival[found.survival["slug"].isin(_DRAWN)]
    plots.show(
        charts.survival(drawn, sessions=30), key="lab_survival",
        alt="Share of pressed users without a run-out after each session, by law.",
    )  # fmt: skip
    st.caption("Users who would run dry if everything were fresh; those whose sessions end before count until then.")


def _rates(found: Mock) -> None:
    st.markdown("**Fresh rate of sessions**")
    rates = found.rates[found.rates["slug"].isin(("logistic", "headroom"))].rename(columns={"title": "law"})
    fig = charts.distribution(
        rates, low="from_rate", high="to_rate", y="sessions", unit=charts.COUNT.titled("sessions"),
        x_title="fresh rate of a session", series="law",
    )  # fmt: skip
    fig.update_layout(barmode="overlay", bargap=0, showlegend=True).update_traces(opacity=0.65)
    fig.update_yaxes(range=[0, float(rates["sessions"].max()) * 1.12])
    plots.show(fig, key="lab_rates", alt="How many sessions have which fresh rate, for two laws.")
    st.caption("A law that draws lots deals light users the odd bad session; a floor serves them all alike.")


def sentence(found: Mock) -> str:
    """The answer in words, or why so few sessions give none."""
    pressed = found.standings.pressed
    rows = found.frame.set_index("slug")
    shipped, floor = rows.loc["logistic"], rows.loc["headroom"]
    spread = (
        f"Over {numbers.count(found.sessions)} sessions the fresh rate varies by {numbers.decimal(shipped['session_variance'], 3)} "
        f"under the shipped curve and by {numbers.decimal(floor['session_variance'], 3)} under a floor that learns."
    )
    if pressed < _FEW:
        who = "Only 1 user would" if pressed == 1 else f"Only {numbers.counted(pressed, 'user')} would"
        who = "No user would" if pressed == 0 else who
        return f"{spread} {who} run dry if everything were fresh: too few to tell laws apart by run-outs. Play more sessions."
    return (
        f"{spread} Of {numbers.counted(pressed, 'user')} who would run dry if everything were fresh, the first run-out comes after "
        f"{numbers.decimal(shipped['sessions_to_run_out'], 1)} sessions under the first and "
        f"{numbers.decimal(floor['sessions_to_run_out'], 1)} under the second."
    )
