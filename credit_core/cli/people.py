"""erase, clear-challenge."""

from __future__ import annotations

import argparse
from typing import Any

from credit_core.cli.opening import existing
from credit_core.cli.output import Output


def add(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the commands to the parser."""
    for name, run, words in (
        ("erase", _erase, "forget the addresses a user came from; the ledger keeps keyed hashes"),
        ("clear-challenge", _clear, "let a user on whom the anomaly flag has stopped"),
    ):
        command = commands.add_parser(name, parents=[common], help=words)
        command.add_argument("user", metavar="USER", help="a user id; a guest's is guest: and the session id")
        command.set_defaults(run=run)


def _erase(options: argparse.Namespace, output: Output) -> int:
    with existing(options.database) as core:
        addresses = core.erase(options.user)
    noun = "address" if addresses == 1 else "addresses"
    output.result({"user_id": options.user, "addresses": addresses}, f"{addresses} {noun} of {options.user} forgotten.")
    return 0


def _clear(options: argparse.Namespace, output: Output) -> int:
    with existing(options.database) as core:
        core.clear_challenge(options.user)
    output.result({"user_id": options.user}, f"No challenge is open for {options.user}.")
    return 0
