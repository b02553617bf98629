"""Creates the schema and carries it forward, with Alembic; refuses a database that a newer release wrote."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from credit_core.errors import SchemaTooNew
from credit_core.store.engine import open_engine, parse_url
from credit_core.store.ledger import committed, told

_FOLDER = Path(__file__).parent / "migrations"


def upgrade(url: str) -> None:
    """Bring the database at ``url`` to this release's schema. Safe from several processes at once.

    Raises :class:`SchemaTooNew`, and :class:`LedgerUnavailable` where there is no database or it is none.
    """
    head, known = _revisions()
    engine = open_engine(url, owner=True)
    try:
        with told(), engine.connect().execution_options(titrate_reading=True) as probe:
            current = MigrationContext.configure(probe).get_current_revision()
        if current == head:
            return
        if current is not None and current not in known:
            raise SchemaTooNew(
                f"The ledger's schema is {current}, which this release does not know. "
                "Install the release that wrote it, or a newer one."
            )
        committed(engine.begin, _upgrade)
    finally:
        engine.dispose()


def exists(url: str) -> bool:
    """Whether there is a ledger at ``url``, of any release; makes nothing."""
    path = parse_url(url).database if parse_url(url).get_backend_name() == "sqlite" else None
    if path is not None and not Path(path).exists():
        return False
    engine = open_engine(url, owner=True)
    try:
        with told(), engine.connect().execution_options(titrate_reading=True) as probe:
            return MigrationContext.configure(probe).get_current_revision() is not None
    finally:
        engine.dispose()


@cache
def _revisions() -> tuple[str | None, frozenset[str]]:
    """The newest revision of this release, and all of them. Alembic compiles every script to tell: 40 ms, once a process."""
    script = ScriptDirectory.from_config(_alembic())
    return script.get_current_head(), frozenset(revision.revision for revision in script.walk_revisions())


def _upgrade(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7453010)")
    command.upgrade(_alembic(connection), "head")


def _alembic(connection: Connection | None = None) -> AlembicConfig:
    config = AlembicConfig()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    if connection is not None:
        config.attributes["connection"] = connection
    return config
