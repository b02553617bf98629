"""Amounts, instants and identifiers: the units of SPEC 1, and the only places where they are converted.

Amounts are integer micro-units (``_uc``, ``_usd_micro``); instants are aware UTC datetimes in Python and integer
microseconds since 1970-01-01T00:00Z in storage (``_us``).
"""

from __future__ import annotations

import math
import re
import unicodedata
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from ipaddress import IPv6Address, IPv6Network, ip_address
from numbers import Real
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from credit_core.errors import InvalidAmount, InvalidInstant, InvalidRequest

MICRO = 1_000_000
DAY_S = 86_400.0
DAY_US = 86_400 * MICRO
#: Largest amount accepted from a caller: a thousandth of what int64 holds, so that sums over accounts stay exact.
MAX_AMOUNT = 9_000_000_000_000_000
#: Characters of an id.
MAX_ID = 128
#: A text that some spreadsheet takes for a formula, leading blanks and all; for Python, and for RE2 as Arrow has it.
FORMULA = "^[ \u00a0\u3000]*[=+@\t\r\n\uff1d\uff0b\uff0d\uff20-]"
#: How the user ids of guests begin; a session id follows.
GUEST = "guest:"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

Number = int | float | Decimal | Fraction


def credits_to_uc(credits: Number | str) -> int:
    """Credits → micro-credits, rounded once, half-even. Raises :class:`InvalidAmount` on NaN, infinity and overflow."""
    return _to_micro(credits, "credits")


def dollars_to_usd_micro(dollars: Number | str) -> int:
    """Dollars → micro-dollars, rounded once, half-even."""
    return _to_micro(dollars, "dollars")


def uc_to_credits(amount_uc: int) -> float:
    """Micro-credits → credits, for display and for the controller's arithmetic; never written back to the ledger."""
    return amount_uc / MICRO


def round_half_even(value: Fraction | int, divisor: int = 1) -> int:
    """The integer nearest to value/divisor, ties to even, exactly."""
    return round(Fraction(value) / divisor)


def portion(amount: int, numerator: int, denominator: int) -> int:
    """amount·numerator/denominator to the nearest integer, ties to even, exactly; amount and numerator ≥ 0.

    Whole numbers throughout, so that it also compiles: in 64 bits as long as numerator·denominator fits.
    """
    rest = amount % denominator * numerator
    below = amount // denominator * numerator + rest // denominator
    twice = 2 * (rest % denominator)
    if twice > denominator or (twice == denominator and below % 2 == 1):
        return below + 1
    return below


def ratio(value: float) -> tuple[int, int]:
    """The decimal value of ``value`` as (numerator, denominator) in lowest terms: 0.4 is (2, 5)."""
    exact = Fraction(Decimal(repr(float(value))))
    return exact.numerator, exact.denominator


def checked_uc(amount_uc: object, name: str = "amount_uc", *, minimum: int = 0) -> int:
    """``amount_uc`` if it is an integer in [minimum, MAX_AMOUNT], else :class:`InvalidAmount`."""
    if isinstance(amount_uc, bool) or not isinstance(amount_uc, int):
        raise InvalidAmount(
            f"{name} must be a whole number of micro-units, got {_shown(amount_uc)}. Convert with credits_to_uc()."
        )
    if not minimum <= amount_uc <= MAX_AMOUNT:
        raise InvalidAmount(f"{name} must lie between {minimum} and {MAX_AMOUNT}, got {_shown(amount_uc)}.")
    return amount_uc


def checked_count(count: object, name: str, least: int, most: int) -> int:
    """``count`` if it is an integer in [least, most], else :class:`InvalidRequest`."""
    if isinstance(count, bool) or not isinstance(count, int):
        raise InvalidRequest(f"{name} must be a whole number, got {_shown(count)}.")
    if not least <= count <= most:
        raise InvalidRequest(f"{name} must lie between {least} and {most}, got {_shown(count)}.")
    return count


def checked_real(value: object, name: str, least: float, most: float) -> float:
    """``value`` as a float if it is a finite number in [least, most], else :class:`InvalidRequest`. Never −0.0."""
    try:
        real = float(value) if not isinstance(value, bool) and isinstance(value, Real) else math.nan
    except OverflowError:
        real = math.inf
    if not least <= real <= most:
        raise InvalidRequest(f"{name} must be a number between {least:g} and {most:g}, got {_shown(value)}.")
    # SQLite stores −0.0 as 0.0, and what is hashed must be what is stored.
    return real + 0.0


def checked_instant(at: object, name: str = "at") -> datetime:
    """``at`` in UTC; a naive datetime is refused with :class:`InvalidInstant`."""
    if type(at) is datetime and at.tzinfo is UTC:
        return at
    if not isinstance(at, datetime):
        raise InvalidInstant(f"{name} must be an aware datetime, got {at!r}. Use datetime.now(datetime.UTC).")
    if at.tzinfo is None or at.utcoffset() is None:
        raise InvalidInstant(f"{name} must be timezone-aware, got the naive {at.isoformat()}. Add tzinfo=datetime.UTC.")
    return at.astimezone(UTC)


def to_us(at: datetime) -> int:
    """Aware instant → microseconds since the epoch, exactly."""
    if type(at) is not datetime or at.tzinfo is not UTC:
        at = checked_instant(at)
    return (at - _EPOCH) // _MICROSECOND


def from_us(us: int) -> datetime:
    """Microseconds since the epoch → aware UTC instant, exactly."""
    return _EPOCH + us * _MICROSECOND


def checked_id(value: object, name: str, *, limit: int = MAX_ID) -> str:
    """``value`` trimmed, if it is text of 1..``limit`` printable characters, else :class:`InvalidRequest`."""
    if not isinstance(value, str):
        raise InvalidRequest(f"{name} must be text of 1 to {limit} printable characters, got {type(value).__name__}.")
    trimmed = value.strip()
    if not 1 <= len(trimmed) <= limit or not trimmed.isprintable():
        raise InvalidRequest(f"{name} must be 1 to {limit} printable characters after trimming, got {trimmed[:140]!r}.")
    return trimmed


def checked_user(value: object) -> str:
    """A user id: as any id, or that of a guest, which is :data:`GUEST` and a session id."""
    guest = isinstance(value, str) and value.strip().startswith(GUEST)
    return checked_id(value, "user_id", limit=MAX_ID + len(GUEST) if guest else MAX_ID)


def checked_ip(value: object) -> str:
    """An IPv4 or IPv6 address in its canonical form, else :class:`InvalidRequest`."""
    try:
        return str(ip_address(value.strip() if isinstance(value, str) else ""))
    except ValueError as error:
        raise InvalidRequest(f"ip must be an IPv4 or IPv6 address, got {value!r}.") from error


def ip_prefix(ip: str) -> str:
    """What counts as one address: IPv4 whole, IPv6 its /64, which one subscriber holds."""
    address = ip_address(ip)
    if isinstance(address, IPv6Address):
        mapped = address.ipv4_mapped
        return str(mapped) if mapped is not None else str(IPv6Network((address, 64), strict=False))
    return str(address)


def checked_text(value: object, name: str, *, limit: int = 1_000) -> str:
    """Free text trimmed: at most ``limit`` characters, no control characters but newline and tab."""
    if not isinstance(value, str):
        raise InvalidRequest(f"{name} must be text, got {type(value).__name__}.")
    trimmed = value.strip()
    if len(trimmed) > limit:
        raise InvalidRequest(f"{name} must be at most {limit} characters after trimming, got {len(trimmed)}.")
    if any(unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t" for c in trimmed):
        raise InvalidRequest(f"{name} must not contain control characters.")
    return trimmed


def checked_zone(name: object) -> ZoneInfo:
    """The IANA zone called ``name``, else :class:`InvalidRequest`."""
    try:
        if not isinstance(name, str):
            raise ValueError(name)
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidRequest(
            f"{name!r} is not an IANA time zone. Use a name such as 'Europe/Berlin' or 'UTC'."
        ) from error


def _to_micro(value: Number | str, unit: str) -> int:
    try:
        exact = (
            value
            if isinstance(value, int | Fraction)
            else Decimal(repr(float(value)) if isinstance(value, float) else value)
        )
    except (ValueError, ArithmeticError, TypeError) as error:
        raise InvalidAmount(f"{unit} must be a number, got {_shown(value)}.") from error
    if isinstance(exact, Decimal):
        if not exact.is_finite():
            raise InvalidAmount(f"{unit} must be a finite number, got {_shown(value)}.")
        # Judged by its exponent first: writing 1e4000000 out would take minutes.
        if exact and exact.adjusted() < -12:
            return 0
        if exact and exact.adjusted() > 20:
            raise _too_large(value, unit)
    micro = round_half_even(Fraction(exact) * MICRO)
    if abs(micro) > MAX_AMOUNT:
        raise _too_large(value, unit)
    return micro


def _too_large(value: object, unit: str) -> InvalidAmount:
    return InvalidAmount(f"{unit} must lie within ±{MAX_AMOUNT // MICRO}, got {_shown(value)}.")


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:
        return "a number of thousands of digits"
    return text if len(text) <= 60 else f"{text[:57]}…"


def spreadsheet_text(value: object) -> object:
    """A cell for CSV: text that a spreadsheet would calculate gets a leading apostrophe; all else stays as it is."""
    return f"'{value}" if isinstance(value, str) and re.match(FORMULA, value) else value


def format_credits(amount_uc: int | None) -> str:
    """Credits for people: thin-space thousands, at most one decimal, '–' for unknown (DASHBOARD, Numbers)."""
    if amount_uc is None:
        return "–"
    tenths = (Decimal(amount_uc) / MICRO).quantize(Decimal("0.1"), rounding=ROUND_HALF_EVEN)
    text = f"{tenths:,.1f}".removesuffix(".0").replace(",", "\u2009")
    return "0" if text == "-0" else text.replace("-", "\u2212")
