"""Checks of figures against the ledger's own sums: one at a time, behind the pages and not in front of them.

The ledger is read entry by entry: a microsecond each, ten seconds of processor time at ten million. Whoever changes a filter
does not wait for it, and twenty people who change one do not start twenty: each has one wish, the newest, and one thread
works them off with less of the processor than pages have.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import NamedTuple

from credit_core.analytics.queries import TieOut

MOST_KEPT = 64
#: Lower than the pages' by as much, on a scale of 20.
_NICENESS = 5


class _Wish(NamedTuple):
    question: Hashable
    check: Callable[[], TieOut]


class Checks:
    """What was found, by question, and what sessions wish to know. Threads share it."""

    def __init__(self, most_kept: int = MOST_KEPT) -> None:
        """Nothing is known yet; the ``most_kept`` newest findings are kept."""
        self._most_kept = most_kept
        self._lock = threading.Lock()
        self._found: OrderedDict[Hashable, Future[TieOut]] = OrderedDict()
        self._wishes: OrderedDict[str, _Wish] = OrderedDict()
        self._working = False

    def ask(self, who: str, question: Hashable, check: Callable[[], TieOut]) -> Future[TieOut]:
        """What ``check`` gives, as soon as it is its turn; what ``who`` wished to know before is not worked out any more.

        A check that raises is forgotten, so that the next who asks has it made again.
        """
        with self._lock:
            found = self._found.setdefault(question, Future())
            self._found.move_to_end(question)
            while len(self._found) > self._most_kept:
                self._found.popitem(last=False)
            self._wishes.pop(who, None)
            if not found.done():
                self._wishes[who] = _Wish(question, check)
                if not self._working:
                    self._working = True
                    threading.Thread(target=self._work, name="checks", daemon=True).start()
        return found

    def _work(self) -> None:
        _give_way()
        while True:
            with self._lock:
                if not self._wishes:
                    self._working = False
                    return
                question, check = self._wishes.popitem(last=False)[1]
                found = self._found.get(question)
            if found is None or found.done():
                continue
            try:
                found.set_result(check())
            except Exception as error:
                with self._lock:
                    self._found.pop(question, None)
                found.set_exception(error)


def _give_way() -> None:
    """Let pages go first. Only Linux has priorities of threads; elsewhere it would be the whole process's."""
    if sys.platform == "linux":
        itself = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, itself, os.getpriority(os.PRIO_PROCESS, itself) + _NICENESS)
