"""Another plan, a pause and its end (SPEC 2.2)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest

from credit_core import CreditCore
from credit_core.errors import Conflict, NotFound
from tests.service.scenes import CREDIT, NOW, ask, entries, everything, lots, make_live, moves, scalar

DAY = timedelta(days=1)
END = datetime(2025, 4, 10, tzinfo=UTC)


def cycle_end(core: CreditCore, at: datetime, user: str = "ada") -> datetime:
    return core.profile(user, at=at).next_reset_at


# ---------------------------------------------------------------------------------------------------------- change_plan


@pytest.mark.parametrize(
    ("old", "new", "quotas"), [("free", "basic", 180), ("free", "premium", 580), ("basic", "premium_annual", 400)]
)
@pytest.mark.parametrize("at", [NOW, NOW + timedelta(days=7, microseconds=1), END - timedelta(microseconds=1)])
def test_an_upgrade_grants_the_difference_of_the_quotas_for_the_days_left(
    core: CreditCore, old: str, new: str, quotas: int, at: datetime
) -> None:
    core.add_user("ada", old, at=NOW)
    before = core.balance("ada").available_uc
    after = core.change_plan("ada", new, at=at).available_uc
    share = Fraction((END - at) // timedelta(microseconds=1), 31 * 86_400_000_000)
    assert after - before == round(quotas * CREDIT * share)
    assert lots(core)[0][0] == "monthly"
    assert len(lots(core)) == 1
    assert (core.profile("ada", at=at).plan, cycle_end(core, at)) == (new, END)
    assert core.verify() == []


def test_an_upgrade_taken_back_and_made_again_in_one_cycle_grants_once(core: CreditCore) -> None:
    half = datetime(2025, 4, 25, tzinfo=UTC)
    core.add_user("ada", "basic", at=NOW)
    core.reconcile(at=END)
    before = core.balance("ada").available_uc
    for plan in ("premium", "basic", "premium", "basic", "premium"):
        core.change_plan("ada", plan, at=half)
    granted = [row for row in entries(core) if row["reason"] == "plan_change" and row["kind"] == "grant"]
    assert [row["d_avail_uc"] for row in granted] == [200 * CREDIT]
    assert granted[0]["details"] == {"from_quota_uc": 200 * CREDIT, "quota_uc": 600 * CREDIT}
    assert core.balance("ada").available_uc == before + 200 * CREDIT
    core.reconcile(at=datetime(2025, 5, 10, tzinfo=UTC))
    core.change_plan("ada", "basic", at=datetime(2025, 5, 11, tzinfo=UTC))
    core.change_plan("ada", "premium", at=datetime(2025, 5, 12, tzinfo=UTC))
    assert moves(core)[-1][0] != "grant", "the cycle began with Premium's quota: there is no difference left to grant"
    assert core.verify() == []


def test_each_step_of_an_upgrade_in_two_steps_grants_its_own_difference(core: CreditCore) -> None:
    half = datetime(2025, 4, 25, tzinfo=UTC)
    core.add_user("ada", "free", at=NOW)
    core.add_user("bea", "free", at=NOW)
    core.reconcile(at=END)
    core.change_plan("ada", "basic", at=half)
    core.change_plan("ada", "premium", at=half)
    core.change_plan("bea", "premium", at=half)
    assert moves(core)[-2:] == [("grant", "monthly", 90, 0), ("grant", "monthly", 200, 0)]
    assert moves(core, "bea")[-1] == ("grant", "monthly", 290, 0)
    assert core.verify() == []


def test_an_upgrade_in_a_cycle_with_a_clock_change_counts_the_hours_that_really_pass(core: CreditCore) -> None:
    core.add_user("ada", "free", "Europe/Berlin", at=NOW)
    core.change_plan("ada", "basic", at=NOW)
    hours_left = (datetime(2025, 4, 9, 22, tzinfo=UTC) - NOW) // timedelta(hours=1)
    assert core.balance("ada").available_uc == 20 * CREDIT + round(Fraction(180 * CREDIT * hours_left, 31 * 24 - 1))
    assert core.verify() == []


def test_after_an_upgrade_the_anchor_stays_and_the_next_cycle_grants_the_new_quota(core: CreditCore) -> None:
    core.add_user("ada", "free", at=NOW)
    core.change_plan("ada", "basic", at=NOW + 10 * DAY)
    core.reconcile(at=END)
    assert moves(core)[-1] == ("grant", "monthly", 200, 0)
    assert cycle_end(core, END) == datetime(2025, 5, 10, tzinfo=UTC)
    assert core.verify() == []


def test_a_downgrade_clamps_monthly_and_rollover_to_the_new_cap_and_nothing_else(core: CreditCore) -> None:
    core.add_user("ada", "basic", at=NOW)
    core.purchase("ada", "starter", "payment", at=NOW)
    core.reconcile(at=END)
    assert lots(core) == [("monthly", 200, 0), ("rollover", 200, 0), ("purchased", 25, 0)]
    core.change_plan("ada", "free", at=END + DAY)
    assert {kind: sum(a for k, a, _ in lots(core) if k == kind) for kind in ("rollover", "purchased")} == {
        "rollover": 60, "purchased": 25,
    }  # fmt: skip
    assert core.balance("ada").available_uc == 85 * CREDIT
    assert {kind for kind, *_ in moves(core, after=5)} == {"clamp"}
    assert core.balance("ada").lifetime.expired_uc == 340 * CREDIT
    assert core.verify() == []


def test_a_downgrade_to_a_cap_that_is_not_reached_takes_nothing(core: CreditCore) -> None:
    core.add_user("ada", "basic", at=NOW)
    adjusted = core.adjust("ada", -150 * CREDIT, "k", "sam", "test", at=NOW)
    assert core.change_plan("ada", "free", at=NOW + DAY) == adjusted
    assert core.profile("ada", at=NOW + DAY).quota_uc == 20 * CREDIT
    assert core.verify() == []


def test_a_plan_of_the_same_quota_with_a_lower_cap_clamps_as_well(core: CreditCore) -> None:
    core.add_user("ada", "basic_annual", at=NOW)
    core.grant("ada", 800 * CREDIT, "rollover", "carried", at=NOW)
    core.change_plan("ada", "basic", at=NOW)
    assert core.balance("ada").available_uc == 600 * CREDIT
    assert core.verify() == []


def test_the_plan_a_user_is_on_changes_nothing(core: CreditCore) -> None:
    core.add_user("ada", "basic", at=NOW)
    before = everything(core)
    core.change_plan("ada", "basic", at=NOW + DAY)
    assert everything(core) == before


def test_a_change_of_plan_first_closes_what_is_due(core: CreditCore) -> None:
    core.add_user("ada", "free", at=NOW)
    core.change_plan("ada", "basic", at=END + 15 * DAY)
    grants = [move for move in moves(core) if move[0] == "grant"]
    assert grants == [("grant", "monthly", 20, 0), ("grant", "monthly", 20, 0), ("grant", "monthly", 90, 0)]
    assert core.verify() == []


def test_credits_held_over_a_downgrade_come_back(fresh_core: CreditCore) -> None:
    fresh_core.add_user("ada", "basic", at=NOW)
    ask(fresh_core, images=50)
    fresh_core.change_plan("ada", "free", at=NOW)
    assert (fresh_core.balance("ada").available_uc, fresh_core.balance("ada").held_uc) == (60 * CREDIT, 50 * CREDIT)
    fresh_core.settle("ada", "r-1", at=NOW)
    assert fresh_core.history("ada")[-1]["plan"] == "basic"
    assert fresh_core.verify() == []


def test_an_unknown_plan_or_user_is_refused(core: CreditCore) -> None:
    core.add_user("ada", "basic", at=NOW)
    before = everything(core)
    with pytest.raises(NotFound):
        core.change_plan("ada", "platinum", at=NOW)
    with pytest.raises(NotFound):
        core.change_plan("bob", "basic", at=NOW)
    assert everything(core) == before


# ---------------------------------------------------------------------------------------------------------------- pause


def test_nothing_is_granted_or_expires_while_an_account_is_paused(core: CreditCore) -> None:
    core.add_user("ada", "free", at=NOW)
    core.grant("ada", 7 * CREDIT, "bonus", "gift", expires_at=NOW + 3 * DAY, at=NOW)
    core.pause("ada", at=NOW + DAY)
    assert core.reconcile(at=NOW + 100 * DAY).closings == 0
    assert [kind for kind, *_ in moves(core)] == ["grant", "grant", "pause"]
    assert core.balance("ada").available_uc == 27 * CREDIT
    assert core.verify() == []


def test_a_paused_account_is_refused_and_says_so(fresh_core: CreditCore) -> None:
    fresh_core.add_user("ada", "free", at=NOW)
    fresh_core.pause("ada", at=NOW)
    answer = ask(fresh_core, at=NOW + DAY)
    assert (answer.status, answer.rule, answer.outcome) == ("REJECTED", "paused", None)
    assert ask(fresh_core, at=NOW + 2 * DAY).replayed
    fresh_core.resume("ada", at=NOW + 2 * DAY)
    assert ask(fresh_core, "r-2", at=NOW + 2 * DAY).status == "RESERVED"
    assert fresh_core.verify() == []


def test_a_second_pause_and_a_resume_of_what_is_not_paused_change_nothing(core: CreditCore) -> None:
    core.add_user("ada", "free", at=NOW)
    before = everything(core)
    core.resume("ada", at=NOW + DAY)
    assert everything(core) == before
    core.pause("ada", at=NOW + DAY)
    before = everything(core)
    core.pause("ada", at=NOW + 2 * DAY)
    assert everything(core) == before
    assert core.profile("ada", at=NOW + 2 * DAY).paused_at == NOW + DAY


def test_a_resume_before_its_pause_is_refused(core: CreditCore) -> None:
    core.add_user("ada", "free", at=NOW)
    core.pause("ada", at=NOW + DAY)
    before = everything(core)
    with pytest.raises(Conflict, match="Check the clock"):
        core.resume("ada", at=NOW)
    assert everything(core) == before


def test_a_paused_account_cannot_change_its_plan(core: CreditCore) -> None:
    core.add_user("ada", "free", at=NOW)
    core.pause("ada", at=NOW)
    with pytest.raises(Conflict, match="resume it"):
        core.change_plan("ada", "basic", at=NOW + DAY)
    assert core.verify() == []


@pytest.mark.parametrize(
    ("zone", "paused", "resumed", "end"),
    [
        # 25.5 days were left; 20 April 06:00 + 25.5 days lies within 15 May.
        ("UTC", datetime(2025, 3, 15, 12, tzinfo=UTC), datetime(2025, 4, 20, 6, tzinfo=UTC), (5, 16, 0)),
        # 26 days were left, and a midnight lies exactly so far ahead.
        ("UTC", datetime(2025, 3, 15, tzinfo=UTC), datetime(2025, 4, 20, tzinfo=UTC), (5, 16, 0)),
        # A moment later it is the next one.
        ("UTC", datetime(2025, 3, 15, tzinfo=UTC), datetime(2025, 4, 20, 0, 0, 0, 1, tzinfo=UTC), (5, 17, 0)),
        # Resumed at once: the cycle has what it had.
        ("UTC", datetime(2025, 3, 15, 12, tzinfo=UTC), datetime(2025, 3, 15, 12, tzinfo=UTC), (4, 10, 0)),
        # From winter time over summer time into winter time: 29 October 22:00 UTC is 23:00 in Berlin.
        ("Europe/Berlin", datetime(2025, 3, 12, 12, tzinfo=UTC), datetime(2025, 10, 1, 12, tzinfo=UTC), (10, 29, 23)),
        # In Cairo 25 April 2025 begins at 01:00.
        ("Africa/Cairo", datetime(2025, 3, 12, 12, tzinfo=UTC), datetime(2025, 3, 27, tzinfo=UTC), (4, 24, 22)),
    ],
)
def test_a_resume_ends_the_cycle_at_the_first_local_midnight_that_leaves_the_days_it_had(
    core: CreditCore, zone: str, paused: datetime, resumed: datetime, end: tuple[int, int, int]
) -> None:
    core.add_user("ada", "free", zone, at=NOW)
    left = cycle_end(core, paused) - paused
    core.pause("ada", at=paused)
    core.resume("ada", at=resumed)
    new_end = cycle_end(core, resumed)
    assert (new_end.month, new_end.day, new_end.hour) == end
    assert timedelta(0) <= new_end - (resumed + left) < timedelta(hours=25)
    assert [(lot.kind, lot.expires_at) for lot in core.balance("ada").lots] == [("monthly", new_end)]
    core.reconcile(at=new_end)
    assert [kind for kind, *_ in moves(core)].count("grant") == 2
    assert core.verify() == []


def test_the_midnight_of_the_resumed_cycle_becomes_the_anchor(core: CreditCore) -> None:
    core.add_user("ada", "free", at=NOW)
    core.pause("ada", at=datetime(2025, 3, 15, tzinfo=UTC))
    core.resume("ada", at=datetime(2025, 5, 5, tzinfo=UTC))
    ends = []
    for _ in range(5):
        ends.append(cycle_end(core, datetime(2025, 5, 5, tzinfo=UTC)))
        core.reconcile(at=ends[-1])
    assert [(end.month, end.day) for end in ends] == [(5, 31), (6, 30), (7, 31), (8, 31), (9, 30)]
    assert core.verify() == []


def test_lots_of_every_kind_follow_the_pause(core: CreditCore) -> None:
    core.add_user("ada", "free", at=NOW)
    core.reconcile(at=END)
    core.grant("ada", 7 * CREDIT, "bonus", "gift", expires_at=END + 20 * DAY, at=END)
    core.purchase("ada", "starter", "payment", at=END)
    core.pause("ada", at=END + 10 * DAY)
    core.resume("ada", at=END + 17 * DAY)
    assert [(lot.kind, lot.expires_at) for lot in core.balance("ada").lots] == [
        ("bonus", END + 27 * DAY), ("monthly", END + 37 * DAY), ("rollover", END + 37 * DAY), ("purchased", None),
    ]  # fmt: skip
    core.reconcile(at=END + 27 * DAY - timedelta(microseconds=1))
    assert core.balance("ada").available_uc == 72 * CREDIT
    core.reconcile(at=END + 27 * DAY)
    assert core.balance("ada").available_uc == 65 * CREDIT
    assert core.verify() == []


def test_a_hold_over_a_pause_can_end_in_it(fresh_core: CreditCore) -> None:
    fresh_core.add_user("ada", "free", at=NOW)
    ask(fresh_core, images=3)
    ask(fresh_core, "r-2", images=2)
    fresh_core.pause("ada", at=NOW)
    assert fresh_core.settle("ada", "r-1", at=NOW + timedelta(minutes=1)).status == "SETTLED"
    assert fresh_core.sweep(at=NOW + timedelta(hours=1)).holds == 1
    assert fresh_core.balance("ada").available_uc == 17 * CREDIT
    assert fresh_core.verify() == []


@pytest.mark.parametrize("end", ["settle", "release", "sweep"])
def test_what_comes_back_in_a_pause_longer_than_the_cycle_stays_in_its_lots(fresh_core: CreditCore, end: str) -> None:
    """The frozen cycle's scheduled end passes, yet nothing closed: nothing may move to rollover, and nothing be clamped."""
    make_live(fresh_core, {"plans.basic.cap_multiple": 1.0})
    fresh_core.add_user("ada", "basic", at=NOW)
    fresh_core.grant("ada", 50 * CREDIT, "bonus", "gift", expires_at=NOW + timedelta(days=20), at=NOW)
    fresh_core.grant("ada", 70 * CREDIT, "rollover", "carried", at=NOW)
    ask(fresh_core, images=90)
    before = lots(fresh_core)
    fresh_core.pause("ada", at=NOW)
    much_later = NOW + timedelta(days=100)
    if end == "settle":
        fresh_core.settle("ada", "r-1", 0, at=much_later)
    elif end == "release":
        fresh_core.release("ada", "r-1", "provider_error", at=much_later)
    else:
        fresh_core.sweep(at=much_later)
    assert lots(fresh_core) == [(kind, avail + held, 0) for kind, avail, held in before]
    assert fresh_core.balance("ada").available_uc == 320 * CREDIT
    assert {kind for kind, *_ in moves(fresh_core)} & {"rollover", "clamp", "expire"} == set()
    assert fresh_core.verify() == []


def test_a_pause_first_closes_what_was_due_before_it(core: CreditCore) -> None:
    core.add_user("ada", "free", at=NOW)
    core.pause("ada", at=END + DAY)
    assert [row["kind"] for row in entries(core)] == ["grant", "rollover", "rollover", "grant", "pause"]
    assert scalar(core, "SELECT count(*) FROM cycles") == 2
    assert core.verify() == []


def test_what_is_refunded_after_a_pause_to_a_lot_that_was_empty_in_it_ends_with_the_cycle(
    fresh_core: CreditCore,
) -> None:
    core = fresh_core
    core.add_user("ada", "free", at=NOW)
    assert ask(core, "all", images=20).fresh
    core.settle("ada", "all", at=NOW)
    core.pause("ada", at=NOW)
    later = NOW + timedelta(days=15)
    core.resume("ada", at=later)
    core.refund("ada", "all", 20 * CREDIT, "sorry", "support", "blurred", at=later + timedelta(days=1))
    (lot,) = core.balance("ada").lots
    assert lot.expires_at == core.profile("ada", later).next_reset_at
    core.reconcile(at=later + timedelta(days=17))
    assert core.balance("ada").available_uc == 20 * CREDIT
    assert core.verify() == []
