"""Overview: targets, figures of the period and answers by day, all as the ledger has them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from credit_core.analytics.filters import fair
from pages.components import numbers
from tests.pages.conftest import DEMO_END, DEMO_ZONE, HOSTILE, NARROWED, OpenPage
from tests.pages.reading import (
    JUDGED,
    SPENT,
    Kept,
    card,
    drawn_text,
    figure,
    figures,
    filters_of,
    last_days,
    ledger_sum,
    markdown_of,
    rows,
    sentence,
    words,
)

REQUESTS = "SUM((rule IS NOT NULL AND parent_request_id IS NULL) OR (kind = 'import' AND line = 1))"
ACTIVE = "COUNT(DISTINCT CASE WHEN rule IS NOT NULL AND parent_request_id IS NULL THEN account_id END)"


@pytest.mark.parametrize(("query", "kept", "days"), NARROWED)
def test_figures_are_the_ledgers_own(
    demo_ledger: str, look_at: OpenPage, query: dict[str, str], kept: Kept, days: int
) -> None:
    span = last_days(demo_ledger, days, DEMO_ZONE)

    def summed(expression: str) -> int:
        return ledger_sum(demo_ledger, expression, kept, *span)

    page = look_at(demo_ledger, "overview", query)

    judged, fresh = summed(f"SUM({JUDGED})"), summed(f"SUM({JUDGED} AND outcome = 'fresh')")
    library, missed = summed(f"SUM({JUDGED} AND outcome = 'library')"), summed(f"SUM({JUDGED} AND miss)")
    assert (filters_of(page).period.start, filters_of(page).period.end) == span
    assert card(page, "Requests") == numbers.count(summed(REQUESTS))
    assert card(page, "Active accounts") == numbers.count(summed(ACTIVE))
    assert card(page, "Fresh rate") == numbers.share(fresh / judged)
    assert card(page, "Provider cost") == numbers.money(summed("SUM(cost_usd_micro)"))
    assert _drawn(page) == {"Fresh": fresh, "Library": library, "Miss": missed}
    assert f"**{numbers.share(missed / judged)}** :gray[· under {numbers.share(0.05)}]" in words(page)


def test_movers_show_what_both_periods_sum_to(demo_ledger: str, look_at: OpenPage) -> None:
    page = look_at(demo_ledger, "overview", {"movers": "Plans"})

    chosen = fair(filters_of(page), DEMO_END)
    for column, period in (("spent_credits", chosen.period), ("before_credits", chosen.compare)):
        spent = ledger_sum(demo_ledger, SPENT, {}, period.start, period.end, by="plan")
        table = rows(page, "Plans whose spending changed most against previous 28 days.")
        shown = dict(zip(table["plan"], table[column], strict=True))
        assert {plan: value * 1_000_000 for plan, value in shown.items()} == {
            plan: spent.get(plan, 0) for plan in shown
        }


def test_what_changed_since_yesterday_is_told_in_words(demo_ledger: str, look_at: OpenPage) -> None:
    said = words(look_at(demo_ledger, "overview"))

    day = [(DEMO_END - timedelta(days=ago + 1), DEMO_END - timedelta(days=ago)) for ago in (0, 1)]
    now, then = (ledger_sum(demo_ledger, SPENT, {}, *span) / 1_000_000 for span in day)
    told = f"**Credits spent** {'rose' if now > then else 'fell'}"
    assert (told in said) == (abs(now / then - 1) >= 0.05)
    assert "The last 24 hours against the 24 before" in said


def test_the_sentence_counts_targets_and_run_outs(demo_ledger: str, look_at: OpenPage) -> None:
    page = look_at(demo_ledger, "overview")

    said = sentence(page)
    missed = sum(":red[:material/error:]" in text for text in markdown_of(page))
    assert said.startswith(f"**{missed} of ")
    assert "pace" in said
    assert "will run out before" in said


def test_a_link_opens_with_its_filters(demo_ledger: str, look_at: OpenPage) -> None:
    page = look_at(demo_ledger, "overview", {"plan": ["free", "basic"], "region": "us", "period": "7d"})

    assert filters_of(page).plans == ("free", "basic")
    assert filters_of(page).regions == ("us",)
    assert "Free" in words(page)


def test_the_filters_of_the_bar_narrow_the_page(demo_ledger: str, open_page: OpenPage) -> None:
    page = open_page(demo_ledger, "overview")

    page.multiselect(key="_plan_twin").set_value(["premium"]).run()

    span = last_days(demo_ledger, 28, DEMO_ZONE)
    assert card(page, "Requests") == numbers.count(ledger_sum(demo_ledger, REQUESTS, {"plan": "premium"}, *span))


def test_nothing_here_is_no_error(demo_ledger: str, look_at: OpenPage) -> None:
    page = look_at(demo_ledger, "overview", {"plan": "premium_annual", "region": "us"})

    assert not page.exception
    assert card(page, "Requests") == "0"
    assert card(page, "Fresh rate") == numbers.UNKNOWN


def test_hostile_names_are_shown_not_obeyed(hostile_ledger: str, look_at: OpenPage) -> None:
    page = look_at(hostile_ledger, "overview")

    for attack in HOSTILE[:5]:
        assert not any(attack in text for text in markdown_of(page))
        assert not any(attack in text and "<" in attack for spec in figures(page) for text in drawn_text(spec))


def _drawn(page: object) -> dict[str, int]:
    """The sum of each line of the chart of answers."""
    lines = figure(page, "answers")["data"]
    return {line["name"]: sum(value for value in line["y"] if value is not None) for line in lines if line.get("name")}
