"""Configuration as versions: proposed, released, watched, rolled back; nothing released is ever edited (SPEC 5)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from credit_core import CreditCore
from credit_core.errors import Conflict, InvalidConfig, InvalidRequest, NotFound, StaleParent
from credit_core.policy.config import Config
from credit_core.service import configure
from credit_core.service.deployment import arm_of
from tests.service.scenes import NOW, ask, entries, everything, make_live
from tests.service.together import outcomes, together


def live(core: CreditCore) -> int:
    return configure.live_version(core.deployment).version


def release(core: CreditCore, *versions: int) -> None:
    for version in versions:
        core.release_version(version, author="olga")


# -------------------------------------------------------------------------------------------------------------- propose


def test_a_new_ledger_starts_with_the_shipped_defaults_released_to_all(core: CreditCore) -> None:
    versions, releases, rollout = configure.versions_and_releases(core.deployment)
    assert [(version.version, version.parent, version.body) for version in versions] == [(1, None, Config().body())]
    assert [(release.version, release.arm, release.share, release.action) for release in releases] == [
        (1, "all", 1.0, "release")
    ]
    assert rollout == (1, None, 0.0, None)
    assert core.config() == Config()


def test_a_proposal_is_a_new_version_and_changes_nothing_else(core: CreditCore) -> None:
    version = core.propose({"controller.k": 0.0277, "plans.basic.cap_multiple": 5}, "olga", "steeper")
    proposed = configure.version_of(core.deployment, version)
    assert (version, proposed.parent, proposed.author, proposed.note) == (2, 1, "olga", "steeper")
    assert (proposed.body["controller"]["k"], proposed.body["plans"]["basic"]["cap_multiple"]) == (0.0277, 5.0)
    assert proposed.created_at == NOW
    assert core.config() == Config()


def test_a_proposal_builds_on_what_is_live_or_on_the_parent_it_names(core: CreditCore) -> None:
    make_live(core, {"controller.k": 0.0277})
    upon_live = core.propose({"controller.p_at_zero": 0.4}, "olga", "")
    upon_first = configure.propose(core.deployment, {"controller.p_at_zero": 0.4}, "olga", "", parent=1)
    ks = [configure.version_of(core.deployment, number).body["controller"]["k"] for number in (upon_live, upon_first)]
    assert ks == [0.0277, 0.0025]


def test_every_fault_of_a_proposal_is_listed_at_once_and_nothing_is_written(core: CreditCore) -> None:
    before = everything(core)
    with pytest.raises(InvalidConfig) as caught:
        core.propose(
            {
                "controller.k": -1,
                "controller.gain": 3,
                "hysteresis.spend_enter_days": float("nan"),
                "plans.basic.soft_decay": 1.5,
                "session.max_fresh": "many",
            },
            "olga",
            "all wrong",
        )
    keys = [fault.split(":")[0] for fault in caught.value.faults]
    assert keys == [
        "controller.gain",
        "controller.k",
        "hysteresis.spend_enter_days",
        "session.max_fresh",
        "plans.basic.soft_decay",
    ]
    assert everything(core) == before


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"routing.premium_model": "imagen-9"}, "routing.premium_model: the catalogue has no model 'imagen-9'"),
        ({"controller.p_min": 0.99}, "p_min must be below p_max"),
        ({"nudges.freshness.lo": 2.0}, "lo must not be above hi"),
        ({"hysteresis.conserve_enter_days": 0.0}, "conserve_enter_days < conserve_leave_days"),
        ({"nudges.segments.default": 9.0}, "between 0 and 5"),
        ({"controller": {"k": 1}}, "controller"),
        ({"plans": None}, "plans"),
        ({"": 1}, "no such tunable"),
    ],
    ids=str,
)
def test_a_proposal_that_makes_no_sense_is_refused(core: CreditCore, changes: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidConfig, match=named):
        core.propose(changes, "olga", "")


@pytest.mark.parametrize("author", ["", "   ", "a" * 129, "line\nbreak"])
def test_a_proposal_is_signed(core: CreditCore, author: str) -> None:
    with pytest.raises(InvalidRequest, match="author"):
        core.propose({"controller.k": 0.01}, author, "")


def test_proposals_made_at_once_each_get_a_number(core: CreditCore) -> None:
    numbers = together(lambda n: core.propose({"controller.k": 0.01 * (n + 1)}, f"op-{n}", ""), range(12))
    assert sorted(numbers) == list(range(2, 14))
    ks = {n: configure.version_of(core.deployment, number).body["controller"]["k"] for n, number in enumerate(numbers)}
    assert ks == {n: 0.01 * (n + 1) for n in range(12)}


# -------------------------------------------------------------------------------------------------------------- release


def test_a_released_version_decides_the_next_request(core: CreditCore) -> None:
    core.add_user("ada", "basic", at=NOW)
    version = make_live(core, {"controller.p_at_zero": 0.9})
    assert ask(core).config_version == version
    assert entries(core)[-1]["config_version"] == version


def test_a_release_that_was_overtaken_names_who_came_between_and_what_differs(core: CreditCore) -> None:
    mine = core.propose({"controller.p_at_zero": 0.6}, "olga", "")
    theirs = core.propose({"controller.k": 0.0277, "session.max_fresh": 20}, "piet", "")
    core.release_version(theirs, author="piet", reason="after the review", expected_live=1)
    before = everything(core)
    with pytest.raises(StaleParent) as caught:
        core.release_version(mine, author="olga", expected_live=1)
    said = str(caught.value)
    for part in (
        "Version 3",
        "piet",
        "after the review",
        "controller.k: 0.0025 → 0.0277",
        "session.max_fresh: 12 → 20",
    ):
        assert part in said
    assert "p_at_zero" not in said
    assert everything(core) == before
    assert live(core) == theirs


def test_of_two_operators_who_publish_at_once_one_wins_and_the_other_is_told(core: CreditCore) -> None:
    def publish(author: str) -> configure.Published:
        return configure.publish(
            core.deployment,
            {"controller.k": 0.01 if author == "olga" else 0.02},
            author=author,
            note="",
            expected_live=1,
        )

    done = outcomes(publish, ["olga", "piet"], StaleParent)
    assert sorted(type(result).__name__ for result in done) == ["Published", "StaleParent"]
    winner = next(result for result in done if isinstance(result, configure.Published))
    loser = next(result for result in done if isinstance(result, StaleParent))
    assert live(core) == winner.version == 2
    assert ("olga" if isinstance(done[0], configure.Published) else "piet") in str(loser)
    # The loser's version is not left behind either.
    assert len(configure.versions_and_releases(core.deployment)[0]) == 2


def test_a_release_of_what_is_live_or_not_there_is_refused(core: CreditCore) -> None:
    with pytest.raises(Conflict, match="live for everybody already"):
        core.release_version(1, author="olga")
    with pytest.raises(NotFound, match="no configuration version 9"):
        core.release_version(9, author="olga")
    assert len(configure.versions_and_releases(core.deployment)[1]) == 1


def test_publishing_clears_the_draft_it_came_from(core: CreditCore) -> None:
    configure.save_draft(core.deployment, "olga", 1, {"controller.k": 0.0277})
    configure.save_draft(core.deployment, "piet", 1, {"controller.k": 0.5})
    configure.publish(core.deployment, {"controller.k": 0.0277}, author="olga", note="steeper", expected_live=1)
    assert configure.draft_of(core.deployment, "olga") is None
    assert configure.draft_of(core.deployment, "piet") == (1, {"controller.k": 0.5})
    assert core.config().controller.k == 0.0277


def test_publishing_nothing_or_nonsense_writes_nothing(core: CreditCore) -> None:
    before = everything(core)
    with pytest.raises(InvalidRequest, match="nothing to publish"):
        configure.publish(core.deployment, {}, author="olga", note="", expected_live=1)
    with pytest.raises(InvalidConfig):
        configure.publish(core.deployment, {"controller.k": 0}, author="olga", note="", expected_live=1)
    with pytest.raises(InvalidRequest, match="share"):
        configure.publish(core.deployment, {"controller.k": 1}, author="olga", note="", expected_live=1, share=0.7)
    assert everything(core) == before


# --------------------------------------------------------------------------------------------------------------- drafts


def test_a_draft_is_kept_by_operator_and_parent_without_being_validated(core: CreditCore) -> None:
    make_live(core, {"controller.k": 0.01})
    configure.save_draft(core.deployment, "olga", 1, {"controller.k": -5})
    core.deployment.ledger.clock.advance(minutes=1)  # type: ignore[attr-defined]
    configure.save_draft(core.deployment, "olga", 2, {"controller.k": 0.3})
    assert configure.draft_of(core.deployment, "olga") == (2, {"controller.k": 0.3})
    core.deployment.ledger.clock.advance(minutes=1)  # type: ignore[attr-defined]
    configure.save_draft(core.deployment, "olga", 1, {"controller.k": -6})
    assert configure.draft_of(core.deployment, "olga") == (1, {"controller.k": -6})
    assert configure.draft_of(core.deployment, "piet") is None


def test_an_emptied_draft_is_removed(core: CreditCore) -> None:
    configure.save_draft(core.deployment, "olga", 1, {"controller.k": 0.3})
    configure.save_draft(core.deployment, "olga", 1, {})
    assert configure.draft_of(core.deployment, "olga") is None


# ------------------------------------------------------------------------------------------------------------- roll back


@pytest.fixture
def five(core: CreditCore) -> CreditCore:
    """Versions 1 to 5; only 1 is released."""
    for number in range(2, 6):
        core.propose({"controller.k": 0.01 * number}, "olga", f"number {number}")
    return core


def walk_back(core: CreditCore) -> list[int]:
    """Roll back as far as it goes."""
    seen: list[int] = []
    while len(seen) < 10:
        try:
            seen.append(core.roll_back("olga", "worse"))
        except Conflict:
            break
        assert live(core) == seen[-1]
    with pytest.raises(Conflict, match="no earlier version"):
        core.roll_back("olga", "worse")
    return seen


@pytest.mark.parametrize(
    ("released", "walked"),
    [
        ([], []),
        ([2, 3, 4], [3, 2, 1]),
        ([2, 1, 3], [1, 2, 1]),
        ([3, 2, 3, 2], [3, 2, 3, 1]),
    ],
    ids=str,
)
def test_rolling_back_walks_back_through_what_was_live(
    five: CreditCore, released: list[int], walked: list[int]
) -> None:
    release(five, *released)
    assert walk_back(five) == walked


def test_a_release_after_a_rollback_is_walked_back_to_where_it_came_from(five: CreditCore) -> None:
    release(five, 2, 3)
    five.roll_back("olga", "worse")
    release(five, 4, 5)
    assert walk_back(five) == [4, 2, 1]


def test_a_rollback_can_go_straight_to_a_version(five: CreditCore) -> None:
    release(five, 2, 3, 4)
    assert configure.roll_back(five.deployment, "olga", "worse", to=2) == 2
    assert live(five) == 2
    assert walk_back(five) == [1]
    with pytest.raises(Conflict, match="live already"):
        configure.roll_back(five.deployment, "olga", "worse", to=1)
    with pytest.raises(NotFound):
        configure.roll_back(five.deployment, "olga", "worse", to=9)


def test_a_rollback_is_a_release_that_says_who_and_why(five: CreditCore) -> None:
    release(five, 2)
    five.roll_back("piet", "flicker doubled")
    last = configure.versions_and_releases(five.deployment)[1][-1]
    assert (last.version, last.arm, last.author, last.reason, last.action) == (
        1, "all", "piet", "flicker doubled", "rollback",
    )  # fmt: skip
    for reason in ("", "   "):
        with pytest.raises(InvalidRequest, match="reason"):
            five.roll_back("piet", reason)


def test_rolling_back_an_experiment_ends_it_and_leaves_the_rest_as_it_was(five: CreditCore) -> None:
    release(five, 2)
    five.release_version(3, 0.5, author="olga")
    assert five.roll_back("olga", "no gain") == 2
    assert configure.versions_and_releases(five.deployment)[2] == (2, None, 0.0, None)
    assert walk_back(five) == [1]


def test_an_experiment_that_was_rolled_back_is_no_step_on_the_way_back(five: CreditCore) -> None:
    release(five, 2, 1)
    five.release_version(3, 0.5, author="olga")
    assert five.roll_back("olga", "no gain") == 1
    assert walk_back(five) == [2, 1]


# ----------------------------------------------------------------------------------------------------------------- arms


def arms(core: CreditCore, count: int = 4_000) -> dict[str, str]:
    rollout = configure.versions_and_releases(core.deployment)[2]
    return {f"user:u-{n}": arm_of(f"user:u-{n}", rollout) for n in range(count)}


def members(arms_by_account: dict[str, str], arm: str) -> set[str]:
    return {account for account, its in arms_by_account.items() if its == arm}


def test_treatment_and_control_are_of_the_share_and_apart(five: CreditCore) -> None:
    five.release_version(2, 0.2, author="olga")
    seen = arms(five)
    sizes = {arm: len(members(seen, arm)) / len(seen) for arm in ("treatment", "control", "rest")}
    assert sizes == pytest.approx({"treatment": 0.2, "control": 0.2, "rest": 0.6}, abs=0.03)


def test_at_half_there_is_nobody_left_over(five: CreditCore) -> None:
    five.release_version(2, 0.5, author="olga")
    assert set(arms(five).values()) == {"treatment", "control"}


def test_arms_stay_put_while_an_experiment_ramps(five: CreditCore) -> None:
    seen = []
    for share in (0.05, 0.2, 0.5):
        five.release_version(2, share, author="olga")
        seen.append(arms(five))
    salts = {
        release.salt for release in configure.versions_and_releases(five.deployment)[1] if release.arm == "treatment"
    }
    assert len(salts) == 1
    for arm in ("treatment", "control"):
        assert members(seen[0], arm) < members(seen[1], arm) < members(seen[2], arm)


def test_another_experiment_draws_its_arms_anew(five: CreditCore) -> None:
    five.release_version(2, 0.5, author="olga")
    first = members(arms(five), "treatment")
    five.release_version(3, 0.5, author="olga")
    second = members(arms(five), "treatment")
    assert len(first & second) / len(first) == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("share", [0.0, -0.1, 0.500001, 0.99, 1.000001, float("nan"), float("inf")])
def test_an_experiment_takes_at_most_half(five: CreditCore, share: float) -> None:
    with pytest.raises(InvalidRequest, match="share"):
        five.release_version(2, share, author="olga")
    assert len(configure.versions_and_releases(five.deployment)[1]) == 1


def test_each_account_is_decided_by_its_arm(five: CreditCore) -> None:
    five.release_version(2, 0.3, author="olga")
    five.config()
    expected = arms(five, 40)
    versions = {"treatment": 2, "control": 1, "rest": 1}
    for account, arm in expected.items():
        user = account.removeprefix("user:")
        five.add_user(user, "basic", at=NOW)
        decision = ask(five, user=user)
        assert (decision.arm, decision.config_version) == (arm, versions[arm])
        assert five.explain(user, "r-1").exact
    assert set(expected.values()) == {"treatment", "control", "rest"}


# ------------------------------------------------------------------------------------------------ weights from outside


def weights_of(core: CreditCore) -> list[float]:
    s = core.config().strategies
    return [s.weight_surplus, s.weight_freshness, s.weight_credit, s.weight_library]


def test_a_new_ledger_takes_its_weights_from_the_environment_and_an_old_one_keeps_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TITRATION_WEIGHTS", "35/35/20/10")
    with CreditCore.open(f"sqlite:///{tmp_path}/ledger.db") as core:
        assert weights_of(core) == [35.0, 35.0, 20.0, 10.0]
    monkeypatch.setenv("TITRATION_WEIGHTS", "1/2/3/4")
    with CreditCore.open(f"sqlite:///{tmp_path}/ledger.db") as core:
        assert weights_of(core) == [35.0, 35.0, 20.0, 10.0]


@pytest.mark.parametrize("said", ["40/30/20", "a/b/c/d", "40,30,20,10", "-1/2/3/4", "nan/1/1/1"])
def test_weights_that_are_none_are_refused_before_anything_is_decided_by_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    monkeypatch.setenv("TITRATION_WEIGHTS", said)
    with pytest.raises(InvalidConfig):
        CreditCore.open(f"sqlite:///{tmp_path}/ledger.db")
