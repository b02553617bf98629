"""Explore: the address is the question, every part is the ledger's own, and each has its rows."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from credit_core.analytics import metrics
from credit_core.units import MICRO
from pages.components import numbers
from tests.pages import reading
from tests.pages.conftest import DEMO_ZONE, HOSTILE, NARROWED, OpenPage
from tests.pages.reading import (
    SPENT,
    Kept,
    drawn_text,
    figure,
    figures,
    filters_of,
    last_days,
    ledger_sum,
    markdown_of,
    rows,
    sentence,
    traces,
    words,
)

REQUESTS = "SUM((rule IS NOT NULL AND parent_request_id IS NULL) OR (kind = 'import' AND line = 1))"
FRESH = "SUM(rule IN ('unaffordable', 'coverage_miss', 'session_cap', 'at_cap', 'controller') AND outcome = 'fresh')"
JUDGED = f"SUM({reading.JUDGED})"


@pytest.mark.parametrize(("query", "kept", "days"), NARROWED)
def test_parts_are_the_ledgers_own(
    demo_ledger: str, look_at: OpenPage, query: dict[str, str], kept: Kept, days: int
) -> None:
    span = last_days(demo_ledger, days, DEMO_ZONE)
    by_model = ledger_sum(demo_ledger, SPENT, kept, *span, by="model")

    page = look_at(demo_ledger, "explore", {"metric": "Credits spent", "by": "Model", "chart": "Bars"} | query)

    (bars,) = traces(figure(page, "bars"), "bar")
    shown = {name: round(value * MICRO) for name, value in zip(bars["customdata"], bars["x"], strict=True)}
    assert shown == {name: spent for name, spent in by_model.items() if spent}
    assert numbers.credits(sum(by_model.values())) in sentence(page)


def test_a_rate_of_other_has_a_numerator_and_denominator_of_its_own(demo_ledger: str, look_at: OpenPage) -> None:
    span = last_days(demo_ledger, 28, DEMO_ZONE)
    fresh, judged = (ledger_sum(demo_ledger, what, {}, *span, by="genre") for what in (FRESH, JUDGED))

    page = look_at(demo_ledger, "explore", {"metric": "Fresh rate", "by": "Genre", "chart": "Bars", "top": "2"})

    (bars,) = traces(figure(page, "bars"), "bar")
    shown = dict(zip(bars["customdata"], bars["x"], strict=True))
    others = set(judged) - set(shown) - {None}
    expected = sum(fresh[name] for name in others) / sum(judged[name] for name in others)
    assert len(shown) == 3
    assert shown[" other"] == pytest.approx(100 * expected)


def test_small_multiples_share_one_scale(demo_ledger: str, look_at: OpenPage) -> None:
    page = look_at(demo_ledger, "explore", {"metric": "Requests", "by": "Outcome", "then": "Plan"})

    spans = {tuple(spec["layout"]["yaxis"]["range"]) for spec in figures(page)}
    assert len(figures(page)) > 2
    assert len(spans) == 1


def test_lines_by_day_keep_every_request(demo_ledger: str, look_at: OpenPage) -> None:
    span = last_days(demo_ledger, 28, DEMO_ZONE)

    page = look_at(demo_ledger, "explore", {"metric": "Requests", "by": "Plan"})

    shown = sum(
        sum(v for v in t["y"] if v is not None) for t in traces(figure(page, "lines"), "scatter") if "name" in t
    )
    assert shown == ledger_sum(demo_ledger, REQUESTS, {}, *span)


def test_the_table_has_every_part_with_numerator_and_denominator(demo_ledger: str, look_at: OpenPage) -> None:
    span = last_days(demo_ledger, 28, DEMO_ZONE)

    page = look_at(demo_ledger, "explore", {"metric": "Fresh rate", "by": "Genre", "chart": "Table", "top": "2"})

    found = rows(page, "Fresh rate in a table.")
    judged = ledger_sum(demo_ledger, JUDGED, {}, *span, by="genre")
    assert dict(zip(found["genre"], found["denominator"], strict=True)) == {
        name: count for name, count in judged.items() if count
    }


def test_the_rows_behind_a_point_are_in_the_address(demo_ledger: str, look_at: OpenPage) -> None:
    span = last_days(demo_ledger, 28, DEMO_ZONE)
    asked = {"metric": "Requests", "by": "Plan", "point": urlencode({"plan": "basic"})}

    page = look_at(demo_ledger, "explore", asked)

    count = ledger_sum(demo_ledger, REQUESTS, {"plan": "basic"}, *span)
    assert "Rows behind plan basic" in words(page)
    assert numbers.counted(count, "row") in words(page)
    assert set(rows(page, "point_rows")["plan"]) == {"basic"}


@pytest.mark.parametrize("point", ["plan=basic&genre=x", "day=never&plan=basic", "%%%", "region=eu"])
def test_a_point_that_the_question_does_not_have_is_left_alone(demo_ledger: str, look_at: OpenPage, point: str) -> None:
    page = look_at(demo_ledger, "explore", {"metric": "Requests", "by": "Plan", "point": point})

    assert not page.exception
    assert "Rows behind" not in words(page)


def test_closing_forgets_the_point_and_so_does_another_question(demo_ledger: str, open_page: OpenPage) -> None:
    asked = {"metric": "Requests", "by": "Plan", "point": urlencode({"plan": "basic"})}
    page = open_page(demo_ledger, "explore", asked)

    page.button(key="close_point").click().run()

    assert "point" not in page.query_params
    assert "Rows behind" not in words(page)


def test_a_dimension_that_the_next_metric_lacks_is_dropped(demo_ledger: str, open_page: OpenPage) -> None:
    page = open_page(demo_ledger, "explore", {"metric": "Requests", "by": "Rule"})

    page.selectbox(key="metric").set_value("at_cap_share").run()

    assert not page.exception
    assert page.selectbox(key="by").value == "nothing"


#: Of each kind of metric that a chart can tell apart, the first.
KINDS = {
    (one.relation, one.span, one.counted_apart, one.per_day, one.format, one.denominator is None): slug
    for slug, one in reversed(metrics.METRICS.items())
}


@pytest.mark.parametrize(
    ("slug", "chart"),
    [*((slug, "Lines") for slug in metrics.METRICS), *((slug, "Heat map") for slug in sorted(KINDS.values()))],
)
def test_every_metric_can_be_asked_for(demo_ledger: str, look_at: OpenPage, slug: str, chart: str) -> None:
    page = look_at(demo_ledger, "explore", {"metric": metrics.metric(slug).title, "by": "Plan", "chart": chart})

    assert not page.exception
    assert page.selectbox(key="metric").value == slug


def test_the_sql_is_shown(demo_ledger: str, look_at: OpenPage) -> None:
    page = look_at(demo_ledger, "explore", {"metric": "Fresh rate", "by": "Plan"})

    (statement,) = (block.value for block in page.code if "SELECT" in block.value)
    assert "facts.rule IN" in statement
    assert "GROUP BY" in statement


@pytest.mark.parametrize("chart", ["Lines", "Bars", "Heat map", "Table"])
@pytest.mark.parametrize("by", ["User", "Genre", "Region"])
def test_hostile_names_are_shown_not_obeyed(hostile_ledger: str, look_at: OpenPage, chart: str, by: str) -> None:
    asked: dict[str, Any] = {"metric": "Requests", "by": by, "then": "Mood" if by == "Genre" else "Plan"}

    page = look_at(hostile_ledger, "explore", asked | {"chart": chart, "top": "12"})

    assert not page.exception
    for attack in HOSTILE[:5]:
        assert not any(attack in text for text in markdown_of(page))
        assert not any(attack in text and "<" in attack for spec in figures(page) for text in drawn_text(spec))


def test_a_question_is_saved_under_a_name_opened_again_and_removed(
    demo_ledger: str, tmp_path: Path, open_page: OpenPage
) -> None:
    own = tmp_path / "own.db"
    with (
        closing(sqlite3.connect(demo_ledger.removeprefix("sqlite:///"))) as source,
        closing(sqlite3.connect(own)) as copy,
    ):
        source.backup(copy)
    url = f"sqlite:///{own}"
    asked = {"metric": "Requests", "by": "Plan", "chart": "Bars", "top": "3", "plan": ["basic", "free"], "period": "7d"}
    page = open_page(url, "explore", asked)
    page.text_input(key="_view_name").set_value("Who asks? ![x](http://evil.example)").run()
    page.button(key="_view_save").click().run()
    assert not page.exception

    other = open_page(url, "explore", {"region": "eu"})
    other.button(key="_view_0").click().run()

    assert sentence(other) == sentence(page)
    assert (filters_of(other).plans, filters_of(other).regions) == (("basic", "free"), ())
    assert [other.selectbox(key=key).value for key in ("metric", "by", "top")] == ["requests", "plan", 3]
    assert not any("![x]" in text for text in markdown_of(other))

    other.text_input(key="_view_name").set_value("Who asks? ![x](http://evil.example)").run()
    other.button(key="_view_save").click().run()
    assert "already" in other.error[0].value
    other.button(key="_view_remove_0").click().run()
    assert "No question has been saved yet." in words(other)
