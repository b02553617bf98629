"""Each invariant of SPEC 2 is seen to fire: a fault is planted behind the core's back, and ``verify`` names that one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from credit_core import CreditCore, Request
from credit_core.errors import InvalidRequest
from credit_core.store.verify import EVIDENCE, TITLES
from tests.invariants.forging import Forger, entry, forging
from tests.invariants.screened import on_sqlite, suspects_of
from tests.service.scenes import CREDIT, NOW, StoppedClock, ask, everything, scalar

END = datetime(2025, 4, 10, tzinfo=UTC)


@pytest.fixture
def lived(ledger_url: str, clock: StoppedClock) -> Iterator[CreditCore]:
    """Ada and Bob over one closing: grants, a charge, a hold, a rollover, answers from the library."""
    with CreditCore.open(ledger_url, clock=clock) as core:
        version = core.propose({"controller.p_min": 1.0 - 2.0**-53, "controller.p_max": 1.0}, "olga", "")
        core.release_version(version, author="olga")
        core.config()
        for user in ("ada", "bob"):
            core.add_user(user, "free", at=NOW)
            core.grant(user, 5 * CREDIT, "purchased", "pack", at=NOW)
            ask(core, "charged", user=user)
            core.settle(user, "charged", at=NOW)
            core.reconcile(at=END)
            ask(core, "held", user=user, images=3, at=END)
            core.add_user(f"{user}-daily", "daily", at=NOW)
            ask(core, "counted", user=f"{user}-daily", images=2, at=END)
            core.release(f"{user}-daily", "counted", "provider_error", at=END)
            ask(core, "too-much", user=user, images=100, at=END)
        ask(core, "settled", user="ada-daily", images=3, at=END + timedelta(hours=1))
        core.settle("ada-daily", "settled", at=END + timedelta(hours=1))
        core.authorize(Request(None, "counted", "s-1", images=2, ip="203.0.113.7"), at=END)
        core.settle("guest:s-1", "counted", at=END)
        core.sweep(at=END)
        assert core.verify() == []
        yield core


def reported(core: CreditCore) -> set[int]:
    return {violation.invariant for violation in core.verify()}


# ------------------------------------------------------------------------------------------- one fault, one invariant


def balance_moved_between_accounts(f: Forger) -> None:
    f.run("UPDATE accounts SET avail_uc = avail_uc + 1 WHERE account_id = 'user:ada'")
    f.run("UPDATE accounts SET avail_uc = avail_uc - 1 WHERE account_id = 'user:bob'")


def balance_moved_between_lots(f: Forger) -> None:
    f.run("UPDATE lots SET avail_uc = avail_uc + 1 WHERE lot_id = '{lot}'", lot=f.lot(kind="monthly"))
    f.run("UPDATE lots SET avail_uc = avail_uc - 1 WHERE lot_id = '{lot}'", lot=f.lot(kind="purchased"))


def held_kept_in_another_lot(f: Forger) -> None:
    f.run("UPDATE lots SET held_uc = held_uc + 1 WHERE lot_id = '{lot}'", lot=f.lot(kind="purchased"))


def window_of_a_session_emptied(f: Forger) -> None:
    f.run("UPDATE guest_windows SET used = 0 WHERE ip_hash IS NULL")


def window_of_an_address_filled(f: Forger) -> None:
    f.run("UPDATE guest_windows SET used = used + 1 WHERE ip_hash IS NOT NULL")


def window_opened_later(f: Forger) -> None:
    f.run("UPDATE guest_windows SET opened_at = opened_at + 1")


def account_overdrawn_for_a_while(f: Forger) -> None:
    """The reserve stands before the grant that it spends."""
    exchange(f, 1, 3)


def lot_overdrawn_for_a_while(f: Forger) -> None:
    """The account had enough all along, in another lot."""
    f.append("grant", 6 * CREDIT, 0, lot=f.lot(kind="purchased"))
    f.append("expire", -6 * CREDIT, 0, lot=f.lot(kind="purchased"))
    newest = f.last()["seq"]
    exchange(f, newest - 1, newest)


def exchange(f: Forger, one: int, other: int) -> None:
    for old, new in ((one, 999), (other, one), (999, other)):
        f.run("UPDATE ledger_entries SET seq = {new} WHERE account_id = 'user:ada' AND seq = {old}", old=old, new=new)
    f.rehash()


def reserve_that_counts_nothing(f: Forger) -> None:
    f.change(f.last("ada-daily", request_id="settled", kind="reserve"), d_count=None, counted_at=None)
    f.rehash()


def reserve_that_counts_less_than_it_made(f: Forger) -> None:
    f.change(f.last("ada-daily", request_id="settled", kind="reserve"), d_count=1)
    f.rehash()


def settle_that_counts(f: Forger) -> None:
    settled = f.last("ada-daily", kind="settle")
    f.change(settled, d_count=3, counted_at=settled["occurred_at"])
    f.rehash()


def release_that_gives_no_count_back(f: Forger) -> None:
    f.change(f.last("ada-daily", kind="release"), d_count=None, counted_at=None)
    f.rehash()


def release_that_gives_back_to_another_day(f: Forger) -> None:
    f.append("reserve", 0, 0, user="bob-daily", request_id="x", d_count=2, images=2, counted_at=NOW)
    f.append("release", 0, 0, user="bob-daily", request_id="x", d_count=-2, images=2, counted_at=END)
    f.append("import", 0, 0, user="bob-daily", request_id="y", d_count=2, images=2, counted_at=END)
    f.rehash()


def charged_more_than_was_held(f: Forger) -> None:
    held = f.last(kind="reserve")
    f.append(
        "settle", -CREDIT, -3 * CREDIT, lot=held["lot_id"], request_id="held", config_version=held["config_version"]
    )
    f.run("DELETE FROM holds WHERE account_id = 'user:ada'")
    f.rehash()


def negative_grant(f: Forger) -> None:
    f.append("grant", -1, 0, lot=f.lot())
    f.rehash()


def empty_adjustment(f: Forger) -> None:
    f.append("adjust", 0, 0, lot=f.lot())
    f.rehash()


def expiry_that_gives(f: Forger) -> None:
    f.append("expire", 1, 0, lot=f.lot())
    f.rehash()


def clamp_that_gives(f: Forger) -> None:
    f.append("clamp", 1, 0, lot=f.lot())
    f.rehash()


def import_that_gives(f: Forger) -> None:
    f.append("import", 1, 0, lot=f.lot())
    f.rehash()


def library_answer_that_moves(f: Forger) -> None:
    f.append("library", 1, 0, lot=f.lot(), leg_id="forged", line=1)
    f.append("library", -1, 0, lot=f.lot(kind="purchased"), leg_id="forged", line=2)
    f.rehash()


def refund_of_more_than_was_charged(f: Forger) -> None:
    f.append("refund", CREDIT, 0, lot=f.lot(), request_id="charged")
    f.append("refund", 1, 0, lot=f.lot(), request_id="charged")
    f.rehash()


def refund_that_takes(f: Forger) -> None:
    f.append("refund", -1, 0, lot=f.lot(), request_id="charged")
    f.rehash()


def leg_of_two_kinds(f: Forger) -> None:
    f.append("adjust", 1, 0, lot=f.lot(), leg_id="forged", line=1)
    f.append("grant", 1, 0, lot=f.lot(), leg_id="forged", line=2)
    f.rehash()


def leg_with_a_line_missing(f: Forger) -> None:
    f.append("adjust", 1, 0, lot=f.lot(), leg_id="forged", line=2)
    f.rehash()


def leg_over_two_accounts(f: Forger) -> None:
    for line, user in enumerate(("ada", "bob"), 1):
        f.append("adjust", 1, 0, lot=f.lot(user), user=user, leg_id="forged", line=line)
    f.rehash()


def leg_torn_apart(f: Forger) -> None:
    f.append("adjust", 1, 0, lot=f.lot(), leg_id="forged", line=1)
    f.append("adjust", 1, 0, lot=f.lot())
    f.append("adjust", 1, 0, lot=f.lot(), leg_id="forged", line=2)
    f.rehash()


def hold_forgotten(f: Forger) -> None:
    f.run("DELETE FROM holds WHERE account_id = 'user:ada'")


def hold_of_another_amount(f: Forger) -> None:
    f.run("UPDATE holds SET amount_uc = amount_uc + 1 WHERE account_id = 'user:ada'")


def hold_left_behind(f: Forger) -> None:
    f.run("UPDATE holds SET leg_id = 'nothing' WHERE account_id = 'user:ada'")


def ended_twice(f: Forger) -> None:
    f.append("release", 0, 0, lot=f.lot(), request_id="charged")
    f.rehash()


def ended_without_a_reserve(f: Forger) -> None:
    f.append("release", 0, 0, lot=f.lot(), request_id="nobody-asked")
    f.rehash()


def ended_with_anothers_credits(f: Forger) -> None:
    """Ada's request ends in Bob's account: his held credits come back, hers never will."""
    f.append("release", 3 * CREDIT, -3 * CREDIT, user="bob", user_id="ada", lot=f.lot("bob"), request_id="held")
    f.run("DELETE FROM holds WHERE account_id = 'user:ada'")
    f.rehash()


def ended_with_another_amount(f: Forger) -> None:
    for request_id in ("one", "two"):
        f.append("reserve", -3 * CREDIT, 3 * CREDIT, lot=f.lot(), request_id=request_id)
    f.append("release", 4 * CREDIT, -4 * CREDIT, lot=f.lot(), request_id="one")
    f.append("release", 2 * CREDIT, -2 * CREDIT, lot=f.lot(), request_id="two")
    f.rehash()


def answered_twice(f: Forger) -> None:
    f.append("library", 0, 0, request_id="charged", rule="controller")
    f.rehash()


def answered_again_in_another_account(f: Forger) -> None:
    f.append("rejected", 0, 0, user="bob", user_id="ada", request_id="charged", rule="paused")
    f.rehash()


def number_left_out(f: Forger) -> None:
    f.run("UPDATE ledger_entries SET seq = seq + 1 WHERE id = {id}", id=f.last()["id"])
    f.rehash()


def account_ahead_of_its_entries(f: Forger) -> None:
    f.run("UPDATE accounts SET seq = seq + 1 WHERE account_id = 'user:ada'")


def head_of_another_account(f: Forger) -> None:
    f.run(
        "UPDATE accounts SET head_hash = (SELECT head_hash FROM accounts WHERE account_id = 'user:bob') "
        "WHERE account_id = 'user:ada'"
    )


def cycles_with_a_hole(f: Forger) -> None:
    f.run("UPDATE cycles SET end_at = end_at - 1 WHERE account_id = 'user:ada' AND cycle_no = 0")


def cycle_never_closed(f: Forger) -> None:
    f.run("UPDATE cycles SET closed_at = NULL WHERE account_id = 'user:ada' AND cycle_no = 0")


def first_cycle_gone(f: Forger) -> None:
    f.run("DELETE FROM cycles WHERE account_id = 'user:ada' AND cycle_no = 0")


def running_cycle_gone(f: Forger) -> None:
    f.run("DELETE FROM cycles WHERE account_id = 'user:ada' AND cycle_no = 1")


def account_in_another_cycle(f: Forger) -> None:
    f.run("UPDATE accounts SET cycle_end_at = cycle_end_at + 1 WHERE account_id = 'user:ada'")


def settled_under_another_configuration(f: Forger) -> None:
    f.change(f.last(kind="settle"), config_version=1)
    f.rehash()


def settled_under_no_configuration(f: Forger) -> None:
    f.change(f.last(kind="settle"), config_version=None)
    f.rehash()


def hold_overslept(f: Forger) -> None:
    f.run("UPDATE holds SET expires_at = expires_at - 86400000000 WHERE account_id = 'user:ada'")
    f.run("UPDATE holds SET reserved_at = reserved_at - 86400000000 WHERE account_id = 'user:ada'")
    f.change(f.last(kind="reserve"), recorded_at=NOW, occurred_at=END - timedelta(days=1))
    f.rehash()


def recorded_backwards(f: Forger) -> None:
    f.change(f.last(), recorded_at=NOW - timedelta(microseconds=1))
    f.rehash()


PLANTED: tuple[tuple[int, Callable[[Forger], None]], ...] = (
    (1, balance_moved_between_accounts),
    (1, balance_moved_between_lots),
    (1, held_kept_in_another_lot),
    (1, window_of_a_session_emptied),
    (1, window_of_an_address_filled),
    (1, window_opened_later),
    (2, account_overdrawn_for_a_while),
    (2, lot_overdrawn_for_a_while),
    (3, charged_more_than_was_held),
    (3, reserve_that_counts_nothing),
    (3, reserve_that_counts_less_than_it_made),
    (3, settle_that_counts),
    (3, release_that_gives_no_count_back),
    (3, release_that_gives_back_to_another_day),
    (3, negative_grant),
    (3, empty_adjustment),
    (3, expiry_that_gives),
    (3, clamp_that_gives),
    (3, import_that_gives),
    (3, library_answer_that_moves),
    (3, refund_of_more_than_was_charged),
    (3, refund_that_takes),
    (3, leg_of_two_kinds),
    (3, leg_with_a_line_missing),
    (3, leg_over_two_accounts),
    (3, leg_torn_apart),
    (4, hold_forgotten),
    (4, hold_of_another_amount),
    (4, hold_left_behind),
    (4, ended_with_anothers_credits),
    (5, ended_twice),
    (5, ended_without_a_reserve),
    (5, ended_with_another_amount),
    (6, answered_twice),
    (6, answered_again_in_another_account),
    (7, number_left_out),
    (7, account_ahead_of_its_entries),
    (8, head_of_another_account),
    (9, cycles_with_a_hole),
    (9, cycle_never_closed),
    (9, first_cycle_gone),
    (9, running_cycle_gone),
    (9, account_in_another_cycle),
    (10, settled_under_another_configuration),
    (10, settled_under_no_configuration),
    (11, hold_overslept),
    (12, recorded_backwards),
)


@pytest.mark.parametrize(("invariant", "plant"), PLANTED, ids=[f"{n}-{plant.__name__}" for n, plant in PLANTED])
def test_a_planted_fault_is_reported_as_what_it_is(
    lived: CreditCore, invariant: int, plant: Callable[[Forger], None]
) -> None:
    with forging(lived) as forger:
        plant(forger)
    found = lived.verify()
    assert [(violation.invariant, violation.title) for violation in found] == [(invariant, TITLES[invariant])], found
    assert found[0].rows >= 1
    assert len(found[0].evidence) >= 1
    if on_sqlite(lived):
        suspects = suspects_of(lived)
        assert suspects.invariants | ({8} if suspects.accounts else set()) == {invariant}


def test_an_overdraft_is_told_of_account_and_lot(lived: CreditCore) -> None:
    with forging(lived) as forger:
        account_overdrawn_for_a_while(forger)
        [lot] = forger.connection.execute(
            select(entry.lot_id).where(entry.account_id == "user:ada", entry.seq == 1)
        ).scalars()
    [violation] = lived.verify()
    assert {"user:ada, 1", f"{lot}, 1"} <= set(violation.evidence)


def credits_without_a_lot(f: Forger) -> None:
    f.append("grant", CREDIT, 0)
    f.rehash()


def credits_in_a_lot_of_somebody_else(f: Forger) -> None:
    f.append("grant", CREDIT, 0, lot=f.lot("bob"))
    f.rehash()


@pytest.mark.parametrize("plant", [credits_without_a_lot, credits_in_a_lot_of_somebody_else])
def test_credits_that_no_lot_of_the_account_holds_are_reported(
    lived: CreditCore, plant: Callable[[Forger], None]
) -> None:
    with forging(lived) as forger:
        plant(forger)
    assert reported(lived) & {1, 3}


def test_a_count_below_zero_is_reported_beside_the_end_that_took_it(lived: CreditCore) -> None:
    with forging(lived) as forger:
        forger.append(
            "release", 0, 0, user="ada-daily", request_id="nobody-asked", d_count=-2, images=2, counted_at=NOW
        )
        forger.rehash()
    assert reported(lived) == {1, 5}


def test_credits_from_nowhere_break_the_sum_over_everything(lived: CreditCore) -> None:
    """No fault breaks 13 alone: what it adds up is what 1 and 3 look at one by one."""
    with forging(lived) as forger:
        forger.append("rollover", CREDIT, 0, lot=forger.lot())
        forger.rehash()
    assert reported(lived) == {3, 13}
    with forging(lived) as forger:
        forger.run("UPDATE accounts SET avail_uc = avail_uc + 1 WHERE account_id = 'user:ada'")
    assert reported(lived) == {1, 3, 13}


def test_several_faults_are_reported_in_the_order_of_the_invariants(lived: CreditCore) -> None:
    with forging(lived) as forger:
        for plant in (hold_overslept, hold_of_another_amount, answered_twice, negative_grant):
            plant(forger)
    assert [violation.invariant for violation in lived.verify()] == [3, 4, 6, 11]


def test_every_broken_row_is_counted_and_the_first_are_shown(lived: CreditCore) -> None:
    with forging(lived) as forger:
        for _ in range(EVIDENCE + 5):
            forger.append("grant", -1, 0, lot=forger.lot())
        forger.rehash()
    [violation] = lived.verify()
    assert (violation.rows, len(violation.evidence)) == (EVIDENCE + 5, EVIDENCE)


# -------------------------------------------------------------------------------------------------- nothing to be found


def test_a_ledger_that_nobody_tampered_with_is_clean(lived: CreditCore) -> None:
    assert lived.verify() == []
    assert lived.verify(lived.heads()) == []


def test_an_empty_ledger_is_clean(core: CreditCore) -> None:
    assert core.verify() == []
    assert core.heads() == []


def test_all_thirteen_invariants_are_run_and_told_of(lived: CreditCore) -> None:
    told: list[tuple[int, str]] = []
    lived.verify(progress=lambda number, title: told.append((number, title)))
    assert [number for number, _ in told] == list(range(1, 14))
    assert dict(told) == TITLES


def test_a_check_is_kept_under_the_name_of_who_ran_it(lived: CreditCore) -> None:
    before = everything(lived)
    lived.verify()
    assert everything(lived) == before
    lived.verify(record_as="sam")
    with forging(lived) as forger:
        negative_grant(forger)
    lived.verify(record_as="sam")
    assert [row[4:] for row in everything(lived)["checks"]] == [({}, "sam"), ({"3": 1}, "sam")]
    assert scalar(lived, "SELECT entries FROM checks WHERE check_id = 1") == len(before["ledger_entries"])
    with pytest.raises(InvalidRequest, match="actor"):
        lived.verify(record_as="\n")
