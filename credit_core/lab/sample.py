"""Recent real decisions as they were logged: what :mod:`credit_core.lab.preview` decides again, and what they ask for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from credit_core import units
from credit_core.analytics import queries
from credit_core.analytics.filters import Filters
from credit_core.analytics.sync import Facts
from credit_core.policy import config as schema
from credit_core.policy import guardrails
from credit_core.policy.advice import Demand
from credit_core.policy.config import Config
from credit_core.policy.decision import State
from credit_core.policy.guardrails import RULES
from credit_core.policy.plans import Catalog

#: A cycle's length where nobody of a plan has asked yet.
USUAL_CYCLE_DAYS = 30.0

_OPTIONAL = ("demand_rate", "segment", "coverage", "health", "arm_p")
_WHOLE = (
    "available_uc", "paced_uc", "quota_uc", "session_images", "session_fresh", "session_fresh_uc", "session_opening_uc", "cost_uc",
)  # fmt: skip
_FLAGS = ("conserving", "under_represented", "cell_new")
#: Rules that judge a request; the later halves of deferred ones are no decisions of their own.
_JUDGED = frozenset(RULES[guardrails.UNAFFORDABLE : guardrails.CONTROLLER + 1])
_PLAIN = ("plan", "cycle_days", "days_left")


@dataclass(frozen=True)
class Logged:
    """Decisions of rules 4 to 8, newest first: the state that each saw, its draw, and what was logged of it.

    ``asked`` is the model that the caller named, where a fresh decision shows that they named one; ``account`` numbers
    the accounts from 0.
    """

    frame: pd.DataFrame
    states: list[State]
    u01: list[float]
    account: npt.NDArray[np.int64]
    images: npt.NDArray[np.int64]
    cost_uc: npt.NDArray[np.int64]
    asked: list[str | None]
    configs: Mapping[int, Config]

    def __len__(self) -> int:
        """Number of decisions."""
        return len(self.states)

    def first(self, number: int) -> Logged:
        """The newest ``number`` of them."""
        if number >= len(self):
            return self
        return Logged(
            self.frame.head(number), self.states[:number], self.u01[:number], self.account[:number], self.images[:number],
            self.cost_uc[:number], self.asked[:number], self.configs,
        )  # fmt: skip

    @property
    def accounts(self) -> int:
        """Number of accounts that they are of."""
        return int(self.account.max()) + 1 if len(self.account) else 0

    @property
    def plans(self) -> list[str]:
        """The plans that they are of, in alphabetical order."""
        return sorted({state.plan for state in self.states})


def configs_of(facts: Facts, frame: pd.DataFrame) -> dict[int, Config]:
    """The configuration of every version that the decisions of ``frame`` bear."""
    numbers = sorted({int(number) for number in frame["config_version"].dropna()})
    return {number: schema.parse(queries.body(facts, number)) for number in numbers}


def recent(facts: Facts, filters: Filters, limit: int) -> pd.DataFrame:
    """The last ``limit`` decisions of rules 4 to 8 behind the filters, newest first."""
    frame: pd.DataFrame = queries.recent_decisions(facts, filters, limit=limit)
    return frame[frame["rule"].isin(_JUDGED)].reset_index(drop=True)


def prepare(frame: pd.DataFrame, configs: Mapping[int, Config]) -> Logged:
    """The decisions of ``frame`` (:func:`recent`) as states to decide again; ``configs`` by version, as they were."""
    columns: dict[str, list[Any]] = {name: [_known(value) for value in frame[name].tolist()] for name in _OPTIONAL}
    columns |= {name: frame[name].astype("int64").tolist() for name in _WHOLE}
    columns |= {name: [bool(_known(value)) for value in frame[name].tolist()] for name in _FLAGS}
    columns |= {name: frame[name].tolist() for name in _PLAIN}
    columns["mode"] = frame["prior_mode"].tolist()
    names = list(columns)
    states = [State(**dict(zip(names, row, strict=True))) for row in zip(*columns.values(), strict=True)]
    codes, _ = pd.factorize(frame["account_id"])
    return Logged(
        frame=frame,
        states=states,
        u01=frame["u01"].tolist(),
        account=np.asarray(codes, dtype=np.int64),
        images=frame["images"].to_numpy(dtype=np.int64),
        cost_uc=frame["cost_uc"].to_numpy(dtype=np.int64),
        asked=_asked(frame, configs),
        configs=configs,
    )


def demands(frame: pd.DataFrame, catalog: Catalog) -> dict[str, Demand]:
    """What the accounts of each plan of ``catalog`` ask for, from each account's newest decision in ``frame``.

    λ is the one that was logged with it (SPEC 4). An account is pressed where λ is over Q/L.
    """
    newest = frame.drop_duplicates("account_id")
    found: dict[str, Demand] = {}
    for plan, terms in catalog.plans.items():
        if terms.quota_policy != "titrated_monthly":
            continue
        rows = newest[newest["plan"] == plan]
        rates = rows["demand_rate"].astype("float64")
        rows, rates = rows[rates.notna()], rates.dropna()
        if rows.empty:
            seen = newest[newest["plan"] == plan]
            days = float(seen["cycle_days"].median()) if len(seen) else USUAL_CYCLE_DAYS
            found[plan] = Demand(plan, terms.quota_credits or 0.0, days, accounts=len(seen))
            continue
        quota = rows["quota_uc"].astype("float64") / units.MICRO
        pressed = rates > quota / rows["cycle_days"].astype("float64")
        whom = pressed if pressed.any() else pd.Series(True, index=rows.index)
        found[plan] = Demand(
            plan=plan,
            quota=float(quota[whom].median()),
            cycle_days=float(rows["cycle_days"][whom].median()),
            rate=float(rates[whom].mean()),
            mean_rate=float(rates.mean()),
            accounts=len(rows),
            pressed=int(pressed.sum()),
        )
    return found


def _asked(frame: pd.DataFrame, configs: Mapping[int, Config]) -> list[str | None]:
    """The model of fresh decisions that their own configuration would not have routed to."""
    asked: list[str | None] = []
    for model, p, version in zip(
        frame["model"].tolist(), frame["p"].tolist(), frame["config_version"].tolist(), strict=True
    ):
        config = None if _known(version) is None else configs.get(int(version))
        if config is None or not isinstance(model, str):
            asked.append(None)
        else:
            routing = config.routing
            routed = routing.premium_model if p > routing.threshold else routing.economy_model
            asked.append(None if model == routed else model)
    return asked


def _known(value: Any) -> Any:
    return None if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)) else value
