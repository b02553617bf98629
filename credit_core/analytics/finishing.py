"""What finished cycles came to, kept by the week in which they ended: so pacing efficiency looks at entries of the days since alone.

A week has a row of each cycle that ended in it, and what those that went on at its end had come to by then, so each entry is
looked at once. A row says what the entries add up to from the cycle's start to its end, or the week's, and is asked for by
those instants: it stays right where the cycle is another by now (closed late, paused, of a new plan), and what came late is
added to it. Files lie beside the closed segments (:mod:`credit_core.analytics.by_week`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Select,
    SelectBase,
    and_,
    case,
    cast,
    column,
    func,
    literal,
    select,
    table,
    union_all,
)

from credit_core.analytics import by_week, carrying, measures, relations
from credit_core.analytics.by_week import PEOPLE
from credit_core.analytics.carrying import Written, end_us
from credit_core.analytics.dialect import keyed, sql_of
from credit_core.analytics.filing import newest_rows, paths
from credit_core.analytics.manifest import Manifest, Segment
from credit_core.analytics.sync import Facts

_WHICH = ("account_id", "cycle_no", "start_at")
#: Reserved; granted; and the first monthly grant, with its place among the account's entries.
_SUMS = ("fresh_uc", "granted_uc", "monthly_uc", "monthly_seq")
_ENTRY = ("account_id", "occurred_at", "seq", *_SUMS[:3])
_ROW = (*_WHICH, "end_at", "plan", "region", *_SUMS, "budget_uc")
#: Of a cycle, what a row rests on.
_MATTERS = (
    "account_id, cycle_no, start_at, end_at, plan, region, opening_uc, demand_uc, quota_uc > 0, closed_at IS NULL"
)
#: What a question asks: rows of cycles that ended, and of those that ran on at the end of the last week; entries that are in
#: neither, and those that are; and which cycles that had ended are others by now, or have entries that came since.
_ENDED, _RAN_ON = (table(f"finished_{name}", *map(column, _ROW)) for name in ("ended", "ran_on"))
_SINCE, _BEFORE = (table(f"finished_{name}", *map(column, _ENTRY)) for name in ("since", "before"))
_OTHERS = table("finished_others", column("account_id"), column("cycle_no"))

_F = relations.facts.c
_AMOUNTS = ", ".join(
    f"{sql_of(amount(_F))} AS {name}"
    for name, amount in zip(
        _SUMS, (measures.fresh_uc, measures.moved_uc("grant", 1), measures.monthly_uc), strict=False
    )
)
_LOOKED_AT = sql_of(_F.kind.in_(measures.FINISHED_BY))
_DURING = sql_of(measures.during(_F, relations.cycles.c))
_KEYS = "cycles.account_id, cycles.cycle_no"
#: The kinds of file, and what the manifest calls the cycles as they were then; files of another definition are of other kinds.
FINISHED, RUNNING, CYCLES_THEN = (
    keyed(name, "\n".join((_AMOUNTS, _LOOKED_AT, _DURING, _MATTERS))).replace("-", "_")
    for name in ("finished", "running", "finished_cycles")
)
#: Makes a table of a statement's rows.
Make = Callable[[Select[Any]], FromClause]


class Held(NamedTuple):
    """What a folder has: rows hold up to ``stop_us``; and the SQL of each relation that a question asks."""

    stop_us: int
    views: Mapping[str, str]


def completed(at: Manifest, folder: Path, database: duckdb.DuckDBPyConnection, written: Written) -> Manifest:
    """The manifest with the cycles that finished on days that are over; the same one where nothing is missing.

    Weeks are made again from the first on in which late entries lie, or a cycle ended that is another by now.
    """
    last, known = carrying.last_whole_day(at), by_week.there(at, FINISHED)
    if last is None or relations.cycles.name not in at.tables or any(last == until for _, until in known.files):
        return at
    there = {FINISHED: known.files, RUNNING: by_week.there(at, RUNNING).files}
    holds_us = _holds_us(at, folder, database, known)
    files: dict[str, dict[by_week.Span, str]] = {FINISHED: {}, RUNNING: {}}
    for span in by_week.weeks(carrying.first_day(at), last):
        if end_us(at, span[1]) <= holds_us and all(span in kept for kept in there.values()):
            made = {kind: kept[span] for kind, kept in there.items()}
        else:
            before = max(files[RUNNING], default=None)
            ran_on = None if before is None else (end_us(at, before[1]), files[RUNNING][before])
            made = _week(at, folder, database, span, ran_on, written)
        for kind, file in made.items():
            files[kind][span] = file
    # Those of other definitions are not asked any more.
    tables = {name: names for name, names in at.tables.items() if not name.startswith(("finished", "running"))}
    tables[CYCLES_THEN] = at.tables[relations.cycles.name]
    for kind, kept in files.items():
        tables |= by_week.tables(at, kind, kept)
    return replace(at, tables=tables)


def _holds_us(at: Manifest, folder: Path, database: duckdb.DuckDBPyConnection, known: by_week.ByWeek) -> int:
    """Weeks that end until then are what they were."""
    if known.through is None:
        return 0
    stop_us = end_us(at, max(last for _, last in known.files))
    moved = _moved(at, folder, stop_us)
    first_us = None if moved is None else database.execute(f"SELECT min(end_at) FROM ({moved})").fetchall()[0][0]
    through_us = end_us(at, known.through)
    return through_us if first_us is None else min(through_us, first_us - 1)


def _week(
    at: Manifest,
    folder: Path,
    database: duckdb.DuckDBPyConnection,
    span: by_week.Span,
    before: tuple[int, str] | None,
    written: Written,
) -> dict[str, str]:
    """By kind the week's files; ``before``: when the week before it ended, and the file of what ran on then."""
    c, stop_us = relations.cycles.c, end_us(at, span[1])
    start_us, ran_on = before or (0, None)
    closed = [one for one in at.segments if one.closed]
    nothing = ", ".join(f"NULL AS {name}" for name in _ROW)
    views = {
        relations.cycles.name: newest_rows(folder, at.tables[relations.cycles.name]),
        _RAN_ON.name: f"SELECT {nothing} WHERE FALSE" if ran_on is None else _read(folder, [ran_on]),
        _SINCE.name: _entries(folder, closed, start_us, stop_us),
        _BEFORE.name: _entries(folder, closed, 0, start_us),
    }
    made: list[FromClause] = []

    def make(rows: Select[Any]) -> FromClause:
        made.append(table(f"week_cycles_{len(made)}", *map(column, rows.selected_columns.keys())))
        database.execute(f"CREATE OR REPLACE TEMP TABLE {made[-1]} AS {sql_of(rows)}")
        return made[-1]

    def ask(rows: Select[Any]) -> Any:
        return database.execute(sql_of(rows)).fetchall()[0][0]

    for name, sql in views.items():
        database.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {sql}")
    try:
        wanted = select(relations.cycles).where(c.start_at < stop_us, c.end_at > start_us)
        rows = make(_worked_out(_begun(wanted, _ran_on(start_us), start_us), start_us, stop_us, make, ask))
        parts = {FINISHED: rows.c.end_at <= stop_us, RUNNING: rows.c.end_at > stop_us}
        return {
            kind: written(by_week.named(kind, span), sql_of(select(rows).where(those).order_by(rows.c.end_at)))
            for kind, those in parts.items()
        }
    finally:
        for one in made:
            database.execute(f"DROP TABLE IF EXISTS temp.{one}")
        for name in views:
            database.execute(f"DROP VIEW IF EXISTS temp.{name}")


def held(at: Manifest, folder: Path, fresh: str) -> Held | None:
    """What a question asks; None where nothing is kept. ``fresh``: the relation of entries that are not closed yet."""
    ended, ran_on = by_week.there(at, FINISHED).files, by_week.there(at, RUNNING).files
    if not ended or max(ended) not in ran_on:
        return None
    last = max(ended)
    stop_us = end_us(at, last[1])
    covered = set(at.tables[by_week.rests_on(FINISHED)])
    closed = [one for one in at.segments if one.closed]
    known = [one for one in closed if one.rollups[PEOPLE.key] in covered]
    came = [one for one in closed if one not in known]
    since = [_entries(folder, known, stop_us), _entries_of(fresh), *([_entries(folder, came)] if came else [])]
    moved = _moved(at, folder, stop_us)
    late = f"SELECT {_KEYS} FROM {relations.cycles.name} AS cycles JOIN {_SINCE.name} AS facts ON {_DURING}"
    late += f" WHERE cycles.end_at <= {stop_us} AND facts.occurred_at < {stop_us}"
    views = {
        _ENDED.name: _read(folder, [ended[span] for span in sorted(ended)]),
        _RAN_ON.name: _read(folder, [ran_on[last]]),
        _SINCE.name: " UNION ALL ".join(since),
        _BEFORE.name: _entries(folder, known, 0, stop_us),
        _OTHERS.name: late if moved is None else f"{late} UNION SELECT {_KEYS} FROM ({moved}) AS cycles",
    }
    return Held(stop_us, views)


def finished(facts: Facts, stop_us: int) -> FromClause:
    """:func:`measures.finished` from what is kept, whose views are there."""
    c, others = relations.cycles.c, facts.shared(select(_OTHERS))
    after = and_(measures.counted(c), c.end_at > stop_us)
    wanted, of_weeks = select(relations.cycles).where(after), select(_ENDED)
    known: SelectBase = _ran_on(stop_us)
    if facts.rows(select(func.count()).select_from(others))[0][0]:
        # Worked out again, from their own rows where those are of the same instants.
        wanted = select(relations.cycles).where(after | _among(relations.cycles, others))
        known = union_all(known, _based(_ENDED, _ENDED.c.end_at).where(_among(_ENDED, others)))
        of_weeks = of_weeks.where(~_among(_ENDED, others))

    def ask(rows: Select[Any]) -> Any:
        return facts.rows(rows)[0][0]

    begun = _begun(wanted, known, stop_us)
    rows = facts.shared(_worked_out(begun, stop_us, None, facts.shared, ask))
    every = union_all(*(_told(one) for one in (of_weeks.subquery(), rows))).subquery("every")
    return select(every).where(relations.paced(every.c.plan)).subquery("finished")


def _told(rows: FromClause) -> Select[Any]:
    r = rows.c
    columns = (r.account_id, r.plan, r.region, r.end_at.label("occurred_at"), r.budget_uc, r.fresh_uc)
    return select(*columns).where(r.budget_uc.is_not(None))


# Working out -----------------------------------------------------------------------------------------------------------


def _ran_on(until_us: int) -> Select[Any]:
    return _based(_RAN_ON, literal(until_us, BigInteger))


def _based(rows: FromClause, until: ColumnElement[int]) -> Select[Any]:
    """What there is of cycles up to an instant, ``until_at``."""
    return select(*(rows.c[name] for name in (*_WHICH, *_SUMS)), until.label("until_at"))


def _begun(wanted: Select[Any], known: SelectBase, until_us: int) -> Select[Any]:
    """Cycles with what is known of them up to an instant, or to their end where that was before; else the sums are missing."""
    w, k = wanted.subquery("wanted"), known.subquery("known")
    same = and_(*(k.c[name] == w.c[name] for name in _WHICH), k.c.until_at == func.least(w.c.end_at, until_us))
    return select(*w.c, *(k.c[name] for name in _SUMS)).select_from(w.outerjoin(k, same))


def _worked_out(
    begun: Select[Any], since_us: int, until_us: int | None, make: Make, ask: Callable[[Select[Any]], Any]
) -> Select[Any]:
    """Rows of cycles: what is known up to ``since_us``, and all entries since; their budget where they ended by ``until_us``."""
    cycles = make(begun)
    c = cycles.c
    parts = [select(*(c[name] for name in (*_WHICH, *_SUMS))), _pieces(cycles, _SINCE)]
    unknown = and_(c.fresh_uc.is_(None), c.start_at < since_us)
    oldest_us = ask(select(func.min(c.start_at)).where(unknown))
    if oldest_us is not None:
        parts.append(_pieces(cycles, _BEFORE).where(unknown, _BEFORE.c.occurred_at >= oldest_us))
    p = union_all(*parts).subquery("parts").c
    sums: dict[str, ColumnElement[Any]] = {
        name: cast(func.coalesce(func.sum(p[name]), 0), BigInteger) for name in ("fresh_uc", "granted_uc")
    }
    sums |= {"monthly_uc": func.arg_min(p.monthly_uc, p.monthly_seq), "monthly_seq": func.min(p.monthly_seq)}
    keys = [p[name] for name in _WHICH]
    s = select(*keys, *(one.label(name) for name, one in sums.items())).group_by(*keys).subquery("sums")
    ended = measures.counted(c) if until_us is None else and_(measures.counted(c), c.end_at <= until_us)
    budget = case((ended, measures.budget_uc(c, s.c.granted_uc, func.coalesce(s.c.monthly_uc, 0)))).label("budget_uc")
    told = (c[name] for name in (*_WHICH, "end_at", "plan", "region"))
    same = and_(*(s.c[name] == c[name] for name in _WHICH))
    return select(*told, *(s.c[name] for name in _SUMS), budget).select_from(cycles.join(s, same))


def _pieces(cycles: FromClause, entries: FromClause) -> Select[Any]:
    c, f = cycles.c, entries.c
    monthly_seq = case((f.monthly_uc.is_not(None), f.seq)).label("monthly_seq")
    return select(*(c[name] for name in _WHICH), f.fresh_uc, f.granted_uc, f.monthly_uc, monthly_seq).select_from(
        entries.join(cycles, measures.during(f, c))
    )


def _among(rows: FromClause, keys: FromClause) -> ColumnElement[bool]:
    same = and_(keys.c.account_id == rows.c.account_id, keys.c.cycle_no == rows.c.cycle_no)
    return select(keys).where(same).exists()


# What it is worked out from ----------------------------------------------------------------------------------------------


def _moved(at: Manifest, folder: Path, stop_us: int) -> str | None:
    """SQL of cycles that ended by then, as they are and as they were, where those differ; None where none can."""
    now, then = at.tables[relations.cycles.name], at.tables[CYCLES_THEN]
    if now == then:
        return None
    # Accounts that no later part names are the same.
    later = now[: len(then)] == then
    named = newest_rows(folder, now[len(then) :] if later else now)
    those = f"account_id IN (SELECT account_id FROM ({named}))" if later else "TRUE"
    sides = [
        f"(SELECT {_MATTERS} FROM ({one}) WHERE end_at <= {stop_us})"
        for one in (named, newest_rows(folder, then, those))
    ]
    return " UNION ALL ".join(f"({one} EXCEPT {other})" for one, other in (sides, sides[::-1]))


def _entries(folder: Path, segments: Sequence[Segment], since_us: int = 0, until_us: int | None = None) -> str:
    """SQL of the entries of segments, of which there is one, from an instant to before another."""
    among = [one for one in segments if one.last_us >= since_us and (until_us is None or one.first_us < until_us)]
    # Where none reaches so far, any has the columns.
    files = paths(folder, [one.file for one in among or segments[:1]])
    within = f"occurred_at >= {since_us}" + ("" if until_us is None else f" AND occurred_at < {until_us}")
    return f"{_entries_of(f'read_parquet({files})')} AND {within}"


def _entries_of(relation: str) -> str:
    return f"SELECT account_id, occurred_at, seq, {_AMOUNTS} FROM {relation} AS facts WHERE {_LOOKED_AT}"


def _read(folder: Path, files: Sequence[str]) -> str:
    return f"SELECT * FROM read_parquet({paths(folder, files)})"
