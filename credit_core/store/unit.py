"""One transaction on the ledger: rows are loaded, changed in memory, and written back once, at commit.

Every change of a balance goes through :meth:`Unit.append`, which moves the entry, the account and the lot together, so the
derived tables equal the entries' sums by construction. Nothing is written before the last check has passed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection

from credit_core.errors import InvalidAmount, LedgerError
from credit_core.policy.quotas import Window
from credit_core.store import chain, guests, statements
from credit_core.store.loading import Loading
from credit_core.store.memory import RESERVES, Image, Moved, NeedsLock
from credit_core.store.prepared import Prepared, write, write_if
from credit_core.store.records import Account, Lot, Row, User, changed, rows_of

#: What both engines hold in 64 bits.
_LARGEST = 2**63 - 1


class Delta(NamedTuple):
    """What one line of a leg moves. ``lot`` is None for entries that move nothing."""

    lot: Lot | None
    d_avail_uc: int
    d_held_uc: int


class Unit(Loading):
    """The rows one transaction holds. Made by :meth:`credit_core.store.ledger.Ledger.run`, which commits it."""

    def __init__(
        self,
        connection: Connection,
        now: datetime,
        salts: Mapping[str, bytes],
        *,
        locked: bool = True,
        image: Image | None = None,
    ) -> None:
        """``now`` is the wall clock of this transaction, ``salts`` the deployment's keys by name.

        Not ``locked``: it moves one account, by ``image`` or as it reads it, and writes where that still holds.
        """
        super().__init__(connection, now, salts, locked=locked, image=image)
        #: Whether no entry has more to tell than :data:`statements.PLAIN_FACTS`.
        self._plain = True
        self._dirty_accounts: dict[str, Account] = {}
        self._dirty_users: dict[str, User] = {}
        self._dirty_lots: dict[str, Lot] = {}
        self._new_accounts: list[Account] = []
        self._new_users: list[User] = []
        self._new_lots: dict[str, Lot] = {}
        self._moved_expiry = False
        self._holds: dict[str, Row] = {}
        self._ended_holds: set[str] = set()
        self._deferrals: list[Row] = []
        self._ended_deferrals: list[Row] = []
        self._new_cycles: list[Row] = []
        self._closed_cycles: list[Row] = []
        self._moved_cycles: list[Row] = []
        self._rows_last: list[tuple[Prepared, list[Row]]] = []
        self._last: list[Callable[[], None]] = []
        self._after: list[Callable[[], None]] = []

    # Changing ----------------------------------------------------------------------------------------------------

    def append(
        self, account: Account, kind: str, leg_id: str, deltas: Iterable[Delta], occurred_at: datetime, **facts: Any
    ) -> list[Row]:
        """Write one leg: a line per delta, ``facts`` on each line if they name it, else on the first (see :data:`EVERY_LINE`)."""
        recorded_at = max(self.now, account.recorded_at)
        self._plain = self._plain and statements.PLAIN_FACTS.issuperset(facts)
        every = {name: facts[name] for name in EVERY_LINE if name in facts}
        terms = {"plan": account.plan, "region": account.region}
        written: list[Row] = []
        for line, (lot, d_avail, d_held) in enumerate(deltas, 1):
            account.seq += 1
            account.avail_uc += d_avail
            account.held_uc += d_held
            row = {
                **statements.BLANK, **terms, **(facts if line == 1 else every), "account_id": account.account_id, "seq": account.seq,
                "leg_id": leg_id, "line": line, "occurred_at": occurred_at, "recorded_at": recorded_at, "kind": kind,
                "lot_id": None if lot is None else lot.lot_id, "d_avail_uc": d_avail, "d_held_uc": d_held,
                "prev_hash": account.head_hash,
            }  # fmt: skip
            if lot is not None:
                lot.avail_uc += d_avail
                lot.held_uc += d_held
                self._touch_lot(lot)
            if account.avail_uc > _LARGEST:
                raise InvalidAmount(
                    f"A {kind} of account {account.account_id} would pass the largest balance there can be; nothing was written."
                )
            if min(account.avail_uc, account.held_uc, *(() if lot is None else (lot.avail_uc, lot.held_uc))) < 0:
                raise LedgerError(
                    f"A {kind} of account {account.account_id} would make a balance negative; "
                    "nothing was written. Please report this as a bug."
                )
            row[chain.ENCODED] = encoded = chain.encoded(row)
            row["hash"] = account.head_hash = chain.encoded_hash(
                encoded, row["details"], account.head_hash, self.salts["details"]
            )
            written.append(row)
        account.recorded_at = recorded_at
        self._dirty_accounts[account.account_id] = account
        self._entries.extend(written)
        self._legs[leg_id] = written
        return written

    def add_account(self, account: Account) -> None:
        """A new account; its entries follow in the same transaction."""
        self.need_lock()
        self._accounts[account.account_id] = account
        self._lots[account.account_id] = {}
        self._new_accounts.append(account)

    def add_user(self, user: User) -> None:
        """A new user of an account of this transaction."""
        self.need_lock()
        self._users[user.user_id] = user
        self._absent.discard(user.user_id)
        self._owners.setdefault(user.account_id, user)
        self._new_users.append(user)

    def move_user(self, user: User, account: Account) -> None:
        """From now on ``account`` pays for the user."""
        self.touch(self._accounts[user.account_id])
        user.account_id = account.account_id
        self._owners[account.account_id] = user
        self.touch(user)

    def add_lot(self, account: Account, lot: Lot) -> Lot:
        """A new, empty lot; an entry of this transaction fills it."""
        self.need_lock()
        self.lots(account)[lot.lot_id] = lot
        self._new_lots[lot.lot_id] = lot
        return lot

    def touch(self, record: Account | User) -> None:
        """Write this record back at commit."""
        if isinstance(record, Account):
            self._dirty_accounts[record.account_id] = record
        else:
            self._dirty_users[record.user_id] = record

    def move_expiry(self, lot: Lot, expires_at: datetime) -> None:
        """The lot expires at another instant."""
        lot.expires_at = expires_at
        self._moved_expiry = True
        self._touch_lot(lot)

    def _touch_lot(self, lot: Lot) -> None:
        if lot.lot_id not in self._new_lots:
            self._dirty_lots[lot.lot_id] = lot

    def set_windows(self, changed: Mapping[str, Window]) -> None:
        """Change locked windows."""
        self._windows |= changed
        self.finally_write(lambda: guests.write(self.connection, changed))

    def add_hold(self, row: Row) -> None:
        """An open hold, until :meth:`end_hold`."""
        self._holds[row["leg_id"]] = row

    def end_hold(self, leg_id: str) -> None:
        """The hold of reserve ``leg_id`` has ended."""
        if self._holds.pop(leg_id, None) is None:
            self._ended_holds.add(leg_id)

    def add_deferral(self, row: Row) -> None:
        """A deferred request waits for its fresh half, until :meth:`end_deferral`."""
        self._deferrals.append(row)

    def end_deferral(self, leg_id: str) -> None:
        """The deferred request of leg ``leg_id`` waits no longer."""
        self._ended_deferrals.append({"key_leg_id": leg_id})

    def open_cycle(self, row: Row) -> None:
        """A new row of ``cycles``."""
        self.need_lock()
        self._new_cycles.append(dict.fromkeys(statements.CYCLE) | row)

    def close_cycle(self, account_id: str, cycle_no: int, **values: Any) -> None:
        """Fill in what the closing of a cycle found."""
        pending = next(
            (row for row in self._new_cycles if row["account_id"] == account_id and row["cycle_no"] == cycle_no), None
        )
        if pending is not None:
            pending.update(values)
        else:
            self._closed_cycles.append({"key_account_id": account_id, "key_cycle_no": cycle_no, **values})

    def move_cycle(self, account_id: str, cycle_no: int, **values: Any) -> None:
        """Change the terms or the end of the running cycle's row."""
        self._moved_cycles.append({"key_account_id": account_id, "key_cycle_no": cycle_no, **values})

    def finally_write(self, write: Callable[[], None]) -> None:
        """Run ``write`` after everything else, right before the commit: for rows that other accounts also write."""
        self.need_lock()
        self._last.append(write)

    def finally_put(self, statement: Prepared, row: Row) -> None:
        """As :meth:`finally_write`, of one row: on PostgreSQL it travels with everything else."""
        self._rows_last.append((statement, [row]))

    def write_last(self) -> None:
        """Run what was to be written finally, so that later acts of this transaction see it."""
        rows, self._rows_last = self._rows_last, []
        if rows:
            write(self.connection, rows)
        postponed, self._last = self._last, []
        for act in postponed:
            act()

    # Writing -----------------------------------------------------------------------------------------------------

    def flush(self) -> int:
        """Write everything back; returns the number of entries. Called once, by the ledger, right before it commits.

        On PostgreSQL the COMMIT travels with the writes, where nothing is left for :meth:`finally_write`. Raises
        :class:`NeedsLock` where the unit holds no lock and has written nothing.
        """
        # What others know of these accounts is old from now on: see credit_core/store/memory.py.
        records: Iterable[User | Lot] = (*self._dirty_users.values(), *self._new_users, *self._dirty_lots.values())
        for record in records:
            self._dirty_accounts.setdefault(record.account_id, self._accounts[record.account_id])
        for account in self._dirty_accounts.values():
            account.version += 1
        rows, self._rows_last = self._rows_last, []
        batches = [*self._batches(), *rows]
        if self.locked:
            write(self.connection, batches, commit=not self._last)
            self.write_last()
        else:
            self._write_unlocked(batches)
        return len(self._entries)

    def _write_unlocked(self, batches: list[tuple[Prepared, list[Row]]]) -> None:
        """Write ``batches`` where the one account still is as it was known, else raise :class:`Moved`."""
        if not self._entries or self._known is None or len(self._accounts) > 1:
            raise NeedsLock
        guards = [batch for batch in batches if batch[0] in statements.GUARDS]
        ((guard, (row,)),) = guards
        version, head_hash = self._known
        row |= {"known_version": version, "known_head": head_hash}
        others = [batch for batch in batches if batch[0] is not guard]
        if not write_if(self.connection, (statements.GUARDS[guard], row), others):
            raise Moved

    def after(self, act: Callable[[], None]) -> None:
        """Run ``act`` once this transaction is committed."""
        self._after.append(act)

    def committed(self) -> None:
        """The ledger has committed this transaction."""
        for act in self._after:
            act()

    def image(self) -> Image | None:
        """What is known of its one user once this transaction is committed; None where it held others, or other accounts."""
        if len(self._users) != 1 or len(self._accounts) != 1:
            return None
        ((user_id, user),) = self._users.items()
        if user.account_id not in self._lots:
            return None
        if not self._new_users and statements.user_terms(user) != self._user_terms.get(user_id):
            # The trigger has raised the version once more.
            return None
        account = self._accounts[user.account_id]
        reserves = {} if self._image is None else self._image.reserves
        for leg_id in self._holds:
            reserves[leg_id] = [{name: line[name] for name in statements.OPENING} for line in self._legs[leg_id]]
        for leg_id in self._ended_holds:
            reserves.pop(leg_id, None)
        while len(reserves) > RESERVES:
            del reserves[next(iter(reserves))]
        lots = {lot.lot_id: lot for lot in self._lots[user.account_id].values() if lot.avail_uc + lot.held_uc > 0}
        return Image(user, account, lots, reserves)

    @property
    def users(self) -> Iterable[str]:
        """The users whose rows this transaction holds."""
        return self._users.keys()

    def _batches(self) -> Iterator[tuple[Prepared, list[Row]]]:
        """What there is to write, in the order in which rows refer to each other."""
        if self._new_accounts:
            yield statements.INSERT_ACCOUNT, rows_of(self._new_accounts, statements.ACCOUNT)
        if self._new_users:
            yield statements.INSERT_USER, rows_of(self._new_users, statements.USER)
        if self._new_lots:
            for lot in self._new_lots.values():
                lot.mark()
            yield statements.INSERT_LOT, rows_of(self._new_lots.values(), statements.LOT)
        if self._new_cycles:
            yield statements.INSERT_CYCLE, self._new_cycles
        if self._moved_cycles:
            yield statements.MOVE_CYCLE, self._moved_cycles
        if self._closed_cycles:
            yield statements.CLOSE_CYCLE, self._closed_cycles
        if self._entries:
            yield statements.INSERT_PLAIN_ENTRY if self._plain else statements.INSERT_ENTRY, self._entries
        if accounts := changed(self._dirty_accounts, self._new_accounts):
            if all(self._account_terms.get(one.account_id) == statements.account_terms(one) for one in accounts):
                yield statements.MOVE_ACCOUNT, rows_of(accounts, statements.ACCOUNT_MOVES, "account_id")
            else:
                yield statements.UPDATE_ACCOUNT, rows_of(accounts, statements.ACCOUNT_CHANGES, "account_id")
        if users := changed(self._dirty_users, self._new_users):
            if all(self._user_terms.get(one.user_id) == statements.user_terms(one) for one in users):
                yield statements.MOVE_USER, rows_of(users, statements.USER_MOVES, "user_id")
            else:
                yield statements.UPDATE_USER, rows_of(users, statements.USER_CHANGES, "user_id")
        if self._dirty_lots:
            lots = changed(self._dirty_lots)
            marked = [lot.mark() for lot in lots]
            if any(marked) or self._moved_expiry:
                yield statements.UPDATE_LOT, rows_of(lots, statements.LOT_CHANGES, "lot_id")
            else:
                yield statements.MOVE_LOT, rows_of(lots, statements.LOT_MOVES, "lot_id")
        if self._deferrals:
            yield statements.INSERT_DEFERRAL, self._deferrals
        if self._ended_deferrals:
            yield statements.DELETE_DEFERRAL, self._ended_deferrals
        if self._holds:
            yield statements.INSERT_HOLD, list(self._holds.values())
        if self._ended_holds:
            yield statements.DELETE_HOLD, [{"key_leg_id": leg_id} for leg_id in sorted(self._ended_holds)]


#: Facts that stand on every line of a leg; the others stand on its first line alone, so that they are counted once.
EVERY_LINE = (
    "user_id", "team_id", "request_id", "session_id", "plan", "region", "modality", "model", "genre", "mood",
    "config_version", "arm", "actor", "reason",
)  # fmt: skip
