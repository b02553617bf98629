"""Run-outs that are kept by week are those that all entries say: with late grants and refusals, over any period, at the same instant."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
from sqlalchemy import select

from credit_core.analytics import by_week, manifest, queries, run_outs, segments, spells
from credit_core.analytics.filters import Filters, Period
from credit_core.analytics.queries import surplus
from credit_core.analytics.stored import StoredFacts
from credit_core.analytics.sync import Facts
from credit_core.units import to_us
from tests.analytics.ledgers import START, Ledger, in_segments, make

DAYS = 22
DAY = timedelta(days=1)
#: Its clocks change on the ninth day.
ZONE = "America/New_York"
MIDNIGHT = datetime(2025, 3, 1, tzinfo=ZoneInfo(ZONE))
NAMES = [f"a{number}" for number in range(5)]
Row = dict[str, Any]


def instant(chance: random.Random, first: int, last: int) -> datetime:
    """Often a local midnight or one of few other instants, so that entries share them."""
    midnight = MIDNIGHT + chance.randrange(first, last) * DAY
    way = chance.random()
    return midnight + timedelta(hours=0 if way < 0.3 else 9) if way < 0.6 else midnight + chance.random() * DAY


def happen(ledger: Ledger, chance: random.Random, number: int, at: datetime) -> None:
    """A refusal by rule 4, a grant, or something else, in one place or another."""
    name = chance.choice(NAMES)
    way = chance.random()
    place = {"plan": chance.choice(("basic", "premium")), "region": chance.choice(("eu", "us"))}
    if way < 0.5:
        seen = place | {"cycle_days": chance.choice((28.0, 31.0)), "team_id": chance.choice((None, "team"))}
        ledger.answer(name, f"d-{number}", at, "unaffordable", **seen)
    elif way < 0.8:
        ledger.grant(name, at, credits=1, kind="bonus")
    else:
        ledger.answer(name, f"o-{number}", at, **place)


def many(ledger: Ledger, chance: random.Random, entries: int, first: int, last: int) -> None:
    """So many entries of some days, as they come."""
    for at in sorted(instant(chance, first, last) for _ in range(entries)):
        happen(ledger, chance, ledger._legs, at)
    ledger.write()


def plainly(ledger: Ledger, start_us: int, end_us: int, since_us: int = 0) -> set[tuple[Any, ...]]:
    """SPEC 6, entry by entry, of those from ``since_us`` on: the columns of :data:`spells.SPELL`."""
    found: list[Row] = []
    going_on: dict[str, Row] = {}
    for row in sorted(ledger.entries, key=lambda one: (one["occurred_at"], one["id"])):
        at_us, account = to_us(row["occurred_at"]), row["account_id"]
        if at_us < since_us:
            continue
        if row["kind"] == "grant" and account in going_on:
            going_on.pop(account)["granted_at"] = at_us
        elif row["rule"] == "unaffordable" and account not in going_on:
            going_on[account] = {**row, "run_out_at": at_us, "granted_at": None}
            found.append(going_on[account])
    return {tuple(row[name] for name in spells.SPELL) for row in found if start_us <= row["run_out_at"] < end_us}


def periods(chance: random.Random, ledger: Ledger, number: int) -> Iterator[tuple[datetime, datetime]]:
    """All of it, then periods that begin and end at midnights, at entries, or anywhere."""
    yield START - DAY, START + 60 * DAY
    for _ in range(number):
        bounds = [instant(chance, 0, DAYS + 4) for _ in range(2)]
        if chance.random() < 0.5:
            bounds[0] = chance.choice(ledger.entries)["occurred_at"]
        yield min(bounds), max(bounds) + timedelta(microseconds=1)


def agree(stored: StoredFacts, ledger: Ledger, seed: int, since_us: int = 0) -> None:
    """Both ways have the rows that entries say, once each."""
    for number, period in enumerate(periods(random.Random(seed), ledger, 12)):
        bounds = to_us(period[0]), to_us(period[1])
        wanted = plainly(ledger, *bounds, since_us)
        ways = [stored.run_outs(*bounds), spells.spells(spells.kept(), *bounds)]
        for asked in ways[: 1 if number % 4 else 2]:
            found = stored.rows(select(asked.subquery("found")))
            assert len(found) == len(set(found))
            assert set(found) == wanted, period


def pages_agree(stored: StoredFacts, ledger: Ledger) -> None:
    """What pages ask has the same answer, whatever narrows it."""
    copy = Facts.open(ledger.url)
    copy.follow()
    narrowed: tuple[dict[str, Any], ...] = (
        {}, {"plans": ("basic",)}, {"regions": ("us",), "users": ("u-a1", "u-a2")}, {"teams": ("team",)},
    )  # fmt: skip
    period = Period(START + timedelta(days=4, hours=7), START + (DAYS + 2) * DAY)
    sql, _ = stored._asked(select(stored.run_outs(to_us(period.start), to_us(period.end)).subquery()))
    assert run_outs.ENDED in sql
    try:
        for more in narrowed:
            own, plain = (queries.run_outs(facts, Filters(period, **more)) for facts in (stored, copy))
            assert len(own) > 3
            order = ["run_out_at", "account_id", "granted_at"]
            frames = (one.sort_values(order, ignore_index=True) for one in (own, plain))
            pd.testing.assert_frame_equal(*frames)
            mine, other = (queries.dry_time(facts, Filters(period, **more)) for facts in (stored, copy))
            assert mine[:3] == other[:3]
            assert mine.share == pytest.approx(other.share)
    finally:
        copy.close()


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    made = make(f"sqlite:///{tmp_path}/ledger.db", ZONE)
    for number, name in enumerate(NAMES):
        made.account(name, ("basic", "premium")[number % 2], start=MIDNIGHT)
    # Ends with the very instant at which the last day ends that holds once there are late entries.
    made.account("edge", start=MIDNIGHT)
    made.answer("edge", "edge", MIDNIGHT + 8 * DAY, "unaffordable")
    made.grant("edge", MIDNIGHT + 10 * DAY, 5, "bonus")
    many(made, random.Random(3), 170, 0, DAYS)
    return made


@pytest.fixture
def stored(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StoredFacts]:
    """The ledger in segments that close after a few entries, in the middle of days."""
    with in_segments(ledger, tmp_path / "facts", monkeypatch, backfill=90, least_closed=40, most_open=30) as facts:
        yield facts


def kept(stored: StoredFacts) -> by_week.ByWeek:
    """The weeks in the folder."""
    found = manifest.read(stored.store)
    assert found is not None
    return by_week.there(found, run_outs.NAME)


def test_weeks_of_run_outs_with_late_entries_are_what_all_entries_say(stored: StoredFacts, ledger: Ledger) -> None:
    before = kept(stored)
    assert len(before.files) == 4
    agree(stored, ledger, 1)
    pages_agree(stored, ledger)
    chance = random.Random(5)
    # Within a week; at first they are open, and then they close with a day that is not over yet.
    for entries, days in ((6, (10, 13)), (35, (DAYS, DAYS + 3))):
        many(ledger, chance, entries, *days)
        stored.follow()
        agree(stored, ledger, entries)
        if entries == 6:
            late = kept(stored).through
            assert late == MIDNIGHT.date() + 9 * DAY
    now = kept(stored)
    assert now.through is not None
    assert now.through > max(last for _, last in before.files)
    # Only weeks that late entries, or new days, are of are made again.
    same = [span for span in before.files if now.files.get(span) == before.files[span]]
    assert same == [span for span in sorted(before.files) if span[1] <= late]


def test_a_late_grant_parts_two_refusals_and_old_entries_leave_the_copy(
    stored: StoredFacts, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.account("late", start=MIDNIGHT)
    for day in (DAYS + 1, DAYS + 5):
        ledger.answer("late", f"late-{day}", MIDNIGHT + day * DAY, "unaffordable")
    many(ledger, random.Random(9), 40, DAYS + 5, DAYS + 7)
    stored.follow()
    ledger.grant("late", MIDNIGHT + (DAYS + 3) * DAY, 5, "bonus")
    ledger.write()
    stored.follow()
    of_it = surplus._spells(stored, Filters(Period(START, START + 60 * DAY), users=("u-late",))).c
    found = stored.rows(select(of_it.run_out_at, of_it.granted_at).order_by(of_it.run_out_at))
    first, grant, second = (to_us(MIDNIGHT + (DAYS + day) * DAY) for day in (1, 3, 5))
    assert found == [(first, grant), (second, None)]
    syncer = stored._syncer
    assert syncer is not None
    monkeypatch.setattr(segments, "clock", lambda: MIDNIGHT + DAYS * DAY + timedelta(hours=5))
    syncer.follow(keep_days=9)
    stored.follow()
    begins = syncer.manifest.begins_us
    assert begins is not None
    held = kept(stored)
    assert held.files
    agree(stored, ledger, 2, since_us=begins)
    syncer.follow(rebuild=True, keep_days=0)
    stored.follow()
    assert len(kept(stored).files) > len(held.files)
    agree(stored, ledger, 4)
