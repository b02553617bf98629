"""A decision as the columns of its opening entry, and back: what is logged is exactly what :func:`decide` saw."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import Any

from credit_core.policy.decision import Allowance, Decision, Nudges, Request, State

#: Columns that hold a field of :class:`State` of the same name.
_STATE = (
    "available_uc", "paced_uc", "quota_uc", "cycle_days", "days_left", "demand_rate", "session_images", "session_fresh",
    "session_fresh_uc", "session_opening_uc", "segment", "conserving", "coverage", "health", "under_represented", "cost_uc",
    "cell_new", "arm_p", "largest_uc",
)  # fmt: skip
_DECISION = (
    "status",
    "outcome",
    "rule",
    "miss",
    "forced",
    "mode",
    "strategy",
    "surplus",
    "surplus_days",
    "threshold",
    "p0",
    "p",
    "u01",
    "retry_after_s",
)
_ALLOWANCE = ("limit_name", "limit_count", "used_count", "resets_at")
_NUDGES = {name: f"nudge_{name}" for name in Nudges._fields}
_decided, _seen = attrgetter(*_DECISION), attrgetter(*_STATE)
KIND_OF_STATUS = {
    "RESERVED": "reserve",
    "LIBRARY": "library",
    "DEFERRED": "defer",
    "RATE_LIMITED": "rate_limited",
    "REJECTED": "rejected",
}


def to_columns(decision: Decision) -> dict[str, Any]:
    """The decision fields of an opening entry."""
    state = decision.state
    columns: dict[str, Any] = dict(zip(_DECISION, _decided(decision), strict=True))
    columns.update(zip(_STATE, _seen(state), strict=True))
    columns["prior_mode"], columns["quota_policy"] = state.mode, state.policy
    if decision.nudges is not None:
        columns.update(zip(_NUDGES.values(), decision.nudges, strict=True))
    if state.allowance is not None:
        columns |= dict(zip(_ALLOWANCE, state.allowance, strict=True))
    return columns


def details_of(request: Request, decision: Decision) -> dict[str, Any] | None:
    """What an opening entry keeps beside its columns: the model that was asked for, and the one that would have done."""
    found = {"asked_model": request.model, "affordable_model": decision.state.affordable_model}
    return {name: value for name, value in found.items() if value is not None} or None


def from_columns(row: Mapping[str, Any]) -> Decision:
    """The decision that an opening entry logged. ``row`` holds the columns of ``ledger_entries``; it is line 1 of its leg.

    ``details`` may be kept back; then the recommended model is unknown.
    """
    details = row.get("details") or {}
    state = State(
        plan=row["plan"],
        policy=row["quota_policy"],
        allowance=None if row["limit_name"] is None else Allowance(*(row[name] for name in _ALLOWANCE)),
        affordable_model=details.get("affordable_model"),
        mode=row["prior_mode"],
        blocked=row["rule"] == "blocked",
        retry_after_s=(row["retry_after_s"] or 0.0) if row["rule"] == "rate_limited" else 0.0,
        paused=row["rule"] == "paused",
        deferred=row["parent_request_id"] is not None,
        **{name: row[name] for name in _STATE},
    )
    judged = row["p"] is not None
    return Decision(
        nudges=Nudges(**{name: row[column] for name, column in _NUDGES.items()}) if judged else None,
        amount_uc=row["cost_uc"] if row["status"] == "RESERVED" else 0,
        model=row["model"],
        state=state,
        config_version=row["config_version"],
        arm=row["arm"],
        user_id=row["user_id"],
        request_id=row["request_id"],
        at=row["occurred_at"],
        images=row["images"],
        **{name: row[name] for name in _DECISION},
    )


def request_of(row: Mapping[str, Any]) -> Request:
    """The request an opening entry answered, as far as the ledger keeps it: never its text."""
    return Request(
        user_id=row["user_id"], request_id=row["request_id"], session_id=row["session_id"], genre=row["genre"], mood=row["mood"],
        modality=row["modality"], model=(row["details"] or {}).get("asked_model"), images=row["images"],
    )  # fmt: skip
