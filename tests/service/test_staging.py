"""Releasing in stages: steps, holds, approval by another person; every act once, whoever else acts (SPEC 5)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from credit_core import CreditCore
from credit_core.errors import (
    Conflict,
    InvalidRequest,
    NotAllowed,
    NotFound,
    StaleParent,
    WaitingForApproval,
)
from credit_core.policy import config as schema
from credit_core.policy.rollout import Step
from credit_core.service import configure, staging
from credit_core.service.deployment import Rollout as Live
from credit_core.service.rollouts import Rollout
from tests.service.scenes import StoppedClock, everything, make_live
from tests.service.stages import begin
from tests.service.together import outcomes

TENTH = (Step(0.1, 3_600.0), Step(0.5, 3_600.0), Step(1.0, 0.0))


def live(core: CreditCore) -> tuple[int, int | None, float]:
    return configure.versions_and_releases(core.deployment)[2][:3]


def propose(core: CreditCore, k: float = 0.01, author: str = "olga") -> int:
    return core.propose({"controller.k": k}, author, "steeper")


def act(core: CreditCore, verb: Callable[..., Rollout], found: Rollout, author: str = "mira", **more: Any) -> Rollout:
    return verb(core.deployment, found.plan.rollout_id, author=author, **{"reason": "Because", **more})


@pytest.fixture
def strict(core: CreditCore) -> CreditCore:
    """The core with version 2 live, which asks for approval of whatever goes to more than a tenth of the accounts."""
    make_live(core, {"releases.approval_above": 0.1})
    return core


def approve(core: CreditCore, found: Rollout, author: str = "mira") -> Rollout:
    return staging.approve(core.deployment, found.plan.rollout_id, author=author, content_hash=found.plan.content_hash)


# --------------------------------------------------------------------------------------------------------------- stages


def test_a_staged_release_begins_with_its_first_step_and_ramps_to_everybody(
    core: CreditCore, clock: StoppedClock
) -> None:
    version = propose(core)
    found = begin(core, version, TENTH)
    assert (found.standing.status, found.standing.step, live(core)) == ("running", 0, (1, version, 0.1))
    assert found.standing.due_at == clock.now + timedelta(hours=1)
    salt = configure.versions_and_releases(core.deployment)[2].salt
    clock.advance(minutes=10)
    assert act(core, staging.ramp, found).standing[:3] == ("running", 1, clock.now)
    assert live(core) == (1, version, 0.5)
    assert configure.versions_and_releases(core.deployment)[2].salt == salt
    done = act(core, staging.ramp, found)
    assert (done.standing.status, done.going_on, live(core)) == ("done", False, (version, None, 0.0))
    with pytest.raises(Conflict, match="has reached everybody"):
        act(core, staging.ramp, found)


def test_holding_keeps_the_share_and_resuming_goes_on(core: CreditCore, clock: StoppedClock) -> None:
    found = begin(core, propose(core), TENTH)
    clock.advance(minutes=20)
    held = act(core, staging.hold, found, reason="Sunday")
    assert (held.standing.status, held.standing.due_at, held.standing.reason) == ("held", None, "Sunday")
    with pytest.raises(Conflict, match=r"is on hold since .* by mira"):
        act(core, staging.hold, found)
    clock.advance(hours=5)
    resumed = act(core, staging.resume, found)
    assert resumed.standing.due_at == clock.now + timedelta(minutes=40)
    assert live(core)[2] == 0.1


def test_a_rollback_by_hand_ends_it_with_its_reason(core: CreditCore) -> None:
    version = propose(core)
    found = begin(core, version)
    assert core.roll_back("mira", "It hurts") == 1
    (ended,) = staging.staged(core.deployment)
    assert (ended.standing.status, ended.standing.author, ended.standing.reason) == ("rolled_back", "mira", "It hurts")
    with pytest.raises(Conflict, match="was rolled back since"):
        act(core, staging.ramp, found)


def test_another_release_ends_it(core: CreditCore) -> None:
    found = begin(core, propose(core))
    make_live(core, {"controller.k": 0.5})
    (ended,) = staging.staged(core.deployment)
    assert ended.standing.status == "superseded"
    with pytest.raises(Conflict, match="replaced by another release"):
        act(core, staging.resume, found)


def test_one_at_a_time(core: CreditCore) -> None:
    first, second = propose(core), propose(core, 0.02)
    begin(core, first)
    before = everything(core)
    with pytest.raises(Conflict, match=f"Version {first} is being released in stages by olga"):
        begin(core, second)
    assert everything(core) == before


def test_after_a_soft_launch_that_goes_no_further_another_may_begin(core: CreditCore) -> None:
    first = propose(core)
    begin(core, first, (Step(0.1, 0.0),))
    assert live(core) == (1, first, 0.1)
    with pytest.raises(Conflict, match="last step"):
        act(core, staging.ramp, staging.staged(core.deployment)[0])
    found = begin(core, first, TENTH)
    assert (found.plan.rollout_id, live(core)) == (2, (1, first, 0.1))
    assert staging.staged(core.deployment)[0].standing.status == "superseded"


@pytest.mark.parametrize(
    ("more", "error", "said"),
    [
        ({"reason": "  "}, InvalidRequest, "needs a reason"),
        ({"author": ""}, InvalidRequest, "author"),
        ({"steps": ()}, InvalidRequest, "at least one step"),
        ({"expected_live": 2}, StaleParent, "Version 1 went live"),
    ],
)
def test_what_makes_no_sense_is_refused_and_writes_nothing(
    core: CreditCore, more: dict[str, Any], error: type[Exception], said: str
) -> None:
    version = propose(core)
    before = everything(core)
    with pytest.raises(error, match=said):
        begin(core, version, **more)
    with pytest.raises(NotFound, match="version 99"):
        begin(core, 99)
    with pytest.raises(Conflict, match="live for everybody already"):
        begin(core, 1)
    with pytest.raises(NotFound, match="staged release 5"):
        staging.hold(core.deployment, 5, author="mira", reason="x")
    assert everything(core) == before


def test_two_who_ramp_at_once_make_one_step(core: CreditCore) -> None:
    found = begin(core, propose(core), (Step(0.1, 0.0), Step(0.2, 0.0)))
    done = outcomes(lambda who: act(core, staging.ramp, found, author=who), ["ada", "bob", "cyd", "dan"], Conflict)
    assert sum(isinstance(one, Rollout) for one in done) == 1
    assert live(core)[2] == 0.2


def test_accounts_are_counted_on_the_version_that_governs_them() -> None:
    ids = [f"user:{number}" for number in range(2_000)]
    assert staging.accounts_on(ids, Live(3, None, 0.0, None)) == {3: 2_000}
    counts = staging.accounts_on(ids, Live(3, 4, 0.25, "salt"))
    assert sum(counts.values()) == 2_000
    assert counts[4] == pytest.approx(500, abs=80)


# ------------------------------------------------------------------------------------------------------------- approval


def test_a_share_over_the_threshold_waits_and_nothing_is_live(strict: CreditCore) -> None:
    version = propose(strict)
    before = live(strict)
    found = begin(strict, version, TENTH)
    assert (found.standing.status, found.plan.needs_approval, found.open) == ("waiting", True, True)
    with pytest.raises(WaitingForApproval, match=f"Version {version} waits for approval") as caught:
        strict.release_version(version, author="olga")
    assert (caught.value.version, caught.value.rollout_id) == (version, 2)
    assert live(strict) == before


def test_up_to_the_threshold_nobody_is_asked(strict: CreditCore) -> None:
    version = propose(strict)
    strict.release_version(version, 0.1, author="olga")
    assert live(strict) == (2, version, 0.1)


def test_another_person_approves_and_the_first_step_is_live(strict: CreditCore) -> None:
    version = propose(strict)
    found = approve(strict, begin(strict, version, TENTH))
    assert (found.standing.status, found.approved_by, live(strict)) == ("running", "mira", (2, version, 0.1))
    last = configure.versions_and_releases(strict.deployment)[1][-1]
    assert (last.author, last.reason) == ("olga", "Try it")
    with pytest.raises(Conflict, match="cannot be approved"):
        approve(strict, found)
    # Later steps are what was approved.
    assert act(strict, staging.ramp, found, author="olga").standing.step == 1


@pytest.mark.parametrize("name", ["olga", "Olga", " olga ", "ＯLGA"])
def test_nobody_approves_what_they_asked_for(strict: CreditCore, name: str) -> None:
    found = begin(strict, propose(strict))
    with pytest.raises(NotAllowed, match="asked for it, so another person"):
        approve(strict, found, name)
    assert staging.staged(strict.deployment)[0].standing.status == "waiting"


def test_nobody_approves_what_they_wrote(strict: CreditCore) -> None:
    version = propose(strict, author="Mira")
    found = begin(strict, version)
    with pytest.raises(NotAllowed, match=f"wrote version {version}"):
        approve(strict, found)
    assert approve(strict, found, "ada").standing.status == "running"


def test_an_approval_is_of_the_content_that_was_looked_at(strict: CreditCore) -> None:
    found = begin(strict, propose(strict))
    other = configure.version_of(strict.deployment, propose(strict, 0.5)).content_hash
    with pytest.raises(StaleParent, match="not that of version"):
        staging.approve(strict.deployment, found.plan.rollout_id, author="mira", content_hash=other)
    assert staging.staged(strict.deployment)[0].standing.status == "waiting"


def test_a_request_is_void_when_another_version_came_in_between(strict: CreditCore) -> None:
    found = begin(strict, propose(strict))
    other = propose(strict, 0.5, "mira")
    strict.release_version(other, 0.1, author="mira", reason="Mine first")
    strict.roll_back("mira", "And back")
    before = everything(strict)
    with pytest.raises(StaleParent, match=r"came in between.* by mira \(Mine first\).*is void"):
        approve(strict, found, "ada")
    assert everything(strict) == before
    assert staging.staged(strict.deployment)[0].standing.status == "overtaken"


def test_several_who_approve_at_once_begin_it_once(strict: CreditCore) -> None:
    version = propose(strict)
    found = begin(strict, version, TENTH)
    done = outcomes(lambda who: approve(strict, found, who), ["ada", "bob", "cyd", "dan"], Conflict)
    assert sum(isinstance(one, Rollout) for one in done) == 1
    assert len(configure.versions_and_releases(strict.deployment)[1]) == 3


def test_an_approval_and_a_release_at_once_are_one_of_the_two(strict: CreditCore) -> None:
    found, other = begin(strict, propose(strict)), propose(strict, 0.5)
    acts = [lambda: approve(strict, found), lambda: strict.release_version(other, 0.1, author="ada", expected_live=2)]
    outcomes(lambda one: one(), acts, Conflict)
    after = staging.staged(strict.deployment)[0]
    # Whoever came second saw the first: either the approval was void, or what it began was replaced in turn.
    assert after.standing.status in ("overtaken", "superseded", "running")
    releases = configure.versions_and_releases(strict.deployment)[1]
    assert [release.version for release in releases[2:]] in (
        [other], [found.plan.version], [found.plan.version, other],
    )  # fmt: skip


def test_declined_it_is_asked_for_anew(strict: CreditCore) -> None:
    version = propose(strict)
    found = begin(strict, version)
    assert begin(strict, version).plan.rollout_id == found.plan.rollout_id
    declined = act(strict, staging.decline, found, reason="Not on a Friday")
    assert (declined.standing.status, declined.standing.reason) == ("declined", "Not on a Friday")
    with pytest.raises(Conflict, match="was declined"):
        approve(strict, found)
    assert begin(strict, version).plan.rollout_id == found.plan.rollout_id + 1


def test_publishing_waits_too_and_twice_is_one_request(strict: CreditCore) -> None:
    def publish() -> WaitingForApproval:
        with pytest.raises(WaitingForApproval) as caught:
            configure.publish(
                strict.deployment, {"controller.k": 0.05}, author="olga", note="For Monday", expected_live=2
            )
        return caught.value

    first, again = publish(), publish()
    assert (first.version, first.rollout_id) == (again.version, again.rollout_id) == (3, 1)
    versions, releases, now = configure.versions_and_releases(strict.deployment)
    assert (len(versions), len(releases), now.version) == (3, 2, 2)
    (found,) = staging.staged(strict.deployment)
    assert approve(strict, found).standing.status == "done"
    assert live(strict) == (3, None, 0.0)


def test_going_back_needs_no_approval(strict: CreditCore) -> None:
    assert strict.roll_back("olga", "Worse") == 1
    assert live(strict) == (1, None, 0.0)


def test_taking_the_rule_away_falls_under_the_rule(strict: CreditCore) -> None:
    with pytest.raises(WaitingForApproval):
        configure.publish(
            strict.deployment, {"releases.approval_above": 1.0}, author="olga", note="Faster", expected_live=2
        )
    assert strict.config().releases.approval_above == 0.1


def test_a_configuration_from_before_the_rule_can_be_given_one() -> None:
    old = schema.Config().body()
    del old["releases"]
    assert schema.apply_changes(old, {"releases.approval_above": 0.5}).releases.approval_above == 0.5
    assert old.keys() == schema.Config().body().keys() - {"releases"}
