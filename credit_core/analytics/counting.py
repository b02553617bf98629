"""Counting where accounts stood at the end of each day that is over, a week at a time, beside the closed segments."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import duckdb

from credit_core.analytics import by_week, carrying, finishing, relations, run_outs, visits
from credit_core.analytics.asked import RolledUp
from credit_core.analytics.by_week import PEOPLE
from credit_core.analytics.carrying import Written, end_us
from credit_core.analytics.compiling import compiled
from credit_core.analytics.day_ends import at_ends, counted
from credit_core.analytics.days import Day
from credit_core.analytics.filing import newest_rows, paths
from credit_core.analytics.manifest import Manifest
from credit_core.analytics.rewriting import Rewriter
from credit_core.policy.cycles import first_instant, local_day
from credit_core.units import checked_zone, from_us, to_us

KIND, CYCLES_THEN = "ends", "ends cycles"
#: Of a cycle, what surplus rests on.
_MATTERS = "account_id, cycle_no, start_at, end_at, quota_uc, plan, region"


def completed(at: Manifest, folder: Path, database: duckdb.DuckDBPyConnection, written: Written) -> Manifest:
    """The manifest with all that is added up (:func:`carrying.completed`), and visits, run-outs, cycles and ends of days that are over.

    The same one where nothing is missing, and no day is over since the last time. Weeks in which a cycle began that is
    another by now are counted anew.
    """
    at = run_outs.completed(visits.completed(carrying.completed(at, folder, written), folder, written), folder, written)
    at = finishing.completed(at, folder, database, written)
    last = carrying.last_whole_day(at)
    known = by_week.there(at, KIND)
    if last is None or relations.cycles.name not in at.tables or any(last == until for _, until in known.files):
        return at
    begun_us = _first_moved(at, folder, database) if known.files else None
    holds = known.through
    if holds is not None and begun_us is not None:
        holds = min(holds, local_day(from_us(begun_us), checked_zone(at.zone)) - timedelta(days=1))
    kept = {span: name for span, name in known.files.items() if holds is not None and span[1] <= holds}
    weeks = list(by_week.weeks(carrying.first_day(at), last))
    files = {span: name for span, name in kept.items() if span in weeks}
    with _Views(at, folder, database) as views:
        for span in weeks:
            if span not in files:
                files[span] = views.count(span, written)
    cycles = {CYCLES_THEN: at.tables[relations.cycles.name]}
    return replace(at, tables=at.tables | by_week.tables(at, KIND, files) | cycles)


class _Views:
    """What the statement asks, under the names by which it asks it, in the writer's database."""

    def __init__(self, at: Manifest, folder: Path, database: duckdb.DuckDBPyConnection) -> None:
        self._zone = at.zone
        self._database = database
        held = carrying.carried(at, PEOPLE)
        closed = [one for one in at.segments if one.closed]
        last = local_day(from_us(max(one.last_us for one in closed)), checked_zone(at.zone))
        late = frozenset({PEOPLE.name} if held.late else ())
        carried = ((PEOPLE.name, tuple(held.files)),)
        self._rolled = RolledUp(
            at.zone, carrying.first_day(at), last, None, False, frozenset({PEOPLE.name}), carried, late
        )
        people = [one.rollups[PEOPLE.key] for one in closed]
        self._views = {PEOPLE.table: f"SELECT * FROM read_parquet({paths(folder, people)})"}
        self._views |= {
            PEOPLE.until(day): f"SELECT * FROM read_parquet({paths(folder, [name])})"
            for day, name in held.files.items()
        }
        if held.late:
            self._views[PEOPLE.late] = f"SELECT * FROM read_parquet({paths(folder, held.late)})"
        self._views[relations.cycles.name] = newest_rows(folder, at.tables[relations.cycles.name])

    def __enter__(self) -> _Views:
        for name, sql in self._views.items():
            self._database.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {sql}")
        self._rewriter = Rewriter(self._database.cursor(), [PEOPLE])
        return self

    def __exit__(self, *_: object) -> None:
        self._rewriter.close()
        for name in self._views:
            self._database.execute(f"DROP VIEW {name}")
        self._database.execute(f"DROP TABLE IF EXISTS temp.{KIND}")

    def count(self, span: tuple[date, date], written: Written) -> str:
        """The file with the counts of these days."""
        asked = self._rewriter(*compiled(counted(at_ends(_days(*span, self._zone)))), self._rolled)
        self._database.execute(f"CREATE OR REPLACE TEMP TABLE {KIND} AS {asked.sql}", asked.parameters)
        return written(by_week.named(KIND, span), f"SELECT * FROM {KIND} ORDER BY ALL")


def moved_cycles(at: Manifest, folder: Path) -> str | None:
    """SQL of the cycles that are others than when days were counted; None where none can be."""
    now, then = at.tables[relations.cycles.name], at.tables[CYCLES_THEN]
    if now == then:
        return None
    before_us = end_us(at, max(last for _, last in by_week.there(at, KIND).files))
    # Accounts that no later part names are the same.
    later = now[: len(then)] == then
    named = newest_rows(folder, now[len(then) :] if later else now)
    those = f"account_id IN (SELECT account_id FROM ({named}))" if later else "TRUE"
    return (
        f"(SELECT {_MATTERS} FROM ({named}) WHERE start_at < {before_us}) "
        f"EXCEPT (SELECT {_MATTERS} FROM ({newest_rows(folder, then, those)}))"
    )


def _first_moved(at: Manifest, folder: Path, database: duckdb.DuckDBPyConnection) -> int | None:
    """When the first of the cycles began that are others than when ends were counted."""
    moved = moved_cycles(at, folder)
    if moved is None:
        return None
    found: int | None = database.execute(f"SELECT min(start_at) FROM ({moved})").fetchall()[0][0]
    return found


def _days(first: date, last: date, zone: str) -> list[Day]:
    place = checked_zone(zone)
    days = [date.fromordinal(number) for number in range(first.toordinal(), last.toordinal() + 2)]
    bounds = [to_us(first_instant(day, place)) for day in days]
    return [Day(day, start, end) for day, start, end in zip(days[:-1], bounds[:-1], bounds[1:], strict=True)]
