"""The sentence that tells support why a request got what it got."""

from __future__ import annotations

import pytest

from credit_core.policy.decision import State, decide
from credit_core.policy.words import sentence
from tests.policy.states import REQUEST, SHIPPED, account, cell


def told(state: State, u01: float = 0.5) -> str:
    return sentence(decide(state, REQUEST, SHIPPED, u01))


@pytest.mark.parametrize(
    ("state", "beginning", "figures"),
    [
        (account(blocked=True), "Refused: the user is blocked", []),
        (account(retry_after_s=2.0), "Refused: too many requests", ["2 s", "new request id"]),
        (account(paused=True), "Refused: the account is paused", []),
        (account(2, d=0, cost=5), "Library: ", ["costs 5 credits", "only 2 credits"]),
        (account(0, d=0), "Library: ", ["costs 1 credit,", "only 0 credits"]),
        (account(**cell(0.25)), "Fresh, without a draw", ["25.0 %", "50.0 %", "basic"]),
        (account(**cell(0.9, 0.4, under_represented=True)), "Fresh, without a draw", ["40.0 %"]),
        (account(session_fresh=12, session_cost=12, session_opening=90), "Library now", ["12 fresh", "90 credits"]),
        (account(588), "Fresh, without a draw", ["588 credits"]),
    ],
)
def test_a_rule_that_answered_is_told_with_its_figures(state: State, beginning: str, figures: list[str]) -> None:
    text = told(state)
    assert text.startswith(beginning)
    for figure in figures:
        assert figure in text


@pytest.mark.parametrize(
    ("state", "u01", "beginning", "figures"),
    [
        (account(), 0.25, "Fresh: the account was on pace", ["60.0 %", "25.0 %, under it"]),
        (account(), 0.75, "Library: the account was on pace", ["60.0 %", "75.0 %, not under it"]),
        (account(110), 0.25, "Fresh: the account was 1.5 days ahead of pace", ["25.0 %, under it"]),
        (account(90), 0.75, "Library: the account was 1.5 days behind pace", ["75.0 %, not under it"]),
    ],
)
def test_a_draw_is_told_with_pace_chance_and_draw(state: State, u01: float, beginning: str, figures: list[str]) -> None:
    text = told(state, u01)
    assert text.startswith(beginning)
    for figure in figures:
        assert figure in text


@pytest.mark.parametrize(("retry_after_s", "wait"), [(0.25, "1 s"), (1.25, "2 s"), (2.0, "2 s")])
def test_a_wait_is_never_told_shorter_than_it_is(retry_after_s: float, wait: str) -> None:
    assert f"in {wait}," in told(account(retry_after_s=retry_after_s))
