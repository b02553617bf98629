"""What a page shows when there is nothing to show yet, when something failed, when figures are old, while it loads.

Each says what is the case and what to do next; none shows a traceback or a secret.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from pages.components.text import escape_markdown

_STOOD = "_stood"


def empty(what: str, fix: str, *, command: str = "", page: str = "", page_label: str = "") -> None:
    """Nothing here: ``what`` is missing and how to ``fix`` it, with the shell command or the page that does."""
    with st.container(border=True):
        st.markdown(f":material/inbox: **{escape_markdown(what)}**")
        st.markdown(escape_markdown(fix))
        if command:
            st.code(command, language="bash", wrap_lines=True)
        if page:
            st.page_link(page, label=page_label or "Open", icon=":material/arrow_forward:")


def failed(what: str, safe: str, do: str, *, command: str = "", detail: str = "") -> None:
    """Something failed: what happened, what is safe, what to do; the error's own words below, as text."""
    with st.container(border=True):
        st.markdown(f":red[:material/error:] **{escape_markdown(what)}**")
        st.markdown(f"**What is safe.** {escape_markdown(safe)}")
        st.markdown(f"**What to do.** {escape_markdown(do)}")
        if command:
            st.code(command, language="bash", wrap_lines=True)
        if detail:
            with st.expander("What the system said"):
                st.text(detail)


def stale(what: str, why: str) -> None:
    """Figures are not of this moment: what is the case and why. Shown above them, which stay readable."""
    st.warning(f"**{escape_markdown(what)}.** {escape_markdown(why)}", icon=":material/schedule:")


def unknown(what: str) -> None:
    """A figure that cannot be drawn from what there is, in the place where it would stand."""
    st.caption(f":material/remove: {escape_markdown(what)}")


@contextmanager
def loading(height: int = 320) -> Iterator[None]:
    """A grey shape of ``height`` pixels while the block computes and the page stands for the first time. Compute inside, draw after it.

    Afterwards what was there stays until something else takes its place: a shape in between would push the page down and up again.
    """
    context = get_script_run_ctx()
    page = "" if context is None else context.page_script_hash
    shown, stood = st.session_state.setdefault(_STOOD, (page, set()))
    if shown != page:
        stood = set()
        st.session_state[_STOOD] = page, stood
    # The place is taken in either case, or everything below would have another one than before.
    shape = st.empty() if height in stood else st.skeleton(height=height)
    try:
        yield
    finally:
        if height not in stood:
            shape.empty()
    stood.add(height)
