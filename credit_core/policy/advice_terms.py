"""What advice is made of: its levels, the demand and the library that it is about, and how its sentences write numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

Level = Literal["block", "warn", "note"]
LEVELS: tuple[Level, ...] = ("block", "warn", "note")


class Advice(NamedTuple):
    """One thing to know about a draft. ``key`` is the tunable or group that it is about."""

    level: Level
    sentence: str
    key: str = ""


class Demand(NamedTuple):
    """What one plan's accounts ask for. Rates are credits a day per account; None is unknown.

    ``pressed`` accounts ask for more than their quota affords: pacing is about them, so ``rate`` is their mean (that of
    all accounts where nobody is pressed) and ``mean_rate`` that of all ``accounts``.
    """

    plan: str
    quota: float
    cycle_days: float
    rate: float | None = None
    mean_rate: float | None = None
    accounts: int = 0
    pressed: int = 0

    @property
    def pace(self) -> float:
        """Q/L: what the quota affords, credits a day."""
        return self.quota / self.cycle_days

    @property
    def affordable(self) -> float | None:
        """p*: the share of demand that the quota affords; 1 and more where it affords all of it."""
        return None if not self.rate else self.pace / self.rate


class Cell(NamedTuple):
    """A cell of the library: how many asked for it, and how many assets it holds."""

    requests: int
    assets: int


def also(others: Sequence[str]) -> str:
    """The other cases in a sentence of their own; nothing where there are none."""
    return f" Likewise {listed(others)}." if others else ""


def listed(names: Iterable[str]) -> str:
    """Names in a sentence."""
    *first, last = list(names)
    return f"{', '.join(first)} and {last}" if first else last


def title(name: str) -> str:
    """A slug as a name; other names stay as they are."""
    return (name[:1].upper() + name[1:]).replace("_", " ") if re.fullmatch(r"[a-z][a-z0-9_]*", name) else name


def number(value: float | None) -> str:
    """At most one decimal, narrow spaces between thousands."""
    if value is None or not math.isfinite(value):
        return "–"
    text = f"{value:,.1f}".replace(",", "\u202f").removesuffix(".0")
    return text.replace("-", "\u2212")


def signed(value: float) -> str:
    """With its sign."""
    return f"+{number(value)}" if value > 0 else number(value)


def share(value: float | None) -> str:
    """A share as a percentage."""
    return "–" if value is None else f"{value * 100:.1f}".removesuffix(".0") + "\u202f%"


def days(value: float) -> str:
    """A span of days, with the unit."""
    text = number(value) if value < 10 else f"{value:,.0f}".replace(",", "\u202f")
    return f"{text} day{'' if text == '1' else 's'}"
