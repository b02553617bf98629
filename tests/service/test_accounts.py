"""Sign-up, grants, balance and history: what a user has is what the entries say (SPEC 1, 2 and 8)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from credit_core import CreditCore
from credit_core.errors import Conflict, InvalidAmount, InvalidInstant, InvalidRequest, NotFound
from credit_core.service.accounts import BATCH, add_users
from tests.service.scenes import (
    CREDIT,
    NOW,
    StoppedClock,
    ask,
    entries,
    everything,
    lots,
    moves,
    scalar,
)
from tests.service.together import outcomes, together

# -------------------------------------------------------------------------------------------------------------- sign-up


def test_users_signed_up_in_bulk_are_those_signed_up_one_by_one(core: CreditCore) -> None:
    core.add_user("before", "basic", "Asia/Kathmandu", segment="back\\slash", at=NOW)
    odd = ["back\\slash", "\\N", "tab\\t", "日本", "O'Brien", "%s %(x)s", "$1"]
    names = [*odd, *(f"u-{number}" for number in range(200)), "before", "u-7"]
    assert add_users(core.deployment, names, "basic", "Asia/Kathmandu", None, "back\\slash", NOW) == 209
    assert core.users() == 208
    assert core.verify() == []
    for name in odd:
        assert moves(core, name) == [("grant", "monthly", 200, 0)]
        own = {"user_id": "", "account_id": ""}
        assert core.profile(name, at=NOW)._replace(**own) == core.profile("before", at=NOW)._replace(**own)
    before = everything(core)
    assert add_users(core.deployment, names, "basic", "Asia/Kathmandu", None, "back\\slash", NOW) == 209
    assert everything(core) == before


def test_bulk_sign_up_commits_in_batches_and_refuses_other_terms(
    core: CreditCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert BATCH == 5_000
    monkeypatch.setattr("credit_core.service.accounts.BATCH", 3)
    core.add_user("u-4", "free", at=NOW)
    with pytest.raises(Conflict, match="'u-4' exists on plan 'free'"):
        add_users(core.deployment, (f"u-{number}" for number in range(7)), "basic", at=NOW)
    assert core.users() == 4


@pytest.mark.parametrize(
    ("zone", "start", "end"),
    [
        ("UTC", datetime(2025, 3, 10, tzinfo=UTC), datetime(2025, 4, 10, tzinfo=UTC)),
        ("Europe/Berlin", datetime(2025, 3, 9, 23, tzinfo=UTC), datetime(2025, 4, 9, 22, tzinfo=UTC)),
        ("America/Los_Angeles", datetime(2025, 3, 10, 7, tzinfo=UTC), datetime(2025, 4, 10, 7, tzinfo=UTC)),
        ("Pacific/Auckland", datetime(2025, 3, 10, 11, tzinfo=UTC), datetime(2025, 4, 10, 12, tzinfo=UTC)),
        ("Asia/Kathmandu", datetime(2025, 3, 9, 18, 15, tzinfo=UTC), datetime(2025, 4, 9, 18, 15, tzinfo=UTC)),
    ],
)
def test_the_first_cycle_starts_at_the_midnight_that_begins_the_sign_up_day(
    core: CreditCore, zone: str, start: datetime, end: datetime
) -> None:
    core.add_user("ada", "basic", zone, at=NOW)
    [grant] = entries(core)
    assert (grant["kind"], grant["d_avail_uc"], grant["occurred_at"]) == ("grant", 200 * CREDIT, NOW)
    [lot] = core.balance("ada").lots
    assert (lot.kind, lot.expires_at, lot.unit_price_usd_micro) == ("monthly", end, 0)
    micro = scalar(core, "SELECT cycle_start_at FROM accounts")
    assert datetime.fromtimestamp(micro / 1_000_000, UTC) == start


def test_signing_up_again_changes_nothing(core: CreditCore) -> None:
    terms: dict[str, Any] = {"timezone": "Europe/Berlin", "region": "eu", "segment": "high_engagement"}
    core.add_user("ada", "basic", **terms, at=NOW)
    before = everything(core)
    assert core.add_user("ada", "basic", **terms, at=NOW + timedelta(days=50)).available_uc == 200 * CREDIT
    assert everything(core) == before


@pytest.mark.parametrize(
    "other",
    [{"plan": "premium"}, {"timezone": "Asia/Tokyo"}, {"region": "eu"}, {"segment": "high_engagement"}],
    ids=str,
)
def test_signing_up_again_on_other_terms_is_a_conflict(core: CreditCore, other: dict[str, str]) -> None:
    core.add_user("ada", "basic", at=NOW)
    before = everything(core)
    with pytest.raises(Conflict, match=r"User 'ada' exists on plan 'basic' in UTC.*Nothing was changed"):
        core.add_user(**({"user_id": "ada", "plan": "basic", "at": NOW} | other))  # type: ignore[arg-type]
    assert everything(core) == before


def test_a_plan_that_is_not_there_is_named_beside_those_that_are(core: CreditCore) -> None:
    with pytest.raises(NotFound, match=r"'gold'.*free, basic, premium"):
        core.add_user("ada", "gold", at=NOW)


def test_six_sign_ups_of_one_user_at_once_grant_one_quota(core: CreditCore) -> None:
    balances = together(lambda _: core.add_user("ada", "basic", at=NOW).available_uc, range(6))
    assert balances == [200 * CREDIT] * 6
    assert moves(core) == [("grant", "monthly", 200, 0)]
    assert core.verify() == []


def test_of_two_sign_ups_on_other_terms_at_once_one_wins(core: CreditCore) -> None:
    done = outcomes(lambda plan: core.add_user("ada", plan, at=NOW), ["free", "premium"], Conflict)
    assert sorted(type(result).__name__ for result in done) == ["Balance", "Conflict"]
    assert len(entries(core)) == 1


# --------------------------------------------------------------------------------------------------------------- grants


def test_a_grant_is_a_lot_of_its_own(core: CreditCore) -> None:
    core.add_user("ada", "free", at=NOW)
    end = NOW + timedelta(days=30)
    core.grant("ada", 5 * CREDIT, "bonus", "gift", expires_at=end, at=NOW)
    balance = core.grant("ada", 25 * CREDIT, "purchased", "pack", unit_price_usd_micro=199_600, at=NOW)
    bonus, monthly, purchased = balance.lots
    assert [lot.kind for lot in (bonus, monthly, purchased)] == ["bonus", "monthly", "purchased"]
    assert (bonus.avail_uc, bonus.expires_at, bonus.unit_price_usd_micro) == (5 * CREDIT, end, 0)
    assert (purchased.avail_uc, purchased.expires_at, purchased.unit_price_usd_micro) == (25 * CREDIT, None, 199_600)
    assert balance.available_uc == 50 * CREDIT


def test_a_grant_posted_again_under_its_key_changes_nothing(core: CreditCore) -> None:
    core.add_user("ada", "free", at=NOW)
    core.grant("ada", 5 * CREDIT, "purchased", "invoice-7", at=NOW)
    before = everything(core)
    core.grant("ada", 5 * CREDIT, "purchased", "invoice-7", at=NOW + timedelta(days=40))
    assert everything(core) == before


@pytest.mark.parametrize("other", [{"amount_uc": 6 * CREDIT}, {"lot_kind": "bonus"}], ids=str)
def test_a_key_used_for_another_grant_is_a_conflict(core: CreditCore, other: dict[str, Any]) -> None:
    core.add_user("ada", "free", at=NOW)
    first = {"amount_uc": 5 * CREDIT, "lot_kind": "purchased", "key": "invoice-7"}
    core.grant("ada", **first, at=NOW)  # type: ignore[arg-type]
    before = everything(core)
    with pytest.raises(Conflict, match="'invoice-7'"):
        core.grant("ada", **(first | other), at=NOW)
    assert everything(core) == before


def test_the_same_webhook_eight_times_at_once_is_one_top_up(core: CreditCore) -> None:
    core.add_user("ada", "free", at=NOW)
    together(lambda _: core.grant("ada", 25 * CREDIT, "purchased", "webhook-1", at=NOW), range(8))
    assert moves(core) == [("grant", "monthly", 20, 0), ("grant", "purchased", 25, 0)]


def test_keys_of_grants_belong_to_their_user(core: CreditCore) -> None:
    for user in ("ada", "bob"):
        core.add_user(user, "free", at=NOW)
        core.grant(user, CREDIT, "bonus", "gift", at=NOW)
    assert {core.balance(user).available_uc for user in ("ada", "bob")} == {21 * CREDIT}


@pytest.mark.parametrize("amount", [0, -1, 1.5, True, None, float("nan"), 9_000_000_000_000_001])
def test_a_grant_of_no_whole_positive_amount_is_refused(core: CreditCore, amount: Any) -> None:
    core.add_user("ada", "free", at=NOW)
    with pytest.raises(InvalidAmount, match="amount_uc"):
        core.grant("ada", amount, "bonus", "gift", at=NOW)
    assert len(entries(core)) == 1


def test_the_largest_grant_there_is_stays_exact(core: CreditCore) -> None:
    core.add_user("ada", "free", at=NOW)
    for key in ("one", "two"):
        core.grant("ada", 9_000_000_000_000_000, "bonus", key, at=NOW)
    assert core.balance("ada").available_uc == 18_000_000_020_000_000
    assert core.verify() == []


def test_a_grant_must_be_of_a_known_kind_end_after_it_begins_and_know_its_zone(core: CreditCore) -> None:
    core.add_user("ada", "free", at=NOW)
    with pytest.raises(InvalidRequest, match="lot_kind must be one of monthly, rollover"):
        core.grant("ada", CREDIT, "gift", "k", at=NOW)
    with pytest.raises(InvalidRequest, match="not after the grant"):
        core.grant("ada", CREDIT, "bonus", "k", expires_at=NOW, at=NOW)
    with pytest.raises(InvalidInstant, match="expires_at must be timezone-aware"):
        core.grant("ada", CREDIT, "bonus", "k", expires_at=datetime(2026, 1, 1), at=NOW)  # noqa: DTZ001
    with pytest.raises(NotFound, match="add_user"):
        core.grant("bob", CREDIT, "bonus", "k", at=NOW)
    assert len(entries(core)) == 1


# -------------------------------------------------------------------------------------------------------------- balance


def lived(core: CreditCore) -> None:
    """A month and a half of ada: every kind of entry that moves credits."""
    core.add_user("ada", "free", at=NOW)
    core.grant("ada", 3 * CREDIT, "bonus", "gift", expires_at=NOW + timedelta(days=7), at=NOW)
    core.grant("ada", 110 * CREDIT, "purchased", "pack", unit_price_usd_micro=136_273, at=NOW)
    for number, actual in enumerate((CREDIT, 500_000, 0)):
        ask(core, f"settled-{number}")
        core.settle("ada", f"settled-{number}", actual_uc=actual, at=NOW + timedelta(minutes=1))
    ask(core, "released", images=2)
    core.release("ada", "released", "provider_error", at=NOW + timedelta(minutes=2))
    ask(core, "swept", images=4)
    core.sweep(at=NOW + timedelta(hours=1))
    ask(core, "too-much", images=500)
    core.reconcile(at=NOW + timedelta(days=40))
    ask(core, "held", images=5, at=NOW + timedelta(days=41))


def test_a_balance_is_the_sum_of_its_entries_and_of_its_lots(fresh_core: CreditCore) -> None:
    lived(fresh_core)
    balance = fresh_core.balance("ada")
    written = entries(fresh_core)
    assert balance.available_uc == sum(row["d_avail_uc"] for row in written)
    assert balance.held_uc == sum(row["d_held_uc"] for row in written) == 5 * CREDIT
    assert sum(lot.avail_uc for lot in balance.lots) == balance.available_uc
    assert sum(lot.held_uc for lot in balance.lots) == balance.held_uc
    assert fresh_core.verify() == []


def test_lifetime_totals_count_each_kind_once(fresh_core: CreditCore) -> None:
    lived(fresh_core)
    # Granted: two quotas, a gift and a pack. Of the gift 1.5 are spent and 1.5 expire; all 20 monthly ones roll over.
    assert fresh_core.balance("ada").lifetime == (153 * CREDIT, 1_500_000, 1_500_000, 6, 1)
    assert lots(fresh_core) == [("monthly", 15, 5), ("rollover", 20, 0), ("purchased", 110, 0)]


def test_looking_at_a_balance_writes_nothing(fresh_core: CreditCore) -> None:
    lived(fresh_core)
    before = everything(fresh_core)
    fresh_core.balance("ada")
    fresh_core.history("ada")
    fresh_core.explain("ada", "held")
    fresh_core.verify()
    fresh_core.heads()
    assert everything(fresh_core) == before


def test_nobody_has_no_balance(core: CreditCore) -> None:
    for look in (core.balance, core.history):
        with pytest.raises(NotFound, match="'bob'"):
            look("bob")


# -------------------------------------------------------------------------------------------------------------- history


@pytest.mark.parametrize("limit", [1, 3, 7, 10_000])
def test_pages_of_a_history_add_up_to_all_of_it(fresh_core: CreditCore, limit: int) -> None:
    lived(fresh_core)
    pages: list[dict[str, Any]] = []
    while page := fresh_core.history("ada", after_seq=pages[-1]["seq"] if pages else 0, limit=limit):
        assert len(page) <= limit
        pages += page
    assert [row["seq"] for row in pages] == list(range(1, len(pages) + 1))
    assert pages == entries(fresh_core)


def test_a_history_holds_one_users_entries_alone(fresh_core: CreditCore) -> None:
    lived(fresh_core)
    fresh_core.add_user("bob", "basic", at=NOW)
    assert {row["user_id"] for row in entries(fresh_core)} == {"ada"}
    assert moves(fresh_core, "bob") == [("grant", "monthly", 200, 0)]


@pytest.mark.parametrize("limit", [0, -1, 10_001])
def test_a_page_has_between_one_and_ten_thousand_entries(core: CreditCore, limit: int) -> None:
    core.add_user("ada", "free", at=NOW)
    with pytest.raises(InvalidRequest, match="limit"):
        core.history("ada", limit=limit)


def test_recorded_times_never_fall_though_the_clock_does(core: CreditCore, clock: StoppedClock) -> None:
    core.add_user("ada", "free", at=NOW)
    clock.advance(hours=-3)
    core.grant("ada", CREDIT, "bonus", "gift", at=NOW)
    clock.advance(hours=9)
    core.grant("ada", CREDIT, "bonus", "gift-2", at=NOW)
    assert [row["recorded_at"] for row in entries(core)] == [NOW, NOW, NOW + timedelta(hours=6)]
    assert core.verify() == []


def test_no_prompt_is_kept_and_an_address_only_until_it_is_erased(fresh_core: CreditCore) -> None:
    fresh_core.add_user("ada", "free", at=NOW)
    ask(fresh_core, text="the-blue-door-nobody-opens", ip="192.0.2.77")
    kept = everything(fresh_core)
    assert "r-1" in repr(kept)
    assert "blue-door" not in repr(kept)
    assert [name for name, rows in kept.items() if "192.0.2.77" in repr(rows)] == ["origins"]
    assert fresh_core.erase("ada") == 1
    assert "192.0.2.77" not in repr(everything(fresh_core))
    assert fresh_core.erase("ada") == 0
    assert fresh_core.verify() == []
