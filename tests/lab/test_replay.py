"""Closed-loop replay of a candidate: what follows from other decisions, and what stays as it was."""

from __future__ import annotations

import numpy as np
import pytest

from credit_core import CreditCore
from credit_core.errors import InvalidConfig, InvalidRequest, Stopped
from credit_core.lab import outcomes, replay
from credit_core.lab.outcomes import Comparison
from credit_core.policy.config import Config, apply_changes
from tests.lab.busy import SALT, live_through
from tests.lab.opening import closed, prepared
from tests.service.scenes import CREDIT, FRESH_FOR_ALL, LIBRARY_FOR_ALL, NOW, StoppedClock, ask, make_live

__all__ = ["closed"]


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> replay.Prepared:
    url = f"sqlite:///{tmp_path_factory.mktemp('busy') / 'ledger.db'}"
    clock = StoppedClock(NOW)
    with CreditCore.open(url, clock=clock, draw_salt=SALT) as core:
        live_through(core, clock, days=40, seed=5)
    return prepared(url)


def newest(ledger: replay.Prepared) -> Config:
    return ledger.configs[max(ledger.configs)]


def compared(url: str, changes: dict[str, object], days: int = 28) -> Comparison:
    ledger = prepared(url)
    live = newest(ledger)
    candidate = apply_changes(live.body(), changes)
    return outcomes.compare(replay.run(ledger, [live, candidate], replay.last_days(ledger, days)))


def test_the_same_configuration_changes_nothing(busy: replay.Prepared) -> None:
    live = newest(busy)
    found = outcomes.compare(replay.run(busy, [live, live], replay.last_days(busy, 20)))
    assert (found.metrics["difference"].fillna(0.0) == 0.0).all()
    assert (found.winners, found.losers) == (0, 0)


def test_batches_and_threads_do_not_change_the_result(busy: replay.Prepared) -> None:
    period, live = replay.last_days(busy, 20), newest(busy)
    whole = replay.run(busy, [live], period)
    parts = replay.run(busy, [live], period, batch_entries=1, threads=1)
    assert parts.account_ids == whole.account_ids
    assert parts.runs[0].sums.tobytes() == whole.runs[0].sums.tobytes()
    assert np.array_equal(parts.runs[0].days, whole.runs[0].days, equal_nan=True)


def test_what_came_before_the_window_is_taken_as_logged(busy: replay.Prepared) -> None:
    """Every version decided its own weeks; the candidate starts from the balances that were really there."""
    found = replay.run(busy, [newest(busy)], replay.last_days(busy, 7))
    assert found.runs[0].sums["broken"].sum() == 0.0
    assert 0 < found.runs[0].sums["requests"].sum() < 150


def test_each_decision_s_own_version_gives_the_ledger_s_totals(busy: replay.Prepared) -> None:
    (own,) = replay.run(busy, [None], replay.whole(busy)).runs
    with busy.facts.engine.connect() as connection:
        settled, refunded, fresh = connection.exec_driver_sql(
            "SELECT sum(CASE WHEN kind = 'settle' THEN -(d_avail_uc + d_held_uc) ELSE 0 END),"
            " sum(CASE WHEN kind = 'refund' THEN d_avail_uc ELSE 0 END),"
            " sum(CASE WHEN kind = 'reserve' THEN d_held_uc ELSE 0 END) FROM ledger_entries"
        ).one()
    assert own.sums["settled_uc"].sum() == settled
    assert own.sums["refunded_uc"].sum() == refunded
    assert own.sums["fresh_uc"].sum() == fresh


def test_it_can_be_stopped_and_tells_how_far_it_is(busy: replay.Prepared) -> None:
    told: list[float] = []
    replay.run(busy, [newest(busy)], replay.whole(busy), progress=lambda share, _: told.append(share), batch_entries=1)
    assert told == [pytest.approx(1 / 3), pytest.approx(2 / 3), 1.0]
    with pytest.raises(Stopped, match="stopped"):
        replay.run(busy, [newest(busy)], replay.whole(busy), stopped=lambda: True)


def test_a_credit_spent_in_the_replay_is_missing_from_the_next_decision(
    sqlite_ledger: str, clock: StoppedClock
) -> None:
    with CreditCore.open(sqlite_ledger, clock=clock) as core:
        make_live(core, LIBRARY_FOR_ALL)
        core.add_user("ada", "free", at=clock.now)
        for number in range(25):
            ask(core, f"r-{number}", at=clock.advance(hours=1))
    found = compared(sqlite_ledger, FRESH_FOR_ALL)
    assert (found.value("fresh_rate", "live"), found.value("fresh_rate")) == (0.0, 20 / 25)
    assert found.value("fresh_credits") == 20.0
    assert found.value("run_out_share") == 1.0
    assert found.value("provider_cost") > 0.0


def test_a_fresh_one_keeps_its_logged_end_and_a_library_one_has_nothing_to_end(
    sqlite_ledger: str, clock: StoppedClock
) -> None:
    with CreditCore.open(sqlite_ledger, clock=clock) as core:
        make_live(core, FRESH_FOR_ALL)
        core.add_user("ada", "free", at=clock.now)
        ask(core, "half", images=4, at=clock.now)
        core.settle("ada", "half", CREDIT, at=clock.advance(seconds=5))
        core.refund("ada", "half", CREDIT, "k", "sam", "test", at=clock.advance(seconds=5))
        ask(core, "failed", images=4, at=clock.advance(seconds=5))
        core.release("ada", "failed", "provider_error", at=clock.advance(seconds=5))
    ledger = prepared(sqlite_ledger)
    live = newest(ledger)
    never = apply_changes(live.body(), LIBRARY_FOR_ALL)
    runs = replay.run(ledger, [live, never], replay.whole(ledger)).runs
    assert [run.sums["settled_uc"].sum() for run in runs] == [CREDIT, 0.0]
    assert [run.sums["refunded_uc"].sum() for run in runs] == [CREDIT, 0.0], "no more than the replay charged"


def test_a_shorter_lifetime_sweeps_what_the_log_settled(sqlite_ledger: str, clock: StoppedClock) -> None:
    with CreditCore.open(sqlite_ledger, clock=clock) as core:
        make_live(core, FRESH_FOR_ALL)
        core.add_user("ada", "free", at=clock.now)
        ask(core, "slow", images=4, at=clock.now)
        core.settle("ada", "slow", at=clock.advance(minutes=10))
        ask(core, "next", at=clock.advance(minutes=10))
    ledger = prepared(sqlite_ledger)
    live = newest(ledger)
    hasty = apply_changes(live.body(), {"saga.hold_ttl_s": 60.0})
    runs = replay.run(ledger, [live, hasty], replay.whole(ledger)).runs
    assert [run.sums["settled_uc"].sum() for run in runs] == [4.0 * CREDIT, 0.0]


def test_the_rollover_of_the_candidate_closes_the_cycle(sqlite_ledger: str, clock: StoppedClock) -> None:
    with CreditCore.open(sqlite_ledger, clock=clock) as core:
        core.add_user("ada", "basic", at=clock.now)
        core.reconcile(clock.advance(days=32))
    ledger = prepared(sqlite_ledger)
    live = newest(ledger)
    strict = apply_changes(live.body(), {"plans.basic.cap_multiple": 1.25})
    runs = replay.run(ledger, [live, strict], replay.whole(ledger)).runs
    assert [run.sums["unspent_uc"].sum() for run in runs] == [200.0 * CREDIT, 200.0 * CREDIT]
    assert [run.sums["expired_uc"].sum() for run in runs] == [0.0, 150.0 * CREDIT]


def test_accounts_on_other_quota_policies_are_left_out_and_counted(sqlite_ledger: str, clock: StoppedClock) -> None:
    with CreditCore.open(sqlite_ledger, clock=clock) as core:
        core.add_user("ada", "basic", at=clock.now)
        core.add_user("pia", "creator_pro", at=clock.now)
        ask(core, "r-1", at=clock.now)
        ask(core, "r-2", user="pia", at=clock.now)
    ledger = prepared(sqlite_ledger)
    assert (ledger.accounts["account_id"].tolist(), ledger.left_out) == (["user:ada"], 1)


def test_a_decision_that_was_logged_otherwise_is_named(sqlite_ledger: str, clock: StoppedClock) -> None:
    """The planted fault: one logged p of another law."""
    with CreditCore.open(sqlite_ledger, clock=clock) as core:
        core.add_user("ada", "basic", at=clock.now)
        for number in range(5):
            ask(core, f"r-{number}", at=clock.advance(hours=1))
    ledger = prepared(sqlite_ledger)
    assert replay.disagreements(ledger).empty
    ledger.configs[1] = apply_changes(ledger.configs[1].body(), {"controller.p_at_zero": 0.51})
    assert replay.disagreements(ledger)["request_id"].tolist() == [f"r-{number}" for number in range(5)]


def test_more_decimals_than_closings_can_hold_are_refused(busy: replay.Prepared) -> None:
    fine = apply_changes(newest(busy).body(), {"plans.basic.soft_decay": 0.12345678901})
    with pytest.raises(InvalidConfig, match="at most 9 decimals"):
        replay.run(busy, [fine], replay.whole(busy))


def test_a_period_of_no_days_is_refused(busy: replay.Prepared) -> None:
    with pytest.raises(InvalidRequest, match="1 or more"):
        replay.last_days(busy, 0)


def test_groups_add_up_and_surplus_is_told_day_by_day(busy: replay.Prepared) -> None:
    live = newest(busy)
    bold = apply_changes(live.body(), {"controller.strategy": "reserve"})
    period = replay.last_days(busy, 14)
    found = outcomes.compare(replay.run(busy, [live, bold], period))
    for by in ("plan", "segment"):
        rows = found.metrics[(found.metrics["by"] == by) & (found.metrics["slug"] == "fresh_credits")]
        assert rows["candidate"].sum() == found.value("fresh_credits")
    assert len(found.surplus) == 2 * len(period.day_ends)
    assert set(found.surplus["side"]) == {"live", "candidate"}
    assert found.metrics["low"].isna().all(), "three accounts are too few for an interval"
    assert found.accounts["difference"].is_monotonic_increasing
