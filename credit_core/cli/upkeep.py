"""init, reconcile, sweep, verify, heads."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from credit_core.cli.opening import existing
from credit_core.cli.output import Output
from credit_core.errors import InvalidRequest
from credit_core.service.core import CreditCore
from credit_core.store.verify import Head
from credit_core.units import checked_instant, format_credits


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the commands to the parser."""
    init = commands.add_parser("init", parents=[common], help="create or migrate the schema")
    init.add_argument(
        "--reporting-zone", metavar="ZONE", help="IANA zone of days in reports, for a new ledger (default UTC)"
    )
    init.set_defaults(run=_init)
    for name, run, words in (
        ("reconcile", _reconcile, "close cycles and expire lots that are due"),
        ("sweep", _sweep, "release holds past their lifetime, drop deferred requests past their end"),
    ):
        command = commands.add_parser(name, parents=[common], help=words)
        command.add_argument("--at", metavar="INSTANT", help="as of this instant, ISO 8601 with a zone (default now)")
        command.set_defaults(run=run)
    verify = commands.add_parser("verify", parents=[common], help="check the thirteen invariants and the hash chain")
    verify.add_argument("--heads", type=Path, metavar="FILE", help="chain heads that `heads --out` wrote elsewhere")
    verify.set_defaults(run=_verify)
    heads = commands.add_parser("heads", parents=[common], help="write the newest link of every account's chain")
    heads.add_argument(
        "--out", type=Path, metavar="FILE", required=True, help="JSON lines; keep it away from the ledger"
    )
    heads.set_defaults(run=_heads)


def instant(text: str | None) -> datetime:
    """An instant given on the command line; default now."""
    if text is None:
        return datetime.now(UTC)
    try:
        return checked_instant(datetime.fromisoformat(text))
    except ValueError as error:
        raise InvalidRequest(
            f"{text!r} is not an instant. Use ISO 8601 with a zone, such as 2026-05-01T00:00+00:00."
        ) from error


def _init(options: argparse.Namespace, output: Output) -> int:
    with CreditCore.open(options.database, reporting_zone=options.reporting_zone) as core:
        users, zone = core.users(), core.deployment.ledger.fact("reporting_zone")
    output.result({"users": users, "reporting_zone": zone}, f"The ledger is ready: {users} users, reports in {zone}.")
    return 0


def _reconcile(options: argparse.Namespace, output: Output) -> int:
    with existing(options.database) as core:
        done = core.reconcile(instant(options.at))
    words = f"{done.closings} cycles closed and {done.expiries} lots expired on {done.accounts} accounts."
    output.result(done._asdict(), words)
    return 0


def _sweep(options: argparse.Namespace, output: Output) -> int:
    with existing(options.database) as core:
        done = core.sweep(instant(options.at))
    words = f"{done.holds} holds released, {format_credits(done.amount_uc)} credits; {done.deferrals} deferred requests dropped."
    output.result(done._asdict(), words)
    return 0


def _verify(options: argparse.Namespace, output: Output) -> int:
    kept = [] if options.heads is None else _read_heads(options.heads)
    number_of = len(CreditCore.INVARIANTS)
    with existing(options.database) as core:
        found = core.verify(
            kept, lambda number, title: output.progress((number - 1) / number_of, title), "command line"
        )
        if core.weakly_guarded():
            output.say("note: this role could drop the append-only triggers; see docs/ledger.md, Who may change what.")
    lines = [f"{number_of} invariants hold." if not found else f"{len(found)} of {number_of} invariants are broken:"]
    for violation in found:
        lines.append(f"  {violation.invariant}. {violation.title}: {violation.rows} rows")
        lines += [f"     {row}" for row in violation.evidence]
    output.result([violation._asdict() for violation in found], "\n".join(lines))
    return 1 if found else 0


def _heads(options: argparse.Namespace, output: Output) -> int:
    with existing(options.database) as core:
        heads = core.heads()
    # Written beside and moved: a run that is cut off must not spoil the heads that are there.
    beside = options.out.with_name(f"{options.out.name}.part")
    beside.write_text("".join(json.dumps(head._asdict()) + "\n" for head in heads), encoding="utf-8")
    beside.replace(options.out)
    output.result({"heads": len(heads), "file": str(options.out)}, f"{len(heads)} heads written to {options.out}.")
    return 0


def _read_heads(path: Path) -> list[Head]:
    try:
        return [Head(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError, TypeError) as error:
        raise InvalidRequest(
            f"{path} cannot be read as chain heads: {error}. Give the file that `heads --out` wrote."
        ) from error
