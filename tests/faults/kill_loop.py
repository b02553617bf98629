"""kill -9 in a loop under load: ``python -m tests.faults.kill_loop URL ROUNDS`` on a new ledger, and what it counted.

Two workers generate for two users each while two sweepers take their holds away; in every round one worker and one sweeper
die, at a moment nobody chose, and others take their places.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from credit_core import CreditCore
from tests.faults.processes import Child, Nursery
from tests.service.scenes import CREDIT, FRESH_FOR_ALL, entries, make_live

USERS = ("ada", "bob")
PACK_UC = 1_000_000 * CREDIT
ENDS = ("settle", "release", "partial")
#: The sweepers' clock is this far ahead: every hold is past its lifetime as soon as it is made.
AHEAD_S = 15 * 60


class Figures(NamedTuple):
    """What a loop counted. ``acknowledged`` writes were told by those who made them; ``untold`` are in the ledger besides."""

    kills: int
    acknowledged: int
    lost: int
    twice: int
    untold: int
    swept: int
    late: int
    off_uc: int
    violations: int


def loop(core: CreditCore, nursery: Nursery, rounds: int, seed: int = 20250310) -> Figures:
    """Kill for ``rounds`` rounds, then hold what was said against what is written."""
    chance = random.Random(seed)
    make_live(core, FRESH_FOR_ALL)
    for user in USERS:
        core.add_user(user, "premium")
        core.grant(user, PACK_UC, "purchased", "pack")
    url, numbers = core.deployment.ledger.url, iter(range(1_000_000))

    def worker(user: str) -> Child:
        number = next(numbers)
        return nursery.spawn(url, "churn", user=user, prefix=f"k{number}", seed=number)

    def sweeper() -> Child:
        return nursery.spawn(url, "sweep_on", ahead_s=AHEAD_S)

    workers = {user: worker(user) for user in USERS}
    sweepers = [sweeper(), sweeper()]
    said: dict[str, list[Any]] = {user: [] for user in USERS}
    for _ in range(rounds):
        user = chance.choice(USERS)
        _until_it_works(workers[user])
        time.sleep(chance.random() * 0.1)
        said[user] += workers[user].killed()
        sweepers[0].kill()
        workers[user] = worker(user)
        sweepers = [sweepers[1], sweeper()]
    for user, child in workers.items():
        _until_it_works(child)
        said[user] += child.killed()
    for child in sweepers:
        child.kill()
    return _counted(core, said, kills=2 * rounds + len(workers) + len(sweepers))


def _until_it_works(child: Child) -> None:
    until = time.monotonic() + 30
    while len(child.said()) < 3:
        assert time.monotonic() < until, "a worker never began"
        time.sleep(0.002)


def _counted(core: CreditCore, said: dict[str, list[Any]], kills: int) -> Figures:
    core.sweep(at=datetime.now(UTC) + timedelta(seconds=2 * AHEAD_S))
    acknowledged = lost = twice = untold = swept = late = off = 0
    for user, told in said.items():
        legs: Counter[tuple[str, str]] = Counter()
        spent = 0
        seen: set[str] = set()
        for row in _history(core, user):
            reason = "swept" if row["reason"] == "swept" else "late" if row["reason"] == "late_settle" else row["kind"]
            if row["request_id"] is not None and row["leg_id"] not in seen and row["kind"] != "library":
                legs[reason, row["request_id"]] += 1
            seen.add(row["leg_id"])
            spent -= row["d_avail_uc"] + row["d_held_uc"] if row["kind"] == "settle" else 0
        # A late end other than a settle is refused without a trace: there is nothing to record.
        owned = {(kind, request_id) for kind, request_id, _ in told if kind != "late"}
        ends = Counter(request_id for kind, request_id in legs if kind in (*ENDS, "swept"))
        acknowledged += len(owned)
        lost += len(owned - legs.keys())
        twice += sum(times > 1 for times in legs.values()) + sum(times > 1 for times in ends.values())
        untold += len({leg for leg in legs if leg[0] in ("reserve", *ENDS)} - owned)
        swept += sum(kind == "swept" for kind, _ in legs)
        late += sum(kind == "late" for kind, _ in legs)
        balance = core.balance(user)
        off += abs(balance.available_uc - (PACK_UC + 600 * CREDIT - spent)) + balance.held_uc
    return Figures(kills, acknowledged, lost, twice, untold, swept, late, off, len(core.verify()))


def _history(core: CreditCore, user: str) -> list[dict[str, Any]]:
    rows = page = entries(core, user)
    while len(page) == 10_000:
        page = core.history(user, rows[-1]["seq"], limit=10_000)
        rows = rows + page
    return rows


def main(url: str, rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder, CreditCore.open(url) as core:
        nursery = Nursery(Path(folder))
        try:
            sys.stdout.write(f"{loop(core, nursery, rounds)}\n")
        finally:
            nursery.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
