"""Things that cost something to make, kept for whoever asks next: bounded in bytes, made once however many ask at once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class Kept:
    """What was made, by key, the longest unused dropped first. Threads share it; what it gives must not be changed."""

    def __init__(self, most_bytes: int) -> None:
        """Keep at most ``most_bytes``."""
        self.most_bytes = most_bytes
        self.bytes = 0
        self._lock = threading.Lock()
        self._made: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._making: dict[Hashable, Future[Any]] = {}

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._made)

    def get(self, key: Hashable, make: Callable[[], T], size: Callable[[T], int]) -> T:
        """What is kept under ``key``, else what ``make`` gives. Whoever asks while it is being made waits for it.

        Nothing is kept of a ``make`` that raises; those who waited for it get its error.
        """
        with self._lock:
            found = self._made.get(key)
            if found is not None:
                self._made.move_to_end(key)
                return found[0]  # type: ignore[no-any-return]
            waiting = self._making.get(key)
            if waiting is None:
                mine: Future[Any] = Future()
                self._making[key] = mine
        if waiting is not None:
            return waiting.result()  # type: ignore[no-any-return]
        try:
            value = make()
            self._keep(key, value, size(value))
            mine.set_result(value)
        except BaseException as error:
            mine.set_exception(error)
            raise
        finally:
            with self._lock:
                del self._making[key]
        return value

    def _keep(self, key: Hashable, value: Any, size: int) -> None:
        if size > self.most_bytes:
            return
        with self._lock:
            self._made[key] = (value, size)
            self.bytes += size
            while self.bytes > self.most_bytes:
                self.bytes -= self._made.popitem(last=False)[1][1]
