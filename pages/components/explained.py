"""One decision, first in a sentence, then in full: what was seen, what it made of it, and whether it still computes to the same."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from credit_core.policy.decision import State
from credit_core.policy.plans import COUNTED
from credit_core.service.lookup import Explanation
from pages.components import numbers, session

_NUDGES = {
    "freshness": "Freshness: few images so far in the session",
    "credit_health": "Credit health: how full the balance is",
    "library": "Library need: how thin the cell is",
    "segment": "Segment",
    "conservation": "Conservation switch",
    "mode": "Mode",
}


def decision(explanation: Explanation) -> None:
    """The sentence, the check, and the two tables behind it."""
    logged = explanation.logged
    st.markdown(f"**{explanation.sentence}**")
    if explanation.exact:
        st.caption(":green[:material/verified:] Recomputed from what was logged: equal to the last bit.")
    else:
        fields = ", ".join(explanation.differences)
        st.caption(f":red[:material/error:] Recomputed from what was logged, it differs in: {fields}.")
    saw, made = st.columns(2)
    with saw:
        st.markdown("What it saw")
        _table(_seen(explanation), "saw")
    with made:
        st.markdown("What it made of it")
        _table(_made(explanation), "made")
    law = "" if logged.strategy is None else f", strategy {logged.strategy}"
    st.caption(f"Configuration version {logged.config_version}, arm {logged.arm}{law}.")


def _seen(explanation: Explanation) -> list[tuple[str, str]]:
    state = explanation.logged.state
    if state.policy != "titrated_monthly":
        return _counted(state)
    cell = numbers.share(state.coverage)
    return [
        ("Available, all lots", f"{numbers.credits(state.available_uc)} credits"),
        ("Paced balance A", f"{numbers.credits(state.paced_uc)} credits"),
        ("Quota Q", f"{numbers.credits(state.quota_uc)} credits"),
        ("Days left of the cycle", f"{state.days_left:.2f} of {state.cycle_days:.2f}"),
        ("Cost of a fresh one", f"{numbers.credits(state.cost_uc)} credits"),
        ("Images so far in the session", numbers.count(state.session_images)),
        ("Fresh so far in the session", f"{state.session_fresh} for {numbers.credits(state.session_fresh_uc)} credits"),
        ("Balance when the session began", f"{numbers.credits(state.session_opening_uc)} credits"),
        ("Coverage of the cell", f"{cell}, threshold {numbers.share(explanation.logged.threshold)}"),
        ("Health of the cell", numbers.share(state.health)),
        ("Demand, with its plan's prior", f"{numbers.decimal(state.demand_rate, 2)} credits a day"),
        ("Mode before", state.mode),
    ]


def _counted(state: State) -> list[tuple[str, str]]:
    """What a plan of another policy looks at: the balance, the price, and the count with the least room."""
    limit = state.allowance
    rows = []
    if state.policy not in COUNTED:
        rows += [
            ("Available, all lots", f"{numbers.credits(state.available_uc)} credits"),
            ("Cost", f"{numbers.credits(state.cost_uc)} credits"),
        ]
    if limit is not None:
        resets = numbers.instant(limit.resets_at, session.zone())
        rows += [
            ("Count with the least room", limit.name),
            ("Used before it", f"{limit.used} of {limit.limit}"),
            ("Count resets", resets),
        ]
    elif state.policy in COUNTED:
        rows.append(("Limit", "none"))
    if state.affordable_model is not None:
        rows.append(("A model the balance covers", state.affordable_model))
    return rows


def _made(explanation: Explanation) -> list[tuple[str, str]]:
    logged = explanation.logged
    if logged.state.policy != "titrated_monthly":
        rows = [("Rule", logged.rule.replace("_", " ")), ("Answer", logged.status.replace("_", " ").lower())]
        rows += [("Model", logged.model)] if logged.model is not None else []
        rows += [] if logged.retry_after_s is None else [("Ask again after", numbers.duration(logged.retry_after_s))]
        left = logged.remaining
        return rows + ([] if left is None else [("Left after it", numbers.count(left))])
    rows = [
        ("Surplus S", f"{numbers.decimal(logged.surplus, 2, sign=True)} credits"),
        ("Surplus days", numbers.days(logged.surplus_days)),
        ("p before nudges", numbers.decimal(logged.p0, 4)),
    ]
    if logged.nudges is not None:
        rows += [(_NUDGES[name], f"× {factor:.3f}") for name, factor in logged.nudges._asdict().items()]
    return [
        *rows,
        ("Chance of a fresh one p", numbers.decimal(logged.p, 4)),
        ("Draw", numbers.decimal(logged.u01, 4)),
        ("Rule", logged.rule.replace("_", " ")),
        ("Answer", logged.status.replace("_", " ").lower()),
        ("Mode after", logged.mode),
    ]


def _table(rows: list[tuple[str, str]], key: str) -> None:
    frame = pd.DataFrame(rows, columns=["Figure", "Value"])
    st.table(frame, border="horizontal", hide_index=True, hide_header=True, alt=f"What the decision {key}.")
