"""How numbers, instants and changes are written for people, everywhere: DASHBOARD, *Numbers*.

Unknown (``None`` or NaN) is '–', never 0; 0 is only ever zero. Thousands are parted by a narrow no-break space and a
unit stays on the line of its number. Nothing here rounds a value that is used further.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Literal, SupportsFloat
from zoneinfo import ZoneInfo

import pandas as pd

from credit_core.units import MICRO, checked_instant

UNKNOWN = "–"
#: Narrow no-break space: between thousands, and between a number and its unit.
THIN = "\u202f"
MINUS = "\u2212"

#: A metric's direction (``credit_core.analytics.metrics``): which way is good.
Better = Literal["up", "down", "neutral"]


def is_unknown(value: object) -> bool:
    """None, NaN, NaT, pd.NA and infinities are unknown."""
    if value is None or value is pd.NA or value != value:
        return True
    return isinstance(value, float) and math.isinf(value)


def decimal(value: SupportsFloat | Decimal | None, digits: int = 1, *, trim: bool = False, sign: bool = False) -> str:
    """A number with ``digits`` decimals, half-even: 1 284.5. ``trim`` drops a zero tail, ``sign`` shows a plus."""
    if value is None or is_unknown(value):
        return UNKNOWN
    exact = value if isinstance(value, Decimal) else Decimal(repr(float(value)))
    rounded = exact.quantize(Decimal(1).scaleb(-digits), rounding=ROUND_HALF_EVEN)
    text = f"{abs(rounded):,.{digits}f}".replace(",", THIN)
    if trim and digits:
        text = text.rstrip("0").rstrip(".")
    if rounded == 0:
        return text
    return (MINUS if rounded < 0 else "+" if sign else "") + text


def count(value: int | float | None) -> str:
    """A whole number: 12 345."""
    return decimal(value, 0)


def counted(value: int | float | None, noun: str) -> str:
    """A number of things: 1 account, 12 345 entries."""
    written = count(value)
    if written == UNKNOWN:
        return written
    many = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{written}{THIN}{noun if written == '1' else many}"


def credits(amount_uc: int | float | None, *, sign: bool = False) -> str:
    """Micro-credits as credits, at most one decimal: 1 284.5."""
    if amount_uc is None or is_unknown(amount_uc):
        return UNKNOWN
    return decimal(Decimal(int(amount_uc)) / MICRO, 1, trim=True, sign=sign)


def short(value: SupportsFloat | None) -> str:
    """A number with at most one decimal and without a unit: 1 284.5, 12."""
    return decimal(value, 1, trim=True)


def in_credits(value: SupportsFloat | None) -> str:
    """Credits (not micro-credits) with their unit: 1 284.5 credits."""
    if value is None or is_unknown(value):
        return UNKNOWN
    written = short(value)
    return f"{written}{THIN}credit{'' if written == '1' else 's'}"


def in_dollars(value: SupportsFloat | None, places: int = 2) -> str:
    """Dollars (not micro-dollars) and cents: $1 284.50."""
    if value is None or is_unknown(value):
        return UNKNOWN
    text = decimal(value, places)
    return f"{MINUS}${text[1:]}" if text.startswith(MINUS) else f"${text}"


def money(amount_usd_micro: int | float | None) -> str:
    """Micro-dollars as dollars and cents: $1 284.50."""
    if amount_usd_micro is None or is_unknown(amount_usd_micro):
        return UNKNOWN
    return in_dollars(Decimal(int(amount_usd_micro)) / MICRO)


def share(value: SupportsFloat | None, *, sign: bool = False) -> str:
    """A share in [0, 1] as a percentage with one decimal: 12.3 %."""
    if value is None or is_unknown(value):
        return UNKNOWN
    return f"{decimal(Decimal(repr(float(value))) * 100, 1, sign=sign)}{THIN}%"


def days(value: SupportsFloat | None, *, sign: bool = True) -> str:
    """Surplus days, with their sign: +3.2 days."""
    if value is None or is_unknown(value):
        return UNKNOWN
    text = decimal(value, 1, sign=sign)
    return f"{text}{THIN}{'day' if text.lstrip('+' + MINUS) == '1.0' else 'days'}"


_STEPS: tuple[tuple[float, float, str, int], ...] = (
    # below (s), divided by (s), unit, decimals
    (0.9995, 0.001, "ms", 0),
    (9.95, 1.0, "s", 1),
    (89.5, 1.0, "s", 0),
    (89.5 * 60, 60.0, "min", 0),
    (47.5 * 3_600, 3_600.0, "h", 0),
    (13.5 * 86_400, 86_400.0, "days", 0),
    (8.5 * 604_800, 604_800.0, "weeks", 0),
    (23.5 * 2_629_800, 2_629_800.0, "months", 0),
    (math.inf, 31_557_600.0, "years", 0),
)


def duration(seconds: SupportsFloat | None) -> str:
    """A span in the unit a person would say: <1 ms, 340 ms, 4.2 s, 12 min, 26 h, 3 days."""
    if seconds is None or is_unknown(seconds):
        return UNKNOWN
    span = abs(float(seconds))
    sign = MINUS if float(seconds) < 0 else ""
    if span == 0:
        return f"0{THIN}s"
    if span < 0.0005:
        return f"{sign}<1{THIN}ms"
    for below, unit_s, unit, digits in _STEPS:
        if span < below:
            return f"{sign}{decimal(span / unit_s, digits)}{THIN}{unit}"
    raise AssertionError("the last step has no upper end")


def milliseconds(value: SupportsFloat | None) -> str:
    """A latency given in milliseconds."""
    return UNKNOWN if value is None or is_unknown(value) else duration(float(value) / 1_000)


_BY_FORMAT: dict[str, Callable[[SupportsFloat | None], str]] = {
    "credits": short,
    "dollars": in_dollars,
    "share": share,
    "days": days,
    "count": lambda value: decimal(value, 0),
    "ms": milliseconds,
}


def metric(value: SupportsFloat | None, metric_format: str) -> str:
    """A metric's value, written as its ``format`` asks (credits, dollars, share, days, count, ms)."""
    return _BY_FORMAT[metric_format](value)


def headline(value: SupportsFloat | None, metric_format: str) -> str:
    """As :func:`metric`, short enough for a card: from $100 000 on without cents."""
    if metric_format == "dollars" and value is not None and not is_unknown(value) and abs(float(value)) >= 100_000:
        return in_dollars(value, 0)
    return metric(value, metric_format)


def money_headline(amount_usd_micro: int | float | None) -> str:
    """As :func:`money`, short enough for a card."""
    if amount_usd_micro is None or is_unknown(amount_usd_micro):
        return UNKNOWN
    return headline(Decimal(int(amount_usd_micro)) / MICRO, "dollars")


def day(value: datetime | date | None, zone: ZoneInfo | None = None, *, year: bool = True) -> str:
    """A calendar day: 3 Mar 2025. An instant needs the reporting ``zone``."""
    if value is None or is_unknown(value):
        return UNKNOWN
    local = _local(value, zone)
    return (f"{local.day} {local:%b %Y}" if year else f"{local.day} {local:%b}").replace(" ", "\u00a0")


def instant(value: datetime | None, zone: ZoneInfo, *, seconds: bool = False) -> str:
    """An instant in the reporting zone: 3 Mar 2025, 14:05."""
    if value is None or is_unknown(value):
        return UNKNOWN
    local = _local(value, zone)
    clock = f"{local:%H:%M:%S}" if seconds else f"{local:%H:%M}"
    return f"{local.day} {local:%b %Y}, {clock}".replace(" ", "\u00a0")


def ago(value: datetime | None, now: datetime) -> str:
    """How long ago, in words: 4 min ago, just now."""
    if value is None or is_unknown(value):
        return UNKNOWN
    passed_s = (now - value).total_seconds()
    if passed_s < 2:
        return "just now"
    return f"{duration(max(1.0, round(passed_s)))} ago".replace(".0" + THIN, THIN)


@dataclass(frozen=True, slots=True)
class Change:
    """What became of a value since the comparison, in words, and whether that is good."""

    text: str
    meaning: Literal["good", "bad", "neutral"]
    direction: Literal["up", "down", "level"]


#: Nothing to compare with.
NO_CHANGE = Change(UNKNOWN, "neutral", "level")


def change(now: SupportsFloat | None, before: SupportsFloat | None, *, better: Better = "up") -> Change:
    """Relative change, +12.3 %. Unknown where either side is unknown or there was nothing before."""
    if now is None or before is None or is_unknown(now) or is_unknown(before) or float(before) == 0:
        return NO_CHANGE
    relative = (float(now) - float(before)) / abs(float(before))
    if abs(relative) >= 10:
        return _change(relative, f"×{THIN}{decimal(float(now) / float(before), 0)}", better)
    return _change(relative, share(relative, sign=True), better, level=abs(relative) < 0.0005)


def points(now: SupportsFloat | None, before: SupportsFloat | None, *, better: Better = "up") -> Change:
    """Change of a share in percentage points: +1.2 points."""
    if now is None or before is None or is_unknown(now) or is_unknown(before):
        return NO_CHANGE
    moved = (float(now) - float(before)) * 100
    return _change(moved, f"{decimal(moved, 1, sign=True)}{THIN}points", better, level=abs(moved) < 0.05)


def difference(
    now: SupportsFloat | None, before: SupportsFloat | None, write: Callable[[float], str], *, better: Better = "up"
) -> Change:
    """Change in the value's own unit, written by ``write``: +0.4 days, −12 ms. Less than that unit can tell is none."""
    if now is None or before is None or is_unknown(now) or is_unknown(before):
        return NO_CHANGE
    moved = float(now) - float(before)
    text = write(moved)
    unsigned = text.lstrip("+" + MINUS)
    too_little = unsigned.startswith("<") or not any(digit in unsigned for digit in "123456789")
    signed = text if text[:1] in ("+", MINUS) or moved <= 0 else f"+{text}"
    return _change(moved, signed, better, level=too_little)


def _change(moved: float, text: str, better: Better, *, level: bool = False) -> Change:
    if level:
        return Change("no change", "neutral", "level")
    direction: Literal["up", "down"] = "up" if moved > 0 else "down"
    if better == "neutral":
        return Change(text, "neutral", direction)
    return Change(text, "good" if direction == better else "bad", direction)


def _local(value: datetime | date, zone: ZoneInfo | None) -> datetime | date:
    if not isinstance(value, datetime):
        return value
    if zone is None:
        raise ValueError("An instant needs the reporting zone. Pass zone=.")
    return checked_instant(value).astimezone(zone)
