"""authorize: one decision per request, whichever rule answers it; asked again, the first answer (SPEC 2.1 and 4)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from credit_core import CreditCore, Decision, Request
from credit_core.errors import NotFound, RequestMismatch
from tests.service.rules import NAMES, RULES
from tests.service.scenes import (
    CREDIT,
    FRESH_FOR_ALL,
    NOW,
    StoppedClock,
    ask,
    entries,
    everything,
    lots,
    make_live,
    moves,
)

Scene = Callable[[CreditCore], Decision]
KINDS = {"RESERVED": "reserve", "LIBRARY": "library", "DEFERRED": "defer", "RATE_LIMITED": "rate_limited"}

# --------------------------------------------------------------------------------------------------------- one decision


@pytest.mark.parametrize(("rule", "status", "scene"), RULES, ids=NAMES)
def test_each_rule_answers_and_is_written_as_one_leg(core: CreditCore, rule: str, status: str, scene: Scene) -> None:
    decision = scene(core)
    written = [row for row in entries(core) if row["request_id"] == "asked"]
    assert (decision.rule, decision.status) == (rule, status)
    assert {row["leg_id"] for row in written} == {written[0]["leg_id"]}
    assert {row["kind"] for row in written} == {KINDS.get(status, "rejected")}
    assert written[0]["rule"] == rule
    assert sum(row["d_held_uc"] for row in written) == decision.amount_uc
    assert core.verify() == []


def test_forced_answers_are_those_of_rules_4_to_7(core: CreditCore) -> None:
    core.add_user("ada", "free", at=NOW)
    assert ask(core, "r-1", images=21).forced
    assert not ask(core, "r-2").forced


def test_a_fresh_answer_moves_its_cost_from_available_to_held(fresh_core: CreditCore) -> None:
    fresh_core.add_user("ada", "free", at=NOW)
    decision = ask(fresh_core, images=3)
    assert (decision.status, decision.amount_uc) == ("RESERVED", 3 * CREDIT)
    assert moves(fresh_core) == [("grant", "monthly", 20, 0), ("reserve", "monthly", -3, 3)]
    balance = fresh_core.balance("ada")
    assert (balance.available_uc, balance.held_uc) == (17 * CREDIT, 3 * CREDIT)


def test_a_library_answer_moves_nothing(core: CreditCore) -> None:
    core.add_user("ada", "free", at=NOW)
    assert ask(core, images=21).status == "LIBRARY"
    assert moves(core) == [("grant", "monthly", 20, 0), ("library", None, 0, 0)]


def test_what_expires_first_is_spent_first_whatever_was_granted_first(fresh_core: CreditCore) -> None:
    fresh_core.add_user("ada", "free", at=NOW)
    fresh_core.grant("ada", CREDIT, "purchased", "never", at=NOW)
    fresh_core.grant("ada", CREDIT, "bonus", "later", at=NOW, expires_at=NOW + timedelta(days=60))
    fresh_core.grant("ada", CREDIT, "purchased", "sooner", at=NOW, expires_at=NOW + timedelta(days=2))
    ask(fresh_core, images=23)
    assert moves(fresh_core, after=4) == [
        ("reserve", "purchased", -1, 1),
        ("reserve", "monthly", -20, 20),
        ("reserve", "bonus", -1, 1),
        ("reserve", "purchased", -1, 1),
    ]
    assert len({row["leg_id"] for row in entries(fresh_core)[4:]}) == 1


def test_on_equal_expiry_lots_are_spent_in_the_order_of_their_kinds(fresh_core: CreditCore) -> None:
    fresh_core.add_user("ada", "free", at=NOW)
    end = NOW + timedelta(days=9)
    for kind in ("backfill", "purchased", "bonus", "welcome"):
        fresh_core.grant("ada", CREDIT, kind, kind, at=NOW, expires_at=end)
    ask(fresh_core, images=4)
    assert [kind for _, kind, _, _ in moves(fresh_core, after=5)] == ["welcome", "bonus", "purchased", "backfill"]


def test_the_whole_balance_can_be_asked_for_and_not_a_credit_more(fresh_core: CreditCore) -> None:
    fresh_core.add_user("ada", "free", at=NOW)
    assert ask(fresh_core, "r-1", images=20).status == "RESERVED"
    assert ask(fresh_core, "r-2").rule == "unaffordable"
    assert lots(fresh_core) == [("monthly", 0, 20)]


def test_a_request_without_an_instant_happens_now(fresh_core: CreditCore, clock: StoppedClock) -> None:
    fresh_core.add_user("ada", "free")
    clock.advance(hours=1)
    assert fresh_core.authorize(Request("ada", "r-1", "s-1")).at == NOW + timedelta(hours=1)


def test_a_request_of_nobody_is_refused(core: CreditCore) -> None:
    with pytest.raises(NotFound, match="add_user"):
        ask(core)


# ---------------------------------------------------------------------------------------------------------- asked again


@pytest.mark.parametrize(("rule", "status", "scene"), RULES, ids=NAMES)
def test_asked_again_the_first_answer_comes_back_and_nothing_is_written(
    core: CreditCore, rule: str, status: str, scene: Scene
) -> None:
    first = scene(core)
    asked: dict[str, Any] = {"genre": entries(core)[-1]["genre"], "mood": entries(core)[-1]["mood"]}
    if scene.__name__ == "drawn_fresh":
        asked |= {"model": "dalle-3-hd", "text": "a blue door"}
    before = everything(core)
    images = first.state.cost_uc // CREDIT
    again = ask(core, "asked", images=images, at=NOW + timedelta(days=90), **asked)
    assert again.replayed
    assert not first.replayed
    assert again == first._replace(replayed=True)
    assert everything(core) == before


def test_a_declined_answer_stays_declined_when_credits_arrive(fresh_core: CreditCore) -> None:
    fresh_core.add_user("ada", "free", at=NOW)
    ask(fresh_core, "r-1", images=21)
    fresh_core.grant("ada", 100 * CREDIT, "purchased", "pack", at=NOW)
    assert ask(fresh_core, "r-1", images=21).status == "LIBRARY"
    assert ask(fresh_core, "r-2", images=21).status == "RESERVED"


CONTENT = {"modality": "image", "model": None, "images": 2, "genre": "jazz", "mood": "calm", "text": "a door"}


@pytest.mark.parametrize(
    "other",
    [
        *({"modality": "video"}, {"model": "dalle-3-hd"}, {"images": 3}, {"genre": "rock"}, {"mood": "wild"}),
        *({"genre": None, "mood": None}, {"text": "a window"}, {"text": None}, {"text": ""}),
    ],
    ids=str,
)
def test_the_same_id_with_other_content_is_an_error_that_says_so(fresh_core: CreditCore, other: dict[str, Any]) -> None:
    fresh_core.add_user("ada", "basic", at=NOW)
    ask(fresh_core, **CONTENT)
    before = everything(fresh_core)
    with pytest.raises(
        RequestMismatch, match=r"'r-1' of user 'ada' was asked before with other content.*new request_id"
    ):
        ask(fresh_core, **(CONTENT | other))
    assert everything(fresh_core) == before


@pytest.mark.parametrize(
    "other",
    [{"session_id": "s-2"}, {"ip": "192.0.2.7"}, {"at": NOW + timedelta(hours=5)}, {"text": " a door "}],
    ids=str,
)
def test_session_address_instant_and_blanks_around_the_text_are_not_content(
    fresh_core: CreditCore, other: dict[str, Any]
) -> None:
    fresh_core.add_user("ada", "basic", at=NOW)
    first = ask(fresh_core, **CONTENT)
    assert ask(fresh_core, **(CONTENT | other)) == first._replace(replayed=True)


def test_request_ids_belong_to_their_user(fresh_core: CreditCore) -> None:
    fresh_core.add_user("ada", "free", at=NOW)
    fresh_core.add_user("bob", "free", at=NOW)
    ask(fresh_core, "r-1", images=1)
    assert not ask(fresh_core, "r-1", user="bob", images=2).replayed
    assert fresh_core.balance("bob").held_uc == 2 * CREDIT


# --------------------------------------------------------------------------------------------------------------- limits


def test_thirty_requests_may_come_at_once_and_the_next_one_two_seconds_later(core: CreditCore) -> None:
    core.add_user("ada", "basic", at=NOW)
    assert "RATE_LIMITED" not in {ask(core, f"r-{n}").status for n in range(30)}
    refused = ask(core, "r-30")
    assert (refused.status, refused.outcome, refused.retry_after_s) == ("RATE_LIMITED", None, 2.0)
    assert ask(core, "r-31", at=NOW + timedelta(seconds=1.9)).status == "RATE_LIMITED"
    assert ask(core, "r-32", at=NOW + timedelta(seconds=2)).status != "RATE_LIMITED"
    # Under its old id a refused request stays refused: the answer says to retry under a new one.
    assert ask(core, "r-30", at=NOW + timedelta(hours=1)).status == "RATE_LIMITED"


def test_a_bucket_is_one_users_and_replays_do_not_fill_it(core: CreditCore) -> None:
    make_live(core, {"limits.bucket_capacity": 2.0})
    core.add_user("ada", "basic", at=NOW)
    core.add_user("bob", "basic", at=NOW)
    for _ in range(5):
        ask(core, "r-1")
    assert ask(core, "r-2").status != "RATE_LIMITED"
    assert ask(core, "r-3").status == "RATE_LIMITED"
    assert ask(core, "r-1", user="bob").status != "RATE_LIMITED"


def test_limits_can_be_switched_off(core: CreditCore) -> None:
    make_live(core, {"limits.enabled": False, "limits.bucket_capacity": 1.0})
    core.add_user("ada", "basic", at=NOW)
    assert "RATE_LIMITED" not in {ask(core, f"r-{n}").status for n in range(5)}


def test_the_thirteenth_fresh_one_of_a_session_is_deferred_on_whichever_device(core: CreditCore) -> None:
    make_live(core, FRESH_FOR_ALL | {"session.max_fresh": 12})
    core.add_user("ada", "basic", at=NOW)
    statuses = [ask(core, f"r-{n}", session_id=f"s-{n % 3}").status for n in range(13)]
    assert statuses == ["RESERVED"] * 12 + ["DEFERRED"]
    deferred = entries(core)[-1]
    assert (deferred["kind"], deferred["outcome"], deferred["rule"], deferred["forced"]) == (
        "defer", "library", "session_cap", True,
    )  # fmt: skip


def test_half_of_what_a_session_opened_with_may_be_spent_fresh(core: CreditCore) -> None:
    make_live(core, FRESH_FOR_ALL | {"session.max_share": 0.5})
    core.add_user("ada", "free", at=NOW)
    assert ask(core, "r-1", images=10).status == "RESERVED"
    assert ask(core, "r-2", images=1).status == "DEFERRED"


def test_one_request_may_cost_more_than_half_of_what_the_session_opened_with(core: CreditCore) -> None:
    make_live(core, FRESH_FOR_ALL | {"session.max_share": 0.5})
    core.add_user("ada", "free", at=NOW)
    assert ask(core, "r-1", images=15).status == "RESERVED"
    assert ask(core, "r-2", images=1).status == "DEFERRED"


def test_half_an_hour_without_a_decision_ends_a_session(core: CreditCore) -> None:
    make_live(core, FRESH_FOR_ALL | {"session.max_fresh": 1})
    core.add_user("ada", "basic", at=NOW)
    assert ask(core, "r-1").status == "RESERVED"
    assert ask(core, "r-2", at=NOW + timedelta(minutes=29)).status == "DEFERRED"
    assert ask(core, "r-3", at=NOW + timedelta(minutes=58)).status == "DEFERRED"
    fourth = ask(core, "r-4", at=NOW + timedelta(minutes=88))
    assert (fourth.status, fourth.state.session_images, fourth.state.session_fresh) == ("RESERVED", 0, 0)


def test_freshness_counts_the_images_of_the_session_and_needs_consent(fresh_core: CreditCore) -> None:
    fresh_core.add_user("ada", "basic", at=NOW)
    counts = [ask(fresh_core, f"r-{n}", images=n).state.session_images for n in (1, 2, 3)]
    assert counts == [0, 1, 3]
    fresh_core.deployment.ledger.write(
        lambda connection: connection.exec_driver_sql("UPDATE users SET session_consent = NOT session_consent")
    )
    assert ask(fresh_core, "r-4").state.session_images == 0


@pytest.mark.parametrize(("carried_uc", "rule"), [(38_800_000, "at_cap"), (38_799_999, "controller")])
def test_from_98_percent_of_the_cap_on_requests_are_served_fresh(core: CreditCore, carried_uc: int, rule: str) -> None:
    core.add_user("ada", "free", at=NOW)
    core.grant("ada", carried_uc, "rollover", "carried", at=NOW)
    assert ask(core).rule == rule


def test_only_monthly_and_rollover_credits_are_paced(core: CreditCore) -> None:
    core.add_user("ada", "free", at=NOW)
    core.grant("ada", 500 * CREDIT, "purchased", "pack", at=NOW)
    state = ask(core).state
    assert (state.available_uc, state.paced_uc) == (520 * CREDIT, 20 * CREDIT)
