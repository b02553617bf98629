"""What is present, requests by day, and targets with the error budget that is left."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pandas as pd
import pytest

from credit_core.analytics import queries
from credit_core.analytics.filters import Filters, Period
from credit_core.analytics.sync import Facts
from credit_core.policy.config import Config
from credit_core.store import schema
from tests.analytics.ledgers import START, Ledger

Copy = Callable[..., Facts]
CONFIG = Config()


def test_options_are_the_values_present_sorted(facts: Facts) -> None:
    present = queries.options(facts)
    assert present.plans == ("basic", "free", "premium")
    assert present.regions == ("eu", "us")
    assert present.terms == tuple(queries.Terms(plan, "titrated_monthly", "titrated") for plan in present.plans)
    assert present.models == ("dalle-3-hd", "stable-diffusion-xl")
    assert present.cells == tuple((genre, mood) for genre in ("folk", "noir", "pop") for mood in ("bright", "calm"))


def test_as_of_an_empty_ledger_is_unknown(ledger: Ledger, copied: Copy) -> None:
    known = queries.as_of(copied(ledger), START)
    assert known == (None, None, 0, 0, 0.0, "UTC", 1)
    assert queries.options(copied(ledger)) == ((), (), (), (), (), ())


def test_daily_outcomes_are_the_daily_metrics_side_by_side(facts: Facts, whole: Filters) -> None:
    frame = queries.daily_outcomes(facts, whole)
    assert list(frame) == [
        "day",
        "active_accounts",
        "requests",
        "fresh",
        "library",
        "misses",
        "declined",
        "limit_hits",
        "generations",
    ]
    for name, slug in (
        ("active_accounts",) * 2,
        ("requests",) * 2,
        ("fresh",) * 2,
        ("library",) * 2,
        ("misses", "coverage_misses"),
        ("declined",) * 2,
        ("limit_hits",) * 2,
        ("generations",) * 2,
    ):
        assert frame[name].to_list() == queries.daily(facts, whole, slug)["numerator"].to_list()


def test_targets_tell_how_much_of_the_error_budget_is_left(facts: Facts, whole: Filters) -> None:
    frame = queries.slos(facts, whole, CONFIG).set_index("slug")
    misses = queries.value(facts, whole, "coverage_miss_rate")
    row = frame.loc["coverage_miss_rate"]
    assert (row["value"], row["target"], row["met"]) == (misses.value, 0.05, False)
    assert row["budget_left_share"] == pytest.approx(1 - misses.value / 0.05)
    now = queries.surplus_now(facts, whole)["surplus_days"]
    assert frame.loc["behind_share", "value"] == (now < -3).mean()
    assert frame.loc["authorize_p95_ms", "met"]
    assert frame.loc["stuck_holds", ["value", "met", "budget_left_share"]].to_list() == [0.0, True, 1.0]
    for unknown in ("at_cap_share", "desync"):
        assert pd.isna(frame.loc[unknown, "value"])
        assert pd.isna(frame.loc[unknown, "met"])


def test_stuck_holds_and_desync_must_be_none_at_all(ledger: Ledger, copied: Copy) -> None:
    ledger.account("a")
    ledger.grant("a", START)
    late = {
        "leg_id": "h",
        "account_id": "a",
        "user_id": "u-a",
        "request_id": "r",
        "amount_uc": 1,
        "expires_at": START - timedelta(seconds=61),
    }
    ledger.add(schema.holds, late)
    ledger.add(schema.checks, {"checked_at": START, "violations": {"1": 4}})
    frame = queries.slos(copied(ledger.write()), Filters(Period(START, START + timedelta(days=1))), CONFIG).set_index(
        "slug"
    )
    assert frame.loc["stuck_holds", ["value", "met", "budget_left_share"]].to_list() == [1.0, False, 0.0]
    assert frame.loc["desync", ["value", "met"]].to_list() == [4.0, False]
    assert pd.isna(frame.loc["coverage_miss_rate", "met"])
