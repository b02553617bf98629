"""Mode ``govern``: every event through authorize and its end at its own time, as if the core had been live (SPEC 9).

About five hundred requests share a transaction, through the same functions that serve one. Holds and deferred requests
are swept by the events' clock, cycles are closed and λ₀ is stored at each of its midnights; of what is due at one instant
sweeps come first, then ends, then starts. What an earlier run wrote is found again and counted, so that an import may be
stopped and run again.
"""

from __future__ import annotations

import heapq
import time as stopwatch
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import NamedTuple

from credit_core.errors import CreditError, InvalidRequest
from credit_core.importers.frame import FAILED, SUCCEEDED, Event, Reject, Rejects, Summary, chunks
from credit_core.policy.decision import Decision, Request
from credit_core.service import accounts, deferred, ends, generate
from credit_core.service.core import CreditCore
from credit_core.store.records import Row, ending_leg, opening_leg
from credit_core.store.unit import Unit

CHUNK = 500
_SWEEP, _DROP, _END = range(3)
_PERCEIVED = {"LIBRARY": "library", "DEFERRED": "deferred", "RATE_LIMITED": "rate_limited", "REJECTED": "rejected"}


class Signup(NamedTuple):
    """The terms on which a user of the log joins at their first event."""

    plan: str
    timezone: str = "UTC"
    region: str | None = None
    segment: str | None = None


class Ending(NamedTuple):
    """What happens to a reserve or a deferred request, and when.

    ``order`` of those at one instant: the row of an end, the leg of what is swept, as the sweeper goes. ``ends``: the log of
    a reserve tells of an end, which comes later where this is the sweep.
    """

    at: datetime
    kind: int
    order: int | str
    user_id: str
    request_id: str
    latency_ms: float | None
    cost_usd_micro: int | None
    failed: bool
    ends: bool


class Act(NamedTuple):
    """Something that happens between two events, such as a release of a configuration."""

    at: datetime
    run: Callable[[], None]


Outcome = Callable[[Event, Decision], tuple[datetime | None, bool, float | None]]


def as_logged(event: Event, _decision: Decision) -> tuple[datetime | None, bool, float | None]:
    """The end that the log itself tells: when, whether it failed, and its latency in ms. None: it never ended."""
    ended = event.status in (SUCCEEDED, FAILED)
    return (event.ended_at if ended else None, event.status == FAILED, event.latency_ms)


class Clock:
    """The wall clock of a made-up ledger: stands at the instant that its events have reached."""

    def __init__(self, now: datetime) -> None:
        """Begin at ``now``."""
        self.now = now

    def __call__(self) -> datetime:
        """The present."""
        return self.now


class Governor:
    """Runs events through a core in batches. Between batches it remembers which reserves and deferred requests have yet to end."""

    def __init__(
        self,
        core: CreditCore,
        signup: Callable[[Event], Signup],
        summary: Summary,
        rejects: Rejects,
        outcome: Outcome = as_logged,
        clock: Clock | None = None,
        meanwhile: Callable[[Unit, datetime | None, datetime], None] = lambda _unit, _after, _until: None,
    ) -> None:
        """``signup`` gives the terms of a user seen for the first time, ``outcome`` how a reserved event ends.

        ``clock``, where the core has a made-up one, follows the events, so that entries are recorded when they occur.
        ``meanwhile`` is called in the transaction of each event with the span of time since the one before.
        """
        self._core = core
        self._signup = signup
        self._summary = summary
        self._rejects = rejects
        self._outcome = outcome
        self._clock = clock
        self._meanwhile = meanwhile
        self._endings: list[Ending] = []
        self._counted: set[tuple[str, str]] = set()
        self._reached: datetime | None = None
        self._day: datetime | None = None
        self._known_users: set[str] = set()

    def run(self, events: Iterable[Event], acts: Sequence[Act] = ()) -> None:
        """Take ``events``, which are in order, and do each of ``acts`` at its instant, before events of the same."""
        waiting = deque(sorted(acts, key=lambda act: act.at))
        for part in chunks(events, CHUNK, [act.at for act in acts]):
            while waiting and waiting[0].at <= part[0].started_at:
                self._act(waiting.popleft())
            self._midnights(part[0].started_at)
            self._commit(part, part[-1].started_at)
        for act in waiting:
            self._act(act)

    def finish(self, until: datetime | None) -> None:
        """End what is due by ``until``; None ends everything, the last sweep included.

        Then what was deferred in the last hours and may still be drained stays in the queue.
        """
        if until is None:
            now = self._core.deployment.instant(None)
            self._endings = sorted(ending for ending in self._endings if ending.kind != _DROP or ending.at <= now)
        while self._endings and until is None:
            self._commit([], self._endings[0].at + timedelta(days=1))
        if until is not None:
            self._midnights(until)
            self._commit([], until)
        held = {(ending.user_id, ending.request_id) for ending in self._endings if ending.kind != _DROP}
        self._summary.held = len(held - self._counted)

    def _act(self, act: Act) -> None:
        self._midnights(act.at)
        self._commit([], act.at)
        act.run()

    def _midnights(self, at: datetime) -> None:
        """Closings and λ₀ at the newest midnight passed, as the timer of a live deployment would have run them."""
        midnight = datetime.combine(at.date(), time(), tzinfo=UTC)
        if self._day is not None and midnight > self._day:
            self._commit([], midnight)
            self._core.reconcile(midnight)
        self._day = midnight

    def _commit(self, part: list[Event], through: datetime) -> None:
        """One transaction. Counts and endings change only once it is committed: a retried batch starts from the same place."""
        batch = self._core.deployment.ledger.run(lambda unit: _Batch(self, unit).take(part, through))
        self._endings, self._counted, self._reached = batch.endings, batch.counted, batch.reached
        for name, count in batch.counts.items():
            setattr(self._summary, name, getattr(self._summary, name) + count)
        for rule, count in batch.rules.items():
            self._summary.rules[rule] = self._summary.rules.get(rule, 0) + count
        for credit_unit, uc in batch.spent.items():
            self._summary.spent_by_unit[credit_unit] = self._summary.spent_by_unit.get(credit_unit, 0) + uc
        for reject in batch.rejects:
            self._rejects.add(reject)
        self._known_users.update(event.user_id for event in part)
        self._summary.users = len(self._known_users)
        if self._clock is not None:
            self._clock.now = max(self._clock.now, through)


class _Batch:
    """One transaction's worth of work on copies of what the governor remembers."""

    def __init__(self, governor: Governor, unit: Unit) -> None:
        self._governor = governor
        self._unit = unit
        self._deployment = governor._core.deployment
        self.endings = list(governor._endings)
        self.counted = set(governor._counted)
        self.reached = governor._reached
        self.counts: Counter[str] = Counter()
        self.rules: Counter[str] = Counter()
        self.spent: Counter[str] = Counter()
        self.rejects: list[Reject] = []

    def take(self, part: list[Event], through: datetime) -> _Batch:
        self._preload(part, through)
        for event in part:
            self._reach(event.started_at)
            try:
                self._start(event)
            except CreditError as error:
                self.rejects.append(event.reject(str(error)))
            # What was postponed to the commit (the library's cells) is seen by the next event, as it would be live.
            self._unit.write_last()
        self._reach(through)
        return self

    def _preload(self, part: list[Event], through: datetime) -> None:
        due = [ending for ending in self.endings if ending.at <= through]
        self._unit.lock_users([event.user_id for event in part] + [ending.user_id for ending in due])
        keys = [(event.user_id, event.request_id) for event in part]
        keys += [(ending.user_id, ending.request_id) for ending in due]
        self._unit.preload_legs([name(*key) for key in dict.fromkeys(keys) for name in (opening_leg, ending_leg)])
        drops = [(ending.user_id, ending.request_id) for ending in due if ending.kind == _DROP]
        # The account that deferred may not be the one that pays for the user by now; what ended there is known under its lock.
        self._unit.lock_accounts(sorted({self._unit.leg(opening_leg(*key))[0]["account_id"] for key in drops}))
        self._unit.preload_legs([leg for key in drops for leg in deferred.ending_legs(*key)])

    def _reach(self, at: datetime) -> None:
        """Do everything due by ``at``."""
        while self.endings and self.endings[0].at <= at:
            ending = heapq.heappop(self.endings)
            self._now(ending.at)
            self._end(ending)
            self._unit.write_last()
        self._now(at)
        self._governor._meanwhile(self._unit, self.reached, at)
        self._now(at)
        self.reached = at

    def _now(self, at: datetime) -> None:
        if self._governor._clock is not None:
            self._unit.now = at

    def _start(self, event: Event) -> None:
        unit, at = self._unit, event.started_at
        request = generate.checked(
            Request(
                event.user_id,
                event.request_id,
                event.session_id,
                event.genre,
                event.mood,
                event.modality,
                event.model,
                event.images,
            )
        )
        if any(line["kind"] == "import" for line in unit.leg(opening_leg(event.user_id, event.request_id))):
            raise InvalidRequest("was recorded before, in mode record; a row is taken once. Use a ledger of its own.")
        if not accounts.is_guest(event.user_id) and not unit.has_user(event.user_id):
            terms = self._governor._signup(event)
            accounts.add_user_in(
                unit, self._deployment, event.user_id, terms.plan, terms.timezone, terms.region, terms.segment, at
            )
        decision = generate.authorize_in(unit, self._deployment, request, at, stopwatch.perf_counter())
        self.counts["known" if decision.replayed else "new"] += 1
        self.rules[decision.rule] += 1
        key = (event.user_id, event.request_id)
        leg = opening_leg(*key)
        if not decision.fresh:
            self.counts[_PERCEIVED[decision.status]] += 1
            if decision.status == "DEFERRED":
                drop_at = at + generate.DEFERRAL_LIFETIME
                heapq.heappush(self.endings, Ending(drop_at, _DROP, leg, *key, None, None, False, False))
            return
        end_at, failed, latency_ms = self._governor._outcome(event, decision)
        swept_at = at + timedelta(seconds=self._hold_ttl_s(decision))
        facts = (*key, latency_ms, event.cost_usd_micro, failed)
        if end_at is not None:
            heapq.heappush(self.endings, Ending(end_at, _END, event.line, *facts, True))
        if end_at is None or end_at >= swept_at:
            heapq.heappush(self.endings, Ending(swept_at, _SWEEP, leg, *facts, end_at is not None))

    def _hold_ttl_s(self, decision: Decision) -> float:
        assert decision.config_version is not None
        config = self._deployment.live.load(self._unit.connection, decision.config_version)
        assert config is not None, "a decision names an existing version"
        return config.saga.hold_ttl_s

    def _end(self, ending: Ending) -> None:
        """Sweep or end a reserve, or drop a deferral. It may have ended before: in an earlier run, or by another process."""
        unit, key = self._unit, (ending.user_id, ending.request_id)
        if ending.kind == _DROP:
            deferred.drop_in(unit, *key, ending.at)
            return
        before = unit.leg(ending_leg(*key))
        counted = key in self.counted
        if not before:
            self._end_now(ending)
        elif ending.kind == _END and not ending.failed and _swept(before[0]):
            cost, latency_ms = ending.cost_usd_micro, ending.latency_ms
            late = ends.settle_in(unit, self._deployment, *key, ending.at, None, cost, latency_ms)
            self.counts["late_settles"] += isinstance(late, ends.LateSettle)
        if not counted:
            self._count(unit.leg(ending_leg(*key)))
        # A swept reserve is remembered until the end comes that its log tells of.
        if ending.kind == _SWEEP and ending.ends:
            self.counted.add(key)
        else:
            self.counted.discard(key)

    def _end_now(self, ending: Ending) -> None:
        unit, key = self._unit, (ending.user_id, ending.request_id)
        if ending.kind == _SWEEP or ending.failed:
            reason = ends.SWEPT if ending.kind == _SWEEP else "provider_error"
            ends.release_in(unit, self._deployment, *key, reason, ending.at)
        else:
            cost = ending.cost_usd_micro
            ends.settle_in(unit, self._deployment, *key, ending.at, None, cost, ending.latency_ms)

    def _count(self, lines: list[Row]) -> None:
        self.counts["settled" if lines[0]["kind"] == "settle" else "released"] += 1
        self.counts["swept"] += _swept(lines[0])
        unit = self._deployment.catalog.plan(lines[0]["plan"]).credit_unit
        self.spent[unit] -= sum(line["d_avail_uc"] + line["d_held_uc"] for line in lines)


def _swept(line: Row) -> bool:
    return bool(line["kind"] == "release" and line["reason"] == ends.SWEPT)
