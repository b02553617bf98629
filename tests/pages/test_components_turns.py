"""Turns are handed out one after the other, to whoever asked first; nobody waits for somebody who takes long."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context

import pytest
from streamlit.runtime.scriptrunner import RerunData, RerunException

from pages.components.kept import Kept
from pages.components.turns import Turns

WITHIN_S = 10.0


class Person:
    """Somebody in a thread who takes a turn, and gives it back when told."""

    def __init__(self, turns: Turns, name: str, had: list[str]) -> None:
        self.has, self.done = threading.Event(), threading.Event()

        def run() -> None:
            with turns.taken(name):
                had.append(name)
                self.has.set()
                assert self.done.wait(WITHIN_S)

        self.thread = threading.Thread(target=run)
        self.thread.start()

    def leaves(self) -> None:
        self.done.set()
        self.thread.join(WITHIN_S)
        assert not self.thread.is_alive()


@contextmanager
def waiting(turns: Turns, people: int) -> Iterator[None]:
    """Come back when so many more stand in the queue."""
    before = len(turns._waiting)
    yield
    until = threading.Event()
    gives_up_at = time.monotonic() + WITHIN_S
    while len(turns._waiting) < before + people:
        assert time.monotonic() < gives_up_at
        until.wait(0.001)


def test_as_many_as_there_are_turns_run_and_the_others_follow_in_the_order_they_came() -> None:
    turns, had = Turns(2, WITHIN_S), []
    first, second = (Person(turns, name, had) for name in "ab")
    assert first.has.wait(WITHIN_S)
    assert second.has.wait(WITHIN_S)
    others = []
    for name in "cde":
        with waiting(turns, 1):
            others.append(Person(turns, name, had))
    assert sorted(had) == ["a", "b"]
    for leaving, coming in zip((second, first, others[0]), others, strict=True):
        leaving.leaves()
        assert coming.has.wait(WITHIN_S)
    assert had[2:] == ["c", "d", "e"]
    for one in others[1:]:
        one.leaves()


def test_a_change_that_overtakes_the_run_before_keeps_its_place() -> None:
    turns, had = Turns(1, WITHIN_S), []
    with suppress(RerunException), turns.taken("quick"):
        with waiting(turns, 1):
            other = Person(turns, "other", had)
        raise RerunException(RerunData())
    assert other.has.wait(WITHIN_S)
    with waiting(turns, 1):
        later = Person(turns, "later", had)
    with waiting(turns, 1):
        again = Person(turns, "quick", had)
    other.leaves()
    assert again.has.wait(WITHIN_S)
    again.leaves()
    assert later.has.wait(WITHIN_S)
    later.leaves()
    assert had == ["other", "quick", "later"]


def test_who_was_answered_or_failed_has_no_place_any_more() -> None:
    turns = Turns(1, WITHIN_S)
    with turns.taken("answered"):
        pass
    with pytest.raises(ZeroDivisionError), turns.taken("failed"):
        _ = 1 // 0
    assert (turns._asked_at, turns._taken_at, turns._waiting) == ({}, {}, [])


def test_nobody_waits_longer_for_somebody_who_takes_long() -> None:
    turns, had = Turns(1, 0.01), []
    long = Person(turns, "long", had)
    assert long.has.wait(WITHIN_S)
    short = Person(turns, "short", had)
    assert short.has.wait(WITHIN_S)
    short.leaves()
    assert not long.done.is_set()
    long.leaves()


def test_whoever_waits_for_what_another_page_makes_leaves_the_turn_to_somebody_else() -> None:
    turns, had, kept = Turns(2, WITHIN_S), [], Kept(100)
    making, made, leaves = threading.Event(), threading.Event(), threading.Event()

    def make() -> str:
        making.set()
        assert made.wait(WITHIN_S)
        return "made"

    def maker() -> None:
        with turns.taken("maker"):
            kept.get("key", make, len)
            assert leaves.wait(WITHIN_S)

    def waiter() -> None:
        with turns.taken("waiter"):
            had.append(kept.get("key", make, len))

    threads = [threading.Thread(target=run) for run in (maker, waiter)]
    threads[0].start()
    assert making.wait(WITHIN_S)
    threads[1].start()
    # Both turns were given out, one of them to somebody who only waits.
    other = Person(turns, "other", had)
    assert other.has.wait(WITHIN_S)
    with waiting(turns, 1):
        later = Person(turns, "later", had)
    with waiting(turns, 1):
        made.set()
    # Whoever waited came before those who stand in the queue.
    leaves.set()
    assert later.has.wait(WITHIN_S)
    assert had == ["other", "made", "later"]
    for one in (other, later):
        one.leaves()
    for thread in threads:
        thread.join(WITHIN_S)
        assert not thread.is_alive()
    assert (turns._taken_at, turns._waiting) == ({}, [])


def test_parts_of_a_page_that_run_beside_it_do_not_give_its_turn_away() -> None:
    turns, kept = Turns(1, WITHIN_S), Kept(100)
    making, made = threading.Event(), threading.Event()

    def make() -> str:
        making.set()
        assert made.wait(WITHIN_S)
        return "made"

    def part() -> None:
        kept.get("key", make, len)

    with turns.taken("page"):
        threads = [threading.Thread(target=copy_context().run, args=(part,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        assert making.wait(WITHIN_S)
        held = dict(turns._taken_at)
        made.set()
        for thread in threads:
            thread.join(WITHIN_S)
            assert not thread.is_alive()
        assert turns._taken_at == held
    assert (turns._taken_at, turns._waiting) == ({}, [])
