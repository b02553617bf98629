"""Column types that mean the same on SQLite and PostgreSQL."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import REAL, BigInteger, Double, Float, Integer, LargeBinary, String, Text
from sqlalchemy.dialects.postgresql import BOOLEAN, JSONB
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

from credit_core import units

#: What a driver takes or gives as what Python has, or the other way round. None: the same.
Conversion = Callable[[Any], Any] | None


class Instant(TypeDecorator[datetime]):
    """Aware datetime ↔ integer microseconds since the epoch; naive values are refused."""

    impl = BigInteger
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """INTEGER on SQLite (STRICT tables), BIGINT elsewhere."""
        return dialect.type_descriptor(Integer() if dialect.name == "sqlite" else BigInteger())

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """To microseconds."""
        return None if value is None else units.to_us(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:
        """To an aware UTC datetime."""
        return None if value is None else units.from_us(value)

    def conversions(self, dialect: Dialect) -> tuple[Conversion, Conversion]:
        """To and from the driver, of values that are not None."""
        return units.to_us, units.from_us


class Flag(TypeDecorator[bool]):
    """BOOLEAN, or INTEGER 0/1 on SQLite, whose STRICT tables have no booleans."""

    impl = Integer
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """INTEGER on SQLite, BOOLEAN elsewhere."""
        return dialect.type_descriptor(Integer() if dialect.name == "sqlite" else BOOLEAN())

    def process_bind_param(self, value: bool | None, dialect: Dialect) -> Any:
        """To 0/1 on SQLite."""
        return None if value is None else int(value) if dialect.name == "sqlite" else bool(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> bool | None:
        """To bool."""
        return None if value is None else bool(value)

    def conversions(self, dialect: Dialect) -> tuple[Conversion, Conversion]:
        """As :meth:`Instant.conversions`."""
        return (int, bool) if dialect.name == "sqlite" else (bool, None)


class Document(TypeDecorator[Any]):
    """JSON: JSONB on PostgreSQL, TEXT on SQLite."""

    impl = Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """TEXT on SQLite, JSONB elsewhere."""
        return dialect.type_descriptor(Text() if dialect.name == "sqlite" else JSONB(none_as_null=True))

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """To text on SQLite."""
        return _as_text(value) if value is not None and dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """To plain JSON values."""
        return json.loads(value) if isinstance(value, str) else value

    def conversions(self, dialect: Dialect) -> tuple[Conversion, Conversion]:
        """As :meth:`Instant.conversions`; PostgreSQL's driver reads JSON itself."""
        return (_as_text, json.loads) if dialect.name == "sqlite" else (None, None)


#: Types whose values the drivers do not know.
OWN_TYPES = (Instant, Flag, Document)


def _as_text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _decimal_us(at: datetime) -> bytes:
    return b"%d" % units.to_us(at)


def _json(document: Any) -> bytes:
    # Most columns of this type hold an empty list most of the time.
    return b"[]" if document == [] else json.dumps(document).encode()


#: By the column's own type: reals that happen to be whole are still encoded as reals, whatever Python type carries them.
_ENCODERS: Mapping[type[TypeEngine[Any]], Callable[[Any], bytes]] = {
    String: str.encode,
    Integer: b"%d".__mod__,
    Flag: b"%d".__mod__,
    Float: struct.Struct(">d").pack,
    Instant: _decimal_us,
    LargeBinary: bytes,
    Document: _json,
}


def encoder(kind: TypeEngine[Any]) -> Callable[[Any], bytes]:
    """Bytes of a value that is not None, as PostgreSQL takes it for a parameter of this type, and the chain hashes it."""
    return next(encode for own, encode in _ENCODERS.items() if isinstance(kind, own))


def is_binary(kind: TypeEngine[Any]) -> bool:
    """Whether :func:`encoder` gives PostgreSQL's binary format, not its text format."""
    return isinstance(kind, Float | LargeBinary)


def big() -> TypeEngine[Any]:
    """Amounts and counters: 64 bits on both engines."""
    return BigInteger().with_variant(Integer(), "sqlite")


def real() -> TypeEngine[Any]:
    """Binary64 on both engines."""
    return Double().with_variant(REAL(), "sqlite")
