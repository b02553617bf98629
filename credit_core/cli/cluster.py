"""clickhouse: the columnar copy on a ClickHouse server or cluster."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from credit_core import settings
from credit_core.analytics.opening import cluster_tables, open_loader
from credit_core.cli.following import add_following, checked_every, go_on, words_of
from credit_core.cli.opening import existing
from credit_core.cli.output import Output
from credit_core.errors import InvalidRequest


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    load = commands.add_parser("clickhouse", parents=[common], help="copy what is new in the ledger to ClickHouse")
    add_following(load)
    load.add_argument(
        "--segments",
        type=Path,
        metavar="DIR",
        help="begin with the segments that `sync` wrote there, for a large ledger",
    )
    load.add_argument("--tables", action="store_true", help="only print the definitions of the tables")
    load.set_defaults(run=_load)


def _load(options: argparse.Namespace, output: Output) -> int:
    at, every_s = settings.analytics_url(), checked_every(options)
    if at is None:
        raise InvalidRequest(
            f"{settings.ANALYTICS_VARIABLE} is not set. Give it a URL: clickhouse://user:password@host:8123/titrate?cluster=name"
        )
    existing(options.database).close()
    if options.tables:
        made = cluster_tables(options.database, at)
        output.result(made, "".join(f"{statement};\n\n" for statement in made))
        return 0
    loader = open_loader(options.database, at)

    def progress(sent: int) -> None:
        output.progress(0.0, f"{sent} entries")

    try:
        if options.segments is not None:
            output.say(f"{loader.load_segments(options.segments, progress)} entries of {options.segments}.")
        done = loader.follow(progress)
        if options.follow:
            go_on(loader.follow, done, every_s, output)
        document = {"rows": done.rows, "seconds": done.seconds, "entries": loader.extent.entries, "zone": loader.zone}
        output.result(document, f"{words_of(done)}; {loader.extent.entries} in all.")
        return 0
    finally:
        loader.close()
