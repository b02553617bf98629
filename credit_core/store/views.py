"""Saved views: named questions, each one row of table ``deployment`` under a key of its own."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from credit_core.store.schema import deployment

_PREFIX = "view "


def put(connection: Connection, name: str, body: dict[str, Any]) -> None:
    """Keep a view under its name, in the place of one that has it."""
    remove(connection, name)
    connection.execute(insert(deployment).values(key=_PREFIX + name, value=json.dumps(body)))


def remove(connection: Connection, name: str) -> bool:
    """Whether there was one of that name, and there is no more."""
    return bool(connection.execute(delete(deployment).where(deployment.c.key == _PREFIX + name)).rowcount)


def every(connection: Connection) -> dict[str, dict[str, Any]]:
    """Every view by name, in their order."""
    rows = connection.execute(
        select(deployment.c.key, deployment.c.value).where(deployment.c.key.startswith(_PREFIX, autoescape=True))
    )
    return {key.removeprefix(_PREFIX): json.loads(value) for key, value in sorted((row.key, row.value) for row in rows)}
