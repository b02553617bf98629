"""What the laboratory replays: every entry of some accounts in the order it was recorded, and the tables around them."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
from sqlalchemy import BigInteger, Double, and_, cast, func, select

from credit_core.analytics import relations
from credit_core.analytics.statements import columns_of
from credit_core.analytics.sync import Facts
from credit_core.store.schema import ledger_entries, plan_demand, users
from credit_core.units import DAY_US

_COLUMNS = (
    "account_id", "seq", "leg_id", "line", "user_id", "occurred_at", "kind", "lot_id", "d_avail_uc", "d_held_uc", "request_id",
    "parent_request_id", "session_id", "plan", "model", "images", "genre", "mood", "config_version", "status", "outcome", "rule",
    "mode", "quota_uc", "cycle_days", "days_left", "demand_rate", "segment", "conserving", "coverage", "health", "under_represented",
    "arm_p", "p", "u01", "cost_uc", "cost_usd_micro", "reason", "details",
)  # fmt: skip
_TEXTS = frozenset({
    "account_id", "leg_id", "user_id", "kind", "lot_id", "request_id", "parent_request_id", "session_id", "plan", "model", "genre",
    "mood", "status", "outcome", "rule", "mode", "segment", "reason", "details",
})  # fmt: skip
_WHOLE = frozenset({"seq", "line", "occurred_at", "d_avail_uc", "d_held_uc"})


def replayed_accounts(facts: Facts) -> pd.DataFrame:
    """Accounts with a decision or a cycle, by id: account_id, entries, and whether every decision was ``titrated_monthly``."""
    f = relations.facts.c
    other = and_(f.quota_policy.is_not(None), f.quota_policy != "titrated_monthly")
    statement = (
        select(f.account_id, func.count().label("entries"), (func.count().filter(other) == 0).label("titrated"))
        .group_by(f.account_id)
        .order_by(f.account_id)
    )
    return facts.frame(statement)


def entries_of(facts: Facts, account_ids: Sequence[str]) -> pa.Table:
    """Every entry of these accounts, each account's together and by seq; instants in microseconds."""
    statement = (
        select(*columns_of(ledger_entries, _COLUMNS))
        .where(facts.within(ledger_entries.c.account_id, account_ids), facts.copied())
        .order_by(ledger_entries.c.account_id, ledger_entries.c.seq)
    )
    found = facts.from_ledger({"facts": statement})["facts"]
    kinds = [pa.string() if name in _TEXTS else pa.int64() if name in _WHOLE else pa.float64() for name in _COLUMNS]
    return found.select(_COLUMNS).cast(pa.schema(zip(_COLUMNS, kinds, strict=True)))


def lots_of(facts: Facts, account_ids: Sequence[str]) -> list[tuple[str, str, str, int | None]]:
    """(account, lot, kind, end in microseconds) of every lot of these accounts."""
    c = relations.lots.c
    kept = c.account_id.in_(account_ids)
    return [tuple(row) for row in facts.rows(select(c.account_id, c.lot_id, c.kind, c.expires_at).where(kept))]


def cycles_of(facts: Facts, account_ids: Sequence[str]) -> list[tuple[str, int, int, int, int]]:
    """(account, number, start, end, quota) of every cycle of these accounts; instants in microseconds."""
    c = relations.cycles.c
    statement = select(c.account_id, c.cycle_no, c.start_at, c.end_at, c.quota_uc).where(c.account_id.in_(account_ids))
    return [tuple(row) for row in facts.rows(statement)]


def last_copied(facts: Facts) -> int:
    """The id of the last entry that was copied; 0 while there is none."""
    return int(facts.rows(select(relations.copy_state.c.id))[0][0])


def entry_hash(facts: Facts, entry_id: int) -> str | None:
    """The hash of an entry of the ledger, hex; None where there is none. Where it changed, it is another ledger."""
    with facts.engine.connect() as connection:
        found = connection.execute(select(ledger_entries.c.hash).where(ledger_entries.c.id == entry_id)).scalar()
    return None if found is None else bytes(found).hex()


def without_consent(facts: Facts) -> frozenset[str]:
    """Users who do not want their sessions to be looked at."""
    with facts.engine.connect() as connection:
        return frozenset(
            connection.execute(select(users.c.user_id).where(users.c.session_consent.in_([False]))).scalars()
        )


def demand_rates(facts: Facts) -> dict[str, list[tuple[str, float]]]:
    """λ₀ by plan: (UTC day, rate), the oldest first."""
    c = plan_demand.c
    found: dict[str, list[tuple[str, float]]] = {}
    with facts.engine.connect() as connection:
        for plan, day, rate in connection.execute(select(c.plan, c.day, c.rate).order_by(c.plan, c.day)):
            found.setdefault(plan, []).append((day, rate))
    return found


def median_latencies_ms(facts: Facts) -> dict[str, float]:
    """Median latency of settled generations by model."""
    f = relations.facts.c
    middle = func.quantile_cont(f.latency_ms, 0.5)
    statement = select(f.model, middle).where(f.kind == "settle", f.line == 1, f.latency_ms.is_not(None))
    return {model: float(ms) for model, ms in facts.rows(statement.group_by(f.model)) if model is not None}


def median_claim_days(facts: Facts) -> float | None:
    """How long a deferred request usually waits for its fresh half, in days; None where none was ever taken up."""
    child = relations.facts.alias("child")
    parent = relations.facts.alias("parent")
    pair = and_(
        child.c.account_id == parent.c.account_id,
        child.c.user_id == parent.c.user_id,
        child.c.parent_request_id == parent.c.request_id,
        parent.c.kind == "defer",
    )
    waited = cast(child.c.occurred_at - parent.c.occurred_at, Double) / DAY_US
    statement = select(func.quantile_cont(waited, 0.5)).select_from(child.join(parent, pair)).where(child.c.line == 1)
    found = facts.rows(statement)[0][0]
    return None if found is None else float(found)


def live_version(facts: Facts) -> int:
    """The version that the newest release for everybody made live."""
    r = relations.config_releases.c
    newest = select(r.version).where(r.arm == "all").order_by(cast(r.release_id, BigInteger).desc()).limit(1)
    return int(facts.rows(newest)[0][0])
