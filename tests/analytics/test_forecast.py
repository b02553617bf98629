"""The fan against numpy's own least squares and against what came after; unusual days against their rule, day by day."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student

from credit_core.analytics import trend
from credit_core.analytics.filters import Filters, Period
from credit_core.analytics.queries.forecast import burn_forecast, unusual_days
from credit_core.analytics.sync import Facts
from tests.analytics.ledgers import CREDIT, START, Ledger

Copy = Callable[..., Facts]
DAY = timedelta(days=1)


def week(days: int, first: int = 1) -> list[int]:
    return [(first + day - 1) % 7 + 1 for day in range(days)]


def test_without_noise_the_fan_is_the_trend_and_the_weekday_exactly() -> None:
    weekdays = week(40)
    values = [100.0 + 2 * place + 10 * weekday for place, weekday in enumerate(weekdays)]
    found = trend.fan(values[:28], weekdays[:28], weekdays[28:])
    assert found is not None
    assert found.middle == pytest.approx(np.cumsum(values[28:]))
    assert found.outer_low == pytest.approx(found.outer_high, abs=1e-6)


def test_the_interval_is_students_t_over_the_sum() -> None:
    chance = random.Random(3)
    weekdays = week(28)
    values = [50 + chance.gauss(0, 5) for _ in weekdays]
    ahead = [1, 2, 3]
    found = trend.fan(values, weekdays, ahead)
    assert found is not None
    x = np.array([[place, *(float(day == one) for one in range(1, 8))] for place, day in enumerate(weekdays)])
    beta, residual, rank, _ = np.linalg.lstsq(x, np.array(values), rcond=None)
    new = np.array([[28 + n, *(float(day == one) for one in range(1, 8))] for n, day in enumerate(ahead)]).sum(axis=0)
    sigma = math.sqrt(residual[0] / (28 - rank))
    spread = sigma * math.sqrt(new @ np.linalg.inv(x.T @ x) @ new + 3)
    assert found.middle[-1] == pytest.approx(new @ beta)
    assert found.outer_high[-1] - found.middle[-1] == pytest.approx(student.ppf(0.95, 20) * spread)
    assert found.middle[-1] - found.inner_low[-1] == pytest.approx(student.ppf(0.75, 20) * spread)


def test_nine_of_ten_outcomes_lie_in_the_outer_fan() -> None:
    chance = np.random.default_rng(11)
    weekdays = week(58)
    held = 0
    for _ in range(400):
        values = 80 + 0.5 * np.arange(58) + 6 * np.array(weekdays) + chance.normal(0, 9, 58)
        found = trend.fan(list(values[:28]), weekdays[:28], weekdays[28:])
        assert found is not None
        held += found.outer_low[-1] <= values[28:].sum() <= found.outer_high[-1]
    assert held / 400 == pytest.approx(0.9, abs=0.04)


def test_gaps_are_left_out_few_days_say_nothing_and_sums_never_fall() -> None:
    nan = float("nan")
    assert trend.fan([1.0] * 13 + [nan] * 15, week(28), week(3)) is None
    found = trend.fan([5.0, nan, *[5.0] * 20], week(22), week(2))
    assert found is not None
    assert found.middle == pytest.approx([5.0, 10.0])
    falling = trend.fan([float(28 - n) for n in range(28)], week(28), week(20))
    assert falling is not None
    assert (np.diff(falling.middle) >= 0).all()
    assert (falling.outer_low >= 0).all()


def plainly_unusual(values: list[float]) -> dict[int, float]:
    """The rule, written out."""
    away = {}
    for place in range(14, len(values)):
        same = [values[place - 7 * n] for n in range(1, 5) if place - 7 * n >= 0]
        if len(same) >= 2 and values[place] > 0:
            away[place] = math.log(values[place] / statistics.median(same))
    centre = statistics.median(away.values())
    scale = max(statistics.median(abs(one - centre) for one in away.values()), 0.05 * 0.6745)
    scores = {place: 0.6745 * (one - centre) / scale for place, one in away.items()}
    return {place: score for place, score in scores.items() if abs(score) > 3.5}


def test_unusual_days_are_those_of_the_rule() -> None:
    chance = random.Random(9)
    values = [
        (60 + 8 * weekday) * (1 + 0.01 * place) * chance.lognormvariate(0, 0.07)
        for place, weekday in enumerate(week(70))
    ]
    values[50] *= 2.5
    values[61] /= 3
    found = trend.unusual(values, first=28)
    assert {one.place: one.score for one in found} == pytest.approx(
        {k: v for k, v in plainly_unusual(values).items() if k >= 28}
    )
    assert [one.place for one in found if one.score > 0] == [50]
    assert 61 in [one.place for one in found if one.score < 0]


def test_a_steady_course_has_no_unusual_day_and_a_silent_one_is_one() -> None:
    assert trend.unusual([10.0 + 0.1 * (place % 3) for place in range(60)]) == []
    silent = [10.0] * 50 + [0.0] + [10.0] * 9
    assert [(one.place, one.score) for one in trend.unusual(silent)] == [(50, -math.inf)]
    assert trend.unusual([10.0] * 20) == []


@pytest.fixture
def two_months(ledger: Ledger, copied: Copy) -> Facts:
    """One account that spends three credits a day, on weekends five, for 44 days and some hours; 20 on the 40th."""
    ledger.account("a", "premium", days=60)
    ledger.grant("a", START, credits=600)
    for day in range(45):
        weekend = (START + day * DAY).isoweekday() > 5
        amount = 20 if day == 40 else 5 if weekend else 3
        at = START + day * DAY + timedelta(hours=3)
        ledger.fresh("a", f"r-{day}", at, ("monthly", amount * CREDIT))
    return copied(ledger.write())


def test_the_burn_is_foreseen_to_the_end_of_the_running_cycles(two_months: Facts) -> None:
    newest = START + 44 * DAY + timedelta(hours=4)
    found = burn_forecast(two_months, Filters(Period(START + 30 * DAY, newest)))
    assert found is not None
    assert (found.since, found.until, found.cycles_end) == (date(2025, 4, 13), date(2025, 4, 30), True)
    assert list(found.sums["day"]) == list(pd.date_range("2025-04-13", "2025-04-30"))
    # 31 March to 13 April: ten weekdays of 3, one of them 20, and four weekend days of 5.
    begun = found.sums.iloc[0]
    assert (begun["middle"], begun["outer_low"]) == (9 * 3 + 20 + 4 * 5, 9 * 3 + 20 + 4 * 5)
    assert begun["pace"] == pytest.approx(14 * 10)
    assert found.sums["pace"].iloc[-1] == pytest.approx((14 + 17) * 10)
    assert found.sums["middle"].is_monotonic_increasing
    last = found.sums.iloc[-1]
    assert last["outer_low"] < last["inner_low"] < last["middle"] < last["inner_high"] < last["outer_high"]


def test_a_period_that_is_over_has_no_forecast(two_months: Facts, ledger: Ledger, copied: Copy) -> None:
    assert burn_forecast(two_months, Filters(Period(START, START + 30 * DAY))) is None
    nobody = burn_forecast(two_months, Filters(Period(START, START + 60 * DAY), plans=("free",)))
    assert nobody is not None
    assert not nobody.cycles_end
    assert nobody.sums["outer_high"].max() == 0.0


def test_the_day_that_was_not_as_usual_is_told_with_its_usual_value(two_months: Facts) -> None:
    frame = unusual_days(two_months, Filters(Period(START + 30 * DAY, START + 45 * DAY)))
    assert frame["day"].to_list() == [pd.Timestamp("2025-04-10")]
    assert (frame["value"].iloc[0], frame["usual"].iloc[0]) == (20.0, 3.0)
    assert frame["score"].iloc[0] > 3.5
    assert unusual_days(two_months, Filters(Period(START + 41 * DAY, START + 45 * DAY))).empty
