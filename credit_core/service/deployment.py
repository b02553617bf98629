"""What every use case works with: the ledger, the live configuration and the catalogue of one deployment."""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from credit_core.errors import InvalidInstant
from credit_core.policy import arms
from credit_core.policy import config as schema
from credit_core.policy.config import Config
from credit_core.policy.decision import Law, law_for
from credit_core.policy.plans import Catalog
from credit_core.store import configs, library, rewards
from credit_core.store.ledger import Connection, Ledger
from credit_core.units import checked_instant

#: How long a core may decide by a configuration without asking whether another has been released.
POLL_S = 0.25
#: A clock more than this ahead of ours is a fault of the caller; following it would close cycles that cannot be reopened.
MAX_AHEAD = timedelta(days=366)
_MEDIAN_SLOT_S = 300


class Live(NamedTuple):
    """The configuration one account is governed by."""

    version: int
    arm: str
    config: Config


class Rollout(NamedTuple):
    """What is live: ``version`` for everybody but the treatment arm, which is share ``share`` of the accounts."""

    version: int
    treatment: int | None
    share: float
    salt: str | None


def rollout_of(releases: list[configs.Release]) -> Rollout:
    """What a history of releases, oldest first, leaves live."""
    current = Rollout(0, None, 0.0, None)
    for release in releases:
        if release.arm == "all":
            current = Rollout(release.version, None, 0.0, None)
        else:
            current = Rollout(current.version, release.version, release.share, release.salt)
    return current


def arm_of(account_id: str, rollout: Rollout) -> str:
    """treatment for h < s, control for h ≥ 1 − s, else rest; h by account and experiment salt (SPEC 5)."""
    if rollout.treatment is None or rollout.salt is None:
        return "all"
    digest = hashlib.blake2b(account_id.encode(), digest_size=8, key=rollout.salt.encode()[:64]).digest()
    h = (int.from_bytes(digest, "big") >> 11) / 2**53
    if h < rollout.share:
        return "treatment"
    return "control" if h >= 1.0 - rollout.share else "rest"


class LiveConfig:
    """Follows the releases in the ledger database: within :data:`POLL_S` of a release every core decides by it."""

    def __init__(self) -> None:
        """Nothing is read before the first use."""
        self._lock = threading.Lock()
        self._checked = self._asked = float("-inf")
        self._release_id = 0
        self._rollout = Rollout(0, None, 0.0, None)
        self._configs: dict[int, Config] = {}
        self._laws: dict[tuple[int, str], Law] = {}

    def refresh(self, connection: Connection, *, now: bool = False) -> None:
        """Ask whether there is a newer release, if the last answer is older than :data:`POLL_S` or ``now`` is set."""
        if not now and time.monotonic() - self._checked < POLL_S:
            return
        # Nothing is locked while the database answers: it may answer only once another thread has committed, who asks this, too.
        asked = time.monotonic()
        newest = configs.last_release_id(connection)
        rollout = None
        if newest != self._release_id:
            rollout = rollout_of(configs.releases(connection))
            for number in {rollout.version, rollout.treatment or rollout.version} - self._configs.keys():
                self.load(connection, number)
        with self._lock:
            if asked < self._asked:
                return
            self._asked, self._checked = asked, time.monotonic()
            if rollout is not None:
                self._rollout, self._release_id = rollout, newest

    def load(self, connection: Connection, number: int) -> Config | None:
        """One version's configuration; None where there is no such version."""
        if number not in self._configs:
            version = configs.version(connection, number)
            if version is None:
                return None
            self._configs[number] = schema.parse(version.body)
        return self._configs[number]

    @property
    def rollout(self) -> Rollout:
        """What is live, as of the last refresh."""
        return self._rollout

    def of(self, connection: Connection, account_id: str) -> Live:
        """The configuration that governs ``account_id`` now."""
        self.refresh(connection)
        arm = arm_of(account_id, self._rollout)
        number = self._rollout.treatment if arm == "treatment" and self._rollout.treatment else self._rollout.version
        config = self.load(connection, number)
        assert config is not None, "a release names an existing version"
        return Live(number, arm, config)

    def law(self, live: Live, plan: str) -> Law:
        """The numbers of ``live`` for ``plan``."""
        key = (live.version, plan)
        if key not in self._laws:
            self._laws[key] = law_for(live.config, plan)
        return self._laws[key]


@dataclass
class Deployment:
    """One deployment as a process sees it. Safe to share between threads."""

    ledger: Ledger
    catalog: Catalog
    live: LiveConfig = field(default_factory=LiveConfig)
    requested_cells: set[tuple[str, str]] = field(default_factory=set)
    queued_cells: set[tuple[str, str]] = field(default_factory=set)
    rates: dict[tuple[str, str], float | None] = field(default_factory=dict)
    _arm_p: tuple[int, float] | None = None
    _median: tuple[tuple[int, int], float | None] | None = None

    def instant(self, at: datetime | None) -> datetime:
        """``at`` in UTC, default now; refuses naive instants and those more than :data:`MAX_AHEAD` ahead of the clock."""
        now = self.ledger.clock()
        if at is None:
            return now
        at = checked_instant(at)
        if at - now > MAX_AHEAD:
            raise InvalidInstant(
                f"at is {at.isoformat()}, more than a year ahead of this machine's clock ({now.isoformat()}). Check both clocks."
            )
        return at

    def median_coverage(self, connection: Connection, at: datetime, target: int) -> float | None:
        """Median coverage of the demanded cells, computed once per five minutes of ``at``."""
        slot = (int(at.timestamp()) // _MEDIAN_SLOT_S, target)
        if self._median is None or self._median[0] != slot:
            self._median = (slot, library.median_coverage(connection, at, target))
        return self._median[1]

    def arm_probability(self, connection: Connection, at: datetime) -> float:
        """Chance that fresh is the better arm, computed once per five minutes of ``at``."""
        slot = int(at.timestamp()) // _MEDIAN_SLOT_S
        if self._arm_p is None or self._arm_p[0] != slot:
            self._arm_p = (slot, arms.better(**rewards.totals(connection)))
        return self._arm_p[1]

    def library_changed(self) -> None:
        """Forget the median: the library was changed by hand."""
        self._median = None
