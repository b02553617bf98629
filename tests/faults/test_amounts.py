"""Amounts that are none: NaN, infinite, negative, huge, fractional, text. Every call refuses them and writes nothing (SPEC 1)."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from credit_core import CreditCore, CreditError
from credit_core.service.offline import Spend
from tests.service.scenes import CREDIT, NOW, ask, everything

#: No whole number of anything.
NEVER = [
    math.nan, math.inf, -math.inf, 0.5, 1.0, 1e300, Decimal(1), Decimal("NaN"), Fraction(1, 3), "1", "", None, True, b"1", [1], 1 + 0j,
]  # fmt: skip
HUGE = [2**63 - 1, 2**63, 2**64, 10**30, 10**5_000]
NEGATIVE = [-1, -CREDIT, -(2**63), -(10**30)]

Call = Callable[[CreditCore, Any], object]
#: Each amount of the public calls, and what it refuses besides what is no whole number.
CALLS: dict[str, tuple[Call, list[Any]]] = {
    "authorize images": (lambda core, bad: ask(core, "r-2", images=bad), [0, 1_001, *HUGE, *NEGATIVE]),
    "settle actual": (lambda core, bad: core.settle("ada", "r-1", bad, at=NOW), [5 * CREDIT + 1, *HUGE, *NEGATIVE]),
    "settle cost": (lambda core, bad: core.settle("ada", "r-1", cost_usd_micro=bad, at=NOW), [*HUGE, *NEGATIVE]),
    "release cost": (
        lambda core, bad: core.release("ada", "r-1", "provider_error", at=NOW, cost_usd_micro=bad),
        [*HUGE, *NEGATIVE],
    ),
    "partial cost": (lambda core, bad: core.partial("ada", "r-1", at=NOW, cost_usd_micro=bad), [*HUGE, *NEGATIVE]),
    "refund": (
        lambda core, bad: core.refund("ada", "r-0", bad, "k", "sam", "sorry", at=NOW),
        [0, 2 * CREDIT + 1, *HUGE, *NEGATIVE],
    ),
    "grant": (lambda core, bad: core.grant("ada", bad, "bonus", "k", at=NOW), [0, *HUGE, *NEGATIVE]),
    "grant price": (
        lambda core, bad: core.grant("ada", CREDIT, "bonus", "k", unit_price_usd_micro=bad, at=NOW),
        [*HUGE, *NEGATIVE],
    ),
    "adjust": (
        lambda core, bad: core.adjust("ada", bad, "k", "sam", "sorry", at=NOW),
        [0, -200 * CREDIT, *HUGE, -(2**63), -(10**30)],
    ),
    "sync images": (
        lambda core, bad: core.sync("ada", [Spend("o-1", NOW), Spend("o-2", NOW, images=bad)], at=NOW),
        [0, 1_001, *HUGE, *NEGATIVE],
    ),
    "library count": (lambda core, bad: core.library.put("jazz", "calm", bad, at=NOW), [0, 10**7, *HUGE, *NEGATIVE]),
    "claim limit": (lambda core, bad: core.claim_deferred(bad, at=NOW), [0, 10_001, *HUGE, *NEGATIVE]),
    "history limit": (lambda core, bad: core.history("ada", 0, bad), [0, 10_001, *HUGE, *NEGATIVE]),
}
#: Amounts that may be left out.
OPTIONAL = {"settle actual", "settle cost", "release cost", "partial cost"}
REALS: dict[str, Call] = {
    "latency": lambda core, bad: core.settle("ada", "r-1", latency_ms=bad, at=NOW),
    "reward": lambda core, bad: core.reward("ada", "r-0", bad, at=NOW),
    "share": lambda core, bad: core.release_version(1, bad, author="olga"),
    "tunable": lambda core, bad: core.propose({"controller.p_max": bad}, "olga", "note"),
}


@pytest.fixture
def ada(fresh_core: CreditCore) -> CreditCore:
    """Ada with r-0 charged two credits and r-1 holding five."""
    fresh_core.add_user("ada", "basic", at=NOW)
    ask(fresh_core, "r-0", images=2)
    fresh_core.settle("ada", "r-0", at=NOW)
    ask(fresh_core, "r-1", images=5)
    return fresh_core


def refused(core: CreditCore, call: Call, values: list[Any]) -> list[Any]:
    """Those of ``values`` that a call does not refuse in our own words."""
    taken = []
    for bad in values:
        try:
            call(core, bad)
        except CreditError:
            continue
        taken.append(bad)
    return taken


def test_no_call_takes_an_amount_that_is_none(ada: CreditCore) -> None:
    before = everything(ada)
    for name, (call, out_of_bounds) in CALLS.items():
        values = [bad for bad in (*NEVER, *out_of_bounds) if bad is not None or name not in OPTIONAL]
        assert refused(ada, call, values) == [], name
        assert everything(ada) == before, name
    assert ada.verify() == []


def test_no_call_takes_a_real_that_is_not_finite_or_out_of_bounds(ada: CreditCore) -> None:
    before = everything(ada)
    for name, call in REALS.items():
        values = [math.nan, math.inf, -math.inf, -0.001, -1, 1e300, 10**5_000, "0.5", 1 + 0j, [0.5]]
        assert refused(ada, call, values) == [], name
        assert everything(ada) == before, name
    assert ada.verify() == []
