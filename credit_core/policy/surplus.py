"""How far an account is ahead of its pace (SPEC 4)."""

from __future__ import annotations


def on_pace(quota: float, cycle_days: float, days_left: float) -> float:
    """Balance that spends ``quota`` evenly to the end of the cycle: N = Q·d/L, credits."""
    return quota * days_left / cycle_days


def surplus(balance: float, quota: float, cycle_days: float, days_left: float) -> float:
    """S = A − N, credits: positive is ahead (credits to spare), negative is behind."""
    return balance - on_pace(quota, cycle_days, days_left)


def surplus_days(surplus_credits: float, quota: float, cycle_days: float) -> float:
    """S·L/Q: the surplus in days of even spending."""
    return surplus_credits * cycle_days / quota
