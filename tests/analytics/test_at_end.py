"""Questions that pages ask of a period's end: the same answer however long the period is, so that it is worked out once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pandas as pd
import pytest

from credit_core.analytics import queries, resampling
from credit_core.analytics.filters import Filters, Period
from credit_core.analytics.queries import news, risk, standing
from credit_core.analytics.sync import Facts

DAY = timedelta(days=1)
#: As the pages ask them.
ASKED: dict[str, Callable[[Facts, Filters], Any]] = {
    "surplus now": lambda facts, at: queries.surplus_now(facts, at, 5),
    "surplus by plan": queries.surplus_by_plan,
    "surplus histogram": queries.surplus_histogram,
    "spread": standing.spread,
    "spread before": standing.spread_before,
    "ends": standing.ends,
    "running out": lambda facts, at: standing.running_out(facts, at, at.period.end + 7 * DAY),
    "run-out risk": queries.run_out_risk,
    "calibration": queries.risk_calibration,
    "since yesterday": news.since_yesterday,
    "moved most": lambda facts, at: news.moved_most(facts, at, "plan"),
}


def same(left: Any, right: Any) -> None:
    """Equal, frames within records too."""
    if isinstance(left, pd.DataFrame):
        pd.testing.assert_frame_equal(left, right)
    elif isinstance(left, tuple):
        for mine, other in zip(left, right, strict=True):
            same(mine, other)
    else:
        assert left == right or (left != left and right != right)


def ends(whole: Filters) -> list[Filters]:
    """Periods of some lengths that end as the town does and in its middle, compared and not, and narrowed."""
    found = []
    for end in (whole.period.end, whole.period.start + 9 * DAY):
        long = Period(end - 8 * DAY, end)
        found += [Filters(long, long.before()), Filters(Period(end - 3 * DAY, end)), Filters(long, plans=("basic",))]
    return found


@pytest.mark.parametrize("question", ASKED)
def test_what_is_asked_of_the_end_is_the_same_however_long_the_period_is(
    facts: Facts, whole: Filters, question: str
) -> None:
    for chosen in ends(whole):
        whole_period = ASKED[question](facts, chosen)
        facts.forget()
        same(ASKED[question](facts, chosen.at_end()), whole_period)


def test_at_the_end_nothing_is_left_of_the_beginning_and_the_comparison(whole: Filters) -> None:
    chosen = dataclasses.replace(whole, compare=whole.period.before(), plans=("basic",), users=("u",))
    later = chosen.narrowed(period=Period(whole.period.start + DAY, whole.period.end), compare=None)
    assert chosen.at_end() == later.at_end() != chosen
    assert chosen.at_end().period.end == whole.period.end
    assert chosen.at_end().narrowed(period=chosen.period, compare=chosen.compare) == chosen


def test_an_account_has_one_chance_at_an_instant_and_it_is_drawn_once(
    facts: Facts, whole: Filters, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    outlooks = resampling.outlooks

    def counted(accounts: Any, pools: Any) -> Any:
        drawn.append(len(accounts))
        return outlooks(accounts, pools)

    monkeypatch.setattr(risk.resampling, "outlooks", counted)
    asked = (
        whole.narrowed(plans=("basic",)),
        whole,
        whole.narrowed(period=Period(whole.period.end - DAY, whole.period.end)),
    )
    facts.forget()
    after_one_another = [queries.run_out_risk(facts, filters) for filters in asked]
    of_basic, of_all = len(after_one_another[0]), len(after_one_another[1])
    assert 0 < of_basic < of_all
    assert drawn == [of_basic, of_all - of_basic]
    for filters, found in zip(asked, after_one_another, strict=True):
        facts.forget()
        pd.testing.assert_frame_equal(queries.run_out_risk(facts, filters), found)
    # Another instant is another chance.
    queries.run_out_risk(facts, whole.narrowed(period=Period(whole.period.start, whole.period.start + 9 * DAY)))
    assert len(drawn) == 2 + len(asked) + 1
