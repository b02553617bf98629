"""What the hash chain covers, of very many entries at once: their columns packed into bytes, column by column.

The bytes are those of :mod:`credit_core.store.chain`, which says what they are; entries that have the same columns are
packed together, at a small part of the cost of one after the other.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

from credit_core.units import MICRO

Whole: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]
Real: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
#: Texts of one length.
Text: TypeAlias = np.ndarray[Any, np.dtype[np.bytes_]]
Bytes: TypeAlias = np.ndarray[Any, np.dtype[np.uint8]]
Value: TypeAlias = str | int | bytes
#: So many rows are best packed at a time: what is put together stays in the processor's cache.
PIECE_ROWS = 4_096
MISSING = b"\xff\xff\xff\xff"
_length = struct.Struct(">I").pack
#: Of so many multiples of a unit, up and down, it is known once what is hashed.
_TABLED = 1 << 14
_FOUR = 10_000
_FOUR_DIGITS = np.frombuffer(b"".join(b"%04d" % number for number in range(_FOUR)), dtype=np.uint32)


@dataclass(frozen=True, slots=True)
class Same:
    """One value in every row."""

    value: Value


@dataclass(frozen=True, slots=True)
class Coded:
    """``values[codes]``; a value that is None is missing."""

    codes: Whole
    values: Sequence[Value | None]


Column: TypeAlias = Same | Coded | Text | Whole | Real


def packed(columns: Iterable[Column | None], rows: int, after: bytes = b"") -> pa.BinaryArray:
    """Per row, each column as it is hashed, one after the other, and ``after``; None is a column that has nothing."""
    pieces: list[Any] = []
    block = _Block()
    for column in columns:
        if column is None:
            block.add(MISSING)
        elif isinstance(column, Same):
            block.add(encoded(column.value))
        elif isinstance(column, Coded):
            pieces += _looked_up(block, [encoded(value) for value in column.values], column.codes)
        elif column.dtype.kind == "S":
            block.add(_length(column.dtype.itemsize), column)
        elif column.dtype.kind == "f":
            block.add(_length(8), column.astype(">f8"))
        else:
            pieces += _numbers(block, column)  # type: ignore[arg-type]
    block.add(after)
    pieces += block.taken(rows)
    joined = pc.binary_join_element_wise(*pieces, b"") if len(pieces) > 1 else pieces[0]
    return pa.repeat(joined, rows) if isinstance(joined, pa.Scalar) else joined


def cut(column: Column | None, piece: slice) -> Column | None:
    """Some of a column's rows."""
    if column is None or isinstance(column, Same):
        return column
    return Coded(column.codes[piece], column.values) if isinstance(column, Coded) else column[piece]


def each(rows: pa.BinaryArray) -> Iterator[bytes]:
    """The rows, one by one."""
    _, ends, data = rows.buffers()
    whole = data.to_pybytes() if data is not None else b""
    places = np.frombuffer(ends, dtype=np.int32)[rows.offset : rows.offset + len(rows) + 1].tolist()
    return (whole[start:end] for start, end in pairwise(places))


def side_by_side(*parts: bytes | Text | Bytes) -> list[bytes]:
    """Row by row, the parts one after the other; bytes stand in every row."""
    block = _Block()
    for part in parts:
        if isinstance(part, bytes):
            block.add(part)
        else:
            block.add(b"", part)
    rows = next(len(part) for part in parts if not isinstance(part, bytes))
    return list(each(block.taken(rows)[0]))


def digits(values: Whole, width: int) -> Bytes:
    """Decimals of so many digits, one row a value."""
    groups = -(-width // 4)
    found = np.empty((len(values), groups), dtype=np.uint32)
    for group in reversed(range(groups)):
        values, rest = np.divmod(values, _FOUR)
        found[:, group] = _FOUR_DIGITS[rest]
    return found.view(np.uint8)[:, 4 * groups - width :]


def texts(rows: Sequence[bytes]) -> Text:
    """Texts of one length."""
    return np.frombuffer(b"".join(rows), dtype=f"S{len(rows[0])}" if rows else "S1")


def prefixed(size: int) -> bytes:
    """The length that goes before a value of so many bytes."""
    return _length(size)


def encoded(value: Value | None) -> bytes:
    """One value as it is hashed."""
    if value is None:
        return MISSING
    data = value if isinstance(value, bytes) else value.encode() if isinstance(value, str) else b"%d" % value
    return _length(len(data)) + data


class _Block:
    """Columns that are as wide in every row, side by side until one comes that is not."""

    def __init__(self) -> None:
        self._width = 0
        self._row: list[bytes] = []
        self._fields: list[tuple[int, Any]] = []

    def add(self, same: bytes, own: Any = None) -> None:
        """Bytes that stand in every row, then the row's ``own``: texts, numbers, or a matrix of bytes."""
        self._row.append(same)
        self._width += len(same)
        if own is not None:
            values = own if own.ndim == 1 else np.ascontiguousarray(own).view(f"S{own.shape[1]}").ravel()
            self._fields.append((self._width, values))
            self._row.append(bytes(values.dtype.itemsize))
            self._width += values.dtype.itemsize

    def taken(self, rows: int) -> list[Any]:
        """What there is, as one Arrow value or array, and nothing is left; none where there was nothing."""
        row, fields, width = b"".join(self._row), self._fields, self._width
        self._row, self._fields, self._width = [], [], 0
        if not fields:
            return [pa.scalar(row, pa.binary())] if row else []
        block = np.empty((rows, width), dtype=np.uint8)
        block[:] = np.frombuffer(row, dtype=np.uint8)
        for start, values in fields if rows else ():
            np.ndarray((rows,), values.dtype, block, start, (width,))[:] = values
        ends = np.arange(0, (rows + 1) * width, width, dtype=np.int32)
        return [pa.BinaryArray.from_buffers(pa.binary(), rows, [None, pa.py_buffer(ends), pa.py_buffer(block)])]


def _numbers(block: _Block, values: Whole) -> list[Any]:
    low, high = int(values.min()), int(values.max())
    if low == high:
        block.add(encoded(low))
        return []
    width = len(str(low))
    if low > 0 and width == len(str(high)):
        block.add(_length(width), digits(values, width))
        return []
    unit = 1 if (values % MICRO).any() else MICRO
    if low // unit >= -_TABLED and high // unit < _TABLED:
        multiples = values // unit
        return [*block.taken(len(values)), _decimals(unit).take(pa.array(multiples + (multiples < 0) * 2 * _TABLED))]
    distinct, codes = np.unique(values, return_inverse=True)
    return _looked_up(block, [encoded(value) for value in distinct.tolist()], codes)


@cache
def _decimals(unit: int) -> pa.Array:
    """What is hashed of the first multiples of a unit; of the negative ones, from the end."""
    return pa.array([encoded(number * unit) for number in (*range(_TABLED), *range(-_TABLED, 0))], pa.binary())


def _looked_up(block: _Block, table: Sequence[bytes], codes: Whole) -> list[Any]:
    if len({len(value) for value in table}) == 1:
        block.add(b"", np.frombuffer(b"".join(table), dtype=f"S{len(table[0])}")[codes])
        return []
    return [*block.taken(len(codes)), pa.array(table, pa.binary()).take(pa.array(codes))]
