"""What the tuning page has under way: reading a ledger's arrivals, once for all sessions, and replaying a draft for one.

A fragment polls while there is something to wait for (:func:`watch`), and has the page drawn again when it is there.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace

import streamlit as st

from credit_core.analytics.days import reporting_days
from credit_core.analytics.filters import Filters, Period
from credit_core.analytics.sync import Facts
from credit_core.lab import preview, replay
from credit_core.lab.background import Asked, Job, Progress
from credit_core.lab.outcomes import Comparison
from credit_core.lab.preview import Ready
from credit_core.policy.config import Config
from credit_core.policy.plans import Catalog
from credit_core.units import from_us
from pages.components import numbers

#: Arrivals are read anew when the ledger has moved on and they are older than this; of a failed reading sooner.
KEPT_S, TRIED_AGAIN_S = 600.0, 5.0
#: Readings kept at once: each holds a ledger's arrivals in memory.
MOST_READINGS = 3
#: How often it is looked at how far a replay is, and a reading, which takes longer.
POLL_S, READING_POLL_S = 0.2, 0.5
#: All accounts are left alone until the browser has drawn the sample: both would compete for the same cores, and a hand
#: that goes on moves the slider again before that.
DRAWN_AFTER_S = 0.5
_REFINING, _PAUSED = "_tuning_refining", "_tuning_paused"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Reading:
    job: Job[Ready | None]
    version: int
    at: float


class Shelf:
    """The readings of one process, by what was asked for."""

    def __init__(self) -> None:
        """Nothing is read yet."""
        self._readings: OrderedDict[Hashable, _Reading] = OrderedDict()
        self._lock = threading.Lock()

    def jobs(self) -> list[Job[Ready | None]]:
        """All of them, the one that was asked for last at the end."""
        with self._lock:
            return [reading.job for reading in self._readings.values()]

    def reading(self, key: Hashable, version: int, begin: Callable[[], Job[Ready | None]]) -> Job[Ready | None]:
        """The reading of ``key``, begun if there is none that will do for facts of ``version``."""
        with self._lock:
            found = self._readings.get(key)
            if found is None or _spent(found, version):
                found = self._readings[key] = _Reading(begin(), version, time.monotonic())
            self._readings.move_to_end(key)
            while len(self._readings) > MOST_READINGS:
                _, oldest = self._readings.popitem(last=False)
                oldest.job.stop()
            return found.job


def _spent(found: _Reading, version: int) -> bool:
    age = time.monotonic() - found.at
    if found.job.called_off or (found.job.error is not None and age > TRIED_AGAIN_S):
        return True
    return found.version != version and age > KEPT_S and found.job.finished


@st.cache_resource(show_spinner=False)
def shelf() -> Shelf:
    """The one of this process."""
    return Shelf()


def reading(
    facts: Facts, catalog: Catalog, url: str, chosen: Filters, live: Config, draft: Config
) -> Job[Ready | None]:
    """The arrivals behind ``chosen`` in the ledger at ``url``, read or being read for whoever asks for the same."""
    days = reporting_days(chosen.period, facts.zone)
    # The end of a running period moves every minute: until midnight it is the same period.
    whole = replace(chosen, period=Period(chosen.period.start, max(from_us(days[-1].end_us), chosen.period.end)))
    own = tuple(sorted(_names(draft) - _names(live)))

    def work(progress: Progress, stopped: Asked) -> Ready | None:
        replay.warm_up()
        return preview.read(facts, catalog, chosen, draft, progress=progress, stopped=stopped)

    def begin() -> Job[Ready | None]:
        return Job(work, "Getting the replay ready; on a new machine it takes half a minute, once")

    return shelf().reading((url, whole, own), facts.version, begin)


def _names(config: Config) -> set[str]:
    return {config.routing.premium_model, config.routing.economy_model, *config.nudges.segments}


def refining(ready: Ready, live: Config, draft: Config) -> Job[Comparison]:
    """The replay of all accounts for this session's draft; that of an older draft is called off."""
    key = (id(ready), live, draft)
    held: tuple[tuple[int, Config, Config], Job[Comparison]] | None = st.session_state.get(_REFINING)
    if held is not None and held[0] == key and not held[1].called_off:
        return held[1]
    if held is not None:
        held[1].stop()
    job = Job(
        lambda progress, stopped: preview.refined(ready, live, draft, progress=progress, stopped=stopped),
        "Replaying all accounts",
        after_s=DRAWN_AFTER_S,
    )
    st.session_state[_REFINING] = (key, job)
    return job


def failed(error: Exception) -> None:
    """Put a failure that nobody foresaw into the log."""
    _LOG.error("The preview failed", exc_info=error)


def paused() -> bool:
    """Whether this session called its preview off."""
    return bool(st.session_state.get(_PAUSED))


def go_on() -> None:
    """Take the preview up again."""
    st.session_state.pop(_PAUSED, None)


def _call_off() -> None:
    st.session_state[_PAUSED] = True
    held = st.session_state.pop(_REFINING, None)
    if held is not None:
        held[1].stop()


def watch(job: Job[Ready | None] | Job[Comparison], every_s: float = POLL_S) -> None:
    """How far ``job`` is, looked at again and again; when it has ended the page runs."""
    st.fragment(_look, run_every=every_s)(job)


def _look(job: Job[Ready | None] | Job[Comparison]) -> None:
    if job.finished or paused():
        st.rerun()
    left = job.left_s
    words = job.words if left is None or left < 2.0 else f"{job.words}, about {numbers.duration(left)} left"
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.progress(min(max(job.share, 0.0), 1.0), text=words)
        if job.elapsed_s > 1.0:
            st.button("Cancel", icon=":material/close:", key="tuning_cancel", on_click=_call_off, type="tertiary")
