"""A balance, a profile and a history as support sees them; looking never writes (SPEC 8)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from credit_core import CreditCore
from credit_core.errors import InvalidRequest, NotFound
from tests.service.scenes import CREDIT, LIBRARY_FOR_ALL, NOW, ask, everything, make_live

END = datetime(2025, 4, 10, tzinfo=UTC)


def test_a_balance_tells_lifetime_totals_that_add_up(fresh_core: CreditCore) -> None:
    core = fresh_core
    core.add_user("ada", "free", at=NOW)
    core.purchase("ada", "starter", "payment", at=NOW)
    for name, images in (("charged", 6), ("failed", 2), ("open", 3)):
        ask(core, name, images=images)
    core.settle("ada", "charged", actual_uc=5 * CREDIT, at=NOW)
    core.release("ada", "failed", "provider_error", at=NOW)
    core.refund("ada", "charged", CREDIT, "k", "sam", "blurred", at=NOW)
    make_live(core, LIBRARY_FOR_ALL)
    assert ask(core, "served").status == "LIBRARY"
    balance = core.balance("ada")
    assert (balance.available_uc, balance.held_uc) == (38 * CREDIT, 3 * CREDIT)
    assert balance.available_uc == sum(lot.avail_uc for lot in balance.lots)
    assert balance.held_uc == sum(lot.held_uc for lot in balance.lots)
    lifetime = balance.lifetime
    assert (lifetime.granted_uc, lifetime.spent_uc, lifetime.expired_uc) == (45 * CREDIT, 4 * CREDIT, 0)
    assert (lifetime.fresh, lifetime.library) == (3, 1)
    assert lifetime.granted_uc == balance.available_uc + balance.held_uc + lifetime.spent_uc + lifetime.expired_uc
    assert core.verify() == []


def test_a_profile_tells_terms_cycle_and_pace(core: CreditCore) -> None:
    core.add_user("ada", "basic", "Europe/Berlin", "eu", segment="high_engagement", at=NOW)
    core.purchase("ada", "starter", "payment", at=NOW)
    seen = core.profile("ada", at=NOW + timedelta(days=10))
    assert (seen.plan, seen.region, seen.timezone, seen.segment) == ("basic", "eu", "Europe/Berlin", "high_engagement")
    assert (seen.cycle_start_at, seen.next_reset_at) == (
        datetime(2025, 3, 9, 23, tzinfo=UTC), datetime(2025, 4, 9, 22, tzinfo=UTC),
    )  # fmt: skip
    assert (seen.quota_uc, seen.available_uc, seen.paced_uc) == (200 * CREDIT, 225 * CREDIT, 200 * CREDIT)
    # S·L/Q with nothing spent is just the days that have passed: 10 days and 13 hours.
    assert seen.surplus_days == pytest.approx(10 + 13 / 24, abs=1e-12)
    assert (seen.mode, seen.paused_at, seen.blocked_at, seen.conserving) == ("steady", None, None, False)
    assert (seen.config_version, seen.arm, seen.session_consent) == (1, "all", True)
    assert core.verify() == []


@pytest.mark.parametrize("taken", [0, 150, 200])
def test_what_the_next_reset_brings_is_what_it_then_brings(core: CreditCore, taken: int) -> None:
    core.add_user("ada", "basic", at=NOW)
    core.reconcile(at=END)
    core.purchase("ada", "starter", "payment", at=END)
    if taken:
        core.adjust("ada", -taken * CREDIT, "k", "sam", "test", at=END)
    told = core.profile("ada", at=END)
    core.reconcile(at=told.next_reset_at)
    assert core.balance("ada").available_uc == told.next_amount_uc
    assert core.verify() == []


def test_looking_writes_nothing_not_even_what_is_due(core: CreditCore) -> None:
    core.add_user("ada", "basic", at=NOW)
    ask(core)
    before = everything(core)
    late = NOW + timedelta(days=90)
    core.profile("ada", at=late)
    core.balance("ada")
    core.history("ada")
    core.explain("ada", "r-1")
    assert everything(core) == before


def test_a_history_is_paged_by_seq(core: CreditCore) -> None:
    core.add_user("ada", "basic", at=NOW)
    for number in range(6):
        core.adjust("ada", CREDIT, f"k-{number}", "sam", "test", at=NOW)
    assert [row["seq"] for row in core.history("ada", limit=3)] == [1, 2, 3]
    assert [row["seq"] for row in core.history("ada", 3, limit=3)] == [4, 5, 6]
    assert [row["seq"] for row in core.history("ada", 6)] == [7]
    assert core.history("ada", 7) == []
    for limit in (0, 10_001):
        with pytest.raises(InvalidRequest, match="limit"):
            core.history("ada", limit=limit)


def test_an_unknown_user_or_request_is_not_found(core: CreditCore) -> None:
    core.add_user("ada", "basic", at=NOW)
    for look in (core.profile, core.balance, core.history):
        with pytest.raises(NotFound, match="'bob'"):
            look("bob")
    with pytest.raises(NotFound, match="'r-9'"):
        core.explain("ada", "r-9")
