"""Calls that come again: they are answered as the first one was, or refused, and counted (SPEC 2.1)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Protocol, TypeVar

from credit_core.errors import CreditError, Repeated
from credit_core.service.deployment import Deployment
from credit_core.store import repeats
from credit_core.store.unit import Unit


class _Answer(Protocol):
    @property
    def replayed(self) -> bool: ...


T = TypeVar("T", bound=_Answer)


def run(
    deployment: Deployment,
    user_id: str,
    call: str,
    at: datetime | None,
    act: Callable[[Unit], T],
    whose: str | None = None,
) -> T:
    """As :meth:`credit_core.store.ledger.Ledger.run`; where ``act`` returns or raises that the call came again, it is counted."""
    try:
        answer = deployment.ledger.run(act, whose=whose)
    except Repeated:
        _count(deployment, user_id, call, at, refused=True)
        raise
    if answer.replayed:
        _count(deployment, user_id, call, at, refused=False)
    return answer


def _count(deployment: Deployment, user_id: str, call: str, at: datetime | None, *, refused: bool) -> None:
    # The answer stands, whether or not it can be counted: a full disk must not make it another.
    with suppress(CreditError):
        deployment.ledger.write(
            lambda connection: repeats.count(connection, user_id, call, deployment.instant(at), refused=refused)
        )
