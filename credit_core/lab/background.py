"""Work on a thread of its own: how far it is, what it came to, and a way to call it off."""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from credit_core.errors import Stopped

T = TypeVar("T")
#: Called with the share done and what has been done, in words.
Progress = Callable[[float, str], None]
#: Whether the work was called off.
Asked = Callable[[], bool]
#: A process that ends calls its work off and waits so long: a thread that is cut off within DuckDB would abort the process.
ENDS_WITHIN_S = 15.0


class Job(Generic[T]):
    """``work(progress, stopped)`` on its own thread. ``result`` and ``error`` are set before it is ``finished``."""

    def __init__(self, work: Callable[[Progress, Asked], T], words: str = "", after_s: float = 0.0) -> None:
        """``words`` say what is done until the work says more. It begins after ``after_s``, if nobody called it off by then."""
        self.share, self.words = 0.0, words
        self._began = time.monotonic()
        self.result: T | None = None
        self.error: Exception | None = None
        self._finished, self._stopped = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, args=(work, after_s), daemon=True)
        _under_way.add(self)
        self._thread.start()

    @property
    def finished(self) -> bool:
        """Whether there is a result, an error, or it was called off."""
        return self._finished.is_set()

    @property
    def called_off(self) -> bool:
        """Whether nobody wants it any more."""
        return self._stopped.is_set()

    @property
    def elapsed_s(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._began

    @property
    def left_s(self) -> float | None:
        """Seconds until its end, if it goes on as it did; None where too little is done to tell."""
        return self.elapsed_s * (1.0 - self.share) / self.share if self.share >= 0.05 else None

    def stop(self) -> None:
        """Call it off; it ends soon, without a result."""
        self._stopped.set()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait for its end; False where it did not come in time."""
        return self._finished.wait(timeout_s)

    def _run(self, work: Callable[[Progress, Asked], T], after_s: float) -> None:
        try:
            if self._stopped.wait(after_s):
                return
            self.result = work(self._told, self._stopped.is_set)
        except Stopped:
            self._stopped.set()
        except Exception as error:
            self.error = error
        finally:
            self._finished.set()

    def _told(self, share: float, words: str) -> None:
        self.share, self.words = share, words


_under_way: weakref.WeakSet[Job[Any]] = weakref.WeakSet()


@atexit.register
def _end() -> None:
    jobs = [job for job in _under_way if not job.finished]
    for job in jobs:
        job.stop()
    until = time.monotonic() + ENDS_WITHIN_S
    for job in jobs:
        job.wait(max(0.0, until - time.monotonic()))
