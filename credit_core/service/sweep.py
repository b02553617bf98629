"""The sweeper: holds that nobody ended within their lifetime go back to their owners (SPEC 2.1)."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import NamedTuple

from credit_core.service import ends
from credit_core.service.deployment import Deployment
from credit_core.store import facts, reads
from credit_core.store.reads import ExpiredHold
from credit_core.store.unit import Unit

BATCH = 200


class Swept(NamedTuple):
    """What one run released."""

    holds: int
    amount_uc: int


def sweep(deployment: Deployment, at: datetime) -> Swept:
    """Release every hold whose lifetime ended by ``at``. Safe to run twice and from many processes."""
    total = Swept(0, 0)
    while True:
        with deployment.ledger.reading() as connection:
            expired = reads.expired_holds(connection, at, BATCH)
        if not expired:
            break
        returned = deployment.ledger.run(partial(_release, deployment=deployment, expired=expired, at=at))
        total = Swept(total.holds + len(returned), total.amount_uc + sum(returned))
    deployment.ledger.write(lambda connection: facts.advance(connection, "last_sweep_at", at))
    return total


def _release(unit: Unit, deployment: Deployment, expired: list[ExpiredHold], at: datetime) -> list[int]:
    unit.lock_accounts([hold.account_id for hold in expired])
    # Another sweeper, or the settle itself, may have ended some of them before we had the lock.
    still = reads.still_held(unit.connection, [hold.leg_id for hold in expired])
    return [
        ends.release_in(unit, deployment, hold.user_id, hold.request_id, ends.SWEPT, at).returned_uc
        for hold in expired
        if hold.leg_id in still
    ]
