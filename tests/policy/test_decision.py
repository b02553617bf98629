"""What a decision carries besides its rule and p: the draw, the model, what to charge, what it was computed from."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from credit_core.policy import decision as policy
from credit_core.policy.decision import Request, decide, draw, evaluate, inputs_of, law_for
from credit_core.policy.guardrails import RULES
from tests.policy import formulas
from tests.policy.states import MICRO, REQUEST, SHIPPED, account, cell, with_changes

# ---------------------------------------------------------------------------------------------------------- the draw


def test_the_hand_written_blake2b_gives_the_digest_printed_in_rfc_7693() -> None:
    printed = (
        "ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d1"
        "7d87c5392aab792dc252d5de4533cc9518d38aa8dbf1925ab92386edd4009923"
    )
    assert formulas.blake2b(b"abc", b"", 64).hex() == printed


@pytest.mark.parametrize(
    ("salt", "user_id", "request_id", "u01"),
    [
        (b"salt", "u", "r", 0.06772694767202159),
        (b"titrate", "alice", "r-1", 0.013898853000994804),
        (b"titrate", "Zoë", "ünï", 0.5110972635846149),
        (b"k" * 64, "u" * 128, "r" * 128, 0.2938053431632923),
    ],
)
def test_a_draw_is_the_same_for_ever(salt: bytes, user_id: str, request_id: str, u01: float) -> None:
    assert draw(salt, user_id, request_id) == u01
    assert formulas.draw(salt, user_id, request_id) == u01


IDS = st.text(min_size=1, max_size=128).filter(str.isprintable)


@settings(max_examples=60, deadline=None)
@given(salt=st.binary(min_size=1, max_size=64), user_id=IDS, request_id=IDS)
def test_any_draw_agrees_with_the_second_writing(salt: bytes, user_id: str, request_id: str) -> None:
    u01 = draw(salt, user_id, request_id)
    assert u01 == formulas.draw(salt, user_id, request_id)
    assert 0.0 <= u01 < 1.0


def test_the_draw_is_53_bits_of_one_keyed_digest() -> None:
    message = b"\x00\x00\x00\x02ab\x00\x00\x00\x01c"
    digest = hashlib.blake2b(message, digest_size=8, key=b"salt").digest()
    assert draw(b"salt", "ab", "c") * 2**53 == int.from_bytes(digest, "big") >> 11


def test_ids_that_read_the_same_when_joined_draw_differently() -> None:
    assert draw(b"salt", "ab", "c") != draw(b"salt", "a", "bc")


def test_another_salt_is_another_draw() -> None:
    assert draw(b"salt", "u", "r") != draw(b"pepper", "u", "r")


def test_draws_are_spread_evenly() -> None:
    tenths = [0] * 10
    for n in range(5_000):
        tenths[int(draw(b"salt", "u", f"r{n}") * 10)] += 1
    chi_squared = sum((count - 500) ** 2 / 500 for count in tenths)
    assert chi_squared < 27.88  # one in a thousand at 9 degrees of freedom


# ------------------------------------------------------------------------------------------------- what is answered

CERTAIN = {"controller.p_max": 0.9, "controller.p_at_zero": 0.999}


def test_p_over_the_threshold_goes_to_the_premium_model() -> None:
    assert decide(account(), REQUEST, with_changes(CERTAIN), 0.0).model == "dalle-3-hd"


def test_p_on_the_threshold_goes_to_the_economy_model() -> None:
    decision = decide(account(), REQUEST, with_changes({**CERTAIN, "controller.p_max": 0.7}), 0.0)
    assert decision.p == 0.7
    assert decision.model == "stable-diffusion-xl"


def test_a_forced_fresh_one_is_routed_by_the_p_it_would_have_had() -> None:
    behind = decide(account(20, **cell(0.0)), REQUEST, SHIPPED, 0.0)
    ahead = decide(account(600), REQUEST, SHIPPED, 0.999)
    assert (behind.rule, behind.model) == ("coverage_miss", "stable-diffusion-xl")
    assert (ahead.rule, ahead.model) == ("at_cap", "dalle-3-hd")


def test_routing_follows_the_configuration() -> None:
    changes = {"routing.threshold": 0.59, "routing.premium_model": "better", "routing.economy_model": "cheaper"}
    assert decide(account(), REQUEST, with_changes(changes), 0.0).model == "better"
    assert decide(account(60), REQUEST, with_changes(changes), 0.0).model == "cheaper"


def test_a_model_that_was_asked_for_is_not_routed_away() -> None:
    assert decide(account(), REQUEST._replace(model="mine"), SHIPPED, 0.0).model == "mine"


def test_nothing_is_charged_and_no_model_is_named_for_a_library_answer() -> None:
    decision = decide(account(), REQUEST._replace(model="mine"), SHIPPED, 0.999)
    assert (decision.status, decision.amount_uc, decision.model) == ("LIBRARY", 0, None)
    assert decision.fresh is False


def test_a_fresh_answer_reserves_the_cost_of_the_whole_batch() -> None:
    decision = decide(account(cost=7), REQUEST._replace(images=7), SHIPPED, 0.0)
    assert (decision.status, decision.amount_uc) == ("RESERVED", 7 * MICRO)
    assert decision.fresh is True


def test_a_rate_limited_answer_says_how_long_to_wait() -> None:
    assert decide(account(retry_after_s=1.25), REQUEST, SHIPPED, 0.0).retry_after_s == 1.25


def test_other_answers_do_not_say_how_long_to_wait() -> None:
    assert decide(account(blocked=True, retry_after_s=1.25), REQUEST, SHIPPED, 0.0).retry_after_s is None
    assert decide(account(), REQUEST, SHIPPED, 0.0).retry_after_s is None


@pytest.mark.parametrize("rule", ["unaffordable", "coverage_miss", "session_cap", "at_cap"])
def test_rules_4_to_7_are_forced(rule: str) -> None:
    states = {
        "unaffordable": account(0),
        "coverage_miss": account(**cell(0.0)),
        "session_cap": account(session_fresh=12),
        "at_cap": account(600),
    }
    decision = decide(states[rule], REQUEST, SHIPPED, 0.5)
    assert (decision.rule, decision.forced) == (rule, True)


@pytest.mark.parametrize("state", [account(blocked=True), account(retry_after_s=1), account(paused=True), account()])
def test_other_rules_are_not_forced(state: policy.State) -> None:
    assert decide(state, REQUEST, SHIPPED, 0.5).forced is False


def test_the_rules_are_numbered_as_in_the_specification() -> None:
    names = "blocked rate_limited paused unaffordable coverage_miss session_cap at_cap controller"
    assert RULES[1:9] == tuple(names.split())


# --------------------------------------------------------------------------------------------------- what is logged


def test_the_decision_logs_the_plan_s_threshold_and_the_strategy() -> None:
    decision = decide(account(300, Q=600, plan="premium"), REQUEST, SHIPPED, 0.5)
    assert (decision.threshold, decision.strategy, decision.u01) == (0.65, "logistic", 0.5)


def test_the_decision_logs_all_that_it_saw() -> None:
    state = account(session_images=3, segment="high_engagement", demand_rate=7.5, **cell(0.8, 0.7))
    assert decide(state, REQUEST, SHIPPED, 0.5).state is state


def test_what_only_the_service_knows_is_left_unknown() -> None:
    decision = decide(account(), REQUEST, SHIPPED, 0.5)
    unknown = (decision.config_version, decision.arm, decision.user_id, decision.request_id, decision.at)
    assert unknown == (None,) * 5
    assert decision.replayed is False


def test_a_plan_that_the_configuration_does_not_list_uses_the_basic_values() -> None:
    listed, unlisted = (decide(account(plan=plan), REQUEST, SHIPPED, 0.5) for plan in ("basic", "bespoke"))
    assert unlisted._replace(state=listed.state) == listed


def test_a_law_that_was_kept_decides_as_a_law_made_anew() -> None:
    law = law_for(SHIPPED, "basic")
    assert decide(account(), REQUEST, SHIPPED, 0.3, law) == decide(account(), REQUEST, SHIPPED, 0.3)


def test_the_law_is_the_configuration_of_the_plan() -> None:
    config = with_changes({"plans.free.cap_multiple": 2.5, "plans.free.coverage_threshold": 0.1})
    assert (law_for(config, "free").cap_multiple, law_for(config, "free").threshold) == (2.5, 0.1)
    assert (law_for(config, "basic").cap_multiple, law_for(config, "basic").threshold) == (3.0, 0.5)


def test_the_kernel_sees_numbers_only_so_that_it_can_be_compiled() -> None:
    law, inputs = law_for(SHIPPED, "basic"), inputs_of(account(**cell(0.8, 0.7)), SHIPPED)
    verdict = evaluate(law, inputs, 0.5)
    for record in (law, inputs, verdict):
        values = [part for value in record for part in (value if isinstance(value, tuple) else (value,))]
        assert all(type(value) in (bool, int, float) for value in values)


def test_the_kernel_is_given_credits_days_and_shares() -> None:
    state = account(12.5, Q=200, L=31, d=4, all_lots=20, cost=2, session_cost=3, session_opening=40, **cell(0.8, 0.7))
    inputs = inputs_of(state._replace(mode="spend", session_images=9, session_fresh=2), SHIPPED)
    assert (inputs.balance, inputs.available, inputs.quota, inputs.cost) == (12.5, 20.0, 200.0, 2.0)
    assert (inputs.cycle_days, inputs.days_left) == (31.0, 4.0)
    assert (inputs.session_fresh, inputs.session_fresh_cost, inputs.session_opening) == (2, 3.0, 40.0)
    assert (inputs.session_images, inputs.coverage, inputs.health) == (9.0, 0.8, 0.7)


def test_a_request_is_an_image_by_default_and_names_no_cell() -> None:
    request = Request(user_id="u", request_id="r", session_id="s")
    assert (request.modality, request.images, request.model) == ("image", 1, None)
    assert (request.genre, request.mood, request.ip, request.text) == (None,) * 4
