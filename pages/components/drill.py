"""From figures to what is behind them: one user's page, who moved most, and the ledger's entries as a file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import streamlit as st

from credit_core.analytics import queries
from credit_core.analytics.filters import Filters
from pages.components import filters, numbers, plots, session, tables
from pages.components.answers import ask

#: What movers can be told by: the query's dimension → its name on screen.
MOVERS = {"user_id": "Users", "plan": "Plans", "region": "Regions", "model": "Models"}
#: Entries on screen; the file has all.
ENTRIES_SHOWN = 200

_ENTRY_COLUMNS = (
    tables.Column("occurred_at", "When", "instant"),
    tables.Column("user_id", "User"),
    tables.Column("plan", "Plan", "slug"),
    tables.Column("region", "Region"),
    tables.Column("kind", "Entry", "slug"),
    tables.Column("d_avail_uc", "Available", "credits_uc", help="Change of the credits that can be spent."),
    tables.Column("d_held_uc", "Held", "credits_uc", help="Change of the credits that open requests hold."),
    tables.Column("rule", "Rule", "slug"),
    tables.Column("genre", "Genre"),
    tables.Column("mood", "Mood"),
    tables.Column("model", "Model"),
    tables.Column("config_version", "Version", "count"),
    tables.Column("request_id", "Request"),
)


def to_user(row: dict[str, Any]) -> None:
    """Open the user of a clicked row, with the period and filters kept."""
    if row.get("user_id"):
        st.switch_page("pages/users.py", query_params=filters.params(user=row["user_id"]))


def movers(chosen: Filters, key: str) -> None:
    """Who spends more and who less than in the comparison, largest change first."""
    by = st.segmented_control(
        "By", list(MOVERS), default="user_id", format_func=MOVERS.__getitem__, key=key, bind="query-params",
        required=True, label_visibility="collapsed",
    )  # fmt: skip
    rows = ask(queries.top_movers, chosen, by=by, limit=10)
    if rows.empty:
        filters.nothing_here("Nothing was spent in this period or the one before.")
        return
    before = filters.compare_name() if chosen.compare else "the period before"
    if plots.on_phone():
        st.space("small")  # where the table's own buttons stand, always, without a pointer to hover
    tables.show(
        rows,
        [
            tables.Column(by, MOVERS[by][:-1], "text" if by in ("user_id", "model") else "slug", pinned=True),
            tables.Column("change_credits", "Change", "days", help=f"Credits more or less than {before}."),
            tables.Column("spent_credits", "Credits now", "credits"),
            tables.Column("before_credits", "Credits before", "credits"),
        ],
        key=f"{key}_rows",
        zone=session.zone(),
        on_row=to_user if by == "user_id" else None,
        search=False,
        csv_rows=lambda: queries.top_movers(session.facts(), chosen, by=by, limit=None),
        file_name=f"movers_by_{by}",
        alt=f"{MOVERS[by]} whose spending changed most against {before}.",
    )


def entries(chosen: Filters, key: str) -> None:
    """The ledger's entries behind the page's filters: the newest on screen, all of them in the file."""
    behind = st.expander(
        "Entries behind these figures", icon=":material/database:", key=f"{key}_entries", on_change="rerun"
    )
    if not behind.open:
        return
    with behind:
        shown = ask(queries.rows_frame, chosen, limit=ENTRIES_SHOWN)
        if shown.empty:
            filters.nothing_here("No entries in this period with these filters.")
            return
        total = next(line.facts for line in ask(queries.tie_out, chosen).lines if line.name == "entries")
        entry_table(
            shown,
            key=f"{key}_entry_rows",
            csv_data=lambda: queries.csv_bytes(session.facts(), chosen),
            total=total,
            file_name=f"entries_{key}",
        )


def entry_table(rows: pd.DataFrame, *, key: str, csv_data: Callable[[], bytes], total: int, file_name: str) -> None:
    """Ledger entries, of which there may be ``total`` in the file; a click opens the user."""
    tables.show(
        rows,
        [column for column in _ENTRY_COLUMNS if column.name in rows],
        key=key,
        zone=session.zone(),
        on_row=to_user,
        csv_data=csv_data,
        total=total,
        file_name=file_name,
        alt=f"The newest {numbers.count(len(rows))} ledger entries behind the filters.",
    )
