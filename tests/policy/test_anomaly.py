"""The anomaly flag: more in an hour than three times the usual (SPEC 3)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from credit_core.policy.anomaly import HISTORY, hour_of, is_anomaly, most

HOUR = datetime(2025, 3, 10, 12, tzinfo=UTC)


def history(hours: int, each: int = 2) -> list[datetime]:
    return [HOUR - timedelta(hours=h + 1) + timedelta(minutes=5 * n) for h in range(hours) for n in range(each)]


def test_an_hour_is_the_clocks_in_utc() -> None:
    assert hour_of(datetime.fromisoformat("2025-03-10T18:14:59+05:45")) == HOUR
    assert hour_of(HOUR + timedelta(minutes=59, seconds=59)) == HOUR


def test_the_most_is_three_times_the_mean_of_the_active_hours() -> None:
    assert most(history(24), HOUR, 3.0, 24) == 6.0
    # Idle hours between active ones do not count, and neither does the running hour.
    spread = [HOUR - timedelta(hours=6 * n + 1) for n in range(27)] + [HOUR - timedelta(hours=1)] * 26
    assert most([*spread, HOUR, HOUR], HOUR, 3.0, 24) == 3.0 * 53 / 27


def test_a_history_of_fewer_active_hours_explains_nothing() -> None:
    assert most(history(23), HOUR, 3.0, 24) is None
    assert most([], HOUR, 3.0, 1) is None


def test_what_is_older_than_seven_days_is_forgotten() -> None:
    edge = HOUR - HISTORY
    assert most([*history(23), edge], HOUR, 3.0, 24) == 3.0 * 47 / 24
    assert most([*history(23), edge - timedelta(microseconds=1)], HOUR, 3.0, 24) is None


@pytest.mark.parametrize(
    ("fresh", "most_fresh", "flagged"),
    [(10, 9.9, True), (10, 10.0, False), (9, 1.0, False), (11, 10.0, True), (99, None, False)],
)
def test_an_anomaly_is_more_than_the_most_and_at_least_ten(fresh: int, most_fresh: float | None, flagged: bool) -> None:
    assert is_anomaly(fresh, most_fresh, 10) is flagged
