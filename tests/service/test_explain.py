"""explain: what was logged with a decision is enough to compute it again, to the last bit (SPEC 4)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import text

from credit_core import CreditCore, Decision
from credit_core.errors import NotFound
from tests.service.rules import NAMES, RULES
from tests.service.scenes import LIBRARY_FOR_ALL, NOW, ask, make_live, tampering


@pytest.mark.parametrize(("rule", "status", "scene"), RULES, ids=NAMES)
def test_a_decision_of_every_rule_is_recomputed_exactly(
    core: CreditCore, rule: str, status: str, scene: Callable[[CreditCore], Decision]
) -> None:
    decision = scene(core)
    explanation = core.explain("ada", "asked")
    assert explanation.exact, explanation.differences
    assert (explanation.recomputed.rule, explanation.recomputed.status) == (rule, status)
    assert explanation.logged == decision
    assert explanation.sentence.endswith(".")


def test_what_is_live_now_does_not_change_what_was_decided_then(ledger_url: str, fresh_core: CreditCore) -> None:
    fresh_core.add_user("ada", "basic", at=NOW)
    ask(fresh_core)
    make_live(fresh_core, LIBRARY_FOR_ALL | {"plans.basic.coverage_threshold": 1.0})
    fresh_core.library.put("jazz", "calm", 3, at=NOW)
    with CreditCore.open(ledger_url, clock=fresh_core.deployment.ledger.clock) as later:
        assert later.explain("ada", "r-1").exact


def test_every_decision_of_a_day_is_recomputed_exactly(core: CreditCore) -> None:
    core.library.put("jazz", "calm", 12, at=NOW - timedelta(days=45))
    core.library.put("jazz", "calm", 4, at=NOW)
    make_live(core, {"controller.k": 0.0277, "session.max_fresh": 3})
    core.add_user("ada", "basic", "Asia/Kathmandu", segment="high_engagement", at=NOW - timedelta(days=9, hours=5))
    for number in range(60):
        cell = {"genre": "jazz", "mood": "calm"} if number % 3 else {}
        ask(core, f"r-{number}", images=1 + number % 5, at=NOW + timedelta(minutes=23 * number), **cell)
    inexact = [n for n in range(60) if not core.explain("ada", f"r-{n}").exact]
    rules = {core.explain("ada", f"r-{n}").logged.rule for n in range(60)}
    assert inexact == []
    assert {"controller", "session_cap"} <= rules


@pytest.mark.parametrize(
    ("column", "value", "field"),
    [("p", 0.25, "p"), ("u01", 0.5, "u01"), ("surplus", 1.0, "surplus"), ("arm", "treatment", None)],
)
def test_a_figure_that_was_changed_afterwards_is_named(
    own_ledger_url: str, column: str, value: object, field: str | None
) -> None:
    with CreditCore.open(own_ledger_url) as core:
        core.add_user("ada", "premium", at=NOW)
        ask(core)
        with tampering(own_ledger_url) as connection:
            connection.execute(
                text(f"UPDATE ledger_entries SET {column} = :value WHERE request_id = 'r-1'"), {"value": value}
            )
        explanation = core.explain("ada", "r-1")
    assert list(explanation.differences) == ([] if field is None else [field])
    if field is not None:
        assert explanation.differences[field][0] == value


def test_a_request_that_was_never_made_cannot_be_explained(core: CreditCore) -> None:
    core.add_user("ada", "free", at=NOW)
    with pytest.raises(NotFound, match="'r-9'"):
        core.explain("ada", "r-9")
