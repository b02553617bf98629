"""The command line: words for people, JSON for machines, exit 0 done, 1 found something wrong, 2 misuse (SPEC 8)."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from credit_core import CreditCore, Request
from credit_core.cli import main
from credit_core.importers import demo
from credit_core.service import configure
from credit_core.store.unit import Unit
from tests.importers.rows import row, write
from tests.service.scenes import NOW, ask, make_live

ROOT = Path(__file__).resolve().parents[2]


class Ran(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Ran]


@pytest.fixture
def run(sqlite_ledger: str, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command on the test's ledger, or on ``url``; misuse that argparse finds gives its exit code."""

    def command(*words: str, url: str = sqlite_ledger) -> Ran:
        capsys.readouterr()
        try:
            code = main([*words, "--database", url])
        except SystemExit as left:
            code = int(left.code or 0)
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        return Ran(code, printed.out, printed.err)

    return command


@pytest.fixture(scope="session")
def demo_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small demo ledger, to be copied."""
    path = tmp_path_factory.mktemp("demo") / "demo.db"
    assert main(["demo", "--users", "40", "--days", "12", "--database", f"sqlite:///{path}", "--json"]) == 0
    return path


@pytest.fixture
def demo_url(demo_file: Path, tmp_path: Path) -> str:
    shutil.copy(demo_file, tmp_path / "demo.db")
    return f"sqlite:///{tmp_path / 'demo.db'}"


def raw(url: str, *statements: str) -> None:
    """What somebody with the file could do: no trigger, check or foreign key in the way."""
    connection = sqlite3.connect(url.removeprefix("sqlite:///"))
    connection.execute("PRAGMA ignore_check_constraints=ON")
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        connection.execute(f"DROP TRIGGER {name}")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


# ----------------------------------------------------------------------------------------------------------- init, demo


def test_init_makes_a_ledger_and_may_be_repeated(run: Run, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new.db'}"
    made = run("init", "--reporting-zone", "Europe/Berlin", "--json", url=url)
    assert (made.code, made.document) == (0, {"users": 0, "reporting_zone": "Europe/Berlin"})
    again = run("init", url=url)
    assert (again.code, again.out) == (0, "The ledger is ready: 0 users, reports in Europe/Berlin.\n")


def test_the_demo_fills_an_empty_ledger_that_passes_verify(run: Run, demo_url: str) -> None:
    with CreditCore.open(demo_url) as core:
        assert core.users() == 40
    found = run("verify", "--json", url=demo_url)
    assert (found.code, found.document) == (0, [])
    assert "13 invariants hold." in run("verify", url=demo_url).out


def test_a_demo_never_mixes_with_users(run: Run, demo_url: str) -> None:
    refused = run("demo", url=demo_url)
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.startswith("error: This ledger has users already")
    kept = run("demo", "--if-empty", "--json", url=demo_url)
    assert (kept.code, kept.document) == (0, {"users": 40, "made": False})


def test_the_first_version_of_a_demo_is_as_old_as_the_demo(run: Run, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new.db'}"
    assert run("demo", "--if-empty", "--users", "4", "--days", "5", url=url).code == 0
    with CreditCore.open(url) as core:
        _, released, _ = configure.versions_and_releases(core.deployment)
    assert released[0].released_at <= datetime.now(UTC) - timedelta(days=4)


@pytest.mark.parametrize("bad", [("--users", "0"), ("--days", "-3"), ("--days", "1000000")])
def test_a_demo_of_nobody_or_no_days_is_misuse(run: Run, bad: tuple[str, str]) -> None:
    refused = run("demo", *bad)
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.startswith(f"error: {bad[0]}")


def test_the_demo_of_a_seed_is_the_same_everywhere_and_of_another_seed_another(tmp_path: Path) -> None:
    heads = []
    for number, seed in enumerate((3, 3, 4)):
        url = f"sqlite:///{tmp_path / f'{number}.db'}"
        demo.make(url, datetime(2025, 3, 10, 12, tzinfo=UTC), users=12, days=5, seed=seed)
        with CreditCore.open(url) as core, core.deployment.ledger.reading() as connection:
            rows = connection.exec_driver_sql(
                "SELECT account_id, seq, kind, occurred_at, recorded_at, d_avail_uc, d_held_uc, request_id, rule, p, u01"
                " FROM ledger_entries ORDER BY account_id, seq"
            ).all()
        heads.append([tuple(one) for one in rows])
    assert heads[0] == heads[1]
    assert heads[0] != heads[2]


# --------------------------------------------------------------------------------------------------------------- import


def test_an_import_tells_how_every_row_ended(run: Run, tmp_path: Path) -> None:
    file = write(tmp_path / "log.csv", [row(), row("12:01:00", predict_status="FAILED"), row(groupId="")])
    told = run("import", "gentd26", str(file), "--mode", "govern")
    assert told.code == 0
    assert "3 rows read from log.csv, 1 users" in told.out
    assert "= 3 rows read." in told.out
    assert "line 4: groupId" in told.out
    again = run("import", "gentd26", str(file), "--mode", "govern", "--json")
    assert (again.document["new"], again.document["known"], again.document["reject_file"]) == (0, 2, 1)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--plan", "platinum"], "platinum"),
        (["--timezone", "Mars/Base"], "Mars/Base"),
        (["--users-timezone", "Mars/Base"], "Mars/Base"),
        (["--draw-salt", "xyz"], "--draw-salt"),
        (["--draw-salt", "ab"], "--draw-salt"),
    ],
)
def test_an_import_that_cannot_begin_is_misuse_and_writes_nothing(
    run: Run, tmp_path: Path, more: list[str], said: str
) -> None:
    url = f"sqlite:///{tmp_path / 'new.db'}"
    file = write(tmp_path / "log.csv", [row()])
    refused = run("import", "gentd26", str(file), "--mode", "govern", *more, url=url)
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.startswith("error: ")
    assert said in refused.err
    assert [path.name for path in tmp_path.iterdir() if "new" in path.name] == []


def test_a_log_that_is_missing_empty_or_of_another_kind_is_misuse(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty.csv").touch()
    (tmp_path / "other.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    for name, said in (
        ("missing.csv", "cannot be read"),
        ("empty.csv", "is empty"),
        ("other.csv", "lacks the columns"),
    ):
        refused = run("import", "gentd26", str(tmp_path / name), "--mode", "record", "--json")
        assert (refused.code, refused.out) == (2, "")
        assert said in refused.err


# -------------------------------------------------------------------------------------------- reconcile, sweep, verify


def test_reconcile_and_sweep_tell_what_they_did(run: Run, sqlite_ledger: str) -> None:
    with CreditCore.open(sqlite_ledger, clock=lambda: NOW) as core:
        core.add_user("ada", "basic", at=NOW)
        make_live(core, {"session.max_fresh": 1})
        while ask(core, f"r-{len(core.history('ada'))}", at=NOW).status != "DEFERRED":
            pass
    swept = run("sweep", "--at", "2025-03-10T13:00+00:00", "--json")
    assert (swept.code, swept.document) == (0, {"holds": 1, "amount_uc": 1_000_000, "deferrals": 0})
    dropped = run("sweep", "--at", "2025-03-11T12:00+00:00")
    assert dropped.out == "0 holds released, 0 credits; 1 deferred requests dropped.\n"
    closed = run("reconcile", "--at", "2025-04-10T00:00+00:00", "--json")
    assert (closed.code, closed.document) == (0, {"accounts": 1, "closings": 1, "expiries": 0})
    assert run("reconcile", "--at", "2025-04-10T00:00Z").out.startswith("0 cycles closed")


@pytest.mark.parametrize("bad", ["yesterday", "2025-04-10T00:00", ""])
def test_an_instant_without_a_zone_is_misuse(run: Run, bad: str) -> None:
    refused = run("sweep", "--at", bad)
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.startswith("error: ")


@pytest.mark.parametrize(
    ("fault", "invariant"),
    [
        ("UPDATE accounts SET avail_uc = avail_uc + 1 WHERE account_id = (SELECT min(account_id) FROM accounts)", 1),
        ("UPDATE ledger_entries SET reason = 'forged' WHERE id = (SELECT max(id) FROM ledger_entries)", 8),
        ("DELETE FROM ledger_entries WHERE seq = 1 AND account_id = (SELECT min(account_id) FROM accounts)", 7),
    ],
)
def test_verify_finds_a_fault_that_somebody_planted_in_the_file(
    run: Run, demo_url: str, fault: str, invariant: int
) -> None:
    raw(demo_url, fault)
    found = run("verify", "--json", url=demo_url)
    assert found.code == 1
    assert invariant in {violation["invariant"] for violation in found.document}
    told = run("verify", url=demo_url)
    assert told.code == 1
    assert "of 13 invariants are broken" in told.out


def test_heads_kept_elsewhere_betray_a_tail_that_was_cut(run: Run, demo_url: str, tmp_path: Path) -> None:
    kept = tmp_path / "heads.jsonl"
    written = run("heads", "--out", str(kept), "--json", url=demo_url)
    with closing(sqlite3.connect(demo_url.removeprefix("sqlite:///"))) as connection:
        (accounts,) = connection.execute("SELECT count(DISTINCT account_id) FROM ledger_entries").fetchone()
    assert (written.code, written.document["heads"]) == (0, accounts)
    assert accounts > 40, "guests' accounts have chains too"
    assert run("verify", "--heads", str(kept), "--json", url=demo_url).document == []
    raw(
        demo_url,
        "DELETE FROM ledger_entries WHERE id = (SELECT max(id) FROM ledger_entries WHERE d_avail_uc = 0 AND d_held_uc = 0)",
    )
    found = run("verify", "--heads", str(kept), "--json", url=demo_url)
    assert found.code == 1
    assert 8 in {violation["invariant"] for violation in found.document}


def test_heads_that_cannot_be_read_are_misuse(run: Run, tmp_path: Path) -> None:
    (tmp_path / "heads.jsonl").write_text("not heads\n", encoding="utf-8")
    for name in ("heads.jsonl", "missing.jsonl"):
        refused = run("verify", "--heads", str(tmp_path / name), "--json")
        assert (refused.code, refused.out) == (2, "")
        assert "cannot be read as chain heads" in refused.err


# --------------------------------------------------------------------------------------------------------------- config


def test_a_configuration_is_proposed_compared_released_and_rolled_back(run: Run) -> None:
    who = ("--author", "olga")
    proposed = run("config", "propose", "controller.k=0.0277", "--note", "steeper", *who, "--json")
    assert (proposed.code, proposed.document) == (0, {"version": 2})
    assert run("config", "show", "--json").document["version"] == 1
    assert run("config", "diff", "1", "2", "--json").document == {"controller.k": [0.0025, 0.0277]}
    assert run("config", "diff", "1", "2").out == "controller.k: 0.0025 → 0.0277\n"
    assert run("config", "diff", "2", "2").out == "They are equal.\n"
    released = run("config", "release", "2", "--expected-live", "1", "--reason", "try", *who, "--json")
    assert (released.code, released.document["version"]) == (0, 2)
    shown = run("config", "show", "--json").document
    assert (shown["version"], shown["body"]["controller"]["k"]) == (2, 0.0277)
    back = run("config", "rollback", "--reason", "too steep", *who, "--json")
    assert (back.code, back.document) == (0, {"version": 1})
    listed = run("config", "show", "--versions", "--json").document
    assert [release["version"] for release in listed["releases"]] in ([1, 2, 1], [1, 2, 1][::-1])
    assert "controller.k = 0.0277" in run("config", "show", "2").out


def test_a_release_against_what_is_no_longer_live_found_something_wrong(run: Run) -> None:
    for k in ("0.01", "0.02"):
        run("config", "propose", f"controller.k={k}", "--note", "n", "--author", "olga")
    assert run("config", "release", "2", "--author", "olga").code == 0
    late = run("config", "release", "3", "--expected-live", "1", "--author", "peter", "--json")
    assert (late.code, late.out) == (1, "")
    assert "olga" in late.err
    assert run("config", "show", "--json").document["version"] == 2


@pytest.mark.parametrize(
    "words",
    [
        ("propose", "controller.k", "--note", "n"),
        ("propose", "controller.k=steep", "--note", "n"),
        ("propose", "controller.k=-1", "controller.p_min=2", "--note", "n"),
        ("propose", "controller.nothing=1", "--note", "n"),
        ("show", "99"),
        ("diff", "1", "99"),
        ("release", "99"),
        ("release", "1", "--share", "0.7"),
    ],
)
def test_a_configuration_that_is_wrong_is_misuse_and_said_on_the_error_stream(run: Run, words: tuple[str, ...]) -> None:
    refused = run("config", *words, "--json")
    assert (refused.code, refused.out) == (2, "")
    assert all(line.startswith("error: ") for line in refused.err.splitlines())
    assert refused.err


# ---------------------------------------------------------------------------------------------------------- the command


@pytest.mark.parametrize("words", [(), ("dance",), ("config",), ("heads",), ("import", "gentd26"), ("release", "x")])
def test_what_is_no_command_is_misuse(run: Run, words: tuple[str, ...]) -> None:
    refused = run(*words)
    assert (refused.code, refused.out) == (2, "")
    assert "usage:" in refused.err


@pytest.mark.parametrize("url", ["mysql://here/there", "nonsense", "", "postgresql://nobody@127.0.0.1:1/none"])
def test_a_database_that_cannot_be_used_is_an_error_without_a_traceback(run: Run, url: str) -> None:
    refused = run("verify", url=url)
    assert refused.code in (1, 2)
    assert refused.out == ""
    assert refused.err.startswith("error: ")
    assert "unexpected" not in refused.err


def test_it_runs_as_a_module(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "credit_core", "init", "--json"],
        cwd=ROOT,
        env=os.environ | {"CREDITS_DATABASE_URL": f"sqlite:///{tmp_path / 'ledger.db'}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, json.loads(done.stdout)["users"], done.stderr) == (0, 0, "")
    assert (tmp_path / "ledger.db").exists()


# ----------------------------------------------------------------------------------- erase, clear-challenge, pantry


def test_erase_forgets_a_users_addresses_and_nothing_else(run: Run, sqlite_ledger: str) -> None:
    with CreditCore.open(sqlite_ledger) as core:
        core.add_user("ada", "free", at=NOW)
        for number, ip in enumerate(("203.0.113.7", "2001:db8::1", "203.0.113.7")):
            core.authorize(Request("ada", f"r-{number}", "s-1", ip=ip), at=NOW)
        before = len(core.history("ada"))
    gone = run("erase", "ada")
    assert (gone.code, gone.out) == (0, "2 addresses of ada forgotten.\n")
    again = run("erase", "ada", "--json")
    assert (again.code, again.document) == (0, {"user_id": "ada", "addresses": 0})
    with CreditCore.open(sqlite_ledger) as core:
        assert len(core.history("ada")) == before
        assert core.verify() == []


@pytest.mark.parametrize("command", ["erase", "clear-challenge"])
def test_a_user_who_is_not_there_is_misuse(run: Run, command: str) -> None:
    refused = run(command, "nobody")
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.startswith("error: There is no user 'nobody'")
    assert run(command).code == 2


def test_clear_challenge_lets_a_stopped_user_on(run: Run, sqlite_ledger: str) -> None:
    with CreditCore.open(sqlite_ledger) as core:
        core.add_user("ada", "daily", at=NOW)
        core.deployment.ledger.run(lambda unit: stop(unit, "ada"))
        assert ask(core).rule == "blocked"
    assert run("clear-challenge", "ada").out == "No challenge is open for ada.\n"
    with CreditCore.open(sqlite_ledger) as core:
        assert ask(core, "r-2").rule == "allowed"


def stop(unit: Unit, user_id: str) -> None:
    """What the anomaly flag does to somebody, with the effect block."""
    user, _ = unit.user(user_id)
    user.challenged_at = NOW
    unit.touch(user)


def test_pantry_hands_out_the_most_wanted_cells_once(run: Run, sqlite_ledger: str) -> None:
    with CreditCore.open(sqlite_ledger) as core:
        core.add_user("ada", "basic", at=NOW)
        for number, genre in enumerate(("jazz", "jazz", "folk")):
            core.authorize(Request("ada", f"r-{number}", "s-1", genre=genre, mood="calm"), at=NOW)
    at = ("--at", NOW.isoformat())
    first = run("pantry", "--take", "1", "--json", *at)
    assert (first.code, first.document) == (
        0, [{"genre": "jazz", "mood": "calm", "score": pytest.approx(2 / 28 * 0.5), "missing": 10}],
    )  # fmt: skip
    second = run("pantry", "--take", "9", *at)
    assert (second.code, second.out) == (
        0, "genre  mood  score  missing\nfolk   calm  0.018  10\n",
    )  # fmt: skip
    assert run("pantry", "--take", "9", *at).out == "No cell of the pantry queue lacks assets.\n"
    assert [run("pantry", *words).code for words in ((), ("--take", "0"), ("--take", "many"))] == [2, 2, 2]
