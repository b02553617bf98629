"""What keeps a service clean: a challenge that somebody passed, and addresses that are to be forgotten (SPEC 2 and 3)."""

from __future__ import annotations

from credit_core.errors import NotFound
from credit_core.service.deployment import Deployment
from credit_core.service.generate import NO_HISTORY
from credit_core.store import guests
from credit_core.store.unit import Unit


def clear_challenge(deployment: Deployment, user_id: str) -> None:
    """The user passed the challenge, or support says so. Without an open one nothing changes; the flag stays for support."""

    def clear(unit: Unit) -> None:
        user, _ = unit.user(user_id)
        if user.challenged_at is None:
            return
        user.challenged_at = None
        # A person who just proved to be one is not asked again within the same hour.
        user.hour_most = NO_HISTORY
        unit.touch(user)

    deployment.ledger.run(clear)


def erase(deployment: Deployment, user_id: str) -> int:
    """Forget the addresses a user came from; returns how many. The ledger keeps keyed hashes, which say nothing without the key."""

    def forget(unit: Unit) -> int:
        if not unit.has_user(user_id):
            raise NotFound(f"There is no user {user_id!r}. Check the spelling.")
        return guests.erase(unit.connection, user_id)

    return deployment.ledger.run(forget)
