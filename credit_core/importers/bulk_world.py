"""Made-up activity of very many accounts at once, in columns: a day of all accounts is a few steps of array arithmetic.

Accounts are of the titrated plans. Who asks, when and for what is drawn; every decision is the shipped law's, with the
ledger's own draws (SPEC 4, rules 4 to 8), and spends, fails, is refunded and is closed by month as live ones are.
Amounts here are whole credits. Each request is paid from one lot: it is made smaller where the lot has less.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from credit_core.importers.bulk_law import Asked, Flags, Session, Verdicts, decide
from credit_core.importers.bulk_rows import Group
from credit_core.importers.bulk_terms import Terms
from credit_core.policy import cycles
from credit_core.policy.controller import STEADY
from credit_core.store.packing import (
    Bytes,
    Coded,
    Column,
    Real,
    Same,
    Text,
    Whole,
    digits,
    prefixed,
    side_by_side,
    texts,
)
from credit_core.units import DAY_US, MICRO, to_us

Columns: TypeAlias = dict[str, Column]
_ID_DIGITS = 7
#: Entries handled at once.
BATCH_ENTRIES = 200_000
#: Sign-ups happen in the first so many days, one cohort a day.
COHORTS = 28
_SLOTS = 24
_MOST_REQUESTS = 3
_GAP_US = (120 * MICRO, 400 * MICRO)
_IMAGES = (1, 2, 4, 8)
_REFUND_SHARE = 0.004
_FAILED_SHARE = 0.014
#: Longer than any provider takes here, shorter than the gap between two requests.
_LONGEST_US = 80 * MICRO
_KINDS = ("monthly", "rollover")
_MONTHLY, _ROLLOVER = range(2)


class Joined(NamedTuple):
    """One row per lot or closed cycle, collected along the way: numbers of accounts beside columns."""

    account: Whole
    columns: dict[str, Any]


class World:
    """All accounts, and what they do day by day."""

    def __init__(self, terms: Terms, entries: int, start: date, days: int, seed: int) -> None:
        """``entries``: how many to come near; there is one account for a hundred."""
        self.terms, self.start, self.days = terms, start, days
        self.accounts = max(COHORTS, entries // 100)
        self._wanted, self._made = entries, 0
        self.rng = np.random.default_rng(seed)
        n, rng = self.accounts, self.rng
        numbers = digits(np.arange(n), _ID_DIGITS)
        self.user_ids, self.account_ids = (texts(side_by_side(head, numbers)) for head in (b"bulk-", b"user:bulk-"))
        self.plan = rng.choice(len(terms.plans), n, p=np.asarray(terms.plan_shares) / sum(terms.plan_shares))
        self.region = rng.choice(len(terms.regions), n, p=np.asarray(terms.region_shares) / sum(terms.region_shares))
        self.joined = rng.integers(0, min(COHORTS, days), n)
        self._eager = rng.lognormal(0.0, 0.7, n)
        self._eager /= self._eager.mean()
        self.quota = np.asarray(terms.quotas, dtype=np.int64)[self.plan]
        self.monthly: Whole = np.zeros(n, dtype=np.int64)
        self.rollover: Whole = np.zeros(n, dtype=np.int64)
        self.mode: Whole = np.full(n, STEADY)
        self.demand: Whole = np.zeros(n, dtype=np.int64)
        self.largest: Whole = np.zeros(n, dtype=np.int64)
        self.cycle_no: Whole = np.zeros(n, dtype=np.int64)
        self.edges = self._cycle_edges()
        self.created_us = self.edges[self.joined, 0] + rng.integers(0, 12 * 3_600 * MICRO, n)
        self.opening: Whole = self.quota.copy()
        self.monthly_lot: Text = np.zeros(n, dtype="S32")
        self.rollover_lot: Text = np.zeros(n, dtype="S32")
        self.lots: list[Joined] = []
        self.closed: list[Joined] = []
        self._requests = 0
        self._contents: dict[tuple[int, int], bytes] = {}
        law = terms.laws[0]
        self._threshold = np.asarray([one.threshold for one in terms.laws])
        self._cap = np.asarray([one.cap_multiple for one in terms.laws])
        self._law = law

    @property
    def end_us(self) -> int:
        """The midnight that all of it ends at."""
        return self._midnight(self.days)

    def bounds(self) -> tuple[Whole, Whole]:
        """Start and end of every account's running cycle."""
        return self.edges[self.joined, self.cycle_no], self.edges[self.joined, self.cycle_no + 1]

    def anchor(self, cohort: int) -> date:
        """The day that a cohort's cycles count from."""
        return self.start + timedelta(days=cohort)

    def batches(self) -> Iterator[tuple[float, list[Group]]]:
        """How far it is, and groups of entries; batches follow each other in time, but for a few minutes."""
        for day in range(self.days):
            openings = [*self._closings(day), *self._sign_ups(day)]
            yield day / self.days, self._counted(openings)
            for groups in self._requests_of(day):
                yield (day + 1) / self.days, self._counted(groups)

    # Cycles ------------------------------------------------------------------------------------------------------

    def _midnight(self, day: int) -> int:
        return to_us(datetime(self.start.year, self.start.month, self.start.day, tzinfo=UTC)) + day * DAY_US

    def _cycle_edges(self) -> Whole:
        """Cohort × cycle number: where the cycle begins, by the calendar's months (SPEC 1)."""
        starts = [
            [self.anchor(cohort)] + [cycles.add_months(self.anchor(cohort), number) for number in range(1, self.days // 28 + 3)]
            for cohort in range(COHORTS)
        ]  # fmt: skip
        return np.asarray([[self._midnight((one - self.start).days) for one in row] for row in starts])

    def _sign_ups(self, day: int) -> Iterator[Group]:
        new = np.flatnonzero(self.joined == day)
        yield self._granted(new, self.created_us[new], governed=False)

    def _granted(self, account: Whole, at: Whole, *, governed: bool) -> Group:
        numbers = self.cycle_no[account]
        lots = self._lots(account, "monthly", at, self.monthly_lot)
        self.monthly[account] = self.quota[account]
        legs = _legs("quota", self.account_ids[account], digits(numbers, 1))
        columns = self._own(account) | {
            "kind": Same("grant"), "leg_id": legs, "line": Same(1), "lot_id": lots, **_lot_says(Same(_KINDS[_MONTHLY])),
            "d_avail_uc": self.quota[account] * MICRO, "d_held_uc": Same(0),
        }  # fmt: skip
        return Group(account, at, columns | (self._governed() if governed else {}), place=9)

    def _lots(self, account: Whole, kind: str, at: Whole, into: Text) -> Text:
        numbers = self.cycle_no[account]
        lots = _legs("lot", self.account_ids[account], kind, digits(numbers, 1))
        into[account] = lots
        expires = self.edges[self.joined[account], numbers + 1]
        self.lots.append(Joined(account, {"lot_id": lots, "kind": kind, "granted_at": at, "expires_at": expires}))
        return lots

    def _closings(self, day: int) -> Iterator[Group]:
        """Expire, roll over and grant for accounts whose cycle ends at the midnight before ``day`` (SPEC 2.2)."""
        at = self._midnight(day)
        due = np.flatnonzero((self.edges[self.joined, self.cycle_no + 1] == at) & (self.joined < day))
        if not len(due):
            return
        unspent = self.monthly[due] + self.rollover[due]
        expired_uc, kept_uc, carried_uc = self._closing(due, unspent)
        monthly_uc, rollover_uc = self.monthly[due] * MICRO, self.rollover[due] * MICRO
        # What expires is taken from the rollover lot first.
        from_rollover = np.minimum(expired_uc, rollover_uc)
        from_monthly = expired_uc - from_rollover
        old = self.monthly_lot[due], self.rollover_lot[due]
        numbers = digits(self.cycle_no[due], 1)
        yield from self._moved(
            due, at, "expire", 0, numbers, [(old[1], _ROLLOVER, -from_rollover), (old[0], _MONTHLY, -from_monthly)]
        )
        columns = {
            "closed_at": at, "demand_uc": self.demand[due] * MICRO, "unspent_uc": unspent * MICRO, "cycle_no": self.cycle_no[due],
            "kept_uc": kept_uc, "carried_uc": carried_uc, "opening_uc": self.opening[due] * MICRO,
            "cap_multiple": self._cap[self.plan[due]],
        }  # fmt: skip
        self.closed.append(Joined(due, columns))
        self.cycle_no[due] += 1
        carrying = carried_uc > 0
        new: Text = np.zeros(len(due), dtype="S32")
        new[carrying] = self._lots(due[carrying], "rollover", np.full(int(carrying.sum()), at), self.rollover_lot)
        lines = [
            (old[1], _ROLLOVER, from_rollover - rollover_uc), (old[0], _MONTHLY, from_monthly - monthly_uc), (new, _ROLLOVER, carried_uc),
        ]  # fmt: skip
        yield from self._moved(due, at, "rollover", 3, numbers, lines)
        self.rollover[due] = carried_uc // MICRO
        self.demand[due] = self.largest[due] = 0
        yield self._granted(due, np.full(len(due), at), governed=True)
        self.opening[due] = self.monthly[due] + self.rollover[due]

    def _closing(self, due: Whole, unspent: Whole) -> tuple[Whole, Whole, Whole]:
        """Expired, kept and carried micro-credits; whole credits are carried, so that each stays payable from one lot."""
        pairs, which = np.unique(np.stack([self.plan[due], unspent]), axis=1, return_inverse=True)
        results = []
        for plan, left in pairs.T.tolist():
            law = self.terms.laws[plan]
            quota_uc = self.terms.quotas[plan] * MICRO
            found = cycles.close(left * MICRO, quota_uc, law.cap_multiple, self.terms.soft_decay[plan])
            carried = found.carried_uc // MICRO * MICRO
            results.append((left * MICRO - carried, found.kept_uc, carried))
        expired_uc, kept_uc, carried_uc = np.asarray(results, dtype=np.int64)[which.ravel()].T
        return expired_uc, kept_uc, carried_uc

    def _moved(
        self, account: Whole, at: int, kind: str, place: int, numbers: Bytes, lines: list[tuple[Text, int, Whole]]
    ) -> Iterator[Group]:
        """One leg per account, of as many lines as move anything."""
        legs = _legs(kind, self.account_ids[account], numbers)
        before: Whole = np.zeros(len(account), dtype=np.int64)
        for number, (lots, of_kind, amount_uc) in enumerate(lines):
            kept = np.flatnonzero(amount_uc)
            before[kept] += 1
            some = account[kept]
            columns = self._own(some) | self._governed() | {
                "kind": Same(kind), "leg_id": legs[kept], "line": before[kept],
                "lot_id": lots[kept], "d_avail_uc": amount_uc[kept], "d_held_uc": Same(0), **_lot_says(Same(_KINDS[of_kind])),
            }  # fmt: skip
            yield Group(some, np.full(len(some), at), columns, place + number)

    # Requests ----------------------------------------------------------------------------------------------------

    def _requests_of(self, day: int) -> Iterator[list[Group]]:
        there = np.flatnonzero(self.joined < day)
        if not len(there):
            return
        left = self._wanted - self._made
        sessions = left / max(self.days - day, 1) / self._entries_a_session
        chance = np.minimum(self._eager[there] * sessions / len(there), 0.97)
        active = there[self.rng.random(len(there)) < chance]
        hours = self.rng.choice(_SLOTS, len(active), p=np.asarray(self.terms.hours) / sum(self.terms.hours))
        # A session is over within its hour or soon after it; the last hour's before midnight.
        offset = self.rng.integers(0, 3_600 * MICRO - _MOST_REQUESTS * (_GAP_US[1] + _LONGEST_US), len(active))
        starts = self._midnight(day) + hours * 3_600 * MICRO + offset
        together = max(1, int(BATCH_ENTRIES / max(1.0, sessions * self._entries_a_session / _SLOTS)))
        for first in range(0, _SLOTS, together):
            chosen = (hours >= first) & (hours < first + together)
            yield list(self._sessions(day, active[chosen], starts[chosen]))

    @property
    def _entries_a_session(self) -> float:
        return self._made / self._sessions_made if self._sessions_made else 3.2

    _sessions_made = 0

    def _sessions(self, day: int, account: Whole, starts: Whole) -> Iterator[Group]:
        self._sessions_made += len(account)
        numbers = 1 + self.rng.binomial(_MOST_REQUESTS - 1, 0.5, len(account))
        seen = Session.begun(self.monthly[account] + self.rollover[account])
        at = starts
        for turn in range(_MOST_REQUESTS):
            going = numbers > turn
            account, at, numbers, seen = account[going], at[going], numbers[going], seen.only(going)
            lot_has = np.where(self.monthly[account] > 0, self.monthly[account], self.rollover[account])
            images = np.asarray(_IMAGES)[self.rng.choice(len(_IMAGES), len(account), p=self.terms.image_shares)]
            images = np.where(lot_has > 0, np.minimum(images, lot_has), images)
            # Who would pass the session's cap stops here: nothing is deferred.
            most = np.maximum(self._law.max_share * seen.opening, images)
            within = (seen.fresh < self._law.max_fresh) & (seen.fresh_cost + images <= most)
            account, at, numbers, seen = account[within], at[within], numbers[within], seen.only(within)
            if not len(account):
                return
            yield from self._asked(day, account, at, images[within], seen)
            at = at + _LONGEST_US + self.rng.integers(*_GAP_US, len(account))

    def _asked(self, day: int, account: Whole, at: Whole, images: Whole, seen: Session) -> Iterator[Group]:
        """One request of each account: decided, spent, ended."""
        rng, terms, n = self.rng, self.terms, len(account)
        cell = np.minimum((rng.pareto(1.2, n) * 4).astype(np.int64), len(terms.cells) - 1)
        requests = texts(side_by_side(b"r", digits(np.arange(self._requests, self._requests + n), 11)))
        users = self.user_ids[account]
        self._requests += n
        u01 = self._draws(users, requests)
        found = self._decided(account, at, images, cell, u01, seen)
        common: Columns = self._own(account) | self._governed() | {
            "request_id": requests, "session_id": texts(side_by_side(users, b"-%03d" % day)),
            "modality": Same("image"), "images": images, "genre": Coded(cell, [one.genre for one in terms.cells]),
            "mood": Coded(cell, [one.mood for one in terms.cells]),
        }  # fmt: skip
        fresh, premium = found.fresh, (found.p > terms.routing_threshold).astype(np.int64)
        common["model"] = Coded(premium, terms.models)
        of_monthly = self.monthly[account] > 0
        lots = np.where(of_monthly, self.monthly_lot[account], self.rollover_lot[account])
        of_lot: Columns = {"lot_id": lots, **_lot_says(Coded(np.where(of_monthly, _MONTHLY, _ROLLOVER), _KINDS))}
        opened = common | found.columns | of_lot | {
            "leg_id": _legs("open", users, requests),
            "line": Same(1), "content_hash": self._content(cell, images), "authorize_ms": rng.gamma(4.0, 0.12, n) + 0.2,
        }  # fmt: skip
        amount_uc = images * MICRO
        reserved = _kept(opened, fresh) | {
            "kind": Same("reserve"), "status": Same("RESERVED"), "outcome": Same("fresh"),
            "d_avail_uc": -amount_uc[fresh], "d_held_uc": amount_uc[fresh],
        }  # fmt: skip
        yield Group(account[fresh], at[fresh], reserved)
        answered = {name: column for name, column in opened.items() if name != "model" and name not in of_lot}
        yield Group(account[~fresh], at[~fresh], _kept(answered, ~fresh) | {
            "kind": Same("library"), "status": Same("LIBRARY"), "outcome": Same("library"), "d_avail_uc": Same(0), "d_held_uc": Same(0),
        })  # fmt: skip
        yield from self._ended(
            account[fresh],
            at[fresh],
            images[fresh],
            premium[fresh],
            requests[fresh],
            _kept(common | of_lot, fresh),
        )
        seen.count(images, fresh)
        self.demand[account] += images
        self.largest[account] = np.maximum(self.largest[account], images)

    def _ended(
        self, account: Whole, at: Whole, images: Whole, model: Whole, requests: Text, common: Columns
    ) -> Iterator[Group]:
        """Settle or release, and now and then a refund."""
        rng, n, terms = self.rng, len(account), self.terms
        median, sigma = np.asarray(terms.latency_s)[model].T if n else (np.zeros(0), np.zeros(0))
        taken_us = np.minimum(median * np.exp(sigma * rng.standard_normal(n)) * MICRO, _LONGEST_US / 2).astype(np.int64)
        failed = rng.random(n) < _FAILED_SHARE
        refunded = ~failed & (rng.random(n) < _REFUND_SHARE)
        users = self.user_ids[account]
        done: Columns = common | {
            "leg_id": _legs("end", users, requests), "line": Same(1), "latency_ms": taken_us / 1_000.0,
            "cost_usd_micro": np.asarray(terms.cost_usd_micro)[model] * images,
        }  # fmt: skip
        amount_uc = images * MICRO
        ok = ~failed
        settled: Columns = {"kind": Same("settle"), "d_avail_uc": Same(0), "d_held_uc": -amount_uc[ok]}
        yield Group(account[ok], at[ok] + taken_us[ok], _kept(done, ok) | settled)
        released: Columns = {
            "kind": Same("release"),
            "reason": Same("provider_error"),
            "d_avail_uc": amount_uc[failed],
            "d_held_uc": -amount_uc[failed],
        }
        yield Group(account[failed], at[failed] + taken_us[failed], _kept(done, failed) | released)
        back: Columns = common | {"leg_id": _legs("refund", users, requests, "bulk"), "line": Same(1)}
        given: Columns = {
            "kind": Same("refund"),
            "d_avail_uc": amount_uc[refunded],
            "d_held_uc": Same(0),
            "actor": Same("support"),
            "reason": Same("poor result"),
        }
        yield Group(account[refunded], at[refunded] + _LONGEST_US, _kept(back, refunded) | given)
        spent = np.where(ok & ~refunded, images, 0)
        of_monthly = self.monthly[account] > 0
        self.monthly[account] -= np.where(of_monthly, spent, 0)
        self.rollover[account] -= np.where(of_monthly, 0, spent)

    def _decided(self, account: Whole, at: Whole, images: Whole, cell: Whole, u01: Real, seen: Session) -> Verdicts:
        plan, number = self.plan[account], self.cycle_no[account]
        starts, ends = self.edges[self.joined[account], number], self.edges[self.joined[account], number + 1]
        asked = Asked(
            balance=self.monthly[account] + self.rollover[account],
            quota=self.quota[account],
            cycle_days=(ends - starts) / DAY_US,
            days_left=(ends - at) / DAY_US,
            mode=self.mode[account],
            largest=self.largest[account],
            threshold=self._threshold[plan],
            cap_multiple=self._cap[plan],
            coverage=np.asarray([one.coverage for one in self.terms.cells])[cell],
            health=np.asarray([one.health for one in self.terms.cells])[cell],
            thin=np.asarray([one.under_represented for one in self.terms.cells])[cell],
            images=images,
            u01=u01,
        )
        verdicts = decide(self._law, asked, seen)
        self.mode[account] = verdicts.mode
        return verdicts

    def _draws(self, users: Text, requests: Text) -> Real:
        """:func:`credit_core.policy.decision.draw`, many at a time."""
        keyed, drawn = hashlib.blake2b(digest_size=8, key=self.terms.draw_salt), []
        for asked in side_by_side(*_parts(users), *_parts(requests)):
            digest = keyed.copy()
            digest.update(asked)
            drawn.append(digest.digest())
        return (np.frombuffer(b"".join(drawn), dtype=">u8") >> np.uint64(11)).astype(np.float64) / 2**53

    def _content(self, cell: Whole, images: Whole) -> Coded:
        """Keyed hash of what was asked for: the bytes of ``service.generate.content_hash``."""
        kinds, which = np.unique(np.stack([cell, images]), axis=1, return_inverse=True)
        return Coded(which.ravel(), [self._content_of(*one) for one in kinds.T.tolist()])

    def _content_of(self, cell: int, images: int) -> bytes:
        key = (cell, images)
        if key not in self._contents:
            place = self.terms.cells[cell]
            digest = hashlib.blake2b(digest_size=32, key=self.terms.content_key)
            for part in ("image", None, str(images), place.genre, place.mood, None):
                data = b"" if part is None else part.encode()
                digest.update(struct.pack(">?I", part is not None, len(data)) + data)
            self._contents[key] = digest.digest()
        return self._contents[key]

    def _own(self, account: Whole) -> Columns:
        return {
            "plan": Coded(self.plan[account], self.terms.plans),
            "region": Coded(self.region[account], self.terms.regions),
        }

    def _governed(self) -> Columns:
        return {"config_version": Same(self.terms.version), "arm": Same("all")}

    def _counted(self, groups: list[Group]) -> list[Group]:
        self._made += sum(len(group.account) for group in groups)
        return groups


def _lot_says(kind: Column) -> Columns:
    """What facts have of an entry's lot; the ledger has it in the lot alone."""
    return {"lot_kind": kind, "unit_price_usd_micro": Same(0)}


def _legs(act: str, *parts: Text | Bytes | str) -> Text:
    """:func:`credit_core.store.records.leg_id`, many at a time."""
    rows = side_by_side(*_parts(act), *(piece for part in parts for piece in _parts(part)))
    digests = b"".join([hashlib.blake2b(row, digest_size=16).digest() for row in rows])
    return np.frombuffer(digests.hex().encode(), dtype="S32")


def _parts(part: Text | Bytes | str) -> tuple[bytes | Text | Bytes, ...]:
    """A part of what is hashed, after its length."""
    if isinstance(part, str):
        return (prefixed(len(part)) + part.encode(),)
    return prefixed(part.dtype.itemsize if part.dtype.kind == "S" else part.shape[1]), part


def _kept(columns: Columns, kept: Flags) -> Columns:
    """The columns of some of the rows."""
    places = np.flatnonzero(kept)
    found: Columns = {}
    for name, column in columns.items():
        if isinstance(column, Coded):
            found[name] = Coded(column.codes[places], column.values)
        else:
            found[name] = column if isinstance(column, Same) else column[places]
    return found
