"""The fresh half of deferred requests, for a worker to drain when the session's cap is no longer in the way (SPEC 2.1).

Whom no worker serves in time is dropped, by the worker that comes too late or by the sweeper where none comes.
"""

from __future__ import annotations

from datetime import datetime
from functools import partial

from credit_core import units
from credit_core.policy.decision import Decision
from credit_core.service import generate
from credit_core.service.deployment import Deployment
from credit_core.store import reads
from credit_core.store.reads import Deferral
from credit_core.store.records import Row, leg_id, opening_leg
from credit_core.store.unit import Delta, Unit

_BATCH = 100
#: Why a deferred request is dropped that nobody drained in time.
EXPIRED = "deferral_expired"


def child_id(user_id: str, request_id: str) -> str:
    """The request id of the fresh half of a deferred request."""
    return f"deferred-{leg_id('child', user_id, request_id)}"


def claim(deployment: Deployment, limit: int, at: datetime | None) -> list[Decision]:
    """Reserve for up to ``limit`` deferred requests, oldest first, and return them for generation.

    Each is a request of its own (:func:`child_id`) that passes rules 1 to 4 again. What cannot be afforded or has waited
    24 hours is dropped, with an entry; what is blocked, limited or paused waits. Safe from any number of processes.
    """
    units.checked_count(limit, "limit", 1, 10_000)
    moment = deployment.instant(at)
    claimed: list[Decision] = []
    after: tuple[datetime, str] | None = None
    while len(claimed) < limit:
        with deployment.ledger.reading() as connection:
            waiting = reads.waiting_deferrals(connection, moment, after, min(_BATCH, limit - len(claimed)))
        if not waiting:
            break
        claimed += deployment.ledger.run(partial(_claim_in, deployment=deployment, rows=waiting, at=moment))
        after = (waiting[-1].deferred_at, waiting[-1].leg_id)
    return claimed


def _claim_in(unit: Unit, deployment: Deployment, rows: list[Deferral], at: datetime) -> list[Decision]:
    claimed: list[Decision] = []
    for row in _still_waiting(unit, rows):
        line = unit.leg(row.leg_id)[0]
        if row.expires_at <= at:
            _drop(unit, line, row.expires_at)
            continue
        child = child_id(row.user_id, row.request_id)
        decision = generate.authorize_deferred(unit, deployment, line, child, at)
        if decision is None:
            continue
        unit.end_deferral(row.leg_id)
        if decision.fresh:
            claimed.append(decision)
    return claimed


def drop_rows(unit: Unit, rows: list[Deferral]) -> int:
    """Drop those of ``rows``, all of them past their end, that still wait, inside a transaction; returns how many."""
    still = _still_waiting(unit, rows)
    for row in still:
        _drop(unit, unit.leg(row.leg_id)[0], row.expires_at)
    return len(still)


def drop_in(unit: Unit, user_id: str, request_id: str, expires_at: datetime) -> None:
    """Drop one deferred request that is past its end, inside a transaction, unless it was drained or dropped before.

    It may have been deferred in this very transaction.
    """
    line = unit.leg(opening_leg(user_id, request_id))[0]
    unit.lock_accounts([line["account_id"]])
    if not any(unit.leg(leg) for leg in ending_legs(user_id, request_id)):
        _drop(unit, line, expires_at)


def ending_legs(user_id: str, request_id: str) -> tuple[str, str]:
    """The two legs of which one ends a deferred request: the answer to its fresh half, and its drop."""
    return opening_leg(user_id, child_id(user_id, request_id)), _drop_leg(user_id, request_id)


def _still_waiting(unit: Unit, rows: list[Deferral]) -> list[Deferral]:
    unit.lock_accounts(sorted({row.account_id for row in rows}))
    # Another process may have taken some before we had the locks.
    still = reads.still_deferred(unit.connection, [row.leg_id for row in rows])
    unit.preload_legs(sorted(still))
    return [row for row in rows if row.leg_id in still]


def _drop(unit: Unit, line: Row, expires_at: datetime) -> None:
    account = unit.lock_accounts([line["account_id"]])[0]
    facts = {
        name: line[name] for name in ("user_id", "team_id", "request_id", "session_id", "plan", "region", "modality")
    }
    leg = _drop_leg(line["user_id"], line["request_id"])
    unit.append(account, "rejected", leg, [Delta(None, 0, 0)], expires_at, **facts, reason=EXPIRED)
    unit.end_deferral(line["leg_id"])


def _drop_leg(user_id: str, request_id: str) -> str:
    return leg_id("expired-deferral", user_id, request_id)
