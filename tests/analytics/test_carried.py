"""What is kept beside segments changes times, not answers: also once cycles are moved, and entries come late."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import select, update

from credit_core.analytics import by_week, carrying, day_ends, manifest, queries, relations
from credit_core.analytics.filters import Filters, Period
from credit_core.analytics.queries import economics, operations, surplus
from credit_core.analytics.rollups import ROLLUPS
from credit_core.analytics.stored import StoredFacts
from credit_core.analytics.sync import Facts
from credit_core.policy.config import Config
from credit_core.store import schema
from tests.analytics.ledgers import CATALOG, CREDIT, START, Ledger, busy, in_segments, make

DAYS = 16
WHOLE = Filters(Period(START, START + timedelta(days=DAYS)))
PEOPLE = next(one for one in ROLLUPS if one.carried)
QUANTILES = ["p05", "p25", "median", "p75", "p95"]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return busy(make(f"sqlite:///{tmp_path}/ledger.db"), accounts=5, days=DAYS, requests=160)


@pytest.fixture
def stored(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StoredFacts]:
    """The ledger in segments that close after a few entries, with few enough last days for weeks' ends before them."""
    monkeypatch.setattr(carrying, "LAST_DAYS", 4)
    with in_segments(ledger, tmp_path / "facts", monkeypatch, backfill=120, least_closed=50, most_open=40) as facts:
        yield facts


def agree(stored: StoredFacts, ledger: Ledger) -> None:
    """Every question that rests on what is kept has the answer that entries give."""
    copy = Facts.open(ledger.url)
    copy.follow()
    try:
        own, plain = (queries.surplus_bands(facts, WHOLE) for facts in (stored, copy))
        half = day_ends.STEP_DAYS / 2 + 1e-9
        np.testing.assert_allclose(own[QUANTILES].astype(float), plain[QUANTILES].astype(float), rtol=0.0, atol=half)
        pd.testing.assert_frame_equal(own.drop(columns=QUANTILES), plain.drop(columns=QUANTILES))
        questions: list[tuple[Any, ...]] = [(queries.surplus_now,), (queries.run_outs,), (queries.cells, Config())]
        questions += [(operations.incidents,), (operations.models,), (economics.packs, CATALOG.catalog)]
        for question, *more in questions:
            pd.testing.assert_frame_equal(*(question(facts, WHOLE, *more) for facts in (stored, copy)))
    finally:
        copy.close()


def test_days_that_are_over_are_counted_and_balances_carried_to_weeks_ends(stored: StoredFacts, ledger: Ledger) -> None:
    counted = stored.day_ends()
    assert counted is not None
    assert len(counted.days) >= DAYS - 2
    assert not counted.moved
    found = manifest.read(stored.store)
    assert found is not None
    held = carrying.carried(found, PEOPLE)
    last = carrying.last_whole_day(found)
    assert last is not None
    latest = [last - timedelta(days=number) for number in range(4)]
    first = carrying.first_day(found)
    weeks = [day for day in _days(first, last) if day.toordinal() % carrying.EVERY_DAYS == 0]
    assert list(held.files) == sorted({*weeks, *latest})
    assert len(held.files) < len(_days(first, last))
    sql, _ = stored._asked(surplus._at_instant(stored.extent.last_us or 0, WHOLE))
    assert f"until_people_{last:%Y%m%d}" in sql
    agree(stored, ledger)

    for number in range(60):
        ledger.fresh("a3", f"day-{number}", START + timedelta(days=DAYS, hours=number))
    ledger.write()
    stored.follow()
    after = manifest.read(stored.store)
    assert after is not None
    newest = carrying.last_whole_day(after)
    assert newest is not None
    assert newest > last
    kept = carrying.carried(after, PEOPLE).files
    assert [day for day in kept if day.toordinal() % carrying.EVERY_DAYS] == [
        day for day in _days(newest - timedelta(days=3), newest) if day.toordinal() % carrying.EVERY_DAYS
    ]
    agree(stored, ledger)


def _days(first: date, last: date) -> list[date]:
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]


def test_what_came_between_two_days_ends_is_what_the_days_have(stored: StoredFacts, ledger: Ledger) -> None:
    # An account that comes later than others, and before them by name.
    ledger.account("a", "basic", "eu")
    ledger.grant("a", START + timedelta(days=DAYS))
    for number in range(60):
        ledger.fresh("a" if number % 3 else "a2", f"day-{number}", START + timedelta(days=DAYS, hours=number))
    ledger.write()
    stored.follow()
    found = manifest.read(stored.store)
    assert found is not None
    days = list(carrying.carried(found, PEOPLE).files)
    amounts = (*PEOPLE.sums, *(f"known_{name}" for name in PEOPLE.sums), *PEOPLE.measures, *PEOPLE.counts, "n")
    keys = [f'"{key}"' for key in PEOPLE.keys if key != "day"]
    sums = ", ".join(
        (
            *keys,
            *(f"CAST(coalesce(sum({name}), 0) AS BIGINT)" for name in amounts),
            *map("max({})".format, PEOPLE.latest),
        )
    )
    with stored._database.cursor() as cursor:

        def rows(source: str) -> list[tuple[Any, ...]]:
            asked = f"SELECT {sums} FROM ({source}) WHERE plan IS NOT NULL GROUP BY {', '.join(keys)} ORDER BY ALL"
            return cursor.execute(asked).fetchall()

        for after, until in itertools.combinations(days, 2):
            between = rows(PEOPLE.between(after, until, 0))
            assert between
            assert between == rows(
                f"SELECT * FROM {PEOPLE.table} WHERE day > DATE '{after}' AND day <= DATE '{until}'"
            ), (after, until)


def test_an_account_whose_cycle_is_another_by_now_is_counted_as_it_is_now(stored: StoredFacts, ledger: Ledger) -> None:
    before = queries.surplus_bands(stored, WHOLE)
    with ledger.engine.begin() as connection:
        moved = update(schema.cycles).where(schema.cycles.c.account_id == "a1")
        connection.execute(moved.values(quota_uc=7 * CREDIT, end_at=START + timedelta(days=21)))
    ledger.fresh("a1", "after", START + timedelta(days=DAYS - 1, hours=23))
    ledger.write()
    stored.follow()
    counted = stored.day_ends()
    assert counted is not None
    assert counted.moved
    assert not before[QUANTILES].equals(queries.surplus_bands(stored, WHOLE)[QUANTILES])
    agree(stored, ledger)
    # Once another day is over, the weeks from that cycle's beginning on are counted anew.
    for number in range(30):
        ledger.fresh("a2", f"next-{number}", START + timedelta(days=DAYS + 1, minutes=number))
    ledger.write()
    stored.follow()
    again = stored.day_ends()
    assert again is not None
    assert not again.moved
    agree(stored, ledger)


def test_late_entries_are_in_every_answer_at_once(stored: StoredFacts, ledger: Ledger) -> None:
    known = stored.day_ends()
    for number in range(3):
        ledger.fresh(
            "a3",
            f"late-{number}",
            START + timedelta(days=4, hours=number),
            rule="coverage_miss",
            genre="rock",
            mood="calm",
        )
    ledger.write()
    stored.follow()
    assert known is not None
    left = stored.day_ends()
    assert left is None or max(left.days) < max(known.days)
    agree(stored, ledger)
    for number in range(30):
        ledger.fresh("a3", f"later-{number}", START + timedelta(days=DAYS, minutes=number))
    ledger.write()
    stored.follow()
    agree(stored, ledger)


def test_roll_ups_that_a_segment_lacks_are_made_at_the_next_run(stored: StoredFacts, ledger: Ledger) -> None:
    found = manifest.read(stored.store)
    assert found is not None
    closed = [one for one in found.segments if one.closed]
    assert closed
    stored.close()
    lacking = [
        {"file": one.file, "rows": one.rows, "first_us": one.first_us, "last_us": one.last_us, "closed": one.closed}
        for one in found.segments
    ]
    manifest.write(stored.store, replace(found, segments=tuple(manifest.Segment(**one) for one in lacking), tables={
        name: files for name, files in found.tables.items() if name in relations.metadata.tables
    }))  # fmt: skip
    old = StoredFacts.at(ledger.url, stored.store)
    try:
        old.look()
        sql, _ = old._asked(select(relations.facts.c.day).distinct())
        assert "rollup" not in sql
        assert old.day_ends() is None
        agree(old, ledger)
        old.follow()
        sql, _ = old._asked(select(relations.facts.c.day).distinct())
        assert "rollup_hours" in sql
        assert old.day_ends() is not None
        agree(old, ledger)
        now = manifest.read(stored.store)
        assert now is not None
        assert [one.file for one in now.segments] == [one.file for one in found.segments]
    finally:
        old.close()


def test_quantiles_of_counts_are_those_of_the_values() -> None:
    chance = np.random.default_rng(5)
    steps = chance.integers(-40, 60, 500)
    values, counts = np.unique(steps, return_counts=True)
    shares = [0.05, 0.25, 0.5, 0.75, 0.95]
    wanted = np.quantile(steps * day_ends.STEP_DAYS, shares)
    assert day_ends.quantiles(values, counts, shares) == pytest.approx(list(wanted))


def test_weeks_end_where_balances_are_carried_to() -> None:
    first, last = START.date(), START.date() + timedelta(days=20)
    weeks = list(by_week.weeks(first, last))
    assert [day for week in weeks for day in week][:1] == [first]
    assert weeks[-1][1] == last
    assert all(end.toordinal() % carrying.EVERY_DAYS == 0 for _, end in weeks[:-1])
    assert all(later[0] == earlier[1] + timedelta(days=1) for earlier, later in itertools.pairwise(weeks))
