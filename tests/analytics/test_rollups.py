"""Roll-ups change times, not answers: whatever is asked, the copy on disk says what the copy in memory says."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import func, literal_column, or_, select

from credit_core.analytics import cutting, measures, queries, relations, rollups, segments, source, stepping
from credit_core.analytics.day_ends import STEP_DAYS
from credit_core.analytics.filters import Filters, Period
from credit_core.analytics.metrics import METRICS
from credit_core.analytics.queries import economics, explore, funnel, gaps, margins, operations, standing
from credit_core.analytics.stored import StoredFacts
from credit_core.analytics.sync import Facts
from credit_core.bench import questions
from credit_core.policy.config import Config
from credit_core.units import to_us
from tests.analytics.ledgers import CATALOG, START, Ledger

F = relations.facts.c
WHOLE = Period(START - timedelta(days=2), START + timedelta(days=14))
#: On whole days, through the middle of days, beyond both ends, and within one day.
PERIODS = (
    WHOLE,
    Period(START - timedelta(hours=5, minutes=45) + timedelta(days=2), START - timedelta(hours=5, minutes=45) + timedelta(days=9)),
    Period(START + timedelta(days=1, hours=7), START + timedelta(days=8, minutes=11)),
    Period(START + timedelta(days=4, hours=1), START + timedelta(days=4, hours=5)),
)  # fmt: skip


@pytest.fixture(scope="module")
def rolled(town: Ledger, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoredFacts]:
    """The town in closed segments, but for its last entries."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source, "FEW_ROWS", 10)
        patch.setattr(source, "CHUNK_ROWS", 40)
        patch.setattr(source, "_PIECE_ROWS", 20)
        patch.setattr(segments, "BACKFILL_ROWS", 160)
        patch.setattr(segments, "LEAST_CLOSED_ROWS", 120)
        facts = StoredFacts.at(town.url, tmp_path_factory.mktemp("rolled") / "facts")
        facts.follow()
    shown = facts._shown.segments
    assert {one.closed for one in shown} == {True, False}
    yield facts
    facts.close()


def equal(one: Any, other: Any) -> None:
    if isinstance(one, pd.DataFrame):
        # Instants of whole days come in seconds or microseconds, as pandas joins them.
        one, other = (frame.astype({"day": "datetime64[us]"}) if "day" in frame else frame for frame in (one, other))
        keys = [name for name in one.columns if name == "day" or any(isinstance(cell, str) for cell in list(one[name]))]
        frames = [frame.sort_values(keys, ignore_index=True) if keys else frame for frame in (one, other)]
        if "p05" in one and "day" in one:
            # Of days that are counted, quantiles are right to half a step; shares and accounts are exact.
            quantiles = ["p05", "p25", "median", "p75", "p95"]
            left, right = (frame[quantiles].astype("float64") for frame in frames)
            np.testing.assert_allclose(left, right, rtol=0.0, atol=STEP_DAYS / 2 + 1e-9)
            frames = [frame.drop(columns=quantiles) for frame in frames]
        pd.testing.assert_frame_equal(*frames)
    elif isinstance(one, standing.Spread) and one.median is not None:
        # One of a day that is counted is right to half a step, too.
        assert one._replace(median=None) == other._replace(median=None)
        assert one.median == pytest.approx(other.median, abs=STEP_DAYS / 2 + 1e-9)
    elif isinstance(one, tuple) and hasattr(one, "_fields"):
        for left, right in zip(one, other, strict=True):
            equal(left, right)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one:
            equal(one[name], other[name])
    elif isinstance(one, float):
        # A sum of fractions depends on the order in which its parts come.
        assert one == pytest.approx(other, rel=1e-12)
    else:
        assert one == other


def sql_of(facts: StoredFacts, statement: Any) -> str:
    return facts._asked(statement)[0]


@pytest.mark.parametrize("slug", METRICS)
def test_every_metric_is_the_same_by_day_and_by_dimension(slug: str, facts: Facts, rolled: StoredFacts) -> None:
    chosen, dimension = Filters(PERIODS[2]), METRICS[slug].dimensions[-1]
    equal(queries.daily(rolled, chosen, slug), queries.daily(facts, chosen, slug))
    equal(queries.breakdown(rolled, chosen, slug, dimension), queries.breakdown(facts, chosen, slug, dimension))


@pytest.mark.parametrize(
    "narrowed",
    [
        {"plans": ("basic",)},
        pytest.param({}, marks=pytest.mark.deep),
        pytest.param({"regions": ("eu",)}, marks=pytest.mark.deep),
        pytest.param({"models": ("dalle-3-hd",)}, marks=pytest.mark.deep),
        pytest.param({"users": ("u-a1",)}, marks=pytest.mark.deep),
    ],
)
def test_every_question_of_every_page_has_the_same_answer(
    narrowed: dict[str, Any], facts: Facts, rolled: StoredFacts
) -> None:
    terms = questions.Terms(Config(), CATALOG.catalog, 1, START + timedelta(days=14), "basic")
    chosen = Filters(PERIODS[2], PERIODS[2].before(), **narrowed)
    for page, asked in questions.pages(terms).items():
        for question in asked.whole:
            try:
                equal(question(rolled, chosen), question(facts, chosen))
            except AssertionError as error:
                raise AssertionError(f"{page}, {question.name}: {error}") from error


def test_hours_and_top_parts_are_the_same(facts: Facts, rolled: StoredFacts) -> None:
    for period in PERIODS:
        chosen = Filters(period, period.before())
        equal(queries.hours_of_week(rolled, chosen, "spent"), queries.hours_of_week(facts, chosen, "spent"))
        question = explore.Question("fresh_rate", ("plan", "mood"), 2)
        apart = explore.apart(facts, chosen, question)
        assert explore.apart(rolled, chosen, question) == apart
        equal(explore.parts(rolled, chosen, question, apart), explore.parts(facts, chosen, question, apart))


def test_what_pages_ask_most_comes_from_roll_ups(rolled: StoredFacts) -> None:
    kept = relations.behind(relations.facts, Filters(PERIODS[1]))
    spent, requests = measures.total(measures.spent_uc)(F), func.count().filter(measures.requested(F))
    assert "rollup_hours" in sql_of(rolled, select(F.plan, spent).where(kept).group_by(F.plan))
    assert "rollup_flow" in sql_of(rolled, select(F.region, F.model, spent).where(kept).group_by(F.region, F.model))
    assert "rollup_cells" in sql_of(rolled, select(F.genre, F.mood, requests).where(kept).group_by(F.genre, F.mood))
    assert "rollup_people" in sql_of(rolled, select(F.user_id, spent, requests).where(kept).group_by(F.user_id))


@pytest.mark.parametrize(
    "question",
    [
        funnel.funnel, queries.burn_by_account, queries.surplus_now, queries.top_movers, queries.daily_outcomes,
        gaps.first_fallbacks, partial(margins.by_account, catalog=CATALOG.catalog),
    ],
)  # fmt: skip
def test_questions_about_accounts_come_from_people_by_day(
    question: Any, rolled: StoredFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    rewritten = rolled._asked
    monkeypatch.setattr(
        rolled, "_asked", lambda statement: asked.append(rewritten(statement)[0]) or rewritten(statement)
    )
    question(rolled, Filters(PERIODS[2], PERIODS[2].before()))
    assert any("rollup_people" in sql for sql in asked)
    assert not any("FROM facts " in sql for sql in asked)


@pytest.mark.parametrize(
    "narrowed",
    [
        {},
        {"users": ("u-a1", "u-a2")},
        pytest.param({"plans": ("basic",)}, marks=pytest.mark.deep),
        pytest.param({"models": ("dalle-3-hd",)}, marks=pytest.mark.deep),
    ],
)
def test_first_fallbacks_and_margins_of_accounts_are_those_of_entries(
    narrowed: dict[str, Any], facts: Facts, rolled: StoredFacts
) -> None:
    for period in PERIODS[1:3]:
        chosen = Filters(period, **narrowed)
        found = gaps.first_fallbacks(rolled, chosen)
        assert found == gaps.first_fallbacks(facts, chosen)
        assert found.users > 0 or "models" in narrowed
        every, costliest = (margins.by_account(rolled, chosen, CATALOG.catalog, limit) for limit in (None, 2))
        equal(every, margins.by_account(facts, chosen, CATALOG.catalog, None))
        known, most = (sorted(cost or 0 for cost in frame["cost_usd_micro"]) for frame in (every, costliest))
        assert most == known[-2:]
        assert most[-1] > 0


def asked_by(question: Any, facts: StoredFacts, patch: pytest.MonkeyPatch, chosen: Filters) -> tuple[Any, str]:
    """An answer, and the SQL of all statements that it took."""
    asked: list[str] = []
    rewritten = facts._asked
    patch.setattr(facts, "_asked", lambda statement: asked.append(rewritten(statement)[0]) or rewritten(statement))
    answer = question(facts, chosen)
    patch.undo()
    return answer, "\n".join(asked)


@pytest.mark.parametrize(
    "narrowed", [{}, {"plans": ("basic",)}, {"regions": ("eu",)}, {"models": ("dalle-3-hd",)}, {"users": ("u-a1",)}]
)
def test_questions_about_few_entries_look_at_those_alone(
    narrowed: dict[str, Any], facts: Facts, rolled: StoredFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_of: dict[str, Any] = {
        "incidents": operations.incidents,
        "sold": partial(economics.packs, catalog=CATALOG.catalog),
        "welcome": funnel.welcome,
        "latency": lambda facts, chosen: queries.values(facts, chosen, ("latency_p50_ms", "latency_p95_ms")),
    }
    for subset, question in asked_of.items():
        for period in PERIODS[:3]:
            answer, sql = asked_by(question, rolled, monkeypatch, Filters(period, **narrowed))
            equal(answer, question(facts, Filters(period, **narrowed)))
            # Who took how long is not kept apart: of one user entries are read.
            told = "FROM ranks_" if subset == "latency" else f"subset_{subset}"
            assert (told in sql) is not (subset == "latency" and "users" in narrowed)
            assert ("FROM facts" in sql) is (subset == "latency" and "users" in narrowed)


def quantiles_by(*groups: Any, period: Period = WHOLE, narrowed: Any = None) -> Any:
    """Three quantiles of latencies, by some columns of entries."""
    told = [
        measures.quantile(share, "latency_ms")(F).label(name)
        for name, share in {"p01": "0.01", "p50": "0.5", "p95": "0.95"}.items()
    ]
    kept = relations.behind(relations.facts, Filters(period, **(narrowed or {}))), F.latency_ms.is_not(None)
    return select(*groups, *told).where(*kept).group_by(*groups).order_by(*groups)


@pytest.mark.parametrize("narrowed", [{}, {"plans": ("basic",)}, {"regions": ("eu",)}, {"models": ("dalle-3-hd",)}])
def test_quantiles_are_ranked_in_the_steps_that_have_them(
    narrowed: dict[str, Any], facts: Facts, rolled: StoredFacts
) -> None:
    for period, groups in itertools.product(PERIODS, ((), (F.model,), (F.day, F.model), (F.plan, F.region, F.day))):
        statement = quantiles_by(*groups, period=period, narrowed=narrowed)
        assert "FROM ranks_" in sql_of(rolled, statement)
        found, expected = (pd.DataFrame(one.rows(statement), dtype=object) for one in (rolled, facts))
        assert found.iloc[:, : len(groups)].equals(expected.iloc[:, : len(groups)])
        told, known = (frame.iloc[:, len(groups) :].astype("float64") for frame in (found, expected))
        np.testing.assert_allclose(told, known, rtol=1e-14)


def test_values_of_steps_are_read_once_and_go_when_there_are_too_many(
    facts: Facts, rolled: StoredFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = rolled._cuts._steps._kept
    rolled.rows(quantiles_by(F.model))
    before = kept["steps_latency"]
    assert before.values == rolled._one("SELECT count(*) FROM steps_latency")[0] > 0
    rolled.forget()
    assert rolled.rows(quantiles_by())[0] == pytest.approx(facts.rows(quantiles_by())[0])
    assert kept["steps_latency"].steps >= before.steps
    monkeypatch.setattr(stepping, "_MOST", 0)
    few = quantiles_by(F.day, F.region)
    told, known = (pd.DataFrame(sorted(one.rows(few))).iloc[:, 2:].astype("float64") for one in (rolled, facts))
    np.testing.assert_allclose(told, known, rtol=1e-14)
    assert kept["steps_latency"].values == rolled._one("SELECT count(*) FROM steps_latency")[0]


def test_quantiles_of_what_no_step_counts_look_at_values(rolled: StoredFacts) -> None:
    kept = (relations.behind(relations.facts, Filters(WHOLE)), F.latency_ms.is_not(None))
    middle = measures.quantile("0.5", "latency_ms")(F)
    for other in (
        select(func.percentile_cont(literal_column("0.5")).within_group(F.latency_ms.desc())).where(*kept),
        select(middle, func.count()).where(*kept), select(middle).where(*kept).having(func.count() > 3),
        select(F.day).where(*kept).group_by(F.day, F.latency_ms), select(middle).where(*kept, F.latency_ms > 5),
    ):  # fmt: skip
        asked = sql_of(rolled, other)
        assert "_steps" not in asked
        assert "subset_latency" in asked


def test_a_question_that_looks_at_more_entries_or_columns_is_not_answered_by_fewer(rolled: StoredFacts) -> None:
    met, timed = measures.incident(F), F.latency_ms.is_not(None)
    assert "subset_incidents" in sql_of(rolled, select(F.user_id, F.rule).where(met))
    for other in (
        select(F.user_id, F.rule), select(F.user_id, F.outcome).where(met), select(F.rule).where(or_(met, timed)),
        select(F.user_id).where(met, F.cost_uc > 0), select(F.latency_ms).where(or_(timed, F.line == 1)),
    ):  # fmt: skip
        assert "subset_" not in sql_of(rolled, other)


def test_a_result_is_kept_until_something_is_copied_and_nobody_can_spoil_it(facts: Facts) -> None:
    statement = select(F.plan, func.count().label("entries")).group_by(F.plan)
    first = facts.frame(statement)
    expected = first["entries"].sum()
    first["entries"] = 0
    again = facts.frame(statement)
    assert again["entries"].sum() == expected
    assert again is not facts.frame(statement)


def test_what_a_roll_up_does_not_know_is_read_entry_by_entry(rolled: StoredFacts) -> None:
    for statement in (
        select(func.avg(F.latency_ms)),
        select(func.count()).where(F.request_id == "r-1"),
        select(func.sum(F.d_avail_uc * F.d_avail_uc)),
        select(func.max(F.occurred_at)),
        select(F.id, F.plan),
        select(F.plan, func.count()).where(F.occurred_at > F.recorded_at).group_by(F.plan),
    ):
        assert "rollup_" not in sql_of(rolled, statement)


def test_a_day_that_many_questions_cut_through_is_added_up_and_answers_the_same(
    facts: Facts, rolled: StoredFacts
) -> None:
    chosen = Filters(Period(START + timedelta(days=2, hours=9, minutes=17), START + timedelta(days=7, hours=3)))
    kept, spent = relations.behind(relations.facts, chosen), measures.total(measures.spent_uc)(F)

    def ask(by: Any) -> None:
        statement = select(by, spent, func.count()).where(kept).group_by(by).order_by(by)
        assert rolled.rows(statement) == facts.rows(statement)

    def relation(kind: str) -> list[str]:
        with rolled._database.cursor() as cursor:
            named = cursor.execute(f"SELECT {kind}_name FROM duckdb_{kind}s() WHERE {kind}_name LIKE 'cut_flow%'")
            return [name for (name,) in named.fetchall()]

    columns = (F.region, F.model, F.arm, F.lot_kind, F.reason, F.mode)
    rolled.forget()
    before = set(relation("table"))
    for number, by in enumerate(columns, 1):
        ask(by)
        assert (len(set(relation("table")) - before) == 2) is (number >= cutting.OFTEN)
    # Anew, from entries again.
    rolled.forget()
    ask(columns[0])
    assert set(relation("table")) <= before


def test_a_period_that_cuts_a_day_reads_that_days_entries(rolled: StoredFacts) -> None:
    at = datetime(2025, 3, 4, 7, tzinfo=UTC)
    statement = select(func.count()).where(
        relations.in_period(F.occurred_at, Filters(Period(at, at + timedelta(days=3))))
    )
    asked = sql_of(rolled, statement)
    assert [day for day in ("2025-03-04", "2025-03-05", "2025-03-07") if day in asked] == ["2025-03-04", "2025-03-07"]


@pytest.mark.parametrize("into_hour", [0, 17, 59])
def test_a_bound_within_an_hour_reads_that_hours_entries(into_hour: int, facts: Facts, rolled: StoredFacts) -> None:
    since = START + timedelta(days=2, hours=9, minutes=into_hour)
    kept = relations.behind(relations.facts, Filters(Period(since, since + timedelta(days=4, hours=6, minutes=7))))
    counted = (measures.failed, measures.sold, measures.legs("rejected", reason="late_settle"), lambda f: f.seq == 1)
    figures = [measures.total(measures.spent_uc)(F), measures.provider_cost(F)]
    figures += [func.count().filter(condition(F)) for condition in counted]
    statement = select(F.plan, *figures).where(kept).group_by(F.plan).order_by(F.plan)
    sql = sql_of(rolled, statement)
    assert "rollup_hours" in sql
    assert "FROM facts " not in sql
    # The ledger's zone is 5 h 45 min ahead.
    for at in (since, since + timedelta(days=4, hours=6, minutes=7)):
        local = at + timedelta(hours=5, minutes=45)
        assert f"""day" = CAST('{local:%Y-%m-%d}' AS DATE)) AND ("hour" IN ({local.hour}))""" in sql
    assert rolled.rows(statement) == facts.rows(statement)


def test_an_hour_that_comes_twice_is_cut_as_one() -> None:
    hours = next(one for one in rollups.ROLLUPS if one.name == "hours")
    day = date(2026, 10, 25)
    twice = [to_us(datetime(2026, 10, 25, hour, 30, tzinfo=UTC)) for hour in (0, 1)]
    assert hours.split(day, twice, "Europe/Berlin") == "day = DATE '2026-10-25' AND hour IN (2)"
    assert hours.split(day, twice, "UTC") == "day = DATE '2026-10-25' AND hour IN (0, 1)"
