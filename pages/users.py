"""Users: what happened to this person? Terms and balance, then every entry, then one decision explained."""

from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import streamlit as st

from credit_core import View
from credit_core.analytics import queries
from credit_core.analytics.filters import Filters, Period
from credit_core.errors import NotFound
from credit_core.policy.plans import COUNTED
from credit_core.service.lookup import Balance, Profile
from credit_core.service.quotas import Count
from pages.components import (
    charts,
    customer_card,
    explained,
    filters,
    kpi,
    numbers,
    periods,
    plots,
    session,
    states,
    tables,
)
from pages.components.answers import ask
from pages.components.session import guard
from pages.components.text import escape_markdown, figure_text, title_of

guard()

#: Entries loaded at once; older ones on request.
PAGE = 200
OPENING = {"reserve", "library", "defer", "rate_limited", "rejected"}
BALANCE = (
    tables.Column("lot_kind", "Lot", "slug"),
    tables.Column("d_avail_credits", "Available ±", "credits"),
    tables.Column("d_held_credits", "Held ±", "credits"),
    tables.Column("available_credits", "Available after", "credits"),
    tables.Column("held_credits", "Held after", "credits"),
)
COUNTED_COLUMN = (tables.Column("d_count", "Counted ±", "count"),)
CELL = (tables.Column("genre", "Genre"), tables.Column("mood", "Mood"))

st.title("Users")
facts, core, zone = session.facts(), session.core(), session.zone()
ledger = session.ledger()
if ledger.as_of is None:
    filters.no_entries()
    st.stop()
# The last instant of the period, so that a day's counts are those of the day that is looked at.
at = min(periods.anchor(ledger.as_of, session.now(), zone).end - timedelta(microseconds=1), session.now())


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
    assert profile.surplus_days is not None, "a titrated account is paced"
    if abs(profile.surplus_days) < 0.05:
        return "is exactly on pace"
    side = "ahead of" if profile.surplus_days > 0 else "behind"
    return f"is {abs(profile.surplus_days):.1f} days {side} pace"


def charges(profile: Profile) -> bool:
    """True where the plan charges credits; the others count generations."""
    return profile.quota_policy not in COUNTED


def credit_words(profile: Profile) -> str:
    """'credits', or 'studio credits' where the ledger has credits of more than one unit."""
    return f"{profile.credit_unit} credits" if len(session.options().units) > 1 else "credits"


def count_name(count: Count) -> str:
    """What a count is of: 'Today', 'Video this cycle', 'Free models this cycle', 'This window'."""
    span = {"day": "today", "month": "this cycle", "free": "free models this cycle"}.get(count.allowance.name)
    words = f"{count.modality or ''} {span or 'this window'}".strip()
    return words[0].upper() + words[1:]


def of_limit(count: Count) -> str:
    return f"{numbers.count(count.allowance.used)} of {numbers.count(count.allowance.limit)}"


def resets(count: Count) -> str:
    """When a count begins anew; a guest's window opens with the next generation where none runs."""
    if count.allowance.name == "session" and not count.allowance.used:
        return "no window is running"
    return f"resets {numbers.instant(count.allowance.resets_at, zone)}"


def terms(profile: Profile) -> list[str]:
    """What the plan gives and when, in sentences: each policy has its own."""
    reset, amount = numbers.instant(profile.next_reset_at, zone), numbers.credits(profile.next_amount_uc)
    counts = [f"{count_name(one)}: {of_limit(one)} generations, {resets(one)}." for one in profile.counts]
    match profile.quota_policy:
        case "titrated_monthly":
            return [
                f"The account {pace(profile)} and in mode {profile.mode}.",
                f"At the next reset, {reset}, it has {amount} credits if nothing more is spent.",
            ]
        case "plan_credits" if profile.quota_uc:
            left = f"At the next reset, {reset}, what is left expires and it has {amount} {credit_words(profile)}."
            return [escape_markdown(left), *counts]
        case "plan_credits":
            return [f"The plan has no credits of its own; the next cycle begins {reset}.", *counts]
        case "prepaid":
            return ["Its credits are bought in packs; they do not expire and nothing resets."]
        case "daily_count":
            return counts or ["It may generate without a daily limit."]
        case _:
            return ["A guest, known by the session alone.", *counts]


def chance(profile: Profile) -> float | None:
    """How likely the balance does not last to the reset; unknown where nothing is paced."""
    if profile.quota_policy != "titrated_monthly":
        return None
    moment = Filters(Period(at - timedelta(days=1), at))
    return ask(queries.chance_of, moment, profile.user_id)


def header(profile: Profile, balance: Balance) -> None:
    """Who this is and how they stand."""
    st.subheader(":material/person: " + escape_markdown(profile.user_id))
    team = "" if profile.team_id is None else f" with team {escape_markdown(profile.team_id)}"
    st.markdown(
        f"On plan **{escape_markdown(title_of(profile.plan))}**{team}, {escape_markdown(profile.region)}, since "
        f"{numbers.day(profile.created_at, zone)}. {' '.join(terms(profile))}"
    )
    paced = profile.quota_policy == "titrated_monthly"
    flags = [
        text
        for text, on in (
            ("paused", profile.paused_at), ("blocked until a challenge is cleared", profile.blocked_at),
            ("saving credits", profile.conserving and paced),
            ("sessions not counted", paced and not profile.session_consent),
        )
        if on
    ]  # fmt: skip
    if flags:
        st.markdown(":orange[:material/flag:] " + ", ".join(flags).capitalize())
    life = balance.lifetime
    library = f", {numbers.count(life.library)} from the library" if paced else ""
    served = kpi.Card(
        "Served", numbers.count(life.fresh + life.library), unit=f"{numbers.count(life.fresh)} fresh{library}"
    )
    cards = [kpi.Card("Surplus", numbers.days(profile.surplus_days), unit="of even spending")] if paced else []
    if profile.counts:
        tightest = min((one for one in profile.counts), key=lambda one: one.allowance.limit - one.allowance.used)
        cards.append(kpi.Card(count_name(tightest), of_limit(tightest), unit=resets(tightest)))
    if charges(profile):
        name = credit_words(profile)
        cards[:0] = [
            kpi.Card("Available", numbers.credits(balance.available_uc), unit=name),
            kpi.Card("Held", numbers.credits(balance.held_uc), unit=f"{name} in open requests"),
        ]
        cards.append(kpi.Card("Spent", numbers.credits(life.spent_uc), unit=f"{name} since sign-up"))
    kpi.row([*cards, served], key="user")


def preview(view: View, timezone: str) -> None:
    """What the user themselves sees, for whoever answers them."""
    st.markdown("#### As the customer sees it")
    customer_card.show(view, ZoneInfo(timezone))
    st.caption(f"Times in the customer's own zone, {timezone}.")


def lots(profile: Profile, balance: Balance) -> None:
    """What the balance is made of, in the order it is spent."""
    if not charges(profile):
        return
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


def timeline(profile: Profile) -> pd.DataFrame:
    """Every entry with the balance after it, newest first."""
    user_id, charged = profile.user_id, charges(profile)
    st.markdown("#### History")
    wanted = st.session_state.get("entries_wanted", PAGE)
    rows = queries.user_timeline(facts.engine, user_id, zone, limit=wanted)
    if charged and len(rows) > 1:
        unit = charts.CREDITS.titled(figure_text(credit_words(profile)))
        course = rows.iloc[::-1].drop_duplicates("occurred_at", keep="last")
        figure = charts.course(course, x="occurred_at", y="available_credits", unit=unit, zone=zone)
        plots.show(figure, key="balance_course", alt="Available credits after each entry.")
    st.caption("Click an entry that answered a request to see why it was answered so.")
    tables.show(
        rows,
        [
            tables.Column("occurred_at", "When", "instant", pinned=True),
            tables.Column("kind", "Entry", "slug"),
            tables.Column("rule", "Rule", "slug"),
            *(COUNTED_COLUMN if rows["d_count"].notna().any() else ()),
            *(BALANCE if charged else ()),
            *(CELL if profile.quota_policy == "titrated_monthly" else (tables.Column("modality", "Modality", "slug"),)),
            tables.Column("model", "Model"),
            tables.Column("latency_ms", "Latency", "ms"),
            tables.Column("config_version", "Version", "count"),
            tables.Column("reason", "Reason"),
            tables.Column("request_id", "Request"),
            tables.Column("seq", "No.", "count"),
        ],
        key="timeline",
        zone=zone,
        on_row=lambda row: open_decision(user_id, row),
        csv_rows=lambda: queries.user_timeline(facts.engine, user_id, zone, limit=None),
        total=int(rows["seq"].max()) if len(rows) else 0,
        file_name="history",
    )
    if len(rows) == wanted and st.button("Load older entries", icon=":material/expand_more:"):
        st.session_state["entries_wanted"] = wanted + PAGE
        st.rerun()
    return rows


def open_decision(user_id: str, row: dict[str, Any]) -> None:
    """Explain the decision of a clicked row."""
    if row["kind"] in OPENING and not numbers.is_unknown(row["rule"]):
        st.switch_page("pages/users.py", query_params=filters.params(user=user_id, request=row["request_id"]))


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
    profile, balance = core.profile(user_id, at), core.balance(user_id)
    seen = core.customer_view(user_id, at, run_out_chance=chance(profile))
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
    lots(profile, balance)
timeline(profile)
