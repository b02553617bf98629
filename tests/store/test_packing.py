"""Columns packed into bytes are, row by row, what the chain hashes of one entry after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from credit_core.importers.bulk_rows import Chains, Group
from credit_core.store import chain
from credit_core.store.packing import MISSING, PIECE_ROWS, Coded, Same, cut, each, packed
from credit_core.store.schema import ledger_entries

WHOLE = {
    "one": [7, 7, 7],
    "of one width": [10**15 + 1, 10**15, 2 * 10**15],
    "of several widths": [9, 10, 0],
    "negative": [-1, 5, -16_384],
    "credits": [-3_000_000, 0, 12_000_000],
    "far apart": [-(2**63), 2**63 - 1, 1],
}
WORDS: list[Any] = ["", "é" * 200, "jazz", None]


def by_the_chain(rows: list[dict[str, Any]]) -> list[bytes]:
    """The bytes before the details, by the slow way."""
    found = []
    for row in rows:
        values = chain.encoded({name: row.get(name) for name in chain.HASHED})
        found.append(b"".join(MISSING if one is None else len(one).to_bytes(4, "big") + one for one in values))
    return found


@pytest.mark.parametrize("numbers", WHOLE.values(), ids=WHOLE)
def test_numbers_reals_and_texts_are_packed_as_the_chain_hashes_them(numbers: list[int]) -> None:
    reals, legs = [0.0, -1.5, 1e300], ["a1", "b2", "c3"]
    rows = [
        {"seq": number, "surplus": real, "leg_id": leg, "kind": "grant", "genre": word, "d_avail_uc": 5}
        for number, real, leg, word in zip(numbers, reals, legs, WORDS[1:], strict=True)
    ]
    columns: dict[str, Any] = {
        "seq": np.asarray(numbers), "surplus": np.asarray(reals), "leg_id": np.asarray(legs, dtype="S2"),
        "kind": Same("grant"), "genre": Coded(np.asarray([1, 2, 3]), WORDS), "d_avail_uc": np.full(3, 5),
    }  # fmt: skip
    assert list(each(packed(map(columns.get, chain.HASHED), 3))) == by_the_chain(rows)
    assert list(each(packed(map(columns.get, chain.HASHED), 3, b"!"))) == [one + b"!" for one in by_the_chain(rows)]
    last = [cut(columns.get(name), slice(2, 3)) for name in chain.HASHED]
    assert list(each(packed(last, 1))) == by_the_chain(rows[2:])


def test_rows_of_which_nothing_differs_are_as_many() -> None:
    assert list(each(packed([Same("x"), None], 2))) == [b"\x00\x00\x00\x01x" + MISSING] * 2


def test_entries_of_an_account_that_come_in_another_order_than_that_of_time_are_refused() -> None:
    ids = np.asarray([b"a"])
    chains = Chains(ids, ids, {column.name for column in ledger_entries.columns}, hashed=True)
    early, late = (Group(np.zeros(1, dtype=np.int64), np.asarray([at]), {"kind": Same("grant")}) for at in (1, 2))
    with pytest.raises(ValueError, match="order"):
        chains.append([late, early])


def test_a_chain_goes_on_from_piece_to_piece() -> None:
    ids, many = np.asarray([b"a"]), PIECE_ROWS + 2
    chains = Chains(ids, ids, {column.name for column in ledger_entries.columns}, hashed=True)
    found = chains.append([Group(np.zeros(many, dtype=np.int64), np.arange(many), {"kind": Same("grant")})])
    assert found is not None
    rows = found.table()
    assert rows["prev_hash"][0].as_py() == chain.GENESIS
    assert rows["prev_hash"][1:].to_pylist() == rows["hash"][:-1].to_pylist()
    assert rows["seq"].to_pylist() == list(range(1, many + 1))
    assert chains.heads == [rows["hash"][-1].as_py()]
