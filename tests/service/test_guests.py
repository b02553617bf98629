"""guest_window: three generations in 24 hours from the first, by session and by address; the stricter counts (SPEC 3)."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from credit_core import CreditCore, Decision, Request
from credit_core.errors import Conflict, InvalidRequest, NotFound
from credit_core.service.offline import Spend
from tests.service.scenes import NOW, StoppedClock, entries, everything, make_live, moves, scalar
from tests.service.together import together

HOUR = timedelta(hours=1)
IP = "203.0.113.7"


@pytest.fixture
def open_house(core: CreditCore) -> CreditCore:
    """No cool-down and no rate limit; the windows stay."""
    make_live(core, {"limits.enabled": False})
    return core


def visit(
    core: CreditCore, request_id: str, session: str = "s-1", ip: str | None = IP, at: datetime = NOW, **asked: Any
) -> Decision:
    return core.authorize(Request(None, request_id, session, ip=ip, **asked), at=at)


def served(decision: Decision) -> bool:
    return decision.status == "RESERVED"


def test_a_guest_gets_three_and_hears_what_is_left_and_when_the_window_ends(open_house: CreditCore) -> None:
    answers = [visit(open_house, f"r-{n}", at=NOW + n * HOUR) for n in range(4)]
    assert [(answer.status, answer.remaining) for answer in answers] == [
        ("RESERVED", 2), ("RESERVED", 1), ("RESERVED", 0), ("RATE_LIMITED", 0),
    ]  # fmt: skip
    assert {answer.state.allowance.resets_at for answer in answers if answer.state.allowance} == {NOW + 24 * HOUR}
    assert (answers[-1].retry_after_s, answers[-1].http_status, answers[-1].rule) == (21 * 3600.0, 429, "over_limit")
    assert answers[0].user_id == "guest:s-1"
    assert open_house.verify() == []


def test_a_window_opens_with_the_first_generation_and_again_24_hours_after_it(open_house: CreditCore) -> None:
    visit(open_house, "r-1", images=3)
    last = NOW + 24 * HOUR - timedelta(microseconds=1)
    assert not served(visit(open_house, "r-2", at=last))
    again = visit(open_house, "r-3", at=NOW + 24 * HOUR)
    assert (again.status, again.remaining) == ("RESERVED", 2)
    assert again.state.allowance is not None
    assert again.state.allowance.resets_at == NOW + 48 * HOUR
    assert open_house.verify() == []


def test_a_new_session_from_the_same_address_is_held_to_the_address(open_house: CreditCore) -> None:
    visit(open_house, "r-1", "s-1", images=2)
    second = visit(open_house, "r-1", "s-2", at=NOW + HOUR)
    assert second.state.allowance == ("ip", 3, 2, NOW + 24 * HOUR)
    assert (second.status, second.remaining) == ("RESERVED", 0)
    assert not served(visit(open_house, "r-2", "s-3", at=NOW + HOUR))
    # The session is new, and elsewhere it is served.
    assert visit(open_house, "r-3", "s-3", "198.51.100.1", at=NOW + HOUR).remaining == 2
    assert open_house.verify() == []


def test_a_session_that_moves_to_another_address_is_held_to_the_session(open_house: CreditCore) -> None:
    visit(open_house, "r-1", images=2)
    moved = visit(open_house, "r-2", ip="198.51.100.1", at=NOW + HOUR)
    assert moved.state.allowance == ("session", 3, 2, NOW + 24 * HOUR)
    assert not served(visit(open_house, "r-3", ip="198.51.100.2"))
    assert not served(visit(open_house, "r-4", ip=None))
    assert open_house.verify() == []


def test_without_an_address_the_session_alone_counts(open_house: CreditCore) -> None:
    assert [served(visit(open_house, f"r-{n}", ip=None)) for n in range(4)] == [True] * 3 + [False]
    assert served(visit(open_house, "r-1", "s-2", None))
    assert open_house.verify() == []


def test_an_ipv6_subscriber_is_one_address_whatever_the_lower_half(open_house: CreditCore) -> None:
    visit(open_house, "r-1", "s-1", "2001:db8:1:2::1", images=3)
    assert not served(visit(open_house, "r-1", "s-2", "2001:db8:1:2:ffff:ffff:ffff:ffff"))
    assert served(visit(open_house, "r-1", "s-3", "2001:db8:1:3::1"))
    visit(open_house, "r-1", "s-4", "::ffff:192.0.2.1", images=3)
    assert not served(visit(open_house, "r-1", "s-5", "192.0.2.1"))
    assert open_house.verify() == []


def test_the_ledger_keeps_no_address_and_the_one_place_that_does_can_be_erased(open_house: CreditCore) -> None:
    visit(open_house, "r-1")
    visit(open_house, "r-2", ip="198.51.100.1")
    kept = {name: rows for name, rows in everything(open_house).items() if name != "origins"}
    assert IP not in repr(kept)
    assert {row[2] for row in everything(open_house)["origins"]} == {"198.51.100.1", IP}
    hashes = [row["ip_hash"] for row in entries(open_house, "guest:s-1")]
    assert len({bytes(value) for value in hashes}) == 2
    assert open_house.erase("guest:s-1") == 2
    assert open_house.erase("guest:s-1") == 0
    with pytest.raises(NotFound, match="'nobody'"):
        open_house.erase("nobody")
    # The count goes on by the hash.
    assert visit(open_house, "r-3", "s-2", images=3).rule == "over_limit"
    assert open_house.verify() == []


@pytest.mark.parametrize("bad", ["", "localhost", "1.2.3", "1.2.3.4/8", "::g", 5])
def test_what_is_no_address_is_refused(open_house: CreditCore, bad: Any) -> None:
    with pytest.raises(InvalidRequest, match="ip"):
        visit(open_house, "r-1", ip=bad)
    assert scalar(open_house, "SELECT count(*) FROM accounts") == 0


# ------------------------------------------------------------------------------------------------------------- failures


@pytest.mark.parametrize("how", ["release", "partial", "sweep"])
def test_one_that_failed_gives_both_windows_their_count_back(open_house: CreditCore, how: str) -> None:
    first = visit(open_house, "r-1", images=3)
    assert first.user_id is not None
    if how == "release":
        open_house.release(first.user_id, "r-1", "provider_error", at=NOW)
    elif how == "partial":
        open_house.partial(first.user_id, "r-1", at=NOW)
    else:
        open_house.sweep(at=NOW + HOUR)
    assert visit(open_house, "r-2", at=NOW + HOUR).remaining == 2
    assert visit(open_house, "r-1", "s-2", at=NOW + HOUR).remaining == 1
    assert open_house.verify() == []


def test_a_failure_of_a_window_that_has_closed_gives_the_next_one_nothing(open_house: CreditCore) -> None:
    visit(open_house, "old", images=3)
    visit(open_house, "new", images=2, at=NOW + 24 * HOUR)
    open_house.release("guest:s-1", "old", "provider_error", at=NOW + 24 * HOUR)
    assert visit(open_house, "more", at=NOW + 25 * HOUR).remaining == 0
    assert open_house.verify() == []


def test_a_late_generation_counts_in_the_windows_it_met_and_is_given_back_to_them(open_house: CreditCore) -> None:
    visit(open_house, "r-1")
    visit(open_house, "late", at=NOW - HOUR)
    assert visit(open_house, "r-2", at=NOW).remaining == 0
    assert open_house.verify() == []
    open_house.release("guest:s-1", "late", "provider_error", at=NOW)
    assert visit(open_house, "r-3", at=NOW).remaining == 0
    assert open_house.verify() == []


def test_spends_of_a_guest_made_offline_count_in_the_sessions_window(open_house: CreditCore) -> None:
    visit(open_house, "r-1")
    spends = [Spend(f"s-{n}", NOW + timedelta(minutes=n)) for n in range(3)]
    done = open_house.sync("guest:s-1", spends, at=NOW + HOUR)
    assert (done.taken, done.overdrawn) == (("s-0", "s-1"), ("s-2",))
    assert not served(visit(open_house, "r-2", ip=None, at=NOW + HOUR))
    assert open_house.verify() == []


# --------------------------------------------------------------------------------------------------------------- at once


@pytest.mark.parametrize("one_session", [True, False], ids=["one session", "a session each"])
def test_twenty_first_requests_at_once_from_one_address_get_three(open_house: CreditCore, one_session: bool) -> None:
    answers = together(lambda n: visit(open_house, f"r-{n}", "s-1" if one_session else f"s-{n}"), range(20))
    assert sorted(answer.status for answer in answers) == ["RATE_LIMITED"] * 17 + ["RESERVED"] * 3
    assert sorted(answer.remaining for answer in answers if served(answer)) == [0, 1, 2]
    assert scalar(open_house, "SELECT count(*) FROM users") == (1 if one_session else 20)
    assert scalar(open_house, "SELECT max(used) FROM guest_windows") == 3
    assert open_house.verify() == []


def test_one_first_request_tapped_twenty_times_counts_once(open_house: CreditCore) -> None:
    answers = together(lambda _: visit(open_house, "tap"), range(20))
    assert sorted(answer.replayed for answer in answers) == [False] + [True] * 19
    assert visit(open_house, "next").remaining == 1
    assert open_house.verify() == []


# -------------------------------------------------------------------------------------------------- the guest's handle


def test_every_call_takes_the_user_id_that_the_answer_names(open_house: CreditCore) -> None:
    guest = visit(open_house, "r-1", "s" * 128).user_id
    assert guest == "guest:" + "s" * 128
    assert open_house.settle(guest, "r-1", cost_usd_micro=7, at=NOW).status == "SETTLED"
    visit(open_house, "r-2", "s" * 128)
    assert open_house.release(guest, "r-2", "provider_error", at=NOW).status == "RELEASED"
    assert (open_house.balance(guest).available_uc, open_house.balance(guest).lifetime.fresh) == (0, 2)
    assert moves(open_house, guest) == [
        ("reserve", None, 0, 0), ("settle", None, 0, 0), ("reserve", None, 0, 0), ("release", None, 0, 0),
    ]  # fmt: skip
    explained = open_house.explain(guest, "r-1")
    assert explained.exact, explained.differences
    assert explained.sentence == (
        "Fresh: none of 3 generations were used from this address in its window before it, so 2 are left."
    )
    same = open_house.authorize(Request(guest, "r-1", "s" * 128, ip=IP), at=NOW)
    assert (same.replayed, same.user_id) == (True, guest)
    assert open_house.verify() == []


def test_a_refused_guest_hears_the_same_again_and_the_reason_in_words(open_house: CreditCore) -> None:
    visit(open_house, "r-1", images=3)
    refused = visit(open_house, "r-2", "s-2", at=NOW + HOUR)
    before = everything(open_house)
    assert visit(open_house, "r-2", "s-2", at=NOW + 30 * HOUR) == refused._replace(replayed=True)
    assert everything(open_house) == before
    explained = open_house.explain("guest:s-2", "r-2")
    assert explained.exact, explained.differences
    assert explained.sentence == (
        "Refused: 3 of 3 generations were used from this address in its window. "
        "The count resets at 2025-03-11 12:00 UTC; ask again then, under a new request id."
    )
    more = visit(open_house, "r-3", "s-9", "198.51.100.1", images=4)
    assert open_house.explain("guest:s-9", "r-3").exact
    assert (more.rule, open_house.explain("guest:s-9", "r-3").sentence.split(". ")[1]) == (
        "over_limit", "3 at once would still do.",
    )  # fmt: skip


def test_without_a_plan_for_guests_a_user_is_asked_for(sqlite_ledger: str, clock: StoppedClock, tmp_path: Path) -> None:
    (tmp_path / "all.toml").write_text(
        '[plans.p]\ntitle = "P"\nquota_policy = "prepaid"\n[models.m]\ntitle = "M"\nmodality = "image"\ncredits = 1\n'
    )
    with CreditCore.open(sqlite_ledger, clock=clock, catalog=tmp_path) as core:
        with pytest.raises(NotFound, match="give a user_id"):
            visit(core, "r-1")
        assert scalar(core, "SELECT count(*) FROM accounts") == 0


def test_a_handle_does_not_open_the_account_of_another_session(open_house: CreditCore) -> None:
    with pytest.raises(NotFound, match="guest:s-1"):
        open_house.authorize(Request("guest:s-1", "r-1", "s-2"), at=NOW)
    assert scalar(open_house, "SELECT count(*) FROM accounts") == 0


def test_a_guest_waits_ten_seconds_between_two_fresh_ones(core: CreditCore) -> None:
    assert served(visit(core, "r-1"))
    assert visit(core, "r-2", at=NOW + timedelta(seconds=4)).retry_after_s == 6.0
    assert served(visit(core, "r-3", at=NOW + timedelta(seconds=10)))
    assert core.verify() == []


# ---------------------------------------------------------------------------------------------------------------- sign-up


def test_a_sign_up_is_linked_to_the_guest_it_was(open_house: CreditCore) -> None:
    visit(open_house, "r-1")
    open_house.add_user("ada", "prepaid", guest_session=" s-1 ", at=NOW)
    assert scalar(open_house, "SELECT guest_session FROM users WHERE user_id = 'ada'") == "s-1"
    before = everything(open_house)
    open_house.add_user("ada", "prepaid", guest_session="s-1", at=NOW)
    open_house.add_user("ada", "prepaid", at=NOW)
    with pytest.raises(Conflict):
        open_house.add_user("ada", "prepaid", guest_session="s-2", at=NOW)
    assert everything(open_house) == before


def test_nobody_signs_up_as_a_guest_or_onto_their_plan(open_house: CreditCore) -> None:
    before = everything(open_house)
    with pytest.raises(InvalidRequest, match="guest:"):
        open_house.add_user("guest:s-1", "prepaid", at=NOW)
    with pytest.raises(InvalidRequest, match="user_id None"):
        open_house.add_user("ada", "guest", at=NOW)
    assert everything(open_house) == before
    open_house.add_user("ada", "free", at=NOW)
    with pytest.raises(Conflict, match="Guests"):
        open_house.change_plan("ada", "guest", at=NOW)
    visit(open_house, "r-1")
    with pytest.raises(Conflict, match="add_user"):
        open_house.change_plan("guest:s-1", "free", at=NOW)
    assert open_house.verify() == []
