"""Where days and cycles begin in any zone, and what is carried over a cycle's end: SPEC 1 and 2.2."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from credit_core.policy.cycles import (
    add_months,
    cap_at,
    cap_uc,
    close,
    cycle_start,
    days_between,
    first_instant,
    local_day,
)
from tests.policy import formulas

DAY = timedelta(days=1)
MICROSECOND = timedelta(microseconds=1)


def day(text: str) -> date:
    return date.fromisoformat(text)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# --------------------------------------------------------------------------------------------------- first instants

#: Zone, local day, its first instant in UTC, its length in hours. Worked out by hand from the zones' published changes.
DAYS = [
    ("UTC", "2024-02-29", "2024-02-29T00:00", 24.0),
    ("Europe/Berlin", "2024-03-31", "2024-03-30T23:00", 23.0),
    ("Europe/Berlin", "2024-10-27", "2024-10-26T22:00", 25.0),
    ("America/New_York", "2024-03-10", "2024-03-10T05:00", 23.0),
    ("America/New_York", "2024-11-03", "2024-11-03T04:00", 25.0),
    # half and quarter hours
    ("Asia/Kolkata", "2024-06-15", "2024-06-14T18:30", 24.0),
    ("Asia/Kathmandu", "2024-06-15", "2024-06-14T18:15", 24.0),
    ("America/St_Johns", "2024-03-10", "2024-03-10T03:30", 23.0),
    ("America/St_Johns", "2024-11-03", "2024-11-03T02:30", 25.0),
    ("Australia/Adelaide", "2024-04-07", "2024-04-06T13:30", 25.0),
    ("Pacific/Chatham", "2024-04-07", "2024-04-06T10:15", 25.0),
    ("Pacific/Chatham", "2024-09-29", "2024-09-28T11:15", 23.0),
    ("Australia/Lord_Howe", "2024-04-07", "2024-04-06T13:00", 24.5),
    ("Australia/Lord_Howe", "2024-10-06", "2024-10-05T13:30", 23.5),
    ("Antarctica/Troll", "2024-03-31", "2024-03-31T00:00", 22.0),
    # no midnight: clocks jump from 00:00 to 01:00
    ("America/Sao_Paulo", "2018-11-04", "2018-11-04T03:00", 23.0),
    ("Asia/Beirut", "2024-03-31", "2024-03-30T22:00", 23.0),
    ("Africa/Cairo", "2024-04-26", "2024-04-25T22:00", 23.0),
    ("America/Havana", "2024-03-10", "2024-03-10T05:00", 23.0),
    # no midnight: clocks jump from 23:30 to 00:30
    ("America/Toronto", "1919-03-31", "1919-03-31T04:30", 23.5),
    # midnight twice, or the hour before it twice
    ("America/Havana", "2024-11-03", "2024-11-03T04:00", 25.0),
    ("America/Sao_Paulo", "2018-02-17", "2018-02-17T02:00", 25.0),
    ("Asia/Beirut", "2024-10-26", "2024-10-25T21:00", 25.0),
    # the day that Samoa and the day that Kwajalein left out
    ("Pacific/Apia", "2011-12-29", "2011-12-29T10:00", 24.0),
    ("Pacific/Apia", "2011-12-30", "2011-12-30T10:00", 0.0),
    ("Pacific/Apia", "2011-12-31", "2011-12-30T10:00", 24.0),
    ("Pacific/Kwajalein", "1993-08-21", "1993-08-21T12:00", 0.0),
]


@pytest.mark.parametrize(("zone", "local", "begins", "hours"), DAYS, ids=[f"{row[0]} {row[1]}" for row in DAYS])
def test_a_day_begins_at_its_first_instant_and_lasts_to_the_next(
    zone: str, local: str, begins: str, hours: float
) -> None:
    start = first_instant(day(local), ZoneInfo(zone))
    end = first_instant(day(local) + DAY, ZoneInfo(zone))
    assert start == utc(begins)
    assert start.tzinfo is UTC
    assert days_between(start, end) == hours / 24


def test_where_midnight_is_missing_the_day_begins_at_one() -> None:
    for zone, local in [("America/Sao_Paulo", "2018-11-04"), ("Asia/Beirut", "2024-03-31")]:
        start = first_instant(day(local), ZoneInfo(zone)).astimezone(ZoneInfo(zone))
        assert (start.date(), start.hour, start.minute) == (day(local), 1, 0)
        assert (start.astimezone(UTC) - MICROSECOND).astimezone(ZoneInfo(zone)).date() == day(local) - DAY


def test_a_day_that_a_zone_left_out_begins_where_the_next_one_does() -> None:
    start = first_instant(day("2011-12-30"), ZoneInfo("Pacific/Apia"))
    assert local_day(start, ZoneInfo("Pacific/Apia")) == day("2011-12-31")
    assert local_day(start - MICROSECOND, ZoneInfo("Pacific/Apia")) == day("2011-12-29")


ZONES = st.sampled_from(
    [
        *("UTC", "Europe/Berlin", "Europe/London", "America/New_York", "America/Sao_Paulo", "America/Havana"),
        *("America/St_Johns", "Asia/Kolkata", "Asia/Kathmandu", "Asia/Beirut", "Asia/Tehran", "Africa/Cairo"),
        *("Africa/Casablanca", "Australia/Lord_Howe", "Australia/Adelaide", "Pacific/Chatham", "Pacific/Apia"),
        *("Pacific/Kiritimati", "America/Nuuk", "Antarctica/Troll", "America/Asuncion", "Asia/Gaza"),
    ]
).map(ZoneInfo)
# St. John's changed its clocks a minute after midnight until November 2011, so that days overlapped there.
DATES = st.dates(date(2012, 1, 1), date(2036, 12, 31))


@settings(max_examples=200, deadline=None)
@given(local=st.one_of(DATES, st.just(day("2011-12-30"))), zone=ZONES)
def test_any_day_begins_as_in_the_second_writing(local: date, zone: ZoneInfo) -> None:
    assert first_instant(local, zone) == formulas.day_begins(local, zone)


@settings(max_examples=200, deadline=None)
@given(at=st.datetimes(datetime(2012, 1, 2), datetime(2036, 12, 30)), zone=ZONES)  # noqa: DTZ001 - aware in the next line
def test_every_instant_lies_in_exactly_the_day_that_the_calendar_shows(at: datetime, zone: ZoneInfo) -> None:
    at = at.replace(tzinfo=UTC)
    shown = local_day(at, zone)
    assert first_instant(shown, zone) <= at < first_instant(shown + DAY, zone)


# ----------------------------------------------------------------------------------------------------- anchor months


@pytest.mark.parametrize(
    ("anchor", "expected"),
    [
        ("2023-10-31", ["10-31", "11-30", "12-31", "01-31", "02-29", "03-31", "04-30", "05-31"]),
        ("2023-10-30", ["10-30", "11-30", "12-30", "01-30", "02-29", "03-30", "04-30", "05-30"]),
        ("2022-10-29", ["10-29", "11-29", "12-29", "01-29", "02-28", "03-29", "04-29", "05-29"]),
        ("2023-10-29", ["10-29", "11-29", "12-29", "01-29", "02-29", "03-29", "04-29", "05-29"]),
        ("2022-12-31", ["12-31", "01-31", "02-28", "03-31", "04-30", "05-31", "06-30", "07-31"]),
        ("2024-02-29", ["02-29", "03-29", "04-29", "05-29", "06-29", "07-29", "08-29", "09-29"]),
        ("2024-01-01", ["01-01", "02-01", "03-01", "04-01", "05-01", "06-01", "07-01", "08-01"]),
    ],
)
def test_a_month_end_anchor_falls_on_the_last_day_and_comes_back(anchor: str, expected: list[str]) -> None:
    found = [f"{add_months(day(anchor), n):%m-%d}" for n in range(len(expected))]
    assert found == expected


def test_a_leap_day_anchor_comes_back_every_fourth_year() -> None:
    found = [str(add_months(day("2024-02-29"), 12 * n)) for n in range(5)]
    assert found == ["2024-02-29", "2025-02-28", "2026-02-28", "2027-02-28", "2028-02-29"]


def test_a_century_that_is_no_leap_year_has_28_days_in_february() -> None:
    assert add_months(day("2096-02-29"), 48) == day("2100-02-28")


@settings(max_examples=200, deadline=None)
@given(anchor=DATES, months=st.integers(0, 200))
def test_any_anchor_and_month_agree_with_the_second_writing(anchor: date, months: int) -> None:
    assert add_months(anchor, months) == formulas.month_after(anchor, months)


# ------------------------------------------------------------------------------------------------------------ cycles


def test_the_first_cycle_starts_at_the_midnight_that_begins_the_sign_up_day() -> None:
    zone = ZoneInfo("America/New_York")
    signed_up = utc("2024-03-15T02:30")
    assert cycle_start(local_day(signed_up, zone), zone, 0) == utc("2024-03-14T04:00")


def test_a_cycle_across_a_clock_change_has_a_day_of_23_hours() -> None:
    zone = ZoneInfo("Europe/Berlin")
    start, end = (cycle_start(day("2024-03-05"), zone, n) for n in (0, 1))
    assert days_between(start, end) == 31 - 1 / 24


def test_a_cycle_across_the_autumn_change_has_a_day_of_25_hours() -> None:
    zone = ZoneInfo("America/New_York")
    start, end = (cycle_start(day("2024-10-10"), zone, n) for n in (0, 1))
    assert days_between(start, end) == 31 + 1 / 24


def test_a_cycle_that_starts_on_a_missing_midnight_starts_at_one() -> None:
    zone = ZoneInfo("America/Sao_Paulo")
    assert cycle_start(day("2018-10-04"), zone, 1) == utc("2018-11-04T03:00")
    assert cycle_start(day("2018-10-04"), zone, 2) == utc("2018-12-04T02:00")


def test_a_cycle_over_the_skipped_day_of_samoa_is_a_day_shorter() -> None:
    zone = ZoneInfo("Pacific/Apia")
    start, end = (cycle_start(day("2011-12-15"), zone, n) for n in (0, 1))
    assert days_between(start, end) == 30.0


def test_a_cycle_anchored_on_the_skipped_day_starts_with_the_day_after() -> None:
    zone = ZoneInfo("Pacific/Apia")
    assert cycle_start(day("2011-10-30"), zone, 2) == utc("2011-12-30T10:00")


@settings(max_examples=60, deadline=None)
@given(anchor=DATES, zone=ZONES, number=st.integers(0, 36))
def test_cycles_adjoin_and_are_the_sum_of_their_days(anchor: date, zone: ZoneInfo, number: int) -> None:
    start, end = cycle_start(anchor, zone, number), cycle_start(anchor, zone, number + 1)
    assert start < end
    local, lengths = add_months(anchor, number), []
    while local < add_months(anchor, number + 1):
        lengths.append(days_between(first_instant(local, zone), first_instant(local + DAY, zone)))
        local += DAY
    assert sum(lengths) == pytest.approx(days_between(start, end), rel=0, abs=1e-9)
    assert 28 - 2 / 24 - 1e-9 <= days_between(start, end) <= 31 + 2 / 24 + 1e-9  # Troll changes by two hours


@settings(max_examples=100, deadline=None)
@given(anchor=DATES, zone=ZONES, number=st.integers(0, 36))
def test_a_cycle_begins_as_in_the_second_writing(anchor: date, zone: ZoneInfo, number: int) -> None:
    assert cycle_start(anchor, zone, number) == formulas.day_begins(formulas.month_after(anchor, number), zone)


def test_days_are_real_elapsed_time_whatever_zones_the_instants_are_written_in() -> None:
    new_york = ZoneInfo("America/New_York")
    start = datetime(2024, 3, 10, 0, 0, tzinfo=new_york)
    end = datetime(2024, 3, 11, 0, 0, tzinfo=new_york)
    assert days_between(start, end) == 23 / 24
    assert days_between(start, end.astimezone(ZoneInfo("Asia/Kathmandu"))) == 23 / 24
    assert days_between(end, start) == -23 / 24


# ----------------------------------------------------------------------------------------------------------- closing

CREDIT = 1_000_000


@pytest.mark.parametrize(
    ("unspent", "multiple", "kept", "carried", "balance"),
    [
        (0, 3, 0, 0, 200),
        (150, 3, 150, 150, 350),
        (200, 3, 200, 200, 400),
        (500, 3, 350, 350, 550),
        (600, 3, 400, 400, 600),
        (900, 3, 550, 400, 600),
        (900, 6, 550, 550, 750),
    ],
)
def test_the_known_closings_of_a_quota_of_200_at_half_decay(
    unspent: int, multiple: float, kept: int, carried: int, balance: int
) -> None:
    closing = close(unspent * CREDIT, 200 * CREDIT, multiple, 0.5)
    assert closing == (kept * CREDIT, carried * CREDIT, (unspent - carried) * CREDIT)
    assert closing.carried_uc + 200 * CREDIT == balance * CREDIT


@pytest.mark.parametrize(
    ("quota", "multiple", "decay", "unspent", "kept", "carried"),
    [
        (200, 3.0, 0.4, 500, 380, 380),
        (200, 3.0, 0.4, 600, 440, 400),
        (600, 4.0, 0.25, 1_000, 900, 900),
        (600, 4.0, 0.25, 2_400, 1_950, 1_800),
        (200, 6.0, 0.15, 900, 795, 795),
        (200, 6.0, 0.15, 1_200, 1_050, 1_000),
    ],
)
def test_closings_with_the_shipped_values_of_each_plan(
    quota: int, multiple: float, decay: float, unspent: int, kept: int, carried: int
) -> None:
    closing = close(unspent * CREDIT, quota * CREDIT, multiple, decay)
    assert closing == (kept * CREDIT, carried * CREDIT, (unspent - carried) * CREDIT)


def test_without_decay_all_is_kept_and_with_full_decay_one_quota() -> None:
    assert close(500 * CREDIT, 200 * CREDIT, 6, 0.0).kept_uc == 500 * CREDIT
    assert close(500 * CREDIT, 200 * CREDIT, 6, 1.0).kept_uc == 200 * CREDIT


@pytest.mark.parametrize("multiple", [1.0, 0.5, 0.0])
def test_a_cap_of_one_quota_or_less_carries_nothing(multiple: float) -> None:
    assert close(150 * CREDIT, 200 * CREDIT, multiple, 0.4) == (150 * CREDIT, 0, 150 * CREDIT)


@pytest.mark.parametrize(("over", "kept_of_it"), [(1, 0), (3, 2), (5, 2), (7, 4), (2, 1)])
def test_what_decays_is_rounded_once_half_even(over: int, kept_of_it: int) -> None:
    assert close(10 + over, 10, 24, 0.5).kept_uc == 10 + kept_of_it


def test_the_decay_is_the_decimal_that_was_typed() -> None:
    # In binary, 1 − 0.15 is 0.85 less a hair; of 10^15 that hair would be a micro-credit.
    assert close(10 + 10**15, 10, 1e9, 0.15).kept_uc == 10 + 85 * 10**13
    assert cap_uc(3 * 10**15, 1.1) == 33 * 10**14


def test_an_idle_account_tends_to_the_quota_times_one_plus_delta_over_delta() -> None:
    balance = 0
    for _ in range(60):
        balance = close(balance, 200 * CREDIT, 24, 0.4).carried_uc + 200 * CREDIT
    assert balance == pytest.approx(200 * CREDIT * 1.4 / 0.4, abs=10)


def test_an_idle_account_of_any_shipped_plan_reaches_its_cap() -> None:
    for multiple, decay in [(3, 0.4), (4, 0.25), (6, 0.15)]:
        balance = 0
        for _ in range(60):
            balance = close(balance, 200 * CREDIT, multiple, decay).carried_uc + 200 * CREDIT
        assert balance == cap_uc(200 * CREDIT, multiple)


@settings(max_examples=300, deadline=None)
@given(
    unspent=st.integers(0, 10**13),
    quota=st.integers(1, 10**12),
    multiple=st.floats(1, 24),
    decay=st.floats(0, 1),
)
def test_a_closing_loses_nothing_and_stays_under_the_cap(
    unspent: int, quota: int, multiple: float, decay: float
) -> None:
    closing = close(unspent, quota, multiple, decay)
    assert closing.carried_uc + closing.expired_uc == unspent
    assert 0 <= closing.carried_uc <= closing.kept_uc <= unspent
    assert closing.expired_uc >= 0
    assert closing.carried_uc + quota <= cap_uc(quota, multiple)
    assert all(type(amount) is int for amount in closing)


@settings(max_examples=300, deadline=None)
@given(
    unspent=st.integers(0, 10**13),
    quota=st.integers(1, 10**12),
    multiple=st.one_of(st.floats(1, 24), st.sampled_from([1.0, 3.0, 4.0, 6.0])),
    decay=st.one_of(st.floats(0, 1), st.sampled_from([0.4, 0.25, 0.15, 0.5])),
)
def test_any_closing_agrees_with_the_second_writing(unspent: int, quota: int, multiple: float, decay: float) -> None:
    said = formulas.closing(unspent, quota, multiple, decay)
    assert close(unspent, quota, multiple, decay) == (said.kept, said.carried, said.expired)


@settings(max_examples=100, deadline=None)
@given(unspent=st.integers(0, 10**10), more=st.integers(1, 10**9), decay=st.floats(0, 1))
def test_who_leaves_more_unspent_never_carries_less(unspent: int, more: int, decay: float) -> None:
    quota = 200 * CREDIT
    assert close(unspent + more, quota, 3, decay).carried_uc >= close(unspent, quota, 3, decay).carried_uc


# --------------------------------------------------------------------------------------------------- burst allowance


@pytest.mark.parametrize(
    ("end", "multiple"),
    [
        ("2024-05-01T01:59:59.999999", 3.0),
        ("2024-05-01T02:00", 4.0),
        ("2024-05-01T04:59:59.999999", 4.0),
        ("2024-05-01T05:00", 3.0),
        ("2024-05-01T00:00", 3.0),
    ],
)
def test_with_the_burst_allowance_cycles_that_end_from_two_to_five_utc_carry_one_quota_more(
    end: str, multiple: float
) -> None:
    assert cap_at(utc(end), 3.0, burst_allowance=True) == multiple


def test_the_burst_window_is_in_utc_whatever_the_user_s_zone() -> None:
    new_york = cycle_start(day("2024-05-01"), ZoneInfo("America/New_York"), 1).astimezone(ZoneInfo("America/New_York"))
    assert new_york.hour == 0
    assert cap_at(new_york, 3.0, burst_allowance=True) == 4.0
    assert cap_at(cycle_start(day("2024-05-01"), ZoneInfo("UTC"), 1), 3.0, burst_allowance=True) == 3.0


def test_without_the_burst_allowance_the_cap_is_the_plan_s() -> None:
    assert cap_at(utc("2024-05-01T03:00"), 3.0, burst_allowance=False) == 3.0
