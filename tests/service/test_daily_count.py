"""daily_count: so many generations a local day, counted from the ledger, failed ones given back (SPEC 3)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from credit_core import CreditCore, Decision
from credit_core.errors import AlreadyEnded, RequestMismatch
from credit_core.service.offline import Spend
from tests.service.scenes import NOW, ask, entries, everything, make_live, moves
from tests.service.together import together

LIMIT = 5


@pytest.fixture
def daily(core: CreditCore) -> CreditCore:
    """No cool-down and no rate limit; the counts stay."""
    make_live(core, {"limits.enabled": False})
    core.add_user("ada", "daily", at=NOW)
    return core


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def served(decision: Decision) -> bool:
    return decision.status == "RESERVED"


def test_five_a_day_are_served_for_nothing_and_the_sixth_hears_when_the_next_day_begins(daily: CreditCore) -> None:
    answers = [ask(daily, f"r-{n}") for n in range(6)]
    assert [answer.remaining for answer in answers] == [4, 3, 2, 1, 0, 0]
    assert [answer.status for answer in answers] == ["RESERVED"] * 5 + ["RATE_LIMITED"]
    refused = answers[-1]
    assert (refused.rule, refused.http_status, refused.retry_after_s) == ("over_limit", 429, 12 * 3600.0)
    assert (refused.amount_uc, refused.model, refused.outcome) == (0, None, None)
    assert moves(daily) == [("reserve", None, 0, 0)] * 5 + [("rate_limited", None, 0, 0)]
    assert [row["d_count"] for row in entries(daily)] == [1] * 5 + [None]
    assert daily.balance("ada").available_uc == 0
    assert daily.verify() == []


def test_a_settle_keeps_the_count_and_says_what_the_provider_charged(daily: CreditCore) -> None:
    assert ask(daily).model == "stable-diffusion-xl"
    ended = daily.settle("ada", "r-1", latency_ms=900, at=NOW)
    assert (ended.settled_uc, ended.returned_uc, ended.cost_usd_micro) == (0, 0, 80_000)
    assert daily.settle("ada", "r-1", at=NOW).replayed
    assert ask(daily, "r-2").remaining == 3
    assert daily.verify() == []


@pytest.mark.parametrize("how", ["release", "partial", "sweep"])
def test_one_that_failed_gives_its_count_back_once(daily: CreditCore, how: str) -> None:
    for n in range(LIMIT):
        ask(daily, f"r-{n}")
    for _ in range(2):
        if how == "release":
            daily.release("ada", "r-0", "provider_error", at=NOW)
        elif how == "partial":
            daily.partial("ada", "r-0", at=NOW)
        else:
            for n in range(1, LIMIT):
                if not any(row["kind"] == "settle" and row["request_id"] == f"r-{n}" for row in entries(daily)):
                    daily.settle("ada", f"r-{n}", at=NOW)
            daily.sweep(at=NOW + timedelta(hours=1))
    assert sum(row["d_count"] or 0 for row in entries(daily)) == 4
    again = ask(daily, "again", at=NOW + timedelta(hours=1))
    assert (again.status, again.remaining) == ("RESERVED", 0)
    assert not served(ask(daily, "more", at=NOW + timedelta(hours=1)))
    assert daily.verify() == []


def test_what_fails_tomorrow_is_given_back_to_the_day_it_was_made_on(daily: CreditCore) -> None:
    ask(daily, "old", images=3)
    tomorrow = NOW + timedelta(days=1)
    assert ask(daily, "new", images=2, at=tomorrow).remaining == 3
    daily.release("ada", "old", "provider_error", at=tomorrow)
    assert ask(daily, "newer", at=tomorrow).remaining == 2
    assert ask(daily, "late", at=NOW).remaining == 4
    assert daily.verify() == []


def test_n_images_count_n_and_more_than_are_left_are_refused_whole(daily: CreditCore) -> None:
    assert ask(daily, "r-1", images=4).remaining == 1
    refused = ask(daily, "r-2", images=2)
    assert (refused.rule, refused.remaining) == ("over_limit", 1)
    assert served(ask(daily, "r-3"))
    assert daily.verify() == []


@pytest.mark.parametrize(
    ("zone", "last", "first"),
    [
        ("UTC", "2025-03-10T23:59:59.999999", "2025-03-11T00:00"),
        ("Asia/Kathmandu", "2025-03-10T18:14:59.999999", "2025-03-10T18:15"),
        ("Pacific/Chatham", "2025-03-11T10:14:59.999999", "2025-03-11T10:15"),
        ("Australia/Eucla", "2025-03-11T15:14:59.999999", "2025-03-11T15:15"),
        ("Europe/Berlin", "2025-03-30T21:59:59.999999", "2025-03-30T22:00"),
        ("Europe/Berlin", "2025-10-26T22:59:59.999999", "2025-10-26T23:00"),
    ],
)
def test_the_day_ends_at_the_users_midnight_to_the_microsecond(
    core: CreditCore, zone: str, last: str, first: str
) -> None:
    make_live(core, {"limits.enabled": False})
    core.add_user("ada", "daily", zone, at=NOW)
    assert served(ask(core, "r-1", images=LIMIT, at=utc(last)))
    refused = ask(core, "r-2", at=utc(last))
    assert (refused.rule, refused.retry_after_s, refused.state.allowance) == (
        "over_limit", 1e-6, ("day", LIMIT, LIMIT, utc(first)),
    )  # fmt: skip
    assert ask(core, "r-3", at=utc(first)).remaining == 4
    assert core.verify() == []


def test_the_days_of_a_clock_change_have_23_and_25_hours(core: CreditCore) -> None:
    make_live(core, {"limits.enabled": False})
    core.add_user("ada", "daily", "Europe/Berlin", at=utc("2025-03-01T00:00"))
    # 30 March begins at 23:00 UTC of the 29th and lasts 23 hours; 26 October begins at 22:00 UTC and lasts 25.
    for number, (start, hours) in enumerate([(utc("2025-03-29T23:00"), 23), (utc("2025-10-25T22:00"), 25)]):
        end = start + timedelta(hours=hours)
        assert served(ask(core, f"{number}-first", images=LIMIT, at=start))
        assert not served(ask(core, f"{number}-over", at=end - timedelta(minutes=1)))
        assert served(ask(core, f"{number}-next", images=LIMIT, at=end))
    assert core.verify() == []


def test_fifty_at_once_for_five_get_exactly_five(daily: CreditCore) -> None:
    answers = together(lambda n: ask(daily, f"r-{n}"), range(50))
    assert sorted(answer.status for answer in answers) == ["RATE_LIMITED"] * 45 + ["RESERVED"] * 5
    assert sorted(a.remaining for a in answers if served(a)) == [0, 1, 2, 3, 4]
    assert daily.verify() == []


def test_a_plan_without_a_limit_serves_and_counts_without_end(core: CreditCore) -> None:
    make_live(core, {"limits.enabled": False})
    core.add_user("ada", "daily_premium", at=NOW)
    answers = [ask(core, f"r-{n}", images=100) for n in range(12)]
    assert {(answer.status, answer.remaining) for answer in answers} == {("RESERVED", None)}
    assert sum(row["d_count"] for row in entries(core)) == 1_200
    assert core.explain("ada", "r-3").sentence == "Fresh: plan daily_premium has no limit."
    assert core.verify() == []


def test_the_same_call_again_hears_the_first_answer_also_once_there_is_room(daily: CreditCore) -> None:
    ask(daily, "all", images=LIMIT)
    refused = ask(daily, "r-1")
    daily.release("ada", "all", "provider_error", at=NOW)
    before = everything(daily)
    again = ask(daily, "r-1")
    assert again.replayed
    assert again._replace(replayed=False) == refused
    assert everything(daily) == before
    with pytest.raises(RequestMismatch):
        ask(daily, "r-1", images=2)
    with pytest.raises(AlreadyEnded):
        daily.settle("ada", "r-1", at=NOW)
    assert served(ask(daily, "r-2"))


def test_between_two_fresh_ones_lie_ten_seconds(core: CreditCore) -> None:
    core.add_user("ada", "daily", at=NOW)
    core.add_user("bob", "prepaid", at=NOW)
    assert served(ask(core, "r-1"))
    early = ask(core, "r-2", at=NOW + timedelta(seconds=2.5))
    assert (early.rule, early.status, early.retry_after_s) == ("rate_limited", "RATE_LIMITED", 7.5)
    assert early.remaining == 4
    # What was refused does not begin the wait anew.
    assert served(ask(core, "r-3", at=NOW + timedelta(seconds=10)))
    assert [served(ask(core, f"b-{n}", user="bob")) for n in range(3)] == [True] * 3
    make_live(core, {"limits.cool_down_s": 0.0})
    assert [served(ask(core, f"z-{n}", at=NOW + timedelta(seconds=10))) for n in range(2)] == [True] * 2
    assert core.explain("ada", "r-2").exact
    assert core.verify() == []


def test_a_pause_refuses_and_its_end_goes_on_counting(daily: CreditCore) -> None:
    ask(daily, "r-1", images=2)
    daily.pause("ada", at=NOW)
    assert (ask(daily, "r-2").rule, ask(daily, "r-2").http_status) == ("paused", 403)
    daily.resume("ada", at=NOW + timedelta(hours=1))
    assert ask(daily, "r-3", at=NOW + timedelta(hours=1)).remaining == 2
    explained = daily.explain("ada", "r-2")
    assert explained.exact, explained.differences
    assert daily.reconcile(at=NOW + timedelta(days=90)).closings == 0
    assert daily.verify() == []


def test_spends_made_offline_count_on_their_own_days(daily: CreditCore) -> None:
    yesterday = NOW - timedelta(days=1)
    spends = [Spend(f"y-{n}", yesterday + timedelta(minutes=n), 2) for n in range(3)] + [Spend("t", NOW, 3)]
    done = daily.sync("ada", spends, at=NOW + timedelta(hours=1))
    assert (done.taken, done.overdrawn) == (("y-0", "y-1", "t"), ("y-2",))
    assert daily.sync("ada", spends, at=NOW + timedelta(hours=1)).known == ("y-0", "y-1", "y-2", "t")
    assert ask(daily, at=NOW + timedelta(hours=1)).remaining == 1
    assert moves(daily)[:4] == [
        ("import", None, 0, 0), ("import", None, 0, 0), ("rejected", None, 0, 0), ("import", None, 0, 0),
    ]  # fmt: skip
    assert daily.verify() == []


def test_every_answer_is_explained_exactly(daily: CreditCore) -> None:
    ask(daily, "r-1", images=4)
    ask(daily, "r-2", images=2)
    ask(daily, "r-3")
    ask(daily, "r-4")
    explained = {name: daily.explain("ada", name) for name in ("r-1", "r-2", "r-3", "r-4")}
    assert [one.differences for one in explained.values()] == [{}] * 4
    assert [one.sentence for one in explained.values()] == [
        "Fresh: none of 5 generations were used today before it, so 1 is left.",
        "Refused: 4 of 5 generations were used today. 1 at once would still do. "
        "The count resets at 2025-03-11 00:00 UTC; ask again then, under a new request id.",
        "Fresh: 4 of 5 generations were used today before it, so none are left.",
        "Refused: 5 of 5 generations were used today. "
        "The count resets at 2025-03-11 00:00 UTC; ask again then, under a new request id.",
    ]
