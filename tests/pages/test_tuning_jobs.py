"""Readings shared by the sessions of a process: kept, begun anew, given up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from credit_core.lab.background import Job
from pages.components import tuning_jobs
from pages.components.tuning_jobs import MOST_READINGS, Shelf


def begin(result: Any = None) -> Callable[[], Job[Any]]:
    def begun() -> Job[Any]:
        job: Job[Any] = Job(lambda _progress, _stopped: result)
        assert job.wait(10.0)
        return job

    return begun


def test_the_same_question_is_read_once() -> None:
    shelf = Shelf()
    one = shelf.reading("a", 1, begin())
    assert shelf.reading("a", 1, begin()) is one
    assert shelf.reading("b", 1, begin()) is not one


def test_a_ledger_that_moved_on_is_read_again_when_the_reading_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf()
    one = shelf.reading("a", 1, begin())
    assert shelf.reading("a", 2, begin()) is one, "while controls move the figures stay comparable"
    monkeypatch.setattr(tuning_jobs, "KEPT_S", -1.0)
    assert shelf.reading("a", 1, begin()) is one, "nothing is new"
    assert shelf.reading("a", 2, begin()) is not one


def test_what_was_called_off_or_failed_is_begun_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf()
    one = shelf.reading("a", 1, begin())
    one.stop()
    two = shelf.reading("a", 1, begin())
    assert two is not one
    two.error = RuntimeError()
    assert shelf.reading("a", 1, begin()) is two, "not at once: it would fail again"
    monkeypatch.setattr(tuning_jobs, "TRIED_AGAIN_S", -1.0)
    assert shelf.reading("a", 1, begin()) is not two


def test_the_one_asked_for_longest_ago_gives_way() -> None:
    shelf = Shelf()
    jobs = [shelf.reading(number, 1, begin()) for number in range(MOST_READINGS)]
    shelf.reading(0, 1, begin())
    shelf.reading("one more", 1, begin())
    assert [job.called_off for job in jobs] == [False, True, False]
    assert len(shelf.jobs()) == MOST_READINGS
