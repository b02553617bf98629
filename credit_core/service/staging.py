"""Releasing in stages: start, approve or decline, ramp, hold, resume (SPEC 5). Rolling back is :func:`configure.roll_back`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from credit_core.analytics.queries.arms import GUARDED
from credit_core.errors import Conflict, InvalidRequest, NotAllowed, StaleParent
from credit_core.policy import config as schema
from credit_core.policy.rollout import (
    FULL_SCHEDULE,
    Event,
    Guardrail,
    Status,
    Step,
    checked_guardrails,
    checked_steps,
    same_person,
)
from credit_core.service import releases, rollouts
from credit_core.service.deployment import Deployment, Rollout, arm_of
from credit_core.service.rollouts import Rollout as Staged
from credit_core.store import configs
from credit_core.store import rollouts as rows
from credit_core.store.ledger import Connection
from credit_core.store.rollouts import Look

#: Guardrails offered where nobody says otherwise: differences from control, in the metric's own unit.
USUAL_GUARDRAILS = (
    Guardrail("run_out_share", "at_most", 0.02),
    Guardrail("behind_share", "at_most", 0.05),
    Guardrail("fresh_rate", "at_least", -0.10),
    Guardrail("failure_rate", "at_most", 0.05),
    Guardrail("coverage_miss_rate", "at_most", 0.05, action="pause"),
    Guardrail("at_cap_share", "at_most", 0.10, action="pause"),
)


def stage(
    deployment: Deployment,
    version: int,
    *,
    author: str,
    reason: str,
    steps: Sequence[Step] = FULL_SCHEDULE,
    guardrails: Sequence[Guardrail] = USUAL_GUARDRAILS,
    expected_live: int | None = None,
) -> Staged:
    """Release ``version`` step by step; where the live configuration asks for approval it waits for another person.

    Raises :class:`InvalidRequest`, :class:`StaleParent`, and :class:`Conflict` while another staged release runs.
    """
    author, reason = releases.signed(author, reason, "reason")
    if not reason:
        raise InvalidRequest("A staged release needs a reason, for those who ask later.")
    checked, rails = checked_steps(steps), checked_guardrails(guardrails, tuple(GUARDED))
    at = deployment.instant(None)

    def write(connection: Connection) -> Staged:
        configs.one_at_a_time(connection)
        if expected_live is not None:
            releases.check_live(connection, expected_live)
        if releases.live_in(connection).version == version:
            raise Conflict(f"Version {version} is live for everybody already; nothing was changed.")
        going = next((each for each in rollouts.everything(connection) if each.going_on), None)
        if going is not None:
            raise Conflict(
                f"Version {going.plan.version} is being released in stages by {going.plan.author}. Let that end, or roll it "
                "back, first."
            )
        return rollouts.ask_for(connection, version, checked, rails, author, reason, at)

    return deployment.ledger.write(write)


def staged(deployment: Deployment) -> list[Staged]:
    """Every staged release, oldest first."""
    with deployment.ledger.reading() as connection:
        return rollouts.everything(connection)


def looks(deployment: Deployment, rollout_id: int) -> list[Look]:
    """What watchers saw, the last look of each day, oldest first."""
    with deployment.ledger.reading() as connection:
        return rows.looks(connection, rollout_id)


def approve(
    deployment: Deployment, rollout_id: int, *, author: str, content_hash: str, reason: str = "Approved"
) -> Staged:
    """Approve what waits and begin its first step. ``content_hash`` is of the content that the approver looked at.

    Raises :class:`NotAllowed` where author and approver are one person, :class:`StaleParent` where the approval would be
    for something else than was asked: another release came in between, or the content differs.
    """

    def act(connection: Connection, found: Staged, author: str, reason: str, at: datetime) -> Staged:
        plan, version = found.plan, releases.version_in(connection, found.plan.version)
        for name, part in ((plan.author, "asked for it"), (version.author, f"wrote version {version.version}")):
            if same_person(name, author):
                raise NotAllowed(f"{author} {part}, so another person has to approve it.")
        if content_hash != plan.content_hash or schema.content_hash(version.body) != plan.content_hash:
            raise StaleParent(
                f"The content that was looked at is not that of version {plan.version}. Compare again, then approve."
            )
        approved = rollouts.add(connection, found, Event("approved", at, author, reason))
        return rollouts.begin_step(connection, approved, 0, plan.author, plan.reason, at)

    return _act(deployment, rollout_id, ("waiting",), "approved", author, reason, act)


def decline(deployment: Deployment, rollout_id: int, *, author: str, reason: str) -> Staged:
    """Say no to what waits for approval; whoever asked may also take it back."""
    return _act(deployment, rollout_id, ("waiting",), "declined", author, reason, _writes("declined"))


def hold(deployment: Deployment, rollout_id: int, *, author: str, reason: str) -> Staged:
    """Stop the schedule where it is; guardrails go on being watched."""
    return _act(deployment, rollout_id, ("running",), "held", author, reason, _writes("held"))


def resume(deployment: Deployment, rollout_id: int, *, author: str, reason: str) -> Staged:
    """Let the schedule go on; what paused it does not pause this step again."""
    return _act(deployment, rollout_id, ("held",), "resumed", author, reason, _writes("resumed"))


def ramp(deployment: Deployment, rollout_id: int, *, author: str, reason: str) -> Staged:
    """Begin the next step now."""

    def act(connection: Connection, found: Staged, author: str, reason: str, at: datetime) -> Staged:
        step = found.standing.step
        if step is None or step + 1 >= len(found.plan.steps):
            raise Conflict("This is the last step of its schedule. Release the version to everybody, or roll it back.")
        return rollouts.begin_step(connection, found, step + 1, author, reason, at)

    return _act(deployment, rollout_id, ("running", "held"), "ramped", author, reason, act)


def accounts_on(account_ids: Iterable[str], live: Rollout) -> dict[int, int]:
    """Version → number of these accounts that it governs now."""
    if live.treatment is None:
        return {live.version: sum(1 for _ in account_ids)}
    counts = {live.version: 0, live.treatment: 0}
    for account_id in account_ids:
        counts[live.treatment if arm_of(account_id, live) == "treatment" else live.version] += 1
    return counts


_Act = Callable[[Connection, Staged, str, str, datetime], Staged]
_SAID = {
    "waiting": "waits for approval", "overtaken": "was overtaken by another release", "declined": "was declined",
    "running": "is running", "held": "is on hold", "done": "has reached everybody", "rolled_back": "was rolled back",
    "superseded": "was replaced by another release",
}  # fmt: skip


def _writes(kind: str) -> _Act:
    """An act that is nothing but its event."""

    def act(connection: Connection, found: Staged, author: str, reason: str, at: datetime) -> Staged:
        event = Event("held", at, author, reason)._replace(kind=kind)  # type: ignore[arg-type]
        return rollouts.add(connection, found, event)

    return act


def _act(
    deployment: Deployment,
    rollout_id: int,
    allowed: Sequence[Status],
    verb: str,
    author: str,
    reason: str,
    act: _Act,
) -> Staged:
    """Run ``act`` in one transaction on a staged release that stands where it may be acted on."""
    author, reason = releases.signed(author, reason, "reason")
    if not reason:
        raise InvalidRequest("A reason is needed, for those who ask later.")
    at = deployment.instant(None)

    def write(connection: Connection) -> Staged:
        configs.one_at_a_time(connection)
        found = rollouts.one(connection, rollout_id)
        status = found.standing.status
        if status == "overtaken":
            raise StaleParent(_overtaken(found))
        if status not in allowed:
            raise Conflict(
                f"Staged release {rollout_id} cannot be {verb}: it {_SAID[status]} since "
                f"{found.standing.since:%Y-%m-%d %H:%M} UTC, by {found.standing.author}. Nothing was changed."
            )
        return act(connection, found, author, reason, at)

    return deployment.ledger.write(write)


def _overtaken(found: Staged) -> str:
    state = found.standing
    return (
        f"Another release came in between, on {state.since:%Y-%m-%d %H:%M} UTC by {state.author} ({state.reason}), so the "
        f"request to release version {found.plan.version} is void. Compare with what is live now, and ask again."
    )
