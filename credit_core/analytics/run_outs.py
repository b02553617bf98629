"""Run-outs of days that are over, a week at a time: so a question looks at the decisions and grants of the days since alone.

A week has the run-outs that a grant ended in it, and those that went on at its end, whenever either began. So each is in the
week that it ended in, and what the next week needs to know of all before it stands in one file. Files lie beside the closed
segments (:mod:`credit_core.analytics.by_week`).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import CompoundSelect, column, select, table, union_all

from credit_core.analytics import by_week, carrying, spells
from credit_core.analytics.carrying import Written, end_us
from credit_core.analytics.dialect import sql_of
from credit_core.analytics.filing import paths
from credit_core.analytics.manifest import Manifest

#: The kind of file.
NAME = "run_outs"
#: Run-outs that ended on days that are over; and the events of other days, behind those that had not ended by then.
ENDED, SINCE = "run_outs_ended", "run_out_events_since"
_ENDED = table(ENDED, *(column(name) for name in spells.SPELL))


def completed(at: Manifest, folder: Path, written: Written) -> Manifest:
    """The manifest with the run-outs of all days that are over; the same one where nothing is missing.

    Each closed segment must have its :data:`spells.NAME`.
    """
    last, known = carrying.last_whole_day(at), by_week.there(at, NAME)
    if last is None or any(last == until for _, until in known.files):
        return at
    files: dict[by_week.Span, str] = {}
    before = None
    for span in by_week.weeks(carrying.first_day(at), last):
        holds = known.through is not None and span[1] <= known.through and span in known.files
        before = known.files[span] if holds else written(by_week.named(NAME, span), _week(at, folder, span, before))
        files[span] = before
    return replace(at, tables=at.tables | by_week.tables(at, NAME, files))


def _week(at: Manifest, folder: Path, span: by_week.Span, before: str | None) -> str:
    """SQL of a week's file, from that of the week before."""
    start_us, stop_us = end_us(at, span[0] - timedelta(days=1)), end_us(at, span[1])
    parts = [f"SELECT * FROM ({_closed(at, folder, start_us)}) WHERE occurred_at < {stop_us}"]
    if before is not None:
        parts.append(_going_on(folder, before, start_us))
    first_us = end_us(at, carrying.first_day(at) - timedelta(days=1))
    return (
        f"WITH {spells.NAME} AS MATERIALIZED ({' UNION ALL '.join(parts)}) SELECT {', '.join(spells.SPELL)} "
        f"FROM ({sql_of(spells.spells(spells.kept(), first_us, stop_us))}) ORDER BY run_out_at, id"
    )


def relations_of(at: Manifest, folder: Path, fresh: str) -> dict[str, str]:
    """SQL of :data:`ENDED` and of :data:`SINCE`; where no week is kept, the one is empty and the other has all events.

    ``fresh``: SQL of the events that are not closed yet. Every closed segment, of which there is one, has its own.
    """
    there = by_week.there(at, NAME)
    through = there.through
    files = [] if through is None else [there.files[span] for span in sorted(there.files) if span[0] <= through]
    if through is None or not files:
        nothing = ", ".join(f"NULL AS {name}" for name in spells.SPELL)
        return {ENDED: f"SELECT {nothing} WHERE FALSE", SINCE: f"SELECT * FROM {spells.NAME}"}
    stop_us = end_us(at, through)
    since = (_going_on(folder, files[-1], stop_us), _closed(at, folder, stop_us), fresh)
    return {
        ENDED: f"SELECT * FROM read_parquet({paths(folder, files)}) WHERE granted_at < {stop_us}",
        SINCE: " UNION ALL ".join(f"({part})" for part in since),
    }


def spells_of(start_us: int, end_us: int) -> CompoundSelect[Any]:
    """:func:`spells.spells` of all events, from those two relations."""
    begun = (_ENDED.c.run_out_at >= start_us, _ENDED.c.run_out_at < end_us)
    return union_all(spells.spells(spells.kept(SINCE), start_us, end_us), select(_ENDED).where(*begun))


def _closed(at: Manifest, folder: Path, since_us: int) -> str:
    """SQL of the events of closed segments from an instant on."""
    closed = [one for one in at.segments if one.closed]
    # Where none reaches so far, any has the columns.
    among = [one for one in closed if one.last_us >= since_us] or closed[:1]
    key = spells.key()
    files = paths(folder, [one.rollups[key] for one in among])
    return f"SELECT {', '.join(spells.EVENT)} FROM read_parquet({files}) WHERE occurred_at >= {since_us}"


def _going_on(folder: Path, file: str, at_us: int) -> str:
    """SQL of the decisions, as events, that began the run-outs of a week's file that went on at an instant."""
    as_event = {"occurred_at": "run_out_at AS occurred_at", "dry": "TRUE AS dry"}
    return (
        f"SELECT {', '.join(as_event.get(name, name) for name in spells.EVENT)} FROM read_parquet({paths(folder, [file])}) "
        f"WHERE run_out_at < {at_us} AND (granted_at IS NULL OR granted_at >= {at_us})"
    )
