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
from collections.abc import Mapping
from datetime import datetime
from operator import itemgetter
from typing import Any

from credit_core import units
from credit_core.store.schema import ledger_entries

_UNHASHED = ("id", "details", "prev_hash", "hash")
#: Columns in hash order; ``details`` and ``prev_hash`` follow them.
HASHED = tuple(column.name for column in ledger_entries.columns if column.name not in _UNHASHED)
GENESIS = bytes(32)
_MISSING = b"\xff\xff\xff\xff"
_values = itemgetter(*HASHED)
_length = struct.Struct(">I").pack
_LENGTHS = tuple(_length(number) for number in range(256))
_real = struct.Struct(">d").pack
#: Reals that happen to be whole are still hashed as reals, whatever Python type carries them.
_IS_REAL = tuple(
    column.name in {c.name for c in ledger_entries.columns if c.type.python_type is float}
    for column in ledger_entries.columns
    if column.name not in _UNHASHED
)


def entry_hash(row: Mapping[str, Any], prev_hash: bytes, salt: bytes) -> bytes:
    """SHA-256 of one entry, 32 bytes. ``row`` holds every column of :data:`HASHED` and ``details``."""
    parts: list[bytes] = []
    for value, is_real in zip(_values(row), _IS_REAL, strict=True):
        if value is None:
            parts.append(_MISSING)
            continue
        kind = type(value)
        if is_real:
            data = _real(value)
        elif kind is str:
            data = value.encode()
        elif kind is int or kind is bool:
            data = b"%d" % value
        elif kind is datetime:
            data = b"%d" % units.to_us(value)
        else:
            data = bytes(value)
        size = len(data)
        parts.append(_LENGTHS[size] if size < 256 else _length(size))
        parts.append(data)
    details = row["details"]
    parts.append(_MISSING if details is None else _details_digest(details, salt))
    parts.append(prev_hash)
    return hashlib.sha256(b"".join(parts)).digest()


def _details_digest(details: Any, salt: bytes) -> bytes:
    canonical = json.dumps(details, sort_keys=True, separators=(",", ":")).encode()
    return hashlib.sha256(salt + canonical).digest()
