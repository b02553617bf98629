"""config stage, rollouts, approve, decline, ramp, hold, resume; and watch."""

from __future__ import annotations

import argparse
import getpass
import re
import time
from collections.abc import Callable
from typing import Any

from credit_core.analytics.queries.arms import GUARDED
from credit_core.cli.opening import existing
from credit_core.cli.output import Output, table
from credit_core.errors import InvalidRequest, LedgerUnavailable
from credit_core.policy.rollout import FULL_SCHEDULE, Guardrail, Step
from credit_core.service import configure, staging
from credit_core.service import watch as watching
from credit_core.service.core import CreditCore
from credit_core.service.rollouts import Rollout
from credit_core.service.watch import Watched
from credit_core.units import DAY_S

_RAIL = re.compile(
    r"(?P<metric>\w+)(?P<side><=|>=)(?P<control>control)?(?P<bound>[+-]?[\d.]+)(?::(?P<n>\d+))?(?::(?P<act>pause|roll_back))?"
)
_HOUR_S = 3_600.0


def add(actions: Any, common: argparse.ArgumentParser) -> None:
    """Add the actions of ``config`` to its parser."""
    stage = actions.add_parser("stage", parents=[common], help="release a version step by step, watched by guardrails")
    stage.add_argument("version", type=int)
    shares = ",".join(f"{step.share:g}" for step in FULL_SCHEDULE)
    stage.add_argument("--steps", default=shares, help=f"shares of accounts, rising (default {shares})")
    stage.add_argument(
        "--hold", type=float, default=DAY_S / _HOUR_S, metavar="HOURS", help="between steps (default 24)"
    )
    stage.add_argument(
        "--guardrail", action="append", metavar="RULE",
        help="METRIC<=BOUND or METRIC>=BOUND, of the arm itself, or against control as METRIC>=control-0.1; then :N accounts and "
        f":roll_back or :pause. Metrics: {', '.join(GUARDED)}. Default: the usual six",
    )  # fmt: skip
    stage.add_argument("--expected-live", type=int, metavar="VERSION", help="refuse if another version is live by now")
    stage.set_defaults(run=_stage)
    listed = actions.add_parser("rollouts", parents=[common], help="staged releases and where they stand")
    listed.set_defaults(run=_list)
    acts: dict[str, tuple[Callable[..., Rollout], str]] = {
        "decline": (staging.decline, "say no to what waits for approval"),
        "ramp": (staging.ramp, "begin the next step now"),
        "hold": (staging.hold, "stop the schedule where it is"),
        "resume": (staging.resume, "let the schedule go on"),
    }
    for name, (act, words) in acts.items():
        parser = actions.add_parser(name, parents=[common], help=words)
        parser.set_defaults(run=_acts(act))
        _signed(parser)
    approve = actions.add_parser(
        "approve", parents=[common], help="approve what another person asked for, and begin it"
    )
    approve.set_defaults(run=_approve)
    _signed(approve, reason=False)
    approve.add_argument("--reason", default="Approved", help="why")
    approve.add_argument("--content", metavar="HASH", help="refuse unless the version's content hash begins so")
    stage.add_argument("--author", default=None, help="who (default: the login name)")
    stage.add_argument("--reason", required=True, help="why, for those who ask later")


def add_watch(commands: Any, common: argparse.ArgumentParser) -> None:
    """Add the command ``watch``."""
    watch = commands.add_parser(
        "watch", parents=[common], help="watch staged releases: roll back, pause or ramp; any number of processes may"
    )
    watch.add_argument("--once", action="store_true", help="look once and end")
    watch.add_argument("--interval", type=float, default=60.0, metavar="SECONDS", help="between looks (default 60)")
    watch.set_defaults(run=_watch)


def guardrail(text: str) -> Guardrail:
    """A guardrail given on the command line, such as ``fresh_rate>=control-0.1:200:pause``."""
    found = _RAIL.fullmatch(text.replace(" ", ""))
    if found is None:
        raise InvalidRequest(
            f"{text!r} is not a guardrail. Write METRIC<=BOUND or METRIC>=BOUND, such as run_out_share<=control+0.02:200:roll_back."
        )
    try:
        bound = float(found["bound"])
    except ValueError as error:
        raise InvalidRequest(f"{found['bound']!r} in {text!r} is not a number.") from error
    usual = Guardrail(found["metric"], "at_most" if found["side"] == "<=" else "at_least", bound)
    return usual._replace(
        against="control" if found["control"] else "itself",
        least_n=int(found["n"] or usual.least_n),
        action="pause" if found["act"] == "pause" else "roll_back",
    )


def _signed(parser: argparse.ArgumentParser, *, reason: bool = True) -> None:
    parser.add_argument("rollout", type=int, help="number of the staged release, as `config rollouts` lists it")
    parser.add_argument("--author", default=None, help="who (default: the login name)")
    if reason:
        parser.add_argument("--reason", required=True, help="why, for those who ask later")


def _stage(options: argparse.Namespace, output: Output) -> int:
    try:
        shares = [float(share) for share in options.steps.split(",")]
    except ValueError as error:
        raise InvalidRequest(f"--steps {options.steps!r} is not a list of shares, such as 0.01,0.1,0.5,1.") from error
    steps = [Step(share, options.hold * _HOUR_S) for share in shares]
    rails = staging.USUAL_GUARDRAILS if options.guardrail is None else [*map(guardrail, options.guardrail)]
    with existing(options.database) as core:
        found = staging.stage(
            core.deployment, options.version, author=_author(options), reason=options.reason, steps=steps, guardrails=rails,
            expected_live=options.expected_live,
        )  # fmt: skip
    output.result(_document(found), _words(found))
    return 0


def _approve(options: argparse.Namespace, output: Output) -> int:
    with existing(options.database) as core:
        asked = next(
            (each for each in staging.staged(core.deployment) if each.plan.rollout_id == options.rollout), None
        )
        wanted = configure.version_of(core.deployment, asked.plan.version).content_hash if asked else ""
        if options.content and not wanted.startswith(options.content):
            raise InvalidRequest(f"The version's content is {wanted}, not {options.content}. Compare it again.")
        found = staging.approve(
            core.deployment, options.rollout, author=_author(options), content_hash=wanted, reason=options.reason
        )
    output.result(_document(found), _words(found))
    return 0


def _acts(act: Callable[..., Rollout]) -> Callable[[argparse.Namespace, Output], int]:
    def run(options: argparse.Namespace, output: Output) -> int:
        with existing(options.database) as core:
            found = act(core.deployment, options.rollout, author=_author(options), reason=options.reason)
        output.result(_document(found), _words(found))
        return 0

    return run


def _list(options: argparse.Namespace, output: Output) -> int:
    with existing(options.database) as core:
        found = staging.staged(core.deployment)
    rows = [
        (
            each.plan.rollout_id,
            each.plan.version,
            each.standing.status,
            _share(each),
            each.plan.author,
            each.standing.reason,
        )
        for each in found
    ]
    words = table(rows, ("rollout", "version", "status", "share", "asked by", "why"))
    output.result([_document(each) for each in found], words if rows else "No version was released in stages yet.")
    return 0


def _watch(options: argparse.Namespace, output: Output) -> int:
    if not 0.1 <= options.interval <= DAY_S:
        raise InvalidRequest("--interval is a number of seconds from 0.1 to 86400.")
    with existing(options.database) as core:
        if options.once:
            seen = watching.watch(core.deployment)
            words = "\n".join(map(_seen, seen)) or "No staged release is live."
            output.result([one._asdict() for one in seen], words)
            return 0
        output.say(f"Watching every {options.interval:g} s. Stop with Ctrl-C; others may watch too.")
        while True:
            _look(core, output)
            time.sleep(options.interval)


def _look(core: CreditCore, output: Output) -> None:
    """One look of many: what was done is told, and a ledger that is away is waited for."""
    try:
        for one in watching.watch(core.deployment):
            if one.act != "nothing":
                output.result(one._asdict(), _seen(one))
    except LedgerUnavailable as error:
        output.error(error)


def _seen(one: Watched) -> str:
    did = {"roll_back": "rolled back", "hold": "paused", "ramp": "ramped", "nothing": "looked at"}[one.act]
    return f"Version {one.version} (rollout {one.rollout_id}) {did}. {one.words}"


def _share(found: Rollout) -> str:
    step = found.standing.step
    return "–" if step is None else f"{found.plan.steps[step].share:g}"


def _words(found: Rollout) -> str:
    plan, state = found.plan, found.standing
    if state.status == "waiting":
        return (
            f"Version {plan.version} waits for approval by another person; it is not live. "
            f"Approve with: python -m credit_core config approve {plan.rollout_id}"
        )
    due = f"; next step {state.due_at:%Y-%m-%d %H:%M} UTC, by: python -m credit_core watch" if state.due_at else ""
    return f"Rollout {plan.rollout_id} of version {plan.version}: {state.status}, share {_share(found)}{due}."


def _document(found: Rollout) -> dict[str, Any]:
    return {
        **found.plan._asdict(),
        "steps": [step._asdict() for step in found.plan.steps],
        "guardrails": [rail._asdict() for rail in found.plan.guardrails],
        "standing": found.standing._asdict() | {"muted": sorted(found.standing.muted)},
    }


def _author(options: argparse.Namespace) -> str:
    return options.author or getpass.getuser()
