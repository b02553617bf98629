"""What the tuning page does with a draft: the bar that stays at the bottom, and the dialogs that compare and publish."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from credit_core.errors import CreditError, InvalidConfig, StaleParent, WaitingForApproval
from credit_core.policy.advice import Advice, Demand, blocks
from credit_core.policy.config import Config
from credit_core.service import configure
from pages.components import numbers, session, tuning_curve, tuning_diff, tuning_versions
from pages.components import tuning_draft as drafts
from pages.components.text import escape_markdown, one_line, sentence_list
from pages.components.tuning_draft import Stale

_PUBLISHED, _NOTE = "_tuning_published", "tuning_note"


def show(found: Sequence[Advice], headline: str = "", curve: tuple[Config, Demand] | None = None) -> None:
    """The sticky bar: how many changes, whether they are saved, the preview's headline; reset, targets → k, compare, publish.

    ``curve``: the draft and the demand whose targets a k is worked out for; None where the draft cannot work.
    """
    draft = drafts.current()
    changed = len(draft.changes)
    with st.bottom, st.container(horizontal=True, vertical_alignment="center", gap="small", key="tuning_bar"):
        st.markdown(_words(draft, found, headline), width="stretch")
        st.button(
            "Reset all",
            icon=":material/undo:",
            disabled=not changed,
            on_click=drafts.reset,
            key="tuning_reset_all",
            type="tertiary",
        )
        with st.popover("Targets → k", icon=":material/my_location:", disabled=curve is None, key="tuning_targets_box"):
            if curve is not None:
                tuning_curve.targets(*curve)
                st.page_link("pages/lab.py", label="Targets for figures: search in the Lab", icon=":material/science:")
        comparing = st.button("Compare", icon=":material/compare_arrows:", disabled=not changed, key="tuning_compare")
        publishing = st.button(
            "Publish …",
            icon=":material/rocket_launch:",
            type="primary",
            disabled=not changed or blocks(found),
            key="tuning_publish",
        )
    if comparing:
        _compare()
    elif publishing:
        _publish(tuple(found))


def published() -> None:
    """Say what was just published, once, with the way on."""
    done: int | None = st.session_state.pop(_PUBLISHED, None)
    if done is not None:
        st.success(f"Version {done} is live for everybody. The next decision uses it.", icon=":material/check_circle:")
        st.page_link("pages/releases.py", label="See it in Releases", icon=":material/rocket_launch:")


def stale(old: Stale) -> None:
    """A draft against a version that is no longer live: whose change came between, what clashes, and the two ways on."""
    count = len(old.changes)
    st.warning(
        f"Your draft ({count} change{'' if count == 1 else 's'}) was made against version {old.parent}, and version {old.live} "
        "is live now. Nothing of it is lost.",
        icon=":material/history:",
    )
    _between(old)
    left, right, _ = st.columns([2, 1, 3])
    left.button(
        f"Carry my changes over to version {old.live}", type="primary", icon=":material/redo:", key="tuning_carry",
        on_click=drafts.carry_over, args=(old,), width="stretch",
    )  # fmt: skip
    right.button(
        "Discard the draft",
        icon=":material/delete:",
        key="tuning_discard",
        on_click=drafts.discard,
        args=(old,),
        width="stretch",
    )


def _words(draft: drafts.Draft, found: Sequence[Advice], headline: str) -> str:
    changed = len(draft.changes)
    if not changed:
        return f":gray[No changes. Live is version {draft.parent}.]"
    words = f"**{changed} change{'' if changed == 1 else 's'}** to version {draft.parent}"
    if draft.trouble:
        words += f" · :red[not saved: {escape_markdown(draft.trouble)}]"
    elif draft.saved_at is not None:
        words += f" · :gray[saved {numbers.ago(draft.saved_at, session.now())}]"
    else:
        words += " · :gray[saved draft]"
    words += f" · {headline}" if headline else ""
    stops = [one.sentence.split(":")[0] for one in found if one.level == "block"]
    return f"{words} · :red[mend first: {escape_markdown(sentence_list(stops))}]" if stops else words


def _difference(draft: drafts.Draft) -> Any:
    changes = {key: (draft.live.get(key), value) for key, value in draft.changes.items()}
    body = configure.version_of(session.core().deployment, draft.parent).body
    return tuning_diff.rows(changes, tuning_diff.known(body))


@st.dialog("What the draft changes", width="large")
def _compare() -> None:
    draft = drafts.current()
    tuning_diff.show(_difference(draft), key="tuning_compare_rows", old=f"Live (version {draft.parent})", new="Draft")


@st.dialog("Publish the draft", width="large")
def _publish(found: tuple[Advice, ...]) -> None:
    body = st.empty()
    with body.container():
        old = _form(found)
    if old is not None:
        body.empty()
        _overtaken(old)


def _form(found: tuple[Advice, ...]) -> Stale | None:
    """The diff, the note and the button; gives what came between where somebody published first."""
    draft = drafts.current()
    tuning_diff.show(_difference(draft), key="tuning_publish_rows", old=f"Live (version {draft.parent})", new="Draft")
    tuning_curve.advice([one for one in found if one.level != "note"])
    note = st.text_area(
        "Note, for those who ask later", key=_NOTE, max_chars=1_000, persist_state="session",
        placeholder="What should change, and how it will be seen",
    )  # fmt: skip
    st.caption(f"By {session.operator()}. Released to everybody at once; a running core decides by it within a second.")
    if not st.button("Publish to everybody", type="primary", icon=":material/rocket_launch:", key="tuning_publish_now"):
        return None
    if not note.strip():
        st.error("A note is required: say why, in a few words.", icon=":material/edit_note:")
        return None
    deployment = session.core().deployment
    try:
        done = configure.publish(
            deployment, draft.changes, author=session.operator(), note=note, expected_live=draft.parent
        )
    except StaleParent:
        return drafts.stale(draft.parent, configure.live_version(deployment).version, draft.changes)
    except InvalidConfig as error:
        for fault in error.faults:
            st.error(escape_markdown(fault), icon=":material/block:")
    except WaitingForApproval as waiting:
        st.info(
            f"Version {waiting.version} waits for another person's approval; nothing is live yet. The draft stays as it is.",
            icon=":material/how_to_reg:",
        )
        st.page_link(
            "pages/releases.py", label="See what waits", icon=":material/arrow_forward:", icon_position="right"
        )
    except CreditError as error:
        st.error("It was not published; the draft is as it was.", icon=":material/error:")
        st.text(str(error))
    else:
        st.session_state[_PUBLISHED] = done.version
        st.session_state.pop(_NOTE, None)
        drafts.forget()
        tuning_versions.catch_up()
        st.rerun()
    return None


def _overtaken(old: Stale) -> None:
    """In the dialog: somebody published first. Nothing was written and nothing is lost."""
    st.warning(
        f"Version {old.live} went live after you began, so nothing was published and nothing was overwritten. Your draft is safe.",
        icon=":material/history:",
    )
    _between(old)
    st.button(
        f"Carry my changes over to version {old.live}", type="primary", icon=":material/redo:", key="tuning_carry_now",
        on_click=_carry, args=(old,),
    )  # fmt: skip
    st.caption("Your note is kept. Look at the preview against the new version, then publish.")


def _carry(old: Stale) -> None:
    drafts.carry_over(old)
    st.rerun("app")


def _between(old: Stale) -> None:
    st.text(
        f"Version {old.live} was released {numbers.instant(old.at, session.zone())} by {one_line(old.author)}: {one_line(old.reason)}"
    )
    names = tuning_diff.known()
    st.markdown(f"**What it changed since version {old.parent}**")
    tuning_diff.show(
        tuning_diff.rows(old.theirs, names), key="tuning_theirs", old=f"Version {old.parent}", new=f"Version {old.live}"
    )
    st.markdown("**What your draft changes**")
    yours = {key: (old.then.get(key), value) for key, value in old.changes.items()}
    tuning_diff.show(tuning_diff.rows(yours, names), key="tuning_yours", old=f"Version {old.parent}", new="Your draft")
    if old.clashes:
        titles = [names[key].title if key in names else key for key in old.clashes]
        st.markdown(
            f":orange[:material/call_split:] Both changed {escape_markdown(', '.join(titles))}. Carrying over keeps your value; "
            "reset it afterwards to take theirs."
        )
