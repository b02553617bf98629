"""The sentence that tells support why a request got what it got."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from credit_core.policy import quotas
from credit_core.policy.decision import Allowance, State, decide
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


NOON = datetime(2025, 3, 10, 12, tzinfo=UTC)


def counted(name: str, limit: int, used: int, images: int = 1, policy: str = "plan_credits", cost: int = 0) -> str:
    allowance = Allowance(name, limit, used, NOON + timedelta(hours=9, minutes=30))
    state = State("studio", 5_000_000, 0, 0, 31.0, 9.0, policy=policy, cost_uc=cost, allowance=allowance)
    return sentence(quotas.decide(state, REQUEST._replace(images=images), "m", NOON, 0.5))


@pytest.mark.parametrize(
    ("told_of", "words"),
    [
        (("day", 5, 3), "Fresh for nothing: 3 of 5 generations were used today before it, so 1 is left."),
        (("month", 80, 1), "Fresh for nothing: 1 of 80 generations was used this cycle before it, so 78 are left."),
        (("free", 50, 49), "49 of 50 generations were used this cycle by free models before it, so none are left."),
        (("session", 1, 0), "none of 1 generation were used by this session in its window before it"),
        (("ip", 3, 0), "none of 3 generations were used from this address in its window before it, so 2 are left."),
    ],
)
def test_what_a_count_allowed_is_told_with_what_is_left(told_of: tuple[str, int, int], words: str) -> None:
    assert words in counted(*told_of)


def test_a_plan_that_counts_alone_is_told_without_a_price_and_one_that_charges_with_it() -> None:
    assert counted("day", 5, 3, policy="daily_count").startswith("Fresh: 3 of 5")
    assert counted("day", 5, 3, cost=1_000_000).startswith("Fresh for 1 credit: 3 of 5")


@pytest.mark.parametrize(
    ("used", "images", "words"),
    [
        (5, 1, "5 of 5 generations were used today. The count resets at 2025-03-10 21:30 UTC; ask again then"),
        (4, 2, "4 of 5 generations were used today. 1 at once would still do. The count resets at"),
        (3, 6, "Refused: 3 of 5 generations were used today. 2 at once would still do."),
        (5, 6, "Refused: 5 of 5 generations were used today. Another plan would help."),
    ],
)
def test_what_a_count_refused_is_told_with_what_would_help(used: int, images: int, words: str) -> None:
    assert words in counted("day", 5, used, images)


@pytest.mark.parametrize(("retry_after_s", "wait"), [(0.25, "1 s"), (1.25, "2 s"), (2.0, "2 s")])
def test_a_wait_is_never_told_shorter_than_it_is(retry_after_s: float, wait: str) -> None:
    assert f"in {wait}," in told(account(retry_after_s=retry_after_s))
