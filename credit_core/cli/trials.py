"""calibrate, experiment, estimate."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pandas as pd

from credit_core import settings
from credit_core.analytics import queries
from credit_core.analytics.opening import open_facts
from credit_core.cli.output import Output, table
from credit_core.cli.values import change
from credit_core.errors import InvalidRequest, NotFound
from credit_core.lab import calibrate, experiments, laws, replay, rewarded, targets
from credit_core.lab.counterfactual import Counterfactual, Estimate
from credit_core.lab.replay import Prepared
from credit_core.policy import config as schema
from credit_core.policy.config import Config
from credit_core.service import catalog
from credit_core.store import migrate

_TITLES = {metric.slug: metric.title for metric in targets.FIGURES.values()}


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the commands to the parser."""
    command = commands.add_parser(
        "calibrate", parents=[common], help="targets → a configuration that reaches them, found by replay"
    )
    command.add_argument(
        "--target", action="append", default=[], metavar="TARGET", required=True,
        help="run_out_share<0.02, fresh_rate=max, dry_time<1%%, or two points such as p(-50)=0.2; may be repeated",
    )  # fmt: skip
    _period(command)
    command.add_argument("--tries", type=int, default=360, help="how many candidates (default 360)")
    command.add_argument("--finalists", type=int, default=8, help="how many are replayed on all accounts (default 8)")
    command.add_argument("--keep-coverage", action="store_true", help="leave the coverage thresholds as they are")
    command.add_argument("--budget", type=float, default=120.0, metavar="SECONDS", help="time for it (default 120)")
    command.set_defaults(run=_calibrate)

    command = commands.add_parser(
        "experiment", parents=[common], help="strategies against each other on the same arrivals"
    )
    _period(command)
    command.add_argument(
        "--sessions", type=int, metavar="N", help="so many made-up sessions instead of the ledger's own"
    )
    command.add_argument("--law", action="append", default=[], metavar="LAW", help="one of them alone; may be repeated")
    command.set_defaults(run=_experiment)

    command = commands.add_parser(
        "estimate", parents=[common], help="what another configuration would have earned in logged rewards"
    )
    command.add_argument("--version", type=int, metavar="N", help="the version to try")
    command.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="changes", help="a change to it"
    )
    _period(command)
    command.set_defaults(run=_estimate)


def _period(command: argparse.ArgumentParser) -> None:
    command.add_argument("--days", type=int, default=28, help="how many of the newest days (default 28)")
    command.add_argument("--seed", type=int, default=0, help="the same seed gives the same result")


@contextmanager
def opened(database: str) -> Iterator[tuple[Prepared, int, Config]]:
    """The ledger ready to be replayed, the number of its live version, and what that is."""
    if not migrate.exists(database):
        raise NotFound(f"There is no ledger at {database}. Create one with: python -m credit_core init")
    facts = open_facts(database)
    try:
        facts.follow()
        prepared = replay.open_ledger(facts, catalog.read(settings.catalog_folder()).catalog)
        number = queries.live_version(facts)
        yield prepared, number, prepared.configs[number]
    finally:
        facts.close()


def candidate_of(prepared: Prepared, version: int | None, changes: list[str], live: int) -> Config:
    """The configuration that ``--version`` and ``--set`` name; ``live`` is what changes are made to by default."""
    if version is None and not changes:
        raise InvalidRequest("Name what to try: --version N, or --set KEY=VALUE.")
    number = live if version is None else version
    if number not in prepared.configs:
        raise NotFound(
            f"There is no configuration version {number}. `python -m credit_core config show --versions` lists them."
        )
    named = dict(change(text) for text in changes)
    return schema.apply_changes(prepared.configs[number].body(), named) if named else prepared.configs[number]


def _calibrate(options: argparse.Namespace, output: Output) -> int:
    wish = targets.parse(options.target)
    if not isinstance(wish, targets.Wish):
        changes = targets.s_curve(wish)
        output.result({"changes": changes, "closed_form": True}, _drafted(changes))
        return 0
    with opened(options.database) as (prepared, number, live):
        found = calibrate.search(
            prepared, live, wish, replay.last_days(prepared, options.days),
            tries=options.tries, finalists=options.finalists, coverage=not options.keep_coverage, seed=options.seed,
            budget_s=options.budget, progress=output.progress,
        )  # fmt: skip
    rows = [row | {"changes": found.changes(int(row["number"]))} for row in plain(found.frame)]
    document = {
        "live": number, "targets": options.target, "met": found.met, "tried": found.tried, "cut": found.cut,
        "seed": found.seed, "changes": found.changes(found.best), "finalists": rows,
    }  # fmt: skip
    output.result(document, _searched(options, found))
    return 0 if found.met else 1


def _searched(options: argparse.Namespace, found: calibrate.Found) -> str:
    names = [name for name in found.frame.columns if name in _TITLES]
    rows = [
        [row["name"], "yes" if row["meets"] else "no", *(written(name, row[name]) for name in names)]
        for row in found.frame.to_dict("records")
    ]
    head = f"{found.tried} candidates; the finalists on all accounts over the last {options.days} days, best first."
    parts = [head, table(rows, ("law", "meets", *(_TITLES[name].lower() for name in names)))]
    if found.cut:
        parts.append("The time budget ended the search early: another run may find other candidates.")
    if not found.met:
        parts.append("None of them meets every bound on all accounts. Loosen one, or give it more --tries.")
    else:
        parts.append(_drafted(found.changes(found.best)))
    return "\n\n".join(parts)


def _drafted(changes: dict[str, Any]) -> str:
    lines = [f"  {key} = {value}" for key, value in changes.items()]
    return "\n".join(["The configuration that does it, as changes to what is live:", *lines])


def _experiment(options: argparse.Namespace, output: Output) -> int:
    if options.sessions is not None:
        entrants = laws.chosen(options.law or laws.DESIGN)
        known = catalog.read(settings.catalog_folder()).catalog
        mock = experiments.on_sessions(
            known, Config(), entrants, options.sessions, seed=options.seed, progress=output.progress
        )
        document = {
            "sessions": mock.sessions, "accounts": mock.standings.accounts, "pressed": mock.standings.pressed,
            "offline_best_fresh_rate": mock.standings.best_fresh_rate, "laws": plain(mock.frame), "survival": plain(mock.survival),
        }  # fmt: skip
        columns = ("session_variance", "sessions_to_run_out")
        head = (
            f"{mock.sessions} made-up sessions of {mock.standings.accounts} accounts; {mock.standings.pressed} of them would run "
            "dry if everything were fresh."
        )
        output.result(document, _laws(head, mock.frame, columns))
        return 0
    with opened(options.database) as (prepared, number, live):
        entrants = laws.chosen(options.law) if options.law else list(laws.LAWS)
        found = experiments.on_ledger(
            prepared,
            live,
            entrants,
            replay.last_days(prepared, options.days),
            seed=options.seed,
            progress=output.progress,
        )
    document = {
        "live": number, "days": options.days, "accounts": found.accounts, "requests": found.requests, "pressed": found.pressed,
        "left_out": found.left_out, "laws": plain(found.frame),
    }  # fmt: skip
    head = f"{found.requests} requests of {found.accounts} accounts over the last {options.days} days; live is version {number}."
    output.result(document, _laws(head, found.frame, ("provider_cost",)))
    return 0


def _laws(head: str, frame: pd.DataFrame, more: tuple[str, ...]) -> str:
    names = ("efficiency", "dry_share", "run_out_users", "fresh_rate", "flicker", "unspent_credits", *more)
    rows = [
        [row["title"], "*" if row["on_line"] else "", *(written(name, row[name]) for name in names)]
        for row in frame.to_dict("records")
    ]
    titles = [name.replace("_", " ") for name in names]
    return "\n\n".join(
        [head, table(rows, ("law", "line", *titles)), "* No other law has more efficiency and less dry share."]
    )


def _estimate(options: argparse.Namespace, output: Output) -> int:
    with opened(options.database) as (prepared, number, _):
        candidate = candidate_of(prepared, options.version, options.changes, number)
        period = replay.last_days(prepared, options.days)
        found = rewarded.estimate(prepared, candidate, period, seed=options.seed, progress=output.progress)
    document = {
        "days": options.days, "logged": _figure(found.logged), "snips": _figure(found.snips), "dr": _figure(found.robust),
        "difference": found.difference, "amber": found.amber, "refusals": found.refusals, "snips_refusals": found.snips_refusals,
        "diagnosis": {**found.diagnosis._asdict(), "ess_share": found.diagnosis.ess_share},
    }  # fmt: skip
    output.result(plain_value(document), _told(found))
    return 1 if found.refusals else 0


def _told(found: Counterfactual) -> str:
    d = found.diagnosis
    parts = [
        f"{d.rows} rewarded decisions of {d.accounts} accounts, {d.drawn} of them drawn by lot. The weights leave the information "
        f"of {d.row_ess:.0f} decisions and {d.account_ess:.0f} accounts."
    ]
    if found.refusals:
        return "\n\n".join([*parts, "No estimate is given:", *(f"- {reason}" for reason in found.refusals)])
    rows = [
        (name, f"{one.value:.4f}", "–" if one.interval is None else f"{one.interval.low:.4f} … {one.interval.high:.4f}")
        for name, one in (
            ("as logged", found.logged),
            ("weighted (SNIPS)", found.snips),
            ("doubly robust", found.robust),
        )
        if one is not None
    ]
    parts.append(table(rows, ("mean reward", "value", "95 % interval")))
    parts += [f"No weighted estimate: {reason}" for reason in found.snips_refusals]
    if found.amber:
        parts.append(
            "Amber: the two estimates differ by more than twice the standard error; trust neither without more data."
        )
    return "\n\n".join(parts)


def _figure(one: Estimate | None) -> dict[str, Any] | None:
    return None if one is None else {"value": one.value, "se": one.se, "interval": one.interval}


def written(name: str, value: Any) -> str:
    """A figure for people."""
    if isinstance(value, float) and math.isnan(value):
        return "–"
    if name == "session_variance":
        return f"{value:.4f}"
    if name == "sessions_to_run_out":
        return f"{value:.1f}"
    if name in ("run_out_users",) or (name in targets.FIGURES and not targets.FIGURES[name].unit.startswith("share")):
        return f"{value:,.0f}"
    return f"{value * 100:.2f} %"


def plain(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON has them: missing is null."""
    return [{str(name): plain_value(value) for name, value in row.items()} for row in frame.to_dict("records")]


def plain_value(value: Any) -> Any:
    """``value`` with null for what is unknown, also within."""
    if isinstance(value, dict):
        return {name: plain_value(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain_value(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
