"""replay; and what is built on it, in :mod:`credit_core.cli.trials`."""

from __future__ import annotations

import argparse
import math
from typing import Any

import pandas as pd

from credit_core.cli import trials
from credit_core.cli.output import Output, table
from credit_core.cli.values import change
from credit_core.lab import outcomes, replay


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    command = commands.add_parser(
        "replay", parents=[common], help="what another configuration would have made of the last days"
    )
    command.add_argument("--version", type=int, metavar="N", help="the version to try")
    command.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="changes",
        help="a change to what is live (or to --version), such as controller.k=0.0277; may be repeated",
    )  # fmt: skip
    command.add_argument("--days", type=int, default=28, help="how many of the newest days (default 28)")
    command.add_argument("--by-plan", action="store_true", help="tell every plan too")
    command.add_argument("--seed", type=int, default=0, help="of the resampled accounts behind the intervals")
    command.set_defaults(run=_replay)
    trials.add(commands, common)


def _replay(options: argparse.Namespace, output: Output) -> int:
    with trials.opened(options.database) as (prepared, number, live):
        candidate = trials.candidate_of(prepared, options.version, options.changes, number)
        period = replay.last_days(prepared, options.days)
        replayed = replay.run(prepared, [live, candidate], period, progress=output.progress)
        found = outcomes.compare(replayed, seed=options.seed)
    document = {
        "live": number,
        "candidate": options.version,
        "changes": dict(change(text) for text in options.changes),
        "days": options.days,
        "accounts": len(replayed.account_ids),
        "left_out": found.left_out,
        "winners": found.winners,
        "losers": found.losers,
        "assumes": found.assumes,
        "metrics": trials.plain(found.metrics),
        "surplus_days": trials.plain(found.surplus),
    }
    output.result(document, _words(options, found, number, len(replayed.account_ids)))
    return 0


def _words(options: argparse.Namespace, found: outcomes.Comparison, live: int, accounts: int) -> str:
    kept = found.metrics if options.by_plan else found.metrics[found.metrics["by"] == "all"]
    kept = kept[kept["by"].isin(("all", "plan"))]
    rows = []
    for group, metrics in kept.groupby("group", sort=False):
        if options.by_plan:
            rows.append((f"— {group} —", "", "", "", ""))
        rows += [_line(row) for _, row in metrics.iterrows()]
    tried = f"version {options.version or live}" + (f" with {', '.join(options.changes)}" if options.changes else "")
    head = f"Live (version {live}) → {tried}, over the last {options.days} days of {accounts} accounts."
    parts = [
        head,
        table(rows, ("metric", "live", "candidate", "difference", "95 % interval")),
        f"{found.winners} accounts could expect at least half a credit more of fresh ones, {found.losers} less.",
        found.assumes,
    ]
    if found.left_out:
        parts.append(f"{found.left_out} accounts on other quota policies were left out.")
    return "\n\n".join(parts)


def _line(row: pd.Series[Any]) -> tuple[str, str, str, str, str]:
    share = str(row["unit"]).startswith("share")
    low, high = row["low"], row["high"]
    interval = "–" if math.isnan(low) else f"{_number(low, share, sign=True)} … {_number(high, share, sign=True)}"
    return (
        str(row["title"]),
        _number(row["live"], share),
        _number(row["candidate"], share),
        _number(row["difference"], share, sign=True),
        interval,
    )


def _number(value: float, share: bool, *, sign: bool = False) -> str:
    if math.isnan(value):
        return "–"
    plus = "+" if sign else ""
    return f"{value * 100:{plus}.2f} %" if share else f"{value:{plus},.1f}"
