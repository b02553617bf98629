"""Amounts, instants and identifiers: SPEC 1."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from credit_core import units
from credit_core.errors import CreditError, InvalidAmount, InvalidInstant, InvalidRequest

# ------------------------------------------------------------------------------------------------------------ amounts


@pytest.mark.parametrize(
    ("credits", "amount_uc"),
    [
        (1, 1_000_000),
        (0, 0),
        (-2, -2_000_000),
        (0.1, 100_000),
        (0.29, 290_000),
        ("0.000001", 1),
        (Decimal("12.345678"), 12_345_678),
        (Fraction(1, 3), 333_333),
        (Fraction(2, 3), 666_667),
        (1e-9, 0),
        (4.35, 4_350_000),
    ],
)
def test_credits_become_micro_credits(credits: units.Number | str, amount_uc: int) -> None:
    assert units.credits_to_uc(credits) == amount_uc
    assert units.dollars_to_usd_micro(credits) == amount_uc


@pytest.mark.parametrize(
    ("credits", "amount_uc"),
    [
        ("0.0000005", 0),
        ("0.0000015", 2),
        ("0.0000025", 2),
        ("0.0000035", 4),
        ("-0.0000005", 0),
        ("-0.0000015", -2),
        ("-0.0000025", -2),
        ("0.00000250000001", 3),
        ("0.00000249999999", 2),
        (2.5e-6, 2),
        (Decimal("3.5e-6"), 4),
        (Fraction(5, 2_000_000), 2),
    ],
)
def test_halves_go_to_the_even_micro_credit(credits: units.Number | str, amount_uc: int) -> None:
    assert units.credits_to_uc(credits) == amount_uc


def test_a_float_means_the_decimal_that_it_is_written_as() -> None:
    # In binary, 1.0000005 is a little less: the half would be lost before it was rounded.
    assert units.credits_to_uc(1.0000005) == units.credits_to_uc("1.0000005") == 1_000_000
    assert units.credits_to_uc(1.0000015) == units.credits_to_uc("1.0000015") == 1_000_002


def test_a_float_of_numpy_is_a_float() -> None:
    assert units.credits_to_uc(np.float64(0.5)) == 500_000


@pytest.mark.parametrize(
    "credits",
    [
        *(float("nan"), float("inf"), float("-inf"), Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity")),
        *("nan", "inf", "", "three", "1,5", "0x10", None, [], {}, 1j, b"1"),
    ],
)
def test_what_is_not_a_finite_number_is_refused(credits: object) -> None:
    with pytest.raises(InvalidAmount, match="credits must be a"):
        units.credits_to_uc(credits)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "credits", [9_000_000_001, -9_000_000_001, 1e300, "1e30", Decimal("1e30"), 2**63, "9000000000.000001"]
)
def test_an_amount_beyond_the_largest_is_refused(credits: units.Number | str) -> None:
    with pytest.raises(InvalidAmount, match="credits must lie within"):
        units.credits_to_uc(credits)


def test_the_largest_amount_is_accepted_with_either_sign() -> None:
    assert units.credits_to_uc(9_000_000_000) == units.MAX_AMOUNT
    assert units.credits_to_uc(-9_000_000_000) == -units.MAX_AMOUNT


def test_a_thousand_largest_amounts_fit_a_64_bit_column() -> None:
    assert 1_000 * units.MAX_AMOUNT < 2**63


@pytest.mark.parametrize("number", [10**5_000, -(10**5_000)], ids=["large", "small"])
def test_a_number_of_five_thousand_digits_is_refused_like_any_other_that_is_too_large(number: int) -> None:
    with pytest.raises(InvalidAmount):
        units.credits_to_uc(number)
    with pytest.raises(InvalidAmount):
        units.checked_uc(number)


@pytest.mark.parametrize("text", ["1e4000000", "-1e4000000", "1e-4000000"])
def test_a_giant_exponent_is_judged_without_writing_the_number_out(text: str) -> None:
    began = time.process_time()
    try:
        assert units.credits_to_uc(text) == 0
    except InvalidAmount:
        assert "e-" not in text
    assert time.process_time() - began < 0.1


def test_dollars_are_named_in_the_message() -> None:
    with pytest.raises(InvalidAmount, match="dollars must be"):
        units.dollars_to_usd_micro("cheap")


@settings(max_examples=200, deadline=None)
@given(st.integers(-(10**15), 10**15))
def test_micro_credits_survive_being_written_as_credits(amount_uc: int) -> None:
    assert units.credits_to_uc(Decimal(amount_uc).scaleb(-6)) == amount_uc
    assert units.credits_to_uc(Fraction(amount_uc, 10**6)) == amount_uc
    assert units.credits_to_uc(units.uc_to_credits(amount_uc)) == amount_uc


@settings(max_examples=200, deadline=None)
@given(st.fractions(-(10**6), 10**6, max_denominator=10**9))
def test_an_amount_is_off_by_half_a_micro_credit_at_most(credits: Fraction) -> None:
    assert abs(units.credits_to_uc(credits) - credits * 10**6) <= Fraction(1, 2)


@pytest.mark.parametrize(
    ("value", "rounded"),
    [("1/2", 0), ("3/2", 2), ("5/2", 2), ("-1/2", 0), ("-3/2", -2), ("7/3", 2), ("8/3", 3), ("5000001/2", 2_500_000)],
)
def test_round_half_even_breaks_ties_to_the_even(value: str, rounded: int) -> None:
    assert units.round_half_even(Fraction(value)) == rounded


@pytest.mark.parametrize(
    ("value", "divisor", "rounded"),
    [(5, 2, 2), (7, 2, 4), (-5, 2, -2), (10**18 + 1, 2, 5 * 10**17), (10**18 + 3, 2, 5 * 10**17 + 2), (9, 3, 3)],
)
def test_a_quotient_is_rounded_exactly_however_large(value: int, divisor: int, rounded: int) -> None:
    assert units.round_half_even(value, divisor) == rounded


def test_uc_to_credits_is_for_display() -> None:
    assert units.uc_to_credits(12_345_678) == 12.345678
    assert isinstance(units.uc_to_credits(1_000_000), float)


@pytest.mark.parametrize("amount", [0, 1, units.MAX_AMOUNT])
def test_a_whole_amount_in_range_is_accepted(amount: int) -> None:
    assert units.checked_uc(amount) == amount


@pytest.mark.parametrize("amount", [True, False, 1.0, 1.5, float("nan"), "1", None, Decimal(1), Fraction(1)])
def test_an_amount_that_is_not_an_integer_is_refused(amount: object) -> None:
    with pytest.raises(InvalidAmount, match=r"actual_uc must be a whole number .* credits_to_uc"):
        units.checked_uc(amount, "actual_uc")


@pytest.mark.parametrize("amount", [-1, units.MAX_AMOUNT + 1, 2**63])
def test_an_amount_out_of_range_is_refused(amount: int) -> None:
    with pytest.raises(InvalidAmount, match="must lie between 0 and"):
        units.checked_uc(amount)


def test_the_least_amount_can_be_set() -> None:
    assert units.checked_uc(-5, minimum=-5) == -5
    with pytest.raises(InvalidAmount, match="between 1 and"):
        units.checked_uc(0, minimum=1)


def test_bad_amounts_and_instants_are_bad_requests() -> None:
    assert issubclass(InvalidAmount, InvalidRequest)
    assert issubclass(InvalidInstant, InvalidRequest)
    assert issubclass(InvalidRequest, CreditError)
    assert issubclass(InvalidRequest, ValueError)


# ----------------------------------------------------------------------------------------------------- amounts, shown


@pytest.mark.parametrize(
    ("amount_uc", "shown"),
    [
        (None, "–"),
        (0, "0"),
        (1_000_000, "1"),
        (1_284_500_000, "1\u2009284.5"),
        (1_234_567_000_000, "1\u2009234\u2009567"),
        (999_950_000, "1\u2009000"),
        (250_000, "0.2"),
        (350_000, "0.4"),
        (49_999, "0"),
        (-49_999, "0"),
        (-1_500_000, "\u22121.5"),
        (-1_284_500_000, "\u22121\u2009284.5"),
        (12_300_000, "12.3"),
        (100_000_000, "100"),
    ],
)
def test_credits_are_shown_with_thin_separators_and_at_most_one_decimal(amount_uc: int | None, shown: str) -> None:
    assert units.format_credits(amount_uc) == shown


# ----------------------------------------------------------------------------------------------------------- instants


class Undecided(tzinfo):
    """A zone that does not know its own offset."""

    def utcoffset(self, _: datetime | None) -> None:
        return None

    def dst(self, _: datetime | None) -> None:
        return None

    def tzname(self, _: datetime | None) -> str:
        return "?"


NAIVE = datetime.fromisoformat("2024-05-01T12:00:00")


@pytest.mark.parametrize("at", [NAIVE, NAIVE.replace(tzinfo=Undecided())], ids=["naive", "zone without an offset"])
def test_a_naive_instant_is_refused(at: datetime) -> None:
    with pytest.raises(InvalidInstant, match="expires_at must be timezone-aware"):
        units.checked_instant(at, "expires_at")
    with pytest.raises(InvalidInstant):
        units.to_us(at)


@pytest.mark.parametrize("at", ["2024-05-01T12:00:00Z", 1_714_564_800, None, NAIVE.date()])
def test_what_is_not_a_datetime_is_no_instant(at: object) -> None:
    with pytest.raises(InvalidInstant, match="at must be an aware datetime"):
        units.checked_instant(at)


def test_an_instant_comes_back_in_utc() -> None:
    at = datetime(2024, 7, 1, 2, 0, tzinfo=ZoneInfo("Europe/Berlin"))
    checked = units.checked_instant(at)
    assert checked == at
    assert checked.tzinfo is UTC
    assert checked.hour == 0


def test_the_repeated_hour_of_a_clock_change_is_two_instants() -> None:
    first = datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))
    assert units.to_us(first.replace(fold=1)) - units.to_us(first) == 3_600 * 10**6


@pytest.mark.parametrize(
    ("text", "us"),
    [
        ("1970-01-01T00:00:00+00:00", 0),
        ("1970-01-01T00:00:00.000001+00:00", 1),
        ("1969-12-31T23:59:59.999999+00:00", -1),
        ("2024-02-29T12:00:00+05:45", 1_709_187_300_000_000),
        ("2262-04-11T23:47:16.854775+00:00", 9_223_372_036_854_775),
    ],
)
def test_instants_are_stored_as_microseconds_since_1970(text: str, us: int) -> None:
    assert units.to_us(datetime.fromisoformat(text)) == us
    assert units.from_us(us) == datetime.fromisoformat(text)


@settings(max_examples=200, deadline=None)
@given(
    st.datetimes(
        datetime(1900, 1, 1),  # noqa: DTZ001 - Hypothesis wants the ends naive
        datetime(2300, 1, 1),  # noqa: DTZ001
        timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=45)), ZoneInfo("America/St_Johns")]),
    )
)
def test_an_instant_survives_storage_to_the_microsecond(at: datetime) -> None:
    assert units.from_us(units.to_us(at)) == at.astimezone(UTC)
    assert units.from_us(units.to_us(at)).tzinfo is UTC


def test_a_day_is_86_400_seconds() -> None:
    assert (units.DAY_S, units.DAY_US, units.MICRO) == (86_400.0, 86_400_000_000, 1_000_000)


# -------------------------------------------------------------------------------------------------------------- texts


@pytest.mark.parametrize(
    ("value", "checked"),
    [
        ("u1", "u1"),
        ("u", "u"),
        ("  u1\n", "u1"),
        ("x" * 128, "x" * 128),
        (" " + "x" * 128 + " ", "x" * 128),
        ("Zoë 🦊 a/b", "Zoë 🦊 a/b"),
    ],
    ids=["plain", "one character", "trimmed", "longest", "longest once trimmed", "any script"],
)
def test_an_id_is_printable_text_and_is_trimmed(value: str, checked: str) -> None:
    assert units.checked_id(value, "user_id") == checked


@pytest.mark.parametrize(
    "value",
    ["", "   ", "\n", "x" * 129, "a\nb", "a\tb", "a\x00b", "a\u200bb", "a\u202eb", "\ud800", None, 7, b"u1", ["u1"]],
    ids=repr,
)
def test_an_id_that_is_empty_too_long_unprintable_or_not_text_is_refused(value: object) -> None:
    with pytest.raises(InvalidRequest, match=r"user_id must be .*1 to 128 printable characters"):
        units.checked_id(value, "user_id")


def test_a_message_about_a_long_id_is_not_long_itself() -> None:
    with pytest.raises(InvalidRequest) as caught:
        units.checked_id("x" * 100_000, "user_id")
    assert len(str(caught.value)) < 300


def test_free_text_is_trimmed_and_may_have_a_thousand_characters() -> None:
    assert units.checked_text("  a fox in the snow \n", "text") == "a fox in the snow"
    assert units.checked_text(" " + "x" * 1_000 + " ", "text") == "x" * 1_000
    assert units.checked_text("", "text") == ""


def test_free_text_over_its_limit_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="text must be at most 1000 characters after trimming, got 1001"):
        units.checked_text("x" * 1_001, "text")
    with pytest.raises(InvalidRequest, match="note must be at most 10 "):
        units.checked_text("x" * 11, "note", limit=10)


@pytest.mark.parametrize("character", ["\x00", "\x07", "\x1b", "\x7f", "\x85", "\ud800"], ids=ascii)
def test_control_characters_in_free_text_are_refused(character: str) -> None:
    with pytest.raises(InvalidRequest, match="text must not contain control characters"):
        units.checked_text(f"a{character}b", "text")


@pytest.mark.parametrize("value", [None, 7, b"a fox"])
def test_free_text_is_text(value: object) -> None:
    with pytest.raises(InvalidRequest, match="text must be text"):
        units.checked_text(value, "text")


@pytest.mark.parametrize("name", ["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/Argentina/Buenos_Aires"])
def test_an_iana_zone_is_found_by_its_name(name: str) -> None:
    assert units.checked_zone(name).key == name


@pytest.mark.parametrize(
    "name",
    ["", "Mars/Olympus", "Europe", "../../etc/passwd", "/etc/passwd", "a\x00b", "x" * 5_000, "UTC+25", None, 1],
    ids=ascii,
)
def test_what_is_not_an_iana_zone_is_refused(name: object) -> None:
    with pytest.raises(InvalidRequest, match="is not an IANA time zone"):
        units.checked_zone(name)


# -------------------------------------------------------------------------------------------------------- spreadsheets


@pytest.mark.parametrize(
    "formula",
    [
        '=HYPERLINK("http://evil")', "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1", "\uff1d1", "\u00a0=1", " \t1",
        "\u3000\uff0d1",
    ],
    ids=ascii,
)  # fmt: skip
def test_a_cell_that_a_spreadsheet_would_calculate_gets_an_apostrophe(formula: str) -> None:
    assert units.spreadsheet_text(formula) == "'" + formula
    assert pc.match_substring_regex(pa.scalar(formula), units.FORMULA).as_py(), "Arrow sees it as Python does"


@pytest.mark.parametrize("plain", ["u-17", "a=b", "", "3 + 4", " x", "\u00e9=1", -5, 1.5, None])
def test_other_cells_pass_unchanged(plain: object) -> None:
    assert units.spreadsheet_text(plain) == plain
    if isinstance(plain, str):
        assert not pc.match_substring_regex(pa.scalar(plain), units.FORMULA).as_py()
