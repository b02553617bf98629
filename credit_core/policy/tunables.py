"""What a control needs to know of each tunable: its name, unit, bounds, shipped default and what it does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, cast

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from credit_core.policy.config import Config
from credit_core.policy.sections import DEFAULT_PLANS, UNLISTED_PLAN


class Tunable(NamedTuple):
    """What a control needs to know of one tunable."""

    key: str
    group: str
    title: str
    unit: str
    hint: str
    default: Any
    minimum: float | None
    maximum: float | None
    choices: tuple[str, ...]


def tunables(config: Config) -> Iterator[Tunable]:
    """Every tunable of ``config`` in the schema's order, for controls and documentation."""
    for group, info in Config.model_fields.items():
        title = info.title or group
        section = getattr(config, group)
        if isinstance(section, Mapping):
            for name, tuning in section.items():
                shipped = DEFAULT_PLANS.get(name, UNLISTED_PLAN)
                for tunable in _fields(tuning, f"{group}.{name}", f"{title}: {name}"):
                    yield tunable._replace(default=getattr(shipped, tunable.key.rsplit(".", 1)[1]))
        else:
            yield from _fields(section, group, title)


def _fields(section: BaseModel, prefix: str, group: str) -> Iterator[Tunable]:
    for name, info in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            for nested in _fields(value, f"{prefix}.{name}", group):
                yield nested._replace(
                    title=f"{info.title}: {nested.title.lower()}",
                    default=getattr(info.default, nested.key.rsplit(".", 1)[1]),
                )
        elif isinstance(value, Mapping):
            for key in value:
                yield _tunable_of(info, f"{prefix}.{name}.{key}", group)._replace(
                    title=f"{info.title}: {key}", default=info.default.get(key, 1.0), minimum=0.0, maximum=5.0
                )
        else:
            yield _tunable_of(info, f"{prefix}.{name}", group)


def _tunable_of(info: FieldInfo, key: str, group: str) -> Tunable:
    extra = cast("dict[str, Any]", info.json_schema_extra or {})
    low = next((getattr(m, a) for m in info.metadata for a in ("ge", "gt") if getattr(m, a, None) is not None), None)
    high = next((getattr(m, a) for m in info.metadata for a in ("le", "lt") if getattr(m, a, None) is not None), None)
    choices = getattr(info.annotation, "__args__", ()) if str(info.annotation).startswith("typing.Literal") else ()
    return Tunable(
        key,
        group,
        info.title or key,
        str(extra.get("unit", "")),
        info.description or "",
        info.default,
        low,
        high,
        tuple(choices),
    )
