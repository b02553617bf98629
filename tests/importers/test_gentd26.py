"""The GenTD26 trace's rows as events; what cannot be used says in which line and why."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from credit_core.errors import InvalidImport
from credit_core.importers import gentd26
from credit_core.importers.frame import FAILED, PENDING, SUCCEEDED, Event, Reject, Rejects, Summary
from tests.importers.rows import HEADER, row, write

NOW = datetime(2025, 3, 10, 12, tzinfo=UTC)


def read(path: Path, zone: str = "UTC", *, cells: bool = False) -> tuple[list[Event], list[Reject], Summary]:
    summary, rejects = Summary("govern", path.name), Rejects(None)
    events = list(gentd26.read(path, gentd26.Reading(ZoneInfo(zone), NOW, cells), rejects, summary))
    return events, rejects.first, summary


def test_a_row_tells_who_asked_for_what_and_how_it_ended(tmp_path: Path) -> None:
    (event,), rejects, summary = read(write(tmp_path / "log.csv", [row(num_images_per_prompt="4.0")]))
    assert (event.line, event.user_id, event.status, event.images) == (2, "G1", SUCCEEDED, 4)
    assert (event.started_at, event.ended_at) == (
        datetime(2024, 11, 15, 12, tzinfo=UTC), datetime(2024, 11, 15, 12, 0, 30, tzinfo=UTC),
    )  # fmt: skip
    assert (event.latency_ms, event.genre, event.mood, event.modality) == (30_000.0, None, None, "image")
    assert (rejects, summary.rows_read) == ([], 1)


@pytest.mark.parametrize(
    ("status", "meant", "ended"),
    [
        ("SUCCEED", SUCCEEDED, True),
        ("FAILED", FAILED, True),
        ("PENDING", PENDING, False),
        ("PROCESSING", PENDING, False),
    ],
)
def test_every_status_of_the_trace_is_known(tmp_path: Path, status: str, meant: str, ended: bool) -> None:
    (event,), _, _ = read(write(tmp_path / "log.csv", [row(predict_status=status)]))
    assert (event.status, event.ended_at is not None, event.latency_ms is not None) == (meant, ended, ended)


@pytest.mark.parametrize("status", ["PENDING", "PROCESSING"])
def test_a_pending_row_without_a_number_of_images_is_one_image(tmp_path: Path, status: str) -> None:
    (event,), rejects, _ = read(
        write(tmp_path / "log.csv", [row(predict_status=status, num_images_per_prompt="", exec_time_seconds="0")])
    )
    assert (event.images, rejects) == (1, [])


@pytest.mark.parametrize(
    ("field", "bad", "reason"),
    [
        ("predict_status", "DONE", "predict_status is 'DONE'"),
        ("predict_status", "", "predict_status is ''"),
        ("gmt_create", "yesterday", "gmt_create is 'yesterday', not a time"),
        ("gmt_create", "", "gmt_create is '', not a time"),
        ("gmt_create", "1999-12-31 23:59:59", "not between the year 2000 and now"),
        ("gmt_create", "2025-03-12 12:00:00", "not between the year 2000 and now"),
        ("gmt_create", "0001-01-01 00:00:00", "gmt_create"),
        ("exec_time_seconds", "", "exec_time_seconds is '', not a number"),
        ("exec_time_seconds", "soon", "exec_time_seconds is 'soon', not a number"),
        ("exec_time_seconds", "-1", "not between 0 and a day"),
        ("exec_time_seconds", "nan", "not between 0 and a day"),
        ("exec_time_seconds", "inf", "not between 0 and a day"),
        ("exec_time_seconds", "86400", "not between 0 and a day"),
        ("num_images_per_prompt", "", "num_images_per_prompt"),
        ("num_images_per_prompt", "0", "not a whole number from 1 to 1000"),
        ("num_images_per_prompt", "1.5", "not a whole number from 1 to 1000"),
        ("num_images_per_prompt", "-2", "not a whole number from 1 to 1000"),
        ("num_images_per_prompt", "1001", "not a whole number from 1 to 1000"),
        ("num_images_per_prompt", "nan", "not a whole number from 1 to 1000"),
        ("num_images_per_prompt", "inf", "not a whole number from 1 to 1000"),
        ("groupId", "", "groupId"),
        ("groupId", "   ", "groupId"),
        ("groupId", "G" * 129, "groupId"),
        ("groupId", "a\x07b", "groupId"),
    ],
)
def test_a_bad_row_is_rejected_with_its_line_and_reason_and_the_others_stay(
    tmp_path: Path, field: str, bad: str, reason: str
) -> None:
    path = write(tmp_path / "log.csv", [row(), row("12:00:01", **{field: bad}), row("12:00:02")])
    events, rejects, summary = read(path)
    assert [event.line for event in events] == [2, 4]
    ((line, told, text),) = rejects
    assert line == 3
    assert reason in told
    assert "TXT_2_IMG" in text
    assert summary.rows_read == 3


def test_a_row_of_another_length_is_rejected(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", [row()])
    with path.open("a", encoding="utf-8") as file:
        file.write("2024-11-15 12:00:00,TXT_2_IMG\n\n")
        file.write(",".join([*row().values(), "more"]) + "\n")
    events, rejects, summary = read(path)
    assert (len(events), summary.rows_read) == (1, 3)
    assert [(line, "fields" in told) for line, told, _ in rejects] == [(3, True), (5, True)]


def test_the_line_of_a_reject_is_the_one_it_begins_on(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", [row(checkpoint_model_version_id="two\nlines"), row(groupId="")])
    _, rejects, _ = read(path)
    assert [line for line, *_ in rejects] == [4]


def test_bytes_that_are_no_text_spoil_their_row_and_not_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", [row(), row("12:00:01")])
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1].replace(b"M1", b"M\xff") + lines[2])
    events, rejects, _ = read(path)
    assert [event.line for event in events] == [3]
    assert [(line, told) for line, told, _ in rejects] == [(2, "is not UTF-8 text")]


def test_naive_times_are_read_in_the_zone_that_was_stated(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", [row(), row("2024-11-15T12:00:00+09:00")])
    (naive, aware), _, _ = read(path, "America/New_York")
    assert naive.started_at == datetime(2024, 11, 15, 17, tzinfo=UTC)
    assert aware.started_at == datetime(2024, 11, 15, 3, tzinfo=UTC)


def test_a_cell_is_checkpoint_by_predict_type_where_it_is_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", [row(), row("12:00:01", checkpoint_model_version_id="")])
    (with_cell, without), _, _ = read(path, cells=True)
    assert (with_cell.genre, with_cell.mood) == ("M1", "TXT_2_IMG")
    assert (without.genre, without.mood) == (None, None)
    assert [event.genre for event in read(path)[0]] == [None, None]


def test_columns_may_stand_in_another_order_and_behind_a_byte_order_mark(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", [row()], reversed(HEADER))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    (event,), _, _ = read(path)
    assert (event.user_id, event.images) == ("G1", 1)


@pytest.mark.parametrize("missing", gentd26.COLUMNS)
def test_a_file_that_lacks_a_column_is_refused_with_its_name(tmp_path: Path, missing: str) -> None:
    path = write(tmp_path / "log.csv", [row()], [name for name in HEADER if name != missing])
    with pytest.raises(InvalidImport, match=f"lacks the columns {missing}"):
        read(path)


def test_an_empty_file_and_one_that_is_not_there_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    with pytest.raises(InvalidImport, match="cannot be read"):
        read(path)
    path.touch()
    with pytest.raises(InvalidImport, match="is empty"):
        read(path)
    with pytest.raises(InvalidImport, match="cannot be read"):
        read(tmp_path)


def test_a_header_alone_is_a_log_of_nothing(tmp_path: Path) -> None:
    assert read(write(tmp_path / "log.csv", []))[:2] == ([], [])
