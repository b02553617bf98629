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


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    sync = commands.add_parser("sync", parents=[common], help="copy what is new in the ledger to segments on disk")
    add_following(sync)
    sync.add_argument("--rebuild", action="store_true", help="make the copy anew; the old one is shown meanwhile")
    sync.add_argument(
        "--facts", type=Path, metavar="DIR",
        help=f"where it lies; default {settings.FACTS_VARIABLE}, else beside a SQLite ledger, else in the cache folder",
    )  # fmt: skip
    sync.set_defaults(run=_sync)


def _sync(options: argparse.Namespace, output: Output) -> int:
    every_s = checked_every(options)
    existing(options.database).close()
    folder = options.facts or settings.facts_folder(options.database)
    with Syncer.open(options.database, folder, threads=settings.facts_threads()) as syncer:
        done = syncer.follow(rebuild=options.rebuild, progress=output.progress)
        if not options.follow:
            at = syncer.manifest
            document = {"rows": done.rows, "seconds": done.seconds, "entries": at.entries, "folder": str(folder)}
            rate = f", {done.rows / done.seconds:.0f} a second" if done.rows > 10_000 else ""
            words = f"{done.rows} new entries in {done.seconds:.1f} s{rate}; {at.entries} in {folder}."
            output.result(document | {"segments": len(at.segments), "zone": at.zone}, words)
            return 0
        go_on(syncer.follow, done, every_s, output)
    return 0
