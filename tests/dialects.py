"""SQLAlchemy's dialects, one object of each for all engines of a test run.

What a statement compiles to, and how a type reads and writes its values, is kept by dialect; each of a thousand ledgers
would work it out again, which takes longer than the tests.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

from sqlalchemy import Connection, Engine
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.util import LRUCache

STATEMENTS = 2_000


class _One(Dialect):
    """The one object of a dialect, told by its first connection what it talks to; there is one server and one file format."""

    _one: ClassVar[Self | None] = None
    _statements: ClassVar[LRUCache[Any, Any]]

    def __new__(cls, **_: Any) -> Self:
        if cls._one is None:
            cls._one = super().__new__(cls)
            cls._statements = LRUCache(STATEMENTS)
        return cls._one

    def __init__(self, **options: Any) -> None:
        if not hasattr(self, "_met"):
            super().__init__(**options)
            self._met = False

    def initialize(self, connection: Connection) -> None:
        if not self._met:
            super().initialize(connection)
            self._met = True

    @classmethod
    def engine_created(cls, engine: Engine) -> None:
        engine.update_execution_options(compiled_cache=cls._statements)


class OneSqlite(_One, SQLiteDialect_pysqlite):
    """SQLite's."""

    supports_statement_cache = True


class OnePostgresql(_One, PGDialect_psycopg):
    """PostgreSQL's."""

    supports_statement_cache = True


def share() -> None:
    """From now on every new engine takes the one dialect of its kind."""
    registry.register("sqlite", __name__, "OneSqlite")
    registry.register("sqlite.pysqlite", __name__, "OneSqlite")
    registry.register("postgresql.psycopg", __name__, "OnePostgresql")
