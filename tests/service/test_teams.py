"""Teams: a pool that nobody can overdraw, and a quota whose shares always add up (SPEC 2.2)."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from threading import Barrier
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import event

from credit_core import CreditCore, Decision, Spend
from credit_core.errors import Conflict, InvalidRequest, NotFound
from credit_core.policy.cycles import cycle_start
from tests.faults.processes import workers
from tests.service.scenes import CREDIT, FRESH_FOR_ALL, NOW, ask, everything, lots, make_live, moves, scalar
from tests.service.together import outcomes, together

DAY = timedelta(days=1)
APRIL, MAY, JUNE = (datetime(2025, month, 10, tzinfo=UTC) for month in (4, 5, 6))


def pool(core: CreditCore, plan: str = "free", **more: Any) -> CreditCore:
    """Team t, pooled, with ada and bob."""
    core.add_team("t", plan, "pooled", at=NOW, **more)
    for user in ("ada", "bob"):
        core.add_user(user, plan, team_id="t", at=NOW)
    return core


def shared(core: CreditCore, plan: str = "basic", timezone: str = "UTC", **weights: int) -> CreditCore:
    """Team t, apportioned."""
    core.add_team("t", plan, "apportioned", timezone, at=NOW)
    core.add_members("t", weights or {"ada": 1, "bob": 1, "eve": 1}, at=NOW)
    return core


def quotas(core: CreditCore) -> dict[str, int]:
    return {member.user_id: member.quota_uc for member in core.team("t").members}


def rows(core: CreditCore, query: str) -> list[tuple[Any, ...]]:
    with core.deployment.ledger.reading() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(query)]


# ----------------------------------------------------------------------------------------------------------------- pool


def test_members_of_a_pool_spend_from_one_account(fresh_core: CreditCore) -> None:
    pool(fresh_core)
    assert fresh_core.balance("ada") == fresh_core.balance("bob")
    assert ask(fresh_core, user="ada", images=5).status == "RESERVED"
    assert ask(fresh_core, user="bob", images=5).status == "RESERVED"
    fresh_core.settle("ada", "r-1", at=NOW)
    fresh_core.release("bob", "r-1", "provider_error", at=NOW)
    assert fresh_core.balance("bob").available_uc == 15 * CREDIT
    told = fresh_core.team("t")
    assert (told.quota_uc, told.available_uc, told.held_uc) == (20 * CREDIT, 15 * CREDIT, 0)
    assert [(one.user_id, one.account_id, one.weight) for one in told.members] == [
        ("ada", "team:t", None),
        ("bob", "team:t", None),
    ]
    assert scalar(fresh_core, "SELECT COUNT(*) FROM accounts") == 1
    assert fresh_core.verify() == []


def test_entries_bear_their_user_and_their_team(fresh_core: CreditCore) -> None:
    pool(fresh_core)
    ask(fresh_core, user="ada")
    fresh_core.settle("ada", "r-1", at=NOW)
    fresh_core.grant("bob", CREDIT, "bonus", "thanks", at=NOW)
    fresh_core.reconcile(at=APRIL)
    assert [(kind, user) for kind, user, team in rows(
        fresh_core, "SELECT kind, user_id, team_id FROM ledger_entries ORDER BY seq"
    ) if team == "t"] == [
        ("grant", None), ("reserve", "ada"), ("settle", "ada"), ("grant", "bob"), ("rollover", None), ("rollover", None),
        ("grant", None),
    ]  # fmt: skip


def test_a_member_sees_what_they_did_and_what_happened_to_the_pool(fresh_core: CreditCore) -> None:
    pool(fresh_core)
    for user in ("ada", "bob"):
        ask(fresh_core, user=user)
    assert [row["kind"] for row in fresh_core.history("ada")] == ["grant", "reserve"]
    assert {row["user_id"] for row in fresh_core.history("bob")} == {None, "bob"}
    assert [row["seq"] for row in fresh_core.history("bob", after_seq=1)] == [3]


def test_two_members_at_once_cannot_spend_a_credit_twice(fresh_core: CreditCore) -> None:
    """Two by two, each pair asks for more than half of what is left of the pool: never do both get it."""
    pool(fresh_core)
    left = 20
    for number, images in enumerate((11, 5, 3, 1)):
        start = Barrier(2)

        def tap(user: str, number: int = number, images: int = images, start: Barrier = start) -> Decision:
            start.wait()
            return ask(fresh_core, f"r-{number}", user=user, images=images)

        status = sorted(decision.status for decision in together(tap, ("ada", "bob")))
        assert status == (["LIBRARY", "RESERVED"] if 2 * images > left else ["RESERVED", "RESERVED"])
        left -= images * status.count("RESERVED")
    assert fresh_core.balance("ada").available_uc == left * CREDIT == 0
    assert fresh_core.balance("ada").held_uc == 20 * CREDIT
    assert fresh_core.verify() == []


def test_members_in_two_processes_share_what_the_pool_has(ledger_url: str) -> None:
    with CreditCore.open(ledger_url) as core:
        make_live(core, FRESH_FOR_ALL)
        core.add_team("t", "free", "pooled")
        for user in ("ada", "bob"):
            core.add_user(user, "free", team_id="t")
        with workers(ledger_url, 2) as started:
            for user, worker in zip(("ada", "bob"), started, strict=True):
                for n in range(12):
                    worker.tell("authorize", user=user, request_id=f"r-{n}", images=3)
            answers = [worker.hear()["status"] for worker in started for _ in range(12)]
        assert answers.count("RESERVED") == 6
        assert (core.team("t").available_uc, core.team("t").held_uc) == (2 * CREDIT, 18 * CREDIT)
        assert core.verify() == []


def test_a_request_id_is_each_members_own(fresh_core: CreditCore) -> None:
    pool(fresh_core)
    decisions = [ask(fresh_core, "same", user=user, images=n) for user, n in (("ada", 1), ("bob", 2))]
    assert [decision.replayed for decision in decisions] == [False, False]
    assert ask(fresh_core, "same", user="bob", images=2).replayed


def test_a_key_is_each_members_own(core: CreditCore) -> None:
    pool(core)
    for user in ("ada", "bob"):
        core.purchase(user, "starter", "invoice-1", at=NOW)
        core.adjust(user, CREDIT, "k", "sue", "sorry", at=NOW)
        core.purchase(user, "starter", "invoice-1", at=NOW)
    assert core.balance("ada").available_uc == (20 + 2 * 25 + 2) * CREDIT
    assert core.verify() == []


def test_sessions_are_capped_per_member(core: CreditCore) -> None:
    make_live(core, FRESH_FOR_ALL | {"session.max_fresh": 2})
    pool(core, "basic")
    seen = [ask(core, f"{user}-{n}", user=user).status for n in range(3) for user in ("ada", "bob")]
    assert seen == ["RESERVED"] * 4 + ["DEFERRED"] * 2
    assert {d.user_id for d in core.claim_deferred(at=NOW + timedelta(minutes=1))} == {"ada", "bob"}
    assert core.balance("ada").held_uc == 6 * CREDIT
    assert core.verify() == []


def test_rates_are_limited_per_member(core: CreditCore) -> None:
    make_live(core, FRESH_FOR_ALL | {"limits.enabled": True, "limits.bucket_capacity": 1.0})
    pool(core)
    seen = [ask(core, f"r-{n}", user=user).status for n in range(2) for user in ("ada", "bob")]
    assert seen == ["RESERVED", "RESERVED", "RATE_LIMITED", "RATE_LIMITED"]


def test_mode_and_arm_are_the_pools(core: CreditCore) -> None:
    make_live(core, FRESH_FOR_ALL | {"controller.k": 0.02}, share=0.5)
    pool(core, "basic")
    first, second = (ask(core, user=user, images=80) for user in ("ada", "bob"))
    assert first.arm == second.arm in ("treatment", "control")
    later = [ask(core, "late", user=user, at=NOW + timedelta(hours=1)) for user in ("ada", "bob")]
    assert {decision.mode for decision in later} == {scalar(core, "SELECT mode FROM accounts")} == {"conserve"}


def test_a_pool_closes_as_one_account(fresh_core: CreditCore) -> None:
    pool(fresh_core)
    ask(fresh_core, user="ada", images=8)
    fresh_core.settle("ada", "r-1", at=NOW)
    assert fresh_core.reconcile(at=APRIL).closings == 1
    assert lots(fresh_core, "bob") == [("monthly", 20, 0), ("rollover", 12, 0)]
    assert fresh_core.profile("bob", at=APRIL).next_reset_at == MAY
    assert fresh_core.verify() == []


def test_offline_spends_sweeps_and_refunds_work_on_a_pool(fresh_core: CreditCore) -> None:
    pool(fresh_core)
    synced = fresh_core.sync("ada", [Spend("o-1", NOW, 15), Spend("o-2", NOW, 6)], at=NOW)
    assert (synced.taken, synced.overdrawn) == (("o-1",), ("o-2",))
    ask(fresh_core, user="bob", images=5)
    assert fresh_core.sweep(at=NOW + DAY).amount_uc == 5 * CREDIT
    ask(fresh_core, "r-2", user="bob", images=5, at=NOW + DAY)
    fresh_core.settle("bob", "r-2", at=NOW + DAY)
    fresh_core.refund("bob", "r-2", CREDIT, "k", "sue", "blurred", at=NOW + DAY)
    assert fresh_core.balance("ada").available_uc == CREDIT
    assert fresh_core.verify() == []


def test_only_the_team_changes_a_pools_terms(core: CreditCore) -> None:
    pool(core)
    before = everything(core)
    with pytest.raises(Conflict, match=r"core\.change_team_plan\('t', 'basic'\)"):
        core.change_plan("ada", "basic", at=NOW)
    with pytest.raises(Conflict, match=r"core\.pause_team\('t'\)"):
        core.pause("ada", at=NOW)
    with pytest.raises(Conflict, match=r"core\.resume_team\('t'\)"):
        core.resume("ada", at=NOW)
    assert everything(core) == before
    assert core.change_team_plan("t", "basic", at=datetime(2025, 3, 10, tzinfo=UTC)).available_uc == 200 * CREDIT
    core.pause_team("t", at=NOW)
    assert [ask(core, user=user).rule for user in ("ada", "bob")] == ["paused", "paused"]
    core.resume_team("t", at=NOW + 3 * DAY)
    assert core.profile("bob", at=NOW + 3 * DAY).next_reset_at == APRIL + 3 * DAY
    assert [(row["kind"], row["team_id"]) for row in core.history("ada") if row["kind"] in ("pause", "resume")] == [
        ("pause", "t"),
        ("resume", "t"),
    ]
    assert core.verify() == []


def test_who_leaves_a_pool_goes_on_alone_at_once(fresh_core: CreditCore) -> None:
    pool(fresh_core, "basic")
    for user in ("ada", "bob"):
        ask(fresh_core, user=user, images=50)
    later = NOW + 3 * DAY
    assert fresh_core.leave_team("ada", "free", at=later).available_uc == 20 * CREDIT
    assert ask(fresh_core, "r-2", user="ada", at=later).status == "RESERVED"
    fresh_core.settle("ada", "r-1", 20 * CREDIT, at=later)
    fresh_core.refund("ada", "r-1", 5 * CREDIT, "k", "sue", "blurred", at=later)
    told = fresh_core.team("t")
    assert (told.available_uc, told.held_uc) == (135 * CREDIT, 50 * CREDIT)
    assert [member.user_id for member in told.members] == ["bob"]
    assert fresh_core.balance("ada").available_uc == 19 * CREDIT
    assert {(row["user_id"], row["team_id"]) for row in fresh_core.history("ada")} == {("ada", None)}
    assert ask(fresh_core, user="ada", images=50).replayed
    with pytest.raises(Conflict, match="is in no team"):
        fresh_core.leave_team("ada", "free", at=later)
    fresh_core.reconcile(at=MAY)
    assert fresh_core.verify() == []


def test_who_leaves_a_pool_while_they_ask_is_still_found(fresh_core: CreditCore) -> None:
    """PostgreSQL waits for a user's row and then finds it joined to another account."""
    pool(fresh_core, "basic")
    for number in range(6):
        user = f"u-{number}"
        fresh_core.add_user(user, "basic", team_id="t", at=NOW)

        def act(place: int, user: str = user) -> Any:
            if place == 0:
                return fresh_core.leave_team(user, "free", at=NOW)
            return ask(fresh_core, f"r-{place}", user=user)

        assert len(together(act, range(4))) == 4
    assert fresh_core.verify() == []


# ----------------------------------------------------------------------------------------------------------- apportioned


def test_shares_add_up_to_the_quota_cycle_after_cycle(fresh_core: CreditCore) -> None:
    shared(fresh_core)
    thirds = {"ada": 66_666_667, "bob": 66_666_667, "eve": 66_666_666}
    assert quotas(fresh_core) == thirds
    later = NOW + 5 * DAY
    fresh_core.add_user("zoe", "basic", team_id="t", at=later)
    assert quotas(fresh_core) == thirds | {"zoe": 0}
    assert fresh_core.history("zoe") == []
    assert ask(fresh_core, user="zoe", at=later).rule == "unaffordable"
    fresh_core.reconcile(at=APRIL)
    assert quotas(fresh_core) == dict.fromkeys(("ada", "bob", "eve", "zoe"), 50 * CREDIT)
    fresh_core.set_weight("zoe", 2, at=APRIL)
    fresh_core.leave_team("bob", "free", at=APRIL + DAY)
    assert quotas(fresh_core) == dict.fromkeys(("ada", "bob", "eve", "zoe"), 50 * CREDIT)
    assert {member.user_id: member.weight for member in fresh_core.team("t").members} == {
        "ada": 1, "bob": 0, "eve": 1, "zoe": 2,
    }  # fmt: skip
    fresh_core.reconcile(at=MAY)
    assert quotas(fresh_core) == {"ada": 50 * CREDIT, "eve": 50 * CREDIT, "zoe": 100 * CREDIT}
    fresh_core.reconcile(at=JUNE)
    assert rows(fresh_core, "SELECT cycle_no, SUM(quota_uc) FROM team_shares GROUP BY cycle_no ORDER BY cycle_no") == [
        (number, 200 * CREDIT) for number in range(4)
    ]
    assert fresh_core.verify() == []


def test_who_leaves_keeps_what_they_bought_and_gives_up_what_the_team_gave(fresh_core: CreditCore) -> None:
    shared(fresh_core, ada=1, bob=1)
    fresh_core.purchase("bob", "starter", "invoice-1", at=NOW)
    fresh_core.leave_team("bob", "free", at=NOW + DAY)
    assert fresh_core.balance("bob").available_uc == 125 * CREDIT
    assert fresh_core.profile("bob", at=NOW + DAY).next_amount_uc == (25 + 20) * CREDIT
    assert fresh_core.profile("ada", at=NOW + DAY).next_amount_uc == (100 + 200) * CREDIT
    seq = fresh_core.history("bob")[-1]["seq"]
    fresh_core.reconcile(at=APRIL)
    assert moves(fresh_core, "bob", seq) == [("expire", "monthly", -100, 0), ("grant", "monthly", 20, 0)]
    assert [(row["plan"], row["team_id"]) for row in fresh_core.history("bob", seq)] == [("basic", "t"), ("free", None)]
    profile = fresh_core.profile("bob", at=APRIL)
    assert (profile.plan, profile.team_id, profile.next_reset_at) == ("free", None, MAY)
    assert fresh_core.change_plan("bob", "basic", at=APRIL).available_uc == (25 + 200) * CREDIT
    assert fresh_core.verify() == []


def test_leaving_can_be_taken_back_until_the_closing(core: CreditCore) -> None:
    shared(core, ada=1, bob=1)
    core.leave_team("bob", "free", at=NOW)
    core.set_weight("bob", 3, at=NOW)
    core.reconcile(at=APRIL)
    assert quotas(core) == {"ada": 50 * CREDIT, "bob": 150 * CREDIT}


def test_who_joins_and_leaves_within_a_cycle_never_has_a_share(core: CreditCore) -> None:
    shared(core, ada=1)
    core.add_user("bob", "basic", team_id="t", at=NOW + DAY)
    core.leave_team("bob", "free", at=NOW + 2 * DAY)
    core.reconcile(at=APRIL)
    assert quotas(core) == {"ada": 200 * CREDIT}
    assert (core.profile("bob", at=APRIL).plan, core.balance("bob").available_uc) == ("free", 20 * CREDIT)
    assert core.verify() == []


def test_credits_of_their_own_serve_a_member_without_a_share(fresh_core: CreditCore) -> None:
    shared(fresh_core, ada=1)
    fresh_core.add_user("bob", "basic", team_id="t", at=NOW + DAY)
    fresh_core.purchase("bob", "starter", "invoice-1", at=NOW + DAY)
    decision = ask(fresh_core, user="bob", at=NOW + DAY)
    assert (decision.rule, decision.status) == ("at_cap", "RESERVED")
    assert fresh_core.explain("bob", "r-1").exact
    fresh_core.settle("bob", "r-1", at=NOW + DAY)
    assert fresh_core.verify() == []


def test_the_first_member_of_a_cycle_has_the_whole_quota(core: CreditCore) -> None:
    core.add_team("t", "basic", "apportioned", at=NOW)
    core.add_user("ada", "basic", team_id="t", at=APRIL + DAY)
    assert quotas(core) == {"ada": 200 * CREDIT}
    assert core.profile("ada", at=APRIL + DAY).next_reset_at == MAY
    core.leave_team("ada", "free", at=APRIL + DAY)
    core.add_user("bob", "basic", team_id="t", at=MAY)
    assert quotas(core)["bob"] == 200 * CREDIT
    core.reconcile(at=MAY)
    assert quotas(core) == {"bob": 200 * CREDIT}
    assert core.verify() == []


def test_members_close_at_the_teams_midnights_over_a_clock_change(core: CreditCore) -> None:
    shared(core, "basic", "Europe/Berlin", ada=1, bob=1)
    core.add_user("eve", "basic", "America/New_York", team_id="t", at=NOW + 20 * DAY)
    berlin, anchor = ZoneInfo("Europe/Berlin"), date(2025, 3, 10)
    ends = [cycle_start(anchor, berlin, number) for number in (1, 2, 3)]
    assert [end.hour for end in ends] == [22, 22, 22]
    assert {core.profile(user, at=NOW).next_reset_at for user in ("ada", "bob", "eve")} == {ends[0]}
    core.reconcile(at=ends[2])
    bounds = rows(core, "SELECT DISTINCT end_at FROM cycles ORDER BY end_at")
    assert [datetime.fromtimestamp(us / 1e6, UTC) for (us,) in bounds] == [*ends, cycle_start(anchor, berlin, 4)]
    core.leave_team("eve", "free", at=ends[2])
    core.reconcile(at=cycle_start(anchor, berlin, 5))
    assert core.profile("eve", at=ends[2]).next_reset_at == cycle_start(anchor, ZoneInfo("America/New_York"), 5)
    assert core.verify() == []


def test_shares_are_the_same_in_whatever_order_members_close(core: CreditCore) -> None:
    """Ada's account closes three cycles late, after a join and a change of plan; her shares are those of the others' cycles."""
    shared(core, ada=1, bob=2)
    ask(core, "april", user="bob", at=APRIL)
    core.add_user("eve", "basic", team_id="t", at=APRIL)
    ask(core, "may", user="bob", at=MAY)
    core.change_team_plan("t", "premium", at=MAY)
    ask(core, "june", user="bob", at=JUNE)
    ask(core, user="ada", at=JUNE)
    shares = rows(core, "SELECT plan, quota_uc FROM cycles WHERE account_id = 'user:ada' ORDER BY cycle_no")
    assert shares == [
        ("basic", 66_666_667), ("basic", 66_666_667), ("basic", 50 * CREDIT), ("premium", 150 * CREDIT),
    ]  # fmt: skip
    core.reconcile(at=JUNE)
    assert quotas(core) == {"ada": 150 * CREDIT, "bob": 300 * CREDIT, "eve": 150 * CREDIT}
    assert core.verify() == []


def test_a_change_of_a_cycle_that_is_shared_out_is_refused(core: CreditCore) -> None:
    shared(core, ada=1, bob=1)
    ask(core, user="ada", at=APRIL)
    before = everything(core)
    with pytest.raises(Conflict, match="already shared out for the cycle that begins at 2025-04-10"):
        core.add_user("eve", "basic", team_id="t", at=NOW + DAY)
    with pytest.raises(Conflict, match="already shared out"):
        core.leave_team("bob", "free", at=NOW + DAY)
    with pytest.raises(Conflict, match="already shared out"):
        core.set_weight("bob", 5, at=NOW + DAY)
    with pytest.raises(InvalidRequest, match="begins on 2025-03-10"):
        core.add_user("eve", "basic", team_id="t", at=NOW - DAY)
    assert everything(core) == before
    core.add_user("eve", "basic", team_id="t", at=APRIL)
    assert core.verify() == []


def test_joins_and_closings_at_once_never_share_out_more_than_the_quota(fresh_core: CreditCore) -> None:
    shared(fresh_core, ada=1, bob=1)
    for month, turn in enumerate((APRIL, MAY, JUNE)):
        names = ("ada", "bob", *(f"new-{month}-{n}" for n in range(3)))
        start = Barrier(len(names))

        def act(user: str, turn: datetime = turn, start: Barrier = start) -> Any:
            start.wait()
            if user.startswith("new"):
                # Half of them while the cycle before is the running one: refused once the next is shared out.
                at = turn - timedelta(hours=1) if user.endswith("1") else turn
                return fresh_core.add_user(user, "basic", team_id="t", at=at)
            return ask(fresh_core, f"r-{turn.date()}", user=user, at=turn)

        done = outcomes(act, names, Conflict)
        assert [one for one in done[:2] if isinstance(one, Conflict)] == []
    fresh_core.reconcile(at=JUNE)
    sums = rows(fresh_core, "SELECT cycle_no, SUM(quota_uc) FROM team_shares GROUP BY cycle_no ORDER BY cycle_no")
    assert sums == [(number, 200 * CREDIT) for number in range(4)]
    granted = rows(
        fresh_core,
        "SELECT c.end_at, SUM(c.quota_uc) FROM cycles c GROUP BY c.end_at ORDER BY c.end_at",
    )
    assert [total for _, total in granted] == [200 * CREDIT] * 4
    assert fresh_core.verify() == []


def test_processes_that_close_members_accounts_share_each_cycle_out_once(ledger_url: str, core: CreditCore) -> None:
    shared(core, **{f"u-{number:02}": number + 1 for number in range(40)})
    with workers(ledger_url, 2) as started:
        for worker in started:
            worker.tell("reconcile", at=JUNE.isoformat())
        assert sum(worker.hear()[1] for worker in started) == 40 * 3
    sums = rows(core, "SELECT cycle_no, COUNT(*), SUM(quota_uc) FROM team_shares GROUP BY cycle_no ORDER BY cycle_no")
    assert sums == [(number, 40, 200 * CREDIT) for number in range(4)]
    assert core.verify() == []


# ---------------------------------------------------------------------------------------------------------------- terms


def test_a_grant_to_a_pool_is_known_again_after_its_member_left(fresh_core: CreditCore) -> None:
    pool(fresh_core).grant("ada", 7 * CREDIT, "bonus", "g-1", at=NOW)
    fresh_core.leave_team("ada", "free", at=NOW)
    before = everything(fresh_core)
    fresh_core.grant("ada", 7 * CREDIT, "bonus", "g-1", at=NOW)
    with pytest.raises(Conflict, match="posted before with another amount"):
        fresh_core.grant("ada", 8 * CREDIT, "bonus", "g-1", at=NOW)
    with pytest.raises(Conflict, match="or lot kind"):
        fresh_core.grant("ada", 7 * CREDIT, "purchased", "g-1", at=NOW)
    assert everything(fresh_core) == before
    assert fresh_core.verify() == []


def test_the_same_call_again_changes_nothing(core: CreditCore) -> None:
    pool(core)
    shared_terms = {"plan": "basic", "mode": "apportioned", "timezone": "Europe/Berlin"}
    core.add_team("s", **shared_terms, at=NOW)
    core.add_members("s", {"eve": 2, "zoe": 1}, at=NOW)
    before = everything(core)
    pool(core)
    core.add_team("s", **shared_terms, at=NOW + DAY)
    core.add_members("s", {"eve": 1, "zoe": 1}, at=NOW + DAY)
    core.add_user("eve", "basic", "Europe/Berlin", team_id="s", at=NOW + DAY)
    assert everything(core) == before


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda core: core.add_team("t", "basic", "pooled", at=NOW), Conflict, "Team 't' exists, pooled, on plan 'free'"),
        (lambda core: core.add_team("x", "free", "shared", at=NOW), InvalidRequest, "pooled, apportioned"),
        (lambda core: core.add_team("x", "gold", "pooled", at=NOW), NotFound, "no plan 'gold'"),
        (lambda core: core.add_user("eve", "basic", team_id="t", at=NOW), Conflict, "on plan 'free' in region 'global'"),
        (lambda core: core.add_user("eve", "free", region="eu", team_id="t", at=NOW), Conflict, "region 'global'"),
        (lambda core: core.add_user("eve", "free", team_id="x", at=NOW), NotFound, "There is no team 'x'"),
        (lambda core: core.add_user("ada", "free", at=NOW), Conflict, "User 'ada' exists"),
        (lambda core: core.add_user("sam", "free", team_id="t", at=NOW), Conflict, "'sam' exists, in no team"),
        (lambda core: core.add_members("t", {"eve": 0}, at=NOW), InvalidRequest, "whole number from 1"),
        (lambda core: core.set_weight("ada", 2, at=NOW), Conflict, "is pooled"),
        (lambda core: core.leave_team("sam", "free", at=NOW), Conflict, "in no team"),
        (lambda core: core.leave_team("ada", "gold", at=NOW), NotFound, "no plan 'gold'"),
        (lambda core: core.pause_team("s", at=NOW), Conflict, "'s' is apportioned"),
        (lambda core: core.pause_team("x", at=NOW), NotFound, "There is no team 'x'"),
        (lambda core: core.change_team_plan("x", "free", at=NOW), NotFound, "There is no team 'x'"),
        (lambda core: core.team("x"), NotFound, "There is no team 'x'"),
    ],
)  # fmt: skip
def test_what_contradicts_a_teams_terms_is_refused(core: CreditCore, call: Any, error: type, says: str) -> None:
    pool(core)
    core.add_team("s", "free", "apportioned", at=NOW)
    core.add_user("sam", "free", at=NOW)
    before = everything(core)
    with pytest.raises(error, match=says):
        call(core)
    assert everything(core) == before


def test_authorize_asks_the_database_as_often_with_a_team_as_without(fresh_core: CreditCore) -> None:
    shared(fresh_core, ada=1)
    fresh_core.add_team("p", "basic", "pooled", at=NOW)
    fresh_core.add_user("bob", "basic", team_id="p", at=NOW)
    fresh_core.add_user("sam", "basic", at=NOW)
    statements: list[str] = []
    counts = []
    engine = fresh_core.deployment.ledger.engine
    event.listen(engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    for user in ("sam", "ada", "bob"):
        ask(fresh_core, "first", user=user)
        statements.clear()
        ask(fresh_core, user=user)
        counts.append(len(statements))
    assert len(set(counts)) == 1
