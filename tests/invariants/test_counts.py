"""Any order of calls on the plans that count: what is left equals a plain count of what was made, and verify stays clean."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from credit_core import CreditCore, Decision, Request
from credit_core.service.offline import Spend
from tests.invariants.counts import HOUR, Made, left_for_a_guest, left_of_the_day, left_of_the_month
from tests.service.scenes import NOW, StoppedClock, make_live

IPS = ("203.0.113.7", "198.51.100.1", None)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["ada", "bob", "guest:s-1", "guest:s-2", "guest:s-3"]),
        st.sampled_from(["ask", "ask", "ask", "settle", "release", "partial", "sync", "sweep"]),
        st.sampled_from(IPS),
        st.integers(1, 3),
        st.integers(0, 9),
    ),
    max_size=24,
)


class Town:
    """Ada counts by the day in Kathmandu, Bob by the month in the studio, guests by window; time goes by between steps."""

    def __init__(self, core: CreditCore) -> None:
        self.core, self.at, self.number = core, NOW, 0
        self.made: list[Made] = []

    def step(self, user: str, act: str, ip: str | None, images: int, hours: int) -> None:
        self.at += hours * HOUR
        self.number += 1
        open_ones = [m for m in self.made if m.user == user and not m.ended]
        if act == "ask":
            self.ask(user, f"r-{self.number}", ip, images)
        elif act == "sync" and (user in ("ada", "bob") or open_ones):
            self.sync(user, f"r-{self.number}", images)
        elif act == "sweep":
            self.core.sweep(at=self.at)
            self.swept()
        elif open_ones and act in ("settle", "release", "partial"):
            self.end(open_ones[0], act)

    def ask(self, user: str, request_id: str, ip: str | None, images: int) -> None:
        left = self.left(user, ip)
        guest = user.startswith("guest:")
        request = Request(
            None if guest else user, request_id, user.removeprefix("guest:"), images=images, ip=ip,
            modality="video" if user == "bob" else "image",
        )  # fmt: skip
        decision: Decision = self.core.authorize(request, at=self.at)
        assert decision.status == ("RESERVED" if images <= left else "RATE_LIMITED"), (left, decision)
        assert decision.remaining == (left - images if images <= left else left)
        if decision.fresh:
            self.made.append(Made(user, request_id, ip, self.at, images))
        assert self.core.explain(user, request_id).exact

    def sync(self, user: str, request_id: str, images: int) -> None:
        left = self.left(user, None)
        spend = Spend(request_id, self.at, images, modality="video" if user == "bob" else "image")
        done = self.core.sync(user, [spend], at=self.at)
        assert done.taken == ((request_id,) if images <= left else ())
        if done.taken:
            self.made.append(Made(user, request_id, None, self.at, images, ended=True))

    def end(self, one: Made, act: str) -> None:
        call: dict[str, Callable[..., Any]] = {
            "settle": self.core.settle,
            "partial": self.core.partial,
            "release": lambda user, name, at: self.core.release(user, name, "provider_error", at=at),
        }
        call[act](one.user, one.request_id, at=self.at)
        self.made.remove(one)
        if act == "settle":
            self.made.append(one._replace(ended=True))
        else:
            self.failed(one)

    def swept(self) -> None:
        for one in [m for m in self.made if not m.ended and m.at + HOUR / 4 <= self.at]:
            self.made.remove(one)
            self.failed(one)

    def failed(self, one: Made) -> None:
        if one.user.startswith("guest:"):
            # A window that has opened stays open, also where what opened it failed.
            self.made.append(one._replace(images=0, ended=True))

    def left(self, user: str, ip: str | None) -> int:
        if user == "ada":
            return left_of_the_day(self.of(user), ZoneInfo("Asia/Kathmandu"), self.at)
        if user == "bob":
            return left_of_the_month(self.of(user), self.at)
        return left_for_a_guest(self.made, user, ip, self.at)

    def of(self, user: str) -> list[Made]:
        return [m for m in self.made if m.user == user]


@settings(max_examples=25)
@given(steps=STEPS)
def test_what_is_left_is_what_a_plain_count_says(
    steps: list[tuple[str, str, str | None, int, int]], tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path
) -> None:
    path = tmp_path_factory.mktemp("counts") / "ledger.db"
    path.write_bytes(sqlite_template.read_bytes())
    with CreditCore.open(f"sqlite:///{path}", clock=StoppedClock(NOW)) as core:
        make_live(core, {"limits.enabled": False})
        core.add_user("ada", "daily", "Asia/Kathmandu", at=NOW)
        core.add_user("bob", "studio_pro", at=NOW)
        town = Town(core)
        for one in steps:
            town.step(*one)
        assert core.verify() == []
