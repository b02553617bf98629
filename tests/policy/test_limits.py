"""The leaky bucket of SPEC 3: capacity 30, leaking 30 a minute."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from credit_core.policy.limits import Bucket, cool_down, leak


def test_thirty_requests_at_once_pass_and_the_next_waits_two_seconds() -> None:
    level = 0.0
    for sent in range(30):
        assert leak(level, 0.0, 30.0, 30.0) == Bucket(sent + 1.0, 0.0)
        level += 1.0
    assert leak(level, 0.0, 30.0, 30.0) == Bucket(30.0, 2.0)


def test_a_refused_request_is_not_poured() -> None:
    assert leak(30.0, 1.0, 30.0, 30.0) == Bucket(29.5, 1.0)


def test_after_the_wait_exactly_one_more_passes() -> None:
    assert leak(30.0, 2.0, 30.0, 30.0) == Bucket(30.0, 0.0)
    assert leak(30.0, 1.5, 30.0, 30.0) == Bucket(29.25, 0.5)


def test_a_minute_drains_thirty() -> None:
    assert leak(30.0, 60.0, 30.0, 30.0) == Bucket(1.0, 0.0)
    assert leak(30.0, 30.0, 30.0, 30.0) == Bucket(16.0, 0.0)


def test_a_bucket_does_not_drain_below_empty() -> None:
    assert leak(3.0, 86_400.0, 30.0, 30.0) == Bucket(1.0, 0.0)


def test_a_clock_that_went_back_drains_nothing() -> None:
    assert leak(5.0, -60.0, 30.0, 30.0) == Bucket(6.0, 0.0)


def test_a_steady_stream_at_the_leak_rate_always_passes() -> None:
    level = 0.0
    for _ in range(1_000):
        level, retry_after_s = leak(level, 2.0, 30.0, 30.0)
        assert retry_after_s == 0.0
    assert level == 1.0


def test_a_stream_twice_as_fast_is_refused_in_the_end() -> None:
    level, refusals = 0.0, 0
    for _ in range(200):
        level, retry_after_s = leak(level, 1.0, 30.0, 30.0)
        refusals += retry_after_s > 0.0
    assert refusals == 71  # the 59th fills the bucket; of the other 141 every second one passes


@pytest.mark.parametrize(
    ("capacity", "leak_per_minute", "retry_after_s"), [(1.0, 60.0, 1.0), (10.0, 6.0, 10.0), (5.0, 120.0, 0.5)]
)
def test_other_capacities_and_leaks(capacity: float, leak_per_minute: float, retry_after_s: float) -> None:
    assert leak(capacity, 0.0, capacity, leak_per_minute) == Bucket(capacity, retry_after_s)
    assert leak(capacity - 1.0, 0.0, capacity, leak_per_minute) == Bucket(capacity, 0.0)


@settings(max_examples=200, deadline=None)
@given(
    level=st.floats(0, 100),
    elapsed_s=st.floats(0, 600),
    capacity=st.sampled_from([1.0, 7.0, 30.0, 100.0]),
    per_minute=st.sampled_from([1.0, 7.0, 30.0, 600.0]),
)
def test_waiting_as_long_as_told_is_enough(level: float, elapsed_s: float, capacity: float, per_minute: float) -> None:
    first = leak(min(level, capacity), elapsed_s, capacity, per_minute)
    assert first.level <= capacity
    if first.retry_after_s > 0.0:
        told = math.ceil(first.retry_after_s * 1e6) / 1e6  # instants are whole microseconds
        assert leak(first.level, told, capacity, per_minute).retry_after_s == 0.0


@pytest.mark.parametrize(
    ("since_s", "wait_s"), [(None, 0.0), (0.0, 10.0), (2.5, 7.5), (9.75, 0.25), (10.0, 0.0), (99.0, 0.0), (-5.0, 10.0)]
)
def test_between_two_fresh_ones_lie_ten_seconds_and_a_clock_behind_waits_at_most_once(
    since_s: float | None, wait_s: float
) -> None:
    assert cool_down(since_s, 10.0) == wait_s
