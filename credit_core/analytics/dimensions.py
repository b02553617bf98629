"""The small tables beside the facts: which rows of them changed since they were last copied (accounts, cycles, releases …)."""

from __future__ import annotations

import marshal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.compute as pc  # type: ignore[import-untyped]
from sqlalchemy import Engine, Select, Table, func, literal, select, tuple_

from credit_core.analytics import relations
from credit_core.analytics.few import Ask, Rows, among
from credit_core.analytics.source import FEW_ROWS, Source
from credit_core.analytics.statements import columns_of, in_columns
from credit_core.policy.plans import Plan
from credit_core.store import schema

#: Above this many changed keys a table is read whole.
FEW = 2_000
#: Tables whose rows change with entries of their account.
BY_ACCOUNT = (relations.accounts, relations.users, relations.cycles)
#: Entries of other kinds than these may have changed an account's cycles, whatever its own row says.
_OF_REQUESTS = pa.array([*schema.OPENING_KINDS, *schema.ENDING_KINDS])
_ENDS_HOLDS = pa.array(schema.ENDING_KINDS)
#: Moves the ends of lots that it does not name.
_RESUME = "resume"
#: Rows of each table that are remembered, to tell which changed.
_REMEMBERED = 100_000
#: Rows that come with entries of a kind, whose leg names them, and go with others: as many as before need not be the same ones.
_WITH_ENTRIES = {relations.holds.name: "reserve", relations.deferrals.name: "defer"}
#: Small tables, and figures that change whenever the table does.
_TOKENS = {
    "holds": select(func.count(), func.sum(schema.holds.c.amount_uc)),
    "deferrals": select(func.count(), func.max(schema.deferrals.c.deferred_at)),
    "library_days": select(func.count(), func.sum(schema.library_days.c.assets)),
    "library_cells": select(
        func.count(), func.count(schema.library_cells.c.requested_at), func.count(schema.library_cells.c.queued_at)
    ),
    "config_versions": select(func.count(schema.config_versions.c.version)),
    "config_releases": select(func.count(schema.config_releases.c.release_id)),
    "checks": select(func.count(schema.checks.c.check_id)),
    "repeats": select(func.count(), func.sum(schema.repeats.c.calls)),
    "plans": select(func.count(schema.catalogs.c.version)),
}
#: The tables that :data:`_TOKENS` tell of, each copied whole.
WHOLE = tuple(_TOKENS)
Tokens = dict[str, list[str]]
#: All of them by one statement: how many figures each table has, and the figures.
_FIGURES = {name: len(statement.selected_columns) for name, statement in _TOKENS.items()}
_TOLD = [statement.subquery(f"of_{name}") for name, statement in _TOKENS.items()]
_EVERY_TOKEN = select(*(column for told in _TOLD for column in told.c)).select_from(*_TOLD)


class Changed(NamedTuple):
    """New rows by table. Of tables in ``partly`` they count instead of those with the same key (:func:`key_of`), of those in ``added``
    they are beside those that were there; of others they are all.

    ``lots``: those that new entries name, changed or not; None where they were not read by themselves.
    """

    tables: dict[str, pa.Table]
    partly: frozenset[str]
    lots: pa.Table | None
    added: frozenset[str] = frozenset()


def key_of(table: str) -> str:
    """By which column newer rows of a table count instead of older ones: all of an account's, or each lot by itself."""
    return "lot_id" if table == relations.lots.name else "account_id"


class _Remembered:
    """Rows as they were copied last, of the keys that came up lately: by 64 bits of each, that large copies may be followed."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}
        self._found: dict[str, int] = {}

    def begin(self) -> None:
        """What was seen last, and did not settle, is not copied."""
        self._found = {}

    def moved(self, rows: Rows, key: int) -> Rows:
        """The rows of those keys, in column ``key``, of which any row is another than was copied, or that are not known any more."""
        found: dict[str, int] = {}
        for row in rows:
            # Its second version writes the same bytes for the same values.
            found[row[key]] = found.get(row[key], 0) + hash(marshal.dumps(row, 2))
        self._found = found
        moved = {one for one, those in found.items() if self._known.get(one) != those}
        return [row for row in rows if row[key] in moved]

    def settle(self) -> None:
        """What :meth:`moved` saw is copied."""
        if len(self._known) + len(self._found) > _REMEMBERED:
            self._known = {}
        self._known |= self._found
        self._found = {}

    def forget(self) -> None:
        """Nothing is copied any more."""
        self._known, self._found = {}, {}


class Dimensions:
    """What of the small tables was copied. ``touched``: accounts with entries since; None where everything is to be read."""

    def __init__(self, source: Source, engine: Engine, by_account: Iterable[Table] = BY_ACCOUNT) -> None:
        """Nothing is read before :meth:`changed`."""
        self.touched: set[str] | None = None
        self.tokens: Tokens = {}
        self._source = source
        self._engine = engine
        self.by_account = tuple(by_account)
        #: Of new entries: their lots, and whose they are where they are no request's, or resume a pause.
        self._lots: set[str] = set()
        self._others: set[str] = set()
        self._resumed: set[str] = set()
        #: Of tables whose rows come with entries: the legs that are copied, those that new entries name, and what new entries may end.
        self._legs: dict[str, set[str]] = {}
        self._found_legs: dict[str, set[str]] = {}
        self._opened: dict[str, set[str]] = {name: set() for name in _WITH_ENTRIES}
        self._ended: set[str] = set()
        self._remembered = {table.name: _Remembered() for table in by_account}
        self._statements = {
            table.name: self._rows_of(table)
            for table in (*self.by_account, *(relations.metadata.tables[name] for name in WHOLE))
            if table is not relations.plans
        }
        self._of_legs = {
            name: self._statements[name][1].where(self._source.among(schema.metadata.tables[name].c.leg_id))
            for name in _WITH_ENTRIES
        }
        lots, entries = schema.lots, schema.ledger_entries.c
        # By entries: they have an index by account, lots that are closed do not.
        of_accounts = select(entries.lot_id).where(self._source.among(entries.account_id)).distinct()
        self._lots_of = select(lots.c.lot_id).where(lots.c.lot_id.in_(of_accounts))

    def _rows_of(self, table: Table) -> tuple[Select[Any], Select[Any]]:
        """Those of some accounts (of lots, some of them), where it has accounts, and all."""
        source = schema.metadata.tables[table.name]
        every = select(*columns_of(source, table.columns.keys()))
        of_some = every.where(self._source.among(source.c[key_of(table.name)])) if table in self.by_account else every
        return of_some, every

    def forget(self) -> None:
        """Nothing is copied any more."""
        self._begin_anew(None)
        self.tokens, self._legs = {}, {}
        for remembered in self._remembered.values():
            remembered.forget()

    def _begin_anew(self, touched: set[str] | None) -> None:
        self.touched = touched
        self._lots, self._others, self._resumed, self._ended = set(), set(), set(), set()
        self._opened = {name: set() for name in _WITH_ENTRIES}

    def touch(self, entries: pa.Table) -> None:
        """These entries were copied."""
        if self.touched is None:
            return
        accounts, kinds = entries["account_id"], entries["kind"].cast(pa.string())
        self.touched.update(accounts.unique().to_pylist())
        if self.many:
            return
        self._lots.update(entries["lot_id"].unique().drop_null().to_pylist())
        self._others.update(accounts.filter(pc.invert(pc.is_in(kinds, value_set=_OF_REQUESTS))).to_pylist())
        self._resumed.update(accounts.filter(pc.equal(kinds, _RESUME)).to_pylist())
        for name, kind in _WITH_ENTRIES.items():
            self._opened[name].update(entries["leg_id"].filter(pc.equal(kinds, kind)).to_pylist())
        if pc.any(pc.is_in(kinds, value_set=_ENDS_HOLDS)).as_py():
            self._ended.add(relations.holds.name)
        # Its fresh half is a request of its own; what waited too long is dropped by an entry.
        if pc.any(pc.or_(pc.is_valid(entries["parent_request_id"]), pc.equal(kinds, "rejected"))).as_py():
            self._ended.add(relations.deferrals.name)

    @property
    def many(self) -> bool:
        """Whether rows of all accounts are to be read, because those that changed are many, or not known."""
        return self.touched is None or len(self.touched) > FEW

    def pages(self, table: Table, rows: int) -> Iterator[pa.Table]:
        """All rows of a table, so many at a time, in the order of its key; each page is of an instant of its own."""
        source = schema.metadata.tables[table.name]
        key = list(source.primary_key.columns)
        statement = select(*columns_of(source, table.columns.keys())).order_by(*key).limit(rows)
        page = self._source.read({table.name: statement})[table.name]
        while page.num_rows:
            yield page
            if page.num_rows < rows:
                return
            last = [literal(page[column.name][-1].as_py(), column.type) for column in key]
            page = self._source.read({table.name: statement.where(tuple_(*key) > tuple_(*last))})[table.name]

    def changed(self, *, copied: bool, accounts: bool = True) -> tuple[Changed, Tokens]:
        """The rows to copy again, and the tokens that go with them; ``copied``: there were new entries.

        ``accounts`` False leaves out the tables whose rows change with entries.
        """
        self._found_legs = {}
        few = accounts and not self.many and bool(self.touched)
        asked = self._asked(sorted(self.touched or ()) if few else [], copied=copied)
        every, *found = self._source.rows([Ask(_EVERY_TOKEN), *asked.values()])
        tokens = _tokens(every[0])
        rows = dict(zip(asked, found, strict=True))
        statements = {
            table.name: self._statements[table.name][1] for table in self.by_account if accounts and self.many
        }
        added = self._added(rows, tokens) if copied else {}
        for name, token in tokens.items():
            moved = token != self.tokens.get(name) and name not in added
            if (
                name not in rows
                and name != relations.plans.name
                and (moved or (copied and name in _WITH_ENTRIES and name not in added))
            ):
                statements[name] = self._statements[name][1]
        tables = self._source.read(statements) if statements else {}
        if tokens[relations.plans.name] != self.tokens.get(relations.plans.name):
            tables[relations.plans.name] = self._plans()
        tables |= {name: self._table(name, rows.pop(name)) for name in _WITH_ENTRIES if name in rows}
        for name in _WITH_ENTRIES:
            if name in tables and name not in added:
                self._found_legs[name] = set(tables[name]["leg_id"].to_pylist())
        tables |= {name: self._table(name, new) for name, new in added.items() if new}
        if not few:
            return Changed(tables, frozenset(), None, frozenset(added)), tokens
        of_accounts, lots = self._of_touched(rows)
        partly = frozenset(table.name for table in self.by_account)
        return Changed(tables | of_accounts, partly, lots, frozenset(added)), tokens

    def _added(self, rows: dict[str, Rows], tokens: Tokens) -> dict[str, Rows]:
        """Of tables whose rows come with entries, those that nothing can have left, and what is new in them: taken from ``rows``."""
        added = {}
        for name in _WITH_ENTRIES:
            if not self._only_added(name):
                continue
            known = self._legs[name]
            new = [row for row in rows.pop(name, ()) if row[0] not in known]
            # On PostgreSQL there may be rows already whose entries may not be read yet.
            if len(known) + len(new) == int(tokens[name][0]):
                added[name] = new
                self._found_legs[name] = known.union(row[0] for row in new)
        return added

    def _only_added(self, name: str) -> bool:
        """Whether rows of a table that come with entries can only have been added, by entries that are known."""
        return name in self._legs and name not in self._ended and not self.many

    def _asked(self, touched: list[str], *, copied: bool) -> dict[str, Ask]:
        """What is asked together with the tokens: of accounts with new entries all but cycles, and what comes and goes with entries."""
        asked = {}
        for name in _WITH_ENTRIES if copied else ():
            if self._only_added(name):
                if self._opened[name]:
                    asked[name] = among(self._of_legs[name], sorted(self._opened[name]))
            elif name in self.tokens and int(self.tokens[name][0]) <= FEW_ROWS:
                asked[name] = Ask(self._statements[name][1])
        if not touched:
            return asked
        named = set(self._lots)
        if self._resumed:
            (of_resumed,) = self._source.rows([among(self._lots_of, sorted(self._resumed))])
            named.update(row[0] for row in of_resumed)
        wanted = {relations.lots.name: sorted(named), relations.cycles.name: []}
        for table in self.by_account:
            if (whose := wanted.get(table.name, touched)) or table is relations.lots:
                asked[table.name] = among(self._statements[table.name][0], whose)
        return asked

    def _of_touched(self, rows: Mapping[str, Rows]) -> tuple[dict[str, pa.Table], pa.Table | None]:
        """Of the accounts with new entries the rows that are others than before, and the lots that those entries name."""
        for remembered in self._remembered.values():
            remembered.begin()
        changed = {name: self._moved(name, found) for name, found in rows.items()}
        # A cycle begins, ends and changes together with the row of its account, or with an entry that says so.
        accounts = changed.get(relations.accounts.name)
        whose = self._others.union(self.touched or () if accounts is None else [row[0] for row in accounts])
        cycles = relations.cycles.name
        if cycles in self._remembered and whose:
            (found,) = self._source.rows([among(self._statements[cycles][0], sorted(whose))])
            changed[cycles] = self._moved(cycles, found)
        lots = relations.lots.name
        return (
            {name: self._table(name, moved) for name, moved in changed.items() if moved},
            self._table(lots, rows[lots]) if lots in rows else None,
        )

    def _moved(self, name: str, rows: Rows) -> Rows:
        return self._remembered[name].moved(rows, _columns(name).index(key_of(name)))

    def _table(self, name: str, rows: Rows) -> pa.Table:
        return in_columns(name, _columns(name), rows)

    def settle(self, tokens: Tokens) -> None:
        """What :meth:`changed` told of is copied."""
        for remembered in self._remembered.values():
            if self.many:
                remembered.forget()
            remembered.settle()
        self._begin_anew(set())
        # Of more rows than are remembered all are read again.
        self._legs |= self._found_legs
        self._legs = {name: legs for name, legs in self._legs.items() if len(legs) <= _REMEMBERED}
        self.tokens, self._found_legs = tokens, {}

    def _plans(self) -> pa.Table:
        """Policy and unit of every plan that any catalogue had, by the newest that has it."""
        catalogs = schema.catalogs.c
        with self._engine.connect() as connection:
            bodies = connection.execute(select(catalogs.body).order_by(catalogs.version)).scalars().all()
        known = {name: row for body in bodies for name, row in body.get("plans", {}).items()}
        usual = Plan.model_fields["credit_unit"].default
        columns = {
            "plan": list(known),
            "quota_policy": [row["quota_policy"] for row in known.values()],
            "credit_unit": [row.get("credit_unit", usual) for row in known.values()],
        }
        return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})


def _tokens(figures: Sequence[Any]) -> Tokens:
    """Per small table, figures that change whenever the table does."""
    left = iter(figures)
    return {name: [str(next(left)) for _ in range(count)] for name, count in _FIGURES.items()}


def _columns(name: str) -> list[str]:
    return relations.metadata.tables[name].columns.keys()


def new_lots(source: Source, named: Iterable[Any]) -> pa.Table:
    """These lots as the copy has them; where they are many, all lots there are."""
    wanted = list(named)
    statement = select(*columns_of(schema.lots, relations.lots.columns.keys()))
    if len(wanted) <= FEW:
        statement = statement.where(source.within(schema.lots.c.lot_id, wanted))
    return source.read({"lots": statement})["lots"]


def lots_named(source: Source, named: Sequence[Any]) -> pa.Table:
    """These lots as the copy has them, however many they are."""
    parts = [named[place : place + FEW] for place in range(0, len(named), FEW)] or [()]
    return pa.concat_tables([new_lots(source, part) for part in parts])
