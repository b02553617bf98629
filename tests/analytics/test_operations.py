"""Models, incidents, holds and the deferred queue against plain counts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from credit_core.analytics.filters import Filters, Period
from credit_core.analytics.queries import operations
from credit_core.analytics.sync import Facts
from credit_core.store import schema
from tests.analytics.ledgers import START, Ledger
from tests.analytics.plainly import PLAINLY, behind, quantile

Copy = Callable[..., Facts]
EVER = Filters(Period(START - timedelta(days=2), START + timedelta(days=14)))


@pytest.mark.parametrize("filters", [EVER, EVER.narrowed(plans=("premium",))])
def test_models_have_the_figures_of_their_entries(town: Ledger, facts: Facts, filters: Filters) -> None:
    found = operations.models(facts, filters)
    entries = [row for row in behind(town.entries, filters) if row["model"] is not None]

    assert list(found["ended"]) == sorted(found["ended"], reverse=True)
    for row in found.to_dict("records"):
        mine = [entry for entry in entries if entry["model"] == row["model"]]
        failed, ended = (figure(mine) for figure in PLAINLY["failure_rate"] if figure is not None)
        refunds, settles = (figure(mine) for figure in PLAINLY["refund_rate"] if figure is not None)
        took = [entry["latency_ms"] for entry in mine if entry["latency_ms"] is not None]
        assert row["ended"] == ended
        assert (row["failure_rate"], row["refund_rate"]) == pytest.approx((failed / ended, refunds / settles))
        assert (row["p50_ms"], row["p95_ms"]) == pytest.approx((quantile(took, 0.5), quantile(took, 0.95)))


def test_incidents_are_counted_by_user_and_by_day(town: Ledger, facts: Facts, whole: Filters) -> None:
    counted = {
        "rate_limited": "rate_limit_hits",
        "over_limit": "limit_hits",
        "blocked": "blocked_attempts",
        "anomalies": "anomalies",
        "late": "late_settles",
    }
    totals = {name: PLAINLY[slug][0](behind(town.entries, whole)) for name, slug in counted.items()}
    assert min(totals.values()) > 0

    people = operations.incidents(facts, whole)
    days = operations.incidents_by_day(facts, whole).groupby("incident")["number"].sum()

    assert {name: people[name].sum() for name in totals} == totals
    assert days.to_dict() == totals | {"duplicates": 0}
    met = people[[*totals, "failed"]].sum(axis=1)
    assert list(met) == sorted(met, reverse=True)
    assert met.min() > 0


def test_holds_are_classed_by_age_and_by_lifetime(ledger: Ledger, copied: Copy) -> None:
    now = START + timedelta(hours=2)
    ledger.account("a")
    ledger.account("b", plan="free")
    aged = [("a", 5, 900), ("a", 60, 900), ("b", 299, 900), ("b", 900, 3_600), ("a", 901, 840), ("b", 970, 900)]
    for number, (account, age_s, ttl_s) in enumerate(aged):
        reserved = now - timedelta(seconds=age_s)
        row = {"leg_id": f"h{number}", "account_id": account, "user_id": f"u-{account}", "request_id": f"r{number}",
               "amount_uc": 1, "reserved_at": reserved, "expires_at": reserved + timedelta(seconds=ttl_s)}  # fmt: skip
        ledger.add(schema.holds, row)
    facts = copied(ledger.write())

    def classed(filters: Filters) -> dict[str, tuple[int, int]]:
        rows = operations.holds_by_age(facts, filters, now).to_dict("records")
        return {row["age"]: (row["holds"], row["accounts"]) for row in rows}

    assert classed(EVER) == {
        "under 1 min": (1, 1),
        "1 to 5 min": (2, 2),
        "5 to 15 min": (0, 0),
        operations.OLDEST: (1, 1),
        operations.STUCK: (2, 2),
    }
    assert classed(EVER.narrowed(plans=("free",)))[operations.STUCK] == (1, 1)


def test_the_deferred_queue_follows_the_ledger(ledger: Ledger, copied: Copy) -> None:
    ledger.account("a")
    ledger.account("b", plan="free")
    waiting = [
        {"leg_id": f"d{number}", "account_id": name, "user_id": f"u-{name}", "request_id": f"r{number}",
         "deferred_at": START + timedelta(minutes=minutes), "expires_at": START + timedelta(days=1, minutes=minutes)}
        for number, (name, minutes) in enumerate([("b", 30), ("a", 10)])
    ]  # fmt: skip
    ledger.add(schema.deferrals, waiting[0])
    ledger.grant("a", START)
    facts = copied(ledger.write())
    now = START + timedelta(hours=1)

    first = operations.deferred_queue(facts, EVER, now)
    assert (list(first["user_id"]), list(first["age_s"])) == (["u-b"], [1_800.0])

    ledger.add(schema.deferrals, waiting[1])
    facts.follow()
    second = operations.deferred_queue(facts, EVER, now)
    assert (list(second["request_id"]), list(second["age_s"])) == (["r1", "r0"], [3_000.0, 1_800.0])
    assert list(operations.deferred_queue(facts, EVER.narrowed(plans=("free",)), now)["request_id"]) == ["r0"]
