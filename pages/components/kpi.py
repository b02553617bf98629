"""The row of cards at the top of a page: at most five values, each with its change, its course and its explanation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import streamlit as st

from credit_core.analytics.metrics import Metric
from pages.components import charts, numbers, plots

MOST_CARDS = 5
#: Characters of a change and of what it is against that a fifth of a row holds.
LONGEST_CHANGE = 16
_COLOURS: Mapping[str, Literal["green", "red", "gray"]] = {"good": "green", "bad": "red", "neutral": "gray"}
_ARROWS: Mapping[str, Literal["up", "down", "off"]] = {"up": "up", "down": "down", "level": "off"}


@dataclass(frozen=True, slots=True)
class Help:
    """What the (i) of a card says. ``formula`` and ``source`` are shown as code; ``sql`` below them."""

    definition: str
    formula: str = ""
    unit: str = ""
    source: str = ""
    sql: str = ""

    def markdown(self) -> str:
        """The tooltip's text."""
        parts = [self.definition]
        parts += [f"{name}: `{text}`" for name, text in (("Formula", self.formula), ("Source", self.source)) if text]
        parts += [f"Unit: {self.unit}"] if self.unit else []
        parts += [f"```sql\n{self.sql}\n```"] if self.sql else []
        return "\n\n".join(parts)


def help_of(metric: Metric, sql: str = "") -> Help:
    """The (i) of a declared metric."""
    return Help(metric.definition, unit=metric.unit, source=metric.source, sql=sql)


@dataclass(frozen=True, slots=True)
class Card:
    """One value. ``value`` is written already (``numbers``); ``change`` carries its own judgement.

    ``course`` are the values of the sparkline and ``target`` its dashed line, both in the same unit.
    ``page`` is the file of the page that explains the value, e.g. ``pages/burn_rate.py``.
    """

    label: str
    value: str
    unit: str = ""
    change: numbers.Change | None = None
    change_name: str = ""
    course: Sequence[float | None] = ()
    target: float | None = None
    target_text: str = ""
    page: str = ""
    page_label: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    help: Help | None = None
    alarm: bool = False


def row(cards: Sequence[Card], *, key: str) -> None:
    """Draw up to five cards side by side; on a phone two in a row."""
    if len(cards) > MOST_CARDS:
        raise ValueError(f"A row holds {MOST_CARDS} cards, got {len(cards)}. Leave out what matters least.")
    with st.container(horizontal=True, gap="small", key=f"kpi_{key}"):
        for place, card in enumerate(cards):
            with st.container(border=True, gap="xsmall", width="stretch", height="stretch", key=f"kpi_{key}_{place}"):
                _card(card)


def _compared(change: numbers.Change, name: str) -> str | None:
    """What the change is against, where it fits beside it: a name that is cut off says less than none."""
    fits = len(change.text) + len(name) <= LONGEST_CHANGE and not plots.on_phone()
    return f"vs {name}" if name and fits and change.text != numbers.UNKNOWN else None


def _card(card: Card) -> None:
    change = card.change or numbers.NO_CHANGE
    known = change.text != numbers.UNKNOWN
    st.metric(
        card.label,
        card.value,
        delta=change.text if known else None,
        delta_color=_COLOURS[change.meaning],
        delta_arrow=_ARROWS[change.direction],
        delta_description=_compared(change, card.change_name),
        help=card.help.markdown() if card.help else None,
    )
    if any(value is not None for value in card.course):
        tint = charts.VERMILLION if card.alarm else charts.BLUE
        plots.picture(charts.sparkline(card.course, target=card.target, tint=tint), alt=f"Course of {card.label}")
    below = [text for text in (card.unit, card.target_text) if text]
    if below:
        st.caption(" · ".join(below))
    if card.page:
        st.page_link(
            card.page, label=card.page_label or "Details", icon=":material/arrow_forward:", icon_position="right",
            query_params=dict(card.params) or None,
        )  # fmt: skip
