"""``python -m credit_core replay``: live against what is to be tried, in words and as JSON."""

from __future__ import annotations

import json

import pytest

from credit_core import CreditCore
from credit_core.cli import main
from tests.service.scenes import NOW, StoppedClock, ask


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Twelve accounts of two plans that ask every few hours for two days; version 2 is proposed, not live."""
    url = f"sqlite:///{tmp_path_factory.mktemp('replay') / 'ledger.db'}"
    clock = StoppedClock(NOW)
    with CreditCore.open(url, clock=clock) as core:
        for number in range(12):
            core.add_user(f"u-{number}", "basic" if number % 2 else "free", at=clock.now)
        for turn in range(8):
            for number in range(12):
                ask(core, f"r-{turn}", user=f"u-{number}", at=clock.advance(seconds=7))
            clock.advance(hours=6)
        core.propose({"controller.p_at_zero": 0.9}, "olga", "bolder")
    return url


def test_changes_are_compared_with_what_is_live(ledger: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "--set", "controller.p_at_zero=0.9", "--days", "7", "--database", ledger]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(
        "Live (version 1) → version 1 with controller.p_at_zero=0.9, over the last 7 days of 12 accounts."
    )
    fresh = next(line for line in printed.splitlines() if line.startswith("Fresh rate "))
    assert fresh.count("%") == 5
    assert "nobody asks more or less" in printed


def test_a_version_gives_the_same_as_its_changes_as_json(ledger: str, capsys: pytest.CaptureFixture[str]) -> None:
    documents = []
    for words in (["--version", "2"], ["--set", "controller.p_at_zero=0.9"]):
        assert main(["replay", *words, "--json", "--by-plan", "--database", ledger]) == 0
        documents.append(json.loads(capsys.readouterr().out))
    assert documents[0]["metrics"] == documents[1]["metrics"]
    rows = {(row["group"], row["slug"]): row for row in documents[0]["metrics"]}
    fresh = rows["all", "fresh_rate"]
    assert fresh["candidate"] > fresh["live"]
    assert fresh["low"] < fresh["difference"] < fresh["high"]
    assert {group for group, _ in rows} == {"all", "basic", "free", "default"}
    assert rows["basic", "fresh_rate"]["low"] is None, "six accounts are too few"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "Name what to try"),
        (["--version", "9"], "There is no configuration version 9"),
        (["--set", "controller.k=-1"], "controller.k"),
        (["--set", "nonsense"], "KEY=VALUE"),
    ],
)
def test_misuse_is_told(ledger: str, capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    assert main(["replay", *words, "--database", ledger]) == 2
    assert said in capsys.readouterr().err


def test_a_ledger_that_is_not_there_is_told(tmp_path: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "--version", "1", "--database", f"sqlite:///{tmp_path}/none.db"]) == 2
    assert "There is no ledger" in capsys.readouterr().err
