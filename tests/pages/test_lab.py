"""The Lab page: laws on the ledger's own requests, made-up sessions, targets that become a draft, rewards or a refusal."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from credit_core import CreditCore
from credit_core.service import configure
from pages.components import lab_jobs, numbers
from pages.components.session import LOCAL_OPERATOR
from tests.pages.conftest import OpenPage
from tests.pages.reading import figure, rows, words

#: What a job may take in a test, on a machine that is busy; where the kernel was never compiled, that too.
PATIENCE_S = 120.0


@pytest.fixture
def own(demo_ledger: str, tmp_path: Path) -> str:
    """A copy of the demo that a test may write to."""
    path = tmp_path / "own.db"
    with (
        closing(sqlite3.connect(demo_ledger.removeprefix("sqlite:///"))) as source,
        closing(sqlite3.connect(path)) as target,
    ):
        source.backup(target)
    return f"sqlite:///{path}"


@pytest.fixture
def settled(open_page: OpenPage) -> Callable[..., AppTest]:
    """Open the page and wait for what it began."""

    def opened(url: str) -> AppTest:
        return done(open_page(url, "lab"))

    return opened


def done(test: AppTest) -> AppTest:
    """Wait for every job of the process, and draw the page again."""
    for job in list(lab_jobs.bench()._jobs.values()):
        assert job.wait(PATIENCE_S)
    return test.run()


def press(test: AppTest, key: str) -> AppTest:
    (found,) = (button for button in test.button if button.key == key)
    return found.click().run()


def one(test: AppTest, kind: str, key: str) -> Any:
    (found,) = (widget for widget in getattr(test, kind) if widget.key == key)
    return found


def test_an_empty_ledger_says_what_fills_it_and_shows_made_up_sessions(
    empty_ledger: str, settled: Callable[..., AppTest]
) -> None:
    test = settled(empty_ledger)
    assert not test.exception
    assert "python -m credit_core demo" in test.code[0].value
    assert len(rows(test, "Laws on made-up sessions")) == 7
    assert "sessions the fresh rate varies by" in words(test)
    assert "in equal parts, because the ledger has no accounts yet" in words(test)


def test_laws_stand_as_dots_and_in_a_table(demo_ledger: str, settled: Callable[..., AppTest]) -> None:
    test = settled(demo_ledger)
    assert not test.exception
    table = rows(test, "Laws on the same arrivals")
    assert (
        {"live", "always_fresh", "headroom", "thompson"} <= set(table["slug"]) if "slug" in table else len(table) == 19
    )
    live = table[table["title"] == "Live"].iloc[0]
    assert f"Live reaches a pacing efficiency of **{numbers.share(live['efficiency'])}**" in words(test)
    spec = figure(test, "lab_trade_off")
    assert re.search(r"as this ledger's accounts are now, .*Free \(20\), .*Basic \(200\)", words(test))
    dots = [text for trace in spec["data"] if trace.get("mode") == "markers+text" for text in trace["hovertext"]]
    assert len(dots) == 18, "thompson stands in the table alone"
    assert any("offline best" in note["text"] for note in spec["layout"]["annotations"])


def test_a_comparison_that_was_cancelled_can_be_started_again(
    demo_ledger: str, settled: Callable[..., AppTest]
) -> None:
    test = settled(demo_ledger)
    lab_jobs.bench()._jobs[next(key for key in lab_jobs.bench()._jobs if key[0] == "laws")].stop()  # type: ignore[index]
    test.run()
    assert any("was stopped before its end" in info.value for info in test.info)
    again = done(press(test, "lab_laws_again"))
    assert len(rows(again, "Laws on the same arrivals")) == 19


def test_targets_become_a_draft_that_tuning_shows(own: str, settled: Callable[..., AppTest]) -> None:
    test = settled(own)
    one(test, "number_input", "lab_bound_run_out_share").set_value(9.0)
    one(test, "number_input", "lab_budget").set_value(40)
    test = done(press(test, "lab_search"))
    assert not test.exception
    assert "candidates tried" in words(test)
    finalists = rows(test, "Finalists on all accounts, best first")
    assert finalists["label"].nunique() == len(finalists)
    assert "Live" in set(finalists["label"])
    test = press(test, "lab_use")
    assert any("your draft now" in success.value for success in test.success)
    with CreditCore.open(own) as core:
        saved = configure.draft_of(core.deployment, LOCAL_OPERATOR)
        live = configure.live_version(core.deployment).version
    assert saved is not None
    assert saved[0] == live
    assert set(saved[1]) == set(rows(test, "What differs")["key"])


def test_without_rewards_it_says_how_to_log_them(hostile_ledger: str, settled: Callable[..., AppTest]) -> None:
    test = settled(hostile_ledger)
    assert "core.reward(user_id, request_id, 1.0)" in [code.value for code in test.code]
    assert not [button for button in test.button if button.key == "lab_estimate"]


def test_too_few_accounts_are_refused_in_words(demo_ledger: str, settled: Callable[..., AppTest]) -> None:
    test = done(press(settled(demo_ledger), "lab_estimate"))
    assert not test.exception
    said = words(test)
    assert "No estimate is given" in said
    assert "accounts; at least 50 are needed" in said
    assert not [metric for metric in test.metric if metric.label == "Doubly robust"]
    assert figure(test, "lab_overlap")


def test_hostile_names_are_shown_not_obeyed(hostile_ledger: str, settled: Callable[..., AppTest]) -> None:
    test = settled(hostile_ledger)
    assert not test.exception
    assert test.title[0].value == "Lab"
