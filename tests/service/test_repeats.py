"""Calls that come again are counted: those answered as the first one was, and those refused for asking something else."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from credit_core import CreditCore
from credit_core.errors import AlreadyEnded, LedgerUnavailable, NotFound, Repeated, RequestMismatch
from credit_core.service import repeats as counting
from credit_core.store.schema import repeats
from tests.service.scenes import CREDIT, LIBRARY_FOR_ALL, NOW, ask, entries, make_live
from tests.service.together import together

LATER = NOW + timedelta(minutes=1)


def counted(core: CreditCore) -> list[tuple[Any, ...]]:
    """account, call, refused, calls; in that order."""
    r = repeats.c
    with core.deployment.ledger.reading() as connection:
        found = connection.execute(
            select(r.account_id, r.call, r.refused, r.calls).order_by(r.account_id, r.call, r.refused)
        )
        return [tuple(row) for row in found]


@pytest.fixture
def reserved(fresh_core: CreditCore) -> CreditCore:
    """Ada, on Free, with 3 of her 20 credits held by r-1."""
    fresh_core.add_user("ada", "free", at=NOW)
    ask(fresh_core, images=3)
    return fresh_core


def end_each_way(core: CreditCore) -> None:
    """Each call for the first time: r-1 is settled and refunded, r-2 released, r-3 partial."""
    core.settle("ada", "r-1", at=LATER)
    core.refund("ada", "r-1", CREDIT, "key", "sam", "sorry", at=LATER)
    ask(core, "r-2", at=LATER)
    core.release("ada", "r-2", "cancelled", at=LATER)
    ask(core, "r-3", at=LATER)
    core.partial("ada", "r-3", at=LATER)


def test_first_calls_are_no_repeats(reserved: CreditCore) -> None:
    end_each_way(reserved)
    assert counted(reserved) == []


def test_each_call_that_comes_again_is_counted_and_writes_no_entry(reserved: CreditCore) -> None:
    ask(reserved, images=3)
    end_each_way(reserved)
    before = entries(reserved)
    for _ in range(2):
        assert ask(reserved, images=3).replayed
        assert reserved.settle("ada", "r-1", at=LATER).replayed
        assert reserved.refund("ada", "r-1", CREDIT, "key", "sam", "sorry", at=LATER).replayed
        assert reserved.release("ada", "r-2", "cancelled", at=LATER).replayed
        assert reserved.partial("ada", "r-3", at=LATER).replayed
    assert entries(reserved) == before
    calls = {"authorize": 3, "partial": 2, "refund": 2, "release": 2, "settle": 2}
    assert counted(reserved) == [("user:ada", call, False, number) for call, number in calls.items()]
    assert reserved.verify() == []


def test_a_call_that_asks_for_something_else_is_refused_and_counted(reserved: CreditCore) -> None:
    with pytest.raises(RequestMismatch):
        ask(reserved, images=2)
    reserved.settle("ada", "r-1", at=LATER)
    with pytest.raises(Repeated):
        reserved.settle("ada", "r-1", actual_uc=CREDIT, at=LATER)
    with pytest.raises(Repeated):
        reserved.release("ada", "r-1", "cancelled", at=LATER)
    reserved.refund("ada", "r-1", CREDIT, "key", "sam", "sorry", at=LATER)
    with pytest.raises(Repeated):
        reserved.refund("ada", "r-1", 2 * CREDIT, "key", "sam", "sorry", at=LATER)
    assert counted(reserved) == [("user:ada", call, True, 1) for call in ("authorize", "refund", "release", "settle")]


def test_what_is_refused_for_another_reason_is_no_repeat(reserved: CreditCore) -> None:
    with pytest.raises(NotFound):
        reserved.settle("ada", "r-9", at=LATER)
    with pytest.raises(NotFound):
        ask(reserved, user="nobody")
    reserved.sweep(at=NOW + timedelta(days=2))
    with pytest.raises(AlreadyEnded):
        reserved.settle("ada", "r-1", at=NOW + timedelta(days=2))
    make_live(reserved, LIBRARY_FOR_ALL)
    assert not ask(reserved, "r-2", at=LATER).fresh
    with pytest.raises(AlreadyEnded):
        reserved.settle("ada", "r-2", at=LATER)
    assert counted(reserved) == []


def test_a_quarter_of_an_hour_is_counted_by_itself(reserved: CreditCore) -> None:
    for minutes in (0, 14, 15, 44):
        ask(reserved, images=3, at=NOW + timedelta(minutes=minutes))
    with reserved.deployment.ledger.reading() as connection:
        found = connection.execute(select(repeats.c.quarter_at, repeats.c.calls).order_by(repeats.c.quarter_at)).all()
    assert [tuple(row) for row in found] == [
        (NOW + timedelta(minutes=start), calls) for start, calls in ((0, 2), (15, 1), (30, 1))
    ]


def test_taps_at_once_are_all_counted(reserved: CreditCore) -> None:
    together(lambda _: ask(reserved, images=3), range(12))
    assert counted(reserved) == [("user:ada", "authorize", False, 12)]


def test_an_answer_stands_where_it_cannot_be_counted(reserved: CreditCore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise LedgerUnavailable("no room")

    monkeypatch.setattr(counting.repeats, "count", full)
    assert ask(reserved, images=3).replayed
    with pytest.raises(RequestMismatch):
        ask(reserved, images=2)
    assert counted(reserved) == []
