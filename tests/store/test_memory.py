"""What a process remembers of an account is trusted where it still holds, and nowhere else (credit_core/store/memory.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Event, Thread

import pytest

from credit_core import CreditCore
from credit_core.errors import AlreadyEnded, RequestMismatch
from credit_core.service.accounts import blank_account, blank_user
from credit_core.store import memory
from credit_core.store.memory import Image, Memory
from credit_core.store.unit import Unit
from tests.service.scenes import CREDIT, FRESH_FOR_ALL, NOW, StoppedClock, ask, change, forget, make_live, moves

Act = Callable[[CreditCore], object]


@pytest.fixture
def first(ledger_url: str, clock: StoppedClock) -> Iterator[CreditCore]:
    """A core that knows ada, who has 20 credits, a hold of 2 for r-0, and nothing else."""
    with CreditCore.open(ledger_url, clock=clock) as core:
        make_live(core, FRESH_FOR_ALL)
        core.add_user("ada", "free", at=NOW)
        ask(core, "r-0", images=2)
        assert known(core)
        yield core


@pytest.fixture
def second(first: CreditCore, ledger_url: str, clock: StoppedClock) -> Iterator[CreditCore]:
    """Another process on the same ledger."""
    with CreditCore.open(ledger_url, clock=clock) as core:
        yield core


def known(core: CreditCore, user: str = "ada") -> bool:
    memory = core.deployment.ledger._memory
    return user in memory._images or user in memory._packed


def blank(user: str) -> Image:
    """What is known of somebody who has nothing."""
    account = blank_account(
        f"user:{user}", "free", "global", "UTC", NOW.date(), 0, (NOW, NOW), 0, NOW, NOW, cycled=True
    )
    return Image(blank_user(user, account.account_id, "UTC", None, None, NOW), account, {}, {})


def without_lock(core: CreditCore, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each leg from here on that came to its writes, whether it did without a lock."""
    flush, tried = Unit.flush, list[bool]()

    def flushed(unit: Unit) -> int:
        tried.append(not unit.locked)
        return flush(unit)

    monkeypatch.setattr(Unit, "flush", flushed)
    return tried


def test_a_saga_on_an_account_that_nobody_else_moves_locks_nothing(
    first: CreditCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = without_lock(first, monkeypatch)
    ask(first, "r-1")
    first.settle("ada", "r-1", at=NOW)
    first.settle("ada", "r-0", CREDIT, at=NOW)
    ask(first, "r-2")
    first.release("ada", "r-2", "cancelled", at=NOW)
    assert tried == [True] * 5
    assert moves(first, after=2) == [
        ("reserve", "monthly", -1, 1),
        ("settle", "monthly", 0, -1),
        ("settle", "monthly", 1, -2),
        ("reserve", "monthly", -1, 1),
        ("release", "monthly", 1, -1),
    ]
    assert first.verify() == []


def spend_all(core: CreditCore) -> object:
    return ask(core, "all", images=18)


def pause(core: CreditCore) -> object:
    return core.pause("ada", at=NOW)


def block(core: CreditCore) -> object:
    return change(core, "UPDATE users SET blocked_at = 1")


def challenge(core: CreditCore) -> object:
    return change(core, "UPDATE users SET challenged_at = 1")


def freeze(core: CreditCore) -> object:
    return change(core, "UPDATE accounts SET paused_at = 1, due_at = NULL")


def move(core: CreditCore) -> object:
    return core.change_plan("ada", "premium", at=NOW)


def grow(core: CreditCore) -> object:
    return core.grant("ada", 5 * CREDIT, "bonus", "gift", at=NOW)


@pytest.mark.parametrize(
    ("act", "rule", "plan"),
    [
        (spend_all, "unaffordable", "free"),
        (pause, "paused", "free"),
        (block, "blocked", "free"),
        (challenge, "blocked", "free"),
        (freeze, "paused", "free"),
        (move, "controller", "premium"),
        (grow, "controller", "free"),
    ],
)
def test_what_another_process_or_hand_changed_is_seen_by_the_next_leg(
    first: CreditCore, second: CreditCore, act: Act, rule: str, plan: str
) -> None:
    act(second)
    available = second.balance("ada").available_uc
    decision = ask(first)
    assert (decision.rule, decision.state.plan, decision.state.available_uc) == (rule, plan, available)
    assert first.verify() == []


def test_an_override_and_the_end_of_a_challenge_are_seen_by_the_next_leg(first: CreditCore, second: CreditCore) -> None:
    make_live(first, FRESH_FOR_ALL | {"limits.enabled": True, "limits.bucket_capacity": 1})
    second.config()
    ask(first, "r-1")
    assert ask(first, "r-2").rule == "rate_limited"
    second.purchase_callback("ada", at=NOW)
    assert ask(first, "r-3").rule == "controller"
    challenge(second)
    assert ask(first, "r-4").rule == "blocked"
    second.clear_challenge("ada")
    assert ask(first, "r-5").rule == "controller"
    assert first.verify() == []


def test_a_request_is_answered_and_ended_once_whoever_knows_it(first: CreditCore, second: CreditCore) -> None:
    answer = ask(second, "r-1", images=3)
    assert ask(first, "r-1", images=3) == answer._replace(replayed=True)
    with pytest.raises(RequestMismatch):
        ask(first, "r-1", images=4)
    assert second.settle("ada", "r-0", at=NOW).replayed is False
    assert first.settle("ada", "r-0", at=NOW).replayed is True
    assert first.release("ada", "r-1", "cancelled", at=NOW).replayed is False
    with pytest.raises(AlreadyEnded):
        second.settle("ada", "r-1", at=NOW)
    assert first.verify() == []


def test_legs_that_find_the_account_moved_stop_trying_for_a_while(
    first: CreditCore, second: CreditCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "PATIENCE", 3)
    ask(second, "r-1")
    tried = without_lock(first, monkeypatch)
    for number in range(2, 8):
        ask(first, f"r-{number}")
    assert tried == [True, False, False, False, False, True, True]


def test_a_leg_that_fails_leaves_nothing_that_could_be_trusted(
    first: CreditCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Pulled(BaseException):
        pass

    def pulled(*_: object) -> bool:
        raise Pulled

    with monkeypatch.context() as patch:
        patch.setattr("credit_core.store.unit.write_if", pulled)
        with pytest.raises(Pulled):
            ask(first, "r-1", images=7)
    assert not known(first)
    assert ask(first, "r-1", images=7).state.available_uc == 18 * CREDIT
    assert first.verify() == []


def test_what_a_leg_was_lent_no_other_leg_has(first: CreditCore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second begins while the first is under way, and goes to the lock without trying."""
    inside, go_on = Event(), Event()
    flush = Unit.flush

    def slow(unit: Unit) -> int:
        if not unit.locked:
            inside.set()
            assert go_on.wait(30)
        return flush(unit)

    monkeypatch.setattr(Unit, "flush", slow)
    other = Thread(target=ask, args=(first, "r-1"), kwargs={"images": 9})
    other.start()
    assert inside.wait(30)
    assert ask(first, "r-2", images=9).fresh
    go_on.set()
    other.join()
    assert ask(first, "r-1", images=9).fresh
    assert first.balance("ada").available_uc == 0
    assert first.verify() == []


def test_those_used_last_are_remembered(first: CreditCore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "AT_HAND", 1)
    monkeypatch.setattr(memory, "PACKED", 1)
    for user in ("bob", "cyd"):
        first.add_user(user, "free", at=NOW)
    for user in ("bob", "ada", "cyd"):
        ask(first, f"r-{user}", user=user)
    assert [known(first, user) for user in ("ada", "bob", "cyd")] == [True, False, True]
    forget(first)
    assert not known(first)


def test_an_image_is_packed_and_unpacked_as_it_was(first: CreditCore) -> None:
    ask(first, "r-1", genre="jazz", mood="calm")
    image = first.deployment.ledger._memory._images["ada"]
    assert len(image.reserves) == 2
    assert memory.unpacked(memory.packed(image)) == image
    assert len(memory.packed(image)) < 1_500


def test_a_leg_decides_by_a_packed_image_and_writes_where_it_still_holds(
    first: CreditCore, second: CreditCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "AT_HAND", 1)
    first.add_user("bob", "free", at=NOW)
    ask(first, "r-1", user="bob")
    assert set(first.deployment.ledger._memory._packed) == {"ada"}
    tried = without_lock(first, monkeypatch)
    first.settle("ada", "r-0", at=NOW)
    ask(first, "r-2", user="bob")
    assert tried == [True, True]
    ask(second, "r-3")
    tried.clear()
    assert ask(first, "r-4").state.available_uc == 17 * CREDIT
    assert tried == [True, False], "by the old image nothing is written"
    assert first.verify() == []


def test_whoever_signs_up_or_is_given_credits_is_known(
    first: CreditCore, second: CreditCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    second.add_user("bob", "free", at=NOW)
    second.grant("ada", 5 * CREDIT, "bonus", "gift", at=NOW)
    assert [known(second, user) for user in ("ada", "bob")] == [True, True]
    tried = without_lock(second, monkeypatch)
    assert ask(second, "r-1", user="bob").state.available_uc == 20 * CREDIT
    assert ask(second, "r-1").state.available_uc == 23 * CREDIT
    assert tried == [True, True]
    second.change_plan("bob", "premium", at=NOW)
    assert ask(second, "r-2", user="bob").state.plan == "premium"
    assert second.verify() == []


def test_packed_images_that_keep_proving_old_are_let_be_for_a_while() -> None:
    kept = Memory()

    def lent(user: str, *, moved: bool) -> bool:
        kept._packed[user] = memory.packed(blank(user))
        _, image = kept.lend(user)
        kept.give_back(user, moved=moved)
        return image is not None

    assert [lent(f"old-{number}", moved=True) for number in range(18)] == [True] * 17 + [False]
    assert [lent(f"new-{number}", moved=False) for number in range(5)] == [False] * 3 + [True] * 2


def test_a_user_who_was_lent_comes_back_with_a_commit_alone() -> None:
    kept = Memory()
    assert kept.lend("ada") == (True, None)
    assert kept.lend("ada") == (False, None), "somebody is at it"
    kept.give_back("ada", moved=False)
    image = Image.__new__(Image)
    image.user = type("Ada", (), {"user_id": "ada"})()  # type: ignore[assignment]
    kept.keep(image)
    assert kept.lend("ada") == (True, image)
    kept.give_back("ada", moved=False)
    assert kept.lend("ada") == (True, None)
