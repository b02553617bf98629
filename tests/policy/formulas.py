"""SPEC 1, 2.2 and 4 written a second time, from the text alone and by other means: exact fractions, 60-digit decimals.

Nothing of ``credit_core`` is imported. A state is any object with the fields of SPEC 4's log; a configuration is its plain
JSON body; a float means the decimal number that it is written as. The tests hold the product against this file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Context, Decimal
from fractions import Fraction
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

MICRO = 10**6
_SIXTY_DIGITS = Context(prec=60)


def exact(number: float) -> Fraction:
    """The number as it is written: 0.98 is 98/100."""
    return Fraction(str(number))


def credits(amount_uc: int) -> Fraction:
    return Fraction(amount_uc, MICRO)


def half_even(number: Fraction) -> int:
    below = number.numerator // number.denominator
    twice_the_rest = 2 * (number - below)
    up = twice_the_rest > 1 or (twice_the_rest == 1 and below % 2 == 1)
    return below + up


# ------------------------------------------------------------------------------------------------- the law of SPEC 4


def _decimal(number: Fraction) -> Decimal:
    return _SIXTY_DIGITS.divide(Decimal(number.numerator), Decimal(number.denominator))


def power_of_e(x: Fraction) -> Fraction:
    return Fraction(_SIXTY_DIGITS.exp(_decimal(x)))


def logit(p: Fraction) -> Fraction | float:
    """ln p − ln(1 − p); endless at 0 and 1."""
    if p in (0, 1):
        return math.inf if p == 1 else -math.inf
    return Fraction(_SIXTY_DIGITS.ln(_decimal(p))) - Fraction(_SIXTY_DIGITS.ln(_decimal(1 - p)))


def sigma(z: Fraction | float) -> Fraction:
    if abs(z) > 500:  # e^−500 is 1e−217: beyond what 1e−12 can see
        return Fraction(int(z > 0))
    return 1 / (1 + power_of_e(-Fraction(z)))


def between(low: Fraction, x: Fraction, high: Fraction) -> Fraction:
    return low if x < low else high if x > high else x


def on_pace(quota: Fraction, length: Fraction, left: Fraction) -> Fraction:
    return quota / length * left


def unit_of_surplus(name: str, quota: Fraction, length: Fraction) -> Fraction:
    return {"credits": Fraction(1), "days": quota / length, "quota_percent": quota / 100}[name]


def expected_demand(prior: float, weight_days: float, so_far: float, days: float) -> Fraction:
    return (exact(prior) * exact(weight_days) + exact(so_far)) / (exact(weight_days) + exact(days))


def intercept(law: Mapping[str, Any], quota: Fraction, length: Fraction, demand: float | None) -> Fraction | float:
    if law["intercept"] == "fixed" or demand is None:
        return logit(exact(law["p_at_zero"]))
    low, high = exact(law["p_min"]), exact(law["p_max"])
    # No demand at all can be met in full.
    return logit(high if demand == 0 else between(low, quota / length / exact(demand), high))


def mode_after(mode: str, days: Fraction, edges: Mapping[str, float]) -> str:
    if mode == "conserve" and days >= exact(edges["conserve_leave_days"]):
        mode = "steady"
    if mode == "spend" and days <= exact(edges["spend_leave_days"]):
        mode = "steady"
    if days <= exact(edges["conserve_enter_days"]):
        mode = "conserve"
    if days >= exact(edges["spend_enter_days"]):
        mode = "spend"
    return mode


class Judgement(NamedTuple):
    """What SPEC 4 says of one request. ``margin``: how far the nearest comparison was from going the other way."""

    rule: str
    status: str
    outcome: str | None
    miss: bool
    forced: bool
    mode: str
    surplus: Fraction
    surplus_days: Fraction
    p0: Fraction
    nudges: tuple[Fraction, ...]
    p: Fraction
    premium: bool
    margin: Fraction


def _logistic(state: Any, body: Mapping[str, Any]) -> Fraction:
    law, (A, Q, L, d) = body["controller"], _amounts_and_days(state)
    b = intercept(law, Q, L, state.demand_rate)
    z = exact(law["k"]) * (A - on_pace(Q, L, d)) / unit_of_surplus(law["surplus_unit"], Q, L)
    return sigma(b) if isinstance(b, float) else sigma(z + b)


def _affordable(state: Any, body: Mapping[str, Any]) -> Fraction:
    A, Q, L, d = _amounts_and_days(state)
    asked = d * (Q / L if state.demand_rate is None else exact(state.demand_rate))
    return min(Fraction(1), exact(body["strategies"]["affordable_gamma"]) * A / asked) if asked else Fraction(1)


def _reserve(state: Any, body: Mapping[str, Any]) -> Fraction:
    A, Q, L, d = _amounts_and_days(state)
    over = A - credits(state.cost_uc) - exact(body["strategies"]["reserve_rho"]) * on_pace(Q, L, d)
    return Fraction(int(over >= 0))


def _headroom(state: Any, body: Mapping[str, Any]) -> Fraction:
    A, Q, L, d = _amounts_and_days(state)
    settings = {
        name.removeprefix("headroom_"): exact(value) for name, value in body["strategies"].items() if "headroom" in name
    }
    room = settings["requests"] * max(credits(state.largest_uc), credits(state.cost_uc))
    kept = Fraction(0) if d / L <= settings["until"] else min(room, settings["most"] * Q)
    return Fraction(int(A - credits(state.cost_uc) >= max(kept, settings["rho"] * on_pace(Q, L, d))))


def _weighted(state: Any, body: Mapping[str, Any]) -> Fraction:
    A, Q, L, d = _amounts_and_days(state)
    signals = {
        "surplus": between(Fraction(0), Fraction(1, 2) + (A - on_pace(Q, L, d)) / (2 * Q), Fraction(1)),
        "freshness": power_of_e(-Fraction(state.session_images) / exact(body["nudges"]["freshness_tau"])),
        "credit": min(A / Q, Fraction(1)),
        "library": Fraction(0) if state.coverage is None else 1 - exact(state.health),
    }
    weights = {name: exact(body["strategies"][f"weight_{name}"]) for name in signals}
    return sum(weights[name] * signals[name] for name in signals) / sum(weights.values())


def _zones(state: Any, body: Mapping[str, Any]) -> Fraction:
    A, Q, _, _ = _amounts_and_days(state)
    zones = {name: exact(value) for name, value in body["strategies"].items() if name.startswith("zone_")}
    level = A / Q
    if level > zones["zone_green"]:
        return Fraction(1)
    return zones["zone_p_red"] if level < zones["zone_red"] else zones["zone_p_yellow"]


def _amounts_and_days(state: Any) -> tuple[Fraction, Fraction, Fraction, Fraction]:
    return credits(state.paced_uc), credits(state.quota_uc), exact(state.cycle_days), exact(state.days_left)


BASES: dict[str, Callable[[Any, Mapping[str, Any]], Fraction]] = {
    "logistic": _logistic,
    "affordable": _affordable,
    "reserve": _reserve,
    "headroom": _headroom,
    "weighted": _weighted,
    "zones": _zones,
    "novelty": lambda state, _: Fraction(int(state.cell_new)),
    "thompson": lambda state, _: exact(0.5 if state.arm_p is None else state.arm_p),
}


def judge(state: Any, body: Mapping[str, Any], u01: float) -> Judgement:
    """Rules 1 to 8, the law behind rule 8, and the routing, of one request."""
    law, nudging, session, plan = body["controller"], body["nudges"], body["session"], body["plans"][state.plan]
    A, Q, L, d = _amounts_and_days(state)
    S = A - on_pace(Q, L, d)
    days = S * L / Q

    p0 = BASES[law["strategy"]](state, body)
    # Only the logistic law has nudges and modes of itself; `affordable` may be given them.
    plain = not (
        law["strategy"] == "logistic" or (law["strategy"] == "affordable" and body["strategies"]["affordable_nudged"])
    )

    def span(name: str, x: Fraction) -> Fraction:
        lo, hi = exact(nudging[name]["lo"]), exact(nudging[name]["hi"])
        return lo * (1 - x) + hi * x

    mode = mode_after(state.mode, days, body["hysteresis"])
    asked_cell = state.coverage is not None
    nudges = (
        span("freshness", power_of_e(-Fraction(state.session_images) / exact(nudging["freshness_tau"]))),
        span("credit_health", A / Q if A < Q else Fraction(1)),
        span("library", 1 - exact(state.health)) if asked_cell else Fraction(1),
        exact(nudging["segments"].get(state.segment, nudging["segments"]["default"])),
        exact(nudging["conservation"]) if state.conserving else Fraction(1),
        exact({"steady": 1.0, **{m: body["hysteresis"][f"{m}_factor"] for m in ("conserve", "spend")}}[mode]),
    )
    if plain:
        nudges = (Fraction(1),) * 6
    p = math.prod(nudges, start=p0)
    if not plain or law["strategy"] == "affordable":  # of the others SPEC 4 gives p, not p0
        p = between(exact(law["p_min"]), p, exact(law["p_max"]))

    miss = asked_cell and exact(state.coverage) < exact(plan["coverage_threshold"])
    health_floor = exact(body["coverage"]["health_floor"])
    poor = asked_cell and state.under_represented and exact(state.health) < health_floor
    cost = credits(state.cost_uc)
    session_cost = credits(state.session_fresh_uc) + cost
    session_limit = max(exact(session["max_share"]) * credits(state.session_opening_uc), cost)
    cap = exact(body["coverage"]["at_cap_share"]) * exact(plan["cap_multiple"]) * Q
    applies = {
        "blocked": state.blocked,
        "rate_limited": state.retry_after_s > 0,
        "paused": state.paused,
        "unaffordable": state.cost_uc > state.available_uc,
        "deferred": state.deferred,  # the fresh half of a request that rule 6 put off: SPEC 2.1
        "coverage_miss": miss or poor,
        "session_cap": state.session_fresh >= session["max_fresh"] or session_cost > session_limit,
        "at_cap": A - cap >= 0,
        "controller": True,
    }
    rule = next(name for name in applies if applies[name])
    status, outcome = {
        "blocked": ("REJECTED", None),
        "rate_limited": ("RATE_LIMITED", None),
        "paused": ("REJECTED", None),
        "unaffordable": ("REJECTED", None) if state.deferred else ("LIBRARY", "library"),
        "deferred": ("RESERVED", "fresh"),
        "coverage_miss": ("RESERVED", "fresh"),
        "session_cap": ("DEFERRED", "library"),
        "at_cap": ("RESERVED", "fresh"),
        "controller": ("RESERVED", "fresh") if exact(u01) < p else ("LIBRARY", "library"),
    }[rule]
    threshold = exact(body["routing"]["threshold"])
    edges = [days - exact(edge) for name, edge in body["hysteresis"].items() if name.endswith("_days")]
    floor = exact(body["strategies"]["reserve_rho"]) * on_pace(Q, L, d)
    zones = [A / Q - exact(body["strategies"][name]) for name in ("zone_green", "zone_red")]
    close_calls = [*edges, A - cap, exact(u01) - p, p - threshold]
    close_calls += {"reserve": [A - cost - floor], "zones": zones}.get(law["strategy"], [])
    if state.session_fresh_uc or session_limit != cost:  # else a request meets its own cost, which is no close call
        close_calls.append(session_cost - session_limit)
    forced = rule in ("unaffordable", "coverage_miss", "session_cap", "at_cap")
    margin = min(abs(gap) for gap in close_calls)
    return Judgement(rule, status, outcome, miss, forced, mode, S, days, p0, nudges, p, p > threshold, margin)


# ----------------------------------------------------------------------------------- the draw: BLAKE2b after RFC 7693

_WORD = 2**64
_IV = [math.isqrt(prime << 128) % _WORD for prime in (2, 3, 5, 7, 11, 13, 17, 19)]
_SIGMA = [
    [int(digit, 16) for digit in row]
    for row in (
        "0123456789abcdef",
        "ea489fd61c02b753",
        "b8c052fdae367194",
        "7931dcbe265a40f8",
        "905724afe1bc683d",
        "2c6a0b834d75fe19",
        "c51fed4a0763928b",
        "db7ec13950f4862a",
        "6fe9b308c2d714a5",
        "a2847615fb9e3cd0",
    )
]
_COLUMNS = ((0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15))
_DIAGONALS = ((0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14))


def _rotated(word: int, right: int) -> int:
    return (word >> right | word << (64 - right)) % _WORD


def _compress(h: list[int], block: bytes, counted: int, *, last: bool) -> list[int]:
    m = [int.from_bytes(block[i : i + 8], "little") for i in range(0, 128, 8)]
    v = h + _IV
    v[12] ^= counted
    v[14] ^= (_WORD - 1) * last
    for turn in range(12):
        order = iter(_SIGMA[turn % 10])
        for a, b, c, d in _COLUMNS + _DIAGONALS:
            for first, second in ((32, 24), (16, 63)):
                v[a] = (v[a] + v[b] + m[next(order)]) % _WORD
                v[d] = _rotated(v[d] ^ v[a], first)
                v[c] = (v[c] + v[d]) % _WORD
                v[b] = _rotated(v[b] ^ v[c], second)
    return [h[i] ^ v[i] ^ v[i + 8] for i in range(8)]


def blake2b(message: bytes, key: bytes, digest_size: int) -> bytes:
    h = [_IV[0] ^ 0x01010000 ^ len(key) << 8 ^ digest_size, *_IV[1:]]
    data = (key.ljust(128, b"\0") if key else b"") + message
    blocks = [data[i : i + 128] for i in range(0, len(data), 128)] or [b""]
    for i, block in enumerate(blocks):
        is_last = i == len(blocks) - 1
        h = _compress(h, block.ljust(128, b"\0"), len(data) if is_last else 128 * (i + 1), last=is_last)
    return b"".join(word.to_bytes(8, "little") for word in h)[:digest_size]


def draw(salt: bytes, user_id: str, request_id: str) -> Fraction:
    """The top 53 bits of the keyed digest, as a fraction of 2^53."""
    texts = [text.encode("utf-8") for text in (user_id, request_id)]
    message = b"".join(len(text).to_bytes(4, "big") + text for text in texts)
    return Fraction(int(blake2b(message, salt, 8).hex(), 16) // 2**11, 2**53)


# -------------------------------------------------------------------------------------------- cycles, SPEC 1 and 2.2


def month_after(anchor: date, months: int) -> date:
    """The anchor's day in the month that comes ``months`` later, or that month's last day."""
    year, month = anchor.year, anchor.month
    for _ in range(months):
        year, month = (year, month + 1) if month < 12 else (year + 1, 1)
    for day in range(anchor.day, 0, -1):
        try:
            return date(year, month, day)
        except ValueError:
            continue
    raise AssertionError("no month is empty")


def quarter_hours_around(day: date) -> Iterator[datetime]:
    noon = datetime.combine(day, time(12), tzinfo=UTC)
    return (noon + timedelta(minutes=15 * n) for n in range(-4 * 50, 4 * 50))


def day_begins(day: date, zone: ZoneInfo) -> datetime:
    """The first quarter hour at which calendars in ``zone`` show ``day`` (or, where they never do, a later one)."""
    return next(instant for instant in quarter_hours_around(day) if instant.astimezone(zone).date() >= day)


class Closing(NamedTuple):
    """What SPEC 2.2 does with the unspent credits of a cycle, micro-credits."""

    kept: int
    carried: int
    expired: int
    balance: int


def closing(unspent: int, quota: int, multiple: float, decay: float) -> Closing:
    """Kept, carried and expired, and the balance after the new grant; each amount rounded once, half-even."""
    c, delta = exact(multiple), exact(decay)
    kept = unspent if unspent <= quota else quota + half_even((unspent - quota) * (1 - delta))
    room = half_even(c * quota) - quota
    carried = max(0, min(kept, room))
    return Closing(kept, carried, unspent - carried, carried + quota)
