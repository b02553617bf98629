"""PostgreSQL: prepared statements that travel together, in one round trip (docs/decisions/0003-hot-path.md).

psycopg's own pipeline costs more in Python than the statements cost the server, so this speaks to libpq beneath it.
"""

from __future__ import annotations

import json
import select
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, NamedTuple

import psycopg
from psycopg import abc
from psycopg.adapt import Loader, Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, ExecStatus, TransactionStatus
from psycopg.pq.abc import PGconn, PGresult
from sqlalchemy import Connection

_LINK = "titrate_link"
_FAILED = (ExecStatus.FATAL_ERROR, ExecStatus.BAD_RESPONSE)


class Step(NamedTuple):
    """One execution of the statement ``name``, whose text is ``sql``. Of ``values`` the ``formats`` say whether each is binary."""

    name: bytes
    sql: bytes
    values: Sequence[bytes | None]
    formats: Sequence[int] = ()


class _Documents(Loader):
    """JSON of columns that are mostly empty lists."""

    def load(self, data: Any) -> Any:
        document = bytes(data)
        return [] if document == b"[]" else json.loads(document)


@dataclass(slots=True)
class _Link:
    """What belongs to one connection of the driver, as long as it lives."""

    driver: psycopg.Connection[Any]
    server: PGconn
    #: Loads rows; it keeps what it has found out about the types of columns.
    loader: abc.Transformer
    #: Waits for something to read.
    poll: select.poll
    #: Names of the statements that the session has prepared.
    known: set[bytes] = field(default_factory=set)


_COMMIT = Step(b"COMMIT", b"COMMIT", ())


def fetched(connection: Connection, steps: Sequence[Step], *, begin: bool = True) -> list[list[tuple[Any, ...]]]:
    """Run the steps in order within the transaction of ``connection``, begun where need be unless ``begin`` is off; their rows."""
    link = _link(connection)
    if not begin and len(steps) == 1 and _is_idle(link):
        results = [_alone(connection, link, steps[0])]
    else:
        results = [result for result in _sent(connection, steps, begin=begin) if result.status == ExecStatus.TUPLES_OK]
    found = []
    for result in results:
        link.loader.set_pgresult(result)
        found.append(link.loader.load_rows(0, result.ntuples, tuple))
    return found


def written(connection: Connection, steps: Sequence[Step], *, commit: bool) -> None:
    """As :func:`fetched`, for statements without rows. ``commit`` sends the COMMIT along: nothing may follow it."""
    _sent(connection, steps, commit=commit)


def changed_alone(connection: Connection, step: Step) -> int:
    """Run one statement as a transaction of its own, or commit the one that has begun with it; the number of rows it changed."""
    link = _link(connection)
    if _is_idle(link):
        return _alone(connection, link, step).command_tuples or 0
    results = _sent(connection, [step], commit=True)
    return next(result.command_tuples for result in reversed(results) if result.command_tuples is not None)


def copied(connection: Connection, table: str, columns: Sequence[str], rows: Iterator[Sequence[bytes | None]]) -> None:
    """Many new rows of one table: COPY, with the constraints, defaults and triggers of an INSERT."""
    names = ", ".join(f'"{name}"' for name in columns)
    with (
        _link(connection).driver.cursor() as cursor,
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


def _link(connection: Connection) -> _Link:
    info = connection.info
    link: _Link | None = info.get(_LINK)
    if link is None:
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        cursor = driver.cursor()
        cursor.adapters.register_loader("jsonb", _Documents)
        poll = select.poll()
        poll.register(driver.pgconn.socket, select.POLLIN)
        link = info[_LINK] = _Link(driver, driver.pgconn, Transformer(cursor), poll)
    return link


def _is_idle(link: _Link) -> bool:
    """Whether no transaction has begun, and one of the session's own kind would do."""
    return link.server.transaction_status == TransactionStatus.IDLE and link.driver.isolation_level is None


def _alone(connection: Connection, link: _Link, step: Step) -> PGresult:
    if step.name not in link.known:
        _asked(connection, link, lambda server: server.send_prepare(step.name, step.sql))
        link.known.add(step.name)
    return _asked(
        connection, link, lambda server: server.send_query_prepared(step.name, step.values, step.formats or None)
    )


def _asked(connection: Connection, link: _Link, send: Callable[[PGconn], None]) -> PGresult:
    """One exchange outside of any transaction: an error of the commit is a result after that of the statement."""
    server = link.server
    answers: list[PGresult] = []
    try:
        if server.status != ConnStatus.OK:
            raise psycopg.OperationalError("the connection is closed")
        send(server)
        while True:
            _await(link)
            result = server.get_result()
            if result is None:
                break
            answers.append(result)
    except BaseException:
        connection.invalidate()
        raise
    for result in answers:
        if result.status in _FAILED:
            raise _failure(link, result)
    return answers[0]


def _failure(link: _Link, result: PGresult) -> psycopg.Error:
    error = error_from_result(result, link.driver.info.encoding)
    if isinstance(error, psycopg.errors.InvalidSqlStatementName):
        link.known.clear()
    return error


def _sent(connection: Connection, steps: Sequence[Step], *, commit: bool = False, begin: bool = True) -> list[PGresult]:
    link = _link(connection)
    if link.server.status != ConnStatus.OK:
        raise psycopg.OperationalError("the connection is closed")
    try:
        answers, asked = _exchanged(link, steps, commit=commit, begin=begin)
    except BaseException:
        # Half an exchange is still in the socket: nobody may use this connection again.
        connection.invalidate()
        raise
    for result, name in zip_longest(answers, asked):
        if result is not None and result.status in _FAILED:
            raise _failure(link, result)
        if name is not None:
            link.known.add(name)
    return answers


def _await(link: _Link) -> None:
    """Until a result is there. libpq itself would wait with the interpreter's lock held, and stop every other thread."""
    server = link.server
    if not server.is_busy():
        return
    unsent = server.flush()
    while server.is_busy():
        if unsent:
            link.poll.modify(server.socket, select.POLLIN | select.POLLOUT)
            link.poll.poll()
            link.poll.modify(server.socket, select.POLLIN)
        else:
            link.poll.poll()
        server.consume_input()
        unsent = server.flush()


def _exchanged(
    link: _Link, steps: Sequence[Step], *, commit: bool, begin: bool
) -> tuple[list[PGresult], list[bytes | None]]:
    """Send everything, then read everything: the results, and of those that prepared a statement its name."""
    driver, server, known = link.driver, link.server, link.known
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
        _await(link)
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
