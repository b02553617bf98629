"""Asking ahead: what a page asked the last time it ran is asked beside it, of the filters chosen now, while it draws.

A page asks one question after the other and draws in between; a second processor would stand still meanwhile. Nothing is
declared twice: a page's run is noted down, its filters and instants told by what they were of the choice then, and the next
run has the same questions asked of its own choice: the session's next, or anybody's first. Answers are found where the page
looks for them (``answers.ask``), so a question that it does not ask after all costs a little time of an idle processor, and
never another answer.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Literal, NamedTuple

import streamlit as st

from credit_core.analytics.filters import Filters
from pages.components import answers, session, turns
from pages.components.answers import Question
from pages.components.kept import size_of

#: What its threads are called.
NAME = "asking ahead"
_LOG = logging.getLogger(__name__)
#: Page → what its last whole run asked: of all sessions, and under this name of one.
_NOTED: dict[str, tuple[_Noted, ...]] = {}
_OWN = "_noted"


class _Of(NamedTuple):
    """In the place of filters: which part of the choice they were."""

    part: Literal["period", "before", "end", "before end"]


class _After(NamedTuple):
    """In the place of an instant: how long after the newest entry it was."""

    passed: timedelta


class _Noted(NamedTuple):
    """A question without the choice that it was asked of."""

    question: Question
    places: tuple[tuple[int, _Of | _After], ...]


@contextmanager
def asking(page: str, chosen: Filters, as_of: datetime | None) -> Iterator[None]:
    """Within it a page runs; what it asked the last time is asked beside it, unless somebody else needs the processor."""
    over, asked = threading.Event(), list[Question]()
    own = st.session_state.setdefault(_OWN, dict[str, tuple[_Noted, ...]]())
    if (noted := own.get(page, _NOTED.get(page))) and turns.alone():
        facts, kept = session.facts(), session.answers()
        again = [question for one in noted if (question := _again(one, chosen, as_of)) is not None]

        def ask_all() -> None:
            for question in again:
                if over.is_set():
                    return
                try:
                    kept.offer(question.key(facts), partial(question, facts), size_of)
                except Exception:
                    # Whoever asks it on the page is told; nobody is here.
                    _LOG.debug("A question asked ahead failed", exc_info=True)

        threading.Thread(target=ask_all, name=NAME, daemon=True).start()
    noting = answers.NOTING.set(asked)
    try:
        yield
        own[page] = _NOTED[page] = tuple(_noted(question, chosen, as_of) for question in asked)
    finally:
        over.set()
        answers.NOTING.reset(noting)


def _parts(chosen: Filters) -> dict[Literal["period", "before", "end", "before end"], Filters]:
    before = chosen.compared()
    compared: dict[Any, Filters] = {} if before is None else {"before": before, "before end": before.at_end()}
    return {"period": chosen, "end": chosen.at_end()} | compared


def _noted(question: Question, chosen: Filters, as_of: datetime | None) -> _Noted:
    parts = {filters: part for part, filters in _parts(chosen).items()}
    places: list[tuple[int, _Of | _After]] = []
    for place, argument in enumerate(question.arguments):
        if isinstance(argument, Filters) and argument in parts:
            places.append((place, _Of(parts[argument])))
        elif isinstance(argument, datetime) and as_of is not None:
            places.append((place, _After(argument - as_of)))
    return _Noted(question, tuple(places))


def _again(noted: _Noted, chosen: Filters, as_of: datetime | None) -> Question | None:
    """The question of another choice; None where it was of something that this choice has not, or of none at all."""
    parts, arguments = _parts(chosen), list(noted.question.arguments)
    told = dict(noted.places)
    for place, argument in enumerate(arguments):
        of = told.get(place)
        if isinstance(of, _Of) and of.part in parts:
            arguments[place] = parts[of.part]
        elif isinstance(of, _After) and as_of is not None:
            arguments[place] = as_of + of.passed
        elif of is not None or isinstance(argument, Filters):
            return None
    return noted.question._replace(arguments=tuple(arguments))
