"""Finished cycles that are kept by week come to what all entries say: with late entries, and cycles that are others by now."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
from sqlalchemy import select, update

from credit_core.analytics import by_week, finishing, manifest, measures, queries, relations, segments
from credit_core.analytics.filters import Filters, Period
from credit_core.analytics.stored import StoredFacts
from credit_core.analytics.sync import Facts
from credit_core.store import schema
from credit_core.units import to_us
from tests.analytics.ledgers import CREDIT, START, Ledger, in_segments, make

DAYS = 22
DAY = timedelta(days=1)
#: Its clocks change on the ninth day.
ZONE = "America/New_York"
MIDNIGHT = datetime(2025, 3, 1, tzinfo=ZoneInfo(ZONE))
#: Of plans that are paced, and of one that is not.
PLANS = ("basic", "premium", "creator_pro")
NAMES = [f"a{number}" for number in range(6)]
EVER = Period(START - 60 * DAY, START + 90 * DAY)


class WithCycles(Ledger):
    """A ledger whose cycles can be changed; whoever changes one also writes an entry."""

    def change(self, name: str, number: int, **values: Any) -> None:
        """Set columns of a cycle's row."""
        c = schema.cycles.c
        with self.engine.begin() as connection:
            connection.execute(update(schema.cycles).where(c.account_id == name, c.cycle_no == number).values(values))


def ended(chance: random.Random, end: datetime) -> dict[str, Any]:
    """What is known of a closed cycle."""
    return {
        "closed_at": end + timedelta(hours=chance.randrange(30)),
        "demand_uc": chance.randrange(1, 90) * CREDIT // 2,
        "opening_uc": chance.randrange(60) * CREDIT,
    }


def with_cycles(ledger: WithCycles, chance: random.Random, name: str) -> None:
    """Cycles that adjoin, some of which end with a week or begin before there are entries; a few were not closed, or have no quota."""
    start = MIDNIGHT - chance.randrange(3) * DAY
    ledger.account(
        name, PLANS[NAMES.index(name) % 3], chance.choice(("eu", "us")), start=start, days=2, avail_uc=9_999 * CREDIT
    )
    first, number = start + 2 * DAY, 0
    ledger.change(name, 0, **ended(chance, first))
    while first < MIDNIGHT + (DAYS + 3) * DAY:
        number += 1
        end = first + chance.randrange(1, 12) * DAY + chance.choice((timedelta(), timedelta(hours=5, microseconds=7)))
        over = end < MIDNIGHT + DAYS * DAY and chance.random() < 0.85
        quota = {"quota_uc": 0} if chance.random() < 0.1 else {}
        ledger.cycle(name, number, first, end, **quota, **(ended(chance, end) if over else {}))
        first = end


def many(ledger: Ledger, chance: random.Random, entries: int, first: int, last: int) -> None:
    """Reserves, grants and others of some days, as they come; often at midnights, so that they meet cycles' ends."""
    ats = []
    for _ in range(entries):
        midnight = MIDNIGHT + chance.randrange(first, last) * DAY
        ats.append(midnight if chance.random() < 0.3 else midnight + chance.random() * DAY)
    for at in sorted(ats):
        name, way = chance.choice(NAMES), chance.random()
        if way < 0.5:
            ledger.reserve(name, f"r-{ledger._legs}", at, ("monthly", chance.randrange(1, 9) * CREDIT))
        elif way < 0.8:
            ledger.grant(name, at, chance.randrange(1, 20), chance.choice(("monthly", "monthly", "bonus")))
        else:
            ledger.answer(name, f"o-{ledger._legs}", at)
    ledger.write()


def agree(stored: StoredFacts, ledger: Ledger) -> None:
    """What is kept, and entries, have the same cycles, and what pages ask has the same answers."""
    copy = Facts.open(ledger.url)
    copy.follow()
    assert stored._finished is not None
    try:
        names = ("account_id", "plan", "region", "occurred_at", "budget_uc", "fresh_uc")
        both = ((facts, facts.finished(EVER).c) for facts in (stored, copy))
        own, plain = (sorted(facts.rows(select(*(c[name] for name in names)))) for facts, c in both)
        assert own == plain, (sorted({*own} - {*plain}), sorted({*plain} - {*own}))
        assert len({row[0] for row in own}) == 4, "of paced plans alone"
        week = Period(START + 9 * DAY, START + 17 * DAY + timedelta(hours=5))
        for filters in (
            Filters(week), Filters(EVER, plans=("basic",)), Filters(week, regions=("us",)), Filters(EVER, users=("u-a1",)),
        ):  # fmt: skip
            values = [queries.value(facts, filters, "pacing_efficiency") for facts in (stored, copy)]
            assert values[0] == values[1]
        days = [queries.daily(facts, Filters(week), "pacing_efficiency", "region") for facts in (stored, copy)]
        pd.testing.assert_frame_equal(*days)
    finally:
        copy.close()


@pytest.fixture
def ledger(tmp_path: Path) -> WithCycles:
    plain = make(f"sqlite:///{tmp_path}/ledger.db", ZONE)
    made, chance = WithCycles(plain.url, plain.engine), random.Random(11)
    for name in NAMES:
        with_cycles(made, chance, name)
    many(made, chance, 260, 0, DAYS)
    return made


@pytest.fixture
def stored(ledger: WithCycles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StoredFacts]:
    """The ledger in segments that close after a few entries, in the middle of days."""
    with in_segments(ledger, tmp_path / "facts", monkeypatch, backfill=90, least_closed=40, most_open=30) as facts:
        yield facts


def kept(stored: StoredFacts, kind: str = finishing.FINISHED) -> dict[by_week.Span, str]:
    """The weeks in the folder."""
    found = manifest.read(stored.store)
    assert found is not None
    return by_week.there(found, kind).files


def others(stored: StoredFacts) -> set[tuple[str, int]]:
    """Cycles that had ended and are worked out again."""
    return set(stored.rows(select(finishing._OTHERS)))


def test_weeks_of_finished_cycles_are_what_all_entries_say(stored: StoredFacts, ledger: WithCycles) -> None:
    chance = random.Random(5)
    many(ledger, chance, 30, DAYS - 2, DAYS)
    stored.follow()
    assert stored.place.open_segments == 0
    before = kept(stored)
    assert len(before) == 4
    assert set(kept(stored, finishing.RUNNING)) == set(before)
    assert not others(stored)
    agree(stored, ledger)
    # Late ones, of cycles that had ended and of those that ran on; then another day is over.
    for late in (8, 30):
        many(ledger, chance, late, 11, 14)
        stored.follow()
        assert others(stored)
        agree(stored, ledger)
    # The second time they closed a segment, on no other day.
    assert kept(stored) == before
    assert stored.place.open_segments == 0
    many(ledger, chance, 35, DAYS, DAYS + 3)
    stored.follow()
    assert not others(stored)
    agree(stored, ledger)
    now = kept(stored)
    assert max(now)[1] > max(before)[1]
    # Weeks before the late entries are what they were.
    assert [span for span in before if now.get(span) == before[span]] == [
        span for span in sorted(before) if span[1] < MIDNIGHT.date() + 11 * DAY
    ]


def changed(ledger: WithCycles, chance: random.Random, way: str) -> None:
    """Something becomes of a cycle that had ended, or was thought to run on; its account has an entry that is no request's."""
    over = [one for one in ledger.cycles if one["end_at"] < MIDNIGHT + (DAYS - 2) * DAY and one["plan"] in PLANS[:2]]
    one = chance.choice([row for row in over if (row["closed_at"] is None) == (way == "closed late")])
    name, number = one["account_id"], one["cycle_no"]
    values: dict[str, Any] = {
        "closed late": ended(chance, MIDNIGHT + DAYS * DAY),
        "asked for more": {"demand_uc": 500 * CREDIT},
        "another plan": {"plan": "creator_pro"},
        "ended before": {"end_at": one["start_at"] + timedelta(hours=5)},
        "paused": {"end_at": MIDNIGHT + (DAYS - 1) * DAY + timedelta(hours=7)},
        "goes on": {"end_at": MIDNIGHT + (DAYS + 1) * DAY},
        "open again": {"closed_at": None},
        "began before": {"start_at": one["start_at"] - timedelta(hours=30)},
    }[way]
    one |= values
    ledger.change(name, number, **values)
    ledger.grant(name, MIDNIGHT + DAYS * DAY + timedelta(seconds=ledger._legs), 1, "bonus")
    ledger.write()


#: What becomes of cycles between two looks.
WAYS = (
    ("closed late", "asked for more", "another plan"),
    ("ended before", "paused"),
    ("goes on", "open again", "began before"),
)


def test_cycles_that_are_others_by_now_are_as_they_are_now(stored: StoredFacts, ledger: WithCycles) -> None:
    chance = random.Random(2)
    again: list[int] = []
    # Late ones too, of cycles that are what they were.
    many(ledger, random.Random(8), 2, 3, 18)
    for ways in WAYS:
        for way in ways:
            changed(ledger, chance, way)
        stored.follow()
        again.append(len(others(stored)))
        agree(stored, ledger)
    # Once a day is over, weeks are made again.
    assert sum(number > 0 for number in again) >= 2
    # Late as well; and a cycle that nobody knew.
    many(ledger, chance, 16, 3, 20)
    ledger.cycle("a0", 99, MIDNIGHT + 3 * DAY, MIDNIGHT + 18 * DAY, **ended(chance, MIDNIGHT + 18 * DAY))
    ledger.grant("a0", MIDNIGHT + DAYS * DAY + timedelta(hours=1), 3)
    ledger.write()
    stored.follow()
    agree(stored, ledger)
    many(ledger, chance, 40, DAYS + 1, DAYS + 3)
    stored.follow()
    agree(stored, ledger)


def test_folders_that_lack_it_ask_entries_and_old_entries_leave_the_copy(
    stored: StoredFacts, ledger: WithCycles, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, weeks = manifest.read(stored.store), len(kept(stored))
    assert found is not None
    whole = Filters(EVER)
    answer = queries.value(stored, whole, "pacing_efficiency")
    without = {name: files for name, files in found.tables.items() if not name.startswith(("finished", "running"))}
    stored.close()
    manifest.write(stored.store, replace(found, tables=without))
    older = StoredFacts.at(ledger.url, stored.store)
    try:
        older.look()
        assert older._finished is None
        assert queries.value(older, whole, "pacing_efficiency") == answer
        older.follow()
        assert len(kept(older)) == weeks
        agree(older, ledger)
        syncer = older._syncer
        assert syncer is not None
        monkeypatch.setattr(segments, "clock", lambda: MIDNIGHT + DAYS * DAY + timedelta(hours=5))
        syncer.follow(keep_days=9)
        older.follow()
        assert 0 < len(kept(older)) < weeks
        told = [older.finished(EVER), measures.finished(EVER)]
        own, plain = (
            sorted(older.rows(select(one.c.account_id, one.c.occurred_at, one.c.budget_uc, one.c.fresh_uc)))
            for one in told
        )
        assert own == plain
        begins = syncer.manifest.begins_us
        assert begins is not None
        assert any(row[1] < begins for row in own)
        assert to_us(START) < begins
        assert relations.cycles.name in syncer.manifest.tables
    finally:
        older.close()
