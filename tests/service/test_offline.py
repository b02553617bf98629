"""Spends made while a client was disconnected: in any order, once each, never below zero (SPEC 2.1)."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import permutations
from typing import Any

import pytest

from credit_core import CreditCore
from credit_core.errors import Conflict, InvalidInstant, InvalidRequest, NotFound, RequestMismatch
from credit_core.service.offline import Spend
from tests.service.scenes import CREDIT, NOW, ask, entries, everything, lots, moves
from tests.service.together import together

SYNCED_AT = NOW + timedelta(hours=6)


def spend(name: str, minutes: float, images: int = 1, **more: Any) -> Spend:
    return Spend(name, NOW + timedelta(minutes=minutes), images, **more)


@pytest.fixture
def ada(core: CreditCore) -> CreditCore:
    core.add_user("ada", "free", at=NOW)
    return core


def test_spends_are_taken_in_the_order_of_their_instants_whatever_order_they_come_in(core: CreditCore) -> None:
    spends = [spend("a", 1, 12), spend("b", 2, 7), spend("c", 3, 5)]
    for number, order in enumerate(permutations(spends)):
        user = f"user-{number}"
        core.add_user(user, "free", at=NOW)
        done = core.sync(user, order, at=SYNCED_AT)
        assert (done.taken, done.overdrawn, done.known) == (("a", "b"), ("c",), ())
        assert core.balance(user).available_uc == CREDIT
        assert [row["occurred_at"] for row in core.history(user)[1:]] == [one.at for one in spends]
    assert core.verify() == []


def test_a_spend_is_an_import_entry_at_its_own_instant(ada: CreditCore) -> None:
    ada.sync("ada", [spend("a", 5, 3, session_id="train", model="dalle-3-hd")], at=SYNCED_AT)
    assert moves(ada, after=1) == [("import", "monthly", -3, 0)]
    row = entries(ada)[-1]
    assert (row["request_id"], row["session_id"], row["images"], row["reason"]) == ("a", "train", 3, "offline")
    assert (row["cost_usd_micro"], row["occurred_at"]) == (3 * 120_000, NOW + timedelta(minutes=5))
    assert ada.balance("ada").lifetime.spent_uc == 3 * CREDIT
    assert ada.verify() == []


def test_each_spend_is_taken_once_however_often_it_is_sent(ada: CreditCore) -> None:
    spends = [spend("a", 1, 2), spend("b", 2, 30)]
    ada.sync("ada", spends, at=SYNCED_AT)
    before = everything(ada)
    again = ada.sync("ada", [*reversed(spends)], at=SYNCED_AT + timedelta(days=1))
    assert (again.taken, again.overdrawn, again.known) == ((), (), ("a", "b"))
    assert everything(ada) == before
    more = ada.sync("ada", [*spends, spend("c", 0.5)], at=SYNCED_AT + timedelta(days=1))
    assert (more.taken, more.known) == (("c",), ("a", "b"))
    assert ada.verify() == []


def test_an_overdraft_is_recorded_and_the_balance_never_goes_below_zero(ada: CreditCore) -> None:
    done = ada.sync("ada", [spend("a", 1, 21), spend("b", 2, 20), spend("c", 3)], at=SYNCED_AT)
    assert (done.taken, done.overdrawn) == (("b",), ("a", "c"))
    assert moves(ada, after=1) == [
        ("rejected", None, 0, 0), ("import", "monthly", -20, 0), ("rejected", None, 0, 0),
    ]  # fmt: skip
    assert {row["reason"] for row in entries(ada) if row["kind"] == "rejected"} == {"overdraft_offline"}
    assert ada.balance("ada").available_uc == 0
    # What was refused stays refused, also once there are credits.
    ada.purchase("ada", "starter", "payment", at=SYNCED_AT)
    assert ada.sync("ada", [spend("a", 1, 21)], at=SYNCED_AT).known == ("a",)
    assert ada.verify() == []


def test_what_is_held_is_not_there_for_offline_spends(fresh_core: CreditCore) -> None:
    fresh_core.add_user("ada", "free", at=NOW)
    ask(fresh_core, "online", images=15)
    done = fresh_core.sync("ada", [spend("a", 1, 6), spend("b", 2, 5)], at=SYNCED_AT)
    assert (done.taken, done.overdrawn) == (("b",), ("a",))
    fresh_core.settle("ada", "online", at=NOW + timedelta(minutes=1))
    assert lots(fresh_core) == []
    assert fresh_core.verify() == []


@pytest.mark.parametrize("other", [{"images": 2}, {"modality": "video"}, {"model": "dalle-3-hd"}], ids=str)
def test_a_known_id_with_other_content_is_refused_and_nothing_of_the_call_is_written(
    ada: CreditCore, other: dict[str, Any]
) -> None:
    ada.sync("ada", [spend("a", 1)], at=SYNCED_AT)
    before = everything(ada)
    with pytest.raises(Conflict, match=r"'a'.*other content"):
        ada.sync("ada", [spend("new", 0), spend("a", 1)._replace(**other)], at=SYNCED_AT)
    assert everything(ada) == before


def test_a_request_that_was_authorized_is_known_and_a_spend_cannot_be_authorized(fresh_core: CreditCore) -> None:
    fresh_core.add_user("ada", "free", at=NOW)
    ask(fresh_core, "online", images=2)
    assert fresh_core.sync("ada", [spend("online", 1, 2)], at=SYNCED_AT).known == ("online",)
    fresh_core.sync("ada", [spend("a", 1)], at=SYNCED_AT)
    with pytest.raises(RequestMismatch, match="offline"):
        ask(fresh_core, "a")
    assert fresh_core.balance("ada").available_uc == 17 * CREDIT


def test_two_contents_under_one_id_in_one_call_are_refused(ada: CreditCore) -> None:
    before = everything(ada)
    with pytest.raises((Conflict, InvalidRequest)):
        ada.sync("ada", [spend("a", 1), spend("a", 2, 3)], at=SYNCED_AT)
    assert everything(ada) == before


def test_what_cannot_have_happened_or_is_no_spend_is_refused_whole(ada: CreditCore) -> None:
    before = everything(ada)
    for bad, error in (
        (Spend("late", SYNCED_AT + timedelta(microseconds=1)), InvalidRequest),
        (Spend("naive", datetime(2025, 3, 10, 12)), InvalidInstant),  # noqa: DTZ001
        (Spend("none", NOW, 0), InvalidRequest),
        (Spend("", NOW), InvalidRequest),
        (Spend("sound", NOW, modality="sound"), InvalidRequest),
    ):
        with pytest.raises(error):
            ada.sync("ada", [spend("good", 1), bad], at=SYNCED_AT)
    with pytest.raises(NotFound):
        ada.sync("bob", [spend("good", 1)], at=SYNCED_AT)
    assert everything(ada) == before


def test_nothing_to_sync_is_nothing(ada: CreditCore) -> None:
    assert ada.sync("ada", [], at=SYNCED_AT) == ((), (), ())


def test_two_clients_that_send_the_same_spends_at_once_spend_them_once(ada: CreditCore) -> None:
    spends = [spend(f"s-{number}", number) for number in range(8)]
    done = together(lambda part: ada.sync("ada", part, at=SYNCED_AT), [spends, spends[::-1], spends[2:6]])
    assert sum(len(one.taken) for one in done) == 8
    assert ada.balance("ada").available_uc == 12 * CREDIT
    assert ada.verify() == []


def test_spends_of_a_cycle_that_has_closed_meanwhile_are_taken_from_what_was_carried_over(ada: CreditCore) -> None:
    done = ada.sync("ada", [spend("a", 1, 30)], at=NOW + timedelta(days=40))
    assert done.taken == ("a",)
    assert ada.balance("ada").available_uc == 10 * CREDIT
    assert ada.verify() == []
