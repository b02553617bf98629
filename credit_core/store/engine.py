"""Connections: what each engine must be told so that a commit is durable and two writers never interleave (FINDINGS)."""

from __future__ import annotations

import select
import time
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, InvalidatePoolError
from sqlalchemy.pool import NullPool

from credit_core.errors import InvalidRequest, LedgerUnavailable

APP_ROLE = "titrate_app"
BUSY_TIMEOUT_MS = 30_000
#: Pages kept per SQLite connection; its default of 2 MiB holds less than the upper levels of a large ledger's indexes.
CACHE_KIB = 32 * 1_024
#: Pages that the write-ahead log gathers before they go to their places. Most legs touch the same few pages again: the more
#: legs share a checkpoint, the fewer of them are written twice.
CHECKPOINT_PAGES = 4_000
#: A connection that rested longer is asked for a sign of life before it is used; a network may have forgotten it.
PING_AFTER_S = 30.0
#: Connections that rest outside the pool, ready for the next transaction (:mod:`credit_core.store.transactions`).
RESTING = 4
_SUPPORTED = ("sqlite", "postgresql")


def parse_url(url: str) -> URL:
    """A SQLAlchemy URL of a supported engine, with the driver filled in; else :class:`InvalidRequest`."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise InvalidRequest(
            f"{url!r} is not a database URL. Use sqlite:///path/to/ledger.db or postgresql://user@host/name."
        ) from error
    engine = parsed.get_backend_name()
    if engine not in _SUPPORTED:
        raise InvalidRequest(
            f"Ledgers live in SQLite or PostgreSQL, not in {engine}. Use sqlite:///… or postgresql://…."
        )
    return parsed.set(drivername="postgresql+psycopg") if engine == "postgresql" else parsed


def open_engine(url: str, *, read_only: bool = False, owner: bool = False) -> Engine:
    """An engine on the ledger. ``owner`` keeps the connecting role (migrations); otherwise PostgreSQL drops to the app's role."""
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite":
        return _sqlite(parsed, read_only=read_only)
    return _postgresql(parsed, read_only=read_only, owner=owner)


def _sqlite(url: URL, *, read_only: bool) -> Engine:
    path = url.database
    if not path or path == ":memory:":
        raise InvalidRequest("A ledger needs a file, so that other processes see it. Use sqlite:///path/to/ledger.db.")
    if read_only:
        if not Path(path).exists():
            raise LedgerUnavailable(f"There is no ledger at {path}. Create it with: python -m credit_core init")
        url = URL.create("sqlite", database=f"file:{Path(path).resolve()}", query={"mode": "ro", "uri": "true"})
    else:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    # The connection used last has the newest pages: any other must read again what this one wrote.
    engine = create_engine(
        url,
        pool_use_lifo=True,
        max_overflow=10 + RESTING,
        connect_args={"timeout": BUSY_TIMEOUT_MS / 1_000, "isolation_level": None, "cached_statements": 256},
    )

    @event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        cursor.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
        if read_only:
            cursor.execute("PRAGMA query_only=ON")
        else:
            cursor.execute("PRAGMA journal_mode=WAL")
            cursor.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
            cursor.execute("PRAGMA synchronous=FULL")
            cursor.execute("PRAGMA recursive_triggers=ON")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        if connection.connection.driver_connection.in_transaction:
            # One of :mod:`credit_core.store.transactions`.
            return
        reading = read_only or connection.get_execution_options().get("titrate_reading")
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine


def _postgresql(url: URL, *, read_only: bool, owner: bool) -> Engine:
    options: dict[str, Any] = (
        {"poolclass": NullPool} if owner else {"pool_size": 5, "max_overflow": 27 + RESTING, "pool_use_lifo": True}
    )
    # store/pipeline.py prepares what is worth it; what psycopg had prepared it would drop at a rollback, ours with it.
    engine = create_engine(url, connect_args={"connect_timeout": 10, "prepare_threshold": None}, **options)

    @event.listens_for(engine, "checkin")
    def _rests(connection: Any, record: Any) -> None:
        record.info["titrate_rests"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def _lives(connection: Any, record: Any, _proxy: Any) -> None:
        """A connection that the server has ended has an end of file to read; one that rested long is asked."""
        rested = time.monotonic() - record.info.get("titrate_rests", float("inf"))
        if rested != float("inf") and is_gone(engine, connection, rested):
            raise InvalidatePoolError

    @event.listens_for(engine, "connect")
    def _session(connection: Any, _record: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET idle_in_transaction_session_timeout = '60s'")
            cursor.execute("SET lock_timeout = '30s'")
            # A role or database default may have switched it off; an acknowledged write must survive a power cut.
            cursor.execute("SET synchronous_commit = 'on'")
            if read_only:
                cursor.execute("SET default_transaction_read_only = on")
            else:
                # Every statement here finds its rows by key: planning an entry's columns anew costs more than running it.
                cursor.execute("SET plan_cache_mode = 'force_generic_plan'")
            if not owner:
                cursor.execute(
                    "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = %s AND pg_has_role(current_user, oid, 'MEMBER'))",
                    (APP_ROLE,),
                )
                if cursor.fetchone()[0]:
                    cursor.execute(f"SET ROLE {APP_ROLE}")
        connection.commit()

    return engine


def is_gone(engine: Engine, driver: Any, rested_s: float) -> bool:
    """Whether a connection that rested so long has been lost; only a server's connections can be."""
    if engine.dialect.name == "sqlite":
        return False
    try:
        if rested_s > PING_AFTER_S or _has_something_to_read(driver):
            engine.dialect.do_ping(driver)
    except psycopg.Error:
        return True
    return False


def _has_something_to_read(connection: Any) -> bool:
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))
