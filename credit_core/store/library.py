"""The library of ready assets: how many each cell holds, by the UTC day they were added (SPEC 4.1)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from statistics import median
from typing import NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Dialect,
    Table,
    bindparam,
    case,
    func,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from credit_core.policy import guardrails
from credit_core.store.prepared import Prepared
from credit_core.store.schema import ledger_entries, library_cells, library_days

#: Days of requests that a cell's demand is measured on.
DEMAND_DAYS = 28
#: A taken cell comes back to the queue after this, if it still lacks assets.
LEASE = timedelta(hours=1)
_JUDGED = [guardrails.RULES[rule] for rule in range(guardrails.UNAFFORDABLE, guardrails.CONTROLLER + 1)]


class Cell(NamedTuple):
    """Assets of one cell; ``stale`` of them are older than the configured age. Ages count in whole UTC days."""

    assets: int
    stale: int

    def coverage(self, target: int) -> float:
        """min(1, assets/target)."""
        return guardrails.coverage(self.assets, target)

    def health(self, target: int) -> float:
        """coverage·(1 − staleness)."""
        return guardrails.health(self.assets, self.stale, target)


_days = library_days.c
_CELL = Prepared(
    select(
        func.sum(_days.assets),
        func.sum(case((_days.day < bindparam("stale_before"), _days.assets), else_=literal_column("0"))),
    ).where(_days.genre == bindparam("genre"), _days.mood == bindparam("mood"), _days.day <= bindparam("today"))
)
_DEMANDED = (
    select(library_cells.c.genre, library_cells.c.mood, func.coalesce(func.sum(_days.assets), 0))
    .outerjoin(
        library_days,
        (library_cells.c.genre == _days.genre)
        & (library_cells.c.mood == _days.mood)
        & (_days.day <= bindparam("today")),
    )
    .where(library_cells.c.requested_at.is_not(None))
    .group_by(library_cells.c.genre, library_cells.c.mood)
)


def _put(dialect: Dialect) -> sqlite.Insert | postgresql.Insert:
    statement = upsert(dialect, library_days)
    return statement.on_conflict_do_update(
        index_elements=[_days.genre, _days.mood, _days.day], set_={"assets": _days.assets + statement.excluded.assets}
    )


def _mark(dialect: Dialect) -> sqlite.Insert | postgresql.Insert:
    statement, cells = upsert(dialect, library_cells), library_cells.c
    return statement.on_conflict_do_update(
        index_elements=[cells.genre, cells.mood],
        set_={
            "requested_at": func.coalesce(cells.requested_at, statement.excluded.requested_at),
            "queued_at": func.coalesce(cells.queued_at, statement.excluded.queued_at),
        },
    )


#: Adds assets to a cell.
PUT = Prepared(_put, ("genre", "mood", "day", "assets"), joins=True)
#: Remembers the first time that a cell was asked for, and that it joined the pantry queue; later ones change nothing.
MARK = Prepared(_mark, ("genre", "mood", "requested_at", "queued_at"), joins=True)


def cell(connection: Connection, genre: str, mood: str, at: datetime, stale_days: int) -> Cell:
    """What the cell holds at ``at``."""
    today = at.astimezone(UTC).date()
    before = today - timedelta(days=stale_days)
    row = _CELL.rows(connection, genre=genre, mood=mood, today=today.isoformat(), stale_before=before.isoformat())[0]
    return Cell(int(row[0] or 0), int(row[1] or 0))


def median_coverage(connection: Connection, at: datetime, target: int) -> float | None:
    """Median coverage of the cells that anybody has asked for; None before the first."""
    rows = connection.execute(_DEMANDED, {"today": at.astimezone(UTC).date().isoformat()}).all()
    return median(guardrails.coverage(int(row[2]), target) for row in rows) if rows else None


def put(connection: Connection, genre: str, mood: str, count: int, at: datetime) -> None:
    """Add ``count`` assets to the cell."""
    PUT.run(connection, [put_row(genre, mood, count, at)])


def put_row(genre: str, mood: str, count: int, at: datetime) -> dict[str, object]:
    """What :data:`PUT` takes, to add ``count`` assets to the cell."""
    return {"genre": genre, "mood": mood, "day": at.astimezone(UTC).date().isoformat(), "assets": count}


def marks(connection: Connection, genre: str, mood: str) -> tuple[bool, bool]:
    """Whether the cell was ever asked for, and whether it stands in the pantry queue."""
    row = connection.execute(
        select(library_cells.c.requested_at, library_cells.c.queued_at).where(
            library_cells.c.genre == genre, library_cells.c.mood == mood
        )
    ).first()
    return (False, False) if row is None else (row.requested_at is not None, row.queued_at is not None)


class Queued(NamedTuple):
    """A cell of the pantry queue, what it holds, and how often one plan asked for it in the last :data:`DEMAND_DAYS`."""

    genre: str
    mood: str
    assets: int
    plan: str
    requests: int


def queue(connection: Connection, at: datetime) -> list[Queued]:
    """The pantry queue's cells that nobody has taken, by the plans that asked: rules 4 to 8 of SPEC 4 alone."""
    cells, asked = library_cells.c, ledger_entries.c
    held = func.coalesce(
        select(func.sum(_days.assets))
        .where(_days.genre == cells.genre, _days.mood == cells.mood, _days.day <= at.astimezone(UTC).date().isoformat())
        .scalar_subquery(),
        0,
    )
    demand = (
        select(asked.genre, asked.mood, asked.plan, func.count().label("requests"))
        .where(
            asked.occurred_at > at - timedelta(days=DEMAND_DAYS),
            asked.occurred_at <= at,
            asked.genre.is_not(None),
            asked.rule.in_(_JUDGED),
            # Other quota policies refuse what they cannot afford; they never ask the library.
            asked.outcome.is_not(None),
        )
        .group_by(asked.genre, asked.mood, asked.plan)
        .subquery()
    )
    rows = connection.execute(
        select(cells.genre, cells.mood, held, demand.c.plan, demand.c.requests)
        .join(demand, (demand.c.genre == cells.genre) & (demand.c.mood == cells.mood))
        .where(cells.queued_at <= at, _is_free(at))
        .order_by(cells.genre, cells.mood, demand.c.plan)
    )
    return [Queued(row[0], row[1], int(row[2]), row[3], int(row[4])) for row in rows]


def take(connection: Connection, genre: str, mood: str, at: datetime) -> bool:
    """Lend a queued cell to a worker for :data:`LEASE`; False where another one has it."""
    cells = library_cells.c
    statement = update(library_cells).where(cells.genre == genre, cells.mood == mood, _is_free(at)).values(taken_at=at)
    return connection.execute(statement).rowcount == 1


def _is_free(at: datetime) -> ColumnElement[bool]:
    return or_(library_cells.c.taken_at.is_(None), library_cells.c.taken_at <= at - LEASE)


def upsert(dialect: Dialect, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An insert into ``table`` that has ``on_conflict_…`` on the engine."""
    return postgresql.insert(table) if dialect.name == "postgresql" else sqlite.insert(table)
