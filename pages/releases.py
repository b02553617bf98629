"""Releases: what is live, who changed what, what was decided under each version; release, roll back, compare."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from credit_core.analytics import queries
from credit_core.errors import CreditError
from pages.components import (
    charts,
    filters,
    kpi,
    numbers,
    plots,
    releases_staged,
    releases_start,
    session,
    states,
    tables,
    tuning_diff,
    tuning_versions,
)
from pages.components.session import guard
from pages.components.text import escape_markdown, one_line
from pages.components.tuning_versions import Standing

guard()

RELEASES = (
    tables.Column("released_at", "Released", "instant"),
    tables.Column("version", "Version", "count"),
    tables.Column("action", "Action", "slug"),
    tables.Column("share", "Share", "share", help="Share of accounts that it was released to"),
    tables.Column("accounts", "Accounts now", "count", help="Accounts that the version decides for now"),
    tables.Column("author", "By"),
    tables.Column(
        "decisions", "Decisions", "count", help="All that were ever taken under the version, whatever the period"
    ),
    tables.Column("fresh_rate", "Fresh rate", "share", help="Fresh ÷ decisions by rules 4 to 8, under the version"),
    tables.Column("reason", "Why"),
)
VERSIONS = (
    tables.Column("version", "Version", "count"),
    tables.Column("state", "State"),
    tables.Column("parent", "Made from", "count"),
    tables.Column("author", "By"),
    tables.Column("created_at", "Proposed", "instant"),
    tables.Column("note", "Note"),
    tables.Column("released_at", "First released", "instant"),
    tables.Column("decisions", "Decisions", "count"),
    tables.Column("content_hash", "Content", help="SHA-256 of the body: equal content, equal hash"),
)


def page() -> None:
    """What is live, then how it came to be, then any two versions side by side."""
    now = tuning_versions.standing()
    released, versions = queries.releases(session.facts()), queries.versions(session.facts())
    staged = releases_staged.rollouts()
    with st.container(horizontal=True, vertical_alignment="center"):
        st.title("Releases", anchor=False, width="stretch")
        going = any(each.going_on for each in staged)
        staging = st.button(
            "Release in stages …", icon=":material/stacked_line_chart:", disabled=going, key="versions_stage",
            help="One at a time: the one that runs comes first" if going else None,
        )  # fmt: skip
        back = now.before
        words = "Roll back …" if back is None else f"Roll back to version {back} …"
        pressed = st.button(words, icon=":material/undo:", disabled=back is None, key="versions_roll_back")
    if pressed:
        tuning_versions.roll_back(now)
    elif staging:
        releases_start.start(now)
    tuning_versions.done()
    about(now, versions)
    governed = accounts_now(now)
    cards(now, released, versions)
    releases_staged.show(staged, now)
    courses()
    history(now, released.assign(accounts=_where_live(released, governed)), versions)
    compare(now)


def about(now: Standing, versions: pd.DataFrame) -> None:
    """The sentence under the title, and why, in the words of whoever released it."""
    since = numbers.ago(now.since, session.now())
    if now.treatment is None:
        st.markdown(f"Version {now.live} is live for everybody, released {since} by {escape_markdown(now.author)}.")
    else:
        st.markdown(
            f"Version {now.treatment} is live for {numbers.share(now.share)} of accounts, version {now.live} for the others; released "
            f"{since} by {escape_markdown(now.author)}."
        )
    if now.reason:
        st.text(f"“{one_line(now.reason)}”")
    proposed = sorted(set(now.bodies) - {int(v) for v in versions.loc[versions["released_at"].notna(), "version"]})
    if proposed:
        listed = ", ".join(map(str, proposed[-5:]))
        st.caption(f":material/inventory_2: Proposed and never released: version {listed}.")


def cards(now: Standing, released: pd.DataFrame, versions: pd.DataFrame) -> None:
    """What is live against what was live before it."""
    decisions, rate = under(released, versions, now.treatment or now.live)
    before = now.before
    earlier, rate_before = under(released, versions, before) if before is not None else (None, None)
    against = f"version {before}"
    many = f"{numbers.count(len(released))} release{'' if len(released) == 1 else 's'}"
    kpi.row(
        [
            kpi.Card("Live", f"Version {now.live}", target_text=f"since {numbers.instant(now.since, session.zone())}"),
            kpi.Card(
                "Decided under it" if now.treatment is None else f"Decided under version {now.treatment}", numbers.count(decisions),
                target_text=f"version {before}: {numbers.count(earlier)}" if before is not None else "",
            ),
            kpi.Card(
                "Fresh rate under it", numbers.share(rate), change=numbers.points(rate, rate_before, better="neutral"),
                change_name=against, help=kpi.Help("Fresh ÷ decisions by rules 4 to 8 under the version, since it was first live."),
            ),
            kpi.Card("Versions", numbers.count(len(now.bodies)), target_text=many),
        ],
        key="versions",
    )  # fmt: skip


def accounts_now(now: Standing) -> dict[int, int]:
    """Version → accounts that it decides for now; counted again after a release or a sign-up."""
    key = (now.live, now.treatment, now.share, now.since, session.facts().version)
    kept: tuple[Any, dict[int, int]] | None = st.session_state.get("_versions_accounts")
    if kept is None or kept[0] != key:
        kept = (key, releases_staged.accounts_now(queries.account_ids(session.facts())))
        st.session_state["_versions_accounts"] = kept
    return kept[1]


def _where_live(released: pd.DataFrame, governed: dict[int, int]) -> list[int | None]:
    """The accounts of each version at its newest release, newest first; missing where it is not live."""
    left = dict(governed)
    return [left.pop(int(version), None) for version in released["version"]]


def under(released: pd.DataFrame, versions: pd.DataFrame, number: int) -> tuple[int | None, float | None]:
    """Decisions taken under a version, and their fresh rate."""
    counts = versions.loc[versions["version"] == number, "decisions"]
    rates = released.loc[released["version"] == number, "fresh_rate"]
    rate = None if rates.empty or pd.isna(rates.iloc[0]) else float(rates.iloc[0])
    return None if counts.empty else int(counts.iloc[0]), rate


def courses() -> None:
    """Decisions a day by version, and the fresh rate a day, with the releases marked."""
    if session.ledger().as_of is None:
        filters.no_entries()
        return
    chosen, facts, zone = filters.current(), session.facts(), session.zone()
    by_version = queries.daily(facts, chosen, "requests", by="config_version")
    if by_version.empty or not by_version["value"].fillna(0).sum():
        filters.nothing_here("Nothing was decided in this period, so there is no course to show.")
        return
    by_version = by_version[by_version["config_version"].notna()]
    marks = charts.marks_from(queries.release_marks(facts, chosen))
    by_version = by_version.assign(version=[f"version {int(v)}" for v in by_version["config_version"]])
    left, right = st.columns(2)
    with left:
        st.markdown("**Requests a day, by the version that decided**")
        fig = charts.stacked_bars(
            by_version, x="day", y="value", series="version", unit=charts.REQUESTS.per("day"), zone=zone, marks=marks,
            span=filters.span(),
        )  # fmt: skip
        plots.show(fig, key="versions_by_day", alt="Requests a day by version", on_days=filters.set_days)
    with right:
        st.markdown("**Fresh rate**")
        rate = queries.daily(facts, chosen, "fresh_rate")
        fig = charts.time_lines(
            rate,
            x="day",
            y="value",
            unit=charts.SHARE.titled("fresh rate, %"),
            zone=zone,
            marks=marks,
            span=filters.span(),
        )
        plots.show(fig, key="versions_fresh", alt="Fresh rate a day, with releases marked", on_days=filters.set_days)


def history(now: Standing, released: pd.DataFrame, versions: pd.DataFrame) -> None:
    """Every release and every version, newest first; a row opens the version below."""
    st.subheader("History", anchor=False)
    first, second = st.tabs([f"Releases · {len(released)}", f"Versions · {len(versions)}"])
    with first:
        tables.show(
            released,
            RELEASES,
            key="versions_releases",
            zone=session.zone(),
            on_row=_open,
            file_name="releases",
            alt="Every release",
        )
    with second:
        listed = versions.sort_values("version", ascending=False, ignore_index=True).astype({"parent": "float64"})
        ever = listed["released_at"].notna()
        listed["state"] = [_state(int(v), bool(r), now) for v, r in zip(listed["version"], ever, strict=True)]
        tables.show(
            listed,
            VERSIONS,
            key="versions_versions",
            zone=session.zone(),
            on_row=_open,
            file_name="versions",
            alt="Every version",
        )


def _state(number: int, released: bool, now: Standing) -> str:
    if number == now.live:
        return "live"
    if number == now.treatment:
        return "live for a share"
    return "released earlier" if released else "proposed"


def _open(row: dict[str, Any]) -> None:
    """Show a clicked version against the one it was made from, below."""
    st.session_state["_versions_opened"] = int(row["version"])
    st.rerun()


def compare(now: Standing) -> None:
    """Any two versions side by side; the right one can be exported and released."""
    st.subheader("Compare", anchor=False)
    numbers_ = sorted(now.bodies, reverse=True)
    opened = st.session_state.pop("_versions_opened", None)
    if opened in now.bodies:
        st.session_state["versions_new"] = opened
        st.session_state["versions_old"] = now.live if opened != now.live else now.before or now.live
    st.session_state.setdefault("versions_old", now.before or now.live)
    st.session_state.setdefault("versions_new", now.treatment or now.live)
    left, right = st.columns(2)
    old = left.selectbox(
        "From version", numbers_, format_func=lambda n: tuning_versions.name(n, now), key="versions_old"
    )
    new = right.selectbox(
        "To version", numbers_, format_func=lambda n: tuning_versions.name(n, now), key="versions_new"
    )
    rows = tuning_diff.between(now.bodies[old], now.bodies[new])
    if rows.empty:
        same = "It is the same version." if old == new else "Their contents are equal."
        states.unknown(f"Nothing differs. {same}")
    else:
        tuning_diff.show(
            rows, key="versions_diff", old=f"Version {old}", new=f"Version {new}", file_name=f"version-{old}-to-{new}"
        )
    if now.notes.get(new):
        st.caption(f"Note of version {new}")
        st.text(now.notes[new])
    with st.container(horizontal=True, gap="small"):
        st.download_button(
            f"Version {new} as JSON", tuning_versions.exported(new, now), f"titrate-config-{new}.json", "application/json",
            icon=":material/download:", on_click="ignore", key="versions_export",
        )  # fmt: skip
        is_live = new == now.live and now.treatment is None
        if st.button(
            f"Release version {new} …", icon=":material/rocket_launch:", disabled=is_live, key="versions_release"
        ):
            tuning_versions.release(new, now)


try:
    page()
except CreditError as error:
    states.failed(
        "The releases could not be read just now.",
        "The ledger and what is live: nothing was written.",
        "Reload in a moment. Where it stays so, check that the database answers.",
        command="python -m credit_core verify",
        detail=str(error),
    )
