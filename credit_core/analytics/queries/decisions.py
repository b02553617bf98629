"""Real decisions with everything they saw, for previews: which ones is asked of the facts, what they saw of the ledger."""

from __future__ import annotations

from typing import Any

import pandas as pd
from sqlalchemy import select

from credit_core.analytics import measures, relations
from credit_core.analytics.filters import Filters
from credit_core.analytics.sync import Facts
from credit_core.policy.decision import Decision
from credit_core.store.decisions import from_columns
from credit_core.store.schema import ledger_entries

_KEPT_BACK = frozenset(
    {
        "content_hash",
        "details",
        "prev_hash",
        "hash",
        "lot_id",
        "d_avail_uc",
        "d_held_uc",
        "cost_usd_micro",
        "latency_ms",
        "actor",
        "reason",
    }
)
_INPUTS = tuple(column for column in ledger_entries.columns if column.name not in _KEPT_BACK)
#: Ids in one statement.
_BATCH = 1_000


def recent_decisions(facts: Facts, filters: Filters, limit: int = 1_000) -> pd.DataFrame:
    """The newest decisions by rules 4–8 behind the filter, newest first, with every logged input and result.

    Columns are those of ``ledger_entries`` that a decision fills, by name; occurred_at in the reporting zone.
    """
    names = [column.name for column in _INPUTS]
    frame = pd.DataFrame([tuple(row.values()) for row in _rows(facts, filters, limit)], columns=names)
    for name in ("occurred_at", "recorded_at"):
        frame[name] = pd.to_datetime(frame[name], utc=True).dt.tz_convert(facts.zone)
    return frame


def logged_decisions(facts: Facts, filters: Filters, limit: int = 1_000) -> list[Decision]:
    """:func:`recent_decisions` as the policy's own records, whose ``state`` and ``u01`` compute them again."""
    # What the details hold beside a decision is of other policies.
    return [from_columns(row | {"details": None}) for row in _rows(facts, filters, limit)]


def _rows(facts: Facts, filters: Filters, limit: int) -> list[dict[str, Any]]:
    f = relations.facts.c
    # Other quota policies refuse what they cannot afford, which is no decision that the law could compute again.
    judged = measures.judged(f) & f.outcome.is_not(None)
    kept = relations.behind(relations.facts, filters) & judged
    newest = [
        row[0] for row in facts.rows(select(f.id).where(kept).order_by(f.occurred_at.desc(), f.id.desc()).limit(limit))
    ]
    found: dict[int, dict[str, Any]] = {}
    with facts.engine.connect() as connection:
        for start in range(0, len(newest), _BATCH):
            statement = select(*_INPUTS).where(ledger_entries.c.id.in_(newest[start : start + _BATCH]))
            found |= {row["id"]: dict(row) for row in connection.execute(statement).mappings()}
    return [found[entry] for entry in newest]
