"""The whole GenTD26 trace, where it is there: every row accounted for, and the same numbers on both engines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from credit_core import CreditCore
from credit_core.store.engine import open_engine
from tests.importers.rows import accounted, bring_in

TRACE = Path(__file__).resolve().parents[2] / "../shared/data/gentd26_requests.csv"
ROWS = 15_630
pytestmark = pytest.mark.skipif(
    not TRACE.exists(), reason="../shared/data/gentd26_requests.csv, which is not part of the product, is absent"
)


def figures(url: str) -> dict[str, tuple[int, int, int, int]]:
    """By kind: entries, available, held, cost."""
    engine = open_engine(url, owner=True)
    with engine.connect() as connection:
        rows = connection.execute(
            text(
                "SELECT kind, count(*), sum(d_avail_uc), sum(d_held_uc), coalesce(sum(cost_usd_micro), 0)"
                " FROM ledger_entries GROUP BY kind"
            )
        ).all()
    engine.dispose()
    return {kind: (int(n), int(avail), int(held), int(cost)) for kind, n, avail, held, cost in rows}


def numbers(summary: dict[str, Any]) -> dict[str, Any]:
    """A summary without what differs from run to run."""
    return {name: value for name, value in summary.items() if name not in ("seconds", "rows_per_s", "new", "known")}


@pytest.mark.postgres
@pytest.mark.timeout(300)
def test_the_trace_governed_on_sqlite_and_on_postgresql_gives_the_same_numbers_once(
    tmp_path: Path, postgres_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    summaries, totals = [], []
    for url in (f"sqlite:///{tmp_path / 'trace.db'}", postgres_url):
        first = bring_in(capsys, TRACE, url, "govern", "--plan", "basic")
        assert accounted(first) == first["accounted"] == first["rows_read"] == ROWS
        assert first["new"] + first["reject_file"] == ROWS
        assert (first["held"], first["complete"]) == (0, True)
        totals.append(figures(url))
        second = bring_in(capsys, TRACE, url, "govern", "--plan", "basic")
        assert (second["new"], second["known"]) == (0, first["new"])
        assert numbers(second) == numbers(first)
        assert figures(url) == totals[-1]
        with CreditCore.open(url) as core:
            assert core.verify() == []
        summaries.append(numbers(first))
    assert summaries[0] == summaries[1]
    assert totals[0] == totals[1]


def test_the_trace_recorded_is_accounted_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{tmp_path / 'trace.db'}"
    summary = bring_in(capsys, TRACE, url, "record", "--plan", "basic", "--model", "stable-diffusion-xl")
    assert accounted(summary) == summary["rows_read"] == ROWS
    assert summary["imported"] + summary["reject_file"] == ROWS
    found = figures(url)
    assert -found["import"][1] == summary["spent_uc"]
    with CreditCore.open(url) as core:
        assert core.verify() == []
