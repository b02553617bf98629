"""A core in a process of its own: ``python -m tests.faults.worker URL`` reads calls as lines of JSON and answers each with one."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any

from credit_core import CreditCore, CreditError, Request
from credit_core.service import generate
from credit_core.store.unit import Unit


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


CALLS: dict[str, Callable[..., Any]] = {
    call.__name__: call
    for call in (authorize, authorize_and_hang, settle, grant, release_version, reconcile, sweep, take, work)
}


def say(answer: Any) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def main(url: str) -> None:
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


if __name__ == "__main__":
    main(sys.argv[1])
