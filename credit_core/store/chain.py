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
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from credit_core.store.columns import encoder
from credit_core.store.schema import ledger_entries

_UNHASHED = ("id", "details", "prev_hash", "hash")
#: Columns in hash order; ``details`` and ``prev_hash`` follow them.
HASHED = tuple(column.name for column in ledger_entries.columns if column.name not in _UNHASHED)
GENESIS = bytes(32)
#: Where a row that is written keeps its :func:`encoded` values.
ENCODED = "encoded"
_MISSING = b"\xff\xff\xff\xff"
_values = itemgetter(*HASHED)
_length = struct.Struct(">I").pack
_LENGTHS = tuple(_length(number) for number in range(256))
_ENCODERS = tuple(encoder(ledger_entries.c[name].type) for name in HASHED)


def encoded(row: Mapping[str, Any]) -> list[bytes | None]:
    """The values of :data:`HASHED` as they are hashed."""
    return [None if value is None else encode(value) for value, encode in zip(_values(row), _ENCODERS, strict=True)]


def entry_hash(row: Mapping[str, Any], prev_hash: bytes, salt: bytes) -> bytes:
    """SHA-256 of one entry, 32 bytes. ``row`` holds every column of :data:`HASHED` and ``details``."""
    return encoded_hash(encoded(row), row["details"], prev_hash, salt)


def encoded_hash(values: Sequence[bytes | None], details: Any, prev_hash: bytes, salt: bytes) -> bytes:
    """:func:`entry_hash` of an entry whose values are :func:`encoded`."""
    try:
        parts = [_MISSING if value is None else _LENGTHS[len(value)] + value for value in values]
    except IndexError:
        parts = [_MISSING if value is None else _length(len(value)) + value for value in values]
    parts.append(_MISSING if details is None else details_digest(details, salt))
    parts.append(prev_hash)
    return hashlib.sha256(b"".join(parts)).digest()


def sender(names: Sequence[str]) -> Callable[[Mapping[str, Any]], list[bytes | None]]:
    """The values ``names`` of a row as PostgreSQL takes them, those that its hash covers from :data:`ENCODED`."""
    others = {name: encoder(ledger_entries.c[name].type) for name in _UNHASHED}
    own = [(place, name, others[name]) for place, name in enumerate(names) if name in others]
    hashed = itemgetter(*(HASHED.index(name) if name in HASHED else 0 for name in names))

    def send(row: Mapping[str, Any]) -> list[bytes | None]:
        values: list[bytes | None] = list(hashed(row[ENCODED]))
        for place, name, encode in own:
            value = row[name]
            values[place] = None if value is None else encode(value)
        return values

    return send


def details_digest(details: Any, salt: bytes) -> bytes:
    """What is hashed of ``details``."""
    canonical = json.dumps(details, sort_keys=True, separators=(",", ":")).encode()
    return hashlib.sha256(salt + canonical).digest()
