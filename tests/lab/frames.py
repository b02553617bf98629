"""Logged decisions written down by hand, in the columns of ``queries.recent_decisions``."""

from __future__ import annotations

from typing import Any

import pandas as pd

from credit_core.policy.config import Config
from credit_core.policy.decision import Request, State, decide
from credit_core.store import decisions


def logged(
    state: State,
    u01: float,
    config: Config,
    *,
    account: str = "a",
    version: int = 1,
    images: int = 1,
    model: str | None = None,
    at: str = "2025-03-10T12:00:00Z",
) -> dict[str, Any]:
    """One row: what ``config`` decided on ``state``, with everything that an entry bears of it."""
    request = Request(user_id=account, request_id=f"r-{account}-{u01}", session_id="s", model=model, images=images)
    decision = decide(state, request, config, u01)
    return decisions.to_columns(decision) | {
        "occurred_at": pd.Timestamp(at), "account_id": account, "user_id": account, "request_id": request.request_id,
        "plan": state.plan, "images": images, "model": decision.model, "config_version": version,
    }  # fmt: skip


def frame_of(*rows: dict[str, Any]) -> pd.DataFrame:
    """The rows as a frame, in the order given: newest first."""
    return pd.DataFrame(list(rows))
