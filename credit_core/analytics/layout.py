"""Which release a copy on disk is of: the definitions of its tables."""

from __future__ import annotations

import hashlib
from functools import cache

from credit_core.analytics import relations


@cache
def layout_of() -> str:
    """Changes with the tables' definitions: a copy of another layout is made anew. Roll-ups are named by their own."""
    tables = [relations.create_statement(table) for table in relations.metadata.sorted_tables]
    return hashlib.blake2b(";".join(tables).encode(), digest_size=8).hexdigest()
