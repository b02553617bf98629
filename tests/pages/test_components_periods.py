"""Which instants a choice of the bar means, and what it is compared with."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from credit_core.analytics.filters import Period
from credit_core.analytics.queries.running import Running
from credit_core.policy.cycles import first_instant
from pages.components import periods
from tests.pages.reading import plain

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2025, 3, 12, 13, 4, 30, tzinfo=UTC)
UNTIL = periods.anchor(NOW - timedelta(minutes=3), NOW, BERLIN)


def local(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> datetime:
    return datetime(year, month, day, hour, minute, tzinfo=BERLIN).astimezone(UTC)


def test_periods_end_now_in_whole_minutes() -> None:
    assert UNTIL.end == datetime(2025, 3, 12, 13, 5, tzinfo=UTC)
    assert not UNTIL.old


def test_an_old_ledger_is_read_to_the_end_of_its_newest_day() -> None:
    newest = datetime(2025, 3, 1, 23, 30, tzinfo=UTC)
    until = periods.anchor(newest, NOW, BERLIN)
    assert until.end == local(2025, 3, 3)
    assert until.old
    assert until.today(BERLIN) == date(2025, 3, 2)


def test_thirty_six_hours_are_not_yet_old() -> None:
    assert not periods.anchor(NOW - timedelta(hours=36), NOW, BERLIN).old
    assert periods.anchor(NOW - timedelta(hours=36, seconds=1), NOW, BERLIN).old
    assert not periods.anchor(None, NOW, BERLIN).old


@pytest.mark.parametrize(
    ("choice", "start"),
    [
        ("today", local(2025, 3, 12)),
        ("7d", local(2025, 3, 6)),
        ("28d", local(2025, 2, 13)),
        ("90d", local(2024, 12, 13)),
        ("nonsense", local(2025, 2, 13)),
    ],
)
def test_a_period_begins_at_a_midnight_of_the_reporting_zone(choice: str, start: datetime) -> None:
    assert periods.period_of(choice, (), UNTIL, BERLIN) == Period(start, UNTIL.end)


def test_a_custom_period_is_whole_days_but_for_today() -> None:
    days = (date(2025, 3, 1), date(2025, 3, 3))
    assert periods.period_of("custom", days, UNTIL, BERLIN) == Period(local(2025, 3, 1), local(2025, 3, 4))
    assert periods.period_of("custom", (days[0], date(2025, 3, 12)), UNTIL, BERLIN).end == UNTIL.end
    assert periods.period_of("custom", days[:1], UNTIL, BERLIN) == Period(local(2025, 3, 1), local(2025, 3, 2))


def test_a_day_without_a_midnight_begins_with_its_first_instant() -> None:
    zone = ZoneInfo("America/Sao_Paulo")
    day = date(2018, 11, 4)
    until = periods.anchor(None, datetime(2018, 11, 4, 15, tzinfo=UTC), zone)
    assert periods.period_of("today", (), until, zone).start == first_instant(day, zone)
    assert first_instant(day, zone) == datetime(2018, 11, 4, 3, tzinfo=UTC)


def test_the_comparison_of_an_unfinished_period_is_as_long_as_it_has_run() -> None:
    period = periods.period_of("7d", (), UNTIL, BERLIN)
    before = periods.previous(period, BERLIN)
    assert before == Period(local(2025, 2, 27), local(2025, 3, 5, 14, 5))
    assert before.length == period.length
    today = periods.period_of("today", (), UNTIL, BERLIN)
    assert periods.previous(today, BERLIN) == Period(local(2025, 3, 11), local(2025, 3, 11, 14, 5))


def test_whole_days_are_compared_with_whole_days_over_a_clock_change() -> None:
    period = Period(local(2025, 3, 29), local(2025, 4, 1))
    before = periods.previous(period, BERLIN)
    assert before == Period(local(2025, 3, 26), local(2025, 3, 29))
    assert (period.length, before.length) == (timedelta(hours=71), timedelta(hours=72))


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("2025-03-01..2025-03-09", (date(2025, 3, 1), date(2025, 3, 9))),
        ("2025-03-09..2025-03-01", (date(2025, 3, 1), date(2025, 3, 9))),
        ("2025-03-01..", (date(2025, 3, 1),)),
        ("2024-01-01..2025-03-02", (date(2025, 1, 1), date(2025, 3, 2))),
        ("1999-01-01..2000-01-01", ()),
        ("yesterday", ()),
        ("..", ()),
        ("", ()),
    ],
)
def test_a_range_in_the_url_is_read_and_kept_within_the_ledger(text: str, days: tuple[date, ...]) -> None:
    assert periods.range_days(text, date(2025, 1, 1), date(2025, 3, 12)) == days


def test_a_range_is_written_as_it_is_read() -> None:
    days = (date(2025, 3, 1), date(2025, 3, 9))
    assert periods.range_days(periods.range_text(days), date(2025, 1, 1), date(2025, 3, 12)) == days
    assert periods.range_text(days[:1]) == "2025-03-01.."
    assert periods.range_text(()) == ""


# ---------------------------------------------------------------------------------------------------------------- cycles


def test_this_cycle_begins_with_the_middle_one_of_those_that_run() -> None:
    found = periods.this_cycle(Running(200, date(2025, 3, 1), 150), UNTIL, BERLIN)
    assert found == Period(local(2025, 3, 1), UNTIL.end)
    assert periods.compared("previous", found, "cycle", BERLIN) == Period(local(2025, 2, 1), local(2025, 2, 12, 14, 5))
    assert periods.compared("cycle", found, "cycle", BERLIN) == periods.compared("previous", found, "cycle", BERLIN)
    assert periods.compared("none", found, "cycle", BERLIN) is None


def test_where_no_cycle_runs_this_cycle_is_the_calendar_month() -> None:
    assert periods.this_cycle(None, UNTIL, BERLIN) == Period(local(2025, 3, 1), UNTIL.end)


def test_a_cycle_that_began_east_of_the_reporting_zone_begins_today_at_the_latest() -> None:
    found = periods.this_cycle(Running(3, date(2025, 3, 13), 3), UNTIL, BERLIN)
    assert found == Period(local(2025, 3, 12), UNTIL.end)


@pytest.mark.parametrize(
    ("first", "end", "before"),
    [
        # Twelve whole days with twelve whole days, over a clock change as well.
        (local(2025, 4, 1), local(2025, 4, 13), Period(local(2025, 3, 1), local(2025, 3, 13))),
        (local(2025, 4, 10), local(2025, 4, 22), Period(local(2025, 3, 10), local(2025, 3, 22))),
        # To the same time of day.
        (local(2025, 3, 6), local(2025, 3, 12, 14, 5), Period(local(2025, 2, 6), local(2025, 2, 12, 14, 5))),
        # The month before was shorter: it ends where this one begins.
        (local(2025, 3, 1), local(2025, 4, 1), Period(local(2025, 2, 1), local(2025, 3, 1))),
        (local(2025, 3, 31), local(2025, 4, 15), Period(local(2025, 2, 28), local(2025, 3, 15))),
        # Longer than a cycle: as many whole ones earlier as it touches.
        (local(2025, 1, 1), local(2025, 3, 13), Period(local(2024, 10, 1), local(2024, 12, 11))),
    ],
)
def test_the_last_cycle_is_the_same_days_whole_months_earlier(first: datetime, end: datetime, before: Period) -> None:
    assert periods.last_cycle(Period(first, end), BERLIN) == before


@pytest.mark.parametrize(
    ("choice", "named", "period", "name"),
    [
        ("previous", "today", Period(local(2025, 3, 12), UNTIL.end), "yesterday"),
        ("previous", "28d", Period(local(2025, 2, 13), UNTIL.end), "previous 28 days"),
        ("previous", "custom", Period(local(2025, 3, 1), local(2025, 3, 4)), "previous period"),
        ("previous", "cycle", Period(local(2025, 3, 1), UNTIL.end), "last cycle"),
        ("cycle", "28d", Period(local(2025, 2, 13), UNTIL.end), "last cycle"),
        ("cycle", "90d", Period(local(2024, 12, 13), UNTIL.end), "3 cycles before"),
    ],
)
def test_a_comparison_is_called_by_what_it_is(choice: str, named: str, period: Period, name: str) -> None:
    assert periods.compare_name(choice, period, named, BERLIN) == name


def test_a_cycle_is_told_in_words_with_the_share_that_began_with_it() -> None:
    began = date(2025, 3, 1)
    few, all_of_them, one, none = (
        plain(periods.cycle_in_words(running))
        for running in (Running(200, began, 30), Running(9, began, 9), Running(1, began, 1), None)
    )
    assert few == "the middle one of 200 running cycles began on 1 Mar 2025, 15.0 % of them within a day of it"
    assert all_of_them == "all 9 running cycles began within a day of 1 Mar 2025"
    assert one == "the one running cycle began on 1 Mar 2025"
    assert none == "no cycle runs with these filters, so this is the calendar month"


def test_only_cycles_need_to_be_explained() -> None:
    assert periods.meaning("previous", "28d") is periods.meaning("none", "custom") is None
    assert "middle one" in (this := periods.meaning("none", "cycle") or "")
    assert "Last cycle" not in this
    assert (periods.meaning("cycle", "7d") or "").startswith("**Last cycle**")
    assert all(name in (periods.meaning("previous", "cycle") or "") for name in ("This cycle", "Last cycle"))
