"""The anomaly flag at work: flagged, or stopped by a challenge until somebody clears it (SPEC 3)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from credit_core import CreditCore, Decision
from credit_core.errors import NotFound
from tests.service.scenes import NOW, ask, entries, everything, make_live, scalar

HOUR = timedelta(hours=1)
LIMITS = {"limits.cool_down_s": 0.0, "limits.bucket_capacity": 10_000.0}


def lived(core: CreditCore, hours: int = 24, each: int = 1, **limits: Any) -> CreditCore:
    """Ada, with ``each`` fresh ones in each of the ``hours`` clock hours before noon of 10 March."""
    make_live(core, LIMITS | {f"limits.{name}": value for name, value in limits.items()})
    core.add_user("ada", "daily_premium", at=NOW - 8 * 24 * HOUR)
    for hour in range(hours, 0, -1):
        for n in range(each):
            ask(core, f"h-{hour}-{n}", at=NOW - hour * HOUR + timedelta(minutes=n))
    return core


def burst(core: CreditCore, count: int, at: datetime = NOW, name: str = "b") -> list[Decision]:
    return [ask(core, f"{name}-{n}", at=at + timedelta(seconds=n)) for n in range(count)]


def flagged(core: CreditCore) -> list[bool]:
    return [row["anomaly"] is True for row in entries(core) if row["kind"] == "reserve"]


def user(core: CreditCore, column: str) -> Any:
    return scalar(core, f"SELECT {column} FROM users WHERE user_id = 'ada'")


def test_the_tenth_fresh_one_of_an_hour_is_an_anomaly_after_a_quiet_day(core: CreditCore) -> None:
    lived(core)
    assert {answer.status for answer in burst(core, 12)} == {"RESERVED"}
    assert flagged(core) == [False] * (24 + 9) + [True] * 3
    assert (user(core, "flag_reason"), user(core, "challenged_at")) == ("anomaly", None)
    assert core.verify() == []


def test_an_hour_is_judged_by_more_than_three_times_the_mean_of_the_active_ones(core: CreditCore) -> None:
    lived(core, each=4)
    burst(core, 13)
    assert flagged(core)[-2:] == [False, True]  # 12 = 3 × 4 is not more than it
    # The next hour begins anew, and its mean has the burst in it: 3 × (24 · 4 + 13)/25 = 13.08.
    burst(core, 14, NOW + HOUR, "c")
    assert flagged(core)[-3:] == [False, False, True]


@pytest.mark.parametrize("hours", [0, 23])
def test_a_history_of_under_24_active_hours_flags_nobody(core: CreditCore, hours: int) -> None:
    lived(core, hours)
    burst(core, 30)
    assert not any(flagged(core))
    assert user(core, "flagged_at") is None


def test_a_history_of_more_than_a_week_ago_is_forgotten(core: CreditCore) -> None:
    lived(core)
    burst(core, 12, NOW + 7 * 24 * HOUR)
    assert not any(flagged(core))


def test_nobody_is_watched_while_limits_are_off(core: CreditCore) -> None:
    lived(core, enabled=False)
    burst(core, 15)
    assert not any(flagged(core))


def test_a_user_who_is_stopped_waits_for_the_challenge_and_then_goes_on(core: CreditCore) -> None:
    lived(core, anomaly_effect="block")
    answers = burst(core, 11)
    assert [answer.rule for answer in answers] == ["allowed"] * 10 + ["blocked"]
    assert (answers[-1].status, answers[-1].http_status) == ("REJECTED", 403)
    assert user(core, "challenged_at") is not None
    assert ask(core, "later", at=NOW + 5 * HOUR).rule == "blocked"
    core.clear_challenge("ada")
    assert (user(core, "challenged_at"), user(core, "flag_reason")) == (None, "anomaly")
    # The same hour asks no second time, and the refused stay refused.
    assert {answer.rule for answer in burst(core, 9, NOW + timedelta(minutes=9), "c")} == {"allowed"}
    assert ask(core, "b-10", at=NOW + timedelta(seconds=10)).replayed
    explained = core.explain("ada", "b-10")
    assert explained.exact, explained.differences
    assert explained.sentence == "Refused: the user is blocked until the open challenge is cleared."
    assert core.verify() == []


def test_clearing_what_is_not_open_changes_nothing_and_nobody_is_nobody(core: CreditCore) -> None:
    lived(core, 1)
    before = everything(core)
    core.clear_challenge("ada")
    assert everything(core) == before
    with pytest.raises(NotFound, match="'bob'"):
        core.clear_challenge("bob")


def test_titrated_users_are_watched_by_their_fresh_ones_alone(fresh_core: CreditCore) -> None:
    make_live(fresh_core, LIMITS | {"limits.enabled": True})
    fresh_core.add_user("ada", "premium", at=NOW - 8 * 24 * HOUR)
    for hour in range(24, 0, -1):
        ask(fresh_core, f"h-{hour}", at=NOW - hour * HOUR)
    answers = burst(fresh_core, 12)
    assert [answer.status for answer in answers] == ["RESERVED"] * 12
    ask(fresh_core, "library", images=1_000, at=NOW)
    assert flagged(fresh_core) == [False] * 33 + [True] * 3
    assert fresh_core.explain("ada", "b-11").exact
    assert fresh_core.verify() == []
