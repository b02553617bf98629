"""Statements on the ledger in its own dialects, and their results in the copy's types, as Arrow."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Double,
    Integer,
    Select,
    Table,
    Text,
    any_,
    cast,
    func,
    literal,
    select,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Dialect

from credit_core.analytics import relations
from credit_core.store.columns import Document

#: The copy's columns as Arrow has them.
ARROW = {BigInteger: pa.int64(), Boolean: pa.bool_(), Double: pa.float64(), Integer: pa.int32(), Text: pa.string()}
#: More rows than are asked for at once.
ONE_BATCH = 2**30
#: The parameter of conditions that are kept and asked again and again.
WANTED = "wanted"


def within_sqlite(key: ColumnElement[str], values: Sequence[str]) -> ColumnElement[bool]:
    """``key IN values`` as SQLite says it, with one bound parameter."""
    return among_sqlite(key, literal(json.dumps(list(values)), Text()))


def within_postgresql(key: ColumnElement[str], values: Sequence[str]) -> ColumnElement[bool]:
    """``key IN values`` as PostgreSQL says it, with one bound parameter."""
    return among_postgresql(key, literal(json.dumps(list(values)), Text()))


def among_sqlite(key: ColumnElement[str], array: ColumnElement[str]) -> ColumnElement[bool]:
    """``key IN`` the values of a JSON array."""
    return key.in_(select(func.json_each(array).table_valued("value").c.value))


def among_postgresql(key: ColumnElement[str], array: ColumnElement[str]) -> ColumnElement[bool]:
    """``key IN`` the values of a JSON array.

    As an array, by which an index is looked through whatever the number of its values: of a sub-select PostgreSQL takes it that
    there are a hundred, and reads the whole table for fewer than there are.
    """
    values = select(func.jsonb_array_elements_text(cast(array, postgresql.JSONB(none_as_null=True))))
    return key == any_(func.array(values.scalar_subquery()))


def columns_of(source: Table, names: Sequence[str]) -> list[ColumnElement[Any]]:
    """Columns of a ledger table as they are copied: documents as text."""
    return [
        cast(source.c[name], Text).label(name) if isinstance(source.c[name].type, Document) else source.c[name]
        for name in names
    ]


def compiled_for(
    statement: Select[Any], dialect: Dialect, values: Mapping[str, Any] = MappingProxyType({})
) -> tuple[str, list[Any]]:
    """SQL, and its parameters in order; ``values`` are those that a statement that is kept leaves open."""
    compiled = _compiled(statement, dialect)
    known = compiled.params | values
    return str(compiled), [known[name] for name in compiled.positiontup or ()]


@lru_cache(maxsize=64)
def _compiled(statement: Select[Any], dialect: Dialect) -> Any:
    """Statements are told apart by identity: compiled once are those that are kept."""
    return statement.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})


def in_columns(name: str, names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> pa.Table:
    """Rows as Python has them, in the types of the relation ``name``."""
    columns = relations.metadata.tables[name].c
    made = {}
    for column, values in zip(names, zip(*rows, strict=True) if rows else itertools.repeat(()), strict=False):
        kind = ARROW[type(columns[column].type)] if column in columns else None
        # Flags are whole numbers in SQLite.
        made[column] = pa.array(values).cast(kind) if kind == pa.bool_() else pa.array(values, kind)
    return pa.table(made)


def fetched(connection: Any, name: str, sql: str, parameters: Sequence[Any] = ()) -> pa.Table:
    """Rows of a SQLite statement in the types of the relation ``name``."""
    # A column's type is taken from the first batch: one batch, so that it is taken from all rows.
    with connection.cursor(adbc_stmt_kwargs={"adbc.sqlite.query.batch_rows": ONE_BATCH}) as cursor:
        cursor.execute(sql, parameters or None)
        return conformed(name, cursor.fetch_arrow_table())


def conformed(name: str, rows: pa.Table) -> pa.Table:
    """The rows in the types of the relation: what ADBC gives is a guess where a whole column is missing, or holds flags."""
    columns = relations.metadata.tables[name].c
    wanted = [
        pa.field(field.name, ARROW[type(columns[field.name].type)] if field.name in columns else field.type)
        for field in rows.schema
    ]
    return rows.cast(pa.schema(wanted))
