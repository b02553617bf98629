"""Staged releases on the releases page: begun, approved, ramped, held, watched and rolled back from there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from credit_core import CreditCore
from credit_core.policy.rollout import Guardrail, Step
from credit_core.service import configure, releases, staging, watch
from pages.components import releases_staged
from tests.pages.conftest import HOSTILE, OpenPage
from tests.pages.reading import words
from tests.service.scenes import StoppedClock
from tests.service.stages import FLOOR, USERS, bad_candidate, begin, everybody_asks

HALVES = (Step(0.5, 86_400.0), Step(1.0, 0.0))


@pytest.fixture(scope="module")
def candidate_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty users, and version 3, proposed by olga, which serves nobody fresh."""
    path = tmp_path_factory.mktemp("staged") / "ledger.db"
    with CreditCore.open(f"sqlite:///{path}", clock=StoppedClock(datetime.now(UTC) - timedelta(hours=1))) as core:
        bad_candidate(core)
    return path


@pytest.fixture
def url(candidate_file: Path, tmp_path: Path) -> str:
    shutil.copy(candidate_file, tmp_path / "ledger.db")
    return f"sqlite:///{tmp_path / 'ledger.db'}"


@pytest.fixture
def core(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[CreditCore]:
    monkeypatch.setattr(releases.secrets, "token_hex", lambda size: "5a" * size)
    with CreditCore.open(url) as opened:
        yield opened


def asked(core: CreditCore) -> None:
    everybody_asks(core, StoppedClock(datetime.now(UTC)))


def button(test: AppTest, key: str) -> Any:
    (found,) = (one for one in test.button if one.key == key)
    return found


def table(test: AppTest, column: str) -> Any:
    return next(one.value for one in test.dataframe if column in one.value.columns)


def in_dialog(test: AppTest, opener: str, inner: str, reason_key: str, reason: str) -> AppTest:
    button(test, opener).click().run()
    (area,) = (one for one in test.text_area if one.key == reason_key)
    area.input(reason)
    button(test, opener).click()
    return button(test, inner).click().run()


def live(core: CreditCore) -> tuple[int, int | None, float]:
    return configure.versions_and_releases(core.deployment)[2][:3]


# --------------------------------------------------------------------------------------------------------------- states


def test_without_one_the_page_offers_to_begin(empty_ledger: str, look_at: OpenPage) -> None:
    test = look_at(empty_ledger, "releases")
    assert not test.exception
    assert not button(test, "versions_stage").disabled
    assert "in stages" not in " ".join(one.value for one in test.subheader)


def test_a_running_one_shows_its_guardrails_with_the_room_left(core: CreditCore, url: str, open_page: OpenPage) -> None:
    failures = Guardrail("failure_rate", "at_most", 0.05, least_n=1, action="pause")
    begin(core, 3, HALVES, [FLOOR._replace(side="at_most", bound=0.9), failures])
    asked(core)
    watch.watch(core.deployment)
    test = open_page(url, "releases")
    assert not test.exception
    rows = table(test, "room")
    assert rows[["rail", "treatment", "control", "bound", "room", "state", "then"]].values.tolist() == [
        ["Fresh rate", "0.0 %", "100.0 %", "at most 90.0 %", "+90.0 points", "within", "rolls back"],
        ["Failure rate", "–", "–", "at most control +5.0 points", "–", "not known yet", "pauses"],
    ]
    told = words(test)
    assert "Live for 50.0\u202f% of accounts, as many are kept apart as control; next step" in told
    assert "**:blue-background[50\u202f%]** → 100\u202f%" in told
    assert "Sizes of the arms: as they were drawn" in told
    assert "No readout yet" in told
    assert "Nobody watches" not in told
    listed = table(test, "action")
    counts = staging.accounts_on([f"user:{user}" for user in USERS], core.deployment.live.rollout)
    assert listed["accounts"].tolist()[:2] == [counts[version] for version in listed["version"].tolist()[:2]]
    assert listed["accounts"].isna().tolist() == [False, False, True]
    assert button(test, "versions_stage").disabled


def test_where_nobody_watches_it_says_so_with_the_command(core: CreditCore, url: str, open_page: OpenPage) -> None:
    begin(core, 3, HALVES)
    test = open_page(url, "releases")
    assert "Nobody watches this release" in "".join(one.value for one in test.warning)
    assert "python -m credit_core watch" in [one.value for one in test.code]
    assert table(test, "room")["state"].tolist() == ["not known yet"]


def test_what_was_rolled_back_stays_with_its_reason(core: CreditCore, url: str, open_page: OpenPage) -> None:
    begin(core, 3, HALVES)
    asked(core)
    watch.watch(core.deployment)
    test = open_page(url, "releases")
    assert not test.exception
    assert "Guardrail breached" in "".join(one.value for one in test.error)
    assert table(test, "room")["state"].tolist() == ["breached"]
    assert (
        table(test, "action")["reason"].tolist()[0].startswith("Guardrail breached: Fresh rate 0.0 %, at least 30.0 %")
    )
    assert not button(test, "versions_stage").disabled
    assert "It ended before there was a readout" in words(test)


def test_hostile_names_and_reasons_are_shown_as_text(core: CreditCore, url: str, open_page: OpenPage) -> None:
    for place in (0, 3):
        author, reason, why = (HOSTILE[(place + step) % 10] for step in range(3))
        found = begin(core, 3, HALVES, author=author, reason=reason)
        staging.hold(core.deployment, found.plan.rollout_id, author=why, reason=author)
        test = open_page(url, "releases")
        assert not test.exception
        for one in (*test.markdown, *test.caption, *test.warning, *test.error):
            assert "<script>" not in one.value
            assert "](javascript:" not in one.value
            assert "](http" not in one.value
        core.roll_back("mira", why)
        assert not open_page(url, "releases").exception


# --------------------------------------------------------------------------------------------------------------- acting


def test_a_staged_release_is_begun_from_the_page(core: CreditCore, url: str, open_page: OpenPage) -> None:
    test = open_page(url, "releases")
    in_dialog(test, "versions_stage", "versions_stage_now", "versions_stage_reason", "Try *it*")
    assert not test.exception
    (found,) = staging.staged(core.deployment)
    assert (found.plan.version, found.plan.steps, found.plan.guardrails) == (
        3, (Step(0.1, 86_400.0),), staging.USUAL_GUARDRAILS,
    )  # fmt: skip
    assert (found.plan.author, found.plan.reason, live(core)) == ("local operator", "Try *it*", (2, 3, 0.1))
    assert "Version 3 is live for 10\u202f% of accounts." in "".join(one.value for one in test.success)


def test_a_reason_is_asked_for(core: CreditCore, url: str, open_page: OpenPage) -> None:
    test = open_page(url, "releases")
    in_dialog(test, "versions_stage", "versions_stage_now", "versions_stage_reason", " ")
    assert "A reason is required" in "".join(one.value for one in test.error)
    assert staging.staged(core.deployment) == []


def test_whoever_released_first_is_told(
    core: CreditCore, url: str, open_page: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = open_page(url, "releases")
    stage = staging.stage

    def overtaken(*arguments: Any, **more: Any) -> Any:
        monkeypatch.setattr(staging, "stage", stage)
        core.release_version(core.propose({"controller.k": 0.05}, "mira", "x"), author="mira", reason="Meanwhile")
        return stage(*arguments, **more)

    monkeypatch.setattr(staging, "stage", overtaken)
    in_dialog(test, "versions_stage", "versions_stage_now", "versions_stage_reason", "Try it")
    assert not test.exception
    assert "by mira (Meanwhile)" in words(test)
    assert staging.staged(core.deployment) == []


@pytest.mark.parametrize(
    ("verb", "status", "share"), [("hold", "held", 0.1), ("ramp", "running", 0.5), ("resume", "running", 0.1)]
)
def test_it_is_held_resumed_and_ramped(
    core: CreditCore, url: str, open_page: OpenPage, verb: str, status: str, share: float
) -> None:
    found = begin(core, 3, (Step(0.1, 60.0), *HALVES))
    if verb == "resume":
        staging.hold(core.deployment, found.plan.rollout_id, author="mira", reason="Lunch")
    test = open_page(url, "releases")
    assert ("Lunch" in words(test) + "".join(one.value for one in test.warning)) == (verb == "resume")
    in_dialog(test, f"versions_{verb}_1", f"versions_{verb}_now", f"versions_{verb}_reason", "Because")
    assert not test.exception
    after = staging.staged(core.deployment)[0]
    assert (after.standing.status, after.standing.author, live(core)[2]) == (status, "local operator", share)


def test_looking_now_rolls_back_what_breaches(core: CreditCore, url: str, open_page: OpenPage) -> None:
    begin(core, 3, HALVES)
    asked(core)
    test = open_page(url, "releases")
    button(test, "versions_look_1").click().run()
    assert not test.exception
    assert "Rolled back: version 3." in "".join(one.value for one in test.success)
    assert live(core) == (2, None, 0.0)


# ------------------------------------------------------------------------------------------------------------- approval


@pytest.fixture
def strict(core: CreditCore) -> CreditCore:
    """The core with version 4 live, which asks for approval of everything."""
    core.release_version(core.propose({"releases.approval_above": 0.0}, "mira", "Two pairs of eyes"), author="mira")
    return core


def test_what_another_person_asked_for_is_approved_with_its_difference_in_sight(
    strict: CreditCore, url: str, open_page: OpenPage
) -> None:
    begin(strict, 3, HALVES)
    test = open_page(url, "releases")
    assert "Nobody gets version 3 before another person approves it" in words(test)
    assert not button(test, "versions_approve_1").disabled
    assert "releases.approval_above" in table(test, "key")["key"].tolist()
    in_dialog(test, "versions_approve_1", "versions_approve_now", "versions_approve_reason", "Looks right")
    assert not test.exception
    (found,) = staging.staged(strict.deployment)
    assert (found.standing.status, found.approved_by, live(strict)) == ("running", "local operator", (4, 3, 0.5))


def test_what_you_asked_for_yourself_another_person_approves(strict: CreditCore, url: str, open_page: OpenPage) -> None:
    test = open_page(url, "releases")
    in_dialog(test, "versions_stage", "versions_stage_now", "versions_stage_reason", "Try it")
    assert "waits for approval" in "".join(one.value for one in test.success)
    assert button(test, "versions_approve_1").disabled
    assert "config approve 1 --author NAME" in words(test)
    assert live(strict) == (4, None, 0.0)
    in_dialog(test, "versions_decline_1", "versions_decline_now", "versions_decline_reason", "Taken back")
    assert staging.staged(strict.deployment)[0].standing.status == "declined"


def test_releasing_to_everybody_waits_too(strict: CreditCore, url: str, open_page: OpenPage) -> None:
    test = open_page(url, "releases")
    (box,) = (one for one in test.selectbox if one.key == "versions_new")
    box.set_value(3).run()
    in_dialog(test, "versions_release", "versions_release_now", "versions_release_reason", "It is Monday")
    assert not test.exception
    assert "Version 3 waits for approval by another person" in "".join(one.value for one in test.success)
    assert live(strict) == (4, None, 0.0)


# ---------------------------------------------------------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("kind", "value", "difference", "said"),
    [
        ("share", 0.1234, False, "12.3 %"),
        ("share", -0.02, True, "−2.0 points"),
        ("share", 0.02, True, "+2.0 points"),
        ("dollars", 0.01234, False, "$0.0123"),
        ("dollars", -0.5, True, "−$0.5000"),
        ("dollars", 0.5, True, "+$0.5000"),
        ("share", None, False, "unknown"),
    ],
)
def test_figures_are_written_for_people(kind: str, value: float | None, difference: bool, said: str) -> None:
    assert watch.written(kind, value, difference=difference) == said


def test_the_newest_ended_one_is_shown_unless_another_is_open(core: CreditCore) -> None:
    def numbers() -> list[int]:
        return [one.plan.rollout_id for one in releases_staged.shown(staging.staged(core.deployment))]

    assert numbers() == []
    for number in (1, 2):
        begin(core, 3, HALVES)
        assert numbers() == [number]
        core.roll_back("mira", "x")
        assert numbers() == [number]
