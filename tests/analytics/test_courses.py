"""Several metrics' courses asked at once are what each would have been by itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pandas as pd
import pytest

from credit_core.analytics.filters import Filters, Period
from credit_core.analytics.metrics import METRICS
from credit_core.analytics.queries.courses import courses
from credit_core.analytics.queries.series import daily
from credit_core.analytics.sync import Facts
from tests.analytics.ledgers import START

BEFORE_AND_AFTER = Filters(Period(START - timedelta(days=2), START + timedelta(days=16)))
MIDDLE = Filters(Period(START + timedelta(days=2, hours=7), START + timedelta(days=9, minutes=13)))


@pytest.mark.parametrize(
    "filters", [BEFORE_AND_AFTER, replace(MIDDLE, plans=("free", "premium")), replace(MIDDLE, plans=("no such plan",))]
)
def test_each_course_is_the_metric_by_day(facts: Facts, filters: Filters) -> None:
    found = courses(facts, filters, list(METRICS))
    assert list(found) == ["day", *METRICS]
    for slug in METRICS:
        alone = daily(facts, filters, slug)
        pd.testing.assert_series_equal(found["day"], alone["day"], check_dtype=False)
        pd.testing.assert_series_equal(found[slug], alone["value"].astype("float64"), check_names=False, rtol=1e-12)


def test_the_order_asked_in_is_the_order_told_in(facts: Facts) -> None:
    asked = ["provider_cost", "requests", "latency_p95_ms"]
    assert list(courses(facts, MIDDLE, asked)) == ["day", *asked]
