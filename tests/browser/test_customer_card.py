"""The customer's card on a desk and on a phone, by day and by night: it fits, and every line of it can be read."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest
from playwright.sync_api import Page, ViewportSize, expect

from tests.browser.conftest import DESKTOP, Dashboard, OpenBrowserPage, idle, sound, visit
from tests.browser.test_deep_links import PHONE, brightness

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_card_fits_its_screen_in_both_schemes(
    dashboard: Dashboard, open_browser_page: OpenBrowserPage, scheme: str
) -> None:
    with closing(sqlite3.connect(dashboard.ledger.removeprefix("sqlite:///"))) as ledger:
        query = (
            "SELECT user_id FROM ledger_entries WHERE kind = 'settle' AND plan = 'basic' "
            "GROUP BY 1 ORDER BY COUNT(*) DESC LIMIT 1"
        )
        ((user,),) = ledger.execute(query).fetchall()
    page = open_browser_page(color_scheme=scheme)

    visit(page, f"{dashboard.url}/people?user={user}")

    fits(page, DESKTOP, scheme)
    page.set_viewport_size(PHONE)
    idle(page)
    fits(page, PHONE, scheme)


def fits(page: Page, viewport: ViewportSize, scheme: str) -> None:
    """All of the card is on the screen, nothing of it is cut, and its ink stands out from the scheme's ground."""
    sound(page)
    card = page.locator(".st-key-customer_card")
    expect(card.get_by_test_id("stMetricValue")).to_be_visible()
    for words in ("credits used", "Pace: ~", "Next reset", "Next: image", "Last charge", "Since sign-up"):
        expect(card).to_contain_text(words)
    box = card.bounding_box()
    assert box is not None
    assert 0 <= box["x"] < box["x"] + box["width"] <= viewport["width"]
    assert page.evaluate("document.scrollingElement.scrollWidth") <= viewport["width"] + 1
    cut = card.evaluate(
        "it => [...it.querySelectorAll('p, [data-testid=stText]')].filter(p => p.scrollWidth > p.clientWidth + 1).length"
    )
    assert cut == 0
    ink = card.get_by_text("Last charge").evaluate("it => getComputedStyle(it).color")
    assert (brightness(ink) < 60) == (scheme == "light")
