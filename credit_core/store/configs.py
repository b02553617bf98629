"""The tables of versions, releases, drafts and the catalogue (SPEC 5). Nothing released is ever edited."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, delete, func, insert, select

from credit_core.policy.config import content_hash
from credit_core.store.schema import catalogs, config_releases, config_versions, drafts


class Version(NamedTuple):
    """A row of ``config_versions``."""

    version: int
    parent: int | None
    body: dict[str, Any]
    author: str
    created_at: datetime
    note: str
    content_hash: str


class Release(NamedTuple):
    """A row of ``config_releases``: from when a version is live, for which arm and share of accounts."""

    release_id: int
    version: int
    arm: str
    share: float
    salt: str | None
    released_at: datetime
    author: str
    reason: str
    action: str


#: Any number that no other lock of this database has.
_LOCK = 7_453_011
_LAST_RELEASE = select(func.max(config_releases.c.release_id))


def last_release_id(connection: Connection) -> int:
    """Id of the newest release; 0 before the first."""
    return connection.execute(_LAST_RELEASE).scalar() or 0


def releases(connection: Connection) -> list[Release]:
    """Every release, oldest first."""
    return [
        Release(*row)
        for row in connection.execute(
            select(*(config_releases.c[name] for name in Release._fields)).order_by(config_releases.c.release_id)
        )
    ]


def versions(connection: Connection) -> list[Version]:
    """Every version, oldest first."""
    return [
        Version(*row)
        for row in connection.execute(
            select(*(config_versions.c[name] for name in Version._fields)).order_by(config_versions.c.version)
        )
    ]


def version(connection: Connection, number: int) -> Version | None:
    """One version."""
    row = connection.execute(
        select(*(config_versions.c[name] for name in Version._fields)).where(config_versions.c.version == number)
    ).first()
    return None if row is None else Version(*row)


def one_at_a_time(connection: Connection) -> None:
    """Wait for whoever is writing configuration: numbers follow on what others wrote. SQLite has one writer anyway."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")


def add_version(
    connection: Connection, parent: int | None, body: Mapping[str, Any], author: str, note: str, at: datetime
) -> int:
    """Write a new version and return its number."""
    number = (connection.execute(select(func.max(config_versions.c.version))).scalar() or 0) + 1
    connection.execute(
        insert(config_versions).values(
            version=number,
            parent=parent,
            body=dict(body),
            author=author,
            created_at=at,
            note=note,
            content_hash=content_hash(body),
        )
    )
    return number


def add_release(connection: Connection, release: Release) -> None:
    """Write a release."""
    connection.execute(insert(config_releases).values(release._asdict()))


def save_draft(connection: Connection, operator: str, parent: int, changes: Mapping[str, Any], at: datetime) -> None:
    """Keep an operator's changes against ``parent``; no changes removes the draft."""
    connection.execute(delete(drafts).where(drafts.c.operator == operator, drafts.c.parent == parent))
    if changes:
        connection.execute(insert(drafts).values(operator=operator, parent=parent, changes=dict(changes), saved_at=at))


def drafts_of(connection: Connection, operator: str) -> dict[int, dict[str, Any]]:
    """An operator's drafts: parent version → changes, the newest saved first."""
    rows = connection.execute(
        select(drafts.c.parent, drafts.c.changes)
        .where(drafts.c.operator == operator)
        .order_by(drafts.c.saved_at.desc())
    )
    return {row.parent: row.changes for row in rows}


def newest_catalog(connection: Connection) -> tuple[int, dict[str, Any]] | None:
    """Version and body of the catalogue in use."""
    row = connection.execute(
        select(catalogs.c.version, catalogs.c.body).order_by(catalogs.c.version.desc()).limit(1)
    ).first()
    return None if row is None else (row.version, row.body)


def add_catalog(connection: Connection, body: Mapping[str, Any], at: datetime) -> int:
    """Write a catalogue version unless the newest has the same content; returns the version in use."""
    row = connection.execute(
        select(catalogs.c.version, catalogs.c.content_hash).order_by(catalogs.c.version.desc()).limit(1)
    ).first()
    digest = content_hash(body)
    if row is not None and row.content_hash == digest:
        return int(row.version)
    number = 1 if row is None else int(row.version) + 1
    connection.execute(insert(catalogs).values(version=number, body=dict(body), content_hash=digest, loaded_at=at))
    return number
