"""What another configuration would have earned in rewards, estimated from those that were logged (SPEC 7, FINDINGS).

For outcomes alone (a like, the length of a session): credits, run-outs and costs are replayed, never weighted. Weights are
the candidate's chances along its replayed trajectory over the chances that were logged. Where they cannot carry an
estimate it is refused, with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from credit_core.lab.intervals import FEWEST_ACCOUNTS, Interval, Sums, paired_differences

Floats = npt.NDArray[np.float64]
#: Bounds of FINDINGS ("Controller and statistics").
LEAST_ACCOUNT_ESS, LEAST_ROW_ESS, LEAST_ESS_SHARE = 50.0, 200.0, 0.01
MEAN_WEIGHT = (0.9, 1.1)
MOST_ONE_ROW = 0.05
MOST_UNSUPPORTED_SNIPS, MOST_UNSUPPORTED = 0.01, 0.20
_FOLDS = 5
_RIDGE = 1.0
#: The fewest rows that a model of the reward is fitted to; with fewer their mean stands in.
_FEWEST_ROWS = 20
_BINS = 20


class Rows(NamedTuple):
    """Rewarded decisions, one a place. ``p`` is the logged chance of a fresh one, meaningful where not ``forced``.

    ``new_fresh`` and ``new_library`` are the candidate's chances on its own trajectory; both 0 where it would refuse the
    request. ``x`` [row, feature] is what the reward is modelled by.
    """

    account: npt.NDArray[np.int64]
    fresh: npt.NDArray[np.bool_]
    reward: Floats
    p: Floats
    forced: npt.NDArray[np.bool_]
    new_fresh: Floats
    new_library: Floats
    x: Floats


class Estimate(NamedTuple):
    """A mean reward, its standard error, and a 95 % interval by resampling accounts; None for too few accounts."""

    value: float
    se: float
    interval: Interval | None


class Diagnosis(NamedTuple):
    """What the weights can carry. ``mean_weight`` is over decisions that were drawn: nan where none was.

    ``unsupported``: the part of the candidate's decisions that the log could not have taken.
    """

    rows: int
    drawn: int
    accounts: int
    row_ess: float
    account_ess: float
    mean_weight: float
    largest_share: float
    unsupported: float

    @property
    def ess_share(self) -> float:
        """ESS ÷ rows."""
        return self.row_ess / self.rows if self.rows else 0.0


@dataclass(frozen=True)
class Counterfactual:
    """The estimates, or why there are none.

    ``logged`` is the mean of the rewards as they were; ``difference`` an interval of the doubly robust estimate minus it.
    ``refusals`` stand against any estimate, ``snips_refusals`` against weighting alone. ``amber``: the two estimates are
    further apart than twice the standard error, so the model and the weights tell different stories. ``overlap`` [from_p,
    to_p, side, decisions]: chances of a fresh one as logged and by the candidate, over drawn decisions.
    """

    logged: Estimate | None
    snips: Estimate | None
    robust: Estimate | None
    difference: Interval | None
    amber: bool
    diagnosis: Diagnosis
    refusals: tuple[str, ...]
    snips_refusals: tuple[str, ...]
    overlap: pd.DataFrame


def ess(weights: Floats) -> float:
    """Kish's effective number, (Σw)²/Σw²; 0 where all weights are 0."""
    squares = float(np.square(weights).sum())
    return float(weights.sum()) ** 2 / squares if squares > 0.0 else 0.0


def weights_of(rows: Rows) -> Floats:
    """The candidate's chance of what happened ÷ the logged chance of it; a forced decision had chance 1."""
    taken = np.where(rows.fresh, rows.new_fresh, rows.new_library)
    logged = np.where(rows.forced, 1.0, np.where(rows.fresh, rows.p, 1.0 - rows.p))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(logged > 0.0, taken / logged, 0.0), dtype=np.float64)


def diagnose(rows: Rows) -> Diagnosis:
    """How much the weights of ``rows`` can carry."""
    weights, drawn = weights_of(rows), ~rows.forced
    accounts = np.zeros(int(rows.account.max(initial=-1)) + 1)
    np.add.at(accounts, rows.account, weights)
    total = float(weights.sum())
    can_fresh = np.where(rows.forced, rows.fresh, rows.p > 0.0)
    can_library = np.where(rows.forced, ~rows.fresh, rows.p < 1.0)
    supported = rows.new_fresh * can_fresh + rows.new_library * can_library
    return Diagnosis(
        rows=len(weights),
        drawn=int(drawn.sum()),
        accounts=len(np.unique(rows.account)),
        row_ess=ess(weights),
        account_ess=ess(accounts),
        mean_weight=float(weights[drawn].mean()) if drawn.any() else float("nan"),
        largest_share=float(weights.max()) / total if total > 0.0 else 1.0,
        unsupported=float(1.0 - supported.mean()) if len(weights) else 1.0,
    )


def estimate(rows: Rows, *, unlike: int = 0, seed: int = 0) -> Counterfactual:
    """Both estimates of the candidate's mean reward on ``rows``.

    ``unlike``: how many of these decisions do not come out as they were logged when they are computed again. ``seed`` draws
    the folds of the model and the resampled accounts.
    """
    diagnosis = diagnose(rows)
    refusals = tuple(_refusals(diagnosis, unlike))
    snips_refusals = tuple(_unsupported(diagnosis, MOST_UNSUPPORTED_SNIPS)) if not refusals else ()
    if not diagnosis.rows:
        return Counterfactual(None, None, None, None, False, diagnosis, refusals, snips_refusals, overlap(rows))
    weights = weights_of(rows)
    model = rewards_model(rows, seed)
    taken = np.where(rows.fresh, model[:, 1], model[:, 0])
    correction = np.where(rows.forced, 0.0, weights * (rows.reward - taken))
    terms = rows.new_fresh * model[:, 1] + rows.new_library * model[:, 0] + correction
    ones = np.ones(diagnosis.rows)
    intervals = _intervals(rows, weights, terms, seed)
    logged = _ratio(rows.reward, ones, intervals[0])
    snips = robust = difference = None
    amber = False
    if not refusals:
        weighted = _ratio(weights * rows.reward, weights, intervals[1])
        robust, difference = _ratio(terms, ones, intervals[2]), intervals[3]
        snips = None if snips_refusals else weighted
        amber = abs(robust.value - weighted.value) > 2.0 * weighted.se
    return Counterfactual(logged, snips, robust, difference, amber, diagnosis, refusals, snips_refusals, overlap(rows))


def _intervals(rows: Rows, weights: Floats, terms: Floats, seed: int) -> list[Interval | None]:
    """Of the logged mean, the weighted one, the doubly robust one, and how far this is from what was logged."""
    accounts, place = np.unique(rows.account, return_inverse=True)
    if len(accounts) < FEWEST_ACCOUNTS:
        return [None] * 4
    ones, none = np.ones(len(terms)), np.zeros(len(terms))
    reward = rows.reward
    sides = [
        ((none, none, none, reward), (ones, ones, ones, ones)),
        ((reward, weights * reward, terms, terms), (ones, weights, ones, ones)),
    ]
    tables = []
    for side in sides:
        sums = [np.bincount(place, column, len(accounts)) for columns in side for column in columns]
        tables.append(Sums(np.stack(sums[:4], axis=1), np.stack(sums[4:], axis=1)))
    return paired_differences(tables[0], tables[1], seed)


def rewards_model(rows: Rows, seed: int) -> Floats:
    """q̂(x, a) [row, library and fresh]: ridge regression for each action, fitted without the row's own account."""
    x = np.column_stack([np.ones(len(rows.reward)), _standardised(rows.x)])
    accounts, place = np.unique(rows.account, return_inverse=True)
    fold = np.random.default_rng(seed).permutation(len(accounts))[place] % _FOLDS
    found = np.full((len(rows.reward), 2), float(rows.reward.mean()))
    penalty = np.diag([0.0, *[_RIDGE] * (x.shape[1] - 1)])
    for number in range(_FOLDS):
        held = fold == number
        for action in (0, 1):
            known = ~held & (rows.fresh == bool(action))
            if known.sum() >= _FEWEST_ROWS:
                beta = np.linalg.solve(x[known].T @ x[known] + penalty, x[known].T @ rows.reward[known])
                found[held, action] = x[held] @ beta
            elif known.any():
                found[held, action] = rows.reward[known].mean()
    return np.asarray(np.clip(found, rows.reward.min(), rows.reward.max()), dtype=np.float64)


def overlap(rows: Rows) -> pd.DataFrame:
    """[from_p, to_p, side, decisions] over drawn decisions: chances of a fresh one, live and draft."""
    edges = np.linspace(0.0, 1.0, _BINS + 1)
    parts = []
    for side, chances in (("live", rows.p), ("draft", rows.new_fresh)):
        counts = np.histogram(chances[~rows.forced], edges)[0]
        parts.append(pd.DataFrame({"from_p": edges[:-1], "to_p": edges[1:], "side": side, "decisions": counts}))
    return pd.concat(parts, ignore_index=True)


def _standardised(x: Floats) -> Floats:
    spread = x.std(axis=0)
    return np.asarray((x - x.mean(axis=0)) / np.where(spread > 0.0, spread, 1.0), dtype=np.float64)


def _ratio(top: Floats, bottom: Floats, interval: Interval | None) -> Estimate:
    """Σtop ÷ Σbottom with its standard error, √Σ(top − V·bottom)² ÷ Σbottom."""
    value = float(top.sum() / bottom.sum())
    se = float(np.sqrt(np.square(top - value * bottom).sum()) / bottom.sum())
    return Estimate(value, se, interval)


def _refusals(found: Diagnosis, unlike: int) -> list[str]:
    """Why no estimate is given, in words."""
    if not found.rows:
        return ["No rewards were logged for decisions of this period, so there is nothing to estimate from."]
    said = []
    if unlike:
        said.append(
            f"{unlike} of {found.rows} decisions do not come out as they were logged when they are computed again, so the "
            "logged chances cannot be trusted."
        )
    if not found.drawn:
        said.append("None of these decisions was drawn by lot: all were forced, so nothing else was ever tried.")
    elif not MEAN_WEIGHT[0] <= found.mean_weight <= MEAN_WEIGHT[1]:
        said.append(
            f"The weights average {found.mean_weight:.2f} where they should average 1: what was logged is not what these "
            "chances would give."
        )
    if found.account_ess < LEAST_ACCOUNT_ESS:
        said.append(
            f"The weights leave the information of {found.account_ess:.0f} accounts; at least {LEAST_ACCOUNT_ESS:.0f} are needed."
        )
    if found.row_ess < LEAST_ROW_ESS:
        said.append(
            f"The weights leave the information of {found.row_ess:.0f} decisions; at least {LEAST_ROW_ESS:.0f} are needed."
        )
    if found.ess_share < LEAST_ESS_SHARE:
        said.append(
            f"Only {found.ess_share:.1%} of the decisions carry the estimate; the others weigh next to nothing."
        )
    if found.largest_share > MOST_ONE_ROW:
        said.append(f"One decision alone carries {found.largest_share:.0%} of the weight.")
    return said + _unsupported(found, MOST_UNSUPPORTED)


def _unsupported(found: Diagnosis, most: float) -> list[str]:
    if found.unsupported <= most:
        return []
    return [
        f"{found.unsupported:.1%} of what this configuration would do was never possible under the logged one, so no reward "
        "of it is known."
    ]
