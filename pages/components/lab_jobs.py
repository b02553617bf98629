"""What the laboratory has under way in this process: experiments, searches and estimates, by what was asked for.

Whoever asks for the same gets the same work, also after coming back to the page. A fragment polls while there is something
to wait for, and has the page drawn again when it is there.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

import streamlit as st

from credit_core.errors import CreditError, InvalidRequest
from credit_core.lab.background import Asked, Job, Progress
from pages.components import numbers, states
from pages.components.text import escape_markdown, one_line

T = TypeVar("T")
#: Results that are kept: the oldest goes first, and is stopped if it still runs.
MOST = 12
POLL_S = 0.5
_LOG = logging.getLogger(__name__)


class Bench(Generic[T]):
    """Work by key."""

    def __init__(self) -> None:
        """Nothing is under way."""
        self._jobs: OrderedDict[Hashable, Job[Any]] = OrderedDict()
        self._lock = threading.Lock()

    def begin(self, key: Hashable, work: Callable[[Progress, Asked], T], words: str) -> Job[T]:
        """The work of ``key``: begun now, unless it is under way, done or was called off."""
        with self._lock:
            found = self._jobs.get(key)
            if found is None:
                found = self._jobs[key] = Job(work, words)
            self._jobs.move_to_end(key)
            while len(self._jobs) > MOST:
                _, oldest = self._jobs.popitem(last=False)
                oldest.stop()
            return found

    def forget(self, key: Hashable) -> None:
        """Let it be begun anew."""
        with self._lock:
            found = self._jobs.pop(key, None)
        if found is not None:
            found.stop()

    def knows(self, key: Hashable) -> bool:
        """Whether it was begun."""
        with self._lock:
            return key in self._jobs


@st.cache_resource(show_spinner=False)
def bench() -> Bench[Any]:
    """The one of this process."""
    return Bench()


def awaited(key: Hashable, work: Callable[[Progress, Asked], T], words: str, widget: str, what: str) -> T | None:
    """What ``work`` came to, begun if it was not; until then, how far it is, that it was stopped, or why it failed.

    ``what`` begins a sentence; ``widget`` names the buttons.
    """
    job = bench().begin(key, work, words)
    if job.called_off:
        st.info(f"{what} was stopped before its end; nothing was changed.", icon=":material/stop_circle:")
        st.button("Start again", icon=":material/replay:", key=f"{widget}_again", on_click=bench().forget, args=(key,))
        return None
    if not job.finished:
        _watch(job, widget)
        return None
    if job.error is None:
        return job.result
    _failed(job.error, what)
    st.button("Try again", icon=":material/replay:", key=f"{widget}_retry", on_click=bench().forget, args=(key,))
    return None


def _failed(error: Exception, what: str) -> None:
    if isinstance(error, InvalidRequest):
        st.info(escape_markdown(str(error)), icon=":material/info:")
        return
    if not isinstance(error, CreditError):
        _LOG.error("The laboratory failed", exc_info=error)
    states.failed(
        f"{what} could not be finished.",
        "The ledger and every configuration: the laboratory only reads.",
        "Try again; where it fails again, check the ledger.",
        command="python -m credit_core verify",
        detail=one_line(str(error)) if isinstance(error, CreditError) else type(error).__name__,
    )


@st.fragment(run_every=POLL_S)
def _watch(job: Job[Any], key: str) -> None:
    if job.finished or job.called_off:
        st.rerun()
    left = job.left_s
    words = job.words if left is None or left < 1.0 else f"{job.words}, about {numbers.duration(left)} left"
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.progress(min(max(job.share, 0.0), 1.0), text=words)
        st.button("Cancel", icon=":material/close:", key=f"{key}_cancel", on_click=job.stop, type="tertiary")
