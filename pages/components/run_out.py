"""Run-out risk on a page: how many are at which, who they are, and how often such forecasts came true."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from credit_core.analytics import queries
from credit_core.analytics.filters import Filters
from credit_core.analytics.queries import risk
from credit_core.policy.customer import HIGH_FROM, MEDIUM_FROM
from pages.components import charts, drill, numbers, plots, sentences, session, states, tables
from pages.components.answers import ask

BANDS = ("High", "Medium", "Low")
EVERYBODY = "All"
RISK = "risk"
#: The band, as a share of the resampled cycles that run out.
MEANS = f"Low under {MEDIUM_FROM:.0%}, medium under {HIGH_FROM:.0%}, high from there on."


def show(chosen: Filters) -> None:
    """Who will run out before their reset, most likely first."""
    st.subheader("Run-out risk")
    everybody = ask(queries.run_out_risk, chosen.at_end())
    if everybody.empty:
        states.unknown("No running account has these filters.")
        return
    counts = everybody["risk"].value_counts()
    high, medium = (int(counts.get(band, 0)) for band in BANDS[:2])
    st.markdown(
        f"**{sentences.counted(high, 'user')}** {'is' if high == 1 else 'are'} at high and "
        f"**{numbers.count(medium)}** at medium risk of asking for more than they have before their next reset."
    )
    if len(everybody) == risk.MOST:
        most = numbers.count(risk.MOST)
        st.caption(
            f"Of the {most} accounts with credits left that are nearest to their end at their mean demand; the others are not drawn."
        )
    names = [*BANDS, EVERYBODY]
    band = st.segmented_control(
        "Risk", names, default="High" if high else "Medium" if medium else EVERYBODY, key=RISK, bind="query-params",
        required=True, label_visibility="collapsed",
    )  # fmt: skip
    rows = everybody if band == EVERYBODY else everybody[everybody["risk"] == band]
    if rows.empty:
        states.unknown(f"Nobody is at {band.lower()} risk.")
    else:
        _table(rows.reset_index(drop=True))
    st.caption(
        "1 000 ends of each cycle, drawn from the account's last 28 complete days of demand for fresh ones, unmet demand and "
        f"days without any included, and from its plan's with the weight of 14 days. {MEANS}"
    )
    _calibration(chosen)


def _table(rows: pd.DataFrame) -> None:
    tables.show(
        rows,
        [
            tables.Column("user_id", "User", pinned=True),
            tables.Column("plan", "Plan", "slug"),
            tables.Column("risk", "Risk", help=MEANS),
            tables.Column(
                "chance", "Chance", "share", help="Share of the drawn cycles in which the balance does not last."
            ),
            tables.Column("expected_at", "Expected", "day", help="The middle run-out of those cycles."),
            tables.Column("runway_days", "Runway, days", "credits", help="Available ÷ mean burn of the last 7 days."),
            tables.Column("available_credits", "Available", "credits"),
            tables.Column(
                "wanted_credits_per_day",
                "Wanted a day",
                "credits",
                help="Mean demand for fresh ones, unmet demand included.",
            ),
            tables.Column("next_reset_at", "Next reset", "instant"),
        ],
        key="risk_rows",
        zone=session.zone(),
        on_row=drill.to_user,
        file_name="run_out_risk",
        alt="Users by their chance to run out before the next reset, most likely first.",
    )


def _calibration(chosen: Filters) -> None:
    """Forecasts of past weeks beside what came of them; worked out when somebody asks."""
    behind = st.expander("Did such forecasts come true?", icon=":material/rule:", key="calibration", on_change="rerun")
    if not behind.open:
        return
    with behind, states.loading(300):
        found = ask(queries.risk_calibration, chosen.at_end())
    with behind:
        if found.empty:
            states.unknown("No cycle has ended since a forecast could be made.")
            return
        fig = charts.calibration(
            found, predicted="predicted", observed="observed", low="low", high="high", number="forecasts",
            x_title="chance told, %", y_title="share that ran out, %",
        )  # fmt: skip
        plots.show(fig, key="calibration_chart", alt="Share that ran out by the chance that was told.")
        made = int(found["forecasts"].sum())
        st.caption(
            f"{sentences.counted(made, 'forecast')} made at past midnights, a week apart, for cycles that have ended since. On "
            "the dashed line, what was told is what happened; the bars are 95 % intervals."
        )
