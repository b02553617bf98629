"""Metrics of accounts."""

from __future__ import annotations

from credit_core.analytics import measures as m
from credit_core.analytics.metrics.declaration import CLOSED, DECIDED, NOTHING, Metric, number

#: Accounts, and their closings.
ACCOUNTS: tuple[Metric, ...] = (
    Metric(
        slug="active_accounts",
        title="Active accounts",
        unit="accounts",
        format="count",
        direction="up",
        definition="accounts with at least one request",
        source="SPEC 6, active accounts",
        numerator=m.accounts(m.requested),
        dimensions=DECIDED,
        summable=NOTHING,
    ),
    number(
        "new_accounts", "New accounts", "accounts", "up", "accounts whose first entry lies in the period", "SPEC 6, new accounts",
        lambda f: f.seq == 1, ("plan", "region"),
    ),
    Metric(
        slug="run_out_share",
        title="Accounts that ran out",
        unit="share",
        format="share",
        direction="down",
        definition="accounts with a decision by rule 4, of any plan / active accounts",
        source="SPEC 6, run-out",
        numerator=m.accounts(m.by_rule("unaffordable")),
        denominator=m.accounts(m.requested),
        dimensions=("plan", "region", "arm", "config_version"),
        summable=NOTHING,
    ),
    Metric(
        slug="at_cap_share",
        title="At cap",
        unit="share",
        format="share",
        direction="down",
        definition="closings of titrated plans whose kept ≥ (c − 1)·Q / closings",
        source="SPEC 6, at-cap share",
        numerator=m.count(lambda c: c.at_cap),
        denominator=m.rows,
        dimensions=CLOSED,
        summable=("day", *CLOSED),
        relation="closings",
    ),
    Metric(
        slug="pacing_efficiency",
        title="Pacing efficiency",
        unit="share",
        format="share",
        direction="up",
        definition="fresh credits / Σ over account-cycles of min(opening + grants, demand); finished cycles of titrated plans",
        source="SPEC 6, pacing efficiency",
        numerator=m.total(lambda c: c.fresh_uc),
        denominator=m.total(lambda c: c.budget_uc),
        dimensions=CLOSED,
        summable=("day", *CLOSED),
        relation="finished",
    ),
)  # fmt: skip
