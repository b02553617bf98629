"""Saved views: questions that somebody gave a name, for everybody of the deployment to open again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from credit_core.errors import Conflict, InvalidRequest, NotFound
from credit_core.service.deployment import Deployment
from credit_core.store import views
from credit_core.store.ledger import Connection

LONGEST_NAME, MOST_VIEWS, LONGEST_VALUE = 60, 200, 2_000
#: A control's value: text or a number, or several for one that takes many.
Value = str | int | list[str]


class View(NamedTuple):
    """A question by name: what its controls say, who saved it and when."""

    name: str
    controls: dict[str, Value]
    author: str
    saved_at: datetime


def save(
    deployment: Deployment, name: str, controls: Mapping[str, Value], author: str, *, replace: bool = False
) -> View:
    """Keep a question under a name. A name that is taken is a :class:`Conflict` unless it is to be replaced.

    Raises :class:`InvalidRequest` for a name or values that cannot be kept, and where there are too many views.
    """
    name = " ".join(name.split())
    if not 1 <= len(name) <= LONGEST_NAME or not name.isprintable():
        raise InvalidRequest(f"A view's name has 1 to {LONGEST_NAME} printable characters. Choose another.")
    if sum(len(key) + len(str(value)) for key, value in controls.items()) > LONGEST_VALUE:
        raise InvalidRequest("The question is too long to be saved. Take out some filters.")
    at = deployment.instant(None)
    body = {"controls": dict(controls), "author": author, "saved_at": at.astimezone(UTC).isoformat()}

    def write(connection: Connection) -> None:
        there = views.every(connection)
        if name in there and not replace:
            raise Conflict(f"There is a view {name!r} already. Choose another name, or replace it.")
        if name not in there and len(there) >= MOST_VIEWS:
            raise InvalidRequest(f"There are {MOST_VIEWS} views. Remove one that nobody needs.")
        views.put(connection, name, body)

    deployment.ledger.write(write)
    return View(name, dict(controls), author, at)


def saved(deployment: Deployment) -> list[View]:
    """Every view, by name."""
    with deployment.ledger.reading() as connection:
        found = views.every(connection)
    return [
        View(name, body["controls"], body["author"], datetime.fromisoformat(body["saved_at"]))
        for name, body in found.items()
    ]


def remove(deployment: Deployment, name: str) -> None:
    """Forget a view. Raises :class:`NotFound`."""

    def write(connection: Connection) -> None:
        if not views.remove(connection, name):
            raise NotFound(f"There is no view {name!r}. Somebody may have removed it already.")

    deployment.ledger.write(write)
