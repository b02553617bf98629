"""What every rule of the state machine works with: one ledger, the model beside it, and what must hold after every step.

Rules come in mixins, a file per subject. One that knows a new call derives from :class:`Machine`, keeps what it needs to know
in a method ``remember`` that calls ``super().remember()``, and is named in :class:`tests.invariants.test_machine.LedgerMachine`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant
from sqlalchemy import text

from credit_core import CreditCore, Decision, Request
from credit_core.service.deferred import EXPIRED
from credit_core.service.generate import DEFERRAL_LIFETIME
from credit_core.store.verify import Head
from credit_core.units import to_us
from tests.invariants.model import NEVER, Terms, Wallet
from tests.service.scenes import CREDIT, NOW, StoppedClock, scalar

USERS = ("ada", "bob", "cyd")
#: Who signs up later: time passes for them, and nothing else.
LATER_USERS = ("dee", "eve")
#: Members of teams: one pool, and one quota that is shared out.
POOLED, APPORTIONED = ("fay", "gus"), ("hal", "ivy")
QUOTA = {"free": 20 * CREDIT, "basic": 200 * CREDIT}
ZONES = ("UTC", "Europe/Berlin", "Asia/Kathmandu", "America/Argentina/Buenos_Aires", "Pacific/Kiritimati")
SIGNED_UP = (NOW, NOW - timedelta(days=38, hours=11), NOW - timedelta(days=40, minutes=1))
JUDGED = ("unaffordable", "coverage_miss", "session_cap", "at_cap", "controller")
CELLS = (("jazz", "calm"), ("rock", "wild"))

#: What everybody's account holds, and in which kinds of lots: two queries for all of them after every step.
ACCOUNTS = "SELECT user_id, account_id, avail_uc, held_uc, cycle_end_at FROM accounts JOIN users USING (account_id)"
LOTS = "SELECT account_id, kind, SUM(avail_uc), SUM(held_uc) FROM lots WHERE avail_uc + held_uc > 0 GROUP BY account_id, kind"

users = st.sampled_from((*USERS, *POOLED, *APPORTIONED))
zones = st.sampled_from(ZONES)
plans = st.sampled_from(sorted(QUOTA))
picks = st.integers(0, 10_000)
#: How late an event comes.
late = st.one_of(st.just(timedelta()), st.just(timedelta()), st.timedeltas(timedelta(), timedelta(days=1)))
amounts = st.one_of(st.integers(1, 60).map(lambda n: n * CREDIT), st.integers(1, 30 * CREDIT))
cells = st.sampled_from([(None, None), *CELLS])
terms = st.builds(
    Terms,
    st.sampled_from(["3", "1", "2.5"]),
    st.sampled_from(["0.4", "0", "1"]),
    st.booleans(),
    st.sampled_from([86_400, 900, 30]),
    st.booleans(),
)
#: The least chance of a fresh one, and the share of its opening balance that a session may spend.
chances = st.sampled_from([0.98, 0.98, 0.6, 0.02])
shares = st.sampled_from([1.0, 1.0, 0.1])


class Machine(RuleBasedStateMachine):
    """One ledger and what a plain model says of it."""

    new_ledger: Callable[[], str]

    def remember(self) -> None:
        """What is known before the first step. Mixins add theirs."""
        self.numbers = count(1)
        #: Whose balance is asked for after a step: everybody's in turn.
        self.turns = count()
        self.requests: list[tuple[Request, Decision]] = []
        #: How each reserve ended, and what it was charged; a swept one counts its late settles.
        self.ended: dict[tuple[str, str], tuple[str, int]] = {}
        #: Deferred requests that wait: since when, the leg, the request.
        self.waiting: list[tuple[datetime, str, Request]] = []
        #: Who spends from which account. ``accounts``: all there are, also those that nobody spends from any more.
        self.wallets: dict[str, Wallet] = {}
        self.accounts: list[Wallet] = []
        self.terms = {1: Terms()}
        self.released = [1]
        self.heads: list[Head] = []
        self.assets = dict.fromkeys(CELLS, 0)
        #: Version of each account as of the last step, and what there was of it, its users and its lots.
        self.seen: dict[str, tuple[int, list[Any]]] = {}

    @initialize(
        zones=st.lists(zones, min_size=3, max_size=3),
        plans=st.lists(plans, min_size=3, max_size=3),
        first=terms,
        chance=chances,
        share=shares,
    )
    def open(self, zones: list[str], plans: list[str], first: Terms, chance: float, share: float) -> None:
        self.clock = StoppedClock(NOW)
        url = type(self).new_ledger()
        #: Two processes on one ledger, as far as they can tell, that act by turns: what one knows the other makes old.
        self.cores = [CreditCore.open(url, clock=self.clock) for _ in range(2)]
        self.core = self.cores[0]
        self.remember()
        self.fill("jazz", "calm", 20, NOW - timedelta(days=35))
        self.fill("rock", "wild", 4, NOW)
        version = self.proposed(first, chance, share)
        self.core.release_version(version, author="olga")
        self.released.append(version)
        self.core.config()
        for user, plan, zone, at in zip(USERS, plans, zones, SIGNED_UP, strict=True):
            self.join(user, plan, zone, at)
        self.begin()

    def begin(self) -> None:
        """Who else is there from the start. Mixins add theirs."""

    def teardown(self) -> None:
        for core in getattr(self, "cores", []):
            core.close()

    # What several subjects do

    def join(self, user: str, plan: str, zone: str, at: datetime) -> None:
        self.core.add_user(user, plan, zone, at=at)
        self.opened(user, Wallet(QUOTA[plan], zone, at, plan=plan))

    def opened(self, user: str, wallet: Wallet) -> None:
        """From now on the user spends from this one, a new account."""
        self.wallets[user] = wallet
        self.accounts.append(wallet)

    def wallet_of(self, user: str, request_id: str) -> Wallet:
        """The account that a request was reserved from, or would be."""
        there = (one for one in self.accounts if request_id in one.holds or request_id in one.charged)
        return next(there, self.wallets[user])

    def gave_back(self, user: str, request_id: str) -> None:
        """A reserve was given back in full. Mixins that count take it off."""

    def dropped(self, since: datetime, request: Request) -> None:
        """A deferred request was dropped at its end, whoever found it then."""
        query = "SELECT occurred_at FROM ledger_entries WHERE request_id = :id AND reason = :reason"
        assert scalar(self.core, query, id=request.request_id, reason=EXPIRED) == to_us(since + DEFERRAL_LIFETIME)

    def fill(self, genre: str, mood: str, assets: int, at: datetime) -> None:
        self.core.library.put(genre, mood, assets, at=at)
        self.assets[genre, mood] += assets

    def proposed(self, new: Terms, chance: float, share: float) -> int:
        changes: dict[str, Any] = {
            "rollover.burst_allowance": new.burst_allowance,
            "saga.hold_ttl_s": new.hold_ttl_s,
            "limits.enabled": new.limits,
            "controller.p_min": chance,
            "controller.p_max": 1.0,
            "session.max_share": share,
        }
        for plan in QUOTA:
            changes[f"plans.{plan}.cap_multiple"] = float(new.cap_multiple)
            changes[f"plans.{plan}.soft_decay"] = float(new.soft_decay)
        version = self.core.propose(changes, "olga", "")
        self.terms[version] = new
        return version

    def awake(self, user: str) -> None:
        """End the user's pause, if there is one: most of what happens happens to those who are not paused."""
        wallet = self.wallets[user]
        if wallet.paused_at is not None:
            if wallet.team:
                self.core.resume_team(wallet.team, at=self.clock.now)
            else:
                self.core.resume(user, at=self.clock.now)
            wallet.resume(self.clock.now)

    def reconcile_all(self) -> None:
        """Everything due by now is written, so that balances are what the next call will find."""
        self.core.reconcile(at=self.clock.now)
        for wallet in self.accounts:
            wallet.catch_up(self.clock.now, self.live)

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

    def unchanged(self, call: Callable[[], Any]) -> Any:
        """What ``call`` returns, which writes no entry."""
        before = self.entries()
        found = call()
        assert self.entries() == before
        return found

    def hand_over(self) -> None:
        """The other process acts from here on, by the configuration that is live."""
        self.core = self.cores[self.core is self.cores[0]]
        self.core.config()

    # After every step

    @invariant()
    def every_invariant_holds(self) -> None:
        if hasattr(self, "core"):
            assert self.core.verify(self.heads) == []

    @invariant()
    def whatever_changed_has_a_higher_version(self) -> None:
        """Else a process that remembers the account as it was would take it for what it is."""
        if not hasattr(self, "core"):
            return
        seen: dict[str, tuple[int, list[Any]]] = {}
        with self.core.deployment.ledger.reading() as connection:
            for table in ("accounts", "users", "lots"):
                for row in connection.execute(text(f"SELECT * FROM {table} ORDER BY 1")).mappings():
                    version, rows = seen.setdefault(row["account_id"], (row.get("version", 0), []))
                    rows.append([value for name, value in row.items() if name != "version"])
        for account_id, (version, rows) in self.seen.items():
            assert seen[account_id][0] > version or seen[account_id] == (version, rows)
        self.seen = seen

    @invariant()
    def every_balance_is_what_the_model_says(self) -> None:
        wallets = getattr(self, "wallets", {})
        if not wallets:
            return
        with self.core.deployment.ledger.reading() as connection:
            accounts = {row.user_id: row for row in connection.execute(text(ACCOUNTS))}
            kinds: dict[str, dict[str, tuple[int, int]]] = {}
            for account_id, kind, avail, held in connection.execute(text(LOTS)):
                kinds.setdefault(account_id, {})[kind] = (int(avail), int(held))
        for user, wallet in wallets.items():
            account = accounts[user]
            assert (account.avail_uc, account.held_uc) == (wallet.available, wallet.held)
            assert kinds.get(account.account_id, {}) == wallet.by_kind()
            if wallet.ends < NEVER:
                assert account.cycle_end_at == to_us(wallet.ends)
        user, wallet = list(wallets.items())[next(self.turns) % len(wallets)]
        balance = self.core.balance(user)
        assert (balance.available_uc, balance.held_uc) == (wallet.available, wallet.held)
        assert sum(lot.avail_uc for lot in balance.lots) == wallet.available
        self.hand_over()
