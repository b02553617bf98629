"""sync: the columnar copy on disk."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from credit_core import settings
from credit_core.analytics.segments import Syncer
from credit_core.analytics.sync import Follow
from credit_core.cli.opening import existing
from credit_core.cli.output import Output
from credit_core.errors import InvalidRequest, LedgerUnavailable

#: After a failure the ledger is asked again this much later.
_AGAIN_S = 5.0


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    sync = commands.add_parser("sync", parents=[common], help="copy what is new in the ledger to segments on disk")
    sync.add_argument("--follow", action="store_true", help="go on until stopped")
    sync.add_argument(
        "--every", type=float, default=1.0, metavar="SECONDS", help="with --follow: how often to look (default 1)"
    )
    sync.add_argument("--rebuild", action="store_true", help="make the copy anew; the old one is shown meanwhile")
    sync.add_argument(
        "--facts", type=Path, metavar="DIR",
        help=f"where it lies; default {settings.FACTS_VARIABLE}, else beside a SQLite ledger, else in the cache folder",
    )  # fmt: skip
    sync.set_defaults(run=_sync)


def _sync(options: argparse.Namespace, output: Output) -> int:
    if not 0.05 <= options.every <= 3_600.0:
        raise InvalidRequest(f"--every must lie between 0.05 and 3600 seconds, got {options.every:g}.")
    existing(options.database).close()
    folder = options.facts or settings.facts_folder(options.database)
    memory, threads = settings.facts_memory(), settings.facts_threads()
    with Syncer.open(options.database, folder, memory_limit=memory, threads=threads) as syncer:
        done = syncer.follow(rebuild=options.rebuild, progress=output.progress)
        if not options.follow:
            at = syncer.manifest
            document = {"rows": done.rows, "seconds": done.seconds, "entries": at.entries, "folder": str(folder)}
            rate = f", {done.rows / done.seconds:.0f} a second" if done.rows > 10_000 else ""
            words = f"{done.rows} new entries in {done.seconds:.1f} s{rate}; {at.entries} in {folder}."
            output.result(document | {"segments": len(at.segments), "zone": at.zone}, words)
            return 0
        output.say(f"{_told(done)}. Following; stop with Ctrl-C.")
        while True:
            time.sleep(options.every)
            try:
                done = syncer.follow()
            except LedgerUnavailable as error:
                output.say(f"{error} Trying again.")
                time.sleep(_AGAIN_S)
                continue
            if done.rows:
                output.say(_told(done))


def _told(done: Follow) -> str:
    as_of = "" if done.as_of is None else f", as of {done.as_of:%Y-%m-%d %H:%M:%S} UTC"
    return f"{done.rows} new entries in {done.seconds * 1_000:.0f} ms{as_of}"
