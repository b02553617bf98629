"""What every change of configuration shares: finding versions, checking what is live, writing a release row (SPEC 5).

All of it runs inside a caller's transaction, after :func:`credit_core.store.configs.one_at_a_time`.
"""

from __future__ import annotations

import secrets
from datetime import datetime

from credit_core import units
from credit_core.errors import Conflict, NotFound, StaleParent
from credit_core.policy import config as schema
from credit_core.service.deployment import rollout_of
from credit_core.store import configs
from credit_core.store.ledger import Connection


def signed(author: str, words: str, name: str) -> tuple[str, str]:
    """Author and reason or note, checked."""
    return units.checked_id(author, "author"), units.checked_text(words, name)


def version_in(connection: Connection, number: int) -> configs.Version:
    """One version, else :class:`NotFound`."""
    found = configs.version(connection, number)
    if found is None:
        raise NotFound(
            f"There is no configuration version {number}. `python -m credit_core config show --versions` lists them."
        )
    return found


def live_in(connection: Connection) -> configs.Version:
    """The version that is live for everybody outside a treatment arm."""
    return version_in(connection, rollout_of(configs.releases(connection)).version)


def check_live(connection: Connection, expected: int) -> None:
    """Raise :class:`StaleParent` with whose change came between, where another version is live by now."""
    released = configs.releases(connection)
    now = rollout_of(released)
    if now.version == expected:
        return
    last = next(release for release in reversed(released) if release.arm == "all")
    differing = schema.differences(version_in(connection, expected).body, version_in(connection, now.version).body)
    listed = "; ".join(f"{key}: {old} → {new}" for key, (old, new) in differing.items()) or "no values differ"
    raise StaleParent(
        f"Version {now.version} went live on {last.released_at:%Y-%m-%d %H:%M} UTC by {last.author} ({last.reason}), "
        f"after you looked at version {expected}. "
        f"It changed: {listed}. Nothing was overwritten; compare and publish again."
    )


def put_live(connection: Connection, version: int, share: float, author: str, reason: str, at: datetime) -> int:
    """Write the release of ``version`` to ``share`` of the accounts; returns its id."""
    released = configs.releases(connection)
    now = rollout_of(released)
    if share == 1.0 and now.treatment is None and now.version == version:
        raise Conflict(f"Version {version} is live for everybody already; nothing was changed.")
    salt = None
    if share < 1.0:
        # An experiment that ramps keeps its salt, so that nobody changes sides.
        salt = now.salt if now.treatment == version else secrets.token_hex(16)
    release_id = released[-1].release_id + 1 if released else 1
    arm = "all" if share == 1.0 else "treatment"
    configs.add_release(
        connection, configs.Release(release_id, version, arm, share, salt, at, author, reason, "release")
    )
    return release_id


def put_back(connection: Connection, target: int, author: str, reason: str, at: datetime) -> int:
    """Write the rollback to ``target`` for everybody; returns the release's id."""
    release_id = configs.last_release_id(connection) + 1
    configs.add_release(
        connection, configs.Release(release_id, target, "all", 1.0, None, at, author, reason, "rollback")
    )
    return release_id
