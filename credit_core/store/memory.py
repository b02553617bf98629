"""What this process knows of accounts that it just wrote, and legs that move an account without locking it first.

Why such a leg writes exactly what it would have written under lock:

1. ``accounts.version`` rises with every transaction that changes the account, one of its users or one of its lots
   (:meth:`credit_core.store.unit.Unit.flush`; triggers for users and accounts that somebody changes by hand).
2. The leg knows the account as of a version: from here, or read without a lock before anything else. What else it reads of
   the account it reads later. What it reads besides (configuration, library, demand) a leg under lock does not lock either.
3. It writes in one transaction that begins with ``UPDATE accounts … WHERE version = … AND head_hash = …``, as known. Where
   that hits no row, nothing is written: :class:`Moved`. Where it hits, the row stays locked until the commit, and whatever
   the leg knew or read of the account was so when it was locked.
4. Only a leg that was written so counts. One that would answer a repeat, refuse, close a cycle or lock anything else
   (:class:`NeedsLock`), or fails for any reason, begins again under lock, which finds a commit of unknown outcome by its leg.
5. An image is lent to one leg at a time, and only that leg's commit brings it back.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from credit_core.store.records import Account, Lot, Row, User

#: Users whose last leg is remembered; some 4 kB each.
REMEMBERED = 4_096
#: Open reserves of one user that are remembered.
RESERVES = 16
#: Legs under lock that follow one which found the account moved: others are busy on it, too.
PATIENCE = 16


class NeedsLock(Exception):
    """The leg cannot go on without locking: it begins again under lock."""


class Moved(NeedsLock):
    """The account is not as it was known; nothing was written."""


@dataclass(slots=True)
class Image:
    """A user, the account that pays for them and its open lots, as committed; and open reserves of the user by leg."""

    user: User
    account: Account
    lots: dict[str, Lot]
    reserves: dict[str, list[Row]]


class Memory:
    """The images of one ledger, those used last. Safe to use from many threads."""

    def __init__(self) -> None:
        """Nothing is known."""
        self._lock = threading.Lock()
        self._images: dict[str, Image] = {}
        self._lent: set[str] = set()
        self._missed: dict[str, int] = {}

    def lend(self, user_id: str) -> tuple[bool, Image | None]:
        """Whether a leg of the user may try without a lock, and what is known; then :meth:`give_back` must follow."""
        with self._lock:
            patience = self._missed.get(user_id, 0)
            if patience or user_id in self._lent:
                if patience == 1:
                    del self._missed[user_id]
                elif patience:
                    self._missed[user_id] = patience - 1
                return False, None
            self._lent.add(user_id)
            return True, self._images.pop(user_id, None)

    def give_back(self, user_id: str, *, moved: bool) -> None:
        """The leg is over; ``moved``: it found that others changed the account."""
        with self._lock:
            self._lent.discard(user_id)
            if moved:
                if len(self._missed) >= REMEMBERED:
                    self._missed.clear()
                self._missed[user_id] = PATIENCE

    def keep(self, image: Image) -> None:
        """Remember what a leg has committed."""
        user_id = image.user.user_id
        with self._lock:
            self._images.pop(user_id, None)
            if len(self._images) >= REMEMBERED:
                del self._images[next(iter(self._images))]
            self._images[user_id] = image

    def forget(self, user_id: str) -> None:
        """What is known of the user may be old."""
        with self._lock:
            self._images.pop(user_id, None)
