"""The GenTD26 image-generation trace (alibaba/clusterdata, cluster-trace-v2026-GenAI; Lin et al., SoCC 2025) as events.

A row's cell, where asked for, is its checkpoint × its predict type. A pending row carries no number of images: it counts as
one, which is what it holds until it is swept. Any other row without one is rejected. The trace names no sessions.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

from credit_core.errors import InvalidImport, InvalidRequest
from credit_core.importers.frame import (
    FAILED,
    PENDING,
    SUCCEEDED,
    Event,
    Reject,
    Rejects,
    Summary,
    content_of,
    instant,
)
from credit_core.units import checked_id

COLUMNS = (
    "gmt_create", "predict_type", "predict_status", "exec_time_seconds", "groupId", "num_images_per_prompt",
    "checkpoint_model_version_id",
)  # fmt: skip
_STATUS = {"SUCCEED": SUCCEEDED, "FAILED": FAILED, "PENDING": PENDING, "PROCESSING": PENDING}
_MOST_IMAGES = 1_000


class Reading(NamedTuple):
    """How the file's rows are to be understood: naive times in ``zone``, none later than ``now``, cells or none."""

    zone: ZoneInfo
    now: datetime
    cells: bool = False


def read(path: Path, reading: Reading, rejects: Rejects, summary: Summary) -> Iterator[Event]:
    """Events of the file in the file's order; bad rows go to ``rejects`` with the line they begin on.

    Raises :class:`InvalidImport` where the file is not there, is no text, or lacks a column.
    """
    try:
        # A byte that is not UTF-8 spoils its row, not the file.
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            rows = _rows(file, rejects, summary)
            header = next(rows, (0, []))[1]
            if not header:
                raise InvalidImport(f"{path.name} is empty. Give the trace's CSV file.")
            missing = [name for name in COLUMNS if name not in header]
            if missing:
                raise InvalidImport(
                    f"{path.name} lacks the columns {', '.join(missing)}. Is it the GenTD26 request trace?"
                )
            places = {name: header.index(name) for name in COLUMNS}
            for line, row in rows:
                summary.rows_read += 1
                try:
                    if len(row) != len(header):
                        raise InvalidRequest(f"has {len(row)} fields, not {len(header)}")
                    event = _event(line, row, {name: row[place] for name, place in places.items()}, reading)
                except InvalidRequest as error:
                    rejects.add(Reject(line, str(error), ",".join(row)))
                    continue
                summary.assumed_images += not row[places["num_images_per_prompt"]].strip()
                yield event
    except OSError as error:
        raise InvalidImport(f"{path} cannot be read: {error.strerror}. Check the path.") from error


def _rows(file: Iterable[str], rejects: Rejects, summary: Summary) -> Iterator[tuple[int, list[str]]]:
    """Each record that is not empty, with the line it begins on."""
    reader = csv.reader(file)
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            summary.rows_read += 1
            rejects.add(Reject(line, f"is not CSV: {error}", ""))
            continue
        if row:
            yield line, row


def _event(line: int, row: list[str], field: dict[str, str], reading: Reading) -> Event:
    status = _STATUS.get(field["predict_status"])
    if status is None:
        raise InvalidRequest(f"predict_status is {field['predict_status']!r}, not one of {', '.join(_STATUS)}")
    started_at = instant(field["gmt_create"], "gmt_create", reading.zone, reading.now)
    seconds = _number(field["exec_time_seconds"], "exec_time_seconds")
    if not 0.0 <= seconds < 86_400.0:
        raise InvalidRequest(f"exec_time_seconds is {seconds}, not between 0 and a day")
    ended = status != PENDING
    checkpoint, kind = field["checkpoint_model_version_id"].strip(), field["predict_type"].strip()
    # Rows that never started bear no checkpoint: they name no cell.
    has_cell = reading.cells and bool(checkpoint) and bool(kind)
    return Event(
        line=line,
        content=content_of(row),
        user_id=checked_id(field["groupId"], "groupId"),
        started_at=started_at,
        ended_at=started_at + timedelta(seconds=seconds) if ended else None,
        status=status,
        images=_images(field["num_images_per_prompt"], status),
        session_id="",
        genre=checked_id(checkpoint, "checkpoint_model_version_id") if has_cell else None,
        mood=checked_id(kind, "predict_type") if has_cell else None,
        latency_ms=seconds * 1_000.0 if ended else None,
    )


def _number(text: str, name: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InvalidRequest(f"{name} is {text!r}, not a number") from None


def _images(text: str, status: str) -> int:
    if not text.strip() and status == PENDING:
        return 1
    images = _number(text, "num_images_per_prompt")
    if not 1 <= images <= _MOST_IMAGES or images != int(images):
        raise InvalidRequest(f"num_images_per_prompt is {text!r}, not a whole number from 1 to {_MOST_IMAGES}")
    return int(images)
