"""Configuration: propose a version, release it, roll it back, keep drafts (SPEC 5). Nothing released is ever edited."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from credit_core import settings
from credit_core.errors import Conflict, InvalidConfig, InvalidRequest, WaitingForApproval
from credit_core.policy import config as schema
from credit_core.policy.config import Config
from credit_core.policy.rollout import Step, checked_share
from credit_core.service import releases, rollouts
from credit_core.service.deployment import Deployment, Rollout, rollout_of
from credit_core.store import configs
from credit_core.store.ledger import Connection

#: What ``TITRATION_WEIGHTS`` sets, in its order.
WEIGHTS = tuple(f"strategies.weight_{name}" for name in ("surplus", "freshness", "credit", "library"))


class Published(NamedTuple):
    """A version that was proposed and released in one act."""

    version: int
    release_id: int


def ensure_first_version(deployment: Deployment, at: datetime) -> None:
    """Give a new deployment its first version, released to all: the shipped defaults, with ``TITRATION_WEIGHTS`` where set."""
    weights = settings.titration_weights()
    changes = {} if weights is None else dict(zip(WEIGHTS, weights, strict=True))

    def write(connection: Connection) -> None:
        if configs.last_release_id(connection) == 0:
            body = schema.apply_changes(Config().body(), changes).body()
            number = configs.add_version(connection, None, body, "titrate", "Shipped defaults", at)
            configs.add_release(
                connection, configs.Release(1, number, "all", 1.0, None, at, "titrate", "Shipped defaults", "release")
            )

    deployment.ledger.write(write)


def live_version(deployment: Deployment) -> configs.Version:
    """The version that is live for everybody outside a treatment arm."""
    with deployment.ledger.reading() as connection:
        return releases.live_in(connection)


def version_of(deployment: Deployment, number: int) -> configs.Version:
    """One version, else :class:`NotFound`."""
    with deployment.ledger.reading() as connection:
        return releases.version_in(connection, number)


def versions_and_releases(deployment: Deployment) -> tuple[list[configs.Version], list[configs.Release], Rollout]:
    """Every version, every release, and what is live."""
    with deployment.ledger.reading() as connection:
        released = configs.releases(connection)
        return configs.versions(connection), released, rollout_of(released)


def propose(
    deployment: Deployment, changes: Mapping[str, Any], author: str, note: str, parent: int | None = None
) -> int:
    """Write ``changes`` (dotted key → value) against ``parent`` (default: the live version) as a new version; returns its number."""
    author, note = releases.signed(author, note, "note")
    at = deployment.instant(None)

    def write(connection: Connection) -> int:
        configs.one_at_a_time(connection)
        base = releases.live_in(connection) if parent is None else releases.version_in(connection, parent)
        config = _changed(deployment, base.body, changes)
        return configs.add_version(connection, base.version, config.body(), author, note, at)

    return deployment.ledger.write(write)


def release_version(
    deployment: Deployment,
    version: int,
    share: float = 1.0,
    *,
    author: str,
    reason: str = "",
    expected_live: int | None = None,
) -> int:
    """Make ``version`` live for ``share`` of the accounts; returns the release's id.

    ``expected_live`` is the version the author compared with: where another is live by now, :class:`StaleParent` says whose
    and what differs, and nothing is written. Where another person has to approve it, the request is written and
    :class:`WaitingForApproval` raised.
    """
    author, reason = releases.signed(author, reason or f"Release {version}", "reason")
    at = deployment.instant(None)
    done = deployment.ledger.write(
        lambda connection: _release(connection, version, share, author, reason, expected_live, at)
    )
    if isinstance(done, WaitingForApproval):
        raise done
    return done


def publish(
    deployment: Deployment,
    changes: Mapping[str, Any],
    *,
    author: str,
    note: str,
    expected_live: int,
    share: float = 1.0,
) -> Published:
    """Propose and release in one transaction, for an operator who looked at ``expected_live``; their draft is cleared.

    Where another person has to approve it, :class:`WaitingForApproval` says so once the request is written; nothing is live
    then, and the draft stays.
    """
    author, note = releases.signed(author, note, "note")
    if not changes:
        raise InvalidRequest("There is nothing to publish: the draft equals what is live.")
    at = deployment.instant(None)

    def write(connection: Connection) -> Published | WaitingForApproval:
        configs.one_at_a_time(connection)
        releases.check_live(connection, expected_live)
        base = releases.version_in(connection, expected_live)
        body = _changed(deployment, base.body, changes).body()
        waiting = _asked_before(connection, body, base.version)
        if waiting is not None:
            return waiting
        number = configs.add_version(connection, base.version, body, author, note, at)
        done = _release(connection, number, share, author, note, expected_live, at)
        if isinstance(done, WaitingForApproval):
            return done
        configs.save_draft(connection, author, expected_live, {}, at)
        return Published(number, done)

    published = deployment.ledger.write(write)
    if isinstance(published, WaitingForApproval):
        raise published
    return published


def roll_back(deployment: Deployment, author: str, reason: str, to: int | None = None) -> int:
    """Release an older version again: ``to``, or what was live before the current one. Returns the version now live."""
    author, reason = releases.signed(author, reason, "reason")
    if not reason:
        raise InvalidRequest("A rollback needs a reason, for those who ask later.")
    at = deployment.instant(None)

    def write(connection: Connection) -> int:
        configs.one_at_a_time(connection)
        released = configs.releases(connection)
        now = rollout_of(released)
        target = to
        if target is None:
            target = now.version if now.treatment is not None else _previous(released, now.version)
        releases.version_in(connection, target)
        if now.treatment is None and target == now.version:
            raise Conflict(f"Version {target} is live already; nothing was changed.")
        releases.put_back(connection, target, author, reason, at)
        return target

    return deployment.ledger.write(write)


def save_draft(deployment: Deployment, operator: str, parent: int, changes: Mapping[str, Any]) -> None:
    """Keep an operator's changes against ``parent`` without validating them; an empty draft is removed."""
    at = deployment.instant(None)
    deployment.ledger.write(lambda connection: configs.save_draft(connection, operator, parent, changes, at))


def draft_of(deployment: Deployment, operator: str) -> tuple[int, dict[str, Any]] | None:
    """The operator's newest draft: parent version and changes."""
    with deployment.ledger.reading() as connection:
        return next(iter(configs.drafts_of(connection, operator).items()), None)


def _changed(deployment: Deployment, body: Mapping[str, Any], changes: Mapping[str, Any]) -> Config:
    config = schema.apply_changes(body, changes)
    unknown = [
        f"routing.{role}: the catalogue has no model {name!r}; it has {', '.join(deployment.catalog.models)}"
        for role, name in (
            ("premium_model", config.routing.premium_model),
            ("economy_model", config.routing.economy_model),
        )
        if name not in deployment.catalog.models
    ]
    if unknown:
        raise InvalidConfig(unknown)
    return config


def _release(
    connection: Connection,
    version: int,
    share: float,
    author: str,
    reason: str,
    expected_live: int | None,
    at: datetime,
) -> int | WaitingForApproval:
    """The release's id; where another person has to approve it, what the caller raises once that is written."""
    configs.one_at_a_time(connection)
    share = checked_share(share)
    releases.version_in(connection, version)
    if expected_live is not None:
        releases.check_live(connection, expected_live)
    if not rollouts.needs_approval(releases.live_in(connection), share):
        return releases.put_live(connection, version, share, author, reason, at)
    asked = rollouts.ask_for(connection, version, (Step(share, 0.0),), (), author, reason, at)
    return WaitingForApproval(version, asked.plan.rollout_id)


def _asked_before(connection: Connection, body: Mapping[str, Any], live: int) -> WaitingForApproval | None:
    """The request that waits for approval of this content against ``live``: asked for twice, it is one request."""
    digest = schema.content_hash(body)
    for waiting in rollouts.everything(connection):
        plan = waiting.plan
        if waiting.standing.status == "waiting" and (plan.content_hash, plan.base_version) == (digest, live):
            return WaitingForApproval(plan.version, plan.rollout_id)
    return None


def _previous(released: list[configs.Release], live: int) -> int:
    """The version that was live before ``live``: walks back over rollbacks as an undo would."""
    stack: list[int] = []
    for release in released:
        if release.arm != "all":
            continue
        if release.action == "rollback" and stack[-1:] == [release.version]:
            # It ended an experiment; what is live for everybody stayed as it was.
            continue
        below = [place for place, version in enumerate(stack[:-1]) if version == release.version]
        if release.action == "rollback" and below:
            del stack[below[-1] + 1 :]
        else:
            stack.append(release.version)
    if len(stack) < 2 or stack[-1] != live:
        raise Conflict("There is no earlier version to roll back to.")
    return stack[-2]
