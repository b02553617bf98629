"""Coverage, health and the two caps, each at its edges: SPEC 4 and 4.1."""

from __future__ import annotations

import pytest

from credit_core.policy.guardrails import at_cap, coverage, health, over_session_cap


@pytest.mark.parametrize(("assets", "covered"), [(0, 0.0), (1, 0.05), (10, 0.5), (20, 1.0), (21, 1.0), (1_000, 1.0)])
def test_coverage_is_the_share_of_the_target_and_never_over_1(assets: int, covered: float) -> None:
    assert coverage(assets, 20) == covered


@pytest.mark.parametrize(
    ("assets", "stale", "value"), [(20, 0, 1.0), (20, 5, 0.75), (10, 5, 0.25), (40, 10, 0.75), (7, 7, 0.0)]
)
def test_health_is_coverage_times_the_share_of_young_assets(assets: int, stale: int, value: float) -> None:
    assert health(assets, stale, 20) == value


def test_an_empty_cell_has_no_health() -> None:
    assert health(0, 0, 20) == 0.0


@pytest.mark.parametrize(("given", "capped"), [(0, False), (11, False), (12, True), (13, True)])
def test_a_session_is_capped_from_the_twelfth_fresh_one_on(given: int, capped: bool) -> None:
    assert over_session_cap(given, 0.0, 1.0, 100.0, 12, 0.5) is capped


@pytest.mark.parametrize(("spent", "capped"), [(0.0, False), (49.0, False), (49.000001, True), (50.0, True)])
def test_a_session_is_capped_over_half_of_its_opening_balance_this_request_included(spent: float, capped: bool) -> None:
    assert over_session_cap(1, spent, 1.0, 100.0, 12, 0.5) is capped


@pytest.mark.parametrize(("spent", "cost", "capped"), [(0.0, 8.0, False), (0.5, 8.0, True), (1.0, 4.0, False)])
def test_a_session_may_always_spend_what_one_request_costs(spent: float, cost: float, capped: bool) -> None:
    assert over_session_cap(1, spent, cost, 10.0, 12, 0.5) is capped


@pytest.mark.parametrize(("balance", "full"), [(587.999999, False), (588.0, True), (600.0, True), (0.0, False)])
def test_an_account_is_at_its_cap_from_98_percent_on(balance: float, full: bool) -> None:
    assert at_cap(balance, 600.0, 0.98) is full
