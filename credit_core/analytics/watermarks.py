"""Which entries are to be copied: statements on ``ledger_entries`` by the watermark that a copy has come to."""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
    Select,
    String,
    bindparam,
    cast,
    literal,
    literal_column,
    select,
    tuple_,
)
from sqlalchemy.types import TypeEngine, UserDefinedType

from credit_core.analytics.relations import ENTRY_COLUMNS
from credit_core.analytics.statements import columns_of
from credit_core.store.schema import ledger_entries

#: Parameters of statements that are kept.
AFTER_TX, AFTER_ID, MOST = "after_tx", "after_id", "most"


class _Xid8(UserDefinedType[int]):
    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "xid8"


#: Made by the migration, on PostgreSQL alone.
TX: ColumnElement[Any] = literal_column("ledger_entries.tx", _Xid8())
_ENDED = literal_column("pg_snapshot_xmin(pg_current_snapshot())", _Xid8())
TX_NUMBER = cast(cast(TX, String), BigInteger).label("tx")


def entry_place() -> ColumnElement[Any]:
    """Where an entry stands in the order in which entries are copied."""
    return tuple_(TX, ledger_entries.c.id)


def entries_where(*extra: ColumnElement[Any]) -> Select[Any]:
    """The columns of ``ledger_entries`` that are copied."""
    return select(*columns_of(ledger_entries, ENTRY_COLUMNS), *extra)


def between(low: int, high: int) -> Select[Any]:
    """Entries with low < id ≤ high, in order."""
    ids = ledger_entries.c.id
    return entries_where().where(ids > low, ids <= high).order_by(ids)


@cache
def after_tx() -> Select[Any]:
    """Entries after a watermark that may be copied, in order, at most so many; behind them their transaction and the hash."""
    after = tuple_(cast(bindparam(AFTER_TX, type_=String()), _Xid8()), bindparam(AFTER_ID, type_=BigInteger()))
    found = entries_where(TX_NUMBER, ledger_entries.c.hash).where(TX < _ENDED, entry_place() > after)
    return found.order_by(TX, ledger_entries.c.id).limit(bindparam(MOST, type_=Integer()))


def settled_after(tx: int, last_id: int) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """Conditions: after a watermark, and every transaction up to the entry's own has ended."""
    return TX < _ENDED, entry_place() > bound(tx, last_id)


def bound(tx: int, last_id: int) -> ColumnElement[Any]:
    """A watermark to compare :func:`entry_place` with."""
    return tuple_(cast(cast(inline(str(tx), String()), String), _Xid8()), inline(last_id, BigInteger()))


def inline(value: int | str, kind: TypeEngine[Any]) -> ColumnElement[Any]:
    """A value that SQLAlchemy renders into the statement: ADBC reads by COPY, four times as fast, where nothing is bound."""
    return literal(value, kind, literal_execute=True)
