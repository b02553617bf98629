"""pantry."""

from __future__ import annotations

import argparse
from typing import Any

from credit_core.cli.opening import existing
from credit_core.cli.output import Output, table
from credit_core.cli.upkeep import instant


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    pantry = commands.add_parser("pantry", parents=[common], help="take library cells to fill, the most wanted first")
    pantry.add_argument("--take", type=int, metavar="N", required=True, help="at most N cells, lent for an hour")
    pantry.add_argument("--at", metavar="INSTANT", help="as of this instant, ISO 8601 with a zone (default now)")
    pantry.set_defaults(run=_pantry)


def _pantry(options: argparse.Namespace, output: Output) -> int:
    with existing(options.database) as core:
        cells = core.library.take(options.take, instant(options.at))
    rows = [(cell.genre, cell.mood, f"{cell.score:.3f}", cell.missing) for cell in cells]
    words = table(rows, ("genre", "mood", "score", "missing")) if rows else "No cell of the pantry queue lacks assets."
    output.result([cell._asdict() for cell in cells], words)
    return 0
