"""Base probabilities of the other strategies of SPEC 4, behind the interface of the logistic one. Scalars only."""

from __future__ import annotations

from credit_core.policy.controller import EDGE

LOGISTIC, AFFORDABLE, RESERVE, WEIGHTED, ZONES, NOVELTY, THOMPSON, HEADROOM = range(8)
STRATEGIES = ("logistic", "affordable", "reserve", "weighted", "zones", "novelty", "thompson", "headroom")


def affordable(gamma: float, balance: float, rate: float, days_left: float) -> float:
    """min(1, γ·A/(λ·d)): what is left over what will be asked for; 1 where nothing more will be."""
    expected = rate * days_left
    return 1.0 if expected <= 0.0 else min(1.0, max(0.0, gamma * balance / expected))


def reserve(rho: float, balance: float, cost: float, on_pace: float) -> float:
    """1 while A − cost ≥ ρ·Q·d/L, else 0: a floor that the balance is kept above."""
    return 1.0 if balance - cost >= rho * on_pace - EDGE else 0.0


def headroom(
    rho: float, requests: float, most: float, until: float,
    balance: float, cost: float, on_pace: float, quota: float, largest: float, share_left: float,
) -> float:  # fmt: skip
    """:func:`reserve` with a floor that learns: room for ``requests`` of the account's largest request, at most ``most`` of Q.

    The room is given up in the last ``until`` of the cycle. ``largest``: cost of the largest request asked in the running
    cycle, this one included; ``share_left`` is d/L (docs/decisions/0007-headroom.md).
    """
    floor = rho * on_pace
    if share_left > until:
        floor = max(floor, min(requests * largest, most * quota))
    return 1.0 if balance - cost >= floor - EDGE else 0.0


def weighted(
    w_surplus: float, w_freshness: float, w_credit: float, w_need: float,
    surplus: float, quota: float, freshness: float, credit: float, need: float,
) -> float:  # fmt: skip
    """Weighted mean of surplus, freshness, credit health and library need; surplus x = clip(0.5 + S/(2Q), 0, 1)."""
    ahead = min(max(0.5 + surplus / (2.0 * quota), 0.0), 1.0)
    total = w_surplus + w_freshness + w_credit + w_need
    return (w_surplus * ahead + w_freshness * freshness + w_credit * credit + w_need * need) / total


def zones(balance: float, quota: float, green: float, red: float, p_yellow: float, p_red: float) -> float:
    """A/Q over ``green``: 1; from ``red`` on: ``p_yellow``; below: ``p_red``."""
    level = balance / quota
    if level > green + EDGE:
        return 1.0
    return p_yellow if level >= red - EDGE else p_red
