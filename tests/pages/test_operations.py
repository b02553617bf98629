"""Operations: rates, latencies and incidents are the ledger's own; what waits and what is held is of this moment."""

from __future__ import annotations

import pytest

from credit_core import CreditCore
from pages.components import numbers
from tests.analytics.plainly import quantile
from tests.pages.conftest import DEMO_ZONE, HOSTILE, NARROWED, OpenPage
from tests.pages.reading import (
    Kept,
    card,
    drawn_text,
    figure,
    figures,
    last_days,
    ledger_sum,
    markdown_of,
    plain,
    rows,
    sentence,
    traces,
    words,
)
from tests.service.scenes import FRESH_FOR_ALL, NOW, StoppedClock, ask, make_live

ENDED = "SUM(line = 1 AND kind IN ('settle', 'release', 'partial'))"
FAILED = "SUM(line = 1 AND kind = 'release' AND reason NOT IN ('swept', 'cancelled'))"
LATENCIES = "GROUP_CONCAT(latency_ms)"


@pytest.mark.parametrize(("query", "kept", "days"), NARROWED)
def test_totals_are_the_ledgers_own(
    demo_ledger: str, look_at: OpenPage, query: dict[str, str], kept: Kept, days: int
) -> None:
    span = last_days(demo_ledger, days, DEMO_ZONE)
    ended, failed = (ledger_sum(demo_ledger, what, kept, *span) for what in (ENDED, FAILED))
    took = [float(part) for part in ledger_sum(demo_ledger, LATENCIES, kept, *span).split(",")]

    page = look_at(demo_ledger, "operations", query)

    assert card(page, "Failure rate") == numbers.share(failed / ended)
    assert card(page, "Generation, p95") == numbers.milliseconds(quantile(took, 0.95))
    assert f"of {numbers.count(ended)} generations failed" in sentence(page)
    limited = ledger_sum(demo_ledger, "SUM(rule = 'rate_limited')", kept, *span)
    assert card(page, "Rate-limit hits") == numbers.count(limited)
    assert rows(page, "models")["ended"].sum() == ended
    if failed or limited:
        people = rows(page, "met_limits")
        assert (people["failed"].sum(), people["rate_limited"].sum()) == (failed, limited)


def test_rates_by_day_keep_their_day(demo_ledger: str, look_at: OpenPage) -> None:
    page = look_at(demo_ledger, "operations")

    span = last_days(demo_ledger, 28, DEMO_ZONE)
    (failed,) = (trace for trace in traces(figure(page, "rates"), "scatter") if trace.get("name") == "Failed")
    worst = max(value for value in failed["y"] if value is not None)
    day = "strftime('%Y-%m-%d', occurred_at / 1000000 + 3600, 'unixepoch')"
    parts = ledger_sum(demo_ledger, f"100.0 * {FAILED} / NULLIF({ENDED}, 0)", {}, *span, by=day)
    assert worst == pytest.approx(max(value for value in parts.values() if value is not None), rel=1e-9)


def test_one_model_narrows_everything(demo_ledger: str, look_at: OpenPage) -> None:
    kept = {"model": "dalle-3-hd"}
    span = last_days(demo_ledger, 28, DEMO_ZONE)

    page = look_at(demo_ledger, "operations", kept)

    assert rows(page, "models")["model"].tolist() == ["dalle-3-hd"]
    assert rows(page, "models")["ended"].sum() == ledger_sum(demo_ledger, ENDED, kept, *span)


def test_the_median_is_a_click_away_and_in_the_address(demo_ledger: str, look_at: OpenPage) -> None:
    page = look_at(demo_ledger, "operations", {"quantile": "p50"})

    assert figure(page, "latency")["layout"]["yaxis"]["title"]["text"] == "p50 latency, seconds"


def test_without_anything_in_the_filter_it_says_so(demo_ledger: str, look_at: OpenPage) -> None:
    page = look_at(demo_ledger, "operations", {"plan": "premium_annual", "region": "us"})

    assert not page.exception
    assert "No generation ended in this period with these filters." in words(page)


def test_what_waits_too_long_comes_with_the_command_that_drops_it(sqlite_ledger: str, open_page: OpenPage) -> None:
    clock = StoppedClock(NOW)
    with CreditCore.open(sqlite_ledger, clock=clock) as core:
        make_live(core, FRESH_FOR_ALL | {"session.max_fresh": 1})
        core.add_user("ada", "basic", at=NOW)
        for number in range(3):
            ask(core, f"r-{number}", at=NOW)
        core.settle("ada", "r-0", at=NOW)
        later = clock.advance(hours=24)
        for number in range(2):
            ask(core, f"l-{number}", session_id="s-2", at=later)

        page = open_page(sqlite_ledger, "operations")
        said = "3 deferred requests wait, the oldest for 24 h; 2 too long, and will be dropped by the next sweep."
        assert said in plain(sentence(page))
        assert any("python -m credit_core sweep" in block.value for block in page.code)


def test_in_the_demo_nothing_waits_too_long(demo_ledger: str, look_at: OpenPage) -> None:
    page = look_at(demo_ledger, "operations")

    assert ledger_sum(demo_ledger, "SUM(reason = 'deferral_expired')", {}, *last_days(demo_ledger, 28, DEMO_ZONE)) > 0
    assert "too long" not in sentence(page)
    assert not page.code


def test_hostile_names_are_shown_not_obeyed(hostile_ledger: str, look_at: OpenPage) -> None:
    page = look_at(hostile_ledger, "operations")

    for attack in HOSTILE[:5]:
        assert not any(attack in text for text in markdown_of(page))
        assert not any(attack in text and "<" in attack for spec in figures(page) for text in drawn_text(spec))
