"""Releases: what is live, what was decided under each version, any two side by side, release and roll back."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from credit_core import CreditCore, Request
from credit_core.policy.config import differences
from credit_core.service import configure
from pages.components import numbers, tuning_diff, tuning_versions
from tests.pages.conftest import HOSTILE, OpenPage
from tests.pages.reading import JUDGED, UNITS, card, figure, traces, words
from tests.service.scenes import StoppedClock


@pytest.fixture
def own(tmp_path: Path) -> Callable[[str], str]:
    """A copy of a ledger that a test may write to."""

    def copied(url: str) -> str:
        path = tmp_path / "own.db"
        with (
            closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as source,
            closing(sqlite3.connect(path)) as target,
        ):
            source.backup(target)
        return f"sqlite:///{path}"

    return copied


def table(test: AppTest, column: str) -> Any:
    return next(one.value for one in test.dataframe if column in one.value.columns)


def pressed(test: AppTest, opener: str, inner: str, key: str, reason: str) -> AppTest:
    """Open a dialog, write the reason, press its button: that counts only while the opener is pressed."""
    _button(test, opener).click().run()
    (area,) = (one for one in test.text_area if one.key == key)
    area.input(reason)
    _button(test, opener).click()
    return _button(test, inner).click().run()


def _button(test: AppTest, key: str) -> Any:
    (found,) = (one for one in test.button if one.key == key)
    return found


def by_sql(url: str, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
        return connection.execute(statement).fetchall()


def standing(url: str) -> Any:
    with CreditCore.open(url) as core:
        return configure.versions_and_releases(core.deployment)


# Looking ----------------------------------------------------------------------------------------------------------


def test_it_opens_on_any_ledger_and_says_what_is_live(any_ledger: str, open_page: OpenPage) -> None:
    test = open_page(any_ledger, "releases")
    assert not test.exception
    _, _, rollout = standing(any_ledger)
    assert card(test, "Live") == f"Version {rollout.version}"
    assert f"Version {rollout.version} is live for everybody" in words(test)


def test_decisions_and_fresh_rate_of_each_version_are_the_ledger_s(demo_ledger: str, open_page: OpenPage) -> None:
    test = open_page(demo_ledger, "releases")
    counted = {
        version: (decided, fresh)
        for version, decided, fresh in by_sql(
            demo_ledger,
            "SELECT config_version, COUNT(*), SUM(outcome = 'fresh') FROM ledger_entries "
            f"WHERE line = 1 AND {JUDGED} AND status IS NOT NULL GROUP BY 1",
        )
    }
    shown = table(test, "action")
    released = by_sql(
        demo_ledger, "SELECT version, action, author, reason FROM config_releases ORDER BY release_id DESC"
    )
    assert shown[["version", "action", "author", "reason"]].values.tolist() == [list(row) for row in released]
    for row in shown.itertuples():
        decided, fresh = counted.get(row.version, (0, 0))
        assert row.decisions == decided
        assert decided == 0 or row.fresh_rate == pytest.approx(fresh / decided, abs=1e-12)
    versions = table(test, "state")
    assert dict(zip(versions["version"], versions["decisions"], strict=True)) == {
        number: counted.get(number, (0, 0))[0]
        for (number,) in by_sql(demo_ledger, "SELECT version FROM config_versions")
    }
    assert sum(versions["decisions"]) == sum(decided for decided, _ in counted.values()) > 0
    live = standing(demo_ledger)[2].version
    assert card(test, "Decided under it") == numbers.count(counted[live][0])
    assert card(test, "Fresh rate under it") == numbers.share(counted[live][1] / counted[live][0])


def test_the_course_stacks_every_request_under_the_version_that_decided(demo_ledger: str, open_page: OpenPage) -> None:
    test = open_page(demo_ledger, "releases", {"period": "90d"})
    bars = traces(figure(test, "versions_by_day"), "bar")
    drawn = {bar["name"].lower(): sum(value or 0 for value in bar["y"]) for bar in bars}
    plans = ", ".join(map(repr, UNITS["titrated"]))
    opening = f"line = 1 AND status IS NOT NULL AND parent_request_id IS NULL AND plan IN ({plans})"
    counted = by_sql(demo_ledger, f"SELECT config_version, COUNT(*) FROM ledger_entries WHERE {opening} GROUP BY 1")
    assert drawn == {f"version {version}": number for version, number in counted}


def test_an_empty_ledger_says_that_nothing_was_decided(empty_ledger: str, open_page: OpenPage) -> None:
    test = open_page(empty_ledger, "releases")
    assert "The ledger has no entries yet" in words(test)
    assert _button(test, "versions_roll_back").disabled
    assert table(test, "action")["reason"].tolist() == ["Shipped defaults"]


def test_what_people_wrote_is_shown_letter_by_letter(hostile_ledger: str, open_page: OpenPage) -> None:
    test = open_page(hostile_ledger, "releases")
    assert not test.exception
    assert any(HOSTILE[3] in text.value for text in test.text)
    for element in (*test.markdown, *test.caption, *test.success):
        for attack in ("![x](", "<script>", ":red[y]", "$$x$$"):
            assert attack not in element.value
    assert table(test, "action")["author"].tolist()[0] == HOSTILE[0]


# Comparing --------------------------------------------------------------------------------------------------------


def test_any_two_versions_stand_side_by_side(demo_ledger: str, open_page: OpenPage) -> None:
    test = open_page(demo_ledger, "releases")
    bodies = {version.version: version.body for version in standing(demo_ledger)[0]}
    for old, new in ((1, 2), (2, 1), (1, max(bodies))):
        for key, number in (("versions_old", old), ("versions_new", new)):
            (box,) = (one for one in test.selectbox if one.key == key)
            box.set_value(number)
        test.run()
        assert not test.exception
        shown = table(test, "key")
        wanted = differences(bodies[old], bodies[new])
        assert shown["key"].tolist() == list(wanted)
        assert shown["new"].tolist() == [tuning_diff.written(value) for _, value in wanted.values()]


def test_a_difference_is_named_by_its_title_and_unit() -> None:
    old = {"controller": {"k": 0.0025}, "plans": {"gold": {"cap_multiple": 3.0}}}
    new = {"controller": {"k": 0.0277259}, "plans": {"gold": {"cap_multiple": 4.0}}, "gone": {"x": 1}}
    rows = tuning_diff.between(old, new)
    assert rows.values.tolist() == [
        ["Gain", "Gain k", "0.0025", "0.0277259", "per surplus unit", "controller.k"],
        ["Plans: gold", "Rollover cap c", "3", "4", "× quota", "plans.gold.cap_multiple"],
        ["", "gone.x", "–", "1", "", "gone.x"],
    ]
    assert tuning_diff.between(old, old).empty


def test_a_version_is_exported_as_it_is_stored(demo_ledger: str) -> None:
    now = tuning_versions.Standing(
        bodies={v.version: v.body for v in standing(demo_ledger)[0]}, notes={}, live=1, treatment=None, share=0.0,
        since=standing(demo_ledger)[1][0].released_at, author="", reason="", released=(1,),
    )  # fmt: skip
    (stored,) = by_sql(demo_ledger, "SELECT body FROM config_versions WHERE version = 2")
    assert json.loads(tuning_versions.exported(2, now)) == json.loads(stored[0])


# Acting -----------------------------------------------------------------------------------------------------------


def test_rolling_back_needs_a_reason(own: Any, demo_ledger: str, open_page: OpenPage) -> None:
    url = own(demo_ledger)
    before = len(standing(url)[1])
    test = pressed(
        open_page(url, "releases"), "versions_roll_back", "versions_roll_back_now", "versions_roll_back_reason", " "
    )
    assert "A reason is required" in "".join(error.value for error in test.error)
    assert len(standing(url)[1]) == before


def test_rolling_back_releases_what_was_live_before(own: Any, demo_ledger: str, open_page: OpenPage) -> None:
    url = own(demo_ledger)
    test = open_page(url, "releases")
    offered = _button(test, "versions_roll_back").label
    pressed(test, "versions_roll_back", "versions_roll_back_now", "versions_roll_back_reason", "It hurts *badly*")
    assert not test.exception
    _, released, rollout = standing(url)
    assert (released[-1].action, released[-1].reason, released[-1].author) == (
        "rollback",
        "It hurts *badly*",
        "local operator",
    )
    assert offered == f"Roll back to version {rollout.version} …"
    assert card(test, "Live") == f"Version {rollout.version}"
    assert f"version {rollout.version} is live for everybody" in "".join(one.value for one in test.success)
    with CreditCore.open(url) as core:
        core.add_user("ada", "basic")
        assert core.authorize(Request("ada", "r-1", "s")).config_version == rollout.version


def test_the_rollback_offered_is_the_one_that_the_service_would_make(
    sqlite_ledger: str, clock: StoppedClock, open_page: OpenPage
) -> None:
    with CreditCore.open(sqlite_ledger, clock=clock) as core:
        for k in (0.01, 0.02, 0.03):
            clock.advance(hours=1)
            core.release_version(core.propose({"controller.k": k}, "ada", "x"), author="ada")
        core.roll_back("ada", "no")
        offered = _button(open_page(sqlite_ledger, "releases"), "versions_roll_back").label
        assert offered == "Roll back to version 2 …"
        assert core.roll_back("ada", "no") == 2
        core.release_version(4, share=0.1, author="ada", reason="try")
        test = open_page(sqlite_ledger, "releases")
        assert not test.exception
        assert "Version 4 is live for 10.0\u202f% of accounts, version 2 for the others" in words(test)
        assert _button(test, "versions_roll_back").label == "Roll back to version 2 …"
        assert core.roll_back("ada", "no") == 2


def test_a_proposed_version_is_released(own: Any, demo_ledger: str, open_page: OpenPage) -> None:
    url = own(demo_ledger)
    with CreditCore.open(url) as core:
        proposed = core.propose({"controller.k": 0.05}, "mira", "For Monday")
    test = open_page(url, "releases")
    assert f"Proposed and never released: version {proposed}" in words(test)
    (box,) = (one for one in test.selectbox if one.key == "versions_new")
    box.set_value(proposed).run()
    pressed(test, "versions_release", "versions_release_now", "versions_release_reason", "It is Monday")
    assert not test.exception
    _, released, rollout = standing(url)
    assert rollout.version == proposed
    assert (released[-1].reason, released[-1].share) == ("It is Monday", 1.0)
    assert table(test, "action")["reason"].tolist()[0] == "It is Monday"


def test_whoever_released_first_is_named(
    own: Any, demo_ledger: str, open_page: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = own(demo_ledger)
    test = open_page(url, "releases")
    (box,) = (one for one in test.selectbox if one.key == "versions_new")
    box.set_value(1).run()
    release, count = configure.release_version, len(standing(url)[1])

    def overtaken(*args: Any, **more: Any) -> Any:
        monkeypatch.setattr(configure, "release_version", release)
        with CreditCore.open(url) as core:
            configure.publish(
                core.deployment, {"controller.k": 0.05}, author="mira", note="Meanwhile",
                expected_live=configure.live_version(core.deployment).version,
            )  # fmt: skip
        return release(*args, **more)

    monkeypatch.setattr(configure, "release_version", overtaken)
    pressed(test, "versions_release", "versions_release_now", "versions_release_reason", "Back to the roots")
    assert not test.exception
    assert "nothing was written" in "".join(one.value for one in test.warning)
    assert "by mira: Meanwhile" in words(test)
    assert len(standing(url)[1]) == count + 1
