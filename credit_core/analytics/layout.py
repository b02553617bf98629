"""Which release a copy on disk is of: the definitions of its tables and roll-ups."""

from __future__ import annotations

import hashlib
from functools import cache

from credit_core.analytics import relations, rollups


@cache
def layout_of() -> str:
    """Changes with the definitions of tables and roll-ups: ``tables hours:… flow:…``.

    A copy of other tables is made anew; roll-ups that are defined otherwise are made again from the segments.
    """
    tables = [relations.create_statement(table) for table in relations.metadata.sorted_tables]
    return " ".join(
        [_digest(";".join(tables)), *(f"{one.name}:{_digest(one.made_from('facts'))}" for one in rollups.ROLLUPS)]
    )


def changed_rollups(there: str, wanted: str) -> frozenset[str]:
    """The roll-ups to make again so that a copy of one layout is of another; none where that takes more, or nothing."""
    before, after = there.split(), wanted.split()
    other = frozenset(one.split(":")[0] for one in after[1:] if one not in before)
    return other if before[:1] == after[:1] else frozenset()


def _digest(definition: str) -> str:
    return hashlib.blake2b(definition.encode(), digest_size=8).hexdigest()
