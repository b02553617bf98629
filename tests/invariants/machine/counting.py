"""The quota policies that do not titrate: counts by day, a studio's month, packs alone, guests' windows.

Their requests and reserves join those of everybody else, so that every rule that ends, repeats, sweeps, refunds or explains
one meets these too.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import strategies as st
from hypothesis.stateful import rule

from credit_core import Request
from credit_core.service.offline import Spend
from tests.invariants.counts import Made, left_for_a_guest, left_of_the_day, left_of_the_month
from tests.invariants.machine.base import SIGNED_UP, late, picks
from tests.invariants.machine.credits import PACKS, Credits
from tests.invariants.machine.hygiene import Hygiene
from tests.invariants.machine.offline import Offline
from tests.invariants.model import Monthly, Uncycled
from tests.service.scenes import CREDIT

DAILY_ZONE = "Asia/Kathmandu"
#: What one image, clip or call of a studio model costs.
STUDIO = {
    ("video", "stable-video-4s"): 25 * CREDIT,
    ("video", "gen-4-10s"): 60 * CREDIT,
    ("image", "gen4-image"): 25 * CREDIT,
    ("text", "gpt-4o"): 20 * CREDIT,
}
PREPAID = {("image", "nano-banana"): CREDIT // 2, ("image", "nano-banana-pro"): 2 * CREDIT}
GUESTS = ("guest:g-1", "guest:g-2", "guest:g-3")
IPS = ("203.0.113.7", "198.51.100.1", None)


class Counting(Credits, Offline, Hygiene):
    """Users on the other policies."""

    def remember(self) -> None:
        super().remember()
        self.made: dict[tuple[str, str], Made] = {}

    def begin(self) -> None:
        super().begin()
        signed_up = SIGNED_UP[1]
        self.core.add_user("kim", "daily", DAILY_ZONE, at=signed_up)
        self.opened("kim", Uncycled(0, "UTC", signed_up, plan="daily"))
        self.core.add_user("lou", "studio_pro", at=signed_up)
        self.opened("lou", Monthly(5_000 * CREDIT, "UTC", signed_up, plan="studio_pro"))
        self.core.add_user("max", "prepaid", at=signed_up)
        self.opened("max", Uncycled(0, "UTC", signed_up, plan="prepaid"))
        self.wallets["max"].grant("welcome", 50 * CREDIT, None)

    @rule(images=st.integers(1, 5), times=st.integers(1, 3), behind=late)
    def ask_by_the_day(self, images: int, times: int, behind: timedelta) -> None:
        for _ in range(times):
            self.counted(Request("kim", f"r-{next(self.numbers)}", "s-1", images=images), 0, self.at(behind))

    @rule(model=st.sampled_from(sorted(STUDIO)), images=st.integers(1, 12), times=st.integers(1, 3), behind=late)
    def ask_the_studio(self, model: tuple[str, str], images: int, times: int, behind: timedelta) -> None:
        for _ in range(times):
            self.counted(
                Request("lou", f"r-{next(self.numbers)}", "s-1", modality=model[0], model=model[1], images=images),
                STUDIO[model] * images,
                self.at(behind),
            )

    @rule(model=st.sampled_from(sorted(PREPAID)), images=st.integers(1, 40), behind=late)
    def ask_prepaid(self, model: tuple[str, str], images: int, behind: timedelta) -> None:
        request = Request("max", f"r-{next(self.numbers)}", "s-1", modality=model[0], model=model[1], images=images)
        self.counted(request, PREPAID[model] * images, self.at(behind))

    @rule(guest=st.sampled_from(GUESTS), ip=st.sampled_from(IPS), images=st.integers(1, 3), times=st.integers(1, 2))
    def ask_as_a_guest(self, guest: str, ip: str | None, images: int, times: int) -> None:
        """On time: what a late one opens, while another window of the guest is running, has no plain count."""
        for _ in range(times):
            number = f"r-{next(self.numbers)}"
            self.counted(Request(guest, number, guest.removeprefix("guest:"), images=images, ip=ip), 0, self.clock.now)

    @rule(
        user=st.sampled_from(["kim", "lou", "max", *GUESTS]),
        steps=st.lists(
            st.tuples(
                st.integers(1, 12),
                st.sampled_from(["settle", "settle", "release", "partial", None]),
                st.timedeltas(timedelta(minutes=1), timedelta(hours=9)),
            ),
            min_size=3,
            max_size=8,
        ),
        ip=st.sampled_from(IPS),
        model=picks,
    )
    def some_days_on_another_plan(
        self, user: str, steps: list[tuple[int, str | None, timedelta]], ip: str | None, model: int
    ) -> None:
        """Ask again and again, as far as the counts go and a little further; some are left to the sweeper."""
        priced = {"lou": [*STUDIO.items()], "max": [*PREPAID.items()]}.get(user, [(("image", None), 0)])
        (modality, name), price_uc = priced[model % len(priced)]
        for images, end, took in steps:
            images = images if user in ("lou", "max") else 1 + images % 5
            request = Request(
                user,
                f"r-{next(self.numbers)}",
                user.removeprefix("guest:"),
                modality=modality,
                model=name,
                images=images,
                ip=ip,
            )
            self.counted(request, price_uc * images, self.clock.now)
            self.clock.now += took
            if end == "settle":
                self.settled(*self.requests[-1], None, self.clock.now)
            elif end is not None:
                self.given_back(*self.requests[-1], end, self.clock.now)

    @rule(images=st.integers(1, 4), back=st.booleans())
    def a_studio_cycle_ends_over_a_hold(self, images: int, back: bool) -> None:
        """What comes back to the closed cycle lives on for thirty days."""
        wallet = self.wallets["lou"]
        before = wallet.ends - timedelta(seconds=1)
        if self.clock.now >= before:
            return
        self.clock.now = before
        request = Request("lou", f"r-{next(self.numbers)}", "s-1", model="gen4-image", images=images)
        self.counted(request, 25 * CREDIT * images, before)
        self.clock.now = wallet.ends
        made = self.requests[-1]
        if back and made[1].fresh:
            self.given_back(*made, "release", self.clock.now)
            self.clock.now += timedelta(days=29, hours=12)
            self.reconcile_all()

    def counted(self, request: Request, cost_uc: int, at: datetime) -> None:
        user = str(request.user_id)
        guest = user.startswith("guest:")
        if user not in self.wallets:
            self.opened(user, Uncycled(0, "UTC", at, plan="guest"))
        decision = self.core.authorize(request._replace(user_id=None) if guest else request, at=at)
        wallet = self.wallets[user]
        wallet.catch_up(at, self.live)
        left = self.left(user, request.modality, request.ip, at)
        assert decision.state.available_uc == wallet.available
        if decision.rule not in ("blocked", "rate_limited", "paused"):
            within = left is None or request.images <= left
            covered = cost_uc <= wallet.available
            assert decision.rule == ("allowed" if within and covered else "unaffordable" if within else "over_limit")
            assert decision.remaining == (None if left is None else left - request.images * decision.fresh)
        assert decision.fresh == (decision.rule == "allowed")
        assert self.core.explain(user, request.request_id).exact
        self.requests.append((request, decision))
        if request.ip is not None:
            self.seen_from.setdefault(user, set()).add(request.ip)
        if decision.fresh:
            assert decision.amount_uc == cost_uc
            wallet.reserve(request.request_id, cost_uc, at, self.live)
            self.count(request, at)

    def count(self, request: Request, at: datetime) -> None:
        """Of the studio only videos; a late one counts in the running cycle."""
        user = str(request.user_id)
        if user == "max" or (user == "lou" and request.modality != "video"):
            return
        if user == "lou":
            at = max(at, self.wallets[user].starts)
        self.made[user, request.request_id] = Made(user, request.request_id, request.ip, at, request.images)

    def gave_back(self, user: str, request_id: str) -> None:
        super().gave_back(user, request_id)
        one = self.made.pop((user, request_id), None)
        if one is not None and user.startswith("guest:"):
            # A window that has opened stays open, also where what opened it failed.
            self.made[user, request_id] = one._replace(images=0)

    def left(self, user: str, modality: str, ip: str | None, at: datetime) -> int | None:
        """Generations left; None where nothing limits them."""
        own = [m for m in self.made.values() if m.user == user]
        if user == "kim":
            return left_of_the_day(own, ZoneInfo(DAILY_ZONE), at)
        if user == "lou" and modality == "video":
            starts = self.wallets[user].starts
            return left_of_the_month([m for m in own if m.at >= starts], max(at, starts))
        if user.startswith("guest:"):
            return left_for_a_guest(self.made.values(), user, ip, at)
        return None

    @rule(
        user=st.sampled_from(["kim", "lou", "max"]),
        images=st.integers(1, 12),
        ago=st.timedeltas(timedelta(), timedelta(days=3)),
        behind=late,
    )
    def sync_counted(self, user: str, images: int, ago: timedelta, behind: timedelta) -> None:
        at, wallet = self.at(behind), self.wallets[user]
        modality, model, price_uc = SPENT[user]
        spend = Spend(f"o-{next(self.numbers)}", at - ago, images, modality=modality, model=model)
        done = self.core.sync(user, [spend], at=at)
        wallet.catch_up(at, self.live)
        left = self.left(user, modality, None, spend.at)
        if price_uc * images <= wallet.available and (left is None or images <= left):
            assert done == ((spend.request_id,), (), ())
            wallet.take(price_uc * images)
            self.count(Request(user, spend.request_id, "offline", modality=modality, images=images), spend.at)
        else:
            assert done == ((), (spend.request_id,), ())
        self.synced.append((user, [spend]))

    @rule(
        user=st.sampled_from(["lou", "max"]), what=st.sampled_from([*sorted(PACKS), "bonus"]), days=st.integers(1, 40)
    )
    def more_credits(self, user: str, what: str, days: int) -> None:
        """A pack, which stays, or a gift, which does not."""
        at, key, wallet = self.clock.now, f"p-{next(self.numbers)}", self.wallets[user]
        if what in PACKS:
            self.core.purchase(user, what, key, at=at)
        else:
            self.core.grant(user, 7 * CREDIT, "bonus", key, at + timedelta(days=days), at=at)
        wallet.catch_up(at, self.live)
        if what in PACKS:
            wallet.grant("purchased", PACKS[what], None)
        else:
            wallet.grant("bonus", 7 * CREDIT, at + timedelta(days=days))


SPENT = {
    "kim": ("image", None, 0),
    "lou": ("video", "gen-4-10s", 60 * CREDIT),
    "max": ("image", "nano-banana-pro", 2 * CREDIT),
}
