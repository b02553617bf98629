"""Any metric by any dimension: the largest parts and 'other' against a second computation, and the rows behind each part."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from credit_core.analytics import metrics, queries
from credit_core.analytics.filters import Filters, Period
from credit_core.analytics.queries import explore
from credit_core.analytics.queries.explore import Point, Question
from credit_core.analytics.queries.series import NONE, OTHER
from credit_core.analytics.sync import Facts
from credit_core.errors import InvalidRequest
from tests.analytics.ledgers import START, Ledger, Row
from tests.analytics.plainly import PLAINLY, behind

ASKED = [(slug, by) for slug in PLAINLY for by in metrics.metric(slug).dimensions if slug != "flicker"]
TWO = ("spent", "requests", "fresh_rate", "failure_rate", "latency_p95_ms", "active_accounts")


def told(row: Row, name: str, kept: dict[str, tuple[str, ...]]) -> str:
    """The part that an entry belongs to."""
    value = NONE if row[name] is None else str(row[name])
    return value if value in kept[name] else OTHER


@pytest.mark.parametrize(("slug", "by"), ASKED)
def test_each_part_and_other_equal_a_plain_computation(
    town: Ledger, facts: Facts, whole: Filters, slug: str, by: str
) -> None:
    question = Question(slug, (by,), top=2)
    apart = explore.apart(facts, whole, question)
    found = explore.parts(facts, whole, question, apart)
    entries = behind(town.entries, whole)

    numerator, denominator = PLAINLY[slug]
    for row in found.to_dict("records"):
        mine = [entry for entry in entries if told(entry, by, apart) == row[by]]
        expected = numerator(mine)
        assert expected is not None
        assert float(row["numerator"]) == pytest.approx(expected, rel=1e-12)
        if denominator is not None:
            assert row["denominator"] == denominator(mine)
            assert row["value"] == pytest.approx(expected / denominator(mine))


@pytest.mark.parametrize("slug", TWO)
def test_two_dimensions_part_what_one_has(town: Ledger, facts: Facts, whole: Filters, slug: str) -> None:
    question = Question(slug, ("genre", "plan") if slug != "spent" else ("model", "plan"), top=2)
    apart = explore.apart(facts, whole, question)
    found = explore.parts(facts, whole, question, apart)

    entries = behind(town.entries, whole)
    for row in found.to_dict("records"):
        mine = [entry for entry in entries if all(told(entry, name, apart) == row[name] for name in question.by)]
        assert float(row["numerator"]) == pytest.approx(PLAINLY[slug][0](mine), rel=1e-12)


@pytest.mark.parametrize("slug", ["spent", "requests", "failure_rate", "granted"])
def test_days_and_parts_add_up_to_the_whole(facts: Facts, whole: Filters, slug: str) -> None:
    question = Question(slug, ("model", "region") if "model" in metrics.metric(slug).dimensions else ("region",), top=2)
    apart = explore.apart(facts, whole, question)
    value = queries.value(facts, whole, slug)

    for frame in (explore.parts(facts, whole, question, apart), explore.course(facts, whole, question, apart)):
        assert frame["numerator"].sum() == value.numerator
        if value.denominator is not None:
            assert frame["denominator"].sum() == value.denominator


def test_a_lone_last_value_is_shown_as_itself_and_not_as_other(facts: Facts, whole: Filters) -> None:
    three = {name for (name,) in _genres(facts, whole, top=3)}

    assert three == {"folk", "noir", "pop", NONE}
    assert {name for (name,) in _genres(facts, whole, top=2)} - {OTHER} < three


def test_a_comparison_says_what_each_part_was(facts: Facts, whole: Filters) -> None:
    period = Period(START + timedelta(days=6), START + timedelta(days=9))
    compared = whole.narrowed(period=period, compare=period.before())
    question = Question("requests", ("plan",))
    apart = explore.apart(facts, compared, question)

    found = explore.parts(facts, compared, question, apart).set_index("plan")
    earlier = queries.breakdown(facts, whole.narrowed(period=period.before()), "requests", "plan").set_index("plan")
    assert len(found) == 3
    for plan in found.index:
        assert found.loc[plan, "before"] == earlier.loc[plan, "value"]
        assert found.loc[plan, "change"] == pytest.approx(found.loc[plan, "value"] / earlier.loc[plan, "value"] - 1.0)


@pytest.mark.parametrize("slug", [slug for slug in PLAINLY if metrics.metric(slug).format == "count"])
def test_the_rows_behind_a_count_are_as_many_as_it_counts(facts: Facts, whole: Filters, slug: str) -> None:
    question = Question(slug, ("plan", "region"), top=2)
    apart = explore.apart(facts, whole, question)
    per_row = slug != "active_accounts"

    for row in explore.parts(facts, whole, question, apart).to_dict("records"):
        point = Point(None, tuple((name, str(row[name])) for name in question.by))
        rows = explore.point_rows(facts, whole, question, apart, point, 100_000)
        expected = len(rows) if per_row else rows["account_id"].nunique()
        assert expected == row["numerator"]
        assert explore.point_count(facts, whole, question, apart, point) == len(rows)


@pytest.mark.parametrize("slug", ["spent", "failure_rate", "refund_rate", "latency_p50_ms", "provider_cost"])
def test_the_rows_behind_a_day_and_other_are_what_went_into_them(
    town: Ledger, facts: Facts, whole: Filters, slug: str
) -> None:
    question = Question(slug, ("model",), top=2)
    apart = {"model": ("dalle-3-hd",)}
    days = explore.course(facts, whole, question, apart)
    checked = 0
    for row in days[days["model"] == OTHER].dropna(subset=["value"]).to_dict("records"):
        point = Point(row["day"].date(), (("model", OTHER),))
        ids = set(explore.point_rows(facts, whole, question, apart, point, 100_000)["id"])
        mine = [entry for entry in town.entries if entry["id"] in ids]
        numerator, denominator = PLAINLY[slug]
        assert float(row["numerator"]) == pytest.approx(numerator(mine) or 0)
        if denominator is not None:
            assert denominator(mine) == row["denominator"]
        checked += 1
    assert checked > 3


def test_what_is_open_was_begun_whenever(facts: Facts, whole: Filters) -> None:
    question = Question("open_holds", ("plan",))
    late = whole.narrowed(period=Period(START + timedelta(days=13), START + timedelta(days=14)))
    apart = explore.apart(facts, late, question)

    point = Point(None, (("plan", apart["plan"][0]),))
    assert explore.point_count(facts, late, question, apart, point) > 0


def test_all_rows_behind_a_point_go_into_its_file(facts: Facts, whole: Filters) -> None:
    question = Question("requests", ("plan",))
    apart = explore.apart(facts, whole, question)
    point = Point(None, (("plan", "basic"),))

    lines = explore.point_csv(facts, whole, question, apart, point).decode().splitlines()
    assert len(lines) - 1 == explore.point_count(facts, whole, question, apart, point)
    assert len(explore.point_rows(facts, whole, question, apart, point, 5)) == 5


def test_the_sql_shown_is_the_sql_that_answers(facts: Facts, whole: Filters) -> None:
    question = Question("fresh_rate", ("genre", "plan"), top=2)
    apart = explore.apart(facts, whole, question)

    with facts._database.cursor() as cursor:
        rows = cursor.execute(explore.sql(facts, whole, question, apart)).fetchall()
    found = explore.parts(facts, whole, question, apart)
    assert {row[:2]: row[2:] for row in rows if row[3]} == {
        (row["genre"], row["plan"]): (row["numerator"], row["denominator"]) for row in found.to_dict("records")
    }


@pytest.mark.parametrize("by", [("plan", "plan"), ("plan", "region", "arm"), ("nothing",)])
def test_a_question_that_cannot_be_asked_is_refused(by: tuple[str, ...]) -> None:
    with pytest.raises(InvalidRequest):
        Question("spent", by)


def test_a_point_of_another_question_is_refused(facts: Facts, whole: Filters) -> None:
    with pytest.raises(InvalidRequest, match="has no 'model'"):
        explore.point_count(facts, whole, Question("requests"), {}, Point(None, (("model", "x"),)))


def _genres(facts: Facts, whole: Filters, top: int) -> list[tuple[Any, ...]]:
    question = Question("requests", ("genre",), top=top)
    found = explore.parts(facts, whole, question, explore.apart(facts, whole, question))
    return list(found[["genre"]].itertuples(index=False, name=None))
