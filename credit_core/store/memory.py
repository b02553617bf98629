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
5. An image is lent to one leg at a time. What is kept may be older than the account, as after any commit of another process.
"""

from __future__ import annotations

import pickle
import threading
from dataclasses import dataclass
from operator import attrgetter, itemgetter

from credit_core.store.records import Account, Lot, Row, User
from credit_core.store.statements import OPENING

#: Users used last, whose images are at hand; 3.3 kB each, 14 MB in all.
AT_HAND = 4_096
#: Users before them, whose images are packed: 0.8 kB each with its place, 50 MB in all, and 0.2 kB for every open reserve.
PACKED = 65_536
#: Open reserves of one user that are remembered.
RESERVES = 16
#: Legs under lock that follow one which found the account moved: others are busy on it, too.
PATIENCE = 16
#: A packed image that proves old adds the first to the doubt in all of them, one that holds takes 1 off; none is used while
#: doubt is above the second. Where processes take turns with the same users, more than a fifth are old: reading costs less.
OLD, MOST_DOUBT = 4, 64

_account = attrgetter(*Account.__slots__)
_user = attrgetter(*User.__slots__)
_lot = attrgetter(*Lot.__slots__)
_opening = itemgetter(*OPENING)


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


def packed(image: Image) -> bytes:
    """``image`` in a fourth of the memory, and out of the garbage collector's way."""
    reserves = [(leg_id, [_opening(line) for line in lines]) for leg_id, lines in image.reserves.items()]
    lots = [_lot(lot) for lot in image.lots.values()]
    return pickle.dumps((_user(image.user), _account(image.account), lots, reserves), pickle.HIGHEST_PROTOCOL)


def unpacked(data: bytes) -> Image:
    """The image that was :func:`packed`."""
    user, account, lots, reserves = pickle.loads(data)
    return Image(
        User(*user),
        Account(*account),
        {lot[0]: Lot(*lot) for lot in lots},
        {leg_id: [dict(zip(OPENING, line, strict=True)) for line in lines] for leg_id, lines in reserves},
    )


class Memory:
    """The images of one ledger, those used last. Safe to use from many threads."""

    def __init__(self) -> None:
        """Nothing is known."""
        self._lock = threading.Lock()
        self._images: dict[str, Image] = {}
        self._packed: dict[str, bytes] = {}
        #: Users whose image a leg has, and whether it was packed.
        self._lent: dict[str, bool] = {}
        self._missed: dict[str, int] = {}
        self._doubt = 0

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
            image, data = self._images.pop(user_id, None), self._packed.pop(user_id, None)
            if data is not None and self._doubt > MOST_DOUBT:
                self._doubt -= 1
                data = None
            self._lent[user_id] = data is not None
        return True, image if data is None else unpacked(data)

    def give_back(self, user_id: str, *, moved: bool) -> None:
        """The leg is over; ``moved``: it found that others changed the account."""
        with self._lock:
            if self._lent.pop(user_id, False):
                self._doubt = self._doubt + OLD if moved else max(0, self._doubt - 1)
            if moved:
                if len(self._missed) >= PACKED:
                    self._missed.clear()
                self._missed[user_id] = PATIENCE

    def keep(self, image: Image) -> None:
        """Remember what a leg has committed."""
        user_id = image.user.user_id
        with self._lock:
            self._images.pop(user_id, None)
            self._packed.pop(user_id, None)
            if len(self._images) >= AT_HAND:
                oldest = next(iter(self._images))
                if len(self._packed) >= PACKED:
                    del self._packed[next(iter(self._packed))]
                self._packed[oldest] = packed(self._images.pop(oldest))
            self._images[user_id] = image

    def forget(self, user_id: str) -> None:
        """What is known of the user may be old."""
        with self._lock:
            self._images.pop(user_id, None)
            self._packed.pop(user_id, None)
