"""Logged rewards with the decisions that they are of: what counterfactual estimates start from."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from sqlalchemy import and_, func, select

from credit_core.analytics.sync import Facts
from credit_core.store.schema import ledger_entries, rewards
from credit_core.units import to_us

_COLUMNS = (
    "account_id", "user_id", "request_id", "occurred_at", "plan", "rule", "p", "u01", "images", "session_images", "surplus_days",
    "cycle_days", "days_left", "coverage", "health",
)  # fmt: skip


def reward_count(facts: Facts) -> int:
    """How many rewards were logged."""
    with facts.engine.connect() as connection:
        return int(connection.execute(select(func.count()).select_from(rewards)).scalar_one())


def rewards_of(facts: Facts, account_ids: Sequence[str]) -> pd.DataFrame:
    """account_id, at_us (when it was asked for) and value of every reward of these accounts, as far as entries are copied."""
    e = ledger_entries.c
    pair = and_(e.user_id == rewards.c.user_id, e.request_id == rewards.c.request_id)
    kept = and_(
        facts.within(e.account_id, account_ids),
        facts.copied(),
        e.line == 1,
        e.rule.is_not(None),
        e.parent_request_id.is_(None),
    )
    statement = select(e.account_id, e.occurred_at, rewards.c.value)
    with facts.engine.connect() as connection:
        rows = connection.execute(statement.select_from(ledger_entries.join(rewards, pair)).where(kept)).all()
    told = [(account, to_us(at), float(value)) for account, at, value in rows]
    return pd.DataFrame(told, columns=["account_id", "at_us", "value"]).astype({"at_us": "int64", "value": "float64"})


def rewarded_decisions(facts: Facts) -> pd.DataFrame:
    """Requests with a reward: account_id, user_id, request_id, occurred_at, reward, fresh, and what the decision saw.

    Decisions of ``titrated_monthly`` plans by rules 4 to 8 alone; an image's later, fresh half is no decision of its own.
    """
    e = ledger_entries.c
    pair = and_(e.user_id == rewards.c.user_id, e.request_id == rewards.c.request_id)
    kept = and_(
        e.line == 1,
        e.rule.is_not(None),
        e.outcome.is_not(None),
        e.parent_request_id.is_(None),
        e.quota_policy == "titrated_monthly",
    )
    statement = (
        select(*(e[name] for name in _COLUMNS), rewards.c.value, rewards.c.outcome)
        .select_from(rewards.join(ledger_entries, pair))
        .where(kept)
        .order_by(e.account_id, e.seq)
    )
    with facts.engine.connect() as connection:
        rows = connection.execute(statement).all()
    frame = pd.DataFrame(rows, columns=[*_COLUMNS, "reward", "outcome"])
    frame["fresh"] = frame.pop("outcome") == "fresh"
    return frame
