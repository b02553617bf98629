"""Events in order on disk, ids that do not depend on the file's order, rejects where they were asked for (SPEC 9)."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from credit_core.errors import InvalidImport
from credit_core.importers import frame
from credit_core.importers.frame import Event, Reject, Rejects, Summary

START = datetime(2024, 11, 15, 12, tzinfo=UTC)


def event(line: int, second: int, user: str = "G1", content: str | None = None) -> Event:
    return Event(
        line, content or f"row-{line}", user, START + timedelta(seconds=second), None, frame.PENDING, 1, "", ""
    )


@given(seconds=st.lists(st.integers(0, 9), max_size=80), run_rows=st.integers(1, 9))
def test_events_come_by_instant_then_line_however_small_the_runs_on_disk_are(seconds: list[int], run_rows: int) -> None:
    rows = [event(line, second) for line, second in enumerate(seconds, 2)]
    ordered = [(one.started_at, one.line) for one in frame.in_order(rows, run_rows)]
    assert ordered == sorted((one.started_at, one.line) for one in rows)


def test_many_runs_on_disk_are_merged_in_stages() -> None:
    rows = [event(line, random.Random(line).randrange(500)) for line in range(1_000)]
    ordered = list(frame.in_order(rows, 7))
    assert [one._replace(request_id="") for one in ordered] == sorted(rows, key=lambda one: (one.started_at, one.line))
    assert len({one.request_id for one in ordered}) == 1_000


def test_no_more_rows_than_a_run_are_taken_in_before_they_are_put_on_disk() -> None:
    alive: set[int] = set()
    most = 0

    class Tracked(str):
        def __del__(self) -> None:
            alive.discard(id(self))

        def __reduce__(self) -> tuple[type[str], tuple[str]]:
            return str, (str(self),)

    def rows() -> Iterator[Event]:
        nonlocal most
        for line in range(2_000):
            content = Tracked(f"row-{line}")
            alive.add(id(content))
            most = max(most, len(alive))
            yield event(line, 2_000 - line, content=content)

    assert sum(1 for _ in frame.in_order(rows(), 50)) == 2_000
    assert most <= 102


def test_equal_rows_are_numbered_so_that_ids_are_the_same_whatever_the_order_of_the_file() -> None:
    contents = [("a", 1), ("a", 1), ("a", 1), ("b", 1), ("c", 2), ("c", 2), ("d", 3)]
    seen = set()
    for seed in range(6):
        shuffled = random.Random(seed).sample(contents, len(contents))
        rows = [event(line, second, content=name) for line, (name, second) in enumerate(shuffled, 2)]
        ids = [(one.content, one.request_id) for one in frame.in_order(rows, 3)]
        assert len({request_id for _, request_id in ids}) == len(contents)
        seen.add(tuple(sorted(ids)))
    assert len(seen) == 1


def test_an_id_of_the_log_itself_is_kept() -> None:
    rows = [event(2, 1)._replace(request_id="mine"), event(3, 2)]
    assert [one.request_id == "mine" for one in frame.in_order(rows)] == [True, False]


def test_a_pause_of_half_an_hour_begins_another_session_of_the_same_user() -> None:
    minutes = [("G1", 0), ("G2", 1), ("G1", 29), ("G1", 58), ("G1", 88), ("G2", 40)]
    rows = frame.in_order(event(line, minute * 60, user=user) for line, (user, minute) in enumerate(minutes, 2))
    sessions = [(one.user_id, one.session_id) for one in frame.in_sessions(rows)]
    # In order: G1 0, G2 1, G1 29, G2 40, G1 58, G1 88.
    names = [name for _, name in sessions]
    assert [user for user, _ in sessions] == ["G1", "G2", "G1", "G2", "G1", "G1"]
    assert names[0] == names[2] == names[4]
    assert len(set(names)) == 4


def test_no_chunk_spans_a_midnight_or_is_larger_than_asked() -> None:
    rows = [event(line, line * 3_600) for line in range(30)]
    parts = list(frame.chunks(rows, 5))
    assert [one for part in parts for one in part] == rows
    assert all(len(part) <= 5 for part in parts)
    assert all(len({one.started_at.date() for one in part}) == 1 for part in parts)


def test_rejects_go_to_a_csv_file_with_line_and_reason_and_formulas_are_neutralised(tmp_path: Path) -> None:
    path = tmp_path / "rejects.csv"
    with Rejects(path) as rejects:
        rejects.add(Reject(3, "is odd", '=1+1,"x"'))
        rejects.add(Reject(9, "is odd, too", "plain"))
    with path.open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [
            ["line", "reason", "row"], ["3", "is odd", "'=1+1,\"x\""], ["9", "is odd, too", "plain"],
        ]  # fmt: skip
    assert (rejects.count, len(rejects.first)) == (2, 2)


def test_rejects_go_to_json_lines_where_the_name_says_so(tmp_path: Path) -> None:
    path = tmp_path / "rejects.jsonl"
    path.write_text("of another run\n", encoding="utf-8")
    with Rejects(path) as rejects:
        rejects.add(Reject(3, "is odd", "=1+1"))
    assert [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] == [
        {"line": 3, "reason": "is odd", "row": "=1+1"}
    ]


def test_a_reject_file_that_cannot_be_written_stops_the_import_before_it_begins(tmp_path: Path) -> None:
    with pytest.raises(InvalidImport, match="cannot be written"), Rejects(tmp_path / "missing" / "rejects.csv"):
        pass


def test_the_summary_adds_up_every_way_a_row_can_end() -> None:
    summary = Summary(
        "govern", "x.csv", rows_read=45, settled=1, released=2, held=3, library=4, deferred=5, rate_limited=6,
        rejected=7, imported=8, reject_file=9, swept=2, late_settles=1,
    )  # fmt: skip
    assert summary.accounted == 45
    assert summary.as_json()["complete"]
