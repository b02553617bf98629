"""A state machine over the whole ledger: whatever is called in whatever order, every invariant holds after every step.

Time goes forward, by minutes or by weeks; single events come late by up to a day. Beside the ledger runs a model of its
balances (:mod:`tests.invariants.model`), and both must agree to the micro-credit.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from credit_core import CreditCore, Decision, Request
from credit_core.errors import AlreadyEnded, Conflict, InsufficientCredits, InvalidRequest, NotFound, RequestMismatch
from credit_core.units import to_us
from tests.invariants.model import Terms, Wallet
from tests.service.scenes import CREDIT, NOW, StoppedClock, change, scalar

USERS = ("ada", "bob", "cyd")
QUOTA = {"free": 20 * CREDIT, "basic": 200 * CREDIT}
ZONES = ("UTC", "Europe/Berlin", "Asia/Kathmandu", "America/Argentina/Buenos_Aires", "Pacific/Kiritimati")
SIGNED_UP = (NOW, NOW - timedelta(days=38, hours=11), NOW - timedelta(days=40, minutes=1))
JUDGED = ("unaffordable", "coverage_miss", "session_cap", "at_cap", "controller")

users = st.sampled_from(USERS)
picks = st.integers(0, 10_000)
#: How late an event comes.
late = st.one_of(st.just(timedelta()), st.just(timedelta()), st.timedeltas(timedelta(), timedelta(days=1)))
amounts = st.one_of(st.integers(1, 60).map(lambda n: n * CREDIT), st.integers(1, 30 * CREDIT))
cells = st.sampled_from([(None, None), ("jazz", "calm"), ("rock", "wild")])
terms = st.builds(
    Terms,
    st.sampled_from(["3", "1", "2.5"]),
    st.sampled_from(["0.4", "0", "1"]),
    st.booleans(),
    st.sampled_from([86_400, 900, 30]),
)
#: The least chance of a fresh one.
chances = st.sampled_from([0.98, 0.6, 0.02])


class LedgerMachine(RuleBasedStateMachine):
    """Calls of the core, each beside what the model says of it."""

    new_ledger: Callable[[], str]

    @initialize(
        zones=st.lists(st.sampled_from(ZONES), min_size=3, max_size=3),
        plans=st.lists(st.sampled_from(sorted(QUOTA)), min_size=3, max_size=3),
        first=terms,
        chance=chances,
    )
    def open(self, zones: list[str], plans: list[str], first: Terms, chance: float) -> None:
        self.clock = StoppedClock(NOW)
        self.core = CreditCore.open(type(self).new_ledger(), clock=self.clock)
        self.core.library.put("jazz", "calm", 20, at=NOW - timedelta(days=35))
        self.core.library.put("rock", "wild", 4, at=NOW)
        self.numbers = count(1)
        self.requests: list[tuple[Request, Decision]] = []
        self.ended: dict[tuple[str, str], tuple[str, int]] = {}
        self.refunds: dict[tuple[str, str, str], int] = {}
        self.grants: list[tuple[str, str, str, int]] = []
        self.terms = {1: Terms()}
        self.released = [1]
        self.propose(first, chance)
        self.release_version(1)
        self.wallets: dict[str, Wallet] = {}
        for user, plan, zone, at in zip(USERS, plans, zones, SIGNED_UP, strict=True):
            self.core.add_user(user, plan, zone, at=at)
            self.wallets[user] = Wallet(QUOTA[plan], zone, at)

    def teardown(self) -> None:
        if hasattr(self, "core"):
            self.core.close()

    @property
    def live(self) -> Terms:
        return self.terms[self.released[-1]]

    def at(self, behind: timedelta) -> datetime:
        return self.clock.now - behind

    def entries(self) -> int:
        return int(scalar(self.core, "SELECT count(*) FROM ledger_entries"))

    def pick(self, number: int) -> tuple[Request, Decision]:
        """One of the requests; most of the time one that is still held, while there are any."""
        held = [
            made for made in self.requests if made[1].fresh and (made[0].user_id, made[0].request_id) not in self.ended
        ]
        among = held if held and number % 3 else self.requests
        return among[number // 4 % len(among)]

    def refused(self, error: type[Exception], call: Callable[[], Any]) -> None:
        """``call`` raises ``error`` and writes nothing."""
        before = self.entries()
        with pytest.raises(error):
            call()
        assert self.entries() == before

    # Time ------------------------------------------------------------------------------------------------------------

    @rule(by=st.one_of(st.timedeltas(timedelta(), timedelta(hours=1)), st.timedeltas(timedelta(), timedelta(days=20))))
    def time_passes(self, by: timedelta) -> None:
        # MAX_AHEAD bounds what a caller may say, not how long a ledger lives: the clock goes along.
        self.clock.now += by

    @rule()
    def the_next_cycle_ends(self) -> None:
        self.clock.now = max(self.clock.now, min(wallet.ends for wallet in self.wallets.values()))

    @rule(user=users, share=st.sampled_from([1.0, 0.5, 0.2]))
    def a_cycle_ends_over_a_hold(self, user: str, share: float) -> None:
        wallet = self.wallets[user]
        images = int(wallet.available // CREDIT * share)
        before = wallet.ends - timedelta(seconds=1)
        if self.clock.now < before and 1 <= images <= 1_000:
            self.clock.now = before
            self.asked(Request(user, f"r-{next(self.numbers)}", "s-1", images=images), before)
            self.clock.now = wallet.ends

    @rule(user=users, zone=st.sampled_from(ZONES))
    def move(self, user: str, zone: str) -> None:
        change(self.core, "UPDATE users SET timezone = :zone WHERE user_id = :user", zone=zone, user=user)
        self.wallets[user].next_zone = zone

    # One generation --------------------------------------------------------------------------------------------------

    @rule(user=users, images=st.integers(1, 8), cell=cells, behind=late, session=st.integers(1, 2))
    def authorize(self, user: str, images: int, cell: tuple[str, str], behind: timedelta, session: int) -> None:
        request = Request(user, f"r-{next(self.numbers)}", f"s-{session}", *cell, images=images)
        self.asked(request, self.at(behind))

    @rule(user=users, over=st.integers(-1, 1), behind=late)
    def authorize_the_whole_balance(self, user: str, over: int, behind: timedelta) -> None:
        images = self.wallets[user].available // CREDIT + over
        if 1 <= images <= 1_000:
            self.asked(Request(user, f"r-{next(self.numbers)}", "s-1", images=images), self.at(behind))

    def asked(self, request: Request, at: datetime) -> None:
        wallet = self.wallets[request.user_id]
        decision = self.core.authorize(request, at=at)
        wallet.catch_up(at, self.live)
        state = decision.state
        assert (state.available_uc, state.paced_uc, state.quota_uc) == (wallet.available, wallet.paced, wallet.quota)
        assert not (decision.fresh and wallet.paused_at)
        if decision.rule in JUDGED:
            assert (decision.rule == "unaffordable") == (request.images * CREDIT > wallet.available)
        assert decision.config_version == self.released[-1]
        assert self.core.explain(request.user_id, request.request_id).exact
        if decision.fresh:
            assert decision.amount_uc == request.images * CREDIT
            wallet.reserve(request.request_id, decision.amount_uc, at, self.live)
        self.requests.append((request, decision))

    @precondition(lambda self: self.requests)
    @rule(pick=picks, behind=late, more=st.integers(0, 1))
    def ask_again(self, pick: int, behind: timedelta, more: int) -> None:
        request, decision = self.requests[pick % len(self.requests)]
        before, at = self.entries(), self.at(behind)
        if more:
            self.refused(
                RequestMismatch, lambda: self.core.authorize(request._replace(images=request.images + more), at=at)
            )
        else:
            assert self.core.authorize(request, at=at) == decision._replace(replayed=True)
            assert self.entries() == before

    @precondition(lambda self: self.requests)
    @rule(pick=picks, share=st.sampled_from([None, 1.0, 0.0, 0.3, 0.123456]), behind=late)
    def settle(self, pick: int, share: float | None, behind: timedelta) -> None:
        request, decision = self.pick(pick)
        user, request_id, at = request.user_id, request.request_id, self.at(behind)
        actual = decision.amount_uc if share is None else int(decision.amount_uc * share)

        def call() -> Any:
            return self.core.settle(user, request_id, None if share is None else actual, at=at)

        first = self.ended.get((user, request_id))
        if not decision.fresh:
            self.refused(AlreadyEnded, call)
        elif first is None:
            ended = call()
            self.wallets[user].catch_up(at, self.live)
            self.wallets[user].end(request_id, actual, at, self.live)
            assert (ended.status, ended.settled_uc, ended.replayed) == ("SETTLED", actual, False)
            self.ended[user, request_id] = ("settle", actual)
        elif first == ("settle", actual):
            before = self.entries()
            assert call().replayed
            assert self.entries() == before
        elif first[0] == "sweep":
            with pytest.raises(AlreadyEnded, match="swept"):
                call()
            if first[1] == 0:
                # Recorded once, and like every entry after what was due by then.
                self.wallets[user].catch_up(at, self.live)
                self.ended[user, request_id] = ("sweep", 1)
        else:
            self.refused(AlreadyEnded, call)

    @precondition(lambda self: self.requests)
    @rule(pick=picks, behind=late, end=st.sampled_from(["release", "partial"]))
    def give_back(self, pick: int, behind: timedelta, end: str) -> None:
        request, decision = self.pick(pick)
        user, request_id, at = request.user_id, request.request_id, self.at(behind)

        def call() -> Any:
            if end == "partial":
                return self.core.partial(user, request_id, at=at)
            return self.core.release(user, request_id, "provider_error", at=at)

        first = self.ended.get((user, request_id), (None,))[0]
        if not decision.fresh:
            self.refused(AlreadyEnded, call)
        elif first is None:
            assert call().returned_uc == decision.amount_uc
            self.wallets[user].catch_up(at, self.live)
            self.wallets[user].end(request_id, 0, at, self.live)
            self.ended[user, request_id] = (end, 0)
        elif first == end or (first == "sweep" and end == "release"):
            before = self.entries()
            assert call().replayed
            assert self.entries() == before
        else:
            self.refused(AlreadyEnded, call)

    @precondition(lambda self: self.requests)
    @rule(pick=picks, share=st.sampled_from([1.0, 0.5, 0.1]), key=st.sampled_from("ab"), behind=late)
    def refund(self, pick: int, share: float, key: str, behind: timedelta) -> None:
        charged = [
            made for made in self.requests if self.ended.get((made[0].user_id, made[0].request_id), ("", 0))[1] > 1
        ]
        among = charged if charged and pick % 4 else self.requests
        request, _ = among[pick // 4 % len(among)]
        user, request_id, at = request.user_id, request.request_id, self.at(behind)
        end, settled = self.ended.get((user, request_id), (None, 0))
        amount = max(1, int(settled * share))

        def call() -> Any:
            return self.core.refund(user, request_id, amount, key, "sam", "asked for it", at=at)

        before = [done for (u, r, _), done in self.refunds.items() if (u, r) == (user, request_id)]
        same = self.refunds.get((user, request_id, key))
        if end != "settle":
            self.refused(NotFound, call)
        elif same is not None:
            if same == amount:
                assert call().replayed
            else:
                self.refused(Conflict, call)
        elif sum(before) + amount > settled:
            self.refused(InvalidRequest, call)
        else:
            assert call().amount_uc == amount
            self.wallets[user].catch_up(at, self.live)
            self.wallets[user].refund(request_id, amount, at, self.live)
            self.refunds[user, request_id, key] = amount

    # Credits by hand -------------------------------------------------------------------------------------------------

    @rule(
        user=users,
        kind=st.sampled_from(["bonus", "purchased", "welcome"]),
        amount=amounts,
        days=st.none() | st.integers(1, 50),
        behind=late,
    )
    def grant(self, user: str, kind: str, amount: int, days: int | None, behind: timedelta) -> None:
        at, key = self.at(behind), f"g-{next(self.numbers)}"
        ends = None if days is None else at + timedelta(days=days)
        self.core.grant(user, amount, kind, key, expires_at=ends, at=at)
        self.wallets[user].catch_up(at, self.live)
        self.wallets[user].grant(kind, amount, ends)
        self.grants.append((user, kind, key, amount))

    @precondition(lambda self: self.grants)
    @rule(pick=picks, more=st.integers(0, 1))
    def grant_again(self, pick: int, more: int) -> None:
        user, kind, key, amount = self.grants[pick % len(self.grants)]
        if more:
            self.refused(Conflict, lambda: self.core.grant(user, amount + more, kind, key))
        else:
            before = self.entries()
            self.core.grant(user, amount, kind, key)
            assert self.entries() == before

    @rule(user=users, amount=amounts, sign=st.sampled_from([1, -1]), behind=late)
    def adjust(self, user: str, amount: int, sign: int, behind: timedelta) -> None:
        at, wallet = self.at(behind), self.wallets[user]

        def call() -> Any:
            return self.core.adjust(user, sign * amount, f"a-{next(self.numbers)}", "sam", "asked for it", at=at)

        # So that what is refused below would have had nothing else to write.
        self.core.reconcile(at=at)
        for each in self.wallets.values():
            each.catch_up(at, self.live)
        if sign > 0:
            call()
            wallet.grant("bonus", amount, None)
        elif amount <= wallet.available:
            call()
            wallet.take(amount)
        else:
            self.refused(InsufficientCredits, call)

    # Terms -----------------------------------------------------------------------------------------------------------

    @rule(user=users, plan=st.sampled_from(sorted(QUOTA)), behind=late)
    def change_plan(self, user: str, plan: str, behind: timedelta) -> None:
        wallet, at = self.wallets[user], self.at(behind)
        if QUOTA[plan] != wallet.quota and wallet.paused_at is not None:
            self.refused(Conflict, lambda: self.core.change_plan(user, plan, at=at))
            return
        self.core.change_plan(user, plan, at=at)
        if QUOTA[plan] != wallet.quota:
            wallet.catch_up(at, self.live)
            wallet.change_plan(QUOTA[plan], at, self.live)

    @rule(user=users, rarely=st.integers(0, 3), behind=late)
    def pause_or_resume(self, user: str, rarely: int, behind: timedelta) -> None:
        wallet, at = self.wallets[user], self.at(behind)
        if wallet.paused_at is None and rarely < 3:
            return
        if wallet.paused_at is None:
            self.core.pause(user, at=at)
            wallet.catch_up(at, self.live)
            wallet.pause(at)
        elif at < wallet.paused_at:
            self.refused(Conflict, lambda: self.core.resume(user, at=at))
        else:
            self.core.resume(user, at=at)
            wallet.resume(at)

    # Upkeep ----------------------------------------------------------------------------------------------------------

    @rule(behind=late)
    def reconcile(self, behind: timedelta) -> None:
        at = self.at(behind)
        closings = sum(wallet.closings for wallet in self.wallets.values())
        done = self.core.reconcile(at=at)
        for wallet in self.wallets.values():
            wallet.catch_up(at, self.live)
        assert done.closings == sum(wallet.closings for wallet in self.wallets.values()) - closings

    @rule(behind=late)
    def sweep(self, behind: timedelta) -> None:
        at = self.at(behind)
        swept = self.core.sweep(at=at)
        found = [(user, r) for user, w in self.wallets.items() for r, hold in w.holds.items() if hold.ends <= at]
        assert swept == (len(found), sum(self.wallets[user].holds[r].amount for user, r in found))
        for user, request_id in found:
            self.wallets[user].catch_up(at, self.live)
            self.wallets[user].end(request_id, 0, at, self.live)
            self.ended[user, request_id] = ("sweep", 0)

    # Configuration ---------------------------------------------------------------------------------------------------

    @rule(new=terms, chance=chances)
    def propose(self, new: Terms, chance: float) -> None:
        changes: dict[str, Any] = {
            "rollover.burst_allowance": new.burst_allowance,
            "saga.hold_ttl_s": new.hold_ttl_s,
            "controller.p_min": chance,
            "controller.p_max": 1.0,
            "session.max_share": 1.0,
        }
        for plan in QUOTA:
            changes[f"plans.{plan}.cap_multiple"] = float(new.cap_multiple)
            changes[f"plans.{plan}.soft_decay"] = float(new.soft_decay)
        self.terms[self.core.propose(changes, "olga", "")] = new

    @rule(pick=picks)
    def release_version(self, pick: int) -> None:
        version = 1 + pick % len(self.terms)
        if version == self.released[-1]:
            self.refused(Conflict, lambda: self.core.release_version(version, author="olga"))
        else:
            self.core.release_version(version, author="olga", expected_live=self.released[-1])
            self.released.append(version)
        self.core.config()

    @rule()
    def roll_back(self) -> None:
        if len(self.released) == 1:
            self.refused(Conflict, lambda: self.core.roll_back("olga", "worse"))
        else:
            self.released.pop()
            assert self.core.roll_back("olga", "worse") == self.released[-1]
        self.core.config()

    # After every step ------------------------------------------------------------------------------------------------

    @invariant()
    def every_invariant_holds(self) -> None:
        if hasattr(self, "core"):
            assert self.core.verify() == []

    @invariant()
    def every_balance_is_what_the_model_says(self) -> None:
        for user, wallet in getattr(self, "wallets", {}).items():
            balance = self.core.balance(user)
            found: dict[str, tuple[int, int]] = {}
            for lot in balance.lots:
                avail, held = found.get(lot.kind, (0, 0))
                found[lot.kind] = (avail + lot.avail_uc, held + lot.held_uc)
            assert (balance.available_uc, balance.held_uc) == (wallet.available, wallet.held)
            assert found == wallet.by_kind()
            ends = scalar(self.core, "SELECT cycle_end_at FROM accounts WHERE account_id = :id", id=f"user:{user}")
            assert ends == to_us(wallet.ends)


def run(new_ledger: Callable[[], str], quick_examples: int) -> None:
    """The profile's number of examples and steps; the quick profile runs ``quick_examples`` of 30 steps."""

    class Bound(LedgerMachine):
        pass

    Bound.new_ledger = staticmethod(new_ledger)
    quick = settings.get_current_profile_name() == "quick"
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Bound, settings=settings(max_examples=quick_examples, stateful_step_count=30) if quick else settings()
    )


def test_every_invariant_holds_after_every_step_on_sqlite(sqlite_template: Path, tmp_path: Path) -> None:
    numbers = count()

    def new_ledger() -> str:
        path = tmp_path / f"ledger-{next(numbers)}.db"
        shutil.copy(sqlite_template, path)
        return f"sqlite:///{path}"

    run(new_ledger, 60)


@pytest.mark.postgres
def test_every_invariant_holds_after_every_step_on_postgresql(emptied_postgres: Callable[[], str]) -> None:
    run(emptied_postgres, 15)
