"""The preview of a draft: all accounts and a sample of them, behind a filter, against the ledger and against the replay."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from credit_core.analytics import queries
from credit_core.analytics.filters import Filters, Period
from credit_core.analytics.sync import Facts
from credit_core.errors import Stopped
from credit_core.importers import demo
from credit_core.lab import outcomes, preview, replay, strata
from credit_core.lab.preview import Ready
from credit_core.policy.config import Config, apply_changes
from credit_core.units import from_us
from tests.lab.opening import CATALOG

END = datetime(2025, 4, 2, 12, tzinfo=UTC)
DAYS = 14
LAST = Filters(Period(END - timedelta(days=DAYS), END))


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Facts]:
    url = f"sqlite:///{tmp_path_factory.mktemp('preview') / 'demo.db'}"
    demo.make(url, END, users=90, days=35, seed=5)
    opened = Facts.open(url)
    opened.follow()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def ready(facts: Facts) -> Ready:
    found = preview.read(facts, CATALOG, LAST, size=30)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def live(ready: Ready) -> Config:
    return ready.prepared.configs[max(ready.prepared.configs)]


@pytest.fixture(scope="module")
def bold(live: Config) -> Config:
    return apply_changes(live.body(), {"controller.strategy": "reserve"})


def test_all_accounts_come_to_what_the_replay_says(ready: Ready, live: Config, bold: Config) -> None:
    plain = outcomes.compare(replay.run(ready.prepared, [live, bold], ready.period))
    found = preview.refined(ready, live, bold)
    pd.testing.assert_frame_equal(found.metrics, plain.metrics)
    pd.testing.assert_frame_equal(found.accounts, plain.accounts)
    assert preview.known(ready, live, bold) is found
    assert preview.known(ready, live, live) is None


def test_a_ledger_too_long_to_keep_is_read_again_and_comes_to_the_same(
    facts: Facts, ready: Ready, live: Config, bold: Config
) -> None:
    long = preview.read(facts, CATALOG, LAST, size=30, most_entries=10, batch_entries=500)
    assert long is not None
    assert long.batches == []
    assert long.sample is not None
    assert ready.sample is not None
    assert long.sample.account_ids == ready.sample.account_ids
    pd.testing.assert_frame_equal(preview.refined(long, live, bold).metrics, preview.refined(ready, live, bold).metrics)
    pd.testing.assert_frame_equal(preview.at_once(long, live, bold).metrics, preview.at_once(ready, live, bold).metrics)


def test_a_sample_stands_for_all_accounts(ready: Ready, live: Config, bold: Config) -> None:
    assert ready.sample is not None
    assert ready.weights is not None
    assert len(ready.sample.account_ids) < ready.accounts
    assert ready.weights.sum() == pytest.approx(ready.accounts)
    some, whole = preview.at_once(ready, live, bold), preview.refined(ready, live, bold)
    for slug in ("fresh_credits", "provider_cost", "demand_credits"):
        assert some.value(slug) == pytest.approx(whole.value(slug), rel=0.15)
    assert some.value("fresh_rate") == pytest.approx(whole.value("fresh_rate"), abs=0.05)
    assert set(some.metrics["by"]) == {"all"}, "a sample has too few of some plans"
    assert some.burn["credits"].iloc[-1] == pytest.approx(whole.burn["credits"].iloc[-1], rel=0.15)


def test_few_accounts_are_all_taken_at_once(facts: Facts, live: Config, bold: Config) -> None:
    few = preview.read(facts, CATALOG, LAST)
    assert few is not None
    assert (few.sample, few.weights) == (None, None)
    assert preview.at_once(few, live, bold) is preview.refined(few, live, bold)


def test_the_burn_of_live_is_what_the_ledger_spent(facts: Facts, ready: Ready) -> None:
    """Decided by their own versions the accounts spend what they spent, day by day."""
    period = replay.period_of(ready.prepared, ready.period.start_us, ready.period.end_us)
    own = replay.run(ready.prepared, [None], period)
    found = outcomes.compare(own, 0, 0)
    span = Period(from_us(ready.period.start_us), from_us(ready.period.end_us))
    spent = queries.burn_against_pace(facts, Filters(span, within=tuple(ready.world.plans)))
    by_day = spent.groupby("day")["spent_credits"].sum().cumsum()
    assert found.burn[found.burn["side"] == "live"]["credits"].tolist() == pytest.approx(by_day.tolist())
    assert ready.pace["credits"].iloc[-1] == pytest.approx(spent.groupby("day")["pace_credits"].sum().sum())


def test_filters_narrow_whose_requests_are_replayed(facts: Facts) -> None:
    basic = preview.read(facts, CATALOG, replace(LAST, plans=("basic",)))
    assert basic is not None
    assert {plan for batch in basic.batches for plan in batch.plan} == {"basic"}
    europe = preview.read(facts, CATALOG, replace(LAST, regions=("eu",)))
    assert europe is not None
    kept = {name for batch in europe.batches for name in batch.account_ids}
    with facts.engine.connect() as connection:
        eu = connection.exec_driver_sql("SELECT account_id FROM accounts WHERE region = 'eu'").scalars()
        assert kept <= set(eu)
    assert kept


def test_where_nobody_was_decided_on_there_is_nothing(facts: Facts) -> None:
    before = Filters(Period(END - timedelta(days=90), END - timedelta(days=60)))
    assert preview.read(facts, CATALOG, before) is None


def test_every_decision_comes_out_as_it_was_logged(facts: Facts, ready: Ready, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ready.unlike == 0
    other = apply_changes(ready.prepared.configs[1].body(), {"controller.k": 0.5})
    opened = replay.open_ledger(facts, CATALOG)
    monkeypatch.setattr(replay, "open_ledger", lambda *_: replace(opened, configs=dict.fromkeys(opened.configs, other)))
    mixed = preview.read(facts, CATALOG, LAST)
    assert mixed is not None
    assert mixed.unlike > 100, "the guard fires: other versions decide otherwise"


def test_it_tells_how_far_it_is_and_can_be_called_off(facts: Facts, ready: Ready, live: Config) -> None:
    told: list[float] = []
    preview.read(facts, CATALOG, LAST, progress=lambda share, _: told.append(share), batch_entries=2_000)
    assert told == sorted(told)
    assert told[-1] == 1.0
    with pytest.raises(Stopped):
        preview.read(facts, CATALOG, LAST, stopped=lambda: True)
    with pytest.raises(Stopped):
        preview.refined(ready, live, apply_changes(live.body(), {"controller.k": 0.9}), stopped=lambda: True)


def test_a_draft_with_a_segment_of_its_own_needs_another_reading(facts: Facts, ready: Ready, live: Config) -> None:
    draft = apply_changes(live.body(), {"nudges.segments.new": 2.0})
    assert ready.fits(live)
    assert not ready.fits(draft)
    again = preview.read(facts, CATALOG, LAST, draft)
    assert again is not None
    assert again.fits(draft)


def test_what_a_replay_takes_as_logged_is_named_as_unseen() -> None:
    changes = [
        "controller.k",
        "coverage.target",
        "rollover.burst_allowance",
        "slos.run_out_share",
        "limits.anomaly_factor",
    ]
    assert preview.unseen(changes) == ["coverage.target", "slos.run_out_share", "limits.anomaly_factor"]


# The sample --------------------------------------------------------------------------------------------------------


def test_places_go_to_strata_by_size_and_spread() -> None:
    counts = strata.allocated(np.array([1_000, 1_000, 2, 500]), np.array([1.0, 3.0, 9.0, 0.0]), 109)
    assert sum(counts) == 109
    assert counts[1] > 2.5 * counts[0]
    assert counts[2:] == [2, 3], "all of a tiny stratum, and a few of one that all ask the same"


def test_no_more_places_than_accounts_are_given_out() -> None:
    assert strata.allocated(np.array([5, 5]), np.array([1.0, 1.0]), 100) == [5, 5]


def test_accounts_are_told_apart_by_what_they_ask_for(ready: Ready) -> None:
    told = pd.concat([strata.describe(batch, ready.period) for batch in ready.batches])
    assert told["class"].isin(strata.CLASSES).all()
    mean = told.groupby("class")["demand"].mean()
    assert mean.get("idle", 0.0) == 0.0
    assert told["demand"].sum() == pytest.approx(
        preview.refined(ready, *[ready.prepared.configs[1]] * 2).value("demand_credits", "live")
    )


def test_weighted_quantiles_are_those_of_repeated_values() -> None:
    values, shares = np.array([3.0, 1.0, 2.0, 10.0]), [0.05, 0.25, 0.5, 0.95]
    ones = np.ones(4)
    assert outcomes.weighted_quantiles(values, ones, shares) == pytest.approx(np.quantile(values, shares).tolist())
    assert outcomes.weighted_quantiles(values, 7.0 * ones, shares) == pytest.approx(
        np.quantile(values, shares).tolist()
    )
    heavy = outcomes.weighted_quantiles(values, np.array([1.0, 1.0, 50.0, 1.0]), [0.5])
    assert heavy == pytest.approx([2.0], abs=0.6)
    assert outcomes.weighted_quantiles(np.array([4.0]), np.array([2.0]), [0.1, 0.9]) == [4.0, 4.0]
    assert np.isnan(outcomes.weighted_quantiles(np.array([]), np.array([]), [0.5])).all()
