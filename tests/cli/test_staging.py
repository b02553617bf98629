"""Staged releases on the command line: start, approve, ramp, hold, decline, and a watcher that rolls back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from credit_core import CreditCore
from credit_core.cli import main, staging
from credit_core.errors import InvalidRequest, LedgerUnavailable
from credit_core.policy.rollout import Guardrail
from credit_core.service import watch as watching
from tests.cli.test_commands import Run, run
from tests.service.scenes import StoppedClock
from tests.service.stages import bad_candidate, everybody_asks

__all__ = ["run"]


@pytest.fixture
def candidate(sqlite_ledger: str) -> Iterator[int]:
    """A version that serves nobody fresh, proposed on the test's ledger by olga."""
    with CreditCore.open(sqlite_ledger, clock=StoppedClock(datetime.now(UTC))) as core:
        yield bad_candidate(core)


def test_a_breach_is_rolled_back_by_a_watcher_and_listed_with_its_reason(
    run: Run, candidate: int, sqlite_ledger: str
) -> None:
    begun = run(
        "config", "stage", str(candidate), "--steps", "0.5,1", "--hold", "2", "--guardrail", "fresh_rate>=0.3:5",
        "--author", "olga", "--reason", "Try it",
    )  # fmt: skip
    assert (begun.code, begun.out.split(";")[0]) == (0, f"Rollout 1 of version {candidate}: running, share 0.5")
    clock = StoppedClock(datetime.now(UTC))
    with CreditCore.open(sqlite_ledger, clock=clock) as core:
        everybody_asks(core, clock)
    seen = run("watch", "--once")
    assert (
        seen.code,
        seen.out.startswith(f"Version {candidate} (rollout 1) rolled back. Guardrail breached: Fresh rate 0.0 %"),
    ) == (0, True)
    listed = run("config", "rollouts", "--json").document
    assert [(one["standing"]["status"], one["standing"]["author"]) for one in listed] == [
        ("rolled_back", "titrate watch")
    ]
    assert "rolled_back" in run("config", "rollouts").out
    assert run("watch", "--once").out == "No staged release is live.\n"
    assert run("config", "ramp", "1", "--reason", "x").code == 2


def test_approval_by_another_person(run: Run, candidate: int) -> None:
    strict = run("config", "propose", "releases.approval_above=0", "--note", "Two pairs of eyes", "--json").document[
        "version"
    ]
    assert run("config", "release", str(strict)).code == 0
    waiting = run("config", "release", str(candidate), "--author", "olga")
    assert (waiting.code, "waits for approval by another person" in waiting.err) == (1, True)
    staged = run("config", "stage", str(candidate), "--steps", "0.1", "--author", "olga", "--reason", "x")
    assert (staged.code, "Approve with: python -m credit_core config approve 2" in staged.out) == (0, True)
    refused = run("config", "approve", "2", "--author", "Olga")
    assert (refused.code, "another person has to approve it" in refused.err) == (1, True)
    assert run("config", "approve", "2", "--author", "mira", "--content", "abc").code == 2
    assert run("config", "approve", "9", "--author", "mira").code == 2
    assert run("config", "approve", "2", "--author", "mira").code == 0
    stale = run("config", "approve", "1", "--author", "mira")
    assert (stale.code, "came in between" in stale.err) == (1, True)
    held = run("config", "hold", "2", "--author", "mira", "--reason", "Lunch", "--json")
    assert held.document["standing"]["status"] == "held"
    assert run("config", "resume", "2", "--reason", "Back").out.startswith("Rollout 2 of version 3: running, share 0.1")


def test_declining_leaves_everything_as_it_was(run: Run, candidate: int) -> None:
    run(
        "config",
        "release",
        str(run("config", "propose", "releases.approval_above=0", "--note", "x", "--json").document["version"]),
    )
    run("config", "stage", str(candidate), "--author", "olga", "--reason", "x")
    assert (
        run("config", "decline", "1", "--author", "mira", "--reason", "Friday", "--json").document["standing"]["status"]
        == "declined"
    )


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("fresh_rate>=0.3", Guardrail("fresh_rate", "at_least", 0.3, "itself")),
        ("run_out_share <= control+0.02 : 250", Guardrail("run_out_share", "at_most", 0.02, "control", 250)),
        ("fresh_rate>=control-0.1:9:pause", Guardrail("fresh_rate", "at_least", -0.1, "control", 9, "pause")),
        ("cost_per_account<=1.5:10:roll_back", Guardrail("cost_per_account", "at_most", 1.5, "itself", 10)),
    ],
)
def test_a_guardrail_is_written_in_one_word(text: str, wanted: Guardrail) -> None:
    assert staging.guardrail(text) == wanted


@pytest.mark.parametrize(
    "text", ["fresh_rate", "fresh_rate=0.3", "fresh_rate>=lots", "fresh_rate>=0.3:x", "a>=1:2:shout", "a>=1.2.3"]
)
def test_a_guardrail_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"is not a (guardrail|number)"):
        staging.guardrail(text)


@pytest.mark.parametrize(
    "words",
    [
        ("stage", "3", "--steps", "a,b", "--reason", "x"),
        ("stage", "3", "--steps", "0.5,0.1", "--reason", "x"),
        ("stage", "3", "--guardrail", "happiness>=1", "--reason", "x"),
        ("stage", "99", "--reason", "x"),
    ],
)
def test_misuse_is_told_and_begins_nothing(run: Run, candidate: int, words: tuple[str, ...]) -> None:
    assert candidate == 3
    assert run("config", *words).code == 2
    assert run("config", "rollouts").out == "No version was released in stages yet.\n"


def test_a_watcher_goes_on_while_the_ledger_is_away(
    run: Run, candidate: int, sqlite_ledger: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    looks: list[Any] = [
        LedgerUnavailable("The ledger is away."),
        [watching.Watched(1, candidate, "ramp", "On")],
        KeyboardInterrupt(),
    ]

    def look(_: Any) -> Any:
        next_one = looks.pop(0)
        if isinstance(next_one, BaseException):
            raise next_one
        return next_one

    monkeypatch.setattr(watching, "watch", look)
    assert main(["watch", "--interval", "0.1", "--database", sqlite_ledger]) == 130
    told = capsys.readouterr()
    assert told.out == "Version 3 (rollout 1) ramped. On\n"
    assert "error: The ledger is away." in told.err
    assert run("watch", "--interval", "0").code == 2
