"""Turns: few pages run at the same time, and the others wait in the order in which they came.

Twenty scripts at once fight for one interpreter lock at every message they send: each costs twice the processor time, and
all of them are late. Two at a time leave the lock to one while the other waits for DuckDB. Whoever waits for what another
page is making has no use for a turn: somebody else has it meanwhile.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from heapq import heappop, heappush

from streamlit.runtime.scriptrunner import RerunException, get_script_run_ctx

from pages.components.kept import WAITING

#: A turn counts no longer than this: pages that take long run beside the others instead of keeping them waiting.
LONGEST_S = 2.0
_FEWEST, _MOST = 2, 4
#: When somebody asked, and a number that nobody else has.
_Place = tuple[float, int]


class Turns:
    """Hands out ``at_once`` turns, first come first served. Threads share it."""

    def __init__(self, at_once: int, longest_s: float = LONGEST_S) -> None:
        """Nobody has a turn yet."""
        self._at_once, self._longest_s = at_once, longest_s
        self._changed = threading.Condition()
        self._numbers = itertools.count()
        self._waiting: list[_Place] = []
        self._taken_at: dict[_Place, float] = {}
        self._asked_at: dict[str, float] = {}

    @contextmanager
    def taken(self, who: str) -> Iterator[None]:
        """Wait for a turn and have it. Whoever's run is overtaken by a newer change of their own keeps the place for that."""
        with self._changed:
            place = self._asked_at.setdefault(who, time.monotonic()), next(self._numbers)
        self._stand(place)
        mine = WAITING.set(partial(self._given, place, threading.get_ident()))
        overtaken = False
        try:
            yield
        except RerunException:
            overtaken = True
            raise
        finally:
            WAITING.reset(mine)
            with self._changed:
                del self._taken_at[place]
                if not overtaken:
                    self._asked_at.pop(who, None)
                self._changed.notify_all()

    @contextmanager
    def _given(self, place: _Place, whose: int) -> Iterator[None]:
        """Within it somebody else has the turn; after it, the place is before those of all who came later.

        A page's parallel parts know of its turn and run in threads of their own; it is not theirs to give.
        """
        if threading.get_ident() != whose:
            yield
            return
        with self._changed:
            del self._taken_at[place]
            self._changed.notify_all()
        try:
            yield
        finally:
            self._stand(place)

    def _stand(self, place: _Place) -> None:
        """Wait until it is this place's turn, and take it."""
        with self._changed:
            heappush(self._waiting, place)
            while True:
                first = self._waiting[0] == place
                free_in_s = self._free_in_s() if first else None
                if free_in_s == 0.0:
                    break
                self._changed.wait(free_in_s)
            heappop(self._waiting)
            self._taken_at[place] = time.monotonic()
            self._changed.notify_all()

    def _free_in_s(self) -> float:
        """Seconds until a turn is free at the latest; 0 where one is."""
        since = time.monotonic() - self._longest_s
        counting = sorted(at for at in self._taken_at.values() if at > since)
        return 0.0 if len(counting) < self._at_once else counting[-self._at_once] - since


_OF_ALL = Turns(min(_MOST, max(_FEWEST, os.cpu_count() or _FEWEST)))


def turn() -> AbstractContextManager[None]:
    """This session's turn among all sessions of the process."""
    context = get_script_run_ctx()
    return _OF_ALL.taken("" if context is None else context.session_id)
