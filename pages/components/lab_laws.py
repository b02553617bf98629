"""Which law is best: every strategy on the ledger's own arrivals, as dots and as a table."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from credit_core.analytics.filters import Filters
from credit_core.lab import experiments, laws
from credit_core.lab.background import Asked, Progress
from credit_core.lab.experiments import Standings
from credit_core.lab.ground import ground
from credit_core.settings import database_url
from pages.components import charts, lab_jobs, numbers, plots, session, tables
from pages.components.lab_asked import key_of
from pages.components.text import escape_markdown

#: Accounts that are replayed at once when the page opens; more only when asked for.
SAMPLE = 2_000
#: Laws that bear their name in the figure, where there is room, the first of them first.
_NAMED = (
    "live", "headroom", "always_fresh", "logistic", "weighted_40", "reserve_50", "zones", "novelty", "logistic_steep",
    "logistic_steep_fed", "affordable_3", "reserve_30", "reserve_20", "affordable_14",
)  # fmt: skip
#: Stands in the table alone: its chances are those that rewards had taught it while it was live, else a coin.
_APART = ("thompson",)
COLUMNS: Sequence[tables.Column] = (
    tables.Column("number", "No.", "count", "As in the figure."),
    tables.Column("title", "Law", pinned=True),
    tables.Column("efficiency", "Pacing efficiency", "share", "Fresh credits ÷ what budgets pay for, finished cycles."),
    tables.Column(
        "dry_share", "Dry share", "share", "Part of a cycle spent dry ÷ run-outs that there are when all is fresh."
    ),
    tables.Column("run_out_users", "Users run out", "count"),
    tables.Column("fresh_rate", "Fresh rate", "share"),
    tables.Column("flicker", "Flicker", "share", "Neighbouring answers in a session that differ."),
    tables.Column("unspent_credits", "Unspent credits", "credits", "Left at closings."),
    tables.Column("provider_cost", "Provider cost", "dollars"),
    tables.Column("on_line", "On the line", "flag", "No other law has more efficiency and less dry share."),
)


def show(chosen: Filters) -> None:
    """The chart, the sentence above it and the table below."""
    whole = st.session_state.get("lab_whole", False)
    facts, catalog = session.facts(), session.core().deployment.catalog

    def work(progress: Progress, stopped: Asked) -> Standings:
        found = ground(facts, catalog, chosen)
        return experiments.on_ledger(
            found.prepared, found.live, list(laws.LAWS), found.period,
            accounts=None if whole else SAMPLE, progress=progress, stopped=stopped,
        )  # fmt: skip

    key = ("laws", database_url(), key_of(chosen), whole)
    found = lab_jobs.awaited(
        key, work, "Replaying every law on the ledger's own requests", "lab_laws", "The comparison"
    )
    if found is None:
        return
    st.markdown(sentence(found))
    frame = found.frame.assign(number=range(1, len(found.frame) + 1))
    with st.container(border=True, key="lab_trade"):
        fig = charts.trade_off(frame[~frame["slug"].isin(_APART)], named=_NAMED)
        plots.show(fig, key="lab_trade_off", alt="Pacing efficiency over dry share, a dot for each law.")
        st.caption(
            f"{numbers.counted(found.requests, 'request')} of {numbers.counted(found.accounts, 'account')}, decided anew by each law "
            "with the draws that were logged, everything else as it is live. Dry share: how much of a cycle users spend dry, of those who "
            "would run dry if all were fresh. Up and to the left is better; numbers are those of the table; the dotted line joins "
            "the laws that no other beats, and no law gets past the dashed wall. Thompson stands in the table alone: nobody knows what "
            "rewards of its own answers would have taught it, so where it was not live it is a coin."
        )
    if not whole and found.accounts >= SAMPLE:
        st.button(
            "Replay all accounts",
            icon=":material/groups:",
            key="lab_all",
            on_click=_all,
            help="Takes longer; there is a cancel.",
        )
    tables.show(frame, COLUMNS, key="lab_table", zone=session.zone(), search=False, alt="Laws on the same arrivals")


def sentence(found: Standings) -> str:
    """What the dots say, in words: live against what beats it."""
    live = found.frame[found.frame["slug"] == "live"].iloc[0]
    better = found.frame[
        (found.frame["efficiency"] > live["efficiency"]) & (found.frame["dry_share"] < live["dry_share"])
    ].sort_values("dry_share")
    said = (
        f"Live reaches a pacing efficiency of **{numbers.share(live['efficiency'])}** and leaves "
        f"**{numbers.counted(int(live['run_out_users']), 'user')}** without credits at some time."
    )
    if not found.pressed:
        return (
            f"{said} Nobody would run dry even if everything were fresh, so there is nothing for a law to prevent here."
        )
    if better.empty:
        return f"{said} No law of the line-up has both more efficiency and less dry time."
    best = better.iloc[0]
    return (
        f"{said} {escape_markdown(str(best['title']))} reaches {numbers.share(best['efficiency'])} with less dry time: a dry share of "
        f"{numbers.share(best['dry_share'])} against {numbers.share(live['dry_share'])}."
    )


def _all() -> None:
    st.session_state["lab_whole"] = True
