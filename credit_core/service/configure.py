"""Configuration: propose a version, release it, roll it back, keep drafts (SPEC 5). Nothing released is ever edited."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from credit_core import settings, units
from credit_core.errors import Conflict, InvalidConfig, InvalidRequest, NotFound, StaleParent
from credit_core.policy import config as schema
from credit_core.policy.config import Config
from credit_core.service.deployment import Deployment, Rollout, rollout_of
from credit_core.store import configs
from credit_core.store.ledger import Connection

#: Treatment and control are of equal size, so an experiment takes at most half of the accounts (SPEC 5).
MAX_EXPERIMENT_SHARE = 0.5
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
        return _version(connection, rollout_of(configs.releases(connection)).version)


def version_of(deployment: Deployment, number: int) -> configs.Version:
    """One version, else :class:`NotFound`."""
    with deployment.ledger.reading() as connection:
        return _version(connection, number)


def versions_and_releases(deployment: Deployment) -> tuple[list[configs.Version], list[configs.Release], Rollout]:
    """Every version, every release, and what is live."""
    with deployment.ledger.reading() as connection:
        released = configs.releases(connection)
        return configs.versions(connection), released, rollout_of(released)


def propose(
    deployment: Deployment, changes: Mapping[str, Any], author: str, note: str, parent: int | None = None
) -> int:
    """Write ``changes`` (dotted key → value) against ``parent`` (default: the live version) as a new version; returns its number."""
    author, note = _signed(author, note, "note")
    at = deployment.instant(None)

    def write(connection: Connection) -> int:
        configs.one_at_a_time(connection)
        base = _version(connection, rollout_of(configs.releases(connection)).version if parent is None else parent)
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
    and what differs, and nothing is written.
    """
    author, reason = _signed(author, reason or f"Release {version}", "reason")
    at = deployment.instant(None)
    return deployment.ledger.write(
        lambda connection: _release(connection, version, share, author, reason, expected_live, at)
    )


def publish(
    deployment: Deployment,
    changes: Mapping[str, Any],
    *,
    author: str,
    note: str,
    expected_live: int,
    share: float = 1.0,
) -> Published:
    """Propose and release in one transaction, for an operator who looked at ``expected_live``; their draft is cleared."""
    author, note = _signed(author, note, "note")
    if not changes:
        raise InvalidRequest("There is nothing to publish: the draft equals what is live.")
    at = deployment.instant(None)

    def write(connection: Connection) -> Published:
        configs.one_at_a_time(connection)
        _check_live(connection, expected_live)
        base = _version(connection, expected_live)
        config = _changed(deployment, base.body, changes)
        number = configs.add_version(connection, base.version, config.body(), author, note, at)
        release_id = _release(connection, number, share, author, note, expected_live, at)
        configs.save_draft(connection, author, expected_live, {}, at)
        return Published(number, release_id)

    return deployment.ledger.write(write)


def roll_back(deployment: Deployment, author: str, reason: str, to: int | None = None) -> int:
    """Release an older version again: ``to``, or what was live before the current one. Returns the version now live."""
    author, reason = _signed(author, reason, "reason")
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
        _version(connection, target)
        if now.treatment is None and target == now.version:
            raise Conflict(f"Version {target} is live already; nothing was changed.")
        configs.add_release(
            connection,
            configs.Release(released[-1].release_id + 1, target, "all", 1.0, None, at, author, reason, "rollback"),
        )
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


def _version(connection: Connection, number: int) -> configs.Version:
    found = configs.version(connection, number)
    if found is None:
        raise NotFound(
            f"There is no configuration version {number}. `python -m credit_core config show --versions` lists them."
        )
    return found


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
) -> int:
    configs.one_at_a_time(connection)
    share = units.checked_real(share, "share", 0.0, 1.0)
    if not (share == 1.0 or 0.0 < share <= MAX_EXPERIMENT_SHARE):
        raise InvalidRequest(
            f"share must be 1, or over 0 and at most {MAX_EXPERIMENT_SHARE} so that control is as large as treatment; got {share}."
        )
    _version(connection, version)
    if expected_live is not None:
        _check_live(connection, expected_live)
    released = configs.releases(connection)
    now = rollout_of(released)
    if share == 1.0 and now.treatment is None and now.version == version:
        raise Conflict(f"Version {version} is live for everybody already; nothing was changed.")
    salt = None
    if share < 1.0:
        # An experiment that ramps keeps its salt, so that nobody changes sides.
        salt = now.salt if now.treatment == version else secrets.token_hex(16)
    release_id = released[-1].release_id + 1 if released else 1
    configs.add_release(
        connection,
        configs.Release(
            release_id, version, "all" if share == 1.0 else "treatment", share, salt, at, author, reason, "release"
        ),
    )
    return release_id


def _check_live(connection: Connection, expected: int) -> None:
    released = configs.releases(connection)
    now = rollout_of(released)
    if now.version == expected:
        return
    last = next(release for release in reversed(released) if release.arm == "all")
    differing = schema.differences(_version(connection, expected).body, _version(connection, now.version).body)
    listed = "; ".join(f"{key}: {old} → {new}" for key, (old, new) in differing.items()) or "no values differ"
    raise StaleParent(
        f"Version {now.version} went live on {last.released_at:%Y-%m-%d %H:%M} UTC by {last.author} ({last.reason}), "
        f"after you looked at version {expected}. "
        f"It changed: {listed}. Nothing was overwritten; compare and publish again."
    )


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


def _signed(author: str, words: str, name: str) -> tuple[str, str]:
    return units.checked_id(author, "author"), units.checked_text(words, name)
