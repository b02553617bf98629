"""What another configuration would have earned in logged rewards: two estimates and their overlap, or why there are none."""

from __future__ import annotations

import streamlit as st

from credit_core.analytics.filters import Filters
from credit_core.analytics.queries import rewards
from credit_core.lab import rewarded
from credit_core.lab.background import Asked, Progress
from credit_core.lab.counterfactual import Counterfactual, Estimate
from credit_core.lab.ground import ground
from credit_core.policy import config as schema
from credit_core.policy.config import Config
from credit_core.service import configure
from credit_core.settings import database_url
from pages.components import charts, kpi, lab_jobs, numbers, plots, session, states
from pages.components.lab_asked import key_of
from pages.components.text import escape_markdown

_DRAFT = 0


def show(chosen: Filters) -> None:
    """What to estimate for, then the estimates or the refusal."""
    facts, core = session.facts(), session.core()
    st.markdown(
        "Rewards are what the application logs of requests that were served (a like, a session that went on). Credits and "
        "run-outs are replayed above; only rewards are estimated by weights."
    )
    if not rewards.reward_count(facts):
        states.empty(
            "No rewards were logged yet.",
            "Log one for each served request that was judged, from 0 to 1; estimates need some hundreds, of many users.",
            command="core.reward(user_id, request_id, 1.0)",
        )
        return
    tried = _tried()
    if tried is None:
        return
    catalog = core.deployment.catalog

    def work(progress: Progress, stopped: Asked) -> Counterfactual:
        found = ground(facts, catalog, chosen)
        return rewarded.estimate(found.prepared, tried, found.period, progress=progress, stopped=stopped)

    key = ("rewards", database_url(), key_of(chosen), tried.model_dump_json())
    if not lab_jobs.bench().knows(key) and not st.button(
        "Estimate", icon=":material/functions:", key="lab_estimate", type="primary"
    ):
        return
    found = lab_jobs.awaited(key, work, "Replaying accounts with rewards", "lab_rewards", "The estimate")
    if found is not None:
        _answer(found)


def _tried() -> Config | None:
    deployment = session.core().deployment
    versions, _, rollout = configure.versions_and_releases(deployment)
    draft = configure.draft_of(deployment, session.operator())
    bodies = {version.version: version.body for version in versions}
    choices = [*([_DRAFT] if draft and draft[1] else []), *sorted(bodies, reverse=True)]

    def named(number: int) -> str:
        if number == _DRAFT:
            return "Your draft"
        return f"Version {number}{' · live' if number == rollout.version else ''}"

    number = st.selectbox("Configuration", choices, format_func=named, key="lab_tried", width=260)
    if number is None:
        return None
    if number != _DRAFT or draft is None:
        return schema.parse(bodies[number])
    try:
        return schema.apply_changes(bodies[draft[0]], draft[1])
    except schema.InvalidConfig as error:
        st.warning(f"The draft cannot work as it stands: {escape_markdown(str(error))}", icon=":material/warning:")
        return None


def _answer(found: Counterfactual) -> None:
    d = found.diagnosis
    if found.refusals:
        with st.container(border=True, key="lab_refusal"):
            st.markdown(":orange[:material/front_hand:] **No estimate is given.**")
            st.markdown("\n".join(f"- {escape_markdown(reason)}" for reason in found.refusals))
            st.caption(
                "A number would look precise and mean nothing. Log more rewards, or choose a nearer configuration."
            )
    else:
        kpi.row(_cards(found), key="lab_rewards")
        for reason in found.snips_refusals:
            st.caption(f":material/info: No weighted estimate: {escape_markdown(reason)}")
        if found.amber:
            st.warning(
                "The two estimates differ by more than twice the standard error: the model and the weights tell different stories. "
                "Trust neither without more data.",
                icon=":material/warning:",
            )
        st.markdown(sentence(found))
    if not d.drawn:
        return
    st.markdown("**Overlap: what was drawn, and what would be**")
    fig = charts.distribution(
        found.overlap, low="from_p", high="to_p", y="decisions", unit=charts.DECISIONS, x_title="chance of a fresh one", series="side",
    )  # fmt: skip
    fig.data = fig.data[::-1]
    fig.update_layout(barmode="overlay", bargap=0, showlegend=True).update_traces(opacity=0.65)
    fig.update_yaxes(range=[0, max(float(found.overlap["decisions"].max()), 1.0) * 1.12])
    plots.show(fig, key="lab_overlap", alt="Chances of a fresh one as logged and by the configuration.")
    st.caption(
        f"{numbers.counted(d.rows, 'rewarded decision')} of {numbers.counted(d.accounts, 'account')}, "
        f"{numbers.count(d.drawn)} drawn by lot. The weights leave the information of {numbers.counted(round(d.row_ess), 'decision')} "
        f"and {numbers.counted(round(d.account_ess), 'account')}; they average {numbers.decimal(d.mean_weight, 2)} where 1 is right; "
        f"{numbers.share(d.unsupported)} of what the configuration would do was never possible."
    )


def _cards(found: Counterfactual) -> list[kpi.Card]:
    def card(label: str, one: Estimate | None, words: str, formula: str) -> kpi.Card:
        interval = None if one is None else one.interval
        ends = "" if interval is None else f"{_written(interval.low)} to {_written(interval.high)}"
        value = numbers.UNKNOWN if one is None else _written(one.value)
        return kpi.Card(label, value, unit=ends, help=kpi.Help(words, formula, "mean reward, 0 to 1"))

    return [
        card("As logged", found.logged, "Mean of the rewards that were logged, with a 95 % interval by accounts.", "Σr ÷ n"),
        card("Doubly robust", found.robust, "A model of the reward, corrected by weights.", "mean[Σₐ π(a)·q̂(x,a) + w·(r − q̂)]"),
        card("Weighted", found.snips, "Rewards weighted by how much likelier the configuration makes them.", "Σw·r ÷ Σw"),
    ]  # fmt: skip


def sentence(found: Counterfactual) -> str:
    """The estimate against what was logged, in words."""
    if found.robust is None or found.logged is None:
        return ""
    moved = found.robust.value - found.logged.value
    if found.difference is None:
        return "There are too few accounts for an interval."
    sure = found.difference.low > 0.0 or found.difference.high < 0.0
    verdict = "" if sure else ", so it may be nothing"
    return (
        f"The mean reward would change by **{numbers.decimal(moved, 3, sign=True)}** (95 % interval "
        f"{numbers.decimal(found.difference.low, 3, sign=True)} to {numbers.decimal(found.difference.high, 3, sign=True)}{verdict})."
    )


def _written(value: float) -> str:
    return numbers.decimal(value, 3)
