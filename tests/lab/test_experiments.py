"""Laws against each other: on the ledger's own arrivals, and on made-up sessions."""

from __future__ import annotations

import numpy as np
import pytest

from credit_core.analytics.queries.population import paced_mix
from credit_core.errors import InvalidRequest, Stopped
from credit_core.lab import experiments, laws, population, replay, retention
from credit_core.lab.experiments import Mock
from credit_core.lab.population import Population, Share
from credit_core.policy.config import Config
from tests.lab.opening import CATALOG, closed, prepared

__all__ = ["closed"]

#: One user in ten wants more than this.
SMALL = Population(quota=25.0)


@pytest.fixture(scope="module")
def ledger(fleet_url: str) -> replay.Prepared:
    return prepared(fleet_url)


@pytest.fixture(scope="module")
def mock() -> Mock:
    return experiments.on_sessions(CATALOG, Config(), laws.chosen(laws.DESIGN), 2_000, people=SMALL, seed=3)


def test_every_law_can_be_made_of_the_shipped_configuration() -> None:
    strategies = {laws.configured(law, Config()).controller.strategy for law in laws.LAWS}
    assert strategies == {
        "logistic", "affordable", "reserve", "weighted", "zones", "novelty", "thompson", "headroom",
    }  # fmt: skip
    assert len({law.slug for law in laws.LAWS}) == len(laws.LAWS)
    thirty_five = laws.configured(laws.chosen(["weighted_35"])[0], Config()).strategies
    assert [
        thirty_five.weight_surplus, thirty_five.weight_freshness, thirty_five.weight_credit, thirty_five.weight_library,
    ] == [35.0, 35.0, 20.0, 10.0]  # fmt: skip


def test_a_law_that_there_is_not_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="There is no law 'magic'; there are"):
        laws.chosen(["magic", "zones"])


def test_the_line_has_what_nothing_beats() -> None:
    up, down = np.array([[3.0], [2.0], [2.0], [1.0], [np.nan]]), np.array([[5.0], [4.0], [6.0], [1.0], [0.0]])
    assert laws.efficient(up, down).tolist() == [True, True, False, True, False]
    assert laws.efficient(np.array([[1.0], [1.0]]), np.array([[1.0], [1.0]])).tolist() == [True, True]


def test_laws_on_the_ledger_are_those_that_a_replay_gives(ledger: replay.Prepared) -> None:
    live, period = ledger.configs[max(ledger.configs)], replay.last_days(ledger, 20)
    told: list[float] = []
    found = experiments.on_ledger(ledger, live, list(laws.LAWS), period, progress=lambda share, _: told.append(share))
    frame = found.frame.set_index("slug")
    (again,) = replay.run(ledger, [live], period).runs
    assert frame.loc["live", "fresh_rate"] == again.sums["fresh"].sum() / again.sums["decisions"].sum()
    assert frame.loc["live", "run_out_users"] == (again.sums["run_outs"] > 0).sum()
    assert frame.loc["always_fresh", "run_out_users"] == found.pressed
    assert frame["efficiency"].is_monotonic_decreasing
    assert (frame["efficiency"] <= 1.0).all()
    assert told[-1] == 1.0
    assert len(frame) == len(laws.LAWS)


def test_some_accounts_are_drawn_by_seed(ledger: replay.Prepared) -> None:
    some, same, other = (experiments.sampled(ledger, 20, seed).accounts["account_id"].tolist() for seed in (1, 1, 2))
    assert len(some) == 20
    assert some == same
    assert some != other
    assert experiments.sampled(ledger, None, 1) is ledger
    with pytest.raises(InvalidRequest, match="1 or more"):
        experiments.sampled(ledger, 0, 1)


def test_what_budgets_pay_for_is_the_other_end(mock: Mock) -> None:
    """Σ min(Q, demand) ÷ Σ demand, worked out from the users themselves."""
    wanted, asked = 0.0, 0.0
    for drawn in population.blocks(SMALL, 3, sessions=2_000):
        each = np.bincount(drawn.arrivals.account, drawn.arrivals.images, drawn.accounts)
        wanted, asked = wanted + np.minimum(each, SMALL.quota).sum(), asked + each.sum()
    assert mock.standings.best_fresh_rate == pytest.approx(wanted / asked, abs=1e-12)
    assert (mock.frame["efficiency"] <= 1.0).all()


def test_the_design_s_question_is_answered(mock: Mock) -> None:
    frame = mock.frame.set_index("slug")
    assert mock.sessions >= 2_000
    assert mock.standings.pressed > 30
    assert frame.loc["headroom", "session_variance"] < frame.loc["logistic", "session_variance"]
    assert frame.loc["headroom", "dry_share"] < frame.loc["always_fresh", "dry_share"]
    assert frame.loc["headroom", "sessions_to_run_out"] > frame.loc["always_fresh", "sessions_to_run_out"]
    bins = mock.rates.groupby("slug")["sessions"].sum()
    assert bins.nunique() == 1
    alive = mock.survival[mock.survival["slug"] == "always_fresh"]["without"].dropna()
    assert (alive.iloc[0], alive.is_monotonic_decreasing) == (1.0, True)


MIX = (Share("free", 20.0, 5.0), Share("basic", 200.0, 3.0), Share("premium", 600.0, 2.0))


def test_users_are_on_the_plans_of_the_mix_each_with_its_quota() -> None:
    """Σ min(own quota, demand) ÷ Σ demand is what the other end serves, and shares are those of the weights."""
    people, wanted, asked, on = Population(plans=MIX), 0.0, 0.0, np.zeros(3)
    for drawn in population.blocks(people, 3, sessions=3_000):
        each = np.bincount(drawn.arrivals.account, drawn.arrivals.images, drawn.accounts)
        quota = np.array([share.quota for share in MIX])[drawn.terms]
        wanted, asked = wanted + np.minimum(each, quota).sum(), asked + each.sum()
        on += np.bincount(drawn.terms, minlength=3)
    assert on / on.sum() == pytest.approx([0.5, 0.3, 0.2], abs=0.03)
    found = experiments.on_sessions(CATALOG, Config(), laws.chosen(["headroom"]), 3_000, people=people, seed=3)
    assert found.standings.best_fresh_rate == pytest.approx(wanted / asked, abs=1e-12)
    alone = experiments.on_sessions(CATALOG, Config(), laws.chosen(["headroom"]), 3_000, seed=3)
    assert found.standings.pressed > alone.standings.pressed, "half of them have 20 credits instead of 200"


def test_a_mix_of_one_plan_is_that_plan(mock: Mock) -> None:
    people = SMALL._replace(quota=1.0, plans=(Share("basic", 25.0, 0.3),))
    again = experiments.on_sessions(CATALOG, Config(), laws.chosen(laws.DESIGN), 2_000, people=people, seed=3)
    assert again.frame.equals(mock.frame)


def test_each_plan_goes_by_its_own_thresholds() -> None:
    """Free tolerates a thinner library than premium does: the same users miss less on it."""
    missed = [
        experiments.on_sessions(
            CATALOG,
            Config(),
            laws.chosen(["zones"]),
            500,
            people=Population(plans=(Share(plan, 50.0, 1.0),), stock=10.0),
        ).frame["coverage_miss_rate"][0]
        for plan in ("free", "premium")
    ]
    assert missed[0] < missed[1]


def test_the_mix_is_the_ledger_s_and_without_accounts_the_catalogue_s(ledger: replay.Prepared) -> None:
    found = population.mixed(CATALOG, paced_mix(ledger.facts))
    query = "SELECT plan, count(*) FROM accounts WHERE quota_uc > 0 GROUP BY 1"
    with ledger.facts.engine.connect() as connection:
        counted = {str(plan): int(count) for plan, count in connection.exec_driver_sql(query)}
    paced = {name for name, plan in CATALOG.plans.items() if plan.quota_policy == "titrated_monthly"}
    assert {share.plan: share.weight for share in found} == {name: n for name, n in counted.items() if name in paced}
    assert {(share.plan, share.quota) for share in found} >= {("free", 20.0), ("basic", 200.0), ("premium", 600.0)}
    alike = population.mixed(CATALOG, [])
    assert {share.plan for share in alike} == paced
    assert {share.weight for share in alike} == {1.0}


def test_the_same_seed_gives_the_same_answer(mock: Mock) -> None:
    again = experiments.on_sessions(CATALOG, Config(), laws.chosen(laws.DESIGN), 2_000, people=SMALL, seed=3, threads=1)
    assert again.frame.equals(mock.frame)


def test_it_can_be_stopped_and_none_is_refused() -> None:
    with pytest.raises(Stopped, match="nothing was written"):
        experiments.on_sessions(CATALOG, Config(), laws.chosen(["zones"]), 10, stopped=lambda: True)
    with pytest.raises(InvalidRequest, match="1 or more"):
        experiments.on_sessions(CATALOG, Config(), laws.chosen(["zones"]), 0)


def test_kaplan_and_meier_by_hand() -> None:
    """Five users with 3 sessions each: one runs out in the 1st, one in the 2nd, one leaves unharmed after 2."""
    tally = retention.Tally()
    rate = np.array([1.0, 0.5, 0.0])
    tally.add(
        retention.Sessions(rate, first_dry=np.array([1, 2, 0, 0, 0]), had=np.array([3, 3, 2, 3, 3])),
        np.array([True] * 5),
    )
    assert tally.survival()["without"].head(4).tolist() == pytest.approx([1.0, 0.8, 0.6, 0.6])
    assert tally.sessions_to_run_out == pytest.approx((1 + 2 + 2 + 3 + 3) / 5)
    assert tally.session_variance == pytest.approx(rate.var(ddof=1))
    assert np.isnan(retention.Tally().session_variance)


def test_people_are_like_those_of_the_trace() -> None:
    """GenTD26 over 17 days: 1.33 sessions a user, median request of one image, 1.67 % who want more than 113 credits."""
    people = Population(quota=113.0, cycle_days=17.0)
    drawn = population.draw(people, 1, 0, 20_000, 0.0)
    each = np.bincount(drawn.arrivals.account, drawn.arrivals.images, drawn.accounts)
    assert drawn.sessions / drawn.accounts == pytest.approx(1.33, abs=0.03)
    assert (each > 113).mean() == pytest.approx(0.0167, abs=0.004)
    assert np.median(drawn.arrivals.images) == 1
    assert np.median(each) == pytest.approx(3.0, abs=1.0)
    growing = population.draw(people._replace(growth=4.0), 1, 0, 20_000, 0.0).arrivals.at_us.mean()
    assert growing > drawn.arrivals.at_us.mean()


def test_more_users_do_not_change_the_first_ones() -> None:
    first = next(population.blocks(SMALL, 9, accounts=population.BLOCK))
    again = next(population.blocks(SMALL, 9, accounts=3 * population.BLOCK))
    assert np.array_equal(first.arrivals.at_us, again.arrivals.at_us)
    assert [drawn.accounts for drawn in population.blocks(SMALL, 9, accounts=population.BLOCK + 7)] == [
        population.BLOCK,
        7,
    ]
