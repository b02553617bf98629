"""Statements in the copy's own SQL: what SQLAlchemy writes for PostgreSQL, DuckDB reads."""

from __future__ import annotations

import hashlib
from functools import lru_cache

from sqlalchemy import ClauseElement
from sqlalchemy.dialects.postgresql.base import PGDialect

#: Parameters are numbered: $1, $2 …
DUCKDB = PGDialect(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]


@lru_cache(maxsize=2_048)
def sql_of(clause: ClauseElement) -> str:
    """A statement or an expression with its values written out."""
    return str(clause.compile(dialect=DUCKDB, compile_kwargs={"literal_binds": True}))


def keyed(name: str, definition: str) -> str:
    """A name for what is kept by a definition: rows of another definition are of another name."""
    return f"{name}-{hashlib.blake2b(definition.encode(), digest_size=4).hexdigest()}"
