"""Checks are made one at a time, of what somebody still wishes to know; a page of a large ledger does not wait for its own."""

from __future__ import annotations

import threading

import pytest

from credit_core.analytics.queries import TieOut
from pages.components import provenance, session
from pages.components.checks import Checks
from tests.pages.conftest import OpenPage
from tests.pages.reading import markdown_of, sentence
from tests.pages.test_integrity import TIES_OUT, badges

WITHIN_S = 10.0
EXACT = TieOut((), True)


def test_one_at_a_time_and_of_each_person_the_newest_wish_alone() -> None:
    checks, made, may_end, begun = Checks(), [], threading.Event(), threading.Event()

    def first() -> TieOut:
        begun.set()
        assert may_end.wait(WITHIN_S)
        return EXACT

    def told(name: str) -> TieOut:
        made.append(name)
        return EXACT

    long = checks.ask("ann", "first", first)
    assert begun.wait(WITHIN_S)
    given_up = checks.ask("bob", "old", lambda: told("old"))
    newest = checks.ask("bob", "new", lambda: told("new"))
    same = checks.ask("eve", "new", lambda: told("new again"))
    assert made == []
    may_end.set()
    assert [one.result(WITHIN_S) for one in (long, newest, same)] == [EXACT] * 3
    last = checks.ask("eve", "last", lambda: told("last"))
    assert last.result(WITHIN_S) is EXACT
    assert not given_up.done()
    assert made == ["new", "last"]


def test_what_was_found_is_not_worked_out_again_and_what_failed_is() -> None:
    checks = Checks(most_kept=1)
    assert checks.ask("ann", "a", lambda: EXACT).result(WITHIN_S) is EXACT
    assert checks.ask("bob", "a", lambda: pytest.fail("worked out again")).done()
    failed = checks.ask("ann", "b", lambda: TieOut((), bool(1 // 0)))
    with pytest.raises(ZeroDivisionError):
        failed.result(WITHIN_S)
    assert checks.ask("ann", "b", lambda: EXACT).result(WITHIN_S) is EXACT
    again = TieOut((), False)
    assert checks.ask("ann", "a", lambda: again).result(WITHIN_S) is again


def test_a_page_of_a_large_ledger_stands_before_its_check_is_made(
    demo_ledger: str, open_page: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "_MANY", 1)
    may_end, tie_out = threading.Event(), provenance.queries.tie_out

    def waits(*asked: object) -> TieOut:
        assert may_end.wait(WITHIN_S)
        return tie_out(*asked)

    monkeypatch.setattr(provenance.queries, "tie_out", waits)
    page = open_page(demo_ledger, "coverage", {"period": "7d", "region": "eu", "plan": "free"})
    assert not page.exception
    assert badges(page) == []
    assert any("Being checked against the ledger" in text for text in markdown_of(page))
    trust = open_page(demo_ledger, "integrity", {"period": "7d", "region": "eu", "plan": "free"})
    assert "are being checked against the ledger" in sentence(trust)
    may_end.set()
    monkeypatch.setenv(session.DATABASE_VARIABLE, demo_ledger)
    newest = next(reversed(session.checks()._found.values()))
    assert newest.result(WITHIN_S).exact
    assert badges(page.run()) == [TIES_OUT]
    assert "equal the ledger's sums" in sentence(trust.run())
