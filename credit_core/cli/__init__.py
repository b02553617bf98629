"""The command line: ``python -m credit_core COMMAND``. Exit 0: done, 1: found something wrong, 2: misuse."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from credit_core import settings
from credit_core.cli import cluster, configuration, data, facts, laboratory, library, people, upkeep
from credit_core.cli.output import Output
from credit_core.errors import (
    Conflict,
    CreditError,
    InvalidConfig,
    InvalidImport,
    InvalidRequest,
    NotFound,
    StaleParent,
)

#: Errors of the call itself; the others say that something is wrong with the ledger.
_MISUSE = (InvalidRequest, InvalidConfig, InvalidImport, NotFound, Conflict)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["bench"]:
        from credit_core import bench

        return bench.main(arguments[1:])
    options = parser().parse_args(arguments)
    output = Output(machine=options.json)
    try:
        code = int(options.run(options, output))
        sys.stdout.flush()
        return code
    except CreditError as error:
        output.error(error)
        return 2 if isinstance(error, _MISUSE) and not isinstance(error, StaleParent) else 1
    except KeyboardInterrupt:
        output.say("Stopped. What was committed stays; run the same command again to go on.")
        return 130
    except BrokenPipeError:
        # Whoever read our output has seen enough; Python's own flush at exit must not complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        output.say(f"error: {error.filename or 'a file'}: {error.strerror}. Check the path.")
        return 2
    except Exception as error:
        if options.traceback:
            raise
        output.say(
            f"error: unexpected {type(error).__name__}: {error}. Run it again with --traceback, and report that."
        )
        return 1


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(prog="python -m credit_core", description="Titrate's credit core.")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--database", metavar="URL", default=settings.database_url(),
        help=f"sqlite:///… or postgresql://…; default {settings.DATABASE_VARIABLE}, else {settings.DEFAULT_DATABASE}",
    )  # fmt: skip
    common.add_argument("--json", action="store_true", help="print one JSON document, for machines")
    common.add_argument("--traceback", action="store_true", help=argparse.SUPPRESS)
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    for module in (upkeep, data, facts, cluster, configuration, people, library, laboratory):
        module.add(commands, common)
    commands.add_parser("bench", help="figures as ratios against a baseline in the same run", add_help=False)
    return top
