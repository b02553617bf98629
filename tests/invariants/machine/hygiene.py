"""What concerns a person and no credit: addresses, challenges, limits lifted for a buyer. No balance and no entry changes."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import strategies as st
from hypothesis.stateful import rule

from credit_core import Request
from tests.invariants.machine.base import late, picks, users
from tests.invariants.machine.generation import Generation
from tests.service.scenes import change, scalar

IPS = ("203.0.113.7", "198.51.100.1")


class Hygiene(Generation):
    """People."""

    def remember(self) -> None:
        super().remember()
        self.seen_from: dict[str, set[str]] = {}
        self.lifted: dict[tuple[str, str], datetime] = {}

    @rule(user=users, ip=st.sampled_from(IPS))
    def ask_from_an_address(self, user: str, ip: str) -> None:
        self.asked(Request(user, f"r-{next(self.numbers)}", "s-1", ip=ip), self.clock.now)
        self.seen_from.setdefault(user, set()).add(ip)

    @rule(pick=picks)
    def erase(self, pick: int) -> None:
        """The addresses are forgotten, once; the user's decisions are as they were."""
        user = sorted(self.wallets)[pick % len(self.wallets)]
        known = len(self.seen_from.pop(user, ()))
        assert self.unchanged(lambda: self.core.erase(user)) == known
        assert self.core.erase(user) == 0

    @rule(user=users, images=st.integers(1, 3))
    def challenge_and_clear(self, user: str, images: int) -> None:
        change(self.core, "UPDATE users SET challenged_at = 0 WHERE user_id = :user", user=user)
        self.asked(Request(user, f"r-{next(self.numbers)}", "s-1", images=images), self.clock.now)
        assert self.requests[-1][1].rule == "blocked"
        self.unchanged(lambda: self.core.clear_challenge(user))
        self.asked(Request(user, f"r-{next(self.numbers)}", "s-1", images=images), self.clock.now)
        assert self.requests[-1][1].rule != "blocked"

    @rule(user=users, behind=late)
    def purchase_callback(self, user: str, behind: timedelta) -> None:
        """Once per local day; a second call of the day is answered as the first."""
        at = self.at(behind)
        zone = scalar(self.core, "SELECT timezone FROM users WHERE user_id = :user", user=user)
        day = at.astimezone(ZoneInfo(zone)).date().isoformat()
        lifted = self.unchanged(lambda: self.core.purchase_callback(user, at=at))
        seconds = self.core.config().limits.override_s
        assert lifted.granted == ((user, day) not in self.lifted)
        assert lifted.until == self.lifted.setdefault((user, day), at + timedelta(seconds=seconds))
