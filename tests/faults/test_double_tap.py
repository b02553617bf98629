"""Two at once: one request reserves once, and credit for few pays for few, from threads and from processes (SPEC 2.1)."""

from __future__ import annotations

from threading import Barrier
from typing import Any

import pytest

from credit_core import CreditCore, Decision
from credit_core.errors import AlreadyEnded
from credit_core.service.ends import Ended
from tests.faults.processes import Worker, workers
from tests.service.scenes import CREDIT, FRESH_FOR_ALL, NOW, ask, entries, make_live, moves, scalar
from tests.service.together import outcomes, together


@pytest.fixture
def real_core(ledger_url: str) -> Any:
    """A core on the real clock, with all served fresh: other processes have no other clock."""
    with CreditCore.open(ledger_url) as core:
        make_live(core, FRESH_FOR_ALL)
        yield core


def at_once(started: list[Worker], name: str, calls: list[dict[str, Any]]) -> list[Any]:
    """Each worker makes all the calls as fast as it can; what they heard, worker by worker."""
    for worker in started:
        for call in calls:
            worker.tell(name, **call)
    return [worker.hear() for worker in started for _ in calls]


# ------------------------------------------------------------------------------------------------------------ processes


def test_two_processes_that_tap_twice_reserve_once(ledger_url: str, real_core: CreditCore) -> None:
    real_core.add_user("ada", "basic")
    ids = [f"r-{n}" for n in range(25)]
    with workers(ledger_url, 2) as started:
        answers = at_once(started, "authorize", [{"user": "ada", "request_id": r} for r in ids])
        ends = at_once(started, "settle", [{"user": "ada", "request_id": r} for r in ids])
    assert {answer["status"] for answer in answers} == {"RESERVED"}
    assert sorted(answer["replayed"] for answer in answers) == [False] * 25 + [True] * 25
    assert sorted(end["replayed"] for end in ends) == [False] * 25 + [True] * 25
    assert [kind for kind, *_ in moves(real_core)].count("reserve") == 25
    assert [kind for kind, *_ in moves(real_core)].count("settle") == 25
    assert real_core.balance("ada").available_uc == 175 * CREDIT
    assert real_core.verify() == []


def test_two_processes_with_credit_for_few_reserve_few(ledger_url: str, real_core: CreditCore) -> None:
    real_core.add_user("ada", "free")
    with workers(ledger_url, 2) as started:
        for number, worker in enumerate(started):
            for n in range(12):
                worker.tell("authorize", user="ada", request_id=f"w{number}-{n}", images=3)
        answers = [worker.hear() for worker in started for _ in range(12)]
    assert [answer["status"] for answer in answers].count("RESERVED") == 6
    assert real_core.balance("ada").available_uc == 2 * CREDIT
    assert real_core.balance("ada").held_uc == 18 * CREDIT
    assert real_core.verify() == []


def test_two_processes_post_one_payment_once(ledger_url: str, real_core: CreditCore) -> None:
    real_core.add_user("ada", "free")
    calls = [{"user": "ada", "key": f"invoice-{n}", "amount_uc": 25 * CREDIT} for n in range(10)]
    with workers(ledger_url, 2) as started:
        answers = at_once(started, "grant", calls)
    assert [answer for answer in answers if not isinstance(answer, int)] == []
    assert max(answers) == 270 * CREDIT
    assert real_core.balance("ada").available_uc == 270 * CREDIT
    assert real_core.verify() == []


def test_two_processes_sweep_and_close_once(ledger_url: str, real_core: CreditCore) -> None:
    make_live(real_core, {"session.max_fresh": 1})
    signed_up = NOW.replace(year=2024)
    for n in range(12):
        real_core.add_user(f"u-{n}", "free", at=signed_up)
        ask(real_core, user=f"u-{n}", at=signed_up)
        assert ask(real_core, "r-2", user=f"u-{n}", at=signed_up).status == "DEFERRED"
    with workers(ledger_url, 2) as started:
        swept = at_once(started, "sweep", [{"at": "2024-03-11T13:00:00Z"}])
        closed = at_once(started, "reconcile", [{"at": "2024-06-11T00:00:00Z"}])
    assert sum(holds for holds, *_ in swept) == 12
    assert sum(deferrals for *_, deferrals in swept) == 12
    assert sum(closings for _, closings, _ in closed) == 36
    assert real_core.verify() == []


# -------------------------------------------------------------------------------------------------------------- threads


def test_eight_threads_that_tap_at_once_reserve_once(fresh_core: CreditCore) -> None:
    fresh_core.add_user("ada", "basic", at=NOW)
    for round_ in range(6):
        start = Barrier(8)

        def tap(_: int, request_id: str = f"r-{round_}", start: Barrier = start) -> Decision:
            start.wait()
            return ask(fresh_core, request_id, images=2)

        answers = together(tap, range(8))
        assert sorted(answer.replayed for answer in answers) == [False] + [True] * 7
        assert len({answer._replace(replayed=False) for answer in answers}) == 1
    assert [kind for kind, *_ in moves(fresh_core)].count("reserve") == 6
    assert fresh_core.verify() == []


def test_eight_threads_with_credit_for_one_reserve_once(fresh_core: CreditCore) -> None:
    for round_ in range(6):
        user = f"u-{round_}"
        fresh_core.add_user(user, "free", at=NOW)
        start = Barrier(8)

        def tap(n: int, user: str = user, start: Barrier = start) -> Decision:
            start.wait()
            return ask(fresh_core, f"r-{n}", user=user, images=11)

        statuses = sorted(answer.status for answer in together(tap, range(8)))
        assert statuses == ["LIBRARY"] * 7 + ["RESERVED"]
        assert fresh_core.balance(user).available_uc == 9 * CREDIT
    assert scalar(fresh_core, "SELECT min(avail_uc) FROM accounts") == 9 * CREDIT
    assert fresh_core.verify() == []


def test_a_settle_and_a_release_at_once_end_a_reserve_once(fresh_core: CreditCore) -> None:
    fresh_core.add_user("ada", "basic", at=NOW)
    for n in range(8):
        ask(fresh_core, f"r-{n}")
        start = Barrier(2)

        def end(how: str, request_id: str = f"r-{n}", start: Barrier = start) -> Ended:
            start.wait()
            if how == "settle":
                return fresh_core.settle("ada", request_id, at=NOW)
            return fresh_core.release("ada", request_id, "provider_error", at=NOW)

        done = outcomes(end, ["settle", "release"], AlreadyEnded)
        assert sorted(type(result).__name__ for result in done) == ["Ended", "EndedBefore"]
    ends = [row["kind"] for row in entries(fresh_core) if row["kind"] in ("settle", "release")]
    assert len(ends) == 8
    assert fresh_core.balance("ada").available_uc == (200 - ends.count("settle")) * CREDIT
    assert fresh_core.verify() == []


def test_a_settle_and_the_sweeper_at_once_end_a_reserve_once(fresh_core: CreditCore) -> None:
    fresh_core.add_user("ada", "basic", at=NOW)
    late = NOW.replace(hour=14)
    for n in range(8):
        ask(fresh_core, f"r-{n}")
        start = Barrier(2)

        def end(how: str, request_id: str = f"r-{n}", start: Barrier = start) -> object:
            start.wait()
            return fresh_core.settle("ada", request_id, at=late) if how == "settle" else fresh_core.sweep(at=late)

        outcomes(end, ["settle", "sweep"], AlreadyEnded)
    assert fresh_core.balance("ada").held_uc == 0
    assert fresh_core.verify() == []


def test_many_users_at_once_do_not_deadlock(fresh_core: CreditCore) -> None:
    users = [f"u-{n}" for n in range(6)]
    for user in users:
        fresh_core.add_user(user, "basic", at=NOW)
    cell = {"genre": "jazz", "mood": "calm"}

    def live(n: int) -> None:
        for step in range(12):
            user = users[(n * 5 + step) % len(users)]
            ask(fresh_core, f"r-{n}-{step}", user=user, **cell)
            if step % 4 == 3:
                fresh_core.sweep(at=NOW.replace(hour=13))
            else:
                outcomes(lambda u: fresh_core.settle(u, f"r-{n}-{step}", at=NOW), [user], AlreadyEnded)  # noqa: B023

    together(live, range(6))
    assert fresh_core.verify() == []
