"""Integrity: a check runs from the page and is kept, what was forged is named with its rows, holds are the ledger's."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from credit_core import CreditCore, Request
from pages.components import numbers, provenance, session
from tests.pages.conftest import HOSTILE, OpenPage
from tests.pages.reading import card, markdown_of, rows, sentence

Own = Callable[[str], str]


@pytest.fixture
def own(tmp_path: Path) -> Own:
    """A copy of a ledger that a test may write to."""

    def copied(url: str) -> str:
        path = tmp_path / "own.db"
        with closing(sqlite3.connect(_path(url))) as source, closing(sqlite3.connect(path)) as target:
            source.backup(target)
        return f"sqlite:///{path}"

    return copied


# Looking ----------------------------------------------------------------------------------------------------------


def test_it_counts_the_ledgers_entries(demo_ledger: str, open_page: OpenPage) -> None:
    ((entries,),) = by_sql(demo_ledger, "SELECT COUNT(*) FROM ledger_entries")

    page = open_page(demo_ledger, "integrity")

    assert card(page, "Entries") == numbers.count(entries)
    assert card(page, "Behind the ledger") == numbers.count(0)
    assert "The figures of this dashboard equal the ledger's sums." in sentence(page)


def test_what_people_wrote_is_no_markdown(hostile_ledger: str, open_page: OpenPage) -> None:
    page = open_page(hostile_ledger, "integrity")

    for text in markdown_of(page):
        assert not any(name in text for name in HOSTILE[:5])


# Checking ---------------------------------------------------------------------------------------------------------


def test_a_check_that_nobody_made_is_not_claimed(hostile_ledger: str, open_page: OpenPage) -> None:
    assert by_sql(hostile_ledger, "SELECT COUNT(*) FROM checks") == [(0,)]

    page = open_page(hostile_ledger, "integrity")

    assert sentence(page).startswith("Nobody has checked this ledger yet.")
    assert card(page, "Last check") == numbers.UNKNOWN


def test_a_check_runs_from_the_page_and_is_kept(demo_ledger: str, own: Own, open_page: OpenPage) -> None:
    url = own(demo_ledger)
    ((before,),) = by_sql(url, "SELECT COUNT(*) FROM checks")

    page = check_now(open_page(url, "integrity"))

    assert not page.exception
    kept = by_sql(url, "SELECT actor, violations, entries FROM checks ORDER BY check_id")
    ((entries,),) = by_sql(url, "SELECT COUNT(*) FROM ledger_entries")
    assert len(kept) == before + 1
    assert kept[-1] == (session.LOCAL_OPERATOR, "{}", entries)
    shown = history(page)
    assert shown["actor"].tolist()[0] == session.LOCAL_OPERATOR
    assert shown["violations"].tolist()[0] == 0
    assert sentence(page).startswith(f"All {len(CreditCore.INVARIANTS)} invariants held when last checked")
    green = [text for text in markdown_of(page) if text.startswith(":green[:material/check_circle:]")]
    assert len(green) == len(CreditCore.INVARIANTS)


def test_what_was_forged_is_named_with_its_rows(demo_ledger: str, own: Own, open_page: OpenPage) -> None:
    url = own(demo_ledger)
    account, seq = forge(url)

    page = check_now(open_page(url, "integrity"))

    assert not page.exception
    assert ":red[**Something is wrong.**]" in sentence(page)
    broken = [text for text in markdown_of(page) if text.startswith(":red[:material/error:]")]
    named = {int(text.split("**")[1].split(".")[0]) for text in broken}
    assert {1, 8} <= named
    evidence = "\n".join(text.value for text in page.text)
    assert account in evidence
    assert str(seq) in evidence
    assert history(page)["violations"].tolist()[0] >= 2


# The badge --------------------------------------------------------------------------------------------------------


def test_the_badge_ties_out_where_nobody_forged(demo_ledger: str, open_page: OpenPage) -> None:
    assert badges(open_page(demo_ledger, "integrity")) == [TIES_OUT]


@pytest.mark.parametrize("page", ["integrity", "overview"])
@pytest.mark.parametrize("copied_first", [True, False])
def test_a_forgery_shows_on_the_badge_before_anybody_checks(
    demo_ledger: str, own: Own, open_page: OpenPage, monkeypatch: pytest.MonkeyPatch, page: str, copied_first: bool
) -> None:
    """An open page shows it within a minute, though no entry was added; a page opened afterwards shows it at once."""
    url = own(demo_ledger)
    checks = by_sql(url, "SELECT * FROM checks")
    if copied_first:
        opened = open_page(url, page)
        assert badges(opened) == [TIES_OUT]
        charge_more(url)
        later = datetime.now(UTC) + timedelta(seconds=provenance.CHECKED_AGAIN_S)
        monkeypatch.setattr(session, "now", lambda: later)
        opened.run()
        said = "Off the ledger by 0.25"
    else:
        charge_more(url)
        opened = open_page(url, page)
        said = "Entries and balances differ by 0.25"

    assert not opened.exception
    assert [text for text in badges(opened) if said in text and ":red-badge[" in text] == badges(opened) != []
    assert by_sql(url, "SELECT * FROM checks") == checks
    if page == "integrity":
        assert "Figures and ledger disagree: see the badge." in sentence(opened)


def test_a_row_that_was_slipped_in_shows_on_the_badge_before_anybody_checks(
    demo_ledger: str, own: Own, open_page: OpenPage
) -> None:
    url = own(demo_ledger)
    opened = open_page(url, "integrity")
    slip_in(url)
    session._reader(url)._tried_at = float("-inf")

    (badge,) = badges(opened.run())

    assert ":red-badge[" in badge
    assert "Entries and balances differ by 7" in badge


# Holds ------------------------------------------------------------------------------------------------------------


def test_open_holds_are_the_ledgers(demo_ledger: str, own: Own, open_page: OpenPage) -> None:
    url = own(demo_ledger)
    asked = hold(url)
    held = by_sql(url, "SELECT user_id, request_id, amount_uc FROM holds ORDER BY reserved_at, leg_id")
    by_entries = by_sql(
        url,
        "SELECT user_id, request_id, SUM(d_held_uc) FROM ledger_entries WHERE request_id IS NOT NULL "
        "GROUP BY user_id, request_id HAVING SUM(d_held_uc) <> 0 ORDER BY MIN(id)",
    )
    assert sorted(held) == sorted(by_entries)
    assert asked <= {request for _, request, _ in held}

    page = open_page(url, "integrity")

    shown = rows(page, "holds")
    assert sorted(
        (row.user_id, row.request_id, round(row.amount_credits * 1_000_000)) for row in shown.itertuples()
    ) == sorted(held)
    assert card(page, "Open holds") == numbers.count(len(held))
    assert shown["age_s"].is_monotonic_decreasing


def test_stuck_holds_come_with_the_command_that_ends_them(demo_ledger: str, own: Own, open_page: OpenPage) -> None:
    url = own(demo_ledger)
    hold(url, ago=timedelta(days=2))

    page = open_page(url, "integrity")

    stuck = int(rows(page, "holds")["stuck"].sum())
    assert stuck > 0
    assert card(page, "Stuck holds") == numbers.count(stuck)
    assert any("python -m credit_core sweep" in block.value for block in page.code)


# By hand ----------------------------------------------------------------------------------------------------------


TIES_OUT = ":green-badge[:material/check: Ties out to the ledger]"


def badges(page: AppTest) -> list[str]:
    """The tie-out's badge: the one that tells whether figures and ledger agree."""
    told = ("Ties out", "Off the ledger", "Entries and balances", "Not checked against")
    return [text for text in markdown_of(page) if "-badge[" in text and any(words in text for words in told)]


def check_now(page: AppTest) -> AppTest:
    (button,) = (one for one in page.button if one.label == "Check now")
    return button.click().run()


def history(page: AppTest) -> Any:
    """The checks made so far, newest first."""
    return next(table.value for table in page.dataframe if "actor" in table.value)


def hold(url: str, ago: timedelta = timedelta(0)) -> set[str]:
    """Reserve for users who have enough until three requests are held, and leave them open."""
    at = datetime.now(UTC) - ago
    opened: set[str] = set()
    with CreditCore.open(url, clock=lambda: at) as core:
        for number in range(200):
            user = f"holder-{number}"
            core.add_user(user, "premium", at=at)
            decision = core.authorize(Request(user, f"open-{number}", session_id=user, genre="x", mood="y"), at=at)
            if decision.fresh:
                opened.add(f"open-{number}")
            if len(opened) == 3:
                break
    assert len(opened) == 3
    return opened


def forge(url: str) -> tuple[str, int]:
    """Give somebody a credit behind the ledger's back; gives the account and the entry's place in its chain."""
    with closing(sqlite3.connect(_path(url))) as connection, unguarded(connection):
        account, seq, entry = connection.execute(
            "SELECT account_id, seq, id FROM ledger_entries WHERE kind = 'grant' ORDER BY id DESC LIMIT 1"
        ).fetchone()
        connection.execute("UPDATE ledger_entries SET d_avail_uc = d_avail_uc + 1000000 WHERE id = ?", (entry,))
    return str(account), int(seq)


def charge_more(url: str) -> None:
    """Make the newest settle charge a quarter of a credit more than it did."""
    with closing(sqlite3.connect(_path(url))) as connection, unguarded(connection):
        connection.execute(
            "UPDATE ledger_entries SET d_avail_uc = d_avail_uc - 250000 "
            "WHERE id = (SELECT max(id) FROM ledger_entries WHERE kind = 'settle')"
        )


def slip_in(url: str) -> None:
    """One more entry: the newest grant once again, over seven credits."""
    with closing(sqlite3.connect(_path(url))) as connection, unguarded(connection):
        rows = connection.execute("SELECT * FROM ledger_entries WHERE kind = 'grant' ORDER BY id DESC LIMIT 1")
        names = [column[0] for column in rows.description]
        row = dict(zip(names, rows.fetchone(), strict=True))
        (newest,) = connection.execute("SELECT max(id) FROM ledger_entries").fetchone()
        (seq,) = connection.execute(
            "SELECT max(seq) FROM ledger_entries WHERE account_id = ?", (row["account_id"],)
        ).fetchone()
        row |= {
            "id": newest + 1,
            "seq": seq + 1,
            "leg_id": "slipped-in",
            "d_avail_uc": 7_000_000,
            "hash": b"slipped in",
        }
        marks = ", ".join("?" * len(names))
        connection.execute(f"INSERT INTO ledger_entries ({', '.join(names)}) VALUES ({marks})", tuple(row.values()))


@contextmanager
def unguarded(connection: sqlite3.Connection) -> Iterator[None]:
    """Without the triggers that refuse change, for the length of a block."""
    guards = connection.execute(
        "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'ledger_entries'"
    ).fetchall()
    for name, _ in guards:
        connection.execute(f"DROP TRIGGER {name}")
    yield
    for _, statement in guards:
        connection.execute(statement)
    connection.commit()


def by_sql(url: str, statement: str) -> list[Any]:
    with closing(sqlite3.connect(_path(url))) as connection:
        return connection.execute(statement).fetchall()


def _path(url: str) -> str:
    return url.removeprefix("sqlite:///")


def test_it_tells_where_the_copy_lies(demo_ledger: str, own: Own, open_page: OpenPage) -> None:
    url = own(demo_ledger)
    assert any("in the memory of this dashboard" in one.value for one in open_page(url, "integrity").caption)


def test_a_copy_on_disk_is_taken_up_and_ties_out(
    demo_ledger: str, own: Own, open_page: OpenPage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = own(demo_ledger)
    monkeypatch.setenv("CREDITS_FACTS_DIR", str(tmp_path / "facts"))
    page = open_page(url, "integrity")
    assert any("which this dashboard keeps up to date" in one.value for one in page.caption)
    assert "The figures of this dashboard equal the ledger's sums." in sentence(page)
    assert (tmp_path / "facts" / "manifest.json").exists()
