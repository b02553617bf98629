"""The rows behind a figure: for the screen, and streamed as CSV that no spreadsheet takes for formulas."""

from __future__ import annotations

import io
from typing import IO

import pandas as pd
import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
import pyarrow.csv  # type: ignore[import-untyped]
from sqlalchemy import ColumnElement, select, true

from credit_core.analytics import relations
from credit_core.analytics.filters import Filters
from credit_core.analytics.sync import Facts
from credit_core.units import FORMULA, spreadsheet_text

_TIMES = ("occurred_at", "recorded_at")


def rows_behind(facts: Facts, filters: Filters, kept: ColumnElement[bool] | None = None) -> pa.RecordBatchReader:
    """The ledger entries behind the filter, oldest first, as a stream of Arrow batches; instants in microseconds.

    ``kept`` narrows them further: a condition on ``facts``.
    """
    f = relations.facts.c
    columns = [column for column in f if column.name not in ("hour", "dow")]
    return facts.reader(select(*columns).where(_behind(filters, kept)).order_by(f.occurred_at, f.id))


def rows_frame(
    facts: Facts, filters: Filters, limit: int = 200, kept: ColumnElement[bool] | None = None
) -> pd.DataFrame:
    """The newest of the entries behind the filter, newest first, for the screen."""
    f = relations.facts.c
    columns = [column for column in f if column.name not in ("hour", "dow")]
    behind = select(*columns).where(_behind(filters, kept))
    return facts.frame(behind.order_by(f.occurred_at.desc(), f.id.desc()).limit(limit))


def _behind(filters: Filters, kept: ColumnElement[bool] | None) -> ColumnElement[bool]:
    return relations.behind(relations.facts, filters) & (true() if kept is None else kept)


def write_csv(facts: Facts, filters: Filters, handle: IO[bytes], kept: ColumnElement[bool] | None = None) -> int:
    """Write all entries behind the filter, batch by batch; returns how many. Instants in the reporting zone, ISO 8601."""
    reader = rows_behind(facts, filters, kept)
    writer = None
    rows = 0
    for batch in reader:
        table = _neutralised(_told(pa.Table.from_batches([batch]), facts.zone))
        if writer is None:
            writer = pyarrow.csv.CSVWriter(handle, table.schema)
        writer.write_table(table)
        rows += table.num_rows
    if writer is None:
        writer = pyarrow.csv.CSVWriter(handle, reader.schema)
    writer.close()
    return rows


def csv_bytes(facts: Facts, filters: Filters, kept: ColumnElement[bool] | None = None) -> bytes:
    """:func:`write_csv` into memory."""
    buffer = io.BytesIO()
    write_csv(facts, filters, buffer, kept)
    return buffer.getvalue()


def to_csv(frame: pd.DataFrame) -> bytes:
    """Any frame as CSV, its text cells and headings made harmless."""
    safe = frame.copy()
    for name in safe.columns:
        if not (pd.api.types.is_numeric_dtype(safe[name]) or pd.api.types.is_datetime64_any_dtype(safe[name])):
            safe[name] = safe[name].map(spreadsheet_text)
    safe.columns = pd.Index([spreadsheet_text(str(name)) for name in safe.columns])
    # RFC 4180's line ends, so that a bare carriage return within a cell is quoted.
    return safe.to_csv(index=False, lineterminator="\r\n").encode()


def _told(table: pa.Table, zone: str) -> pa.Table:
    for name in _TIMES:
        instants = table[name].cast(pa.timestamp("us", "UTC")).cast(pa.timestamp("us", zone))
        told = pc.strftime(instants, format="%Y-%m-%dT%H:%M:%S%z")
        table = table.set_column(table.schema.get_field_index(name), name, told)
    return table


def _neutralised(table: pa.Table) -> pa.Table:
    for number, field in enumerate(table.schema):
        if pa.types.is_string(field.type) and field.name not in _TIMES:
            cells = table[number]
            risky = pc.match_substring_regex(cells, FORMULA)
            table = table.set_column(
                number, field.name, pc.if_else(risky, pc.binary_join_element_wise("'", cells, ""), cells)
            )
    return table
