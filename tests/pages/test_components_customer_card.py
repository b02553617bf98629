"""The customer's card: each part is drawn where it is known and left out where it is not; nobody's text is obeyed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from credit_core import Asked, CreditCore, View
from credit_core.policy.customer import FIRST_LIBRARY_TIP, view
from credit_core.policy.plans import QuotaPolicy
from credit_core.policy.standing import Charge, Lifetime, Offer, Standing, Taken, Use
from pages.components.numbers import THIN
from tests.pages.conftest import HOSTILE, OpenPage
from tests.pages.reading import card, markdown_of
from tests.pages.test_users import by_sql

CREDIT = 1_000_000
NOW = datetime(2025, 3, 10, 12, tzinfo=UTC)
RESET = datetime(2025, 4, 9, 22, tzinfo=UTC)
IMAGE = Offer(None, "Image", "image", CREDIT)
MODELS = (
    Offer("sdxl", "Stable Diffusion XL", "image", 12 * CREDIT, 80_000),
    Offer("dalle", "DALL-E 3 HD", "image", 15 * CREDIT, 120_000),
    Offer("turbo", "Gen4 Turbo", "image", 20 * CREDIT, 150_000),
)


def drawn(seen: View) -> AppTest:
    """The card of a customer in Berlin."""

    def page(seen):  # only its own lines are run, without this file's imports
        from zoneinfo import ZoneInfo

        from pages.components import customer_card

        customer_card.show(seen, ZoneInfo("Europe/Berlin"))

    shown = AppTest.from_function(page, kwargs={"seen": seen}).run()
    assert not shown.exception
    return shown


def said(shown: AppTest) -> list[str]:
    """Every line of the card, without spaces that do not break, escapes and icons."""
    kinds = ("markdown", "caption", "text", "info")
    lines = [str(element.value) for kind in kinds for element in shown.get(kind)]
    return [line.replace(THIN, " ").replace("\u00a0", " ").replace("\\", "").replace("\u2060", "") for line in lines]


def says(shown: AppTest, part: str) -> bool:
    return any(part in line for line in said(shown))


def bar(shown: AppTest) -> tuple[int, str]:
    """The meter: per cent filled, and its text."""
    (progress,) = shown.get("progress")
    return progress.proto.value, progress.proto.text.replace(THIN, " ")


def titrated(**known: Any) -> View:
    usual = {"quota_uc": 200 * CREDIT, "cycle_days": 30.0, "days_left": 15.0, "offers": (IMAGE,)}
    return view(Standing("titrated_monthly", "basic_annual", NOW, **(usual | known)))


def test_a_customer_sees_balance_meter_pace_and_reset_in_their_own_time() -> None:
    shown = drawn(
        titrated(
            available_uc=140 * CREDIT, held_uc=10 * CREDIT, pack_uc=25 * CREDIT, spent_uc=50 * CREDIT, paced_uc=115 * CREDIT,
            mean_fresh=7.2, run_out_chance=0.03, next_reset_at=RESET, next_amount_uc=315 * CREDIT,
            lifetime=Lifetime(0, 1_284 * CREDIT, 0, 40, 30),
        )
    )  # fmt: skip
    assert card(shown, "Credits left") == "140"
    assert bar(shown) == (30, "60 of 200 credits used")
    assert said(shown) == [
        "**Basic annual** plan",
        ":material/speed: Pace: ~7 fresh/day · Risk of run-out: Low",
        ":material/event_repeat: Next reset 10 Apr 2025, 00:00: 315 credits if nothing more is spent",
        ":material/sell: Next: image, 1 credit",
        "25 of them from packs, 10 more in open requests",
        "Since sign-up: 40 fresh, 30 from the library, 1 284 credits spent.",
    ]


@pytest.mark.parametrize(
    ("spent", "text"),
    [
        (799, "0.8 of 1 credits used"),
        (800, ":orange[:material/warning: 0.8 of 1 credits used]"),
        (950, ":red[:material/error: 1 of 1 credits used]"),
    ],
)
def test_the_meter_warns_in_words_and_colour(spent: int, text: str) -> None:
    shown = drawn(titrated(available_uc=(1_000 - spent) * 1_000, held_uc=0, spent_uc=spent * 1_000))
    assert bar(shown)[1] == text


@pytest.mark.parametrize(
    ("policy", "known", "badge"),
    [
        ("titrated_monthly", {"paced_uc": 151 * CREDIT}, "Plenty to spend"),
        ("titrated_monthly", {"paced_uc": 19 * CREDIT}, "Running low"),
        ("prepaid", {"available_uc": 9 * CREDIT}, "Low balance"),
    ],
)
def test_a_badge_stands_beside_the_plan(policy: QuotaPolicy, known: dict[str, Any], badge: str) -> None:
    standing = Standing(policy, "basic", NOW, quota_uc=200 * CREDIT, cycle_days=30.0, days_left=15.0, **known)
    assert any(line.startswith("**Basic** plan :") and badge in line for line in said(drawn(view(standing))))


def test_a_request_that_is_too_dear_names_what_would_do() -> None:
    standing = Standing("plan_credits", "creator_pro", NOW, available_uc=14 * CREDIT, offers=MODELS)
    shown = drawn(view(standing, Asked("image", "turbo")))
    assert says(
        shown, "Next: image by Gen4 Turbo, 20 credits, more than the balance. Cheaper: Stable Diffusion XL (12 credits)"
    )
    assert not says(shown, "Best within the balance")


def test_a_better_model_that_the_balance_affords_is_recommended() -> None:
    standing = Standing("plan_credits", "creator_pro", NOW, available_uc=34 * CREDIT, offers=MODELS)
    assert says(drawn(view(standing)), "Best within the balance: Gen4 Turbo, 20 credits")
    assert says(drawn(view(standing, Asked(images=2))), "Next: 2 × image by Stable Diffusion XL, 24 credits")


def test_limits_are_told_as_they_come_near() -> None:
    uses = (Use("video", "month", 20, 25), Use("image", "day", 5, 5))
    shown = drawn(
        view(Standing("plan_credits", "creator_pro", NOW, available_uc=99 * CREDIT, offers=MODELS, uses=uses))
    )
    assert says(shown, "Video: **5 left this month**")
    assert says(shown, "Next: image by Stable Diffusion XL, 12 credits, but a limit is reached")


def test_a_guest_sees_the_countdown_and_no_credits() -> None:
    free = (Offer("sdxl", "Stable Diffusion XL", "image", 0),)
    until = NOW + timedelta(hours=5, minutes=12)
    standing = Standing("guest_window", "guest", NOW, guest_used=2, guest_limit=3, guest_resets_at=until, offers=free)
    shown = drawn(view(standing))
    assert not shown.metric
    assert bar(shown) == (66, "2 of 3 generations used")
    assert said(shown) == [
        "**Guest** plan", ":material/timer: 1 of 3 left · resets in 5 h 12 min",
        ":material/sell: Next: image by Stable Diffusion XL, free",
    ]  # fmt: skip


def test_a_daily_count_resets_to_its_generations() -> None:
    standing = Standing("daily_count", "daily", NOW, uses=(Use(None, "day", 1, 5),), next_reset_at=RESET)
    assert says(drawn(view(standing)), "Next reset 10 Apr 2025, 00:00: 5 generations")


def test_the_receipt_says_what_was_taken_from_where() -> None:
    charge = Charge("r-1", NOW, "DALL-E 3 HD", (Taken("monthly", 3 * CREDIT), Taken("purchased", CREDIT)), 10 * CREDIT)
    assert drawn(titrated(charge=charge)).text[0].value.replace(THIN, " ").replace("\u00a0", " ") == (
        "Last charge 10 Mar 2025, 13:00: 4 credits for DALL-E 3 HD (3 monthly, 1 purchased). 10 credits left after it."
    )


def test_the_tip_a_pause_and_a_block_are_told() -> None:
    shown = drawn(titrated(first_library_fallback=True, paused=True, blocked=True))
    assert shown.info[0].value == FIRST_LIBRARY_TIP
    assert says(shown, "Paused: nothing is granted or expires.")
    assert says(shown, "Blocked until the open challenge is cleared.")


@pytest.mark.parametrize("policy", ["titrated_monthly", "daily_count", "plan_credits", "prepaid", "guest_window"])
def test_where_nothing_is_known_nothing_is_claimed(policy: QuotaPolicy) -> None:
    shown = drawn(view(Standing(policy, "any", NOW)))
    assert said(shown) == ["**Any** plan"]
    assert not shown.metric
    assert not shown.get("progress")


@pytest.mark.parametrize("name", HOSTILE)
def test_names_from_a_catalogue_or_a_log_are_shown_not_obeyed(name: str) -> None:
    offers = (
        Offer("a", name, "image", CREDIT),
        Offer("b", name, "image", 2 * CREDIT),
        Offer("c", "C", "image", 3 * CREDIT),
    )
    standing = Standing(
        "plan_credits", name, NOW, available_uc=9 * CREDIT, offers=offers, charge=Charge(name, NOW, name, (), 0)
    )
    for asked in (Asked(model="c"), Asked()):
        for text in markdown_of(drawn(view(standing, asked))):
            for attack in ("![x](", "<script>", ":red[y]", "$$x$$", "[click](", ":material/bomb:"):
                assert attack not in text


# On the page ------------------------------------------------------------------------------------------------------


def test_the_users_page_shows_what_the_core_says_the_customer_sees(demo_ledger: str, open_page: OpenPage) -> None:
    ((user, zone),) = by_sql(
        demo_ledger,
        "SELECT u.user_id, u.timezone FROM ledger_entries e JOIN users u USING (user_id) WHERE e.kind = 'settle' AND e.plan = 'basic' "
        "GROUP BY 1, 2 ORDER BY COUNT(*) DESC LIMIT 1",
    )

    page = open_page(demo_ledger, "users", {"user": user})

    assert not page.exception
    with CreditCore.open(demo_ledger) as core:
        balance = core.balance(user)
        receipt = core.customer_view(user).receipt
    assert receipt is not None
    assert card(page, "Credits left") == card(page, "Available")
    assert says(page, f"{balance.lifetime.fresh} fresh, {balance.lifetime.library} from the library")
    assert says(page, f"Times in the customer's own zone, {zone}.")
    assert any(line.startswith("Last charge ") for line in said(page))
