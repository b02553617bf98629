"""Statements of the hot path, compiled once per engine and run on the driver itself.

SQLAlchemy builds the statement and converts the values; what is left out is its per-execution bookkeeping, which costs
about three times the statement itself on SQLite, and on PostgreSQL the round trip per statement
(docs/decisions/0003-hot-path.md).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from itertools import chain
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import Connection, Dialect, Insert, Select, Table, bindparam, select, text
from sqlalchemy.dialects.postgresql import psycopg
from sqlalchemy.sql.dml import UpdateBase

from credit_core.store import pipeline
from credit_core.store.columns import OWN_TYPES, encoder, is_binary

_Convert = Callable[[Any], Any]
_Values = Mapping[str, Any]
#: From a row to its values as PostgreSQL takes them.
_Send = Callable[[_Values], list[bytes | None]]
#: From here on COPY is faster than as many inserts.
_MANY = 50
_PLACE = re.compile(r"\$(\d+)")


class _Form(NamedTuple):
    sql: str
    name: bytes
    text: bytes
    values: Callable[[_Values], tuple[Any, ...]]
    binds: tuple[tuple[int, _Convert], ...]
    results: tuple[tuple[int, _Convert], ...]
    copy_to: str | None
    keys: tuple[str, ...]
    #: PostgreSQL: the values of a row as they are sent, and for each of them whether it is binary.
    send: _Send | None
    formats: tuple[int, ...]


#: The common table expression that a guarded statement asks whether the guard has hit its row.
_HELD = text("EXISTS (SELECT FROM held)")


class Prepared:
    """A select or data-changing statement. ``keys`` are the columns that an insert fills."""

    def __init__(
        self,
        statement: Select[Any] | UpdateBase | Callable[[Dialect], Insert],
        keys: Sequence[str] = (),
        *,
        joins: bool = False,
        sender: Callable[[Sequence[str]], _Send] | None = None,
    ) -> None:
        """Nothing is compiled before the first use. What each engine says in its own words is a function of the dialect.

        ``joins``: of the rows it touches no other joining statement of a transaction touches any, so that on PostgreSQL they
        may run as one. ``sender`` gives, for the names of the values, how a row's are sent to PostgreSQL; else each by its type.
        """
        self._sender = sender
        self._statement = statement
        self.joins = joins
        self._keys = tuple(keys)
        self._forms: dict[str, _Form] = {}
        self._guarded: _Form | None = None

    def rows(self, connection: Connection, **values: Any) -> list[tuple[Any, ...]]:
        """Run a select and return its rows, converted."""
        return fetch(connection, [(self, values)])[0]

    def run(self, connection: Connection, rows: Sequence[_Values]) -> None:
        """Run an insert, update or delete once per row."""
        write(connection, [(self, rows)])

    def _form(self, dialect: Dialect) -> _Form:
        form = self._forms.get(dialect.name)
        if form is None:
            form = self._forms[dialect.name] = self._compiled(dialect)
        return form

    def _guarded_form(self, dialect: Dialect) -> _Form:
        """PostgreSQL: the same where a guard, named ``held``, has hit its row."""
        if self._guarded is None:
            self._guarded = self._compiled(dialect, guarded=True)
        return self._guarded

    def _compiled(self, dialect: Dialect, *, guarded: bool = False) -> _Form:
        postgres = dialect.name == "postgresql"
        statement = self._statement if isinstance(self._statement, Select | UpdateBase) else self._statement(dialect)
        if guarded:
            statement = self._where_held(statement)
        compiled: Any = statement.compile(
            dialect=psycopg.dialect(paramstyle="numeric_dollar") if postgres else dialect,  # type: ignore[no-untyped-call]
            column_keys=list(self._keys) if isinstance(statement, Insert) and self._keys and not guarded else None,
        )
        names = tuple(compiled.positiontup)
        types = [compiled.binds[name].type for name in names]
        columns = statement.selected_columns if isinstance(statement, Select) else ()
        plain = isinstance(statement, Insert) and statement._post_values_clause is None
        table = statement.table if plain and isinstance(statement, Insert) and set(names) == set(self._keys) else None
        send = None
        if postgres:
            send = _sender(names, types) if self._sender is None else self._sender(names)
        return _Form(
            sql=compiled.string,
            text=compiled.string.encode(),
            name=_name(compiled.string),
            values=_getter(names),
            binds=_conversions(types, dialect, 0),
            results=_conversions([column.type for column in columns], dialect, 1),
            copy_to=table.name if isinstance(table, Table) else None,
            keys=names,
            send=send,
            formats=tuple(int(is_binary(kind)) for kind in types),
        )

    def _where_held(self, statement: Any) -> Any:
        if not isinstance(statement, Insert):
            return statement.where(_HELD)
        columns = statement.table.c
        values = select(*(bindparam(name, type_=columns[name].type) for name in self._keys)).where(_HELD)
        return statement.from_select(list(self._keys), values, include_defaults=False)


def _getter(names: tuple[str, ...]) -> Callable[[_Values], tuple[Any, ...]]:
    return itemgetter(*names) if len(names) > 1 else lambda row: (row[names[0]],)


def _sender(names: tuple[str, ...], types: Sequence[Any]) -> _Send:
    values, encoders = _getter(names), tuple(encoder(kind) for kind in types)
    return lambda row: [
        None if value is None else encode(value) for value, encode in zip(values(row), encoders, strict=True)
    ]


def _sent(form: _Form, row: _Values) -> list[bytes | None]:
    assert form.send is not None, "PostgreSQL's forms send"
    return form.send(row)


def _conversions(types: Sequence[Any], dialect: Dialect, way: int) -> tuple[tuple[int, _Convert], ...]:
    """Position and conversion of each value that needs one: the drivers take and give int, float, str and bytes as they are."""
    found = ((index, kind.conversions(dialect)[way]) for index, kind in enumerate(types) if isinstance(kind, OWN_TYPES))
    return tuple((index, convert) for index, convert in found if convert is not None)


def fetch(
    connection: Connection, asked: Sequence[tuple[Prepared, _Values]], *, alone: bool = False
) -> list[list[tuple[Any, ...]]]:
    """Run selects in order, on PostgreSQL in one round trip; the rows of each, converted. ``alone``: they begin no transaction."""
    dialect = connection.dialect
    forms = [statement._form(dialect) for statement, _ in asked]
    found: list[list[tuple[Any, ...]]] = []
    if dialect.name == "postgresql":
        steps = [_step(form, values) for form, (_, values) in zip(forms, asked, strict=True)]
        found = pipeline.fetched(connection, steps, begin=not alone)
    else:
        cursor: Any = connection.connection.cursor()
        try:
            for form, (_, values) in zip(forms, asked, strict=True):
                found.append(cursor.execute(form.sql, _bound(form, values)).fetchall())
        finally:
            cursor.close()
    return [
        [_converted(row, form.results) for row in rows] if form.results else rows
        for form, rows in zip(forms, found, strict=True)
    ]


def write(
    connection: Connection, batches: Iterable[tuple[Prepared, Sequence[_Values]]], *, commit: bool = False
) -> None:
    """Run inserts, updates and deletes in order, each once per row; on PostgreSQL in one round trip, many inserts by COPY.

    ``commit``: the caller commits next, so on PostgreSQL the COMMIT may travel along.
    """
    if connection.dialect.name == "postgresql":
        _write_postgresql(connection, batches, commit=commit)
        return
    cursor = connection.connection.cursor()
    try:
        for statement, rows in batches:
            form = statement._form(connection.dialect)
            if len(rows) == 1:
                cursor.execute(form.sql, _bound(form, rows[0]))
            else:
                cursor.executemany(form.sql, [_bound(form, row) for row in rows])
    finally:
        cursor.close()


def write_if(
    connection: Connection, guard: tuple[Prepared, _Values], batches: Sequence[tuple[Prepared, Sequence[_Values]]]
) -> bool:
    """Run the update ``guard``, and ``batches`` if it changed a row; False where it did not, and nothing is written.

    On PostgreSQL everything is one statement, and its own transaction unless one has begun, which then commits. On SQLite
    the transaction begins here if it has not, and the caller commits it. The first batch inserts.
    """
    statement, values = guard
    if connection.dialect.name == "postgresql":
        pairs = [(prepared, row) for prepared, rows in (*batches[1:], batches[0]) for row in rows]
        sent = _sent(statement._form(connection.dialect), values)
        for prepared, row in pairs:
            sent += _sent(prepared._guarded_form(connection.dialect), row)
        name, sql, formats = _guarded(connection.dialect, statement, *[prepared for prepared, _ in pairs])
        return pipeline.changed_alone(connection, pipeline.Step(name, sql, sent, formats)) > 0
    driver: Any = connection.connection.driver_connection
    if not driver.in_transaction:
        driver.execute("BEGIN IMMEDIATE")
    form = statement._form(connection.dialect)
    if driver.execute(form.sql, _bound(form, values)).rowcount != 1:
        return False
    write(connection, batches)
    return True


def _write_postgresql(
    connection: Connection, batches: Iterable[tuple[Prepared, Sequence[_Values]]], *, commit: bool
) -> None:
    steps: list[pipeline.Step] = []
    batches = list(batches)
    if len(batches) > 1 and all(statement.joins and len(rows) == 1 for statement, rows in batches):
        values: list[bytes | None] = []
        for statement, rows in batches:
            values += _sent(statement._form(connection.dialect), rows[0])
        name, text, formats = _joined(connection.dialect, *[statement for statement, _ in batches])
        pipeline.written(connection, [pipeline.Step(name, text, values, formats)], commit=commit)
        return
    for statement, rows in batches:
        form = statement._form(connection.dialect)
        if form.copy_to is not None and len(rows) >= _MANY:
            if steps:
                pipeline.written(connection, steps, commit=False)
                steps = []
            lines = (pipeline.dumped(_bound(form, row)) for row in rows)
            pipeline.copied(connection, form.copy_to, form.keys, lines)
        else:
            steps.extend(_step(form, row) for row in rows)
    if steps or commit:
        pipeline.written(connection, steps, commit=commit)


@cache
def _joined(dialect: Dialect, *statements: Prepared) -> tuple[bytes, bytes, tuple[int, ...]]:
    """Name, text and formats of one statement that does what ``statements`` do, whose values follow each other."""
    forms = [statement._form(dialect) for statement in statements]
    *first, last = _shifted(forms)
    sql = "WITH " + ", ".join(f"w{number} AS ({one})" for number, one in enumerate(first)) + " " + last
    return _name(sql), sql.encode(), tuple(chain.from_iterable(form.formats for form in forms))


@cache
def _guarded(dialect: Dialect, guard: Prepared, *statements: Prepared) -> tuple[bytes, bytes, tuple[int, ...]]:
    """As :func:`_joined`, where ``guard`` changes a row; nothing else is done where it does not."""
    forms = [guard._form(dialect), *(statement._guarded_form(dialect) for statement in statements)]
    held, *others = _shifted(forms)
    *first, last = others
    named = [f"held AS ({held} RETURNING 1)", *(f"w{number} AS ({one})" for number, one in enumerate(first))]
    sql = f"WITH {', '.join(named)} {last}"
    return _name(sql), sql.encode(), tuple(chain.from_iterable(form.formats for form in forms))


def _shifted(forms: Sequence[_Form]) -> list[str]:
    """The texts of ``forms``, their places numbered on and on."""
    texts: list[str] = []
    before = 0
    for form in forms:
        texts.append(_PLACE.sub(lambda place, shift=before: f"${int(place[1]) + shift}", form.sql))  # type: ignore[misc]
        before += len(form.keys)
    return texts


def _name(sql: str) -> bytes:
    return b"titrate_" + hashlib.blake2b(sql.encode(), digest_size=8).hexdigest().encode()


def _step(form: _Form, values: _Values) -> pipeline.Step:
    return pipeline.Step(form.name, form.text, _sent(form, values), form.formats)


def _bound(form: _Form, values: _Values) -> Sequence[Any]:
    bound = list(form.values(values))
    for index, convert in form.binds:
        if bound[index] is not None:
            bound[index] = convert(bound[index])
    return bound


def _converted(row: tuple[Any, ...], results: tuple[tuple[int, _Convert], ...]) -> tuple[Any, ...]:
    values = list(row)
    for index, convert in results:
        if values[index] is not None:
            values[index] = convert(values[index])
    return tuple(values)
