"""Staged releases as they stand in the ledger database, and writing their next event; inside a caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from credit_core.errors import NotFound
from credit_core.policy import config as schema
from credit_core.policy.rollout import OPEN, Event, Guardrail, Later, Standing, Step, standing
from credit_core.service import releases
from credit_core.store import configs
from credit_core.store import rollouts as rows
from credit_core.store.ledger import Connection
from credit_core.store.rollouts import Plan


class Rollout(NamedTuple):
    """A staged release: its plan, what was done to it, where it stands. ``steps_after`` is the newest entry before each step."""

    plan: Plan
    events: tuple[Event, ...]
    steps_after: tuple[int, ...]
    standing: Standing

    @property
    def open(self) -> bool:
        """Whether it waits, runs or is held."""
        return self.standing.status in OPEN

    @property
    def going_on(self) -> bool:
        """Whether it is live for a share and has steps left."""
        step = self.standing.step
        return self.standing.status in ("running", "held") and step is not None and step + 1 < len(self.plan.steps)

    @property
    def started_at(self) -> datetime | None:
        """When its first step went live."""
        return next((event.happened_at for event in self.events if event.kind == "staged"), None)

    @property
    def approved_by(self) -> str | None:
        """Who approved it."""
        return next((event.author for event in self.events if event.kind == "approved"), None)


def everything(connection: Connection) -> list[Rollout]:
    """Every staged release, oldest first."""
    released = configs.releases(connection)
    happened = rows.events(connection)
    return [_rollout(plan, happened.get(plan.rollout_id, []), released) for plan in rows.plans(connection)]


def one(connection: Connection, rollout_id: int) -> Rollout:
    """One staged release, else :class:`NotFound`."""
    found = next((each for each in everything(connection) if each.plan.rollout_id == rollout_id), None)
    if found is None:
        raise NotFound(f"There is no staged release {rollout_id}. `python -m credit_core config rollouts` lists them.")
    return found


def ask_for(
    connection: Connection,
    version: int,
    steps: Sequence[Step],
    guardrails: Sequence[Guardrail],
    author: str,
    reason: str,
    at: datetime,
) -> Rollout:
    """Write a plan to release ``version``; it begins at once where nobody has to approve it, else it waits.

    The same content asked for again while it waits is the same request.
    """
    version_found, live = releases.version_in(connection, version), releases.live_in(connection)
    for waiting in everything(connection):
        plan = waiting.plan
        same = (plan.content_hash, plan.steps, plan.guardrails) == (
            version_found.content_hash,
            (*steps,),
            (*guardrails,),
        )
        if waiting.standing.status == "waiting" and same:
            return waiting
    number = rows.add_plan(
        connection,
        Plan(
            0, version, version_found.content_hash, live.version, configs.last_release_id(connection), tuple(steps),
            tuple(guardrails), needs_approval(live, max(step.share for step in steps)), at, author, reason,
        ),
    )  # fmt: skip
    asked = one(connection, number)
    return asked if asked.plan.needs_approval else begin_step(connection, asked, 0, author, reason, at)


def needs_approval(live: configs.Version, share: float) -> bool:
    """Whether what is live asks for another person before ``share`` of the accounts get something else."""
    return share > schema.parse(live.body).releases.approval_above


def begin_step(connection: Connection, rollout: Rollout, step: int, author: str, reason: str, at: datetime) -> Rollout:
    """Put a step live."""
    plan = rollout.plan
    release_id = releases.put_live(connection, plan.version, plan.steps[step].share, author, reason, at)
    return add(connection, rollout, Event("staged", at, author, reason, step, release_id))


def add(connection: Connection, rollout: Rollout, event: Event) -> Rollout:
    """Write the next event; the staged release as it stands then."""
    rows.add_event(connection, rollout.plan.rollout_id, len(rollout.events) + 1, event)
    return one(connection, rollout.plan.rollout_id)


def _rollout(plan: Plan, happened: Sequence[tuple[Event, int | None]], released: Sequence[configs.Release]) -> Rollout:
    events = tuple(event for event, _ in happened)
    own = max((event.release_id or 0 for event in events), default=0) or plan.base_release_id
    following = next((release for release in released if release.release_id > own), None)
    later = following and Later(
        following.version, following.action, following.released_at, following.author, following.reason
    )
    asked = (plan.requested_at, plan.author, plan.reason)
    after = tuple(newest for event, newest in happened if event.kind == "staged" and newest is not None)
    return Rollout(plan, events, after, standing(plan.steps, asked, later, events))
