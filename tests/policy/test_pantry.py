"""The pantry queue's order: demand × (threshold − coverage) (SPEC 4.1)."""

from __future__ import annotations

import pytest

from credit_core.policy.pantry import missing, score


@pytest.mark.parametrize(
    ("demand", "coverage", "threshold", "expected"),
    [(4.0, 0.25, 0.5, 1.0), (4.0, 0.5, 0.5, 0.0), (4.0, 0.75, 0.5, 0.0), (0.0, 0.0, 0.5, 0.0), (0.5, 0.0, 0.25, 0.125)],
)
def test_a_score_is_demand_times_what_is_lacking(
    demand: float, coverage: float, threshold: float, expected: float
) -> None:
    assert score(demand, coverage, threshold) == expected


@pytest.mark.parametrize(
    ("assets", "target", "threshold", "expected"),
    [(0, 20, 0.15, 3), (8, 20, 0.65, 5), (13, 20, 0.65, 0), (30, 20, 0.65, 0), (0, 7, 0.5, 4), (0, 20, 0.0, 0)],
)
def test_what_is_missing_is_whole_assets_up_to_the_threshold(
    assets: int, target: int, threshold: float, expected: int
) -> None:
    assert missing(assets, target, threshold) == expected
