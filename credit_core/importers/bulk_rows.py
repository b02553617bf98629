"""Rows of a ledger in columns: as Arrow, and as what the hash chain covers, many entries at a time.

A batch is put together from groups of entries that have the same columns. The bytes are those of
:func:`credit_core.store.chain.entry_hash`, at a fraction of its cost.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import repeat
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]

from credit_core.store.chain import GENESIS, HASHED
from credit_core.units import MICRO

Whole: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]
Real: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
#: ASCII texts of one length.
Text: TypeAlias = np.ndarray[Any, np.dtype[np.bytes_]]
Bytes: TypeAlias = np.ndarray[Any, np.dtype[np.uint8]]
Value: TypeAlias = str | int | bytes
_MISSING = b"\xff\xff\xff\xff"
_length = struct.Struct(">I").pack
#: Of so many multiples of a unit, up and down, it is known once what is hashed.
_TABLED = 1 << 14


@dataclass(frozen=True, slots=True)
class Same:
    """One value in every row."""

    value: Value


@dataclass(frozen=True, slots=True)
class Coded:
    """``values[codes]``."""

    codes: Whole
    values: Sequence[Value]


Column: TypeAlias = Same | Coded | Text | Whole | Real


@dataclass(frozen=True, slots=True)
class Group:
    """Entries with the same columns. ``account``: number of the account, ``at``: microseconds, ``place`` orders what is at once."""

    account: Whole
    at: Whole
    columns: Mapping[str, Column]
    place: int = 0


class Chains:
    """The newest sequence number and hash of every account; entries are appended batch by batch."""

    def __init__(self, account_ids: Text, user_ids: Text, columns: Container[str], *, hashed: bool) -> None:
        """``columns``: those that are kept. ``hashed`` False leaves the chain out: for facts, which do not have it."""
        self.seq: Whole = np.zeros(len(account_ids), dtype=np.int64)
        self.heads = [GENESIS] * len(account_ids) if hashed else []
        self.recorded_us: Whole = np.zeros(len(account_ids), dtype=np.int64)
        self._names = {"account_id": account_ids, "user_id": user_ids}
        self._columns = columns

    def append(self, groups: Iterable[Group]) -> pa.Table:
        """The groups' entries in order of time, as rows of ``ledger_entries`` without ids."""
        kept = [group for group in groups if len(group.account)]
        if not kept:
            return pa.table({})
        account = np.concatenate([group.account for group in kept])
        at = np.concatenate([group.at for group in kept])
        place = np.concatenate([np.full(len(group.account), group.place) for group in kept])
        seq = self._numbered(account, at, place)
        bounds = np.cumsum([0, *(len(group.account) for group in kept)])
        tables, bodies = [], []
        for number, group in enumerate(kept):
            own: dict[str, Column] = {"seq": seq[bounds[number] : bounds[number + 1]]}
            columns = {**group.columns, **own, "occurred_at": group.at, "recorded_at": group.at}
            tables.append(self._table(group, columns))
            if self.heads:
                bodies += self._bodies(group, columns)
        order = np.lexsort((place, at))
        rows = pa.concat_tables(tables, promote_options="default").take(pa.array(order))
        self.recorded_us[account[order]] = at[order]
        return self._chained(rows, order, account, bodies) if self.heads else rows

    def _numbered(self, account: Whole, at: Whole, place: Whole) -> Whole:
        own = np.lexsort((place, at, account))
        sorted_account = account[own]
        first = np.r_[True, sorted_account[1:] != sorted_account[:-1]]
        within = np.arange(len(own)) - np.maximum.accumulate(np.where(first, np.arange(len(own)), 0))
        seq = np.empty(len(own), dtype=np.int64)
        seq[own] = self.seq[sorted_account] + within + 1
        # Assigned in order: each account keeps its last.
        self.seq[sorted_account] = seq[own]
        return seq

    def _chained(self, rows: pa.Table, order: Whole, account: Whole, bodies: list[bytes]) -> pa.Table:
        heads, sha256 = self.heads, hashlib.sha256
        before, after = [], []
        in_order = map(bodies.__getitem__, order.tolist())
        for body, owner in zip(in_order, account[order].tolist(), strict=True):
            previous = heads[owner]
            before.append(previous)
            heads[owner] = digest = sha256(body + previous).digest()
            after.append(digest)
        return rows.append_column("prev_hash", pa.array(before, pa.binary())).append_column(
            "hash", pa.array(after, pa.binary())
        )

    def _table(self, group: Group, columns: Mapping[str, Column]) -> pa.Table:
        rows = len(group.account)
        whole = self._whole(group, columns).items()
        return pa.table({name: arrow(column, rows) for name, column in whole if name in self._columns})

    def _whole(self, group: Group, columns: Mapping[str, Column]) -> dict[str, Column]:
        named: dict[str, Column] = {name: ids[group.account] for name, ids in self._names.items()}
        return {**named, **columns}

    def _bodies(self, group: Group, columns: Mapping[str, Column]) -> list[bytes]:
        """Per entry, all that its hash covers before the hash of the entry before."""
        rows = len(group.account)
        named = self._whole(group, columns)
        pieces: list[Iterable[bytes]] = []
        fixed: list[bytes | Bytes] = []
        for name in HASHED:
            column = named.get(name)
            piece = _MISSING if column is None else _encoded(column)
            if isinstance(piece, list):
                pieces += [_joined(fixed, rows), piece]
                fixed = []
            else:
                fixed.append(piece)
        # Details are missing.
        pieces.append(_joined([*fixed, _MISSING], rows))
        return list(map(b"".join, zip(*pieces, strict=False)))


def arrow(column: Column, rows: int) -> pa.Array:
    """A column of a table of so many rows."""
    if isinstance(column, Same):
        return pa.repeat(column.value, rows)
    if isinstance(column, Coded):
        return pa.array(column.values).take(pa.array(column.codes))
    if column.dtype.kind == "S":
        offsets = np.arange(0, (rows + 1) * column.dtype.itemsize, column.dtype.itemsize, dtype=np.int32)
        data = pa.py_buffer(np.ascontiguousarray(column))
        return pa.StringArray.from_buffers(rows, pa.py_buffer(offsets), data)
    return pa.array(column)


def digits(values: Whole, width: int) -> Bytes:
    """Decimals of so many digits, one row a value."""
    powers = 10 ** np.arange(width - 1, -1, -1, dtype=np.int64)
    return (values[:, None] // powers % 10 + ord("0")).astype(np.uint8)


def side_by_side(*parts: bytes | Text | Bytes) -> list[bytes]:
    """Row by row, the parts one after the other; bytes stand in every row."""
    rows = next(len(part) for part in parts if not isinstance(part, bytes))
    return list(_joined([part if isinstance(part, bytes) else _matrix(part) for part in parts], rows))


def texts(rows: Sequence[bytes]) -> Text:
    """Texts of one length."""
    return np.frombuffer(b"".join(rows), dtype=f"S{len(rows[0])}" if rows else "S1")


def prefixed(size: int) -> bytes:
    """The length that goes before a value of so many bytes."""
    return _length(size)


def _matrix(values: Text | Bytes) -> Bytes:
    if values.dtype.kind != "S":
        return values  # type: ignore[return-value]
    return np.ascontiguousarray(values).view(np.uint8).reshape(len(values), values.dtype.itemsize)


def _joined(parts: Sequence[bytes | Bytes], rows: int) -> Iterable[bytes]:
    if all(isinstance(part, bytes) for part in parts):
        return repeat(b"".join(part for part in parts if isinstance(part, bytes)), rows)
    widths = [len(part) if isinstance(part, bytes) else part.shape[1] for part in parts]
    block = np.empty((rows, sum(widths)), dtype=np.uint8)
    start = 0
    for part, width in zip(parts, widths, strict=True):
        block[:, start : start + width] = np.frombuffer(part, dtype=np.uint8) if isinstance(part, bytes) else part
        start += width
    data, width = block.tobytes(), sum(widths)
    return [data[place : place + width] for place in range(0, len(data), width)]


def _encoded(column: Column) -> bytes | Bytes | list[bytes]:
    """What is hashed of the column: in every row the same, of one width, or row by row."""
    if isinstance(column, Same):
        return _bytes(column.value)
    if isinstance(column, Coded):
        return _looked_up([_bytes(value) for value in column.values], column.codes)
    if column.dtype.kind == "S":
        return _headed(_matrix(column))  # type: ignore[arg-type]
    if column.dtype.kind == "f":
        return _headed(column.astype(">f8").view(np.uint8).reshape(len(column), 8))
    return _whole(column)  # type: ignore[arg-type]


def _whole(values: Whole) -> bytes | Bytes | list[bytes]:
    low, high = int(values.min()), int(values.max())
    if low == high:
        return _bytes(low)
    if low > 0 and len(str(low)) == len(str(high)):
        return _headed(digits(values, len(str(low))))
    unit = 1 if (values % MICRO).any() else MICRO
    if low // unit >= -_TABLED and high // unit < _TABLED:
        return list(_decimals(unit)[values // unit])
    distinct, codes = np.unique(values, return_inverse=True)
    return _looked_up([_bytes(value) for value in distinct.tolist()], codes)


@cache
def _decimals(unit: int) -> np.ndarray[Any, np.dtype[np.object_]]:
    """What is hashed of the first multiples of a unit; of the negative ones, from the end."""
    table = np.empty(2 * _TABLED, dtype=object)
    table[:] = [_bytes(number * unit) for number in (*range(_TABLED), *range(-_TABLED, 0))]
    return table


def _looked_up(table: Sequence[bytes], codes: Whole) -> Bytes | list[bytes]:
    if len({len(value) for value in table}) == 1:
        return np.frombuffer(b"".join(table), dtype=np.uint8).reshape(len(table), -1)[codes]
    several = np.empty(len(table), dtype=object)
    several[:] = table
    return list(several[codes])


def _headed(values: Bytes) -> Bytes:
    head = np.frombuffer(_length(values.shape[1]), dtype=np.uint8)
    return np.hstack([np.broadcast_to(head, (len(values), 4)), values])


def _bytes(value: Value) -> bytes:
    data = value if isinstance(value, bytes) else value.encode() if isinstance(value, str) else b"%d" % value
    return _length(len(data)) + data
