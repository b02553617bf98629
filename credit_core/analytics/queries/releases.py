"""What was live when, who changed what, and the decisions made under it (SPEC 5)."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
from sqlalchemy import Select, func, select

from credit_core.analytics import measures, relations
from credit_core.analytics.filters import Filters
from credit_core.analytics.sync import Facts
from credit_core.errors import NotFound


def releases(facts: Facts) -> pd.DataFrame:
    """Every release, newest first: release_id, version, parent, arm, share, released_at, author, reason, action, note.

    And of all decisions made under the version: decisions, fresh_rate, first_decision_at, last_decision_at.
    """
    r, v = relations.config_releases.c, relations.config_versions.c
    under = _decisions().subquery("under")
    statement = (
        select(
            r.release_id, r.version, v.parent, r.arm, r.share, r.released_at, r.author, r.reason, r.action, v.note,
            func.coalesce(under.c.decisions, 0).label("decisions"), under.c.fresh_rate, under.c.first_decision_at, under.c.last_decision_at,
        )
        .select_from(
            relations.config_releases.outerjoin(relations.config_versions, v.version == r.version).outerjoin(
                under, under.c.config_version == r.version
            )
        )
        .order_by(r.release_id.desc())
    )  # fmt: skip
    return facts.frame(statement)


def release_marks(facts: Facts, filters: Filters) -> pd.DataFrame:
    """Releases within the period, oldest first: released_at, version, author, note, reason, action."""
    r, v = relations.config_releases.c, relations.config_versions.c
    statement = (
        select(r.released_at, r.version, r.author, v.note, r.reason, r.action)
        .select_from(relations.config_releases.outerjoin(relations.config_versions, v.version == r.version))
        .where(relations.in_period(r.released_at, filters))
        .order_by(r.release_id)
    )
    return facts.frame(statement)


def versions(facts: Facts) -> pd.DataFrame:
    """Every version, newest first: version, parent, author, created_at, note, content_hash, released_at (last), decisions."""
    r, v = relations.config_releases.c, relations.config_versions.c
    released = select(r.version, func.max(r.released_at).label("released_at")).group_by(r.version).subquery("released")
    under = _decisions().subquery("under")
    statement = (
        select(
            v.version, v.parent, v.author, v.created_at, v.note, v.content_hash, released.c.released_at,
            func.coalesce(under.c.decisions, 0).label("decisions"),
        )
        .select_from(
            relations.config_versions.outerjoin(released, released.c.version == v.version).outerjoin(
                under, under.c.config_version == v.version
            )
        )
        .order_by(v.version.desc())
    )  # fmt: skip
    return facts.frame(statement)


def account_ids(facts: Facts) -> list[str]:
    """Every account, to be told by which version it is governed."""
    return [account_id for (account_id,) in facts.rows(select(relations.accounts.c.account_id))]


def body(facts: Facts, version: int) -> dict[str, Any]:
    """The body of one version. Raises :class:`NotFound`."""
    found = facts.rows(select(relations.config_versions.c.body).where(relations.config_versions.c.version == version))
    if not found:
        raise NotFound(f"There is no configuration version {version}. The releases page lists those there are.")
    parsed: dict[str, Any] = json.loads(found[0][0])
    return parsed


def _decisions() -> Select[Any]:
    f = relations.facts.c
    fresh = func.count().filter(f.outcome == "fresh")
    return (
        select(
            f.config_version,
            func.count().label("decisions"),
            (fresh * 1.0 / func.count()).label("fresh_rate"),
            func.min(f.occurred_at).label("first_decision_at"),
            func.max(f.occurred_at).label("last_decision_at"),
        )
        .where(measures.judged(f))
        .group_by(f.config_version)
    )
