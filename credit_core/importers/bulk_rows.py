"""Rows of a ledger in columns: as Arrow, and as what the hash chain covers, many entries at a time.

A batch is put together from groups of entries that have the same columns. The bytes are those of
:func:`credit_core.store.chain.entry_hash`, at a fraction of its cost.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]

from credit_core.store.chain import GENESIS, HASHED
from credit_core.store.packing import MISSING, PIECE_ROWS, Coded, Column, Same, Text, Whole, cut, each, packed


@dataclass(frozen=True, slots=True)
class Group:
    """Entries with the same columns. ``account``: number of the account, ``at``: microseconds, ``place`` orders what is at once."""

    account: Whole
    at: Whole
    columns: Mapping[str, Column]
    place: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of ``ledger_entries`` without ids. What puts them together needs nothing of Python's and can be left to a thread."""

    groups: list[pa.Table]
    order: Whole

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(self.order)

    def table(self) -> pa.Table:
        """The rows in order of time."""
        return pa.concat_tables(self.groups, promote_options="default").take(pa.array(self.order))


class Chains:
    """The newest sequence number and hash of every account; entries are appended batch by batch."""

    def __init__(self, account_ids: Text, user_ids: Text, columns: Container[str], *, hashed: bool) -> None:
        """``columns``: those that are kept. ``hashed`` False leaves the chain out: for facts, which do not have it."""
        self.seq: Whole = np.zeros(len(account_ids), dtype=np.int64)
        self.heads = [GENESIS] * len(account_ids) if hashed else []
        self.recorded_us: Whole = np.zeros(len(account_ids), dtype=np.int64)
        self._names = {"account_id": account_ids, "user_id": user_ids}
        self._columns = columns

    def append(self, groups: Iterable[Group]) -> Batch | None:
        """The groups' entries, none where there are none; what groups have of one account must come in its own order."""
        kept = [group for group in groups if len(group.account)]
        if not kept:
            return None
        account = np.concatenate([group.account for group in kept])
        at = np.concatenate([group.at for group in kept])
        place = np.concatenate([np.full(len(group.account), group.place) for group in kept])
        seq = self._numbered(account, at, place)
        bounds = np.cumsum([0, *(len(group.account) for group in kept)])
        tables = []
        for number, group in enumerate(kept):
            own: dict[str, Column] = {"seq": seq[bounds[number] : bounds[number + 1]]}
            tables.append(
                self._table(group, {**group.columns, **own, "occurred_at": group.at, "recorded_at": group.at})
            )
        order = np.lexsort((place, at))
        self.recorded_us[account[order]] = at[order]
        return Batch(tables, order)

    def _numbered(self, account: Whole, at: Whole, place: Whole) -> Whole:
        own = np.lexsort((place, at, account))
        sorted_account = account[own]
        first = np.r_[True, sorted_account[1:] != sorted_account[:-1]]
        within = np.arange(len(own)) - np.maximum.accumulate(np.where(first, np.arange(len(own)), 0))
        seq = np.empty(len(own), dtype=np.int64)
        seq[own] = self.seq[sorted_account] + within + 1
        if (own[1:] < own[:-1])[~first[1:]].any():
            raise ValueError(
                "the entries of an account are hashed in the order they come in, which must be that of time"
            )
        # Assigned in order: each account keeps its last.
        self.seq[sorted_account] = seq[own]
        return seq

    def _table(self, group: Group, columns: Mapping[str, Column]) -> pa.Table:
        rows = len(group.account)
        named: dict[str, Column] = {name: ids[group.account] for name, ids in self._names.items()}
        whole = {**named, **columns}
        table = pa.table({name: arrow(column, rows) for name, column in whole.items() if name in self._columns})
        if not self.heads:
            return table
        for name, values in zip(("prev_hash", "hash"), self._chained(group, whole), strict=True):
            table = table.append_column(name, _of_one_width(b"".join(values), len(GENESIS), rows))
        return table

    def _chained(self, group: Group, columns: Mapping[str, Column]) -> tuple[list[bytes], list[bytes]]:
        """Per entry, the hash before it and its own. Details are missing."""
        heads, sha256 = self.heads, hashlib.sha256
        before, after = [], []
        for start in range(0, len(group.account), PIECE_ROWS):
            piece = slice(start, start + PIECE_ROWS)
            owners = group.account[piece].tolist()
            bodies = packed([cut(columns.get(name), piece) for name in HASHED], len(owners), MISSING)
            for body, owner in zip(each(bodies), owners, strict=True):
                previous = heads[owner]
                before.append(previous)
                heads[owner] = digest = sha256(body + previous).digest()
                after.append(digest)
        return before, after


def arrow(column: Column, rows: int) -> pa.Array:
    """A column of a table of so many rows."""
    if isinstance(column, Same):
        return pa.repeat(column.value, rows)
    if isinstance(column, Coded):
        return pa.array(column.values).take(pa.array(column.codes))
    if column.dtype.kind == "S":
        return _of_one_width(np.ascontiguousarray(column), column.dtype.itemsize, rows).view(pa.string())
    return pa.array(column)


def _of_one_width(data: Any, width: int, rows: int) -> pa.BinaryArray:
    ends = np.arange(0, (rows + 1) * width, width, dtype=np.int32)
    return pa.BinaryArray.from_buffers(pa.binary(), rows, [None, pa.py_buffer(ends), pa.py_buffer(data)])
