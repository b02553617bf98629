"""The sections of a configuration: every tunable of SPEC 2–4 and 6 with its default, bounds, unit and what it does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Section(BaseModel):
    """Part of a configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def misfits(cls, values: Mapping[str, Any]) -> list[str]:
        """What is wrong between values that may each be fine; ``values`` may hold anything."""
        return []

    @model_validator(mode="after")
    def _fits(self) -> Self:
        found = self.misfits(dict(self))
        if found:
            raise ValueError("; ".join(found))
        return self


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _above(values: Mapping[str, Any], one: str, other: str) -> bool:
    return _is_number(values[one]) and _is_number(values[other]) and values[one] > values[other]


def _at_least(values: Mapping[str, Any], one: str, other: str) -> bool:
    return _is_number(values[one]) and _is_number(values[other]) and values[one] >= values[other]


def _tunable(
    default: Any,
    title: str,
    unit: str,
    hint: str,
    *,
    ge: float | None = None,
    le: float | None = None,
    gt: float | None = None,
) -> Any:
    return Field(default, title=title, description=hint, ge=ge, le=le, gt=gt, json_schema_extra={"unit": unit})


def _share(default: float, title: str, hint: str) -> Any:
    return _tunable(default, title, "share", hint, ge=0.0, le=1.0)


class Controller(Section):
    """Gain, unit and intercept of the decision law."""

    strategy: Literal["logistic", "affordable", "reserve", "weighted", "zones", "novelty", "thompson", "headroom"] = (
        Field(
            "logistic",
            title="Strategy",
            description="The law that turns surplus into a probability.",
            json_schema_extra={"unit": "law"},
        )
    )
    k: float = _tunable(
        0.0025, "Gain k", "per surplus unit", "Steeper: reacts sooner to being ahead or behind.", gt=0.0, le=100.0
    )
    surplus_unit: Literal["credits", "days", "quota_percent"] = Field(
        "credits",
        title="Surplus unit",
        description="What one unit of surplus means to k: a credit, a day of quota, or a percent of quota.",
        json_schema_extra={"unit": "unit"},
    )
    p_at_zero: float = _tunable(
        0.5, "p at zero surplus", "share", "Chance of a fresh one exactly on pace.", ge=0.001, le=0.999
    )
    intercept: Literal["fixed", "feed_forward"] = Field(
        "fixed",
        title="Intercept",
        description="fixed uses p at zero; feed_forward centres on the share of demand that the quota affords.",
        json_schema_extra={"unit": "rule"},
    )
    tau0_days: float = _tunable(
        14.0,
        "Prior weight of demand",
        "days",
        "Days of plan demand that an account's own is blended with.",
        gt=0.0,
        le=365.0,
    )
    p_min: float = _tunable(
        0.02, "Lowest p", "share", "Nobody's chance of a fresh one falls below this.", ge=0.0, le=1.0
    )
    p_max: float = _tunable(
        0.98, "Highest p", "share", "Nobody's chance of a fresh one rises above this.", ge=0.0, le=1.0
    )

    @classmethod
    def misfits(cls, values: Mapping[str, Any]) -> list[str]:
        """Values that are fine alone but not together."""
        return ["p_min must be below p_max"] if _at_least(values, "p_min", "p_max") else []


class Strategies(Section):
    """What the strategies other than logistic need."""

    affordable_gamma: float = _tunable(
        1.0, "Affordable: γ", "×", "Over 1 spends faster than demand affords, under 1 slower.", gt=0.0, le=10.0
    )
    affordable_nudged: bool = Field(
        False,
        title="Affordable: nudges and modes",
        description="Whether nudges and modes also act on the affordable strategy.",
        json_schema_extra={"unit": "on/off"},
    )
    reserve_rho: float = _tunable(
        0.3,
        "Reserve: floor ρ",
        "× on-pace balance",
        "Fresh while the balance stays above this part of pace.",
        ge=0.0,
        le=2.0,
    )
    headroom_rho: float = _tunable(
        0.1,
        "Headroom: floor ρ",
        "× on-pace balance",
        "Fresh while the balance stays above this part of pace.",
        ge=0.0,
        le=2.0,
    )
    headroom_requests: float = _tunable(
        2.0,
        "Headroom: room",
        "× largest request",
        "Keeps room for so many of the account's largest request.",
        ge=0.0,
        le=20.0,
    )
    headroom_most: float = _share(0.07, "Headroom: most room", "Largest part of the quota that is kept as room.")
    headroom_until: float = _share(0.12, "Headroom: given up", "In this last part of the cycle no room is kept.")
    weight_surplus: float = _tunable(
        40.0, "Weighted: surplus", "weight", "Weight of being ahead of pace.", ge=0.0, le=100.0
    )
    weight_freshness: float = _tunable(
        30.0, "Weighted: freshness", "weight", "Weight of few images so far in the session.", ge=0.0, le=100.0
    )
    weight_credit: float = _tunable(
        20.0, "Weighted: credit health", "weight", "Weight of a full balance.", ge=0.0, le=100.0
    )
    weight_library: float = _tunable(
        10.0, "Weighted: library need", "weight", "Weight of a thin library cell.", ge=0.0, le=100.0
    )
    zone_green: float = _share(0.5, "Zones: green above", "Part of the quota above which everything is fresh.")
    zone_red: float = _share(0.2, "Zones: red below", "Part of the quota below which hardly anything is fresh.")
    zone_p_yellow: float = _share(0.5, "Zones: p in yellow", "Chance of a fresh one between red and green.")
    zone_p_red: float = _share(0.1, "Zones: p in red", "Chance of a fresh one in red.")

    @classmethod
    def misfits(cls, values: Mapping[str, Any]) -> list[str]:
        """Values that are fine alone but not together."""
        weights = [values[f"weight_{name}"] for name in ("surplus", "freshness", "credit", "library")]
        found = ["the four weights must not all be 0"] if all(_is_number(w) and w <= 0 for w in weights) else []
        if _above(values, "zone_red", "zone_green"):
            found.append("zone_red must not be above zone_green")
        return found


class Span(Section):
    """The ends of a nudge: the factor at x = 0 and at x = 1."""

    lo: float = _tunable(1.0, "Lowest factor", "×", "Factor on p where the signal is weakest.", ge=0.0, le=5.0)
    hi: float = _tunable(1.0, "Highest factor", "×", "Factor on p where the signal is strongest.", ge=0.0, le=5.0)

    @classmethod
    def misfits(cls, values: Mapping[str, Any]) -> list[str]:
        """Values that are fine alone but not together."""
        return ["lo must not be above hi"] if _above(values, "lo", "hi") else []


class Nudges(Section):
    """Factors multiplied onto p0."""

    freshness: Span = Field(Span(lo=0.8, hi=1.2), title="Freshness")
    freshness_tau: float = _tunable(
        20.0,
        "Freshness decay",
        "images",
        "Images in a session after which the freshness nudge has faded to 37 %.",
        gt=0.0,
        le=10_000.0,
    )
    credit_health: Span = Field(Span(lo=0.9, hi=1.1), title="Credit health")
    library: Span = Field(Span(lo=0.9, hi=1.1), title="Library need")
    segments: dict[str, float] = Field(
        {"default": 1.0, "high_engagement": 1.1},
        title="Segments",
        description="Factor by user segment; segments not listed use default.",
        json_schema_extra={"unit": "×"},
    )
    conservation: float = _tunable(
        0.5, "Conservation switch", "×", "Factor for users who asked to save credits.", ge=0.0, le=1.0
    )

    @classmethod
    def misfits(cls, values: Mapping[str, Any]) -> list[str]:
        """Segments out of range, and the default that must be there."""
        segments = values["segments"]
        if not isinstance(segments, Mapping):
            return []
        found = [] if "default" in segments else ["segments must name a default"]
        return found + [
            f"segments.{name} must lie between 0 and 5, got {float(factor)}"
            for name, factor in segments.items()
            if _is_number(factor) and not 0.0 <= factor <= 5.0
        ]


class Hysteresis(Section):
    """When an account changes between conserve, steady and spend."""

    conserve_enter_days: float = _tunable(
        -3.0, "Conserve from", "surplus days", "At or below this an account starts conserving.", ge=-365.0, le=0.0
    )
    conserve_leave_days: float = _tunable(
        -1.0, "Conserve until", "surplus days", "At or above this it stops conserving.", ge=-365.0, le=365.0
    )
    conserve_factor: float = _tunable(0.5, "Conserve factor", "×", "Factor on p while conserving.", ge=0.0, le=1.0)
    spend_enter_days: float = _tunable(
        5.0, "Spend from", "surplus days", "At or above this an account starts spending down.", ge=0.0, le=365.0
    )
    spend_leave_days: float = _tunable(
        2.0, "Spend until", "surplus days", "At or below this it stops.", ge=-365.0, le=365.0
    )
    spend_factor: float = _tunable(1.2, "Spend factor", "×", "Factor on p while spending down.", ge=1.0, le=5.0)

    @classmethod
    def misfits(cls, values: Mapping[str, Any]) -> list[str]:
        """Edges in an order in which no mode could be left again."""
        found = []
        for leave in ("conserve_leave_days", "spend_leave_days"):
            if _at_least(values, "conserve_enter_days", leave) or _at_least(values, leave, "spend_enter_days"):
                found.append(f"conserve_enter_days < {leave} < spend_enter_days must hold")
        return found


class Session(Section):
    """Caps within one running session of a user."""

    idle_s: float = _tunable(
        1_800.0, "Session ends after", "seconds idle", "A pause this long starts a new session.", ge=60.0, le=86_400.0
    )
    max_fresh: int = _tunable(
        12, "Fresh per session", "decisions", "Further fresh ones are deferred.", ge=1, le=100_000
    )
    max_share: float = _share(
        0.5, "Session spend cap", "Largest part of the session's opening balance that fresh ones may take."
    )


class Coverage(Section):
    """What a library cell must hold."""

    target: int = _tunable(
        20, "Assets for full coverage", "assets", "A cell with this many assets is fully covered.", ge=1, le=1_000_000
    )
    stale_days: int = _tunable(
        30, "Stale after", "days", "Older assets count as stale in a cell's health.", ge=1, le=3_650
    )
    health_floor: float = _share(0.6, "Health floor", "Under-represented cells with less health get fresh ones.")
    at_cap_share: float = _share(
        0.98, "At-cap share", "From this part of the rollover cap on, requests are served fresh."
    )
    library_growth: bool = Field(
        True,
        title="Library growth",
        description="Settled fresh images join their cell.",
        json_schema_extra={"unit": "on/off"},
    )


class Routing(Section):
    """Which model a fresh one goes to."""

    threshold: float = _share(0.7, "Premium above p", "Above this p the premium model is used.")
    premium_model: str = Field(
        "dalle-3-hd",
        title="Premium model",
        min_length=1,
        description="Model for users well ahead of pace.",
        json_schema_extra={"unit": "model"},
    )
    economy_model: str = Field(
        "stable-diffusion-xl",
        title="Economy model",
        min_length=1,
        description="Model for everybody else.",
        json_schema_extra={"unit": "model"},
    )


class Rollover(Section):
    """Burst allowance at cycle ends."""

    burst_allowance: bool = Field(
        False,
        title="Burst allowance",
        description="Cycles whose scheduled end lies in 02:00–05:00 UTC carry one quota more.",
        json_schema_extra={"unit": "on/off"},
    )


class Limits(Section):
    """Leaky bucket, cool-down and anomaly flag, per user."""

    enabled: bool = Field(
        True,
        title="Rate limits",
        description="Refuse bursts over the bucket's capacity.",
        json_schema_extra={"unit": "on/off"},
    )
    bucket_capacity: float = _tunable(
        30.0, "Bucket capacity", "requests", "Requests a user may send at once.", ge=1.0, le=100_000.0
    )
    bucket_leak_per_minute: float = _tunable(
        30.0, "Bucket leak", "requests per minute", "Requests a user may sustain.", gt=0.0, le=100_000.0
    )
    cool_down_s: float = _tunable(
        10.0, "Cool-down", "seconds", "Between two fresh ones on plans that count by day or window.", ge=0.0, le=3_600.0
    )
    override_s: float = _tunable(
        600.0,
        "Purchase override",
        "seconds",
        "Limits are lifted this long after a purchase, once a day.",
        ge=0.0,
        le=86_400.0,
    )
    anomaly_effect: Literal["flag", "block"] = Field(
        "flag",
        title="Anomaly effect",
        description="flag marks the user for support; block also opens a challenge that has to be cleared first.",
        json_schema_extra={"unit": "effect"},
    )
    anomaly_factor: float = _tunable(
        3.0,
        "Anomaly factor",
        "× hourly mean",
        "More fresh ones in an hour than this are an anomaly.",
        ge=1.0,
        le=1_000.0,
    )
    anomaly_least: int = _tunable(
        10, "Anomaly from", "fresh an hour", "Fewer fresh ones in an hour are never an anomaly.", ge=1, le=1_000_000
    )
    anomaly_hours: int = _tunable(
        24, "Anomaly history", "active hours", "Users with a shorter history are never flagged.", ge=1, le=168
    )


class Saga(Section):
    """Holds."""

    hold_ttl_s: float = _tunable(
        900.0,
        "Hold lifetime",
        "seconds",
        "A hold not ended within this is released by the sweeper.",
        ge=30.0,
        le=86_400.0,
    )


class PlanTuning(Section):
    """What differs by plan."""

    coverage_threshold: float = _share(
        0.5, "Coverage threshold", "Under this coverage a request is a miss and served fresh."
    )
    cap_multiple: float = _tunable(
        3.0, "Rollover cap c", "× quota", "Balance after a reset is at most this many quotas.", ge=1.0, le=24.0
    )
    soft_decay: float = _share(0.4, "Soft decay δ", "Part of unspent credits above one quota that expires at reset.")


class Slos(Section):
    """Targets shown with their error budget on the overview."""

    behind_share: float = _share(0.05, "Accounts behind", "Share of accounts below −3 surplus days stays under this.")
    idle_library_share: float = _share(
        0.05,
        "Library while ahead",
        "Share of drawn library answers to accounts above +3 surplus days stays under this.",
    )
    coverage_miss_rate: float = _share(
        0.05, "Coverage misses", "Share of decisions with a coverage miss stays under this."
    )
    run_out_share: float = _share(0.02, "Run-outs", "Share of active accounts with a run-out stays under this.")
    authorize_p95_ms: float = _tunable(
        50.0, "Authorize p95", "ms", "95 % of authorize calls are faster than this.", gt=0.0, le=60_000.0
    )
    at_cap_share: float = _share(0.20, "At cap", "Share of resets that end at the rollover cap stays under this.")


class Releases(Section):
    """How a configuration may be put in place of another."""

    approval_above: float = _share(
        1.0,
        "Approval above",
        "A release to a larger share of accounts needs another person's approval; 1 asks for none, 0 for every one.",
    )


DEFAULT_PLANS = {
    "free": PlanTuning(coverage_threshold=0.30),
    "basic": PlanTuning(coverage_threshold=0.50),
    "premium": PlanTuning(coverage_threshold=0.65, cap_multiple=4.0, soft_decay=0.25),
    "basic_annual": PlanTuning(coverage_threshold=0.50, cap_multiple=6.0, soft_decay=0.15),
    "premium_annual": PlanTuning(coverage_threshold=0.65, cap_multiple=6.0, soft_decay=0.15),
}

#: The tuning of plans that a configuration does not list.
UNLISTED_PLAN = PlanTuning()
