"""Users: what happened to this person? Terms and balance, then every entry, then one decision explained."""

from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import streamlit as st

from credit_core import View
from credit_core.analytics import queries
from credit_core.errors import NotFound
from credit_core.service.lookup import Balance, Profile
from pages.components import charts, customer_card, explained, filters, kpi, numbers, plots, session, states, tables
from pages.components.session import guard
from pages.components.text import escape_markdown, title_of

guard()

#: Entries loaded at once; older ones on request.
PAGE = 200
OPENING = {"reserve", "library", "defer", "rate_limited", "rejected"}

st.title("Users")
facts, core, zone = session.facts(), session.core(), session.zone()
ledger = session.ledger()
if ledger.as_of is None:
    filters.no_entries()
    st.stop()
at = min(filters.anchor(ledger.as_of, session.now(), zone).end, session.now())


def search() -> None:
    """Find people by the first letters of their id."""
    prefix = st.text_input(
        "User", key="find", bind="query-params", placeholder="First letters of the user id", icon=":material/search:"
    )
    found = queries.find_users(facts.engine, prefix or "", limit=50)
    if found.empty:
        states.empty("No user id begins like that.", "Ids are told apart by capitals. Try fewer letters.")
        return
    st.caption("Click a row to open the user." if prefix else "Some users to begin with. Click a row, or search above.")
    tables.show(
        found,
        [
            tables.Column("user_id", "User", pinned=True),
            tables.Column("plan", "Plan", "slug"),
            tables.Column("region", "Region"),
            tables.Column("segment", "Segment"),
            tables.Column("available_credits", "Available", "credits"),
            tables.Column("created_at", "Since", "day"),
        ],
        key="found",
        zone=zone,
        search=False,
        on_row=lambda row: st.switch_page("pages/users.py", query_params=filters.params(user=row["user_id"])),
        file_name="users",
    )


def pace(profile: Profile) -> str:
    """Ahead or behind, in words."""
    if profile.surplus_days is None:
        return "has no quota to pace"
    if abs(profile.surplus_days) < 0.05:
        return "is exactly on pace"
    side = "ahead of" if profile.surplus_days > 0 else "behind"
    return f"is {abs(profile.surplus_days):.1f} days {side} pace"


def header(profile: Profile, balance: Balance) -> None:
    """Who this is and how they stand."""
    st.subheader(":material/person: " + escape_markdown(profile.user_id))
    reset = numbers.instant(profile.next_reset_at, zone)
    team = "" if profile.team_id is None else f" with team {escape_markdown(profile.team_id)}"
    st.markdown(
        f"On plan **{escape_markdown(title_of(profile.plan))}**{team}, {escape_markdown(profile.region)}, since "
        f"{numbers.day(profile.created_at, zone)}. The account {pace(profile)} and in mode {profile.mode}. "
        f"At the next reset, {reset}, it has {numbers.credits(profile.next_amount_uc)} credits if nothing more is spent."
    )
    flags = [
        text
        for text, on in (
            ("paused", profile.paused_at), ("blocked until a challenge is cleared", profile.blocked_at),
            ("saving credits", profile.conserving), ("sessions not counted", not profile.session_consent),
        )
        if on
    ]  # fmt: skip
    if flags:
        st.markdown(":orange[:material/flag:] " + ", ".join(flags).capitalize())
    life = balance.lifetime
    served = f"{numbers.count(life.fresh)} fresh, {numbers.count(life.library)} from the library"
    kpi.row(
        [
            kpi.Card("Available", numbers.credits(balance.available_uc), unit="credits"),
            kpi.Card("Held", numbers.credits(balance.held_uc), unit="credits in open requests"),
            kpi.Card("Surplus", numbers.days(profile.surplus_days), unit="of even spending"),
            kpi.Card("Spent", numbers.credits(life.spent_uc), unit="credits since sign-up"),
            kpi.Card("Served", numbers.count(life.fresh + life.library), unit=served),
        ],
        key="user",
    )  # fmt: skip


def preview(view: View, timezone: str) -> None:
    """What the user themselves sees, for whoever answers them."""
    st.markdown("#### As the customer sees it")
    customer_card.show(view, ZoneInfo(timezone))
    st.caption(f"Times in the customer's own zone, {timezone}.")


def lots(balance: Balance) -> None:
    """What the balance is made of, in the order it is spent."""
    st.markdown("#### Balance by lot")
    if not balance.lots:
        states.unknown("No lot holds anything now.")
        return
    frame = pd.DataFrame([lot._asdict() for lot in balance.lots])
    tables.show(
        frame,
        [
            tables.Column("kind", "Lot", "slug", help="Where the credits came from. Spent from the top."),
            tables.Column("avail_uc", "Available", "credits_uc"),
            tables.Column("held_uc", "Held", "credits_uc"),
            tables.Column("expires_at", "Expires", "instant"),
        ],
        key="lots",
        zone=zone,
        search=False,
        file_name="lots",
    )


def timeline(user_id: str) -> pd.DataFrame:
    """Every entry with the balance after it, newest first."""
    st.markdown("#### History")
    wanted = st.session_state.get("entries_wanted", PAGE)
    rows = queries.user_timeline(facts.engine, user_id, zone, limit=wanted)
    if len(rows) > 1:
        course = rows.iloc[::-1].drop_duplicates("occurred_at", keep="last")
        figure = charts.course(course, x="occurred_at", y="available_credits", unit=charts.CREDITS, zone=zone)
        plots.show(figure, key="balance_course", alt="Available credits after each entry.")
    st.caption("Click an entry that answered a request to see why it was answered so.")
    tables.show(
        rows,
        [
            tables.Column("occurred_at", "When", "instant", pinned=True),
            tables.Column("kind", "Entry", "slug"),
            tables.Column("rule", "Rule", "slug"),
            tables.Column("lot_kind", "Lot", "slug"),
            tables.Column("d_avail_credits", "Available ±", "credits"),
            tables.Column("d_held_credits", "Held ±", "credits"),
            tables.Column("available_credits", "Available after", "credits"),
            tables.Column("held_credits", "Held after", "credits"),
            tables.Column("genre", "Genre"),
            tables.Column("mood", "Mood"),
            tables.Column("model", "Model"),
            tables.Column("latency_ms", "Latency", "ms"),
            tables.Column("config_version", "Version", "count"),
            tables.Column("reason", "Reason"),
            tables.Column("request_id", "Request"),
            tables.Column("seq", "No.", "count"),
        ],
        key="timeline",
        zone=zone,
        on_row=open_decision,
        csv_rows=lambda: queries.user_timeline(facts.engine, user_id, zone, limit=None),
        total=int(rows["seq"].max()) if len(rows) else 0,
        file_name="history",
    )
    if len(rows) == wanted and st.button("Load older entries", icon=":material/expand_more:"):
        st.session_state["entries_wanted"] = wanted + PAGE
        st.rerun()
    return rows


def open_decision(row: dict[str, Any]) -> None:
    """Explain the decision of a clicked row."""
    if row["kind"] in OPENING and row["rule"]:
        st.switch_page("pages/users.py", query_params=filters.params(user=row["user_id"], request=row["request_id"]))


def explain(user_id: str, request_id: str) -> None:
    """One decision in full."""
    with st.container(border=True):
        st.markdown("#### Why this answer")
        st.text(f"Request {request_id}")
        try:
            explained.decision(core.explain(user_id, request_id))
        except NotFound as error:
            states.unknown(str(error))


user_id, request_id = st.query_params.get("user"), st.query_params.get("request")
if not user_id:
    search()
    st.stop()
if st.button("All users", icon=":material/arrow_back:", type="tertiary"):
    st.switch_page("pages/users.py", query_params=filters.params(user=None, request=None))
try:
    profile, balance, seen = core.profile(user_id, at), core.balance(user_id), core.customer_view(user_id, at)
except NotFound as error:
    states.empty("There is no such user.", str(error), page="pages/users.py", page_label="Find a user")
    st.stop()
header(profile, balance)
if request_id:
    explain(user_id, request_id)
theirs, ours = st.columns([2, 3])
with theirs:
    preview(seen, profile.timezone)
with ours:
    lots(balance)
timeline(user_id)
