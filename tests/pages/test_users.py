"""Users: found by their first letters, figures that are the ledger's sums, one decision explained to the last bit."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from credit_core import CreditCore, Request
from pages.components import numbers
from tests.pages.conftest import HOSTILE, OpenPage
from tests.pages.reading import SPENT, card, drawn_text, figures, markdown_of, rows, words

#: Kinds that answer a request.
ANSWERS = ("reserve", "library", "defer", "rate_limited", "rejected")


# Finding ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("letters", ["user-0001", "USER-0001", "user-00007"])
def test_people_are_found_by_their_first_letters(demo_ledger: str, open_page: OpenPage, letters: str) -> None:
    wanted = by_sql(demo_ledger, "SELECT user_id FROM users WHERE user_id LIKE ? ORDER BY 1", f"{letters}%")

    page = open_page(demo_ledger, "users", {"find": letters})

    assert rows(page, "found")["user_id"].tolist() == [user for (user,) in wanted]


def test_letters_that_nobody_has_are_answered_kindly(demo_ledger: str, open_page: OpenPage) -> None:
    page = open_page(demo_ledger, "users", {"find": "nobody"})

    assert not page.exception
    assert "No user id begins like that\\." in words(page)


@pytest.mark.parametrize("name", HOSTILE)
def test_whatever_somebody_is_called_they_can_be_found_and_opened(
    hostile_ledger: str, open_page: OpenPage, name: str
) -> None:
    found = open_page(hostile_ledger, "users", {"find": name[:20]})
    assert name in rows(found, "found")["user_id"].tolist()

    page = open_page(hostile_ledger, "users", {"user": name})

    assert not page.exception
    assert_header(hostile_ledger, page, name)
    for text in (*markdown_of(page), *(text for spec in figures(page) for text in drawn_text(spec))):
        for attack in ("![x](", "<script>", ":red[y]", "$$x$$", "[click](", ":material/bomb:"):
            assert attack not in text
        # A bracket that is escaped opens no tag.
        assert not re.search(r"(?<!\\)<a", text)


def test_somebody_who_is_not_there_gives_the_way_back(demo_ledger: str, open_page: OpenPage) -> None:
    for user, request in (("nobody", None), ("<b>nobody</b>", "whatever")):
        page = open_page(
            demo_ledger, "users", {name: value for name, value in (("user", user), ("request", request)) if value}
        )

        assert not page.exception
        assert "There is no such user\\." in words(page)
        assert not page.metric
        assert [button.label for button in page.button if "All users" in button.label]


# One user ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_header_is_the_ledgers_sums(demo_ledger: str, open_page: OpenPage, place: int) -> None:
    # The busiest, one in the middle, and one of the quietest.
    busy = [
        user for (user,) in by_sql(demo_ledger, "SELECT user_id FROM ledger_entries GROUP BY 1 ORDER BY COUNT(*) DESC")
    ]
    user = busy[[0, len(busy) // 2, len(busy) - 1][place]]

    page = open_page(demo_ledger, "users", {"user": user})

    assert not page.exception
    assert_header(demo_ledger, page, user)


def test_what_is_held_is_the_ledgers_sum(demo_ledger: str, tmp_path: Path, open_page: OpenPage) -> None:
    path, now = tmp_path / "own.db", datetime.now(UTC)
    with closing(sqlite3.connect(_path(demo_ledger))) as source, closing(sqlite3.connect(path)) as target:
        source.backup(target)
    url = f"sqlite:///{path}"
    with CreditCore.open(url) as core:
        core.add_user("holder", "premium", at=now)
        answers = [
            core.authorize(Request("holder", f"r{n}", session_id=f"s{n}", genre="x", mood="y")) for n in range(3)
        ]
        assert any(answer.fresh for answer in answers)

    page = open_page(url, "users", {"user": "holder"})

    assert card(page, "Held") != numbers.credits(0)
    assert_header(url, page, "holder")


def test_lots_add_up_to_what_is_available(demo_ledger: str, open_page: OpenPage) -> None:
    ((user, available, held),) = by_sql(
        demo_ledger,
        "SELECT account_id, SUM(d_avail_uc), SUM(d_held_uc) FROM ledger_entries GROUP BY 1 ORDER BY 2 DESC LIMIT 1",
    )
    ((user,),) = by_sql(demo_ledger, "SELECT user_id FROM users WHERE account_id = ?", user)

    page = open_page(demo_ledger, "users", {"user": user})

    lots = next(table.value for table in page.dataframe if "held_uc" in table.value)
    assert int(lots["avail_uc"].sum()) == available
    assert int(lots["held_uc"].sum()) == held


def test_the_history_is_every_entry_with_the_balance_after_it(demo_ledger: str, open_page: OpenPage) -> None:
    ((user, number),) = by_sql(
        demo_ledger,
        "SELECT user_id, COUNT(*) FROM ledger_entries GROUP BY 1 HAVING COUNT(*) BETWEEN 20 AND 190 ORDER BY 2 DESC LIMIT 1",
    )
    ((account,),) = by_sql(demo_ledger, "SELECT account_id FROM users WHERE user_id = ?", user)
    entries = by_sql(
        demo_ledger,
        "SELECT seq, kind, SUM(d_avail_uc) OVER (ORDER BY seq) FROM ledger_entries WHERE account_id = ? ORDER BY seq DESC",
        account,
    )

    page = open_page(demo_ledger, "users", {"user": user})

    shown = rows(page, "timeline")
    assert number > 0
    assert [(row.seq, row.kind, round(row.available_credits * 1_000_000)) for row in shown.itertuples()] == entries[
        : len(shown)
    ]
    assert len(shown) == min(len(entries), 200)


# One decision -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["reserve", "library", "defer", "rate_limited"])
def test_a_decision_is_explained_and_recomputes_exactly(demo_ledger: str, open_page: OpenPage, kind: str) -> None:
    ((user, request, rule, version),) = by_sql(
        demo_ledger,
        "SELECT user_id, request_id, rule, config_version FROM ledger_entries "
        "WHERE kind = ? AND rule IS NOT NULL AND line = 1 ORDER BY id DESC LIMIT 1",
        kind,
    )
    with CreditCore.open(demo_ledger) as core:
        explanation = core.explain(user, request)

    page = open_page(demo_ledger, "users", {"user": user, "request": request})

    assert not page.exception
    said = words(page)
    assert f"Request {request}" in said
    assert f"**{explanation.sentence}**" in said
    assert "Recomputed from what was logged: equal to the last bit." in said
    assert f"Configuration version {version}, " in said
    made = dict(next(t.value for t in page.table if "Rule" in t.value["Figure"].tolist()).values.tolist())
    assert made["Rule"] == rule.replace("_", " ")


def test_a_request_that_nobody_made_leaves_the_user_readable(demo_ledger: str, open_page: OpenPage) -> None:
    page = open_page(demo_ledger, "users", {"user": "user-00001", "request": "no such request"})

    assert not page.exception
    assert "Why this answer" in words(page)
    assert "equal to the last bit" not in words(page)
    assert_header(demo_ledger, page, "user-00001")


# By plain SQL -----------------------------------------------------------------------------------------------------


def assert_header(url: str, page: AppTest, user: str) -> None:
    """The cards of a user are the sums of their account's entries."""
    ((available, held, spent, fresh, library),) = by_sql(
        url,
        f"SELECT SUM(d_avail_uc), SUM(d_held_uc), {SPENT}, SUM(outcome = 'fresh'), SUM(outcome = 'library') "
        "FROM ledger_entries WHERE account_id = (SELECT account_id FROM users WHERE user_id = ?)",
        user,
    )
    assert card(page, "Available") == numbers.credits(available)
    assert card(page, "Held") == numbers.credits(held)
    assert card(page, "Spent") == numbers.credits(spent)
    assert card(page, "Served") == numbers.count((fresh or 0) + (library or 0))


def by_sql(url: str, statement: str, *values: Any) -> list[Any]:
    with closing(sqlite3.connect(_path(url))) as connection:
        return connection.execute(statement, values).fetchall()


def _path(url: str) -> str:
    return url.removeprefix("sqlite:///")
