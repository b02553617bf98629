"""Modes ``govern`` and ``record`` on small logs: every row accounted for, once each, in whatever order they stand (SPEC 9)."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from credit_core import CreditCore
from credit_core.importers.demo import PUBLISHED_SALT
from credit_core.store.engine import open_engine
from tests.importers.rows import accounted, bring_in, row, write
from tests.service.scenes import CREDIT, FRESH_FOR_ALL, NOW, StoppedClock, make_live

Printed = pytest.CaptureFixture[str]
PENDING = {"predict_status": "PENDING", "num_images_per_prompt": "", "exec_time_seconds": "0"}


@pytest.fixture
def fresh_url(ledger_url: str) -> str:
    """A ledger by which whatever the balance covers is served fresh."""
    with CreditCore.open(ledger_url, clock=StoppedClock(NOW)) as core:
        make_live(core, FRESH_FOR_ALL)
    return ledger_url


@pytest.fixture
def new_url(tmp_path: Path) -> str:
    """Where no ledger is yet."""
    return f"sqlite:///{tmp_path / 'new.db'}"


def ledger(url: str) -> list[tuple[Any, ...]]:
    """What happened, whenever it was written."""
    engine = open_engine(url, owner=True)
    with engine.connect() as connection:
        rows = connection.execute(
            text(
                "SELECT account_id, seq, kind, occurred_at, d_avail_uc, d_held_uc, request_id, rule, p, u01, reason,"
                " cost_usd_micro, latency_ms FROM ledger_entries ORDER BY account_id, seq"
            )
        ).all()
    engine.dispose()
    return [tuple(one) for one in rows]


def kinds(url: str) -> Counter[str]:
    return Counter(one[2] for one in ledger(url))


def sound(url: str) -> bool:
    with CreditCore.open(url) as core:
        return core.verify() == []


# --------------------------------------------------------------------------------------------------------------- govern


def mixed() -> list[dict[str, str]]:
    """Every way a row can end, for two users on Free."""
    return [
        row("12:00:00"), row("12:00:05", num_images_per_prompt="4"), row("12:00:05", predict_status="FAILED"),
        row("12:00:10", **PENDING), row("12:00:10", groupId="G2", num_images_per_prompt="25"),
        row("12:00:11", groupId="G2", num_images_per_prompt="none"), row("12:00:11", groupId="G2"),
    ]  # fmt: skip


def test_every_row_of_a_governed_log_is_accounted_for(fresh_url: str, tmp_path: Path, capsys: Printed) -> None:
    file = write(tmp_path / "log.csv", mixed())
    summary = bring_in(capsys, file, fresh_url, "govern", "--plan", "free")
    ended = {name: summary[name] for name in ("settled", "released", "swept", "held", "library", "reject_file")}
    assert ended == {"settled": 3, "released": 2, "swept": 1, "held": 0, "library": 1, "reject_file": 1}
    assert accounted(summary) == summary["accounted"] == summary["rows_read"] == 7
    assert (summary["new"], summary["known"], summary["users"], summary["complete"]) == (6, 0, 2, True)
    assert summary["spent_uc"] == 6 * CREDIT
    assert sound(fresh_url)


def test_failed_rows_cost_nothing_and_pending_ones_are_held_until_they_are_swept(
    fresh_url: str, tmp_path: Path, capsys: Printed
) -> None:
    rows = [row("12:00:00", predict_status="FAILED"), row("12:10:00", **PENDING)]
    bring_in(capsys, write(tmp_path / "log.csv", rows), fresh_url, "govern", "--plan", "free")
    written = ledger(fresh_url)
    assert [(kind, reason) for _, _, kind, *_, reason, _, _ in written] == [
        ("grant", None), ("reserve", None), ("release", "provider_error"), ("reserve", None), ("release", "swept"),
    ]  # fmt: skip
    assert written[4][3] - written[3][3] == 900 * 1_000_000
    with CreditCore.open(fresh_url) as core:
        assert core.balance("G1").available_uc == 20 * CREDIT
        assert core.balance("G1").held_uc == 0
    assert sound(fresh_url)


def test_an_end_after_the_hold_was_swept_is_a_late_settle(fresh_url: str, tmp_path: Path, capsys: Printed) -> None:
    rows = [
        row("12:00:00", exec_time_seconds="1200"), row("12:00:01", exec_time_seconds="899"),
        row("12:00:02", exec_time_seconds="1000", predict_status="FAILED"),
    ]  # fmt: skip
    summary = bring_in(capsys, write(tmp_path / "log.csv", rows), fresh_url, "govern", "--plan", "free")
    assert {name: summary[name] for name in ("settled", "released", "swept", "late_settles")} == {
        "settled": 1, "released": 2, "swept": 2, "late_settles": 1,
    }  # fmt: skip
    assert [one[10] for one in ledger(fresh_url) if one[2] == "rejected"] == ["late_settle"]
    assert accounted(summary) == 3
    assert sound(fresh_url)


def test_an_end_at_the_instant_of_a_start_comes_first(fresh_url: str, tmp_path: Path, capsys: Printed) -> None:
    rows = [row("12:00:30"), row("12:00:00", predict_status="FAILED")]
    bring_in(capsys, write(tmp_path / "log.csv", rows), fresh_url, "govern", "--plan", "free")
    assert [one[2] for one in ledger(fresh_url)] == ["grant", "reserve", "release", "reserve", "settle"]
    assert sound(fresh_url)


@pytest.mark.parametrize("mode", ["govern", "record"])
def test_the_same_file_again_adds_nothing_and_tells_the_same(
    fresh_url: str, tmp_path: Path, capsys: Printed, mode: str
) -> None:
    rows = [*mixed(), row("12:30:00", exec_time_seconds="1200"), row("12:00:00"), row("12:00:00")]
    file = write(tmp_path / "log.csv", rows)
    first = bring_in(capsys, file, fresh_url, mode, "--plan", "free")
    before = ledger(fresh_url)
    second = bring_in(capsys, file, fresh_url, mode, "--plan", "free")
    assert (first["new"], first["known"], second["new"], second["known"]) == (9, 0, 0, 9)
    for name in ("rows_read", "accounted", "settled", "released", "swept", "late_settles", "library", "imported"):
        assert second[name] == first[name], name
    assert ledger(fresh_url) == before
    assert sound(fresh_url)


def test_an_import_can_go_on_where_it_stopped(fresh_url: str, tmp_path: Path, capsys: Printed) -> None:
    rows = [row(f"12:{minute:02}:00", groupId=f"G{minute % 3}") for minute in range(20)]
    bring_in(capsys, write(tmp_path / "part.csv", rows[:11]), fresh_url, "govern")
    summary = bring_in(capsys, write(tmp_path / "log.csv", rows), fresh_url, "govern")
    assert (summary["new"], summary["known"], summary["settled"]) == (9, 11, 20)
    assert kinds(fresh_url) == {"grant": 3, "reserve": 20, "settle": 20}
    assert sound(fresh_url)


@pytest.mark.parametrize("mode", ["govern", "record"])
def test_an_unsorted_file_gives_the_same_ledger(tmp_path: Path, capsys: Printed, mode: str) -> None:
    rows = [
        row(
            f"2024-11-{15 + number // 40} 12:{number % 40:02}:00", groupId=f"G{number % 5}",
            predict_status="FAILED" if number % 7 == 0 else "SUCCEED", num_images_per_prompt=str(1 + number % 3),
        )
        for number in range(120)
    ]  # fmt: skip
    ledgers = []
    for number, shuffled in enumerate((rows, random.Random(5).sample(rows, len(rows)))):
        url = f"sqlite:///{tmp_path / f'{number}.db'}"
        bring_in(capsys, write(tmp_path / "log.csv", shuffled), url, mode, "--plan", "basic")
        ledgers.append(ledger(url))
    assert ledgers[0] == ledgers[1]


@pytest.mark.parametrize("mode", ["govern", "record"])
def test_a_dry_run_writes_nothing_and_makes_no_ledger(new_url: str, tmp_path: Path, capsys: Printed, mode: str) -> None:
    file = write(tmp_path / "log.csv", mixed())
    summary = bring_in(capsys, file, new_url, mode, "--dry-run")
    assert (summary["rows_read"], summary["reject_file"], summary["dry_run"]) == (7, 1, True)
    assert (summary["new"], summary["users"]) == (0, 2)
    assert {path.name for path in tmp_path.iterdir()} == {"log.csv"}


def test_a_dry_run_leaves_a_ledger_as_it_is(fresh_url: str, tmp_path: Path, capsys: Printed) -> None:
    before = ledger(fresh_url)
    bring_in(capsys, write(tmp_path / "log.csv", mixed()), fresh_url, "govern", "--dry-run")
    assert ledger(fresh_url) == before


def test_bad_rows_go_to_the_reject_file_and_the_good_ones_stay(fresh_url: str, tmp_path: Path, capsys: Printed) -> None:
    file, kept = write(tmp_path / "log.csv", mixed()), tmp_path / "rejects.csv"
    bring_in(capsys, file, fresh_url, "govern", "--rejects", str(kept))
    lines = kept.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("7,")
    assert "num_images_per_prompt is 'none'" in lines[1]


def test_days_later_cycles_have_been_closed_on_the_way(fresh_url: str, tmp_path: Path, capsys: Printed) -> None:
    rows = [row(f"2024-{month}-15 12:00:00") for month in ("11", "12")] + [row("2025-01-16 12:00:00", groupId="G2")]
    bring_in(capsys, write(tmp_path / "log.csv", rows), fresh_url, "govern", "--plan", "free")
    with CreditCore.open(fresh_url) as core:
        assert [entry["kind"] for entry in core.history("G1")].count("grant") == 3
    assert sound(fresh_url)


def test_a_new_ledger_draws_by_the_published_salt(new_url: str, tmp_path: Path, capsys: Printed) -> None:
    bring_in(capsys, write(tmp_path / "log.csv", mixed()), new_url, "govern")
    with CreditCore.open(new_url) as core:
        assert core.deployment.ledger.salts["draw"] == PUBLISHED_SALT
        decided = [entry["request_id"] for entry in core.history("G1") if entry["u01"] is not None]
        assert decided
        assert all(core.explain("G1", request_id).exact for request_id in decided)


# --------------------------------------------------------------------------------------------------------------- record


def test_recorded_usage_is_paid_from_backfill_lots_and_leaves_the_quota_alone(
    ledger_url: str, tmp_path: Path, capsys: Printed
) -> None:
    rows = [*mixed(), row("2024-11-16 12:00:00", num_images_per_prompt="100")]
    summary = bring_in(capsys, write(tmp_path / "log.csv", rows), ledger_url, "record", "--plan", "free")
    assert (summary["imported"], summary["reject_file"], accounted(summary), summary["rows_read"]) == (7, 1, 8, 8)
    assert (summary["new"], summary["spent_uc"]) == (7, 131 * CREDIT)
    with CreditCore.open(ledger_url) as core:
        for user, spent in (("G1", 105), ("G2", 26)):
            balance = core.balance(user)
            assert (balance.available_uc, balance.lifetime.spent_uc) == (20 * CREDIT, spent * CREDIT)
        granted = [entry for entry in core.history("G1") if entry["kind"] == "grant"]
        # Its quota, then one backfill per chunk, and a chunk spans no midnight.
        assert [entry["d_avail_uc"] for entry in granted] == [20 * CREDIT, 5 * CREDIT, 100 * CREDIT]
    assert sound(ledger_url)


def test_recorded_rows_that_failed_or_never_ended_cost_nothing(
    ledger_url: str, tmp_path: Path, capsys: Printed
) -> None:
    rows = [row(predict_status="FAILED", num_images_per_prompt="3"), row("12:00:01", **PENDING), row("12:00:02")]
    bring_in(capsys, write(tmp_path / "log.csv", rows), ledger_url, "record")
    imported = [(one[10], one[4]) for one in ledger(ledger_url) if one[2] == "import"]
    assert imported == [("failed", 0), ("pending", 0), ("succeeded", -CREDIT)]
    assert sound(ledger_url)


@pytest.mark.parametrize(("model", "cost"), [(None, None), ("stable-diffusion-xl", 160_000), ("dalle-3-hd", 240_000)])
def test_recorded_rows_are_priced_by_the_catalogue_where_a_model_is_named(
    sqlite_ledger: str, tmp_path: Path, capsys: Printed, model: str | None, cost: int | None
) -> None:
    more = [] if model is None else ["--model", model]
    file = write(tmp_path / "log.csv", [row(num_images_per_prompt="2")])
    bring_in(capsys, file, sqlite_ledger, "record", *more)
    assert [one[11] for one in ledger(sqlite_ledger) if one[2] == "import"] == [cost]
