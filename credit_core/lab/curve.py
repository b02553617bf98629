"""The chance of a fresh one over surplus, live against draft: the S-curve, drawn by the policy itself."""

from __future__ import annotations

import numpy as np
import pandas as pd

from credit_core.policy import controller
from credit_core.policy.advice import Demand, dynamics
from credit_core.policy.config import Config
from credit_core.policy.decision import Inputs, evaluate, law_for
from credit_core.policy.surplus import on_pace

POINTS = 241


def chance(config: Config, demand: Demand, surplus: float) -> float:
    """p of an account of ``demand`` with ``surplus`` credits at mid-cycle, for one credit, without nudges and modes."""
    law = law_for(config, demand.plan)
    left = demand.cycle_days / 2.0
    balance = on_pace(demand.quota, demand.cycle_days, left) + surplus
    state = Inputs(
        blocked=False, rate_limited=False, paused=False, available=balance, balance=balance, quota=demand.quota,
        cycle_days=demand.cycle_days, days_left=left, demand=-1.0 if demand.rate is None else demand.rate, session_images=0.0,
        session_fresh=0, session_fresh_cost=0.0, session_opening=0.0, mode=controller.STEADY, segment_factor=1.0,
        conserving=False, coverage=-1.0, health=0.0, under_represented=False, cost=1.0,
    )  # fmt: skip
    p0 = evaluate(law, state, 0.0).p0
    return controller.clip(p0, law.p_min, law.p_max) if law.nudged else p0


def curve(live: Config, draft: Config | None, demand: Demand, reach: float) -> pd.DataFrame:
    """surplus (credits, −``reach`` to ``reach``), p_live and, where there is a draft, p_draft."""
    surplus = np.linspace(-reach, reach, POINTS)
    frame = pd.DataFrame({"surplus": surplus, "p_live": [chance(live, demand, s) for s in surplus.tolist()]})
    if draft is not None:
        frame["p_draft"] = [chance(draft, demand, s) for s in surplus.tolist()]
    return frame


def width_10_90(config: Config, demand: Demand) -> tuple[float, float] | None:
    """The surpluses, in credits, at which the S-curve passes 10 and 90 %; None for a law without one."""
    law = dynamics(config, demand)
    if law.intercept is None:
        return None
    centre = -law.intercept * law.unit / config.controller.k
    half = (law.width or 0.0) / 2.0
    return centre - half, centre + half
