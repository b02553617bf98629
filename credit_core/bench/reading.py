"""What a page costs the server: the questions each page asks, one after the other, with no answer remembered in between.

The facts are read from segments on disk, as a dashboard reads them. Burn by plan and model and the cells' misses are also asked
of the ledger's own tables, for the ratio. And the way there: filling the copy, and what one tick of a thousand entries takes.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import psycopg
from sqlalchemy import Select, func, make_url, select, true

from credit_core.analytics import measures, relations
from credit_core.analytics.filters import Filters, Period
from credit_core.analytics.segments import Syncer
from credit_core.analytics.stored import StoredFacts
from credit_core.analytics.sync import Facts
from credit_core.bench.measure import p50_p95
from credit_core.bench.questions import Question, Terms, pages
from credit_core.importers import bulk
from credit_core.policy.decision import Request
from credit_core.service.core import CreditCore
from credit_core.store.schema import ledger_entries
from credit_core.units import DAY_US, from_us

DAYS = 28
TICK_ENTRIES = 1_000


def _last(facts: Facts) -> Any:
    assert facts.extent.last_us is not None, "the bench's ledger has entries"
    return from_us(facts.extent.last_us)


def filters_of(facts: Facts) -> Filters:
    """The last 28 days of the ledger against the 28 before."""
    end = _last(facts) + timedelta(microseconds=1)
    midnight = end.replace(hour=0, minute=0, second=0, microsecond=0)
    start = midnight - timedelta(days=DAYS - 1)
    return Filters(Period(start, end), Period(start - timedelta(days=DAYS), end - timedelta(days=DAYS)))


def asked(facts: Facts, terms: Terms, times: int) -> dict[str, dict[str, float]]:
    """Per page: median and 95th percentile of the milliseconds that all its questions take, and the median processor time.

    The same of the questions of its first screen alone, as ``first_…``.
    """
    chosen, found = filters_of(facts), {}
    for page, questions in pages(terms).items():
        found[page] = _timed(facts, chosen, questions.whole, times)
        first = _timed(facts, chosen, questions.first, times) if questions.then else found[page]
        found[page] |= {f"first_{name}": taken for name, taken in first.items()}
    return found


def _timed(facts: Facts, chosen: Filters, questions: Sequence[Question], times: int) -> dict[str, float]:
    taken, worked = [], []
    for turn in range(times + 1):
        facts.forget()
        started, began = time.perf_counter(), time.process_time()
        for question in questions:
            question(facts, chosen)
        # The first is not counted: it reads what others find in the system's cache.
        if turn:
            taken.append((time.perf_counter() - started) * 1_000)
            worked.append((time.process_time() - began) * 1_000)
    p50, p95 = p50_p95(taken)
    return {"p50_ms": p50, "p95_ms": p95, "cpu_ms": median(worked)}


def terms_of(url: str, facts: Facts) -> Terms:
    """By which configuration and catalogue the ledger at ``url`` runs; its entries are read."""
    with CreditCore.open(url) as core:
        config, catalog = core.config(), core.deployment.catalog
    return Terms(config, catalog, 1, _last(facts), next(name for name, plan in catalog.plans.items() if plan.cycled))


def of_folder(url: str, folder: Path, times: int) -> dict[str, Any]:
    """Pages over a folder of facts that is there, which is read and not followed; with the ledger's ratio where it has the same entries.

    ``url``: the ledger that the facts are of, or whose configuration they were made up by.
    """
    facts = StoredFacts.at(url, folder)
    try:
        started = time.perf_counter()
        facts.look()
        found: dict[str, Any] = {
            "entries": facts.extent.entries, "start_ms": (time.perf_counter() - started) * 1_000,
            "pages": asked(facts, terms_of(url, facts), times),
        }  # fmt: skip
        with facts.engine.connect() as connection:
            written = connection.execute(select(func.count()).select_from(ledger_entries)).scalar_one()
        return found | ({"ledger": _against_ledger(facts)} if written == facts.extent.entries else {})
    finally:
        facts.close()


def measure(url: str, folder: Path, entries: int, times: int) -> dict[str, Any]:
    """Every figure of one ledger of so many entries, made at ``url``, which must be empty."""
    made = bulk.make(url, entries, datetime.now(UTC))
    with CreditCore.open(url) as core, Syncer.open(url, folder) as syncer:
        filled = syncer.follow()
        ticks = [_tick(core, syncer, turn, made.accounts) for turn in range(max(1, times // 4))]
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_024
    filler_peak_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1_024
    readable_s = filled.seconds if filled.readable_s is None else filled.readable_s
    facts = StoredFacts.at(url, folder)
    try:
        started = time.perf_counter()
        facts.follow()
        ready_s = time.perf_counter() - started
        return {
            "entries": facts.extent.entries, "written_per_s": made.entries_per_s, "copied_per_s": filled.rows / filled.seconds,
            "readable_per_s": filled.rows / readable_s, "tick_ms": median(ticks), "peak_mb": peak_mb, "filler_peak_mb": filler_peak_mb,
            "start_ms": ready_s * 1_000,
            "pages": asked(facts, terms_of(url, facts), times), "ledger": _against_ledger(facts),
        }  # fmt: skip
    finally:
        facts.close()


def new_database(url: str, number: int) -> str:
    """A database of its own beside the one at ``url``, made anew."""
    name = f"titrate_bench_{number}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name}")
        connection.execute(f"CREATE DATABASE {name}")
    return str(make_url(url).set(database=name).render_as_string(hide_password=False))


def _tick(core: CreditCore, syncer: Syncer, turn: int, users: int) -> float:
    """Milliseconds until a thousand new entries are in the copy: requests of as many users as it takes, and their ends."""
    written, number = 0, 0
    while written < TICK_ENTRIES:
        user, request = f"bulk-{number % users:07d}", f"tick-{turn}-{number}"
        written += 1
        if core.authorize(Request(user, request, "tick", genre="food", mood="calm")).fresh:
            core.settle(user, request, latency_ms=1_000.0)
            written += 1
        number += 1
    return syncer.follow().seconds * 1_000


def _against_ledger(facts: Facts) -> dict[str, dict[str, float]]:
    """Milliseconds for the same statement over the copy and over the ledger's own tables, and how many times faster it is."""
    found = {}
    f, ledger = relations.facts, relations.ledger_facts(true())
    # The bench's ledgers are told in UTC, where a day is what an instant is a multiple of.
    ledger_day = ledger.c.occurred_at - ledger.c.occurred_at % DAY_US
    asked_of = {"burn": (_burn(f, f.c.day), _burn(ledger, ledger_day)), "coverage": (_cells(f), _cells(ledger))}
    for name, (of_copy, of_ledger) in asked_of.items():
        own, theirs = [], []
        for turn in range(3):
            started = time.perf_counter()
            mine = facts.rows(of_copy)
            own.append((time.perf_counter() - started) * 1_000)
            if turn < 2:
                with facts.engine.connect() as connection:
                    started = time.perf_counter()
                    its = connection.execute(of_ledger).all()
                    theirs.append((time.perf_counter() - started) * 1_000)
        if sorted(map(_told, mine)) != sorted(map(_told, its)):
            raise AssertionError(f"{name}: the copy says other than the ledger")
        found[name] = {"copy_ms": median(own), "ledger_ms": min(theirs), "ratio": min(theirs) / median(own)}
    return found


def _told(row: Any) -> str:
    """The same text for a day, whether it is told as such or by its first microsecond."""
    first, *rest = row
    return repr((from_us(first).date() if isinstance(first, int) else first, *rest))


def _burn(relation: Any, day: Any) -> Select[Any]:
    c = relation.c
    spent = measures.total(measures.spent_uc)(c)
    return select(day, c.plan, c.model, spent).select_from(relation).group_by(day, c.plan, c.model)


def _cells(relation: Any) -> Select[Any]:
    c = relation.c
    misses = func.count().filter(measures.missed(c))
    return select(c.genre, c.mood, func.count(), misses).select_from(relation).group_by(c.genre, c.mood)
