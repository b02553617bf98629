"""Every metric once more, in plain Python over a list of entries: the second opinion that the SQL must agree with."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from credit_core.analytics.filters import Filters
from credit_core.policy.pricing import value_usd_micro

Row = dict[str, Any]
JUDGED = {"unaffordable", "coverage_miss", "session_cap", "at_cap", "controller"}


def behind(entries: Iterable[Row], filters: Filters) -> list[Row]:
    """The entries that a filter keeps."""
    return [
        row for row in entries if filters.period.start <= row["occurred_at"] < filters.period.end and kept(row, filters)
    ]


def kept(row: Row, filters: Filters) -> bool:
    """Whether the filter's dimensions keep an entry."""
    pairs = (
        ("plan", filters.plans),
        ("region", filters.regions),
        ("model", filters.models),
        ("user_id", filters.users),
    )
    wanted = all(not values or row[name] in values for name, values in pairs)
    if filters.within is not None and row["plan"] not in filters.within:
        return False
    return wanted and (filters.cell is None or (row["genre"], row["mood"]) == filters.cell)


def spent(row: Row) -> int:
    """settle + import − refund, of one entry, micro-credits."""
    if row["kind"] == "settle":
        return -(row["d_avail_uc"] + row["d_held_uc"])
    return -row["d_avail_uc"] if row["kind"] in ("import", "refund") else 0


def is_judged(row: Row) -> bool:
    return row["rule"] in JUDGED and row["outcome"] is not None


def is_declined(row: Row) -> bool:
    if row["rule"] == "unaffordable":
        return row["outcome"] is None
    return row["rule"] in ("blocked", "rate_limited", "paused", "over_limit")


def is_request(row: Row) -> bool:
    return row["rule"] is not None or (row["kind"] == "import" and row["line"] == 1)


def quantile(numbers: list[float], share: float) -> float | None:
    """Interpolated between the two nearest ranks."""
    if not numbers:
        return None
    ordered = sorted(numbers)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def _count(condition: Callable[[Row], bool]) -> Callable[[list[Row]], int]:
    return lambda rows: sum(1 for row in rows if condition(row))


def _legs(*kinds: str) -> Callable[[Row], bool]:
    return lambda row: row["kind"] in kinds and row["line"] == 1


def _moved(kind: str, sign: int) -> Callable[[list[Row]], int]:
    return lambda rows: sum(sign * row["d_avail_uc"] for row in rows if row["kind"] == kind)


def _provider_cost(rows: list[Row]) -> int | None:
    known = [row["cost_usd_micro"] for row in rows if row["cost_usd_micro"] is not None]
    if not known and _count(_legs("settle"))(rows):
        return None
    return sum(known)


def _accounts(condition: Callable[[Row], bool]) -> Callable[[list[Row]], int]:
    return lambda rows: len({row["account_id"] for row in rows if condition(row)})


def _neighbours(rows: list[Row]) -> list[tuple[str, str]]:
    last: dict[tuple[str, str], str] = {}
    pairs = []
    for row in sorted((r for r in rows if is_judged(r) and r["outcome"]), key=lambda r: (r["occurred_at"], r["id"])):
        session = (row["user_id"], row["session_id"])
        if session in last:
            pairs.append((last[session], row["outcome"]))
        last[session] = row["outcome"]
    return pairs


def _valued(amount: Callable[[Row], int]) -> Callable[[list[Row]], int]:
    return lambda rows: sum(value_usd_micro(amount(row), row["unit_price_usd_micro"] or 0) for row in rows)


def _is_sold(row: Row) -> bool:
    return row["kind"] == "grant" and row["line"] == 1 and row["lot_kind"] == "purchased"


_ENDS = _legs("settle", "release", "partial")
_ALL_JUDGED = _count(is_judged)
_Figure = Callable[[list[Row]], Any]
#: slug → (numerator, denominator) over the entries behind a filter.
PLAINLY: dict[str, tuple[_Figure, _Figure | None]] = {
    "spent": (lambda rows: sum(map(spent, rows)), None),
    "burn_rate": (lambda rows: sum(map(spent, rows)), None),
    "granted": (_moved("grant", 1), None),
    "expired": (_moved("expire", -1), None),
    "clamped": (_moved("clamp", -1), None),
    "provider_cost": (_provider_cost, None),
    "packs_sold": (_count(_is_sold), None),
    "pack_sales": (_valued(lambda r: r["d_avail_uc"] if _is_sold(r) else 0), None),
    "lot_revenue": (_valued(spent), None),
    "breakage": (_valued(lambda r: -r["d_avail_uc"] if r["kind"] in ("expire", "clamp") else 0), None),
    "requests": (_count(is_request), None),
    "generations": (lambda rows: sum(row["d_count"] or 0 for row in rows), None),
    "fresh": (_count(lambda r: r["rule"] in {*JUDGED, "allowed"} and r["outcome"] == "fresh"), None),
    "library": (_count(lambda r: is_judged(r) and r["outcome"] == "library"), None),
    "declined": (_count(is_declined), None),
    "blocked_attempts": (_count(lambda r: r["rule"] == "blocked"), None),
    "limit_hits": (_count(lambda r: r["rule"] == "over_limit"), None),
    "rate_limit_hits": (_count(lambda r: r["rule"] == "rate_limited"), None),
    "anomalies": (_count(lambda r: r["anomaly"] is True and r["line"] == 1), None),
    "coverage_misses": (_count(lambda r: is_judged(r) and r["miss"]), None),
    "session_capped": (_count(lambda r: r["rule"] == "session_cap"), None),
    "unaffordable": (_count(lambda r: r["rule"] == "unaffordable"), None),
    "fresh_rate": (_count(lambda r: is_judged(r) and r["outcome"] == "fresh"), _ALL_JUDGED),
    "fresh_rate_chosen": (
        _count(lambda r: r["rule"] == "controller" and r["outcome"] == "fresh"),
        _count(lambda r: r["rule"] == "controller"),
    ),
    "coverage_miss_rate": (_count(lambda r: is_judged(r) and r["miss"]), _ALL_JUDGED),
    "session_capped_share": (_count(lambda r: r["rule"] == "session_cap"), _ALL_JUDGED),
    "unaffordable_share": (_count(lambda r: is_judged(r) and r["rule"] == "unaffordable"), _ALL_JUDGED),
    "idle_library_share": (
        _count(lambda r: r["rule"] == "controller" and r["outcome"] == "library" and r["surplus_days"] > 3),
        _count(lambda r: r["rule"] == "controller" and r["outcome"] == "library"),
    ),
    "flicker": (lambda rows: sum(one != two for one, two in _neighbours(rows)), lambda rows: len(_neighbours(rows))),
    "failure_rate": (
        _count(lambda r: _legs("release")(r) and r["reason"] not in ("swept", "cancelled")),
        _count(_ENDS),
    ),
    "partial_rate": (_count(_legs("partial")), _count(_ENDS)),
    "refund_rate": (_count(_legs("refund")), _count(_legs("settle"))),
    "late_settles": (_count(lambda r: r["reason"] == "late_settle"), None),
    "swept": (_count(lambda r: _legs("release")(r) and r["reason"] == "swept"), None),
    "latency_p50_ms": (
        lambda rows: quantile([r["latency_ms"] for r in rows if r["latency_ms"] is not None], 0.5),
        None,
    ),
    "latency_p95_ms": (
        lambda rows: quantile([r["latency_ms"] for r in rows if r["latency_ms"] is not None], 0.95),
        None,
    ),
    "authorize_p95_ms": (
        lambda rows: quantile([r["authorize_ms"] for r in rows if r["authorize_ms"] is not None], 0.95),
        None,
    ),
    "active_accounts": (_accounts(is_request), None),
    "new_accounts": (_count(lambda r: r["seq"] == 1), None),
    "run_out_share": (_accounts(lambda r: r["rule"] == "unaffordable"), _accounts(is_request)),
}
#: slug → figure over the entries up to the end of the period.
TO_DATE: dict[str, _Figure] = {
    "liability": _valued(lambda r: r["d_avail_uc"] + r["d_held_uc"]),
    "outstanding": lambda rows: sum(r["d_avail_uc"] + r["d_held_uc"] for r in rows),
    "open_holds": lambda rows: _count(_legs("reserve"))(rows) - _count(_ENDS)(rows),
    "open_holds_credits": lambda rows: sum(row["d_held_uc"] for row in rows),
}
