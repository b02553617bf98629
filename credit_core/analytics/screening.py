"""Where a large ledger may be broken, in a small part of the time that :func:`credit_core.store.verify.verify` takes to say.

::

    suspects = screened(url, connection, salt)
    verify(connection, salt, heads, suspects=suspects)

Two processes read all entries once and check their hashes (:mod:`credit_core.analytics.checking`); DuckDB runs the queries of
``invariants.sql``, word for word, on what they leave. What is suspected is asked of the ledger itself, by the same code as on a
small one, so what is found is told in the same words. All of it sees the one state of the ledger that ``connection`` sees.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from itertools import repeat
from pathlib import Path
from subprocess import Popen
from typing import Any

import duckdb
import pyarrow as pa  # type: ignore[import-untyped]
from sqlalchemy import Connection, LargeBinary, Table, Text, func, select, text

from credit_core.analytics import processes
from credit_core.analytics.checking import Share
from credit_core.analytics.sync import open_database
from credit_core.errors import LedgerUnavailable
from credit_core.store import verify
from credit_core.store.chain import GENESIS
from credit_core.store.schema import accounts, cycles, deployment, guest_windows, holds, ledger_entries, lots
from credit_core.store.verify import Suspects

#: From so many entries on, what the processes and their files cost is little.
LEAST_ENTRIES = 100_000
_PROCESSES = 2
_MEMORY_LIMIT = "1GB"
#: A process holds the links of one range in memory.
RANGE_ROWS = 1 << 19
#: With more accounts than these, the walk goes over all.
_MOST_ACCOUNTS = 1_000
#: What the queries read beside entries.
_BESIDE = {
    accounts: (
        "account_id",
        "kind",
        "avail_uc",
        "held_uc",
        "seq",
        "cycle_no",
        "cycle_start_at",
        "cycle_end_at",
        "head_hash",
    ),
    lots: ("lot_id", "account_id", "avail_uc", "held_uc"),
    holds: ("leg_id", "user_id", "request_id", "amount_uc", "expires_at"),
    cycles: ("account_id", "cycle_no", "start_at", "end_at", "closed_at"),
    guest_windows: ("window_key", "ip_hash", "used", "opened_at"),
}
#: Accounts of which runs do not meet, or do not end at the head.
_TORN = """
SELECT DISTINCT account_id
FROM (SELECT *, LAG(last_hash) OVER w AS before, LAG(last_seq) OVER w AS before_seq, LEAD(first_seq) OVER w AS next_seq
  FROM runs
  WINDOW w AS (PARTITION BY account_id ORDER BY first_seq, last_seq)) r
LEFT JOIN accounts a USING (account_id)
WHERE first_prev <> COALESCE(before, ?) OR first_seq <= before_seq
  OR (next_seq IS NULL AND (a.seq IS NULL OR a.seq <= 0 OR a.head_hash <> last_hash))
"""


def suspected(
    url: str, connection: Connection, salt: bytes, entries: int, progress: Callable[[int, str], None]
) -> Suspects | None:
    """As :func:`screened`, of a ledger with so many entries; None where looking everywhere costs less, or is all that can be done."""
    if entries < LEAST_ENTRIES:
        return None
    progress(1, "all entries, read once")
    try:
        return screened(url, connection, salt)
    except LedgerUnavailable:
        # No room for files, no second connection, a row that cannot be read: the ledger itself tells what is wrong.
        return None


def screened(url: str, connection: Connection, salt: bytes) -> Suspects:
    """What to look at of the ledger at ``url``, in the state that ``connection`` sees. Raises :class:`LedgerUnavailable`."""
    ids = connection.execute(select(func.min(ledger_entries.c.id), func.max(ledger_entries.c.id))).one()
    first, newest = (0, 0) if ids[0] is None else (ids[0] - 1, ids[1])
    # Entries are never changed, and ids follow each other on SQLite: up to the newest, another connection sees the same.
    postgresql = connection.dialect.name == "postgresql"
    snapshot = connection.scalar(text("SELECT pg_export_snapshot()")) if postgresql else None
    with tempfile.TemporaryDirectory(prefix="titrate-verify-") as folder:
        rows = min(RANGE_ROWS, -(-(newest - first) // _PROCESSES)) or 1
        ranges = [(low, min(low + rows, newest)) for low in range(first, newest, rows)]
        shares = [
            Share(url, snapshot, salt.hex(), folder, ranges[own::_PROCESSES])
            for own in range(min(_PROCESSES, len(ranges)))
        ]
        return judged(connection, Path(folder), _checked(shares))


def judged(connection: Connection, folder: Path, suspects: Iterable[str]) -> Suspects:
    """What the files in ``folder`` and the tables of ``connection`` make suspect, beside accounts that are so already."""
    found = set(suspects)
    with closing(open_database(None, folder, _MEMORY_LIMIT, _PROCESSES)) as database:
        for table, names in _BESIDE.items():
            database.register(table.name, _rows(connection, table, names))
        # The other rows of this table are secrets, and no numbers.
        database.register(deployment.name, _rows(connection, deployment, ("key", "value"), "key = 'last_sweep_at'"))
        if any(folder.glob("runs-*")):
            for name, kind in (("ledger_entries", "entries"), ("runs", "runs")):
                database.execute(f"CREATE VIEW {name} AS SELECT * FROM read_parquet('{folder}/{kind}-*.parquet')")
            found.update(row[0] for row in database.execute(_TORN, [GENESIS]).fetchall())
            broken = {
                number for number, queries in verify.queries().items() if any(_finds(database, one) for one in queries)
            }
        else:
            broken = set(verify.TITLES)
    return Suspects(frozenset(broken), tuple(sorted(found)) if len(found) <= _MOST_ACCOUNTS else None)


def _finds(database: duckdb.DuckDBPyConnection, query: str) -> bool:
    try:
        return database.execute(query).fetchone() is not None
    except duckdb.Error:
        # What cannot be asked here is asked of the ledger.
        return True


def _rows(connection: Connection, table: Table, names: Sequence[str], where: str = "TRUE") -> pa.Table:
    rows = connection.execute(text(f"SELECT {', '.join(names)} FROM {table.name} WHERE {where}")).all()
    columns = zip(*rows, strict=True) if rows else repeat((), len(names))
    return pa.table(
        {name: pa.array(values, _kind(table.c[name].type)) for name, values in zip(names, columns, strict=True)}
    )


def _kind(of: Any) -> pa.DataType:
    return pa.binary() if isinstance(of, LargeBinary) else pa.string() if isinstance(of, Text) else pa.int64()


def _checked(shares: list[Share]) -> list[str]:
    """The accounts that the processes suspect."""
    started: list[Popen[str]] = []
    try:
        for share in shares:
            started.append(processes.begun("credit_core.analytics.checking"))
            processes.ask(started[-1], share)
        return [account for process in started for account in _answer(process)]
    except OSError as error:
        raise LedgerUnavailable(f"The processes that check the ledger could not be used: {error}.") from error
    finally:
        for process in started:
            process.kill()
            process.communicate()


def _answer(process: Popen[str]) -> list[str]:
    document = processes.answered(process) or {"error": "a process ended before it was done"}
    if "error" in document:
        raise LedgerUnavailable(f"The ledger could not be checked in parts: {document['error']}.")
    found: list[str] = document["accounts"]
    return found
