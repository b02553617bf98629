"""What the two arms of a staged release do, read from the ledger itself: figures that guardrails judge, and who was assigned.

Only what was written since the release is read, by the ledger's own primary key; the expressions are those of
:mod:`credit_core.analytics.metrics`. ``n`` is always a number of accounts: the unit that was drawn into an arm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, FromClause, Select, Subquery, and_, case, distinct, func, or_, select

from credit_core.analytics import measures as m
from credit_core.analytics import relations
from credit_core.analytics.day_ends import BEHIND
from credit_core.analytics.metrics import METRICS, Direction, Format, relation_of
from credit_core.policy.lots import PACED_KINDS
from credit_core.policy.rollout import Arm, Figure
from credit_core.policy.surplus import surplus, surplus_days
from credit_core.store import schema
from credit_core.units import DAY_S, MICRO


@dataclass(frozen=True, slots=True)
class Guarded:
    """A metric that a guardrail may bound, per arm."""

    slug: str
    title: str
    format: Format
    direction: Direction
    definition: str


#: Rates of the registry that are told of entries alone.
_RATES = (
    "fresh_rate", "fresh_rate_chosen", "coverage_miss_rate", "run_out_share", "unaffordable_share", "idle_library_share",
    "session_capped_share", "flicker", "failure_rate", "partial_rate", "refund_rate",
)  # fmt: skip
_BEHIND, _COST, _REWARD, _AT_CAP = "behind_share", "cost_per_account", "reward_mean", "at_cap_share"


def _registered(slug: str) -> Guarded:
    declared = METRICS[slug]
    return Guarded(slug, declared.title, declared.format, declared.direction, declared.definition)


#: Every metric that a guardrail may bound, by slug.
GUARDED: dict[str, Guarded] = {
    **{slug: _registered(slug) for slug in _RATES},
    _BEHIND: Guarded(_BEHIND, "Accounts behind", "share", "down", "accounts below −3 surplus days now / running titrated accounts"),
    _AT_CAP: _registered(_AT_CAP),
    _COST: Guarded(_COST, "Provider cost per account", "dollars", "down", "provider cost / active accounts"),
    _REWARD: Guarded(_REWARD, "Mean reward", "share", "up", "sum of logged rewards / rewarded requests"),
}  # fmt: skip


class Window(NamedTuple):
    """What belongs to a staged release: entries after the newest one before it, by their arm and version."""

    after_entry_id: int
    treatment_version: int
    control_version: int
    started_at: datetime


def figures(
    connection: Connection, window: Window, slugs: Sequence[str], titrated: Sequence[str], now: datetime
) -> dict[str, Figure]:
    """The metrics of both arms since the release. ``titrated``: the plans whose accounts are paced."""
    entries = relations.ledger_facts(_kept(window))
    found: dict[str, dict[str, Arm]] = {}
    rates = [slug for slug in slugs if slug in _RATES]
    for relation in sorted({METRICS[slug].relation for slug in rates}):
        of = [slug for slug in rates if METRICS[slug].relation == relation]
        found |= _rates(connection, entries, of)
    if _COST in slugs:
        found[_COST] = _cost(connection, entries)
    if _REWARD in slugs:
        found[_REWARD] = _rewards(connection, entries)
    if _BEHIND in slugs:
        found[_BEHIND] = _behind(connection, _exposed(entries), titrated, now)
    if _AT_CAP in slugs:
        found[_AT_CAP] = _at_cap(connection, _exposed(entries), titrated, window.started_at)
    nobody = Arm(None, 0)
    return {slug: Figure(arms.get("treatment", nobody), arms.get("control", nobody)) for slug, arms in found.items()}


def assigned(connection: Connection, window: Window, after_ids: Sequence[int]) -> tuple[tuple[int, int, int], ...]:
    """By step: accounts whose first request since the release came in it, in (treatment, control, rest).

    ``after_ids``: per step the newest entry before it. What an arm does to its accounts cannot change these.
    """
    e = schema.ledger_entries.c
    versions = e.config_version.in_((window.treatment_version, window.control_version))
    kept = and_(e.id > window.after_entry_id, e.arm.in_(("treatment", "control", "rest")), versions)
    f = relations.ledger_facts(kept).c
    nth = func.row_number().over(partition_by=f.account_id, order_by=f.id).label("nth")
    asked = select(f.id, f.arm, nth).where(m.requested(f)).subquery("asked")
    step = case(*((asked.c.id > after, number) for number, after in reversed([*enumerate(after_ids)])), else_=0)
    statement = select(step.label("step"), asked.c.arm, func.count()).where(asked.c.nth == 1)
    counts = {(row[0], row[1]): int(row[2]) for row in connection.execute(statement.group_by("step", asked.c.arm))}
    arms = ("treatment", "control", "rest")
    return tuple(
        (counts.get((n, arms[0]), 0), counts.get((n, arms[1]), 0), counts.get((n, arms[2]), 0))
        for n in range(len(after_ids))
    )


def _kept(window: Window) -> Any:
    e = schema.ledger_entries.c
    arms = or_(
        and_(e.arm == "treatment", e.config_version == window.treatment_version),
        and_(e.arm == "control", e.config_version == window.control_version),
    )
    return and_(e.id > window.after_entry_id, arms)


def _rates(connection: Connection, entries: FromClause, slugs: Sequence[str]) -> dict[str, dict[str, Arm]]:
    """Rates of one relation, in one statement."""
    declared = [METRICS[slug] for slug in slugs]
    relation = relation_of(declared[0], entries)
    c = relation.c
    parts: list[ColumnElement[Any]] = [c.arm]
    for metric in declared:
        assert isinstance(metric.denominator, m.Aggregate), "a guarded rate counts rows below the line"
        counted = func.count(distinct(c.account_id)).filter(metric.denominator.rows(c))
        parts += [metric.numerator(c), metric.denominator(c), counted]
    labelled = [part.label(f"part_{number}") for number, part in enumerate(parts)]
    found: dict[str, dict[str, Arm]] = {slug: {} for slug in slugs}
    for arm, *values in connection.execute(select(*labelled).select_from(relation).group_by(c.arm)):
        for place, slug in enumerate(slugs):
            above, below, accounts = values[3 * place : 3 * place + 3]
            found[slug][arm] = Arm(above / below if below else None, int(accounts))
    return found


def _cost(connection: Connection, entries: FromClause) -> dict[str, Arm]:
    """Dollars a provider charged per active account; unknown where no settle has a cost."""
    c = entries.c
    statement = select(c.arm, METRICS["provider_cost"].numerator(c), METRICS["active_accounts"].numerator(c))
    return {
        arm: Arm(None if cost is None or not accounts else int(cost) / MICRO / accounts, int(accounts))
        for arm, cost, accounts in connection.execute(statement.group_by(c.arm))
    }


def _rewards(connection: Connection, entries: FromClause) -> dict[str, Arm]:
    r, c = schema.rewards.c, entries.c
    joined = entries.join(schema.rewards, and_(r.user_id == c.user_id, r.request_id == c.request_id))
    statement = select(c.arm, func.avg(r.value), func.count(distinct(c.account_id))).select_from(joined)
    rows = connection.execute(statement.where(m.requested(c)).group_by(c.arm))
    return {arm: Arm(None if mean is None else float(mean), int(accounts)) for arm, mean, accounts in rows}


def _exposed(entries: FromClause) -> Subquery:
    """Accounts that asked for anything in an arm; nobody changes between treatment and control."""
    c = entries.c
    return select(c.account_id, c.arm).where(m.requested(c)).distinct().subquery("exposed")


def _behind(connection: Connection, exposed: Subquery, titrated: Sequence[str], now: datetime) -> dict[str, Arm]:
    """Share of the arm's running accounts below −3 surplus days, as their balances stand."""
    a, lot = schema.accounts.c, schema.lots.c
    paced = (
        select(func.coalesce(func.sum(lot.avail_uc), 0))
        .where(lot.account_id == a.account_id, lot.kind.in_(PACED_KINDS), lot.avail_uc + lot.held_uc > 0)
        .scalar_subquery()
    )
    statement: Select[Any] = (
        select(exposed.c.arm, a.quota_uc, a.cycle_start_at, a.cycle_end_at, paced)
        .select_from(exposed.join(schema.accounts, a.account_id == exposed.c.account_id))
        .where(a.plan.in_(titrated), a.paused_at.is_(None), a.quota_uc > 0, a.cycle_end_at > now)
    )
    days: dict[str, list[bool]] = {}
    for arm, quota_uc, start, end, paced_uc in connection.execute(statement):
        length, left = (end - start).total_seconds() / DAY_S, (end - now).total_seconds() / DAY_S
        ahead = surplus(float(paced_uc) / MICRO, quota_uc / MICRO, length, left)
        days.setdefault(arm, []).append(surplus_days(ahead, quota_uc / MICRO, length) < BEHIND)
    return {arm: Arm(sum(behind) / len(behind), len(behind)) for arm, behind in days.items()}


def _at_cap(connection: Connection, exposed: Subquery, titrated: Sequence[str], started_at: datetime) -> dict[str, Arm]:
    """Share of the arm's closings since the release that ended at the cap."""
    c = schema.cycles.c
    joined = exposed.join(schema.cycles, c.account_id == exposed.c.account_id)
    figures = (func.count().filter(m.at_cap(c)), func.count(), func.count(distinct(c.account_id)))
    statement = select(exposed.c.arm, *figures).select_from(joined).group_by(exposed.c.arm)
    closed = and_(c.closed_at.is_not(None), c.end_at >= started_at, c.plan.in_(titrated))
    return {
        arm: Arm(capped / closings, int(accounts))
        for arm, capped, closings, accounts in connection.execute(statement.where(closed))
    }
