"""Whose requests a replay takes: the paced accounts behind a filter, and to whom each belongs."""

from __future__ import annotations

import pandas as pd
from sqlalchemy import func, select

from credit_core.analytics import relations
from credit_core.analytics.filters import Filters
from credit_core.analytics.queries.burn import owners
from credit_core.analytics.sync import Facts


def paced_accounts(facts: Facts, filters: Filters) -> pd.DataFrame:
    """account_id, user_id (of a shared account its first user) and plan, by id; model, cell and period are ignored."""
    a, owner = relations.accounts, owners().subquery("owner")
    statement = (
        select(a.c.account_id, owner.c.user_id, a.c.plan)
        .select_from(a.outerjoin(owner, owner.c.account_id == a.c.account_id))
        .where(relations.of_accounts(a, filters), relations.paced(a.c.plan))
        .order_by(a.c.account_id)
    )
    return facts.frame(statement)


def paced_mix(facts: Facts) -> list[tuple[str, int, int]]:
    """(plan, quota in micro-credits, accounts) of the paced accounts as they are now, the largest group first."""
    c = relations.accounts.c
    count = func.count().label("accounts")
    statement = (
        select(c.plan, c.quota_uc, count).where(relations.paced(c.plan), c.quota_uc > 0).group_by(c.plan, c.quota_uc)
    )
    return [
        (plan, int(quota), int(n))
        for plan, quota, n in facts.rows(statement.order_by(count.desc(), c.plan, c.quota_uc))
    ]
