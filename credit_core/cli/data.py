"""demo and import."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from credit_core import settings
from credit_core.cli.output import Output
from credit_core.errors import Conflict, InvalidRequest
from credit_core.importers import bulk, bulk_facts, demo, frame, gentd26, govern, record
from credit_core.importers.frame import Event, Rejects, Summary
from credit_core.service import catalog as catalogue
from credit_core.service.core import CreditCore
from credit_core.units import checked_zone, format_credits

_PARTS = ("settled", "released", "held", "library", "deferred", "rate_limited", "rejected", "imported", "reject_file")


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the commands to the parser."""
    made = commands.add_parser("demo", parents=[common], help="fill an empty ledger with made-up activity")
    made.add_argument("--users", type=int, metavar="N", help="how many users (default data/demo.toml)")
    made.add_argument("--days", type=int, metavar="N", help="how many days, up to now")
    made.add_argument("--seed", type=int, metavar="N", help="another seed makes another ledger")
    made.add_argument(
        "--entries", type=int, metavar="N", help="for measuring: about so many entries, written in bulk, of an account a hundred",
    )  # fmt: skip
    made.add_argument(
        "--facts-only", action="store_true",
        help="with --entries: write the copy that pages read alone, without a ledger behind it, for measuring pages",
    )  # fmt: skip
    made.add_argument("--facts", type=Path, metavar="DIR", help="with --facts-only: where to; default as for sync")
    made.add_argument("--reporting-zone", metavar="ZONE", help="IANA zone of days in reports (default UTC)")
    made.add_argument("--if-empty", action="store_true", help="do nothing on a ledger that has users")
    made.set_defaults(run=_demo)
    imported = commands.add_parser("import", parents=[common], help="bring a usage log in")
    imported.add_argument("format", choices=["gentd26"], help="gentd26: the GenTD26 image-generation trace (CSV)")
    imported.add_argument("file", type=Path)
    imported.add_argument(
        "--mode", choices=["record", "govern"], required=True,
        help="record: usage as it was; govern: every row through the controller at its own time",
    )  # fmt: skip
    imported.add_argument("--plan", default="basic", help="plan of the users that the log brings (default basic)")
    imported.add_argument("--users-timezone", default="UTC", metavar="ZONE", help="their time zone (default UTC)")
    imported.add_argument(
        "--timezone", default="UTC", metavar="ZONE", help="what the log's naive times mean (default UTC)"
    )
    imported.add_argument(
        "--cells", action="store_true", help="library cell = checkpoint × predict type (default: none)"
    )
    imported.add_argument(
        "--model",
        metavar="MODEL",
        help="mode record: price rows by this model of the catalogue (default: cost unknown)",
    )
    imported.add_argument(
        "--rejects",
        type=Path,
        metavar="FILE",
        help="write bad rows here, with line and reason: CSV, or JSON lines to ….jsonl",
    )
    imported.add_argument("--dry-run", action="store_true", help="read and check everything, write nothing")
    imported.add_argument(
        "--draw-salt", metavar="HEX|random",
        help="of a new ledger: the default is published, so that the same file gives the same numbers everywhere",
    )  # fmt: skip
    imported.set_defaults(run=_import)


def _demo(options: argparse.Namespace, output: Output) -> int:
    bounds = (("users", 1, 1_000_000), ("days", 1, 3_660), ("seed", 0, 2**32), ("entries", 10_000, 1_000_000_000))
    for name, least, most in bounds:
        value = getattr(options, name)
        if value is not None and not least <= value <= most:
            raise InvalidRequest(f"--{name} must lie between {least} and {most}, got {value}.")
    if options.entries is None and (options.facts_only or options.facts is not None):
        raise InvalidRequest("--facts-only needs --entries, which says how many facts to make up.")
    try:
        return _demo_in_bulk(options, output) if options.entries is not None else _demo_as_if_live(options, output)
    except Conflict:
        # Asked afterwards: opening a new ledger before the demo does would date its first version today.
        users = _users(options.database) if options.if_empty else 0
        if not users:
            raise
    output.result({"users": users, "made": False}, f"The ledger has {users} users already; nothing was done.")
    return 0


def _users(url: str) -> int:
    with CreditCore.open(url) as core:
        return core.users()


def _demo_as_if_live(options: argparse.Namespace, output: Output) -> int:
    started = time.monotonic()
    summary = demo.make(
        options.database, datetime.now(UTC).replace(second=0, microsecond=0), users=options.users, days=options.days,
        seed=options.seed, reporting_zone=options.reporting_zone, progress=output.progress,
    )  # fmt: skip
    summary.seconds = round(time.monotonic() - started, 1)
    output.result(summary.as_json(), _words(summary))
    return 0


def _demo_in_bulk(options: argparse.Namespace, output: Output) -> int:
    if options.facts is not None and not options.facts_only:
        raise InvalidRequest("--facts says where --facts-only writes to. Give both, or neither.")
    if options.users is not None or options.days is not None:
        raise InvalidRequest("--entries says how many users and days there are. Leave --users and --days out.")
    how = {
        "seed": 7 if options.seed is None else options.seed, "reporting_zone": options.reporting_zone, "progress": output.progress,
    }  # fmt: skip
    folder = None
    if options.facts_only:
        folder = options.facts or settings.facts_folder(options.database)
        made = bulk_facts.make(options.database, folder, options.entries, datetime.now(UTC), **how)
    else:
        made = bulk.make(options.database, options.entries, datetime.now(UTC), **how)
    words = f"{made.entries} entries of {made.accounts} accounts over {made.days} days in {made.seconds:.1f} s"
    where = "" if folder is None else f" They are facts alone, in {folder}; the ledger has none of them."
    output.result(
        made._asdict() | {"entries_per_s": made.entries_per_s} | ({} if folder is None else {"folder": str(folder)}),
        f"{words}, {made.entries_per_s:.0f} a second.{where}",
    )
    return 0


def _import(options: argparse.Namespace, output: Output) -> int:
    reading = gentd26.Reading(checked_zone(options.timezone), datetime.now(UTC), options.cells)
    checked_zone(options.users_timezone)
    _check_terms(options)
    salt = _salt(options.draw_salt)
    summary = Summary(options.mode, options.file.name, dry_run=options.dry_run)
    started = time.monotonic()
    with Rejects(options.rejects) as rejects:
        rows = _read(gentd26.read(options.file, reading, rejects, summary), output)
        events = frame.noted(_told(frame.in_sessions(frame.in_order(rows)), output, summary), summary)
        if options.dry_run:
            summary.users = len({event.user_id for event in events})
            summary.usable = summary.rows_read - rejects.count
        else:
            with CreditCore.open(options.database, draw_salt=salt) as core:
                _check_salt(core, options.draw_salt, salt)
                _bring_in(options, core, events, summary, rejects)
        summary.reject_file = rejects.count
        summary.seconds = round(time.monotonic() - started, 1)
        words = [_words(summary)]
        words += [f"  line {reject.line}: {reject.reason}" for reject in rejects.first]
        if rejects.count > len(rejects.first):
            where = f"all are in {options.rejects}" if options.rejects else "give --rejects FILE to keep them"
            words.append(f"  … and {rejects.count - len(rejects.first)} more; {where}.")
    output.result(summary.as_json(), "\n".join(words))
    return 0 if summary.accounted == summary.rows_read else 1


def _check_terms(options: argparse.Namespace) -> None:
    """Find out what would stop the import before anything is read or made."""
    catalog = catalogue.read(settings.catalog_folder()).catalog
    catalog.plan(options.plan)
    if options.model is not None and options.mode != "record":
        raise InvalidRequest("--model is for mode record; in mode govern the controller routes to a model.")
    if options.model is not None and options.model not in catalog.models:
        raise InvalidRequest(
            f"There is no model {options.model!r}. The catalogue has: {', '.join(sorted(catalog.models))}."
        )
    if options.rejects is not None and options.rejects.resolve() == options.file.resolve():
        raise InvalidRequest("--rejects names the log itself, which would be overwritten. Name another file.")


def _bring_in(
    options: argparse.Namespace, core: CreditCore, events: Iterator[Event], summary: Summary, rejects: Rejects
) -> None:
    terms = govern.Signup(options.plan, options.users_timezone)
    if options.mode == "govern":
        governor = govern.Governor(core, lambda _event: terms, summary, rejects)
        governor.run(events)
        governor.finish(None)
    else:
        record.run(core, events, lambda _event: terms, summary, options.model)


def _read(events: Iterator[Event], output: Output) -> Iterator[Event]:
    for number, event in enumerate(events, 1):
        if number % 10_000 == 0:
            output.progress(0.0, f"{number} rows read")
        yield event


def _told(events: Iterator[Event], output: Output, summary: Summary) -> Iterator[Event]:
    """The events are in order, so all rows have been read by the first."""
    for number, event in enumerate(events, 1):
        if number % 250 == 0:
            total = summary.rows_read
            output.progress(number / total, f"{number} of {total} rows, at {event.started_at:%Y-%m-%d %H:%M}")
        yield event


def _salt(asked: str | None) -> bytes | None:
    if asked is None:
        return demo.PUBLISHED_SALT
    if asked == "random":
        return None
    try:
        salt = bytes.fromhex(asked)
    except ValueError as error:
        raise InvalidRequest(f"--draw-salt must be hexadecimal digits or 'random', got {asked!r}.") from error
    if not 16 <= len(salt) <= 64:
        raise InvalidRequest(f"--draw-salt must be 16 to 64 bytes, got {len(salt)}.")
    return salt


def _check_salt(core: CreditCore, asked: str | None, salt: bytes | None) -> None:
    if asked not in (None, "random") and core.deployment.ledger.salts["draw"] != salt:
        raise InvalidRequest(
            "--draw-salt is for a new ledger; this one has another and keeps it. Leave the option out, or name a new ledger."
        )


def _spent(summary: Summary) -> str:
    """Credits spent: one figure, or one for each unit where there are several."""
    if summary.spent_uc is not None:
        return f"{format_credits(summary.spent_uc)} credits"
    by_unit = sorted(summary.spent_by_unit.items())
    return ", ".join(f"{format_credits(uc)} {unit} credits" for unit, uc in by_unit if uc)


def _words(summary: Summary) -> str:
    parts = [f"{getattr(summary, name)} {name.replace('_', ' ')}" for name in _PARTS if getattr(summary, name)]
    head = f"{summary.rows_read} rows read from {summary.source}, {summary.users} users, {summary.images} images"
    span = f"from {summary.first_at} to {summary.last_at}" if summary.first_at else "nothing in it"
    sign = "=" if summary.accounted == summary.rows_read else "≠"
    if summary.assumed_images:
        head += f" ({summary.assumed_images} pending rows tell no number and count as one)"
    if summary.dry_run:
        usable = f"{summary.usable} usable + {summary.reject_file} reject file {sign} {summary.rows_read} rows read."
        return f"Dry run, nothing was written to a ledger. {head}, {span}.\n{usable}"
    lines = [
        f"{head}, {span}.",
        f"{' + '.join(parts) or '0'} {sign} {summary.rows_read} rows read.",
        f"{summary.new} new, {summary.known} known already. {_spent(summary)} spent by them. "
        f"{summary.seconds:.1f} s, {summary.rows_read / max(summary.seconds, 0.1):.0f} rows/s.",
    ]
    if summary.swept or summary.late_settles:
        lines.append(f"Of the released, {summary.swept} were swept; {summary.late_settles} settles came too late.")
    return "\n".join(lines)
