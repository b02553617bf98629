"""A ledger written in bulk is a ledger: every invariant holds, and what it says of itself can be computed again."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from credit_core import CreditCore, Request
from credit_core.analytics import manifest, queries, relations
from credit_core.analytics.filters import Filters, Period
from credit_core.analytics.made_up import MadeUpFacts
from credit_core.analytics.segments import Syncer
from credit_core.analytics.stored import StoredFacts
from credit_core.errors import Conflict
from credit_core.importers import bulk, bulk_facts
from credit_core.importers.bulk_world import World
from credit_core.policy.decision import draw
from credit_core.store import records
from credit_core.store.engine import parse_url

UNTIL = datetime(2026, 4, 3, 15, tzinfo=UTC)


#: Long enough for closings of every account.
DAYS = 75


@pytest.fixture(scope="module")
def bulky(
    sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[CreditCore, sqlite3.Connection]]:
    """A ledger written in bulk, only to be looked at."""
    path = tmp_path_factory.mktemp("bulk") / "ledger.db"
    shutil.copy(sqlite_template, path)
    path.with_name("ledger.db.part").write_bytes(b"of a run that was killed")
    bulk.make(f"sqlite:///{path}", 10_000, UNTIL, days=DAYS)
    with CreditCore.open(f"sqlite:///{path}") as core, closing(sqlite3.connect(path)) as connection:
        yield core, connection


def test_a_ledger_in_bulk_holds_every_invariant_and_goes_on_living(own_ledger_url: str) -> None:
    made = bulk.make(own_ledger_url, 10_000, UNTIL, days=DAYS)

    assert made.accounts == 100
    assert made.entries == pytest.approx(10_000, rel=0.03)
    with CreditCore.open(own_ledger_url) as core:
        assert core.verify() == []
        first = core.authorize(Request("bulk-0000007", "now", "s", genre="food", mood="noir"), at=UNTIL)
        if first.fresh:
            core.settle("bulk-0000007", "now", at=UNTIL)
        core.reconcile(UNTIL)
        assert core.verify() == []


def test_facts_alone_are_those_that_would_be_copied_from_the_ledger(
    bulky: tuple[CreditCore, sqlite3.Connection], sqlite_ledger: str, tmp_path: Path
) -> None:
    path = bulky[1].execute("PRAGMA database_list").fetchone()[2]
    with Syncer.open(f"sqlite:///{path}", tmp_path / "copied") as syncer:
        entries = syncer.follow().rows
    made = bulk_facts.make(sqlite_ledger, tmp_path / "alone", 10_000, UNTIL, days=DAYS)
    assert made.entries == entries
    copied, alone = (manifest.read(tmp_path / name) for name in ("copied", "alone"))
    assert copied is not None
    assert alone is not None
    for table in relations.metadata.sorted_tables:
        # A version of configuration says when it was made.
        if table.name not in ("copy_state", "config_versions", "config_releases"):
            ours, theirs = (
                _rows(at, tmp_path / name, table.name) for at, name in ((alone, "alone"), (copied, "copied"))
            )
            assert ours == theirs, table.name
    with CreditCore.open(sqlite_ledger) as core:
        assert (core.users(), core.verify()) == (0, [])
    with pytest.raises(Conflict, match=r"facts in .* already"):
        bulk_facts.make(sqlite_ledger, tmp_path / "alone", 10_000, UNTIL, days=DAYS)


def _rows(at: manifest.Manifest, folder: Path, table: str) -> list[str]:
    files = [one.file for one in at.segments] if table == "facts" else at.tables[table]
    return sorted(repr(row) for file in files for row in pq.read_table(folder / file).to_pylist())


def test_facts_without_a_ledger_are_read_and_never_gone_on_from(sqlite_ledger: str, tmp_path: Path) -> None:
    folder = tmp_path / "facts"
    made = bulk_facts.make(sqlite_ledger, folder, 10_000, UNTIL, days=28)
    facts = StoredFacts.at(sqlite_ledger, folder)
    facts.follow()
    assert (facts.extent.entries, facts.writes) == (made.entries, False)
    tie = queries.tie_out(facts, Filters(Period(UNTIL - timedelta(days=7), UNTIL)))
    assert tie.made_up is not None
    assert "made up with seed 7" in tie.made_up
    assert not tie.exact
    assert {line.ledger for line in tie.lines} == {None}
    facts.close()
    with Syncer.open(sqlite_ledger, folder) as syncer:
        with pytest.raises(Conflict, match="no ledger to go on from"):
            syncer.follow()
        assert syncer.follow(rebuild=True).rebuilt
        assert (syncer.manifest.made_up, syncer.manifest.entries) == (None, 0)


def test_facts_that_were_cut_off_leave_an_empty_folder(
    sqlite_ledger: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MadeUpFacts, "finish", lambda *_: (_ for _ in ()).throw(RuntimeError("the power went")))
    with pytest.raises(RuntimeError, match="the power went"):
        bulk_facts.make(sqlite_ledger, tmp_path / "facts", 10_000, UNTIL, days=28)
    assert not list((tmp_path / "facts").glob("*.parquet"))


def test_what_a_killed_run_left_is_begun_anew_and_is_gone(bulky: tuple[CreditCore, sqlite3.Connection]) -> None:
    path = Path(bulky[1].execute("PRAGMA database_list").fetchone()[2])
    assert not list(path.parent.glob("*.part*"))


def test_its_guards_are_back(bulky: tuple[CreditCore, sqlite3.Connection], sqlite_template: Path) -> None:
    schema = "SELECT type, name, sql FROM sqlite_master ORDER BY 1, 2"
    with closing(sqlite3.connect(sqlite_template)) as empty:
        assert bulky[1].execute(schema).fetchall() == empty.execute(schema).fetchall()


def test_ids_draws_and_hashes_of_content_are_the_cores_own(bulky: tuple[CreditCore, sqlite3.Connection]) -> None:
    core, connection = bulky
    rows = connection.execute(
        "SELECT user_id, request_id, leg_id, u01, genre, mood, images, outcome FROM ledger_entries WHERE rule IS NOT NULL LIMIT 100"
    ).fetchall()
    salt = core.deployment.ledger.salts["draw"]
    for user, request, leg, u01, genre, mood, images, outcome in rows:
        assert (leg, u01) == (records.opening_leg(user, request), draw(salt, user, request))
        again = core.authorize(Request(user, request, "s", genre=genre, mood=mood, images=images), at=UNTIL)
        assert again.outcome == outcome, "the same content gets the first answer"
    ends = "SELECT user_id, request_id, leg_id FROM ledger_entries WHERE kind IN ('settle', 'release') LIMIT 50"
    for user, request, leg in connection.execute(ends):
        assert leg == records.ending_leg(user, request)


def test_a_decision_computed_again_is_the_one_that_was_logged(bulky: tuple[CreditCore, sqlite3.Connection]) -> None:
    core, connection = bulky
    rows = connection.execute(
        "SELECT user_id, request_id FROM ledger_entries WHERE rule IS NOT NULL AND id % 9 = 0"
    ).fetchall()
    assert len(rows) > 400
    wrong = {request: found for user, request in rows if (found := core.explain(user, request).differences)}
    assert wrong == {}


def test_a_run_that_is_cut_off_leaves_the_ledger_as_it_was(sqlite_ledger: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(str(parse_url(sqlite_ledger).database))
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise RuntimeError("the power went")

    monkeypatch.setattr(World, "_closings", fail)
    with pytest.raises(RuntimeError, match="the power went"):
        bulk.make(sqlite_ledger, 10_000, UNTIL, days=DAYS)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_ledger_that_has_users_is_refused(sqlite_ledger: str) -> None:
    with CreditCore.open(sqlite_ledger) as core:
        core.add_user("ann", "free")
    with pytest.raises(Conflict, match="users already"):
        bulk.make(sqlite_ledger, 10_000, UNTIL, days=DAYS)
