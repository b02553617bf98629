"""Arrivals kept beside the facts: the second replay reads them from there, and only what has changed from the ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from credit_core import CreditCore
from credit_core.analytics import queries
from credit_core.analytics.manifest import Lock
from credit_core.analytics.stored import StoredFacts
from credit_core.analytics.sync import Facts
from credit_core.lab import arrivals, keeping, replay
from credit_core.lab.replay import Prepared
from credit_core.units import DAY_US
from tests.lab.busy import SALT, live_through
from tests.lab.opening import CATALOG, closed, prepared
from tests.service.scenes import NOW, StoppedClock, ask

__all__ = ["closed"]
Opened = Callable[[str], Prepared]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    """Open a ledger with its facts on disk, again and again in the same folder."""
    facts: list[Facts] = []

    def stored(url: str) -> Prepared:
        # As a process that ended: the next one keeps the folder up to date.
        while facts:
            facts.pop().close()
        facts.append(StoredFacts.at(url, tmp_path / "facts"))
        facts[-1].follow()
        return replay.open_ledger(facts[-1], CATALOG)

    yield stored
    for one in facts:
        one.close()


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite:///{tmp_path_factory.mktemp('busy') / 'ledger.db'}"
    clock = StoppedClock(NOW)
    with CreditCore.open(url, clock=clock, draw_salt=SALT) as core:
        live_through(core, clock, days=24, seed=5)
    return url


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The accounts that the ledger is asked for, question by question."""
    told: list[list[str]] = []
    entries_of = queries.entries_of

    def listening(facts: Facts, account_ids: list[str]) -> Any:
        told.append(list(account_ids))
        return entries_of(facts, account_ids)

    monkeypatch.setattr(queries, "entries_of", listening)
    return told


def run(ledger: Prepared, period: replay.Period | None = None) -> tuple[list[str], bytes, bytes]:
    """Each decision by its own version, over all there is."""
    found = replay.run(ledger, [None], period or replay.whole(ledger), batch_entries=1)
    return found.account_ids, found.runs[0].sums.tobytes(), np.nan_to_num(found.runs[0].days, nan=-999.0).tobytes()


def test_the_second_replay_asks_the_ledger_for_nothing(busy: str, opened: Opened, asked: list[list[str]]) -> None:
    in_memory = run(prepared(busy))
    asked.clear()
    assert run(opened(busy)) == in_memory
    assert asked == [["user:ada"], ["user:bob"], ["user:eve"]]
    again = opened(busy)
    assert run(again) == in_memory
    assert replay.disagreements(again).empty
    assert replay.disagreements(again).attrs["decisions"] > 100
    assert len(asked) == 3


def test_an_account_that_went_on_is_read_again_and_no_other(
    ledger_url: str, clock: StoppedClock, opened: Opened, asked: list[list[str]]
) -> None:
    with CreditCore.open(ledger_url, clock=clock, draw_salt=SALT) as core:
        live_through(core, clock, days=8, seed=6)
        run(opened(ledger_url))
        ask(core, "one-more", user="bob", at=clock.advance(minutes=1))
    in_memory = run(prepared(ledger_url))
    asked.clear()
    later = opened(ledger_url)
    assert run(later) == in_memory
    assert replay.disagreements(later).empty
    assert asked == [["user:bob"]], "and kept again"


def test_who_does_not_consent_any_more_is_known_without_reading(
    busy: str, opened: Opened, asked: list[list[str]]
) -> None:
    run(opened(busy))
    ledger = opened(busy)
    world = replay.world_of(ledger, [None], replay.whole(ledger))
    asked.clear()
    silent = arrivals.batches(ledger.facts, replace(world, no_consent=frozenset({"bob"})), ledger.accounts)
    consents = {batch.account_ids[0]: bool(batch.events["consent"].any()) for batch in silent}
    assert consents == {"user:ada": True, "user:bob": False, "user:eve": True}
    assert asked == []


def test_another_order_of_names_numbers_what_is_kept_anew(busy: str, opened: Opened) -> None:
    run(opened(busy))
    ledger = opened(busy)
    world = replay.world_of(ledger, [None], replay.whole(ledger))
    turned = replace(world, models=world.models[::-1], segments=(*world.segments, "new"), plans=world.plans[::-1])
    for plain, other in zip(
        arrivals.batches(ledger.facts, world, ledger.accounts),
        arrivals.batches(ledger.facts, turned, ledger.accounts),
        strict=True,
    ):
        for field, names, others in (("model", world.models, turned.models), ("plan", world.plans, turned.plans)):
            before, after = ([None, *told] for told in (names, others))
            assert [before[n + 1] for n in plain.events[field]] == [after[n + 1] for n in other.events[field]]


def test_a_period_that_ended_earlier_is_replayed_as_it_was_then(busy: str, opened: Opened) -> None:
    ledger = opened(busy)
    whole = replay.whole(ledger)
    middle = (whole.start_us + whole.end_us) // 2 // DAY_US * DAY_US
    period = replay.period_of(ledger, whole.start_us, middle)
    (own,) = replay.run(ledger, [None], period).runs
    with ledger.facts.engine.connect() as connection:
        settled, fresh = connection.exec_driver_sql(
            "SELECT sum(CASE WHEN kind = 'settle' THEN -(d_avail_uc + d_held_uc) ELSE 0 END),"
            f" sum(CASE WHEN kind = 'reserve' THEN d_held_uc ELSE 0 END) FROM ledger_entries WHERE occurred_at < {middle}"
        ).one()
    assert (own.sums["settled_uc"].sum(), own.sums["fresh_uc"].sum()) == (settled, fresh)
    assert run(opened(busy), period) == run(prepared(busy), period)


@pytest.mark.parametrize("fault", ["damaged", "other sources", "other ledger"])
def test_what_cannot_be_trusted_is_read_again(
    busy: str, opened: Opened, asked: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    first = run(opened(busy))
    folder = tmp_path / "facts" / keeping.FOLDER
    if fault == "damaged":
        events = min(folder.glob("part-*")) / "events.npy"
        events.write_bytes(events.read_bytes()[:-64])
    elif fault == "other sources":
        monkeypatch.setattr(keeping, "_digest", lambda: "another")
    else:
        hashes = queries.entry_hash
        monkeypatch.setattr(queries, "entry_hash", lambda facts, at: f"other {hashes(facts, at)}")
    asked.clear()
    assert run(opened(busy)) == first
    assert len(asked) == (1 if fault == "damaged" else 3)
    asked.clear()
    assert run(opened(busy)) == first
    assert asked == []


def test_while_another_process_writes_it_reads_without_keeping(busy: str, opened: Opened, tmp_path: Path) -> None:
    other = Lock(tmp_path / "facts" / keeping.FOLDER)
    first = run(opened(busy))
    assert list((tmp_path / "facts" / keeping.FOLDER).glob("part-*")) == []
    other.release()
    assert run(opened(busy)) == first
    assert len(list((tmp_path / "facts" / keeping.FOLDER).glob("part-*"))) == 3


def test_many_small_parts_become_one(
    busy: str, opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(opened(busy))
    monkeypatch.setattr(keeping, "MOST_SMALL", 2)
    ledger = opened(busy)
    replay.run(ledger, [None], replay.whole(ledger))
    assert len(list((tmp_path / "facts" / keeping.FOLDER).glob("part-*"))) == 1
    assert run(opened(busy)) == first
