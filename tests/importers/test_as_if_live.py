"""Mode ``govern`` is what live calls would have been: in batches of any size, cut off and resumed, beside a sweeper."""

from __future__ import annotations

import heapq
import random
import shutil
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from credit_core import CreditCore, Request
from credit_core.importers import frame, govern, record
from credit_core.importers.frame import FAILED, PENDING, SUCCEEDED, Event, Rejects, Summary
from credit_core.service.deferred import EXPIRED
from credit_core.service.generate import DEFERRAL_LIFETIME
from credit_core.units import to_us
from tests.service.scenes import NOW, StoppedClock, make_live

START = datetime(2024, 11, 30, 20, tzinfo=UTC)
TERMS = govern.Signup("free")


@pytest.fixture
def new_core(sqlite_template: Path, tmp_path: Path) -> Iterator[Any]:
    """Opens the core on another empty ledger each time, all of them with the same keys."""
    opened: list[CreditCore] = []

    def another() -> CreditCore:
        path = tmp_path / f"ledger-{len(opened)}.db"
        shutil.copy(sqlite_template, path)
        opened.append(CreditCore.open(f"sqlite:///{path}", clock=StoppedClock(NOW)))
        make_live(opened[-1], {"controller.k": 0.05, "coverage.target": 6, "saga.hold_ttl_s": 600.0})
        return opened[-1]

    yield another
    for core in opened:
        core.close()


def log(rows: int = 160, asleep: int = 0) -> list[Event]:
    """Six users, four cells and an evening that goes over a midnight and a month's end; some fail, some never end.

    From row ``asleep`` on, if given, it goes on the next evening.
    """
    rng = random.Random(8)
    events, at = [], START
    for line in range(2, rows + 2):
        at += timedelta(seconds=rng.choice([0, 5, 20, 60, 400]), hours=21 if line == asleep else 0)
        status = rng.choices([SUCCEEDED, FAILED, PENDING], [8, 1, 1])[0]
        seconds = rng.choice([0, 4, 20, 90, 500])
        events.append(
            Event(
                line=line, content=f"row {line}", user_id=f"G{rng.randrange(6)}", started_at=at,
                ended_at=None if status == PENDING else at + timedelta(seconds=seconds), status=status,
                images=rng.choice([1, 1, 1, 2, 4, 18]), session_id="", genre=f"M{rng.randrange(2)}", mood=rng.choice(["calm", "noir"]),
                latency_ms=None if status == PENDING else seconds * 1e3,
            )
        )  # fmt: skip
    return list(frame.in_sessions(frame.in_order(events)))


def governed(core: CreditCore, events: Iterable[Event], *, finish: bool = True) -> tuple[Summary, Rejects]:
    summary, rejects = Summary("govern", "log"), Rejects(None)
    governor = govern.Governor(core, lambda _event: TERMS, summary, rejects)
    governor.run(events)
    if finish:
        governor.finish(None)
    summary.reject_file = rejects.count
    return summary, rejects


def ledger(core: CreditCore) -> list[tuple[Any, ...]]:
    """What happened, whenever it was written."""
    with core.deployment.ledger.reading() as connection:
        rows = connection.execute(
            text(
                "SELECT account_id, seq, leg_id, line, kind, occurred_at, lot_id, d_avail_uc, d_held_uc, request_id, session_id,"
                " rule, miss, p, u01, mode, coverage, health, under_represented, demand_rate, reason, cost_usd_micro, latency_ms"
                " FROM ledger_entries ORDER BY account_id, seq"
            )
        )
        return [tuple(row) for row in rows]


def served_live(core: CreditCore, events: list[Event]) -> None:
    """The same events as an application would have sent them, one call at a time, with a sweeper on time."""
    due: list[tuple[datetime, int, int, Event]] = []

    def until(at: datetime) -> None:
        while due and due[0][0] <= at:
            moment, sweeps, _, event = heapq.heappop(due)
            if sweeps == 0:
                core.sweep(moment)
            elif event.status == FAILED:
                core.release(event.user_id, event.request_id, "provider_error", at=moment)
            else:
                core.settle(event.user_id, event.request_id, latency_ms=event.latency_ms, at=moment)

    midnight = datetime(2024, 12, 1, tzinfo=UTC)
    for event in events:
        if event.started_at >= midnight:
            until(midnight)
            core.reconcile(midnight)
            midnight = datetime.max.replace(tzinfo=UTC)
        until(event.started_at)
        core.add_user(event.user_id, "free", at=event.started_at) if event.user_id not in known(core) else None
        request = Request(
            event.user_id, event.request_id, event.session_id, event.genre, event.mood, images=event.images
        )
        decision = core.authorize(request, at=event.started_at)
        if decision.status == "DEFERRED":
            heapq.heappush(due, (event.started_at + DEFERRAL_LIFETIME, 0, event.line, event))
        elif decision.fresh:
            if event.ended_at is None:
                heapq.heappush(due, (event.started_at + timedelta(seconds=600), 0, event.line, event))
            else:
                heapq.heappush(due, (event.ended_at, 1, event.line, event))
    until(START + timedelta(days=30))


def deferred_and_dropped(core: CreditCore) -> tuple[list[Any], list[Any]]:
    """Ends of deferred requests: of those that wait, and of those that were dropped."""
    with core.deployment.ledger.reading() as connection:
        waiting = connection.execute(text("SELECT expires_at FROM deferrals ORDER BY 1")).scalars().all()
        dropped = f"SELECT occurred_at FROM ledger_entries WHERE reason = '{EXPIRED}' ORDER BY 1"
        return list(waiting), list(connection.execute(text(dropped)).scalars())


def known(core: CreditCore) -> set[str]:
    with core.deployment.ledger.reading() as connection:
        return set(connection.execute(text("SELECT user_id FROM users")).scalars())


def test_batches_of_any_size_write_what_live_calls_would_have_written(
    new_core: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = log(asleep=100)
    live = new_core()
    served_live(live, events)
    expected = ledger(live)
    dropped = {row[5] for row in expected if row[20] == EXPIRED}
    assert min(dropped) < to_us(events[-1].started_at) < max(dropped)
    assert {"coverage_miss", "controller", "session_cap", "unaffordable"} <= {row[11] for row in expected}
    assert {"settle", "release", "library"} <= {row[4] for row in expected}
    for size in (1, 7, 500):
        monkeypatch.setattr(govern, "CHUNK", size)
        core = new_core()
        summary, _ = governed(core, events)
        assert summary.accounted == summary.new == len(events)
        assert ledger(core) == expected
        assert core.verify() == []


class CutOffError(Exception):
    """Somebody pulled the plug."""


@pytest.mark.parametrize("after", [3, 40, 97])
def test_an_import_that_was_cut_off_goes_on_and_ends_as_if_it_had_not_been(
    new_core: Any, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    events = log()
    monkeypatch.setattr(govern, "CHUNK", 5)
    whole, cut = new_core(), new_core()
    governed(whole, events)

    def some() -> Iterator[Event]:
        yield from events[:after]
        raise CutOffError

    with pytest.raises(CutOffError):
        governed(cut, some(), finish=False)
    summary, _ = governed(cut, events)
    assert (summary.known, summary.new) == (after // 5 * 5 if after % 5 else after - 5, len(events) - summary.known)
    assert summary.accounted == len(events)
    assert ledger(cut) == ledger(whole)
    assert cut.verify() == []


def test_beside_a_sweeper_on_the_wall_clock_every_row_is_still_accounted_for(
    new_core: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A timer sweeps by today's clock what the import holds in its own past: its ends come too late, and are counted."""
    core = new_core()
    monkeypatch.setattr(govern, "CHUNK", 1)

    def swept_between() -> Iterator[Event]:
        for event in log():
            yield event
            core.sweep(NOW)

    summary, rejects = governed(core, swept_between())
    assert summary.accounted == summary.new == len(log())
    assert rejects.count == 0
    assert summary.late_settles > 0
    assert summary.swept > summary.late_settles
    assert core.verify() == []


def test_what_was_deferred_in_the_last_day_may_still_be_drained_after_the_import(ledger_url: str) -> None:
    events = log(asleep=100)
    now = START + timedelta(hours=25)
    with CreditCore.open(ledger_url, clock=StoppedClock(now)) as core:
        make_live(core, {"controller.k": 0.05, "coverage.target": 6, "saga.hold_ttl_s": 600.0})
        summary, _ = governed(core, events)
        waiting, dropped = deferred_and_dropped(core)
        assert len(waiting) + len(dropped) == summary.deferred
        assert max(dropped) <= to_us(now) < min(waiting)
        # Run again it finds what it dropped, and nothing to drop; the sweeper takes the rest in its time.
        assert governed(core, events)[0].deferred == summary.deferred
        assert deferred_and_dropped(core) == (waiting, dropped)
        later = now + timedelta(days=2)
        assert core.sweep(later).deferrals == len(waiting)
        assert deferred_and_dropped(core) == ([], [*dropped, *waiting])
        assert core.verify() == []


def test_what_a_worker_drained_beside_the_import_is_not_dropped(new_core: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    core, drained = new_core(), []
    monkeypatch.setattr(govern, "CHUNK", 1)

    def drained_between() -> Iterator[Event]:
        for event in log(asleep=100):
            yield event
            for child in core.claim_deferred(at=event.started_at):
                core.settle(child.user_id, child.request_id, at=event.started_at)
                drained.append(child.request_id)

    summary, _ = governed(core, drained_between())
    waiting, dropped = deferred_and_dropped(core)
    with core.deployment.ledger.reading() as connection:
        query = "SELECT count(*) FROM ledger_entries WHERE parent_request_id IS NOT NULL AND rule = 'unaffordable'"
        unaffordable = connection.execute(text(query)).scalar_one()
    assert waiting == []
    assert len(drained) > 0
    assert len(drained) + unaffordable + len(dropped) == summary.deferred
    assert core.verify() == []


def test_what_one_mode_took_the_other_does_not_take_again(new_core: Any) -> None:
    events = log(30)
    first, second = new_core(), new_core()
    governed(first, events)
    before = ledger(first)
    recorded = Summary("record", "log")
    record.run(first, events, lambda _event: TERMS, recorded)
    assert (recorded.new, recorded.known, ledger(first)) == (0, 30, before)

    record.run(second, events, lambda _event: TERMS, Summary("record", "log"))
    before = ledger(second)
    summary, rejects = governed(second, events)
    assert (summary.new, summary.reject_file, summary.accounted, ledger(second)) == (0, 30, 30, before)
    assert "was recorded before" in rejects.first[0].reason
    assert rejects.first[0].line == 2


def test_recorded_usage_is_demand_that_the_next_day_s_rate_knows(new_core: Any) -> None:
    core = new_core()
    events = [event for event in log() if event.started_at < datetime(2024, 12, 1, tzinfo=UTC)]
    record.run(core, events, lambda _event: TERMS, Summary("record", "log"))
    core.reconcile(datetime(2024, 12, 1, tzinfo=UTC))
    with core.deployment.ledger.reading() as connection:
        rate = connection.execute(text("SELECT rate FROM plan_demand WHERE plan = 'free'")).scalar_one()
    # All six joined within the day, whose beginning is the anchor of their cycles: images per account and day.
    assert rate == pytest.approx(sum(event.images for event in events) / 6)


def test_what_a_batch_remembers_is_what_is_going_on_and_not_the_log(
    new_core: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(govern, "CHUNK", 50)
    core = new_core()
    governor = govern.Governor(core, lambda _event: TERMS, Summary("govern", "log"), Rejects(None))
    most = 0

    def watched() -> Iterator[Event]:
        nonlocal most
        for event in log(1_500):
            most = max(most, sum(one.kind != govern._DROP for one in governor._endings) + len(governor._counted))
            assert all(governor._reached < one.at <= governor._reached + DEFERRAL_LIFETIME for one in governor._endings)
            yield event

    governor.run(watched())
    assert 0 < most < 40
    governor.finish(None)
    assert (governor._endings, governor._counted) == ([], set())
