"""What differs between two configurations, tunable by tunable, for the draft and for any two versions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from credit_core.errors import InvalidConfig
from credit_core.policy import config as schema
from credit_core.policy.config import Config
from credit_core.policy.tunables import Tunable, tunables
from pages.components import session, tables
from pages.components.tuning_scales import written


def known(*bodies: Mapping[str, Any]) -> dict[str, Tunable]:
    """Every tunable of some bodies by dotted key; a body that this release cannot read adds none."""
    found = {tunable.key: tunable for tunable in tunables(Config())}
    for body in bodies:
        try:
            found |= {tunable.key: tunable for tunable in tunables(schema.parse(body))}
        except InvalidConfig:
            continue
    return found


def between(old: Mapping[str, Any], new: Mapping[str, Any]) -> pd.DataFrame:
    """One row per tunable that differs between two bodies: group, title, old, new, unit, key."""
    return rows(schema.differences(old, new), known(old, new))


def rows(changes: Mapping[str, tuple[Any, Any]], names: Mapping[str, Tunable]) -> pd.DataFrame:
    """One row per change (dotted key → old, new). What is not a tunable of this release stands under its key."""
    lines = []
    for key, (old, new) in changes.items():
        tunable = names.get(key)
        group, title, unit = (tunable.group, tunable.title, tunable.unit) if tunable else ("", key, "")
        lines.append(
            {"group": group, "title": title, "old": written(old), "new": written(new), "unit": unit, "key": key}
        )
    return pd.DataFrame(lines, columns=["group", "title", "old", "new", "unit", "key"])


def show(frame: pd.DataFrame, *, key: str, old: str, new: str, file_name: str = "") -> None:
    """The table of :func:`between` or :func:`rows`; ``old`` and ``new`` title its two sides."""
    columns = [
        tables.Column("group", "Group"),
        tables.Column("title", "What"),
        tables.Column("old", old),
        tables.Column("new", new),
        tables.Column("unit", "Unit"),
        tables.Column("key", "Key"),
    ]
    tables.show(frame, columns, key=key, zone=session.zone(), search=False, file_name=file_name, alt="What differs")
