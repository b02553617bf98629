"""What processes would suspect of a ledger, found out in this one: no second SQLite may open a test's ledger here."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]
from sqlalchemy import text

from credit_core import CreditCore
from credit_core.analytics.checking import Checker
from credit_core.analytics.screening import judged
from credit_core.store import chain
from credit_core.store.verify import Suspects


def suspects_of(core: CreditCore, rows: int = 100) -> Suspects:
    """What is suspected of the ledger, looked at in ranges of so many entries."""
    ledger, names = core.deployment.ledger, ", ".join([*chain.HASHED, "prev_hash", "hash"])
    with tempfile.TemporaryDirectory() as folder, ledger.reading() as connection:
        found = connection.execute(
            text(f"SELECT {names}, CAST(details AS TEXT) AS details FROM ledger_entries ORDER BY id")
        )
        columns, entries = list(found.keys()), found.all()
        checker = Checker(ledger.salts["details"], Path(folder))
        for start in range(0, len(entries), rows):
            values = zip(*entries[start : start + rows], strict=True)
            checker.add(pa.table({name: list(own) for name, own in zip(columns, values, strict=True)}))
            checker.close()
        return judged(connection, Path(folder), checker.suspects)


def on_sqlite(core: CreditCore) -> bool:
    """Whether this is the engine to ask on: what is suspected rests on Arrow rows, which are the same from both."""
    return core.deployment.ledger.engine.dialect.name == "sqlite"
