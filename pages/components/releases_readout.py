"""The readout of a staged release: differences of the arms by account, with intervals that may be looked at every day."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from credit_core.analytics import queries
from credit_core.analytics.queries.arms import Window
from credit_core.analytics.queries.readout import WINDOW_DAYS, Enrolment
from credit_core.service.rollouts import Rollout
from pages.components import numbers, session, states, tables

COLUMNS = (
    tables.Column("title", "Over seven days"),
    tables.Column("treatment", "Treatment"),
    tables.Column("control", "Control"),
    tables.Column(
        "difference", "Difference", help="Treatment − control, less what the 28 days before exposure explain"
    ),
    tables.Column("interval", "95 % interval", help="Sequential: right however often it is looked at"),
    tables.Column("lift", "Relative", help="Treatment ÷ control − 1; its sequential interval is in the CSV"),
    tables.Column("reads", "Reads as"),
    tables.Column("explained", "Explained", "share", help="Part of the variance that the 28 days before took away"),
)
_KEPT = "_versions_readout"


def show(rollout: Rollout) -> None:
    """The table, or why there is none yet."""
    started, ended = rollout.started_at, _ended(rollout)
    if started is None or rollout.plan.steps[0].share == 1.0:
        return
    st.markdown("**Readout**")
    window = Window(rollout.steps_after[0], rollout.plan.version, rollout.plan.base_version, started)
    # Windows complete by the hour; what is new in the ledger counts at once.
    asked = (
        rollout.plan.rollout_id,
        ended,
        session.facts().version,
        session.now().replace(minute=0, second=0, microsecond=0),
    )
    kept = st.session_state.get(_KEPT)
    if kept is None or kept[0] != asked:
        kept = st.session_state[_KEPT] = (asked, queries.readout(session.facts(), window, ended, session.now()))
    found: queries.Readout = kept[1]
    if min(found.enrolment.complete) == 0:
        states.unknown(_waiting(found.enrolment, ended is not None))
        return
    tables.show(
        pd.DataFrame([_row(row) for row in found.frame.to_dict("records")]), COLUMNS,
        key=f"versions_readout_{rollout.plan.rollout_id}", zone=session.zone(), search=False,
        file_name=f"readout-of-version-{rollout.plan.version}", csv_rows=lambda: found.frame, alt="Readout by account",
    )  # fmt: skip
    treatment, control = found.enrolment.complete
    st.caption(
        f"{numbers.counted(treatment, 'account')} in treatment and {numbers.count(control)} in control have completed their "
        f"{WINDOW_DAYS} days, of {numbers.count(found.enrolment.exposed[0])} and {numbers.count(found.enrolment.exposed[1])} exposed."
    )


def _ended(rollout: Rollout) -> Any:
    """When the arms ceased: at the end, or when everybody got it."""
    return None if rollout.open else rollout.standing.since


def _waiting(enrolment: Enrolment, ended: bool) -> str:
    exposed = sum(enrolment.exposed)
    words = (
        f"{numbers.counted(exposed, 'account')} exposed, and not both arms have one with {WINDOW_DAYS} complete days"
    )
    if ended:
        return f"It ended before there was a readout: {words}."
    if enrolment.next_at is None:
        return "Nobody asked for anything in either arm yet, so there is nothing to read."
    return f"No readout yet: {words}. The next window is complete {numbers.instant(enrolment.next_at, session.zone())}."


def _row(row: dict[str, Any]) -> dict[str, Any]:
    kind = row["format"]
    return {
        "title": row["title"],
        "treatment": _level(row["treatment"], kind),
        "control": _level(row["control"], kind),
        "difference": _apart(row["difference"], kind),
        "interval": _between(row["low"], row["high"], kind),
        "lift": numbers.share(row["lift"], sign=True),
        "reads": _reads(row),
        "explained": row["explained"],
    }


def _level(value: float, kind: str) -> str:
    return (
        numbers.UNKNOWN
        if numbers.is_unknown(value)
        else numbers.share(value)
        if kind == "share"
        else _plain(value, kind)
    )


def _apart(value: float, kind: str) -> str:
    if numbers.is_unknown(value):
        return numbers.UNKNOWN
    return f"{numbers.decimal(100 * value, 1, sign=True)} points" if kind == "share" else _plain(value, kind, sign=True)


def _plain(value: float, kind: str, *, sign: bool = False) -> str:
    written = numbers.decimal(value, 4 if kind == "dollars" else 2, sign=sign)
    return written if kind != "dollars" else written.replace("+", "+$").replace("−", "−$") if sign else f"${written}"


def _between(low: float, high: float, kind: str) -> str:
    if numbers.is_unknown(low):
        return numbers.UNKNOWN
    return f"{_apart(low, kind).removesuffix(' points')} … {_apart(high, kind)}"


def _reads(row: dict[str, Any]) -> str:
    """The interval in a word: whether it tells a difference, and whether that is the better side."""
    if numbers.is_unknown(row["low"]):
        return numbers.UNKNOWN
    if row["low"] <= 0.0 <= row["high"]:
        return "no difference told"
    up = row["low"] > 0.0
    if row["direction"] == "neutral":
        return "higher" if up else "lower"
    return "better" if up == (row["direction"] == "up") else "worse"
