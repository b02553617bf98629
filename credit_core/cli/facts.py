"""sync: the columnar copy on disk."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from credit_core import settings
from credit_core.analytics.segments import Syncer
from credit_core.cli.following import add_following, checked_every, go_on
from credit_core.cli.opening import existing
from credit_core.cli.output import Output
from credit_core.errors import InvalidRequest
from credit_core.units import from_us


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    sync = commands.add_parser("sync", parents=[common], help="copy what is new in the ledger to segments on disk")
    add_following(sync)
    sync.add_argument("--rebuild", action="store_true", help="make the copy anew; the old one is shown meanwhile")
    sync.add_argument(
        "--keep-days", type=int, metavar="N",
        help="from now on entries older than N days, by days of the reporting zone, leave the copy; 0 keeps all",
    )  # fmt: skip
    sync.add_argument(
        "--facts", type=Path, metavar="DIR",
        help=f"where it lies; default {settings.FACTS_VARIABLE}, else beside a SQLite ledger, else in the cache folder",
    )  # fmt: skip
    sync.set_defaults(run=_sync)


def _sync(options: argparse.Namespace, output: Output) -> int:
    every_s = checked_every(options)
    if options.keep_days is not None and not 0 <= options.keep_days <= 36_500:
        raise InvalidRequest(f"--keep-days must lie between 0 and 36500, got {options.keep_days}.")
    existing(options.database).close()
    folder = options.facts or settings.facts_folder(options.database)
    with Syncer.open(options.database, folder, threads=settings.facts_threads()) as syncer:
        done = syncer.follow(rebuild=options.rebuild, keep_days=options.keep_days, progress=output.progress)
        if not options.follow:
            at = syncer.manifest
            document = {
                "rows": done.rows,
                "seconds": done.seconds,
                "readable_s": done.readable_s,
                "entries": at.entries,
                "folder": str(folder),
            }
            rate = f", {done.rows / done.seconds:.0f} a second" if done.rows > 10_000 else ""
            readable_s = done.seconds if done.readable_s is None else done.readable_s
            before = f", readable after {readable_s:.1f} s" if done.seconds - readable_s >= 0.1 else ""
            words = f"{done.rows} new entries in {done.seconds:.1f} s{rate}{before}; {at.entries} in {folder}."
            begins = None if at.begins_us is None else from_us(at.begins_us)
            if begins is not None:
                words += f" They begin {begins:%Y-%m-%d %H:%M} UTC; {at.left_out} older ones are in the ledger alone."
            document |= {
                "segments": len(at.segments),
                "zone": at.zone,
                "keep_days": at.keep_days,
                "left_out": at.left_out,
            }
            output.result(document | {"begins_at": None if begins is None else begins.isoformat()}, words)
            return 0
        go_on(syncer.follow, done, every_s, output)
    return 0
