"""Commands that copy what is new in the ledger until somebody stops them."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

from credit_core.analytics.sync import Follow
from credit_core.cli.output import Output
from credit_core.errors import InvalidRequest, LedgerUnavailable

#: After a failure the ledger is asked again this much later.
_AGAIN_S = 5.0


def add_following(command: argparse.ArgumentParser) -> None:
    """The options of such a command."""
    command.add_argument("--follow", action="store_true", help="go on until stopped")
    command.add_argument(
        "--every", type=float, default=1.0, metavar="SECONDS", help="with --follow: how often to look (default 1)"
    )


def checked_every(options: argparse.Namespace) -> float:
    """How often to look, in seconds. Raises :class:`InvalidRequest`."""
    every_s = float(options.every)
    if not 0.05 <= every_s <= 3_600.0:
        raise InvalidRequest(f"--every must lie between 0.05 and 3600 seconds, got {every_s:g}.")
    return every_s


def go_on(follow: Callable[[], Follow], done: Follow, every_s: float, output: Output) -> None:
    """Tell what was ``done``, then copy what is new every so often, and tell that; only an interrupt ends it."""
    output.say(f"{words_of(done)}. Following; stop with Ctrl-C.")
    while True:
        time.sleep(every_s)
        try:
            done = follow()
        except LedgerUnavailable as error:
            output.say(f"{error} Trying again.")
            time.sleep(_AGAIN_S)
            continue
        if done.rows:
            output.say(words_of(done))


def words_of(done: Follow) -> str:
    """What was copied, how long it took and how far the copy reaches."""
    as_of = "" if done.as_of is None else f", as of {done.as_of:%Y-%m-%d %H:%M:%S} UTC"
    return f"{done.rows} new entries in {done.seconds * 1_000:.0f} ms{as_of}"
