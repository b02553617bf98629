"""The PostgreSQL that other tests lean on: real, empty at first, apart from its neighbours, gone afterwards."""

from __future__ import annotations

import psutil
import pytest
import sqlalchemy as sa

from tests.postgres import fresh_database, postgres_server

pytestmark = pytest.mark.postgres


def test_each_database_is_new_and_empty_and_keeps_what_it_is_told() -> None:
    with postgres_server() as server:
        engines = [sa.create_engine(fresh_database(server), poolclass=sa.NullPool) for _ in range(2)]
        with engines[0].begin() as connection:
            connection.execute(sa.text("CREATE TABLE kept (n bigint)"))
        tables = [sa.inspect(engine).get_table_names() for engine in engines]
        with engines[0].connect() as connection:
            durable = [connection.scalar(sa.text(f"SHOW {setting}")) for setting in ("fsync", "synchronous_commit")]
            version = connection.dialect.server_version_info
    assert tables == [["kept"], []]
    assert durable == ["on", "on"]
    assert version is not None
    assert version >= (15,)


def test_leaving_stops_the_server_and_deletes_its_data() -> None:
    with postgres_server() as server:
        pid, data = server.get_pid(), server.pgdata
        assert pid is not None
        assert runs(pid)
    assert not runs(pid)
    assert not data.exists()


def runs(pid: int) -> bool:
    """Whether the process is there and alive; one that ended but was not yet reaped by init is not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
