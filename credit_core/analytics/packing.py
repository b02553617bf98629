"""Entries of SQLite with all but their reals in one column, a JSON array: ``sqlite3`` takes as long over each value as SQLite over five."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

import orjson
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.csv as pcsv  # type: ignore[import-untyped]
from sqlalchemy import BigInteger, Double, Integer, Select, bindparam, func, select

from credit_core.analytics.relations import ENTRY_COLUMNS, facts
from credit_core.analytics.statements import ARROW, columns_of, in_columns
from credit_core.analytics.watermarks import AFTER_ID, MOST
from credit_core.store.schema import ledger_entries

#: SQLite writes reals into JSON with 15 digits, which is two too few.
_REALS = [name for name in ENTRY_COLUMNS if isinstance(facts.c[name].type, Double)]
_OTHERS = [name for name in ENTRY_COLUMNS if name not in _REALS]
#: What JSON says otherwise than CSV: all but a quote and a backslash.
_ESCAPED = re.compile(r'\\[^"\\]')
_READ = pcsv.ReadOptions(column_names=_OTHERS, use_threads=False)
_PARSED = pcsv.ParseOptions(double_quote=False, escape_char="\\")
_TYPED = pcsv.ConvertOptions(
    column_types={name: ARROW[type(facts.c[name].type)] for name in _OTHERS}, null_values=["null"], strings_can_be_null=True,
    quoted_strings_can_be_null=False, true_values=["1"], false_values=["0"],
)  # fmt: skip


@cache
def packed_after_id() -> Select[Any]:
    """Entries after an id, in order, at most so many: what is packed, each of the reals, and the hash."""
    entry = ledger_entries.c
    packed = func.json_array(*columns_of(ledger_entries, _OTHERS))
    found = select(packed, *columns_of(ledger_entries, _REALS), entry.hash)
    found = found.where(entry.id > bindparam(AFTER_ID, type_=BigInteger())).order_by(entry.id)
    return found.limit(bindparam(MOST, type_=Integer()))


def unpacked(rows: Sequence[tuple[Any, ...]]) -> pa.Table:
    """The rows of :func:`packed_after_id` in the columns of ``ledger_entries`` that are copied."""
    if not rows:
        return in_columns(facts.name, ENTRY_COLUMNS, ())
    packed, *reals = zip(*(row[:-1] for row in rows), strict=True)
    lines = "\n".join(line[1:-1] for line in packed)
    # The parser cuts blocks at ends of lines, of which there is none within a value.
    table = (
        in_columns(facts.name, _OTHERS, [tuple(orjson.loads(line)) for line in packed])
        if _ESCAPED.search(lines)
        else pcsv.read_csv(pa.BufferReader(lines.encode()), _READ, _PARSED, _TYPED)
    )
    for name, values in zip(_REALS, reals, strict=True):
        table = table.append_column(name, pa.array(values, pa.float64()))
    return table.select(ENTRY_COLUMNS).combine_chunks()
