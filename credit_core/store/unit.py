"""One transaction on the ledger: rows are loaded under lock, changed in memory, and written back once, at commit.

Every change of a balance goes through :meth:`Unit.append`, which moves the entry, the account and the lot together, so the
derived tables equal the entries' sums by construction. Nothing is written before the last check has passed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, select

from credit_core.errors import InvalidAmount, LedgerError, NotFound
from credit_core.policy.lots import LotView, spending_key
from credit_core.policy.quotas import Counted, Window
from credit_core.store import chain, counts, guests, statements
from credit_core.store.prepared import Prepared, fetch, write
from credit_core.store.records import Account, Lot, Row, User, changed, pool_of, rows_of
from credit_core.store.schema import ledger_entries
from credit_core.units import to_us

_ACCOUNT_COLUMNS = len(statements.ACCOUNT)
#: What both engines hold in 64 bits.
_LARGEST = 2**63 - 1


class Delta(NamedTuple):
    """What one line of a leg moves. ``lot`` is None for entries that move nothing."""

    lot: Lot | None
    d_avail_uc: int
    d_held_uc: int


class Unit:
    """The rows one transaction holds. Made by :meth:`credit_core.store.ledger.Ledger.run`, which commits it."""

    def __init__(self, connection: Connection, now: datetime, salts: Mapping[str, bytes]) -> None:
        """``now`` is the wall clock of this transaction, ``salts`` the deployment's keys by name."""
        self.connection = connection
        self.now = now
        self.salts = salts
        self._accounts: dict[str, Account] = {}
        self._users: dict[str, User] = {}
        self._absent: set[str] = set()
        self._owners: dict[str, User] = {}
        self._lots: dict[str, dict[str, Lot]] = {}
        self._legs: dict[str, list[Row]] = {}
        self._openings: dict[str, list[Row]] = {}
        self._entries: list[Row] = []
        #: Whether no entry has more to tell than :data:`statements.PLAIN_FACTS`.
        self._plain = True
        #: What no leg changes of the loaded accounts and users, as it was.
        self._account_terms: dict[str, tuple[Any, ...]] = {}
        self._user_terms: dict[str, tuple[Any, ...]] = {}
        self._dirty_accounts: dict[str, Account] = {}
        self._dirty_users: dict[str, User] = {}
        self._dirty_lots: dict[str, Lot] = {}
        self._new_accounts: list[Account] = []
        self._new_users: list[User] = []
        self._new_lots: dict[str, Lot] = {}
        self._holds: dict[str, Row] = {}
        self._ended_holds: set[str] = set()
        self._deferrals: list[Row] = []
        self._ended_deferrals: list[Row] = []
        self._new_cycles: list[Row] = []
        self._closed_cycles: list[Row] = []
        self._moved_cycles: list[Row] = []
        self._windows: dict[str, Window] = {}
        self._rows_last: list[tuple[Prepared, list[Row]]] = []
        self._last: list[Callable[[], None]] = []

    # Loading -----------------------------------------------------------------------------------------------------

    def user(self, user_id: str) -> tuple[User, Account]:
        """The user and the account that pays for them, both locked. Raises :class:`NotFound`."""
        known = self._users.get(user_id)
        if known is None:
            # PostgreSQL finds nothing where the user came to another account while it waited for the lock: ask again.
            rows = statements.USER_ROW.rows(self.connection, user_id=user_id) or statements.USER_ROW.rows(
                self.connection, user_id=user_id
            )
            if not rows:
                raise NotFound(f"There is no user {user_id!r}. Add them first: core.add_user(user_id, plan).")
            known = self._adopt(rows[0])
        return known, self._accounts[known.account_id]

    def load(self, user_id: str, leg_id: str, *, of: str | None = None) -> None:
        """Lock the user and their account, then load its open lots: on PostgreSQL in one round trip.

        With them comes whether ``leg_id`` was written before, and the opening leg ``of`` that it ends, if it ends one.
        A user who does not exist is left to :meth:`user` to report.
        """
        if user_id in self._users:
            return
        whose = {"user_id": user_id}
        asked: list[tuple[Prepared, Row]] = [(statements.USER_ROW, whose), (statements.USER_LOTS, whose)]
        if of is None:
            asked.append((statements.IS_WRITTEN, {"leg_id": leg_id}))
        else:
            asked.append((statements.OPENING_AND_END, {"leg_id": leg_id, "opening": of}))
        found, lots_found, lines = fetch(self.connection, asked)
        if of is not None:
            self._openings[of] = [dict(zip(statements.OPENING, line, strict=True)) for line in lines if line[0] == of]
            lines = [line for line in lines if line[0] != of]
        if not lines:
            self._legs.setdefault(leg_id, [])
        if found:
            account_id = self._adopt(found[0]).account_id
            if account_id not in self._lots:
                self._lots[account_id] = {lot.lot_id: lot for lot in (Lot(*row) for row in lots_found)}

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
        for row in self.connection.execute(statements.USER_ROWS, {"user_ids": wanted}).all():
            self._adopt(row)
        self._absent.update(user_id for user_id in wanted if user_id not in self._users)
        self._load_lots([self._users[user_id].account_id for user_id in wanted if user_id in self._users])

    def lock_accounts(self, account_ids: Iterable[str]) -> list[Account]:
        """Load and lock accounts in order, with their owners and open lots; those that do not exist are left out."""
        wanted = sorted({account_id for account_id in account_ids if account_id not in self._accounts})
        if wanted:
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
            self._windows |= guests.lock(self.connection, missing)
        return {key: self._windows[key] for key in keys}

    def set_windows(self, changed: Mapping[str, Window]) -> None:
        """Change locked windows."""
        self._windows |= changed
        self.finally_write(lambda: guests.write(self.connection, changed))

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
        self._users[user.user_id] = user
        self._user_terms[user.user_id] = statements.user_terms(user)
        if user.account_id not in self._accounts:
            account = Account(*row[:_ACCOUNT_COLUMNS])
            self._accounts[account.account_id] = account
            self._account_terms[account.account_id] = statements.account_terms(account)
        self._owners.setdefault(user.account_id, user)
        return user

    def _load_lots(self, account_ids: Iterable[str]) -> None:
        wanted = [account_id for account_id in account_ids if account_id not in self._lots]
        if wanted:
            self._lots.update((account_id, {}) for account_id in wanted)
            for row in self.connection.execute(statements.OPEN_LOTS, {"account_ids": wanted}).all():
                self._lots[row.account_id][row.lot_id] = Lot(**row._mapping)

    # Changing ----------------------------------------------------------------------------------------------------

    def append(
        self, account: Account, kind: str, leg_id: str, deltas: Iterable[Delta], occurred_at: datetime, **facts: Any
    ) -> list[Row]:
        """Write one leg: a line per delta, ``facts`` on each line if they name it, else on the first (see :data:`EVERY_LINE`)."""
        recorded_at = max(self.now, account.recorded_at)
        self._plain = self._plain and statements.PLAIN_FACTS.issuperset(facts)
        every = {name: facts[name] for name in EVERY_LINE if name in facts}
        written: list[Row] = []
        for line, (lot, d_avail, d_held) in enumerate(deltas, 1):
            row = statements.BLANK | (facts if line == 1 else every)
            account.seq += 1
            account.avail_uc += d_avail
            account.held_uc += d_held
            row.update(
                account_id=account.account_id, seq=account.seq, leg_id=leg_id, line=line, occurred_at=occurred_at, recorded_at=recorded_at,
                kind=kind, lot_id=None if lot is None else lot.lot_id, d_avail_uc=d_avail, d_held_uc=d_held,
                plan=facts.get("plan", account.plan),
                region=facts.get("region", account.region), prev_hash=account.head_hash,
            )  # fmt: skip
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
            row["hash"] = account.head_hash = chain.entry_hash(row, account.head_hash, self.salts["details"])
            written.append(row)
        account.recorded_at = recorded_at
        self._dirty_accounts[account.account_id] = account
        self._entries.extend(written)
        self._legs[leg_id] = written
        return written

    def add_account(self, account: Account) -> None:
        """A new account; its entries follow in the same transaction."""
        self._accounts[account.account_id] = account
        self._lots[account.account_id] = {}
        self._new_accounts.append(account)

    def add_user(self, user: User) -> None:
        """A new user of an account of this transaction."""
        self._users[user.user_id] = user
        self._absent.discard(user.user_id)
        self._owners.setdefault(user.account_id, user)
        self._new_users.append(user)

    def move_user(self, user: User, account: Account) -> None:
        """From now on ``account`` pays for the user."""
        user.account_id = account.account_id
        self._owners[account.account_id] = user
        self.touch(user)

    def add_lot(self, account: Account, lot: Lot) -> Lot:
        """A new, empty lot; an entry of this transaction fills it."""
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
        self._touch_lot(lot)

    def _touch_lot(self, lot: Lot) -> None:
        if lot.lot_id not in self._new_lots:
            self._dirty_lots[lot.lot_id] = lot

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

        On PostgreSQL the COMMIT travels with the writes, where nothing is left for :meth:`finally_write`.
        """
        rows, self._rows_last = self._rows_last, []
        write(self.connection, [*self._batches(), *rows], commit=not self._last)
        self.write_last()
        return len(self._entries)

    def _batches(self) -> Iterator[tuple[Prepared, list[Row]]]:
        """What there is to write, in the order in which rows refer to each other."""
        if self._new_accounts:
            yield statements.INSERT_ACCOUNT, rows_of(self._new_accounts, statements.ACCOUNT)
        if self._new_users:
            yield statements.INSERT_USER, rows_of(self._new_users, statements.USER)
        if self._new_lots:
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
            yield statements.UPDATE_LOT, rows_of(changed(self._dirty_lots), statements.LOT_CHANGES, "lot_id")
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
