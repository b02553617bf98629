"""Teams on the read side: what they burn, their pace, and what each filter of them keeps."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace

import pytest

from credit_core import CreditCore
from credit_core.analytics import queries
from credit_core.analytics.filters import Filters, Period
from credit_core.analytics.sync import Facts
from credit_core.policy.cycles import first_instant
from credit_core.units import checked_zone
from tests.service.scenes import NOW, ask

START = first_instant(NOW.date(), checked_zone("UTC"))
DAY = timedelta(days=1)
WEEK = Filters(Period(START, START + 7 * DAY))


@pytest.fixture
def facts(fresh_core: CreditCore, ledger_url: str, copied: Callable[..., Facts]) -> Facts:
    """A pool (ada, bob), an apportioned team (eve, zoe) and sam alone; the first letter's number is what each spends."""
    fresh_core.add_team("p", "basic", "pooled", at=NOW)
    fresh_core.add_team("s", "premium", "apportioned", at=NOW)
    fresh_core.add_members("p", {"ada": 1, "bob": 1}, at=NOW)
    fresh_core.add_members("s", {"eve": 1, "zoe": 2}, at=NOW)
    fresh_core.add_user("sam", "basic", at=NOW)
    for user, images in (("ada", 1), ("bob", 2), ("eve", 4), ("zoe", 8), ("sam", 16)):
        ask(fresh_core, user=user, images=images)
        fresh_core.settle(user, "r-1", at=NOW)
    return copied(SimpleNamespace(url=ledger_url))


def test_burn_can_be_broken_down_by_team(facts: Facts) -> None:
    frame = queries.top_movers(facts, WEEK, "team_id")
    assert dict(zip(frame["team_id"], frame["spent_credits"], strict=True)) == {"s": 12.0, "p": 3.0}
    assert queries.options(facts).teams == ("p", "s")


@pytest.mark.parametrize(
    ("teams", "spent", "pace", "accounts"),
    [
        (("p",), 3.0, 200.0, {"team:p"}),
        (("s",), 12.0, 600.0, {"user:eve", "user:zoe"}),
        (("p", "s"), 15.0, 800.0, {"team:p", "user:eve", "user:zoe"}),
        ((), 31.0, 1_000.0, {"team:p", "user:eve", "user:zoe", "user:sam"}),
        (("nobody",), 0.0, 0.0, set()),
    ],
)
def test_a_team_filter_keeps_its_entries_its_pool_and_its_members_accounts(
    facts: Facts, teams: tuple[str, ...], spent: float, pace: float, accounts: set[str]
) -> None:
    kept = WEEK.narrowed(teams=teams)
    month = kept.narrowed(period=Period(START, START + 31 * DAY))
    frame = queries.burn_against_pace(facts, month)
    assert frame["spent_credits"].sum() == spent
    assert frame["pace_credits"].sum() == pytest.approx(pace)
    assert set(queries.burn_by_account(facts, kept)["account_id"]) == accounts
    assert set(queries.surplus_now(facts, kept)["account_id"]) == accounts


def test_a_members_timeline_leaves_out_what_other_members_did(facts: Facts, fresh_core: CreditCore) -> None:
    frame = queries.user_timeline(fresh_core.deployment.ledger.engine, "bob", "UTC")
    assert frame["kind"].to_list() == ["settle", "reserve", "grant"]
    assert frame["available_credits"].to_list() == [197.0, 197.0, 200.0]
    assert "user_id" not in frame
