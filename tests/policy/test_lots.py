"""Which lots a spend is taken from, and what a settle consumes: SPEC 2."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from credit_core.policy.lots import LOT_KINDS, PACED_KINDS, LotView, Part, allocate, consume, spending_key

KINDS_IN_ORDER = ("monthly", "rollover", "welcome", "bonus", "purchased", "backfill")


def test_the_soonest_to_expire_is_spent_first() -> None:
    lots = [LotView("a", "monthly", 300, 5), LotView("b", "purchased", 100, 5), LotView("c", "bonus", 200, 5)]
    assert allocate(lots, 12) == [Part("b", 5), Part("c", 5), Part("a", 2)]


def test_what_never_expires_is_spent_last() -> None:
    lots = [LotView("a", "monthly", None, 5), LotView("b", "backfill", 4_102_444_800_000_000, 5)]
    assert allocate(lots, 6) == [Part("b", 5), Part("a", 1)]


def test_on_equal_expiry_the_kinds_are_spent_in_the_order_of_the_specification() -> None:
    assert LOT_KINDS == KINDS_IN_ORDER
    for expires_us in (100, None):
        lots = [LotView(kind, kind, expires_us, 1) for kind in reversed(KINDS_IN_ORDER)]
        parts = allocate(lots, 6)
        assert parts is not None
        assert tuple(part.lot_id for part in parts) == KINDS_IN_ORDER


def test_on_equal_expiry_and_kind_the_order_is_that_of_the_ids() -> None:
    assert allocate([LotView("b", "bonus", 1, 1), LotView("a", "bonus", 1, 1)], 2) == [Part("a", 1), Part("b", 1)]


def test_the_controller_paces_monthly_and_rollover_lots_only() -> None:
    assert {"monthly", "rollover"} == PACED_KINDS


def test_a_spend_stops_at_the_lot_that_covers_it() -> None:
    lots = [LotView("a", "monthly", 1, 5), LotView("b", "rollover", 2, 5)]
    assert allocate(lots, 5) == [Part("a", 5)]
    assert allocate(lots, 6) == [Part("a", 5), Part("b", 1)]


def test_empty_lots_are_passed_over() -> None:
    assert allocate([LotView("a", "monthly", 1, 0), LotView("b", "rollover", 2, 5)], 3) == [Part("b", 3)]


def test_a_spend_of_nothing_takes_nothing() -> None:
    assert allocate([LotView("a", "monthly", 1, 5)], 0) == []
    assert allocate([], 0) == []


def test_a_spend_that_is_not_covered_takes_nothing_at_all() -> None:
    assert allocate([LotView("a", "monthly", 1, 5), LotView("b", "bonus", 2, 5)], 11) is None
    assert allocate([], 1) is None


def test_a_negative_spend_is_refused() -> None:
    with pytest.raises(ValueError, match=r"."):
        allocate([LotView("a", "monthly", 1, 5)], -3)


LOTS = st.lists(
    st.tuples(st.sampled_from(KINDS_IN_ORDER), st.one_of(st.none(), st.integers(0, 5)), st.integers(0, 10**12)),
    max_size=8,
).map(lambda rows: [LotView(f"lot{n}", *row) for n, row in enumerate(rows)])


@settings(max_examples=200, deadline=None)
@given(lots=LOTS, amount=st.integers(0, 10**13))
def test_a_spend_is_covered_exactly_or_not_at_all(lots: list[LotView], amount: int) -> None:
    parts = allocate(lots, amount)
    if parts is None:
        assert sum(lot.avail_uc for lot in lots) < amount
        return
    avail = {lot.lot_id: lot.avail_uc for lot in lots}
    assert sum(part.amount_uc for part in parts) == amount
    assert all(0 < part.amount_uc <= avail[part.lot_id] for part in parts)
    assert len({part.lot_id for part in parts}) == len(parts)


@settings(max_examples=200, deadline=None)
@given(lots=LOTS, share=st.floats(0, 1))
def test_a_lot_is_touched_only_when_all_before_it_are_empty(lots: list[LotView], share: float) -> None:
    parts = allocate(lots, int(sum(lot.avail_uc for lot in lots) * share))
    assert parts is not None
    taken = {part.lot_id: part.amount_uc for part in parts}
    endless = 10**18
    for one, other in itertools.permutations(lots, 2):
        sooner = (endless if one.expires_us is None else one.expires_us, KINDS_IN_ORDER.index(one.kind))
        later = (endless if other.expires_us is None else other.expires_us, KINDS_IN_ORDER.index(other.kind))
        if sooner < later and other.lot_id in taken:
            assert taken.get(one.lot_id, 0) == one.avail_uc


@settings(max_examples=100, deadline=None)
@given(lots=LOTS, amount=st.integers(0, 10**12), seed=st.randoms(use_true_random=False))
def test_the_order_in_which_lots_are_read_does_not_matter(lots: list[LotView], amount: int, seed: object) -> None:
    shuffled = list(lots)
    seed.shuffle(shuffled)  # type: ignore[attr-defined]
    assert allocate(shuffled, amount) == allocate(lots, amount)


def test_an_unknown_kind_has_no_place_in_the_order() -> None:
    with pytest.raises(KeyError):
        spending_key("gift", None, "a")


# ----------------------------------------------------------------------------------------------------------- settles

HELD = [Part("a", 5), Part("b", 3), Part("c", 2)]


@pytest.mark.parametrize(
    ("actual", "consumed"),
    [(0, [0, 0, 0]), (4, [4, 0, 0]), (5, [5, 0, 0]), (6, [5, 1, 0]), (8, [5, 3, 0]), (9, [5, 3, 1]), (10, [5, 3, 2])],
)
def test_a_settle_consumes_held_parts_in_their_order(actual: int, consumed: list[int]) -> None:
    assert consume(HELD, actual) == consumed


@pytest.mark.parametrize("actual", [11, 10**15])
def test_a_settle_over_its_hold_is_refused(actual: int) -> None:
    with pytest.raises(ValueError, match="more than its hold"):
        consume(HELD, actual)


def test_a_negative_settle_is_refused() -> None:
    with pytest.raises(ValueError, match=r"."):
        consume(HELD, -1)


@settings(max_examples=200, deadline=None)
@given(lots=LOTS, amount=st.integers(0, 10**12), share=st.floats(0, 1))
def test_what_a_settle_consumes_and_gives_back_is_what_was_held(lots: list[LotView], amount: int, share: float) -> None:
    held = allocate(lots, amount)
    if held is None:
        return
    actual = int(amount * share)
    consumed = consume(held, actual)
    assert sum(consumed) == actual
    assert all(0 <= used <= part.amount_uc for used, part in zip(consumed, held, strict=True))
    partly = [used < part.amount_uc for used, part in zip(consumed, held, strict=True)]
    assert all(used == 0 for used, before in zip(consumed[1:], partly, strict=False) if before)
