"""The rows behind a figure: all of them, exact, and harmless in a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal

import pandas as pd
import pytest

from credit_core.analytics import queries
from credit_core.analytics.filters import Filters, Period
from credit_core.analytics.sync import Facts
from tests.analytics.ledgers import START, Ledger
from tests.analytics.plainly import behind, spent

Copy = Callable[..., Facts]
HOSTILE = [
    '=HYPERLINK("http://x")',
    "+1",
    "-2",
    "@SUM(A1)",
    "\tx",
    "\rx",
    " \u00a0=1",
    'quo"te, comma',
    "línea\nnueva",
    "plain",
    "a=b",
    "😀",
]


@pytest.mark.parametrize(
    "narrowed", [{}, {"plans": ("free",)}, {"users": ("u-a1", "u-a2")}, {"cell": ("pop", "bright")}]
)
def test_the_csv_has_every_row_behind_the_filter(
    town: Ledger, facts: Facts, whole: Filters, narrowed: dict[str, object]
) -> None:
    filters = whole.narrowed(**narrowed)
    expected = sorted(behind(town.entries, filters), key=lambda row: (row["occurred_at"], row["id"]))
    rows = list(csv.DictReader(io.StringIO(queries.csv_bytes(facts, filters).decode())))
    assert [int(row["id"]) for row in rows] == [row["id"] for row in expected]
    for row, entry in zip(rows, expected, strict=True):
        assert int(row["d_avail_uc"]) == entry["d_avail_uc"]
        assert datetime.fromisoformat(row["occurred_at"]) == entry["occurred_at"].replace(
            microsecond=entry["occurred_at"].microsecond
        )
        assert row["occurred_at"].endswith("+0545")
        assert row["model"] == (entry["model"] or "")
    assert sum(int(row["d_avail_uc"]) + int(row["d_held_uc"]) for row in rows if row["kind"] == "settle") == -sum(
        spent(entry) for entry in expected if entry["kind"] == "settle"
    )


def test_no_cell_is_taken_for_a_formula(ledger: Ledger, copied: Copy) -> None:
    ledger.account("a")
    ledger.grant("a", START)
    for number, text in enumerate(HOSTILE):
        ledger.answer("a", text, START + timedelta(hours=number), genre=text, mood=text, session_id=text)
    facts = copied(ledger.write())
    filters = Filters(Period(START, START + timedelta(days=2)))
    rows = list(csv.DictReader(io.StringIO(queries.csv_bytes(facts, filters).decode(), newline="")))[1:]
    for text, row in zip(HOSTILE, rows, strict=True):
        for name in ("request_id", "genre", "mood", "session_id"):
            assert row[name] == (f"'{text}" if text.lstrip(" \u00a0")[0] in "=+-@\t\r" else text)
        assert row["d_avail_uc"] == "0", "numbers are left alone"


def test_any_frame_is_made_harmless_numbers_left_alone() -> None:
    frame = pd.DataFrame({"=name": HOSTILE, "amount_uc": range(-5, 7), "share": [-0.5] * 12})
    rows = list(csv.reader(io.StringIO(queries.to_csv(frame).decode(), newline="")))
    assert rows[0] == ["'=name", "amount_uc", "share"]
    for text, row in zip(HOSTILE, rows[1:], strict=True):
        assert row[0] == (f"'{text}" if text.lstrip(" \u00a0")[0] in "=+-@\t\r" else text)
        assert Decimal(row[2]) == Decimal("-0.5")
    assert frame.columns[0] == "=name", "the frame itself is not touched"


def test_nothing_behind_the_filter_is_a_file_with_headings(facts: Facts, whole: Filters) -> None:
    buffer = io.BytesIO()
    assert queries.write_csv(facts, whole.narrowed(plans=("none",)), buffer) == 0
    heading = buffer.getvalue().decode().strip().split(",")
    assert '"id"' in heading
    assert '"d_avail_uc"' in heading


def test_the_export_is_streamed_in_batches(
    town: Ledger, facts: Facts, whole: Filters, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = facts.reader
    monkeypatch.setattr(facts, "reader", lambda statement: asked(statement, batch_rows=64))
    buffer = io.BytesIO()
    assert queries.write_csv(facts, whole, buffer) == len(town.entries)
    assert buffer.getvalue().count(b"\n") == len(town.entries) + 1


def test_the_screen_shows_the_newest_first(town: Ledger, facts: Facts, whole: Filters) -> None:
    frame = queries.rows_frame(facts, whole, limit=5)
    expected = sorted(town.entries, key=lambda row: (row["occurred_at"], row["id"]), reverse=True)[:5]
    assert frame["id"].to_list() == [row["id"] for row in expected]
    assert frame["occurred_at"].to_list() == [row["occurred_at"] for row in expected]
    assert str(frame["occurred_at"].dt.tz) == "Asia/Kathmandu"
