"""Which request an end, a refund or a later half belongs to, which request came before, and how requests ended."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from credit_core.lab import tables
from credit_core.lab.columnar import Flags, Floats, Ints
from credit_core.lab.tables import Records


class Named(NamedTuple):
    """How events name what they belong to, as numbers: two are one request where account, user and request are equal."""

    account: Ints
    user: Ints
    request: Ints
    parent: Ints
    session: Ints


class Ends(NamedTuple):
    """Of each event: whether it settles, whether it is a sweep's, and what the provider took (nan: not told)."""

    settles: Flags
    swept: Flags
    usd_micro: Floats


class Late(NamedTuple):
    """Settles that came after their sweep: whose they are, when they came, what they would have charged."""

    user: Ints
    request: Ints
    at: Ints
    amount_uc: Ints


def link(events: Records, named: Named, ends: Ends, late: Late) -> None:
    """Tie ends, refunds and children to their requests, requests to the one before, and tell requests how they ended."""
    kind = events["kind"]
    start = starts(named.account)
    asked = np.flatnonzero(np.isin(kind, (tables.OPEN, tables.CHILD)))
    opened = _Opened(named, asked)
    places = np.flatnonzero(np.isin(kind, (tables.END, tables.REFUND, tables.CHILD)))
    request = np.where(kind[places] == tables.CHILD, named.parent[places], named.request[places])
    of = opened.find(named.user[places], request)
    # What belongs to a request outside of what is replayed moves nothing.
    kind[places[of < 0]] = tables.NOTHING
    places, of = places[of >= 0], of[of >= 0]
    events["ref"][places] = of - start[places]
    events["child"][of[kind[places] == tables.CHILD]] = True
    _tell_ends(events, ends, places, of)
    swept = opened.find(late.user, late.request)
    for place, at, amount in zip(swept.tolist(), late.at.tolist(), late.amount_uc.tolist(), strict=True):
        # A swept one ends when its late settle came.
        if place >= 0 and events["end_kind"][place] == tables.NO_END:
            events["end_kind"][place], events["end_at"][place], events["end_uc"][place] = tables.SETTLED, at, amount
    opens = np.flatnonzero(kind == tables.OPEN)
    order = opens[np.lexsort((named.session[opens], named.user[opens], named.account[opens]))]
    same = np.ones(max(len(order) - 1, 0), dtype=np.bool_)
    for column in (named.account, named.user, named.session):
        same &= np.diff(column[order]) == 0
    events["before"][order[1:][same]] = (order[:-1] - start[order[:-1]])[same]


def starts(account: Ints) -> Ints:
    """Of each event the place of its account's first one."""
    first = np.diff(account, prepend=-1) != 0
    return np.maximum.accumulate(np.where(first, np.arange(len(account)), 0)) if len(account) else account


class _Opened:
    """The requests ``asked``, to be found by user and request."""

    def __init__(self, named: Named, asked: Ints) -> None:
        self._width = int(max(named.request.max(initial=-1), named.parent.max(initial=-1))) + 2
        keys = self._keys(named.user[asked], named.request[asked])
        order = np.argsort(keys, kind="stable")
        self._known, self._places = keys[order], asked[order]

    def find(self, user: Ints, request: Ints) -> Ints:
        """Their places; −1 where there is none."""
        if not len(self._known):
            return np.full(len(user), -1, dtype=np.int64)
        keys = self._keys(user, request)
        at = np.maximum(np.searchsorted(self._known, keys, side="right") - 1, 0)
        return np.where(self._known[at] == keys, self._places[at], -1)

    def _keys(self, user: Ints, request: Ints) -> Ints:
        return (user + 1) * self._width + request + 1


def _tell_ends(events: Records, ends: Ends, places: Ints, of: Ints) -> None:
    """Note with each request how and when the log ended it; a sweep alone leaves it without an end."""
    ending = events["kind"][places] == tables.END
    places, of = places[ending], of[ending]
    settled = ends.settles[places]
    events["end_kind"][places] = np.where(settled, tables.SETTLED, tables.RELEASED)
    usd = ends.usd_micro[places]
    events["end_usd"][of] = np.where(np.isnan(usd) & ~settled, 0.0, usd)
    plain = ~ends.swept[places]
    places, of = places[plain], of[plain]
    events["end_kind"][of] = events["end_kind"][places]
    events["end_at"][of], events["end_uc"][of] = events["at"][places], events["amount_uc"][places]
