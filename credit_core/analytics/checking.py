"""Entries checked in columns, by a process of its own: hashes, the links between them, and what the other invariants read.

::

    Checker(salt, folder)   # of one process
        .add(rows)          # entries as the ledger has them, as Arrow, in any order
        .close()            # end of a range

Each entry's hash is worked out with the ``prev_hash`` that it says, so that ranges need nothing of each other; that it is the
hash of the entry before is compared within the range, and at its borders by whoever has all ranges
(:mod:`credit_core.analytics.screening`), from *runs*: entries of one account with consecutive numbers. What is found here is
which accounts to look at: what is wrong with them :mod:`credit_core.store.verify` tells.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterator
from contextlib import closing
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
from sqlalchemy import select

from credit_core.analytics import processes
from credit_core.analytics.few import BEGIN, POSTGRESQL
from credit_core.analytics.lanes import opened
from credit_core.analytics.source import SQLITE
from credit_core.analytics.statements import ONE_BATCH, columns_of, compiled_for
from credit_core.store import chain
from credit_core.store.packing import MISSING, PIECE_ROWS, Coded, Column, Same, Whole, cut, each, packed
from credit_core.store.schema import ledger_entries

_COVERED = (*chain.HASHED, "details")
#: What the queries of ``invariants.sql`` read of entries.
READ = pa.schema(
    [(name, pa.string()) for name in ("account_id", "leg_id", "user_id", "request_id", "lot_id", "kind", "quota_policy", "rule")]
    + [
        (name, pa.int64())
        for name in (
            "seq", "line", "recorded_at", "d_avail_uc", "d_held_uc", "d_count", "counted_at", "images", "config_version",
        )
    ]
    + [("ip_hash", pa.binary())]
)  # fmt: skip
#: Read, and hashed, at a time.
_ROWS = 1 << 16
#: Of so many columns it stands in one number which are missing.
_BITS = 40


class Share(NamedTuple):
    """What one process checks: ranges of ids, each after the first and up to the second, in one state of the ledger."""

    url: str
    snapshot: str | None
    salt: str
    folder: str
    ranges: list[tuple[int, int]]


class Checker:
    """Checks range by range, and writes beside each other what others need of it."""

    def __init__(self, salt: bytes, folder: Path) -> None:
        """``salt``: of the hash of details. ``folder``: for ``entries-*`` and ``runs-*`` Parquet files."""
        self.suspects: set[str] = set()
        self._salt = salt
        self._folder = folder
        self._ranges = 0
        self._links: list[pa.Table] = []
        self._file: pq.ParquetWriter | None = None

    def add(self, rows: pa.Table) -> None:
        """Check the hashes of these entries of the range."""
        rows = rows.combine_chunks()
        broken = np.concatenate([self._unlike(rows, places) for places in _alike(rows)]) if len(rows) else ()
        self.suspects.update(rows["account_id"].take(pa.array(broken, pa.int64())).to_pylist())
        if self._file is None:
            self._file = pq.ParquetWriter(self._path("entries"), READ, compression="lz4")
        self._file.write_table(pa.table([_read(rows[field.name], field.type) for field in READ], schema=READ))
        self._links.append(rows.select(["account_id", "seq", "prev_hash", "hash"]))

    def close(self) -> None:
        """Check the links within the range, and leave its runs."""
        if self._file is None:
            return
        self._file.close()
        pq.write_table(self._runs(pa.concat_tables(self._links).combine_chunks()), self._path("runs"))
        self._file, self._links, self._ranges = None, [], self._ranges + 1

    def _path(self, kind: str) -> Path:
        return self._folder / f"{kind}-{os.getpid()}-{self._ranges}.parquet"

    def _unlike(self, rows: pa.Table, places: Whole) -> Whole:
        """Of entries with the same columns, those that do not match their hash."""
        own = rows.take(pa.array(places))
        columns = [_column(own[name].combine_chunks()) for name in chain.HASHED]
        documents = own["details"]
        bare = documents.null_count == len(documents)
        ends = repeat(b"") if bare else (self._digest(text) for text in documents.to_pylist())
        sha256, broken, number = hashlib.sha256, [], 0
        before, after = (iter(own[name].to_pylist()) for name in ("prev_hash", "hash"))
        for start in range(0, len(places), PIECE_ROWS):
            piece = slice(start, start + PIECE_ROWS)
            rest = min(PIECE_ROWS, len(places) - start)
            bodies = packed([cut(column, piece) for column in columns], rest, MISSING if bare else b"")
            # The bodies end first: nothing of the next piece is taken.
            for body, end, previous, digest in zip(each(bodies), ends, before, after, strict=False):
                if sha256(body + end + previous).digest() != digest:
                    broken.append(number)
                number += 1
        return places[np.asarray(broken, dtype=np.int64)]

    def _digest(self, document: str) -> bytes:
        return chain.details_digest(json.loads(document), self._salt)

    def _runs(self, links: pa.Table) -> pa.Table:
        account = links["account_id"].combine_chunks().dictionary_encode()
        codes, seq = account.indices.to_numpy(), links["seq"].to_numpy()
        order = np.lexsort((seq, codes))
        codes, seq = codes[order], seq[order]
        before, after = (links[name].combine_chunks().take(pa.array(order)) for name in ("prev_hash", "hash"))
        follows = (codes[1:] == codes[:-1]) & (seq[1:] == seq[:-1] + 1)
        linked = pc.equal(before[1:], after[:-1]).to_numpy(zero_copy_only=False)
        torn = np.unique(codes[1:][follows & ~linked])
        self.suspects.update(account.dictionary.take(pa.array(torn)).to_pylist())
        first = np.flatnonzero(np.r_[True, ~follows])
        last = np.r_[first[1:], len(codes)] - 1
        return pa.table(
            {
                "account_id": account.dictionary.take(pa.array(codes[first])),
                "first_seq": seq[first], "first_prev": before.take(pa.array(first)).cast(pa.binary()),
                "last_seq": seq[last], "last_hash": after.take(pa.array(last)).cast(pa.binary()),
            }
        )  # fmt: skip


def _read(values: pa.ChunkedArray, kind: pa.DataType) -> Any:
    # What type a column has that lacks all values, nobody knows.
    return pa.nulls(len(values), kind) if values.null_count == len(values) else values.cast(kind)


def _alike(rows: pa.Table) -> Iterator[Whole]:
    """Places of the rows that lack the same columns."""
    pattern: Whole = np.zeros(len(rows), dtype=np.int64)
    bits = 0
    for name in _COVERED:
        column = rows[name]
        if not 0 < column.null_count < len(rows):
            continue
        pattern |= column.is_null().to_numpy().astype(np.int64) << bits
        bits += 1
        if bits == _BITS:
            kinds, pattern = np.unique(pattern, return_inverse=True)
            bits = len(kinds).bit_length()
    _, kind = np.unique(pattern, return_inverse=True)
    order = np.argsort(kind, kind="stable")
    yield from np.split(order, np.flatnonzero(np.diff(kind[order])) + 1)


def _column(values: pa.Array) -> Column | None:
    """A column that lacks no value, or all."""
    if values.null_count == len(values):
        return None
    if pa.types.is_floating(values.type):
        return values.to_numpy()  # type: ignore[no-any-return]
    if not (pa.types.is_string(values.type) or pa.types.is_binary(values.type)):
        return values.cast(pa.int64()).to_numpy()  # type: ignore[no-any-return]
    width = pc.min_max(pc.binary_length(values)).as_py()
    if width["min"] == width["max"]:
        if not width["min"]:
            return Same(b"")
        _, ends, data = values.buffers()
        start = int(np.frombuffer(ends, dtype=np.int32)[values.offset])
        return np.frombuffer(data, dtype=f"S{width['min']}", count=len(values), offset=start)
    found = values.dictionary_encode()
    return Coded(found.indices.to_numpy(), found.dictionary.to_pylist())


def check(share: Share) -> list[str]:
    """Check the share; returns the accounts to be looked at."""
    checker = Checker(bytes.fromhex(share.salt), Path(share.folder))
    with closing(opened(share.url)) as connection:
        if share.snapshot is not None:
            for statement in (
                BEGIN,
                f"SET TRANSACTION SNAPSHOT '{share.snapshot}'",
            ):
                with connection.cursor() as cursor:
                    cursor.execute(statement)
        for low, high in share.ranges:
            for start in range(low, high, _ROWS):
                rows = _entries(connection, share, start, min(start + _ROWS, high))
                if len(rows):
                    checker.add(rows)
            checker.close()
    return sorted(checker.suspects)


def _entries(connection: Any, share: Share, after: int, up_to: int) -> pa.Table:
    entry = ledger_entries.c
    piece = select(*columns_of(ledger_entries, [*_COVERED, "prev_hash", "hash"])).where(
        entry.id > after, entry.id <= up_to
    )
    on_sqlite = share.snapshot is None
    sql, parameters = compiled_for(piece, SQLITE if on_sqlite else POSTGRESQL)
    # SQLite's columns get their types from the first batch: from all rows, so.
    options = {"adbc.sqlite.query.batch_rows": ONE_BATCH} if on_sqlite else None
    with connection.cursor(adbc_stmt_kwargs=options) as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetch_arrow_table()


def main(asked: TextIO, answers: TextIO) -> None:
    """Check each share that a line names, and answer with the accounts that are suspected."""
    processes.serve(asked, answers, lambda share: {"accounts": check(Share(*share))})


if __name__ == "__main__":
    main(sys.stdin, sys.stdout)
