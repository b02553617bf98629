"""The tables of staged releases: plans and events, which are only ever added, and the newest look of each day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, delete, func, insert, select

from credit_core.policy.rollout import Arm, Event, Figure, Guardrail, Step
from credit_core.store.schema import ledger_entries, rollout_events, rollout_looks, rollouts


class Plan(NamedTuple):
    """A row of ``rollouts``: which version is to be released how, and what watches over it."""

    rollout_id: int
    version: int
    content_hash: str
    base_version: int
    base_release_id: int
    steps: tuple[Step, ...]
    guardrails: tuple[Guardrail, ...]
    needs_approval: bool
    requested_at: datetime
    author: str
    reason: str


class Look(NamedTuple):
    """What a watcher saw: figures by metric, and accounts first seen in (treatment, control, rest) by step."""

    looked_at: datetime
    figures: dict[str, Figure]
    assigned: tuple[tuple[int, int, int], ...]


_EVENT = (
    rollout_events.c.rollout_id, *(rollout_events.c[name] for name in Event._fields), rollout_events.c.after_entry_id,
)  # fmt: skip


def plans(connection: Connection) -> list[Plan]:
    """Every plan, oldest first."""
    rows = connection.execute(
        select(*(rollouts.c[name] for name in Plan._fields)).order_by(rollouts.c.rollout_id)
    ).mappings()
    return [
        Plan(
            **{
                **row,
                "steps": tuple(Step(*step) for step in row["steps"]),
                "guardrails": tuple(Guardrail(**rail) for rail in row["guardrails"]),
            }
        )
        for row in rows
    ]


def add_plan(connection: Connection, plan: Plan) -> int:
    """Write a plan under the next number, whatever ``plan.rollout_id`` says; returns the number."""
    number = (connection.execute(select(func.max(rollouts.c.rollout_id))).scalar() or 0) + 1
    row = plan._asdict() | {
        "rollout_id": number,
        "steps": [list(step) for step in plan.steps],
        "guardrails": [rail._asdict() for rail in plan.guardrails],
    }
    connection.execute(insert(rollouts).values(row))
    return number


def events(connection: Connection) -> dict[int, list[tuple[Event, int | None]]]:
    """Events of every plan in order, each with the newest entry when it was written (steps alone have it)."""
    found: dict[int, list[tuple[Event, int | None]]] = {}
    for rollout_id, *values, after in connection.execute(
        select(*_EVENT).order_by(rollout_events.c.rollout_id, rollout_events.c.event_no)
    ):
        event = Event(*values)
        found.setdefault(rollout_id, []).append((event._replace(signals=tuple(event.signals or ())), after))
    return found


def add_event(connection: Connection, rollout_id: int, event_no: int, event: Event) -> None:
    """Write an event under its number; a step also keeps the newest entry. Another one under the number is a duplicate."""
    after = None
    if event.kind == "staged":
        after = connection.execute(select(func.max(ledger_entries.c.id))).scalar() or 0
    row = event._asdict() | {
        "rollout_id": rollout_id,
        "event_no": event_no,
        "after_entry_id": after,
        "signals": list(event.signals) or None,
    }
    connection.execute(insert(rollout_events).values(row))


def looks(connection: Connection, rollout_id: int) -> list[Look]:
    """The last look of each day, oldest first."""
    columns = (rollout_looks.c.looked_at, rollout_looks.c.figures, rollout_looks.c.assigned)
    rows = connection.execute(
        select(*columns).where(rollout_looks.c.rollout_id == rollout_id).order_by(rollout_looks.c.day)
    )
    return [
        Look(
            row.looked_at,
            {slug: Figure(Arm(*ours), Arm(*theirs)) for slug, (ours, theirs) in row.figures.items()},
            tuple((counts[0], counts[1], counts[2]) for counts in row.assigned),
        )
        for row in rows
    ]


def save_look(connection: Connection, rollout_id: int, look: Look) -> None:
    """Keep a look in place of earlier ones of its day."""
    day = look.looked_at.astimezone(UTC).date().isoformat()
    there = (rollout_looks.c.rollout_id == rollout_id) & (rollout_looks.c.day == day)
    connection.execute(delete(rollout_looks).where(there))
    connection.execute(
        insert(rollout_looks).values(
            rollout_id=rollout_id,
            day=day,
            looked_at=look.looked_at,
            figures=_plain(look.figures),
            assigned=[list(counts) for counts in look.assigned],
        )
    )


def _plain(figures: Mapping[str, Figure]) -> dict[str, Sequence[Any]]:
    return {slug: [list(arm) for arm in figure] for slug, figure in figures.items()}
