"""A staged release on the page: where it stands, its guardrails with the room left, and what a person may do about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Literal, NamedTuple

import pandas as pd
import streamlit as st

from credit_core.analytics.queries.arms import GUARDED
from credit_core.errors import CreditError
from credit_core.policy.rollout import SRM_ALPHA, Reading, readings, same_person
from credit_core.service import configure, staging, watch
from credit_core.service.rollouts import Rollout
from credit_core.service.staging import Look
from pages.components import numbers, releases_readout, session, states, tables, tuning_diff, tuning_versions
from pages.components.text import escape_markdown, one_line
from pages.components.tuning_versions import Standing

#: A look older than this means that nobody watches.
STALE_AFTER = timedelta(minutes=10)
_STATUS = {
    "waiting": ("waiting for approval", "violet", ":material/how_to_reg:"),
    "overtaken": ("void: another release came in between", "gray", ":material/block:"),
    "declined": ("declined", "gray", ":material/block:"),
    "running": ("running", "blue", ":material/play_arrow:"),
    "held": ("on hold", "orange", ":material/pause:"),
    "done": ("live for everybody", "green", ":material/done_all:"),
    "rolled_back": ("rolled back", "red", ":material/undo:"),
    "superseded": ("replaced by another release", "gray", ":material/swap_horiz:"),
}
_STATES = {"unknown": "not known yet", "too few": "too few accounts", "fine": "within", "breached": "breached"}
GUARDRAILS = (
    tables.Column("rail", "Guardrail"),
    tables.Column("treatment", "Treatment", help="Accounts that the new version decides for"),
    tables.Column("control", "Control", help="As many accounts, kept apart on the version before"),
    tables.Column("bound", "Bound"),
    tables.Column("room", "Room left", help="Distance to the bound; negative is past it"),
    tables.Column("accounts", "Accounts", help="In treatment and control, and how many each needs to be judged"),
    tables.Column("state", "State"),
    tables.Column("then", "A breach"),
)


def shown(found: Sequence[Rollout]) -> list[Rollout]:
    """What the page tells of: whatever is open, else the newest one that ended."""
    return [each for each in reversed(found) if each.open] or list(found[-1:])


def show(found: Sequence[Rollout], now: Standing) -> None:
    """A panel for each staged release that matters now."""
    for rollout in shown(found):
        with st.container(border=True, key=f"versions_rollout_{rollout.plan.rollout_id}"):
            _panel(rollout, now)


def _panel(rollout: Rollout, now: Standing) -> None:
    plan, state = rollout.plan, rollout.standing
    words, colour, icon = _STATUS[state.status]
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.subheader(f"Version {plan.version} in stages", anchor=False, width="content")
        st.badge(words.capitalize(), icon=icon, color=colour)  # type: ignore[arg-type]
    st.markdown(_sentence(rollout))
    st.markdown(_steps(rollout))
    _why(rollout)
    _actions(rollout, now)
    if rollout.started_at is None:
        st.markdown("**What it changes**")
        _difference(rollout, now, f"versions_asked_{plan.rollout_id}")
        return
    looks = staging.looks(session.core().deployment, plan.rollout_id)
    _guardrails(rollout, looks[-1] if looks else None)
    releases_readout.show(rollout)


def _sentence(rollout: Rollout) -> str:
    plan, state, zone = rollout.plan, rollout.standing, session.zone()
    asked = f"Asked for by {escape_markdown(plan.author)} {numbers.ago(plan.requested_at, session.now())}"
    if state.status == "waiting":
        return f"{asked}. Nobody gets version {plan.version} before another person approves it."
    if rollout.approved_by is not None:
        asked += f", approved by {escape_markdown(rollout.approved_by)}"
    if state.status in ("running", "held") and state.step is not None:
        share = numbers.share(plan.steps[state.step].share)
        due = f"next step {numbers.instant(state.due_at, zone)}" if state.due_at else "no next step while it is on hold"
        if state.step + 1 == len(plan.steps):
            due = "the last step of its schedule"
        return f"Live for {share} of accounts, as many are kept apart as control; {due}. {asked}."
    return f"{_STATUS[state.status][0].capitalize()} {numbers.ago(state.since, session.now())} by {escape_markdown(state.author)}. {asked}."


def _steps(rollout: Rollout) -> str:
    """The schedule on one line, the running step marked."""
    at = rollout.standing.step
    parts = []
    for number, step in enumerate(rollout.plan.steps):
        words = f"{100 * step.share:g}\u202f%"
        parts.append(
            f"**:blue-background[{words}]**" if number == at else f":gray[{words}]" if number < (at or 0) else words
        )
    holds = [*dict.fromkeys(numbers.duration(step.hold_s) for step in rollout.plan.steps[:-1] if step.hold_s)]
    held = f" :gray[· held {', then '.join(holds)}{' a step' if len(holds) == 1 else ''}]" if holds else ""
    return " → ".join(parts) + held


def _why(rollout: Rollout) -> None:
    state = rollout.standing
    if state.status == "rolled_back":
        st.error(escape_markdown(state.reason), icon=":material/undo:")
    elif state.status == "held":
        st.warning(f"{escape_markdown(state.reason)} (on hold; guardrails are still watched)", icon=":material/pause:")
    else:
        st.text(f"“{one_line(rollout.plan.reason)}”")


# Acting -----------------------------------------------------------------------------------------------------------------


class Offer(NamedTuple):
    """Something that may be done to a staged release now: its button, and the dialog or act behind it."""

    verb: str
    words: str
    icon: str
    act: Callable[[], None]
    disabled: bool = False
    kind: Literal["primary", "secondary", "tertiary"] = "secondary"


def _actions(rollout: Rollout, now: Standing) -> None:
    number, mine = rollout.plan.rollout_id, same_person(rollout.plan.author, session.operator())
    pressed = None
    with st.container(horizontal=True, gap="small"):
        for offer in _offers(rollout, now, mine=mine):
            key = f"versions_{offer.verb}_{number}"
            if st.button(offer.words, icon=offer.icon, type=offer.kind, disabled=offer.disabled, key=key):
                pressed = offer.act
    if rollout.standing.status == "waiting" and mine:
        st.caption(
            f"You asked for it, so another person approves: `python -m credit_core config approve {number} --author NAME`."
        )
    if pressed is not None:
        pressed()


def _offers(rollout: Rollout, now: Standing, *, mine: bool) -> list[Offer]:
    steps, state = rollout.plan.steps, rollout.standing
    if state.status == "waiting":
        return [
            Offer("approve", "Approve …", ":material/how_to_reg:", partial(_approve, rollout, now), mine, "primary"),
            Offer("decline", "Decline …", ":material/block:", partial(_decide, rollout, "decline")),
        ]
    if state.status not in ("running", "held") or state.step is None:
        return []
    upcoming = steps[state.step + 1 : state.step + 2]
    ramp = f"Ramp to {100 * upcoming[0].share:g}\u202f% now …" if upcoming else "Ramp now …"
    stop = (
        ("hold", "Hold …", ":material/pause:")
        if state.status == "running"
        else ("resume", "Resume …", ":material/play_arrow:")
    )
    return [
        Offer("ramp", ramp, ":material/trending_up:", partial(_decide, rollout, "ramp"), not upcoming),
        Offer(*stop, partial(_decide, rollout, stop[0])),
        Offer("back", "Roll back …", ":material/undo:", partial(tuning_versions.roll_back, now)),
        Offer("look", "Look now", ":material/visibility:", _look_now, kind="tertiary"),
    ]


_WORDS = {
    "decline": ("Decline", "Nobody gets the version. Who asked may mend it and ask again.", "Declined"),
    "ramp": (
        "Ramp now",
        "The next share of accounts gets the version within a second, whatever is left of the hold.",
        "Ramped",
    ),
    "hold": (
        "Hold the schedule",
        "The share stays as it is until somebody resumes. Guardrails are still watched.",
        "On hold",
    ),
    "resume": ("Resume", "The schedule goes on. What paused it does not pause this step again.", "Resumed"),
}


@st.dialog("Staged release", width="medium")
def _decide(rollout: Rollout, verb: str) -> None:
    """One act on a staged release, with its reason."""
    title, words, done = _WORDS[verb]
    st.markdown(f"**{title}: version {rollout.plan.version}.** {words}")
    reason = _reason(f"versions_{verb}_reason")
    if st.button(title, type="primary", key=f"versions_{verb}_now"):
        act = getattr(staging, verb)
        perform(
            reason,
            lambda: act(session.core().deployment, rollout.plan.rollout_id, author=session.operator(), reason=reason),
            f"{done}: version {rollout.plan.version}.",
        )


@st.dialog("Approve a release", width="large")
def _approve(rollout: Rollout, now: Standing) -> None:
    """Approve exactly the content that is shown."""
    plan = rollout.plan
    st.markdown(
        f"Version {plan.version} begins with {numbers.share(plan.steps[0].share)} of accounts, in place of version {plan.base_version}. "
        "The approval is for this content alone."
    )
    _difference(rollout, now, "versions_approve_rows")
    st.caption(f"Content {plan.content_hash}")
    reason = _reason("versions_approve_reason")
    if st.button("Approve and begin", type="primary", icon=":material/how_to_reg:", key="versions_approve_now"):
        perform(
            reason,
            lambda: staging.approve(
                session.core().deployment, plan.rollout_id, author=session.operator(), content_hash=plan.content_hash,
                reason=reason,
            ),
            f"Approved: version {plan.version} has begun.",
        )  # fmt: skip


def perform(reason: str, write: Callable[[], Any], words: str) -> None:
    """Do what a dialog asks for, and say it on the page that follows; what is refused is told in words."""
    if not reason:
        st.error("A reason is required: say why, in a few words.", icon=":material/edit_note:")
        return
    try:
        write()
    except CreditError as error:
        st.error("Nothing was changed.", icon=":material/error:")
        st.text(str(error))
    else:
        tuning_versions.say(words)
        tuning_versions.catch_up()
        st.rerun()


def _reason(key: str) -> str:
    reason: str = st.text_area("Reason, for those who ask later", key=key, max_chars=1_000) or ""
    st.caption(f"By {session.operator()}.")
    return reason.strip()


def _difference(rollout: Rollout, now: Standing, key: str) -> None:
    plan = rollout.plan
    rows = tuning_diff.between(now.bodies[plan.base_version], now.bodies[plan.version])
    if rows.empty:
        st.caption("No value differs between the two.")
    else:
        tuning_diff.show(rows, key=key, old=f"Version {plan.base_version}", new=f"Version {plan.version}")


# Watching ---------------------------------------------------------------------------------------------------------------


def _guardrails(rollout: Rollout, look: Look | None) -> None:
    """The guardrails as the last watcher judged them, and whether anybody watches."""
    plan = rollout.plan
    st.markdown("**Guardrails**")
    judged = readings(plan.guardrails, look.figures if look else {})
    if judged:
        frame = pd.DataFrame([_row(reading) for reading in judged])
        tables.show(
            frame, GUARDRAILS, key=f"versions_guardrails_{plan.rollout_id}", zone=session.zone(), search=False,
            file_name=f"guardrails-of-version-{plan.version}", alt="Guardrails and the room left to their bounds",
        )  # fmt: skip
    else:
        states.unknown("No guardrail watches over it: nothing rolls it back but a person.")
    if look is not None:
        p = watch.srm(plan.steps, look.assigned)
        st.caption(f"{_sizes(look)} {_mismatch(p)} As seen {numbers.ago(look.looked_at, session.now())}.")
    if rollout.open and (look is None or session.now() - look.looked_at > STALE_AFTER):
        st.warning(
            "Nobody watches this release, so no guardrail acts and no step is taken.", icon=":material/visibility_off:"
        )
        st.code("python -m credit_core watch", language="bash")


def _look_now() -> None:
    try:
        seen = watch.watch(session.core().deployment)
    except CreditError as error:
        st.error("The ledger could not be read; nothing was changed.", icon=":material/error:")
        st.text(str(error))
        return
    acted = [one for one in seen if one.act != "nothing"]
    did = {"roll_back": "Rolled back", "hold": "Paused", "ramp": "Ramped"}
    said = [f"{did[one.act]}: version {one.version}." for one in acted]
    tuning_versions.say(" ".join(said) or "Looked: nothing to do.")
    tuning_versions.catch_up()
    st.rerun()


def _sizes(look: Look) -> str:
    treatment, control = (sum(counts[place] for counts in look.assigned) for place in (0, 1))
    return (
        f"Assigned so far: {numbers.counted(treatment, 'account')} to treatment, {numbers.count(control)} to control."
    )


def _mismatch(p: float | None) -> str:
    if p is None:
        return "Sizes of the arms: nothing to check yet."
    verdict = (
        "as they were drawn" if p >= SRM_ALPHA else "**not as they were drawn**: find out why before reading results"
    )
    return f"Sizes of the arms: {verdict} (χ² test by step, p = {p:.3g})."


def _row(reading: Reading) -> dict[str, str]:
    rail, metric = reading.guardrail, GUARDED[reading.guardrail.metric]
    apart = rail.against == "control"
    limit = "at most" if rail.side == "at_most" else "at least"
    bound = watch.written(metric.format, rail.bound, difference=apart)
    room = None if reading.room is None else watch.written(metric.format, reading.room, difference=True)
    ours, theirs = reading.figure
    return {
        "rail": metric.title,
        "treatment": _known(metric.format, ours.value),
        "control": _known(metric.format, theirs.value),
        "bound": f"{limit} control {bound}" if apart else f"{limit} {bound}",
        "room": room or numbers.UNKNOWN,
        "accounts": f"{numbers.count(ours.n)} and {numbers.count(theirs.n)} of {numbers.count(rail.least_n)}",
        "state": _STATES[reading.state],
        "then": "rolls back" if rail.action == "roll_back" else "pauses",
    }


def _known(kind: str, value: float | None) -> str:
    return numbers.UNKNOWN if value is None else watch.written(kind, value)


def rollouts() -> list[Rollout]:
    """Every staged release, from the ledger database itself."""
    return staging.staged(session.core().deployment)


def accounts_now(account_ids: Sequence[str]) -> dict[int, int]:
    """Version → accounts that it governs now."""
    _, _, live = configure.versions_and_releases(session.core().deployment)
    return staging.accounts_on(account_ids, live)
