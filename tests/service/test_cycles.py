"""Cycles: closings and expiries are written in order, once, by whoever comes first (SPEC 1 and 2.2)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any

import pytest

from credit_core import CreditCore
from credit_core.errors import InvalidRequest
from tests.service.scenes import (
    CREDIT,
    NOW,
    StoppedClock,
    ask,
    change,
    entries,
    everything,
    lots,
    make_live,
    moves,
    scalar,
)
from tests.service.together import together

END = datetime(2025, 4, 10, tzinfo=UTC)
SECOND_END = datetime(2025, 5, 10, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def bounds(core: CreditCore, user: str = "ada") -> list[tuple[datetime, datetime]]:
    """Start and end of the user's cycles, closed ones and the running one."""
    with core.deployment.ledger.reading() as connection:
        rows = connection.exec_driver_sql(
            f"SELECT start_at, end_at FROM cycles WHERE account_id = 'user:{user}' ORDER BY cycle_no"
        ).all()
    return [(datetime.fromtimestamp(a / 1_000_000, UTC), datetime.fromtimestamp(b / 1_000_000, UTC)) for a, b in rows]


def available(core: CreditCore, user: str = "ada") -> float:
    return core.balance(user).available_uc / CREDIT


# ------------------------------------------------------------------------------------------------------------- rollover


@pytest.mark.parametrize(
    ("plan", "after_each_closing"),
    [
        ("free", [20, 40, 52, 59.2, 60, 60]),
        ("basic", [200, 400, 520, 592, 600, 600]),
        ("premium", [600, 1_200, 1_650, 1_987.5, 2_240.625, 2_400, 2_400]),
        ("basic_annual", [200, 400, 570, 714.5, 837.325, 941.72625, 1_030.467312, 1_105.897215]),
    ],
)
def test_an_idle_balance_grows_towards_the_cap(core: CreditCore, plan: str, after_each_closing: list[float]) -> None:
    core.add_user("ada", plan, at=NOW)
    seen = [available(core)]
    for month in range(1, len(after_each_closing)):
        core.reconcile(at=datetime(2025, 3 + month, 10, tzinfo=UTC))
        seen.append(available(core))
    assert seen == after_each_closing
    assert core.verify() == []


@pytest.mark.parametrize(("over_uc", "carried_over_uc"), [(2, 2), (6, 4), (10, 8), (1, 1), (4, 3)])
def test_what_soft_decay_keeps_is_rounded_once_and_half_even(
    core: CreditCore, over_uc: int, carried_over_uc: int
) -> None:
    core.add_user("ada", "premium", at=NOW)
    core.grant("ada", over_uc, "rollover", "carried", at=NOW)
    core.reconcile(at=END)
    assert core.balance("ada").available_uc == 1_200 * CREDIT + carried_over_uc


def test_a_closing_expires_carries_over_and_grants_in_that_order(core: CreditCore, clock: StoppedClock) -> None:
    core.add_user("ada", "free", at=NOW)
    core.reconcile(at=END)
    clock.now = SECOND_END + timedelta(hours=7)
    core.reconcile(at=clock.now)
    expire, *rollover, grant = moves(core, after=4)
    assert expire == ("expire", "monthly", -8, 0)
    assert sorted(rollover) == [
        ("rollover", "monthly", -12, 0),
        ("rollover", "rollover", -20, 0),
        ("rollover", "rollover", 32, 0),
    ]
    assert grant == ("grant", "monthly", 20, 0)
    written = entries(core)[4:]
    assert {row["occurred_at"] for row in written} == {SECOND_END}
    assert {row["recorded_at"] for row in written} == {clock.now}
    assert {row["config_version"] for row in written} == {1}
    assert [(lot.kind, lot.expires_at) for lot in core.balance("ada").lots] == [
        ("monthly", datetime(2025, 6, 10, tzinfo=UTC)), ("rollover", datetime(2025, 6, 10, tzinfo=UTC)),
    ]  # fmt: skip


def test_an_empty_account_only_gets_its_quota(fresh_core: CreditCore) -> None:
    fresh_core.add_user("ada", "free", at=NOW)
    ask(fresh_core, images=20)
    fresh_core.settle("ada", "r-1", at=NOW)
    fresh_core.reconcile(at=END)
    assert moves(fresh_core, after=3) == [("grant", "monthly", 20, 0)]


def test_purchased_welcome_and_bonus_credits_outlive_every_closing(core: CreditCore) -> None:
    core.add_user("ada", "free", at=NOW)
    for kind, amount in (("purchased", 110), ("welcome", 50), ("bonus", 7)):
        core.grant("ada", amount * CREDIT, kind, kind, at=NOW)
    core.reconcile(at=END + timedelta(days=70))
    kept = {kind: amount for kind, amount, _ in lots(core) if kind not in ("monthly", "rollover")}
    assert kept == {"purchased": 110, "welcome": 50, "bonus": 7}


@pytest.mark.parametrize(
    ("zone", "allowance", "after"),
    [
        ("America/Argentina/Buenos_Aires", True, 80),  # midnight is 03:00 UTC
        ("America/Argentina/Buenos_Aires", False, 60),
        ("UTC", True, 60),
        ("Asia/Tokyo", True, 60),
    ],
)
def test_the_burst_allowance_carries_one_quota_more_where_the_end_lies_between_2_and_5_utc(
    core: CreditCore, zone: str, allowance: bool, after: int
) -> None:
    make_live(core, {"rollover.burst_allowance": allowance})
    core.add_user("ada", "free", zone, at=NOW)
    core.grant("ada", 100 * CREDIT, "rollover", "carried", at=NOW)
    core.reconcile(at=END + timedelta(days=1))
    assert available(core) == after


def test_a_closing_goes_by_the_configuration_that_is_live_when_it_is_written(core: CreditCore) -> None:
    core.add_user("ada", "free", at=NOW)
    core.grant("ada", 100 * CREDIT, "rollover", "carried", at=NOW)
    version = make_live(core, {"plans.free.cap_multiple": 2.0})
    core.reconcile(at=END)
    assert available(core) == 40
    assert entries(core)[-1]["config_version"] == version
    assert scalar(core, "SELECT cap_multiple FROM cycles WHERE cycle_no = 0") == 2.0


# ----------------------------------------------------------------------------------------------------- calendar and zone


@pytest.mark.parametrize(
    ("signed_up", "ends"),
    [
        (datetime(2025, 1, 31, 9, tzinfo=UTC), [(2, 28), (3, 31), (4, 30), (5, 31), (6, 30)]),
        (datetime(2025, 1, 30, 9, tzinfo=UTC), [(2, 28), (3, 30), (4, 30), (5, 30), (6, 30)]),
        (datetime(2025, 1, 29, 9, tzinfo=UTC), [(2, 28), (3, 29), (4, 29), (5, 29), (6, 29)]),
    ],
)
def test_cycles_come_back_to_their_anchor(core: CreditCore, signed_up: datetime, ends: list[tuple[int, int]]) -> None:
    core.add_user("ada", "free", at=signed_up)
    core.reconcile(at=datetime(2025, 6, 15, tzinfo=UTC))
    assert [(end.month, end.day) for _, end in bounds(core)[:5]] == ends


@pytest.mark.parametrize(
    ("signed_up", "days"),
    [
        (datetime(2025, 3, 10, 12, tzinfo=UTC), (31 * 24 - 1) / 24),
        (datetime(2025, 6, 10, 12, tzinfo=UTC), 30.0),
        (datetime(2025, 10, 10, 12, tzinfo=UTC), (31 * 24 + 1) / 24),
    ],
)
def test_a_cycle_across_a_clock_change_has_the_hours_that_really_pass(
    core: CreditCore, signed_up: datetime, days: float
) -> None:
    core.add_user("ada", "basic", "Europe/Berlin", at=signed_up)
    state = ask(core, at=signed_up).state
    assert state.cycle_days == days
    # Signed up at noon UTC: in summer 14 hours of the local day are gone, in winter 13.
    gone = 13 if signed_up.month == 3 else 14
    assert state.days_left == pytest.approx(days - gone / 24, abs=1e-12)
    core.reconcile(at=signed_up + timedelta(days=95))
    assert [row["d_avail_uc"] for row in entries(core) if row["kind"] == "grant"] == [200 * CREDIT] * 4


def test_another_time_zone_counts_from_the_next_cycle(core: CreditCore) -> None:
    core.add_user("ada", "free", "Europe/Berlin", at=NOW)
    change(core, "UPDATE users SET timezone = 'America/Los_Angeles'")
    core.reconcile(at=datetime(2025, 6, 11, tzinfo=UTC))
    assert bounds(core) == [
        (datetime(2025, 3, 9, 23, tzinfo=UTC), datetime(2025, 4, 9, 22, tzinfo=UTC)),
        (datetime(2025, 4, 9, 22, tzinfo=UTC), datetime(2025, 5, 10, 7, tzinfo=UTC)),
        (datetime(2025, 5, 10, 7, tzinfo=UTC), datetime(2025, 6, 10, 7, tzinfo=UTC)),
        (datetime(2025, 6, 10, 7, tzinfo=UTC), datetime(2025, 7, 10, 7, tzinfo=UTC)),
    ]
    assert core.verify() == []


def test_moving_east_and_back_grants_once_a_cycle(core: CreditCore) -> None:
    core.add_user("ada", "free", "Pacific/Pago_Pago", at=NOW)
    for month, zone in enumerate(("Pacific/Kiritimati", "Pacific/Pago_Pago", "Pacific/Kiritimati"), 1):
        change(core, "UPDATE users SET timezone = :zone", zone=zone)
        core.reconcile(at=datetime(2025, 3 + month, 12, tzinfo=UTC))
    assert [row["kind"] for row in entries(core)].count("grant") == 4
    assert core.verify() == []


# ------------------------------------------------------------------------------------------------------- lazy and batch


def happened(core: CreditCore, user: str, count: int) -> list[tuple[Any, ...]]:
    """The first ``count`` entries of ``user``: what moved, when it happened and by which configuration."""
    written = core.history(user, limit=10_000)[:count]
    return [
        (move, row["occurred_at"], row["config_version"])
        for move, row in zip(moves(core, user)[:count], written, strict=True)
    ]


def settle(core: CreditCore, at: datetime) -> object:
    return core.settle("lazy", "r-1", at=at)


def release(core: CreditCore, at: datetime) -> object:
    return core.release("lazy", "r-1", "provider_error", at=at)


def partial(core: CreditCore, at: datetime) -> object:
    return core.partial("lazy", "r-1", at=at)


def authorize(core: CreditCore, at: datetime) -> object:
    return ask(core, "r-2", user="lazy", at=at)


def grant(core: CreditCore, at: datetime) -> object:
    return core.grant("lazy", CREDIT, "bonus", "late gift", at=at)


def adjust(core: CreditCore, at: datetime) -> object:
    return core.adjust("lazy", -CREDIT, "correction", "sam", "asked for it", at=at)


@pytest.mark.parametrize("act", [authorize, settle, release, partial, grant, adjust], ids=lambda act: act.__name__)
def test_a_call_first_writes_what_a_reconcile_would_have_written(
    fresh_core: CreditCore, act: Callable[[CreditCore, datetime], object]
) -> None:
    for user in ("lazy", "batch"):
        fresh_core.add_user(user, "free", "Asia/Tokyo", at=NOW)
        fresh_core.grant(user, 3 * CREDIT, "bonus", "gift", expires_at=NOW + timedelta(days=35), at=NOW)
        fresh_core.grant(user, 4 * CREDIT, "bonus", "gift-2", expires_at=NOW + timedelta(days=64), at=NOW)
        ask(fresh_core, "r-1", user=user, images=5)
    late = NOW + timedelta(days=100)
    change(fresh_core, "UPDATE accounts SET due_at = NULL WHERE account_id = 'user:batch'")
    act(fresh_core, late)
    change(fresh_core, "UPDATE accounts SET due_at = cycle_end_at WHERE account_id = 'user:batch'")
    fresh_core.reconcile(at=late)
    count = len(entries(fresh_core, "batch"))
    assert happened(fresh_core, "lazy", count) == happened(fresh_core, "batch", count)
    assert [kind for kind, *_ in moves(fresh_core, "batch")].count("expire") == 4
    assert fresh_core.verify() == []


def test_after_a_months_outage_every_closing_is_written_in_order(core: CreditCore, clock: StoppedClock) -> None:
    for user in ("ada", "bob", "cyd"):
        core.add_user(user, "free", at=NOW)
    clock.now = datetime(2025, 6, 20, tzinfo=UTC)
    assert core.reconcile(at=clock.now) == (3, 9, 0)
    for user in ("ada", "bob", "cyd"):
        grants = [row["occurred_at"] for row in entries(core, user) if row["kind"] == "grant"]
        assert grants == [NOW, END, SECOND_END, datetime(2025, 6, 10, tzinfo=UTC)]
        assert available(core, user) == 59.2
    before = everything(core)
    assert core.reconcile(at=clock.now) == (0, 0, 0)
    assert everything(core) == before
    assert core.verify() == []


def test_an_account_is_not_closed_before_its_end(core: CreditCore) -> None:
    core.add_user("ada", "free", at=NOW)
    assert core.reconcile(at=END - timedelta(microseconds=1)) == (0, 0, 0)
    assert core.reconcile(at=END) == (1, 1, 0)


def test_two_reconcilers_at_once_close_each_cycle_once(ledger_url: str, core: CreditCore, clock: StoppedClock) -> None:
    for number in range(30):
        core.add_user(f"u-{number}", "free", at=NOW)
    start = Barrier(2)
    with CreditCore.open(ledger_url, clock=clock) as other:
        done = together(lambda c: (start.wait(), c.reconcile(at=NOW + timedelta(days=70)))[1], [core, other])
    assert sum(run.closings for run in done) == 60
    assert scalar(core, "SELECT count(*) FROM cycles") == 90
    assert {available(core, f"u-{number}") for number in range(30)} == {52}
    assert core.verify() == []


def test_more_accounts_than_one_batch_are_all_closed(core: CreditCore) -> None:
    for number in range(205):
        core.add_user(f"u-{number:03}", "free", at=NOW)
    assert core.reconcile(at=END) == (205, 205, 0)


# --------------------------------------------------------------------------------------------------------------- expiry


def test_a_lot_expires_at_its_instant_and_cannot_be_spent_then(fresh_core: CreditCore) -> None:
    fresh_core.add_user("ada", "free", at=NOW)
    ends = NOW + timedelta(days=2)
    fresh_core.grant("ada", 5 * CREDIT, "bonus", "gift", expires_at=ends, at=NOW)
    assert ask(fresh_core, "r-1", images=25, at=ends).rule == "unaffordable"
    assert moves(fresh_core)[2:] == [("expire", "bonus", -5, 0), ("library", None, 0, 0)]
    assert entries(fresh_core)[2]["occurred_at"] == ends


def test_a_lot_can_be_spent_until_the_instant_before_it_expires(fresh_core: CreditCore) -> None:
    fresh_core.add_user("ada", "free", at=NOW)
    ends = NOW + timedelta(days=2)
    fresh_core.grant("ada", 5 * CREDIT, "bonus", "gift", expires_at=ends, at=NOW)
    assert ask(fresh_core, "r-1", images=25, at=ends - timedelta(microseconds=1)).fresh


@pytest.mark.parametrize("kind", ["monthly", "rollover"])
def test_a_monthly_or_rollover_lot_that_ends_within_its_cycle_is_refused_or_expires_then(
    fresh_core: CreditCore, kind: str
) -> None:
    fresh_core.add_user("ada", "free", at=NOW)
    ends = NOW + timedelta(days=2)
    with suppress(InvalidRequest):
        fresh_core.grant("ada", 5 * CREDIT, kind, "gift", expires_at=ends, at=NOW)
    assert ask(fresh_core, "r-1", images=25, at=ends).rule == "unaffordable"
    assert available(fresh_core) == 20


# ------------------------------------------------------------------------------------------- credits that come back late


def held_over_the_end(core: CreditCore, carried: int, spent: int) -> None:
    """Ada, on Free, holds 5 credits across the end of her first cycle, in which ``carried`` were granted and ``spent``."""
    core.add_user("ada", "free", at=NOW)
    if carried:
        core.grant("ada", carried * CREDIT, "rollover", "carried", at=NOW)
    if spent:
        ask(core, "spent", images=spent)
        core.settle("ada", "spent", at=NOW)
    ask(core, "held", images=5, at=END - MINUTE)
    core.reconcile(at=END)


def test_a_hold_is_not_part_of_what_a_closing_finds_unspent(fresh_core: CreditCore) -> None:
    held_over_the_end(fresh_core, 0, 0)
    assert scalar(fresh_core, "SELECT unspent_uc FROM cycles WHERE cycle_no = 0") == 15 * CREDIT
    assert lots(fresh_core) == [("monthly", 0, 5), ("monthly", 20, 0), ("rollover", 15, 0)]


def test_what_comes_back_to_a_closed_cycle_becomes_rollover_of_the_running_one(fresh_core: CreditCore) -> None:
    held_over_the_end(fresh_core, 0, 0)
    seq = len(entries(fresh_core))
    fresh_core.release("ada", "held", "provider_error", at=END + MINUTE)
    assert moves(fresh_core, after=seq) == [
        ("release", "monthly", 5, -5),
        ("rollover", "monthly", -5, 0),
        ("rollover", "rollover", 5, 0),
    ]
    assert lots(fresh_core) == [("monthly", 20, 0), ("rollover", 20, 0)]
    assert fresh_core.verify() == []


def test_what_comes_back_beyond_the_cap_is_clamped(fresh_core: CreditCore) -> None:
    # 60 unspent before the hold: 55 are left, 41 kept, 40 carried, so the account is at its cap of 60.
    held_over_the_end(fresh_core, 40, 0)
    seq = len(entries(fresh_core))
    fresh_core.release("ada", "held", "provider_error", at=END + MINUTE)
    assert [(kind, d_avail) for kind, _, d_avail, _ in moves(fresh_core, after=seq)] == [("release", 5), ("clamp", -5)]
    assert available(fresh_core) == 60
    assert fresh_core.verify() == []


def test_what_comes_back_fills_the_cap_and_the_excess_is_clamped(fresh_core: CreditCore) -> None:
    # 50 left, 38 kept and carried: 58 of at most 60.
    held_over_the_end(fresh_core, 40, 5)
    seq = len(entries(fresh_core))
    fresh_core.sweep(at=END + timedelta(hours=1))
    assert [(kind, d_avail) for kind, _, d_avail, _ in moves(fresh_core, after=seq)] == [
        ("release", 5), ("rollover", -2), ("rollover", 2), ("clamp", -3),
    ]  # fmt: skip
    assert available(fresh_core) == 60
    assert fresh_core.verify() == []


def test_the_unneeded_part_of_a_late_charge_becomes_rollover_too(fresh_core: CreditCore) -> None:
    held_over_the_end(fresh_core, 0, 0)
    seq = len(entries(fresh_core))
    fresh_core.settle("ada", "held", actual_uc=2 * CREDIT, at=END + MINUTE)
    assert moves(fresh_core, after=seq) == [
        ("settle", "monthly", 3, -5),
        ("rollover", "monthly", -3, 0),
        ("rollover", "rollover", 3, 0),
    ]
    assert available(fresh_core) == 38


def test_what_comes_back_to_an_expired_gift_becomes_rollover(fresh_core: CreditCore) -> None:
    fresh_core.add_user("ada", "free", at=NOW)
    fresh_core.grant("ada", 5 * CREDIT, "bonus", "gift", expires_at=NOW + MINUTE, at=NOW)
    ask(fresh_core, "held", images=5)
    fresh_core.release("ada", "held", "provider_error", at=NOW + 2 * MINUTE)
    assert moves(fresh_core, after=3) == [
        ("release", "bonus", 5, -5),
        ("rollover", "bonus", -5, 0),
        ("rollover", "rollover", 5, 0),
    ]
    assert lots(fresh_core) == [("monthly", 20, 0), ("rollover", 5, 0)]
    assert fresh_core.verify() == []


def test_what_comes_back_to_an_open_lot_stays_in_it(fresh_core: CreditCore) -> None:
    fresh_core.add_user("ada", "free", at=NOW)
    fresh_core.grant("ada", 5 * CREDIT, "bonus", "gift", expires_at=NOW + timedelta(days=5), at=NOW)
    ask(fresh_core, "held", images=5)
    fresh_core.release("ada", "held", "provider_error", at=NOW + MINUTE)
    assert lots(fresh_core) == [("bonus", 5, 0), ("monthly", 20, 0)]


def test_a_hold_over_three_closings_comes_back_once(fresh_core: CreditCore) -> None:
    held_over_the_end(fresh_core, 0, 0)
    fresh_core.sweep(at=END + timedelta(days=65))
    # Unspent 15 → 35, 35 → kept 29 → 49, 49 → kept 37.4 → 57.4; of the 5 that come back 2.6 fit under 60.
    assert available(fresh_core) == 60
    assert [d for kind, _, d, _ in moves(fresh_core) if kind == "clamp"] == [-2.4]
    assert fresh_core.verify() == []


# ---------------------------------------------------------------------------------------------------- demand of the plan


def test_the_demand_of_a_plan_is_the_mean_of_its_accounts_a_day(core: CreditCore) -> None:
    for user in ("ada", "bob"):
        core.add_user(user, "basic", at=NOW)
    ask(core, images=6)
    core.reconcile(at=datetime(2025, 3, 12, tzinfo=UTC))
    assert scalar(core, "SELECT rate FROM plan_demand WHERE plan = 'basic' AND day = '2025-03-12'") == 6 / 4


def test_the_demand_of_today_is_not_divided_by_earlier_days(core: CreditCore) -> None:
    core.add_user("ada", "basic", at=NOW)
    ask(core, "r-1", images=6)
    ask(core, "r-2", images=4, at=NOW + timedelta(days=2, hours=-1))
    core.reconcile(at=NOW + timedelta(days=2))
    # 6 in the two whole days before, or 10 in two and a half.
    assert scalar(core, "SELECT rate FROM plan_demand WHERE plan = 'basic'") in (3.0, 4.0)


def test_reconciling_again_keeps_the_demand_of_the_day(core: CreditCore) -> None:
    core.add_user("ada", "basic", at=NOW)
    ask(core, "r-1", images=6)
    core.reconcile(at=datetime(2025, 3, 12, tzinfo=UTC))
    ask(core, "r-2", images=60, at=datetime(2025, 3, 12, 1, tzinfo=UTC))
    core.reconcile(at=datetime(2025, 3, 12, 3, tzinfo=UTC))
    assert scalar(core, "SELECT rate FROM plan_demand WHERE plan = 'basic'") == 3.0
