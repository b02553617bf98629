"""What an intruder writes who knows the rules: rows that are wrong in one respect and right in all others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from credit_core import CreditCore
from credit_core.store import chain
from credit_core.store.schema import accounts, ledger_entries, lots
from tests.service.scenes import tampering

entry = ledger_entries.c


class Forger:
    """Writes to a ledger whose guards are off; :meth:`rehash` makes its chains intact again."""

    def __init__(self, connection: Connection, salt: bytes) -> None:
        self.connection = connection
        self.salt = salt

    def run(self, statement: str, **values: Any) -> None:
        """A plain statement."""
        self.connection.exec_driver_sql(statement.format(**values))

    def last(self, user: str = "ada", **where: Any) -> dict[str, Any]:
        """The user's newest entry, of those with the columns ``where``."""
        query = select(ledger_entries).where(entry.account_id == f"user:{user}")
        for name, value in where.items():
            query = query.where(entry[name] == value)
        row = self.connection.execute(query.order_by(entry.seq.desc()).limit(1)).mappings().one()
        return dict(row)

    def lot(self, user: str = "ada", kind: str = "monthly") -> str:
        """The user's newest lot of a kind."""
        query = select(lots.c.lot_id).where(lots.c.account_id == f"user:{user}", lots.c.kind == kind)
        return str(self.connection.execute(query.order_by(lots.c.granted_at.desc()).limit(1)).scalar_one())

    def change(self, row: dict[str, Any], **columns: Any) -> None:
        """Change columns of one entry."""
        self.connection.execute(update(ledger_entries).where(entry.id == row["id"]).values(columns))

    def append(
        self, kind: str, d_avail: int, d_held: int, *, user: str = "ada", lot: str | None = None, **columns: Any
    ) -> None:
        """One more entry of the user, with account and lot moved as it says."""
        at = self.connection.execute(
            select(accounts.c.seq, accounts.c.recorded_at).where(accounts.c.account_id == f"user:{user}")
        ).one()
        blank = dict.fromkeys(column.name for column in ledger_entries.columns if column.name != "id")
        row = blank | {
            "account_id": f"user:{user}", "seq": at.seq + 1, "leg_id": f"forged-{user}-{at.seq + 1}", "line": 1, "user_id": user,
            "occurred_at": at.recorded_at, "recorded_at": at.recorded_at, "kind": kind, "lot_id": lot, "d_avail_uc": d_avail,
            "d_held_uc": d_held, "plan": "free", "region": "global", "prev_hash": b"", "hash": b"",
        } | columns  # fmt: skip
        self.connection.execute(insert(ledger_entries).values(row))
        moved = {"avail_uc": d_avail, "held_uc": d_held}
        for table, key, value in ((accounts, accounts.c.account_id, f"user:{user}"), (lots, lots.c.lot_id, lot)):
            self.connection.execute(
                update(table).where(key == value).values({name: table.c[name] + d for name, d in moved.items()})
            )
        self.connection.execute(update(accounts).where(accounts.c.account_id == f"user:{user}").values(seq=at.seq + 1))

    def rehash(self) -> None:
        """Hash every entry anew and move each account's head there."""
        heads: dict[str, bytes] = {}
        rows = self.connection.execute(select(ledger_entries).order_by(entry.account_id, entry.seq)).mappings().all()
        for row in rows:
            previous = heads.get(row["account_id"], chain.GENESIS)
            heads[row["account_id"]] = chain.entry_hash(dict(row), previous, self.salt)
            self.change(dict(row), prev_hash=previous, hash=heads[row["account_id"]])
        for account_id, head in heads.items():
            newest = select(func.max(entry.seq)).where(entry.account_id == account_id).scalar_subquery()
            self.connection.execute(
                update(accounts).where(accounts.c.account_id == account_id).values(head_hash=head, seq=newest)
            )


@contextmanager
def forging(core: CreditCore) -> Iterator[Forger]:
    """Write to the ledger of ``core`` behind its back."""
    ledger = core.deployment.ledger
    with tampering(ledger.url) as connection:
        yield Forger(connection, ledger.salts["details"])
