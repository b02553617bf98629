"""Integrity: can I trust this? Invariants, the copy against the ledger, open holds, chain heads, the history of checks."""

import json
from typing import Any

import pandas as pd
import streamlit as st

from credit_core.analytics import queries
from credit_core.errors import CreditError
from credit_core.service.core import CreditCore
from credit_core.settings import facts_memory, facts_threads
from pages.components import filters, kpi, numbers, provenance, session, states, tables
from pages.components.session import guard

guard()

st.title("Integrity")
facts, core, zone, now = session.facts(), session.core(), session.zone(), session.now()
ledger = session.ledger()
if ledger.as_of is None:
    filters.no_entries()
    st.stop()


def check_now() -> dict[int, Any]:
    """Run every invariant, keep the result, and return what is broken by number."""
    with st.status("Checking the ledger …", expanded=True) as status:
        bar = st.progress(0.0)

        def progress(number: int, title: str) -> None:
            bar.progress(
                (number - 1) / len(CreditCore.INVARIANTS), text=f"{number} of {len(CreditCore.INVARIANTS)}: {title}"
            )

        found = core.verify(progress=progress, record_as=session.operator())
        bar.progress(1.0, text="Done")
        status.update(label="Checked", state="complete", expanded=False)
    return {violation.invariant: violation for violation in found}


def sentence(checks: pd.DataFrame) -> None:
    """The answer to the page's question."""
    tied = provenance.tied(filters.current())
    tie = (
        "The figures of this dashboard are being checked against the ledger."
        if tied is None
        else "The figures of this dashboard are made up; there is no ledger behind them."
        if tied.made_up is not None
        else "The figures of this dashboard equal the ledger's sums."
        if tied.exact
        else "Figures and ledger disagree: see the badge."
    )
    if checks.empty:
        st.markdown(f"Nobody has checked this ledger yet. {tie}")
        return
    last = checks.iloc[0]
    when = numbers.ago(last["checked_at"], now)
    if not last["violations"]:
        st.markdown(f"All {len(CreditCore.INVARIANTS)} invariants held when last checked, {when}. {tie}")
    else:
        st.markdown(
            f":red[**Something is wrong.**] The check {when} found violations. Write nothing by hand; see below. {tie}"
        )


def standing(checks: pd.DataFrame, holds: pd.DataFrame) -> None:
    """Five figures that say how far the picture can be trusted now."""
    last = None if checks.empty else checks.iloc[0]
    stuck = int(holds["stuck"].sum()) if len(holds) else 0
    kpi.row(
        [
            kpi.Card("Entries", numbers.count(ledger.entries), unit="in the ledger's copy"),
            kpi.Card("Behind the ledger", numbers.count(ledger.lag_entries), unit=f"entries, {numbers.duration(ledger.lag_s)}"),
            kpi.Card("Open holds", numbers.count(len(holds)), unit="requests under way"),
            kpi.Card("Stuck holds", numbers.count(stuck), unit="past their lifetime", alarm=stuck > 0),
            kpi.Card(
                "Last check", "–" if last is None else numbers.ago(last["checked_at"], now),
                unit="never" if last is None else f"took {numbers.milliseconds(last['duration_ms'])}",
            ),
        ],
        key="integrity",
    )  # fmt: skip


def invariants(checks: pd.DataFrame) -> None:
    """Each invariant, green or with the rows that break it."""
    st.markdown("#### What must always hold")
    asked = st.button("Check now", icon=":material/fact_check:", type="primary")
    if asked:
        try:
            st.session_state["broken"] = check_now()
            # The check itself must be in the copy before the page shows the newest one.
            facts.follow()
        except CreditError as error:
            states.failed(
                "The check could not be finished.",
                "The ledger: a check only reads.",
                "Try again in a minute.",
                detail=str(error),
            )
            return
        st.rerun()
    if checks.empty:
        states.unknown(
            "Not checked yet. A check works out the hash of every entry: about ten seconds, and ten more for each million."
        )
        return
    counts = checks.iloc[0]["broken"]
    evidence = st.session_state.get("broken", {})
    for number, title in CreditCore.INVARIANTS.items():
        rows = int(counts.get(str(number), 0))
        if not rows:
            st.markdown(f":green[:material/check_circle:] {number}. {title.capitalize()}")
            continue
        st.markdown(
            f":red[:material/error:] **{number}. {title.capitalize()}**: broken by {numbers.counted(rows, 'row')}"
        )
        if number in evidence:
            st.text("\n".join(evidence[number].evidence))


def open_holds(holds: pd.DataFrame) -> None:
    """Credits that requests under way hold, the oldest first."""
    st.markdown("#### Open holds")
    if holds.empty:
        states.unknown("Nothing is held: every reserve has ended.")
        return
    tables.show(
        holds.sort_values("age_s", ascending=False),
        [
            tables.Column("user_id", "User", pinned=True),
            tables.Column("amount_credits", "Held", "credits"),
            tables.Column("age_s", "Age", "seconds"),
            tables.Column("expires_at", "Swept from", "instant"),
            tables.Column("stuck", "Stuck", "flag", help="Past its lifetime and not swept yet."),
            tables.Column("request_id", "Request"),
        ],
        key="holds",
        zone=zone,
        on_row=lambda row: st.switch_page("pages/users.py", query_params=filters.params(user=row["user_id"])),
        file_name="open_holds",
    )
    if holds["stuck"].any():
        st.caption("Stuck holds are released by the sweeper. Run it, or put it on a timer:")
        st.code("python -m credit_core sweep", language="bash")


def heads() -> None:
    """The newest link of every account's chain, to be kept where the ledger's database cannot reach it."""
    st.markdown("#### Chain heads")
    st.markdown(
        "Every entry carries the hash of the one before it. A chain that was cut at its end still looks whole, "
        "so keep the heads elsewhere and check against them: `python -m credit_core verify --heads FILE`."
    )
    st.download_button(
        "Heads of all accounts", data=lambda: "".join(json.dumps(head._asdict()) + "\n" for head in core.heads()).encode(),
        file_name=f"heads-{now:%Y%m%dT%H%M%SZ}.jsonl", mime="application/jsonl", on_click="ignore", icon=":material/download:",
    )  # fmt: skip
    if core.weakly_guarded():
        st.warning(
            "The dashboard connects as a role that could drop the triggers which refuse change. "
            "Let it connect as a member of titrate_app that does not own the tables.",
            icon=":material/shield:",
        )


def copy() -> None:
    """Where the columnar copy lies, who keeps it up to date, and what reading it may take."""
    place = facts.place
    limits = f"queries take up to {facts_memory()} of memory and {numbers.counted(facts_threads(), 'thread')}"
    if place.server is not None:
        said = f"on ClickHouse, in the database {place.server}, which `python -m credit_core clickhouse --follow` keeps up to date"
        limits = "queries take what the server grants them"
    elif place.folder is None:
        said = (
            "in the memory of this dashboard, made anew when it starts. `python -m credit_core sync` keeps it on disk"
        )
    else:
        whose = "this dashboard keeps up to date" if place.writes else "another process keeps up to date"
        parts = f"{numbers.counted(place.closed_segments, 'closed segment')} and {numbers.counted(place.open_segments, 'new one')}"
        said = f"on disk, in {parts}, which {whose}"
    st.caption(f"The figures are read from a columnar copy of the ledger: {said}; {limits}.")


def past_checks(checks: pd.DataFrame) -> None:
    """Who checked when, and what was found."""
    st.markdown("#### History of checks")
    tables.show(
        checks.drop(columns="broken"),
        [
            tables.Column("checked_at", "When", "instant"),
            tables.Column("violations", "Rows at fault", "count"),
            tables.Column("entries", "Entries", "count"),
            tables.Column("duration_ms", "Took", "ms"),
            tables.Column("actor", "By"),
        ],
        key="checks",
        zone=zone,
        file_name="checks",
    )


checked, held = queries.checks(facts), queries.open_holds(facts, now)
provenance.looking_again(sentence)(checked)
standing(checked, held)
left, right = st.columns(2, gap="large")
with left:
    invariants(checked)
with right:
    open_holds(held)
    heads()
if not checked.empty:
    past_checks(checked)
copy()
