"""Guests' windows and, apart from the ledger and erasable, the addresses that requests came from (SPEC 2 and 3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import Connection, bindparam, delete, select, update

from credit_core.policy.quotas import Window
from credit_core.store.library import upsert
from credit_core.store.prepared import Prepared
from credit_core.store.schema import guest_windows, ledger_entries, origins

_LOCK = (
    select(guest_windows)
    .where(guest_windows.c.window_key.in_(bindparam("keys", expanding=True)))
    .order_by(guest_windows.c.window_key)
    .with_for_update()
)
_WRITE = (
    update(guest_windows)
    .where(guest_windows.c.window_key == bindparam("key"))
    .values(opened_at=bindparam("opened_at"), used=bindparam("used"))
)


#: Remembers the first time that a user came from an address.
SEE = Prepared(
    lambda dialect: upsert(dialect, origins).on_conflict_do_nothing(),
    ("user_id", "ip_hash", "ip", "first_seen_at"),
    joins=True,
)


def lock(connection: Connection, keys: Iterable[str]) -> dict[str, Window]:
    """The windows of ``keys``, made where missing and locked in key order."""
    wanted = sorted(set(keys))
    made = upsert(connection.dialect, guest_windows).on_conflict_do_nothing()
    for key in wanted:
        name, _, rest = key.partition(":")
        hashed = bytes.fromhex(rest) if name == "ip" else None
        connection.execute(made, {"window_key": key, "ip_hash": hashed, "opened_at": None, "used": 0})
    rows = connection.execute(_LOCK, {"keys": wanted}).all()
    return {row.window_key: Window(row.opened_at, row.used) for row in rows}


def of_guest(connection: Connection, account_id: str) -> list[tuple[str, Window]]:
    """(session or ip, window) of a guest and of the newest address it came from, without a lock."""
    entry = ledger_entries.c
    seen = (
        select(entry.ip_hash)
        .where(entry.account_id == account_id, entry.ip_hash.is_not(None))
        .order_by(entry.seq.desc())
        .limit(1)
    )
    keys = window_keys(account_id, connection.execute(seen).scalar())
    rows = connection.execute(select(guest_windows).where(guest_windows.c.window_key.in_(keys)))
    found = {row.window_key: Window(row.opened_at, row.used) for row in rows}
    return [(key.split(":", 1)[0], found.get(key, Window(None, 0))) for key in keys]


def window_keys(account_id: str, ip_hash: bytes | None) -> list[str]:
    """Keys of the windows that count a guest: of the session and, where the address is known, of the address."""
    session = f"session:{account_id}"
    return [session] if ip_hash is None else [f"ip:{bytes(ip_hash).hex()}", session]


def write(connection: Connection, windows: Mapping[str, Window]) -> None:
    """Write locked windows back."""
    for key, window in sorted(windows.items()):
        connection.execute(_WRITE, {"key": key, "opened_at": window.opened_at, "used": window.used})


def erase(connection: Connection, user_id: str) -> int:
    """Forget a user's addresses; returns how many there were."""
    return connection.execute(delete(origins).where(origins.c.user_id == user_id)).rowcount
