"""The readout of a staged release: who enters it, and its figures against the ledger's own entries counted in plain Python."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest

from credit_core import CreditCore
from credit_core.analytics.queries.arms import Window
from credit_core.analytics.queries.readout import Readout, readout
from credit_core.analytics.sync import Facts
from credit_core.policy import inference
from credit_core.policy.inference import Sample
from credit_core.service import configure, releases, staging
from credit_core.service.deployment import arm_of
from tests.service.scenes import FRESH_FOR_ALL, NOW, StoppedClock, ask
from tests.service.stages import USERS, begin

DAY = timedelta(days=1)
DECIDED = ("unaffordable", "coverage_miss", "session_cap", "at_cap", "controller")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[CreditCore, Facts, Window, dict[str, str]]]:
    """Thirty users who asked for five days, then half of them under a thriftier version for nine; three came late."""
    url = f"sqlite:///{tmp_path_factory.mktemp('readout') / 'ledger.db'}"
    clock = StoppedClock(NOW)
    with CreditCore.open(url, clock=clock) as core, pytest.MonkeyPatch.context() as patch:
        patch.setattr(releases.secrets, "token_hex", lambda size: "5a" * size)
        core.release_version(core.propose({"limits.enabled": False}, "olga", ""), author="olga")
        for user in USERS:
            core.add_user(user, "basic", at=NOW)
        days(core, clock, 5, USERS)
        found = begin(core, core.propose(FRESH_FOR_ALL, "olga", "Generous"), guardrails=())
        rollout = configure.versions_and_releases(core.deployment)[2]
        days(core, clock, 6, USERS[:-3])
        days(core, clock, 3, USERS)
        assert found.started_at is not None
        window = Window(found.steps_after[0], found.plan.version, found.plan.base_version, found.started_at)
        facts = Facts.open(url)
        facts.follow()
        yield core, facts, window, {user: arm_of(f"user:{user}", rollout) for user in USERS}
        facts.close()


def days(core: CreditCore, clock: StoppedClock, count: int, users: tuple[str, ...]) -> None:
    """A few requests a day of each user, more of those with a higher number; every fresh one is settled."""
    core.config()
    for _ in range(count):
        for number, user in enumerate(users):
            for nth in range(1 + number % 2):
                decision = ask(core, f"{clock.now:%j}-{nth}", user=user, at=clock.now)
                if decision.fresh:
                    core.settle(user, decision.request_id, at=clock.now)
                if number % 3:
                    core.reward(user, decision.request_id, worth(number, nth, decision.fresh), at=clock.now)
        clock.advance(days=1)


def worth(number: int, nth: int, fresh: bool) -> float:
    """What somebody thinks of an image: everybody a little else, and fresh ones better."""
    return 0.1 * (number % 5) + 0.1 * nth + 0.4 * fresh


def compared(told: Any, now: datetime, ended_at: datetime | None = None) -> Readout:
    _, facts, window, _ = told
    return readout(facts, window, ended_at, now)


def plainly(told: Any, first: datetime, last: datetime, users: list[str]) -> Sample:
    """Fresh and all decisions of each user over [first, last), from their histories."""
    rows = [
        [
            row
            for row in told[0].history(user, limit=1_000)
            if first <= row["occurred_at"] < last and row["rule"] in DECIDED
        ]
        for user in users
    ]
    above = [sum(row["outcome"] == "fresh" for row in mine) for mine in rows]
    return Sample(np.array(above, float), np.array([len(mine) for mine in rows], float))


def test_accounts_enter_when_their_seven_days_are_complete(told: Any) -> None:
    start, arms = told[2].started_at, told[3]
    late = [arms[user] for user in USERS[-3:]]
    many = tuple(sum(arm == name for arm in arms.values()) for name in ("treatment", "control"))
    without_late = tuple(n - late.count(name) for n, name in zip(many, ("treatment", "control"), strict=True))
    found = compared(told, start + 7 * DAY).enrolment
    assert (found.exposed, found.complete, found.next_at) == (many, without_late, start + 13 * DAY)
    assert compared(told, start + 7 * DAY - timedelta(seconds=1)).enrolment.complete == (0, 0)
    assert compared(told, start + 13 * DAY).enrolment == (many, many, None)


def test_an_account_whose_days_were_cut_off_by_the_end_never_enters(told: Any) -> None:
    start = told[2].started_at
    found = compared(told, start + 30 * DAY, ended_at=start + 7 * DAY)
    assert sum(found.enrolment.complete) == len(USERS) - 3
    assert found.enrolment.next_at is None
    assert sum(compared(told, start + 30 * DAY, ended_at=start + 6 * DAY).enrolment.complete) == 0


def test_before_anybody_is_complete_everything_is_unknown(told: Any) -> None:
    frame = compared(told, told[2].started_at + DAY).frame
    assert frame[["treatment", "control", "difference", "low", "high", "lift", "explained"]].isna().all(axis=None)


def test_the_fresh_rate_is_that_of_the_entries_with_the_days_before_taken_out(told: Any) -> None:
    start, arms = told[2].started_at, told[3]
    row = compared(told, start + 8 * DAY).frame.set_index("slug").loc["fresh_rate"]
    users = [[user for user in USERS[:-3] if arms[user] == name] for name in ("treatment", "control")]
    after = [plainly(told, start, start + 7 * DAY, side) for side in users]
    before = [plainly(told, start - 28 * DAY, start, side) for side in users]
    assert (row["treatment"], row["control"]) == pytest.approx((after[0].ratio, after[1].ratio), rel=1e-12)
    plain = inference.difference(after[0], after[1])
    adjusted = inference.cuped((after[0], before[0]), (after[1], before[1]))
    assert plain is not None
    assert adjusted is not None
    used = adjusted[0] if adjusted[0].se < plain.se else plain
    assert row["difference"] == pytest.approx(used.difference, rel=1e-9)
    assert (row["low"], row["high"]) == pytest.approx(tuple(inference.sequential_interval(used)), rel=1e-9)
    assert row["difference"] > 0.0


def rewarded(told: Any, first: datetime, last: datetime, users: list[str]) -> Sample:
    """Rewards of each user's requests over [first, last) and how many there were, from their histories."""
    found = []
    for user in users:
        number = USERS.index(user)
        asked = [
            r for r in told[0].history(user, limit=1_000) if r["rule"] is not None and first <= r["occurred_at"] < last
        ]
        values = [worth(number, int(r["request_id"][-1]), r["outcome"] == "fresh") for r in asked if number % 3]
        found.append((sum(values), len(values)))
    above, below = np.array(found, float).T
    return Sample(above, below)


def test_the_mean_reward_is_compared_where_rewards_were_logged_with_the_days_before_taken_out(told: Any) -> None:
    start, arms = told[2].started_at, told[3]
    row = compared(told, start + 8 * DAY).frame.set_index("slug").loc["reward_mean"]
    users = [[user for user in USERS[:-3] if arms[user] == name] for name in ("treatment", "control")]
    after = [rewarded(told, start, start + 7 * DAY, side) for side in users]
    before = [rewarded(told, start - 28 * DAY, start, side) for side in users]
    assert (row["treatment"], row["control"]) == pytest.approx((after[0].ratio, after[1].ratio), rel=1e-12)
    plain = inference.difference(after[0], after[1])
    adjusted = inference.cuped((after[0], before[0]), (after[1], before[1]))
    assert plain is not None
    assert adjusted is not None
    assert adjusted[0].se < plain.se, "people differ in taste, which the days before explain"
    assert row["difference"] == pytest.approx(adjusted[0].difference, rel=1e-9)
    assert (row["low"], row["high"]) == pytest.approx(tuple(inference.sequential_interval(adjusted[0])), rel=1e-9)
    assert (row["title"], row["format"], row["direction"]) == ("Mean reward", "share", "up")


def test_amounts_are_per_account_in_the_unit_that_is_shown(told: Any) -> None:
    start, arms = told[2].started_at, told[3]
    frame = compared(told, start + 8 * DAY).frame.set_index("slug")
    for column, arm in (("treatment", "treatment"), ("control", "control")):
        users = [user for user in USERS[:-3] if arms[user] == arm]
        rows = [
            row
            for user in users
            for row in told[0].history(user, limit=1_000)
            if start <= row["occurred_at"] < start + 7 * DAY
        ]
        spent = sum(-(row["d_avail_uc"] + row["d_held_uc"]) for row in rows if row["kind"] == "settle")
        cost = sum(row["cost_usd_micro"] or 0 for row in rows)
        asked = sum(row["rule"] is not None for row in rows)
        wanted = (asked / len(users), spent / 1e6 / len(users), cost / 1e6 / len(users))
        found = tuple(frame.loc[["requests", "spent", "provider_cost"], column])
        assert found == pytest.approx(wanted, rel=1e-12)
    assert staging.staged(told[0].deployment)[0].open
