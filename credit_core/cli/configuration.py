"""config show, diff, propose, release, rollback, zone; staged releases are :mod:`credit_core.cli.staging`."""

from __future__ import annotations

import argparse
import getpass
import json
from typing import Any

from credit_core.cli import staging
from credit_core.cli.opening import existing
from credit_core.cli.output import Output, table
from credit_core.cli.values import change
from credit_core.policy import config as schema
from credit_core.service import configure


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the commands to the parser."""
    config = commands.add_parser("config", help="show, compare, propose and release configurations")
    actions = config.add_subparsers(metavar="ACTION", required=True)
    show = actions.add_parser("show", parents=[common], help="the live configuration, or a version")
    show.add_argument("version", type=int, nargs="?", help="default: what is live")
    show.add_argument("--versions", action="store_true", help="list versions and releases instead")
    show.set_defaults(run=_show)
    diff = actions.add_parser("diff", parents=[common], help="what differs between two versions")
    diff.add_argument("old", type=int)
    diff.add_argument("new", type=int)
    diff.set_defaults(run=_diff)
    propose = actions.add_parser("propose", parents=[common], help="write a new version; it is not live yet")
    propose.add_argument("changes", nargs="+", metavar="KEY=VALUE", help="such as controller.k=0.0277")
    propose.add_argument("--note", required=True, help="why, for those who ask later")
    release = actions.add_parser("release", parents=[common], help="make a version live")
    release.add_argument("version", type=int)
    release.add_argument("--share", type=float, default=1.0, help="share of accounts (default 1; at most 0.5 below it)")
    release.add_argument(
        "--expected-live", type=int, metavar="VERSION", help="refuse if another version is live by now"
    )
    release.add_argument("--reason", default="", help="why")
    rollback = actions.add_parser("rollback", parents=[common], help="release what was live before")
    rollback.add_argument("--reason", required=True, help="why, for those who ask later")
    zone = actions.add_parser("zone", parents=[common], help="show or change the zone of days in reports")
    zone.add_argument("zone", nargs="?", metavar="ZONE", help="IANA name, such as Asia/Kathmandu; default: show it")
    zone.set_defaults(run=_zone)
    for command, run in ((propose, _propose), (release, _release), (rollback, _roll_back)):
        command.add_argument("--author", default=None, help="who (default: the login name)")
        command.set_defaults(run=run)
    staging.add(actions, common)
    staging.add_watch(commands, common)


def _show(options: argparse.Namespace, output: Output) -> int:
    with existing(options.database) as core:
        if options.versions:
            versions, releases, live = configure.versions_and_releases(core.deployment)
            rows = [(v.version, v.parent or "–", f"{v.created_at:%Y-%m-%d %H:%M}", v.author, v.note) for v in versions]
            past = [
                (
                    r.release_id,
                    r.version,
                    r.action,
                    f"{r.share:g}",
                    f"{r.released_at:%Y-%m-%d %H:%M}",
                    r.author,
                    r.reason,
                )
                for r in releases
            ]
            words = table(rows, ("version", "parent", "created (UTC)", "author", "note"))
            words += "\n\n" + table(
                past, ("release", "version", "action", "share", "released (UTC)", "author", "reason")
            )
            document = {
                "live": live._asdict(),
                "versions": [{k: v for k, v in version._asdict().items() if k != "body"} for version in versions],
                "releases": [release._asdict() for release in releases],
            }
            output.result(document, f"{words}\n\nVersion {live.version} is live.")
            return 0
        version = (
            configure.live_version(core.deployment)
            if options.version is None
            else configure.version_of(core.deployment, options.version)
        )
    lines = [f"{key} = {json.dumps(value)}" for key, value in schema.flatten(version.body).items()]
    head = f"# version {version.version} by {version.author}: {version.note}"
    output.result({"version": version.version, "body": version.body}, "\n".join([head, *lines]))
    return 0


def _diff(options: argparse.Namespace, output: Output) -> int:
    with existing(options.database) as core:
        old, new = (configure.version_of(core.deployment, number).body for number in (options.old, options.new))
    found = schema.differences(old, new)
    lines = [f"{key}: {json.dumps(a)} → {json.dumps(b)}" for key, (a, b) in found.items()]
    output.result({key: list(pair) for key, pair in found.items()}, "\n".join(lines) or "They are equal.")
    return 0


def _propose(options: argparse.Namespace, output: Output) -> int:
    changes = dict(change(text) for text in options.changes)
    with existing(options.database) as core:
        version = core.propose(changes, _author(options), options.note)
    output.result(
        {"version": version},
        f"Version {version} written. Make it live with: python -m credit_core config release {version}",
    )
    return 0


def _release(options: argparse.Namespace, output: Output) -> int:
    with existing(options.database) as core:
        release = core.release_version(
            options.version,
            options.share,
            author=_author(options),
            reason=options.reason,
            expected_live=options.expected_live,
        )
    whom = "everybody" if options.share == 1.0 else f"{options.share:.0%} of the accounts"
    output.result({"version": options.version, "release": release}, f"Version {options.version} is live for {whom}.")
    return 0


def _roll_back(options: argparse.Namespace, output: Output) -> int:
    with existing(options.database) as core:
        version = core.roll_back(_author(options), options.reason)
    output.result({"version": version}, f"Version {version} is live again.")
    return 0


def _zone(options: argparse.Namespace, output: Output) -> int:
    with existing(options.database) as core:
        ledger = core.deployment.ledger
        before = ledger.fact("reporting_zone") or "UTC"
        if options.zone is not None:
            ledger.report_in(options.zone)
        now = ledger.fact("reporting_zone") or "UTC"
    words = (
        f"Reports are in {now}."
        if now == before
        else f"Reports are in {now} now, no longer in {before}; they are worked out anew."
    )
    output.result({"reporting_zone": now, "before": before}, words)
    return 0


def _author(options: argparse.Namespace) -> str:
    return options.author or getpass.getuser()
