"""Clocks and calendars at their worst: month ends in odd zones, months nobody reconciled, machines a day apart (SPEC 1, 2.2)."""

from __future__ import annotations

import calendar
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from credit_core import CreditCore, Request
from credit_core.errors import AlreadyEnded
from tests.service.scenes import CREDIT, FRESH_FOR_ALL, NOW, StoppedClock, ask, entries, make_live, moves
from tests.service.test_cycles import bounds

#: Offsets of :45 and :30, changes by an hour and by half an hour, on either half of the earth, at midnight and in the night.
ZONES = (
    "Europe/Berlin",
    "America/St_Johns",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Pacific/Chatham",
    "America/Havana",
)
MONTHS = 14


def by_hand(anchor: date, zone: str, months: int) -> datetime:
    """The first instant of the day that is ``months`` after the anchor, in UTC: minute by minute, from the day before on."""
    year, month = divmod(anchor.year * 12 + anchor.month - 1 + months, 12)
    day = date(year, month + 1, min(anchor.day, calendar.monthrange(year, month + 1)[1]))
    instant = datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(hours=15)
    while instant.astimezone(ZoneInfo(zone)).date() < day:
        instant += timedelta(minutes=15)
    return instant


@pytest.mark.parametrize("anchor", [date(2024, 1, 31), date(2024, 2, 29), date(2024, 10, 30)], ids=str)
def test_month_ends_leap_days_and_clock_changes_in_six_zones_grant_once_a_cycle(core: CreditCore, anchor: date) -> None:
    for zone in ZONES:
        signed_up = by_hand(anchor, zone, 0) + timedelta(hours=9)
        core.add_user(zone, "premium_annual", zone, at=signed_up)
    # Whoever reconciles does so at odd instants; nobody does for a month and a half at a time.
    for step in range(1, 11):
        core.reconcile(at=datetime(anchor.year, anchor.month, anchor.day, tzinfo=UTC) + timedelta(days=45.3 * step))
    for zone in ZONES:
        ends = [by_hand(anchor, zone, n) for n in range(MONTHS + 1)]
        assert bounds(core, zone)[:MONTHS] == list(pairwise(ends))
        grants = [row["occurred_at"] for row in entries(core, zone) if row["kind"] == "grant"]
        assert grants[1:MONTHS] == ends[1:MONTHS]
        assert {row["d_avail_uc"] for row in entries(core, zone) if row["kind"] == "grant"} == {600 * CREDIT}
    assert core.verify() == []


def test_three_months_without_reconciliation_end_where_daily_reconciliation_does(
    core: CreditCore, clock: StoppedClock
) -> None:
    make_live(core, FRESH_FOR_ALL)
    for user in ("daily", "never", "touched"):
        core.add_user(user, "basic", "Pacific/Chatham", at=NOW)
        core.grant(user, 9 * CREDIT, "bonus", "gift", expires_at=NOW + timedelta(days=40), at=NOW)
        ask(core, user=user, images=8)
    last = NOW + timedelta(days=93)
    moment = NOW
    while moment < last:
        moment += timedelta(days=1)
        clock.now = moment
        # More than there ever is: the library answers, and what is due was written first.
        assert ask(core, f"day-{moment.date()}", user="daily", at=moment, images=1_000).status == "LIBRARY"
    clock.now = last
    # The first call in three months is a request, not a reconciliation.
    assert ask(core, user="touched", request_id="late", at=last, images=1_000).state.available_uc == (
        ask(core, user="daily", request_id="late", at=last, images=1_000).state.available_uc
    )
    core.reconcile(at=last)
    core.sweep(at=last)

    def of_time(user: str) -> list[tuple[object, ...]]:
        rows = [
            row for row in entries(core, user) if row["kind"] in ("grant", "expire", "rollover", "release", "clamp")
        ]
        return sorted((row["occurred_at"], row["kind"], row["d_avail_uc"], row["d_held_uc"]) for row in rows)

    assert of_time("never") == of_time("touched") == of_time("daily")
    assert {core.balance(user).available_uc for user in ("never", "touched")} == {core.balance("daily").available_uc}
    assert core.verify() == []


# ------------------------------------------------------------------------------------------------- machines a day apart

DAY = timedelta(days=1)


@pytest.fixture
def apart(ledger_url: str, clock: StoppedClock) -> Iterator[tuple[CreditCore, CreditCore, CreditCore]]:
    """Three machines on one ledger: one a day behind, one that is right, one a day ahead."""
    with ExitStack() as stack:
        right = stack.enter_context(CreditCore.open(ledger_url, clock=clock))
        make_live(right, FRESH_FOR_ALL)
        behind, ahead = (
            stack.enter_context(CreditCore.open(ledger_url, clock=lambda by=by: clock.now + by)) for by in (-DAY, DAY)
        )
        yield behind, right, ahead


def test_machines_whose_clocks_are_a_day_apart_charge_and_close_once(
    apart: tuple[CreditCore, CreditCore, CreditCore], clock: StoppedClock
) -> None:
    behind, right, ahead = apart
    right.add_user("ada", "basic")
    spent = 0
    # Over the end of the cycle on 10 April, which the machine ahead reaches a day early and the one behind a day late.
    for day in range(34):
        clock.advance(days=1)
        for number, core in enumerate((ahead, behind, right)):
            request_id = f"r-{day}-{number}"
            answer = core.authorize(request(request_id))
            assert answer.status == "RESERVED"
            other = apart[(number + day) % 3]
            assert other.authorize(request(request_id)).replayed
            other.settle("ada", request_id)
            spent += answer.amount_uc
        for core in apart:
            core.reconcile()
    granted = [row["occurred_at"] for row in entries(right) if row["kind"] == "grant"]
    assert granted == [NOW, datetime(2025, 4, 10, tzinfo=UTC)]
    recorded = [row["recorded_at"] for row in entries(right)]
    assert recorded == sorted(recorded)
    assert len(bounds(right)) == 2
    assert -sum(d_avail + d_held for kind, _, d_avail, d_held in moves(right) if kind == "settle") * CREDIT == spent
    assert right.verify() == []


def test_a_sweeper_a_day_ahead_takes_holds_early_but_never_credits(
    apart: tuple[CreditCore, CreditCore, CreditCore],
) -> None:
    behind, right, ahead = apart
    right.add_user("ada", "basic")
    for core in apart:
        core.authorize(request(f"r-{apart.index(core)}"))
    assert ahead.sweep().holds == 2
    assert right.balance("ada").held_uc == CREDIT
    with pytest.raises(AlreadyEnded, match="swept"):
        right.settle("ada", "r-1")
    ahead.settle("ada", "r-2")
    # The machine behind makes a hold that the last sweep would have found: it is not a hold that a sweep overlooked.
    behind.authorize(request("r-3"))
    assert right.verify() == []
    assert right.sweep().holds == 1
    balance = right.balance("ada")
    assert (balance.available_uc, balance.held_uc) == (199 * CREDIT, 0)
    assert right.verify() == []


def request(request_id: str) -> Request:
    return Request("ada", request_id, "s-1")


# --------------------------------------------------------------------------------------------- released in mid-request


@pytest.mark.parametrize("end", ["settle", "release", "partial", "sweep"])
def test_a_configuration_released_between_authorize_and_its_end_does_not_govern_it(
    core: CreditCore, clock: StoppedClock, end: str
) -> None:
    first = make_live(core, FRESH_FOR_ALL | {"saga.hold_ttl_s": 600, "coverage.library_growth": True})
    core.add_user("ada", "basic", at=NOW)
    ask(core, genre="jazz", mood="calm", images=3)
    second = make_live(
        core,
        {"saga.hold_ttl_s": 60, "coverage.library_growth": False, "controller.p_min": 0.0, "controller.p_max": 1e-9},
    )
    assert core.sweep(at=NOW + timedelta(seconds=599)).holds == 0
    at = NOW + timedelta(seconds=600)
    if end == "settle":
        core.settle("ada", "r-1", at=at)
        core.refund("ada", "r-1", CREDIT, "sorry", "sam", "asked for it", at=at)
    elif end == "sweep":
        assert core.sweep(at=at).holds == 1
    elif end == "partial":
        core.partial("ada", "r-1", at=at)
    else:
        core.release("ada", "r-1", "provider_error", at=at)
    rows = [row for row in entries(core) if row["request_id"] == "r-1"]
    assert {row["config_version"] for row in rows} == {first}
    assert core.library.cell("jazz", "calm", at=at).assets == (3 if end == "settle" else 0)
    assert ask(core, at=at, genre="jazz", mood="calm", images=3).config_version == first
    assert ask(core, "r-2", at=at).config_version == second
    assert core.explain("ada", "r-1").exact
    assert core.verify() == []


def test_a_closing_after_a_release_goes_by_what_is_live_and_leaves_open_requests_alone(core: CreditCore) -> None:
    first = make_live(core, FRESH_FOR_ALL | {"saga.hold_ttl_s": 86_400})
    core.add_user("ada", "basic", at=NOW)
    before_end = datetime(2025, 4, 9, 23, 59, tzinfo=UTC)
    ask(core, at=before_end, images=50)
    second = make_live(core, {"plans.basic.cap_multiple": 1.0})
    after = datetime(2025, 4, 10, 0, 1, tzinfo=UTC)
    core.settle("ada", "r-1", CREDIT, at=after)
    closing = [row for row in entries(core) if row["occurred_at"] == datetime(2025, 4, 10, tzinfo=UTC)]
    assert [(row["kind"], row["config_version"]) for row in closing] == [("expire", second), ("grant", second)]
    # The 49 that the charge did not need come back to a closed lot, and the new cap leaves no room for them.
    assert [(row["kind"], row["config_version"]) for row in entries(core)[-2:]] == [("settle", first), ("clamp", first)]
    assert core.balance("ada").available_uc == 200 * CREDIT
    assert core.verify() == []
