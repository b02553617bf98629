"""Versions and releases: what is live, and the dialogs that put another version in its place."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import streamlit as st

from credit_core.errors import CreditError, InvalidConfig, StaleParent, WaitingForApproval
from credit_core.policy import config as schema
from credit_core.policy.advice import Advice, advise, check
from credit_core.service import configure
from pages.components import numbers, session, tuning_curve, tuning_diff
from pages.components.text import escape_markdown, one_line, shortened

_DONE = "_versions_done"


@dataclass(frozen=True)
class Standing:
    """What the ledger database says now: every version's body and note, and what is live for whom, since when, by whom."""

    bodies: Mapping[int, Mapping[str, Any]]
    notes: Mapping[int, str]
    live: int
    treatment: int | None
    share: float
    since: datetime
    author: str
    reason: str
    released: Sequence[int]

    @property
    def before(self) -> int | None:
        """What a rollback returns to: the version that was live before, as an undo would find it."""
        return self.live if self.treatment is not None else self.released[-2] if len(self.released) > 1 else None


def standing() -> Standing:
    """Read what is live, from the ledger database itself."""
    versions, released, rollout = configure.versions_and_releases(session.core().deployment)
    to_all = [release for release in released if release.arm == "all"]
    last = released[-1] if rollout.treatment is not None else to_all[-1]
    stack: list[int] = []
    for release in to_all:
        if release.action == "rollback" and release.version in stack:
            del stack[stack.index(release.version) + 1 :]
        else:
            stack.append(release.version)
    return Standing(
        bodies={version.version: version.body for version in versions},
        notes={version.version: version.note for version in versions},
        live=rollout.version,
        treatment=rollout.treatment,
        share=rollout.share,
        since=last.released_at,
        author=last.author,
        reason=last.reason,
        released=tuple(stack),
    )


def name(number: int, now: Standing) -> str:
    """A version in a list of choices: its number, what it is, and the beginning of its note."""
    mark = " · live" if number == now.live else f" · {numbers.share(now.share)}" if number == now.treatment else ""
    note = shortened(now.notes.get(number, ""), 48)
    return f"{number}{mark}{' · ' + note if note else ''}"


def exported(number: int, now: Standing) -> bytes:
    """A version's body as JSON, keys in the schema's order."""
    return json.dumps(now.bodies[number], indent=2, ensure_ascii=False).encode()


def say(words: str) -> None:
    """Have the page that follows say what a dialog did."""
    st.session_state[_DONE] = words


def done() -> None:
    """Say once what a dialog did."""
    words: str | None = st.session_state.pop(_DONE, None)
    if words:
        st.success(words, icon=":material/check_circle:")


@st.dialog("Roll back", width="large")
def roll_back(now: Standing) -> None:
    """Release what was live before again, for a reason."""
    target = now.before
    if target is None:
        st.markdown("There is no earlier version to go back to.")
        return
    words = f"Version {target} becomes live again for everybody in place of version {now.treatment or now.live}."
    st.markdown(f"{words} It is a new release: nothing is erased, and what was decided stays decided.")
    _difference(now.treatment or now.live, target, now, "versions_roll_back_rows")
    reason = _reason("versions_roll_back_reason", "Why it has to go back")
    if st.button("Roll back for everybody", type="primary", icon=":material/undo:", key="versions_roll_back_now"):
        deployment, author = session.core().deployment, session.operator()
        _act(
            reason,
            lambda: configure.roll_back(deployment, author, reason, target),
            f"Rolled back: version {target} is live for everybody.",
            now,
        )


@st.dialog("Release a version", width="large")
def release(number: int, now: Standing) -> None:
    """Make an older or a proposed version live for everybody, for a reason."""
    st.markdown(f"Version {number} becomes live for everybody in place of version {now.live}.")
    _difference(now.live, number, now, "versions_release_rows")
    found = validation(now.bodies[number], now.bodies[now.live])
    tuning_curve.advice([one for one in found if one.level != "note"])
    reason = _reason("versions_release_reason", "Why this version, and why now")
    pressed = st.button(
        "Release to everybody", type="primary", icon=":material/rocket_launch:", key="versions_release_now"
    )
    if pressed:
        deployment, author = session.core().deployment, session.operator()
        _act(
            reason,
            lambda: configure.release_version(deployment, number, author=author, reason=reason, expected_live=now.live),
            f"Version {number} is live for everybody.",
            now,
        )


def validation(body: Mapping[str, Any], live: Mapping[str, Any]) -> list[Advice]:
    """What there is to know of a stored version without looking at demand."""
    checked = check(body, {}, tuple(session.core().deployment.catalog.models))
    if checked.config is None:
        return checked.faults
    with suppress(InvalidConfig):
        return advise(checked.config, [], schema.parse(live))
    return []


def _difference(old: int, new: int, now: Standing, key: str) -> None:
    rows = tuning_diff.between(now.bodies[old], now.bodies[new])
    if rows.empty:
        st.caption("No value differs between the two.")
    else:
        tuning_diff.show(rows, key=key, old=f"Version {old}", new=f"Version {new}")


def _reason(key: str, placeholder: str) -> str:
    reason: str = (
        st.text_area("Reason, for those who ask later", key=key, max_chars=1_000, placeholder=placeholder) or ""
    )
    st.caption(f"By {session.operator()}. A running core decides by it within a second.")
    return reason.strip()


def _act(reason: str, write: Any, words: str, now: Standing) -> None:
    if not reason:
        st.error("A reason is required: say why, in a few words.", icon=":material/edit_note:")
        return
    try:
        write()
    except StaleParent:
        later = standing()
        st.warning(
            f"Version {later.live} went live since you looked at version {now.live}; nothing was written. Close this, look at what "
            "changed, and decide again.",
            icon=":material/history:",
        )
        st.text(f"Version {later.live}, by {one_line(later.author)}: {one_line(later.reason)}")
        _difference(now.live, later.live, later, "versions_between_rows")
    except WaitingForApproval as waiting:
        say(f"Version {waiting.version} waits for approval by another person; until then nothing changes.")
        st.rerun()
    except InvalidConfig as error:
        for fault in error.faults:
            st.error(escape_markdown(fault), icon=":material/block:")
    except CreditError as error:
        st.error("Nothing was changed.", icon=":material/error:")
        st.text(str(error))
    else:
        say(words)
        catch_up()
        st.rerun()


def catch_up() -> None:
    """Copy what was just written, so that the page that follows shows it. A ledger that is away is shown as it was."""
    with suppress(CreditError):
        session.facts().follow()
