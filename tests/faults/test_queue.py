"""A queue between the application and the core that delays, reorders and repeats every call: each happens once (SPEC 2.1)."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import NamedTuple

import pytest

from credit_core import CreditCore, CreditError
from credit_core.errors import NotFound
from credit_core.service.offline import Spend
from tests.service.scenes import CREDIT, NOW, StoppedClock, ask, entries
from tests.service.together import together

COPIES = 3
DELAY = timedelta(minutes=10)


class Message(NamedTuple):
    """A call with its own instant, and what it leaves in the ledger: kind, request, available and held micro-credits."""

    call: Callable[[CreditCore], object]
    leaves: tuple[tuple[str, str | None, int, int], ...]


def messages() -> list[Message]:
    """Forty generations that end in every way, refunds of some, gifts, corrections, packs, and spends made offline."""
    made = []
    for n in range(40):
        request_id, images, at = f"r-{n}", 1 + n % 3, NOW + timedelta(seconds=n)
        held = images * CREDIT
        made.append(
            Message(
                lambda core, r=request_id, i=images, at=at: ask(core, r, images=i, at=at),
                (("reserve", request_id, -held, held),),
            )
        )
        made += _endings(n, request_id, held, at + timedelta(seconds=30))
    for n in range(5):
        key, at = f"k-{n}", NOW + timedelta(seconds=n)
        spends = [Spend(f"o-{n}-{k}", NOW - timedelta(seconds=k), images=k + 1) for k in range(3)]
        taken = tuple(("import", spend.request_id, -spend.images * CREDIT, 0) for spend in spends)
        made += [
            Message(
                lambda core, k=key, at=at: core.grant("ada", 7 * CREDIT, "bonus", k, at=at),
                (("grant", None, 7 * CREDIT, 0),),
            ),
            Message(
                lambda core, k=key, at=at: core.adjust("ada", -CREDIT, k, "sam", "mistake", at=at),
                (("adjust", None, -CREDIT, 0),),
            ),
            Message(
                lambda core, k=key, at=at: core.purchase("ada", "starter", f"pay-{k}", at=at),
                (("grant", None, 25 * CREDIT, 0),),
            ),
            Message(lambda core, s=spends, at=at: core.sync("ada", s, at=at), taken),
        ]
    return made


def _endings(n: int, request_id: str, held: int, at: datetime) -> list[Message]:
    def settle(core: CreditCore) -> object:
        return core.settle("ada", request_id, held // 2 if n % 5 == 1 else None, at=at)

    def refund(core: CreditCore) -> object:
        return core.refund("ada", request_id, CREDIT // 2, "sorry", "sam", "asked for it", at=at)

    if n % 5 == 3:
        return [
            Message(
                lambda core: core.release("ada", request_id, "provider_error", at=at),
                (("release", request_id, held, -held),),
            )
        ]
    if n % 5 == 4:
        given_back = (("partial", request_id, held, -held), ("library", request_id, 0, 0))
        return [Message(lambda core: core.partial("ada", request_id, at=at), given_back)]
    kept = held - held // 2 if n % 5 == 1 else 0
    settled = Message(settle, (("settle", request_id, kept, -held),))
    return [settled, Message(refund, (("refund", request_id, CREDIT // 2, 0),))] if n % 2 else [settled]


@pytest.mark.parametrize("consumers", [1, 4])
def test_calls_that_come_late_in_any_order_and_three_times_each_happen_once(
    fresh_core: CreditCore, clock: StoppedClock, consumers: int
) -> None:
    fresh_core.add_user("ada", "premium", at=NOW - timedelta(hours=1))
    sent = messages()
    queue = [message for message in sent for _ in range(COPIES)]
    random.Random(consumers).shuffle(queue)
    clock.now = NOW + DELAY

    def consume(part: list[Message]) -> int:
        """Deliver; what refers to something that has not arrived yet goes to the end of the queue."""
        put_back = 0
        while part:
            message = part.pop(0)
            try:
                message.call(fresh_core)
            except NotFound:
                put_back += 1
                assert put_back < 10_000
                part.append(message)
            except CreditError as error:
                raise AssertionError(f"a repeated call was refused: {error}") from error
        return put_back

    assert sum(together(consume, [queue[n::consumers] for n in range(consumers)])) > 0
    expected = Counter(leg for message in sent for leg in message.leaves)
    expected["grant", None, 600 * CREDIT, 0] += 1
    legs: Counter[str] = Counter()
    moved: dict[str, list[int]] = {}
    named: dict[str, tuple[str, str | None]] = {}
    for row in entries(fresh_core):
        named[row["leg_id"]] = (row["kind"], row["request_id"])
        legs[row["leg_id"]] += 1
        sums = moved.setdefault(row["leg_id"], [0, 0])
        sums[0] += row["d_avail_uc"]
        sums[1] += row["d_held_uc"]
    assert Counter((*named[leg], *moved[leg]) for leg in named) == expected
    balance = fresh_core.balance("ada")
    assert balance.available_uc == sum(avail * times for (_, _, avail, _), times in expected.items())
    assert balance.held_uc == 0
    assert fresh_core.verify() == []


def test_a_queue_that_delivers_an_end_after_the_sweep_charges_nothing_and_records_it_once(
    fresh_core: CreditCore, clock: StoppedClock
) -> None:
    fresh_core.add_user("ada", "basic", at=NOW)
    ask(fresh_core, images=5)
    clock.advance(hours=2)
    fresh_core.sweep()
    for _ in range(COPIES):
        with pytest.raises(CreditError, match="swept"):
            # The event's own instant lies before the sweep; what counts is when it arrives.
            fresh_core.settle("ada", "r-1", at=NOW + timedelta(seconds=30))
    assert [row["reason"] for row in entries(fresh_core) if row["kind"] == "rejected"] == ["late_settle"]
    assert fresh_core.balance("ada").available_uc == 200 * CREDIT
    assert fresh_core.verify() == []
