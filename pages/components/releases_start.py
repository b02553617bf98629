"""The dialog that starts a staged release: which version, in which steps, watched by which guardrails."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from credit_core.analytics.queries.arms import GUARDED
from credit_core.policy import config as schema
from credit_core.policy.advice import blocks
from credit_core.policy.rollout import FULL_SCHEDULE, SOFT_LAUNCH, Guardrail, Step, steps_of
from credit_core.service import staging
from credit_core.units import DAY_S
from pages.components import plots, releases_staged, session, tuning_curve, tuning_diff, tuning_versions
from pages.components.tuning_versions import Standing

_HOUR_S = 3_600.0
SCHEDULES: dict[str, tuple[float, ...]] = {
    "1 → 5 → 10 → 25 → 50 → 100 %": tuple(step.share for step in FULL_SCHEDULE),
    "Soft launch: 10 %, and no further by itself": (SOFT_LAUNCH,),
    "10 → 50 → 100 %": (SOFT_LAUNCH, 0.5, 1.0),
    "Everybody at once": (1.0,),
}
_SOFT = list(SCHEDULES)[1]
_SIDES = {"at_most": "at most", "at_least": "at least"}
_AGAINST = {"control": "control", "itself": "a fixed value"}
_ACTIONS = {"roll_back": "rolls back", "pause": "pauses"}
_FIELD_PX = 160
_USUAL = {rail.metric: rail for rail in staging.USUAL_GUARDRAILS}


@st.dialog("Release in stages", width="large")
def start(now: Standing) -> None:
    """Ask for everything a staged release needs, and begin it."""
    choices = [number for number in sorted(now.bodies, reverse=True) if number != now.live]
    if not choices:
        st.markdown("Every version is live already. Propose a change on the tuning page first.")
        st.page_link("pages/tuning.py", label="Tuning", icon=":material/tune:")
        return
    left, right, last = st.columns([3, 3, 2])
    chosen: int = left.selectbox(
        "Version", choices, format_func=lambda number: tuning_versions.name(number, now), key="versions_stage_version"
    )
    schedule = right.selectbox(
        "Shares of accounts", list(SCHEDULES), index=list(SCHEDULES).index(_SOFT), key="versions_stage_steps"
    )
    shares = SCHEDULES[schedule]
    hours = last.number_input(
        "Hold each for, hours", 0.0, 2_160.0, DAY_S / _HOUR_S, 1.0, disabled=len(shares) < 2, key="versions_stage_hold"
    )
    with st.expander(f"What differs from version {now.live}, which is live"):
        rows = tuning_diff.between(now.bodies[now.live], now.bodies[chosen])
        if rows.empty:
            st.caption("No value differs between the two.")
        else:
            tuning_diff.show(rows, key="versions_stage_rows", old=f"Version {now.live}", new=f"Version {chosen}")
    found = tuning_versions.validation(now.bodies[chosen], now.bodies[now.live])
    tuning_curve.advice([one for one in found if one.level != "note"])
    rails = _guardrails() if shares[0] < 1.0 else ()
    reason = (
        st.text_area(
            "Reason, for those who ask later", key="versions_stage_reason", max_chars=1_000,
            placeholder="Why this version, and what would show that it works",
        ) or ""
    ).strip()  # fmt: skip
    _begin(now, chosen, steps_of(shares, hours * _HOUR_S), rails, reason, blocked=blocks(found))


def _begin(
    now: Standing, version: int, steps: Sequence[Step], rails: Sequence[Guardrail], reason: str, *, blocked: bool
) -> None:
    above = schema.parse(now.bodies[now.live]).releases.approval_above
    asks = max(step.share for step in steps) > above
    first = f"{100 * steps[0].share:g}\u202f%"
    st.caption(
        f"By {session.operator()}. "
        + (
            f"Over {100 * above:g}\u202f% of accounts, so another person has to approve it first."
            if asks
            else "It begins at once."
        )
    )
    label = "Ask for approval" if asks else f"Begin with {first} of accounts"
    if st.button(label, type="primary", icon=":material/rocket_launch:", disabled=blocked, key="versions_stage_now"):
        releases_staged.perform(
            reason,
            lambda: staging.stage(
                session.core().deployment, version, author=session.operator(), reason=reason, steps=steps, guardrails=rails,
                expected_live=now.live,
            ),
            f"Version {version} waits for approval by another person." if asks else f"Version {version} is live for {first} of accounts.",
        )  # fmt: skip


def _guardrails() -> tuple[Guardrail, ...]:
    """A row of fields for each metric that is picked."""
    picked = st.multiselect(
        "Guardrails", list(GUARDED), default=list(_USUAL), format_func=lambda slug: GUARDED[slug].title,
        key="versions_stage_rails", help="What is watched while the release goes on. A breach rolls back, or only pauses.",
    )  # fmt: skip
    return tuple(_guardrail(slug, titled=not place or plots.on_phone()) for place, slug in enumerate(picked))


def _guardrail(slug: str, *, titled: bool) -> Guardrail:
    """One row; below the first the fields' titles are left out where there is room to see them above."""
    metric = GUARDED[slug]
    usual = _USUAL.get(
        slug, Guardrail(slug, "at_least" if metric.direction == "up" else "at_most", 0.05, action="pause")
    )
    share = metric.format == "share"
    told: Any = {"width": _FIELD_PX, "label_visibility": "visible" if titled else "collapsed"}
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small", key=f"versions_rail_{slug}"):
        against = st.session_state.get(f"versions_rail_against_{slug}", usual.against)
        unit = ("points" if against == "control" else "%") if share else "dollars"
        st.markdown(f"{metric.title}:gray[, {unit}]", width=250, help=f"{metric.definition}")
        against = _choice("Compared with", _AGAINST, usual.against, f"versions_rail_against_{slug}", told)
        side = _choice("Is", _SIDES, usual.side, f"versions_rail_side_{slug}", told)
        bound = st.number_input(
            "Bound", value=100.0 * usual.bound if share else usual.bound, step=1.0 if share else 0.01,
            format="%.1f" if share else "%.4f", key=f"versions_rail_bound_{slug}", **told,
        )  # fmt: skip
        least = st.number_input(
            "From n accounts", 1, 10**9, usual.least_n, 10, key=f"versions_rail_n_{slug}",
            help="Accounts that each arm needs before it is judged", **told,
        )  # fmt: skip
        action = _choice("A breach", _ACTIONS, usual.action, f"versions_rail_then_{slug}", told)
    return usual._replace(
        side=side, against=against, bound=bound / 100.0 if share else bound, least_n=int(least), action=action
    )


def _choice(label: str, words: dict[str, str], usual: str, key: str, told: dict[str, Any]) -> Any:
    names = list(words)
    return st.selectbox(label, names, index=names.index(usual), format_func=words.__getitem__, key=key, **told)
