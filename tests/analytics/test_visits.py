"""Accounts counted from visits, and sums of weeks, are what entries say: over any period, in any places, with late entries."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from credit_core.analytics import manifest, queries, visits
from credit_core.analytics.filters import Filters, Period
from credit_core.analytics.rollups import ROLLUPS
from credit_core.analytics.stored import StoredFacts
from credit_core.analytics.sync import Facts
from tests.analytics.ledgers import START, Ledger, in_segments, make

DAYS = 24
SLUGS = ("active_accounts", "run_out_share")
#: START is a midnight in UTC.
DAY = timedelta(days=1)
PERIODS = {
    "whole days": Period(START + 2 * DAY, START + 17 * DAY),
    "to the newest entry": Period(START + 3 * DAY, START + 40 * DAY),
    "from before the first entry": Period(START - 9 * DAY, START + 11 * DAY),
    "ends within a day": Period(START + DAY, START + 16 * DAY + timedelta(hours=9)),
    "begins within a day": Period(START + 5 * DAY + timedelta(hours=13), START + 20 * DAY),
    "within one day": Period(START + 6 * DAY + timedelta(hours=5), START + 6 * DAY + timedelta(hours=19)),
    "the day that is not over": Period(START + 23 * DAY, START + 24 * DAY),
    "ends within the day that is not over": Period(START + 4 * DAY, START + 23 * DAY + timedelta(hours=7)),
    "ends within a later day": Period(START + 2 * DAY, START + 19 * DAY + timedelta(hours=9)),
    "after the newest entry": Period(START + 60 * DAY, START + 61 * DAY),
}
NARROWED: tuple[dict[str, object], ...] = (
    {}, {"plans": ("basic",)}, {"plans": ("basic", "premium"), "regions": ("us",)}, {"users": ("u-a1",)},
)  # fmt: skip


def wander(ledger: Ledger, chance: random.Random, number: int, at: datetime) -> None:
    """A request by somebody who lives in one place, or in another every time."""
    name = f"a{chance.randrange(6)}"
    # Half of the accounts never move; the others do so within a day too.
    place = {"plan": chance.choice(("basic", "premium")), "region": chance.choice(("eu", "us"))} if name > "a2" else {}
    rule = chance.choice(("controller", "controller", "unaffordable", "rate_limited"))
    outcome = None if rule == "rate_limited" else "library"
    if chance.random() < 0.3:
        ledger.fresh(name, f"f-{number}", at, **place)
    else:
        ledger.answer(name, f"r-{number}", at, rule, outcome, **place)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    made = make(f"sqlite:///{tmp_path}/ledger.db")
    chance = random.Random(11)
    for number in range(6):
        made.account(f"a{number}", ("basic", "premium")[number % 2], ("eu", "us")[number % 2])
        made.grant(f"a{number}", START)
    for number, offset in enumerate(sorted(chance.random() * DAYS for _ in range(140))):
        wander(made, chance, number, START + offset * DAY)
    return made.write()


@pytest.fixture
def stored(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StoredFacts]:
    """The ledger in segments that close after a few entries, in the middle of days."""
    with in_segments(ledger, tmp_path / "facts", monkeypatch, backfill=60, least_closed=40, most_open=30) as facts:
        yield facts


class Entries:
    """What the ledger's entries answer, read one by one; each question is asked once."""

    def __init__(self, ledger: Ledger) -> None:
        self._facts = Facts.open(ledger.url)
        self._facts.follow()
        self._known: dict[str, pd.DataFrame | dict[str, object]] = {}

    def agree(self, stored: StoredFacts, narrowed: tuple[dict[str, object], ...] = NARROWED[:1]) -> None:
        for name, period in PERIODS.items():
            for kept in narrowed:
                chosen, where = Filters(period, period.before(), **kept), f"{name}, {kept}"  # type: ignore[arg-type]
                self._same(
                    stored, f"values, {where}", lambda facts, chosen=chosen: queries.values(facts, chosen, SLUGS)
                )
                self._same(stored, f"by day, {where}", lambda facts, chosen=chosen: by_day(facts, chosen))
            chosen = Filters(period, period.before())
            self._same(stored, f"latency, {name}", lambda facts, of=chosen: latency(facts, of))
            self._same(stored, f"movers, {name}", lambda facts, of=chosen: queries.top_movers(facts, of, limit=None))
            self._same(stored, f"burn, {name}", lambda facts, of=chosen: queries.burn_by_account(facts, of))

    def _same(self, stored: StoredFacts, where: str, ask: Callable[[Facts], pd.DataFrame | dict[str, object]]) -> None:
        if where not in self._known:
            self._known[where] = ask(self._facts)
        expected, own = self._known[where], ask(stored)
        if isinstance(expected, pd.DataFrame):
            pd.testing.assert_frame_equal(own, expected, obj=where)
        else:
            assert own == expected, where

    def close(self) -> None:
        self._facts.close()


def by_day(facts: Facts, chosen: Filters) -> pd.DataFrame:
    # Days come in seconds or microseconds, as pandas joins them.
    return queries.daily(facts, chosen, "active_accounts").astype({"day": "datetime64[us]"})


def latency(facts: Facts, chosen: Filters) -> dict[str, object]:
    # The last bit of what lies between two values may differ.
    found = queries.values(facts, chosen, ("latency_p95_ms",))["latency_p95_ms"].value
    return {"p95": found if found is None else pytest.approx(found, rel=1e-12)}


def agree(stored: StoredFacts, ledger: Ledger, narrowed: tuple[dict[str, object], ...] = NARROWED[:1]) -> None:
    with closing(Entries(ledger)) as entries:
        entries.agree(stored, narrowed)


def asked(stored: StoredFacts, period: Period) -> list[str]:
    """The statements of :func:`agree`'s first two questions."""
    found: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        rewritten = stored._asked

        def told(statement: object) -> tuple[str, list[object]]:
            answer = rewritten(statement)  # type: ignore[arg-type]
            found.append(answer[0])
            return answer

        patch.setattr(stored, "_asked", told)
        queries.values(stored, Filters(period), SLUGS)
        queries.daily(stored, Filters(period), "active_accounts")
        queries.top_movers(stored, Filters(period), by="user_id")
    return found


def test_every_period_and_place_has_the_answer_that_entries_give(stored: StoredFacts, ledger: Ledger) -> None:
    agree(stored, ledger, NARROWED)
    over, by_day, moved = (sql for sql in asked(stored, PERIODS["whole days"]) if "account" in sql or "user" in sql)
    assert "FROM visits" in over
    assert "FROM visits" in by_day
    assert "POSITIONAL JOIN" in moved
    assert "FROM visits" not in asked(stored, PERIODS["begins within a day"])[0]
    open_day = asked(stored, PERIODS["the day that is not over"])
    assert any("FROM came_" in sql and "rollup_people" not in sql for sql in open_day)


def test_late_entries_and_new_places_count_at_once_and_after_the_next_day(stored: StoredFacts, ledger: Ledger) -> None:
    held = stored._rolled_up
    assert held is not None
    assert held.visits is not None
    # What is kept of a day that is over does not outlive what comes to it later.
    queries.values(stored, Filters(PERIODS["ends within a later day"]), SLUGS)
    for number in range(4):
        ledger.answer(
            f"a{number}",
            f"late-{number}",
            START + timedelta(days=19, hours=number),
            "unaffordable",
            plan="free",
            region="us",
        )
    # Somebody who never moved is somewhere else today.
    ledger.answer("a0", "moved", START + DAYS * DAY, plan="premium", region="us")
    ledger.write()
    stored.follow()
    now = stored._rolled_up
    assert now is not None
    assert now.visits is None or now.visits.through < held.visits.through
    assert any("FROM came_20250320" in sql for sql in asked(stored, PERIODS["ends within a later day"]))
    agree(stored, ledger, NARROWED[:3])
    for number in range(35):
        ledger.answer(f"a{number % 6}", f"next-{number}", START + (DAYS + 1) * DAY + timedelta(minutes=number))
    ledger.write()
    stored.follow()
    again = stored._rolled_up
    assert again is not None
    assert again.visits is not None
    assert again.visits.through > held.visits.through
    agree(stored, ledger)


def test_visits_of_an_account_in_two_places_on_one_day(tmp_path: Path) -> None:
    """One account, two places on one day: one visit is the first, the other has it among the others."""
    with Facts.open(make(f"sqlite:///{tmp_path}/ledger.db").url)._database.cursor() as cursor:
        people = next(one for one in ROLLUPS if one.name == "people")
        rows = ", ".join(
            f"('a', DATE '{day}', '{plan}', 'eu', 1, 0)"
            for day, plan in (("2026-01-05", "x"), ("2026-01-07", "x"), ("2026-01-07", "y"))
        )
        assert set(visits.COUNTED) <= set(people.counts)
        given = f"SELECT * FROM (VALUES {rows}) AS t(account_id, day, plan, region, requested, unaffordable)"
        made = visits.statement(given, None, date(2026, 1, 5), "UTC")
        found = cursor.execute(
            f"SELECT plan, CAST(since AS VARCHAR), others FROM ({made}) WHERE accounts > 0 ORDER BY day, plan"
        ).fetchall()
    (first, second, third) = found
    assert (first[:2], first[2]) == (("x", None), None)
    assert (second[:2], second[2]) == (("x", "2026-01-05"), None)
    assert third[:2] == ("y", None)
    assert [(one["plan"], str(one["since"])) for one in third[2]] == [("x", "2026-01-07")]


def test_of_any_part_of_a_day_and_in_any_places_each_account_comes_once() -> None:
    chance, first, day = random.Random(7), 50, 100
    with duckdb.connect() as database:
        for _ in range(25):
            entries = [
                (*somewhere(chance), day + chance.randrange(6), *done(chance)) for _ in range(chance.randrange(1, 14))
            ]
            before = [
                (*somewhere(chance), *(chance.choice((None, 40, 60)) for _ in range(2)))
                for _ in range(chance.randrange(5))
            ]
            database.execute(
                "CREATE OR REPLACE TABLE e(account_id TEXT, plan TEXT, region TEXT, occurred_at BIGINT, a BOOL, b BOOL)"
            )
            database.execute(
                "CREATE OR REPLACE TABLE b(account_id TEXT, plan TEXT, region TEXT, requested_at BIGINT, unaffordable_at BIGINT)"
            )
            database.executemany("INSERT INTO e VALUES (?, ?, ?, ?, ?, ?)", entries)
            if before:
                database.executemany("INSERT INTO b VALUES (?, ?, ?, ?, ?)", before)
            did = (
                "SELECT account_id, plan, region, CASE WHEN a THEN occurred_at END AS requested, "
                "CASE WHEN b THEN occurred_at END AS unaffordable FROM e WHERE a OR b"
            )
            alike = "SELECT account_id, plan, region, min(requested) AS requested, min(unaffordable) AS unaffordable"
            made = visits.of_day(f"{alike} FROM ({did}) GROUP BY ALL", "e", "FROM b" if before else None)
            rows = database.execute(made).fetchall()
            for until, places in itertools.product(
                (day + 2, day + 9), ({("x", None)}, {("x", "u"), ("y", "u")}, set(PLACES))
            ):
                for number, what in enumerate(visits.COUNTED):
                    came = {one[0] for one in entries if one[3] < until and one[4 + number] and one[1:3] in places}
                    known = {one[0] for one in before if (one[3 + number] or 0) >= first and one[1:3] in places}
                    told = [
                        row for row in rows
                        if row[:2] in places and (row[2 + 2 * number] or until) < until and (row[3 + 2 * number] or 0) < first
                        and not any((one["plan"], one["region"]) in places and one["since"] >= first for one in row[6] or ())
                    ]  # fmt: skip
                    assert len(told) == len(came - known), (what, until, places, entries, before)


PLACES = (("x", "u"), ("y", "u"), ("x", None))


def somewhere(chance: random.Random) -> tuple[str, str, str | None]:
    return (chance.choice("abcd"), *chance.choice(PLACES))


def done(chance: random.Random) -> tuple[bool, bool]:
    return chance.random() < 0.8, chance.random() < 0.3


def test_a_folder_without_them_gets_them_at_the_next_run(stored: StoredFacts, ledger: Ledger) -> None:
    found = manifest.read(stored.store)
    assert found is not None
    stored.close()
    gone = {name: files for name, files in found.tables.items() if not name.startswith(("visits", "week"))}
    manifest.write(stored.store, replace(found, tables=gone))
    with closing(StoredFacts.at(ledger.url, stored.store)) as old, closing(Entries(ledger)) as entries:
        old.look()
        assert "FROM visits" not in " ".join(asked(old, PERIODS["whole days"]))
        entries.agree(old)
        old.follow()
        assert "FROM visits" in " ".join(asked(old, PERIODS["whole days"]))
        entries.agree(old)
