"""What the quota policies beside titrated_monthly count and allow (SPEC 3)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from credit_core.policy.decision import Allowance, Request, State
from credit_core.policy.plans import Counts, Plan
from credit_core.policy.quotas import Counted, Window, daily, day_of, decide, guest, monthly, tightest

UTC_ZONE = ZoneInfo("UTC")
NOON = datetime(2025, 3, 10, 12, tzinfo=UTC)
CYCLE = (datetime(2025, 3, 1, tzinfo=UTC), datetime(2025, 4, 1, tzinfo=UTC))
GUESTS = Plan(title="G", quota_policy="guest_window", window_limit=3, window_hours=24)
STUDIO = Plan(
    title="S", quota_policy="plan_credits", quota_credits=0, free_per_month=50,
    counts={"video": Counts(per_month=80, per_day=15, burst_day=25)},
)  # fmt: skip


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def made(at: datetime, generations: int = 1, modality: str = "video", *, free: bool = False) -> Counted:
    return Counted(at, modality, free, generations)


# ---------------------------------------------------------------------------------------------------------------- days


@pytest.mark.parametrize(
    ("zone", "at", "start", "end"),
    [
        ("UTC", "2025-03-10T12:00", "2025-03-10T00:00", "2025-03-11T00:00"),
        ("Asia/Kathmandu", "2025-03-10T18:14:59.999999", "2025-03-09T18:15", "2025-03-10T18:15"),
        ("Asia/Kathmandu", "2025-03-10T18:15", "2025-03-10T18:15", "2025-03-11T18:15"),
        ("Pacific/Chatham", "2025-03-10T10:15", "2025-03-10T10:15", "2025-03-11T10:15"),
        ("Europe/Berlin", "2025-03-30T12:00", "2025-03-29T23:00", "2025-03-30T22:00"),
        ("Europe/Berlin", "2025-10-26T12:00", "2025-10-25T22:00", "2025-10-26T23:00"),
        ("America/Santiago", "2025-09-07T12:00", "2025-09-07T04:00", "2025-09-08T03:00"),
    ],
)
def test_a_day_runs_from_local_midnight_to_local_midnight(zone: str, at: str, start: str, end: str) -> None:
    assert day_of(utc(at), ZoneInfo(zone)) == (utc(start), utc(end))


def test_a_daily_count_is_todays_generations_less_those_that_failed() -> None:
    counted = [
        made(utc("2025-03-09T23:59:59.999999"), 4), made(utc("2025-03-10T00:00"), 2), made(NOON, 3), made(NOON, -2),
        made(utc("2025-03-11T00:00"), 7),
    ]  # fmt: skip
    assert daily(5, counted, UTC_ZONE, NOON) == [Allowance("day", 5, 3, utc("2025-03-11"))]


def test_a_plan_without_a_daily_limit_counts_nothing() -> None:
    assert daily(None, [made(NOON, 1_000)], UTC_ZONE, NOON) == []


# --------------------------------------------------------------------------------------------------------------- months


def studio(
    counted: list[Counted], modality: str = "video", at: datetime = NOON, *, free: bool = False
) -> list[Allowance]:
    return monthly(STUDIO, modality, free, counted, UTC_ZONE, CYCLE, at)


def test_a_modality_is_counted_by_cycle_and_by_day() -> None:
    counted = [made(utc("2025-02-28T23:00"), 9), made(utc("2025-03-02"), 4), made(NOON, 2), made(NOON, 30, "text")]
    month, day = studio(counted)
    assert month == Allowance("month", 80, 6, CYCLE[1])
    assert day == Allowance("day", 25, 2, utc("2025-03-11"))
    assert studio(counted, "text") == []


def test_a_cycle_has_one_burst_day_and_the_day_that_took_it_keeps_it() -> None:
    first = utc("2025-03-04T09:00")
    assert [a.limit for a in studio([made(first, 15)])] == [80, 25]
    assert [a.limit for a in studio([made(first, 16)])] == [80, 15]
    assert [a.limit for a in studio([made(first, 16)], at=first)] == [80, 25]
    # Sixteen, of which one failed: no burst was needed.
    assert [a.limit for a in studio([made(first, 16), made(first, -1)])] == [80, 25]
    # The burst of the cycle before is of no matter.
    assert [a.limit for a in studio([made(utc("2025-02-27"), 20)])] == [80, 25]


def test_free_generations_are_counted_by_cycle_whatever_their_modality() -> None:
    counted = [made(NOON, 20, "text", free=True), made(NOON, 5, "image", free=True), made(NOON, 9, "text")]
    assert studio(counted, "text", free=True) == [Allowance("free", 50, 25, CYCLE[1])]
    assert studio(counted, "text", free=False) == []


# --------------------------------------------------------------------------------------------------------------- guests


def test_a_window_opens_with_its_first_generation_and_closes_24_hours_later() -> None:
    used = Window(NOON, 2)
    last = NOON + timedelta(hours=24) - timedelta(microseconds=1)
    assert guest(GUESTS, [("session", used)], last) == [Allowance("session", 3, 2, NOON + timedelta(hours=24))]
    reopened = NOON + timedelta(hours=24)
    assert guest(GUESTS, [("session", used)], reopened) == [Allowance("session", 3, 0, NOON + timedelta(hours=48))]
    assert guest(GUESTS, [("ip", Window(None, 0))], NOON) == [Allowance("ip", 3, 0, NOON + timedelta(hours=24))]


def test_the_stricter_count_is_the_one_with_less_room_and_of_equals_the_later_reset() -> None:
    day = Allowance("day", 5, 5, NOON)
    month = Allowance("month", 25, 25, NOON + timedelta(days=9))
    assert tightest([]) is None
    assert tightest([month, day._replace(used=4)]) == month
    assert tightest([month._replace(used=21), day._replace(used=2)]) == day._replace(used=2)
    assert tightest([day, month]) == month
    # Far over the day's limit is no less room than none: the month still stands in the way tomorrow.
    assert tightest([day._replace(used=9), month]) == month


# ------------------------------------------------------------------------------------------------------------- decisions


STATE = State("p", 10, 0, 0, 31.0, 20.0, policy="plan_credits", cost_uc=10)
REQUEST = Request("ada", "r", "s", images=2)
FULL = Allowance("day", 5, 4, NOON + timedelta(seconds=90))


@pytest.mark.parametrize(
    ("state", "rule", "status", "http"),
    [
        (STATE._replace(blocked=True, retry_after_s=1.0), "blocked", "REJECTED", 403),
        (STATE._replace(retry_after_s=1.5, paused=True), "rate_limited", "RATE_LIMITED", 429),
        (STATE._replace(paused=True, allowance=FULL), "paused", "REJECTED", 403),
        (STATE._replace(allowance=FULL, cost_uc=11), "over_limit", "RATE_LIMITED", 429),
        (STATE._replace(cost_uc=11), "unaffordable", "REJECTED", 402),
        (STATE._replace(allowance=FULL._replace(used=3)), "allowed", "RESERVED", 200),
        (STATE, "allowed", "RESERVED", 200),
    ],
)
def test_the_first_rule_that_applies_answers(state: State, rule: str, status: str, http: int) -> None:
    decision = decide(state, REQUEST, "m", NOON, 0.25)
    assert (decision.rule, decision.status, decision.http_status) == (rule, status, http)
    assert (decision.outcome, decision.model) == (("fresh", "m") if status == "RESERVED" else (None, None))
    assert decision.amount_uc == (10 if status == "RESERVED" else 0)
    assert (decision.p, decision.nudges, decision.surplus, decision.u01) == (None, None, None, 0.25)


def test_who_is_over_a_limit_hears_when_it_resets_and_who_is_not_what_is_left() -> None:
    refused = decide(STATE._replace(allowance=FULL), REQUEST, "m", NOON, 0.0)
    assert (refused.retry_after_s, refused.remaining) == (90.0, 1)
    served = decide(STATE._replace(allowance=FULL._replace(used=2)), REQUEST, "m", NOON, 0.0)
    assert (served.retry_after_s, served.remaining) == (None, 1)
    assert decide(STATE, REQUEST, "m", NOON, 0.0).remaining is None
