"""The gate, the guard and the one place that follows the ledger."""

from __future__ import annotations

import threading
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from credit_core.errors import LedgerUnavailable
from pages.components import session

PAGE = Path(__file__).resolve().parents[2] / "pages" / "integrity.py"


@pytest.mark.parametrize(
    ("address", "headers"),
    [
        (None, {}),
        (None, {"Host": "localhost:8501"}),
        ("127.0.0.1", {"Host": "127.0.0.1:8501"}),
        ("::1", {"Host": "[::1]:8501"}),
        ("127.0.0.2", {"host": "titrate.localhost"}),
    ],
)
def test_the_operator_on_this_machine_is_let_in(address: str | None, headers: dict[str, str]) -> None:
    assert session._refusal(address, headers) == ""


@pytest.mark.parametrize(
    ("address", "headers", "reason"),
    [
        ("192.0.2.7", {"Host": "localhost"}, "from 192.0.2.7"),
        (None, {"Host": "evil.example"}, "to evil.example"),
        (None, {"Host": "localhost.evil.example"}, "to localhost.evil.example"),
        (None, {"Host": "192.0.2.7:8501"}, "to 192.0.2.7"),
        (None, {"Host": "localhost", "X-Forwarded-For": "192.0.2.7"}, "x-forwarded-for"),
        (None, {"Host": "localhost", "Forwarded": "for=192.0.2.7"}, "forwarded"),
        ("not an address", {}, "not an address"),
        (None, {"Host": "[::1"}, "to [::1"),
    ],
)
def test_everybody_else_is_refused(address: str | None, headers: dict[str, str], reason: str) -> None:
    assert reason in session._refusal(address, headers)


def test_a_page_without_its_frame_shows_nothing_but_the_way_back() -> None:
    shown = AppTest.from_file(str(PAGE)).run()
    assert not shown.exception
    assert not shown.title
    assert "without its frame" in shown.markdown[0].value
    assert shown.code[0].value == "streamlit run app.py"


class Ledger:
    """Facts that count how often they followed, and may fail."""

    def __init__(self) -> None:
        self.version = 1
        self.followed = 0
        self.error: Exception | None = None

    def follow(self) -> None:
        if self.error:
            raise self.error
        self.followed += 1


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> Ledger:
    monkeypatch.setattr(session.queries, "as_of", lambda facts, now: ("as of", facts.followed))
    return Ledger()


def test_the_ledger_is_followed_at_most_once_a_second(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = [100.0]
    monkeypatch.setattr(session.time, "monotonic", lambda: seconds[0])
    reader = session._Reader(ledger)
    for seconds[0], followed in ((100.0, 1), (100.5, 1), (100.99, 1), (101.0, 2), (103.0, 3)):
        reader.follow()
        assert ledger.followed == followed


def test_the_first_failure_is_told_and_later_ones_leave_the_figures_standing(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = [100.0]
    monkeypatch.setattr(session.time, "monotonic", lambda: seconds[0])
    reader = session._Reader(ledger)
    ledger.error = LedgerUnavailable("gone")
    with pytest.raises(LedgerUnavailable):
        reader.follow()
    ledger.error = None
    reader.follow()
    ledger.error, seconds[0] = LedgerUnavailable("gone again"), 105.0
    reader.follow()
    assert str(reader.trouble) == "gone again"
    assert reader.standing == ("as of", 1)
    ledger.error, seconds[0] = None, 110.0
    reader.follow()
    assert reader.trouble is None


def test_nobody_waits_while_another_session_follows(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = [100.0]
    monkeypatch.setattr(session.time, "monotonic", lambda: seconds[0])
    reader = session._Reader(ledger)
    reader.follow()
    seconds[0] = 200.0
    with reader._following:
        other = threading.Thread(target=reader.follow, daemon=True)
        other.start()
        other.join(timeout=5)
        assert not other.is_alive()
    assert ledger.followed == 1


def test_what_is_remembered_is_forgotten_when_something_was_copied(ledger: Ledger) -> None:
    reader, asked = session._Reader(ledger), []

    def compute(facts: Ledger) -> int:
        asked.append(facts.version)
        return facts.version

    assert [reader.remembered("x", compute), reader.remembered("x", compute)] == [1, 1]
    ledger.version = 2
    assert reader.remembered("x", compute) == 2
    assert asked == [1, 2]


def test_periods_that_run_until_now_end_together_while_nothing_is_written(ledger: Ledger) -> None:
    reader, began = session._Reader(ledger), datetime(2025, 3, 1, 12, tzinfo=UTC)
    later = began + session.STANDS_STILL
    assert reader.moment(began) == began
    assert reader.moment(later - timedelta(microseconds=1)) == began
    assert reader.moment(later) == later
    ledger.version = 2
    assert reader.moment(later + timedelta(seconds=1)) == later + timedelta(seconds=1)
    assert reader.moment(began) == began, "a clock that was set back"


def test_the_present_is_held_for_the_bar_alone(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    reader = session._Reader(ledger)
    monkeypatch.setattr(session, "_reader", lambda url: reader)
    with session.held():
        first = session.now()
    with session.held():
        assert session.now() == first
    assert session.now() > first


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://op:secret@db.example/ledger", "postgresql://op:…@db.example/ledger"),
        ("sqlite:///data/ledger.db", "sqlite:///data/ledger.db"),
        ("postgresql://op@db.example/ledger", "postgresql://op@db.example/ledger"),
    ],
)
def test_a_password_is_never_shown(url: str, shown: str) -> None:
    assert session._without_password(url) == shown


def test_a_run_finds_the_ledger_once_and_another_ledger_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    readers, found = {url: object() for url in ("sqlite:///one.db", "sqlite:///two.db")}, []

    def reader(url: str) -> object:
        found.append(url)
        return readers[url]

    def run() -> None:
        one, two = readers
        monkeypatch.setattr(session, "_reader", reader)
        monkeypatch.setenv(session.DATABASE_VARIABLE, one)
        session._OPENED.set((one, readers[one]))
        assert [session._opened(), session._opened()] == [readers[one]] * 2
        assert found == []
        monkeypatch.setenv(session.DATABASE_VARIABLE, two)
        assert session._opened() is readers[two]
        assert found == [two]

    copy_context().run(run)
