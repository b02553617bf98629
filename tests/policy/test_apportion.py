"""Shares of a team's quota: exact, in proportion, and the same whoever works them out (SPEC 2.2)."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from credit_core.policy.controller import SURPLUS_UNITS
from credit_core.policy.cycles import apportion, cycle_start, number_at
from credit_core.policy.decision import decide
from credit_core.policy.strategies import STRATEGIES
from tests.policy.states import REQUEST, account, with_changes

QUOTAS = st.integers(0, 10**15)
WEIGHTS = st.dictionaries(st.text("abcdef", min_size=1, max_size=4), st.integers(1, 1_000_000), max_size=30)


@pytest.mark.parametrize(
    ("quota_uc", "weights", "shares"),
    [
        (10, {"ada": 1, "bob": 1, "eve": 1}, {"ada": 4, "bob": 3, "eve": 3}),
        (11, {"eve": 1, "bob": 1, "ada": 1}, {"ada": 4, "bob": 4, "eve": 3}),
        (10, {"ada": 1, "bob": 6}, {"ada": 1, "bob": 9}),
        (3, {"ada": 1, "bob": 2, "eve": 3}, {"ada": 1, "bob": 1, "eve": 1}),
        (200_000_000, {"ada": 3, "bob": 1}, {"ada": 150_000_000, "bob": 50_000_000}),
        (200_000_000, {"a": 1, "b": 1, "c": 1}, {"a": 66_666_667, "b": 66_666_667, "c": 66_666_666}),
        (1, {"ada": 1, "bob": 1}, {"ada": 1, "bob": 0}),
        (0, {"ada": 1}, {"ada": 0}),
        (7, {"ada": 5}, {"ada": 7}),
        (7, {"ada": 0}, {}),
        (7, {}, {}),
    ],
)
def test_the_largest_remainders_get_what_rounding_leaves(
    quota_uc: int, weights: dict[str, int], shares: dict[str, int]
) -> None:
    assert apportion(quota_uc, weights) == shares


@given(QUOTAS, WEIGHTS)
def test_shares_add_up_and_each_is_within_one_of_its_exact_proportion(quota_uc: int, weights: dict[str, int]) -> None:
    shares = apportion(quota_uc, weights)
    assert sum(shares.values()) == (quota_uc if weights else 0)
    assert shares.keys() == weights.keys()
    for name, share in shares.items():
        assert abs(share - Fraction(quota_uc * weights[name], sum(weights.values()))) < 1


@given(QUOTAS, WEIGHTS)
def test_a_larger_weight_never_gets_less(quota_uc: int, weights: dict[str, int]) -> None:
    shares = apportion(quota_uc, weights)
    by_weight = sorted(weights, key=lambda name: (weights[name], shares[name]))
    assert [shares[name] for name in by_weight] == sorted(shares.values())


@given(QUOTAS, WEIGHTS, st.randoms(use_true_random=False))
def test_the_order_in_which_members_are_named_does_not_matter(quota_uc: int, weights: dict[str, int], random) -> None:  # type: ignore[no-untyped-def]
    names = list(weights)
    random.shuffle(names)
    assert apportion(quota_uc, {name: weights[name] for name in names}) == apportion(quota_uc, weights)


# ------------------------------------------------------------------------------------------------------------- calendar


@given(
    st.dates(date(2020, 1, 1), date(2030, 12, 31)),
    st.sampled_from(["UTC", "Europe/Berlin", "America/Sao_Paulo", "Pacific/Apia", "Asia/Kathmandu"]),
    st.integers(0, 120),
    st.floats(0, 1, exclude_max=True),
)
def test_every_instant_lies_in_one_cycle(anchor: date, zone_name: str, number: int, part: float) -> None:
    zone = ZoneInfo(zone_name)
    start, end = cycle_start(anchor, zone, number), cycle_start(anchor, zone, number + 1)
    assert number_at(anchor, zone, start) == number
    assert number_at(anchor, zone, end - timedelta(microseconds=1)) == number
    assert number_at(anchor, zone, min(start + (end - start) * part, end - timedelta(microseconds=1))) == number


def test_before_the_anchor_numbers_are_negative() -> None:
    assert number_at(date(2025, 3, 31), ZoneInfo("UTC"), datetime(2025, 3, 30, 23, 59, tzinfo=UTC)) == -1


# ------------------------------------------------------------------------------------------------------- without a quota


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("unit", SURPLUS_UNITS)
def test_without_a_quota_the_balance_alone_decides(strategy: str, unit: str) -> None:
    config = with_changes({"controller.strategy": strategy, "controller.surplus_unit": unit})
    bought = decide(account(0, Q=0, all_lots=5, session_opening=5), REQUEST, config, 0.999)
    assert (bought.status, bought.rule, bought.mode, bought.surplus_days) == ("RESERVED", "at_cap", "steady", 0.0)
    empty = decide(account(0, Q=0), REQUEST, config, 0.0)
    assert (empty.status, empty.rule, empty.mode) == ("LIBRARY", "unaffordable", "steady")
