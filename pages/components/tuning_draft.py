"""The operator's draft: what they changed against the live version. It saves itself, and is there again in a new session.

Kept in the session while a page is open and in the ledger database always (``service.configure.save_draft``). A draft
belongs to the version that it was made against, its parent; where another went live since, it is stale until carried over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import streamlit as st

from credit_core.errors import CreditError
from credit_core.policy.config import differences, flatten
from credit_core.service import configure
from pages.components import session

_DRAFT = "_tuning_draft"


@dataclass
class Draft:
    """Changes (dotted key → value) against version ``parent``, whose flat body is ``live``."""

    parent: int
    live: Mapping[str, Any]
    changes: dict[str, Any] = field(default_factory=dict)
    saved_at: datetime | None = None
    trouble: str = ""

    def value(self, key: str) -> Any:
        """The draft's value of ``key``: changed, or as it is live."""
        return self.changes.get(key, self.live.get(key))


@dataclass(frozen=True)
class Stale:
    """A draft whose parent is no longer live. ``theirs`` is what went live since: key → (then, now)."""

    parent: int
    live: int
    changes: Mapping[str, Any]
    then: Mapping[str, Any]
    theirs: Mapping[str, tuple[Any, Any]]
    author: str
    reason: str
    at: datetime

    @property
    def clashes(self) -> list[str]:
        """Keys that both sides changed, to different values."""
        return [key for key, value in self.changes.items() if key in self.theirs and self.theirs[key][1] != value]


def open_draft(number: int, body: Mapping[str, Any]) -> Stale | None:
    """Make the operator's draft current at the start of a page run, while version ``number`` is live.

    A stale draft is returned instead of used.
    """
    held: Draft | None = st.session_state.get(_DRAFT)
    if held is not None and held.changes and held.parent == number:
        return None
    if held is None or not held.changes:
        saved = configure.draft_of(session.core().deployment, session.operator())
        parent, changes = saved or (number, {})
    else:
        parent, changes = held.parent, held.changes
    live = flatten(body)
    if parent == number:
        st.session_state[_DRAFT] = Draft(parent, live, dict(changes))
        return None
    left = {key: value for key, value in changes.items() if live.get(key) != value}
    st.session_state[_DRAFT] = Draft(number, live)
    if not left:
        _save(parent, {})
        return None
    # The session keeps the stale one until somebody decides, also where its last save failed.
    st.session_state[_DRAFT] = Draft(parent, live, left)
    return stale(parent, number, left)


def stale(parent: int, live: int, changes: Mapping[str, Any]) -> Stale:
    """What came between a draft against ``parent`` and the version that is live now."""
    deployment = session.core().deployment
    then, now = configure.version_of(deployment, parent), configure.version_of(deployment, live)
    _, released, _ = configure.versions_and_releases(deployment)
    last = next(release for release in reversed(released) if release.arm == "all")
    return Stale(
        parent,
        live,
        changes,
        flatten(then.body),
        differences(then.body, now.body),
        last.author,
        last.reason,
        last.released_at,
    )


def current() -> Draft:
    """The draft of this session; :func:`open_draft` comes first in a page run."""
    draft: Draft = st.session_state[_DRAFT]
    return draft


def change(key: str, value: Any) -> None:
    """Change one tunable and save. A value that equals the live one is no change."""
    change_many({key: value})


def change_many(values: Mapping[str, Any]) -> None:
    """Change several tunables in one save."""
    draft = current()
    for key, value in values.items():
        if _same(value, draft.live.get(key)):
            draft.changes.pop(key, None)
        else:
            draft.changes[key] = value
    keep(draft)


def reset(key: str | None = None) -> None:
    """Take one change back, or all of them."""
    draft = current()
    if key is None:
        draft.changes.clear()
    else:
        draft.changes.pop(key, None)
    keep(draft)


def carry_over(old: Stale) -> None:
    """Make the changes of a stale draft a draft against what is live now; where both sides changed, the draft's own win."""
    live = flatten(configure.version_of(session.core().deployment, old.live).body)
    draft = Draft(old.live, live, {key: value for key, value in old.changes.items() if not _same(value, live.get(key))})
    st.session_state[_DRAFT] = draft
    keep(draft)
    if not draft.trouble:
        _save(old.parent, {})


def discard(old: Stale) -> None:
    """Throw a stale draft away."""
    _save(old.parent, {})
    st.session_state.pop(_DRAFT, None)


def forget() -> None:
    """Start from what is saved: after publishing, which clears the draft."""
    st.session_state.pop(_DRAFT, None)


def keep(draft: Draft) -> None:
    """Save; a ledger that cannot be written keeps the draft in this session, and the bar says so."""
    draft.trouble = _save(draft.parent, draft.changes)
    if not draft.trouble:
        draft.saved_at = session.now()


def _save(parent: int, changes: Mapping[str, Any]) -> str:
    try:
        configure.save_draft(session.core().deployment, session.operator(), parent, changes)
    except CreditError as error:
        return str(error)
    return ""


def _same(one: Any, other: Any) -> bool:
    """Equal as a tunable's value: 1 and 1.0 are, True and 1 are not."""
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)
