"""What is measured, subject by subject; each gives its figures as one JSON object per engine."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from credit_core.bench import baselines
from credit_core.bench.measure import Against, Block, against, p50_p95
from credit_core.policy.decision import Request
from credit_core.service import accounts
from credit_core.service.core import CreditCore

#: Every request affordable, none limited or deferred, all fresh: the longest path through the saga.
_ALL_FRESH = {
    "limits.enabled": False, "session.max_fresh": 100_000, "session.max_share": 1.0, "controller.p_at_zero": 0.999,
    "controller.p_min": 1.0 - 1e-9, "controller.p_max": 1.0, "plans.premium.cap_multiple": 24.0,
}  # fmt: skip
_MANY_CREDITS_UC = 10**12
_HOT = "bench-hot"


class Scale(NamedTuple):
    """How much is measured."""

    blocks: int
    size: int
    users: int
    workers: int


@contextmanager
def opened(url: str) -> Iterator[CreditCore]:
    """A core on the empty ledger at ``url``, by whose configuration everything is fresh."""
    with CreditCore.open(url) as core:
        version = core.propose(_ALL_FRESH, "bench", "Everything fresh")
        core.release_version(version, author="bench")
        yield core


def users(core: CreditCore, scale: Scale) -> dict[str, Any]:
    """How fast users are signed up in bulk; the other subjects need them."""
    started = time.perf_counter()
    accounts.add_users(core.deployment, (name(number) for number in range(scale.users)), "premium")
    return {"users": scale.users, "users_per_s": scale.users / (time.perf_counter() - started)}


def saga(core: CreditCore, url: str, scale: Scale) -> dict[str, Any]:
    """Authorize and settle against two commits of one bare row."""
    with baselines.two_commits(url, scale.size) as baseline:
        found = against(_sagas(core, "saga", scale, 0), baseline, scale.blocks)
    return _rates(found, scale.size)


def two_phase(core: CreditCore, url: str, scale: Scale, tables: str) -> dict[str, Any]:
    """Authorize and settle against a bare two-phase transfer in PL/pgSQL: of users who are new here, then of the same again."""
    with baselines.two_phase(url, scale.size, scale.users, tables) as baseline:
        part = 1 + ("lean", "own").index(tables)
        found = against(_sagas(core, f"two-phase-{tables}", scale, part), baseline, scale.blocks)
        again = against(
            _sagas(core, f"again-{tables}", scale, part),
            lambda number: baseline(scale.blocks + 1 + number),
            scale.blocks,
        )
    known = _rates(again, scale.size)
    return _rates(found, scale.size) | {f"known_{name}": figure for name, figure in known.items()}


def authorize(core: CreditCore, scale: Scale) -> dict[str, Any]:
    """How long one authorize takes, over users that were not touched for long."""
    taken = []
    for number in range(scale.blocks * scale.size):
        request = Request(name(number * 104_729 % scale.users), f"timed-{number}", "s", genre="noir", mood="calm")
        started = time.perf_counter()
        core.authorize(request)
        taken.append((time.perf_counter() - started) * 1_000)
    p50, p95 = p50_p95(taken)
    return {"users": scale.users, "p50_ms": p50, "p95_ms": p95}


def hot_account(core: CreditCore, scale: Scale) -> dict[str, Any]:
    """Sagas a second of many threads that share one account, against the same threads on accounts of their own."""
    core.add_user(_HOT, "premium")
    core.grant(_HOT, _MANY_CREDITS_UC, "bonus", "hot")
    refused: list[BaseException] = []
    each = max(1, scale.size // 4)

    def work(worker: int, block: int, spread: bool) -> None:
        try:
            for turn in range(each):
                user = name((worker + turn * scale.workers) % scale.users) if spread else _HOT
                request = f"{'spread' if spread else 'hot'}-{block}-{worker}-{turn}"
                core.authorize(Request(user, request, "s"))
                core.settle(user, request, latency_ms=1_000.0)
        except Exception as error:
            refused.append(error)

    def crowd(spread: bool) -> Block:
        def block(number: int) -> None:
            threads = [
                threading.Thread(target=work, args=(worker, number, spread)) for worker in range(1, scale.workers + 1)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        return block

    found = against(crowd(False), crowd(True), max(1, scale.blocks // 4))
    rates = _rates(found, each * scale.workers)
    return rates | {
        "threads": scale.workers,
        "errors": len(refused),
        "first_error": repr(refused[0]) if refused else None,
    }


def name(number: int) -> str:
    """The id of user ``number``."""
    return f"bench-{number}"


def _sagas(core: CreditCore, prefix: str, scale: Scale, part: int) -> Block:
    """A saga each of users that no other ``part`` touches, as far as there are so many; its first run knows nothing of them."""
    blocks_before = part * (scale.blocks + 1)

    def block(number: int) -> None:
        for turn in range(scale.size):
            user = name(((blocks_before + number) * scale.size + turn) * 7919 % scale.users)
            request = f"{prefix}-{number}-{turn}"
            decision = core.authorize(Request(user, request, "s"))
            if not decision.fresh:
                raise AssertionError(f"the benchmark expects fresh ones, got {decision.status} by {decision.rule}")
            core.settle(user, request, latency_ms=1_000.0)

    return block


def _rates(found: Against, size: int) -> dict[str, Any]:
    return {"per_s": size / found.product_s, "baseline_per_s": size / found.baseline_s, "ratio": found.ratio}
