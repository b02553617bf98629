"""Watching a staged release: what the arms did, and a breach that rolls back on its own, once (SPEC 5)."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from credit_core import CreditCore
from credit_core.policy.rollout import Arm, Figure, Guardrail, Step
from credit_core.service import configure, releases, staging, watch
from credit_core.service.deployment import arm_of
from tests.service.scenes import NOW, StoppedClock, ask, everything, make_live
from tests.service.stages import FLOOR, HALF, USERS, bad_candidate, begin, everybody_asks, many
from tests.service.together import together


@pytest.fixture(autouse=True)
def same_arms(monkeypatch: pytest.MonkeyPatch) -> None:
    """The salt of every experiment: whoever is in treatment is so in every run."""
    monkeypatch.setattr(releases.secrets, "token_hex", lambda size: "5a" * size)


def releases_of(core: CreditCore) -> list[Any]:
    return configure.versions_and_releases(core.deployment)[1]


def look(core: CreditCore) -> Any:
    (found,) = [each for each in staging.staged(core.deployment) if each.open]
    return watch.look_at(core.deployment, found, core.deployment.ledger.clock())


def arms_in_entries(core: CreditCore, *conditions: str) -> Counter[str]:
    """Accounts by the arm of their entries, told from histories."""
    found: Counter[str] = Counter()
    for user in USERS:
        for arm in {row["arm"] for row in core.history(user, limit=100) if row["rule"] in conditions}:
            found[arm] += 1
    return found


# ------------------------------------------------------------------------------------------------------------ rolled back


def test_a_breach_rolls_back_on_its_own_with_metric_value_bound_and_number(
    core: CreditCore, clock: StoppedClock
) -> None:
    version = bad_candidate(core)
    begin(core, version)
    arms = everybody_asks(core, clock)
    treated = many(arms, "treatment")
    assert treated + many(arms, "control") == len(USERS)
    clock.advance(minutes=5)
    (seen,) = watch.watch(core.deployment)
    reason = f"Guardrail breached: Fresh rate 0.0 %, at least 30.0 % allowed (n = {treated} accounts)"
    assert (seen.act, seen.version, seen.words) == ("roll_back", version, reason)
    last = releases_of(core)[-1]
    assert (last.version, last.arm, last.action, last.author, last.reason) == (
        2,
        "all",
        "rollback",
        watch.WATCHER,
        reason,
    )
    assert last.released_at == clock.now
    core.config()
    decided = ask(core, "after", user=USERS[0], at=clock.now)
    assert (decided.config_version, decided.outcome) == (2, "fresh")
    (ended,) = staging.staged(core.deployment)
    assert (ended.standing.status, ended.standing.reason) == ("rolled_back", reason)
    # What it saw stays, to be shown.
    (kept,) = staging.looks(core.deployment, ended.plan.rollout_id)
    assert kept.figures["fresh_rate"] == Figure(Arm(0.0, treated), Arm(1.0, len(USERS) - treated))
    assert watch.watch(core.deployment) == []


def test_of_many_watchers_one_rolls_back(core: CreditCore, clock: StoppedClock) -> None:
    bad_candidate(core)
    begin(core, 3)
    everybody_asks(core, clock)
    before = len(releases_of(core))
    seen = together(lambda _: watch.watch(core.deployment), range(6))
    acts = [one.act for each in seen for one in each]
    assert acts.count("roll_back") == 1
    assert set(acts) <= {"roll_back", "nothing"}
    assert len(releases_of(core)) == before + 1


def test_a_watcher_that_saw_what_is_over_does_nothing(
    core: CreditCore, clock: StoppedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad_candidate(core)
    found = begin(core, 3)
    everybody_asks(core, clock)
    look_at = watch.look_at

    def overtaken(*arguments: Any) -> Any:
        seen = look_at(*arguments)
        staging.hold(core.deployment, found.plan.rollout_id, author="mira", reason="Looking into it")
        monkeypatch.setattr(watch, "look_at", look_at)
        return seen

    monkeypatch.setattr(watch, "look_at", overtaken)
    (first,) = watch.watch(core.deployment)
    assert (first.act, first.words) == ("nothing", "Somebody else acted meanwhile.")
    # On hold it is watched all the same.
    assert watch.watch(core.deployment)[0].act == "roll_back"


def test_too_few_accounts_are_not_judged(core: CreditCore, clock: StoppedClock) -> None:
    bad_candidate(core)
    begin(core, 3, guardrails=[FLOOR._replace(least_n=len(USERS))])
    everybody_asks(core, clock)
    assert watch.watch(core.deployment)[0].act == "nothing"


# --------------------------------------------------------------------------------------------------------- paused, ramped


def test_a_signal_pauses_once_and_a_person_goes_on(core: CreditCore, clock: StoppedClock) -> None:
    bad_candidate(core)
    found = begin(core, 3, guardrails=[Guardrail("fresh_rate", "at_least", -0.1, least_n=5, action="pause")])
    arms = everybody_asks(core, clock)
    (seen,) = watch.watch(core.deployment)
    assert (seen.act, seen.words) == (
        "hold",
        "Paused: Fresh rate 0.0 % against 100.0 % of control, a difference of −100.0 points, at least −10.0 points allowed "
        f"(n = {many(arms, 'treatment')} accounts, {many(arms, 'control')} in control)",
    )
    assert watch.watch(core.deployment)[0].words == "On hold."
    staging.resume(core.deployment, found.plan.rollout_id, author="mira", reason="Wanted")
    assert watch.watch(core.deployment)[0].act == "nothing"
    assert configure.versions_and_releases(core.deployment)[2].treatment == 3


def test_the_next_step_comes_when_it_is_due(core: CreditCore, clock: StoppedClock) -> None:
    make_live(core, {"controller.k": 0.01})
    version = core.propose({"controller.k": 0.02}, "olga", "")
    begin(core, version, (Step(0.1, 3_600.0), Step(0.5, 60.0), Step(1.0, 0.0)), ())
    assert watch.watch(core.deployment)[0].act == "nothing"
    clock.advance(hours=1)
    assert watch.watch(core.deployment)[0][2:] == ("ramp", "Scheduled step to 50% of accounts")
    assert watch.watch(core.deployment)[0].act == "nothing"
    clock.advance(minutes=1)
    assert watch.watch(core.deployment)[0].words == "Scheduled step to everybody"
    assert configure.versions_and_releases(core.deployment)[2][:2] == (version, None)
    assert [one.author for one in releases_of(core)[2:]] == ["olga", watch.WATCHER, watch.WATCHER]
    assert watch.watch(core.deployment) == []


def test_of_many_watchers_one_ramps(core: CreditCore, clock: StoppedClock) -> None:
    make_live(core, {"controller.k": 0.01})
    begin(
        core, core.propose({"controller.k": 0.02}, "olga", ""), (Step(0.1, 60.0), Step(0.2, 60.0), Step(0.3, 60.0)), ()
    )
    clock.advance(minutes=1)
    acts = [each[0].act for each in together(lambda _: watch.watch(core.deployment), range(6))]
    assert acts.count("ramp") == 1
    assert configure.versions_and_releases(core.deployment)[2].share == 0.2


def test_nobody_gets_everything_before_it_was_judged(core: CreditCore, clock: StoppedClock) -> None:
    make_live(core, {"controller.k": 0.01})
    begin(core, core.propose({"controller.k": 0.02}, "olga", ""))
    clock.advance(hours=2)
    (seen,) = watch.watch(core.deployment)
    assert seen.act == "hold"
    assert "too few accounts to judge Fresh rate: not known yet (n = 0 accounts)" in seen.words


def test_arms_of_the_wrong_sizes_pause_the_schedule(
    core: CreditCore, clock: StoppedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad_candidate(core)
    begin(core, 3, guardrails=())
    core.config()
    rollout = configure.versions_and_releases(core.deployment)[2]
    # Somebody's client loses every request of the control arm.
    for user in USERS:
        if arm_of(f"user:{user}", rollout) == "treatment":
            ask(core, "r", user=user, at=clock.now)
    (seen,) = watch.watch(core.deployment)
    assert seen.act == "hold"
    assert "the arms are not of the sizes that were drawn (χ² test, p = " in seen.words
    assert staging.staged(core.deployment)[0].events[-1].signals == ("srm",)


# -------------------------------------------------------------------------------------------------------------- figures


def test_figures_are_those_of_the_entries_of_each_arm(core: CreditCore, clock: StoppedClock) -> None:
    bad_candidate(core)
    every = (
        "fresh_rate", "fresh_rate_chosen", "coverage_miss_rate", "run_out_share", "unaffordable_share", "idle_library_share",
        "session_capped_share", "flicker", "failure_rate", "partial_rate", "refund_rate", "behind_share", "at_cap_share",
        "cost_per_account", "reward_mean",
    )  # fmt: skip
    # An earlier release of the same version to the same arms: nothing of it may count.
    begin(core, 3, guardrails=())
    everybody_asks(core, clock, "earlier")
    core.roll_back("mira", "Once more, from the start")
    begin(core, 3, guardrails=[Guardrail(name, "at_most", 9.0, least_n=1, action="pause") for name in every])
    everybody_asks(core, clock, "first")
    arms = everybody_asks(core, clock, "second", images=300)
    control = [user for user in USERS if arms[user] == "control"]
    treated = [user for user in USERS if arms[user] == "treatment"]
    core.settle(control[0], "first", cost_usd_micro=90_000, at=clock.now)
    core.release(control[1], "first", reason="provider down", at=clock.now)
    core.partial(control[2], "first", at=clock.now)
    core.refund(control[0], "first", 1_000_000, "k", "mira", "sorry", at=clock.now)
    for user, value in ((control[0], 1.0), (treated[0], 0.25), (treated[1], 0.5)):
        core.reward(user, "first", value, at=clock.now)
    found = look(core).figures
    n, m = len(treated), len(control)
    assert found["fresh_rate"] == Figure(Arm(0.0, n), Arm(0.5, m))
    assert found["run_out_share"] == Figure(Arm(1.0, n), Arm(1.0, m))
    assert found["unaffordable_share"] == Figure(Arm(0.5, n), Arm(0.5, m))
    assert found["fresh_rate_chosen"] == Figure(Arm(0.0, n), Arm(1.0, m))
    assert found["coverage_miss_rate"] == Figure(Arm(0.0, n), Arm(0.0, m))
    assert found["failure_rate"] == Figure(Arm(None, 0), Arm(1 / 3, 3))
    assert found["partial_rate"] == Figure(Arm(None, 0), Arm(1 / 3, 3))
    assert found["refund_rate"] == Figure(Arm(None, 0), Arm(1.0, 1))
    assert found["flicker"] == Figure(Arm(0.0, n), Arm(1.0, m))
    assert found["reward_mean"] == Figure(Arm(0.375, 2), Arm(1.0, 1))
    assert found["idle_library_share"].control == Arm(None, 0)
    assert found["cost_per_account"].treatment == Arm(0.0, n)
    # A release and a partial end cost what the catalogue says where nobody says otherwise.
    cost = sum(row["cost_usd_micro"] or 0 for user in control for row in core.history(user, limit=100))
    assert found["cost_per_account"].control == Arm(cost / 1e6 / m, m)
    assert cost >= 90_000
    assert found["behind_share"] == Figure(Arm(0.0, n), Arm(0.0, m))
    assert found["at_cap_share"] == Figure(Arm(None, 0), Arm(None, 0))


def test_accounts_behind_and_at_their_cap_are_counted_by_arm(core: CreditCore, clock: StoppedClock) -> None:
    bad_candidate(core)
    rails = [Guardrail(name, "at_most", 9.0, least_n=1, action="pause") for name in ("behind_share", "at_cap_share")]
    begin(core, 3, guardrails=rails)
    arms = everybody_asks(core, clock)
    clock.advance(days=1)
    treated = [user for user in USERS if arms[user] == "treatment"]
    core.adjust(treated[0], -150_000_000, "k", "mira", "to fall behind", at=clock.now)
    n, m = len(treated), len(USERS) - len(treated)
    assert look(core).figures["behind_share"] == Figure(Arm(1 / n, n), Arm(0.0, m))
    clock.now = NOW + timedelta(days=130)
    core.reconcile(clock.now)
    # An idle balance of a quota of 200 at c = 3, δ = 0.4 keeps 200, 320, 392 and 435: the fourth closing is at the cap of 400.
    assert look(core).figures["at_cap_share"] == Figure(Arm(0.25, n), Arm(0.25, m))


def test_whoever_is_assigned_counts_once_in_the_step_that_first_saw_them(core: CreditCore, clock: StoppedClock) -> None:
    bad_candidate(core)
    found = begin(core, 3, (Step(0.2, 60.0), Step(0.5, 60.0)), ())
    core.config()
    rollout = configure.versions_and_releases(core.deployment)[2]
    early, late = USERS[:18], USERS[18:]
    first = Counter(arm_of(f"user:{user}", rollout) for user in early)
    for user in early:
        ask(core, "r", user=user, at=clock.now)
    staging.ramp(core.deployment, found.plan.rollout_id, author="mira", reason="On")
    everybody_asks(core, clock, "again")
    rollout = configure.versions_and_releases(core.deployment)[2]
    second = Counter(arm_of(f"user:{user}", rollout) for user in late)
    names = ("treatment", "control", "rest")
    assert look(core).assigned == tuple(tuple(counts[name] for name in names) for counts in (first, second))
    assert watch.srm(found.plan.steps, look(core).assigned) is not None
    assert watch.srm(HALF, ((5, 5, 0), (3, 0, 0))) == 1.0
    assert watch.srm(HALF, ((0, 0, 0),)) is None


def test_a_look_replaces_the_earlier_ones_of_its_day(core: CreditCore, clock: StoppedClock) -> None:
    bad_candidate(core)
    found = begin(core, 3, (Step(0.5, 86_400.0 * 9),), ())
    for hours in (1, 2, 24):
        clock.advance(hours=hours)
        watch.watch(core.deployment)
    kept = staging.looks(core.deployment, found.plan.rollout_id)
    assert [one.looked_at for one in kept] == [NOW + timedelta(hours=3), NOW + timedelta(hours=27)]


def test_without_a_staged_release_watching_writes_nothing(core: CreditCore) -> None:
    before = everything(core)
    assert watch.watch(core.deployment) == []
    assert everything(core) == before
