"""PostgreSQL: prepared statements that travel together, in one round trip (docs/decisions/0003-hot-path.md).

psycopg's own pipeline costs more in Python than the statements cost the server, so this speaks to libpq beneath it.
"""

from __future__ import annotations

import json
import select
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

import psycopg
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, ExecStatus, TransactionStatus
from psycopg.pq.abc import PGconn, PGresult
from sqlalchemy import Connection

_KNOWN, _LOADER = "titrate_statements", "titrate_loader"
_FAILED = (ExecStatus.FATAL_ERROR, ExecStatus.BAD_RESPONSE)


class Step(NamedTuple):
    """One execution of the statement ``name``, whose text is ``sql``. Of ``values`` the ``formats`` say whether each is binary."""

    name: bytes
    sql: bytes
    values: Sequence[bytes | None]
    formats: Sequence[int] = ()


_COMMIT = Step(b"COMMIT", b"COMMIT", ())


def fetched(connection: Connection, steps: Sequence[Step], *, begin: bool = True) -> list[list[tuple[Any, ...]]]:
    """Run the steps in order within the transaction of ``connection``, begun where need be unless ``begin`` is off; their rows."""
    if not begin and len(steps) == 1 and _is_idle(connection):
        results = [_alone(connection, steps[0])]
    else:
        results = [result for result in _sent(connection, steps, begin=begin) if result.status == ExecStatus.TUPLES_OK]
    loader = connection.info.get(_LOADER)
    if loader is None:
        # It keeps what it has found out about the types of columns.
        loader = connection.info[_LOADER] = Transformer(_driver(connection))
    found = []
    for result in results:
        loader.set_pgresult(result)
        found.append(loader.load_rows(0, result.ntuples, tuple))
    return found


def written(connection: Connection, steps: Sequence[Step], *, commit: bool) -> None:
    """As :func:`fetched`, for statements without rows. ``commit`` sends the COMMIT along: nothing may follow it."""
    _sent(connection, steps, commit=commit)


def changed_alone(connection: Connection, step: Step) -> int:
    """Run one statement as a transaction of its own, or commit the one that has begun with it; the number of rows it changed."""
    if _is_idle(connection):
        return _alone(connection, step).command_tuples or 0
    results = _sent(connection, [step], commit=True)
    return next(result.command_tuples for result in reversed(results) if result.command_tuples is not None)


def copied(connection: Connection, table: str, columns: Sequence[str], rows: Iterator[Sequence[bytes | None]]) -> None:
    """Many new rows of one table: COPY, with the constraints, defaults and triggers of an INSERT."""
    names = ", ".join(f'"{name}"' for name in columns)
    with (
        _driver(connection).cursor() as cursor,
        cursor.copy(f"COPY {table} ({names}) FROM STDIN".encode()) as copy,
    ):
        for row in rows:
            copy.write(b"\t".join(rb"\N" if value is None else _escaped(value) for value in row) + b"\n")


def dumped(values: Sequence[Any]) -> list[bytes | None]:
    """``values`` in PostgreSQL's text format."""
    return [None if value is None else _DUMP[type(value)](value) for value in values]


_DUMP: Mapping[type, Any] = {
    str: str.encode,
    int: b"%d".__mod__,
    bool: {True: b"t", False: b"f"}.__getitem__,
    float: b"%a".__mod__,
    bytes: lambda value: b"\\x" + value.hex().encode(),
    list: lambda value: json.dumps(value).encode(),
    dict: lambda value: json.dumps(value).encode(),
}


def _escaped(value: bytes) -> bytes:
    if b"\\" in value or b"\n" in value or b"\t" in value or b"\r" in value:
        value = value.replace(b"\\", rb"\\").replace(b"\n", rb"\n").replace(b"\t", rb"\t").replace(b"\r", rb"\r")
    return value


def _driver(connection: Connection) -> psycopg.Connection[Any]:
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    return driver


def _is_idle(connection: Connection) -> bool:
    """Whether no transaction has begun, and one of the session's own kind would do."""
    driver = _driver(connection)
    return driver.pgconn.transaction_status == TransactionStatus.IDLE and driver.isolation_level is None


def _alone(connection: Connection, step: Step) -> PGresult:
    driver = _driver(connection)
    known: set[bytes] = connection.info.setdefault(_KNOWN, set())
    if step.name not in known:
        _asked(connection, driver, lambda server: server.send_prepare(step.name, step.sql))
        known.add(step.name)
    return _asked(
        connection, driver, lambda server: server.send_query_prepared(step.name, step.values, step.formats or None)
    )


def _asked(connection: Connection, driver: psycopg.Connection[Any], send: Callable[[PGconn], None]) -> PGresult:
    """One exchange outside of any transaction: an error of the commit is a result after that of the statement."""
    server = driver.pgconn
    answers: list[PGresult] = []
    try:
        if server.status != ConnStatus.OK:
            raise psycopg.OperationalError("the connection is closed")
        send(server)
        while True:
            _await(server)
            result = server.get_result()
            if result is None:
                break
            answers.append(result)
    except BaseException:
        connection.invalidate()
        raise
    for result in answers:
        if result.status in _FAILED:
            raise _failure(connection, driver, result)
    return answers[0]


def _failure(connection: Connection, driver: psycopg.Connection[Any], result: PGresult) -> psycopg.Error:
    error = error_from_result(result, driver.info.encoding)
    if isinstance(error, psycopg.errors.InvalidSqlStatementName):
        connection.info.setdefault(_KNOWN, set()).clear()
    return error


def _sent(connection: Connection, steps: Sequence[Step], *, commit: bool = False, begin: bool = True) -> list[PGresult]:
    driver = _driver(connection)
    known: set[bytes] = connection.info.setdefault(_KNOWN, set())
    server = driver.pgconn
    if server.status != ConnStatus.OK:
        raise psycopg.OperationalError("the connection is closed")
    try:
        answers, asked = _exchanged(driver, server, steps, known, commit=commit, begin=begin)
    except BaseException:
        # Half an exchange is still in the socket: nobody may use this connection again.
        connection.invalidate()
        raise
    for result, name in zip_longest(answers, asked):
        if result is not None and result.status in _FAILED:
            raise _failure(connection, driver, result)
        if name is not None:
            known.add(name)
    return answers


def _await(server: PGconn) -> None:
    """Until a result is there. libpq itself would wait with the interpreter's lock held, and stop every other thread."""
    if not server.is_busy():
        return
    poll = select.poll()
    unsent = server.flush()
    while server.is_busy():
        poll.register(server.socket, select.POLLIN | select.POLLOUT if unsent else select.POLLIN)
        poll.poll()
        server.consume_input()
        unsent = server.flush()


def _exchanged(
    driver: psycopg.Connection[Any],
    server: PGconn,
    steps: Sequence[Step],
    known: set[bytes],
    *,
    commit: bool,
    begin: bool,
) -> tuple[list[PGresult], list[bytes | None]]:
    """Send everything, then read everything: the results, and of those that prepared a statement its name."""
    asked: list[bytes | None] = []
    new: set[bytes] = set()
    if begin and server.transaction_status == TransactionStatus.IDLE and not driver.autocommit:
        level = driver.isolation_level
        start = b"BEGIN" if level is None else b"BEGIN ISOLATION LEVEL " + level.name.replace("_", " ").encode()
        steps = [Step(start, start, ()), *steps]
    if commit:
        steps = [*steps, _COMMIT]
    server.enter_pipeline_mode()
    for step in steps:
        if step.name not in known and step.name not in new:
            server.send_prepare(step.name, step.sql)
            asked.append(step.name)
            new.add(step.name)
        server.send_query_prepared(step.name, step.values, step.formats or None)
        asked.append(None)
    server.pipeline_sync()
    answers: list[PGresult] = []
    while True:
        _await(server)
        result = server.get_result()
        if result is not None:
            if result.status == ExecStatus.PIPELINE_SYNC:
                break
            answers.append(result)
        elif server.status != ConnStatus.OK:
            failed = next((answer for answer in answers if answer.status in _FAILED), None)
            said = "the connection was lost" if failed is None else failed.get_error_message()
            raise psycopg.OperationalError(said, info=failed)
    server.exit_pipeline_mode()
    return answers, asked
