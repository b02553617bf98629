"""What a transaction holds: users, accounts, lots and legs, loaded under lock, or without one (:mod:`credit_core.store.memory`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from credit_core.errors import NotFound
from credit_core.policy.lots import LotView, spending_key
from credit_core.policy.quotas import Counted, Window
from credit_core.store import counts, guests, statements
from credit_core.store.memory import Image, NeedsLock
from credit_core.store.prepared import Prepared, fetch
from credit_core.store.records import Account, Lot, Row, User, pool_of
from credit_core.store.schema import ledger_entries
from credit_core.units import to_us

_ACCOUNT_COLUMNS = len(statements.ACCOUNT)
#: Where :data:`statements.WHOLE` says whether the leg was written.
_WRITTEN = _ACCOUNT_COLUMNS + len(statements.USER)


class Loading:
    """The loading half of :class:`credit_core.store.unit.Unit`."""

    def __init__(
        self, connection: Connection, now: datetime, salts: Mapping[str, bytes], *, locked: bool, image: Image | None
    ) -> None:
        """See :class:`credit_core.store.unit.Unit`."""
        self.connection = connection
        self.now = now
        self.salts = salts
        self.locked = locked
        self._image = image
        self._accounts: dict[str, Account] = {}
        self._users: dict[str, User] = {}
        self._absent: set[str] = set()
        self._owners: dict[str, User] = {}
        self._lots: dict[str, dict[str, Lot]] = {}
        self._legs: dict[str, list[Row]] = {}
        self._openings: dict[str, list[Row]] = {}
        self._windows: dict[str, Window] = {}
        self._entries: list[Row] = []
        #: What no leg changes of the loaded accounts and users, as it was.
        self._account_terms: dict[str, tuple[Any, ...]] = {}
        self._user_terms: dict[str, tuple[Any, ...]] = {}
        #: Version and chain head of the account that was loaded without a lock.
        self._known: tuple[int, bytes] | None = None

    def need_lock(self) -> None:
        """From here on rows must be locked: a leg that did without begins again."""
        if not self.locked:
            raise NeedsLock

    def user(self, user_id: str) -> tuple[User, Account]:
        """The user and the account that pays for them, both locked. Raises :class:`NotFound`."""
        known = self._users.get(user_id)
        if known is None:
            self.need_lock()
            # PostgreSQL finds nothing where the user came to another account while it waited for the lock: ask again.
            rows = statements.USER_ROW.rows(self.connection, user_id=user_id) or statements.USER_ROW.rows(
                self.connection, user_id=user_id
            )
            if not rows:
                raise NotFound(f"There is no user {user_id!r}. Add them first: core.add_user(user_id, plan).")
            known = self._adopt(rows[0])
        return known, self._accounts[known.account_id]

    def load(self, user_id: str, leg_id: str, *, of: str | None = None) -> None:
        """Load the user, their account, locked unless this leg does without, and its open lots: on PostgreSQL in one round trip.

        With them comes whether ``leg_id`` was written before, and the opening leg ``of`` that it ends, if it ends one.
        A user who does not exist is left to :meth:`user` to report.
        """
        if user_id in self._users or self._remembered(leg_id, of):
            return
        if of is None and (not self.locked or self.connection.dialect.name == "sqlite"):
            self._load_whole(user_id, leg_id)
            return
        whose = {"user_id": user_id}
        asked: list[tuple[Prepared, Row]] = [
            (statements.USER_ROW if self.locked else statements.USER_SEEN, whose),
            (statements.USER_LOTS, whose),
        ]
        if of is None:
            asked.append((statements.IS_WRITTEN, {"leg_id": leg_id}))
        else:
            asked.append((statements.OPENING_AND_END, {"leg_id": leg_id, "opening": of}))
        found, lots_found, lines = fetch(self.connection, asked, alone=not self.locked)
        if of is not None:
            self._openings[of] = [dict(zip(statements.OPENING, line, strict=True)) for line in lines if line[0] == of]
            lines = [line for line in lines if line[0] != of]
        if not lines:
            self._legs.setdefault(leg_id, [])
        if lines or not found:
            # There is a first answer to repeat, or nobody to answer.
            self.need_lock()
        if found:
            account_id = self._adopt(found[0]).account_id
            if account_id not in self._lots:
                self._lots[account_id] = {lot.lot_id: lot for lot in (Lot(*row) for row in lots_found)}

    def _load_whole(self, user_id: str, leg_id: str) -> None:
        found = fetch(
            self.connection, [(statements.WHOLE, {"user_id": user_id, "leg_id": leg_id})], alone=not self.locked
        )[0]
        if not found or found[0][_WRITTEN]:
            self.need_lock()
        if found:
            account_id = self._adopt(found[0][:_WRITTEN]).account_id
            if not found[0][_WRITTEN]:
                self._legs.setdefault(leg_id, [])
            if account_id not in self._lots:
                rows = [row[_WRITTEN + 1 :] for row in found]
                self._lots[account_id] = {row[0]: Lot(*row) for row in rows if row[0] is not None}

    def _remembered(self, leg_id: str, of: str | None) -> bool:
        """Take the user, their account and lots from the image, if it has what this leg needs. It then was not written before."""
        image = self._image
        if image is None or leg_id in image.reserves or (of is not None and of not in image.reserves):
            return False
        self._take(image.user, image.account)
        self._lots[image.account.account_id] = image.lots
        self._openings.update(image.reserves)
        # Where it was, its lines cannot be inserted again.
        self._legs[leg_id] = []
        return True

    def has_user(self, user_id: str) -> bool:
        """Whether the user exists. After :meth:`lock_users` this asks the database only about users it did not find."""
        return user_id not in self._absent and self.find_user(user_id) is not None

    def find_user(self, user_id: str) -> User | None:
        """The user, or None."""
        try:
            return self.user(user_id)[0]
        except NotFound:
            return None

    def lock_users(self, user_ids: Iterable[str]) -> None:
        """Load and lock many users at once, in account order, with their open lots."""
        wanted = sorted({user_id for user_id in user_ids if user_id not in self._users})
        if not wanted:
            return
        self.need_lock()
        for row in self.connection.execute(statements.USER_ROWS, {"user_ids": wanted}).all():
            self._adopt(row)
        self._absent.update(user_id for user_id in wanted if user_id not in self._users)
        self._load_lots([self._users[user_id].account_id for user_id in wanted if user_id in self._users])

    def lock_accounts(self, account_ids: Iterable[str]) -> list[Account]:
        """Load and lock accounts in order, with their owners and open lots; those that do not exist are left out."""
        wanted = sorted({account_id for account_id in account_ids if account_id not in self._accounts})
        if wanted:
            self.need_lock()
            for row in self.connection.execute(statements.ACCOUNT_ROWS, {"account_ids": wanted}).all():
                self._accounts[row.account_id] = Account(**row._mapping)
            personal = [account_id for account_id in wanted if pool_of(account_id) is None]
            for row in self.connection.execute(statements.OWNERS, {"account_ids": personal}).all() if personal else ():
                user = self._users.setdefault(row.user_id, User(**row._mapping))
                self._owners.setdefault(user.account_id, user)
            self._load_lots(wanted)
        return [self._accounts[account_id] for account_id in account_ids if account_id in self._accounts]

    def owner(self, account: Account) -> User | None:
        """The user a personal account belongs to; nobody owns a pool."""
        if pool_of(account.account_id) is not None:
            return None
        if account.account_id not in self._owners:
            self.lock_accounts([account.account_id])
        return self._owners.get(account.account_id)

    def lots(self, account: Account) -> dict[str, Lot]:
        """The account's lots that hold anything, by id, and those made in this transaction."""
        found = self._lots.get(account.account_id)
        if found is None:
            rows = [Lot(*row) for row in statements.ACCOUNT_LOTS.rows(self.connection, account_id=account.account_id)]
            found = self._lots[account.account_id] = {lot.lot_id: lot for lot in rows}
        return found

    def lot(self, account: Account, lot_id: str) -> Lot | None:
        """One lot of the account, empty ones included; None where there is none."""
        held = self.lots(account)
        if lot_id not in held:
            row = self.connection.execute(statements.ONE_LOT, {"lot_id": lot_id}).first()
            if row is None:
                return None
            held[lot_id] = Lot(**row._mapping)
        return held[lot_id]

    def views(self, account: Account) -> list[LotView]:
        """What the spending policy sees of the account's lots, in spending order."""
        seen = (
            LotView(lot.lot_id, lot.kind, None if lot.expires_at is None else to_us(lot.expires_at), lot.avail_uc)
            for lot in self.lots(account).values()
        )
        return sorted(seen, key=lambda lot: spending_key(lot.kind, lot.expires_us, lot.lot_id))

    def counted(self, account: Account, since: datetime) -> list[Counted]:
        """What the account's entries count from ``since`` on, those of this transaction too."""
        return counts.counted(self.connection, account.account_id, since, self._entries)

    def fresh_since(self, account: Account, user_id: str, since: datetime) -> list[datetime]:
        """Instants of the user's fresh generations from ``since`` on."""
        return counts.fresh_since(self.connection, account, user_id, since, self._entries)

    def windows(self, keys: Iterable[str]) -> dict[str, Window]:
        """Guests' windows by key, locked in key order."""
        missing = [key for key in keys if key not in self._windows]
        if missing:
            self.need_lock()
            self._windows |= guests.lock(self.connection, missing)
        return {key: self._windows[key] for key in keys}

    def leg(self, leg_id: str) -> list[Row]:
        """The lines of a leg, in order; empty where it was never written."""
        rows = self._legs.get(leg_id)
        if rows is None:
            found = statements.LEG.rows(self.connection, leg_id=leg_id)
            rows = self._legs[leg_id] = [dict(zip(statements.ENTRY_NAMES, row, strict=True)) for row in found]
        return rows

    def opening(self, leg_id: str) -> list[Row]:
        """The lines of a leg that opened a request, with the columns :data:`statements.OPENING` at least."""
        known = self._legs.get(leg_id) or self._openings.get(leg_id)
        return self.leg(leg_id) if known is None else known

    def lot_lines(self, account: Account, lot_id: str, kinds: Iterable[str]) -> list[Row]:
        """Entries of ``kinds`` that moved one lot, or name it in their details, in order; those of this transaction included."""
        entry = ledger_entries.c
        query = select(*statements.ENTRY_COLUMNS).where(
            entry.account_id == account.account_id, entry.kind.in_(list(kinds))
        )
        written = [dict(row._mapping) for row in self.connection.execute(query.order_by(entry.seq)).all()]
        pending = [row for row in self._entries if row["account_id"] == account.account_id and row["kind"] in kinds]
        return [row for row in (*written, *pending) if lot_id in (row["lot_id"], (row["details"] or {}).get("lot_id"))]

    def preload_legs(self, leg_ids: Iterable[str]) -> None:
        """Load many legs at once, so that :meth:`leg` need not ask for each."""
        wanted = [leg_id for leg_id in leg_ids if leg_id not in self._legs]
        for start in range(0, len(wanted), 2_000):
            part = wanted[start : start + 2_000]
            self._legs.update((leg_id, []) for leg_id in part)
            for row in self.connection.execute(statements.LEGS, {"leg_ids": part}).all():
                self._legs[row.leg_id].append(dict(row._mapping))

    def _adopt(self, row: Sequence[Any]) -> User:
        user = User(*row[_ACCOUNT_COLUMNS:])
        self._take(user, self._accounts.get(user.account_id) or Account(*row[:_ACCOUNT_COLUMNS]))
        return user

    def _take(self, user: User, account: Account) -> None:
        self._users[user.user_id] = user
        self._user_terms[user.user_id] = statements.user_terms(user)
        if account.account_id not in self._accounts:
            self._accounts[account.account_id] = account
            self._account_terms[account.account_id] = statements.account_terms(account)
            self._known = (account.version, account.head_hash)
        self._owners.setdefault(user.account_id, user)

    def _load_lots(self, account_ids: Iterable[str]) -> None:
        wanted = [account_id for account_id in account_ids if account_id not in self._lots]
        if wanted:
            self._lots.update((account_id, {}) for account_id in wanted)
            for row in self.connection.execute(statements.OPEN_LOTS, {"account_ids": wanted}).all():
                self._lots[row.account_id][row.lot_id] = Lot(**row._mapping)
