"""The controls of the tuning page: groups of tunables, each a slider and an exact field in step, with its way back.

The draft is the one truth: before they are drawn, slider and field are set to its value; moving either changes it. What was
changed elsewhere is another widget then: a browser that has not drawn the new value yet sends the old one along with its next
question, and under the same name that would take the change back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from credit_core.policy.advice import Advice
from credit_core.policy.config import Config
from credit_core.policy.tunables import Tunable, tunables
from pages.components import tuning_draft as drafts
from pages.components.text import escape_markdown, title_of
from pages.components.tuning_curve import advice
from pages.components.tuning_scales import is_whole, nearest, step_of, stops_of, written

#: Groups as the page orders them: title, icon, beginning of the keys.
GROUPS: Sequence[tuple[str, str, tuple[str, ...]]] = (
    ("Gain", ":material/show_chart:", ("controller.",)),
    ("Nudges", ":material/swipe:", ("nudges.",)),
    ("Hysteresis", ":material/sync_alt:", ("hysteresis.",)),
    ("Session caps", ":material/timer:", ("session.",)),
    ("Coverage", ":material/grid_view:", ("coverage.", "*.coverage_threshold")),
    ("Rollover", ":material/redo:", ("rollover.", "*.cap_multiple", "*.soft_decay")),
    ("Routing", ":material/alt_route:", ("routing.",)),
    ("Other strategies", ":material/psychology:", ("strategies.",)),
    ("Limits and holds", ":material/speed:", ("limits.", "saga.")),
    ("Targets", ":material/flag:", ("slos.",)),
    ("Releases", ":material/how_to_reg:", ("releases.",)),
)
_MODELS = ("routing.premium_model", "routing.economy_model")
#: Widget → the key that it has at present; a number at its end counts how often its value was changed by something else.
_KEYS = "_tuning_keys"
_WORDS: Mapping[str, str] = {"quota_percent": "percent of quota", "feed_forward": "feed-forward"}


def show(live: Config, models: Sequence[str], faults: Sequence[Advice]) -> None:
    """What is changed, then every group; its controls are drawn only while it is open, its faults above them."""
    shown = list(tunables(live))
    changed = [t for t in shown if t.key in drafts.current().changes]
    names = " ".join(f":blue-badge[{escape_markdown(_title(t))}]" for t in changed)
    st.markdown(f"Changed: {names}" if names else ":gray[Nothing changed yet.]")
    taken: set[str] = set()
    for title, icon, begins in GROUPS:
        within = [t for t in shown if _belongs(t.key, begins)]
        taken |= {t.key for t in within}
        _group(title, icon, within, models, [one for one in faults if _about(one, begins)])
    left = [t for t in shown if t.key not in taken]
    if left:
        _group("More", ":material/more_horiz:", left, models, [])


def _belongs(key: str, begins: Sequence[str]) -> bool:
    return any(key.endswith(b[1:]) if b.startswith("*") else key.startswith(b) for b in begins)


def _about(fault: Advice, begins: Sequence[str]) -> bool:
    """A fault between tunables is about their section, ``hysteresis``; one of a tunable about its key."""
    return _belongs(fault.key, begins) or any(fault.key == begin.rstrip(".") for begin in begins)


def _group(title: str, icon: str, within: Sequence[Tunable], models: Sequence[str], faults: Sequence[Advice]) -> None:
    # The label stays as it is: with another one the browser would take it for another box, and close it.
    box = st.expander(title, icon=icon, expanded=title == "Gain", key=f"tune_group_{title}", on_change="rerun")
    if box.open:
        with box:
            if faults:
                advice(faults)
            for tunable in within:
                _control(tunable, models)


def _control(tunable: Tunable, models: Sequence[str]) -> None:
    draft = drafts.current()
    changed = tunable.key in draft.changes
    with st.container(gap="xxsmall", key=f"tune_{tunable.key}"):
        _heading(tunable, draft.live.get(tunable.key), changed)
        if isinstance(tunable.default, bool):
            _switch(tunable, draft.value(tunable.key))
        elif tunable.choices or tunable.key in _MODELS:
            _choice(tunable, draft.value(tunable.key), tunable.choices or tuple(models))
        else:
            _number(tunable, draft.value(tunable.key))


def _heading(tunable: Tunable, live: Any, changed: bool) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small", wrap=False):
        # A choice and a switch have no unit worth a word.
        plain = bool(tunable.choices) or tunable.key in _MODELS or isinstance(tunable.default, bool)
        words = escape_markdown(_title(tunable)) + ("" if plain else f", :gray[{escape_markdown(tunable.unit)}]")
        st.markdown(f":blue[:material/edit:] **{words}**" if changed else words, help=tunable.hint, width="stretch")
        shown = (
            f"live {_word(live)}"
            if live == tunable.default
            else f"live {_word(live)} · default {_word(tunable.default)}"
        )
        st.caption(escape_markdown(shown), width="content", text_alignment="right")
        if changed:
            st.button(
                "", icon=":material/undo:", key=f"tune_reset_{tunable.key}", type="tertiary", help="Back to what is live",
                on_click=drafts.reset, args=(tunable.key,),
            )  # fmt: skip


def _number(tunable: Tunable, value: Any) -> None:
    whole, among = is_whole(tunable), stops_of(tunable)
    exact = _numeric(value, tunable)
    at = nearest(exact, among)
    slider = _set(f"tune_slider_{tunable.key}", at)
    field = _set(f"tune_field_{tunable.key}", int(exact) if whole else float(exact))
    with st.container(horizontal=True, vertical_alignment="center", gap="small", wrap=False):
        st.select_slider(
            tunable.title, among, key=slider, label_visibility="collapsed", on_change=_moved, args=(tunable.key, slider, whole),
            # The stop where the slider stands is written as the draft's exact value: the field may lie between stops.
            format_func=lambda stop: written(exact if stop == at else stop),
        )  # fmt: skip
        st.number_input(
            f"{tunable.title}, exact", _end(tunable.minimum, whole), _end(tunable.maximum, whole), key=field,
            step=step_of(exact, tunable), format="%d" if whole else "%.7g", label_visibility="collapsed", width=164,
            on_change=_moved, args=(tunable.key, field, whole),
        )  # fmt: skip


def _switch(tunable: Tunable, value: Any) -> None:
    key = _set(f"tune_switch_{tunable.key}", bool(value))
    st.toggle(tunable.title, key=key, label_visibility="collapsed", on_change=_chosen, args=(tunable.key, key))


def _choice(tunable: Tunable, value: Any, options: Sequence[str]) -> None:
    among = [*options] if value in options else [*options, str(value)]
    key = _set(f"tune_choice_{tunable.key}", str(value))
    st.selectbox(
        tunable.title,
        among,
        key=key,
        label_visibility="collapsed",
        format_func=_word,
        on_change=_chosen,
        args=(tunable.key, key),
    )


def _moved(key: str, widget: str, whole: bool) -> None:
    value = st.session_state[widget]
    if value is not None and _is_drawn(widget):
        drafts.change(key, int(value) if whole else float(value))


def _chosen(key: str, widget: str) -> None:
    if st.session_state[widget] is not None and _is_drawn(widget):
        drafts.change(key, st.session_state[widget])


def _is_drawn(key: str) -> bool:
    """Whether a widget still has this key, and no other in its place."""
    return key in st.session_state[_KEYS].values()


def _set(widget: str, value: Any) -> str:
    """The key under which the widget has this value."""
    keys: dict[str, str] = st.session_state.setdefault(_KEYS, {})
    key = keys.setdefault(widget, f"{widget}_0")
    if key in st.session_state and st.session_state[key] != value:
        key = keys[widget] = f"{widget}_{int(key.rpartition('_')[2]) + 1}"
    if key not in st.session_state:
        st.session_state[key] = value
    return key


def _numeric(value: Any, tunable: Tunable) -> float:
    """The value as a number its field can hold; what an old draft says otherwise is named as a fault beside it."""
    live = drafts.current().live.get(tunable.key)
    number = next((v for v in (value, live) if isinstance(v, int | float) and not isinstance(v, bool)), tunable.default)
    low, high = tunable.minimum, tunable.maximum
    return min(max(number, number if low is None else low), number if high is None else high)


def _end(end: float | None, whole: bool) -> float | int | None:
    return None if end is None else int(end) if whole else float(end)


def _title(tunable: Tunable) -> str:
    of_plan = tunable.key.startswith("plans.")
    return f"{title_of(tunable.key.split('.')[1])}: {tunable.title}" if of_plan else tunable.title


def _word(value: Any) -> str:
    return _WORDS.get(value, written(value)) if isinstance(value, str) else written(value)
