"""Statements of the hot path, compiled once per engine and run on the driver's own cursor.

SQLAlchemy builds the statement and converts the values; what is left out is its per-execution bookkeeping, which costs
about three times the statement itself on SQLite (docs/decisions/0003-hot-path.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Dialect, Insert, Select
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.types import TypeDecorator

_Convert = Callable[[Any], Any]


class _Form(NamedTuple):
    sql: str
    names: tuple[str, ...]
    positional: bool
    binds: tuple[_Convert | None, ...]
    results: tuple[tuple[int, _Convert], ...]


class Prepared:
    """A select or data-changing statement. ``keys`` are the columns that an insert fills."""

    def __init__(self, statement: Select[Any] | UpdateBase, keys: Sequence[str] = ()) -> None:
        """Nothing is compiled before the first use."""
        self._statement = statement
        self._keys = list(keys) or None
        self._forms: dict[str, _Form] = {}

    def rows(self, connection: Connection, **values: Any) -> list[tuple[Any, ...]]:
        """Run a select and return its rows, converted."""
        form = self._form(connection.dialect)
        cursor = connection.connection.cursor()
        try:
            cursor.execute(form.sql, _bound(form, values))
            found: Any = cursor.fetchall()
        finally:
            cursor.close()
        return [_converted(row, form.results) for row in found] if form.results else found

    def run(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Run an insert, update or delete once per row."""
        form = self._form(connection.dialect)
        cursor = connection.connection.cursor()
        try:
            if len(rows) == 1:
                cursor.execute(form.sql, _bound(form, rows[0]))
            else:
                cursor.executemany(form.sql, [_bound(form, row) for row in rows])
        finally:
            cursor.close()

    def _form(self, dialect: Dialect) -> _Form:
        form = self._forms.get(dialect.name)
        if form is None:
            form = self._forms[dialect.name] = self._compiled(dialect)
        return form

    def _compiled(self, dialect: Dialect) -> _Form:
        keys = self._keys if isinstance(self._statement, Insert) else None
        compiled: Any = self._statement.compile(dialect=dialect, column_keys=keys)
        names = tuple(compiled.positiontup or compiled.binds)
        columns = self._statement.selected_columns if isinstance(self._statement, Select) else ()
        # The drivers already give int, float, str and bytes; only the schema's own types need converting.
        processors = [
            column.type.dialect_impl(dialect).result_processor(dialect, None)
            if isinstance(column.type, TypeDecorator)
            else None
            for column in columns
        ]
        return _Form(
            sql=compiled.string,
            names=names,
            positional=compiled.positiontup is not None,
            binds=tuple(compiled.binds[name].type.dialect_impl(dialect).bind_processor(dialect) for name in names),
            results=tuple((index, process) for index, process in enumerate(processors) if process is not None),
        )


def _bound(form: _Form, values: Mapping[str, Any]) -> Any:
    bound = [
        values[name] if convert is None else convert(values[name])
        for name, convert in zip(form.names, form.binds, strict=True)
    ]
    return bound if form.positional else dict(zip(form.names, bound, strict=True))


def _converted(row: tuple[Any, ...], results: tuple[tuple[int, _Convert], ...]) -> tuple[Any, ...]:
    values = list(row)
    for index, convert in results:
        values[index] = convert(values[index])
    return tuple(values)
