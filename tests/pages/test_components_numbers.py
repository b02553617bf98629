"""Numbers, durations, instants and changes as people read them."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

from pages.components import numbers
from pages.components.numbers import Change

N = "\u202f"
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("amount_uc", "written"),
    [
        (1_284_500_000, f"1{N}284.5"),
        (200_000_000, "200"),
        (1_050_000, "1"),
        (1_150_000, "1.2"),
        (-3_500_000, "−3.5"),
        (40_000, "0"),
        (-40_000, "0"),
        (0, "0"),
        (9_000_000_000_000_000, f"9{N}000{N}000{N}000"),
        (None, "–"),
        (math.nan, "–"),
    ],
)
def test_credits_have_thin_separators_and_at_most_one_decimal(amount_uc: int | None, written: str) -> None:
    assert numbers.credits(amount_uc) == written


@pytest.mark.parametrize(
    ("amount", "written"),
    [(1_284_500_000, f"$1{N}284.50"), (-80_000, "−$0.08"), (4_999, "$0.00"), (None, "–")],
)
def test_money_has_two_decimals(amount: int | None, written: str) -> None:
    assert numbers.money(amount) == written


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf, pd.NA, pd.NaT, np.float64("nan")])
def test_whatever_stands_for_a_missing_value_is_unknown(value: object) -> None:
    assert numbers.is_unknown(value)


@pytest.mark.parametrize("value", [0, 0.0, False, "", "text", np.int64(0), pd.Timestamp("2025-03-01")])
def test_what_is_there_is_known(value: object) -> None:
    assert not numbers.is_unknown(value)


@pytest.mark.parametrize(
    ("value", "metric_format", "written"),
    [
        (420_726.75, "dollars", f"$420{N}727"),
        (-420_726.2, "dollars", f"\N{MINUS SIGN}$420{N}726"),
        (99_999.5, "dollars", f"$99{N}999.50"),
        (None, "dollars", "–"),
        (1_848_875, "count", f"1{N}848{N}875"),
    ],
)
def test_a_card_leaves_cents_out_of_large_amounts(value: float | None, metric_format: str, written: str) -> None:
    assert numbers.headline(value, metric_format) == written


def test_a_missing_integer_is_written_as_unknown() -> None:
    missing = pd.Series([1, None], dtype="Int64").iloc[1]

    written = [numbers.count(missing), numbers.credits(missing), numbers.share(missing), numbers.duration(missing)]
    assert written == [numbers.UNKNOWN] * 4
    assert numbers.change(missing, 1.0) == numbers.NO_CHANGE


def test_a_share_has_one_decimal_and_zero_is_not_unknown() -> None:
    assert [numbers.share(v) for v in (0.1234, 0.0, 1.0, None, math.nan)] == [
        f"12.3{N}%",
        f"0.0{N}%",
        f"100.0{N}%",
        "–",
        "–",
    ]


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0, f"0{N}s"),
        (0.34, f"340{N}ms"),
        (4.24, f"4.2{N}s"),
        (59, f"59{N}s"),
        (720, f"12{N}min"),
        (26 * 3600, f"26{N}h"),
        (3 * 86_400, f"3{N}days"),
        (28 * 86_400, f"4{N}weeks"),
        (400 * 86_400, f"13{N}months"),
        (1_000 * 86_400, f"3{N}years"),
        (-720, f"−12{N}min"),
        (None, "–"),
    ],
)
def test_a_duration_is_in_the_unit_a_person_would_say(seconds: float | None, written: str) -> None:
    assert numbers.duration(seconds) == written


def test_instants_are_shown_in_the_reporting_zone() -> None:
    at = datetime(2025, 3, 3, 23, 30, tzinfo=UTC)
    assert numbers.instant(at, BERLIN) == "4 Mar 2025, 00:30".replace(" ", "\u00a0")
    assert numbers.day(at, BERLIN) == "4 Mar 2025".replace(" ", "\u00a0")
    assert numbers.day(date(2025, 3, 4)) == "4 Mar 2025".replace(" ", "\u00a0")
    assert numbers.instant(None, BERLIN) == "–"


def test_a_day_of_an_instant_needs_a_zone() -> None:
    with pytest.raises(ValueError, match="reporting zone"):
        numbers.day(datetime(2025, 3, 3, tzinfo=UTC))


def test_how_long_ago() -> None:
    now = datetime(2025, 3, 3, 12, tzinfo=UTC)
    assert numbers.ago(now - timedelta(seconds=1), now) == "just now"
    assert numbers.ago(now - timedelta(seconds=8), now) == f"8{N}s ago"
    assert numbers.ago(now - timedelta(minutes=4), now) == f"4{N}min ago"


@pytest.mark.parametrize(
    ("now", "before", "better", "expected"),
    [
        (112.0, 100.0, "up", Change(f"+12.0{N}%", "good", "up")),
        (112.0, 100.0, "down", Change(f"+12.0{N}%", "bad", "up")),
        (88.0, 100.0, "down", Change(f"−12.0{N}%", "good", "down")),
        (88.0, 100.0, "neutral", Change(f"−12.0{N}%", "neutral", "down")),
        (100.0, 100.0, "up", Change("no change", "neutral", "level")),
        (5_000.0, 100.0, "up", Change(f"×{N}50", "good", "up")),
        (-50.0, -100.0, "up", Change(f"+50.0{N}%", "good", "up")),
    ],
)
def test_a_change_carries_its_meaning(now: float, before: float, better: numbers.Better, expected: Change) -> None:
    assert numbers.change(now, before, better=better) == expected


@pytest.mark.parametrize(("now", "before"), [(None, 1.0), (1.0, None), (1.0, 0.0), (math.nan, 1.0)])
def test_a_change_against_nothing_is_unknown(now: float | None, before: float | None) -> None:
    assert numbers.change(now, before).text == "–"


def test_shares_change_in_points() -> None:
    assert numbers.points(0.062, 0.05, better="down") == Change(f"+1.2{N}points", "bad", "up")
    assert numbers.points(0.0501, 0.05).direction == "level"
    assert numbers.points(0.05, None).text == "–"


def test_a_difference_keeps_its_own_unit() -> None:
    assert numbers.difference(2.4, 2.0, numbers.days, better="up").text == f"+0.4{N}days"
    assert numbers.difference(0.04, 0.052, numbers.duration, better="down") == Change(f"−12{N}ms", "good", "down")


@pytest.mark.parametrize("moved_s", [0.0, 0.0004, -0.0004])
def test_a_difference_that_its_unit_cannot_tell_is_none(moved_s: float) -> None:
    changed = numbers.difference(1.0 + moved_s, 1.0, numbers.duration, better="down")

    assert changed == Change("no change", "neutral", "level")


def test_money_on_a_card_has_no_cents_from_a_hundred_thousand_on() -> None:
    written = [numbers.money_headline(amount) for amount in (None, 99_999_990_000, 420_726_204_000)]

    assert written == ["–", f"$99{N}999.99", f"$420{N}726"]


def test_a_metric_is_written_by_its_format() -> None:
    written = {f: numbers.metric(1234.5, f) for f in ("credits", "dollars", "count", "ms")}
    assert written == {
        "credits": f"1{N}234.5",
        "dollars": f"$1{N}234.50",
        "count": f"1{N}234",
        "ms": f"1.2{N}s",
    }
    assert numbers.metric(0.5, "share") == f"50.0{N}%"
    assert numbers.metric(3, "days") == f"+3.0{N}days"


def test_things_are_counted_in_the_singular_and_the_plural() -> None:
    assert [numbers.counted(n, "entry") for n in (0, 1, 2_000, None)] == [
        f"0{N}entries",
        f"1{N}entry",
        f"2{N}000{N}entries",
        "–",
    ]
