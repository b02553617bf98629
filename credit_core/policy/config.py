"""The one schema of every tunable of SPEC 2–4 and 6, its defaults, and how a change to it is validated.

A configuration body is plain JSON. :class:`Config` is its validated, immutable form; a **dotted key** such as
``controller.k`` or ``plans.basic.coverage_threshold`` names one tunable. ``Field(title=…, description=…)`` and the
extras ``unit`` and ``group`` are what the tuning page shows beside a control.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import Field, ValidationError

from credit_core.errors import InvalidConfig
from credit_core.policy.sections import (
    DEFAULT_PLANS,
    UNLISTED_PLAN,
    Controller,
    Coverage,
    Hysteresis,
    Limits,
    Nudges,
    PlanTuning,
    Releases,
    Rollover,
    Routing,
    Saga,
    Section,
    Session,
    Slos,
    Strategies,
)


class Config(Section):
    """One validated configuration body."""

    controller: Controller = Field(Controller(), title="Gain")
    strategies: Strategies = Field(Strategies(), title="Strategies")
    nudges: Nudges = Field(Nudges(), title="Nudges")
    hysteresis: Hysteresis = Field(Hysteresis(), title="Hysteresis")
    session: Session = Field(Session(), title="Session caps")
    coverage: Coverage = Field(Coverage(), title="Coverage")
    routing: Routing = Field(Routing(), title="Routing")
    rollover: Rollover = Field(Rollover(), title="Rollover")
    limits: Limits = Field(Limits(), title="Limits")
    saga: Saga = Field(Saga(), title="Holds")
    plans: dict[str, PlanTuning] = Field(DEFAULT_PLANS, title="Plans")
    slos: Slos = Field(Slos(), title="Targets")
    releases: Releases = Field(Releases(), title="Releases")

    def plan(self, name: str) -> PlanTuning:
        """The tuning of plan ``name``; plans that are not listed use the defaults of :class:`PlanTuning`."""
        return self.plans.get(name, UNLISTED_PLAN)

    def body(self) -> dict[str, Any]:
        """The configuration as plain JSON."""
        return self.model_dump(mode="json")


def content_hash(body: Mapping[str, Any]) -> str:
    """SHA-256 of the body's canonical JSON (sorted keys, no spaces), hex."""
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def parse(body: Mapping[str, Any]) -> Config:
    """Validate a whole body. Raises :class:`InvalidConfig` with every fault, in the schema's order."""
    try:
        return Config.model_validate(body)
    except ValidationError as error:
        raise InvalidConfig(_faults(body, error)) from error


def _faults(body: Mapping[str, Any], error: ValidationError) -> list[str]:
    """Every fault in the schema's order: those of single values, then what does not fit together, section by section."""
    single: dict[str, list[str]] = {}
    for fault in error.errors():
        if fault["type"] != "value_error":
            place = ".".join(str(part) for part in fault["loc"])
            single.setdefault(str(fault["loc"][0]) if fault["loc"] else "", []).append(
                f"{place or 'configuration'}: {fault['msg']}"
            )
    at_fault = {".".join(str(part) for part in fault["loc"]) for fault in error.errors()}
    found: list[str] = []
    for name, info in Config.model_fields.items():
        found += single.pop(name, [])
        for place, misfit in _misfits(name, body.get(name, {}), info.default):
            # A value that is wrong by itself is told once.
            if not any(
                fault.removeprefix(f"{place}.") in misfit for fault in at_fault if fault.startswith(f"{place}.")
            ):
                found.append(f"{place}: {misfit}")
    return [*found, *(fault for faults in single.values() for fault in faults)]


def _misfits(place: str, values: Any, shipped: Any) -> list[tuple[str, str]]:
    """(place of a section, what does not fit together in it)."""
    if not isinstance(values, Mapping):
        return []
    if isinstance(shipped, Mapping):
        return [fault for name, part in values.items() for fault in _misfits(f"{place}.{name}", part, UNLISTED_PLAN)]
    found = [(place, misfit) for misfit in shipped.misfits(dict(shipped) | dict(values))]
    for name, default in shipped:
        if isinstance(default, Section):
            found += _misfits(f"{place}.{name}", values.get(name, {}), default)
    return found


def apply_changes(body: Mapping[str, Any], changes: Mapping[str, Any]) -> Config:
    """``body`` with dotted ``changes`` applied, validated. Unknown keys and bad values are reported together."""
    changed = _completed(copy.deepcopy(dict(body)), Config().body())
    unknown: list[str] = []
    for key, value in changes.items():
        node: Any = changed
        *path, leaf = key.split(".")
        for part in path:
            if node is changed.get("plans") and isinstance(node, dict) and part not in node:
                node[part] = UNLISTED_PLAN.model_dump(mode="json")
            node = node.get(part) if isinstance(node, dict) else None
        if (
            not isinstance(node, dict)
            or isinstance(node.get(leaf), dict)
            or (leaf not in node and path != ["nudges", "segments"])
        ):
            unknown.append(f"{key}: no such tunable; `python -m credit_core config show` lists them")
            continue
        node[leaf] = value
    try:
        config = parse(changed)
    except InvalidConfig as error:
        raise InvalidConfig([*unknown, *error.faults]) from error
    if unknown:
        raise InvalidConfig(unknown)
    return config


def _completed(body: dict[str, Any], shipped: Mapping[str, Any]) -> dict[str, Any]:
    """``body`` with the defaults of what an older release of Titrate did not write yet; plans and segments are as they are."""
    for key, value in shipped.items():
        if key not in body:
            body[key] = copy.deepcopy(value)
        elif isinstance(value, Mapping) and isinstance(body[key], dict) and key not in ("plans", "segments"):
            _completed(body[key], value)
    return body


def flatten(body: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A body as dotted key → leaf value, in the body's order."""
    flat: dict[str, Any] = {}
    for key, value in body.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Dotted key → (old, new) where two bodies differ; a missing side is None."""
    before, after = flatten(old), flatten(new)
    return {
        key: (before.get(key), after.get(key))
        for key in [*before, *(k for k in after if k not in before)]
        if before.get(key) != after.get(key)
    }
