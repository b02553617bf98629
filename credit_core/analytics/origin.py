"""The ledger that a copy follows: whether it is still the same one, and the zone it reports in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
from sqlalchemy import Engine, select
from sqlalchemy.exc import DBAPIError

from credit_core.analytics.source import Source, open_source
from credit_core.errors import LedgerUnavailable
from credit_core.store import schema
from credit_core.store.engine import open_engine
from credit_core.units import checked_zone


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
        with self.engine.connect() as connection:
            deployed = connection.execute(
                select(schema.deployment.c.value).where(schema.deployment.c.key == "reporting_zone")
            ).scalar()
        return self._fixed_zone or checked_zone(deployed or "UTC").key

    def hash_of(self, entry_id: int) -> str | None:
        """The hash of an entry, hex; None where there is none. Where it changed, it is another ledger."""
        with self.engine.connect() as connection:
            found = connection.execute(
                select(schema.ledger_entries.c.hash).where(schema.ledger_entries.c.id == entry_id)
            ).scalar()
        return None if found is None else bytes(found).hex()

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
