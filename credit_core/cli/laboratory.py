"""replay."""

from __future__ import annotations

import argparse
import json
import math
from typing import Any

import pandas as pd

from credit_core import settings
from credit_core.analytics import queries
from credit_core.analytics.sync import Facts
from credit_core.cli.output import Output, table
from credit_core.cli.values import change
from credit_core.errors import InvalidRequest, NotFound
from credit_core.lab import outcomes, replay
from credit_core.policy import config as schema
from credit_core.policy.config import Config
from credit_core.service import catalog
from credit_core.store import migrate


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


def _replay(options: argparse.Namespace, output: Output) -> int:
    if options.version is None and not options.changes:
        raise InvalidRequest("Name what to try: --version N, or --set KEY=VALUE.")
    if not migrate.exists(options.database):
        raise NotFound(f"There is no ledger at {options.database}. Create one with: python -m credit_core init")
    facts = Facts.open(options.database)
    try:
        facts.follow()
        prepared = replay.open_ledger(facts, catalog.read(settings.catalog_folder()).catalog)
        number = queries.live_version(facts)
        live = prepared.configs[number]
        candidate = _candidate(options, prepared, number)
        period = replay.last_days(prepared, options.days)
        replayed = replay.run(prepared, [live, candidate], period, progress=output.progress)
        found = outcomes.compare(replayed, seed=options.seed)
    finally:
        facts.close()
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
        "metrics": [_plain(row) for row in found.metrics.to_dict("records")],
        "surplus_days": [_plain(row) for row in found.surplus.to_dict("records")],
    }
    output.result(document, _words(options, found, number, len(replayed.account_ids)))
    return 0


def _candidate(options: argparse.Namespace, prepared: replay.Prepared, live: int) -> Config:
    number = live if options.version is None else options.version
    if number not in prepared.configs:
        raise NotFound(
            f"There is no configuration version {number}. `python -m credit_core config show --versions` lists them."
        )
    changes = dict(change(text) for text in options.changes)
    return schema.apply_changes(prepared.configs[number].body(), changes) if changes else prepared.configs[number]


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


def _plain(row: dict[Any, Any]) -> dict[str, Any]:
    """Missing as null: JSON has no nan."""
    known = {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}
    return json.loads(json.dumps(known, default=str))  # type: ignore[no-any-return]
