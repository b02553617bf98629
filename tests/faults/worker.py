"""Cores in processes of their own: ``python -m tests.faults.worker`` forks one for each line of JSON, and answers with its id."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from credit_core import CreditCore, CreditError, Request
from credit_core.errors import AlreadyEnded
from credit_core.service import generate
from credit_core.store.unit import Unit

BLANK: Mapping[str, Any] = {}


def authorize(core: CreditCore, user: str, request_id: str, at: str | None = None, images: int = 1) -> Any:
    moment = None if at is None else datetime.fromisoformat(at)
    decision = core.authorize(Request(user, request_id, f"s-{user}", images=images), at=moment)
    return {
        "status": decision.status,
        "version": decision.config_version,
        "replayed": decision.replayed,
        "amount_uc": decision.amount_uc,
    }


def authorize_and_hang(core: CreditCore, user: str, request_id: str) -> Any:
    """Write a reserve, say so, and never come to the commit."""
    deployment = core.deployment
    request = generate.checked(Request(user, request_id, "s-1"))

    def hang() -> None:
        say("written")
        sys.stdin.readline()

    def act(unit: Unit) -> None:
        generate.authorize_in(unit, deployment, request, deployment.instant(None))
        unit.finally_write(hang)

    deployment.ledger.run(act)


def settle(core: CreditCore, user: str, request_id: str, at: str | None = None) -> Any:
    ended = core.settle(user, request_id, at=None if at is None else datetime.fromisoformat(at))
    return {"status": ended.status, "replayed": ended.replayed}


def grant(core: CreditCore, user: str, key: str, amount_uc: int) -> Any:
    return core.grant(user, amount_uc, "purchased", key).available_uc


def payment_webhook(core: CreditCore, provider: str, body: str, headers: dict[str, str], secret: str) -> Any:
    answer = core.payment_webhook(provider, body.encode(), headers, secret)
    return {"replayed": answer.replayed, "granted_uc": answer.granted_uc, "taken_uc": answer.taken_uc}


def release_version(core: CreditCore, version: int, author: str) -> Any:
    return core.release_version(version, author=author)


def reconcile(core: CreditCore, at: str) -> Any:
    return core.reconcile(at=datetime.fromisoformat(at))


def sweep(core: CreditCore, at: str) -> Any:
    return core.sweep(at=datetime.fromisoformat(at))


def take(core: CreditCore, limit: int, at: str) -> Any:
    return [(cell.genre, cell.mood) for cell in core.library.take(limit, at=datetime.fromisoformat(at))]


def work(core: CreditCore, user: str, prefix: str) -> Any:
    """Generate until killed, saying each step only after it was acknowledged."""
    number = 0
    while True:
        request_id = f"{prefix}-{number}"
        decision = core.authorize(Request(user, request_id, "s-1"))
        say(["authorized", request_id, decision.status])
        if decision.fresh:
            core.settle(user, request_id)
            say(["settled", request_id])
        number += 1


def churn(core: CreditCore, user: str, prefix: str, seed: int) -> Any:
    """As :func:`work`, ending each generation in another way; some are abandoned, some the sweeper ends first."""
    chance = random.Random(seed)
    number = 0
    while True:
        request_id = f"{prefix}-{number}"
        number += 1
        decision = core.authorize(Request(user, request_id, "s-1", images=chance.randrange(1, 4)))
        say(["reserve" if decision.fresh else decision.status, request_id, decision.amount_uc])
        end = chance.choice(("settle", "settle", "settle", "release", "partial", None))
        try:
            if end == "settle":
                core.settle(user, request_id)
            elif end == "release":
                ended = core.release(user, request_id, "provider_error")
                end = "late" if ended.reason == "swept" else end
            elif end == "partial":
                core.partial(user, request_id)
            if end is not None:
                say([end, request_id, decision.amount_uc])
        except AlreadyEnded:
            say(["late", request_id, 0])


def sweep_on(core: CreditCore, ahead_s: float) -> Any:
    """Sweep until killed, on a clock ``ahead_s`` ahead, so that holds are swept while their owners end them."""
    while True:
        swept = core.sweep(at=datetime.now(UTC) + timedelta(seconds=ahead_s))
        if swept.holds:
            say(["swept", swept.holds, swept.amount_uc])


def crowd(core: CreditCore, user: str, own: list[str], shared: list[str], start: float) -> Any:
    """From the instant ``start`` on: generate what is one's own and what everybody in the crowd taps as well."""
    time.sleep(max(0.0, start - time.time()))
    for request_id in (*own, *shared):
        decision = core.authorize(Request(user, request_id, "s-1"))
        if decision.fresh:
            core.settle(user, request_id)
        say([request_id, decision.status, decision.replayed])


def limit_files(core: CreditCore, most_bytes: int) -> Any:
    """From now on no file of this process may grow beyond this; −1 lifts the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard if most_bytes < 0 else most_bytes, hard))
    return most_bytes


CALLS: dict[str, Callable[..., Any]] = {
    call.__name__: call
    for call in (
        authorize,
        authorize_and_hang,
        settle,
        grant,
        payment_webhook,
        release_version,
        reconcile,
        sweep,
        take,
        work,
        churn,
        sweep_on,
        crowd,
        limit_files,
    )
}


def say(answer: Any) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def serve(url: str) -> None:
    """Answer calls, one line of JSON each, until there are no more."""
    core: CreditCore | None = None
    say("ready")
    for line in sys.stdin:
        name, arguments = json.loads(line)
        try:
            if name == "open":
                core = CreditCore.open(url)
                say("open")
            else:
                assert core is not None, "tell it to open first"
                say(CALLS[name](core, **arguments))
        except CreditError as error:
            say({"error": type(error).__name__, "says": str(error)})
    if core is not None:
        core.close()


def forked(url: str, said: str, told: str | None = None, call: str = "", arguments: Mapping[str, Any] = BLANK) -> None:
    """In the child: serve what comes through the pipe ``told``, or make one call; say it to the pipe or file ``said``."""
    os.dup2(os.open(told or os.devnull, os.O_RDONLY), sys.stdin.fileno())
    os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND), sys.stdout.fileno())
    if told:
        serve(url)
        return
    with CreditCore.open(url) as core:
        CALLS[call](core, **arguments)


def main() -> None:
    # A forked child is nobody's to wait for: gone is gone.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in iter(sys.stdin.readline, ""):
        pid = os.fork()
        if pid:
            say(pid)
            continue
        status = 1
        try:
            forked(**json.loads(line))
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)


if __name__ == "__main__":
    main()
