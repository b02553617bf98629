"""The hash chain of an account (SPEC 2): each entry's SHA-256 covers its own columns and the entry before it.

Input of the hash, in the order of :data:`HASHED`: each value as a 4-byte big-endian length and its bytes; a missing value
is the length 0xFFFFFFFF alone. Integers and flags are ASCII decimals, reals IEEE 754 binary64 big-endian, instants
microseconds as decimals, text UTF-8. ``details`` enters as SHA-256 over the deployment's salt and its canonical JSON. The
row id and the database's transaction id stay out.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Mapping
from datetime import datetime
from operator import itemgetter
from typing import Any

from sqlalchemy import Float, Integer, LargeBinary, Text

from credit_core import units
from credit_core.store.columns import Flag, Instant
from credit_core.store.schema import ledger_entries

_UNHASHED = ("id", "details", "prev_hash", "hash")
#: Columns in hash order; ``details`` and ``prev_hash`` follow them.
HASHED = tuple(column.name for column in ledger_entries.columns if column.name not in _UNHASHED)
GENESIS = bytes(32)
_MISSING = b"\xff\xff\xff\xff"
_values = itemgetter(*HASHED)
_length = struct.Struct(">I").pack
_LENGTHS = tuple(_length(number) for number in range(256))


def _decimal_us(at: datetime) -> bytes:
    return b"%d" % units.to_us(at)


#: By the column's own type: reals that happen to be whole are still hashed as reals, whatever Python type carries them.
_ENCODERS: Mapping[type, Callable[[Any], bytes]] = {
    Text: str.encode,
    Integer: b"%d".__mod__,
    Flag: b"%d".__mod__,
    Float: struct.Struct(">d").pack,
    Instant: _decimal_us,
    LargeBinary: bytes,
}
_ENCODED = tuple(
    next(encoded for kind, encoded in _ENCODERS.items() if isinstance(ledger_entries.c[name].type, kind))
    for name in HASHED
)


def entry_hash(row: Mapping[str, Any], prev_hash: bytes, salt: bytes) -> bytes:
    """SHA-256 of one entry, 32 bytes. ``row`` holds every column of :data:`HASHED` and ``details``."""
    parts: list[bytes] = []
    add = parts.append
    for value, encoded in zip(_values(row), _ENCODED, strict=True):
        if value is None:
            add(_MISSING)
            continue
        data = encoded(value)
        size = len(data)
        add(_LENGTHS[size] if size < 256 else _length(size))
        add(data)
    details = row["details"]
    parts.append(_MISSING if details is None else _details_digest(details, salt))
    parts.append(prev_hash)
    return hashlib.sha256(b"".join(parts)).digest()


def _details_digest(details: Any, salt: bytes) -> bytes:
    canonical = json.dumps(details, sort_keys=True, separators=(",", ":")).encode()
    return hashlib.sha256(salt + canonical).digest()
