"""The copy on disk from the command line: filled, followed, made anew, and reported in another zone."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from credit_core.analytics import manifest
from credit_core.cli import main
from credit_core.errors import InvalidConfig
from credit_core.settings import facts_folder, facts_memory, facts_store, facts_threads

Run = Callable[..., tuple[int, Any]]


@pytest.fixture
def run(sqlite_ledger: str, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command on the test's ledger; gives its exit code, and its JSON or what it said."""

    def command(*words: str) -> tuple[int, Any]:
        capsys.readouterr()
        code = main([*words, "--database", sqlite_ledger, "--json"])
        printed = capsys.readouterr()
        return code, json.loads(printed.out) if printed.out else printed.err

    return command


def test_sync_copies_what_is_new_beside_the_ledger(run: Run, sqlite_ledger: str) -> None:
    assert facts_store(sqlite_ledger) is None, "nothing is on disk before the first sync"
    code, made = run("demo", "--entries", "10000")
    assert code == 0
    code, first = run("sync")
    assert (code, first["rows"], first["entries"]) == (0, made["entries"], made["entries"])
    assert facts_store(sqlite_ledger) == facts_folder(sqlite_ledger) == Path(first["folder"])
    assert run("sync")[1]["rows"] == 0
    again = run("sync", "--rebuild")[1]
    assert (again["rows"], again["entries"]) == (made["entries"], made["entries"])


def test_days_to_keep_are_remembered(run: Run) -> None:
    made = run("demo", "--entries", "10000")[1]
    kept = run("sync", "--keep-days", "30")[1]
    assert kept["keep_days"] == 30
    assert kept["begins_at"] is not None
    assert kept["entries"] + kept["left_out"] == made["entries"]
    again = run("sync", "--rebuild")[1]
    assert (again["entries"], again["keep_days"]) == (kept["entries"], 30)
    assert run("sync", "--keep-days", "0")[1]["entries"] == made["entries"]


def test_facts_alone_say_what_they_are(run: Run, tmp_path: Path) -> None:
    folder = str(tmp_path / "alone")
    code, made = run("demo", "--entries", "10000", "--facts-only", "--facts", folder)
    assert (code, made["folder"]) == (0, folder)
    code, said = run("sync", "--facts", folder)
    assert code == 2
    assert "made up" in said
    assert "--rebuild" in said


def test_another_zone_is_told_and_the_next_sync_is_in_it(run: Run, sqlite_ledger: str) -> None:
    run("sync")
    assert run("config", "zone")[1] == {"reporting_zone": "UTC", "before": "UTC"}
    assert run("config", "zone", "Asia/Kathmandu")[1] == {"reporting_zone": "Asia/Kathmandu", "before": "UTC"}
    assert run("sync")[1]["zone"] == "Asia/Kathmandu"
    code, said = run("config", "zone", "Europe/Atlantis")
    assert code == 2
    assert "IANA" in said


@pytest.mark.parametrize(
    "words",
    [
        ("demo", "--entries", "9"),
        ("demo", "--entries", "10000", "--users", "5"),
        ("sync", "--every", "0"),
        ("sync", "--keep-days", "-1"),
        ("demo", "--facts-only"),
        ("demo", "--entries", "10000", "--facts", "x"),
    ],
)
def test_misuse_says_what_to_do(run: Run, words: tuple[str, ...]) -> None:
    code, said = run(*words)
    assert code == 2
    assert said.startswith("error: --")


def test_sync_follows_until_it_is_stopped(sqlite_ledger: str) -> None:
    command = [sys.executable, "-m", "credit_core", "sync", "--follow", "--every", "0.05", "--database", sqlite_ledger]
    # A shell has what it runs in the background ignore interrupts, and so would the child.
    child = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    )
    assert child.stderr is not None
    assert "Following" in child.stderr.readline()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", sys.stderr)
        assert main(["sync", "--database", sqlite_ledger]) == 2, "another process is the writer"
    child.send_signal(signal.SIGINT)
    assert child.wait(30) == 130
    child.stderr.close()
    assert manifest.read(facts_folder(sqlite_ledger)) is not None


def test_limits_of_queries_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (facts_memory(), facts_threads()) == ("1GB", 2)
    monkeypatch.setenv("CREDITS_FACTS_MEMORY", "512MB")
    monkeypatch.setenv("CREDITS_FACTS_THREADS", "4")
    assert (facts_memory(), facts_threads()) == ("512MB", 4)
    monkeypatch.setenv("CREDITS_FACTS_MEMORY", "much")
    monkeypatch.setenv("CREDITS_FACTS_THREADS", "0")
    for setting in (facts_memory, facts_threads):
        with pytest.raises(InvalidConfig, match="Give a"):
            setting()
