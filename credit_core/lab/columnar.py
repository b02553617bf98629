"""Columns of Arrow as NumPy takes them: whole numbers, fractions, and text as codes of the values there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


class Coded(NamedTuple):
    """Text as places in ``values``; −1 is none."""

    codes: Ints
    values: pa.Array

    def as_numbers(self, numbers: Mapping[str, int], otherwise: int) -> Ints:
        """The number of each row's text; ``otherwise`` where it has none."""
        known = [numbers.get(value, otherwise) for value in self.values.to_pylist()]
        return np.array([*known, otherwise], dtype=np.int64)[self.codes]

    def equals(self, text: str) -> Flags:
        """Rows of this very text."""
        return self.as_numbers({text: 1}, 0) > 0

    def take(self, rows: Ints) -> Coded:
        """These rows alone."""
        return Coded(self.codes[rows], self.values)

    def places_of(self, texts: pa.Array) -> Ints:
        """Places of ``texts`` among the values; −1 where they are not there."""
        return np.asarray(pc.fill_null(pc.index_in(texts, value_set=self.values), -1), dtype=np.int64)


def whole(table: pa.Table, name: str) -> Ints:
    """A column without gaps."""
    return np.asarray(table[name].to_numpy(), dtype=np.int64)


def number(table: pa.Table, name: str, otherwise: float = np.nan) -> Floats:
    """A column whose gaps are ``otherwise``."""
    return np.asarray(pc.fill_null(table[name].cast(pa.float64()), otherwise).to_numpy())


def known(table: pa.Table, name: str) -> Flags:
    """Where a column has a value."""
    return np.asarray(pc.is_valid(table[name]).to_numpy())


def coded(table: pa.Table, name: str) -> Coded:
    """A column of text."""
    return encoded(_one(table[name]))


def encoded(text: pa.Array) -> Coded:
    """Text as codes, in the order of first appearance."""
    found = text.dictionary_encode()
    return Coded(np.asarray(pc.fill_null(found.indices, -1), dtype=np.int64), found.dictionary)


def texts(table: pa.Table, name: str) -> pa.Array:
    """A column of text as one array."""
    return _one(table[name])


def filled(values: Ints, present: Flags, group: Ints) -> Ints:
    """Gaps filled with the last value before them in their group, at a group's beginning with the first one; else −1."""
    places = np.arange(len(values))
    last = np.maximum.accumulate(np.where(present, places, -1)) if len(values) else places
    following = np.minimum.accumulate(np.where(present, places, len(values))[::-1])[::-1] if len(values) else places
    before = np.maximum(last, 0)
    after = np.minimum(following, max(len(values) - 1, 0))
    back = (last >= 0) & (group[before] == group)
    ahead = (following < len(values)) & (group[after] == group)
    return np.where(back, values[before], np.where(ahead, values[after], -1))


def _one(column: Any) -> pa.Array:
    found = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return pa.concat_arrays(found.chunks) if isinstance(found, pa.ChunkedArray) else found
