"""The fresh half of deferred requests: claimed once, dropped where unaffordable or too old, with or without a worker (SPEC 2.1)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import event

from credit_core import CreditCore
from credit_core.errors import InvalidRequest
from credit_core.service import sweep
from credit_core.service.deferred import child_id
from credit_core.store import reads
from tests.service.scenes import CREDIT, FRESH_FOR_ALL, NOW, StoppedClock, ask, change, entries, everything, make_live
from tests.service.together import together

HOUR = timedelta(hours=1)
DAY = timedelta(hours=24)
MICROSECOND = timedelta(microseconds=1)
#: Half of what a session began with may be spent on fresh ones; else as ``FRESH_FOR_ALL``.
CAPPED = {key: value for key, value in FRESH_FOR_ALL.items() if not key.startswith("session.")}


@pytest.fixture
def capped(core: CreditCore) -> CreditCore:
    """Ada, on Free: 10 credits held by "first", "second" and "third" (2 credits each) deferred a minute apart."""
    defer_two(core)
    return core


def defer_two(core: CreditCore) -> None:
    make_live(core, CAPPED)
    core.add_user("ada", "free", at=NOW)
    assert ask(core, "first", images=10).status == "RESERVED"
    for minute, name in enumerate(("second", "third"), 1):
        assert ask(core, name, images=2, at=NOW + timedelta(minutes=minute)).status == "DEFERRED"


@pytest.fixture
def workers(capped: CreditCore, ledger_url: str, clock: StoppedClock) -> Iterator[list[CreditCore]]:
    with CreditCore.open(ledger_url, clock=clock) as other:
        yield [capped, other]


def waiting(core: CreditCore) -> int:
    with core.deployment.ledger.reading() as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM deferrals").scalar_one())


def drop(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["request_id"], row["reason"], row["occurred_at"]


def session(core: CreditCore) -> tuple[Any, ...]:
    with core.deployment.ledger.reading() as connection:
        return tuple(
            connection.exec_driver_sql(
                "SELECT session_last_at, session_images, session_fresh, session_fresh_uc, session_opening_uc FROM users"
            ).one()
        )


def test_claiming_reserves_the_oldest_first_as_requests_of_their_own(capped: CreditCore) -> None:
    (first,) = capped.claim_deferred(1, at=NOW + HOUR)
    assert first.request_id == child_id("ada", "second")
    assert (first.status, first.rule, first.outcome, first.amount_uc) == ("RESERVED", "deferred", "fresh", 2 * CREDIT)
    assert waiting(capped) == 1
    (second,) = capped.claim_deferred(10, at=NOW + HOUR)
    assert second.request_id == child_id("ada", "third")
    assert capped.claim_deferred(10, at=NOW + HOUR) == []
    assert (waiting(capped), capped.balance("ada").held_uc) == (0, 14 * CREDIT)
    parents = [row["parent_request_id"] for row in entries(capped) if row["rule"] == "deferred"]
    assert parents == ["second", "third"]
    assert capped.verify() == []


def test_a_child_is_settled_like_any_other(capped: CreditCore) -> None:
    (child, other) = capped.claim_deferred(at=NOW + HOUR)
    assert capped.settle("ada", str(child.request_id), at=NOW + HOUR).settled_uc == 2 * CREDIT
    capped.release("ada", str(other.request_id), "provider_error", at=NOW + HOUR)
    assert capped.balance("ada").lifetime.spent_uc == 2 * CREDIT
    assert capped.claim_deferred(at=NOW + 2 * HOUR) == []
    assert capped.verify() == []


def test_a_child_is_explained_exactly(capped: CreditCore) -> None:
    for child in capped.claim_deferred(at=NOW + HOUR):
        told = capped.explain("ada", str(child.request_id))
        assert told.exact, told.differences
        assert "deferred" in told.sentence
    assert capped.explain("ada", "second").exact


def test_claiming_touches_no_session_counters(capped: CreditCore) -> None:
    before = session(capped)
    assert len(capped.claim_deferred(at=NOW + timedelta(minutes=5))) == 2
    assert session(capped) == before


def test_two_workers_at_once_reserve_each_child_once(workers: list[CreditCore]) -> None:
    claims = together(lambda core: core.claim_deferred(at=NOW + HOUR), workers * 2)
    names = [decision.request_id for claim in claims for decision in claim]
    assert sorted(names) == sorted([child_id("ada", "second"), child_id("ada", "third")])
    assert workers[0].balance("ada").held_uc == 14 * CREDIT
    assert workers[0].verify() == []


def test_what_cannot_be_afforded_is_dropped_with_an_entry(capped: CreditCore) -> None:
    capped.adjust("ada", -7 * CREDIT, "k", "sam", "test", at=NOW + HOUR)
    (child,) = capped.claim_deferred(at=NOW + HOUR)
    assert child.request_id == child_id("ada", "second")
    dropped = entries(capped)[-1]
    assert (dropped["parent_request_id"], dropped["rule"]) == ("third", "unaffordable")
    assert (dropped["d_avail_uc"], dropped["d_held_uc"], waiting(capped)) == (0, 0, 0)
    capped.purchase("ada", "starter", "payment", at=NOW + HOUR)
    assert capped.claim_deferred(at=NOW + 2 * HOUR) == []
    assert capped.explain("ada", dropped["request_id"]).exact
    assert capped.verify() == []


def test_a_deferral_can_be_claimed_for_24_hours_and_then_expires_with_an_entry(capped: CreditCore) -> None:
    # "second" was deferred a minute after noon, "third" a minute later.
    at = NOW + timedelta(minutes=1) + DAY
    (child,) = capped.claim_deferred(at=at)
    assert child.request_id == child_id("ada", "third")
    expired = [row for row in entries(capped) if row["kind"] == "rejected"]
    assert [drop(row) for row in expired] == [("second", "deferral_expired", at)]
    assert waiting(capped) == 0
    assert capped.verify() == []


def test_where_no_worker_comes_the_sweeper_drops_each_at_its_end_as_a_worker_would(capped: CreditCore) -> None:
    end = NOW + timedelta(minutes=1) + DAY
    capped.sweep(at=NOW + HOUR)
    capped.pause("ada", at=NOW + HOUR)
    assert capped.sweep(at=end - MICROSECOND) == (0, 0, 0)
    assert (capped.sweep(at=end), waiting(capped)) == ((0, 0, 1), 1)
    late = end + timedelta(days=3)
    assert (capped.sweep(at=late), waiting(capped)) == ((0, 0, 1), 0)
    assert [drop(row) for row in entries(capped)[-2:]] == [
        ("second", "deferral_expired", end),
        ("third", "deferral_expired", end + timedelta(minutes=1)),
    ]
    for row in entries(capped)[-2:]:
        assert (row["session_id"], row["plan"], row["modality"], row["rule"]) == ("s-1", "free", "image", None)
        assert (row["d_avail_uc"], row["d_held_uc"]) == (0, 0)
    before = everything(capped)
    assert (capped.sweep(at=late), capped.claim_deferred(at=late)) == ((0, 0, 0), [])
    assert everything(capped) == before
    assert capped.explain("ada", "second").exact
    assert capped.verify() == []


def test_a_worker_writes_the_same_drop_as_the_sweeper(sqlite_template: Path, tmp_path: Path) -> None:
    """So it does not matter which of them comes first: the leg's id and all that it says are the same."""
    written = []
    for name, come in (("worker", CreditCore.claim_deferred), ("sweeper", CreditCore.sweep)):
        path = tmp_path / f"{name}.db"
        shutil.copy(sqlite_template, path)
        with CreditCore.open(f"sqlite:///{path}", clock=StoppedClock(NOW)) as core:
            defer_two(core)
            core.sweep(at=NOW + HOUR)
            come(core, at=NOW + 2 * DAY)
            # The chain has how long the requests before took to decide.
            written.append([{key: row[key] for key in row if "hash" not in key} for row in entries(core)[-2:]])
    assert written[0] == written[1]
    assert [row["reason"] for row in written[0]] == ["deferral_expired"] * 2


def test_sweepers_and_a_worker_at_once_drop_or_drain_each_once(
    workers: list[CreditCore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "BATCH", 3)
    users = [f"u-{number}" for number in range(5)]
    for user in users:
        workers[0].add_user(user, "free", at=NOW)
        ask(workers[0], "first", user=user, images=10)
        for minute in (1, 2, 3, 4):
            asked = ask(workers[0], f"r-{minute}", user=user, at=NOW + timedelta(minutes=minute))
            assert asked.status == "DEFERRED"
    workers[0].sweep(at=NOW + HOUR)
    at = NOW + DAY + timedelta(minutes=2)
    start = Barrier(4)

    def come(number: int) -> tuple[int, list[Any]]:
        start.wait()
        core = workers[number % 2]
        if number == 3:
            return 0, [(one.user_id, one.request_id) for one in core.claim_deferred(at=at)]
        return core.sweep(at=at).deferrals, []

    done = together(come, range(4))
    late = {(user, f"r-{minute}", "deferral_expired") for user in users for minute in (1, 2)}
    late |= {("ada", name, "deferral_expired") for name in ("second", "third")}
    rows = [row for user in ("ada", *users) for row in entries(workers[0], user) if row["reason"] == "deferral_expired"]
    assert {(row["user_id"], row["request_id"], row["reason"]) for row in rows} == late
    assert len(rows) == len(late)
    assert sum(dropped for dropped, _ in done) <= len(late), "the worker may have dropped some"
    assert sorted(done[3][1]) == sorted((user, child_id(user, f"r-{minute}")) for user in users for minute in (3, 4))
    assert waiting(workers[0]) == 0
    assert workers[0].verify() == []


def test_what_is_due_is_found_by_an_index(core: CreditCore) -> None:
    with core.deployment.ledger.reading() as connection:
        if connection.dialect.name == "postgresql":
            # A table of no rows is read whole, whatever its indexes.
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
            explain = "EXPLAIN"
        else:
            explain = "EXPLAIN QUERY PLAN"
        asked: list[Any] = []
        event.listen(connection, "before_cursor_execute", lambda *said: asked.append(said[2:4]))
        reads.expired_deferrals(connection, NOW, sweep.BATCH)
        statement, values = asked[-1]
        plan = connection.exec_driver_sql(f"{explain} {statement}", values).all()
    assert "ix_deferrals_expires_at" in str(plan)


def test_an_hour_that_never_comes_claims_nothing(capped: CreditCore) -> None:
    assert capped.claim_deferred(at=NOW) == []
    assert waiting(capped) == 2


def test_what_is_paused_or_blocked_waits(capped: CreditCore) -> None:
    capped.pause("ada", at=NOW + HOUR)
    before = everything(capped)
    assert capped.claim_deferred(at=NOW + HOUR) == []
    assert everything(capped) == before
    capped.resume("ada", at=NOW + 2 * HOUR)
    change(capped, "UPDATE users SET blocked_at = 1741608000000000")
    assert capped.claim_deferred(at=NOW + 2 * HOUR) == []
    change(capped, "UPDATE users SET blocked_at = NULL")
    assert len(capped.claim_deferred(at=NOW + 2 * HOUR)) == 2
    assert capped.verify() == []


def test_the_parent_keeps_its_first_answer(capped: CreditCore) -> None:
    capped.claim_deferred(at=NOW + HOUR)
    again = ask(capped, "second", images=2, at=NOW + HOUR)
    assert (again.status, again.outcome, again.replayed) == ("DEFERRED", "library", True)


@pytest.mark.parametrize("limit", [0, -1, 10_001])
def test_a_limit_out_of_bounds_is_refused(core: CreditCore, limit: int) -> None:
    with pytest.raises(InvalidRequest, match="limit"):
        core.claim_deferred(limit, at=NOW)
