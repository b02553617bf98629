"""What a page asked is asked ahead of the next choice: the same questions, and nothing that the page does not ask."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import streamlit as st

from credit_core.analytics.filters import Filters, Period
from pages.components import ahead, session, turns
from pages.components.answers import Question, ask
from pages.components.kept import Kept
from tests.pages.conftest import OpenPage

WITHIN_S = 20.0
AS_OF = datetime(2025, 4, 2, 12, tzinfo=UTC)
WEEK = Period(AS_OF - timedelta(days=7), AS_OF)
MONTH = Period(AS_OF - timedelta(days=28), AS_OF)


class Asked:
    """A copy that nothing new comes to; answers are noted, and can be held back."""

    version = 1

    def __init__(self) -> None:
        self.answered: list[tuple[str, tuple[Any, ...]]] = []
        self.go = threading.Event()
        self.go.set()

    def answer(self, *arguments: Any) -> str:
        assert self.go.wait(WITHIN_S)
        self.answered.append((threading.current_thread().name, arguments))
        return str(arguments)


def question(facts: Asked, *arguments: Any) -> str:
    return facts.answer(*arguments)


def broken(facts: Asked, *arguments: Any) -> str:
    raise ValueError("nobody knows")


@pytest.fixture
def facts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Asked]:
    asked, kept = Asked(), Kept(1_000_000)
    monkeypatch.setattr(session, "facts", lambda: asked)
    monkeypatch.setattr(session, "answers", lambda: kept)
    monkeypatch.setattr(turns, "alone", lambda: True)
    monkeypatch.setattr(ahead, "_NOTED", {})
    monkeypatch.setattr(st, "session_state", {})
    yield asked
    joined()


def joined() -> None:
    """Wait for whoever asks ahead."""
    for thread in threading.enumerate():
        if thread.name == ahead.NAME:
            thread.join(WITHIN_S)
            assert not thread.is_alive()


def test_the_next_choice_is_asked_what_the_last_one_was(facts: Asked) -> None:
    before, after = (Filters(one, Period(one.start - one.length, one.start)) for one in (WEEK, MONTH))
    later = AS_OF + timedelta(hours=1)
    with ahead.asking("page", before, AS_OF):
        ask(question, before, 3)
        ask(question, before.compared())
        ask(question, before.at_end(), AS_OF + timedelta(days=7))
        ask(question, before.narrowed(models=("m",)))
    facts.answered.clear()

    with ahead.asking("page", after, later):
        joined()

    assert facts.answered == [
        (ahead.NAME, (after, 3)),
        (ahead.NAME, (after.compared(),)),
        (ahead.NAME, (after.at_end(), later + timedelta(days=7))),
    ]


def test_a_session_goes_by_its_own_last_run_and_a_new_one_by_anybodys(
    facts: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = st.session_state
    with ahead.asking("page", Filters(WEEK), AS_OF):
        ask(question, Filters(WEEK), "mine")
    monkeypatch.setattr(st, "session_state", {})
    with ahead.asking("page", Filters(WEEK), AS_OF):
        ask(question, Filters(WEEK), "theirs")
    facts.answered.clear()

    for session_state in ({}, mine):
        monkeypatch.setattr(st, "session_state", session_state)
        with ahead.asking("page", Filters(MONTH), AS_OF):
            joined()

    assert [arguments for _, arguments in facts.answered] == [(Filters(MONTH), "theirs"), (Filters(MONTH), "mine")]


def test_what_this_choice_has_not_is_not_asked(facts: Asked) -> None:
    compared, alone = Filters(WEEK, Period(WEEK.start - WEEK.length, WEEK.start)), Filters(MONTH)
    with ahead.asking("page", compared, AS_OF):
        ask(question, compared.compared())
    facts.answered.clear()

    with ahead.asking("page", alone, AS_OF):
        joined()

    assert facts.answered == []


def test_a_page_waits_for_what_is_being_asked_ahead_and_asks_it_no_second_time(facts: Asked) -> None:
    with ahead.asking("page", Filters(WEEK), AS_OF):
        ask(question, Filters(WEEK))
    facts.answered.clear()
    facts.go.clear()

    with ahead.asking("page", Filters(MONTH), AS_OF):
        threading.Timer(0, facts.go.set).start()
        assert ask(question, Filters(MONTH)) == str((Filters(MONTH),))

    assert [arguments for _, arguments in facts.answered] == [(Filters(MONTH),)]


def test_a_question_that_fails_fails_on_the_page_alone(facts: Asked) -> None:
    with ahead.asking("page", Filters(WEEK), AS_OF):
        with pytest.raises(ValueError, match="nobody knows"):
            ask(broken, Filters(WEEK))
        ask(question, Filters(WEEK))
    facts.answered.clear()

    with ahead.asking("page", Filters(MONTH), AS_OF):
        joined()
        assert facts.answered == [(ahead.NAME, (Filters(MONTH),))]
        with pytest.raises(ValueError, match="nobody knows"):
            ask(broken, Filters(MONTH))


def test_nothing_is_asked_ahead_while_others_wait_for_the_processor(
    facts: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ahead.asking("page", Filters(WEEK), AS_OF):
        ask(question, Filters(WEEK))
    facts.answered.clear()
    monkeypatch.setattr(turns, "alone", lambda: False)

    with ahead.asking("page", Filters(MONTH), AS_OF):
        joined()

    assert facts.answered == []


def test_a_run_that_was_cut_off_leaves_what_was_noted(facts: Asked) -> None:
    with ahead.asking("page", Filters(WEEK), AS_OF):
        ask(question, Filters(WEEK))
    with pytest.raises(KeyboardInterrupt), ahead.asking("page", Filters(WEEK), AS_OF):
        raise KeyboardInterrupt
    facts.answered.clear()

    with ahead.asking("page", Filters(MONTH), AS_OF):
        joined()

    assert facts.answered == [(ahead.NAME, (Filters(MONTH),))]


@pytest.mark.parametrize("page", ["overview", "burn_rate", "coverage", "surplus", "economics", "operations"])
def test_pages_ask_what_was_asked_ahead(
    demo_ledger: str, open_page: OpenPage, monkeypatch: pytest.MonkeyPatch, page: str
) -> None:
    monkeypatch.setattr(turns, "alone", lambda: True)
    shown = open_page(demo_ledger, page)
    of_page: set[Hashable] = set()
    of_others: set[Hashable] = set()
    key = Question.key

    def noted(asked: Question, facts: Any) -> Hashable:
        found = key(asked, facts)
        (of_others if threading.current_thread().name == ahead.NAME else of_page).add(found)
        return found

    monkeypatch.setattr(Question, "key", noted)
    shown.selectbox(key="_period_twin").set_value("7d").run()
    joined()

    assert not shown.exception
    assert of_others
    assert of_others <= of_page
