"""Behind the preview's cards: surplus and burn over the period, who gains and who loses, each plan and segment."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from credit_core.lab.outcomes import METRICS
from pages.components import drill, filters, numbers, plots, session, states, tables, tuning_preview
from pages.components.charts.paired import DRAFT, LIVE, paired_bands, paired_burn
from pages.components.text import title_of
from pages.components.tuning_preview import Shown

#: Accounts on each side of the table of those who gain and lose.
MOST_MOVED = 20
_TITLES = {metric.slug: metric.title for metric in METRICS}


def show(shown: Shown) -> None:
    """Everything below the first cards."""
    tuning_preview.metrics(shown, tuning_preview.SECOND, key="tuning_more")
    left, right = st.columns(2, gap="large")
    with left:
        _bands(shown)
    with right:
        _burn(shown)
    if shown.same:
        return
    if not shown.whole:
        states.unknown(
            "Who gains, who loses, each plan and each segment are told when all accounts are replayed: a sample has too few."
        )
        return
    left, right = st.columns(2, gap="large")
    with left:
        _movers(shown, gain=False)
    with right:
        _movers(shown, gain=True)
    _groups(shown)


def _bands(shown: Shown) -> None:
    st.subheader("Surplus days", anchor=False)
    frame = _by_day(shown, shown.found.surplus)
    if frame["p50"].isna().all():
        states.unknown("No day of this period has ended yet, so there is no surplus at a day's end.")
        return
    words = "Median, middle half and middle 90 % of accounts" + ("" if shown.same else "; dotted grey: live")
    fig = paired_bands(frame, zone=session.zone(), span=filters.span())
    plots.show(fig, key="tuning_bands", alt=f"Surplus days over the period. {words}.")
    st.caption(f"{words}. Days of even spending ahead (+) or behind (−).")


def _burn(shown: Shown) -> None:
    st.subheader("Burn against pace", anchor=False)
    frame = _by_day(shown, shown.found.burn)
    pace = shown.ready.pace.rename(columns={"credits": "pace"})
    fig = paired_burn(frame.merge(pace, on="day", how="left"), zone=session.zone(), span=filters.span())
    plots.show(fig, key="tuning_burn", alt="Credits spent from the period's start on, live and draft, against pace.")
    last = frame.groupby("side")["credits"].last()
    ends = [numbers.in_credits(last[side]) for side in (LIVE, DRAFT) if side in last]
    st.caption(f"Spent by the end: {' → '.join(ends)}. Pace is what the quotas of all these plans' accounts afford.")


def _by_day(shown: Shown, frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with the reporting day that each end ends, and the page's words for its sides."""
    zone, sides = session.zone(), {"live": LIVE, "candidate": DRAFT}
    kept = frame[frame["side"] == "live"] if shown.same else frame
    ends = pd.to_datetime(kept["end_at"], utc=True) - pd.Timedelta(microseconds=1)
    days = ends.dt.tz_convert(zone.key).dt.normalize().dt.tz_localize(None)
    return kept.assign(day=days, side=kept["side"].map(sides))


def _movers(shown: Shown, *, gain: bool) -> None:
    rows, key = shown.found.accounts, "tuning_gain" if gain else "tuning_loss"
    rows = rows[rows["difference"] > 0] if gain else rows[rows["difference"] < 0]
    rows = rows.iloc[::-1] if gain else rows
    st.subheader("Who gains" if gain else "Who loses", anchor=False)
    if rows.empty:
        states.unknown(f"Nobody could expect {'more' if gain else 'less'} fresh ones.")
        return
    owned = rows.merge(shown.ready.owners[["account_id", "user_id"]], on="account_id", how="left")
    owned["user_id"] = owned["user_id"].fillna(owned["account_id"])
    tables.show(
        owned.head(MOST_MOVED),
        _MOVERS,
        key=key,
        zone=session.zone(),
        on_row=drill.to_user,
        search=False,
        csv_rows=lambda: owned,
        total=len(owned),
        file_name="accounts_that_gain" if gain else "accounts_that_lose",
        height=390,
        alt="Accounts whose fresh credits to be expected change most, live and draft.",
    )


def _groups(shown: Shown) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute"):
        st.subheader("By plan and segment", anchor=False)
        slug = st.selectbox(
            "Metric", list(_TITLES), format_func=_TITLES.__getitem__, key="tuning_group_metric", width=320,
            label_visibility="collapsed", persist_state="session",
        )  # fmt: skip
    rows = shown.found.metrics
    rows = rows[(rows["slug"] == slug) & (rows["by"] != "all")]
    unit = tuning_preview.UNITS[slug or "fresh_rate"]
    told = pd.DataFrame(
        {
            "by": rows["by"].map({"plan": "Plan", "segment": "Segment"}),
            "group": rows["group"].map(title_of),
            "accounts": rows["accounts"],
            "live": [tuning_preview.written(value, unit) for value in rows["live"]],
            "draft": [tuning_preview.written(value, unit) for value in rows["candidate"]],
            "change": [tuning_preview.moved(value, unit) for value in rows["difference"]],
            "from": [tuning_preview.moved(value, unit) for value in rows["low"]],
            "to": [tuning_preview.moved(value, unit) for value in rows["high"]],
        }
    )
    points = ", points" if unit.startswith("share") else ""
    columns = [
        tables.Column("by", "By"),
        tables.Column("group", "Name"),
        tables.Column("accounts", "Accounts", "count"),
        tables.Column("live", "Live"),
        tables.Column("draft", "Draft"),
        tables.Column("change", f"Change{points}"),
        tables.Column("from", "95 % from", help="Lower end of the interval of the change, accounts resampled"),
        tables.Column("to", "95 % to", help="Upper end of the interval of the change"),
    ]
    plain = rows.drop(columns=["slug", "unit"])
    tables.show(
        told, columns, key="tuning_groups", zone=session.zone(), search=False, csv_rows=lambda: plain, file_name=f"{slug}_by_group",
        alt=f"{_TITLES[slug or 'fresh_rate']} by plan and segment, live and draft.",
    )  # fmt: skip


_MOVERS: Sequence[tables.Column] = (
    tables.Column("user_id", "User", pinned=True),
    tables.Column("plan", "Plan", "slug"),
    tables.Column("difference", "Change", "days", help="Fresh credits to be expected (Σ p·cost), draft less live"),
    tables.Column("live_credits", "Live", "credits"),
    tables.Column("candidate_credits", "Draft", "credits"),
)
