"""The small tables beside the facts: which rows of them changed since they were last copied (accounts, cycles, releases …)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa  # type: ignore[import-untyped]
from sqlalchemy import Engine, Select, Table, func, literal, select, tuple_

from credit_core.analytics import relations
from credit_core.analytics.source import Source
from credit_core.analytics.statements import columns_of
from credit_core.policy.plans import Plan
from credit_core.store import schema

#: Above this many changed keys a table is read whole.
FEW = 2_000
#: Tables whose rows change with entries of their account.
BY_ACCOUNT = (relations.accounts, relations.users, relations.cycles)
#: Rows that come and go with entries: as many as before need not be the same ones.
_WITH_ENTRIES = (relations.holds.name, relations.deferrals.name)
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


class Changed(NamedTuple):
    """New rows by table. Of tables in ``partly`` they are all rows of the accounts that they name; of others, all there are."""

    tables: dict[str, pa.Table]
    partly: frozenset[str]


class Dimensions:
    """What of the small tables was copied. ``touched``: accounts with entries since; None where everything is to be read."""

    def __init__(self, source: Source, engine: Engine, by_account: Iterable[Table] = BY_ACCOUNT) -> None:
        """Nothing is read before :meth:`changed`."""
        self.touched: set[str] | None = None
        self.tokens: Tokens = {}
        self._source = source
        self._engine = engine
        self.by_account = tuple(by_account)
        self._statements = {
            table.name: self._rows_of(table)
            for table in (*self.by_account, *(relations.metadata.tables[name] for name in WHOLE))
            if table is not relations.plans
        }

    def _rows_of(self, table: Table) -> tuple[Select[Any], Select[Any]]:
        """Those of some accounts, where it has accounts, and all."""
        source = schema.metadata.tables[table.name]
        every = select(*columns_of(source, table.columns.keys()))
        return every.where(self._source.among(source.c.account_id)) if table in self.by_account else every, every

    def forget(self) -> None:
        """Nothing is copied any more."""
        self.touched = None
        self.tokens = {}

    def touch(self, entries: pa.Table) -> None:
        """These entries were copied."""
        if self.touched is not None:
            self.touched.update(entries["account_id"].unique().to_pylist())

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
        touched = None if self.many else sorted(self.touched or ())
        statements = {}
        if accounts and (touched is None or touched):
            for table in self.by_account:
                of_some, of_all = self._statements[table.name]
                statements[table.name] = of_all if touched is None else of_some
        tokens = self._read_tokens()
        for name, token in tokens.items():
            moved = token != self.tokens.get(name)
            if name != relations.plans.name and (moved or (copied and name in _WITH_ENTRIES)):
                statements[name] = self._statements[name][1]
        tables = self._source.read(statements, touched or ()) if statements else {}
        if tokens[relations.plans.name] != self.tokens.get(relations.plans.name):
            tables[relations.plans.name] = self._plans()
        partly = frozenset() if touched is None else frozenset(table.name for table in self.by_account)
        return Changed(tables, partly), tokens

    def settle(self, tokens: Tokens) -> None:
        """What :meth:`changed` told of is copied."""
        self.touched = set()
        self.tokens = tokens

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

    def _read_tokens(self) -> Tokens:
        """Per small table, figures that change whenever the table does."""
        with self._engine.connect() as connection:
            return {
                name: [str(figure) for figure in connection.execute(statement).one()]
                for name, statement in _TOKENS.items()
            }


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
