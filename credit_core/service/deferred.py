"""The fresh half of deferred requests, for a worker to drain when the session's cap is no longer in the way (SPEC 2.1)."""

from __future__ import annotations

from datetime import datetime
from functools import partial

from credit_core import units
from credit_core.policy.decision import Decision
from credit_core.service import generate
from credit_core.service.deployment import Deployment
from credit_core.store import reads
from credit_core.store.reads import Deferral
from credit_core.store.records import leg_id, opening_leg
from credit_core.store.unit import Delta, Unit

_BATCH = 100


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
    unit.lock_accounts(sorted({row.account_id for row in rows}))
    # Another worker may have taken some before we had the locks.
    still = reads.still_deferred(unit.connection, [row.leg_id for row in rows])
    claimed: list[Decision] = []
    for row in rows:
        if row.leg_id not in still:
            continue
        if row.expires_at <= at:
            _drop(unit, row)
            unit.end_deferral(row.leg_id)
            continue
        line = unit.leg(opening_leg(row.user_id, row.request_id))[0]
        child = child_id(row.user_id, row.request_id)
        decision = generate.authorize_deferred(unit, deployment, line, child, at)
        if decision is None:
            continue
        unit.end_deferral(row.leg_id)
        if decision.fresh:
            claimed.append(decision)
    return claimed


def _drop(unit: Unit, row: Deferral) -> None:
    account = unit.lock_accounts([row.account_id])[0]
    line = unit.leg(row.leg_id)[0]
    facts = {
        name: line[name] for name in ("user_id", "team_id", "request_id", "session_id", "plan", "region", "modality")
    }
    leg = leg_id("expired-deferral", row.user_id, row.request_id)
    unit.append(account, "rejected", leg, [Delta(None, 0, 0)], row.expires_at, **facts, reason="deferral_expired")
