"""What made-up sessions come to: the spread of their fresh rates, and how many pass before an account first runs out."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from credit_core.lab.population import Drawn
from credit_core.policy import guardrails

#: Sessions told one by one in :meth:`Tally.survival`.
MOST = 40
_BINS = 20


class Sessions(NamedTuple):
    """A block under one law. By session: ``rate``, fresh ÷ decisions. By account: the ordinal of the session in which it
    first could not pay (0: never), and how many it had.
    """

    rate: npt.NDArray[np.float64]
    first_dry: npt.NDArray[np.int64]
    had: npt.NDArray[np.int64]


def by_session(drawn: Drawn, told: Any) -> Sessions:
    """``told``: what was decided, a row per request of ``drawn``."""
    arrivals = drawn.arrivals
    assert arrivals.session is not None
    names, first, session = np.unique(arrivals.session, return_index=True, return_inverse=True)
    judged = told["rule"] >= guardrails.UNAFFORDABLE
    decisions = np.bincount(session[judged], minlength=len(names))
    fresh = np.bincount(session[judged], told["fresh"][judged], len(names))
    dry = np.bincount(session[told["rule"] == guardrails.UNAFFORDABLE], minlength=len(names)) > 0
    owner = arrivals.account[first]
    count = np.bincount(owner, minlength=drawn.accounts)
    ordinal = np.arange(len(names)) - np.repeat(np.cumsum(count) - count, count) + 1
    first_dry = np.full(drawn.accounts, np.iinfo(np.int64).max)
    np.minimum.at(first_dry, owner[dry], ordinal[dry])
    known = decisions > 0
    return Sessions(
        rate=fresh[known] / decisions[known],
        first_dry=np.where(first_dry == np.iinfo(np.int64).max, 0, first_dry),
        had=count,
    )


class Tally:
    """Blocks of one law, added up."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._sessions, self._sum, self._squares = 0, 0.0, 0.0
        self._ran_out = np.zeros(MOST + 1)
        self._left = np.zeros(MOST + 1)
        self._accounts, self._until = 0, 0.0
        self._bins = np.zeros(_BINS)

    def add(self, one: Sessions, pressed: npt.NDArray[np.bool_]) -> None:
        """One more block. ``pressed``: the accounts that would run dry if everything were fresh."""
        self._sessions += len(one.rate)
        self._sum += float(one.rate.sum())
        self._squares += float(np.square(one.rate).sum())
        self._bins += np.histogram(one.rate, _BINS, (0.0, 1.0))[0]
        first, had = one.first_dry[pressed], one.had[pressed]
        lasted = np.where(first > 0, first, had)
        self._accounts += len(first)
        self._until += float(lasted.sum())
        capped = np.minimum(lasted, MOST)
        self._ran_out += np.bincount(capped[(first > 0) & (first <= MOST)], minlength=MOST + 1)
        self._left += np.bincount(capped[(first == 0) | (first > MOST)], minlength=MOST + 1)

    @property
    def session_variance(self) -> float:
        """Variance of the fresh rate over sessions; nan for fewer than two."""
        if self._sessions < 2:
            return float("nan")
        mean = self._sum / self._sessions
        return max(self._squares / self._sessions - mean * mean, 0.0) * self._sessions / (self._sessions - 1)

    @property
    def sessions_to_run_out(self) -> float:
        """Mean sessions up to the first run-out, or all that there were; nan where nobody is pressed."""
        return self._until / self._accounts if self._accounts else float("nan")

    def survival(self) -> pd.DataFrame:
        """[session, without]: share of pressed accounts without a run-out up to each session (Kaplan and Meier, 1958)."""
        at_risk = self._accounts - np.cumsum(self._ran_out + self._left) + self._ran_out + self._left
        with np.errstate(invalid="ignore", divide="ignore"):
            kept = np.where(at_risk > 0, 1.0 - self._ran_out / at_risk, np.nan)
        kept[0] = 1.0
        return pd.DataFrame({"session": np.arange(MOST + 1), "without": np.cumprod(kept)})

    def rates(self) -> pd.DataFrame:
        """[from_rate, to_rate, sessions]: how many sessions have which fresh rate."""
        edges = np.linspace(0.0, 1.0, _BINS + 1)
        return pd.DataFrame({"from_rate": edges[:-1], "to_rate": edges[1:], "sessions": self._bins})
