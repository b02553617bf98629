"""Plans against pace, before and since a release, and who runs out when; worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from credit_core.analytics.filters import Filters, Period
from credit_core.analytics.queries import standing, surplus_now
from credit_core.analytics.sync import Facts
from credit_core.store import schema
from tests.analytics.ledgers import CREDIT, START, Ledger

Copy = Callable[..., Facts]
DAY = timedelta(days=1)
END = START + 60 * DAY
TEN_DAYS = Filters(Period(START, START + 10 * DAY))


@pytest.fixture
def town(ledger: Ledger, copied: Copy) -> Facts:
    """Six days of a basic account (200 in 30 days) that speeds up after a release, and of a free one (20) that empties."""
    ledger.account("b", "basic")
    ledger.account("f", "free")
    ledger.grant("b", START)
    ledger.grant("f", START)
    for day in range(6):
        amount = (5 if day < 3 else 10) * CREDIT
        ledger.fresh("b", f"b-{day}", START + day * DAY + timedelta(hours=12), ("monthly", amount))
    ledger.fresh("f", "f-0", START + DAY, ("monthly", 20 * CREDIT))
    ledger.leg("b", "library", START + 6 * DAY - timedelta(microseconds=1))
    ledger.add(schema.config_versions, {"version": 2, "created_at": START})
    release = {"release_id": 1, "version": 2, "arm": "all", "share": 1.0, "action": "rollback"}
    ledger.add(schema.config_releases, release | {"released_at": START + 3 * DAY})
    return copied(ledger.write())


def test_plans_stand_against_the_pace_of_the_days_the_ledger_covers(town: Facts) -> None:
    frame = standing.pace_by_plan(town, TEN_DAYS).set_index("plan")

    assert frame.index.to_list() == ["free", "basic"]
    assert frame["spent_uc"].to_dict() == {"basic": 45 * CREDIT, "free": 20 * CREDIT}
    assert frame.loc["basic", "pace_credits"] == pytest.approx(200 * 6 / 30, rel=1e-12)
    assert frame.loc["basic", "over_share"] == pytest.approx(45 / 40 - 1, rel=1e-9)
    assert frame.loc["free", "over_credits"] == pytest.approx(20 - 4, rel=1e-9)


def test_all_plans_together_add_up(town: Facts) -> None:
    whole = standing.pace_of_all(town, TEN_DAYS)

    assert whole.spent_uc == 65 * CREDIT
    assert whole.pace_credits == pytest.approx(44, rel=1e-9)
    assert whole.over_share == pytest.approx(65 / 44 - 1, rel=1e-9)


def test_a_model_has_no_pace(town: Facts) -> None:
    whole = standing.pace_of_all(town, TEN_DAYS.narrowed(models=("stable-diffusion-xl",)))

    assert whole.spent_uc == 65 * CREDIT
    assert (whole.pace_credits, whole.over_share) == (None, None)


def test_nothing_at_all_stands_nowhere(ledger: Ledger, copied: Copy) -> None:
    assert standing.pace_of_all(copied(ledger), TEN_DAYS) == (0, 0.0, None, None)


def test_a_release_parts_the_period(town: Facts) -> None:
    found = standing.since_release(town, TEN_DAYS)

    assert found is not None
    assert (found.version, found.action) == (2, "rollback")
    before, since = (frame.set_index("plan").loc["basic"] for frame in (found.before, found.since))
    assert (before["spent_credits"], since["spent_credits"]) == (15.0, 30.0)
    assert before["over_share"] == pytest.approx(15 / 20 - 1, rel=1e-9)
    assert since["over_share"] == pytest.approx(30 / 20 - 1, rel=1e-9)


@pytest.mark.parametrize("days", [(3.5, 6.0), (0.0, 3.9), (4.0, 6.0)])
def test_a_release_with_less_than_a_day_on_one_side_parts_nothing(town: Facts, days: tuple[float, float]) -> None:
    first, last = (START + count * DAY for count in days)

    assert standing.since_release(town, Filters(Period(first, last))) is None


def test_the_fleet_burns_what_its_plans_burn(town: Facts) -> None:
    frame = standing.fleet_burn(town, TEN_DAYS)

    assert len(frame) == 10
    assert frame["cum_spent_credits"].dropna().to_list() == [5, 30, 35, 45, 55, 65]
    assert frame["cum_pace_credits"].iloc[-1] == pytest.approx(220 * 10 / 30, rel=1e-9)


def test_each_day_bears_the_pace_of_all_its_plans(town: Facts) -> None:
    frame = standing.burn_by_day(town, TEN_DAYS)

    assert frame["pace_credits"].to_list() == pytest.approx([220 / 30] * len(frame), rel=1e-9)
    assert frame["spent_credits"].sum() == 65


def test_the_empty_are_told_from_those_who_run_out_soon(town: Facts) -> None:
    # 155 left at (45 ÷ 7) a day last 24.1 days: past the reset, which is 24 days away.
    assert standing.ends(town, TEN_DAYS) == (1, 0, None)
    for before in (START + 60 * DAY, END):
        assert standing.running_out(town, TEN_DAYS, before).empty


def test_whoever_ends_before_the_reset_is_soonest_first(ledger: Ledger, copied: Copy) -> None:
    for name, amount in (("slow", 60), ("quick", 150)):
        ledger.account(name)
        ledger.grant(name, START)
        ledger.fresh(name, name, START + DAY, ("monthly", amount * CREDIT))
    facts = copied(ledger.write())

    for before, limit, users in (
        (END, None, ["u-quick", "u-slow"]),
        (END, 1, ["u-quick"]),
        (START + 5 * DAY, None, ["u-quick"]),
    ):
        assert standing.running_out(facts, TEN_DAYS, before, limit)["user_id"].to_list() == users


def test_how_many_end_is_told_without_listing_them(town: Facts, ledger: Ledger, copied: Copy) -> None:
    assert standing.ends(town, TEN_DAYS) == (1, 0, None)
    for name, amount in (("slow", 60), ("quick", 150), ("idle", 0)):
        ledger.account(name)
        ledger.grant(name, START)
        if amount:
            ledger.fresh(name, name, START + DAY, ("monthly", amount * CREDIT))
    facts = copied(ledger.write())

    told = standing.running_out(facts, TEN_DAYS, END)
    empty = (surplus_now(facts, TEN_DAYS)["available_credits"] <= 0).sum()
    assert empty
    assert standing.ends(facts, TEN_DAYS) == (empty, 2, told["runs_out_at"].iloc[0])
    first, second = told["runs_out_at"]
    assert standing.ends(facts, TEN_DAYS, second) == (empty, 1, first)


def test_accounts_are_counted_on_either_side_of_pace(town: Facts, ledger: Ledger, copied: Copy) -> None:
    # At the sixth day's end on pace is 160 and 16: basic has 155, 0.75 days behind; free has 0, 24 days behind.
    found = standing.spread(town, TEN_DAYS)

    assert (found.accounts, found.behind, found.on_pace, found.ahead) == (2, 1, 1, 0)
    assert found.median == pytest.approx((-0.75 - 24) / 2, abs=1e-6)
    assert (found.behind_share, found.ahead_share) == (0.5, 0.0)
    assert standing.spread(copied(ledger), TEN_DAYS.narrowed(plans=("none",))) == standing.NOBODY


def test_what_today_is_compared_with_stood_at_the_last_midnight_before(town: Facts) -> None:
    def until(days: float) -> Filters:
        return Filters(Period(START, START + days * DAY))

    assert standing.spread_before(town, until(5)) == standing.spread(town, until(5))
    assert standing.spread_before(town, until(5.9)) == standing.spread(town, until(5))
    assert standing.spread_before(town, until(5)) != standing.spread_before(town, until(1))
    assert standing.spread_before(town, until(10).narrowed(plans=("none",))) == standing.NOBODY
