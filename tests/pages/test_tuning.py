"""Tuning: controls in step, drafts that come back, a preview that agrees with the ledger, publishing and who came between."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from credit_core import CreditCore, Request
from credit_core.errors import LedgerUnavailable
from credit_core.lab import preview, replay
from credit_core.policy.tunables import tunables
from credit_core.service import configure
from pages.components import numbers, tuning_jobs
from pages.components.session import LOCAL_OPERATOR
from pages.components.tuning_controls import GROUPS, _belongs
from pages.components.tuning_scales import nearest, stops_of, written
from tests.pages.conftest import DEMO_ZONE, OpenPage
from tests.pages.reading import JUDGED, card, figure, last_days, ledger_sum, words

K = "controller.k"


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


def widget(test: AppTest, kind: str, key: str) -> Any:
    (found,) = (one for one in getattr(test, kind) if one.key == key)
    return found


def control(test: AppTest, kind: str, key: str) -> Any:
    """A control of the draft, whose key ends with how often something else changed its value."""
    (found,) = (one for one in getattr(test, kind) if re.fullmatch(rf"{re.escape(key)}_\d+", str(one.key)))
    return found


def field(test: AppTest, key: str) -> Any:
    return control(test, "number_input", f"tune_field_{key}")


def slider(test: AppTest, key: str) -> Any:
    return control(test, "select_slider", f"tune_slider_{key}")


def button(test: AppTest, key: str) -> Any:
    return widget(test, "button", key)


def changes(url: str) -> dict[str, Any]:
    """The operator's draft as the ledger keeps it."""
    with CreditCore.open(url) as core:
        saved = configure.draft_of(core.deployment, LOCAL_OPERATOR)
    return saved[1] if saved else {}


def settled(test: AppTest) -> AppTest:
    """The page once everything that it waits for is there: the browser's polling, which AppTest lacks."""
    known: set[Any] = set()
    while (jobs := {*tuning_jobs.shelf().jobs(), *_refining(test)}) != known:
        known = jobs
        assert all(job.wait(60.0) for job in jobs)
        test.run()
    assert not test.exception
    return test


def of_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw a sample from a ledger as small as a test's."""
    monkeypatch.setattr(preview.read, "__kwdefaults__", preview.read.__kwdefaults__ | {"size": 25})


def _refining(test: AppTest) -> list[Any]:
    return [test.session_state["_tuning_refining"][1]] if "_tuning_refining" in test.session_state else []


def live(url: str) -> int:
    with CreditCore.open(url) as core:
        return configure.live_version(core.deployment).version


def table(test: AppTest, column: str, place: int = 0) -> Any:
    """The frame of the ``place``-th table that has ``column``."""
    return [one.value for one in test.dataframe if column in one.value.columns][place]


def publish_elsewhere(url: str, draft: dict[str, Any], author: str = "mira") -> int:
    with CreditCore.open(url) as core:
        live = configure.live_version(core.deployment).version
        return configure.publish(core.deployment, draft, author=author, note="Meanwhile", expected_live=live).version


def publish_here(test: AppTest, note: str) -> AppTest:
    """Open the dialog, write the note, publish: the dialog's own button counts only while its opener is pressed."""
    button(test, "tuning_publish").click().run()
    widget(test, "text_area", "tuning_note").input(note)
    button(test, "tuning_publish").click()
    return button(test, "tuning_publish_now").click().run()


# Opening ----------------------------------------------------------------------------------------------------------


def test_it_opens_on_any_ledger_and_says_what_is_live(any_ledger: str, open_page: OpenPage) -> None:
    test = open_page(any_ledger, "tuning")
    assert not test.exception
    assert [title.value for title in test.title] == ["Tuning"]
    assert f"Live is version {live(any_ledger)}" in words(test)
    assert f"No changes. Live is version {live(any_ledger)}." in words(test)
    assert button(test, "tuning_publish").disabled


def test_the_shipped_gain_is_said_to_be_nearly_flat(empty_ledger: str, open_page: OpenPage) -> None:
    said = words(open_page(empty_ledger, "tuning"))
    assert "its S-curve **is nearly flat**: p is 46.9\u202f% at 50\u202fcredits behind pace and 53.1\u202f%" in said
    assert "1\u202f757.8\u202fcredits" in said
    assert "The ledger has no entries yet" in said
    assert "no demand was measured yet" in said


def test_every_tunable_has_its_control_in_one_group(empty_ledger: str, open_page: OpenPage) -> None:
    with CreditCore.open(empty_ledger) as core:
        every = list(tunables(core.config()))
    for tunable in every:
        assert sum(_belongs(tunable.key, begins) for _, _, begins in GROUPS) == 1, tunable.key
    test = open_page(empty_ledger, "tuning")
    for title, _, _ in GROUPS:
        test.session_state[f"tune_group_{title}"] = True
    test.run()
    assert not test.exception
    drawn = {
        one.key.split("_", 2)[2].rsplit("_", 1)[0]
        for kind in ("number_input", "toggle", "selectbox")
        for one in getattr(test, kind)
        if str(one.key).startswith("tune_")
    }
    assert drawn == {tunable.key for tunable in every}


# Controls ---------------------------------------------------------------------------------------------------------


def test_a_slider_moves_its_field_and_a_field_its_slider(own: Any, demo_ledger: str, open_page: OpenPage) -> None:
    url = own(demo_ledger)
    test = open_page(url, "tuning")
    slider(test, K).set_value(0.05).run()
    assert field(test, K).value == 0.05
    field(test, K).set_value(0.0123).run()
    assert slider(test, K).value == 0.012
    assert changes(url) == {K: 0.0123}
    assert not test.exception


def test_a_value_between_two_stops_is_written_on_the_nearest(own: Any, demo_ledger: str, open_page: OpenPage) -> None:
    test = open_page(own(demo_ledger), "tuning")
    field(test, K).set_value(0.0277259).run()
    assert slider(test, K).value == 0.028
    assert "0.0277259" in slider(test, K).options
    assert "0.028" not in slider(test, K).options


def test_every_default_lies_on_a_stop(empty_ledger: str) -> None:
    with CreditCore.open(empty_ledger) as core:
        for tunable in tunables(core.config()):
            if not isinstance(tunable.default, bool | str):
                among = stops_of(tunable)
                assert nearest(tunable.default, among) == tunable.default, tunable.key
                assert tunable.minimum is None or among[0] >= tunable.minimum
                assert tunable.maximum is None or among[-1] <= tunable.maximum


def test_a_change_back_to_the_live_value_is_no_change(own: Any, demo_ledger: str, open_page: OpenPage) -> None:
    url = own(demo_ledger)
    test = open_page(url, "tuning")
    before = field(test, K).value
    field(test, K).set_value(0.05).run()
    assert "1 change" in words(test)
    field(test, K).set_value(before).run()
    assert "No changes." in words(test)
    assert changes(url) == {}


def test_reset_takes_back_one_change_or_all(own: Any, demo_ledger: str, open_page: OpenPage) -> None:
    url = own(demo_ledger)
    test = open_page(url, "tuning")
    field(test, K).set_value(0.05).run()
    field(test, "controller.p_min").set_value(0.1).run()
    assert "**2 changes**" in words(test)
    assert "Changed: :blue-badge[Gain k] :blue-badge[Lowest p]" in words(test)
    assert next(box.label for box in test.expander) == "Gain", "another label would close the box"
    button(test, f"tune_reset_{K}").click().run()
    assert changes(url) == {"controller.p_min": 0.1}
    button(test, "tuning_reset_all").click().run()
    assert changes(url) == {}
    assert field(test, "controller.p_min").value == 0.02


# Curve and targets ------------------------------------------------------------------------------------------------


def test_the_offered_gain_meets_the_targets(own: Any, empty_ledger: str, open_page: OpenPage) -> None:
    url = own(empty_ledger)
    test = open_page(url, "tuning")
    offered = button(test, "tuning_use_gain")
    assert offered.label == "Use k = 0.0277"
    field(test, "controller.p_at_zero").set_value(0.3).run()
    button(test, "tuning_use_gain").click().run()
    assert changes(url) == {K: 0.0277259}
    assert (field(test, K).value, field(test, "controller.p_at_zero").value) == (0.0277259, 0.5)
    assert card(test, "p at ∓50 credits") == "20 → 80\u202f%"
    assert button(test, "tuning_use_gain").disabled
    spec = figure(test, "tuning_s_curve")
    (target,) = (trace for trace in spec["data"] if trace["name"] == "Target")
    assert (target["x"], target["y"]) == ([-50, 50], [20, 80])
    assert {trace["name"] for trace in spec["data"]} == {"Live", "Draft", "Target"}


def test_other_targets_give_another_gain(own: Any, empty_ledger: str, open_page: OpenPage) -> None:
    url = own(empty_ledger)
    test = open_page(url, "tuning")
    widget(test, "number_input", "tuning_target_ahead").set_value(0.9)
    widget(test, "number_input", "tuning_target_surplus").set_value(100.0).run()
    button(test, "tuning_use_gain").click().run()
    # k = (logit 0.9 − logit 0.2)/200, p at zero = σ((logit 0.9 + logit 0.2)/2)
    assert changes(url) == {K: 0.0179176, "controller.p_at_zero": 0.6}


def test_a_browser_that_has_not_drawn_a_change_yet_does_not_take_it_back(
    own: Any, demo_ledger: str, open_page: OpenPage
) -> None:
    """What is asked next, by a timer even, carries the other control's old value where the browser is slow."""
    test = open_page(own(demo_ledger), "tuning")
    as_it_was = test._tree.get_widget_states().widgets
    moved = slider(test, "controller.k").options[-1]
    slider(test, "controller.k").set_value(float(moved)).run()
    assert float(field(test, "controller.k").value) == float(moved)

    asked = test._tree.get_widget_states()
    fields = {one.id: one for one in as_it_was if "tune_field" in one.id}
    for one in asked.widgets:
        if one.id in fields:
            one.CopyFrom(fields.pop(one.id))
    asked.widgets.extend(fields.values())
    test._run(asked)
    assert float(slider(test, "controller.k").value) == float(field(test, "controller.k").value) == float(moved)


def test_targets_the_wrong_way_round_offer_nothing(empty_ledger: str, open_page: OpenPage) -> None:
    test = open_page(empty_ledger, "tuning")
    widget(test, "number_input", "tuning_target_behind").set_value(0.9).run()
    assert not test.exception
    assert button(test, "tuning_use_gain").disabled


def test_another_strategy_is_drawn_without_figures_of_the_s_curve(
    own: Any, demo_ledger: str, open_page: OpenPage
) -> None:
    test = open_page(own(demo_ledger), "tuning")
    control(test, "selectbox", "tune_choice_controller.strategy").set_value("reserve").run()
    assert not test.exception
    assert "Reserve is no S-curve" in words(test)
    assert "Droop" not in {metric.label for metric in test.metric}
    assert "Target" not in {trace["name"] for trace in figure(test, "tuning_s_curve")["data"]}


# Preview ----------------------------------------------------------------------------------------------------------


def test_live_replayed_is_what_the_ledger_says(demo_ledger: str, open_page: OpenPage) -> None:
    """The last day's decisions were all taken by what is live, so replaying them gives the logged ones."""
    test = settled(open_page(demo_ledger, "tuning", {"period": "today"}))
    start, end = last_days(demo_ledger, 1, DEMO_ZONE)
    kept = {"line": "1"}

    def summed(expression: str) -> Any:
        return ledger_sum(demo_ledger, f"SUM(CASE WHEN {JUDGED} THEN {expression} ELSE 0 END)", kept, start, end)

    decided, fresh = summed("1"), summed("outcome = 'fresh'")
    assert set(ledger_sum(demo_ledger, "COUNT(*)", kept | {"rule": "controller"}, start, end, by="config_version")) == {
        live(demo_ledger)
    }
    said = words(test)
    assert "**All " in said
    assert numbers.counted(decided, "decision") in said
    assert "all of these accounts' decisions come out as they were logged" in said
    assert card(test, "Fresh rate") == numbers.share(fresh / decided)


def test_a_draft_is_previewed_on_a_sample_and_then_on_all_accounts(
    own: Any, demo_ledger: str, open_page: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_few(monkeypatch)
    test = settled(open_page(own(demo_ledger), "tuning"))
    field(test, K).set_value(0.2).run()
    said = words(test)
    assert "**Sample of " in said
    assert "could expect at least half a fresh credit more" in said
    assert "told when all accounts are replayed" in said
    sampled = card(test, "Provider cost")
    settled(test)
    said = words(test)
    assert "**All " in said
    assert "**Sample of " not in said
    assert "95 % interval" in said
    assert "nobody is assumed to ask more or less" in said
    assert card(test, "Provider cost") != sampled
    assert "fresh " in said
    gained, lost = table(test, "candidate_credits", 1), table(test, "candidate_credits", 0)
    assert (gained["difference"] > 0).all()
    assert (lost["difference"] < 0).all()
    assert len(gained) <= 20
    groups = table(test, "draft")
    assert {"Plan", "Segment"} == set(groups["by"])
    assert {"Live", "Draft"} <= {trace["name"] for trace in figure(test, "tuning_burn")["data"] if trace.get("name")}
    assert "Live, median" in {trace.get("name") for trace in figure(test, "tuning_bands")["data"]}


def test_another_metric_is_told_by_plan_and_segment(own: Any, demo_ledger: str, open_page: OpenPage) -> None:
    test = settled(open_page(own(demo_ledger), "tuning"))
    field(test, K).set_value(0.2).run()
    settled(test)
    assert table(test, "draft")["live"].str.endswith("%").all()
    widget(test, "selectbox", "tuning_group_metric").set_value("provider_cost").run()
    assert table(test, "draft")["live"].str.startswith("$").all()


def test_a_preview_that_was_called_off_waits_until_it_is_wanted(
    own: Any, demo_ledger: str, open_page: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_few(monkeypatch)
    test = settled(open_page(own(demo_ledger), "tuning"))
    test.session_state["_tuning_paused"] = True
    field(test, K).set_value(0.17).run()
    assert "**Sample of " in words(test)
    assert "The other accounts were called off." in words(test)
    button(test, "tuning_go_on").click().run()
    assert "**All " in words(settled(test))


def test_a_replay_that_fails_is_told_in_words(
    own: Any, demo_ledger: str, open_page: OpenPage, monkeypatch: Any
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise LedgerUnavailable("the disk is gone")

    url = own(demo_ledger)
    monkeypatch.setattr(preview, "read", broken)
    test = settled(open_page(url, "tuning"))
    said = words(test)
    assert "could not be replayed" in said
    assert any("the disk is gone" in text.value for text in test.text)


def test_decisions_that_do_not_come_out_as_logged_are_a_warning(
    own: Any, demo_ledger: str, open_page: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "unlike", lambda *_: [1, 2, 3])
    test = settled(open_page(own(demo_ledger), "tuning"))
    assert "3\u202fdecisions of these accounts do not come out as they were logged" in "".join(
        one.value for one in test.warning
    )


def test_what_a_replay_cannot_show_is_said(own: Any, demo_ledger: str, open_page: OpenPage) -> None:
    test = settled(open_page(own(demo_ledger), "tuning"))
    test.session_state["tune_group_Coverage"] = True
    test.run()
    field(test, "coverage.target").set_value(25).run()
    assert "Assets for full coverage governs what a replay takes as it was logged" in words(test)


# Validation -------------------------------------------------------------------------------------------------------


def test_faults_are_told_together_in_words_and_stand_in_the_way(
    own: Any, demo_ledger: str, open_page: OpenPage
) -> None:
    url = own(demo_ledger)
    with CreditCore.open(url) as core:
        draft = {"controller.p_min": 0.99, "hysteresis.spend_leave_days": 9.0, "nonsense": 1, K: "<b>steep</b>"}
        configure.save_draft(core.deployment, LOCAL_OPERATOR, live(url), draft)
    test = open_page(url, "tuning")
    assert not test.exception
    said = words(test)
    for fault in ("nonsense", "Gain k", "Conserve from"):
        assert fault in said
    assert "mend first" in said
    assert button(test, "tuning_publish").disabled
    button(test, "tuning_reset_all").click().run()
    assert not test.exception
    assert "No changes." in words(test)


# Drafts and publishing --------------------------------------------------------------------------------------------


def test_a_draft_is_there_again_in_a_new_session(own: Any, demo_ledger: str, open_page: OpenPage) -> None:
    url = own(demo_ledger)
    field(open_page(url, "tuning"), K).set_value(0.05).run()
    test = open_page(url, "tuning")
    assert field(test, K).value == 0.05
    assert "**1 change**" in words(test)


def test_publishing_needs_a_note(own: Any, demo_ledger: str, open_page: OpenPage) -> None:
    url = own(demo_ledger)
    test = open_page(url, "tuning")
    field(test, K).set_value(0.05).run()
    publish_here(test, "   ")
    assert "A note is required" in "".join(error.value for error in test.error)
    assert changes(url) == {K: 0.05}


def test_publishing_writes_a_version_and_a_release_and_the_next_decision_bears_it(
    own: Any, demo_ledger: str, open_page: OpenPage
) -> None:
    url = own(demo_ledger)
    with CreditCore.open(url) as core:
        core.add_user("ada", "basic")
        before = core.authorize(Request("ada", "r-1", "s"))
        test = open_page(url, "tuning")
        button(test, "tuning_use_gain").click().run()
        publish_here(test, "# Steeper *gain*")
        assert not test.exception
        versions, released, rollout = configure.versions_and_releases(core.deployment)
        assert (versions[-1].author, versions[-1].note) == (LOCAL_OPERATOR, "# Steeper *gain*")
        assert versions[-1].body["controller"]["k"] == 0.0277259
        assert (released[-1].version, released[-1].arm, released[-1].share) == (versions[-1].version, "all", 1.0)
        core.config()
        after = core.authorize(Request("ada", "r-2", "s"))
    assert before.config_version != after.config_version == rollout.version == versions[-1].version
    assert f"Version {rollout.version} is live for everybody" in "".join(one.value for one in test.success)
    assert f"No changes. Live is version {rollout.version}." in words(test)
    assert changes(url) == {}


def test_what_needs_another_persons_approval_waits_and_the_draft_stays(
    own: Any, demo_ledger: str, open_page: OpenPage
) -> None:
    url = own(demo_ledger)
    with CreditCore.open(url) as core:
        core.release_version(core.propose({"releases.approval_above": 0.5}, "mira", "Two pairs of eyes"), author="mira")
        live = core.config().body()
        test = open_page(url, "tuning")
        field(test, K).set_value(0.05).run()
        publish_here(test, "Steeper")

        assert not test.exception
        assert "waits for another person's approval" in "".join(one.value for one in test.info)
        assert core.config().body() == live
    assert changes(url) == {K: 0.05}


def test_who_published_first_is_named_and_nothing_is_lost(own: Any, demo_ledger: str, open_page: OpenPage) -> None:
    url = own(demo_ledger)
    test = open_page(url, "tuning")
    field(test, K).set_value(0.05).run()
    button(test, "tuning_publish").click().run()
    theirs = publish_elsewhere(url, {"controller.p_min": 0.1, K: 0.03})
    widget(test, "text_area", "tuning_note").input("Mine")
    # A full run finds the stale draft itself; in a browser the dialog alone runs, and the service refuses.
    test.run()
    assert not test.exception
    said = words(test)
    assert f"Version {theirs} was released" in said
    assert "by mira: Meanwhile" in said
    assert "Both changed Gain k" in said
    assert sorted(table(test, "key")["key"]) == [K, "controller.p_min"]
    assert table(test, "key", place=1)[["key", "new"]].values.tolist() == [[K, "0.05"]]
    button(test, "tuning_carry").click().run()
    assert not test.exception
    assert (field(test, K).value, field(test, "controller.p_min").value) == (0.05, 0.1)
    assert changes(url) == {K: 0.05}
    assert f"to version {theirs}" in words(test)


def test_being_overtaken_while_publishing_writes_nothing_and_offers_to_carry_over(
    own: Any, demo_ledger: str, open_page: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = own(demo_ledger)
    test = open_page(url, "tuning")
    field(test, K).set_value(0.05).run()
    publish, theirs = configure.publish, []

    def overtaken(*args: Any, **more: Any) -> Any:
        monkeypatch.setattr(configure, "publish", publish)
        theirs.append(publish_elsewhere(url, {"controller.p_min": 0.1}))
        return publish(*args, **more)

    monkeypatch.setattr(configure, "publish", overtaken)
    publish_here(test, "Mine")
    assert not test.exception
    assert live(url) == theirs[0]
    assert changes(url) == {K: 0.05}
    assert f"Version {theirs[0]} went live after you began" in "".join(one.value for one in test.warning)
    assert "by mira: Meanwhile" in words(test)
    button(test, "tuning_carry_now").click().run()
    assert not test.exception
    assert (field(test, K).value, field(test, "controller.p_min").value) == (0.05, 0.1)
    button(test, "tuning_publish").click().run()
    assert widget(test, "text_area", "tuning_note").value == "Mine"


def test_a_stale_draft_can_be_discarded(own: Any, demo_ledger: str, open_page: OpenPage) -> None:
    url = own(demo_ledger)
    field(open_page(url, "tuning"), K).set_value(0.05).run()
    theirs = publish_elsewhere(url, {"controller.p_min": 0.1})
    test = open_page(url, "tuning")
    assert "Nothing of it is lost." in "".join(one.value for one in test.warning)
    button(test, "tuning_discard").click().run()
    assert not test.exception
    assert f"No changes. Live is version {theirs}." in words(test)
    assert changes(url) == {}


def test_a_draft_that_somebody_else_published_already_is_gone_without_a_question(
    own: Any, demo_ledger: str, open_page: OpenPage
) -> None:
    url = own(demo_ledger)
    field(open_page(url, "tuning"), K).set_value(0.05).run()
    theirs = publish_elsewhere(url, {K: 0.05})
    test = open_page(url, "tuning")
    assert f"No changes. Live is version {theirs}." in words(test)
    assert changes(url) == {}


def test_a_hostile_author_and_note_are_shown_letter_by_letter(own: Any, demo_ledger: str, open_page: OpenPage) -> None:
    url = own(demo_ledger)
    field(open_page(url, "tuning"), K).set_value(0.05).run()
    publish_elsewhere(url, {"controller.p_min": 0.1}, author="![x](http://evil.example/a.png)")
    test = open_page(url, "tuning")
    assert not test.exception
    assert any("![x](http://evil.example/a.png)" in text.value for text in test.text)
    assert not any("![x](" in one.value for one in (*test.markdown, *test.caption, *test.warning))


def test_a_tunable_is_written_for_people() -> None:
    values = (0.0277259, 14.0, -3.0, True, None, "dalle-3-hd", 0.00001, 1_800.0)
    assert [written(value) for value in values] == ["0.0277259", "14", "−3", "on", "–", "dalle-3-hd", "0.00001", "1800"]


def test_a_ledger_that_cannot_be_read_is_told_in_words(
    demo_ledger: str, open_page: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_: Any) -> Any:
        raise LedgerUnavailable("the disk is gone")

    monkeypatch.setattr(configure, "live_version", away)
    test = open_page(demo_ledger, "tuning")
    assert not test.exception
    assert "could not be read just now" in words(test)
    assert any("the disk is gone" in text.value for text in test.text)


def test_a_draft_that_cannot_be_saved_stays_and_says_so(
    own: Any, demo_ledger: str, open_page: OpenPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> Any:
        raise LedgerUnavailable("the disk is full")

    url = own(demo_ledger)
    test = open_page(url, "tuning")
    monkeypatch.setattr(configure, "save_draft", away)
    field(test, K).set_value(0.05).run()
    assert not test.exception
    assert "not saved: the disk is full" in words(test)
    assert field(test, K).value == 0.05
    monkeypatch.undo()
