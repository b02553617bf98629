"""``calibrate``, ``experiment`` and ``estimate`` on the command line."""

from __future__ import annotations

import json
from typing import Any

import pytest

from credit_core import CreditCore
from credit_core.cli import main
from tests.service.scenes import NOW, StoppedClock, ask


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Sixteen accounts of two plans that ask every few hours for two days, and reward what was fresh."""
    url = f"sqlite:///{tmp_path_factory.mktemp('trials') / 'ledger.db'}"
    clock = StoppedClock(NOW)
    with CreditCore.open(url, clock=clock) as core:
        for number in range(16):
            core.add_user(f"u-{number}", "basic" if number % 2 else "free", at=clock.now)
        for turn in range(8):
            for number in range(16):
                served = ask(core, f"r-{turn}", user=f"u-{number}", images=4, at=clock.advance(seconds=7))
                if turn == 0:
                    core.reward(f"u-{number}", f"r-{turn}", 1.0 if served.fresh else 0.0, at=clock.now)
            clock.advance(hours=6)
    return url


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = main(list(words))
    return code, capsys.readouterr().out


def test_the_design_s_points_lead_to_its_k_without_a_ledger(capsys: pytest.CaptureFixture[str]) -> None:
    points = ("--target", "p(-50)=0.2", "--target", "p(50)=0.8")
    code, printed = run(capsys, "calibrate", *points, "--json")
    changes: dict[str, Any] = json.loads(printed)["changes"]
    assert code == 0
    assert (round(changes["controller.k"], 7), round(changes["controller.p_at_zero"], 9)) == (0.0277259, 0.5)
    assert "controller.k = 0.0277" in run(capsys, "calibrate", *points)[1]


def test_figures_lead_to_a_table_and_changes(ledger: str, capsys: pytest.CaptureFixture[str]) -> None:
    asked = (
        "calibrate",
        "--target",
        "dry_time<90%",
        "--target",
        "fresh_rate=max",
        "--tries",
        "30",
        "--database",
        ledger,
    )
    code, printed = run(capsys, *asked, "--json")
    document = json.loads(printed)
    assert (code, document["met"], document["live"]) == (0, True, 1)
    best = document["finalists"][0]
    assert best["changes"] == document["changes"]
    assert best["fresh_rate"] >= next(row["fresh_rate"] for row in document["finalists"] if row["name"] == "live")
    assert json.loads(run(capsys, *asked, "--json")[1]) == document, "the same seed gives the same table"
    assert "The configuration that does it" in run(capsys, *asked)[1]


def test_what_cannot_be_reached_is_told_and_is_exit_1(ledger: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, printed = run(capsys, "calibrate", "--target", "fresh_rate>1", "--tries", "12", "--database", ledger)
    assert code == 1
    assert "None of them meets every bound" in printed


def test_laws_are_listed_best_efficiency_first(ledger: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, printed = run(capsys, "experiment", "--law", "reserve_30", "--law", "zones", "--json", "--database", ledger)
    document = json.loads(printed)
    assert (code, document["accounts"], document["requests"]) == (0, 16, 128)
    found = [row["efficiency"] or row["running_efficiency"] for row in document["laws"]]
    assert {row["slug"] for row in document["laws"]} == {"always_fresh", "reserve_30", "zones"}
    assert found == sorted(found, reverse=True)
    assert "No other law has more efficiency" in run(capsys, "experiment", "--database", ledger)[1]


def test_made_up_sessions_need_no_ledger(capsys: pytest.CaptureFixture[str]) -> None:
    code, printed = run(capsys, "experiment", "--sessions", "300", "--json")
    document = json.loads(printed)
    assert code == 0
    assert document["sessions"] >= 300
    assert {"session_variance", "sessions_to_run_out"} <= set(document["laws"][0])
    assert "made-up sessions" in run(capsys, "experiment", "--sessions", "300")[1]


def test_an_estimate_that_cannot_be_given_says_why(ledger: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, printed = run(capsys, "estimate", "--set", "controller.p_at_zero=0.6", "--database", ledger)
    assert code == 1
    assert "No estimate is given:" in printed
    assert "at least 50 are needed" in printed
    document = json.loads(run(capsys, "estimate", "--version", "1", "--json", "--database", ledger)[1])
    assert document["dr"] is None
    assert document["diagnosis"]["rows"] == 16


@pytest.mark.parametrize(
    "words",
    [
        ("calibrate", "--target", "luck<1"),
        ("experiment", "--law", "magic"),
        ("estimate",),
        ("estimate", "--version", "9"),
        ("experiment", "--sessions", "0"),
    ],
)
def test_misuse_is_exit_2(words: tuple[str, ...], ledger: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--database", ledger]) == 2
    assert "error:" in capsys.readouterr().err
