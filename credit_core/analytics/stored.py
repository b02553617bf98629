"""Facts read from a folder of segments: kept up to date by this process, or by the one that is the folder's writer.

Closed segments are read in place, so that a start takes a moment however large the ledger is; what is new since lies in
memory. Whoever comes first becomes the writer (:class:`credit_core.analytics.segments.Syncer`); the others follow its
manifest, and take over when it ends.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import duckdb
from sqlalchemy import FromClause, SelectBase

from credit_core.analytics import (
    by_week,
    carrying,
    counting,
    day_ends,
    finishing,
    forced,
    relations,
    run_outs,
    spells,
    visits,
)
from credit_core.analytics import manifest as manifests
from credit_core.analytics.asked import Held, RolledUp
from credit_core.analytics.compiling import compiled
from credit_core.analytics.cutting import Cuts
from credit_core.analytics.day_ends import DayEnds
from credit_core.analytics.dimensions import BY_ACCOUNT, WHOLE, key_of
from credit_core.analytics.filing import newest_rows, paths
from credit_core.analytics.filters import Period
from credit_core.analytics.layout import layout_of
from credit_core.analytics.manifest import Manifest
from credit_core.analytics.origin import Origin
from credit_core.analytics.present import Present
from credit_core.analytics.rewriting import Rewriter
from credit_core.analytics.rollups import ROLLUPS
from credit_core.analytics.segments import Syncer
from credit_core.analytics.subsets import SUBSETS
from credit_core.analytics.sync import Begin, Extent, Facts, Follow, Place, open_database
from credit_core.errors import Conflict, LedgerUnavailable
from credit_core.policy.cycles import local_day
from credit_core.units import checked_zone, from_us

_PARTLY = (*BY_ACCOUNT, relations.lots)
#: A manifest may be replaced, and its files deleted, while they are read; the next one names others.
_ATTEMPTS = 3


class StoredFacts(Facts):
    """The facts of one ledger in a folder. One per process; follow and query from any thread."""

    def __init__(
        self, url: str, store: Path, origin: Origin, database: duckdb.DuckDBPyConnection, folder: Path, zone: str | None
    ) -> None:
        """Use :meth:`at`."""
        super().__init__(origin, database, folder)
        self.store = store
        self._url = url
        self._reporting_zone = zone
        self._syncer: Syncer | None = None
        self._stamp: manifests.Stamp | None = None
        self._shown = Manifest(layout_of(), "")
        self._rewriter = Rewriter(database.cursor(), ROLLUPS)
        self._rolled_up: RolledUp | None = None
        self._day_ends: DayEnds | None = None
        #: What run-outs are asked of, as SQL.
        self._run_outs: dict[str, str] = {}
        self._finished: finishing.Held | None = None
        #: Views of files → those files.
        self._views: dict[str, tuple[str, ...]] = {}
        #: What is kept apart beside every closed segment.
        self._apart: set[str] = set()
        self._cuts = Cuts(database)
        self._present = Present(database, store, self._asked)

    @classmethod
    def at(
        cls, url: str, store: Path, reporting_zone: str | None = None, memory_limit: str = "1GB", threads: int = 2
    ) -> StoredFacts:
        """Facts of the ledger at ``url`` from the folder ``store``, which is made where it is missing.

        Nothing is read before the first :meth:`follow`. Raises :class:`LedgerUnavailable` where there is no ledger.
        """
        folder = Path(mkdtemp(prefix="titrate-"))
        try:
            origin = Origin.open(url, folder, reporting_zone)
            database = open_database(None, folder, memory_limit, threads)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        facts = cls(url, store, origin, database, folder, reporting_zone)
        facts._make_tables()
        return facts

    @property
    def writes(self) -> bool:
        """True where this process keeps the folder up to date."""
        return self._syncer is not None

    @property
    def place(self) -> Place:
        """The folder, and whether this process is its writer."""
        closed = sum(one.closed for one in self._shown.segments)
        return Place(self.store, self.writes, closed, len(self._shown.segments) - closed)

    def follow(self) -> Follow:
        """Take up what is new, having it copied where this process is the writer. Raises :class:`LedgerUnavailable`."""
        with self._lock:
            started = time.perf_counter()
            before, rebuilt = self._shown, False
            self._origin.renew()
            if self._syncer is None and not manifests.made_up(self.store):
                # Another process is the writer.
                with suppress(Conflict):
                    self._syncer = Syncer.open(self._url, self.store, self._reporting_zone)
            if self._syncer is not None:
                rebuilt = self._syncer.follow().rebuilt
            self._load()
            rows, seconds = max(0, self._shown.entries - before.entries), time.perf_counter() - started
            as_of = None if self.extent.last_us is None else from_us(self.extent.last_us)
            return Follow(rows, self._shown.watermark, seconds, as_of, self.version, rebuilt)

    def look(self) -> None:
        """Take up what the folder has, and neither become its writer nor ask the ledger. Raises :class:`LedgerUnavailable`."""
        with self._lock:
            self._load()

    def close(self) -> None:
        """Give back memory and connections; segments stay, and another process may write them."""
        if self._syncer is not None:
            self._syncer.close()
        self._rewriter.close()
        super().close()

    def run_outs(self, start_us: int, end_us: int) -> SelectBase:
        """Kept by week, and told from what is kept apart of the days since."""
        apart = spells.NAME in self._apart
        return run_outs.spells_of(start_us, end_us) if apart else super().run_outs(start_us, end_us)

    def finished(self, ended: Period) -> FromClause:
        """Kept by week, and worked out of the cycles that ended since."""
        held = self._finished
        return super().finished(ended) if held is None else finishing.finished(self, held.stop_us)

    def forced_spending(self) -> FromClause:
        """Kept apart beside closed segments."""
        if forced.NAME not in self._apart:
            return super().forced_spending()
        return forced.kept(self.shared(forced.strays(), lasting=True)).subquery("spending")

    def forget(self) -> None:
        """Ask everything anew, for those who measure."""
        super().forget()
        self._cuts.forget()

    def day_ends(self) -> DayEnds | None:
        """The days of which the folder says where accounts stood."""
        return self._day_ends

    def present(self, at_us: int) -> FromClause | None:
        """Kept for the instant just after the newest entry."""
        with self.exchange:
            last_us = self._shown.last_us
            return None if last_us is None or at_us != last_us + 1 else self._present.of(self._shown)

    def _asked(self, statement: SelectBase) -> tuple[str, list[Any]]:
        """From roll-ups where they can answer."""
        sql, parameters = compiled(statement)
        if self._rolled_up is None:
            return sql, parameters
        asked = self._rewriter(sql, parameters, self._rolled_up)
        if asked.cuts:
            self._cuts(asked.cuts, self.version)
        return asked.sql, asked.parameters

    # Taking up a manifest ----------------------------------------------------------------------------------------

    def _make_tables(self) -> None:
        writer = self._writer
        for table in relations.metadata.sorted_tables:
            made = relations.create_statement(table)
            writer.execute(made.replace(f'"{table.name}"', f'"{table.name}_new"') if _in_place(table.name) else made)
            if _in_place(table.name):
                writer.execute(f'CREATE VIEW "{table.name}" AS SELECT * FROM "{table.name}_new"')
        writer.execute("CREATE VIEW facts_closed AS SELECT * FROM facts_new WHERE FALSE")
        for one in ROLLUPS:
            writer.execute(f"CREATE TABLE {one.table}_new AS {one.made_from('facts_new')}")
            writer.execute(f"CREATE VIEW {one.table} AS SELECT * FROM {one.table}_new")
            writer.execute(f"CREATE VIEW {one.fresh} AS {one.alike('facts_new')}")
            writer.execute(f"CREATE VIEW {one.closed} AS {one.alike('facts_closed')}")
        writer.execute(relations.create_statement(day_ends.moved))
        writer.execute("INSERT INTO copy_state VALUES ('', '', 0, 0, NULL, 0)")

    def _load(self) -> None:
        for attempt in range(1, _ATTEMPTS + 1):
            stamp = manifests.stamp(self.store)
            if stamp is None:
                raise LedgerUnavailable(
                    f"There is no copy in {self.store} yet. Another process is making it; or run: python -m credit_core sync"
                )
            if stamp == self._stamp:
                return
            found = manifests.read(self.store)
            if found is None or found.layout != self._shown.layout:
                raise LedgerUnavailable(
                    f"The copy in {self.store} is of another release. Start `python -m credit_core sync` of this one; it is made anew."
                )
            try:
                self._take_up(found)
            except (duckdb.IOException, duckdb.HTTPException):
                self._views.clear()
                if attempt == _ATTEMPTS:
                    raise
                continue
            self._stamp = stamp
            return

    def _take_up(self, found: Manifest) -> None:
        with self.exchange:
            try:
                self._show(found)
            except BaseException:
                # Whatever it stumbled over, it is not in the way of the next.
                self._present.forget()
                raise
            self.made_up = found.made_up
            self.begin = None if found.begins_us is None else Begin(found.begins_us, found.left_out)

    def _show(self, found: Manifest) -> None:
        shown = self._shown
        with self._transaction() as writer:
            self._take_up_facts(shown, found)
            for table in _PARTLY:
                before, after = shown.tables.get(table.name, ()), found.tables.get(table.name, ())
                if before != after:
                    self._take_up_parts(table.name, before, after)
            for name in WHOLE:
                if shown.tables.get(name) != found.tables.get(name):
                    writer.execute(f'DELETE FROM "{name}"')
                    writer.execute(
                        f'INSERT INTO "{name}" SELECT * FROM read_parquet({self._paths(found.tables[name])})'
                    )
            writer.execute("UPDATE copy_state SET tx = $1, id = $2", [*found.watermark])
            first, last = self._days_of(found)
            self._day_ends = self._take_up_day_ends(found)
            views = self._take_up_run_outs(found)
            finished = self._take_up_finished(found)
            settle = self._present.kept_up(writer, found)
        settle()
        self._rolled_up = None if first is None or last is None else self._what_is_rolled_up(found, first, last)
        self._shown, self.zone, self._run_outs, self._finished = found, found.zone, views, finished
        self.extent = Extent(found.first_us, found.last_us, found.entries)
        self.version += 1

    def _take_up_facts(self, shown: Manifest, found: Manifest) -> None:
        fresh = ([one.file for one in at.segments if not one.closed] for at in (shown, found))
        self._into_new("facts", *fresh)
        before, after = ([one for one in at.segments if one.closed] for at in (shown, found))
        if before == after:
            return
        writer, files = self._writer, [one.file for one in after]
        stored = f"SELECT * FROM read_parquet({self._paths(files)})" if files else "SELECT * FROM facts_new WHERE FALSE"
        writer.execute(f"CREATE OR REPLACE VIEW facts_closed AS {stored}")
        writer.execute(
            "CREATE OR REPLACE VIEW facts AS SELECT * FROM facts_new" + (f" UNION ALL {stored}" if files else "")
        )
        for name, key, rows in _kept_apart("facts_new"):
            kept = [one.rollups[key] for one in after if key in one.rollups]
            self._apart.discard(name)
            if 0 < len(kept) == len(after):
                of_closed = f"SELECT * FROM read_parquet({self._paths(kept)})"
                writer.execute(f"CREATE OR REPLACE VIEW {name} AS {of_closed} UNION ALL ({rows})")
                self._view(f"closed_{name}", kept)
                self._apart.add(name)
        for one in ROLLUPS:
            sums = [
                [segment.rollups[one.key] for segment in segments if one.key in segment.rollups]
                for segments in (before, after)
            ]
            if one.in_memory:
                self._into_new(one.table, *sums)
            elif sums[1]:
                self._view(one.table, sums[1])
            else:
                writer.execute(f"CREATE OR REPLACE VIEW {one.table} AS SELECT * FROM {one.table}_new")

    def _what_is_rolled_up(self, found: Manifest, first: date, last: date) -> RolledUp:
        closed = [one for one in found.segments if one.closed]
        there = [one for one in ROLLUPS if all(one.key in segment.rollups for segment in closed)]
        days: list[tuple[str, tuple[date, ...]]] = []
        late: set[str] = set()
        for one in there:
            if one.carried:
                held = carrying.carried(found, one)
                days.append((one.name, tuple(held.files)))
                for day, file in held.files.items():
                    self._view(one.until(day), [file])
                if held.late:
                    self._view(one.late, held.late)
                    late.add(one.name)
        fresh = len(closed) < len(found.segments)
        return RolledUp(
            found.zone,
            first,
            last,
            found.last_us,
            fresh,
            frozenset(one.name for one in there),
            tuple(days),
            frozenset(late),
            self._visits(found),
            frozenset(one.name for one in SUBSETS if one.table in self._apart),
            tuple(one.file for one in closed),
        )

    def _visits(self, found: Manifest) -> Held | None:
        """The days of which the folder says who came."""
        there = by_week.there(found, visits.NAME)
        if not there.days:
            return None
        self._view(visits.NAME, list(there.files.values()))
        return Held(min(there.days), max(there.days), there.files[max(there.files)])

    def _take_up_day_ends(self, found: Manifest) -> DayEnds | None:
        """Where accounts stood when days ended, and whose cycles are others than when that was counted."""
        held, writer = by_week.there(found, counting.KIND), self._writer
        if not held.days:
            return None
        self._view(day_ends.day_ends.name, list(held.files.values()))
        writer.execute(f"DELETE FROM {day_ends.moved.name}")
        moved = counting.moved_cycles(found, self.store)
        if moved is None:
            return DayEnds(held.days, False)
        writer.execute(f"INSERT INTO {day_ends.moved.name} SELECT DISTINCT account_id FROM ({moved})")
        theirs = f"account_id IN (SELECT account_id FROM {day_ends.moved.name})"
        then = newest_rows(self.store, found.tables[counting.CYCLES_THEN], theirs)
        writer.execute(f"CREATE OR REPLACE VIEW {day_ends.cycles_then.name} AS {then}")
        return DayEnds(held.days, self._one(f"SELECT count(*) FROM {day_ends.moved.name}")[0] > 0)

    def _take_up_run_outs(self, found: Manifest) -> dict[str, str]:
        """The relations that run-outs are asked of; most often those are the same as before."""
        if spells.NAME not in self._apart:
            return {}
        views = run_outs.relations_of(found, self.store, spells.made_from("facts_new"))
        if views != self._run_outs:
            for name, sql in views.items():
                self._writer.execute(f"CREATE OR REPLACE VIEW {name} AS {sql}")
        return views

    def _take_up_finished(self, found: Manifest) -> finishing.Held | None:
        """What finished cycles are asked of; most often that is the same as before."""
        held = finishing.held(found, self.store, "facts_new")
        if held is not None and held != self._finished:
            for name, sql in held.views.items():
                self._writer.execute(f"CREATE OR REPLACE VIEW {name} AS {sql}")
        return held

    def _days_of(self, found: Manifest) -> tuple[date | None, date | None]:
        """The first and the last day that closed segments touch."""
        closed = [one for one in found.segments if one.closed]
        if not closed:
            return None, None
        place = checked_zone(found.zone)
        ends = min(one.first_us for one in closed), max(one.last_us for one in closed)
        return local_day(from_us(ends[0]), place), local_day(from_us(ends[1]), place)

    def _view(self, name: str, files: Sequence[str]) -> None:
        # There is one for each of many days, and most are what they were.
        if self._views.get(name) != tuple(files):
            self._writer.execute(f"CREATE OR REPLACE VIEW {name} AS SELECT * FROM read_parquet({self._paths(files)})")
            self._views[name] = tuple(files)

    def _into_new(self, name: str, before: Sequence[str], after: Sequence[str]) -> None:
        """Have the rows of these files in memory; those that are there already stay."""
        if list(after[: len(before)]) != list(before):
            self._writer.execute(f'DELETE FROM "{name}_new"')
            before = ()
        if missing := after[len(before) :]:
            self._writer.execute(f'INSERT INTO "{name}_new" SELECT * FROM read_parquet({self._paths(missing)})')

    def _take_up_parts(self, name: str, before: Sequence[str], after: Sequence[str]) -> None:
        """The first file is read in place; what came later is in memory and counts instead."""
        writer, parts, key = self._writer, list(after[1:]), key_of(name)
        if after[:1] == before[:1] and parts[: len(before) - 1] == list(before[1:]):
            parts = parts[len(before) - 1 :]
        else:
            writer.execute(f'DELETE FROM "{name}_new"')
        for file in parts:
            rows = f"read_parquet({self._paths([file])})"
            writer.execute(f'DELETE FROM "{name}_new" WHERE {key} IN (SELECT {key} FROM {rows})')
            writer.execute(f'INSERT INTO "{name}_new" SELECT * FROM {rows}')
        base = f"SELECT * FROM read_parquet({self._paths(after[:1])})" if after else ""
        if len(after) > 1:
            base += f' WHERE {key} NOT IN (SELECT {key} FROM "{name}_new")'
        view = f'SELECT * FROM "{name}_new"' + (f" UNION ALL {base}" if base else "")
        writer.execute(f'CREATE OR REPLACE VIEW "{name}" AS {view}')

    def _paths(self, files: Sequence[str]) -> str:
        return paths(self.store, files)


def _kept_apart(entries: str) -> list[tuple[str, str, str]]:
    """Of what each segment keeps apart: the relation's name, the file's key, and SQL of its rows of entries that are not closed."""
    told = [(one.table, one.key, one.made_from(entries)) for one in SUBSETS]
    return [
        *told,
        (spells.NAME, spells.key(), spells.made_from(entries)),
        (forced.NAME, forced.key(), forced.fresh_from(entries)),
    ]


def _in_place(name: str) -> bool:
    """Tables that are read from disk, but for what is new."""
    return name == relations.facts.name or name in {table.name for table in _PARTLY}


def opened(url: str, store: Path | None, **options: Any) -> Facts:
    """The facts of a ledger: from ``store`` where it is given, else copied into memory."""
    return Facts.open(url, **options) if store is None else StoredFacts.at(url, store, **options)
