"""Closings whose figures are known beforehand, through the real core on both engines (SPEC 2.2)."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from credit_core import CreditCore
from tests.service.scenes import CREDIT, FRESH_FOR_ALL, NOW, ask, entries, make_live

END = datetime(2025, 4, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("plan", "unspent", "kept", "carried", "balance"),
    [
        ("basic", 150, 150, 150, 350),
        ("basic", 200, 200, 200, 400),
        ("basic", 500, 350, 350, 550),
        ("basic", 900, 550, 400, 600),
        ("basic_annual", 900, 550, 550, 750),
    ],
)
def test_a_quota_of_200_at_half_decay_closes_as_worked_out_by_hand(
    core: CreditCore, plan: str, unspent: int, kept: int, carried: int, balance: int
) -> None:
    make_live(core, FRESH_FOR_ALL | {f"plans.{plan}.soft_decay": 0.5})
    core.add_user("ada", plan, at=NOW)
    if unspent < 200:
        ask(core, images=200 - unspent)
        core.settle("ada", "r-1", at=NOW)
    elif unspent > 200:
        core.grant("ada", (unspent - 200) * CREDIT, "rollover", "carried", at=NOW)
    before = len(entries(core))
    core.reconcile(at=END)
    written = entries(core)[before:]
    moved = {kind: [row["d_avail_uc"] for row in written if row["kind"] == kind] for kind in ("expire", "rollover")}
    assert -sum(moved["expire"]) == (unspent - carried) * CREDIT
    assert sum(amount for amount in moved["rollover"] if amount > 0) == carried * CREDIT
    assert [row["d_avail_uc"] for row in written if row["kind"] == "grant"] == [200 * CREDIT]
    with core.deployment.ledger.reading() as connection:
        closed = connection.exec_driver_sql(
            "SELECT unspent_uc, kept_uc, carried_uc FROM cycles WHERE account_id = 'user:ada' AND closed_at IS NOT NULL"
        ).one()
    assert tuple(closed) == (unspent * CREDIT, kept * CREDIT, carried * CREDIT)
    assert core.balance("ada").available_uc == balance * CREDIT
    assert core.verify() == []
