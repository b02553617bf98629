"""Leaky bucket (SPEC 3, Limits and hygiene)."""

from __future__ import annotations

from typing import NamedTuple


class Bucket(NamedTuple):
    """Level of a user's bucket after a request, and how long to wait where it was refused."""

    level: float
    retry_after_s: float


def leak(level: float, elapsed_s: float, capacity: float, leak_per_minute: float) -> Bucket:
    """Pour one request into the bucket. Refused where it would overflow: ``retry_after_s`` > 0 and nothing is poured."""
    drained = max(0.0, level - max(0.0, elapsed_s) * leak_per_minute / 60.0)
    if drained + 1.0 > capacity:
        return Bucket(drained, (drained + 1.0 - capacity) * 60.0 / leak_per_minute)
    return Bucket(drained + 1.0, 0.0)


def cool_down(since_s: float | None, seconds: float) -> float:
    """Seconds still to wait ``since_s`` seconds after the last fresh one; None is never. A clock behind waits at most once."""
    return 0.0 if since_s is None else min(max(seconds - since_s, 0.0), seconds)
