"""The pantry queue's workers: the most wanted cells first, each for one worker, for an hour (SPEC 4.1)."""

from __future__ import annotations

from datetime import timedelta

import pytest

from credit_core import CreditCore
from credit_core.errors import InvalidRequest
from credit_core.service.stocking import PantryCell
from tests.faults.processes import workers
from tests.service.scenes import NOW, ask, everything, make_live, scalar
from tests.service.together import together

DAY = timedelta(days=1)


@pytest.fixture
def wanted(core: CreditCore) -> CreditCore:
    """Ada (basic, threshold 0.5) and Pia (premium, 0.65) miss three cells; none of them grows by itself."""
    make_live(core, {"limits.enabled": False, "coverage.library_growth": False})
    core.library.put("noir", "calm", 8, at=NOW)
    core.add_user("ada", "basic", at=NOW)
    core.add_user("pia", "premium", at=NOW)
    for user, genre, times in (("ada", "noir", 7), ("pia", "noir", 14), ("ada", "pop", 7), ("pia", "folk", 1)):
        for n in range(times):
            ask(core, f"{genre}-{n}", user=user, genre=genre, mood="calm")
    return core


def asked_for(core: CreditCore, limit: int = 10, at: timedelta = timedelta(0)) -> list[tuple[str, str, float, int]]:
    return [(c.genre, c.mood, round(c.score, 9), c.missing) for c in core.library.take(limit, at=NOW + at)]


def test_cells_come_by_demand_times_what_is_lacking_summed_over_the_plans(wanted: CreditCore) -> None:
    assert asked_for(wanted) == [
        # 7/28 · (0.5 − 0.4) + 14/28 · (0.65 − 0.4); up to 0.65 five assets are missing.
        ("noir", "calm", 0.15, 5),
        ("pop", "calm", 0.125, 10),
        ("folk", "calm", round(1 / 28 * 0.65, 9), 13),
    ]
    assert isinstance(PantryCell("a", "b", 1.0, 2), tuple)


def test_a_cell_is_lent_for_an_hour_and_its_turn_comes_again(wanted: CreditCore) -> None:
    assert [cell[0] for cell in asked_for(wanted, 2)] == ["noir", "pop"]
    assert [cell[0] for cell in asked_for(wanted, 2)] == ["folk"]
    assert asked_for(wanted, 2, timedelta(minutes=59)) == []
    wanted.library.put("noir", "calm", 4, at=NOW)
    assert [cell[:1] + cell[3:] for cell in asked_for(wanted, 10, timedelta(hours=1))] == [
        ("pop", 10), ("noir", 1), ("folk", 13),
    ]  # fmt: skip


def test_a_cell_that_reached_the_threshold_is_left_out(wanted: CreditCore) -> None:
    wanted.library.put("noir", "calm", 5, at=NOW)
    wanted.library.put("pop", "calm", 10, at=NOW)
    assert [cell[0] for cell in asked_for(wanted)] == ["folk"]


def test_the_threshold_is_the_live_configurations(wanted: CreditCore) -> None:
    make_live(wanted, {"plans.basic.coverage_threshold": 0.3, "plans.premium.coverage_threshold": 0.1})
    assert [(cell[0], cell[3]) for cell in asked_for(wanted)] == [("pop", 6), ("folk", 2)]


def test_demand_is_that_of_the_last_28_days(wanted: CreditCore) -> None:
    wanted.deployment.ledger.clock.advance(days=30)  # type: ignore[attr-defined]
    ask(wanted, "again", user="ada", genre="pop", mood="calm", at=NOW + DAY)
    assert [cell[0] for cell in asked_for(wanted, at=28 * DAY - timedelta(microseconds=1))] == ["noir", "pop", "folk"]
    assert asked_for(wanted, at=28 * DAY + timedelta(hours=1)) == [("pop", "calm", round(0.5 / 28, 9), 10)]


def test_what_another_system_could_not_afford_is_no_demand_for_the_library(wanted: CreditCore) -> None:
    wanted.add_user("bob", "prepaid", at=NOW)
    for n in range(60):
        assert ask(wanted, f"b-{n}", user="bob", images=200, genre="folk", mood="calm").rule == "unaffordable"
    assert [cell[0] for cell in asked_for(wanted)] == ["noir", "pop", "folk"]


def test_a_cell_that_nobody_misses_is_not_in_the_queue(core: CreditCore) -> None:
    core.library.put("noir", "calm", 20, at=NOW)
    core.add_user("ada", "basic", at=NOW)
    ask(core, genre="noir", mood="calm")
    before = everything(core)
    assert core.library.take(5, at=NOW) == []
    assert everything(core) == before


@pytest.mark.parametrize("limit", [0, -1, 10_001])
def test_a_limit_that_is_none_is_refused(core: CreditCore, limit: int) -> None:
    with pytest.raises(InvalidRequest, match="limit"):
        core.library.take(limit, at=NOW)


def test_eight_workers_at_once_never_take_the_same_cell(wanted: CreditCore) -> None:
    for n in range(20):
        ask(wanted, f"x-{n}", genre=f"g-{n}", mood="calm")
    taken = [cell[:2] for part in together(lambda _: asked_for(wanted, 5), range(8)) for cell in part]
    assert len(taken) == len(set(taken)) == 23


def test_two_processes_never_take_the_same_cell(ledger_url: str, wanted: CreditCore) -> None:
    for n in range(17):
        ask(wanted, f"x-{n}", genre=f"g-{n}", mood="calm")
    with workers(ledger_url, 2) as started:
        for worker in started:
            for _ in range(5):
                worker.tell("take", limit=3, at=NOW.isoformat())
        taken = [tuple(cell) for worker in started for _ in range(5) for cell in worker.hear()]
    assert len(taken) == len(set(taken)) == 20
    assert scalar(wanted, "SELECT count(*) FROM library_cells WHERE taken_at IS NOT NULL") == 20
