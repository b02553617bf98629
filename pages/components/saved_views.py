"""Saved views on a page: a question gets a name, and whoever opens the page can ask it again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import streamlit as st

from credit_core.errors import CreditError
from credit_core.service import views
from pages.components import filters, numbers, session
from pages.components.text import escape_markdown

_NAME, _TROUBLE, _DONE, _ROUND = "_view_name", "_view_trouble", "_view_done", "_view_round"

#: The page's own controls, bound to the URL under these names, and what each can say; an empty one can say anything.
Controls = Mapping[str, Collection[Any]]


def popover(controls: Controls, ready: Mapping[str, Mapping[str, str]], on_open: Callable[[], None]) -> None:
    """Questions to open, ``ready`` ones and saved ones, and a way to save what the page and the bar say now.

    A ready one leaves the bar as it is. ``on_open`` is called when one is opened.
    """
    found = views.saved(session.core().deployment)
    # A popover closes with its key: what was opened would stand behind it.
    key = f"views_{st.session_state.setdefault(_ROUND, 0)}"
    with st.popover(f"Views · {len(found)}" if found else "Views", icon=":material/bookmark:", key=key):
        for name, said in ready.items():
            st.button(name, key=f"_ready_{name}", type="tertiary", on_click=_ask, args=(said, on_open))
        st.caption("Saved questions")
        for place, view in enumerate(found):
            with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
                st.button(
                    escape_markdown(view.name), key=f"_view_{place}", type="tertiary", on_click=_open, args=(view, controls, on_open),
                    help=f"Saved by {escape_markdown(view.author)}, {numbers.instant(view.saved_at, session.zone())}.",
                )  # fmt: skip
                st.button(
                    "Remove", key=f"_view_remove_{place}", icon=":material/delete:", type="tertiary", on_click=_remove, args=(view.name,)
                )  # fmt: skip
        if not found:
            st.caption("No question has been saved yet.")
        st.text_input(
            "Save this question as", key=_NAME, max_chars=views.LONGEST_NAME, placeholder="Burn by plan, 90 days"
        )
        st.button("Save", key="_view_save", icon=":material/bookmark_add:", on_click=_save, args=(controls,))
        if trouble := st.session_state.pop(_TROUBLE, None):
            st.error(escape_markdown(trouble))
    if done := st.session_state.pop(_DONE, None):
        st.toast(done)


def _save(controls: Controls) -> None:
    said: dict[str, views.Value] = {}
    for key in (*filters.KEYS, *controls):
        value = st.session_state.get(key)
        if value not in (None, "", []):
            said[key] = [str(one) for one in value] if isinstance(value, list) else value
    try:
        view = views.save(session.core().deployment, st.session_state[_NAME], said, session.operator())
    except CreditError as error:
        st.session_state[_TROUBLE] = str(error)
        return
    st.session_state[_NAME] = ""
    st.session_state[_DONE] = f"Saved as {escape_markdown(view.name)}"


def _remove(name: str) -> None:
    try:
        views.remove(session.core().deployment, name)
    except CreditError as error:
        st.session_state[_TROUBLE] = str(error)


def _ask(said: Mapping[str, str], on_open: Callable[[], None]) -> None:
    st.session_state.update(said)
    _opened(on_open)


def _open(view: views.View, controls: Controls, on_open: Callable[[], None]) -> None:
    """Make the controls say what they said; what they cannot say any more is left out."""
    filters.clear()
    possible = filters.possible() | dict(controls)
    for key, value in view.controls.items():
        known = possible.get(key)
        if known is None:
            continue
        if isinstance(value, list):
            st.session_state[key] = [one for one in value if one in known]
        elif value in known or not known:
            st.session_state[key] = value
    _opened(on_open)


def _opened(on_open: Callable[[], None]) -> None:
    st.session_state[_ROUND] += 1
    on_open()
