"""prepaid: a welcome gift, then packs; nothing expires, and taps at once never overdraw (SPEC 3)."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from credit_core import CreditCore
from credit_core.errors import Conflict, InvalidRequest
from credit_core.service.offline import Spend
from tests.service.scenes import CREDIT, FRESH_FOR_ALL, NOW, StoppedClock, ask, entries, lots, make_live, moves
from tests.service.together import together

CATALOG_DIR = Path(__file__).resolve().parents[2] / "data" / "catalog"


@pytest.fixture
def prepaid(core: CreditCore) -> CreditCore:
    make_live(core, {"limits.enabled": False})
    core.add_user("ada", "prepaid", at=NOW)
    return core


def test_fifty_welcome_credits_are_granted_once_at_sign_up(prepaid: CreditCore) -> None:
    for _ in range(2):
        prepaid.add_user("ada", "prepaid", at=NOW + timedelta(days=1))
    assert moves(prepaid) == [("grant", "welcome", 50, 0)]
    assert [lot.expires_at for lot in prepaid.balance("ada").lots] == [None]
    together(lambda _: prepaid.add_user("bob", "prepaid", at=NOW), range(8))
    assert moves(prepaid, "bob") == [("grant", "welcome", 50, 0)]
    assert prepaid.verify() == []


def test_packs_add_to_it_and_nothing_ever_expires(prepaid: CreditCore) -> None:
    prepaid.purchase("ada", "creator", "payment-1", at=NOW)
    prepaid.purchase("ada", "creator", "payment-1", at=NOW)
    prepaid.reconcile(at=NOW + timedelta(days=366))
    assert lots(prepaid) == [("welcome", 50, 0), ("purchased", 110, 0)]
    assert len(entries(prepaid)) == 2
    later = NOW + timedelta(days=366)
    decision = ask(prepaid, images=60, model="flux-dev", at=later)
    assert (decision.amount_uc, decision.rule) == (60 * CREDIT, "allowed")
    assert lots(prepaid) == [("welcome", 0, 50), ("purchased", 100, 10)]
    prepaid.release("ada", "r-1", "provider_error", at=later)
    assert lots(prepaid) == [("welcome", 50, 0), ("purchased", 110, 0)]
    assert prepaid.verify() == []


def test_a_plan_of_prepaid_credits_has_no_cycle_to_close(prepaid: CreditCore) -> None:
    assert prepaid.profile("ada").next_reset_at is None
    done = prepaid.reconcile(at=NOW + timedelta(days=300))
    assert (done.accounts, done.closings) == (0, 0)
    prepaid.grant(
        "ada", 7 * CREDIT, "bonus", "gift", expires_at=NOW + timedelta(days=301), at=NOW + timedelta(days=300)
    )
    done = prepaid.reconcile(at=NOW + timedelta(days=301))
    assert done == (1, 0, 1), "the gift expires long after the month of signing up, and closes nothing"
    assert lots(prepaid) == [("welcome", 50, 0)]


def test_half_a_credit_is_charged_exactly(prepaid: CreditCore) -> None:
    assert (ask(prepaid).model, ask(prepaid).amount_uc) == ("nano-banana", 500_000)
    prepaid.settle("ada", "r-1", at=NOW)
    assert prepaid.balance("ada").available_uc == 49_500_000
    assert entries(prepaid)[-1]["cost_usd_micro"] is None
    assert prepaid.explain("ada", "r-1").sentence == "Fresh for 0.5 credits: 50 credits were available."
    assert prepaid.verify() == []


def test_a_modality_without_a_model_is_refused_and_nothing_is_written(prepaid: CreditCore) -> None:
    with pytest.raises(InvalidRequest, match="no model for text"):
        ask(prepaid, modality="text")
    with pytest.raises(InvalidRequest, match="nano-banana"):
        ask(prepaid, model="dalle-3-hd")
    assert len(entries(prepaid)) == 1


# ---------------------------------------------------------------------------------------------------- taps at once


def test_fifty_taps_on_one_request_reserve_once(prepaid: CreditCore) -> None:
    answers = together(lambda _: ask(prepaid, "tap", model="nano-banana-pro"), range(50))
    assert sorted(answer.replayed for answer in answers) == [False] + [True] * 49
    assert len({answer._replace(replayed=False) for answer in answers}) == 1
    assert moves(prepaid, after=1) == [("reserve", "welcome", -2, 2)]
    assert prepaid.verify() == []


def test_fifty_taps_with_credit_for_ten_reserve_ten_and_decline_forty(prepaid: CreditCore) -> None:
    prepaid.adjust("ada", -40 * CREDIT, "k", "sam", "for a test", at=NOW)
    answers = together(lambda n: ask(prepaid, f"tap-{n}", model="flux-dev"), range(50))
    assert sorted((answer.status, answer.http_status) for answer in answers) == [
        *[("REJECTED", 402)] * 40, *[("RESERVED", 200)] * 10,
    ]  # fmt: skip
    assert (prepaid.balance("ada").available_uc, prepaid.balance("ada").held_uc) == (0, 10 * CREDIT)
    declined = next(answer for answer in answers if answer.status == "REJECTED")
    prepaid.purchase("ada", "pro", "payment", at=NOW)
    assert ask(prepaid, declined.request_id or "", model="flux-dev") == declined._replace(replayed=True)
    explained = prepaid.explain("ada", declined.request_id or "")
    assert explained.exact, explained.differences
    assert explained.sentence == (
        "Refused: it costs 1 credit, but only 0 credits were available. A pack, another plan or the next grant would help."
    )
    assert prepaid.verify() == []


def test_offline_spends_never_overdraw(prepaid: CreditCore) -> None:
    spends = [Spend(f"s-{n}", NOW + timedelta(minutes=n), 15, model="nano-banana-pro") for n in range(2)]
    done = prepaid.sync("ada", spends, at=NOW + timedelta(hours=1))
    assert (done.taken, done.overdrawn) == (("s-0",), ("s-1",))
    assert prepaid.balance("ada").available_uc == 20 * CREDIT
    assert [row["d_count"] for row in entries(prepaid)] == [None] * 3
    assert prepaid.verify() == []


# -------------------------------------------------------------------------------------------- from one system to another


def test_bought_credits_keep_a_user_where_they_mean_something(prepaid: CreditCore) -> None:
    with pytest.raises(Conflict, match="not credits of unit 'studio'"):
        prepaid.change_plan("ada", "creator_pro", at=NOW)
    assert prepaid.profile("ada").plan == "prepaid"
    prepaid.adjust("ada", -50 * CREDIT, "k", "sam", "turned into a discount", at=NOW)
    prepaid.change_plan("ada", "creator_pro", at=NOW)
    assert prepaid.profile("ada").quota_uc == 1_500 * CREDIT
    assert prepaid.verify() == []


def test_a_daily_user_who_pays_gets_the_days_that_are_left_and_closings_from_then_on(core: CreditCore) -> None:
    make_live(core, {"limits.enabled": False})
    core.add_user("ada", "daily", at=NOW.replace(hour=0))
    ask(core, "r-1", images=3)
    # Two cycles of a plan that has none went by: 10 March, 10 April; the running one began on 10 May.
    joined = NOW.replace(month=5, day=26, hour=0)
    core.change_plan("ada", "creator_pro", at=joined)
    left = (NOW.replace(month=6, hour=0) - joined).days
    assert core.balance("ada").available_uc == round(1_500 * CREDIT * left / 31)
    core.reconcile(at=NOW.replace(month=6, hour=0))
    assert core.balance("ada").available_uc == 1_500 * CREDIT
    core.release("ada", "r-1", "provider_error", at=NOW.replace(month=6))
    assert core.verify() == []


def test_a_deferred_request_of_a_titrated_user_who_left_is_dropped_in_the_end(core: CreditCore) -> None:
    make_live(core, FRESH_FOR_ALL | {"session.max_fresh": 1})
    core.add_user("ada", "basic", at=NOW)
    ask(core, "r-1")
    assert ask(core, "r-2").status == "DEFERRED"
    core.settle("ada", "r-1", at=NOW)
    core.change_plan("ada", "daily", at=NOW)
    assert core.claim_deferred(at=NOW + timedelta(hours=1)) == []
    assert core.claim_deferred(at=NOW + timedelta(hours=24)) == []
    assert entries(core)[-1]["reason"] == "deferral_expired"
    assert core.verify() == []


def test_credits_of_a_month_that_come_back_to_a_plan_without_months_still_end_with_theirs(
    ledger_url: str, clock: StoppedClock, tmp_path: Path
) -> None:
    """Two plans of one unit, so that what is held may go along."""
    for path in CATALOG_DIR.glob("*.toml"):
        text = path.read_text(encoding="utf-8").replace('credit_unit = "prepaid"', 'credit_unit = "studio"')
        (tmp_path / path.name).write_text(text, encoding="utf-8")
    with CreditCore.open(ledger_url, clock=clock, catalog=tmp_path) as core:
        core.add_user("ada", "creator_pro", at=NOW)
        ask(core, model="gen4-image")
        core.change_plan("ada", "prepaid", at=NOW)
        assert moves(core)[-1] == ("clamp", "monthly", -1_475, 0)
        core.release("ada", "r-1", "provider_error", at=NOW)
        assert lots(core) == [("monthly", 25, 0)]
        core.reconcile(at=NOW + timedelta(days=40))
        assert lots(core) == []
        assert core.verify() == []


def test_a_titrated_user_who_goes_over_to_days_leaves_the_quota_behind(core: CreditCore) -> None:
    make_live(core, {"limits.enabled": False})
    core.add_user("ada", "basic", at=NOW)
    ask(core, "r-0")
    with pytest.raises(Conflict, match="End the requests"):
        core.change_plan("ada", "daily", at=NOW)
    core.release("ada", "r-0", "cancelled", at=NOW)
    core.change_plan("ada", "daily", at=NOW)
    assert moves(core)[-1] == ("clamp", "monthly", -200, 0)
    assert core.reconcile(at=NOW + timedelta(days=200)).closings == 0
    assert ask(core, "r-1", at=NOW + timedelta(days=200)).remaining == 4
    core.change_plan("ada", "basic", at=NOW + timedelta(days=201))
    assert core.verify() == []
