"""What entries count (SPEC 3): an account's generations by instant, and when a user's fresh ones were."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, select, text

from credit_core.policy.quotas import Counted
from credit_core.store.records import Account
from credit_core.store.schema import IS_COUNTED, ledger_entries

_entry = ledger_entries.c
_COUNTED = (
    select(_entry.counted_at, _entry.modality, _entry.d_avail_uc, _entry.d_count)
    .where(
        _entry.account_id == bindparam("account_id"),
        _entry.counted_at >= bindparam("since"),
        text(IS_COUNTED),
    )
    .order_by(_entry.seq)
)
_RESERVES = select(_entry.occurred_at, _entry.recorded_at).where(
    _entry.account_id == bindparam("account_id"),
    _entry.seq >= bindparam("start"),
    _entry.seq < bindparam("before"),
    _entry.user_id == bindparam("user_id"),
    _entry.kind == "reserve",
    _entry.line == 1,
)
#: Entries of an account that one look back reads.
_PAGE = 2_000


def counted(
    connection: Connection, account_id: str, since: datetime, pending: Iterable[Mapping[str, Any]]
) -> list[Counted]:
    """What the account's entries count from ``since`` on, those ``pending`` in this transaction too."""
    rows = connection.execute(_COUNTED, {"account_id": account_id, "since": since}).all()
    unwritten = [
        (row["counted_at"], row["modality"], row["d_avail_uc"], row["d_count"])
        for row in pending
        if row["account_id"] == account_id and row["d_count"] is not None and row["counted_at"] >= since
    ]
    return [Counted(at, modality, moved == 0, count) for at, modality, moved, count in (*rows, *unwritten)]


def fresh_since(
    connection: Connection, account: Account, user_id: str, since: datetime, pending: Iterable[Mapping[str, Any]]
) -> list[datetime]:
    """Instants of the user's fresh generations from ``since`` on; recorded_at never falls along seq, so the look back ends."""
    found = [
        row["occurred_at"]
        for row in pending
        if row["user_id"] == user_id and row["kind"] == "reserve" and row["line"] == 1 and row["occurred_at"] >= since
    ]
    before = account.seq + 1
    while before > 1:
        start = max(before - _PAGE, 1)
        wanted = {"account_id": account.account_id, "user_id": user_id, "start": start, "before": before}
        page = connection.execute(_RESERVES, wanted).all()
        found += [row.occurred_at for row in page if row.occurred_at >= since]
        before = 1 if any(row.recorded_at < since for row in page) else start
    return found
