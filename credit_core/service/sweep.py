"""The sweeper: holds that nobody ended in time go back to their owners, deferred requests that nobody drained are dropped (SPEC 2.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from typing import NamedTuple, TypeVar

from credit_core.service import deferred, ends
from credit_core.service.deployment import Deployment
from credit_core.store import facts, reads
from credit_core.store.ledger import Connection
from credit_core.store.reads import ExpiredHold
from credit_core.store.unit import Unit

BATCH = 200
Due = TypeVar("Due")
Done = TypeVar("Done")


class Swept(NamedTuple):
    """What one run released, and how many deferred requests it dropped."""

    holds: int
    amount_uc: int
    deferrals: int


def sweep(deployment: Deployment, at: datetime) -> Swept:
    """Release every hold whose lifetime ended by ``at``, drop every deferred request that nobody drained by its end.

    Safe to run twice and from many processes.
    """
    holds = amount_uc = 0
    for returned in _batches(deployment, reads.expired_holds, partial(_release, deployment=deployment, at=at), at):
        holds, amount_uc = holds + len(returned), amount_uc + sum(returned)
    deferrals = sum(_batches(deployment, reads.expired_deferrals, deferred.drop_rows, at))
    deployment.ledger.write(lambda connection: facts.advance(connection, "last_sweep_at", at))
    return Swept(holds, amount_uc, deferrals)


def _batches(
    deployment: Deployment,
    find: Callable[[Connection, datetime, int], list[Due]],
    end: Callable[[Unit, list[Due]], Done],
    at: datetime,
) -> Iterator[Done]:
    """What is due by ``at``, a batch at a time: found in a short read, ended in a transaction, until nothing is left."""
    while True:
        with deployment.ledger.reading() as connection:
            due = find(connection, at, BATCH)
        if not due:
            return
        yield deployment.ledger.run(partial(_end, due=due, end=end))


def _end(unit: Unit, due: list[Due], end: Callable[[Unit, list[Due]], Done]) -> Done:
    return end(unit, due)


def _release(unit: Unit, expired: list[ExpiredHold], deployment: Deployment, at: datetime) -> list[int]:
    unit.lock_accounts([hold.account_id for hold in expired])
    # Another sweeper, or the settle itself, may have ended some of them before we had the lock.
    still = reads.still_held(unit.connection, [hold.leg_id for hold in expired])
    return [
        ends.release_in(unit, deployment, hold.user_id, hold.request_id, ends.SWEPT, at).returned_uc
        for hold in expired
        if hold.leg_id in still
    ]
