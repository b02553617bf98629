"""What SPEC 2 says, told once more and as plainly as it can be: the balances of one user, in memory."""

from __future__ import annotations

import calendar
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import NamedTuple
from zoneinfo import ZoneInfo

KINDS = ("monthly", "rollover", "welcome", "bonus", "purchased")
PACED = ("monthly", "rollover")
NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Terms:
    """What a configuration says that balances depend on."""

    cap_multiple: str = "3"
    soft_decay: str = "0.4"
    burst_allowance: bool = False
    hold_ttl_s: int = 900
    limits: bool = True


class Upcoming(NamedTuple):
    """Terms of an account's next cycle. ``leaves``: it begins without the team, and without what the team gave."""

    plan: str
    quota: int
    leaves: bool = False


@dataclass(eq=False)
class Lot:
    kind: str
    ends: datetime
    avail: int = 0


@dataclass
class Hold:
    parts: list[tuple[Lot, int]]
    ends: datetime

    @property
    def amount(self) -> int:
        return sum(amount for _, amount in self.parts)


@dataclass(eq=False)
class Wallet:
    """One user's credits. ``quota`` in micro-credits; ``zone`` is that of the running cycle, ``next_zone`` of the next."""

    quota: int
    zone: str
    signed_up: datetime
    lots: list[Lot] = field(default_factory=list)
    holds: dict[str, Hold] = field(default_factory=dict)
    charged: dict[str, list[tuple[Lot, int]]] = field(default_factory=dict)
    plan: str = ""
    team: str = ""
    closings: int = 0
    paused_at: datetime | None = None

    def __post_init__(self) -> None:
        self.next_zone = self.zone
        #: The next cycle's terms, where a team says them.
        self.upcoming: Callable[[], Upcoming] | None = None
        self.anchor = self.signed_up.astimezone(ZoneInfo(self.zone)).date()
        self.starts, self.ends = self._boundary(0), self._boundary(1)
        self.months = 1
        #: The highest quota that the running cycle was granted for: it is not granted twice.
        self.granted = self.quota
        self.lots.append(Lot("monthly", self.ends, self.quota))

    # what there is

    @property
    def available(self) -> int:
        return sum(lot.avail for lot in self.lots)

    @property
    def held(self) -> int:
        return sum(hold.amount for hold in self.holds.values())

    @property
    def paced(self) -> int:
        return sum(lot.avail for lot in self.lots if lot.kind in PACED)

    def by_kind(self) -> dict[str, tuple[int, int]]:
        """Kind → available, held; kinds of which there is nothing left out."""
        found = dict.fromkeys(KINDS, (0, 0))
        for lot in self.lots:
            avail, held = found[lot.kind]
            found[lot.kind] = (avail + lot.avail, held)
        for hold in self.holds.values():
            for lot, amount in hold.parts:
                avail, held = found[lot.kind]
                found[lot.kind] = (avail, held + amount)
        return {kind: amounts for kind, amounts in found.items() if any(amounts)}

    # what time does

    def catch_up(self, at: datetime, terms: Terms) -> None:
        """All expiries and closings due by ``at``, in order."""
        while (
            self.paused_at is None
            and (due := min([self.ends, *(lot.ends for lot in self._others() if lot.avail)])) <= at
        ):
            for lot in self._others():
                if lot.ends <= due:
                    lot.avail = 0
            if self.ends <= due:
                self._close(terms)

    def _others(self) -> list[Lot]:
        return [lot for lot in self.lots if lot.kind not in PACED]

    def _close(self, terms: Terms) -> None:
        cap = Fraction(terms.cap_multiple) + (1 if terms.burst_allowance and self.ends.hour in (2, 3, 4) else 0)
        unspent, quota = self.paced, self.quota
        kept = min(unspent, quota) + round((1 - Fraction(terms.soft_decay)) * max(0, unspent - quota))
        carried = min(kept, max(0, round(cap * quota) - quota))
        if self.upcoming is not None:
            self.plan, quota, leaves = self.upcoming()
            self.quota = quota
            if leaves:
                carried, self.team, self.upcoming = 0, "", None
        for lot in self.lots:
            if lot.kind in PACED:
                lot.avail = 0
        self.zone, self.starts = self.next_zone, self.ends
        self.closings += 1
        self.months += 1
        while self._boundary(self.months) <= self.starts:
            self.months += 1
        self.ends = self._boundary(self.months)
        self.granted = quota
        # The first one is where late credits go, so it is there even when nothing was carried.
        self.lots += [Lot("rollover", self.ends, carried), Lot("monthly", self.ends, quota)]

    def _boundary(self, months: int) -> datetime:
        year, month = divmod(self.anchor.year * 12 + self.anchor.month - 1 + months, 12)
        day = date(year, month + 1, min(self.anchor.day, calendar.monthrange(year, month + 1)[1]))
        return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(self.zone)).astimezone(UTC)

    # what calls do

    def grant(self, kind: str, amount: int, ends: datetime | None) -> None:
        self.lots.append(Lot(kind, NEVER if ends is None else ends, amount))

    def take(self, amount: int, kinds: tuple[str, ...] = KINDS) -> list[tuple[Lot, int]]:
        """Take ``amount`` in spending order."""
        parts = []
        for lot in sorted(
            (lot for lot in self.lots if lot.kind in kinds), key=lambda lot: (lot.ends, KINDS.index(lot.kind))
        ):
            taken = min(lot.avail, amount)
            if taken:
                lot.avail -= taken
                amount -= taken
                parts.append((lot, taken))
        assert amount == 0
        return parts

    def reserve(self, request_id: str, amount: int, at: datetime, terms: Terms) -> None:
        self.holds[request_id] = Hold(self.take(amount), at + timedelta(seconds=terms.hold_ttl_s))

    def end(self, request_id: str, actual: int, at: datetime, terms: Terms) -> None:
        """A hold ends: ``actual`` of it is charged, the rest comes back."""
        hold = self.holds.pop(request_id)
        charged = []
        for lot, amount in hold.parts:
            used = min(amount, actual)
            actual -= used
            lot.avail += amount - used
            charged.append((lot, used))
        self.charged[request_id] = charged
        self._return([lot for lot, _ in hold.parts], at, terms)

    def refund(self, request_id: str, amount: int, at: datetime, terms: Terms) -> None:
        """Undo a charge from its end."""
        back = []
        for index in reversed(range(len(self.charged[request_id]))):
            lot, used = self.charged[request_id][index]
            undone = min(used, amount)
            amount -= undone
            if undone:
                lot.avail += undone
                back.append(lot)
            self.charged[request_id][index] = (lot, used - undone)
        assert amount == 0
        self._return(back, at, terms)

    def change_plan(self, quota: int, at: datetime, terms: Terms) -> None:
        """More quota than the cycle was granted for comes for the days left, less of it clamps to the new cap."""
        old, self.quota = self.quota, quota
        if quota > old:
            left = max(self.ends - at, timedelta()) / timedelta(microseconds=1)
            length = (self.ends - self.starts) / timedelta(microseconds=1)
            share = min(Fraction(int(left), int(length)), Fraction(1))
            amount = round(max(quota - max(old, self.granted), 0) * share)
            self.lots.append(Lot("monthly", self.ends, amount))
            self.granted = quota if amount else self.granted
        else:
            self.take(max(0, self.paced - round(Fraction(terms.cap_multiple) * quota)), PACED)

    def pause(self, at: datetime) -> None:
        """From now on nothing happens by itself."""
        self.paused_at = max(at, self.starts)

    def resume(self, at: datetime) -> None:
        """The cycle ends at the first local midnight that leaves it the days it had; lots follow."""
        assert self.paused_at is not None
        zone, earliest = ZoneInfo(self.next_zone), at + (self.ends - self.paused_at)
        day = earliest.astimezone(zone).date()
        if datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC) < earliest:
            day += timedelta(days=1)
        ends = datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
        for lot in self.lots:
            if lot.kind in PACED and lot.ends == self.ends:
                lot.ends = ends
            elif lot.kind not in PACED and self.paused_at < lot.ends < NEVER:
                lot.ends += at - self.paused_at
        self.ends, self.anchor, self.months, self.paused_at = ends, day, 0, None

    def _return(self, lots: list[Lot], at: datetime, terms: Terms) -> None:
        """What came back to closed or expired lots becomes rollover of the running cycle, up to the cap."""
        moment = max(at, self.starts) if self.paused_at is None else self.paused_at
        closed = [lot for lot in lots if lot.ends <= moment]
        returned = sum(lot.avail for lot in closed)
        for lot in closed:
            lot.avail = 0
        room = max(0, round(Fraction(terms.cap_multiple) * self.quota) - self.paced)
        if min(returned, room):
            rollover = next((lot for lot in self.lots if lot.kind == "rollover" and lot.ends == self.ends), None)
            if rollover is None:
                rollover = Lot("rollover", self.ends)
                self.lots.append(rollover)
            rollover.avail += min(returned, room)


class Monthly(Wallet):
    """Credits of a month: nothing rolls over, and what comes back to a closed lot is a bonus of thirty days."""

    def _close(self, terms: Terms) -> None:
        super()._close(replace(terms, cap_multiple="1", burst_allowance=False))

    def _return(self, lots: list[Lot], at: datetime, terms: Terms) -> None:
        moment = max(at, self.starts) if self.paused_at is None else self.paused_at
        closed = [lot for lot in lots if lot.ends <= moment]
        returned = sum(lot.avail for lot in closed)
        for lot in closed:
            lot.avail = 0
        if returned:
            self.grant("bonus", returned, moment + timedelta(days=30))


class Uncycled(Monthly):
    """Credits that no cycle grants, or none at all, where a plan counts."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.lots, self.ends = [], NEVER
