"""Run-out risk: resampled remainders against a second computation in plain Python, and forecasts against what happened."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import date, timedelta
from hashlib import blake2b

import numpy as np
import pandas as pd
import pytest

from credit_core.analytics import queries, resampling
from credit_core.analytics.filters import Filters, Period
from credit_core.analytics.queries import risk
from credit_core.analytics.resampling import Account, Pool
from credit_core.analytics.sync import Facts
from credit_core.policy.customer import risk_of
from tests.analytics.ledgers import CREDIT, START, Ledger

Copy = Callable[..., Facts]
DAY = timedelta(days=1)
MASK = (1 << 64) - 1


def uniform(seed: int, number: int) -> float:
    """SplitMix64, with Python's own integers."""
    z = (seed + number * 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return ((z ^ (z >> 31)) >> 11) / 2.0**53


def plainly(one: Account, pool: Pool, remainders: int) -> tuple[float, int | None]:
    """Remainder after remainder and day after day: the share that runs out, and the middle one's day."""
    days = -int(-one.days_left // 1)
    plan_days = 14 if pool.days else 0
    out = []
    for remainder in range(remainders):
        asked = 0
        for day in range(days):
            slot = uniform(one.seed, day * remainders + remainder + 1) * (len(one.own_uc) + plan_days)
            if slot < len(one.own_uc):
                wanted = one.own_uc[int(slot)]
            else:
                rank = int((slot - len(one.own_uc)) * (pool.days / 14))
                wanted = int(pool.spending[rank]) if rank < len(pool.spending) else 0
            if day == days - 1:
                wanted = int(wanted * (one.days_left - day))
            asked += wanted
            if asked > one.available_uc:
                out.append(day)
                break
    return len(out) / remainders, sorted(out)[(len(out) - 1) // 2] if out else None


def test_chances_and_days_equal_a_plain_computation() -> None:
    chance = random.Random(5)
    pools = {
        "basic": Pool(90, np.array([500_000, CREDIT, 2 * CREDIT, 9 * CREDIT], np.int64)),
        "free": Pool(0, np.array([], np.int64)),
    }
    accounts = [
        Account(
            chance.randrange(40) * CREDIT,
            chance.choice((0.25, 1.0, 3.7, 12.0)),
            [chance.choice((0, 0, CREDIT, 3 * CREDIT, 333_333)) for _ in range(chance.choice((1, 9, 28)))],
            chance.choice(("basic", "free")),
            resampling.seed_of(f"account {number}", date(2025, 3, 9)),
        )
        for number in range(24)
    ]
    accounts.append(Account(3 * CREDIT, 5.5, [], "basic", 7))  # knows nothing of itself: its plan speaks for it
    accounts.append(Account(3 * CREDIT, 5.5, [], "free", 7))  # nobody knows anything
    accounts.append(Account(3 * CREDIT, 0.0, [CREDIT], "basic", 7))  # the reset is now

    found = resampling.outlooks(accounts, pools, remainders=200)

    expected = [
        plainly(one, pools[one.plan], 200) if one.days_left and (one.own_uc or pools[one.plan].days) else (0.0, None)
        for one in accounts
    ]
    assert [(one.chance, one.days) for one in found] == expected
    assert {risk_of(one.chance) for one in found} == {"Low", "Medium", "High"}


def test_a_chance_does_not_depend_on_who_else_is_asked_about() -> None:
    pools = {"basic": Pool(30, np.arange(1, 20, dtype=np.int64) * CREDIT)}
    accounts = [
        Account(n * CREDIT, 20.5, [CREDIT] * 9, "basic", resampling.seed_of(f"a{n}", date(2025, 1, 1)))
        for n in range(80)
    ]
    together = resampling.outlooks(accounts, pools)
    assert [resampling.outlooks([one], pools)[0] for one in accounts[::9]] == together[::9]


def test_the_seed_is_of_the_account_and_the_day() -> None:
    digest = blake2b(b"user:ada\n2025-03-09", digest_size=8).digest()
    assert resampling.seed_of("user:ada", date(2025, 3, 9)) == int.from_bytes(digest, "big")


def spending(ledger: Ledger, name: str, credits_a_day: dict[int, int]) -> None:
    """Fresh ones of one credit each at noon of these days."""
    for day, number in credits_a_day.items():
        for one in range(number):
            ledger.fresh(name, f"{name}-{day}-{one}", START + day * DAY + timedelta(hours=12, minutes=one))


@pytest.fixture
def three(ledger: Ledger, copied: Copy) -> tuple[Ledger, Facts]:
    """``steady`` asks for one credit a day, ``never`` for none, ``dry`` for one more than it has left, every day."""
    for name in ("steady", "never", "dry"):
        ledger.account(name, "free")
        ledger.grant(name, START, credits=45 if name == "steady" else 20)
    spending(ledger, "steady", dict.fromkeys(range(10), 1))
    spending(ledger, "dry", dict.fromkeys(range(10), 2))
    for day in range(10):
        ledger.answer(
            "dry",
            f"unmet-{day}",
            START + day * DAY + timedelta(hours=13),
            "unaffordable",
            "library",
            cost_uc=3 * CREDIT,
        )
    ledger.leg("never", "library", START + 10 * DAY + timedelta(hours=1))
    ledger.write()
    return ledger, copied(ledger)


def test_demand_for_fresh_has_its_zeros_and_what_was_not_met(three: tuple[Ledger, Facts]) -> None:
    _, facts = three
    at = START + 10 * DAY + timedelta(hours=2)
    frame = queries.run_out_risk(facts, Filters(Period(START, at))).set_index("account_id")

    # Nine complete days: the first began in the middle of the account's first, which does not count; unless it asked on it.
    assert frame["wanted_credits_per_day"].to_dict() == {"steady": 1.0, "never": 0.0, "dry": 5.0}
    assert frame.index[0] == "dry"
    assert frame.loc["dry", "chance"] == 1.0
    assert frame.loc["dry", "risk"] == "High"
    newest = START + 10 * DAY + timedelta(hours=1, microseconds=1)
    assert frame.loc["dry", "expected_at"] == pd.Timestamp(newest)


def test_of_too_many_accounts_those_nearest_to_their_end_are_looked_at(
    three: tuple[Ledger, Facts], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, facts = three
    now = Filters(Period(START, START + 10 * DAY + timedelta(hours=2)))
    whole = queries.run_out_risk(facts, now).set_index("account_id")
    monkeypatch.setattr(risk, "MOST", 1)
    # What more of a plan's days there are than a table should hold is thinned, evenly.
    monkeypatch.setattr(risk, "MOST_DAYS", 10)
    few = queries.run_out_risk(facts, now).set_index("account_id")
    # Of whoever has nothing left nothing is to be foretold.
    assert whole.loc["dry", "available_credits"] == 0
    assert set(few.index) == {"steady"}
    assert abs(few.loc["steady", "chance"] - whole.loc["steady", "chance"]) < 0.1


def test_the_pages_chance_is_the_resamplers_on_the_same_days(three: tuple[Ledger, Facts]) -> None:
    _, facts = three
    at = START + 10 * DAY + timedelta(hours=2)
    newest = START + 10 * DAY + timedelta(hours=1, microseconds=1)
    pool = Pool(29, np.array([CREDIT] * 10 + [5 * CREDIT] * 10, np.int64))
    steady = Account(
        35 * CREDIT,
        (START + 30 * DAY - newest) / DAY,
        [CREDIT] * 10,
        "free",
        resampling.seed_of("steady", date(2025, 3, 11)),
    )
    known = queries.chance_of(facts, Filters(Period(START, at)), "u-steady")
    assert known == plainly(steady, pool, 1_000)[0]
    assert 0.1 < known < 0.9
    assert queries.chance_of(facts, Filters(Period(START, at)), "nobody") is None


def test_past_forecasts_are_held_against_what_happened(ledger: Ledger, copied: Copy) -> None:
    for name in ("ends", "lasts"):
        ledger.account(name, "free", days=12)
        ledger.grant(name, START, credits=20)
    spending(ledger, "ends", dict.fromkeys(range(6), 3))
    ledger.answer("ends", "no", START + 8 * DAY, "unaffordable", "library", cost_uc=CREDIT)
    ledger.leg("lasts", "library", START + 13 * DAY)
    frame = queries.risk_calibration(copied(ledger.write()), Filters(Period(START, START + 14 * DAY)))

    # One midnight, 7 days before the newest entry's: on 7 March, with two credits left and five days to go.
    assert frame["forecasts"].sum() == 2
    assert frame["ran_out"].sum() == 1
    worst = frame.iloc[-1]
    assert (worst["ran_out"], worst["observed"]) == (1, 1.0)
    assert worst["from_chance"] <= worst["predicted"] <= worst["to_chance"]
    assert worst["low"] == pytest.approx(0.2065, abs=1e-4)  # Wilson, 1 of 1


def test_a_ledger_without_entries_has_no_risk_and_no_forecasts(ledger: Ledger, copied: Copy) -> None:
    facts = copied(ledger)
    filters = Filters(Period(START, START + DAY))
    assert queries.run_out_risk(facts, filters).empty
    assert queries.risk_calibration(facts, filters).empty
