"""Facts of the deployment: one row each of table ``deployment``."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, insert, select, update

from credit_core.store.schema import deployment
from credit_core.units import to_us


def advance(connection: Connection, key: str, at: datetime) -> None:
    """Set the instant ``key`` to ``at`` unless it is later already. Stored as microseconds in text."""
    current = connection.execute(select(deployment.c.value).where(deployment.c.key == key)).scalar()
    if current is None:
        connection.execute(insert(deployment).values(key=key, value=str(to_us(at))))
    elif int(current) < to_us(at):
        connection.execute(update(deployment).where(deployment.c.key == key).values(value=str(to_us(at))))
