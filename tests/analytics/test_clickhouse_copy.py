"""The copy on ClickHouse is the ledger: every entry once, whatever ends its loader, and whoever reads meanwhile."""

from __future__ import annotations

import inspect
import json
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import clickhouse_connect
import pytest
from sqlalchemy import delete, func, select, update

from credit_core import CreditCore, cli
from credit_core.analytics import queries, relations
from credit_core.analytics.clickhouse import tables
from credit_core.analytics.clickhouse.facts import ClickHouseFacts, site_of
from credit_core.analytics.clickhouse.tables import Site
from credit_core.analytics.filters import Filters, Period
from credit_core.analytics.opening import open_facts
from credit_core.analytics.segments import Syncer
from credit_core.analytics.stored import StoredFacts
from credit_core.analytics.sync import Facts
from credit_core.errors import InvalidConfig, InvalidRequest, LedgerUnavailable
from credit_core.settings import ANALYTICS_VARIABLE
from credit_core.store import schema
from tests.analytics.ledgers import START, Ledger, make

EVERYTHING = Filters(Period(START - timedelta(days=400), START + timedelta(days=400)))
ENTRIES = select(func.count(), func.count(relations.facts.c.id.distinct())).select_from(relations.facts)
#: (change, made): lots, facts, watermark, then accounts and more.
ENDS = ((1, False), (2, False), (2, True), (3, False), (3, True), (5, True))
Opens = Callable[..., ClickHouseFacts]


@pytest.fixture
def at() -> str:
    """A place for a copy."""
    return f"chdb://memory/t{uuid.uuid4().hex}"


@pytest.fixture
def opens(at: str) -> Iterator[Opens]:
    """Copies at that place, closed at the end: ``opens(ledger)`` is a reader, with ``loads=True`` a loader."""
    opened: list[ClickHouseFacts] = []

    def open_(ledger: Ledger, **options: Any) -> ClickHouseFacts:
        opened.append(ClickHouseFacts.at(ledger.url, at, **options))
        return opened[-1]

    yield open_
    for facts in opened:
        facts.close()


@pytest.fixture
def shop(ledger: Ledger) -> Ledger:
    """A ledger with one account."""
    ledger.account("a")
    ledger.grant("a", START)
    return ledger.write()


def generation(ledger: Ledger, number: int, day: int = 1) -> None:
    """One more generation: two entries."""
    ledger.fresh("a", f"r-{number}", START + timedelta(days=day, minutes=number))
    ledger.write()


def test_a_reader_follows_the_loader_and_sees_whole_batches(shop: Ledger, opens: Opens) -> None:
    loader, reader = opens(shop, loads=True), opens(shop)
    assert loader.follow().rows == 1
    first = reader.follow()
    assert (reader.rows(ENTRIES), reader.extent.entries, first.watermark) == ([(1, 1)], 1, loader.follow().watermark)
    generation(shop, 1)
    loader.follow()
    # What a page shows is of one instant until it follows again, tie-out included.
    assert (reader.rows(ENTRIES), loader.rows(ENTRIES)) == ([(1, 1)], [(3, 3)])
    assert queries.tie_out(reader, EVERYTHING).exact
    assert reader.follow().version == first.version + 1
    assert reader.rows(ENTRIES) == [(3, 3)]
    assert reader.follow().version == first.version + 1
    assert queries.tie_out(reader, EVERYTHING).exact


def test_a_loader_that_ends_anywhere_leaves_every_entry_once(shop: Ledger, opens: Opens) -> None:
    """The server goes away at the first, second … change, before or after it is made; another loader goes on."""
    loader, reader = opens(shop, loads=True), opens(shop)
    loader.follow()
    for number, (change, made) in enumerate(ENDS):
        generation(shop, 2 * number)
        with monkeypatched(loader, Breaking(loader._client, change, made)), pytest.raises(LedgerUnavailable):
            loader.follow()
        reader.follow()
        assert queries.tie_out(reader, EVERYTHING).exact
        # The next loader finds more in the ledger than the one that was cut off, and remembers nothing.
        generation(shop, 2 * number + 1)
        loader._dimensions.forget()
        loader.follow()
        reader.follow()
        entries = 1 + 4 * (number + 1)
        assert (reader.rows(ENTRIES), reader.extent.entries) == ([(entries, entries)], entries)
        assert queries.tie_out(reader, EVERYTHING).exact


class Breaking:
    """A client whose server goes away at a change: lots, facts, watermark, accounts, users …"""

    def __init__(self, client: Any, change: int, made: bool) -> None:
        self._client, self._left, self._made = client, change, made

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if name not in ("command", "insert", "insert_arrow"):
            return found

        def change(*given: Any, **more: Any) -> Any:
            self._left -= 1
            if self._left or self._made:
                found(*given, **more)
            if not self._left:
                raise ConnectionError("gone")

        return change


@contextmanager
def monkeypatched(loader: ClickHouseFacts, client: Any) -> Iterator[None]:
    """The loader with another client."""
    before, loader._client = loader._client, client
    try:
        yield
    finally:
        loader._client = before


def test_two_loaders_at_once_cost_work_and_nothing_else(shop: Ledger, opens: Opens) -> None:
    one, other, reader = opens(shop, loads=True), opens(shop, loads=True), opens(shop)
    one.follow()
    generation(shop, 1)
    # The other reads and sends the same batch, and more, before the first one's watermark is written.
    commit = one._commit

    def late(state: Any) -> Any:
        one._commit = commit  # type: ignore[method-assign]
        generation(shop, 2)
        other.follow()
        return commit(state)

    one._commit = late  # type: ignore[method-assign]
    one.follow()
    for loader in (one, other):
        loader.follow()
    reader.follow()
    assert reader.rows(ENTRIES) == [(5, 5)]
    assert queries.tie_out(reader, EVERYTHING).exact


def test_rows_that_go_are_gone_from_the_small_tables(shop: Ledger, opens: Opens) -> None:
    reserved = shop.reserve("a", "open", START + timedelta(hours=1))
    hold = {"leg_id": reserved[0]["leg_id"], "account_id": "a", "user_id": "u-a", "request_id": "open", "amount_uc": 1}
    shop.add(schema.holds, hold | {"reserved_at": START, "expires_at": START})
    loader = opens(shop.write(), loads=True)
    loader.follow()
    assert len(queries.open_holds(loader, START)) == 1
    shop.set_account("a", plan="premium")
    with shop.engine.begin() as connection:
        connection.execute(delete(schema.holds))
    shop.end(reserved, "release", START + timedelta(hours=2), reason="provider_error")
    shop.write()
    loader.follow()
    assert queries.open_holds(loader, START).empty
    assert loader.rows(select(relations.accounts.c.plan)) == [("premium",)]


def test_another_zone_or_another_ledger_makes_the_copy_anew(shop: Ledger, opens: Opens, tmp_path: Path) -> None:
    shop.fresh("a", "evening", START + timedelta(hours=20))
    loader, reader = opens(shop.write(), loads=True), opens(shop)
    loader.follow()
    reader.follow()
    days = select(relations.facts.c.day).distinct().order_by(relations.facts.c.day)
    assert len(reader.rows(days)) == 1
    with shop.engine.begin() as connection:
        connection.execute(update(schema.deployment).values(value="Asia/Kathmandu"))
    assert loader.follow().rebuilt
    reader.follow()
    assert (len(reader.rows(days)), reader.zone, reader.rows(ENTRIES)) == (2, "Asia/Kathmandu", [(3, 3)])
    assert queries.tie_out(reader, EVERYTHING).exact
    other = make(f"sqlite:///{tmp_path}/other.db")
    other.account("b")
    other.grant("b", START)
    moved = opens(other.write(), loads=True)
    assert moved.follow().rebuilt
    assert moved.rows(select(relations.facts.c.account_id)) == [("b",)]


def test_a_copy_begins_with_segments_and_goes_on_by_itself(shop: Ledger, opens: Opens, tmp_path: Path) -> None:
    for number in range(5):
        generation(shop, number, day=number)
    with Syncer.open(shop.url, tmp_path / "facts") as syncer:
        syncer.follow()
    generation(shop, 6)
    loader = opens(shop, loads=True)
    sent: list[int] = []
    assert loader.load_segments(tmp_path / "facts", sent.append) == 11 == sent[-1]
    assert loader.follow().rows == 2
    assert loader.rows(ENTRIES) == [(13, 13)]
    assert queries.tie_out(loader, EVERYTHING).exact
    revenue = queries.value(loader, EVERYTHING, "lot_revenue")
    assert (revenue.numerator, loader.extent.entries) == (0, 13)
    with pytest.raises(InvalidRequest, match="has begun already"):
        loader.load_segments(tmp_path / "facts")
    with pytest.raises(InvalidRequest, match="no segments of this release"):
        loader.load_segments(tmp_path)


def test_segments_of_another_ledger_are_refused(shop: Ledger, opens: Opens, tmp_path: Path) -> None:
    other = make(f"sqlite:///{tmp_path}/other.db")
    other.account("b")
    other.grant("b", START)
    other.write()
    with Syncer.open(other.url, tmp_path / "facts") as syncer:
        syncer.follow()
    with pytest.raises(InvalidRequest, match="of another ledger"):
        opens(shop, loads=True).load_segments(tmp_path / "facts")


def test_a_database_of_somebody_else_is_left_alone(shop: Ledger, at: str) -> None:
    with clickhouse_connect.get_client(interface="chdb") as client:
        database = site_of(at)[1].database
        client.command(f"CREATE DATABASE {database}")
        client.command(f"CREATE TABLE {database}.users (a Int64) ENGINE = MergeTree ORDER BY a")
        loader = ClickHouseFacts.at(shop.url, at, loads=True)
        with pytest.raises(InvalidConfig, match=r"tables of others \(users\)"):
            loader.follow()
        loader.close()
        assert client.query(f"SHOW TABLES FROM {database}").result_rows == [("users",)]


def test_before_the_loader_there_is_nothing_to_read(shop: Ledger, opens: Opens) -> None:
    opens(shop, loads=True)
    with pytest.raises(LedgerUnavailable, match="Start the loader: python -m credit_core clickhouse --follow"):
        opens(shop).follow()


def test_definitions_for_a_cluster_are_understood_and_shard_by_account() -> None:
    site = Site("titrate", "main")
    made = tables.create_statements(site, "Europe/Berlin")
    with clickhouse_connect.get_client(interface="chdb") as client:
        for statement in (*made, *tables.drop_statements(site)):
            assert client.query(f"EXPLAIN AST {statement}").result_rows
    assert all(" ON CLUSTER `main`" in statement for statement in made)
    local, distributed = (statement for statement in made if "`facts" in statement)
    assert "ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}')" in local
    assert distributed.endswith("ENGINE = Distributed('main', 'titrate', 'facts_local', cityHash64(account_id))")
    on_one_server = ";".join(tables.create_statements(Site("titrate"), "Europe/Berlin"))
    assert "CLUSTER" not in on_one_server
    assert "Replicated" not in on_one_server


def test_states_are_dropped_long_after_they_were_the_newest(shop: Ledger, opens: Opens) -> None:
    loader = opens(shop, loads=True)
    loader.follow()
    for batch in (999, 1_000, 1_998):
        loader._commit(loader._newest()._replace(batch=batch))
    generation(shop, 1)
    loader.follow()
    kept = loader._client.query(f"SELECT batch FROM {loader._at.table(tables.STATE)} ORDER BY batch").result_rows
    assert kept == [(1_000,), (1_998,), (1_999,), (2_000,)]
    assert queries.tie_out(loader, EVERYTHING).exact


def test_readers_are_told_of_small_tables_that_changed_alone(shop: Ledger, opens: Opens) -> None:
    loader, reader = opens(shop, loads=True), opens(shop)
    loader.follow()
    version = reader.follow().version
    shop.add(schema.library_cells, {"genre": "noir", "mood": "calm"})
    assert loader.follow().rows == 0
    assert reader.follow().version == version + 1
    assert reader.rows(select(func.count()).select_from(relations.library_cells)) == [(1,)]
    loader.follow()
    assert reader.follow().version == version + 1


def test_everything_that_touches_the_copy_is_answered_by_clickhouse() -> None:
    public = {name for name, member in inspect.getmembers(Facts, inspect.isfunction) if not name.startswith("_")}
    of_the_ledger = {"from_ledger", "within", "copied", "coming", "waiting"}
    # What lies beside segments on disk; every other copy answers from its entries.
    of_segments = {"day_ends", "run_outs", "forced_spending", "finished", "present"}
    # Kept results are of the copy's version; a new one is fetched by _fetched.
    kept = {"frame", "once", "notes", "forget"}
    assert public - set(vars(ClickHouseFacts)) == of_the_ledger | of_segments | kept
    assert "_fetched" in vars(ClickHouseFacts)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("postgresql://h/titrate", "is none of clickhouse://"),
        ("nonsense", "is none of clickhouse://"),
        ("clickhouse://h/titrate?cluster=main&secure=1", "has secure"),
    ],
)
def test_an_address_that_names_no_copy_is_refused(
    shop: Ledger, monkeypatch: pytest.MonkeyPatch, said: str, told: str
) -> None:
    monkeypatch.setenv(ANALYTICS_VARIABLE, said)
    with pytest.raises(InvalidConfig, match=told):
        open_facts(shop.url)


def test_a_server_that_is_not_there_is_told(shop: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ANALYTICS_VARIABLE, "clickhouse://somebody:secret@127.0.0.1:9/titrate")
    with pytest.raises(LedgerUnavailable, match="Check the server and CREDITS_ANALYTICS_URL") as raised:
        open_facts(shop.url)
    assert "secret" not in str(raised.value)


def test_without_the_driver_it_is_told_how_to_get_it(shop: Ledger, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    monkeypatch.setenv(ANALYTICS_VARIABLE, at)
    monkeypatch.setitem(sys.modules, "clickhouse_connect", None)
    monkeypatch.delitem(sys.modules, "credit_core.analytics.clickhouse.facts")
    with pytest.raises(InvalidConfig, match=r"pip install -c requirements-dev\.txt clickhouse-connect"):
        open_facts(shop.url)


def test_pages_open_what_the_deployment_names(
    shop: Ledger, monkeypatch: pytest.MonkeyPatch, opens: Opens, at: str, tmp_path: Path
) -> None:
    opened = [open_facts(shop.url)]
    monkeypatch.setenv("CREDITS_FACTS_DIR", str(tmp_path / "facts"))
    opened.append(open_facts(shop.url))
    monkeypatch.setenv(ANALYTICS_VARIABLE, at)
    opens(shop, loads=True).follow()
    opened.append(open_facts(shop.url))
    for facts in opened:
        assert facts.follow().as_of == START
        facts.close()
    assert [type(facts) for facts in opened] == [Facts, StoredFacts, ClickHouseFacts]


def test_the_command_loads_and_tells(
    sqlite_ledger: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], at: str
) -> None:
    with CreditCore.open(sqlite_ledger) as core:
        core.add_user("u", "basic")
    command = ["clickhouse", "--database", sqlite_ledger]
    assert cli.main(command) == 2
    assert "CREDITS_ANALYTICS_URL is not set" in capsys.readouterr().err
    monkeypatch.setenv(ANALYTICS_VARIABLE, at)
    # Keeps the server in this process, and what it holds, between two commands.
    with clickhouse_connect.get_client(interface="chdb"):
        assert cli.main([*command, "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
        assert (document["rows"], document["entries"], document["zone"]) == (1, 1, "UTC")
        assert cli.main(command) == 0
        assert capsys.readouterr().out.startswith("0 new entries")
    assert cli.main([*command, "--tables"]) == 0
    assert capsys.readouterr().out.count("CREATE TABLE") == len(tables.create_statements(Site("t"), "UTC"))
