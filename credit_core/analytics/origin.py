"""The ledger that a copy follows: whether it is still the same one, and the zone it reports in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import duckdb
from sqlalchemy import BigInteger, Engine, bindparam, select
from sqlalchemy.exc import DBAPIError

from credit_core.analytics.few import Ask, Rows
from credit_core.analytics.source import Chunk, Source, Watermark, open_source
from credit_core.errors import LedgerUnavailable
from credit_core.store import schema
from credit_core.store.engine import open_engine
from credit_core.units import checked_zone

_ZONE = select(schema.deployment.c.value).where(schema.deployment.c.key == "reporting_zone")
_ENTRY = "entry"
_HASH = select(schema.ledger_entries.c.hash).where(schema.ledger_entries.c.id == bindparam(_ENTRY, type_=BigInteger()))


class News(NamedTuple):
    """What one look at a ledger tells: reporting zone, hash of the last entry copied, new entries; None where those are not few."""

    zone: str
    last_hash: str | None
    few: Chunk | None


class Origin:
    """A ledger opened for copying; ``reporting_zone`` overrides the deployment's own."""

    def __init__(self, engine: Engine, source: Source, reporting_zone: str | None) -> None:
        """Use :meth:`open`."""
        self.engine = engine
        self.source = source
        self._fixed_zone = reporting_zone
        self._place = source.place()

    @classmethod
    def open(cls, url: str, folder: Path, reporting_zone: str | None) -> Origin:
        """``folder`` is for passing files. Raises :class:`LedgerUnavailable` where there is no ledger."""
        if reporting_zone is not None:
            checked_zone(reporting_zone)
        return cls(open_engine(url, read_only=True), open_source(url, folder), reporting_zone)

    def renew(self) -> None:
        """Let go of connections to a file that was replaced; they would go on reading it."""
        if self._place != (place := self.source.place()):
            self.engine.dispose()
            self._place = place

    def zone(self) -> str:
        """The reporting zone, by its IANA name."""
        return self._zone(*self.source.rows([Ask(_ZONE)]))

    def hash_of(self, entry_id: int) -> str | None:
        """The hash of an entry, hex; None where there is none. Where it changed, it is another ledger."""
        return _hex(*self.source.rows([Ask(_HASH, {_ENTRY: entry_id})]))

    def news(self, after: Watermark) -> News:
        """What there is after a watermark, all of one instant."""
        few, (zone, last_hash) = self.source.few(after, [Ask(_ZONE), Ask(_HASH, {_ENTRY: after.id})])
        return News(self._zone(zone), _hex(last_hash), few)

    def _zone(self, found: Rows) -> str:
        return self._fixed_zone or checked_zone(found[0][0] if found else "UTC").key

    def close(self) -> None:
        """Give back all connections."""
        self.source.close()
        self.engine.dispose()


@contextmanager
def told() -> Iterator[None]:
    """Say in our own errors what ledger and copy say in theirs."""
    try:
        yield
    except DBAPIError as error:
        raise LedgerUnavailable(
            f"The ledger could not be read: {error.orig}. Check the database; the last copy is still shown."
        ) from error
    except duckdb.Error as error:
        raise LedgerUnavailable(
            f"The columnar copy could not be written: {error}. Give it more memory or disk; the last copy is still shown."
        ) from error


def _hex(found: Rows) -> str | None:
    return bytes(found[0][0]).hex() if found else None
