"""What callers hand in: ids and texts are trimmed and bounded, amounts whole, instants aware; the rest is refused (SPEC 1, 3)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from credit_core import CreditCore, Request
from credit_core.errors import CreditError, InvalidInstant, InvalidRequest
from tests.service.scenes import CREDIT, NOW, ask, change, entries, everything

BAD_IDS = [
    "",
    "   ",
    "a" * 129,
    "line\nbreak",
    "tab\tbed",
    "nul\x00",
    "bell\x07",
    "\u202eevil",
    "\ud800",
    None,
    5,
    b"ada",
    True,
]
GOOD_IDS = ["a", "a" * 128, "Zoë Müller", "u:1/2#3", "用户-7", "👩", "' OR 1=1 --", "{{7*7}}", "=cmd()"]


@pytest.mark.parametrize("field", ["user_id", "request_id", "session_id", "genre", "mood", "model"])
def test_a_request_with_an_id_that_is_none_is_refused_and_writes_nothing(core: CreditCore, field: str) -> None:
    core.add_user("ada", "basic", at=NOW)
    for bad in BAD_IDS:
        asked = {"user_id": "ada", "request_id": "r-1", "session_id": "s-1", "genre": "jazz", "mood": "calm"}
        if bad is not None or field not in ("user_id", "genre", "mood", "model"):
            with pytest.raises(InvalidRequest, match=field):
                core.authorize(Request(**(asked | {field: bad})), at=NOW)
    assert len(entries(core)) == 1


def test_ids_may_be_any_printable_text(fresh_core: CreditCore) -> None:
    for good in GOOD_IDS:
        fresh_core.add_user(good, "free", at=NOW)
        fresh_core.authorize(Request(good, good, good, genre=good, mood=good), at=NOW)
        fresh_core.settle(good, good, at=NOW)
        last = fresh_core.history(good)[-1]
        assert (last["user_id"], last["request_id"], last["session_id"], last["genre"]) == (good, good, good, good)
        assert fresh_core.explain(good, good).exact
    assert fresh_core.verify() == []


def test_keys_and_names_are_held_to_the_same_rule(core: CreditCore) -> None:
    core.add_user("ada", "free", at=NOW)
    before = everything(core)
    calls: list[Callable[[Any], object]] = [
        lambda bad: core.add_user(bad, "free", at=NOW),
        lambda bad: core.add_user("bob", "free", region=bad, at=NOW),
        lambda bad: core.add_user("bob", "free", segment=bad, at=NOW),
        lambda bad: core.grant("ada", CREDIT, "bonus", bad, at=NOW),
        lambda bad: core.adjust("ada", CREDIT, bad, "sam", "gift", at=NOW),
        lambda bad: core.adjust("ada", CREDIT, "k", bad, "gift", at=NOW),
        lambda bad: core.verify(record_as=bad),
        lambda bad: core.propose({"controller.k": 0.1}, bad, "note"),
        lambda bad: core.release_version(1, author=bad),
    ]
    for call in calls:
        for bad in BAD_IDS:
            if bad is not None:
                with pytest.raises(InvalidRequest):
                    call(bad)
    assert everything(core) == before


def test_blanks_around_an_id_are_no_part_of_it_in_any_call(fresh_core: CreditCore) -> None:
    fresh_core.add_user(" ada ", "free", at=NOW)
    assert fresh_core.authorize(Request("ada ", " r-1", "s-1 "), at=NOW).user_id == "ada"
    assert fresh_core.settle(" ada", "r-1 ", at=NOW).status == "SETTLED"
    ask(fresh_core, "r-2")
    assert fresh_core.release("ada ", " r-2", "provider_error", at=NOW).status == "RELEASED"
    assert fresh_core.grant(" ada", CREDIT, "bonus", " gift ", at=NOW).available_uc == 20 * CREDIT
    assert fresh_core.balance("ada ").available_uc == 20 * CREDIT
    assert len(fresh_core.history(" ada ")) == 6
    assert fresh_core.explain(" ada", " r-1").exact


# ---------------------------------------------------------------------------------------------------------------- texts


BAD_TEXTS = ["a" * 1_001, "nul\x00", "bell\x07", "escape\x1b[31m", "delete\x7f", "half \ud800 pair", 5, b"door"]
GOOD_TEXTS = ["", "a" * 1_000, "  " + "a" * 1_000 + "\n", "two\nlines", "a\tb", "naïve 用户 👩‍🎨"]


@pytest.mark.parametrize("text", BAD_TEXTS, ids=repr)
def test_a_prompt_too_long_or_with_control_characters_is_refused(core: CreditCore, text: Any) -> None:
    core.add_user("ada", "basic", at=NOW)
    with pytest.raises(InvalidRequest, match="text"):
        ask(core, text=text)
    assert len(entries(core)) == 1


def test_a_prompt_of_a_thousand_characters_after_trimming_is_accepted(core: CreditCore) -> None:
    core.add_user("ada", "basic", at=NOW)
    answers = [ask(core, f"r-{number}", text=text).status for number, text in enumerate(GOOD_TEXTS)]
    assert set(answers) <= {"RESERVED", "LIBRARY"}


@pytest.mark.parametrize("reason", ["", " ", "a" * 201, "bell\x07", None, 5], ids=repr)
def test_a_release_needs_a_short_readable_reason(fresh_core: CreditCore, reason: Any) -> None:
    fresh_core.add_user("ada", "basic", at=NOW)
    ask(fresh_core)
    with pytest.raises(InvalidRequest, match="reason"):
        fresh_core.release("ada", "r-1", reason, at=NOW)
    assert fresh_core.balance("ada").held_uc == CREDIT


# -------------------------------------------------------------------------------------------------------------- amounts


def test_a_request_is_for_one_to_a_thousand_whole_images(core: CreditCore) -> None:
    core.add_user("ada", "premium", at=NOW)
    for images in (0, -1, 1_001, 2**70, True, 1.0, float("nan"), "2", None):
        with pytest.raises(InvalidRequest, match="images"):
            ask(core, images=images)
    assert len(entries(core)) == 1


def test_a_request_is_for_text_image_or_video(core: CreditCore) -> None:
    core.add_user("ada", "premium", at=NOW)
    for modality in ("", "audio", "IMAGE", None, 5):
        with pytest.raises(InvalidRequest, match="modality"):
            ask(core, modality=modality)
    assert len(entries(core)) == 1


def test_a_balance_that_would_pass_what_the_database_can_hold_is_refused_in_words(core: CreditCore) -> None:
    core.add_user("ada", "free", at=NOW)
    change(core, "UPDATE accounts SET avail_uc = :nearly", nearly=2**63 - 1)
    before = everything(core)
    with pytest.raises(CreditError):
        core.grant("ada", CREDIT, "bonus", "gift", at=NOW)
    assert everything(core) == before


# ------------------------------------------------------------------------------------------------------------- instants

NAIVE = datetime(2025, 3, 10, 12)  # noqa: DTZ001


@pytest.mark.parametrize("at", [NAIVE, "2025-03-10T12:00:00Z", 1_741_608_000], ids=repr)
def test_every_call_refuses_what_is_no_aware_instant(fresh_core: CreditCore, at: Any) -> None:
    fresh_core.add_user("ada", "basic", at=NOW)
    ask(fresh_core)
    before = everything(fresh_core)
    calls: list[Callable[[], object]] = [
        lambda: fresh_core.add_user("bob", "free", at=at),
        lambda: ask(fresh_core, "r-2", at=at),
        lambda: fresh_core.settle("ada", "r-1", at=at),
        lambda: fresh_core.release("ada", "r-1", "provider_error", at=at),
        lambda: fresh_core.partial("ada", "r-1", at=at),
        lambda: fresh_core.grant("ada", CREDIT, "bonus", "gift", at=at),
        lambda: fresh_core.adjust("ada", CREDIT, "gift", "sam", "gift", at=at),
        lambda: fresh_core.reconcile(at=at),
        lambda: fresh_core.sweep(at=at),
        lambda: fresh_core.library.put("jazz", "calm", 1, at=at),
        lambda: fresh_core.library.coverage("jazz", "calm", at=at),
    ]
    for call in calls:
        with pytest.raises(InvalidInstant):
            call()
    assert everything(fresh_core) == before


def test_a_clock_more_than_a_year_ahead_is_refused(core: CreditCore) -> None:
    core.add_user("ada", "basic", at=NOW)
    with pytest.raises(InvalidInstant, match="more than a year ahead"):
        core.reconcile(at=NOW + timedelta(days=367))
    assert len(entries(core)) == 1


def test_an_instant_in_any_zone_is_kept_in_utc_to_the_microsecond(core: CreditCore) -> None:
    core.add_user("ada", "basic", at=NOW)
    moment = datetime.fromisoformat("2025-03-10T23:45:00.123457+11:45")
    assert ask(core, at=moment).at == moment
    kept = entries(core)[-1]["occurred_at"]
    assert (kept, kept.tzinfo) == (datetime(2025, 3, 10, 12, 0, 0, 123_457, tzinfo=UTC), UTC)


@pytest.mark.parametrize(
    "zone", ["", "Mars/Olympus", "Europe", "../UTC", "UTC\x00", "europe/berlin ", None, 5], ids=repr
)
def test_a_time_zone_must_be_one_of_iana(core: CreditCore, zone: Any) -> None:
    with pytest.raises(InvalidRequest, match="time zone"):
        core.add_user("ada", "basic", zone, at=NOW)
