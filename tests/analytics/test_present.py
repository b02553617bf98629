"""Where accounts stand now, kept from copy to copy, is what working it out from all entries gives, whatever came between."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import and_, select, update

from credit_core.analytics import carrying, manifest, present, queries, segments
from credit_core.analytics.filters import Filters, Period
from credit_core.analytics.manifest import Manifest
from credit_core.analytics.present import Present
from credit_core.analytics.queries import standing, surplus
from credit_core.analytics.stored import StoredFacts
from credit_core.store import schema
from credit_core.units import DAY_US, from_us
from tests.analytics.ledgers import CREDIT, OTHERS, PLANS, REGIONS, START, Ledger, busy, in_segments, make

DAYS = 9
EVER = Filters(Period(START - timedelta(days=400), START + timedelta(days=400)))
BEHIND = (
    EVER,
    EVER.narrowed(plans=("basic",), regions=("eu",)),
    EVER.narrowed(users=("u-a1", "u-a2", "u-n3")),
    EVER.narrowed(within=("free", "premium")),
)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return busy(make(f"sqlite:///{tmp_path}/ledger.db"), accounts=5, days=DAYS, requests=60)


@pytest.fixture
def stored(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StoredFacts]:
    """The ledger in segments that close after a few entries, and small tables that become one after a few parts."""
    monkeypatch.setattr(carrying, "LAST_DAYS", 2)
    for name, most in {"MOST_OPEN_FILES": 7, "MOST_SMALL": 3, "MOST_PARTS": 8}.items():
        monkeypatch.setattr(segments, name, most)
    with in_segments(ledger, tmp_path / "facts", monkeypatch, backfill=250, least_closed=120, most_open=150) as facts:
        yield facts


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often it was worked out anew, and changed."""
    counted: Counter[str] = Counter()

    def counting(name: str, kept: Callable[..., Any]) -> Callable[..., Any]:
        def counted_too(*given: Any) -> Any:
            found = kept(*given)
            counted[name] += 1
            return found

        return counted_too

    for name in ("_anew", "_changed"):
        monkeypatch.setattr(Present, name, counting(name, getattr(Present, name)))
    return counted


def agree(stored: StoredFacts, among: Filters | None = None) -> int:
    """What is kept has, account by account, what all entries give; gives how many accounts run."""
    assert stored.extent.last_us is not None
    at_us = stored.extent.last_us + 1
    spent = present.recent(at_us).subquery("spent")
    numbers = []
    for filters in BEHIND if among is None else (EVER, among):
        kept = stored.present(at_us)
        assert kept is not None
        plain = surplus._at_instant(at_us, filters).subquery("plain")
        joined = plain.outerjoin(spent, spent.c.account_id == plain.c.account_id)
        own = stored.rows(surplus._of_present(kept, filters))
        every = stored.rows(select(plain, spent.c.burned_uc).select_from(joined))
        # Who spent nothing is not among those who did.
        every = [(*row[:-1], row[-1] or 0) for row in every]
        assert sorted(own, key=repr) == sorted(every, key=repr)
        numbers.append(len(own))
    return numbers[0]


def answers(stored: StoredFacts) -> list[Any]:
    """What pages ask of it."""
    found = [queries.surplus_now(stored, EVER), surplus.soonest(stored, EVER, 3), queries.surplus_by_plan(stored, EVER)]
    found.append(surplus.endings(stored, EVER).sort_values(["available_credits", "runs_out_at"], ignore_index=True))
    return [*found, queries.surplus_histogram(stored, EVER), standing.spread(stored, EVER), standing.ends(stored, EVER)]


def same_answers(stored: StoredFacts, patch: pytest.MonkeyPatch) -> None:
    """Pages are told the same without it."""
    own = answers(stored)
    with patch.context() as without:
        without.setattr(StoredFacts, "present", lambda *_: None)
        stored.forget()
        for one, other in zip(own, answers(stored), strict=True):
            if isinstance(one, pd.DataFrame):
                pd.testing.assert_frame_equal(one, other)
            else:
                assert one == other
    stored.forget()


class Life:
    """What may happen to a ledger, at random; instants go on, but for entries that come late."""

    def __init__(self, ledger: Ledger, seed: int) -> None:
        self.ledger = ledger
        self.chance = random.Random(seed)
        self.at = START + timedelta(days=DAYS)
        self.cycles = dict.fromkeys(ledger.accounts, 0)
        self.began = dict.fromkeys(ledger.accounts, START)
        self.paused: set[str] = set()
        self.made = 0

    def someone(self) -> str:
        return self.chance.choice(sorted(self.ledger.accounts))

    def later(self, most: timedelta = timedelta(hours=7)) -> datetime:
        self.at += most * self.chance.random()
        return self.at

    def _set_cycle(self, name: str, **changes: Any) -> None:
        c = schema.cycles.c
        newest = and_(c.account_id == name, c.cycle_no == self.cycles[name])
        with self.ledger.engine.begin() as connection:
            connection.execute(update(schema.cycles).where(newest).values(changes))

    def requests(self) -> None:
        for _ in range(self.chance.randrange(1, 12)):
            name, lot = self.someone(), self.chance.choice(("monthly", "monthly", "bonus"))
            if self.chance.random() < 0.4:
                self.ledger.grant(
                    name, self.later(timedelta(minutes=40)), credits=self.chance.randrange(1, 5), kind=lot
                )
            self._asks(name, lot, self.later(timedelta(minutes=40)))

    def _asks(self, name: str, lot: str, at: datetime) -> None:
        self.made += 1
        rows = (*self.ledger.entries, *self.ledger._pending)
        if sum(row["d_avail_uc"] for row in rows if row["account_id"] == name) >= CREDIT:
            self.ledger.fresh(name, f"life-{self.made}", at, (lot, CREDIT))

    def comes_late(self) -> None:
        ago = timedelta(days=self.chance.choice((1, 6.9, 7, 7.1, 9)))
        self._asks(self.someone(), "monthly", self.at - ago)

    def appears(self) -> None:
        name, plan = f"n{len(self.ledger.accounts)}", self.chance.choice([*PLANS, *OTHERS])
        self.ledger.account(name, plan, self.chance.choice(REGIONS), self.later(), days=self.chance.choice((3, 30)))
        self.cycles[name], self.began[name] = 0, self.at
        if self.chance.random() < 0.8:
            self.ledger.grant(name, self.at)

    def renews(self) -> None:
        # Those that do not run first.
        name = min(
            self.ledger.accounts, key=lambda one: (self.began[one] > self.at - timedelta(days=20), self.chance.random())
        )
        # Also before the newest entry is of its time.
        start = max(self.at + timedelta(hours=self.chance.choice((0, 0, 1, 30))), self.began[name] + timedelta(hours=1))
        self.began[name] = start
        self._set_cycle(name, end_at=start, closed_at=self.at, kept_uc=0, cap_multiple=1.0)
        self.cycles[name] += 1
        self.ledger.cycle(name, self.cycles[name], start, start + timedelta(days=self.chance.choice((1, 30))))
        self.ledger.set_account(name, cycle_no=self.cycles[name], cycle_start_at=start)
        self.ledger.grant(name, self.at, credits=7)

    def pauses(self) -> None:
        name = self.someone()
        self.ledger.leg(name, "resume" if name in self.paused else "pause", self.later())
        self.paused ^= {name}

    def changes_plan(self) -> None:
        name, plan = self.someone(), self.chance.choice([*PLANS, "daily", "prepaid"])
        quota_uc = (PLANS | OTHERS)[plan] * CREDIT
        self.ledger.accounts[name] |= {
            "plan": plan,
            "quota_uc": quota_uc,
            "region": self.chance.choice(["eu", "us", "ap"]),
        }
        self._set_cycle(name, plan=plan, quota_uc=quota_uc, region=self.ledger.accounts[name]["region"])
        self.ledger.set_account(name, plan=plan, quota_uc=quota_uc)
        self.ledger.grant(name, self.later(), credits=3)

    def is_quiet(self) -> None:
        self.at += timedelta(days=self.chance.choice((0.7, 1.5, 8)))
        self.ledger.grant(self.someone(), self.at, credits=1)

    def step(self) -> None:
        """One of them, and its entries written."""
        rare = (self.appears, self.renews, self.pauses, self.changes_plan, self.comes_late)
        for one in (self.requests, self.chance.choice(rare)) if self.chance.random() < 0.9 else (self.is_quiet,):
            one()
        self.ledger.write()


def walk(stored: StoredFacts, ledger: Ledger, patch: pytest.MonkeyPatch, seed: int, steps: int) -> None:
    """Steps, seen by the writer at each and by a reader at some; now and then old entries go, or the copy is made anew."""
    life = Life(ledger, seed)
    patch.setattr(segments, "clock", lambda: life.at)
    with closing(StoredFacts.at(ledger.url, stored.store)) as reader:
        seen = agree(stored)
        for number in range(steps):
            life.step()
            if number % 17 == 5:
                assert stored._syncer is not None
                stored._syncer.follow(keep_days=14 if number % 2 else 12)
            if number % 23 == 9:
                assert stored._syncer is not None
                stored._syncer.follow(rebuild=True)
            stored.follow()
            if number % 3:
                seen += agree(stored, life.chance.choice(BEHIND[1:]))
            if number % 5 == 0:
                reader.look()
                seen += agree(reader, EVER)
        assert seen > steps


def test_whatever_happens_it_is_what_all_entries_give(
    stored: StoredFacts, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, done: Counter[str]
) -> None:
    monkeypatch.setattr(present, "_TOO_FEW_ROWS", 5)
    monkeypatch.setattr(present, "_LONGEST_US", 30 * DAY_US)
    walk(stored, ledger, monkeypatch, 1, 14)
    assert min(done["_anew"], done["_changed"]) > 3


@pytest.mark.deep
@pytest.mark.parametrize("seed", range(10, 40))
def test_whatever_happens_it_is_what_all_entries_give_for_long(
    stored: StoredFacts, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    walk(stored, ledger, monkeypatch, seed, 120)


def spends(ledger: Ledger, name: str, at: datetime, times: int = 1) -> None:
    for number in range(times):
        ledger.grant(name, at, credits=2, kind="bonus")
        ledger.fresh(name, f"{name}-{at:%d%H%M}-{number}", at, ("bonus", CREDIT))
    ledger.write()


def test_it_is_worked_out_once_and_changed_by_what_is_new_alone(
    stored: StoredFacts, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, done: Counter[str]
) -> None:
    assert agree(stored) > 0
    stored.forget()
    queries.surplus_now(stored, EVER)
    assert done == {"_anew": 1}
    last_us = stored.extent.last_us
    assert last_us is not None
    # An instant in the past is not now.
    assert stored.present(last_us) is None

    # The newest entry is the same, and its answers are others.
    before = surplus.running(stored, EVER)
    spends(ledger, "a1", from_us(last_us) - timedelta(hours=5))
    stored.follow()
    assert stored.extent.last_us == last_us
    # Asked in between, of what stood before; whoever asks then is not told that.
    stale = stored.frame(select(before))
    assert not stale.equals(stored.frame(select(surplus.running(stored, EVER))))
    same_answers(stored, monkeypatch)
    assert done == {"_anew": 1, "_changed": 1}

    # Entries go to closed segments before anybody asks, and what they were in is deleted.
    with closing(StoredFacts.at(ledger.url, stored.store)) as reader:
        reader.look()
        agree(reader)
        done.clear()
        assert stored.place.open_segments
        spends(ledger, "a2", from_us(last_us) + timedelta(hours=20), 20)
        monkeypatch.setattr(segments, "MOST_OPEN_FILES", 1)
        stored.follow()
        assert manifest.sweep(stored.store, named(stored), kept_s=-1)
        assert agree(stored) > 0
        assert done == {"_changed": 1}
        # Who did not see them in time begins anew.
        reader.look()
        assert agree(reader) > 0
        assert done == {"_changed": 1, "_anew": 1}


def named(stored: StoredFacts) -> set[str]:
    found = manifest.read(stored.store)
    assert found is not None
    return found.files()


def test_what_may_have_lost_entries_or_is_too_much_is_worked_out_anew() -> None:
    def at(*files: str, last_us: int = 10, **more: Any) -> Manifest:
        kept = tuple(manifest.Segment(file, 1, 1, last_us, True) for file in files)
        return replace(Manifest("layout", "UTC", segments=kept, id=7, tables={"cycles": ("c1", "c2")}), **more)

    before = at("f1", "f2")
    new = present._new(before, at("f1", "f3", "f4", last_us=11, id=9, tables={"cycles": ("c1", "c2", "c3")}))
    assert new is not None
    assert ([one.file for one in new.came], [one.file for one in new.gone]) == (["f3", "f4"], ["f2"])
    assert new.cycles == ("c3",)
    folded = present._new(before, at("f1", "f2", tables={"cycles": ("c1", "c4")}))
    assert folded is not None
    assert folded.cycles == ("c4",)
    for other in (
        at("f3", "f4"),
        at("f1", "f2", last_us=9),
        at("f1", "f2", last_us=10 + 2 * DAY_US),
        at("f1", "f2", id=6),
        at("f1", "f2", begins_us=5),
        at("f1", "f2", tables={"cycles": ("c3",)}),
        replace(before, segments=(*before.segments, manifest.Segment("f3", 2_000_000, 1, 10, True))),
        at(),
    ):
        assert present._new(before, other) is None
